/* SPDX-License-Identifier: MIT */
/*
 * Logins of our own, played from tables: what the server is told, what the client sees, and
 * that neither depends on how the streams are cut or on when the host answers.
 */
#include "pg_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#include "base/text.h"

#define L(s) SLICE_LIT(s)

/* RFC 5802's example in its shape; the rig answers with its values. */
#define NONCE	"fyko+d2lbbFgONRv9qkxdawL"
#define SERVER	NONCE "3rfcNHYJY1ZVvWVs7j"
#define SALT	",s=QSXCR+Q6sek8bf92,i=4096"
#define SASL	"R\0\0\0\27\0\0\0\12SCRAM-SHA-256\0\0"
#define PLUS	"R\0\0\0\52\0\0\0\12SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"
#define ONLY_PLUS "R\0\0\0\34\0\0\0\12SCRAM-SHA-256-PLUS\0\0"
#define CONTINUE "R\0\0\0\116\0\0\0\13r=" SERVER SALT
#define FINAL	"R\0\0\0\46\0\0\0\14v=rmF9pqV8S7suAoZWja4dJRkFsKQ="
#define WRONG	"R\0\0\0\46\0\0\0\14v=rmF9pqV8S7suAoZWja4dJRkFsKR="
#define CLEAR	"R\0\0\0\10\0\0\0\3"
#define MD5	"R\0\0\0\14\0\0\0\5\1\2\3\377"
#define GSS	"R\0\0\0\10\0\0\0\7"
#define OK	"R\0\0\0\10\0\0\0\0"
#define REST	"S\0\0\0\30server_version\00015.1\0K\0\0\0\14\0\0\0\7\0\0\0\11Z\0\0\0\5I"

#define STARTUP	    "\0\0\0\42\0\3\0\0user\0agent\0database\0shop\0\0"
#define SAY_STARTUP "\0\0\0\43\0\3\0\0user\0mapped\0database\0shop\0\0"
#define SAY_FIRST   "p\0\0\0\66SCRAM-SHA-256\0\0\0\0\40n,,n=,r=" NONCE
#define SAY_PROOF   "p\0\0\0\126c=biws,r=" SERVER ",p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
#define SAY_FIRST_Y "p\0\0\0\66SCRAM-SHA-256\0\0\0\0\40y,,n=,r=" NONCE
#define SAY_PROOF_Y "p\0\0\0\126c=eSws,r=" SERVER ",p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
#define BOUND	    "cD10bHMtc2VydmVyLWVuZC1wb2ludCwsAQIDBAUGBwgJCgsMDQ4PEBESExQVFhcYGRobHB0eHyA="
#define SAY_FIRST_PLUS "p\0\0\0\120SCRAM-SHA-256-PLUS\0\0\0\0\65p=tls-server-end-point,,n=,r=" NONCE
#define SAY_PROOF_PLUS "p\0\0\0\236c=" BOUND ",r=" SERVER ",p=v0X8v3Bz2T0CJGbJQyF0X+HI4Ts="
#define SAY_MD5	    "p\0\0\0\16md5c0ffee\0"
#define SAY_CLEAR   "p\0\0\0\20open sesame\0"

#define SCRAM_ASKED "asked nonce\nasked scram n=,r=" NONCE " | r=" SERVER SALT \
		    " | c=biws,r=" SERVER "\n"
#define ASKED_WITH(c) "asked nonce\nasked scram n=,r=" NONCE " | r=" SERVER SALT " | c=" c ",r=" SERVER "\n"
#define READY	    "2 key 7 9\n4 ready\n"

