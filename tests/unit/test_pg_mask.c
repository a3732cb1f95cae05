/* SPDX-License-Identifier: MIT */
/* The PostgreSQL inspector's masks: every form in which data leaves the protocol. */
#include "pg_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include "inspect/pg.h"

static void query(struct rig *r, struct buf *b, const char *text)
{
	msg_str(b, 'Q', text);
	rig_send(r, INSP_C2S, b);
	buf_reset(&r->got[INSP_TO_SERVER]);
}

/* The bytes the client got are those of @b, which is emptied. */
static void expect_client(struct rig *r, struct buf *b)
{
	struct buf *got = &r->got[INSP_TO_CLIENT];

	if (got->n != b->n || memcmp(buf_data(got), buf_data(b), b->n) != 0) {
		struct buf x;

		buf_init(&x, 1 << 20);
		msg_dump(buf_slice(b), &x);
		print_error("want %.*s\n", (int)x.n, buf_data(&x));
		buf_reset(&x);
		msg_dump(buf_slice(got), &x);
		print_error("got  %.*s\n", (int)x.n, buf_data(&x));
		buf_done(&x);
		fail();
	}
	buf_reset(got);
	buf_reset(b);
}

static bool said(const struct rig *r, enum insp_dir dir, const char *words)
{
	return r->lines[dir].n &&
	       memmem(buf_data(&r->lines[dir]), r->lines[dir].n, words, strlen(words));
}

static void test_text_rows(void **state)
{
	static const char *const cols[] = {"id:1000:1:23", "x:1000:2:25", "m:1000:3:25", NULL};
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, true, &b);
	query(&r, &b, "SELECT id, secret AS x, m FROM t");
	msg_rows(&b, cols);
	msg_row(&b, (const char *[]){"1", "123-45-6789", "plain", NULL});
	msg_row(&b, (const char *[]){"2", "\1", "plain", NULL});
	msg_row(&b, (const char *[]){"3", "", "a@b.c", NULL});
	msg_str(&b, 'C', "SELECT 3");
	msg_ready(&b, 'I');
	rig_send(&r, INSP_S2C, &b);
	msg_rows(&b, cols);
	msg_row(&b, (const char *[]){"1", "***", "plain", NULL});
	msg_row(&b, (const char *[]){"2", "\1", "plain", NULL});
	msg_row(&b, (const char *[]){"3", "***", "<hit>", NULL});
	msg_str(&b, 'C', "SELECT 3");
	msg_ready(&b, 'I');
	expect_client(&r, &b);
	assert_true(said(&r, INSP_S2C, "masked values=2 hits=1 over=0 detectors=2"));
	assert_true(r.mask_calls <= 2); /* rows are given to the host together */
	rig_logout(&r, &b);
}

/* One column of a type under a mask or a detector: what becomes of a value. */
struct one {
	uint32_t type;
	bool binary;
	bool column_mask;
	struct slice in, want; /* want.p NULL: NULL; same pointer as in: unchanged */
};

/* With detectors beside the usual. */
struct one_more {
	struct one o;
	uint32_t detectors;
};

#define L(s) SLICE_LIT(s)

#define BIT(name) (1u << DETECT_BIT_##name)

