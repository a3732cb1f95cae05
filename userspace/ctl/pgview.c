/* SPDX-License-Identifier: MIT */
#include "ctl/pgview.h"

#include <errno.h>

#include "base/cursor.h"
#include "base/text.h"
#include "ctl/ctl.h"

enum {
	HEAD = 5,	      /* type and length */
	HELD_MAX = 1 << 20,   /* a message over this is skipped */
	LENGTH_MAX = 1 << 30, /* nothing longer is a message */
	COLS_MAX = 40,	      /* columns of a result that are shown */
	CELL_WIDTH = 48,      /* characters of a value that are shown */
	CELL_TEXT = 4 * CELL_WIDTH + 8,
	TABLE_MAX = 8 << 20,
};

struct column {
	char name[64];
	uint32_t type;
	bool binary;
	unsigned width;
};

struct pgview {
	unsigned rows_max;
	struct buf held; /* the head, then the body, of the message that is coming */
	uint64_t skip;	 /* bytes of a message that is not looked at */

	struct column cols[COLS_MAX];
	unsigned ncols, ncols_all;
	struct buf cells; /* of the rows that are kept: text and NUL, in order */
	uint64_t kept, rows, lines;
	bool described; /* cols are those of the rows that come */
};

struct pgview *pgview_new(unsigned rows)
{
	struct pgview *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	v->rows_max = rows;
	buf_init(&v->held, HELD_MAX + HEAD);
	buf_init(&v->cells, TABLE_MAX);
	return v;
}

void pgview_free(struct pgview *v)
{
	if (!v)
		return;
	buf_done(&v->held);
	buf_done(&v->cells);
	free(v);
}

/* ------------------------------------------------------------- the values */

/* Characters, as most terminals count them. */
static unsigned width_of(const char *s)
{
	unsigned w = 0;

	for (; *s; s++)
		w += ((uint8_t)*s & 0xc0) != 0x80;
	return w;
}

/* @s escaped into at most CELL_WIDTH characters; @dst has CELL_TEXT bytes. */
static void shorten(struct slice s, char *dst)
{
	char *end = dst;
	unsigned w = 0;

	/* More than this cannot be shown; never in the middle of a sequence. */
	(void)out_escape(slice_of(s.p, min_size(s.n, 4 * CELL_WIDTH)), dst, CELL_TEXT);
	if (s.n <= CELL_WIDTH && width_of(dst) <= CELL_WIDTH)
		return;
	while (*end && (w < CELL_WIDTH - 3 || ((uint8_t)*end & 0xc0) == 0x80)) {
		w += ((uint8_t)*end & 0xc0) != 0x80;
		end++;
	}
	if (*end || s.n > 4 * CELL_WIDTH)
		memcpy(end, "...", 4);
}

/* Valid UTF-8 without a NUL: what PostgreSQL calls text. */
static bool is_text(struct slice s)
{
	while (s.n) {
		size_t n = utf8_length(s);

		if (n == 0 || !s.p[0])
			return false;
		s = slice_from(s, n);
	}
	return true;
}

/* As the numbers and booleans of the text format are. */
static bool is_plain(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= ' ' || s.p[i] > '~')
			return false;
	return s.n > 0;
}

enum {
	OID_BOOL = 16,
	OID_INT8 = 20,
	OID_INT2 = 21,
	OID_INT4 = 23,
	OID_OID = 26,
	OID_FLOAT4 = 700,
	OID_FLOAT8 = 701,
	OID_NUMERIC = 1700
};

static bool is_number(uint32_t type)
{
	return type == OID_INT8 || type == OID_INT2 || type == OID_INT4 || type == OID_OID ||
	       type == OID_FLOAT4 || type == OID_FLOAT8 || type == OID_NUMERIC;
}

