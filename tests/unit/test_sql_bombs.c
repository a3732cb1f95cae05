/* SPDX-License-Identifier: MIT */
/*
 * Texts made to exhaust whoever parses them. Each must be answered within the
 * limits, whatever the answer: memory and processor time are measured in a
 * child of its own, with a stack of ordinary size.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/reason.h"
#include "inspect/sql/sql.h"

enum {
	MIB = 1024 * 1024,
	TIMES = SANITIZED ? 8 : 1, /* quarantine and shadow memory, checks */
	MAX_RSS_KB = 64 * 1024 * TIMES,
	/* Twenty times the goal, which bench_sql measures: the machine may be shared. */
	MAX_CPU_MS = 400 * TIMES,
};

struct bomb {
	const char *name, *before, *each, *middle, *close, *after;
	size_t times; /* 0: as many as fit into the longest text */
};

static const struct bomb bombs[] = {
	{"parentheses", "SELECT ", "(", "1", ")", "", 0},
	{"parentheses 9000", "SELECT ", "(", "1", ")", "", 9000},
	{"open parentheses", "SELECT ", "(", "", "", "", 0},
	{"subselects", "", "SELECT * FROM (", "SELECT 1", ") q", "", 0},
	{"subselects 900", "", "SELECT * FROM (", "SELECT 1", ") q", "", 900},
	{"not", "SELECT ", "NOT ", "true", "", "", 0},
	{"not 3000", "SELECT ", "NOT ", "true", "", "", 3000},
	{"minus", "SELECT ", "- ", "1", "", "", 0},
	{"sum", "SELECT 1", "+1", "", "", "", 0},
	{"sum 10000", "SELECT 1", "+1", "", "", "", 10000},
	{"and", "SELECT 1 WHERE a=1", " AND a=1", "", "", "", 0},
	{"and or", "SELECT 1 WHERE a", " AND a OR a", "", "", "", 0},
	{"union", "SELECT 1", " UNION SELECT 1", "", "", "", 0},
	{"union 5000", "SELECT 1", " UNION SELECT 1", "", "", "", 5000},
	{"brackets", "SELECT ARRAY", "[", "1", "]", "", 0},
	{"subscripts", "SELECT a", "[1]", "", "", "", 0},
	{"casts", "SELECT a", "::int", "", "", "", 0},
	{"is null", "SELECT a", " IS NULL", "", "", "", 0},
	{"case", "SELECT ", "CASE WHEN a THEN ", "1", " END", "", 0},
	{"functions", "SELECT ", "f(", "1", ")", "", 0},
	{"joins", "SELECT 1 FROM a", " JOIN b USING (c)", "", "", "", 0},
	{"nested joins", "SELECT 1 FROM ", "(a JOIN ", "b", " ON true)", "", 0},
	{"with", "WITH a AS (SELECT 1)", ",a AS(SELECT 1)", " SELECT 1", "", "", 0},
	{"with and uses", "WITH x AS (SELECT 1)", ",b AS(TABLE x)", " TABLE b", "", "", 0},
	{"nested with", "", "WITH a AS (", "SELECT 1", ") SELECT 1", "", 0},
	{"columns", "SELECT a", ",a", " FROM t", "", "", 0},
	{"qualified", "SELECT a", ".a", "", "", "", 0},
	{"integers", "INSERT INTO t VALUES (1)", ",(1)", "", "", "", 0},
	{"strings", "INSERT INTO t VALUES ('')", ",('')", "", "", "", 0},
	{"in", "SELECT 1 WHERE a IN (1", ",1", ")", "", "", 0},
	{"parameters", "SELECT $1", ",$1", "", "", "", 0},
	{"statements", "SELECT 1", ";SELECT 1", "", "", "", 0},
	{"empty statements", "", ";", "", "", "", 0},
	{"begins", "BEGIN", ";BEGIN", "", "", "", 0},
	{"comments", "SELECT 1", "/**/", "", "", "", 0},
	{"nested comments", "SELECT 1", "/*", "", "*/", "", 0},
	{"open comments", "SELECT 1", "/*", "", "", "", 0},
	{"line comments", "SELECT 1", "--\n", "", "", "", 0},
	{"literal", "SELECT '", "x", "'", "", "", 0},
	{"quotes", "SELECT '", "''", "'", "", "", 0},
	{"open quotes", "SELECT ", "$a$", "", "", "", 0},
	{"dollars", "SELECT $a$", "$b", "$a$", "", "", 0},
	{"almost closed", "SELECT $aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa$",
	 "$aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "", "", "", 0},
	{"continued", "SELECT 'a'", "\n'a'", "", "", "", 0},
	{"identifier", "SELECT ", "x", "", "", "", 0},
	{"digits", "SELECT ", "1", "", "", "", 0},
	{"operator", "SELECT 1 ", "+", "", "", "", 0},
	{"operators", "SELECT 1 ", "+ ", "1", "", "", 0},
	{"passwords", "SELECT 'password", " password=", "'", "", "", 0},
	{"schemes", "SELECT '", "://a", "'", "", "", 0},
	{"assignments", "UPDATE t SET (a", ",a", ") = (SELECT 1)", "", "", 0},
	{"tables", "DROP TABLE a", ",a", "", "", "", 0},
	{"copy columns", "COPY t (a", ",a", ") TO STDOUT", "", "", 0},
	{"spaces", "SELECT", " ", "1", "", "", 0},
	{"high bytes", "SELECT \"", "\xff", "\"", "", "", 0},
};

/* The middle stands between the opening and the closing halves. */
static size_t build(const struct bomb *b, char *dst, size_t cap)
{
	size_t each = strlen(b->each), close = strlen(b->close), n = 0;
	size_t fixed = strlen(b->before) + strlen(b->middle) + strlen(b->after);
	size_t times = (cap - fixed) / (each + close);

	if (b->times && b->times < times)
		times = b->times;
#define PUT(s, len) (memcpy(dst + n, (s), (len)), n += (len))
	PUT(b->before, strlen(b->before));
	for (size_t i = 0; i < times; i++)
		PUT(b->each, each);
	PUT(b->middle, strlen(b->middle));
	for (size_t i = 0; i < times; i++)
		PUT(b->close, close);
	PUT(b->after, strlen(b->after));
#undef PUT
	return n;
}

static long cpu_ms(const struct rusage *u)
{
	return (u->ru_utime.tv_sec + u->ru_stime.tv_sec) * 1000 +
	       (u->ru_utime.tv_usec + u->ru_stime.tv_usec) / 1000;
}

/* In the child: 0, or what went wrong. */
static int explode(const struct bomb *b, size_t size)
{
	char *text = malloc(MIB);
	struct rusage before, after;
	const struct sql_info *info;
	struct sql *s;
	size_t n;

	if (!text || sql_new(NULL, &s) < 0)
		return 10;
	n = build(b, text, size);
	(void)getrusage(RUSAGE_SELF, &before);
	info = sql_classify(s, slice_of(text, n), SQL_LEX_STANDARD);
	(void)getrusage(RUSAGE_SELF, &after);
	if (!info->effects && !(info->flags & SQL_F_EMPTY))
		return 11;
	if (info->effects & SQL_UNKNOWN && !info->why)
		return 12;
	sql_info_unref(info);
	sql_free(s);
	free(text);
	if (cpu_ms(&after) - cpu_ms(&before) > MAX_CPU_MS)
		return 13;
	return after.ru_maxrss - before.ru_maxrss > MAX_RSS_KB ? 14 : 0;
}

static bool survives(const struct bomb *b, size_t size)
{
	pid_t pid = fork();
	int status;

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(explode(b, size));
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	print_error("%s of %zu bytes: %s %d\n", b->name, size, WIFEXITED(status) ? "exit" : "signal",
		    WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status));
	return false;
}

