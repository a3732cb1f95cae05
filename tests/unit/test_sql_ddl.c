/* SPDX-License-Identifier: MIT */
/* Every kind of statement that defines objects, changes rights or administers. */
#include "inspect/sql/tree.h"
#include "sqlrow.h"

static void test_relations(void **state)
{
	static const struct row rows[] = {
		{"CREATE TABLE s.t (a int PRIMARY KEY, b text DEFAULT 'x')", "ddl s.t", 0},
		{"CREATE TABLE t (a int DEFAULT f(), CHECK (g(a) > 0))",
		 "ddl t, procedure f(), procedure g()", UF},
		{"CREATE TABLE t (a int REFERENCES u (b)) INHERITS (p)", "ddl t, ddl p, ddl u", 0},
		{"CREATE TABLE t (LIKE u INCLUDING ALL)", "ddl t, read u", 0},
		{"CREATE TABLE t PARTITION OF p FOR VALUES IN (1)", "ddl t, ddl p", 0},
		{"CREATE TABLE t (a int GENERATED ALWAYS AS (b + 1) STORED)", "ddl t", CA},
		{"CREATE TABLE t AS SELECT a FROM u", "ddl t, read u", CA},
		{"CREATE TABLE t AS EXECUTE p", "ddl t, session", CA | SQL_F_EXECUTE},
		{"CREATE FOREIGN TABLE t (a int) SERVER s", "ddl t", CD},
		{"CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (filename '/etc/passwd')",
		 "ddl t, file '/etc/passwd'", LI | CD},
		{"CREATE FOREIGN TABLE t (a int) SERVER s OPTIONS (program 'id')",
		 "ddl t, program 'id'", LI | CD},
		{"ALTER TABLE s.t ADD COLUMN b int", "ddl s.t", 0},
		{"ALTER TABLE t ALTER a TYPE text USING b", "ddl t", CA},
		{"ALTER TABLE t OWNER TO bob", "ddl t, privilege t", 0},
		{"ALTER TABLE t DISABLE ROW LEVEL SECURITY", "ddl t, privilege t", 0},
		{"ALTER TABLE t ATTACH PARTITION p DEFAULT", "ddl t, ddl p", ST | CA},
		{"ALTER TABLE t INHERIT p", "ddl t, ddl p", ST | CA},
		{"ALTER TABLE t REPLICA IDENTITY FULL", "ddl t", 0},
		{"ALTER TABLE t ADD CONSTRAINT c EXCLUDE USING gist (a WITH &&)", "ddl t", 0},
		{"ALTER TABLE t RENAME a TO b", "ddl t", CA},
		{"ALTER TABLE t SET SCHEMA s", "ddl t", ST | CA},
		{"ALTER TABLE ALL IN TABLESPACE a SET TABLESPACE b", "ddl 'a'", 0},
		{"CREATE INDEX i ON t (lower(a)) WHERE b > 1", "ddl t", 0},
		{"ALTER INDEX i DEPENDS ON EXTENSION e", "ddl i", 0},
		{"CREATE VIEW v AS SELECT a FROM t", "ddl v, read t", CA},
		{"CREATE MATERIALIZED VIEW v AS SELECT a FROM t", "ddl v, read t", CA},
		{"REFRESH MATERIALIZED VIEW s.v", "ddl s.v", 0},
		{"CREATE RULE r AS ON INSERT TO t DO ALSO DELETE FROM u", "ddl t, write u", CA | CD},
		{"CREATE TRIGGER g BEFORE INSERT ON t EXECUTE FUNCTION f()", "ddl t", CD},
		{"CREATE SEQUENCE s.q", "ddl s.q", 0},
		{"ALTER SEQUENCE q RESTART", "ddl q", 0},
		{"CREATE STATISTICS x ON a, b FROM t", "ddl t", 0},
		{"ALTER STATISTICS x SET STATISTICS 100", "ddl 'x'", 0},
		{"CREATE POLICY p ON t USING (true)", "ddl t, privilege t", CD},
		{"ALTER POLICY p ON t USING (f(a))", "ddl t, privilege t, procedure f()", UF | CD},
		{"CREATE PUBLICATION p FOR TABLE t", "ddl 'p', read t", CA | ST | CD},
		{"ALTER PUBLICATION p ADD TABLE t", "ddl 'p', read t", CA | ST | CD},
		{"DROP SUBSCRIPTION x", "ddl 'x'", 0},
		{"IMPORT FOREIGN SCHEMA a FROM SERVER b INTO c", "ddl 'c'", CD},
		{"DROP TABLE s.t, u", "ddl s.t, ddl u", 0},
		{"DROP VIEW v", "ddl v", 0},
		{"DROP TRIGGER g ON s.t", "ddl s.t", 0},
		{"DROP POLICY p ON t", "ddl t", 0},
		{"COMMENT ON COLUMN s.t.a IS 'x'", "ddl s.t", 0},
		{"VACUUM FULL t", "ddl t", 0},
		{"VACUUM", "ddl", 0},
		{"ANALYZE t (a)", "ddl t", 0},
		{"CLUSTER t USING i", "ddl t", 0},
		{"CLUSTER", "ddl", 0},
		{"REINDEX TABLE t", "ddl t", 0},
		{"REINDEX DATABASE d", "ddl 'd'", 0},
	};

	check_rows(rows, ARRAY_SIZE(rows));
}