/* Binary values of the simplest types; false for the others. */
static bool show_binary(uint32_t type, struct slice s, char *dst)
{
	uint64_t u = 0;
	double d;
	float f;

	if (s.n > 8)
		return false;
	for (size_t i = 0; i < s.n; i++)
		u = u << 8 | s.p[i];
	if (type == OID_BOOL && s.n == 1)
		(void)snprintf(dst, CELL_TEXT, "%s", u ? "t" : "f");
	else if (type == OID_INT2 && s.n == 2)
		(void)snprintf(dst, CELL_TEXT, "%d", (int16_t)u);
	else if (type == OID_INT4 && s.n == 4)
		(void)snprintf(dst, CELL_TEXT, "%d", (int32_t)u);
	else if (type == OID_OID && s.n == 4)
		(void)snprintf(dst, CELL_TEXT, "%u", (uint32_t)u);
	else if (type == OID_INT8 && s.n == 8)
		(void)snprintf(dst, CELL_TEXT, "%lld", (long long)u);
	else if (type == OID_FLOAT8 && s.n == 8) {
		memcpy(&d, &u, sizeof(d));
		(void)snprintf(dst, CELL_TEXT, "%.17g", d);
	} else if (type == OID_FLOAT4 && s.n == 4) {
		uint32_t bits = (uint32_t)u;

		memcpy(&f, &bits, sizeof(f));
		(void)snprintf(dst, CELL_TEXT, "%.9g", (double)f);
	} else {
		return false;
	}
	return true;
}

/*
 * The formats of a prepared statement's results are in the client's Bind, so
 * the description cannot be trusted: what does not look like text is none.
 */
static void show_value(const struct column *col, struct slice s, char *dst)
{
	char hex[2 * 16 + 1];

	if ((col->binary || !is_plain(s)) && show_binary(col->type, s, dst))
		return;
	if (is_text(s)) {
		shorten(s, dst);
		return;
	}
	text_hex(s.p, min_size(s.n, 16), hex);
	(void)snprintf(dst, CELL_TEXT, "\\x%s%s", hex, s.n > 16 ? "..." : "");
}

/* ------------------------------------------------------------- the table */

static int put_cell(struct buf *out, const char *s, const struct column *col, bool last)
{
	unsigned pad = col->width - width_of(s);

	if (is_number(col->type))
		return buf_printf(out, " %*s%s%s", (int)pad, "", s, last ? "\n" : " |");
	if (last)
		return buf_printf(out, " %s\n", s);
	return buf_printf(out, " %s%*s |", s, (int)pad, "");
}

static int put_rule(struct pgview *v, struct buf *out)
{
	int err = 0;

	for (unsigned i = 0; i < v->ncols && !err; i++) {
		for (unsigned w = 0; w < v->cols[i].width + 2 && !err; w++)
			err = buf_append(out, "-", 1);
		if (!err)
			err = buf_append(out, i + 1 < v->ncols ? "+" : "\n", 1);
	}
	return err;
}

static int put_table(struct pgview *v, struct buf *out)
{
	const char *cell = (const char *)buf_slice(&v->cells).p;
	int err = 0;

	for (unsigned i = 0; i < v->ncols && !err; i++)
		err = put_cell(out, v->cols[i].name, &v->cols[i], i + 1 == v->ncols);
	if (!err)
		err = put_rule(v, out);
	for (uint64_t row = 0; row < v->kept && !err; row++)
		for (unsigned i = 0; i < v->ncols && !err; i++) {
			err = put_cell(out, cell, &v->cols[i], i + 1 == v->ncols);
			cell += strlen(cell) + 1;
		}
	if (!err && v->ncols_all > v->ncols)
		err = buf_printf(out, "(%u more columns are not shown)\n", v->ncols_all - v->ncols);
	return err;
}

/* The result so far, and begin anew; an empty one only if it is @complete. */
static int flush(struct pgview *v, bool complete, struct buf *out)
{
	int err = 0;

	if (v->ncols && (v->kept || (complete && v->described && !v->rows)))
		err = put_table(v, out);
	if (!err && v->rows > v->kept)
		err = buf_printf(out, "(%llu more rows are not shown)\n",
				 (unsigned long long)(v->rows - v->kept));
	if (!err && v->lines > v->rows_max)
		err = buf_printf(out, "(%llu more lines are not shown)\n",
				 (unsigned long long)(v->lines - v->rows_max));
	v->kept = v->rows = v->lines = 0;
	v->described = false;
	buf_reset(&v->cells);
	for (unsigned i = 0; i < v->ncols; i++)
		v->cols[i].width = width_of(v->cols[i].name);
	return err;
}

