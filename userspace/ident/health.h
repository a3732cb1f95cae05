/* SPDX-License-Identifier: MIT */
/*
 * Whether a service can be reached, and when to try again if it cannot. Pure:
 * time is a parameter (milliseconds of a clock that only goes forward, and
 * wall clock for people).
 */
#ifndef TIDEGATE_IDENT_HEALTH_H
#define TIDEGATE_IDENT_HEALTH_H

#include "base/compiler.h"
#include "base/jsonw.h"

enum {
	HEALTH_BACKOFF_MIN_MS = 1000,
	HEALTH_BACKOFF_MAX_MS = 60000,
};

struct health {
	bool up, down;		/* neither: not known yet */
	unsigned failures;	/* in a row, one for each back-off */
	uint64_t until_ms;	/* of the back-off */
	uint64_t since_wall_ns; /* of the present state */
	uint64_t error_wall_ns;
	uint16_t reason; /* enum tg_reason of the back-off */
	char error[256];
	const char *todo; /* static text, or NULL */
};

void health_good(struct health *h, uint64_t wall_ns);
/*
 * @jitter: any random number. Failures that come in during a back-off were
 * under way before and do not make it longer. @retry_after_ms: the service's
 * own word, 0 for none.
 */
void health_bad(struct health *h, uint64_t now_ms, uint64_t wall_ns, uint32_t jitter,
		uint64_t retry_after_ms);
/* Notes an error without a change of state. */
void health_note(struct health *h, uint64_t wall_ns, const char *error, const char *todo);

bool health_in_backoff(const struct health *h, uint64_t now_ms);
/* Members for `status`, into an open object. */
void health_describe(const struct health *h, uint64_t now_ms, struct jsonw *w);

#endif
