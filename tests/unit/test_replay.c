/* SPDX-License-Identifier: MIT */
/* What `tidegate recording replay` shows, and that it shows it however the stream was cut. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "ctl/pgview.h"
#include "ctl/replay.h"

/* ------------------------------------------------ messages from the server */

struct wire {
	uint8_t b[8192];
	size_t n, start;
};

static void put(struct wire *w, const void *p, size_t n)
{
	assert_true(n <= sizeof(w->b) - w->n);
	memcpy(w->b + w->n, p, n);
	w->n += n;
}

static void put16(struct wire *w, unsigned v)
{
	uint8_t b[2];

	store_be16(b, (uint16_t)v);
	put(w, b, 2);
}

static void put32(struct wire *w, uint32_t v)
{
	uint8_t b[4];

	store_be32(b, v);
	put(w, b, 4);
}

static void begin(struct wire *w, char type)
{
	put(w, &type, 1);
	w->start = w->n;
	put32(w, 0);
}

static void end(struct wire *w)
{
	store_be32(w->b + w->start, (uint32_t)(w->n - w->start));
}

static void message(struct wire *w, char type, const void *body, size_t n)
{
	begin(w, type);
	put(w, body, n);
	end(w);
}

static void description(struct wire *w, unsigned format)
{
	static const struct {
		const char *name;
		uint32_t type;
	} cols[] = {{"id", 23}, {"name", 25}, {"ok", 16}};

	begin(w, 'T');
	put16(w, ARRAY_SIZE(cols));
	for (size_t i = 0; i < ARRAY_SIZE(cols); i++) {
		put(w, cols[i].name, strlen(cols[i].name) + 1);
		put32(w, 100);
		put16(w, 1);
		put32(w, cols[i].type);
		put16(w, 4);
		put32(w, UINT32_MAX);
		put16(w, format);
	}
	end(w);
}

static void value(struct wire *w, const char *p, int n)
{
	put32(w, n < 0 ? UINT32_MAX : (uint32_t)n);
	if (n > 0)
		put(w, p, (size_t)n);
}

static void row(struct wire *w, const char *id, int nid, const char *name, int nname,
		const char *ok, int nok)
{
	begin(w, 'D');
	put16(w, 3);
	value(w, id, nid);
	value(w, name, nname);
	value(w, ok, nok);
	end(w);
}

#define MESSAGE(w, type, text) message(w, type, text, sizeof(text) - 1)

/* A session's worth, beginning with the answer to an SSLRequest. */
static void stream(struct wire *w)
{
	put(w, "N", 1);
	message(w, 'R', "\0\0\0\0", 4);
	MESSAGE(w, 'S',
		"server_version\0"
		"15\0");
	MESSAGE(w, 'Z', "I");
	description(w, 0);
	row(w, "1", 1, "Ann\x1b[31m", 8, "t", 1);
	row(w, "-20", 3, "J\xc3\xbcrgen", 7, NULL, -1);
	row(w, "300", 3, "", 0, "f", 1);
	row(w, "4", 1, "hidden", 6, "f", 1);
	MESSAGE(w, 'C', "SELECT 4\0");
	MESSAGE(w, 'Z', "I");
	/* Described as text, sent as binary. */
	description(w, 0);
	row(w, "\0\0\1\0", 4, "a\0b", 3, "\1", 1);
	MESSAGE(w, 's', "");
	row(w, "\xff\xff\xff\xff", 4, "\xff", 1, "\0", 1);
	MESSAGE(w, 'C', "SELECT 2\0");
	/* Executed again without a description. */
	row(w, "5", 1, "five", 4, "t", 1);
	MESSAGE(w, 'C', "SELECT 1\0");
	description(w, 1);
	MESSAGE(w, 'C', "SELECT 0\0");
	MESSAGE(w, 'N', "SNOTICE\0VNOTICE\0C00000\0Mtake care\0\0");
	MESSAGE(w, 'E', "SERROR\0VERROR\0C42501\0Mno\0Dbecause\0Hask\0\0");
	MESSAGE(w, 'A', "\0\0\0\7ch\0pay\nload\0");
	MESSAGE(w, 'H', "\0\0\0");
	MESSAGE(w, 'd', "1\tone\n");
	MESSAGE(w, 'd', "2\ttwo\n");
	MESSAGE(w, 'd', "3\tthree\n");
	MESSAGE(w, 'd', "4\tfour\n");
	MESSAGE(w, 'c', "");
	MESSAGE(w, 'C', "COPY 4\0");
	MESSAGE(w, 'I', "");
	MESSAGE(w, 'V', "\0\0\0\2ab");
	MESSAGE(w, 'Z', "T");
}

