/* SPDX-License-Identifier: MIT */
/* The PostgreSQL inspector: startup, statements, denials, and how both sides keep step. */
#include "pg_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

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

static void test_login(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	expect_lines(&r, INSP_C2S, "1 login agent@shop allow\n");
	expect_lines(&r, INSP_S2C, "2 key 7 8\n4 ready\n");
	assert_non_null(memmem(buf_data(&r.secrets), r.secrets.n, "hunter2", 7));
	rig_logout(&r, &b);
}

static void test_simple_query(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_str(&b, 'Q', "SELECT 1");
	rig_send(&r, INSP_C2S, &b);
	expect_sent(&r, INSP_TO_SERVER, "Q(SELECT 1)");
	msg_rows(&b, (const char *[]){"a:0:0:23", NULL});
	msg_row(&b, (const char *[]){"1", NULL});
	msg_str(&b, 'C', "SELECT 1");
	msg_ready(&b, 'I');
	rig_send(&r, INSP_S2C, &b);
	expect_lines(&r, INSP_S2C, "2 key 7 8\n4 ready\n6 result SELECT 1 rows=1 of=3\n");
	assert_int_equal(r.status, INSP_MORE);
	rig_logout(&r, &b);
}

static void test_denied_query(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_str(&b, 'Q', "BEGIN");
	rig_send(&r, INSP_C2S, &b);
	msg_str(&b, 'C', "BEGIN");
	msg_ready(&b, 'T');
	rig_send(&r, INSP_S2C, &b);
	buf_reset(&r.got[0]);
	buf_reset(&r.got[1]);
	msg_str(&b, 'Q', "DROP TABLE denied /* DENIED */");
	rig_send(&r, INSP_C2S, &b);
	expect_sent(&r, INSP_TO_SERVER, "");
	expect_sent(&r, INSP_TO_CLIENT,
		    "E(SERROR.VERROR.C42501.Mdenied by rule 1.Drequest r1) Z(T)");
	/* Behind a reply that is due the denial waits for its turn. */
	msg_str(&b, 'Q', "COMMIT");
	msg_str(&b, 'Q', "SELECT 'DENIED'");
	rig_send(&r, INSP_C2S, &b);
	expect_sent(&r, INSP_TO_SERVER, "Q(COMMIT)");
	expect_sent(&r, INSP_TO_CLIENT, "");
	msg_str(&b, 'C', "COMMIT");
	msg_ready(&b, 'I');
	rig_send(&r, INSP_S2C, &b);
	expect_sent(&r, INSP_TO_CLIENT,
		    "C(COMMIT) Z(I) E(SERROR.VERROR.C42501.Mdenied by rule 1.Drequest r1) Z(I)");
	rig_logout(&r, &b);
}

static void test_denied_parse(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_parse(&b, "", "SELECT 'DENIED'");
	msg_bind(&b, "", "", NULL, 0);
	msg_target(&b, 'D', 'P', "");
	msg_execute(&b, "");
	msg_empty(&b, 'S');
	rig_send(&r, INSP_C2S, &b);
	expect_sent(&r, INSP_TO_SERVER, "S");
	expect_sent(&r, INSP_TO_CLIENT, "E(SERROR.VERROR.C42501.Mdenied by rule 1.Drequest r1)");
	msg_ready(&b, 'I');
	rig_send(&r, INSP_S2C, &b);
	expect_sent(&r, INSP_TO_CLIENT, "Z(I)");
	/* The session goes on. */
	msg_parse(&b, "", "SELECT 1");
	msg_bind(&b, "", "", NULL, 0);
	msg_execute(&b, "");
	msg_empty(&b, 'S');
	rig_send(&r, INSP_C2S, &b);
	expect_sent(&r, INSP_TO_SERVER, "P(SELECT 1) B E S");
	rig_logout(&r, &b);
}

