/* SPDX-License-Identifier: MIT */
/*
 * Rows under masks. Values of many rows are given to the host in one call; rows
 * that nothing changed pass as ranges of the input. Rows over pg_row_max() are
 * in pg_stream.c.
 */
#include "inspect/pg.h"

#include <stdlib.h>
#include <string.h>

enum { BATCH = 512, PLAIN_MAX = 128 << 20 };

/* A value in a batch. */
struct slot_meta {
	uint32_t row;
	uint16_t col;
};

struct row {
	size_t off, total;
	uint32_t first, n; /* its values */
	bool changed;
};

struct batch {
	struct insp_value *v;
	struct slot_meta *meta;
	struct row *row;
	char *conv;
	uint32_t nv, nrow, cap_v;
	size_t nconv, cap_conv;
};

/* ------------------------------------------------------------ descriptions */

static bool read_columns(struct slice body, struct insp_column *cols, uint32_t n)
{
	struct cursor c = cur_of(slice_from(body, 2));

	for (uint32_t i = 0; i < n; i++) {
		cols[i].label = cur_cstr(&c);
		cols[i].table = cur_be32(&c);
		cols[i].attnum = (int16_t)cur_be16(&c);
		cols[i].type = cur_be32(&c);
		(void)cur_be16(&c); /* type size */
		(void)cur_be32(&c); /* type modifier */
		cols[i].binary = cur_be16(&c) == 1;
	}
	return cur_end(&c);
}

/* Asks the host about @n columns; *ret_plans is allocated. PG_OK, PG_WAIT or PG_BAD. */
enum pg_step pg_ask_columns(struct pg *st, const struct pg_stmt *stmt, bool tainted,
			    const struct insp_column *cols, uint32_t n, struct slice raw,
			    struct pg_desc **ret)
{
	const struct sql_info *info = pg_result_info(stmt);
	struct insp_plan *plans = calloc(n + 1, sizeof(*plans));
	struct pg_desc *d = calloc(1, sizeof(*d) + n * sizeof(d->col[0]) + raw.n);
	enum pg_step step = PG_OK;
	struct insp_shape shape = {0};

	if (!plans || !d) {
		step = pg_bad(st, TG_R_NO_MEMORY);
	} else if (st->env->host->columns(st->env->ctx, info, tainted || !info, cols, n, plans,
					  &shape) == INSP_V_WAIT) {
		step = PG_WAIT;
	} else {
		d->refs = 1;
		d->generation = st->env->generation;
		d->epoch = st->epoch;
		d->plan = shape.id;
		d->n = n;
		d->raw_n = raw.n;
		for (uint32_t i = 0; i < n; i++) {
			d->col[i].type = cols[i].type;
			d->col[i].binary = cols[i].binary;
			d->col[i].plan = plans[i];
			d->active |= plans[i].how != MASK_NONE || plans[i].detectors;
		}
		if (raw.n)
			memcpy(&d->col[n], raw.p, raw.n);
		*ret = d;
		d = NULL;
	}
	free(plans);
	free(d);
	return step;
}

enum pg_step pg_describe_rows(struct pg *st, struct slice body, const struct pg_stmt *stmt,
			      struct pg_desc **ret)
{
	struct insp_column *cols;
	enum pg_step step;
	uint32_t n;

	if (body.n < 2)
		return pg_bad(st, TG_R_PROTO_BAD);
	n = load_be16(body.p);
	if (n > PG_COLUMNS_MAX)
		return pg_bad(st, TG_R_PROTO_LIMIT);
	cols = calloc(n + 1, sizeof(*cols));
	if (!cols)
		return pg_bad(st, TG_R_NO_MEMORY);
	if (!read_columns(body, cols, n))
		step = pg_bad(st, TG_R_PROTO_BAD);
	else
		step = pg_ask_columns(st, stmt, false, cols, n, body, ret);
	free(cols);
	return step;
}

enum pg_step pg_undescribed(struct pg *st, uint32_t n, struct pg_desc **ret)
{
	struct insp_column *cols;
	enum pg_step step;

