/* SPDX-License-Identifier: MIT */
/*
 * What takes time to find out about an agent's process: its program's digest and its workload
 * token, read by a child (peek.h) and verified by authd. The parent only waits.
 */
#ifndef TIDEGATE_DAEMON_WHOIS_H
#define TIDEGATE_DAEMON_WHOIS_H

#include "daemon/peek.h"
#include "daemon/registry.h"

/* @s is as far known as it will be. */
typedef void whois_done(struct parent *p, struct psession *s);

/*
 * True: @done is called later, unless the session closes before. False: there is nothing to find
 * out that would be worth the time; what is known in words is in @s already.
 */
bool whois_start(struct parent *p, struct psession *s, whois_done *done);
/*
 * The token of an open session has ended: looks for a newer one of the same subject and claims. If
 * one is found and accepted, it takes that one's place before @done. False: there is none.
 */
bool whois_again(struct parent *p, struct psession *s, whois_done *done);
/* What is being found out is not told to the worker yet. */
bool whois_untold(const struct psession *s);
/* The session closes. */
void whois_drop(struct psession *s);
/* authd's word about a token. */
void whois_checked(struct parent *p, struct ipc_msg *m);
/* That authd died: what it was asked is not verified. */
void whois_authd_gone(struct parent *p, const struct child *authd);

/* route.c, after an upgrade: who could not be told to a worker before. */
void sessions_tell_again(struct parent *p);

/*
 * Reads the token of the session's process once more: tokens rotate. NULL and *ret_why: it cannot
 * be read.
 */
struct peek *whois_read_token(struct parent *p, const struct psession *s, peek_done *done,
				void *ctx, const char **ret_why);
/* Why it could not be read, for people. */
void whois_token_words(const struct cfg_token *t, int error, char *dst, size_t cap);

#endif