static const char shown[] = "  id | name        | ok\n"
			    "-----+-------------+------\n"
			    "   1 | Ann\\x1b[31m | t\n"
			    " -20 | J\xc3\xbcrgen      | NULL\n"
			    " 300 |             | f\n"
			    "(1 more rows are not shown)\n"
			    "SELECT 4\n"
			    "  id | name     | ok\n"
			    "-----+----------+----\n"
			    " 256 | \\x610062 | t\n"
			    "(portal suspended)\n"
			    " id | name | ok\n"
			    "----+------+----\n"
			    " -1 | \\xff | f\n"
			    "SELECT 2\n"
			    " 1 | 2    | 3\n"
			    "---+------+---\n"
			    " 5 | five | t\n"
			    "SELECT 1\n"
			    " id | name | ok\n"
			    "----+------+----\n"
			    "SELECT 0\n"
			    "NOTICE 00000: take care\n"
			    "ERROR 42501: no\n"
			    "  DETAIL: because\n"
			    "  HINT: ask\n"
			    "notification on ch from 7: pay\\nload\n"
			    "(the server copies out)\n"
			    "1\\tone\n"
			    "2\\ttwo\n"
			    "3\\tthree\n"
			    "(1 more lines are not shown)\n"
			    "COPY 4\n"
			    "(empty query)\n"
			    "(function result of 6 bytes)\n";

static void expect(const struct buf *out, const char *want)
{
	char *got = out->n ? strndup((const char *)buf_data(out), out->n) : strdup("");

	assert_non_null(got);
	assert_string_equal(got, want);
	free(got);
}

static void test_every_cut(void **state)
{
	static struct wire w;
	struct buf out;

	w.n = 0;
	stream(&w);
	buf_init(&out, 65536);
	for (size_t cut = 0; cut <= w.n; cut++) {
		struct pgview *v = pgview_new(3);

		assert_non_null(v);
		buf_reset(&out);
		assert_int_equal(pgview_feed(v, slice_of(w.b, cut), &out), 0);
		assert_int_equal(pgview_feed(v, slice_of(w.b + cut, w.n - cut), &out), 0);
		assert_int_equal(pgview_end(v, &out), 0);
		expect(&out, shown);
		pgview_free(v);
	}
	buf_done(&out);
}

/* A row of 3 MB among others, byte counts only; then the stream goes on. */
static void test_long_row(void **state)
{
	enum { LONG = 3 << 20 };
	static struct wire w;
	uint8_t *big = calloc(1, 5 + LONG);
	struct pgview *v = pgview_new(10);
	struct buf out;

	assert_true(big && v);
	big[0] = 'D';
	store_be32(big + 1, 4 + LONG);
	w.n = 0;
	description(&w, 0);
	buf_init(&out, 65536);
	assert_int_equal(pgview_feed(v, slice_of(w.b, w.n), &out), 0);
	assert_int_equal(pgview_feed(v, slice_of(big, 5 + LONG), &out), 0);
	w.n = 0;
	row(&w, "1", 1, "one", 3, "t", 1);
	MESSAGE(&w, 'C', "SELECT 2\0");
	assert_int_equal(pgview_feed(v, slice_of(w.b, w.n), &out), 0);
	expect(&out, "(a message of 3145728 bytes is not shown)\n"
		     " id | name | ok\n"
		     "----+------+----\n"
		     "  1 | one  | t\n"
		     "(1 more rows are not shown)\n"
		     "SELECT 2\n");
	buf_done(&out);
	pgview_free(v);
	free(big);
}

/* Lying counts and lengths inside of a message: nothing is invented. */
static void test_malformed(void **state)
{
	static const struct {
		const char *bytes;
		size_t n;
		const char *want;
	} rows[] = {
#define ROW(text, shows) {.bytes = text, .n = sizeof(text) - 1, .want = shows}
		ROW("****************", ""),
		ROW("T\0\0\0\6\xff\xff", ""),
		ROW("D\0\0\0\xe\0\1\0\0\0\xff"
		    "abcdC\0\0\0\7X1\0",
		    "(1 more rows are not shown)\nX1\n"),
		ROW("E\0\0\0\4", " : \n"),
		ROW("C\0\0\0\5X", "\n"),
		ROW("D\0\0\0\1", ""),
#undef ROW
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct pgview *v = pgview_new(10);
		struct buf out;

		assert_non_null(v);
		buf_init(&out, 65536);
		assert_int_equal(pgview_feed(v, slice_of(rows[i].bytes, rows[i].n), &out), 0);
		assert_int_equal(pgview_end(v, &out), 0);
		expect(&out, rows[i].want);
		buf_done(&out);
		pgview_free(v);
	}
}

/* --------------------------------------------------------------- a session */

#define JSON(kind, ms, text)                                                    \
	{                                                                       \
		.type = kind, .wall_ns = 1700000000000000000 + ms * 1000000ull, \
		.payload = SLICE_LIT(text)                                      \
	}

