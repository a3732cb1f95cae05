/* SPDX-License-Identifier: MIT */
/* What a client asks for beyond protocol 3.0 is declined, and does not reach the server. */
#include "pg_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#define L(s) SLICE_LIT(s)

#define PLAIN "user\0agent\0database\0shop\0"

static const struct {
	struct slice in, to_server, to_client;
} rows[] = {
	{L("\0\0\0\42\0\3\0\0" PLAIN "\0"), L("\0\0\0\42\0\3\0\0" PLAIN "\0"), L("")},
	/* libpq 18 with max_protocol_version=latest; what it greases with. */
	{L("\0\0\0\42\0\3\0\2" PLAIN "\0"), L("\0\0\0\42\0\3\0\0" PLAIN "\0"),
	 L("v\0\0\0\14\0\3\0\0\0\0\0\0")},
	{L("\0\0\0\71\0\3\47\17" "_pq_.a\0x\0" PLAIN "_pq_.tests\0on\0\0"),
	 L("\0\0\0\42\0\3\0\0" PLAIN "\0"),
	 L("v\0\0\0\36\0\3\0\0\0\0\0\2_pq_.a\0_pq_.tests\0")},
	{L("\0\0\0\53\0\3\0\0" PLAIN "_pq_.a\0x\0\0"),
	 L("\0\0\0\42\0\3\0\0" PLAIN "\0"),
	 L("v\0\0\0\23\0\3\0\0\0\0\0\1_pq_.a\0")},
};

static void expect(const struct buf *got, struct slice want)
{
	assert_int_equal(got->n, want.n);
	if (want.n)
		assert_memory_equal(buf_data(got), want.p, want.n);
}

static void test_beyond(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		for (size_t cut = 0; cut <= rows[i].in.n; cut++) {
			struct rig r;

			rig_init(&r, rig_sql, false);
			r.exact = true;
			if (cut)
				rig_feed(&r, INSP_C2S, slice_of(rows[i].in.p, cut));
			rig_feed(&r, INSP_C2S, slice_from(rows[i].in, cut));
			expect(&r.got[INSP_TO_SERVER], rows[i].to_server);
			expect(&r.got[INSP_TO_CLIENT], rows[i].to_client);
			assert_int_equal(r.status, INSP_MORE);
			rig_done(&r);
		}
}

/* Who is not let in is told nothing else before. */
static void test_refused(void **state)
{
	static const struct slice in =
		L("\0\0\0\44\0\3\0\2user\0agent\0database\0nobody\0\0");
	struct rig r;

	(void)state;
	rig_init(&r, rig_sql, false);
	rig_feed(&r, INSP_C2S, in);
	assert_int_equal(r.status, INSP_END);
	assert_int_equal(r.got[INSP_TO_SERVER].n, 0);
	assert_int_equal(buf_data(&r.got[INSP_TO_CLIENT])[0], 'E');
	rig_done(&r);
}

