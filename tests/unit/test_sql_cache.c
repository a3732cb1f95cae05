/* SPDX-License-Identifier: MIT */
/* The cache changes the cost of an answer, never the answer; and what is known of functions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "inspect/sql/functions.h"
#include "inspect/sql/sql.h"
#include "sqlcmp.h"

static struct sql *classifier(const struct sql_limits *limits)
{
	struct sql *s;

	assert_int_equal(sql_new(limits, &s), 0);
	return s;
}

static struct sql_stats stats_of(const struct sql *s)
{
	struct sql_stats stats;

	sql_get_stats(s, &stats);
	return stats;
}

static const struct sql_info *ask(struct sql *s, const char *text)
{
	return sql_classify(s, slice_str(text), SQL_LEX_STANDARD);
}

static void test_same_shape(void **state)
{
	static const char *const texts[] = {
		"SELECT a FROM t WHERE b = 'x' AND c = 1",
		"select a from T where b = 'it''s' and c = 99",
		"SELECT a FROM t /* x */ WHERE b = $$x$$ AND c = 3",
		"SELECT a\nFROM t WHERE b = E'x\\n' AND c = 0",
	};
	struct sql *s = classifier(NULL);
	const struct sql_info *first = ask(s, texts[0]);

	for (size_t i = 1; i < ARRAY_SIZE(texts); i++) {
		const struct sql_info *info = ask(s, texts[i]);

		assert_ptr_equal(info, first);
		sql_info_unref(info);
	}
	assert_int_equal(stats_of(s).hits, ARRAY_SIZE(texts) - 1);
	assert_int_equal(stats_of(s).misses, 1);
	sql_info_unref(first);
	sql_free(s);
}

/* Pairs of which the one must not be answered with the other's info. */
static void test_other_shape(void **state)
{
	static const char *const pairs[][2] = {
		{"SELECT 1", "SELECT '1'"},
		{"SELECT 'a'", "SELECT \"a\""},
		{"SELECT 1", "SELECT 1.0"},
		{"SELECT a FROM t", "SELECT \"A\" FROM t"},
		{"SELECT nextval('a')", "SELECT nextval('b')"},
		{"SELECT 'a'::regclass", "SELECT 'b'::regclass"},
		{"SELECT set_config('a', 'x', true)", "SELECT set_config('role', 'x', true)"},
		{"COPY t TO '/a'", "COPY t TO '/b'"},
		{"COPY t TO STDOUT (FORMAT csv, NULL 'a')", "COPY t TO STDOUT (FORMAT csv, NULL 'b')"},
		{"COPY t TO STDOUT (FORMAT 'csv')", "COPY t TO STDOUT (FORMAT 'binary')"},
		{"DO 'a'", "DO 'b'"},
		{"LOAD 'a'", "LOAD 'b'"},
		{"EXPLAIN (ANALYZE 0) DELETE FROM t", "EXPLAIN (ANALYZE 1) DELETE FROM t"},
		{"EXPLAIN (ANALYZE 'off') DELETE FROM t", "EXPLAIN (ANALYZE 'on') DELETE FROM t"},
		{"ALTER USER a PASSWORD 'x'", "ALTER USER a PASSWORD 'xyz'"},
		{"SET role = 'a'", "SET role = 'b'"},
		{"COPY t TO STDOUT (FORMAT csv, HEADER 0)", "COPY t TO STDOUT (FORMAT csv, HEADER 1)"},
		{"SELECT f('x')", "SELECT f('postgresql://bob:hunter2@host')"},
		{"SELECT f(1, $$abcdefgh$$)", "SELECT f(1, $$host=a PassWord=hunter2$$)"},
		{"EXECUTE a", "EXECUTE b"},
		{"DROP TABLE U&\"\\0061\"", "DROP TABLE U&\"\\0062\""},
	};
	static const struct sql_limits none = {.cache_bytes = 1};
	struct sql *cached = classifier(NULL), *fresh = classifier(&none);

	for (size_t i = 0; i < 4 * ARRAY_SIZE(pairs); i++) {
		const char *text = pairs[i / 2 % ARRAY_SIZE(pairs)][i % 2];
		const struct sql_info *a = ask(cached, text), *b = ask(fresh, text);
		const char *differs = sql_info_differs(a, b);

		if (differs)
			fail_msg("%s: %s", text, differs);
		sql_info_unref(a);
		sql_info_unref(b);
	}
	assert_int_equal(stats_of(fresh).hits, 0);
	assert_true(stats_of(cached).hits > 0);
	sql_free(cached);
	sql_free(fresh);
}

