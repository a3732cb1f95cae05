/* SPDX-License-Identifier: MIT */
/*
 * Ways to hide what a statement does from who reads it, and to get a masked
 * column past a mask: none may change what is found.
 */
#include "sqlrow.h"

static void test_hidden_writes(void **state)
{
	static const struct row rows[] = {
		/* quotes and comments: what looks like a statement is none, and the reverse */
		{"SELECT 'DROP TABLE t'", "read", R},
		{"SELECT E'\\'; DROP TABLE t; --'", "read", R},
		{"SELECT '\\'; DROP TABLE t; --'", "ddl t, read", R | SQL_F_MULTI},
		{"SELECT $$ DROP TABLE t $$", "read", R},
		{"SELECT $a$ $$ ' $b$ DROP TABLE t $a$", "read", R},
		{"SELECT 1 /* ; DROP TABLE t */", "read", R},
		{"SELECT 1 /* /* */ ; DROP TABLE t; /* */ */", "read", R},
		{"SELECT 1 -- \n; DROP TABLE t", "ddl t, read", R | SQL_F_MULTI},
		{"SELECT 1 -- \r; DROP TABLE t", "ddl t, read", R | SQL_F_MULTI},
		{"SELECT/**/1;DROP/**/TABLE/**/t", "ddl t, read", R | SQL_F_MULTI},
		{"DR/**/OP TABLE t", "unknown", UNKNOWN},
		{"dRoP\ttAbLe\fT", "ddl t", 0},
		{"DROP TABLE \"T\"\"x\"", "ddl T\"x", 0},
		{"DROP TABLE U&\"\\0074\"", "ddl t", 0},
		{"DROP TABLE U&\"!0074\" UESCAPE '!'", "ddl t", 0},
		{"DELETE FROM ONLY t", "write t", 0},
		{"SELECT 'a'\n'; DROP TABLE t'", "read", R},
		{"SELECT 'a' -- '\n'b'; DROP TABLE t", "ddl t, read", R | SQL_F_MULTI},
		{"SELECT 'a' /* '\n*/\n'b'; DROP TABLE t", "unknown", UNKNOWN},
		{"SELECT 1; SELECT 2; TRUNCATE t", "write t, read", R | SQL_F_MULTI},
		/* a read that writes */
		{"WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT a FROM x",
		 "read t, write t", R},
		{"WITH x AS (UPDATE t SET a = 1 RETURNING a) TABLE x", "read t, write t", R | ST},
		{"SELECT a FROM u WHERE a IN (WITH x AS (SELECT b FROM t FOR UPDATE) TABLE x)",
		 "read u, read t, write t", R | ST},
		{"EXPLAIN ANALYZE DELETE FROM t", "write t", R | SQL_F_EXPLAIN},
		{"explain (costs off, analyze) TRUNCATE t", "unknown", UNKNOWN},
		{"PREPARE x AS DELETE FROM t", "write t", SQL_F_PREPARE},
		{"COPY (WITH x AS (DELETE FROM t RETURNING a) SELECT a FROM x) TO STDOUT",
		 "read t, write t", SQL_F_COPY_OUT},
		{"MERGE INTO t USING (SELECT 1 AS a) s ON t.a = s.a WHEN MATCHED THEN DELETE",
		 "write t, read", 0},
		{"SELECT a INTO TEMP x FROM t", "ddl x, read t", CA},
		{"CREATE TEMP TABLE x AS WITH y AS (DELETE FROM t RETURNING a) SELECT a FROM y",
		 "ddl x, read t, write t", CA},
		{"SELECT nextval('q'), setval('q', 1)", "write q, read", R | LI},
		{"SELECT lo_unlink(1)", "write lo_unlink(), read", R},
		/* code */
		{"DO $x$ BEGIN EXECUTE 'dr' || 'op table t'; END $x$", "program, procedure",
		 LI | UF | CA | ST},
		{"CALL p()", "procedure p()", R | UF},
		{"SELECT CASE WHEN false THEN f() END", "procedure f(), read", R | UF},
		{"SELECT (SELECT (SELECT f()))", "procedure f(), read", R | UF},
		{"INSERT INTO t (a) VALUES (DEFAULT), (f())", "write t, procedure f()", UF | CA},
		{"ALTER TABLE t ADD COLUMN a int DEFAULT f()", "ddl t, procedure f()", UF | CA},
		{"SELECT a FROM t ORDER BY f(a)", "read t, procedure f()", R | UF},
		{"SELECT a FROM t GROUP BY GROUPING SETS ((f(a)))", "read t, procedure f()", R | UF},
		{"SELECT a FROM t LIMIT f()", "read t, procedure f()", R | UF},
		{"SELECT sum(a) OVER (ORDER BY f(a)) FROM t", "procedure f(), read t", R | UF},
		{"SELECT sum(a) FILTER (WHERE f(a)) FROM t", "procedure f(), read t", R | UF},
		{"SELECT a FROM t WINDOW w AS (PARTITION BY f(a))", "read t, procedure f()", R | UF},
		{"SELECT a FROM t, LATERAL f(t.a) x", "read t, procedure f()", R | UF},
		{"SELECT x.a FROM XMLTABLE('/' PASSING f() COLUMNS a int) x",
		 "procedure f(), read", R | UF},
		{"SELECT a FROM t JOIN u ON f(t.a)", "read t, read u, procedure f()", R | UF},
		{"INSERT INTO t (a) VALUES (1) ON CONFLICT (f(a)) DO NOTHING",
		 "write t, procedure f()", UF},
		{"DELETE FROM t WHERE a = f() RETURNING g(a)",
		 "read t, write t, procedure f(), procedure g()", R | UF},
		{"EXECUTE p (f())", "procedure f(), session", R | UF | CA | SQL_F_EXECUTE},
		{"CREATE FUNCTION x(a int DEFAULT f()) RETURNS int LANGUAGE sql AS ''",
		 "ddl x(), procedure f()", LI | CA | UF | CD},
		/* a name in a scope is not that name outside of it */
		{"WITH t AS (SELECT a FROM t) SELECT a FROM t", "read t", R},
		{"WITH t AS (SELECT 1 AS a) SELECT a FROM t, s.t", "read s.t", R},
		{"SELECT a FROM (WITH t AS (SELECT 1 AS a) SELECT a FROM t) x, t", "read t", R},
		{"WITH t AS (SELECT 1 AS a) DELETE FROM t", "write t, read", 0},
		{"WITH a AS (SELECT x FROM b), b AS (SELECT 1 AS x) SELECT x FROM a", "read b", R},
		{"WITH RECURSIVE a AS (SELECT x FROM b), b AS (SELECT 1 AS x) SELECT x FROM a",
		 "read", R},
	};

	check_rows(rows, ARRAY_SIZE(rows));
}