static const struct row {
	const char *name;
	struct slice client, server;
	struct slice to_server, to_client;
	const char *asked;
	uint16_t why; /* 0: it goes on */
	bool no_clear_text, socket, trust;
	bool tls, unbound, certified; /* its certificate has no hash that binds; it got ours */
} rows[] = {
	{.name = "scram", L(STARTUP), L(SASL CONTINUE FINAL OK REST),
	 L(SAY_STARTUP SAY_FIRST SAY_PROOF), L(OK REST), SCRAM_ASKED READY},
	{.name = "channel binding is offered, too", L(STARTUP), L(PLUS CONTINUE FINAL OK REST),
	 L(SAY_STARTUP SAY_FIRST SAY_PROOF), L(OK REST), SCRAM_ASKED READY},
	{.name = "bound to the channel", L(STARTUP), L(PLUS CONTINUE FINAL OK REST),
	 L(SAY_STARTUP SAY_FIRST_PLUS SAY_PROOF_PLUS), L(OK REST), ASKED_WITH(BOUND) READY, .tls = true},
	{.name = "nothing but that is offered", L(STARTUP), L(ONLY_PLUS CONTINUE FINAL OK REST),
	 L(SAY_STARTUP SAY_FIRST_PLUS SAY_PROOF_PLUS), L(OK REST), ASKED_WITH(BOUND) READY, .tls = true},
	{.name = "it is not offered, and may have been", L(STARTUP), L(SASL CONTINUE FINAL OK REST),
	 L(SAY_STARTUP SAY_FIRST_Y SAY_PROOF_Y), L(OK REST), ASKED_WITH("eSws") READY, .tls = true},
	{.name = "a certificate that nothing can be bound to", L(STARTUP), L(PLUS CONTINUE FINAL OK REST),
	 L(SAY_STARTUP SAY_FIRST SAY_PROOF), L(OK REST), SCRAM_ASKED READY, .tls = true,
	 .unbound = true},
	{.name = "only channel binding, and nothing to bind to", L(STARTUP), L(ONLY_PLUS), L(SAY_STARTUP),
	 L(""), "", TG_R_CREDENTIAL_METHOD, .tls = true, .unbound = true},
	{.name = "a certificate is all that was asked for", L(STARTUP), L(OK REST), L(SAY_STARTUP),
	 L(OK REST), READY, .tls = true, .certified = true},
	{.name = "TLS alone lets nobody in", L(STARTUP), L(OK REST), L(SAY_STARTUP), L(""), "",
	 TG_R_CREDENTIAL_UNASKED, .tls = true},
	{.name = "md5", L(STARTUP), L(MD5 OK REST), L(SAY_STARTUP SAY_MD5), L(OK REST),
	 "asked md5 01 02 03 ff\n" READY},
	{.name = "password", L(STARTUP), L(CLEAR OK REST), L(SAY_STARTUP SAY_CLEAR), L(OK REST),
	 "asked password\n" READY},
	{.name = "the database of the client's user keeps its name",
	 L("\0\0\0\24\0\3\0\0user\0agent\0\0"), L(MD5 OK REST),
	 L("\0\0\0\44\0\3\0\0user\0mapped\0database\0agent\0\0" SAY_MD5), L(OK REST),
	 "asked md5 01 02 03 ff\n" READY},
	{.name = "options stay, those beyond 3.0 do not",
	 L("\0\0\0\54\0\3\0\2application_name\0x\0user\0a\0_pq_.k\0v\0\0"), L(MD5 OK REST),
	 L("\0\0\0\63\0\3\0\0application_name\0x\0user\0mapped\0database\0a\0\0" SAY_MD5),
	 L("v\0\0\0\23\0\3\0\0\0\0\0\1_pq_.k\0" OK REST), "asked md5 01 02 03 ff\n" READY},
	{.name = "what the client sends before it may waits",
	 L(STARTUP "p\0\0\0\6x\0"), L(MD5 OK), L(SAY_STARTUP SAY_MD5), L(OK),
	 "asked md5 01 02 03 ff\n"},
	{.name = "only channel binding", L(STARTUP), L(ONLY_PLUS), L(SAY_STARTUP), L(""), "",
	 TG_R_CREDENTIAL_METHOD},
	{.name = "gss", L(STARTUP), L(GSS), L(SAY_STARTUP), L(""), "", TG_R_CREDENTIAL_METHOD},
	{.name = "the password itself is refused", L(STARTUP), L(CLEAR), L(SAY_STARTUP), L(""),
	 "asked password\n", TG_R_CREDENTIAL_METHOD, .no_clear_text = true},
	{.name = "nobody asked", L(STARTUP), L(OK REST), L(SAY_STARTUP), L(""), "",
	 TG_R_CREDENTIAL_UNASKED},
	{.name = "nobody asked over the socket", L(STARTUP), L(OK REST), L(SAY_STARTUP), L(""), "",
	 TG_R_CREDENTIAL_UNASKED, .socket = true},
	{.name = "trust elsewhere is none", L(STARTUP), L(OK REST), L(SAY_STARTUP), L(""), "",
	 TG_R_CREDENTIAL_UNASKED, .trust = true},
	{.name = "a socket that is trusted", L(STARTUP), L(OK REST), L(SAY_STARTUP), L(OK REST), READY,
	 .socket = true, .trust = true},
	{.name = "no proof of the server's", L(STARTUP), L(SASL CONTINUE OK REST),
	 L(SAY_STARTUP SAY_FIRST SAY_PROOF), L(""), SCRAM_ASKED, TG_R_CREDENTIAL_UNPROVED},
	{.name = "no proof at all", L(STARTUP), L(SASL OK REST), L(SAY_STARTUP SAY_FIRST), L(""),
	 "asked nonce\n", TG_R_CREDENTIAL_UNPROVED},
	{.name = "a wrong proof", L(STARTUP), L(SASL CONTINUE WRONG OK REST),
	 L(SAY_STARTUP SAY_FIRST SAY_PROOF), L(""), SCRAM_ASKED, TG_R_CREDENTIAL_UNPROVED},
	{.name = "another nonce", L(STARTUP), L(SASL "R\0\0\0\55\0\0\0\13r=" "3rfcNHYJY" SALT),
	 L(SAY_STARTUP SAY_FIRST), L(""), "asked nonce\n", TG_R_PROTO_BAD},
	{.name = "our nonce alone", L(STARTUP), L(SASL "R\0\0\0\74\0\0\0\13r=" NONCE SALT),
	 L(SAY_STARTUP SAY_FIRST), L(""), "asked nonce\n", TG_R_PROTO_BAD},
	{.name = "first SCRAM, then the password", L(STARTUP), L(SASL CLEAR),
	 L(SAY_STARTUP SAY_FIRST), L(""), "asked nonce\n", TG_R_PROTO_BAD},
	{.name = "the password twice", L(STARTUP), L(CLEAR CLEAR), L(SAY_STARTUP SAY_CLEAR), L(""),
	 "asked password\n", TG_R_PROTO_BAD},
	{.name = "SCRAM without a beginning", L(STARTUP), L(CONTINUE), L(SAY_STARTUP), L(""), "",
	 TG_R_PROTO_BAD},
	{.name = "a proof before ours", L(STARTUP), L(SASL FINAL), L(SAY_STARTUP SAY_FIRST), L(""),
	 "asked nonce\n", TG_R_PROTO_BAD},
	{.name = "logged in twice", L(STARTUP), L(MD5 OK OK), L(SAY_STARTUP SAY_MD5), L(OK),
	 "asked md5 01 02 03 ff\n", TG_R_PROTO_BAD},
	{.name = "ready before it is logged in", L(STARTUP), L(MD5 "Z\0\0\0\5I"),
	 L(SAY_STARTUP SAY_MD5), L(""), "asked md5 01 02 03 ff\n", TG_R_PROTO_BAD},
	{.name = "a salt that is too short", L(STARTUP), L("R\0\0\0\13\0\0\0\5\1\2\3"), L(SAY_STARTUP),
	 L(""), "", TG_R_PROTO_BAD},
	{.name = "the server refuses", L(STARTUP),
	 L(MD5 "E\0\0\0\56SFATAL\0VFATAL\0C28P01\0Mno mapped password\0\0"), L(SAY_STARTUP SAY_MD5),
	 L(""), "asked md5 01 02 03 ff\n2 login error 28P01 no mapped password\n",
	 TG_R_CREDENTIAL_REFUSED},
	{.name = "the server is busy", L(STARTUP), L("E\0\0\0\23SFATAL\0C57P03\0\0"),
	 L(SAY_STARTUP), L("E\0\0\0\23SFATAL\0C57P03\0\0"), "2 error 57P03 \n"},
	{.name = "what is wrong behind the login is the client's", L(STARTUP),
	 L(MD5 OK "E\0\0\0\23SFATAL\0C28000\0\0"), L(SAY_STARTUP SAY_MD5),
	 L(OK "E\0\0\0\23SFATAL\0C28000\0\0"), "asked md5 01 02 03 ff\n2 error 28000 \n"},
};

