/* SPDX-License-Identifier: MIT */
/*
 * COPY TO STDOUT under masks, in text, CSV and binary form (PostgreSQL documentation,
 * "COPY", File Formats). A row need not be one CopyData message: what is left over
 * at the end of one waits for the next, up to pg_row_max(). Rows that nothing
 * changed stay in the message they came in; others are put into new ones.
 * What is longer is in pg_copy_fill.c.
 *
 * Columns have no types here but what the host knows of a table. In text and CSV a masked
 * value is text; in binary it is what its type allows, and NULL where the type is not known.
 * Where the layout of the text is not known (the statement was not
 * understood), no row passes.
 */
#include "inspect/pg_copy.h"

#include <stdlib.h>
#include <string.h>

/* ------------------------------------------------------------------ set up */

static bool set_layout(struct pg_copy *c, const struct sql_copy *k)
{
	if (!k)
		return c->binary;
	c->csv = k->csv;
	c->delim = k->delim;
	c->quote = k->quote;
	c->escape = k->escape;
	c->header = k->header && !c->binary;
	if (k->binary != c->binary)
		return c->binary;
	if (k->null_text.n > sizeof(c->null_text))
		return false;
	if (k->null_text.n)
		memcpy(c->null_text, k->null_text.p, k->null_text.n);
	c->null_n = (uint8_t)k->null_text.n;
	return true;
}

static enum pg_step ask_plans(struct pg *st, struct pg_copy *c, const struct pg_msg *m,
			      const struct pg_stmt *stmt)
{
	const struct sql_info *info = pg_result_info(stmt);
	const struct sql_copy *k = info ? info->copy : NULL;
	uint32_t n = load_be16(m->body.p + 1);
	struct insp_column *cols;
	enum pg_step step;

	if (m->body.n != 3 + n * (size_t)2)
		return pg_bad(st, TG_R_PROTO_BAD);
	cols = calloc(n + 1, sizeof(*cols));
	if (!cols)
		return pg_bad(st, TG_R_NO_MEMORY);
	for (uint32_t i = 0; i < n; i++) {
		cols[i].binary = c->binary;
		if (k && k->ncolumns == n)
			cols[i].label = cols[i].name = k->columns[i];
	}
	step = pg_ask_columns(st, stmt, st->unsettled, cols, n, (struct slice){0}, &c->desc);
	free(cols);
	return step;
}

/* How each column is treated, and room for what has to be rendered. */
static bool set_acts(struct pg_copy *c)
{
	uint32_t rendered = 0;

	for (uint32_t i = 0; i < c->desc->n; i++) {
		struct pg_col *col = &c->desc->col[i];
		struct pg_copy_field *f = &c->field[i];

		/* A mask in text form is the text's business, as ever. */
		col->type = c->binary || col->plan.how == MASK_NONE ? col->plan.type : 0;
		f->act = (uint8_t)pg_type_act(col->type, c->binary, &col->plan);
		c->bytea |= f->act == PG_ACT_SCAN && col->type == PG_OID_BYTEA;
		f->conv = f->act == PG_ACT_SCAN && pg_type_renders(col->type, c->binary) ?
				  ++rendered : 0;
	}
	c->conv = rendered ? malloc(rendered * (size_t)PG_RENDERED_MAX) : NULL;
	return c->conv || !rendered;
}

enum pg_step pg_copy_begin(struct pg *st, const struct pg_msg *m, const struct pg_stmt *stmt)
{
	const struct sql_info *info = pg_result_info(stmt);
	struct pg_copy *c;
	enum pg_step step;

	if (m->body.n < 3)
		return pg_bad(st, TG_R_PROTO_BAD);
	c = calloc(1, sizeof(*c));
	if (!c)
		return pg_bad(st, TG_R_NO_MEMORY);
	c->binary = m->body.p[0] == 1;
	c->known = set_layout(c, info ? info->copy : NULL);
	step = ask_plans(st, c, m, stmt);
	if (step != PG_OK || !c->desc->active) {
		if (step == PG_OK)
			pg_desc_unref(c->desc);
		free(c);
		return step;
	}
	buf_init(&c->part, pg_row_max(st));
	buf_init(&c->work, 32 * pg_row_max(st)); /* short values may become long hashes */
	buf_init(&c->plain, pg_row_max(st) + 64);
	c->field = calloc(c->desc->n + 1, sizeof(*c->field));
	c->value = calloc(c->desc->n + 1, sizeof(*c->value));
	pg_copy_free(st);
	st->copy = c;
	st->rows.plan = c->desc->plan;
	if (!c->field || !c->value)
		return pg_bad(st, TG_R_NO_MEMORY);
	return set_acts(c) ? PG_OK : pg_bad(st, TG_R_NO_MEMORY);
}

