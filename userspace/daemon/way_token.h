/* SPDX-License-Identifier: MIT */
/*
 * The token that a way of approval has brought and a target's credential asks for: authd's from
 * the moment that the provider issues it until all ways have said yes, then keyd's.
 */
#ifndef TIDEGATE_DAEMON_WAY_TOKEN_H
#define TIDEGATE_DAEMON_WAY_TOKEN_H

#include "config/config.h"
#include "daemon/idp_ask.h"
#include "ident/oidc.h"

struct way_token {
	char *text, *user; /* NULL: there is none */
	uint64_t ttl_ms;
};

/* What @w answers to @q is to be a password: whoever has it can use it. */
bool way_token_wanted(const struct config *c, const struct idp_ask *q, const struct cfg_way *w);
/* Takes it out of the answer of @w (NULL: `idp`) to @q if it is wanted. False: no memory. */
MUST_CHECK bool way_token_keep(struct way_token *t, const struct config *c, const struct idp_ask *q,
			       const struct cfg_way *w, const struct oidc_result *r);
/* To keyd, before the answer to question @id; nothing if there is none. */
void way_token_hand(const struct way_token *t, struct ipc *ipc, uint64_t id);
/* Wipes. */
void way_token_drop(struct way_token *t);

#endif
