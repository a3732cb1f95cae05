/* SPDX-License-Identifier: MIT */
/* Tokens that grants are rechecked with: what cannot be kept is no grant, and none is lost on its way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/hand.h"
#include "daemon/receipts.h"
#include "daemon/recheck.h"
#include "inspect/inspect.h"

enum { TOKEN = 32 << 10, ROOM = 64 << 20 }; /* of recheck_ask.c and recheck.c */

struct rig {
	struct parent *p;
	struct ipc *authd, *parent; /* the ends */
	unsigned seen;
	bool bad;
};

static void on_message(void *ctx, struct ipc *ipc, struct ipc_msg *m)
{
	struct rig *r = ctx;

	if (m->type == IPC_RECHECK_TOKEN)
		recheck_token(r->p, m);
	else
		idp_answer(r->p, m);
	r->bad |= m->bad;
	r->seen++;
}

static void on_closed(void *ctx, struct ipc *ipc, bool bad)
{
}

static int setup(void **state)
{
	static const struct ipc_ops ops = {.message = on_message, .closed = on_closed};
	struct rig *r = calloc(1, sizeof(*r));
	int fds[2];

	assert_non_null(r);
	r->p = calloc(1, sizeof(*r->p));
	assert_non_null(r->p);
	r->p->cfg = calloc(1, sizeof(*r->p->cfg));
	assert_non_null(r->p->cfg);
	r->p->cfg->state_dir = "/nonexistent";
	log_init("test", LOG_LVL_ERROR);
	list_init(&r->p->grants);
	list_init(&r->p->approvals);
	list_init(&r->p->receipts);
	list_init(&r->p->glogins);
	list_init(&r->p->agents);
	assert_int_equal(uv_loop_init(&r->p->loop), 0);
	assert_int_equal(ipc_pair(fds), 0);
	assert_int_equal(ipc_new(&r->p->loop, fds[0], &ops, r, &r->parent), 0);
	assert_int_equal(ipc_new(&r->p->loop, fds[1], &ops, r, &r->authd), 0);
	*state = r;
	return 0;
}

static struct approval *approval(struct rig *r, uint64_t idp_id)
{
	struct approval *a = calloc(1, sizeof(*a));

	assert_non_null(a);
	(void)snprintf(a->id, sizeof(a->id), "a%llu", (unsigned long long)idp_id);
	(void)snprintf(a->ways, sizeof(a->ways), "idp");
	(void)snprintf(a->agent, sizeof(a->agent), "bot");
	(void)snprintf(a->target, sizeof(a->target), "db");
	a->idp_id = idp_id;
	a->max_ms = 60000;
	list_init(&a->waiters);
	list_init(&a->rechecks);
	list_add_tail(&r->p->approvals, &a->link);
	r->p->napprovals++;
	return a;
}

static void sent(struct rig *r)
{
	unsigned want = r->seen + 1;

	ipc_send(r->authd);
	while (r->seen < want)
		(void)uv_run(&r->p->loop, UV_RUN_ONCE);
	assert_false(r->bad);
}

static void give(struct rig *r, uint64_t id, const char *way, size_t n)
{
	static uint8_t token[TOKEN];

	memset(token, 't', sizeof(token));
	ipc_begin(r->authd, IPC_RECHECK_TOKEN, id);
	ipc_put_str(r->authd, way);
	ipc_put_bytes(r->authd, slice_of(token, n));
	sent(r);
}

static void say_yes(struct rig *r, uint64_t id)
{
	ipc_begin(r->authd, IPC_IDP_ASK, id);
	ipc_put_u32(r->authd, TG_R_NONE);
	ipc_put_u64(r->authd, 60000);
	for (int i = 0; i < 4; i++)
		ipc_put_str(r->authd, "");
	ipc_put_str(r->authd, "[]");
	sent(r);
}

static unsigned count(const struct list *l)
{
	unsigned n = 0;

	list_each(it, l) n++;
	return n;
}

static int teardown(void **state)
{
	struct rig *r = *state;

	while (!list_empty(&r->p->grants)) {
		struct grant *g = container_of(r->p->grants.next, struct grant, link);

		rechecks_free(&g->rechecks);
		list_del(&g->link);
		json_decref(g->evidence);
		free(g);
	}
	while (!list_empty(&r->p->approvals))
		approval_free(r->p, container_of(r->p->approvals.next, struct approval, link));
	receipts_fail(r->p, ECANCELED);
	ipc_free(r->authd);
	ipc_free(r->parent);
	(void)uv_run(&r->p->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&r->p->loop), 0);
	free(r->p->cfg);
	free(r->p);
	free(r);
	return 0;
}

