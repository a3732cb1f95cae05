/* SPDX-License-Identifier: MIT */
/* The facts of a session as the policy takes them, out of the parent's JSON. */
#ifndef TIDEGATE_DAEMON_WHO_H
#define TIDEGATE_DAEMON_WHO_H

#include <jansson.h>

#include "policy/policy.h"

enum { WHO_FACTS = 256 };

struct who {
	json_t *doc;
	bool full; /* there were more claims than fit */
	char uid[12];
	char names[4096];
	size_t names_n;
	char numbers[2048];
	size_t numbers_n;
	struct policy_fact list[WHO_FACTS];
	struct policy_facts facts;
};

/* @json NULL: nothing is known. What @w->facts points to lives until who_done(). */
void who_init(struct who *w, const char *json);
void who_done(struct who *w);

#endif
