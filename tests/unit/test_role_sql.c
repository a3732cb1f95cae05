/* SPDX-License-Identifier: MIT */
/* What is said to a server about roles that live as long as a grant. */
#include "daemon/role_sql.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>
#include <errno.h>

#define SAID(b, call, text)                                                                        \
	do {                                                                                       \
		buf_reset(b);                                                                      \
		assert_int_equal(call, 0);                                                         \
		assert_int_equal(buf_append(b, "", 1), 0);                                         \
		assert_string_equal((const char *)buf_data(b), text);                              \
	} while (0)

static void test_names(void **state)
{
	static const struct {
		const char *agent;
		uint8_t random[ROLE_RANDOM];
		const char *name;
	} rows[] = {
		{"bot", {0}, "tg_bot_aaaaaaaaaaaaaaaaaaaaaaaaaa"},
		/* RFC 4648; of the last character three bits are of its own. */
		{"ci-7.x", "foobarfoobarfoo" "b", "tg_ci_7_x_mzxw6ytbojtg633cmfzgm33pmi"},
		{"x", {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
		       0xff, 0xff}, "tg_x_77777777777777777777777774"},
		{"an-agent-with-a-very-long-name-indeed", {0},
		 "tg_an_agent_with_a_very_lon_aaaaaaaaaaaaaaaaaaaaaaaaaa"},
	};
	char name[ROLE_NAME_TEXT];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		role_name(rows[i].agent, rows[i].random, name);
		assert_string_equal(name, rows[i].name);
		assert_true(strlen(name) < 64);
	}
}

static void test_quotes(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, ROLE_SQL_MAX);
	SAID(&b, role_sql_ident(&b, "plain"), "\"plain\"");
	SAID(&b, role_sql_ident(&b, "a\"b\\c'd"), "\"a\"\"b\\c'd\"");
	SAID(&b, role_sql_literal(&b, "it's"), "'it''s'");
	SAID(&b, role_sql_literal(&b, "\\'; DROP"), " E'\\\\''; DROP'");
	SAID(&b, role_sql_shut(&b, "x\"; DROP ROLE y; --"),
	     "ALTER ROLE \"x\"\"; DROP ROLE y; --\" NOLOGIN");
	SAID(&b, role_sql_rekey(&b, "r", "SCRAM-SHA-256$4096:a$b:c"),
	     "ALTER ROLE \"r\" PASSWORD 'SCRAM-SHA-256$4096:a$b:c'");
	buf_done(&b);
	/* What does not fit is no statement. */
	buf_init(&b, 8);
	assert_int_equal(role_sql_shut(&b, "role"), -EMSGSIZE);
	buf_done(&b);
}

#define SOON "SET LOCAL lock_timeout = '5s';\n"
#define TURN "SET LOCAL lock_timeout = '1s';\nSELECT pg_catalog.pg_advisory_xact_lock(1952736116, 1919904869);\n" SOON
#define HEAD                                                                                       \
	"BEGIN;\n" TURN                                             \
	"CREATE ROLE \"tg\" LOGIN INHERIT NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION "       \
	"NOBYPASSRLS PASSWORD 'v' VALID UNTIL 'u' CONNECTION LIMIT 7;\n"                            \
	"COMMENT ON ROLE \"tg\" IS 'c';\n"

static void test_make(void **state)
{
	static const char *const grants[] = {"reader", "od\"d",
					     "GRANT SELECT ON \"{role}\", '{role}' TO {role}",
					     "grant connect on database {database} to {role}", NULL};
	struct role_spec r = {.role = "tg", .verifier = "v", .comment = "c", .until = "u",
			      .database = "d\"b", .grants = grants, .connections = 7,
			      .server_version = 150003, .in_turn = true};
	struct buf b;

	(void)state;
	buf_init(&b, ROLE_SQL_MAX);
	SAID(&b, role_sql_make(&b, &r),
	     HEAD "GRANT \"reader\" TO \"tg\";\nGRANT \"od\"\"d\" TO \"tg\";\n"
		  "GRANT SELECT ON \"{role}\", '{role}' TO \"tg\";\n"
		  "grant connect on database \"d\"\"b\" to \"tg\";\n");
	/* From 16 on it inherits, and cannot become what it is a member of. */
	r.server_version = 160000;
	r.grants = (const char *const[]){"reader", NULL};
	SAID(&b, role_sql_make(&b, &r),
	     HEAD "GRANT \"reader\" TO \"tg\" WITH INHERIT TRUE, SET FALSE;\n");
	SAID(&b, role_sql_join(&b, "tg", 150000), "GRANT \"tg\" TO CURRENT_USER");
	SAID(&b, role_sql_join(&b, "tg", 160001),
	     "GRANT \"tg\" TO CURRENT_USER WITH INHERIT TRUE, SET TRUE");
	buf_done(&b);
}