/* What ran in the same batch must not be committed by its Sync. */
static void test_denied_after_execute(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_parse(&b, "", "INSERT INTO t VALUES (1)");
	msg_bind(&b, "", "", NULL, 0);
	msg_execute(&b, "");
	msg_parse(&b, "", "SELECT 'DENIED'");
	msg_bind(&b, "", "", NULL, 0);
	msg_execute(&b, "");
	msg_empty(&b, 'S');
	rig_send(&r, INSP_C2S, &b);
	expect_sent(&r, INSP_TO_SERVER, "P(INSERT INTO t VALUES (1)) B E "
		    "P(tidegate_refused.refused by Tidegate) S");
	msg_empty(&b, '1');
	msg_empty(&b, '2');
	msg_str(&b, 'C', "INSERT 0 1");
	msg_error(&b, "ERROR", "42601", "syntax error at or near \"refused\"", NULL);
	msg_ready(&b, 'I');
	rig_send(&r, INSP_S2C, &b);
	expect_sent(&r, INSP_TO_CLIENT, "1 2 C(INSERT 0 1) "
		    "E(SERROR.VERROR.C42501.Mdenied by rule 1.Drequest r1) Z(I)");
	assert_int_equal(r.status, INSP_MORE);
	rig_logout(&r, &b);
}

/* ------------------------------------------------------------------ startup */

struct start_case {
	struct slice c2s;
	enum insp_status status;
	uint16_t why;
	const char *client; /* part of what the client gets */
};

#define L(s) SLICE_LIT(s)

static const struct start_case starts[] = {
	{L("\0\0\0\10\4\322\26\57"), INSP_MORE, TG_R_NONE, "N"},
	{L("\0\0\0\10\4\322\26\60"), INSP_MORE, TG_R_NONE, "N"},
	/* one request for encryption of a kind */
	{L("\0\0\0\10\4\322\26\57\0\0\0\10\4\322\26\57"), INSP_BAD, TG_R_PROTO_BAD, "N"},
	{L("\0\0\0\20\4\322\26\56\0\0\0\7\0\0\0\10"), INSP_END, TG_R_NONE, ""},
	{L("\0\0\0\21\4\322\26\56\0\0\0\7\0\0\0\10\0"), INSP_BAD, TG_R_PROTO_UNSUPPORTED, ""},
	{L("\0\0\0\11\0\2\0\0\0"), INSP_END, TG_R_PROTO_UNSUPPORTED, "0A000"},
	{L("\0\0\0\11\0\3\0\0\0"), INSP_BAD, TG_R_PROTO_BAD, ""}, /* no user */
	{L("\0\0\0\52\0\3\0\0user\0a\0replication\0database\0\0"), INSP_END,
	 TG_R_PROTO_UNSUPPORTED, "replication"},
	{L("\0\0\0\45\0\3\0\0user\0a\0replication\0off\0\0"), INSP_MORE, TG_R_NONE, ""},
	{L("\0\0\0\42\0\3\0\0user\0a\0database\0nobody\0\0"), INSP_END, TG_R_RULE_DENY,
	 "28000"},
	{L("\0\1\0\0\0\3\0\0"), INSP_BAD, TG_R_PROTO_LIMIT, ""},
	{L("GET / HTTP/1.1\r\n"), INSP_BAD, TG_R_PROTO_BAD, ""},
};

static void test_startup(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(starts); i++) {
		const struct start_case *c = &starts[i];
		struct slice in = c->c2s;
		uint8_t copy[128];
		struct rig r;

		/* The length of a startup message is worked out here. */
		memcpy(copy, in.p, in.n);
		if (in.n > 20 && in.p[4] == 0)
			store_be32(copy, (uint32_t)in.n);
		rig_init(&r, rig_sql, false);
		r.exact = true;
		rig_feed(&r, INSP_C2S, slice_of(copy, in.n));
		if (r.status != c->status || r.why != c->why)
			print_error("case %zu\n", i);
		assert_int_equal(r.status, c->status);
		assert_int_equal(r.why, c->why);
		assert_true(!*c->client || memmem(buf_data(&r.got[1]), r.got[1].n, c->client,
						  strlen(c->client)));
		/* Nothing reaches the server before the login is allowed. */
		if (c->status != INSP_MORE)
			assert_int_equal(r.got[0].n, 0);
		rig_done(&r);
	}
}

