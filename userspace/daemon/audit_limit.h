/* SPDX-License-Identifier: MIT */
/*
 * How many lines of the audit log an agent may cause: in each minute so many are written
 * in full, the rest is counted by event and outcome and told in one line when the minute is over. Knows no
 * file and no clock.
 */
#ifndef TIDEGATE_DAEMON_AUDIT_LIMIT_H
#define TIDEGATE_DAEMON_AUDIT_LIMIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

enum { AUDIT_KINDS = 16 }; /* what is left goes into the last one, whose names are "other" */
#define AUDIT_WINDOW_NS 60000000000ull

struct audit_kind {
	char event[32], outcome[48];
	uint64_t n;
};

/* What was not written of one agent. */
struct audit_left {
	const char *agent;
	uint64_t n; /* sum of the kinds */
	uint64_t since_boot_ns;
	const struct audit_kind *kinds;
	size_t nkinds;
};

struct audit_limit;
struct audit_limit *audit_limit_new(void);
void audit_limit_free(struct audit_limit *l);
/* True: write it. False: it was counted. */
bool audit_limit_take(struct audit_limit *l, const char *agent, const char *event,
		      const char *outcome, uint32_t per_minute, uint64_t now_boot_ns);
/* Calls @fn for agents whose minute is over and who were cut; all of them with @now UINT64_MAX. */
void audit_limit_due(struct audit_limit *l, uint64_t now_boot_ns,
		     void (*fn)(void *ctx, const struct audit_left *left), void *ctx);

#endif
