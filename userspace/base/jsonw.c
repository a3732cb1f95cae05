/* SPDX-License-Identifier: MIT */
#include "base/jsonw.h"

#include <errno.h>
#include <inttypes.h>

#include "base/text.h"

void jsonw_init(struct jsonw *w, struct buf *out, bool pretty)
{
	*w = (struct jsonw){.out = out, .pretty = pretty};
}

/* Records are written for every statement: the usual case is a check and a copy. */
static inline void put(struct jsonw *w, const void *p, size_t n)
{
	struct buf *b = w->out;

	if (likely(n && !w->bad && b->mem && n <= b->cap - b->off - b->n)) {
		memcpy(b->mem + b->off + b->n, p, n);
		b->n += n;
	} else if (!w->bad && buf_append(b, p, n)) {
		w->bad = true;
	}
}

static inline void put_str(struct jsonw *w, const char *s)
{
	put(w, s, strlen(s));
}

static void newline(struct jsonw *w)
{
	if (!w->pretty)
		return;
	put(w, "\n", 1);
	for (uint8_t i = 0; i < w->depth; i++)
		put(w, "    ", 4);
}

/* Whatever must stand before the next value or name. */
static void before(struct jsonw *w)
{
	if (w->named) {
		w->named = false;
		return;
	}
	if (w->depth == 0)
		return;
	if (w->some[w->depth - 1])
		put(w, ",", 1);
	w->some[w->depth - 1] = true;
	newline(w);
}

static void open_level(struct jsonw *w, const char *c)
{
	before(w);
	put(w, c, 1);
	if (w->depth == JSONW_DEPTH) {
		w->bad = true;
		return;
	}
	w->some[w->depth++] = false;
}

static void close_level(struct jsonw *w, const char *c)
{
	if (w->depth == 0) {
		w->bad = true;
		return;
	}
	w->depth--;
	if (w->some[w->depth])
		newline(w);
	put(w, c, 1);
	if (w->depth == 0 && w->pretty)
		put(w, "\n", 1);
}

void jsonw_object(struct jsonw *w)
{
	open_level(w, "{");
}

void jsonw_object_end(struct jsonw *w)
{
	close_level(w, "}");
}

void jsonw_array(struct jsonw *w)
{
	open_level(w, "[");
}

void jsonw_array_end(struct jsonw *w)
{
	close_level(w, "]");
}

static inline bool is_plain(uint8_t c)
{
	return c >= 0x20 && c < 0x7f && c != '"' && c != '\\';
}

/* In each of eight bytes the top bit where the byte has to be looked at. */
static inline uint64_t not_plain8(const uint8_t *p)
{
	const uint64_t ones = 0x0101010101010101u, tops = ones * 0x80;
	uint64_t x, quote, slash, del;

	memcpy(&x, p, sizeof(x));
	quote = x ^ ones * '"';
	slash = x ^ ones * '\\';
	del = x ^ ones * 0x7f;
	return (x | (x - ones * 0x20) | (quote - ones) | (slash - ones) | (del - ones)) & tops;
}

static void put_quoted(struct jsonw *w, struct slice s)
{
	size_t plain = 0;

	put(w, "\"", 1);
	while (plain < s.n) {
		uint8_t c = s.p[plain];
		size_t n = 1;
		char esc[8];

		if (s.n - plain >= 8 && !not_plain8(s.p + plain)) {
			plain += 8;
			continue;
		}
		if (likely(is_plain(c))) {
			plain++;
			continue;
		}
		if (c >= 0x80 && (n = utf8_length(slice_from(s, plain)))) {
			plain += n;
			continue;
		}
		put(w, s.p, plain);
		if (n == 0)
			put_str(w, "\\ufffd");
		else if (c == '"' || c == '\\')
			put(w, (char[]){'\\', (char)c}, 2);
		else if (c == '\n' || c == '\t' || c == '\r')
			put_str(w, c == '\n' ? "\\n" : c == '\t' ? "\\t" : "\\r");
		else
			put(w, esc, (size_t)snprintf(esc, sizeof(esc), "\\u%04x", c));
		s = slice_from(s, plain + 1);
		plain = 0;
	}
	put(w, s.p, s.n);
	put(w, "\"", 1);
}

void jsonw_name_n(struct jsonw *w, const char *name, size_t n)
{
	struct buf *b = w->out;

	/* In one piece where that is possible: records consist of such. */
	if (likely(!w->pretty && !w->bad && w->depth && b->mem && n + 4 <= b->cap - b->off - b->n)) {
		uint8_t *at = b->mem + b->off + b->n;

		if (w->some[w->depth - 1])
			*at++ = ',';
		w->some[w->depth - 1] = true;
		*at++ = '"';
		memcpy(at, name, n);
		at += n;
		*at++ = '"';
		*at++ = ':';
		b->n = (size_t)(at - b->mem) - b->off;
	} else {
		before(w);
		put(w, "\"", 1);
		put(w, name, n);
		put(w, "\": ", w->pretty ? 3 : 2);
	}
	w->named = true;
}

void jsonw_slice(struct jsonw *w, struct slice s)
{
	before(w);
	put_quoted(w, s);
}

void jsonw_members(struct jsonw *w, struct slice s)
{
	before(w);
	put(w, s.p, s.n);
}

void jsonw_string(struct jsonw *w, const char *s)
{
	if (s)
		jsonw_slice(w, slice_str(s));
	else
		jsonw_null(w);
}

void jsonw_u64(struct jsonw *w, uint64_t v)
{
	char num[20], *end = num + sizeof(num), *p = end;

	before(w);
	do
		*--p = (char)('0' + v % 10);
	while (v /= 10);
	put(w, p, (size_t)(end - p));
}

void jsonw_i64(struct jsonw *w, int64_t v)
{
	char num[24];

	before(w);
	put(w, num, (size_t)snprintf(num, sizeof(num), "%" PRId64, v));
}

void jsonw_bool(struct jsonw *w, bool v)
{
	before(w);
	put_str(w, v ? "true" : "false");
}

void jsonw_null(struct jsonw *w)
{
	before(w);
	put_str(w, "null");
}

int jsonw_end(struct jsonw *w)
{
	return w->bad || w->depth ? -EMSGSIZE : 0;
}