/* A token that comes again is in the place of the first; with the grant it goes along. */
static void test_kept(void **state)
{
	struct rig *r = *state;
	struct approval *a = approval(r, 7);

	give(r, 7, "one", 10);
	give(r, 7, "two", 10);
	give(r, 7, "one", 20);
	give(r, 8, "one", 10); /* nobody's */
	assert_int_equal(count(&a->rechecks), 2);
	assert_false(a->unchecked);
	say_yes(r, 7);
	assert_int_equal(a->held.reason, TG_R_NONE);
	assert_int_equal(count(&r->p->grants), 1);
	assert_int_equal(count(&container_of(r->p->grants.next, struct grant, link)->rechecks), 2);
	assert_int_equal(count(&a->rechecks), 0);
}

/* Without room there is no grant: nobody could ask whether it still holds. */
static void test_no_room(void **state)
{
	struct rig *r = *state;
	struct approval *full = approval(r, 1), *late = approval(r, 2);
	uint64_t unkept = recheck_counts()->unkept;
	char way[16];

	for (unsigned i = 0; i < ROOM / TOKEN; i++) {
		(void)snprintf(way, sizeof(way), "w%u", i);
		give(r, 1, way, TOKEN);
	}
	assert_false(full->unchecked);
	assert_int_equal(count(&full->rechecks), ROOM / TOKEN);
	give(r, 2, "one", 1);
	assert_true(late->unchecked);
	assert_int_equal(recheck_counts()->unkept, unkept + 1);
	say_yes(r, 2);
	assert_int_equal(late->held.reason, TG_R_NO_MEMORY);
	assert_int_equal(late->held.v, INSP_V_DENY);
	assert_int_equal(count(&r->p->grants), 0);
	/* What goes makes room. */
	rechecks_free(&full->rechecks);
	late = approval(r, 3);
	give(r, 3, "one", TOKEN);
	assert_false(late->unchecked);
	say_yes(r, 3);
	assert_int_equal(count(&r->p->grants), 1);
}

/* Over an upgrade, also those of a question that is not decided yet. */
static void test_handed_over(void **state)
{
	struct rig *r = *state;
	struct hand h = {0};
	json_t *root = json_object(), *one;
	struct approval *a = approval(r, 7);

	give(r, 7, "one", 10);
	a->unchecked = true;
	grants_save(r->p, &h, root);
	approval_free(r->p, a);
	grants_take(r->p, &h, root);
	assert_string_equal(h.why, "");
	a = container_of(r->p->approvals.next, struct approval, link);
	assert_int_equal(a->idp_id, 7);
	assert_int_equal(count(&a->rechecks), 1);
	assert_true(a->unchecked);
	/* A token that is missing is an error, not one less. */
	one = json_array_get(json_object_get(json_array_get(json_object_get(root, "approvals"), 0), "rechecks"), 0);
	assert_int_equal(json_object_set_new(one, "token", json_string("")), 0);
	grants_take(r->p, &h, root);
	assert_string_not_equal(h.why, "");
	json_decref(root);
	hand_done(&h);
}

/* A question about a longer one would be no message: an authd that is taken over gets no parent to try. */
static void test_too_long(void **state)
{
	static uint8_t token[TOKEN + 1];
	struct rig *r = *state;
	struct approval *a = approval(r, 7);

	ipc_begin(r->authd, IPC_RECHECK_TOKEN, 7);
	ipc_put_str(r->authd, "one");
	ipc_put_bytes(r->authd, slice_of(token, sizeof(token)));
	ipc_send(r->authd);
	while (!r->seen)
		(void)uv_run(&r->p->loop, UV_RUN_ONCE);
	assert_true(r->bad);
	assert_int_equal(count(&a->rechecks), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_kept, setup, teardown),
		cmocka_unit_test_setup_teardown(test_no_room, setup, teardown),
		cmocka_unit_test_setup_teardown(test_too_long, setup, teardown),
		cmocka_unit_test_setup_teardown(test_handed_over, setup, teardown),
	};

	return cmocka_run_group_tests_name("recheck", tests, NULL, NULL);
}
