/* SPDX-License-Identifier: MIT */
/* Skeletons: which texts are the same shape, and which only look like it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "guard.h"
#include "inspect/sql/lexer.h"

/* Marks as digits after '#', spaces as they are. */
static void skeleton_text(struct slice text, char *dst, size_t cap, struct sql_skeleton *ret)
{
	void *handle;
	uint8_t *p = guard_copy(text, &handle), out[512];
	size_t n = 0;

	assert_true(text.n <= sizeof(out));
	sql_skeleton(slice_of(p, text.n), out, ret);
	assert_true(ret->n <= text.n);
	for (size_t i = 0; i < ret->n && n + 3 < cap; i++) {
		if (out[i] <= SQL_MARK_HEX) {
			dst[n++] = '#';
			dst[n++] = (char)('0' + out[i]);
		} else {
			dst[n++] = (char)out[i];
		}
	}
	dst[n] = 0;
	guard_free(handle);
}

struct row {
	const char *text, *skeleton;
};

static void check(const struct row *rows, size_t n, bool exact)
{
	for (size_t i = 0; i < n; i++) {
		struct sql_skeleton k;
		char text[1024];

		skeleton_text(slice_str(rows[i].text), text, sizeof(text), &k);
		if (strcmp(text, rows[i].skeleton) != 0 || k.exact != exact)
			fail_msg("%s: %s (%s)", rows[i].text, text, k.exact ? "exact" : "inexact");
	}
}

static void test_skeletons(void **state)
{
	static const struct row rows[] = {
		{"", ""},
		{"SELECT 1", "select #1"},
		{"select  \t\n 2 ", "select #1 "},
		{"SELECT 2147483647, 2147483648, 0002147483647", "select #1, #2, #1"},
		{"SELECT 1.5, .5, 1., 1e5, 1E-5", "select #2, #2, #2, #2, #2"},
		{"SELECT 1..2", "select #1.#2"},
		{"SELECT 'a', 'it''s', ''", "select #3, #3, #3"},
		{"SELECT 'a'\n  'b' , 'c'", "select #3 , #3"},
		{"SELECT 'a' 'b'", "select #3 #3"},
		{"SELECT 'a' -- x\n'b'", "select #3"},
		{"SELECT 'a' /* x */\n'b'", "select #3 #3"},
		{"SELECT 'a\\'", "select #3"},
		{"SELECT E'a\\nb', e'\\\\'", "select #3, #3"},
		{"SELECT B'01', x'FF', N'a'", "select #4, #5, n#3"},
		{"SELECT u & 'a'", "select u & #3"},
		{"SELECT $$a'b$$, $x$ $$ $y$ $x$", "select #3, #3"},
		{"SELECT $a$ $ a$ $$a$", "select #3"},
		{"SELECT a$$b$$", "select a$$b$$"},
		{"SELECT 1$$b$$", "select #1#3"},
		{"SELECT $1, $22", "select $1, $22"},
		{"SELECT \"A \"\"b\", Ab, \xc3\x84", "select \"A \"\"b\", ab, \xc3\x84"},
		{"SELECT a.b.*, t.5", "select a.b.*, t#2"},
		{"SELECT a--b\n-1", "select a -#1"},
		{"SELECT a-/*b*/-1", "select a- -#1"},
		{"SELECT a/* /* */ b */c", "select a c"},
		{"SELECT a/*/ b */c", "select a c"},
		{"SELECT a/**/b", "select a b"},
		{"SELECT a*/b", "select a*/b"},
		{"SELECT a //* x */b", "select a / b"},
		{"SELECT a::int[1] <=> b", "select a::int[#1] <=> b"},
		{"SELECT be'a'", "select be#3"},
		{"SELECT e 'a'", "select e #3"},
	};

	check(rows, ARRAY_SIZE(rows), true);
}

/* Left to the parser. */
static void test_no_skeletons(void **state)
{
	static const struct row rows[] = {
		{"SELECT 1e", "select #1e"},
		{"SELECT \"\001\"", "select \"#1\""},
		{"SELECT 'a password=b'", "select #3"},
		{"SELECT 'a://b:c@d'", "select #3"},
		{"SELECT 1a", "select #1a"},
		{"SELECT 1_000", "select #1_000"},
		{"SELECT 0x1f", "select #1x1f"},
		{"SELECT E'a\\'b'", "select #3"},
		{"SELECT E'\\x41'", "select #3"},
		{"SELECT E'\\u0041'", "select #3"},
		{"SELECT U&'a'", "select #3"},
		{"SELECT U&\"a\"", "select \"a\""},
		{"SELECT $1a", "select $1a"},
		{"SELECT $12345678", "select $12345678"},
		{"SELECT $a", "select $a"},
		{"SELECT $a$", "select "},
		{"SELECT a /* b", "select a "},
		{"SELECT 'a", "select "},
		{"SELECT \"a", "select \"a"},
		{"SELECT {a}", "select {a}"},
		{"SELECT a\vb", "select a\vb"},
	};

	check(rows, ARRAY_SIZE(rows), false);
}