/* A server on a socket that lets the session in unasked. */
static void test_unasked_auth(void **state)
{
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct buf b;
		struct rig r;

		buf_init(&b, 4096);
		rig_init(&r, rig_sql, false);
		r.env.server_socket = i & 1;
		r.env.socket_trust = i & 2;
		msg_startup(&b, "agent", "shop");
		rig_send(&r, INSP_C2S, &b);
		msg_add(&b, 'R', L("\0\0\0\0"));
		msg_ready(&b, 'I');
		rig_send(&r, INSP_S2C, &b);
		assert_int_equal(r.status, i == 1 ? INSP_BAD : INSP_MORE);
		assert_int_equal(r.why, i == 1 ? TG_R_SERVER_UNASKED_AUTH : TG_R_NONE);
		buf_done(&b);
		rig_done(&r);
	}
}

static void test_ready_without_auth(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	buf_init(&b, 4096);
	rig_init(&r, rig_sql, false);
	msg_startup(&b, "agent", "shop");
	rig_send(&r, INSP_C2S, &b);
	msg_ready(&b, 'I');
	rig_send(&r, INSP_S2C, &b);
	assert_int_equal(r.status, INSP_BAD);
	buf_done(&b);
	rig_done(&r);
}

/* -------------------------------------------------------------------- holding */

static void test_hold(void **state)
{
	(void)state;
	for (int release = -1; release <= 1; release += 2) {
		struct buf b;
		struct rig r;

		rig_login(&r, false, &b);
		msg_str(&b, 'Q', "DELETE FROM t -- WAITING");
		msg_str(&b, 'Q', "SELECT 2");
		rig_send(&r, INSP_C2S, &b);
		assert_true(inspector_postgresql.holding(r.state));
		expect_sent(&r, INSP_TO_SERVER, "");
		inspector_postgresql.notice(r.state, L("waiting for approval"));
		assert_int_equal(r.out[INSP_TO_CLIENT].bytes, 51);
		insp_out_reset(&r.out[INSP_TO_CLIENT]);
		r.release = release;
		rig_again(&r);
		assert_false(inspector_postgresql.holding(r.state));
		expect_sent(&r, INSP_TO_SERVER,
			    release > 0 ? "Q(DELETE FROM t -- WAITING) Q(SELECT 2)" : "Q(SELECT 2)");
		expect_sent(&r, INSP_TO_CLIENT, release > 0 ? "" :
			    "E(SERROR.VERROR.C57014.Mcanceling statement due to user request) Z(I)");
		rig_logout(&r, &b);
	}
}

/* Approval at Execute: by what is run, and once for a portal. */
static void test_hold_execute(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_parse(&b, "s", "DELETE FROM t WHERE a = $1 -- LATER WAITING");
	msg_bind(&b, "p", "s", "17", 0);
	msg_execute(&b, "p");
	msg_execute(&b, "p");
	msg_empty(&b, 'S');
	rig_send(&r, INSP_C2S, &b);
	assert_true(inspector_postgresql.holding(r.state));
	expect_sent(&r, INSP_TO_SERVER,
		    "P(s.DELETE FROM t WHERE a = $1 -- LATER WAITING) B(p.s.17)");
	r.release = 1;
	rig_again(&r);
	expect_sent(&r, INSP_TO_SERVER, "E(p) E(p) S");
	assert_int_equal(buf_append(&r.lines[0], "", 1), 0);
	{
		const char *text = (char *)buf_data(&r.lines[0]), *one = strstr(text, "execute");

		assert_non_null(one);
		assert_null(strstr(one + 1, "execute"));
		assert_non_null(strstr(one, "of=3 digest="));
	}
	rig_logout(&r, &b);
}

