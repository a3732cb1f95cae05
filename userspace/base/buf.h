/* SPDX-License-Identifier: MIT */
/*
 * A growing byte buffer with a maximum that is fixed at init: hitting it is an
 * ordinary outcome (-EMSGSIZE), never an abort. Bytes leave at the front
 * without being moved until the space is needed.
 *
 * Invariant: off + n <= cap <= max; p == NULL iff cap == 0.
 */
#ifndef TIDEGATE_BASE_BUF_H
#define TIDEGATE_BASE_BUF_H

#include "base/compiler.h"
#include "base/slice.h"

struct buf {
	uint8_t *mem;
	size_t off; /* of the first byte that is in use */
	size_t n;   /* bytes in use */
	size_t cap;
	size_t max;
};

void buf_init(struct buf *b, size_t max);

/* Frees; safe on a zeroed buffer. The buffer may be used again afterwards. */
void buf_done(struct buf *b);

/* As buf_done, but overwrites the content first: for secrets. */
void buf_wipe(struct buf *b);

/* Keeps the memory, drops the content. */
static inline void buf_reset(struct buf *b)
{
	b->off = b->n = 0;
}

static inline uint8_t *buf_data(const struct buf *b)
{
	return b->mem + b->off;
}

static inline struct slice buf_slice(const struct buf *b)
{
	return slice_of(b->mem ? b->mem + b->off : NULL, b->n);
}

/*
 * Makes room for @n more bytes behind the content and returns where they go,
 * valid until the next call; buf_commit() then counts them in. NULL if the
 * maximum or memory does not allow it; the content is unharmed.
 */
MUST_CHECK uint8_t *buf_reserve(struct buf *b, size_t n);

static inline void buf_commit(struct buf *b, size_t n)
{
	b->n += n;
}

/* 0, -EMSGSIZE (maximum) or -ENOMEM. @p must not point into the buffer. */
MUST_CHECK int buf_append(struct buf *b, const void *p, size_t n);
MUST_CHECK int buf_append_slice(struct buf *b, struct slice s);
MUST_CHECK int buf_printf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);

/* Drops @n bytes from the front (at most all). */
void buf_consume(struct buf *b, size_t n);

#endif