static const struct one ones[] = {
	{PG_OID_TEXT, false, true, L("abc"), L("***")},
	{PG_OID_TEXT, true, true, L("abc"), L("***")},
	{PG_OID_INT4, false, true, L("12345"), L("0")},
	{PG_OID_INT4, true, true, L("\0\0\60\71"), L("\0\0\0\0")},
	{PG_OID_INT8, true, true, L("\0\0\0\0\0\0\60\71"), L("\0\0\0\0\0\0\0\0")},
	{PG_OID_NUMERIC, false, true, L("12.5"), L("0")},
	{PG_OID_NUMERIC, true, true, L("\0\2\0\0\0\0\0\1\0\14\23\210"), L("\0\0\0\0\0\0\0\0")},
	{PG_OID_BOOL, false, true, L("t"), L("f")},
	{PG_OID_DATE, false, true, L("1980-02-03"), L("2000-01-01")},
	{PG_OID_DATE, true, true, L("\0\0\1\1"), L("\0\0\0\0")},
	{PG_OID_TIMESTAMP, false, true, L("1980-02-03 01:02:03"), L("2000-01-01 00:00:00")},
	{PG_OID_UUID, false, true, L("b5b2c1f0-7d2c-4f0e-9a51-0d2a6f1c9a01"),
	 L("00000000-0000-0000-0000-000000000000")},
	{PG_OID_INET, false, true, L("10.1.2.3"), L("0.0.0.0")},
	{PG_OID_INET, true, true, L("\2\40\0\4\12\1\2\3"), L("\2\40\0\4\0\0\0\0")},
	{PG_OID_BYTEA, false, true, L("\\x6162"), L("\\x")},
	{PG_OID_BYTEA, true, true, L("ab"), L("")},
	{PG_OID_JSON, false, true, L("{\"a\":1}"), L("\"***\"")},
	{PG_OID_JSONB, true, true, L("\1{\"a\":1}"), L("\1\"***\"")},
	{PG_OID_TEXT_ARRAY, false, true, L("{a,b}"), {0}},
	{20000, false, true, L("enum"), {0}},
	{20000, true, true, L("enum"), {0}},
	/* detectors */
	{PG_OID_TEXT, true, false, L("x a@b.c"), L("<hit>")},
	{PG_OID_INT8, true, false, L("\0\0\16\232\375\165\0\107"), {0}}, /* see below */
	{PG_OID_NUMERIC, false, false, L("4111111111111111"), L("0")},
	/* 4111 1111 1111 1111 in base 10000 */
	{PG_OID_NUMERIC, true, false, L("\0\4\0\3\0\0\0\0\20\17\4\127\4\127\4\127"),
	 L("\0\0\0\0\0\0\0\0")},
	{PG_OID_INT4, false, false, L("4111"), L("4111")},
	{PG_OID_UUID, true, false, L("0123456789abcdef"), L("\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")},
	{PG_OID_DATE, false, false, L("1980-02-03"), L("1980-02-03")}, /* no dob in this host */
	{PG_OID_JSON, false, false, L("{\"a\":\"x@y.z\"}"), L("{\"a\":\"<hit>\"}")},
	{PG_OID_JSONB, true, false, L("\1{\"a\":\"x@y.z\"}"), L("\1{\"a\":\"<hit>\"}")},
	/* a number that is hit would leave no JSON */
	{PG_OID_JSON, false, false, L("[4111]"), L("\"***\"")},
	{PG_OID_TEXT_ARRAY, false, false, L("{x@y.z}"), L("{\"a\":\"<hit>\"}")},
	{PG_OID_TEXT_ARRAY, true, false, L("\0\0\0\1x@y.z"), {0}},
	{20000, false, false, L("x@y.z"), L("<hit>")},
	{20000, true, false, L("x@y.z"), {0}},
	{1016 /* int8[] */, false, false, L("{4111}"), {0}},
};

