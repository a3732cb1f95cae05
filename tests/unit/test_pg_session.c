/* SPDX-License-Identifier: MIT */
/* The PostgreSQL inspector: startup, statements, denials, and how both sides keep step. */
#include "pg_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

static struct sql *sql;

static struct slice bytes(struct buf *b)
{
	return buf_slice(b);
}

/* What was sent to one side since the last call, as text. */
static void expect_sent(struct rig *r, enum insp_to to, const char *want)
{
	struct buf b;

	buf_init(&b, 1 << 20);
	msg_dump(buf_slice(&r->got[to]), &b);
	assert_int_equal(buf_append(&b, "", 1), 0);
	assert_string_equal((char *)buf_data(&b), want);
	buf_done(&b);
	buf_reset(&r->got[to]);
}

static void expect_lines(struct rig *r, enum insp_dir dir, const char *want)
{
	assert_int_equal(buf_append(&r->lines[dir], "", 1), 0);
	assert_string_equal((char *)buf_data(&r->lines[dir]), want);
	buf_reset(&r->lines[dir]);
}

static void send_buf(struct rig *r, enum insp_dir dir, struct buf *b)
{
	rig_feed(r, dir, bytes(b));
	buf_reset(b);
}

static void login(struct rig *r, bool masking, struct buf *b)
{
	buf_init(b, 32 << 20);
	rig_init(r, sql, masking);
	r->exact = true;
	msg_startup(b, "agent", "shop");
	send_buf(r, INSP_C2S, b);
	msg_login_ok(b);
	/* The client answers between the two authentication messages. */
	rig_feed(r, INSP_S2C, slice_of(buf_data(b), 9));
	buf_consume(b, 9);
	{
		struct buf p;

		buf_init(&p, 64);
		msg_str(&p, 'p', "hunter2");
		send_buf(r, INSP_C2S, &p);
		buf_done(&p);
	}
	send_buf(r, INSP_S2C, b);
	assert_int_equal(r->status, INSP_MORE);
	buf_reset(&r->got[0]);
	buf_reset(&r->got[1]);
}

static void logout(struct rig *r, struct buf *b)
{
	buf_done(b);
	rig_done(r);
}

static void test_login(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	login(&r, false, &b);
	expect_lines(&r, INSP_C2S, "1 login agent@shop allow\n");
	expect_lines(&r, INSP_S2C, "2 key 7 8\n4 ready\n");
	assert_non_null(memmem(buf_data(&r.secrets), r.secrets.n, "hunter2", 7));
	logout(&r, &b);
}

static void test_simple_query(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	login(&r, false, &b);
	msg_str(&b, 'Q', "SELECT 1");
	send_buf(&r, INSP_C2S, &b);
	expect_sent(&r, INSP_TO_SERVER, "Q(SELECT 1)");
	msg_rows(&b, (const char *[]){"a:0:0:23", NULL});
	msg_row(&b, (const char *[]){"1", NULL});
	msg_str(&b, 'C', "SELECT 1");
	msg_ready(&b, 'I');
	send_buf(&r, INSP_S2C, &b);
	expect_lines(&r, INSP_S2C, "2 key 7 8\n4 ready\n6 result SELECT 1 rows=1 of=3\n");
	assert_int_equal(r.status, INSP_MORE);
	logout(&r, &b);
}