void pg_copy_free(struct pg *st)
{
	struct pg_copy *c = st->copy;

	if (!c)
		return;
	pg_desc_unref(c->desc);
	buf_done(&c->part);
	buf_done(&c->work);
	buf_done(&c->plain);
	free(c->field);
	free(c->value);
	free(c->conv);
	free(c);
	st->copy = NULL;
}

/* ------------------------------------------------------------ rows of bytes */

/* Length of the row at the start of @s with its line end; 0: not all is there. */
static size_t text_row(const struct pg_copy *c, struct slice s)
{
	bool quoted = false;

	for (size_t i = 0; i < s.n; i++) {
		uint8_t b = s.p[i];

		if (!c->csv && b == '\\') {
			i++;
		} else if (c->csv && quoted && b == c->escape && c->escape != c->quote) {
			i++;
		} else if (c->csv && b == c->quote) {
			quoted = !quoted;
		} else if (b == '\n' && !quoted) {
			return i + 1;
		}
	}
	return 0;
}

/* The same for binary: head, tuple or trailer. SIZE_MAX: broken. */
static size_t binary_row(struct pg_copy *c, struct slice s)
{
	static const char signature[] = "PGCOPY\n\377\r\n";
	struct cursor cur = cur_of(s);
	uint16_t n;

	if (!c->past_head) {
		struct slice sig = cur_take(&cur, sizeof(signature));

		(void)cur_be32(&cur);
		(void)cur_take(&cur, cur_be32(&cur));
		if (cur.bad)
			return 0;
		return memcmp(sig.p, signature, sizeof(signature)) ? SIZE_MAX :
								     (size_t)(cur.p - s.p);
	}
	n = cur_be16(&cur);
	if (!cur.bad && n == UINT16_MAX)
		return 2;
	if (!cur.bad && n != c->desc->n)
		return SIZE_MAX;
	for (uint16_t i = 0; i < n && !cur.bad; i++) {
		uint32_t length = cur_be32(&cur);

		if (length != UINT32_MAX)
			(void)cur_take(&cur, length);
	}
	return cur.bad ? 0 : (size_t)(cur.p - s.p);
}

/* ------------------------------------------------------------------ fields */

static uint8_t unescaped(uint8_t b)
{
	static const char from[] = "bfnrtv", to[] = "\b\f\n\r\t\v";
	const char *at = b ? strchr(from, b) : NULL;

	return at ? (uint8_t)to[at - from] : b;
}

/* The value of a field; *ret NULL pointer: NULL. Uses plain, which has room for the row. */
static struct slice field_value(struct pg_copy *c, struct slice raw)
{
	uint8_t *dst = buf_data(&c->plain) + c->plain.n, *p = dst;
	bool quoted = false;

	if (slice_eq(raw, slice_of(c->null_text, c->null_n)))
		return (struct slice){0};
	if (!memchr(raw.p, c->csv ? c->quote : '\\', raw.n))
		return raw;
	for (size_t i = 0; i < raw.n; i++) {
		uint8_t b = raw.p[i];

		if (!c->csv && b == '\\' && i + 1 < raw.n) {
			*p++ = unescaped(raw.p[++i]);
		} else if (c->csv && quoted && b == c->escape && i + 1 < raw.n &&
			   (raw.p[i + 1] == c->quote || raw.p[i + 1] == c->escape)) {
			*p++ = raw.p[++i];
		} else if (c->csv && b == c->quote) {
			quoted = !quoted;
		} else {
			*p++ = b;
		}
	}
	buf_commit(&c->plain, (size_t)(p - dst));
	return slice_of(dst, (size_t)(p - dst));
}

static bool work_bytes(struct pg_copy *c, const void *p, size_t n)
{
	return buf_append(&c->work, p, n) == 0;
}

static bool put_text(struct pg_copy *c, struct slice v)
{
	static const char special[] = "\b\f\n\r\t\v", letters[] = "bfnrtv";
	uint8_t *dst = buf_reserve(&c->work, v.n * 2);
	size_t n = 0;

	if (!dst)
		return false;
	for (size_t i = 0; i < v.n; i++) {
		uint8_t b = v.p[i];
		const char *at = b ? strchr(special, b) : NULL;

		if (at) {
			dst[n++] = '\\';
			dst[n++] = (uint8_t)letters[at - special];
			continue;
		}
		if (b == '\\' || b == c->delim)
			dst[n++] = '\\';
		dst[n++] = b;
	}
	buf_commit(&c->work, n);
	return true;
}