static const struct one_more more[] = {
	/* bytea by the bytes it stands for */
	{{PG_OID_BYTEA, false, false, L("\\x6140622e63"), L("\\x")}, 0},
	{{PG_OID_BYTEA, false, false, L("\\x6141622e63"), L("\\x6141622e63")}, 0},
	{{PG_OID_BYTEA, false, false, L("\\000a\\100b.c"), L("\\x")}, 0},
	{{PG_OID_BYTEA, false, false, L("\\134x6140"), L("\\134x6140")}, 0},
	{{PG_OID_BYTEA, true, false, L("a@b.c"), L("<hit>")}, 0},
	/* 4111111111111111 */
	{{PG_OID_FLOAT8, false, false, L("4.111111111111111e+15"), L("0")}, 0},
	{{PG_OID_FLOAT8, true, false, L("\103\055\066\021\112\321\343\216"),
	  L("\0\0\0\0\0\0\0\0")}, 0},
	{{PG_OID_FLOAT8, false, false, L("1.5"), L("1.5")}, 0},
	/* numbers that are too short for a card, but not for a user's pattern */
	{{PG_OID_INT4, false, false, L("4111"), L("0")}, BIT(PATTERN)},
	{{PG_OID_INT4, true, false, L("\0\0\20\17"), L("\0\0\0\0")}, BIT(PATTERN)},
	{{PG_OID_INT4, true, false, L("\0\0\20\17"), L("\0\0\20\17")}, 0},
	{{PG_OID_FLOAT4, false, false, L("4111.5"), L("0")}, BIT(PATTERN)},
	{{PG_OID_MONEY, false, false, L("$4111.00"), L("$0.00")}, BIT(PATTERN)},
	{{PG_OID_TIME, false, false, L("00:00:01"), L("00:00:01")}, BIT(PATTERN)},
	/* dates, and timestamps that can be some */
	{{PG_OID_DATE, false, false, L("1980-02-03"), L("2000-01-01")}, BIT(DOB)},
	{{PG_OID_TIMESTAMP, false, false, L("1980-02-03 00:00:00"),
	  L("2000-01-01 00:00:00")}, BIT(DOB)},
	{{PG_OID_TIMESTAMP, false, false, L("1980-02-03 01:02:03"),
	  L("1980-02-03 01:02:03")}, BIT(DOB)},
	{{PG_OID_TIMESTAMP, false, false, L("1980-02-03 00:00:00.5"),
	  L("1980-02-03 00:00:00.5")}, BIT(DOB)},
	{{PG_OID_TIMESTAMP, true, false, L("\377\375\304\220\122\001\000\000"),
	  L("\0\0\0\0\0\0\0\0")}, BIT(DOB)},
	{{PG_OID_TIMESTAMP, true, false, L("\377\375\304\221\057\351\170\300"),
	  L("\377\375\304\221\057\351\170\300")}, BIT(DOB)},
	{{PG_OID_TIMESTAMPTZ, true, false, L("\377\375\304\225\043\321\357\000"),
	  L("\0\0\0\0\0\0\0\0")}, BIT(DOB)},
};

static void check_one(const struct one *o, uint32_t detectors, size_t index)
{
	char col[64];
	struct buf b, want;
	struct rig r;

	rig_login(&r, true, &b);
	buf_init(&want, 1 << 20);
	r.detectors = detectors;
	query(&r, &b, "SELECT v FROM t");
	(void)snprintf(col, sizeof(col), "v:1000:%d:%u:%c", o->column_mask ? 2 : 1, o->type,
		       o->binary ? 'b' : 't');
	msg_rows(&b, (const char *[]){col, NULL});
	BUG_ON(buf_append_slice(&want, buf_slice(&b)));
	msg_row1(&b, o->in);
	if (o->want.p)
		msg_row1(&want, o->want);
	else
		msg_row(&want, (const char *[]){"\1", NULL});
	rig_send(&r, INSP_S2C, &b);
	if (r.status != INSP_MORE)
		print_error("case %zu: status %d\n", index, r.status);
	if (!slice_eq(buf_slice(&want), buf_slice(&r.got[1])))
		print_error("case %zu, type %u\n", index, o->type);
	expect_client(&r, &want);
	buf_done(&want);
	rig_logout(&r, &b);
}

static void test_types(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(ones); i++) {
		struct one o = ones[i];

		if (o.type == PG_OID_INT8 && !o.column_mask) {
			/* 4111111111111111 */
			o.in = L("\0\16\233\13\117\61\61\307");
			o.want = L("\0\0\0\0\0\0\0\0");
		}
		check_one(&o, 0, i);
	}
	for (size_t i = 0; i < ARRAY_SIZE(more); i++)
		check_one(&more[i].o, more[i].detectors, 1000 + i);
}

