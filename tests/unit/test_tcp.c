/* SPDX-License-Identifier: MIT */
/* The inspector that looks into nothing: one question, then both streams and their ends as they are. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include "base/text.h"
#include "guard.h"
#include "inspect/inspect.h"

struct flow {
	struct insp_env env;
	struct arena arena;
	struct insp_out out[2];
	void *st;
	enum insp_verdict says; /* the host */
	unsigned asked;
	uint64_t seq;
	struct buf got[2];
	uint16_t why;
};

static enum insp_verdict on_event(void *ctx, const struct event *ev, struct insp_answer *ret)
{
	struct flow *f = ctx;

	assert_int_equal(ev->kind, EV_LOGIN);
	assert_true(ev->login.user.n == 0 && ev->login.database.n == 0);
	assert_true(!f->asked || f->seq == ev->seq);
	f->asked++;
	f->seq = ev->seq;
	ret->reason = f->says == INSP_V_DENY ? TG_R_NO_RULE : TG_R_NONE;
	return f->says;
}

static const struct insp_host host = {.event = on_event};

static void begin(struct flow *f, enum insp_verdict says)
{
	*f = (struct flow){.says = says};
	arena_init(&f->arena, 65536);
	for (int i = 0; i < 2; i++) {
		insp_out_init(&f->out[i], 1 << 20);
		buf_init(&f->got[i], 1 << 20);
		f->env.out[i] = &f->out[i];
	}
	f->env.host = &host;
	f->env.ctx = f;
	f->env.arena = &f->arena;
	f->st = arena_alloc(&f->arena, inspector_tcp.state_size);
	assert_non_null(f->st);
	assert_int_equal(inspector_tcp.open(f->st, &f->env), 0);
}

static void finish(struct flow *f)
{
	inspector_tcp.close(f->st);
	for (int i = 0; i < 2; i++) {
		insp_out_done(&f->out[i]);
		buf_done(&f->got[i]);
	}
	arena_done(&f->arena);
}

static enum insp_status feed(struct flow *f, enum insp_dir dir, const char *text, bool eof, size_t *ret_used)
{
	struct slice in = slice_str(text);
	enum insp_status status;
	void *guard;
	uint8_t *at = guard_copy(in, &guard);

	insp_out_reset(&f->out[0]);
	insp_out_reset(&f->out[1]);
	status = inspector_tcp.feed(f->st, dir, slice_of(at, in.n), eof, ret_used, &f->why);
	for (int to = 0; to < 2; to++)
		for (uint32_t i = 0; i < f->out[to].nseg; i++)
			assert_int_equal(buf_append(&f->got[to], insp_out_ptr(&f->out[to], i),
						    f->out[to].seg[i].n), 0);
	guard_free(guard);
	return status;
}

static void expect(const struct flow *f, const char *to_server, const char *to_client)
{
	assert_true(slice_eq_str(buf_slice(&f->got[INSP_TO_SERVER]), to_server));
	assert_true(slice_eq_str(buf_slice(&f->got[INSP_TO_CLIENT]), to_client));
}

static void test_nothing_passes_before_the_answer(void **state)
{
	struct flow f;
	size_t used;

	(void)state;
	begin(&f, INSP_V_WAIT);
	assert_int_equal(feed(&f, INSP_C2S, "", false, &used), INSP_WAIT);
	assert_true(inspector_tcp.holding(f.st));
	assert_int_equal(feed(&f, INSP_C2S, "early", false, &used), INSP_WAIT);
	assert_int_equal(used, 0);
	assert_int_equal(feed(&f, INSP_S2C, "", false, &used), INSP_MORE);
	assert_int_equal(feed(&f, INSP_S2C, "x", false, &used), INSP_BAD);
	expect(&f, "", "");
	f.says = INSP_V_ALLOW;
	assert_int_equal(feed(&f, INSP_C2S, "early", false, &used), INSP_MORE);
	assert_int_equal(used, 5);
	assert_false(inspector_tcp.holding(f.st));
	expect(&f, "early", "");
	assert_int_equal(f.asked, 3);
	finish(&f);
}

static void test_a_refusal_ends(void **state)
{
	struct flow f;
	size_t used;

	(void)state;
	begin(&f, INSP_V_DENY);
	assert_int_equal(feed(&f, INSP_C2S, "hello", false, &used), INSP_END);
	assert_int_equal(f.why, TG_R_NO_RULE);
	assert_int_equal(used, 0);
	inspector_tcp.end(f.st, &(struct insp_words){.reason = TG_R_NO_RULE});
	inspector_tcp.notice(f.st, slice_str("x"));
	expect(&f, "", "");
	finish(&f);
}

static void test_streams_and_ends(void **state)
{
	struct flow f;
	size_t used;

	(void)state;
	begin(&f, INSP_V_ALLOW);
	assert_int_equal(feed(&f, INSP_C2S, "", false, &used), INSP_MORE);
	assert_int_equal(feed(&f, INSP_S2C, "banner", false, &used), INSP_MORE); /* speaks first */
	assert_int_equal(feed(&f, INSP_C2S, "a", false, &used), INSP_MORE);
	assert_int_equal(feed(&f, INSP_C2S, "bc", true, &used), INSP_MORE);
	assert_int_equal(feed(&f, INSP_S2C, "more", false, &used), INSP_MORE);
	assert_int_equal(feed(&f, INSP_S2C, "", true, &used), INSP_MORE);
	assert_int_equal(f.asked, 1);
	expect(&f, "abc", "bannermore");
	finish(&f);
}

static void test_describe(void **state)
{
	struct jsonw w;
	struct flow f;
	struct buf b;
	size_t used;

	(void)state;
	begin(&f, INSP_V_ALLOW);
	(void)feed(&f, INSP_C2S, "abc", true, &used);
	buf_init(&b, 4096);
	jsonw_init(&w, &b, false);
	inspector_tcp.describe(f.st, &w);
	assert_int_equal(jsonw_end(&w), 0);
	assert_true(slice_eq_str(buf_slice(&b), "{\"protocol\":\"tcp\",\"let_in\":true,\"client_bytes\":3,"
				 "\"server_bytes\":0,\"client_ended\":true,\"server_ended\":false}"));
	buf_done(&b);
	finish(&f);
}

static void test_registered(void **state)
{
	(void)state;
	assert_ptr_equal(inspector_find(slice_str("tcp")), &inspector_tcp);
	assert_int_equal(inspector_tcp.does, 0);
	assert_true(inspector_tcp.half_close);
	assert_int_equal(inspector_tcp.probe(slice_str("GET /"), slice_str("")), INSP_MAYBE);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_nothing_passes_before_the_answer),
		cmocka_unit_test(test_a_refusal_ends),
		cmocka_unit_test(test_streams_and_ends),
		cmocka_unit_test(test_describe),
		cmocka_unit_test(test_registered),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