struct masked {
	const char *sql;
	const char *names; /* each must be there, unless it is a star */
	bool star, carries;
};

static bool has_name(const struct sql_info *info, const char *name, size_t n)
{
	for (uint32_t i = 0; i < info->nnames; i++)
		if (slice_eq(info->names[i], slice_of(name, n)))
			return true;
	return false;
}

static void test_masked_columns(void **state)
{
	static const struct masked rows[] = {
		{.sql = "SELECT ssn FROM c", .names = "ssn c"},
		{.sql = "SELECT ssn AS x FROM c", .names = "ssn"},
		{.sql = "SELECT concat('x', c.ssn) FROM c", .names = "ssn concat"},
		{.sql = "SELECT array_agg(s.c.ssn) FROM s.c", .names = "ssn"},
		{.sql = "SELECT \"SSN\" FROM c", .names = "SSN"},
		{.sql = "SELECT U&\"s\\0073n\" FROM c", .names = "ssn"},
		{.sql = "SELECT SSN FROM c", .names = "ssn"},
		{.sql = "SELECT x FROM (SELECT ssn FROM c) y(x)", .names = "ssn"},
		{.sql = "WITH y(x) AS (SELECT ssn FROM c) SELECT x FROM y", .names = "ssn"},
		{.sql = "SELECT (c.ssn).x FROM c", .names = "ssn x"},
		{.sql = "SELECT 1 FROM c WHERE ssn = 'x'", .names = "ssn"},
		{.sql = "SELECT 1 FROM c ORDER BY ssn", .names = "ssn"},
		{.sql = "SELECT count(*) FROM c GROUP BY ssn", .names = "ssn"},
		{.sql = "SELECT 1 FROM c JOIN d USING (ssn)", .names = "ssn"},
		{.sql = "SELECT a FROM c, LATERAL (SELECT c.ssn) x(a)", .names = "ssn"},
		{.sql = "SELECT CASE ssn WHEN 'x' THEN 1 END FROM c", .names = "ssn"},
		{.sql = "SELECT a[ssn] FROM c", .names = "a ssn"},
		{.sql = "UPDATE d SET a = 1 FROM c WHERE c.ssn = d.b RETURNING d.a", .names = "ssn"},
		{.sql = "COPY c (ssn) TO STDOUT", .names = "ssn"},
		/* rows as a whole */
		{.sql = "SELECT * FROM c", .star = true},
		{.sql = "SELECT c.* FROM c", .star = true},
		{.sql = "SELECT c FROM c", .star = true},
		{.sql = "SELECT x FROM c x", .star = true},
		{.sql = "SELECT x::text FROM s.c AS x", .star = true},
		{.sql = "SELECT row_to_json(x) FROM c x", .star = true},
		{.sql = "SELECT x.row_to_json FROM c x", .star = true},
		{.sql = "SELECT s.c.to_jsonb FROM s.c", .star = true},
		{.sql = "SELECT (x).ssn FROM c x", .names = "ssn", .star = true},
		{.sql = "SELECT (x.*)::text FROM c x", .star = true},
		{.sql = "SELECT ROW(x.*) FROM c x", .star = true},
		{.sql = "SELECT j FROM (c JOIN d ON true) AS j", .star = true},
		{.sql = "SELECT y FROM (TABLE c) y", .star = true},
		{.sql = "SELECT x.y FROM (SELECT c FROM c) x(y)", .star = true},
		{.sql = "WITH y AS (TABLE c) SELECT a FROM y", .star = true},
		{.sql = "TABLE c", .star = true},
		{.sql = "SELECT b FROM c AS x(a, b)", .star = true},
		{.sql = "SELECT b || '' FROM (c JOIN d ON true) AS x(a, b)", .star = true},
		{.sql = "SELECT v.a FROM (VALUES ('x')) v(ssn) NATURAL JOIN c", .star = true},
		{.sql = "DELETE FROM c RETURNING *", .star = true},
		{.sql = "INSERT INTO c AS x VALUES (1) RETURNING x", .star = true},
		{.sql = "UPDATE c x SET a = 1 RETURNING x", .star = true},
		{.sql = "COPY c TO STDOUT", .star = true},
		{.sql = "SELECT most_common_vals FROM pg_stats", .star = true},
		{.sql = "SELECT table_to_xml('c', true, true, '')", .names = "c", .star = true},
		{.sql = "SELECT EXISTS (SELECT c FROM c)", .star = true},
		/* but not these */
		{.sql = "SELECT EXISTS (SELECT * FROM c)"},
		{.sql = "SELECT count(*) FROM c"},
		{.sql = "SELECT a FROM c x"},
		{.sql = "SELECT c.mode, c.format, c.count FROM c"},
		{.sql = "SELECT x.a, c.b FROM c x, d c"},
		{.sql = "SELECT generate_series FROM generate_series(1, 2)"},
		/* to where no mask follows */
		{.sql = "CREATE TABLE x AS SELECT ssn FROM c", .names = "ssn", .carries = true},
		{.sql = "SELECT ssn INTO x FROM c", .names = "ssn", .carries = true},
		{.sql = "CREATE VIEW x AS SELECT ssn AS y FROM c", .names = "ssn", .carries = true},
		{.sql = "CREATE MATERIALIZED VIEW x AS TABLE c", .star = true, .carries = true},
		{.sql = "INSERT INTO x SELECT ssn FROM c", .names = "ssn", .carries = true},
		{.sql = "INSERT INTO x WITH y AS (SELECT ssn FROM c) SELECT ssn FROM y",
		 .names = "ssn", .carries = true},
		{.sql = "INSERT INTO x VALUES ((SELECT ssn FROM c))", .names = "ssn", .carries = true},
		{.sql = "INSERT INTO c (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = c.ssn",
		 .names = "ssn", .carries = true},
		{.sql = "UPDATE c SET a = ssn", .names = "ssn", .carries = true},
		{.sql = "UPDATE x SET a = c.ssn FROM c", .names = "ssn", .carries = true},
		{.sql = "MERGE INTO x USING c ON true WHEN NOT MATCHED THEN INSERT VALUES (c.ssn)",
		 .names = "ssn", .carries = true},
		{.sql = "ALTER TABLE c ALTER a TYPE text USING ssn", .names = "ssn", .carries = true},
		{.sql = "ALTER TABLE c ADD x text GENERATED ALWAYS AS (ssn) STORED", .names = "ssn",
		 .carries = true},
		{.sql = "SELECT set_config('a.b', ssn, false) FROM c", .names = "ssn", .carries = true},
		{.sql = "SELECT pg_notify('x', ssn) FROM c", .names = "ssn", .carries = true},
		{.sql = "SELECT lo_from_bytea(0, ssn::bytea) FROM c", .names = "ssn", .carries = true},
		{.sql = "SELECT setval('q', ssn::bigint) FROM c", .names = "ssn", .carries = true},
		{.sql = "SELECT dblink_connect(ssn) FROM c", .names = "ssn", .carries = true},
		{.sql = "COPY c (ssn) TO '/tmp/x'", .names = "ssn", .carries = true},
		{.sql = "COPY (SELECT ssn FROM c) TO PROGRAM 'x'", .names = "ssn", .carries = true},
		{.sql = "INSERT INTO x SELECT f()", .carries = true},
		{.sql = "CREATE PUBLICATION p FOR TABLE c", .star = true, .carries = true},
		{.sql = "SELECT pg_advisory_lock(ssn) FROM c", .names = "ssn", .carries = true},
		{.sql = "SELECT setseed(ssn) FROM c", .names = "ssn", .carries = true},
		{.sql = "SELECT lo_lseek(0, ssn, 0) FROM c", .names = "ssn", .carries = true},
		{.sql = "SELECT pg_replication_origin_create(ssn) FROM c", .names = "ssn",
		 .carries = true},
		{.sql = "INSERT INTO x SELECT table_to_xml('c', true, true, '')", .names = "c",
		 .star = true, .carries = true},
		{.sql = "SELECT pg_notify('x', table_to_xml('c', true, true, '')::text)",
		 .names = "c", .star = true, .carries = true},
		{.sql = "EXECUTE p(table_to_xml('c', true, true, ''))", .names = "c", .star = true,
		 .carries = true},
		{.sql = "CREATE TABLE x (a xml DEFAULT table_to_xml('c', true, true, ''))",
		 .names = "c", .star = true, .carries = true},
		{.sql = "ALTER TABLE x ALTER a SET DEFAULT table_to_xml('c', true, true, '')",
		 .names = "c", .star = true, .carries = true},
		{.sql = "ALTER DOMAIN x SET DEFAULT table_to_xml('c', true, true, '')",
		 .names = "c", .star = true, .carries = true},
		{.sql = "CREATE TABLE x PARTITION OF y FOR VALUES IN "
			"(table_to_xml('c', true, true, ''))",
		 .names = "c", .star = true, .carries = true},
		/* however the relation is written */
		{.sql = "SELECT table_to_xml(' S . \"Ssn\"\"x\" ', true, true, '')",
		 .names = "Ssn\"x", .star = true},
		{.sql = "SELECT table_to_xml('db.S.SSN', true, true, '')", .names = "ssn",
		 .star = true},
		/* and not these */
		{.sql = "UPDATE c SET ssn = 'x' WHERE id = 1"},
		{.sql = "INSERT INTO c (ssn) VALUES ('x') ON CONFLICT (id) DO UPDATE SET ssn = "
			"excluded.ssn"},
		{.sql = "EXPLAIN INSERT INTO x SELECT ssn FROM c", .names = "ssn"},
	};
	struct sql *s;
	unsigned failed = 0;

	assert_int_equal(sql_new(NULL, &s), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct sql_info *info = sql_classify(s, slice_str(rows[i].sql), 0);
		bool bad = (info->flags & SQL_F_STAR) != (rows[i].star ? SQL_F_STAR : 0) ||
			   (info->flags & SQL_F_CARRIES) != (rows[i].carries ? SQL_F_CARRIES : 0) ||
			   info->effects & SQL_UNKNOWN;

		for (const char *p = rows[i].names ? rows[i].names : ""; *p; p += *p == ' ') {
			size_t n = strcspn(p, " ");

			bad |= !has_name(info, p, n);
			p += n;
		}
		if (bad)
			print_error("%s: flags %x\n", rows[i].sql, info->flags);
		failed += bad;
		sql_info_unref(info);
	}
	sql_free(s);
	assert_int_equal(failed, 0);
}