/* In all that compares something: an operator of somebody else's could fit better than the server's. */
static void test_search_path(void **state)
{
	static const char head[] = "SET LOCAL search_path = pg_catalog;\nSELECT ";
	struct buf b[7];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(b); i++)
		buf_init(&b[i], ROLE_SQL_MAX);
	assert_int_equal(role_sql_clock(&b[0], 5), 0);
	assert_int_equal(role_sql_look(&b[1], "r", "o'o"), 0);
	assert_int_equal(role_sql_terminate(&b[2], "r", false, 150000), 0);
	assert_int_equal(role_sql_terminate(&b[3], "r", true, 150000), 0);
	assert_int_equal(role_sql_databases(&b[4], "r"), 0);
	assert_int_equal(role_sql_code(&b[5], "it's"), 0);
	assert_int_equal(role_sql_left(&b[6], "m"), 0);
	for (size_t i = 0; i < ARRAY_SIZE(b); i++) {
		assert_int_equal(buf_append(&b[i], "", 1), 0);
		assert_memory_equal(buf_data(&b[i]), head, sizeof(head) - 1);
	}
	assert_non_null(strstr((const char *)buf_data(&b[1]), "o.rolname = 'o''o' AND"));
	assert_non_null(strstr((const char *)buf_data(&b[5]), "WHERE rolname = 'it''s')"));
	for (size_t i = 0; i < ARRAY_SIZE(b); i++)
		buf_done(&b[i]);
}

static void test_end(void **state)
{
	struct buf b;

	(void)state;
	buf_init(&b, ROLE_SQL_MAX);
	SAID(&b, role_sql_disown(&b, "r", NULL, false, true),
	     TURN "REASSIGN OWNED BY \"r\" TO CURRENT_USER;\nDROP OWNED BY \"r\"");
	SAID(&b, role_sql_disown(&b, "r", "boss", false, true),
	     TURN "REASSIGN OWNED BY \"r\" TO \"boss\";\nDROP OWNED BY \"r\"");
	SAID(&b, role_sql_drop(&b, "r", NULL, true, true),
	     "BEGIN;\n" TURN "DROP OWNED BY \"r\";\nDROP ROLE \"r\";\nCOMMIT");
	SAID(&b, role_sql_revoke(&b, "r", "d", "GRANT INSERT ON a TO {role}", true),
	     TURN "REVOKE INSERT ON a FROM \"r\";\n");
	SAID(&b, role_sql_revoke(&b, "r", "d", "grant connect on database {database} to   {role}", true),
	     TURN "REVOKE connect on database \"d\" FROM \"r\";\n");
	SAID(&b, role_sql_revoke(&b, "r", "d", "a_role", true), "");
	buf_reset(&b);
	assert_int_equal(role_sql_revoke(&b, "r", "d", "GRANT x ON y {role}", true), -EINVAL);
	/* Somebody keeps the lock that all wait for. */
	SAID(&b, role_sql_revoke(&b, "r", "d", "GRANT INSERT ON a TO {role}", false),
	     SOON "REVOKE INSERT ON a FROM \"r\";\n");
	SAID(&b, role_sql_drop(&b, "r", NULL, true, false),
	     "BEGIN;\n" SOON "DROP OWNED BY \"r\";\nDROP ROLE \"r\";\nCOMMIT");
	SAID(&b, role_sql_terminate(&b, "r", true, 130000), "SELECT pg_catalog.pg_sleep(0.5)");
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_names),
		cmocka_unit_test(test_quotes),
		cmocka_unit_test(test_make),
		cmocka_unit_test(test_search_path),
		cmocka_unit_test(test_end),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
