/* SPDX-License-Identifier: MIT */
/*
 * What leaves the program: JSON documents, text and errors. Whatever comes
 * from a peer, an agent or the daemon passes out_escape() before a terminal sees it.
 */
#include "ctl/ctl.h"

#include <errno.h>
#include <stdarg.h>

#include "base/jsonw.h"
#include "base/text.h"

enum { ERROR_TEXT = 4096 };

static const struct {
	const char *code;
	enum ctl_exit exit;
} exits[] = {
	{"usage", CTL_USAGE},
	{"no_daemon", CTL_NO_DAEMON},
	{"permission", CTL_DENIED},
};

size_t out_escape(struct slice s, char *dst, size_t cap)
{
	static const char cut[] = "...";
	size_t o = 0, room = 0; /* room: the longest that has place for the mark */

	while (s.n) {
		struct slice one = slice_of(s.p, utf8_length(s));
		char esc[20];
		size_t n;

		if (one.n == 0)
			one.n = 1;
		n = text_escape(one, esc, sizeof(esc));
		if (n >= cap - o) {
			/* What is cut must not look whole. */
			o = room;
			if (cap >= sizeof(cut))
				o += text_escape(SLICE_LIT("..."), dst + o, cap - o);
			break;
		}
		memcpy(dst + o, esc, n);
		o += n;
		if (o + sizeof(cut) <= cap)
			room = o;
		s = slice_from(s, one.n);
	}
	dst[o] = '\0';
	return o;
}

void out_escaped(struct slice s)
{
	while (s.n) {
		char part[512];
		struct slice head = slice_of(s.p, min_size(s.n, 64));

		/* Not in the middle of a sequence, unless it is none anyway. */
		for (int i = 0; i < 3 && head.n < s.n && (s.p[head.n] & 0xc0) == 0x80; i++)
			head.n++;
		(void)out_escape(head, part, sizeof(part));
		(void)fputs(part, stdout);
		s = slice_from(s, head.n);
	}
}

void out_text(const struct ctl *c, const char *fmt, ...)
{
	va_list ap;

	if (c->json)
		return;
	va_start(ap, fmt);
	(void)vprintf(fmt, ap);
	va_end(ap);
}

/* A character that JSON lets stand but a terminal acts on: its length and code point, or 0. */
static size_t acts(struct slice s, uint32_t *ret)
{
	size_t n = text_hides(s, ret);

	if (n)
		return n;
	if (s.p[0] == 0x7f)
		*ret = s.p[0];
	else if (s.p[0] == 0xc2 && s.n > 1 && s.p[1] >= 0x80 && s.p[1] < 0xa0)
		*ret = s.p[1];
	else
		return 0;
	return s.p[0] == 0x7f ? 1 : 2;
}

/* Such characters can occur in strings only, so they are escaped in the finished text. */
static void put_json(struct slice s)
{
	size_t plain = 0;

	while (plain < s.n) {
		uint32_t cp = 0;
		size_t n = acts(slice_from(s, plain), &cp);

		if (n == 0) {
			plain++;
			continue;
		}
		(void)fwrite(s.p, 1, plain, stdout);
		if (cp > 0xffff)
			(void)printf("\\u%04x", 0xd800 | (cp - 0x10000) >> 10);
		(void)printf("\\u%04x", cp > 0xffff ? 0xdc00 | (cp & 0x3ff) : cp);
		s = slice_from(s, plain + n);
		plain = 0;
	}
	(void)fwrite(s.p, 1, s.n, stdout);
}

void out_inline(const json_t *v)
{
	char *text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);

	put_json(slice_str(text ? text : "null"));
	free(text);
}

int out_json_text(struct ctl *c, struct slice text)
{
	while (text.n && text.p[text.n - 1] == '\n')
		text.n--;
	put_json(text);
	if (!c->batch_array)
		(void)putchar('\n');
	c->documents++;
	return ferror(stdout) ? CTL_FAILED : CTL_OK;
}

int out_json(struct ctl *c, const json_t *v)
{
	size_t flags = JSON_ENCODE_ANY | (c->pretty ? JSON_INDENT(4) : JSON_COMPACT);
	char *text = json_dumps(v, flags);
	int rc;

	if (!text)
		return out_error(c, "failed", NULL, "out of memory");
	rc = out_json_text(c, slice_str(text));
	free(text);
	return rc;
}

static void error_json(struct ctl *c, const char *code, const char *hint, const char *text)
{
	struct buf out;
	struct jsonw w;

	buf_init(&out, 8 * ERROR_TEXT);
	jsonw_init(&w, &out, c->pretty);
	jsonw_object(&w);
	jsonw_name(&w, "error");
	jsonw_object(&w);
	jsonw_kv_string(&w, "code", code);
	jsonw_kv_string(&w, "message", text);
	if (hint && *hint)
		jsonw_kv_string(&w, "hint", hint);
	jsonw_object_end(&w);
	jsonw_object_end(&w);
	if (jsonw_end(&w) == 0)
		(void)out_json_text(c, buf_slice(&out));
	buf_done(&out);
}

/* A message of several lines (all errors of a file) keeps them. */
static void error_text(const char *head, const char *text)
{
	char esc[ERROR_TEXT * 2];

	(void)fputs(head, stderr);
	for (bool more = true; more;) {
		const char *nl = strchr(text, '\n');
		size_t n = nl ? (size_t)(nl - text) : strlen(text);

		(void)out_escape(slice_of(text, n), esc, sizeof(esc));
		(void)fprintf(stderr, "%s\n", esc);
		more = nl && nl[1];
		text = nl ? nl + 1 : text;
	}
}

int out_error(struct ctl *c, const char *code, const char *hint, const char *fmt, ...)
{
	char text[ERROR_TEXT];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (c->json) {
		error_json(c, code, hint, text);
	} else {
		(void)fflush(stdout);
		error_text("Error: ", text);
		if (hint && *hint)
			error_text("Hint: ", hint);
	}
	for (size_t i = 0; i < ARRAY_SIZE(exits); i++)
		if (strcmp(exits[i].code, code) == 0)
			return (int)exits[i].exit;
	return CTL_FAILED;
}
