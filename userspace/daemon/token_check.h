/* SPDX-License-Identifier: MIT */
/* authd's part of workload tokens: each is verified with the keys of its own issuer. */
#ifndef TIDEGATE_DAEMON_TOKEN_CHECK_H
#define TIDEGATE_DAEMON_TOKEN_CHECK_H

#include "config/config.h"
#include "daemon/ipc.h"
#include "ident/oidc.h"

struct token_checks;

/* Aborts without memory: authd cannot do without. */
struct token_checks *token_checks_new(uv_loop_t *loop, struct ipc *ipc);
/* What is being verified waits: the configuration, and the provider, are about to change. */
void token_checks_hold(struct token_checks *t);
/*
 * Goes on under @cfg; @idp is the provider whose tokens those of agents without an issuer of
 * their own are, or NULL. False: a ca_file cannot be read (logged).
 */
MUST_CHECK bool token_checks_config(struct token_checks *t, const struct config *cfg,
				    struct oidc *idp);
/* IPC_TOKEN_CHECK. */
void token_checks_ask(struct token_checks *t, struct ipc_msg *m);
/* An array: the issuers, as oidc_describe(), and whose tokens are theirs. */
void token_checks_describe(const struct token_checks *t, struct jsonw *w);

#endif