/* What is held falls with its batch. */
static void test_held_in_failed_batch(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_parse(&b, "", "SELECT 1/0");
	msg_bind(&b, "", "", NULL, 0);
	msg_execute(&b, "");
	msg_parse(&b, "", "DELETE FROM t -- WAITING");
	msg_empty(&b, 'S');
	rig_send(&r, INSP_C2S, &b);
	assert_true(inspector_postgresql.holding(r.state));
	buf_reset(&r.got[0]);
	msg_empty(&b, '1');
	msg_error(&b, "ERROR", "22012", "division by zero", NULL);
	rig_send(&r, INSP_S2C, &b);
	assert_false(inspector_postgresql.holding(r.state));
	rig_again(&r);
	expect_sent(&r, INSP_TO_SERVER, "S");
	rig_logout(&r, &b);
}

/* ------------------------------------------------------------------- in step */

static void test_skip_to_sync(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_parse(&b, "", "SELECT 1/0");
	msg_bind(&b, "", "", NULL, 0);
	msg_execute(&b, "");
	msg_parse(&b, "", "SELECT 'DENIED'"); /* would be skipped anyway */
	msg_empty(&b, 'S');
	msg_str(&b, 'Q', "SELECT 5");
	rig_send(&r, INSP_C2S, &b);
	buf_reset(&r.got[0]);
	msg_empty(&b, '1');
	msg_error(&b, "ERROR", "22012", "division by zero", NULL);
	msg_ready(&b, 'I');
	msg_rows(&b, (const char *[]){"a:0:0:23", NULL});
	msg_str(&b, 'C', "SELECT 0");
	msg_ready(&b, 'I');
	rig_send(&r, INSP_S2C, &b);
	expect_sent(&r, INSP_TO_CLIENT, "1 E(SERROR.VERROR.C22012.Mdivision by zero) Z(I) "
		    "T(a) C(SELECT 0) Z(I)");
	assert_int_equal(r.status, INSP_MORE);
	rig_logout(&r, &b);
}

static void test_unfit(void **state)
{
	static const char types[] = "123CDTntIsZGHWVcdRKv";

	(void)state;
	for (size_t i = 0; i < sizeof(types) - 1; i++) {
		struct buf b;
		struct rig r;

		rig_login(&r, false, &b);
		msg_add(&b, (uint8_t)types[i], L("\0\0\0\0"));
		rig_send(&r, INSP_S2C, &b);
		assert_int_equal(r.status, INSP_BAD);
		assert_int_equal(r.got[1].n, 0);
		rig_logout(&r, &b);
	}
}

static void test_bad_client(void **state)
{
	static const struct {
		struct slice in;
		uint16_t why;
	} cases[] = {
		{L("Y\0\0\0\4"), TG_R_PROTO_BAD},
		{L("Q\0\0\0\3"), TG_R_PROTO_BAD},
		{L("Q\0\0\0\12SELECT"), TG_R_PROTO_BAD}, /* no terminator */
		{L("Q\0\0\0\10a\0b\0"), TG_R_PROTO_BAD}, /* something behind it */
		{L("Q\177\377\377\377"), TG_R_PROTO_LIMIT},
		{L("E\0\1\0\0"), TG_R_PROTO_LIMIT},
		{L("P\0\0\0\12\0a\0\0\1x"), TG_R_PROTO_BAD},
		{L("p\0\0\0\5\0"), TG_R_PROTO_BAD},
		{L("S\0\0\0\5x"), TG_R_PROTO_BAD},
		{L("D\0\0\0\6X\0"), TG_R_PROTO_BAD},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf b;
		struct rig r;

		rig_login(&r, false, &b);
		rig_feed(&r, INSP_C2S, cases[i].in);
		if (r.status != INSP_BAD || r.why != cases[i].why)
			print_error("case %zu\n", i);
		assert_int_equal(r.status, INSP_BAD);
		assert_int_equal(r.why, cases[i].why);
		assert_int_equal(r.got[0].n, 0);
		rig_logout(&r, &b);
	}
}

