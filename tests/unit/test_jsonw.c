/* SPDX-License-Identifier: MIT */
/* The JSON writer: every byte in every place is escaped, or not, as it alone would be. */
#include "base/jsonw.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

enum { LEN = 19 };

static struct slice quoted(struct buf *b, struct slice s)
{
	struct jsonw w;

	buf_reset(b);
	jsonw_init(&w, b, false);
	jsonw_slice(&w, s);
	assert_int_equal(jsonw_end(&w), 0);
	return buf_slice(b);
}

static void test_bytes(void **state)
{
	struct buf alone, all;

	(void)state;
	buf_init(&alone, 4096);
	buf_init(&all, 4096);
	for (unsigned c = 0; c < 256; c++) {
		uint8_t one = (uint8_t)c, text[LEN];
		struct slice esc = quoted(&alone, slice_of(&one, 1));

		esc = slice_of(esc.p + 1, esc.n - 2);
		for (size_t at = 0; at < LEN; at++) {
			struct slice got;

			memset(text, 'a', sizeof(text));
			text[at] = one;
			got = quoted(&all, slice_of(text, sizeof(text)));
			assert_int_equal(got.n, LEN - 1 + esc.n + 2);
			for (size_t i = 0; i < LEN - 1; i++)
				assert_int_equal(got.p[1 + i + (i < at ? 0 : esc.n)], 'a');
			assert_memory_equal(got.p + 1 + at, esc.p, esc.n);
		}
	}
	buf_done(&alone);
	buf_done(&all);
}

static void test_members(void **state)
{
	struct jsonw w;
	struct buf b;

	(void)state;
	buf_init(&b, 4096);
	jsonw_init(&w, &b, false);
	jsonw_object(&w);
	jsonw_members(&w, SLICE_LIT("\"a\": 1,\"b\": [2]"));
	jsonw_kv_u64(&w, "c", 3);
	jsonw_members(&w, SLICE_LIT("\"d\": 4"));
	jsonw_object_end(&w);
	assert_int_equal(jsonw_end(&w), 0);
	assert_true(slice_eq_str(buf_slice(&b), "{\"a\": 1,\"b\": [2],\"c\":3,\"d\": 4}"));
	buf_done(&b);
}

/* What is absent is empty: nothing is read from where it would be. */
static void test_absent(void **state)
{
	struct slice absent = {.p = NULL, .n = 0};
	struct buf b;

	(void)state;
	buf_init(&b, 4096);
	assert_int_equal(buf_append(&b, "x", 1), 0);
	assert_true(slice_eq_str(quoted(&b, absent), "\"\""));
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_members),
		cmocka_unit_test(test_absent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