	if (n > PG_COLUMNS_MAX)
		return pg_bad(st, TG_R_PROTO_LIMIT);
	cols = calloc(n + 1, sizeof(*cols));
	if (!cols)
		return pg_bad(st, TG_R_NO_MEMORY);
	step = pg_ask_columns(st, NULL, true, cols, n, (struct slice){0}, ret);
	free(cols);
	return step;
}

static bool col_binary(const struct pg_desc *d, const struct pg_portal *p, uint32_t i)
{
	if (!p || !p->bound)
		return d->col[i].binary;
	if (p->nformats == 0)
		return false;
	return p->formats[p->nformats == 1 ? 0 : min_size(i, p->nformats - 1u)];
}

int pg_rows_begin(struct pg *st, struct pg_desc *d, const struct pg_portal *p)
{
	struct pg_rows *r = &st->rows;

	pg_desc_unref(r->desc);
	r->desc = NULL;
	r->plan = d->plan;
	if (!d->active)
		return 0;
	if (r->cap < d->n) {
		struct pg_acol *col = reallocarray(r->col, d->n, sizeof(*col));

		if (!col)
			return -1;
		r->col = col;
		r->cap = d->n;
	}
	r->last = 0;
	for (uint32_t i = 0; i < d->n; i++) {
		r->col[i].binary = col_binary(d, p, i);
		r->col[i].act = (uint8_t)pg_type_act(d->col[i].type, r->col[i].binary,
						     &d->col[i].plan);
		if (r->col[i].act != PG_ACT_NONE)
			r->last = i + 1;
	}
	if (r->last)
		r->desc = pg_desc_ref(d);
	return 0;
}

void pg_rows_end(struct pg *st, const struct pg_stmt *stmt)
{
	struct pg_rows *r = &st->rows;
	struct event ev = {.kind = EV_MASKED};

	pg_desc_unref(r->desc);
	r->desc = NULL;
	if (!r->values && !r->hits && !r->over_cap)
		return;
	ev.masked.statement_seq = stmt ? stmt->seq : 0;
	ev.masked.values = r->values;
	ev.masked.hits = r->hits;
	ev.masked.over_cap = r->over_cap;
	ev.masked.detectors = r->detectors;
	ev.masked.plan = r->plan;
	st->masked_values += r->values + r->hits + r->over_cap;
	r->values = r->hits = r->over_cap = 0;
	r->detectors = 0;
	pg_tell(st, INSP_S2C, &ev);
}

void pg_rows_free(struct pg *st)
{
	pg_desc_unref(st->rows.desc);
	free(st->rows.col);
	buf_done(&st->rows.hold);
	buf_done(&st->rows.plain);
	st->rows = (struct pg_rows){0};
}

/* ------------------------------------------------------------------ values */

/*
 * A date of birth where it is stored with a time. In binary a timestamptz is in UTC, and all time
 * zones are multiples of 15 minutes away.
 */
static bool at_midnight(uint32_t type, bool binary, struct slice v)
{
	const int64_t day = 86400000000, quarter = 900000000;
	const uint8_t *at;
	int64_t us;

	if (binary) {
		us = v.n == 8 ? (int64_t)((uint64_t)load_be32(v.p) << 32 | load_be32(v.p + 4)) : 0;
		return us % (type == PG_OID_TIMESTAMP ? day : quarter) == 0;
	}
	at = memmem(v.p, v.n, "00:00:00", 8);
	return at && !(at + 8 < v.p + v.n && at[8] == '.');
}

bool pg_fix_applies(const struct pg_col *c, bool binary, struct slice v)
{
	if (c->plan.how == MASK_NONE &&
	    (c->type == PG_OID_TIMESTAMP || c->type == PG_OID_TIMESTAMPTZ))
		return at_midnight(c->type, binary, v);
	/* A detector for IPv4 has no say over IPv6. */
	if (c->plan.how == MASK_NONE && (c->type == PG_OID_INET || c->type == PG_OID_CIDR))
		return binary ? v.n && v.p[0] == 2 : !memchr(v.p, ':', v.n);
	return true;
}