static void expect(const struct row *row, const char *what, const struct buf *got, struct slice want)
{
	char a[2048], b[2048];

	if (slice_eq(buf_slice(got), want))
		return;
	(void)text_escape(buf_slice(got), a, sizeof(a));
	(void)text_escape(want, b, sizeof(b));
	fail_msg("%s: %s: got\n%s\nwant\n%s", row->name, what, a, b);
}

static void begin(struct rig *r, const struct row *row, int wait)
{
	static const uint8_t end_point[32] = {1,  2,  3,  4,  5,  6,  7,  8,  9,  10, 11,
					      12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22,
					      23, 24, 25, 26, 27, 28, 29, 30, 31, 32};
	static struct insp_channel channel;

	rig_init(r, rig_sql, false);
	r->exact = true;
	r->login_as = "mapped";
	r->wait_login = wait;
	r->no_clear_text = row->no_clear_text;
	r->env.server_socket = row->socket;
	r->env.socket_trust = row->trust;
	channel = (struct insp_channel){
		.end_point = row->unbound ? slice_of("", 0) : slice_of(end_point, sizeof(end_point)),
		.certified = row->certified,
	};
	if (row->tls)
		r->env.channel = &channel;
}

static void check(struct rig *r, const struct row *row)
{
	expect(row, "to the server", &r->got[INSP_TO_SERVER], row->to_server);
	expect(row, "to the client", &r->got[INSP_TO_CLIENT], row->to_client);
	expect(row, "events", &r->lines[INSP_S2C], slice_str(row->asked));
	if (r->status != (row->why ? INSP_BAD : INSP_MORE) || r->why != row->why)
		fail_msg("%s: status %d, %s", row->name, r->status, reason_label(r->why));
	rig_done(r);
}