static void test_session(void **state)
{
	static const struct reader_record recs[] = {
		JSON(TG_REC_HEADER, 0,
		     TG_REC_MAGIC "{\"session\":\"s1\",\"agent\":\"a\\u001b\",\"target\":\"t\","
				  "\"protocol\":\"postgresql\",\"pid\":7,\"comm\":\"psql\"}"),
		JSON(TG_REC_STATE, 1, "{\"event\":\"login\",\"user\":\"u\",\"more\":{\"x\":1}}"),
		JSON(TG_REC_CLIENT, 2, "Q\0\0\0\12sel\0"),
		JSON(TG_REC_COMMAND, 61002,
		     "{\"seq\":1,\"text\":\"select\\n1\",\"effects\":[\"read\"],\"objects\":[],"
		     "\"decision\":\"allow\",\"rule\":\"r\"}"),
		JSON(TG_REC_SERVER, 61003, "C\0\0\0\015SELECT 1\0"),
		JSON(TG_REC_EXECUTE, 61004,
		     "{\"seq\":2,\"statement\":1,\"decision\":\"allow\",\"rule\":\"r\"}"),
		JSON(TG_REC_EXECUTE, 61004,
		     "{\"seq\":3,\"statement\":1,\"decision\":\"deny\",\"reason\":\"rule_deny\"}"),
		JSON(TG_REC_ERROR, 61004,
		     "{\"from\":\"server\",\"code\":\"42501\",\"message\":\"m\"}"),
		JSON(TG_REC_ERROR, 61004,
		     "{\"from\":\"tidegate\",\"code\":\"x\",\"message\":\"y\"}"),
		JSON(TG_REC_DECISION, 61005,
		     "{\"what\":\"access\",\"decision\":\"allow\",\"by\":\"al\"}"),
		JSON(TG_REC_FACT, 61005, "{\"oid\":1}"),
		JSON(TG_REC_FACT, 61005,
		     "{\"plan\":3,\"columns\":2,\"masked\":[{\"column\":1,\"name\":\"s\",\"as\":"
		     "\"last4\",\"rule\":\"r1\"},{\"column\":2,\"name\":\"t\",\"as\":\"redact\","
		     "\"rule\":\"\",\"unresolved\":true}],\"scanned\":[{\"columns\":[2],\"detectors\":["
		     "{\"name\":\"card\",\"as\":\"hash\",\"rule\":\"r2\"},"
		     "{\"name\":\"email\",\"as\":\"hash\",\"rule\":\"r2\"}]}]}"),
		JSON(TG_REC_MASKED, 61005,
		     "{\"statement\":1,\"values\":2,\"detectors\":[\"card\"],\"plan\":3}"),
		JSON(TG_REC_RESULT, 61005, "{\"statement\":1,\"tag\":\"SELECT 2\",\"rows\":2}"),
		JSON(TG_REC_COMMAND, 61005, "not json"),
		JSON(TG_REC_END, 3600000,
		     "{\"reason\":\"client_closed\",\"code\":21,\"missing\":2,\"recovered\":true}"),
	};
	struct replay *r = replay_new(10);
	struct buf out;

	assert_non_null(r);
	buf_init(&out, 65536);
	for (size_t i = 0; i < ARRAY_SIZE(recs); i++)
		assert_int_equal(replay_record(r, &recs[i], &out), 0);
	assert_int_equal(replay_end(r, &out), 0);
	expect(&out, "2023-11-14T22:13:20.000Z  session s1\n"
		     "               agent a\\x1b  target t  protocol postgresql\n"
		     "               pid 7  comm psql\n"
		     "00:00:00.001 * state  event login  user u\n"
		     "00:01:01.002 > select\n"
		     "               1\n"
		     "             = allow  effects read  rule r\n"
		     "             SELECT 1\n"
		     "00:01:01.004 > execute  statement 1\n"
		     "00:01:01.004 > execute  statement 1  decision deny  reason rule_deny\n"
		     "00:01:01.004 ! error  from tidegate  code x  message y\n"
		     "00:01:01.005 * access allow  by al\n"
		     "00:01:01.005 * masked  statement 1  values 2  detectors card  plan 3\n"
		     "                column s  as last4  by r1\n"
		     "                column t  as redact  (its origin is not known)\n"
		     "                detector card  as hash  by r2\n"
		     "00:01:01.005 ! a record of type command that is not JSON\n"
		     "01:00:00.000 # ended: the client closed the connection (completed from the "
		     "journal)\n"
		     "             # 2 records could not be written\n");
	buf_done(&out);
	replay_free(r);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_cut),
		cmocka_unit_test(test_long_row),
		cmocka_unit_test(test_malformed),
		cmocka_unit_test(test_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
