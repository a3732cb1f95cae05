/* SPDX-License-Identifier: MIT */
/*
 * The output of one direction: see inspect.h. Made bytes are addressed by
 * offset because their buffer moves as it grows.
 */
#include "inspect/inspect.h"

#include <stdlib.h>
#include <string.h>

enum {
	OUT_FIRST = 8,
	OUT_COPY_BELOW = 512, /* a passing range this short behind made bytes is copied */
};

void insp_out_init(struct insp_out *o, size_t max_made)
{
	*o = (struct insp_out){0};
	buf_init(&o->made, max_made);
}

void insp_out_done(struct insp_out *o)
{
	free(o->seg);
	buf_done(&o->made);
	*o = (struct insp_out){.made = {.max = o->made.max}};
}

void insp_out_reset(struct insp_out *o)
{
	o->nseg = 0;
	o->bytes = 0;
	o->failed = false;
	buf_reset(&o->made);
}

static struct insp_seg *seg_add(struct insp_out *o)
{
	if (o->nseg == o->cap) {
		uint32_t cap = o->cap ? o->cap * 2 : OUT_FIRST;
		struct insp_seg *seg = reallocarray(o->seg, cap, sizeof(*seg));

		if (!seg) {
			o->failed = true;
			return NULL;
		}
		o->seg = seg;
		o->cap = cap;
	}
	return &o->seg[o->nseg++];
}

void insp_out_pass(struct insp_out *o, struct slice s)
{
	struct insp_seg *last = o->nseg ? &o->seg[o->nseg - 1] : NULL;

	if (s.n == 0 || o->failed)
		return;
	if (last && last->p && last->p + last->n == s.p) {
		last->n += s.n;
		o->bytes += s.n;
		return;
	}
	if (last && !last->p && s.n < OUT_COPY_BELOW) {
		insp_out_copy(o, s);
		return;
	}
	last = seg_add(o);
	if (!last)
		return;
	*last = (struct insp_seg){.p = s.p, .n = s.n};
	o->bytes += s.n;
}

void insp_out_copy(struct insp_out *o, struct slice s)
{
	uint8_t *dst = s.n ? insp_out_make(o, s.n) : NULL;

	if (dst)
		memcpy(dst, s.p, s.n);
}

uint8_t *insp_out_make(struct insp_out *o, size_t n)
{
	struct insp_seg *last = o->nseg ? &o->seg[o->nseg - 1] : NULL;
	uint8_t *dst;

	if (o->failed)
		return NULL;
	dst = buf_reserve(&o->made, n);
	if (!dst) {
		o->failed = true;
		return NULL;
	}
	if (!last || last->p) {
		last = seg_add(o);
		if (!last)
			return NULL;
		*last = (struct insp_seg){.off = o->made.n};
	}
	buf_commit(&o->made, n);
	last->n += n;
	o->bytes += n;
	return dst;
}

const uint8_t *insp_out_ptr(const struct insp_out *o, uint32_t i)
{
	const struct insp_seg *s = &o->seg[i];

	return s->p ? s->p : buf_data(&o->made) + s->off;
}

void insp_out_trim(struct insp_out *o, size_t n)
{
	struct insp_seg *last = &o->seg[o->nseg - 1];

	BUG_ON(o->nseg == 0 || last->p || n > last->n);
	last->n -= n;
	o->made.n -= n;
	o->bytes -= n;
}
