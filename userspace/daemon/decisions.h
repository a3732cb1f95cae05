/* SPDX-License-Identifier: MIT */
/*
 * What was decided, on its way to the sessions that wait for it: each decision has its receipt
 * signed first, and without one nothing is let through.
 */
#ifndef TIDEGATE_DAEMON_DECISIONS_H
#define TIDEGATE_DAEMON_DECISIONS_H

#include "daemon/grants.h"
#include "inspect/inspect.h"

struct decision {
	enum insp_verdict v;
	uint16_t reason;
	const char *by, *request, *detail;
	struct grant *grant;	       /* made by it, or NULL */
	struct slice subject, token;   /* of the provider's answer: whose, and its digest */
	bool by_hand;		       /* an operator's own */
	struct slice evidence;	       /* JSON array of what each way said */
};

/* All who wait for @a get the same answer, once it is signed. */
void decide(struct parent *p, struct approval *a, const struct decision *d);
/* @a is access that @g gives, whose receipt is still being signed. */
void decision_join(struct approval *a, const struct grant *g);
/* At once: by a grant that there is, @shared with all who ask the same; by Tidegate, because
 * nobody can be asked. */
void decision_of_grant(struct parent *p, struct child *c, uint64_t ask, const struct uuid *session,
		       const struct grant *g, bool shared);
void decision_refuse(struct parent *p, struct child *c, uint64_t ask, const struct uuid *session,
		     uint16_t reason);
/* A grant without anybody's approval. */
void decision_of_root(struct parent *p, struct grant *g);
/* Receipt @id is there, or (NULL) cannot be had. */
void decision_signed(struct parent *p, uint64_t id, const char *receipt);

#endif