static void test_numbers(void **state)
{
	static const struct {
		uint32_t type;
		struct slice in;
		const char *want;
	} cases[] = {
		{PG_OID_INT8, L("\377\377\377\377\377\377\377\377"), "-1"},
		{PG_OID_INT8, L("\177\377\377\377\377\377\377\377"), "9223372036854775807"},
		{PG_OID_INT8, L("\0\0\0"), ""},
		{PG_OID_NUMERIC, L("\0\2\0\0\0\0\0\1\0\14\23\210"), "12.5000"},
		{PG_OID_NUMERIC, L("\0\1\0\1\0\0\0\0\0\7"), "70000"},
		{PG_OID_NUMERIC, L("\0\1\377\377\100\0\0\4\0\173"), "-0.0123"},
		{PG_OID_NUMERIC, L("\0\0\0\0\300\0\0\0"), ""}, /* NaN */
		{PG_OID_NUMERIC, L("\0\2\0\0\0\0\0\1\0\14"), ""},
		{PG_OID_INT2, L("\377\376"), "-2"},
		{PG_OID_OID, L("\377\377\377\377"), "4294967295"},
		{PG_OID_FLOAT4, L("\75\314\314\315"), "0.1"},
		{PG_OID_FLOAT8, L("\77\271\231\231\231\231\231\232"), "0.1"},
		{PG_OID_FLOAT8, L("\177\360\0\0\0\0\0\0"), "inf"},
		{PG_OID_DATE, L("\377\377\343\230"), "1980-02-03"},
		{PG_OID_DATE, L("\177\377\377\377"), ""}, /* infinity */
		{PG_OID_TIMESTAMP, L("\377\375\304\221\057\351\170\300"), "1980-02-03 01:02:03"},
		{PG_OID_UUID, L("0123456789abcdef"), "30313233-3435-3637-3839-616263646566"},
	};
	char text[PG_RENDERED_MAX];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		size_t n = pg_type_render(cases[i].type, true, cases[i].in, text, sizeof(text));

		assert_int_equal(n, strlen(cases[i].want));
		assert_memory_equal(text, cases[i].want, n);
	}
}

static void test_json(void **state)
{
	static const char *const good[] = {"1", "\"a\"", "{}", "[]", "{\"a\":[1,null,\"x\\\"y\"]}",
					   " [true , -1.5e3]"};
	static const char *const bad[] = {"", "***", "[***]", "{\"a\":<hit>}", "[1", "]", "\"a",
					  "1 2", "{\"a\":1]"};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(good); i++)
		assert_true(pg_json_valid(slice_str(good[i])));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(pg_json_valid(slice_str(bad[i])));
}

/* Cached statement, executed without Describe: one is added and its answer swallowed. */
static void test_never_described(void **state)
{
	static const char *const cols[] = {"x:1000:2:25", NULL};
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, true, &b);
	for (int round = 0; round < 3; round++) {
		if (round == 0)
			msg_parse(&b, "s", "SELECT secret FROM t");
		msg_bind(&b, "", "s", NULL, 1);
		msg_execute(&b, "");
		msg_empty(&b, 'S');
		rig_send(&r, INSP_C2S, &b);
		/* Remembered afterwards. */
		assert_int_equal(memmem(buf_data(&r.got[0]), r.got[0].n, "D\0\0\0\6P\0", 7) != NULL,
				 round == 0);
		buf_reset(&r.got[0]);
		if (round == 0)
			msg_empty(&b, '1');
		msg_empty(&b, '2');
		if (round == 0)
			msg_rows(&b, cols);
		msg_row1(&b, L("plain secret"));
		msg_str(&b, 'C', "SELECT 1");
		msg_ready(&b, 'I');
		rig_send(&r, INSP_S2C, &b);
		if (round == 0)
			msg_empty(&b, '1');
		msg_empty(&b, '2');
		msg_row1(&b, L("***"));
		msg_str(&b, 'C', "SELECT 1");
		msg_ready(&b, 'I');
		expect_client(&r, &b);
	}
	/* After DDL, or when the host says so, it is asked again. */
	r.env.generation++;
	msg_bind(&b, "", "s", NULL, 1);
	msg_execute(&b, "");
	msg_empty(&b, 'S');
	rig_send(&r, INSP_C2S, &b);
	assert_non_null(memmem(buf_data(&r.got[0]), r.got[0].n, "D\0\0\0\6P\0", 7));
	rig_logout(&r, &b);
}

