/* SPDX-License-Identifier: MIT */
/*
 * Rows that are too long to be held (a field of up to 1 GB). Their length has
 * been announced, so what is masked is overwritten byte by byte. A value that only
 * detectors look at and that fits pg_value_max() is collected and scanned; if it has a
 * hit whose replacement has another length, all of it is overwritten.
 */
#include "inspect/pg.h"

#include <string.h>

enum { AT_COUNT, AT_LENGTH, AT_VALUE };
enum { FILL_PASS, FILL_OVER, FILL_HOLD };

static const struct pg_col *column(const struct pg_rows *r)
{
	return &r->desc->col[r->fill_col];
}

static void put(struct pg *st, struct slice s)
{
	insp_out_copy(pg_out(st, INSP_TO_CLIENT), s);
}

static void overwrite(struct pg *st, size_t n)
{
	struct pg_rows *r = &st->rows;
	const struct pg_col *c = column(r);
	bool binary = r->col[r->fill_col].binary;
	uint8_t *p = insp_out_make(pg_out(st, INSP_TO_CLIENT), n);

	for (size_t i = 0; p && i < n; i++)
		p[i] = pg_type_fill(c->type, binary, r->fill_hex, r->fill_at + i,
				    r->fill_left - i);
}

static void scan_held(struct pg *st)
{
	struct pg_rows *r = &st->rows;
	const struct pg_col *c = column(r);
	const struct pg_acol *a = &r->col[r->fill_col];
	struct slice all = buf_slice(&r->hold);
	struct insp_value v = {.plan = &c->plan};
	char conv[PG_RENDERED_MAX];

	if (!pg_plain_room(st, all.n)) {
		pg_out(st, INSP_TO_CLIENT)->failed = true;
		return;
	}
	if (!pg_scan_input(st, c, a->act, a->binary, all, conv, &v.in) ||
	    !st->env->host->mask(st->env->ctx, &v, 1)) {
		put(st, all);
	} else {
		r->hits++;
		r->detectors |= v.hits;
		if (a->act == PG_ACT_HOST && v.out.p && v.out.n == all.n) {
			put(st, v.out);
		} else {
			r->fill_at = 0;
			r->fill_left = all.n;
			overwrite(st, all.n);
			r->fill_left = 0;
		}
	}
	buf_reset(&r->hold);
}

static void begin_value(struct pg *st, size_t n)
{
	struct pg_rows *r = &st->rows;
	uint8_t act = r->fill_col < r->last ? r->col[r->fill_col].act : PG_ACT_NONE;

	r->fill_left = n;
	r->fill_at = 0;
	r->fill_hex = false;
	r->fill_kind = FILL_PASS;
	if (act == PG_ACT_NONE)
		return;
	if (act == PG_ACT_FIX) {
		/* The family of an inet value is not known yet: all are overwritten. */
		pg_count_fix(st, column(r));
		r->fill_kind = FILL_OVER;
	} else if (column(r)->plan.how != MASK_NONE || n > pg_value_max(st)) {
		if (n > pg_value_max(st))
			r->over_cap++;
		else
			r->values++;
		r->fill_kind = FILL_OVER;
	} else {
		if (!r->hold.max)
			buf_init(&r->hold, pg_value_max(st));
		r->fill_kind = FILL_HOLD;
	}
}

/* Bytes of the current value. */
static void value_bytes(struct pg *st, struct slice s)
{
	struct pg_rows *r = &st->rows;

	switch (r->fill_kind) {
	case FILL_PASS:
		insp_out_pass(pg_out(st, INSP_TO_CLIENT), s);
		break;
	case FILL_OVER:
		/* bytea is hex or, by an old setting, escaped: the first byte tells enough. */
		if (r->fill_at == 0)
			r->fill_hex = s.p[0] == '\\';
		overwrite(st, s.n);
		break;
	case FILL_HOLD:
		if (buf_append_slice(&r->hold, s))
			pg_out(st, INSP_TO_CLIENT)->failed = true;
		break;
	}
	r->fill_at += s.n;
	r->fill_left -= s.n;
	if (r->fill_left == 0 && r->fill_kind == FILL_HOLD)
		scan_held(st);
}

/* Collects @want bytes of a number that may be cut; true when it is there. */
static bool number(struct pg_rows *r, struct slice *in, uint8_t want, uint32_t *ret)
{
	while (r->part_n < want && in->n) {
		r->part[r->part_n++] = in->p[0];
		*in = slice_from(*in, 1);
	}
	if (r->part_n < want)
		return false;
	*ret = want == 2 ? load_be16(r->part) : load_be32(r->part);
	r->part_n = 0;
	return true;
}

static bool next_length(struct pg *st, struct slice *in)
{
	struct pg_rows *r = &st->rows;
	uint32_t n;

	if (!number(r, in, 4, &n))
		return true;
	if (r->fill_col >= r->desc->n)
		return false;
	put(st, slice_of(r->part, 4));
	if (n == UINT32_MAX) {
		r->fill_col++;
		return true;
	}
	begin_value(st, n);
	r->stage = AT_VALUE;
	return true;
}

bool pg_rows_more(struct pg *st, struct slice in)
{
	struct pg_rows *r = &st->rows;
	uint32_t n;

	while (in.n || (r->stage == AT_VALUE && r->fill_left == 0)) {
		switch (r->stage) {
		case AT_COUNT:
			if (!number(r, &in, 2, &n))
				break;
			if (n != r->desc->n)
				return false;
			put(st, slice_of(r->part, 2));
			r->stage = AT_LENGTH;
			break;
		case AT_LENGTH:
			if (!next_length(st, &in))
				return false;
			break;
		default:
			if (r->fill_left) {
				struct slice s = slice_of(in.p, min_size(in.n, r->fill_left));

				in = slice_from(in, s.n);
				value_bytes(st, s);
			}
			if (r->fill_left == 0) {
				r->fill_col++;
				r->stage = AT_LENGTH;
			}
		}
	}
	/* The row ends with the message. */
	return st->dir[INSP_S2C].left || (r->fill_col == r->desc->n && r->part_n == 0);
}

enum pg_step pg_rows_stream(struct pg *st, const struct pg_msg *m)
{
	struct pg_rows *r = &st->rows;

	r->stage = AT_COUNT;
	r->fill_col = 0;
	r->part_n = 0;
	put(st, slice_of(m->all.p, PG_HEAD));
	st->dir[INSP_S2C].left = m->total - m->all.n;
	st->dir[INSP_S2C].rest = PG_REST_FILL;
	return pg_rows_more(st, m->body) ? PG_OK : pg_bad(st, TG_R_PROTO_BAD);
}