static void test_other_objects(void **state)
{
	static const struct row rows[] = {
		{"CREATE FUNCTION f(a int) RETURNS int LANGUAGE sql AS 'select 1'", "ddl f()",
		 LI | CA | CD},
		{"CREATE FUNCTION f() RETURNS int LANGUAGE c AS 'x', 'y'", "ddl f(), program",
		 LI | CA | CD},
		{"CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql SECURITY DEFINER AS ''",
		 "ddl f(), privilege", LI | CA | CD},
		{"CREATE FUNCTION f() RETURNS int LANGUAGE sql SET search_path = a AS ''",
		 "ddl f()", LI | CA | CD},
		{"CREATE PROCEDURE p() BEGIN ATOMIC DELETE FROM t; END", "ddl p(), write t",
		 LI | CA | CD},
		{"ALTER FUNCTION f(int) SECURITY DEFINER", "ddl f(), privilege", CD},
		{"ALTER FUNCTION f(int) OWNER TO bob", "ddl f(), privilege f()", 0},
		{"DROP FUNCTION s.f(int)", "ddl s.f()", 0},
		{"CREATE AGGREGATE g (int) (sfunc = f, stype = int)", "ddl 'g'", CD},
		{"CREATE OPERATOR === (function = f, leftarg = int)", "ddl '==='", CD},
		{"ALTER OPERATOR + (int, int) SET (restrict = f)", "ddl +()", CD},
		{"CREATE TYPE s.y AS (a int)", "ddl s.y", 0},
		{"CREATE TYPE y AS ENUM ('a')", "ddl 'y'", 0},
		{"ALTER TYPE y ADD VALUE 'b'", "ddl 'y'", 0},
		{"CREATE TYPE y AS RANGE (subtype = int)", "ddl 'y'", CD},
		{"CREATE TYPE y (input = f, output = g)", "ddl 'y'", CD},
		{"ALTER TYPE y SET (storage = plain)", "ddl 'y'", CD},
		{"ALTER TYPE y RENAME TO z", "ddl 'y'", 0},
		{"CREATE DOMAIN d AS int CHECK (f(value))", "ddl 'd', procedure f()", UF | CD},
		{"ALTER DOMAIN d SET DEFAULT 1", "ddl 'd'", 0},
		{"CREATE COLLATION c FROM \"C\"", "ddl 'c'", 0},
		{"ALTER COLLATION c REFRESH VERSION", "ddl 'c'", 0},
		{"CREATE CONVERSION c FOR 'UTF8' TO 'LATIN1' FROM f", "ddl 'c'", CD},
		{"CREATE CAST (int AS y) WITHOUT FUNCTION", "ddl 'y'", CD},
		{"CREATE TRANSFORM FOR y LANGUAGE l (FROM SQL WITH FUNCTION f(internal))", "ddl 'y'",
		 0 | CD},
		{"CREATE OPERATOR CLASS o FOR TYPE int USING btree AS OPERATOR 1 <", "ddl 'o'", CD},
		{"CREATE OPERATOR FAMILY o USING btree", "ddl 'o'", 0},
		{"ALTER OPERATOR FAMILY o USING btree DROP OPERATOR 1 (int, int)", "ddl 'o'", CD},
		{"DROP OPERATOR CLASS s.o USING btree", "ddl 's.o'", 0},
		{"CREATE TEXT SEARCH DICTIONARY d (template = simple)", "ddl 'd'", 0},
		{"ALTER TEXT SEARCH DICTIONARY d (a = b)", "ddl 'd'", 0},
		{"ALTER TEXT SEARCH CONFIGURATION c ADD MAPPING FOR word WITH simple", "ddl 'c'", 0},
		{"CREATE ACCESS METHOD m TYPE TABLE HANDLER f", "ddl 'm'", CD},
		{"CREATE LANGUAGE l HANDLER f", "ddl 'l', program 'l'", CD},
		{"CREATE EXTENSION dblink", "ddl 'dblink', program 'dblink'", CD},
		{"ALTER EXTENSION e UPDATE", "ddl 'e', program 'e'", CD},
		{"ALTER EXTENSION e ADD TABLE t", "ddl 'e'", 0},
		{"CREATE EVENT TRIGGER g ON ddl_command_end EXECUTE FUNCTION f()", "ddl 'g'", CD},
		{"ALTER EVENT TRIGGER g DISABLE", "ddl 'g'", CD},
		{"CREATE SCHEMA s CREATE TABLE t (a int)", "ddl 's', ddl t", 0},
		{"DROP SCHEMA a, b CASCADE", "ddl 'a', ddl 'b'", 0},
		{"ALTER SCHEMA a RENAME TO b", "ddl 'a'", CD},
		{"CREATE DATABASE d", "ddl 'd'", 0},
		{"ALTER DATABASE d CONNECTION LIMIT 1", "ddl 'd'", 0},
		{"ALTER DATABASE d REFRESH COLLATION VERSION", "ddl 'd'", 0},
		{"ALTER DATABASE d SET work_mem = 1", "ddl 'd', privilege 'd'", 0},
		{"DROP DATABASE d", "ddl 'd'", 0},
		{"CREATE TABLESPACE x LOCATION '/x'", "ddl 'x', file 'x'", 0},
		{"ALTER TABLESPACE x SET (random_page_cost = 1)", "ddl 'x'", 0},
		{"DROP TABLESPACE x", "ddl 'x', file 'x'", 0},
		{"CREATE FOREIGN DATA WRAPPER w HANDLER f", "ddl 'w', program 'w'", CD},
		{"ALTER FOREIGN DATA WRAPPER w OPTIONS (a 'b')", "ddl 'w', program 'w'", CD},
		{"CREATE SERVER s FOREIGN DATA WRAPPER w", "ddl 's'", CD},
		{"ALTER SERVER s OPTIONS (a 'b')", "ddl 's'", CD},
		{"CHECKPOINT", "ddl", 0},
	};

	check_rows(rows, ARRAY_SIZE(rows));
}

