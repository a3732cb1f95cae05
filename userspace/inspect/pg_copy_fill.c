/* SPDX-License-Identifier: MIT */
/*
 * COPY rows that are too long to be held: the message keeps its length, and every value
 * under a mask or a detector is overwritten with '*' (binary: zeros), unseen. Quotes
 * stay where they are. At the end of the message or, if that is in a
 * row, of a later one, rows are looked at again.
 */
#include "inspect/pg_copy.h"

#include <string.h>

/* A binary stream starts with signature and flags, then an extension by length. */
enum { ROW, LENGTH, VALUE, HEAD, HEAD_LENGTH, HEAD_REST };
enum { HEAD_FIXED = 15 };

static bool covered(const struct pg_copy *c)
{
	const struct pg_fill *f = &c->at;

	if (c->header && !c->past_head)
		return false;
	/* A column too many is none that anybody knows. */
	return f->col >= c->desc->n || c->field[f->col].act != PG_ACT_NONE;
}

static uint8_t cover(struct pg *st, struct pg_copy *c, uint8_t b)
{
	if (!covered(c))
		return b;
	if (!c->at.counted)
		st->rows.over_cap++;
	c->at.counted = true;
	return c->binary ? 0 : '*';
}

static void next_column(struct pg_fill *f)
{
	f->col++;
	f->counted = false;
}

static void row_end(struct pg_copy *c)
{
	c->past_head = true;
	c->at = (struct pg_fill){.stage = ROW};
}

static uint8_t text_byte(struct pg *st, struct pg_copy *c, uint8_t b)
{
	struct pg_fill *f = &c->at;

	f->inside = true;
	if (f->escaped) {
		f->escaped = false;
		return cover(st, c, b);
	}
	if (!c->csv && b == '\\') {
		f->escaped = true;
		return cover(st, c, b);
	}
	if (c->csv && f->quoted && b == c->escape && c->escape != c->quote) {
		f->escaped = true;
		return cover(st, c, b);
	}
	if (c->csv && b == c->quote) {
		f->quoted = !f->quoted;
		return b;
	}
	if (b == c->delim && !f->quoted) {
		next_column(f);
		return b;
	}
	if (b == '\n' && !f->quoted) {
		row_end(c);
		return b;
	}
	return cover(st, c, b);
}

static bool binary_number(struct pg_fill *f, uint8_t b, uint8_t want)
{
	f->part[f->part_n++] = b;
	if (f->part_n < want)
		return false;
	f->part_n = 0;
	return true;
}

static void binary_next(struct pg_copy *c)
{
	next_column(&c->at);
	c->at.stage = LENGTH;
	if (c->at.col == c->desc->n)
		row_end(c);
}

/* False: not what COPY sends. */
static bool binary_byte(struct pg *st, struct pg_copy *c, uint8_t *b)
{
	struct pg_fill *f = &c->at;

	f->inside = true;
	switch (f->stage) {
	case HEAD:
		if (--f->left == 0)
			f->stage = HEAD_LENGTH;
		return true;
	case HEAD_LENGTH:
		if (!binary_number(f, *b, 4))
			return true;
		f->left = load_be32(f->part);
		f->stage = HEAD_REST;
		if (f->left == 0)
			row_end(c);
		return true;
	case HEAD_REST:
		if (--f->left == 0)
			row_end(c);
		return true;
	case ROW:
		if (!binary_number(f, *b, 2))
			return true;
		if (load_be16(f->part) == UINT16_MAX) {
			row_end(c); /* the trailer */
			return true;
		}
		if (load_be16(f->part) != c->desc->n)
			return false;
		f->stage = LENGTH;
		if (c->desc->n == 0)
			row_end(c);
		return true;
	case LENGTH:
		if (!binary_number(f, *b, 4))
			return true;
		f->left = load_be32(f->part);
		if (f->left == UINT32_MAX || f->left == 0)
			binary_next(c);
		else
			f->stage = VALUE;
		return true;
	default:
		*b = cover(st, c, *b);
		if (--f->left == 0)
			binary_next(c);
		return true;
	}
}

/* How many bytes were covered where they must be; fewer than @n: then it makes no sense. */
static size_t transform(struct pg *st, struct pg_copy *c, uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		if (!c->binary)
			p[i] = text_byte(st, c, p[i]);
		else if (!binary_byte(st, c, &p[i]))
			return i;
	}
	return n;
}

bool pg_copy_more(struct pg *st, struct slice in)
{
	struct pg_copy *c = st->copy;
	uint8_t *p = in.n ? insp_out_make(pg_out(st, INSP_TO_CLIENT), in.n) : NULL;
	size_t done = in.n;

	if (p) {
		memcpy(p, in.p, in.n);
		done = transform(st, c, p, in.n);
		insp_out_trim(pg_out(st, INSP_TO_CLIENT), in.n - done);
	}
	if (st->dir[INSP_S2C].left == 0)
		c->fill = c->at.inside;
	return done == in.n;
}

enum pg_step pg_copy_fill(struct pg *st, const struct pg_msg *m)
{
	struct pg_copy *c = st->copy;

	if (!c->fill) {
		bool head = c->binary && !c->past_head;

		c->at = (struct pg_fill){.stage = head ? HEAD : ROW, .left = head ? HEAD_FIXED : 0};
	}
	c->fill = true;
	if (c->part.n) {
		if (transform(st, c, buf_data(&c->part), c->part.n) < c->part.n)
			return pg_bad(st, TG_R_PROTO_BAD);
		pg_copy_put(st, buf_slice(&c->part));
		buf_reset(&c->part);
	}
	insp_out_copy(pg_out(st, INSP_TO_CLIENT), slice_of(m->all.p, PG_HEAD));
	st->dir[INSP_S2C].left = m->total - m->all.n;
	st->dir[INSP_S2C].rest = PG_REST_FILL;
	return pg_copy_more(st, m->body) ? PG_OK : pg_bad(st, TG_R_PROTO_BAD);
}
