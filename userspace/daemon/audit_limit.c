/* SPDX-License-Identifier: MIT */
#include "daemon/audit_limit.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <uthash.h>

struct source {
	UT_hash_handle hh;
	uint64_t since_boot_ns;
	uint64_t left;
	uint32_t written;
	size_t nkinds;
	struct audit_kind kinds[AUDIT_KINDS];
	char agent[];
};

struct audit_limit {
	struct source *all;
};

struct audit_limit *audit_limit_new(void)
{
	return calloc(1, sizeof(struct audit_limit));
}

static void forget(struct audit_limit *l, struct source *s)
{
	HASH_DEL(l->all, s);
	free(s);
}

void audit_limit_free(struct audit_limit *l)
{
	struct source *s, *tmp;

	if (!l)
		return;
	HASH_ITER(hh, l->all, s, tmp)
		forget(l, s);
	free(l);
}

static struct source *source_of(struct audit_limit *l, const char *agent, uint64_t now)
{
	size_t n = strlen(agent);
	struct source *s;

	HASH_FIND(hh, l->all, agent, n, s);
	if (s)
		return s;
	s = calloc(1, sizeof(*s) + n + 1);
	if (!s)
		return NULL;
	memcpy(s->agent, agent, n + 1);
	s->since_boot_ns = now;
	HASH_ADD_KEYPTR(hh, l->all, s->agent, n, s);
	return s;
}

static struct audit_kind *kind_add(struct source *s, const char *event, const char *outcome)
{
	struct audit_kind *k = &s->kinds[s->nkinds++];

	(void)snprintf(k->event, sizeof(k->event), "%s", event);
	(void)snprintf(k->outcome, sizeof(k->outcome), "%s", outcome);
	return k;
}

static struct audit_kind *kind_of(struct source *s, const char *event, const char *outcome)
{
	for (size_t i = 0; i < s->nkinds; i++)
		if (strcmp(s->kinds[i].event, event) == 0 &&
		    strcmp(s->kinds[i].outcome, outcome) == 0)
			return &s->kinds[i];
	if (s->nkinds == AUDIT_KINDS)
		return &s->kinds[AUDIT_KINDS - 1];
	if (s->nkinds == AUDIT_KINDS - 1)
		return kind_add(s, "other", "other");
	return kind_add(s, event, outcome);
}

bool audit_limit_take(struct audit_limit *l, const char *agent, const char *event,
		      const char *outcome, uint32_t per_minute, uint64_t now_boot_ns)
{
	struct source *s = l ? source_of(l, agent, now_boot_ns) : NULL;

	/* Without memory to count in it is written. */
	if (!s)
		return true;
	if (now_boot_ns - s->since_boot_ns >= AUDIT_WINDOW_NS && !s->left) {
		s->since_boot_ns = now_boot_ns;
		s->written = 0;
	}
	if (s->written < per_minute) {
		s->written++;
		return true;
	}
	s->left++;
	kind_of(s, event, outcome)->n++;
	return false;
}

void audit_limit_due(struct audit_limit *l, uint64_t now_boot_ns,
		     void (*fn)(void *ctx, const struct audit_left *left), void *ctx)
{
	struct source *s, *tmp;

	if (!l)
		return;
	HASH_ITER(hh, l->all, s, tmp) {
		if (now_boot_ns != UINT64_MAX && now_boot_ns - s->since_boot_ns < AUDIT_WINDOW_NS)
			continue;
		if (s->left)
			fn(ctx, &(struct audit_left){.agent = s->agent,
						     .n = s->left,
						     .since_boot_ns = s->since_boot_ns,
						     .kinds = s->kinds,
						     .nkinds = s->nkinds});
		forget(l, s);
	}
}