/* Plans that become void while an Execute is on its way are made anew from its description. */
static void test_void_in_flight(void **state)
{
	static const char *const cols[] = {"x:1000:1:25", NULL};
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, true, &b);
	for (int round = 0; round < 2; round++) {
		if (round == 0)
			msg_parse(&b, "s", "SELECT x FROM t");
		msg_bind(&b, "", "s", NULL, 1);
		msg_execute(&b, "");
		msg_empty(&b, 'S');
		rig_send(&r, INSP_C2S, &b);
		r.env.generation += (uint32_t)round;
		if (round == 0)
			msg_empty(&b, '1');
		msg_empty(&b, '2');
		if (round == 0)
			msg_rows(&b, cols);
		msg_row1(&b, L("plain"));
		msg_str(&b, 'C', "SELECT 1");
		msg_ready(&b, 'I');
		rig_send(&r, INSP_S2C, &b);
		if (round == 0)
			msg_empty(&b, '1');
		msg_empty(&b, '2');
		msg_row1(&b, L("plain"));
		msg_str(&b, 'C', "SELECT 1");
		msg_ready(&b, 'I');
		expect_client(&r, &b);
	}
	rig_logout(&r, &b);
}

/* The plans of a shape of a simple query hold until something makes them void, and not longer. */
static void test_known_shape(void **state)
{
	static const char *const plain[] = {"x:1000:1:25", NULL}, *const masked[] = {"x:1000:2:25", NULL};
	static const struct {
		const char *text;
		const char *const *cols; /* NULL: DDL */
		bool outdated;		 /* the host says so before */
		uint32_t asked;
		const char *value; /* that the client gets for "old" */
	} rows[] = {
		{"SELECT x FROM t WHERE id = 1", plain, false, 1, "old"},
		{"SELECT x FROM t WHERE id = 2", plain, false, 0, "old"},
		{"SELECT x FROM u WHERE id = 2", plain, false, 1, "old"},
		{"SELECT x FROM t WHERE id = 3", masked, false, 1, "***"},
		{"SELECT x FROM t WHERE id = 4", masked, false, 0, "***"},
		{"SELECT x FROM t WHERE id = 5", plain, false, 1, "old"},
		{"SELECT x FROM t WHERE id = 6", plain, true, 1, "old"},
		{"SELECT x FROM t WHERE id = 7", plain, false, 0, "old"},
		{"CREATE TABLE n (i int)", NULL, false, 0, NULL},
		{"SELECT x FROM t WHERE id = 8", plain, false, 1, "old"},
	};
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, true, &b);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const char *tag = rows[i].cols ? "SELECT 1" : "CREATE TABLE";

		r.env.generation += rows[i].outdated;
		r.column_calls = 0;
		query(&r, &b, rows[i].text);
		if (rows[i].cols) {
			msg_rows(&b, rows[i].cols);
			msg_row1(&b, L("old"));
		}
		msg_str(&b, 'C', tag);
		msg_ready(&b, 'I');
		rig_send(&r, INSP_S2C, &b);
		assert_int_equal(r.column_calls, rows[i].asked);
		if (rows[i].cols) {
			msg_rows(&b, rows[i].cols);
			msg_row1(&b, slice_str(rows[i].value));
		}
		msg_str(&b, 'C', tag);
		msg_ready(&b, 'I');
		expect_client(&r, &b);
	}
	rig_logout(&r, &b);
}

static void test_wait_for_columns(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, true, &b);
	query(&r, &b, "SELECT secret FROM t");
	r.wait_columns = 2;
	msg_rows(&b, (const char *[]){"x:1000:2:25", NULL});
	msg_row1(&b, L("plain secret"));
	msg_str(&b, 'C', "SELECT 1");
	msg_ready(&b, 'I');
	rig_send(&r, INSP_S2C, &b);
	assert_int_equal(r.got[1].n, 0);
	r.wait_columns = 0;
	rig_again(&r);
	msg_rows(&b, (const char *[]){"x:1000:2:25", NULL});
	msg_row1(&b, L("***"));
	msg_str(&b, 'C', "SELECT 1");
	msg_ready(&b, 'I');
	expect_client(&r, &b);
	rig_logout(&r, &b);
}

/* ------------------------------------------------------------------ long rows */

static void test_value_over_cap(void **state)
{
	char *big = malloc(2000);
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, true, &b);
	r.env.limits.value_bytes = 1000;
	memset(big, 'a', 2000);
	query(&r, &b, "SELECT m FROM t");
	msg_rows(&b, (const char *[]){"m:1000:1:25", NULL});
	msg_row1(&b, slice_of(big, 2000));
	msg_row1(&b, slice_of(big, 1000));
	msg_str(&b, 'C', "SELECT 2");
	rig_send(&r, INSP_S2C, &b);
	msg_rows(&b, (const char *[]){"m:1000:1:25", NULL});
	msg_row1(&b, L("***"));
	msg_row1(&b, slice_of(big, 1000));
	msg_str(&b, 'C', "SELECT 2");
	expect_client(&r, &b);
	assert_true(said(&r, INSP_S2C, "over=1"));
	free(big);
	rig_logout(&r, &b);
}

