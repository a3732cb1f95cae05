/* SPDX-License-Identifier: MIT */
/* authd's part of recheck.h: tokens go to the parent, and come back to be introspected. */
#ifndef TIDEGATE_DAEMON_RECHECK_ASK_H
#define TIDEGATE_DAEMON_RECHECK_ASK_H

#include "config/config.h"
#include "daemon/idp_ask.h"
#include "ident/oidc.h"

/*
 * The answer of @w (NULL: `idp`) to question @id is a yes: its token, if it is to be asked about.
 * False: it is to be, and cannot be kept; then it is no yes.
 */
MUST_CHECK bool recheck_hand(struct ipc *ipc, const struct config *c, uint64_t id, const struct idp_ask *q,
		  const struct cfg_way *w, const struct oidc_result *r);
/* @o NULL: there is no provider. What it is asked is forgotten with it, and so not answered. */
void recheck_ask(struct ipc *ipc, const struct config *c, struct oidc *o, struct ipc_msg *m);

#endif
