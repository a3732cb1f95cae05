/* SPDX-License-Identifier: MIT */
#include "base/buf.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { BUF_FIRST = 256 };

void buf_init(struct buf *b, size_t max)
{
	*b = (struct buf){.max = max};
}

void buf_done(struct buf *b)
{
	free(b->mem);
	*b = (struct buf){.max = b->max};
}

void buf_wipe(struct buf *b)
{
	if (b->mem)
		explicit_bzero(b->mem, b->cap);
	buf_done(b);
}

static size_t grown_cap(const struct buf *b, size_t need)
{
	size_t cap = b->cap ? b->cap : BUF_FIRST;

	while (cap < need)
		cap = cap > b->max / 2 ? b->max : cap * 2;
	return min_size(cap, b->max);
}

uint8_t *buf_reserve(struct buf *b, size_t n)
{
	size_t cap;
	uint8_t *mem;

	if (n > b->max || b->n > b->max - n)
		return NULL;
	if (b->off + b->n + n <= b->cap && b->mem)
		return b->mem + b->off + b->n;
	/* Move to the front only when that pays: at least half is free there. */
	if (b->mem && b->n + n <= b->cap && b->off >= b->cap / 2) {
		memmove(b->mem, b->mem + b->off, b->n);
		b->off = 0;
		return b->mem + b->n;
	}
	cap = grown_cap(b, b->n + n);
	mem = malloc(cap);
	if (!mem)
		return NULL;
	if (b->n)
		memcpy(mem, b->mem + b->off, b->n);
	free(b->mem);
	b->mem = mem;
	b->cap = cap;
	b->off = 0;
	return mem + b->n;
}

int buf_append(struct buf *b, const void *p, size_t n)
{
	uint8_t *dst;

	if (n == 0)
		return 0;
	dst = buf_reserve(b, n);
	if (!dst)
		return n > b->max || b->n > b->max - n ? -EMSGSIZE : -ENOMEM;
	memcpy(dst, p, n);
	b->n += n;
	return 0;
}

int buf_append_slice(struct buf *b, struct slice s)
{
	return buf_append(b, s.p, s.n);
}

int buf_printf(struct buf *b, const char *fmt, ...)
{
	va_list ap, again;
	uint8_t *dst;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	if (n < 0 || !(dst = buf_reserve(b, (size_t)n + 1))) {
		va_end(again);
		return n < 0 ? -EINVAL : -EMSGSIZE;
	}
	(void)vsnprintf((char *)dst, (size_t)n + 1, fmt, again);
	va_end(again);
	b->n += (size_t)n;
	return 0;
}

void buf_consume(struct buf *b, size_t n)
{
	n = min_size(n, b->n);
	b->off += n;
	b->n -= n;
	if (b->n == 0)
		b->off = 0;
}