struct slice pg_fix_value(const struct pg_col *c, bool binary)
{
	uint8_t how = c->plan.how != MASK_NONE ? c->plan.how : c->plan.found_how;

	return pg_type_zero(c->type, binary, how);
}

static uint32_t fix_detector(uint32_t type)
{
	return type == PG_OID_UUID ? 1u << DETECT_BIT_UUID :
	       type == PG_OID_INET || type == PG_OID_CIDR ? 1u << DETECT_BIT_IPV4 :
							    1u << DETECT_BIT_DOB;
}

void pg_count_fix(struct pg *st, const struct pg_col *c)
{
	if (c->plan.how != MASK_NONE) {
		st->rows.values++;
		return;
	}
	st->rows.hits++;
	st->rows.detectors |= fix_detector(c->type) & c->plan.detectors;
}

bool pg_is_jsonb(const struct pg_col *c, bool binary)
{
	return binary && c->type == PG_OID_JSONB;
}

/* What the host is to look at; false: nothing. Text that is made goes to @conv, bytes to plain. */
bool pg_scan_input(struct pg *st, const struct pg_col *c, uint8_t act, bool binary, struct slice v,
		   char *conv, struct slice *ret)
{
	struct buf *plain = &st->rows.plain;
	size_t n;

	if (act == PG_ACT_JSON && pg_is_jsonb(c, binary))
		v = slice_from(v, 1);
	if (act == PG_ACT_SCAN && pg_type_renders(c->type, binary)) {
		n = pg_type_render(c->type, binary, v, conv, PG_RENDERED_MAX);
		v = slice_of(conv, n);
	} else if (act == PG_ACT_SCAN && c->type == PG_OID_BYTEA) {
		/* Room for the whole input was made before: earlier values do not move. */
		n = pg_bytea_bytes(v, buf_data(plain) + plain->n);
		v = slice_of(buf_data(plain) + plain->n, n);
		buf_commit(plain, n);
	}
	*ret = v;
	/* That a masked value is empty is not told either. */
	return v.n > 0 || (c->plan.how != MASK_NONE && act != PG_ACT_SCAN);
}

/* Room for the bytes of @n bytes of bytea in text form. */
bool pg_plain_room(struct pg *st, size_t n)
{
	struct buf *plain = &st->rows.plain;

	if (!plain->max)
		buf_init(plain, PLAIN_MAX);
	buf_reset(plain);
	return buf_reserve(plain, n) != NULL;
}

/* After the host: what goes on in place of the value, without jsonb's version. */
struct slice pg_scan_output(const struct pg_col *c, uint8_t act, bool binary,
			    const struct insp_value *v, bool *ret_jsonb)
{
	*ret_jsonb = false;
	if (act == PG_ACT_SCAN)
		return v->out.p ? pg_type_zero(c->type, binary, c->plan.found_how) :
				  (struct slice){0};
	if (act == PG_ACT_JSON && v->out.p) {
		if (!pg_json_valid(v->out))
			return pg_type_zero(c->type, binary, MASK_REDACT);
		*ret_jsonb = pg_is_jsonb(c, binary);
	}
	return v->out;
}

/* ----------------------------------------------------------------- batches */

static bool batch_init(struct pg *st, struct batch *b, size_t in_n)
{
	const struct pg_rows *r = &st->rows;
	size_t decimals = 0, need;
	bool bytea = false;
	uint8_t *p;

	for (uint32_t i = 0; i < r->last; i++) {
		uint32_t type = r->desc->col[i].type;

		if (r->col[i].act != PG_ACT_SCAN)
			continue;
		decimals += pg_type_renders(type, r->col[i].binary);
		bytea |= type == PG_OID_BYTEA;
	}
	if (bytea && !pg_plain_room(st, in_n))
		return false;
	b->cap_v = (uint32_t)max_size(BATCH, r->last);
	b->cap_conv = decimals ? max_size(decimals, 128) * PG_RENDERED_MAX : 0;
	b->nv = b->nrow = 0;
	b->nconv = 0;
	need = b->cap_v * (sizeof(*b->v) + sizeof(*b->meta)) + BATCH * sizeof(*b->row) +
	       b->cap_conv + 16;
	buf_reset(st->env->scratch);
	p = buf_reserve(st->env->scratch, need);
	if (!p)
		return false;
	p += -(uintptr_t)p & 15;
	b->v = (struct insp_value *)p;
	b->row = (struct row *)(b->v + b->cap_v);
	b->meta = (struct slot_meta *)(b->row + BATCH);
	b->conv = (char *)(b->meta + b->cap_v);
	return true;
}

