/* SPDX-License-Identifier: MIT */
/* The PostgreSQL inspector: what a name means to the server, and when a setting is known. */
#include "pg_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#define N63 "nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn"

_Static_assert(sizeof(N63) == 64, "as long as a name can be");

static void expect_line(struct rig *r, const char *want)
{
	const char *text;

	assert_int_equal(buf_append(&r->lines[0], "", 1), 0);
	text = (char *)buf_data(&r->lines[0]);
	if (!strstr(text, want))
		print_error("%s\nwithout %s\n", text, want);
	assert_non_null(strstr(text, want));
}

/* Two names that are one to the server are one here: what waits for its approval waits. */
static void test_long_statement(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_parse(&b, N63 "1", "SELECT 1");
	msg_target(&b, 'C', 'S', N63 "2");
	msg_parse(&b, N63 "2", "DELETE FROM t -- LATER WAITING");
	msg_bind(&b, "p", N63 "1", "17", 0);
	msg_execute(&b, "p");
	rig_send(&r, INSP_C2S, &b);
	assert_true(inspector_postgresql.holding(r.state));
	rig_logout(&r, &b);
}

static void test_long_portal(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_parse(&b, "a", "SELECT 1");
	msg_parse(&b, "b", "DELETE FROM t -- LATER WAITING");
	msg_bind(&b, N63 "1", "a", "17", 0);
	msg_target(&b, 'C', 'P', N63 "2");
	msg_bind(&b, N63 "2", "b", "17", 0);
	msg_execute(&b, N63 "1");
	rig_send(&r, INSP_C2S, &b);
	assert_true(inspector_postgresql.holding(r.state));
	rig_logout(&r, &b);
}

/* FETCH was parsed when nothing had that name, and runs when it is what waits for its approval. */
static void test_fetch_of_what_waits(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_parse(&b, "f", "FETCH ALL FROM c");
	msg_parse(&b, "w", "DELETE FROM t RETURNING 1 -- LATER WAITING");
	msg_bind(&b, "c", "w", "17", 0);
	msg_bind(&b, "p", "f", "17", 0);
	rig_send(&r, INSP_C2S, &b);
	buf_reset(&r.got[INSP_TO_SERVER]);
	msg_execute(&b, "p");
	rig_send(&r, INSP_C2S, &b);
	assert_null(memchr(buf_data(&r.got[INSP_TO_SERVER]), 'E', r.got[INSP_TO_SERVER].n));
	rig_logout(&r, &b);
}

/* The rig's server does not say that it uses UTF-8: such a name may be another's. */
static void test_foreign_name(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_parse(&b, "\xc3\xa9", "SELECT 1");
	msg_empty(&b, 'S');
	rig_send(&r, INSP_C2S, &b);
	assert_null(memchr(buf_data(&r.got[INSP_TO_SERVER]), 'P', r.got[INSP_TO_SERVER].n));
	rig_logout(&r, &b);
}

/* SET has run, but its ParameterStatus comes with ReadyForQuery only. */
static void test_setting_not_told(void **state)
{
	char want[80];
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_parse(&b, "", "SET client_encoding = 'SJIS'");
	msg_bind(&b, "", "", "17", 0);
	msg_execute(&b, "");
	msg_empty(&b, 'H');
	rig_send(&r, INSP_C2S, &b);
	msg_empty(&b, '1');
	msg_empty(&b, '2');
	msg_str(&b, 'C', "SET");
	rig_send(&r, INSP_S2C, &b);
	msg_parse(&b, "", "SELECT '\x95\x5c'");
	rig_send(&r, INSP_C2S, &b);
	(void)snprintf(want, sizeof(want), "allow effects=%x", SQL_UNKNOWN);
	expect_line(&r, want);
	rig_logout(&r, &b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_long_statement),
		cmocka_unit_test(test_long_portal),
		cmocka_unit_test(test_fetch_of_what_waits),
		cmocka_unit_test(test_foreign_name),
		cmocka_unit_test(test_setting_not_told),
	};

	return cmocka_run_group_tests(tests, rig_setup, rig_teardown);
}