/* Every way to end too early, at the end of mapped memory. */
static void test_cut_anywhere(void **state)
{
	static const char text[] = "SELECT 'a''b'\n'c', E'\\n\\'x', $q$ $z$ $q$, \"d\"\"\", 1.5e-3, b'0' "
				   "/* /* */ */ -- e\n, u&'f' UESCAPE '!', $1, n'g' ";
	struct sql_skeleton k;
	char out[1024];

	for (size_t n = 0; n < sizeof(text); n++)
		skeleton_text(slice_of(text, n), out, sizeof(out), &k);
	assert_false(k.exact);
}

static void test_bytes(void **state)
{
	static const struct {
		struct slice text;
		bool nul, high, backslash;
	} rows[] = {
		{SLICE_LIT("SELECT 1"), false, false, false},
		{SLICE_LIT("SELECT 1\0"), true, false, false},
		{SLICE_LIT("SELECT '\0'"), true, false, false},
		{SLICE_LIT("SELECT '0123456789\xc3\xa4'"), false, true, false},
		{SLICE_LIT("SELECT 1 -- \x80"), false, true, false},
		{SLICE_LIT("SELECT '\\'"), false, false, true},
		{SLICE_LIT("SELECT E'\\n'"), false, false, false},
		{SLICE_LIT("SELECT $$\\$$"), false, false, false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct sql_skeleton k;
		char out[1024];

		skeleton_text(rows[i].text, out, sizeof(out), &k);
		assert_int_equal(k.nul, rows[i].nul);
		assert_int_equal(k.high, rows[i].high);
		assert_int_equal(k.backslash, rows[i].backslash);
		assert_true(!k.nul || !k.exact);
	}
}

static void test_blanked_comments(void **state)
{
	static const struct row rows[] = {
		{"SELECT 1", "SELECT 1"},
		{"a/* b */c", "a       c"},
		{"a-- b\nc--d", "a    \nc   "},
		{"/* /* a */ b */c", "               c"},
		{"'--' \"/*\" $$--$$ E'\\'--'", "'--' \"/*\" $$--$$ E'\\'--'"},
		/* one comment keeps them apart, the other joins them */
		{"'a' /* b *//**/\n'c'", "'a' /**/       \n'c'"},
		{"'a' -- b\n'c'", "'a'     \n'c'"},
		{"a /* b", "a /*  "},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct slice text = slice_str(rows[i].text);
		void *in, *out;
		uint8_t *p = guard_copy(text, &in), *copy = guard_copy(text, &out);

		sql_blank_comments(slice_of(p, text.n), copy);
		if (!slice_eq_str(slice_of(copy, text.n), rows[i].skeleton))
			fail_msg("%s: %.*s", rows[i].text, (int)text.n, copy);
		guard_free(in);
		guard_free(out);
	}
}

static void test_strings(void **state)
{
	static const char text[] =
		"ALTER ROLE \"pass'word\" password 'a' x 'b' PASSWORD /* c */ $$d$$ password 1 'e' "
		"my_password => E'f\\'g' \"Password\" = 'h'\n'i'";
	static const struct {
		const char *inside;
		bool follows;
	} want[] = {{"a", true},  {"b", false},	    {"d", true},
		    {"e", false}, {"f\\'g", true}, {"h'\n'i", true}};
	struct sql_strings it = {.text = slice_str(text), .word = "password"};

	for (size_t i = 0; i < ARRAY_SIZE(want); i++) {
		assert_true(sql_strings_next(&it));
		assert_true(slice_eq_str(slice_of(text + it.off, it.n), want[i].inside));
		assert_int_equal(it.follows, want[i].follows);
	}
	assert_false(sql_strings_next(&it));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_skeletons),
		cmocka_unit_test(test_no_skeletons),
		cmocka_unit_test(test_cut_anywhere),
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_blanked_comments),
		cmocka_unit_test(test_strings),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
