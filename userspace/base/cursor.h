/* SPDX-License-Identifier: MIT */
/*
 * A reader with a sticky error: read all fields of a message, check once, then
 * insist that nothing is left over (cur_end). A getter past the end returns
 * zero or an empty slice and marks the cursor bad. Lengths are compared with
 * what is left, never added to a position.
 */
#ifndef TIDEGATE_BASE_CURSOR_H
#define TIDEGATE_BASE_CURSOR_H

#include "base/slice.h"

struct cursor {
	const uint8_t *p;
	const uint8_t *end;
	bool bad;
};

static inline struct cursor cur_of(struct slice s)
{
	return (struct cursor){.p = s.p, .end = s.p + s.n, .bad = false};
}

static inline size_t cur_left(const struct cursor *c)
{
	return (size_t)(c->end - c->p);
}

/* @n bytes, borrowed from the cursor's input. */
static inline struct slice cur_take(struct cursor *c, size_t n)
{
	struct slice s = {.p = c->p, .n = n};

	if (c->bad || n > cur_left(c)) {
		c->bad = true;
		return (struct slice){.p = c->end, .n = 0};
	}
	c->p += n;
	return s;
}

static inline uint8_t cur_u8(struct cursor *c)
{
	struct slice s = cur_take(c, 1);

	return s.n ? s.p[0] : 0;
}

static inline uint16_t cur_be16(struct cursor *c)
{
	struct slice s = cur_take(c, 2);

	return s.n ? load_be16(s.p) : 0;
}

static inline uint32_t cur_be32(struct cursor *c)
{
	struct slice s = cur_take(c, 4);

	return s.n ? load_be32(s.p) : 0;
}

/* Bytes up to a NUL, which is consumed and not part of the result. */
static inline struct slice cur_cstr(struct cursor *c)
{
	const uint8_t *nul = c->bad ? NULL : memchr(c->p, 0, cur_left(c));
	struct slice s;

	if (!nul) {
		c->bad = true;
		return (struct slice){.p = c->end, .n = 0};
	}
	s = slice_of(c->p, (size_t)(nul - c->p));
	c->p = nul + 1;
	return s;
}

/* True if every getter succeeded and all input was consumed. */
static inline bool cur_end(const struct cursor *c)
{
	return !c->bad && c->p == c->end;
}

#endif