static void test_bounds(void **state)
{
	static const struct sql_limits few = {.cache_shapes = 4};
	static const struct sql_limits small = {.cache_bytes = 16 * 1024};
	const struct sql_limits *limits[] = {&few, &small};

	for (size_t l = 0; l < ARRAY_SIZE(limits); l++) {
		struct sql *s = classifier(limits[l]);
		const struct sql_info *kept = ask(s, "SELECT a FROM kept");
		char text[64];

		for (int i = 0; i < 1000; i++) {
			(void)snprintf(text, sizeof(text), "SELECT a FROM t%d", i);
			sql_info_unref(ask(s, text));
			/* What is used stays. */
			sql_info_unref(ask(s, "SELECT a FROM used"));
		}
		assert_int_equal(stats_of(s).hits, 999);
		assert_true(stats_of(s).evicted >= 900);
		/* An info outlives its place in the cache. */
		assert_true(slice_eq_str(kept->access[0].name, "kept"));
		sql_info_unref(sql_info_ref(kept));
		sql_free(s);
		assert_true(slice_eq_str(kept->access[0].name, "kept"));
		sql_info_unref(kept);
	}
}

static void test_zero_bytes_and_lengths(void **state)
{
	struct sql *s = classifier(NULL);
	struct slice texts[] = {SLICE_LIT("SELECT 1\0; DROP TABLE t"), SLICE_LIT("\0"),
				SLICE_LIT("SELECT '\0'")};

	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		const struct sql_info *info = sql_classify(s, texts[i], SQL_LEX_STANDARD);

		assert_int_equal(info->effects, SQL_UNKNOWN);
		sql_info_unref(info);
	}
	sql_free(s);
}

static void test_errors(void **state)
{
	static const struct {
		const char *sql, *error;
		uint32_t position;
	} rows[] = {
		{"SELEC 1", "syntax error at or near \"SELEC\"", 1},
		{"SELECT 1 FROM", "syntax error at end of input", 14},
		{"SELECT '\xc3\xa4' FROM FROM", "syntax error at or near \"FROM\"", 18},
		{"SELECT 'a", "unterminated quoted string at or near \"'a\"", 8},
		{"ALTER USER a PASSWORD 'x' 'hunter2'", "syntax error", 27},
		{"SELECT 1 /* a", "unterminated /* comment at or near \"/*  \"", 10},
	};
	struct sql *s = classifier(NULL);

	for (size_t i = 0; i < 2 * ARRAY_SIZE(rows); i++) {
		size_t r = i % ARRAY_SIZE(rows);
		const struct sql_info *info = ask(s, rows[r].sql);

		if (!slice_eq_str(info->error, rows[r].error) ||
		    info->error_pos != rows[r].position)
			fail_msg("%s: %.*s at %u", rows[r].sql, (int)info->error.n, info->error.p,
				 info->error_pos);
		sql_info_unref(info);
	}
	sql_free(s);
}

/* Every function whose volatility lets it do something has been looked at. */
static void test_functions_are_reviewed(void **state)
{
	struct fn_table *t;
	uint32_t n = 0, unseen = 0;

	assert_int_equal(fn_table_new(&t), 0);
	for (struct slice name; (name = fn_name(t, n)).n; n++) {
		struct fn_known k = fn_lookup(t, name);

		if (k.flags & FN_VOLATILE && !(k.flags & FN_REVIEWED)) {
			print_error("%.*s is volatile and not in the table\n", (int)name.n, name.p);
			unseen++;
		}
	}
	assert_true(n > 2500);
	assert_int_equal(unseen, 0);
	assert_int_equal(fn_lookup(t, slice_str("no_such_function")).flags, 0);
	assert_true(op_is_builtin(t, slice_str("@>")));
	assert_false(op_is_builtin(t, slice_str("<=>")));
	fn_table_free(t);
}

static void test_effect_names(void **state)
{
	for (int i = 0; i < SQL_EFFECT_COUNT; i++)
		assert_int_equal(sql_effect_parse(slice_str(sql_effect_name((enum sql_effect_bit)i))), i);
	assert_null(sql_effect_name(SQL_EFFECT_COUNT));
	assert_int_equal(sql_effect_parse(SLICE_LIT("any")), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same_shape),
		cmocka_unit_test(test_other_shape),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_zero_bytes_and_lengths),
		cmocka_unit_test(test_errors),
		cmocka_unit_test(test_functions_are_reviewed),
		cmocka_unit_test(test_effect_names),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