/* An assigned column is not one that is read. */
static void test_names_of_what_is_written(void **state)
{
	const struct sql_info *info;
	struct sql *s;

	assert_int_equal(sql_new(NULL, &s), 0);
	info = sql_classify(s, slice_str("UPDATE c SET ssn = 'x' WHERE id = 1"), 0);
	assert_int_equal(info->nnames, 2);
	assert_true(slice_eq_str(info->names[0], "c"));
	assert_true(slice_eq_str(info->names[1], "id"));
	sql_info_unref(info);
	sql_free(s);
}

static void test_lexer_settings(void **state)
{
	static const struct {
		const char *sql;
		uint32_t lexer;
		bool unknown;
	} rows[] = {
		{"SELECT '\\'", SQL_LEX_STANDARD, false},
		{"SELECT '\\'", SQL_LEX_BACKSLASH, true},
		{"SELECT '\\'; DROP TABLE t --'", SQL_LEX_BACKSLASH, true},
		{"SELECT 'a', E'\\n', $$\\$$", SQL_LEX_BACKSLASH, false},
		{"SELECT '\xc3\xa4'", SQL_LEX_STANDARD, false},
		{"SELECT '\xc3\xa4'", SQL_LEX_UNSAFE, true},
		{"SELECT 1 -- \x95\x5c", SQL_LEX_UNSAFE, true},
		{"SELECT 'a'", SQL_LEX_UNSAFE, false},
		{"SELECT ssn", SQL_LEX_FOREIGN, false},
		{"SELECT '\xe9' AS \"\xe9\"", SQL_LEX_FOREIGN, false},
		{"SELECT \xe9", SQL_LEX_FOREIGN, true},
		{"SELECT a.b FROM s\xe9.a", SQL_LEX_FOREIGN, true},
		{"SELECT table_to_xml('\xe9', true, true, '')", SQL_LEX_FOREIGN, true},
		{"PREPARE \xe9 AS SELECT 1", SQL_LEX_FOREIGN, true},
		{"COPY t (\xe9) TO STDOUT", SQL_LEX_FOREIGN, true},
		{"SELECT \xc3\xa9", SQL_LEX_STANDARD, false},
	};
	struct sql *s;

	assert_int_equal(sql_new(NULL, &s), 0);
	/* Twice, and both settings with one cache. */
	for (size_t i = 0; i < 2 * ARRAY_SIZE(rows); i++) {
		size_t r = i % ARRAY_SIZE(rows);
		const struct sql_info *info =
			sql_classify(s, slice_str(rows[r].sql), rows[r].lexer);

		assert_int_equal((info->effects & SQL_UNKNOWN) != 0, rows[r].unknown);
		assert_int_equal(info->why, rows[r].unknown ? TG_R_SQL_UNPARSED : 0);
		sql_info_unref(info);
	}
	sql_free(s);
}