/* The longest text, and shorter ones that another limit does not catch. */
static void test_bombs(void **state)
{
	static const size_t sizes[] = {MIB, MIB / 2, MIB / 3, MIB / 5, MIB / 8, MIB / 16};
	unsigned failed = 0;

	for (size_t i = 0; i < ARRAY_SIZE(bombs); i++)
		for (size_t j = 0; j < (bombs[i].times ? 1 : ARRAY_SIZE(sizes)); j++)
			failed += !survives(&bombs[i], sizes[j]);
	assert_int_equal(failed, 0);
}

static void test_limits(void **state)
{
	static const struct sql_limits limits = {.text_bytes = 100, .depth = 10, .nodes = 50};
	static const struct {
		const char *sql;
		uint16_t why;
	} rows[] = {
		{"SELECT 1", 0},
		{"SELECT 1+1+1+1+1+1", 0},
		{"SELECT 1+1+1+1+1+1+1+1+1+1+1+1+1+1+1", TG_R_SQL_TOO_DEEP},
		{"SELECT a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a FROM t",
		 TG_R_SQL_TOO_DEEP},
		{"SELECT '0123456789012345678901234567890123456789012345678901234567890123456789"
		 "0123456789012345678901234567890'",
		 TG_R_SQL_TOO_LONG},
	};
	struct sql *s;

	assert_int_equal(sql_new(&limits, &s), 0);
	for (size_t i = 0; i < 2 * ARRAY_SIZE(rows); i++) {
		size_t r = i % ARRAY_SIZE(rows);
		const struct sql_info *info = sql_classify(s, slice_str(rows[r].sql), 0);

		assert_int_equal(info->why, rows[r].why);
		assert_int_equal((info->effects & SQL_UNKNOWN) != 0, rows[r].why != 0);
		sql_info_unref(info);
	}
	sql_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bombs),
		cmocka_unit_test(test_limits),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
