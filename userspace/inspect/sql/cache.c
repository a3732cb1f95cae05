/* SPDX-License-Identifier: MIT */
#include "inspect/sql/cache.h"

#include <errno.h>
#include <stdlib.h>

#include "inspect/sql/gather.h"
#include "inspect/sql/sql.h"

struct entry {
	struct entry *chain;	    /* next with the same bucket */
	struct entry *newer, *older; /* by last use */
	const struct sql_info *info;
	uint64_t hash;
	size_t bytes;
	size_t n;
	uint8_t key[];
};

struct cache {
	struct entry *newest, *oldest;
	uint32_t entries, max_entries;
	size_t bytes, max_bytes;
	uint32_t mask;
	struct entry *buckets[];
};

int cache_new(uint32_t max_entries, size_t max_bytes, struct cache **ret)
{
	uint32_t n = 16;
	struct cache *c;

	while (n < max_entries && n < 1u << 20)
		n *= 2;
	c = calloc(1, sizeof(*c) + n * sizeof(c->buckets[0]));
	if (!c)
		return -ENOMEM;
	c->mask = n - 1;
	c->max_entries = max_entries;
	c->max_bytes = max_bytes;
	*ret = c;
	return 0;
}

static void unlink_use(struct cache *c, struct entry *e)
{
	if (e->newer)
		e->newer->older = e->older;
	else
		c->newest = e->older;
	if (e->older)
		e->older->newer = e->newer;
	else
		c->oldest = e->newer;
}

static void link_newest(struct cache *c, struct entry *e)
{
	e->newer = NULL;
	e->older = c->newest;
	if (c->newest)
		c->newest->newer = e;
	else
		c->oldest = e;
	c->newest = e;
}

static void drop(struct cache *c, struct entry *e)
{
	struct entry **p = &c->buckets[e->hash & c->mask];

	while (*p != e)
		p = &(*p)->chain;
	*p = e->chain;
	unlink_use(c, e);
	c->entries--;
	c->bytes -= e->bytes;
	sql_info_unref(e->info);
	free(e);
}

void cache_free(struct cache *c)
{
	if (!c)
		return;
	while (c->oldest)
		drop(c, c->oldest);
	free(c);
}

const struct sql_info *cache_get(struct cache *c, uint64_t hash, struct slice key)
{
	struct entry *e = c->buckets[hash & c->mask];

	for (; e; e = e->chain) {
		if (e->hash != hash || !slice_eq(slice_of(e->key, e->n), key))
			continue;
		if (e != c->newest) {
			unlink_use(c, e);
			link_newest(c, e);
		}
		return e->info;
	}
	return NULL;
}

uint32_t cache_put(struct cache *c, uint64_t hash, struct slice key, const struct sql_info *info)
{
	size_t bytes = sizeof(struct entry) + key.n + sql_info_bytes(info);
	uint32_t dropped = 0;
	struct entry *e;

	/* One shape must not push out all others. */
	if (c->max_entries == 0 || bytes > c->max_bytes / 8)
		return 0;
	while (c->entries >= c->max_entries || c->bytes + bytes > c->max_bytes) {
		drop(c, c->oldest);
		dropped++;
	}
	e = malloc(sizeof(*e) + key.n);
	if (!e)
		return dropped;
	*e = (struct entry){
		.chain = c->buckets[hash & c->mask],
		.info = sql_info_ref(info),
		.hash = hash,
		.bytes = bytes,
		.n = key.n,
	};
	memcpy(e->key, key.p, key.n);
	c->buckets[hash & c->mask] = e;
	link_newest(c, e);
	c->entries++;
	c->bytes += bytes;
	return dropped;
}