static void test_too_long(void **state)
{
	char *text = malloc(5000);
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	r.env.limits.message_bytes = 4096;
	memset(text, 'x', 4999);
	text[4999] = 0;
	msg_str(&b, 'Q', text);
	msg_str(&b, 'Q', "SELECT 1");
	rig_send(&r, INSP_C2S, &b);
	expect_sent(&r, INSP_TO_SERVER, "Q(SELECT 1)");
	assert_non_null(memmem(buf_data(&r.got[1]), r.got[1].n, "C54000", 6));
	assert_true(r.peak < 5100);
	free(text);
	rig_logout(&r, &b);
}

/* -------------------------------------------------------------------- names */

/* What the server will refuse must not make a name mean something else. */
static void test_names_after_skip(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_parse(&b, "s", "DELETE FROM t -- LATER");
	msg_empty(&b, 'S');
	rig_send(&r, INSP_C2S, &b);
	msg_empty(&b, '1');
	msg_ready(&b, 'I');
	rig_send(&r, INSP_S2C, &b);
	buf_reset(&r.got[0]);
	/* The batch fails at once, so Close and Parse are skipped: s is still the DELETE. */
	msg_parse(&b, "bad", "SELECT +");
	msg_target(&b, 'C', 'S', "s");
	msg_parse(&b, "s", "SELECT 1");
	msg_empty(&b, 'S');
	msg_bind(&b, "", "s", NULL, 0);
	msg_execute(&b, "");
	msg_empty(&b, 'S');
	rig_send(&r, INSP_C2S, &b);
	/* Bind waits until that is known. */
	expect_sent(&r, INSP_TO_SERVER, "P(bad.SELECT +) C(Ss) P(s.SELECT 1) S");
	msg_error(&b, "ERROR", "42601", "syntax error", NULL);
	msg_ready(&b, 'I');
	rig_send(&r, INSP_S2C, &b);
	expect_sent(&r, INSP_TO_SERVER, "B(s) E S");
	/* The question at Execute is about the DELETE. */
	assert_int_equal(buf_append(&r.lines[0], "", 1), 0);
	assert_non_null(strstr((char *)buf_data(&r.lines[0]), "execute DELETE FROM t -- LATER allow"));
	rig_logout(&r, &b);
}

static void test_missing_names(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_bind(&b, "", "none", NULL, 0);
	msg_execute(&b, "");
	msg_empty(&b, 'S');
	rig_send(&r, INSP_C2S, &b);
	expect_sent(&r, INSP_TO_SERVER, "S");
	expect_sent(&r, INSP_TO_CLIENT, "E(SERROR.VERROR.C26000.Mprepared statement \"none\" "
		    "does not exist)");
	msg_ready(&b, 'I');
	rig_send(&r, INSP_S2C, &b);
	buf_reset(&r.got[1]);
	msg_execute(&b, "gone");
	msg_empty(&b, 'S');
	rig_send(&r, INSP_C2S, &b);
	expect_sent(&r, INSP_TO_CLIENT, "E(SERROR.VERROR.C34000.Mportal \"gone\" does not exist)");
	rig_logout(&r, &b);
}

/* SQL-level names: EXECUTE does what was prepared, and nobody knows what "y" is. */
static void test_sql_execute(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_str(&b, 'Q', "PREPARE x AS DELETE FROM t");
	msg_str(&b, 'Q', "EXECUTE x");
	rig_send(&r, INSP_C2S, &b);
	/* The second waits for the first. */
	expect_sent(&r, INSP_TO_SERVER, "Q(PREPARE x AS DELETE FROM t)");
	msg_str(&b, 'C', "PREPARE");
	msg_ready(&b, 'I');
	rig_send(&r, INSP_S2C, &b);
	expect_sent(&r, INSP_TO_SERVER, "Q(EXECUTE x)");
	msg_str(&b, 'C', "DELETE 3");
	msg_ready(&b, 'I');
	rig_send(&r, INSP_S2C, &b);
	msg_str(&b, 'Q', "EXECUTE y");
	rig_send(&r, INSP_C2S, &b);
	assert_int_equal(buf_append(&r.lines[0], "", 1), 0);
	{
		const char *text = (char *)buf_data(&r.lines[0]);
		char want[80];

		(void)snprintf(want, sizeof(want), "EXECUTE x allow effects=%x",
			       SQL_WRITE | SQL_SESSION);
		if (!strstr(text, want))
			print_error("%s", text);
		assert_non_null(strstr(text, want));
		(void)snprintf(want, sizeof(want), "EXECUTE y allow effects=%x",
			       SQL_UNKNOWN | SQL_SESSION);
		assert_non_null(strstr(text, want));
	}
	rig_logout(&r, &b);
}

