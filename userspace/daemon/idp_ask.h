/* SPDX-License-Identifier: MIT */
/* The question that the parent has authd put to a provider, as it travels in IPC_IDP_ASK. */
#ifndef TIDEGATE_DAEMON_IDP_ASK_H
#define TIDEGATE_DAEMON_IDP_ASK_H

#include "daemon/ipc.h"

enum { RECHECK_TOKEN_MAX = 32 << 10 }; /* so that a question about it fits into a message */

/* Texts are never NULL; "" where there is nothing to say. */
struct idp_ask {
	const char *ways;   /* names of `approvals:` or "idp", with spaces between; all must say yes */
	const char *scope;  /* of the policy entry: comes before the ways' own */
	const char *agent, *target;
	const char *effect; /* of a statement; "": access is asked for */
	const char *text;   /* of the statement, secrets redacted, cut */
	const char *user, *database;
	const char *request; /* of the approval: what a person sees here and there */
	const char *session;
	const char *facts;   /* JSON object: what the kernel says of the agent's process */
	uint8_t digest[32];  /* of statement and parameters */
	bool has_digest;
	uint64_t max_ms, hold_ms;
	struct slice token; /* the agent's own workload token; empty: none */
};

void idp_ask_put(struct ipc *ipc, const struct idp_ask *a);
/*
 * Reads all fields; the caller checks ipc_end(). What @ret points to is owned by @a. NULL: no
 * memory.
 */
struct arena;
MUST_CHECK bool idp_ask_get(struct ipc_msg *m, struct arena *a, struct idp_ask *ret);

#endif
