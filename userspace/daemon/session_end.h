/* SPDX-License-Identifier: MIT */
/*
 * Ends that may wait for a safe point: the granted time is over, and the policy lets what runs
 * finish. Meanwhile new statements are refused, but for those that end an open transaction.
 */
#ifndef TIDEGATE_DAEMON_SESSION_END_H
#define TIDEGATE_DAEMON_SESSION_END_H

#include "daemon/session.h"

struct grace {
	uint64_t until_boot_ns;
	uint16_t reason;
	char words[256];
};

/* At once where the policy has no grace, or nothing runs. */
void session_expire(struct session *s, uint16_t reason, const char *words);
/* The process that made the connection has ended. */
void session_orphaned(struct session *s);
/* What remains to be said when the time is over and a transaction is open. */
bool grace_allows(const struct sql_info *info);

#endif