static bool put_csv(struct pg_copy *c, struct slice v, bool was_quoted)
{
	bool quote = was_quoted || slice_eq(v, slice_of(c->null_text, c->null_n));
	uint8_t *dst = buf_reserve(&c->work, v.n * 2 + 2);
	size_t n = 0;

	if (!dst)
		return false;
	for (size_t i = 0; i < v.n && !quote; i++)
		quote = v.p[i] == c->delim || v.p[i] == c->quote || v.p[i] == '\n' ||
			v.p[i] == '\r';
	if (quote)
		dst[n++] = c->quote;
	for (size_t i = 0; i < v.n; i++) {
		if (quote && (v.p[i] == c->quote || v.p[i] == c->escape))
			dst[n++] = c->escape;
		dst[n++] = v.p[i];
	}
	if (quote)
		dst[n++] = c->quote;
	buf_commit(&c->work, n);
	return true;
}

/* Splits a row without its line end. False: another number of fields. */
static bool split_text(struct pg_copy *c, struct slice row)
{
	size_t start = 0;
	uint32_t n = 0;
	bool quoted = false;

	for (size_t i = 0; i <= row.n; i++) {
		uint8_t b = i < row.n ? row.p[i] : 0;

		if (i < row.n && !c->csv && b == '\\') {
			i++;
			if (i < row.n)
				continue;
		} else if (i < row.n && c->csv && quoted && b == c->escape && c->escape != c->quote) {
			i++;
			if (i < row.n)
				continue;
		} else if (i < row.n && c->csv && b == c->quote) {
			quoted = !quoted;
			continue;
		} else if (i < row.n && (b != c->delim || quoted)) {
			continue;
		}
		if (n == c->desc->n)
			return false;
		c->field[n++].raw = slice_of(row.p + start, min_size(i, row.n) - start);
		start = i + 1;
	}
	/* A relation without columns has rows without fields. */
	return n == c->desc->n || (c->desc->n == 0 && row.n == 0);
}

static bool split_binary(struct pg_copy *c, struct slice row)
{
	struct cursor cur = cur_of(slice_from(row, 2));

	for (uint32_t i = 0; i < c->desc->n; i++) {
		uint32_t n = cur_be32(&cur);

		c->field[i].raw = n == UINT32_MAX ? (struct slice){0} : cur_take(&cur, n);
	}
	return cur_end(&cur);
}

/* Values that plans apply to, to the host; returns whether the row changes. */
static bool mask_fields(struct pg *st, struct pg_copy *c)
{
	bool changed = false;
	uint32_t k = 0;

	for (uint32_t i = 0; i < c->desc->n; i++) {
		const struct pg_col *col = &c->desc->col[i];
		struct pg_copy_field *f = &c->field[i];
		struct slice v, in;

		f->new = f->over = false;
		if (f->act == PG_ACT_NONE)
			continue;
		v = c->binary ? f->raw : field_value(c, f->raw);
		if (!v.p)
			continue;
		if (f->act == PG_ACT_FIX) {
			if (!pg_fix_applies(col, c->binary, v))
				continue;
			pg_count_fix(st, col);
			f->new = changed = true;
			continue;
		}
		if (v.n > pg_value_max(st)) {
			f->new = f->over = changed = true;
			st->rows.over_cap++;
			continue;
		}
		if (!pg_scan_input(st, col, f->act, c->binary, v,
				   f->conv ? c->conv + (f->conv - 1) * (size_t)PG_RENDERED_MAX : NULL,
				   &in))
			continue;
		if (col->plan.how != MASK_NONE)
			st->rows.values++;
		c->value[k] = (struct insp_value){.in = in, .plan = &col->plan};
		f->value = k++;
		f->new = true;
	}
	if (k && st->env->host->mask(st->env->ctx, c->value, k))
		changed = true;
	for (uint32_t i = 0; i < k; i++)
		if (c->value[i].hits) {
			st->rows.hits++;
			st->rows.detectors |= c->value[i].hits;
		}
	return changed;
}

/* What stands for a field of a changed row; false: its own bytes. *ret_jsonb: behind its version. */
static bool new_field(const struct pg_copy *c, uint32_t i, struct slice *ret, bool *ret_jsonb)
{
	const struct pg_col *col = &c->desc->col[i];
	const struct pg_copy_field *f = &c->field[i];
	const struct insp_value *v = &c->value[f->value];

	*ret_jsonb = false;
	if (!f->new)
		return false;
	if (f->act == PG_ACT_FIX)
		*ret = pg_fix_value(col, c->binary);
	else if (f->over)
		*ret = pg_type_zero(col->type, c->binary, MASK_REDACT);
	else if (v->changed)
		*ret = pg_scan_output(col, f->act, c->binary, v, ret_jsonb);
	else
		return false;
	return true;
}

