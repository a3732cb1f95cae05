/* SPDX-License-Identifier: MIT */
/* Input for parsers that ends at an unmapped page: one byte too far is a crash. */
#ifndef TIDEGATE_TESTS_GUARD_H
#define TIDEGATE_TESTS_GUARD_H

#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/compiler.h"
#include "base/slice.h"

struct guard {
	uint8_t *map;
	size_t n;
};

/* A copy of @s, valid until guard_free(*handle). Aborts when there is no memory. */
UNUSED static uint8_t *guard_copy(struct slice s, void **handle)
{
	size_t page = (size_t)sysconf(_SC_PAGESIZE), room = (s.n + page - 1) / page * page;
	struct guard *g = malloc(sizeof(*g));

	BUG_ON(!g);
	g->n = room + page;
	g->map = mmap(NULL, g->n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	BUG_ON(g->map == MAP_FAILED || mprotect(g->map + room, page, PROT_NONE));
	if (s.n)
		memcpy(g->map + room - s.n, s.p, s.n);
	*handle = g;
	return g->map + room - s.n;
}

UNUSED static void guard_free(void *handle)
{
	struct guard *g = handle;

	(void)munmap(g->map, g->n);
	free(g);
}

#endif
