/* SPDX-License-Identifier: MIT */
#include "base/arena.h"

#include <stdlib.h>
#include <string.h>

/*
 * The first chunk is small, as there are many flows: it holds the state of an inspector and the
 * names of its login, and a second one for the rest of them would be a kilobyte for each.
 */
enum { FIRST_CHUNK = 640, CHUNK_SIZE = 1024, ALIGN = 16 };

struct arena_chunk {
	struct arena_chunk *next;
	uint32_t used, cap;
	_Alignas(ALIGN) uint8_t mem[];
};

void arena_init(struct arena *a, size_t budget)
{
	*a = (struct arena){.budget = budget};
}

void arena_done(struct arena *a)
{
	struct arena_chunk *c, *next;

	for (c = a->chunks; c; c = next) {
		next = c->next;
		free(c);
	}
	*a = (struct arena){.budget = a->budget};
}

static struct arena_chunk *chunk_new(struct arena *a, size_t n)
{
	size_t size = a->chunks ? CHUNK_SIZE : FIRST_CHUNK;
	size_t cap = max_size(n, size - sizeof(struct arena_chunk));
	size_t total = cap + sizeof(struct arena_chunk);
	struct arena_chunk *c;

	if (total < cap || total > UINT32_MAX || total > a->budget || a->used > a->budget - total)
		return NULL;
	c = calloc(1, total);
	if (!c)
		return NULL;
	c->cap = (uint32_t)cap;
	c->next = a->chunks;
	a->chunks = c;
	a->used += total;
	return c;
}

void *arena_alloc(struct arena *a, size_t n)
{
	struct arena_chunk *c = a->chunks;
	void *p;

	if (n > a->budget)
		return NULL;
	n = (n + ALIGN - 1) & ~(size_t)(ALIGN - 1);
	if (!c || n > c->cap - c->used)
		c = chunk_new(a, n);
	if (!c)
		return NULL;
	p = c->mem + c->used;
	c->used += (uint32_t)n;
	return p;
}

char *arena_strdup(struct arena *a, struct slice s)
{
	char *p = arena_alloc(a, s.n + 1);

	if (p && s.n)
		memcpy(p, s.p, s.n);
	return p;
}