/* Where a backslash may mean two things, both must be the same statement. */
static void test_two_readings(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_str(&b, 'Q', "SELECT f()");
	msg_str(&b, 'Q', "SELECT '\\'");
	rig_send(&r, INSP_C2S, &b);
	expect_sent(&r, INSP_TO_SERVER, "Q(SELECT f())");
	msg_str(&b, 'C', "SELECT 1");
	msg_add(&b, 'S', L("standard_conforming_strings\0off\0"));
	msg_ready(&b, 'I');
	rig_send(&r, INSP_S2C, &b);
	/* Now it is an open string. */
	assert_int_equal(buf_append(&r.lines[0], "", 1), 0);
	{
		char want[80];

		(void)snprintf(want, sizeof(want), "SELECT '\\' allow effects=%x", SQL_UNKNOWN);
		assert_non_null(strstr((char *)buf_data(&r.lines[0]), want));
	}
	rig_logout(&r, &b);
}

/* --------------------------------------------------------------------- COPY */

static void test_copy_in_pipelined(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_str(&b, 'Q', "COPY t FROM STDIN");
	msg_add(&b, 'd', L("1\n"));
	msg_empty(&b, 'c');
	msg_str(&b, 'Q', "SELECT 1");
	rig_send(&r, INSP_C2S, &b);
	expect_sent(&r, INSP_TO_SERVER, "Q(COPY t FROM STDIN)");
	msg_add(&b, 'G', L("\0\0\1\0\0"));
	rig_send(&r, INSP_S2C, &b);
	expect_sent(&r, INSP_TO_SERVER, "d(1) c Q(SELECT 1)");
	rig_logout(&r, &b);
}

static void test_copy_in_fails(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_parse(&b, "", "COPY t FROM STDIN");
	msg_bind(&b, "", "", NULL, 0);
	msg_execute(&b, "");
	msg_empty(&b, 'S');
	rig_send(&r, INSP_C2S, &b);
	buf_reset(&r.got[0]);
	msg_empty(&b, '1');
	msg_empty(&b, '2');
	msg_add(&b, 'G', L("\0\0\1\0\0"));
	rig_send(&r, INSP_S2C, &b);
	/* The Sync is ignored while COPY goes on, and counts if COPY fails. */
	expect_sent(&r, INSP_TO_SERVER, "");
	msg_error(&b, "ERROR", "P0001", "a trigger said no", NULL);
	rig_send(&r, INSP_S2C, &b);
	expect_sent(&r, INSP_TO_SERVER, "S");
	msg_ready(&b, 'I');
	rig_send(&r, INSP_S2C, &b);
	assert_int_equal(r.status, INSP_MORE);
	rig_logout(&r, &b);
}

/* ------------------------------------------------------------------ goodbye */

static void test_end(void **state)
{
	const struct insp_words words = {.reason = TG_R_GRANT_EXPIRED, .message = L("over")};
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	inspector_postgresql.end(r.state, &words);
	assert_non_null(memmem(buf_data(&r.out[1].made), r.out[1].made.n, "C57P01", 6));
	insp_out_reset(&r.out[1]);
	/* In the middle of a message nothing may be said. */
	msg_str(&b, 'Q', "SELECT 1");
	rig_send(&r, INSP_C2S, &b);
	msg_rows(&b, (const char *[]){"a:0:0:25", NULL});
	rig_feed(&r, INSP_S2C, slice_of(buf_data(&b), b.n));
	buf_reset(&b);
	rig_feed(&r, INSP_S2C, L("D\0\0\0\100\0\1"));
	inspector_postgresql.end(r.state, &words);
	assert_int_equal(r.out[1].bytes, 0);
	rig_logout(&r, &b);
}