static void test_rights(void **state)
{
	static const struct row rows[] = {
		{"GRANT SELECT ON s.t TO bob", "privilege s.t", 0},
		{"GRANT EXECUTE ON FUNCTION f(int) TO bob", "privilege f()", 0},
		{"GRANT USAGE ON SCHEMA a, b TO bob", "privilege 'a', privilege 'b'", 0},
		{"REVOKE ALL ON ALL TABLES IN SCHEMA s FROM PUBLIC", "privilege 's'", 0},
		{"GRANT a, b TO bob", "privilege 'a', privilege 'b'", 0},
		{"ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO bob", "privilege", 0},
		{"CREATE ROLE bob SUPERUSER", "privilege 'bob'", 0},
		{"CREATE USER bob PASSWORD 'x'", "privilege 'bob'", LI},
		{"ALTER ROLE bob CREATEDB", "privilege 'bob'", 0},
		{"ALTER ROLE bob SET work_mem = 1", "privilege 'bob'", 0},
		{"ALTER ROLE bob RENAME TO eve", "privilege 'bob'", 0},
		{"ALTER GROUP g ADD USER bob", "privilege 'g'", 0},
		{"DROP ROLE a, b", "privilege 'a', privilege 'b'", 0},
		{"DROP OWNED BY bob", "ddl 'bob', privilege 'bob'", 0},
		{"REASSIGN OWNED BY bob TO eve", "ddl 'bob', privilege 'bob'", 0},
		{"SECURITY LABEL ON TABLE t IS 'x'", "privilege t", 0},
		{"CREATE USER MAPPING FOR bob SERVER s OPTIONS (user 'x')", "ddl 's', privilege 's'",
		 0 | CD},
		{"ALTER USER MAPPING FOR bob SERVER s OPTIONS (SET password 'x')",
		 "ddl 's', privilege 's'", LI | CD},
		{"DROP USER MAPPING FOR bob SERVER s", "ddl 's', privilege 's'", 0},
		{"CREATE SUBSCRIPTION x CONNECTION 'host=a' PUBLICATION p",
		 "ddl 'x', privilege 'x'", LI | CD},
		{"ALTER SUBSCRIPTION x CONNECTION 'host=a'", "ddl 'x', privilege 'x'", LI | CD},
		{"ALTER SUBSCRIPTION x DISABLE", "ddl 'x', privilege 'x'", CD},
		{"ALTER SYSTEM SET archive_command = 'x'",
		 "privilege 'archive_command', file 'archive_command'", LI},
		{"ALTER SYSTEM RESET ALL", "privilege, file", 0},
		{"SET ROLE bob", "privilege 'bob'", LI},
		{"RESET ROLE", "privilege 'role'", 0},
		{"SET SESSION AUTHORIZATION bob", "privilege 'bob'", LI},
		{"UPDATE pg_authid SET rolsuper = true", "write pg_authid, privilege pg_authid", 0},
		{"DELETE FROM pg_catalog.pg_class",
		 "write pg_catalog.pg_class, privilege pg_catalog.pg_class", 0},
	};

	check_rows(rows, ARRAY_SIZE(rows));
}

static void test_nothing_is_left_out(void **state)
{
	struct tree *t;

	assert_int_equal(tree_new(512, 1000, &t), 0);
	assert_int_equal(tree_missing(t), 0);
	assert_int_equal(tree_grammar_major(), sql_grammar_major());
	tree_free(t);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_relations),
		cmocka_unit_test(test_other_objects),
		cmocka_unit_test(test_rights),
		cmocka_unit_test(test_nothing_is_left_out),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
