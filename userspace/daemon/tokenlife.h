/* SPDX-License-Identifier: MIT */
/*
 * An agent's workload token ends while its session is open. Where the policy looks at the token, a
 * newer one has to be in its place by then: of the same subject, saying the same. Else the session
 * is over.
 */
#ifndef TIDEGATE_DAEMON_TOKENLIFE_H
#define TIDEGATE_DAEMON_TOKENLIFE_H

#include "daemon/registry.h"

/* s->token_claims are those of a token that was accepted. */
void tokenlife_begin(struct psession *s);
/* Both say the same but for their times and their own numbers. */
bool tokenlife_same(const char *claims, const char *others);
/* The newer one, which is s's now, goes into the recording. */
void tokenlife_record(const struct psession *s);
void tokenlife_tick(struct parent *p);

#endif
