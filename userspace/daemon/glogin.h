/* SPDX-License-Identifier: MIT */
/*
 * Logins with what belongs to a grant (credentials with grant_token or ephemeral_role), the parent's
 * part: which session may use what keyd keeps. The parent passes tokens on and reads none.
 */
#ifndef TIDEGATE_DAEMON_GLOGIN_H
#define TIDEGATE_DAEMON_GLOGIN_H

#include "daemon/grants.h"

/* A worker's session asks who logs in. */
void glogin_ask(struct parent *p, struct child *c, struct ipc_msg *m);
/* The server has refused it. */
void glogin_stale(struct parent *p, struct child *c, struct ipc_msg *m);
/* authd has a token for a question that it is about to answer. */
void glogin_token(struct parent *p, struct child *authd, const struct ipc_msg *m);
/* keyd's answer. */
void glogin_key(struct parent *p, struct ipc_msg *m);
/* What it kept is lost. */
void glogin_keyd_gone(struct parent *p, const struct child *keyd);
struct prole;
/* The role that sessions wait for is ready; @why: it cannot be had. */
void glogin_role_done(struct parent *p, const struct prole *r, const char *why);
void glogin_role_gone(struct parent *p, const struct prole *r);
void glogin_worker_died(struct parent *p, const struct child *c);
struct hand;
void glogin_save(struct parent *p, struct hand *h, json_t *root);
/* When workers are known: they are told to ask again. */
void glogin_take(struct parent *p, struct hand *h, const json_t *root);
/* The grant is over. */
void glogin_forget(struct parent *p, uint64_t kept);

#endif