static void test_terminate(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	msg_empty(&b, 'X');
	rig_send(&r, INSP_C2S, &b);
	expect_sent(&r, INSP_TO_SERVER, "X");
	assert_int_equal(r.status, INSP_END);
	assert_int_equal(r.why, TG_R_NONE);
	rig_logout(&r, &b);
}

static void test_probe(void **state)
{
	static const struct {
		struct slice c2s, s2c;
		enum insp_match want;
	} cases[] = {
		{L(""), L(""), INSP_MAYBE},
		{L(""), L("220 hello"), INSP_NO},
		{L("\0\0\0"), L(""), INSP_MAYBE},
		{L("\0\0\0\10\4\322\26\57"), L(""), INSP_YES},
		{L("\0\0\0\20\0\3\0\0"), L(""), INSP_YES},
		{L("\0\0\0\20\0\4\0\0"), L(""), INSP_NO},
		{L("GET "), L(""), INSP_NO},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		assert_int_equal(inspector_postgresql.probe(cases[i].c2s, cases[i].s2c),
				 cases[i].want);
	assert_ptr_equal(inspector_find(L("postgresql")), &inspector_postgresql);
	assert_null(inspector_find(L("gopher")));
	assert_int_equal(detector_parse(L("iban")), DETECT_BIT_IBAN);
	assert_int_equal(detector_parse(L("x")), -1);
	assert_string_equal(mask_how_name(MASK_LAST4), "last4");
	assert_int_equal(mask_how_parse(L("hash")), MASK_HASH);
}

/* More messages in flight than the queue holds: the client waits, and nothing is lost. */
static void test_deep_pipeline(void **state)
{
	enum { DEEP = 20000 };
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, false, &b);
	r.exact = false;
	for (int i = 0; i < DEEP; i++)
		msg_str(&b, 'Q', "SELECT 1");
	rig_send(&r, INSP_C2S, &b);
	assert_int_equal(r.status, INSP_MORE);
	assert_true(r.in[0].n > 0); /* the rest waits */
	for (int i = 0; i < DEEP; i++) {
		msg_str(&b, 'C', "SELECT 1");
		msg_ready(&b, 'I');
	}
	r.env.limits.turn_events = 100;
	rig_send(&r, INSP_S2C, &b);
	assert_int_equal(r.status, INSP_MORE);
	assert_int_equal(r.in[0].n, 0);
	assert_int_equal(r.got[0].n, DEEP * 14);
	rig_logout(&r, &b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_login),
		cmocka_unit_test(test_simple_query),
		cmocka_unit_test(test_denied_query),
		cmocka_unit_test(test_denied_parse),
		cmocka_unit_test(test_denied_after_execute),
		cmocka_unit_test(test_startup),
		cmocka_unit_test(test_unasked_auth),
		cmocka_unit_test(test_ready_without_auth),
		cmocka_unit_test(test_hold),
		cmocka_unit_test(test_hold_execute),
		cmocka_unit_test(test_held_in_failed_batch),
		cmocka_unit_test(test_skip_to_sync),
		cmocka_unit_test(test_unfit),
		cmocka_unit_test(test_bad_client),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_names_after_skip),
		cmocka_unit_test(test_missing_names),
		cmocka_unit_test(test_sql_execute),
		cmocka_unit_test(test_two_readings),
		cmocka_unit_test(test_copy_in_pipelined),
		cmocka_unit_test(test_copy_in_fails),
		cmocka_unit_test(test_end),
		cmocka_unit_test(test_terminate),
		cmocka_unit_test(test_probe),
		cmocka_unit_test(test_deep_pipeline),
	};

	return cmocka_run_group_tests_name("pg_session", tests, rig_setup, rig_teardown);
}