static void test_dropped(void **state)
{
	const struct sql_info *info;
	struct sql *s;

	assert_int_equal(sql_new(NULL, &s), 0);
	info = sql_classify(
		s, slice_str("ALTER TABLE ONLY c DROP ssn, DROP COLUMN IF EXISTS b CASCADE; SELECT a"), 0);
	assert_int_equal(info->ndropped, 2);
	assert_true(slice_eq_str(info->dropped[0], "ssn"));
	assert_true(slice_eq_str(info->dropped[1], "b"));
	assert_int_equal(info->flags & SQL_F_CARRIES, 0);
	sql_info_unref(info);
	sql_free(s);
}

/* A number names a relation that the text does not: what is read of it cannot be told. */
static void test_relation_by_number(void **state)
{
	static const char *const texts[] = {
		"SELECT table_to_xml('16385', true, true, '')",
		"SELECT table_to_xml('', true, true, '')",
		"SELECT table_to_xml('a b', true, true, '')",
		"SELECT table_to_xml('a.', true, true, '')",
		"SELECT table_to_xml('\"a', true, true, '')",
	};
	struct sql *s;

	assert_int_equal(sql_new(NULL, &s), 0);
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		const struct sql_info *info = sql_classify(s, slice_str(texts[i]), 0);

		if (!(info->effects & SQL_UNKNOWN))
			fail_msg("%s", texts[i]);
		sql_info_unref(info);
	}
	sql_free(s);
}