/* A row of 64 MiB goes through in pieces; nothing is kept, and its length stays. */
static void test_huge_row(void **state)
{
	enum { HUGE_VALUE = 64 << 20, PIECE = 1 << 16 };
	uint8_t *piece = malloc(PIECE), head[15 + 11];
	size_t total = 4 + 2 + 4 + 7 + 4 + (size_t)HUGE_VALUE, seen = 0;
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, true, &b);
	r.exact = false;
	query(&r, &b, "SELECT a, m FROM t");
	msg_rows(&b, (const char *[]){"a:1000:1:25", "m:1000:2:25", NULL});
	rig_send(&r, INSP_S2C, &b);
	buf_reset(&r.got[1]);
	head[0] = 'D';
	store_be32(head + 1, (uint32_t)total);
	store_be16(head + 5, 2);
	store_be32(head + 7, 7);
	memcpy(head + 11, "x@y.com", 7);
	store_be32(head + 18, HUGE_VALUE);
	rig_feed(&r, INSP_S2C, slice_of(head, 22));
	/* The short value is scanned; a hit of another length is overwritten. */
	store_be32(head + 1, (uint32_t)total);
	memcpy(head + 11, "*******", 7);
	assert_int_equal(r.got[1].n, 22);
	assert_memory_equal(buf_data(&r.got[1]), head, 22);
	buf_reset(&r.got[1]);
	memset(piece, 's', PIECE);
	for (size_t i = 0; i < HUGE_VALUE / PIECE; i++) {
		rig_feed(&r, INSP_S2C, slice_of(piece, PIECE));
		for (size_t k = 0; k < r.got[1].n; k++)
			seen += buf_data(&r.got[1])[k] == '*';
		buf_reset(&r.got[1]);
	}
	assert_int_equal(seen, HUGE_VALUE);
	assert_true(r.peak < 1 << 17);
	msg_str(&b, 'C', "SELECT 1");
	msg_ready(&b, 'I');
	rig_send(&r, INSP_S2C, &b);
	assert_true(said(&r, INSP_S2C, "hits=1 over=1"));
	assert_int_equal(r.status, INSP_MORE);
	free(piece);
	rig_logout(&r, &b);
}

/* ----------------------------------------------------------------------- COPY */

static void copy_out(struct rig *r, struct buf *b, const char *text, bool binary, uint16_t n)
{
	uint8_t body[64] = {binary};

	query(r, b, text);
	store_be16(body + 1, n);
	for (uint16_t i = 0; i < n; i++)
		store_be16(body + 3 + i * 2, binary);
	msg_add(b, 'H', slice_of(body, 3u + n * 2u));
	rig_send(r, INSP_S2C, b);
	buf_reset(&r->got[1]);
}

static void expect_copy(struct rig *r, struct buf *b, const char *want)
{
	struct slice s = buf_slice(&r->got[1]);
	struct buf data;

	(void)b;
	buf_init(&data, 1 << 20);
	while (s.n >= 5) {
		size_t total = (size_t)load_be32(s.p + 1) + 1;

		if (s.p[0] == 'd')
			BUG_ON(buf_append(&data, s.p + 5, total - 5));
		s = slice_from(s, total);
	}
	BUG_ON(buf_append(&data, "", 1));
	assert_string_equal((char *)buf_data(&data), want);
	buf_done(&data);
	buf_reset(&r->got[1]);
}

struct copy_case {
	const char *text;
	uint16_t columns;
	const char *in, *want;
};