static int on_description(struct pgview *v, struct cursor *c, struct buf *out)
{
	unsigned n = cur_be16(c);
	int err = flush(v, false, out);

	v->ncols_all = n;
	v->ncols = (unsigned)min_size(n, COLS_MAX);
	for (unsigned i = 0; i < v->ncols; i++) {
		struct column *col = &v->cols[i];

		(void)out_escape(cur_cstr(c), col->name, sizeof(col->name));
		(void)cur_take(c, 6);
		col->type = cur_be32(c);
		(void)cur_take(c, 6);
		col->binary = cur_be16(c) == 1;
		col->width = width_of(col->name);
	}
	v->described = !c->bad;
	if (c->bad)
		v->ncols = 0;
	return err;
}

/*
 * Rows without a description of theirs: the statement was described earlier, and
 * the last description may be another's, so the columns only have numbers.
 */
static void invent_columns(struct pgview *v, unsigned n)
{
	v->ncols_all = n;
	v->ncols = (unsigned)min_size(n, COLS_MAX);
	for (unsigned i = 0; i < v->ncols; i++) {
		v->cols[i] = (struct column){.type = 0};
		(void)snprintf(v->cols[i].name, sizeof(v->cols[i].name), "%u", i + 1);
		v->cols[i].width = width_of(v->cols[i].name);
	}
}

static int on_row(struct pgview *v, struct cursor *c)
{
	unsigned n = cur_be16(c);
	size_t before = v->cells.n;
	int err = 0;

	if ((!v->described || n != v->ncols_all) && !v->rows)
		invent_columns(v, n);
	v->rows++;
	if (v->kept >= v->rows_max || n != v->ncols_all)
		return 0;
	for (unsigned i = 0; i < v->ncols && !err; i++) {
		uint32_t len = cur_be32(c);
		char text[CELL_TEXT];

		if (len == UINT32_MAX)
			(void)snprintf(text, sizeof(text), "NULL");
		else
			show_value(&v->cols[i], cur_take(c, len), text);
		v->cols[i].width = (unsigned)max_size(v->cols[i].width, width_of(text));
		err = buf_append(&v->cells, text, strlen(text) + 1);
	}
	if (err || c->bad) {
		v->cells.n = before; /* counted, not shown */
		return err == -EMSGSIZE ? 0 : err;
	}
	v->kept++;
	return 0;
}

/* ----------------------------------------------------------- the messages */

static int put_text(struct buf *out, const char *what, struct slice s)
{
	char text[1024];

	(void)out_escape(s, text, sizeof(text));
	return buf_printf(out, "%s%s\n", what, text);
}

/* ErrorResponse and NoticeResponse. */
static int on_error(struct pgview *v, struct cursor *c, struct buf *out)
{
	static const struct {
		char field;
		const char *title;
	} rest[] = {{'D', "  DETAIL: "}, {'H', "  HINT: "}, {'W', "  CONTEXT: "}};
	struct slice field[128] = {{NULL, 0}};
	char severity[32], code[16], message[1024];
	int err = flush(v, false, out);
	uint8_t name;

	while ((name = cur_u8(c)) && !c->bad)
		field[name & 127] = cur_cstr(c);
	(void)out_escape(field['V'].n ? field['V'] : field['S'], severity, sizeof(severity));
	(void)out_escape(field['C'], code, sizeof(code));
	(void)out_escape(field['M'], message, sizeof(message));
	if (!err)
		err = buf_printf(out, "%s %s: %s\n", severity, code, message);
	for (size_t i = 0; i < ARRAY_SIZE(rest) && !err; i++)
		if (field[(uint8_t)rest[i].field].n)
			err = put_text(out, rest[i].title, field[(uint8_t)rest[i].field]);
	return err;
}

static int on_notification(struct cursor *c, struct buf *out)
{
	uint32_t pid = cur_be32(c);
	char channel[64], payload[512];

	(void)out_escape(cur_cstr(c), channel, sizeof(channel));
	(void)out_escape(cur_cstr(c), payload, sizeof(payload));
	return buf_printf(out, "notification on %s from %u: %s\n", channel, pid, payload);
}

