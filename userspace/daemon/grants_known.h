/* SPDX-License-Identifier: MIT */
/*
 * Grants that the parent has told a worker of and that hold for whoever asks the same: the
 * sessions that come next do not wait for the parent. It takes a grant back with GRANT_END.
 */
#ifndef TIDEGATE_DAEMON_GRANTS_KNOWN_H
#define TIDEGATE_DAEMON_GRANTS_KNOWN_H

#include "daemon/session.h"
#include "policy/policy.h"

/* Bounds memory; beyond it the parent is asked again. */
enum { GRANTS_KNOWN_MAX = 512 };

/* What @s asks, to be kept until the answer; the caller frees it. NULL: it cannot be kept. */
char *grants_known_asked(const struct session *s, const struct access_decision *d);
/* @v is the parent's answer to @asked. */
void grants_known_keep(struct worker *w, const char *asked, const struct verdict *v);
/* The answer that holds for what @s asks, its receipt borrowed until the next call; or false. */
bool grants_known_find(const struct session *s, const struct access_decision *d,
		       struct verdict *ret);
/* The grant serves nobody any more. */
void grants_known_forget(struct worker *w, struct slice grant);
void grants_known_done(struct worker *w);

#endif
