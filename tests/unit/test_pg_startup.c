/* SPDX-License-Identifier: MIT */
/* What a client asks for beyond protocol 3.0 is declined, and does not reach the server. */
#include "pg_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

static struct sql *sql;

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

			rig_init(&r, sql, false);
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
	rig_init(&r, sql, false);
	rig_feed(&r, INSP_C2S, in);
	assert_int_equal(r.status, INSP_END);
	assert_int_equal(r.got[INSP_TO_SERVER].n, 0);
	assert_int_equal(buf_data(&r.got[INSP_TO_CLIENT])[0], 'E');
	rig_done(&r);
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
		cmocka_unit_test(test_beyond),
		cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests_name("pg_startup", tests, setup, teardown);
}