static const struct copy_case copies[] = {
	{"COPY t (id, secret, m) TO STDOUT", 3, "1\tabc\tplain\n2\t\\N\ta@b\n3\ta\\tb\tx\\\\y\n",
	 "1\t***\tplain\n2\t\\N\t<hit>\n3\t***\tx\\\\y\n"},
	{"COPY t (id, secret) TO STDOUT (FORMAT csv, HEADER)", 2,
	 "id,secret\n1,\"a,\"\"b\"\n2,\n3,\"\"\n4,\"x\ny\"\n",
	 "id,secret\n1,\"***\"\n2,\n3,\"***\"\n4,\"***\"\n"},
	{"COPY t (id, m) TO STDOUT (FORMAT csv)", 2, "1,\"a \"\"@\"\" b\"\n2,plain\n",
	 "1,\"<hit>\"\n2,plain\n"},
	{"COPY t (secret) TO STDOUT (DELIMITER '|', NULL 'nil')", 1, "abc\nnil\n", "***\nnil\n"},
	{"COPY (SELECT secret, 1 FROM t) TO STDOUT", 2, "abc\t1\n", "abc\t1\n"},
};

static void test_copy(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(copies); i++) {
		const struct copy_case *c = &copies[i];
		size_t n = strlen(c->in);

		/* A row may be cut into messages anywhere. */
		for (size_t cut = 0; cut < n; cut++) {
			struct buf b;
			struct rig r;

			rig_login(&r, true, &b);
			r.exact = false;
			copy_out(&r, &b, c->text, false, c->columns);
			if (cut)
				msg_add(&b, 'd', slice_of(c->in, cut));
			msg_add(&b, 'd', slice_of(c->in + cut, n - cut));
			msg_empty(&b, 'c');
			msg_str(&b, 'C', "COPY 2");
			msg_ready(&b, 'I');
			rig_send(&r, INSP_S2C, &b);
			assert_int_equal(r.status, INSP_MORE);
			expect_copy(&r, &b, c->want);
			rig_logout(&r, &b);
		}
	}
}

static void test_copy_binary(void **state)
{
	static const char in[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0"
				 "\0\2\0\0\0\4\0\0\0\1\0\0\0\3abc"
				 "\0\2\0\0\0\4\0\0\0\2\377\377\377\377"
				 "\0\2\0\0\0\3a@b\0\0\0\0"
				 "\377\377";
	static const char want[] = "PGCOPY\n\377\r\n\0\0\0\0\0\0\0\0\0"
				   "\0\2\0\0\0\4\0\0\0\1\377\377\377\377"
				   "\0\2\0\0\0\4\0\0\0\2\377\377\377\377"
				   "\0\2\377\377\377\377\377\377\377\377"
				   "\377\377";

	(void)state;
	for (size_t cut = 0; cut < sizeof(in) - 1; cut++) {
		struct buf b, got;
		struct slice s;
		struct rig r;

		rig_login(&r, true, &b);
		r.exact = false;
		copy_out(&r, &b, "COPY t (id, secret) TO STDOUT (FORMAT binary)", true, 2);
		if (cut)
			msg_add(&b, 'd', slice_of(in, cut));
		msg_add(&b, 'd', slice_of(in + cut, sizeof(in) - 1 - cut));
		msg_empty(&b, 'c');
		msg_str(&b, 'C', "COPY 3");
		msg_ready(&b, 'I');
		rig_send(&r, INSP_S2C, &b);
		assert_int_equal(r.status, INSP_MORE);
		buf_init(&got, 4096);
		for (s = buf_slice(&r.got[1]); s.n >= 5 && s.p[0] == 'd';) {
			size_t total = (size_t)load_be32(s.p + 1) + 1;

			BUG_ON(buf_append(&got, s.p + 5, total - 5));
			s = slice_from(s, total);
		}
		assert_int_equal(got.n, sizeof(want) - 1);
		assert_memory_equal(buf_data(&got), want, got.n);
		buf_done(&got);
		rig_logout(&r, &b);
	}
}

/* Rows over the cap keep their length; the next ones are looked at again. */
static void test_copy_long(void **state)
{
	static const char *const texts[] = {"COPY t (id, secret, m) TO STDOUT",
					    "COPY t (id, secret, m) TO STDOUT (FORMAT csv)"};
	char row[200], want[200];

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
		char delim = i ? ',' : '\t';
		struct buf b;
		struct rig r;

		rig_login(&r, true, &b);
		r.env.limits.row_bytes = 64;
		r.env.limits.value_bytes = 64;
		copy_out(&r, &b, texts[i], false, 3);
		(void)snprintf(row, sizeof(row), "1%c%.70s%cmm\n", delim,
			       "0123456789012345678901234567890123456789012345678901234567890123456789",
			       delim);
		msg_add(&b, 'd', slice_str(row));
		(void)snprintf(row, sizeof(row), "2%cabc%ca@b\n", delim, delim);
		msg_add(&b, 'd', slice_str(row));
		msg_empty(&b, 'c');
		msg_str(&b, 'C', "COPY 2");
		rig_send(&r, INSP_S2C, &b);
		(void)snprintf(want, sizeof(want), "*%c%.70s%c**\n2%c***%c<hit>\n", delim,
			       "**********************************************************************",
			       delim, delim, delim);
		expect_copy(&r, &b, want);
		assert_int_equal(r.status, INSP_MORE);
		rig_logout(&r, &b);
	}
}