static bool batch_has_room(const struct pg *st, const struct batch *b)
{
	return b->nrow < BATCH && b->cap_v - b->nv >= st->rows.last &&
	       (!b->cap_conv || b->cap_conv - b->nconv >= st->rows.last * (size_t)PG_RENDERED_MAX ||
		b->nrow == 0);
}

static void gather_value(struct pg *st, struct batch *b, struct row *row, uint32_t i,
			 struct slice v)
{
	const struct pg_acol *a = &st->rows.col[i];
	const struct pg_col *c = &st->rows.desc->col[i];
	char *conv = b->conv + b->nconv;
	struct slice in;

	if (a->act == PG_ACT_FIX) {
		if (!pg_fix_applies(c, a->binary, v))
			return;
		pg_count_fix(st, c);
		row->changed = true;
		return;
	}
	if (v.n > pg_value_max(st)) {
		st->rows.over_cap++;
		row->changed = true;
		return;
	}
	if (!pg_scan_input(st, c, a->act, a->binary, v, conv, &in))
		return;
	if (in.p == (uint8_t *)conv)
		b->nconv += in.n;
	b->v[b->nv] = (struct insp_value){.in = in, .plan = &c->plan};
	b->meta[b->nv++] = (struct slot_meta){.row = b->nrow, .col = (uint16_t)i};
}

/* A whole DataRow. False: it does not have the shape that was described. */
static bool gather_row(struct pg *st, struct batch *b, struct slice msg, size_t off)
{
	const struct pg_rows *r = &st->rows;
	const uint8_t *p = msg.p + PG_HEAD, *end = msg.p + msg.n;
	struct row *row = &b->row[b->nrow];

	*row = (struct row){.off = off, .total = msg.n, .first = b->nv};
	if (end - p < 2 || load_be16(p) != r->desc->n)
		return false;
	p += 2;
	for (uint32_t i = 0; i < r->last; i++) {
		uint32_t n;

		if (end - p < 4)
			return false;
		n = load_be32(p);
		p += 4;
		if (n == UINT32_MAX)
			continue;
		if (n > (size_t)(end - p))
			return false;
		if (r->col[i].act != PG_ACT_NONE)
			gather_value(st, b, row, i, slice_of(p, n));
		p += n;
	}
	row->n = b->nv - row->first;
	b->nrow++;
	return true;
}

/* The new value of column @i; true if it changes. @vi walks over the row's values. */
static bool new_value(struct pg *st, const struct batch *b, const struct row *row, uint32_t i,
		      struct slice old, uint32_t *vi, struct slice *ret, bool *ret_jsonb)
{
	const struct pg_acol *a = &st->rows.col[i];
	const struct pg_col *c = &st->rows.desc->col[i];
	bool mine = *vi < row->first + row->n && b->meta[*vi].col == i;
	const struct insp_value *v = mine ? &b->v[(*vi)++] : NULL;

	*ret_jsonb = false;
	if (a->act == PG_ACT_FIX) {
		*ret = pg_fix_value(c, a->binary);
		return pg_fix_applies(c, a->binary, old);
	}
	if (old.n > pg_value_max(st)) {
		*ret = pg_type_zero(c->type, a->binary, MASK_REDACT);
		return true;
	}
	if (!v || !v->changed)
		return false;
	*ret = pg_scan_output(c, a->act, a->binary, v, ret_jsonb);
	return true;
}