static bool put_row(struct pg_copy *c, struct slice row)
{
	bool ok = true;
	uint8_t be[4];

	if (c->binary)
		ok = work_bytes(c, row.p, 2);
	for (uint32_t i = 0; i < c->desc->n && ok; i++) {
		struct slice raw = c->field[i].raw, v = raw;
		bool jsonb, fresh = new_field(c, i, &v, &jsonb);

		if (c->binary) {
			store_be32(be, v.p ? (uint32_t)v.n + jsonb : UINT32_MAX);
			ok = work_bytes(c, be, 4) && work_bytes(c, "\1", jsonb) &&
			     work_bytes(c, v.p, v.n);
			continue;
		}
		if (i)
			ok = work_bytes(c, &c->delim, 1);
		if (!fresh)
			ok = ok && work_bytes(c, raw.p, raw.n);
		else if (!v.p)
			ok = ok && work_bytes(c, c->null_text, c->null_n);
		else if (c->csv)
			ok = ok && put_csv(c, v, raw.n && raw.p[0] == c->quote);
		else
			ok = ok && put_text(c, v);
	}
	return ok && (c->binary || work_bytes(c, "\n", 1));
}

/* One row of the stream. *ret_changed is set if work is not its copy. */
static bool one_row(struct pg *st, struct pg_copy *c, struct slice row, bool *ret_changed)
{
	bool special = c->binary ? !c->past_head || row.n == 2 : c->header && !c->past_head;

	c->past_head = true;
	if (special)
		return work_bytes(c, row.p, row.n);
	buf_reset(&c->plain);
	if (!buf_reserve(&c->plain, row.n) || (c->bytea && !pg_plain_room(st, row.n)))
		return false;
	if (c->binary ? !split_binary(c, row) : !split_text(c, slice_of(row.p, row.n - 1)))
		return false;
	if (!mask_fields(st, c))
		return work_bytes(c, row.p, row.n);
	*ret_changed = true;
	return put_row(c, row);
}

/* Whole rows of @s into work; returns the bytes they took, SIZE_MAX if it is no such data. */
static size_t rows_of(struct pg *st, struct pg_copy *c, struct slice s, bool *ret_changed)
{
	size_t used = 0;

	buf_reset(&c->work);
	while (used < s.n) {
		struct slice rest = slice_from(s, used);
		size_t n = c->binary ? binary_row(c, rest) : text_row(c, rest);

		if (n == SIZE_MAX || (n && !one_row(st, c, slice_of(rest.p, n), ret_changed)))
			return SIZE_MAX;
		if (n == 0)
			break;
		used += n;
	}
	return used;
}

/* ---------------------------------------------------------------- messages */

void pg_copy_put(struct pg *st, struct slice payload)
{
	uint8_t *p = payload.n ? insp_out_make(pg_out(st, INSP_TO_CLIENT), PG_HEAD + payload.n) :
				 NULL;

	if (!p)
		return;
	p[0] = PG_B_COPY_DATA;
	store_be32(p + 1, (uint32_t)(payload.n + 4));
	memcpy(p + PG_HEAD, payload.p, payload.n);
}

/* The rows in @part, which is complete or the last. */
static enum pg_step from_part(struct pg *st, struct pg_copy *c)
{
	bool changed = false;
	size_t used = rows_of(st, c, buf_slice(&c->part), &changed);

	if (used == SIZE_MAX)
		return pg_bad(st, TG_R_PROTO_BAD);
	pg_copy_put(st, buf_slice(&c->work));
	buf_consume(&c->part, used);
	return PG_OK;
}

enum pg_step pg_copy_data(struct pg *st, const struct pg_msg *m)
{
	struct pg_copy *c = st->copy;
	bool changed = false;
	size_t used;

	if (!c->known) {
		st->rows.over_cap++;
		return pg_drop(st, INSP_S2C, m);
	}
	if (c->fill || m->total - PG_HEAD > pg_row_max(st) - c->part.n)
		return pg_copy_fill(st, m);
	if (!m->whole)
		return PG_NEED;
	if (c->part.n) {
		if (buf_append_slice(&c->part, m->body))
			return pg_bad(st, TG_R_NO_MEMORY);
		return from_part(st, c);
	}
	used = rows_of(st, c, m->body, &changed);
	if (used == SIZE_MAX)
		return pg_bad(st, TG_R_PROTO_BAD);
	if (used == m->body.n && !changed)
		return pg_pass(st, INSP_S2C, m);
	pg_copy_put(st, buf_slice(&c->work));
	if (buf_append_slice(&c->part, slice_from(m->body, used)))
		return pg_bad(st, TG_R_NO_MEMORY);
	return PG_OK;
}

void pg_copy_end(struct pg *st)
{
	struct pg_copy *c = st->copy;

	if (!c)
		return;
	/* A row without its end does not pass: nobody can tell what it would have been. */
	if (c->part.n)
		st->rows.over_cap++;
	pg_copy_free(st);
}