static void feed_cut(struct rig *r, enum insp_dir dir, struct slice s, size_t cut)
{
	if (cut)
		rig_feed(r, dir, slice_of(s.p, cut));
	rig_feed(r, dir, slice_from(s, cut));
}

static void test_rows(void **state)
{
	struct rig r;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct row *row = &rows[i];

		for (size_t cut = 0; cut < row->client.n; cut++) {
			begin(&r, row, 0);
			feed_cut(&r, INSP_C2S, row->client, cut);
			rig_feed(&r, INSP_S2C, row->server);
			check(&r, row);
		}
		for (size_t cut = 0; cut < row->server.n; cut++) {
			begin(&r, row, 0);
			rig_feed(&r, INSP_C2S, row->client);
			feed_cut(&r, INSP_S2C, row->server, cut);
			check(&r, row);
		}
		begin(&r, row, 0);
		for (size_t at = 0; at < row->client.n; at++)
			rig_feed(&r, INSP_C2S, slice_of(row->client.p + at, 1));
		for (size_t at = 0; at < row->server.n; at++)
			rig_feed(&r, INSP_S2C, slice_of(row->server.p + at, 1));
		check(&r, row);
	}
}

/* Whoever has the secret takes time, at every question. */
static void test_waiting(void **state)
{
	struct rig r;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		for (int wait = 1; wait < 4; wait++) {
			begin(&r, &rows[i], wait);
			rig_feed(&r, INSP_C2S, rows[i].client);
			rig_feed(&r, INSP_S2C, rows[i].server);
			for (int k = 0; k < 4; k++)
				rig_again(&r);
			check(&r, &rows[i]);
		}
}

/* A recording has what the client got: the end of the login and no question. */
static void test_replay(void **state)
{
	const struct row *row = &rows[0];
	struct rig r;

	(void)state;
	begin(&r, row, 0);
	r.env.replay = true;
	rig_feed(&r, INSP_C2S, row->client);
	rig_feed(&r, INSP_S2C, row->to_client);
	assert_int_equal(r.status, INSP_MORE);
	expect(row, "to the client", &r.got[INSP_TO_CLIENT], row->to_client);
	expect(row, "events", &r.lines[INSP_S2C], slice_str(READY));
	rig_done(&r);
	begin(&r, row, 0);
	r.env.replay = true;
	rig_feed(&r, INSP_C2S, row->client);
	rig_feed(&r, INSP_S2C, row->server);
	assert_int_equal(r.status, INSP_BAD);
	rig_done(&r);
}

/* Our user makes the message too long for a server. */
static void test_too_long(void **state)
{
	static char user[600];
	struct buf b;
	struct rig r;

	(void)state;
	memset(user, 'u', sizeof(user) - 1);
	buf_init(&b, 16384);
	assert_non_null(buf_reserve(&b, 9900));
	memset(buf_data(&b), 'x', 9900);
	memcpy(buf_data(&b), "\0\0\46\254\0\3\0\0user\0a\0k\0", 17);
	buf_data(&b)[9898] = buf_data(&b)[9899] = 0;
	buf_commit(&b, 9900);
	rig_init(&r, rig_sql, false);
	rig_feed(&r, INSP_C2S, buf_slice(&b));
	assert_int_equal(r.status, INSP_MORE);
	assert_int_equal(r.got[INSP_TO_SERVER].n, 9900);
	rig_done(&r);
	rig_init(&r, rig_sql, false);
	r.login_as = user;
	rig_feed(&r, INSP_C2S, buf_slice(&b));
	assert_int_equal(r.status, INSP_BAD);
	assert_int_equal(r.why, TG_R_PROTO_LIMIT);
	assert_int_equal(r.got[INSP_TO_SERVER].n, 0);
	rig_done(&r);
	buf_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows),
		cmocka_unit_test(test_waiting),
		cmocka_unit_test(test_replay),
		cmocka_unit_test(test_too_long),
	};

	return cmocka_run_group_tests_name("pg_own", tests, rig_setup, rig_teardown);
}