/* Writes the row with its new values to @dst, or only counts if that is NULL. */
static size_t rebuild(struct pg *st, const struct batch *b, const struct row *row,
		      const uint8_t *msg, uint8_t *dst)
{
	const uint8_t *p = msg + PG_HEAD + 2, *end = msg + row->total;
	uint32_t vi = row->first;
	size_t at = PG_HEAD + 2;
	struct slice now;
	bool jsonb;

	for (uint32_t i = 0; i < st->rows.last; i++) {
		uint32_t n = load_be32(p);
		struct slice old = slice_of(p + 4, n == UINT32_MAX ? 0 : n);

		p = old.p + old.n;
		if (n == UINT32_MAX || st->rows.col[i].act == PG_ACT_NONE ||
		    !new_value(st, b, row, i, old, &vi, &now, &jsonb)) {
			if (dst)
				memcpy(dst + at, old.p - 4, old.n + 4);
			at += old.n + 4;
			continue;
		}
		if (dst) {
			store_be32(dst + at, now.p ? (uint32_t)(now.n + jsonb) : UINT32_MAX);
			if (jsonb)
				dst[at + 4] = 1;
			if (now.n)
				memcpy(dst + at + 4 + jsonb, now.p, now.n);
		}
		at += 4 + now.n + jsonb;
	}
	if (dst) {
		dst[0] = PG_B_DATA_ROW;
		memcpy(dst + PG_HEAD, msg + PG_HEAD, 2);
		memcpy(dst + at, p, (size_t)(end - p));
	}
	at += (size_t)(end - p);
	if (dst)
		store_be32(dst + 1, (uint32_t)(at - 1));
	return at;
}

static void emit_batch(struct pg *st, const struct batch *b, struct slice in)
{
	struct insp_out *out = pg_out(st, INSP_TO_CLIENT);

	for (uint32_t i = 0; i < b->nrow; i++) {
		const struct row *row = &b->row[i];
		const uint8_t *msg = in.p + row->off;
		uint8_t *dst;

		if (!row->changed) {
			insp_out_pass(out, slice_of(msg, row->total));
			continue;
		}
		dst = insp_out_make(out, rebuild(st, b, row, msg, NULL));
		if (dst)
			(void)rebuild(st, b, row, msg, dst);
	}
}

static void mask_batch(struct pg *st, struct batch *b)
{
	for (uint32_t i = 0; i < b->nv; i++)
		if (b->v[i].plan->how != MASK_NONE)
			st->rows.values++;
	if (!b->nv || !st->env->host->mask(st->env->ctx, b->v, b->nv))
		return;
	for (uint32_t i = 0; i < b->nv; i++) {
		if (b->v[i].hits) {
			st->rows.hits++;
			st->rows.detectors |= b->v[i].hits;
		}
		if (b->v[i].changed)
			b->row[b->meta[i].row].changed = true;
	}
}

enum pg_step pg_rows_batch(struct pg *st, struct slice in, size_t *ret_used)
{
	struct batch b;
	size_t off = 0;

	if (in.n < PG_HEAD || (size_t)load_be32(in.p + 1) + 1 > in.n)
		return PG_OK;
	if (!batch_init(st, &b, in.n))
		return pg_bad(st, TG_R_NO_MEMORY);
	while (in.n - off >= PG_HEAD && in.p[off] == PG_B_DATA_ROW && batch_has_room(st, &b)) {
		size_t total = (size_t)load_be32(in.p + off + 1) + 1;

		if (total < PG_HEAD || total > in.n - off || total > pg_row_max(st))
			break;
		if (!gather_row(st, &b, slice_of(in.p + off, total), off)) {
			/* What comes before it goes on, as it would have with another cut. */
			if (!b.nrow)
				return pg_bad(st, TG_R_PROTO_BAD);
			b.nv = b.row[b.nrow].first;
			break;
		}
		off += total;
	}
	mask_batch(st, &b);
	emit_batch(st, &b, in);
	*ret_used = off;
	return PG_OK;
}