static int on_copy_data(struct pgview *v, struct slice body, struct buf *out)
{
	char text[CELL_TEXT];

	if (v->lines++ >= v->rows_max)
		return 0;
	while (body.n && (body.p[body.n - 1] == '\n' || body.p[body.n - 1] == '\r'))
		body.n--;
	if (!is_text(body))
		return buf_printf(out, "(%zu bytes)\n", body.n);
	shorten(body, text);
	return buf_printf(out, "%s\n", text);
}

static int on_complete(struct pgview *v, struct cursor *c, struct buf *out)
{
	int err = flush(v, true, out);

	return err ? err : put_text(out, "", cur_cstr(c));
}

static int on_message(struct pgview *v, uint8_t type, struct slice body, struct buf *out)
{
	struct cursor c = cur_of(body);
	bool described;
	int err;

	switch (type) {
	case 'T':
		return on_description(v, &c, out);
	case 'D':
		return on_row(v, &c);
	case 'C':
		return on_complete(v, &c, out);
	case 'E':
	case 'N':
		return on_error(v, &c, out);
	case 'A':
		return on_notification(&c, out);
	case 'I':
		return buf_printf(out, "(empty query)\n");
	case 's':
		described = v->described; /* more rows of the same may come */
		err = flush(v, true, out);
		v->described = described;
		return err ? err : buf_printf(out, "(portal suspended)\n");
	case 'V':
		return buf_printf(out, "(function result of %zu bytes)\n", body.n);
	case 'G':
		return buf_printf(out, "(the client copies in)\n");
	case 'H':
	case 'W':
		return buf_printf(out, "(the server copies out)\n");
	case 'd':
		return on_copy_data(v, body, out);
	default:
		return 0;
	}
}

static bool plausible(const uint8_t *head)
{
	uint32_t len = load_be32(head + 1);

	/* Of the protocol's messages from the server (PostgreSQL 15, chapter 55.7). */
	return head[0] && strchr("RKSZCDTEHGdcWANIn123tsVv", head[0]) && len >= 4 &&
	       len <= LENGTH_MAX;
}

/* A body too long to be held: its row or line is counted. */
static int on_long(struct pgview *v, uint8_t type, uint32_t len, struct buf *out)
{
	if (type == 'D')
		v->rows++;
	if (type == 'd')
		v->lines++;
	return buf_printf(out, "(a message of %u bytes is not shown)\n", len);
}

/* The head is in held: 1 if its body is wanted there. */
static int on_head(struct pgview *v, struct buf *out)
{
	const uint8_t *head = buf_data(&v->held);
	uint32_t len;
	uint8_t type;
	int err = 0;

	/*
	 * The answer to an SSLRequest is a single byte, and where something was
	 * left out the stream begins anew: byte by byte to what can be a message.
	 */
	if (!plausible(head)) {
		buf_consume(&v->held, 1);
		return 0;
	}
	len = load_be32(head + 1) - 4;
	type = head[0];
	if (len <= HELD_MAX)
		return 1;
	v->skip = len;
	err = on_long(v, type, len, out);
	buf_reset(&v->held);
	return err;
}

int pgview_feed(struct pgview *v, struct slice in, struct buf *out)
{
	while (in.n) {
		size_t want = HEAD, take;
		int err;

		if (v->skip) {
			take = min_size(v->skip, in.n);
			v->skip -= take;
			in = slice_from(in, take);
			continue;
		}
		if (v->held.n >= HEAD)
			want = HEAD + load_be32(buf_data(&v->held) + 1) - 4;
		take = min_size(want - v->held.n, in.n);
		err = buf_append(&v->held, in.p, take);
		if (err)
			return err;
		in = slice_from(in, take);
		if (want == HEAD && v->held.n == HEAD) {
			err = on_head(v, out);
			if (err < 0)
				return err;
			if (err)
				want = HEAD + load_be32(buf_data(&v->held) + 1) - 4;
		}
		if (v->held.n < HEAD || v->held.n < want)
			continue;
		err = on_message(v, *buf_data(&v->held), slice_from(buf_slice(&v->held), HEAD),
				 out);
		if (err)
			return err;
		buf_reset(&v->held);
	}
	return 0;
}

int pgview_end(struct pgview *v, struct buf *out)
{
	return flush(v, false, out);
}
