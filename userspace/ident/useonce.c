/* SPDX-License-Identifier: MIT */
#include "ident/useonce.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

struct used {
	UT_hash_handle hh;
	uint8_t key[USEONCE_KEY];
	uint64_t owner, until_s;
};

struct useonce {
	struct used *all;
	uint64_t swept_s;
};

struct useonce *useonce_new(void)
{
	return calloc(1, sizeof(struct useonce));
}

void useonce_free(struct useonce *r)
{
	struct used *u, *next;

	if (!r)
		return;
	HASH_ITER(hh, r->all, u, next)
	{
		HASH_DEL(r->all, u);
		free(u);
	}
	free(r);
}

/* At most once a second: a full table does not make each question walk it. */
static void sweep(struct useonce *r, uint64_t now_s)
{
	struct used *u, *next;

	if (r->swept_s == now_s)
		return;
	r->swept_s = now_s;
	HASH_ITER(hh, r->all, u, next)
	{
		if (u->until_s > now_s)
			continue;
		HASH_DEL(r->all, u);
		free(u);
	}
}

int useonce_use(struct useonce *r, const uint8_t key[USEONCE_KEY], uint64_t owner, uint64_t now_s,
	       uint64_t until_s)
{
	struct used *u;

	sweep(r, now_s);
	HASH_FIND(hh, r->all, key, USEONCE_KEY, u);
	if (u)
		return u->owner == owner ? 0 : -EEXIST;
	if (HASH_COUNT(r->all) >= USEONCE_MAX)
		return -ENOSPC;
	u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	memcpy(u->key, key, USEONCE_KEY);
	u->owner = owner;
	u->until_s = until_s;
	HASH_ADD(hh, r->all, key, USEONCE_KEY, u);
	return 0;
}

unsigned useonce_count(const struct useonce *r)
{
	return HASH_COUNT(r->all);
}
