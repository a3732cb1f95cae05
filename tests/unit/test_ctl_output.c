/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/text.h"
#include "ctl/ctl.h"

static const struct {
	const char *in, *out;
	size_t cap;
} escapes[] = {
	{"", "", 1},
	{"", "", 10},
	{"a", "", 1},
	{"abc", "abc", 4},
	{"abcd", "...", 4},
	{"abcdef", "ab...", 6},
	{"abcde", "abcde", 6},
	{"ab", "", 2},
	{"\x1b[31m", "\\x1b[31m", 20},
	{"a\x1b\x1b", "a\\x1b...", 9},
	{"a\x1b\x1b", "a...", 8},
	{"\xc2\x9b", "\\xc2\\x9b", 20},
	{"\xff", "\\xff", 20},
	{"h\xc3\xa9", "h\xc3\xa9", 20},
	{"h\xc3\xa9xxx", "h...", 6},
	{"x\xe2\x80\xaey", "x\\xe2\\x80\\xaey", 40},			/* right-to-left override */
	{"x\xe2\x80\x8by", "x\\xe2\\x80\\x8by", 40},			/* zero width space */
	{"x\xd8\x9cy", "x\\xd8\\x9cy", 40},			/* Arabic letter mark */
	{"x\xf3\xa0\x81\xa1y", "x\\xf3\\xa0\\x81\\xa1y", 40},	/* tag of a letter */
	{"x\xef\xbb\xbfy", "x\\xef\\xbb\\xbfy", 40},			/* byte order mark */
	{"\xe2\x82\xac \xe6\xbc\xa2", "\xe2\x82\xac \xe6\xbc\xa2", 40}, /* printable: as it is */
};

static void test_escape(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(escapes); i++) {
		/* Of its exact size, so that the sanitizer sees a write behind it. */
		char *dst = malloc(escapes[i].cap);
		size_t n;

		assert_non_null(dst);
		n = out_escape(slice_str(escapes[i].in), dst, escapes[i].cap);
		assert_string_equal(dst, escapes[i].out);
		assert_int_equal(n, strlen(escapes[i].out));
		free(dst);
	}
}

static const struct {
	uint64_t ms;
	const char *out;
} durations[] = {
	{0, "0s"},
	{999, "0s"},
	{59999, "59s"},
	{60000, "1m"},
	{61000, "1m1s"},
	{599000, "9m59s"},
	{600000, "10m"},
	{659000, "10m"},
	{3600000, "1h"},
	{7860000, "2h11m"},
	{86400000, "1d"},
	{90000000, "1d1h"},
	{864000000 + 3600000, "10d"},
};

static void test_duration(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(durations); i++) {
		char dst[24];

		out_duration(durations[i].ms, dst, sizeof(dst));
		assert_string_equal(dst, durations[i].out);
	}
}

static const struct {
	const char *in;
	uint64_t ms; /* 0: refused */
	const char *back;
} times[] = {
	{"1970-01-01T00:00:01.500Z", 1500, NULL},
	{"2026-01-31T12:00:00.000Z", 1769860800000, NULL},
	{"2026-01-31T12:00:00Z", 1769860800000, "2026-01-31T12:00:00.000Z"},
	{"2024-02-29T23:59:59.999Z", 1709251199999, NULL},
	{"", 0, NULL},
	{"2026-01-31", 0, NULL},
	{"2026-02-29T12:00:00Z", 0, NULL},
	{"2026-01-31T12:00:00", 0, NULL},
	{"2026-01-31T12:00:00+00:00", 0, NULL},
	{"2026-01-31 12:00:00Z", 0, NULL},
	{"2026-13-31T12:00:00Z", 0, NULL},
	{"2026-01-31T24:00:00Z", 0, NULL},
	{"2026-01-31T12:00:00.00Z", 0, NULL},
	{"2026-01-31T12:00:00.0000Z", 0, NULL},
	{"2026-01-31T12:00:00.12xZ", 0, NULL},
	{"+026-01-31T12:00:00.000Z", 0, NULL},
};

static void test_time(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(times); i++) {
		uint64_t ns = 7;
		char back[32];
		int rc = text_parse_time(slice_str(times[i].in), &ns);

		if (times[i].ms == 0) {
			assert_int_not_equal(rc, 0);
			assert_int_equal(ns, 7);
			continue;
		}
		assert_int_equal(rc, 0);
		assert_int_equal(ns, times[i].ms * 1000000);
		text_time(ns, back, sizeof(back));
		assert_string_equal(back, times[i].back ? times[i].back : times[i].in);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_escape),
		cmocka_unit_test(test_duration),
		cmocka_unit_test(test_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
