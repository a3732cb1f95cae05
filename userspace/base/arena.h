/* SPDX-License-Identifier: MIT */
/*
 * Memory that is freed in one call, with a budget: going over it returns NULL,
 * and the flow that asked ends with a reason. Allocations are zeroed and
 * aligned to 16 bytes.
 */
#ifndef TIDEGATE_BASE_ARENA_H
#define TIDEGATE_BASE_ARENA_H

#include "base/compiler.h"
#include "base/slice.h"

struct arena_chunk;

struct arena {
	struct arena_chunk *chunks; /* newest first */
	size_t used;		    /* bytes handed out and chunk heads */
	size_t budget;
};

void arena_init(struct arena *a, size_t budget);

/* Frees all; safe on a zeroed arena. */
void arena_done(struct arena *a);

/* NULL when the budget or memory is exhausted. Valid until arena_done(). */
MUST_CHECK void *arena_alloc(struct arena *a, size_t n);

/* A NUL-terminated copy; NULL as above. */
MUST_CHECK char *arena_strdup(struct arena *a, struct slice s);

#endif
