/* SPDX-License-Identifier: MIT */
/*
 * A text is classified three ways that must agree: through the cache that
 * all inputs share, without a cache, and as the text that its skeleton stands for
 * (the same but for the values of its constants). The first byte is the lexer's setting.
 */
#include <stdlib.h>
#include <unistd.h>

#include "../unit/sqlcmp.h"
#include "inspect/sql/lexer.h"
#include "inspect/sql/sql.h"

enum { MAX_TEXT = 64 * 1024 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *stand_in(uint8_t mark)
{
	switch (mark) {
	case SQL_MARK_INT:
		return " 1"; /* may stand right behind a word: a.5 */
	case SQL_MARK_FLOAT:
		return " 1.5";
	case SQL_MARK_STRING:
		return "'x'";
	case SQL_MARK_BITS:
		return "b'1'";
	case SQL_MARK_HEX:
		return "x'1'";
	default:
		return NULL;
	}
}

/* A text with this skeleton. */
static size_t text_of(const uint8_t *skeleton, size_t n, uint8_t *dst)
{
	uint8_t *p = dst;

	for (size_t i = 0; i < n; i++) {
		const char *s = stand_in(skeleton[i]);

		if (s) {
			memcpy(p, s, strlen(s));
			p += strlen(s);
		} else {
			*p++ = skeleton[i];
		}
	}
	return (size_t)(p - dst);
}

static void must_agree(const struct sql_info *a, const struct sql_info *b, const char *what)
{
	const char *differs = sql_info_differs(a, b);

	if (!differs)
		return;
	(void)dprintf(STDERR_FILENO, "%s: %s\n", what, differs);
	abort();
}

static void check_shape(struct sql *fresh, struct slice text, const struct sql_info *info,
			uint32_t lexer)
{
	uint8_t *skeleton = malloc(text.n + 1), *dst = malloc(4 * text.n + 1);
	const struct sql_info *other;
	struct sql_skeleton k;

	if (!skeleton || !dst)
		abort();
	sql_skeleton(text, skeleton, &k);
	if (k.exact && !(info->effects & SQL_UNKNOWN) && !(info->flags & SQL_F_LITERALS)) {
		other = sql_classify(fresh, slice_of(dst, text_of(skeleton, k.n, dst)), lexer);
		must_agree(info, other, "its shape's text");
		sql_info_unref(other);
	}
	free(skeleton);
	free(dst);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct sql *shared, *fresh;
	static const struct sql_limits none = {.cache_bytes = 1};
	const struct sql_info *a, *b, *again;
	struct slice text;
	uint32_t lexer;

	if (size < 1 || size > MAX_TEXT)
		return 0;
	if (!shared && (sql_new(NULL, &shared) < 0 || sql_new(&none, &fresh) < 0))
		abort();
	lexer = data[0] & (SQL_LEX_BACKSLASH | SQL_LEX_UNSAFE);
	text = slice_of(data + 1, size - 1);
	a = sql_classify(fresh, text, lexer);
	b = sql_classify(shared, text, lexer);
	again = sql_classify(shared, text, lexer);
	/* What one constant's value spoils may have been found by its shape. */
	if (!a->error.n)
		must_agree(a, b, "the cache");
	must_agree(b, again, "the second time");
	for (unsigned i = 0; i < a->nsecrets; i++)
		if (a->secrets[i].off > text.n || a->secrets[i].n > text.n - a->secrets[i].off)
			abort();
	check_shape(fresh, text, a, lexer);
	sql_info_unref(a);
	sql_info_unref(b);
	sql_info_unref(again);
	return 0;
}