/* The client's leg is no TLS: what binds to the server's is not offered to him. */
static void test_mechanisms(void **state)
{
	static const struct {
		struct slice in, out;
		uint16_t why;
	} cases[] = {
		{L("R\0\0\0\27\0\0\0\12SCRAM-SHA-256\0\0"), L("R\0\0\0\27\0\0\0\12SCRAM-SHA-256\0\0"), 0},
		{L("R\0\0\0\52\0\0\0\12SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
		 L("R\0\0\0\27\0\0\0\12SCRAM-SHA-256\0\0"), 0},
		{L("R\0\0\0\52\0\0\0\12SCRAM-SHA-256\0SCRAM-SHA-256-PLUS\0\0"),
		 L("R\0\0\0\27\0\0\0\12SCRAM-SHA-256\0\0"), 0},
		{L("R\0\0\0\34\0\0\0\12SCRAM-SHA-256-PLUS\0\0"), L(""), TG_R_PROTO_UNSUPPORTED},
		{L("R\0\0\0\32\0\0\0\12SCRAM-SHA-256-PLUS"), L(""), TG_R_PROTO_BAD},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (size_t cut = 0; cut < cases[i].in.n; cut++) {
			struct rig r;

			rig_init(&r, rig_sql, false);
			r.exact = true;
			rig_feed(&r, INSP_C2S, rows[0].in);
			if (cut)
				rig_feed(&r, INSP_S2C, slice_of(cases[i].in.p, cut));
			rig_feed(&r, INSP_S2C, slice_from(cases[i].in, cut));
			expect(&r.got[INSP_TO_CLIENT], cases[i].out);
			assert_int_equal(r.status, cases[i].why ? INSP_BAD : INSP_MORE);
			assert_int_equal(r.why, cases[i].why);
			/* What the client got is what a replay is given. */
			rig_done(&r);
			rig_init(&r, rig_sql, false);
			r.exact = r.env.replay = true;
			rig_feed(&r, INSP_C2S, rows[0].in);
			if (cases[i].out.n)
				rig_feed(&r, INSP_S2C, cases[i].out);
			expect(&r.got[INSP_TO_CLIENT], cases[i].out);
			assert_int_equal(r.status, INSP_MORE);
			rig_done(&r);
		}
}

/*
 * Kerberos and Windows logins are between the two: all of it goes through as it is, the client
 * may answer only what it was asked, and none of it is recorded in clear.
 */
static void test_gss(void **state)
{
	static const struct {
		struct slice ask[3], answer[3];
	} cases[] = {
		{{L("R\0\0\0\10\0\0\0\7"), L("R\0\0\0\15\0\0\0\10gss-2"),
		  L("R\0\0\0\15\0\0\0\10gss-3")},
		 {L("p\0\0\0\13token-1"), L("p\0\0\0\13token-2"), L("p\0\0\0\4")}},
		{{L("R\0\0\0\10\0\0\0\11"), L("R\0\0\0\15\0\0\0\10ntlm2"),
		  L("R\0\0\0\10\0\0\0\10")},
		 {L("p\0\0\0\13NTLMSSP"), L("p\0\0\0\10auth"), L("p\0\0\0\13token-3")}},
	};
	static const struct slice ready = L("R\0\0\0\10\0\0\0\0Z\0\0\0\5I");

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (size_t cut = 0; cut < 13; cut++) {
			struct rig r;

			rig_init(&r, rig_sql, false);
			r.exact = true;
			r.env.server_socket = true; /* this way of asking is asking */
			rig_feed(&r, INSP_C2S, rows[0].in);
			for (size_t k = 0; k < 3; k++) {
				const struct slice *both[] = {&cases[i].ask[k], &cases[i].answer[k]};

				for (int side = 0; side < 2; side++) {
					enum insp_dir dir = side ? INSP_C2S : INSP_S2C;
					size_t at = min_size(cut, both[side]->n);

					buf_reset(&r.got[dir]);
					if (at)
						rig_feed(&r, dir, slice_of(both[side]->p, at));
					if (at < both[side]->n)
						rig_feed(&r, dir, slice_from(*both[side], at));
					expect(&r.got[dir], *both[side]);
					assert_int_equal(r.status, INSP_MORE);
				}
				if (both[0]->n > 9)
					assert_non_null(memmem(buf_data(&r.secrets), r.secrets.n,
							       both[0]->p + 9, both[0]->n - 9));
				if (both[1]->n > 5)
					assert_non_null(memmem(buf_data(&r.secrets), r.secrets.n,
							       both[1]->p + 5, both[1]->n - 5));
			}
			/* Unasked: it waits, and is no message of a session that runs. */
			rig_feed(&r, INSP_C2S, cases[i].answer[0]);
			assert_int_equal(r.in[INSP_C2S].n, cases[i].answer[0].n);
			rig_feed(&r, INSP_S2C, ready);
			assert_int_equal(r.status, INSP_BAD);
			assert_int_equal(r.why, TG_R_PROTO_BAD);
			rig_done(&r);
		}
}

/* A role that is taken while connecting is judged by nobody. */
static void test_role(void **state)
{
	static const struct {
		const char *name, *value;
		bool refused;
	} cases[] = {
		{"role", "boss", true},
		{"ROLE", "boss", true},
		{"session_authorization", "boss", true},
		{"options", "-c role=boss", true},
		{"options", "-crole=boss", true},
		{"options", "-e -c Role=boss", true},
		{"options", "-c ro\\le=boss", true},
		{"options", "--role=boss", true},
		{"options", "--session-authorization=boss", true},
		{"options", "-c work_mem=1MB --SESSION_authorization=x", true},
		{"options", "-c app.role=boss", false},
		{"options", "-c my_role=boss -c work_mem=1MB", false},
		{"options", "-c role", false},
		{"app.role", "boss", false},
		{"application_name", "role=boss", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		uint8_t msg[200] = {0, 0, 0, 0, 0, 3};
		size_t n = 8;
		struct rig r;

		memcpy(msg + n, PLAIN, sizeof(PLAIN) - 1);
		n += sizeof(PLAIN) - 1;
		n += (size_t)snprintf((char *)msg + n, 60, "%s", cases[i].name) + 1;
		n += (size_t)snprintf((char *)msg + n, 90, "%s", cases[i].value) + 2;
		msg[3] = (uint8_t)n;
		rig_init(&r, rig_sql, false);
		rig_feed(&r, INSP_C2S, slice_of(msg, n));
		if ((r.status == INSP_END) != cases[i].refused ||
		    (r.got[INSP_TO_SERVER].n == 0) != cases[i].refused) {
			print_error("%s=%s\n", cases[i].name, cases[i].value);
			fail();
		}
		rig_done(&r);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_beyond),
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_mechanisms),
		cmocka_unit_test(test_gss),
		cmocka_unit_test(test_role),
	};

	return cmocka_run_group_tests_name("pg_startup", tests, rig_setup, rig_teardown);
}