static void test_secrets(void **state)
{
	static const struct {
		const char *sql, *secret; /* NULL: none */
	} rows[] = {
		{"ALTER USER bob PASSWORD 'hunter2'", "hunter2"},
		{"CREATE ROLE bob LOGIN ENCRYPTED PASSWORD E'hun\\'ter2' SUPERUSER", "hun\\'ter2"},
		{"ALTER ROLE bob PASSWORD $$hunter2$$", "hunter2"},
		{"ALTER USER bob PASSWORD 'hunt'\n'er2'", "hunt'\n'er2"},
		{"ALTER USER bob PASSWORD NULL", NULL},
		{"ALTER USER bob PASSWORD 'hunter2' VALIDD UNTIL 'x'", "hunter2"},
		{"CREATE USER MAPPING FOR bob SERVER s OPTIONS (user 'bob', password 'hunter2')",
		 "hunter2"},
		{"ALTER SERVER s OPTIONS (SET passwordx 'hunter2')", "hunter2"},
		{"CREATE SUBSCRIPTION \"x'y\" CONNECTION 'host=a password=hunter2' PUBLICATION p",
		 "hunter2"},
		{"ALTER SUBSCRIPTION x CONNECTION 'host=a user=hunter2'", "host=a user=hunter2"},
		{"SELECT dblink_connect('host=a password=hunter2 user=b')", "hunter2"},
		{"SELECT dblink_connect('postgresql://bob:hunter2@host/db')", "hunter2"},
		{"DO $$ BEGIN EXECUTE 'ALTER USER bob PASSWORD ''hunter2'''; END $$", "hunter2"},
		{"UPDATE users SET password = 'hunter2'", "hunter2"},
		{"SELECT password FROM users WHERE name = 'bob'", NULL},
		{"SELECT 'my password is secret'", NULL},
		{"SELECT 'http://host/path'", NULL},
	};
	struct sql *s;

	assert_int_equal(sql_new(NULL, &s), 0);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct slice text = slice_str(rows[i].sql);
		const struct sql_info *info = sql_classify(s, text, 0);
		bool found = false;

		for (unsigned j = 0; j < info->nsecrets; j++) {
			assert_true(info->secrets[j].off <= text.n &&
				    info->secrets[j].n <= text.n - info->secrets[j].off);
			found |= rows[i].secret &&
				 slice_eq_str(slice_of(text.p + info->secrets[j].off,
						       info->secrets[j].n),
					      rows[i].secret);
		}
		if (rows[i].secret ? !found : info->nsecrets)
			fail_msg("%s: %u secrets", rows[i].sql, info->nsecrets);
		assert_int_equal(info->nsecrets && !(info->flags & SQL_F_LITERALS), 0);
		sql_info_unref(info);
	}
	sql_free(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_hidden_writes),
		cmocka_unit_test(test_masked_columns),
		cmocka_unit_test(test_names_of_what_is_written),
		cmocka_unit_test(test_lexer_settings),
		cmocka_unit_test(test_dropped),
		cmocka_unit_test(test_relation_by_number),
		cmocka_unit_test(test_secrets),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