static void test_denied_query(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	login(&r, false, &b);
	msg_str(&b, 'Q', "BEGIN");
	send_buf(&r, INSP_C2S, &b);
	msg_str(&b, 'C', "BEGIN");
	msg_ready(&b, 'T');
	send_buf(&r, INSP_S2C, &b);
	buf_reset(&r.got[0]);
	buf_reset(&r.got[1]);
	msg_str(&b, 'Q', "DROP TABLE denied /* DENIED */");
	send_buf(&r, INSP_C2S, &b);
	expect_sent(&r, INSP_TO_SERVER, "");
	expect_sent(&r, INSP_TO_CLIENT,
		    "E(SERROR.VERROR.C42501.Mdenied by rule 1.Drequest r1) Z(T)");
	/* Behind a reply that is due the denial waits for its turn. */
	msg_str(&b, 'Q', "COMMIT");
	msg_str(&b, 'Q', "SELECT 'DENIED'");
	send_buf(&r, INSP_C2S, &b);
	expect_sent(&r, INSP_TO_SERVER, "Q(COMMIT)");
	expect_sent(&r, INSP_TO_CLIENT, "");
	msg_str(&b, 'C', "COMMIT");
	msg_ready(&b, 'I');
	send_buf(&r, INSP_S2C, &b);
	expect_sent(&r, INSP_TO_CLIENT,
		    "C(COMMIT) Z(I) E(SERROR.VERROR.C42501.Mdenied by rule 1.Drequest r1) Z(I)");
	logout(&r, &b);
}

static void test_denied_parse(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	login(&r, false, &b);
	msg_parse(&b, "", "SELECT 'DENIED'");
	msg_bind(&b, "", "", NULL, 0);
	msg_target(&b, 'D', 'P', "");
	msg_execute(&b, "");
	msg_empty(&b, 'S');
	send_buf(&r, INSP_C2S, &b);
	expect_sent(&r, INSP_TO_SERVER, "S");
	expect_sent(&r, INSP_TO_CLIENT, "E(SERROR.VERROR.C42501.Mdenied by rule 1.Drequest r1)");
	msg_ready(&b, 'I');
	send_buf(&r, INSP_S2C, &b);
	expect_sent(&r, INSP_TO_CLIENT, "Z(I)");
	/* The session goes on. */
	msg_parse(&b, "", "SELECT 1");
	msg_bind(&b, "", "", NULL, 0);
	msg_execute(&b, "");
	msg_empty(&b, 'S');
	send_buf(&r, INSP_C2S, &b);
	expect_sent(&r, INSP_TO_SERVER, "P(SELECT 1) B E S");
	logout(&r, &b);
}

/* What ran in the same batch must not be committed by its Sync. */
static void test_denied_after_execute(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	login(&r, false, &b);
	msg_parse(&b, "", "INSERT INTO t VALUES (1)");
	msg_bind(&b, "", "", NULL, 0);
	msg_execute(&b, "");
	msg_parse(&b, "", "SELECT 'DENIED'");
	msg_bind(&b, "", "", NULL, 0);
	msg_execute(&b, "");
	msg_empty(&b, 'S');
	send_buf(&r, INSP_C2S, &b);
	expect_sent(&r, INSP_TO_SERVER, "P(INSERT INTO t VALUES (1)) B E "
		    "P(tidegate_refused.refused by Tidegate) S");
	msg_empty(&b, '1');
	msg_empty(&b, '2');
	msg_str(&b, 'C', "INSERT 0 1");
	msg_error(&b, "ERROR", "42601", "syntax error at or near \"refused\"", NULL);
	msg_ready(&b, 'I');
	send_buf(&r, INSP_S2C, &b);
	expect_sent(&r, INSP_TO_CLIENT, "1 2 C(INSERT 0 1) "
		    "E(SERROR.VERROR.C42501.Mdenied by rule 1.Drequest r1) Z(I)");
	assert_int_equal(r.status, INSP_MORE);
	logout(&r, &b);
}

static int setup(void **state)
{
	(void)state;
	return sql_new(NULL, &sql);
}

static int teardown(void **state)
{
	(void)state;
	sql_free(sql);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_login),
		cmocka_unit_test(test_simple_query),
		cmocka_unit_test(test_denied_query),
		cmocka_unit_test(test_denied_parse),
		cmocka_unit_test(test_denied_after_execute),
	};

	return cmocka_run_group_tests_name("pg_session", tests, setup, teardown);
}