/* ---------------------------------------------------------------------- texts */

static void test_error_texts(void **state)
{
	static const struct {
		bool hide;
		const char *code, *message, *detail, *want_message, *want_detail;
	} cases[] = {
		{false, "23505", "duplicate key", "Key (m)=(x) exists", "duplicate key",
		 "Key (m)=(x) exists"},
		{false, "P0001", "no luck for a@b.c", NULL, "<hit>", NULL},
		{true, "23505", "duplicate key", "Key (ssn)=(1)", "duplicate key", NULL},
		{true, "22P02", "invalid input: \"secret\"", "x", "hidden by a mask rule", NULL},
		/* Without a position in the statement the name may be a value: 'x'::regclass. */
		{true, "42P01", "relation \"secret\" does not exist", NULL, "hidden by a mask rule",
		 NULL},
		{true, "42501", "permission denied for table t", NULL,
		 "permission denied for table t", NULL},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct buf b;
		struct rig r;

		rig_login(&r, true, &b);
		r.hide_texts = cases[i].hide;
		query(&r, &b, "INSERT INTO t VALUES (1)");
		msg_error(&b, "ERROR", cases[i].code, cases[i].message, cases[i].detail);
		rig_send(&r, INSP_S2C, &b);
		msg_error(&b, "ERROR", cases[i].code, cases[i].want_message, cases[i].want_detail);
		expect_client(&r, &b);
		assert_true(said(&r, INSP_S2C, cases[i].want_message));
		rig_logout(&r, &b);
	}
}

static void test_notification(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, true, &b);
	msg_add(&b, 'A', L("\0\0\0\1news\0from a@b.c\0"));
	rig_send(&r, INSP_S2C, &b);
	msg_add(&b, 'A', L("\0\0\0\1news\0<hit>\0"));
	expect_client(&r, &b);
	rig_logout(&r, &b);
}

static void test_function_result(void **state)
{
	struct buf b;
	struct rig r;

	(void)state;
	rig_login(&r, true, &b);
	msg_add(&b, 'F', L("\0\0\3\273\0\0\0\0\0\0"));
	rig_send(&r, INSP_C2S, &b);
	assert_true(said(&r, INSP_C2S, "statement FunctionCall 955 allow"));
	msg_add(&b, 'V', L("\0\0\0\5hello"));
	msg_ready(&b, 'I');
	rig_send(&r, INSP_S2C, &b);
	msg_add(&b, 'V', L("\377\377\377\377"));
	msg_ready(&b, 'I');
	expect_client(&r, &b);
	rig_logout(&r, &b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_text_rows),
		cmocka_unit_test(test_types),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_json),
		cmocka_unit_test(test_never_described),
		cmocka_unit_test(test_void_in_flight),
		cmocka_unit_test(test_known_shape),
		cmocka_unit_test(test_wait_for_columns),
		cmocka_unit_test(test_value_over_cap),
		cmocka_unit_test(test_huge_row),
		cmocka_unit_test(test_copy),
		cmocka_unit_test(test_copy_binary),
		cmocka_unit_test(test_copy_long),
		cmocka_unit_test(test_error_texts),
		cmocka_unit_test(test_notification),
		cmocka_unit_test(test_function_result),
	};

	return cmocka_run_group_tests_name("pg_mask", tests, rig_setup, rig_teardown);
}
