/* SPDX-License-Identifier: MIT */
/*
 * Addresses that names of targets have led to: how long they are guarded, and that their end opens
 * no hole. The kernel's map, /etc/hosts and named are played by this file.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <arpa/inet.h>
#include <errno.h>

#include "base/clock.h"
#include "daemon/children.h"
#include "daemon/learned.h"
#include "kern/kern.h"

enum { PORT = 5432, KEEP_MS = 3600000, SHOP = 7, BANK = 8 };

/* What the kernel guards: an address each, as 10.0.0.N, for a target. */
static struct {
	uint32_t target[256];
	int fail; /* what the next changes of the map give */
	unsigned sets, frees, saves;
	uint8_t hosts; /* N of "db.internal" in /etc/hosts; 0: none */
} world;

static struct ptarget *target_of(struct parent *p, uint32_t id)
{
	list_each(it, &p->targets) {
		struct ptarget *t = container_of(it, struct ptarget, link);

		if (t->id == id)
			return t;
	}
	return NULL;
}

struct ptarget *target_by_id(struct parent *p, uint32_t id)
{
	return target_of(p, id);
}

int targets_save(struct parent *p)
{
	world.saves++;
	return 0;
}

int targets_free_addr(struct parent *p, const struct tg_addr_key *key)
{
	world.frees++;
	if (world.fail)
		return world.fail;
	world.target[key->addr[15]] = 0;
	return 0;
}

int kern_addr_set(struct kern *k, const struct tg_addr_key *key, uint32_t target)
{
	world.sets++;
	if (world.fail)
		return world.fail;
	world.target[key->addr[15]] = target;
	return 0;
}

size_t learned_hosts(const char *name, uint8_t (*ret)[16], size_t cap)
{
	if (!world.hosts || strcmp(name, "db.internal") != 0)
		return 0;
	assert_true(cap > 0);
	memset(ret[0], 0, 16);
	memcpy(ret[0] + 10, "\xff\xff\x0a\0\0", 5);
	ret[0][15] = world.hosts;
	return 1;
}

/* Not reached from here. */
void learned_give(struct child *c)
{
	fail();
}

void children_retire_old(struct parent *p, enum role role)
{
	fail();
}

void session_resolved(struct parent *p, const struct uuid *u, const char *upstream)
{
	fail();
}

json_t *time_json(uint64_t wall_ns)
{
	return json_null();
}

/* ---------------------------------------------------------------------- the daemon */

/* The parent's end and named's end of one pair. */
struct rig {
	struct parent p;
	struct learned_state l;
	struct config cfg;
	struct cfg_target cfgs[2];
	struct cfg_addr addrs[2][2];
	struct in6_addr literals[2];
	struct ptarget shop, bank;
	struct child named;
	struct ipc *far;
	uint32_t answer;
	unsigned answers;
};

static void on_parent(void *ctx, struct ipc *ipc, struct ipc_msg *m)
{
	struct rig *r = ctx;

	learned_message(&r->p, &r->named, m);
	assert_false(m->bad);
}

static void on_named(void *ctx, struct ipc *ipc, struct ipc_msg *m)
{
	struct rig *r = ctx;

	assert_int_equal(m->type, IPC_DNS_LEARN);
	r->answer = ipc_get_u32(m);
	assert_true(ipc_end(m));
	r->answers++;
}

static void on_closed(void *ctx, struct ipc *ipc, bool bad)
{
	assert_false(bad);
}

static const struct ipc_ops parent_ops = {on_parent, on_closed}, named_ops = {on_named, on_closed};

/* ::ffff:10.0.0.@n */
static struct in6_addr address(uint8_t n)
{
	return (struct in6_addr){.s6_addr = {[10] = 0xff, [11] = 0xff, [12] = 10, [15] = n}};
}

static void add_target(struct rig *r, struct ptarget *t, unsigned i, uint32_t id, const char *name,
		       const char *host)
{
	r->addrs[i][0].port = PORT;
	(void)snprintf(r->addrs[i][0].host, sizeof(r->addrs[i][0].host), "%s", host);
	r->cfgs[i].addrs = r->addrs[i];
	r->cfgs[i].naddrs = 1;
	t->id = id;
	t->cfg = &r->cfgs[i];
	(void)snprintf(t->name, sizeof(t->name), "%s", name);
	list_add_tail(&r->p.targets, &t->link);
}

/* As a reload does: the target has this very address, too. */
static void add_literal(struct rig *r, unsigned i, uint8_t n)
{
	r->literals[i] = address(n);
	r->addrs[i][1] = (struct cfg_addr){.port = PORT, .addrs = &r->literals[i], .naddrs = 1,
					   .prefix = 128, .literal = true};
	r->cfgs[i].naddrs = 2;
	world.target[n] = i ? BANK : SHOP;
}

static int setup(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));
	int fds[2];

	assert_non_null(r);
	memset(&world, 0, sizeof(world));
	list_init(&r->p.targets);
	list_init(&r->l.asks);
	r->p.cfg = &r->cfg;
	r->p.learned = &r->l;
	r->p.kern = (struct kern *)&world; /* never looked into */
	r->cfg.dns.keep_ms = KEEP_MS;
	add_target(r, &r->shop, 0, SHOP, "shop", "db.internal");
	add_target(r, &r->bank, 1, BANK, "bank", "bank.internal");
	assert_int_equal(uv_loop_init(&r->p.loop), 0);
	assert_int_equal(ipc_pair(fds), 0);
	assert_int_equal(ipc_new(&r->p.loop, fds[0], &parent_ops, r, &r->named.ipc), 0);
	assert_int_equal(ipc_new(&r->p.loop, fds[1], &named_ops, r, &r->far), 0);
	*state = r;
	return 0;
}

static int teardown(void **state)
{
	struct rig *r = *state;
	struct learned *e, *tmp;

	HASH_ITER(hh, r->l.table, e, tmp) {
		HASH_DEL(r->l.table, e);
		free(e);
	}
	ipc_free(r->named.ipc);
	ipc_free(r->far);
	(void)uv_run(&r->p.loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&r->p.loop), 0);
	free(r);
	return 0;
}

/* named tells that @names (each its own host) mean 10.0.0.@n; the parent's reason against it, or 0. */
static uint32_t lesson(struct rig *r, uint8_t n, const char *name, const char *second)
{
	struct in6_addr addr = address(n);
	unsigned before = r->answers;

	ipc_begin(r->far, IPC_DNS_LEARN, 1);
	ipc_put_u32(r->far, 60);
	ipc_put_u32(r->far, second ? 2 : 1);
	for (const char *at = name; at; at = at == name ? second : NULL) {
		ipc_put_str(r->far, at);
		ipc_put_str(r->far, at);
	}
	ipc_put_bytes(r->far, slice_of(&addr, sizeof(addr)));
	ipc_send(r->far);
	for (int i = 0; i < 100 && r->answers == before; i++)
		(void)uv_run(&r->p.loop, UV_RUN_NOWAIT);
	assert_int_equal(r->answers, before + 1);
	return r->answer;
}

static struct learned *entry(struct rig *r, uint8_t n)
{
	struct learned *e, *tmp;

	HASH_ITER(hh, r->l.table, e, tmp)
		if (e->key.addr[15] == n)
			return e;
	return NULL;
}

static void make_old(struct rig *r, uint8_t n)
{
	struct learned *e = entry(r, n);

	assert_non_null(e);
	e->until_boot_ns = clock_boot_ns() - 1;
}

/* -------------------------------------------------------------------------- tests */

static void test_time(void **state)
{
	struct rig *r = *state;
	uint64_t now = clock_boot_ns(), until;

	assert_int_equal(lesson(r, 1, "db.internal", NULL), 0);
	assert_int_equal(world.target[1], SHOP);
	until = entry(r, 1)->until_boot_ns;
	assert_true(until >= now + (KEEP_MS + 60000) * 1000000ull);
	learned_forget_old(&r->p);
	assert_int_equal(world.frees, 0);
	assert_int_equal(world.saves, 1); /* what is new is on the disk */
	learned_forget_old(&r->p);
	assert_int_equal(world.saves, 1);
	/* Not before its time, and then at once, with the name of the rest untouched. */
	assert_int_equal(lesson(r, 2, "db.internal", NULL), 0);
	entry(r, 1)->until_boot_ns = clock_boot_ns() + 3600000000000ull;
	make_old(r, 2);
	learned_forget_old(&r->p);
	assert_null(entry(r, 2));
	assert_int_equal(world.target[2], 0);
	assert_non_null(entry(r, 1));
	assert_int_equal(world.target[1], SHOP);
	assert_int_equal(world.saves, 2);
}

/* As long as the name server says so, there is no end; and none comes nearer. */
static void test_said_again(void **state)
{
	struct rig *r = *state;
	uint64_t until;

	assert_int_equal(lesson(r, 1, "db.internal", NULL), 0);
	for (int i = 0; i < 3; i++) {
		make_old(r, 1);
		assert_int_equal(lesson(r, 1, "db.internal", NULL), 0);
		learned_forget_old(&r->p);
		assert_non_null(entry(r, 1));
		assert_int_equal(world.target[1], SHOP);
	}
	assert_int_equal(world.sets, 1);
	until = entry(r, 1)->until_boot_ns;
	r->cfg.dns.keep_ms = 1;
	assert_int_equal(lesson(r, 1, "db.internal", NULL), 0);
	assert_int_equal(entry(r, 1)->until_boot_ns, until);
}

static void test_open_session(void **state)
{
	struct rig *r = *state;

	assert_int_equal(lesson(r, 1, "db.internal", NULL), 0);
	make_old(r, 1);
	r->shop.sessions = 1;
	learned_forget_old(&r->p);
	assert_non_null(entry(r, 1));
	assert_int_equal(world.target[1], SHOP);
	r->shop.sessions = 0;
	r->bank.sessions = 1; /* of another target: keeps nothing */
	learned_forget_old(&r->p);
	assert_null(entry(r, 1));
	assert_int_equal(world.target[1], 0);
}

static void test_literal(void **state)
{
	struct rig *r = *state;

	add_literal(r, 0, 1);
	assert_int_equal(lesson(r, 1, "db.internal", NULL), 0);
	assert_int_equal(world.sets, 0);
	make_old(r, 1);
	learned_forget_old(&r->p);
	assert_null(entry(r, 1));
	assert_int_equal(world.frees, 0);
	assert_int_equal(world.target[1], SHOP);
	/* One that was learned first. */
	assert_int_equal(lesson(r, 2, "db.internal", NULL), 0);
	add_literal(r, 0, 2);
	make_old(r, 2);
	learned_forget_old(&r->p);
	assert_null(entry(r, 2));
	assert_int_equal(world.frees, 0);
	assert_int_equal(world.target[2], SHOP);
}

/* The new configuration gives a learned address to another target: it is that one's for good. */
static void test_literal_of_another(void **state)
{
	struct rig *r = *state;

	assert_int_equal(lesson(r, 1, "db.internal", NULL), 0);
	add_literal(r, 1, 1);
	learned_prune(&r->p);
	assert_null(entry(r, 1));
	assert_int_equal(world.frees, 0); /* targets_apply() sees to the map */
	assert_int_equal(lesson(r, 1, "db.internal", NULL), TG_R_DNS_REBIND);
	learned_forget_old(&r->p);
	assert_int_equal(world.target[1], BANK);
}

/* Agents read that file by themselves, without any name server. */
static void test_hosts_file(void **state)
{
	struct rig *r = *state;

	assert_int_equal(lesson(r, 1, "db.internal", NULL), 0);
	world.hosts = 1;
	make_old(r, 1);
	learned_forget_old(&r->p);
	assert_int_equal(world.frees, 0);
	assert_int_equal(world.target[1], SHOP);
	assert_non_null(entry(r, 1));
	world.hosts = 2;
	learned_forget_old(&r->p);
	assert_null(entry(r, 1));
	assert_int_equal(world.target[1], 0);
}

static void test_failed_delete(void **state)
{
	struct rig *r = *state;

	assert_int_equal(lesson(r, 1, "db.internal", NULL), 0);
	make_old(r, 1);
	world.fail = -EBUSY;
	for (unsigned i = 1; i <= 3; i++) {
		learned_forget_old(&r->p);
		assert_non_null(entry(r, 1));
		assert_int_equal(world.frees, i);
	}
	world.fail = 0;
	learned_forget_old(&r->p);
	assert_null(entry(r, 1));
	assert_int_equal(world.target[1], 0);
	/* What is not there any more is no reason to keep it for good. */
	assert_int_equal(lesson(r, 2, "db.internal", NULL), 0);
	make_old(r, 2);
	world.fail = -ENOENT;
	learned_forget_old(&r->p);
	assert_null(entry(r, 2));
}

/* The kernel has no room: the agent does not hear of the address. */
static void test_failed_set(void **state)
{
	struct rig *r = *state;

	world.fail = -E2BIG;
	assert_int_equal(lesson(r, 1, "db.internal", NULL), TG_R_DNS_FULL);
	assert_null(entry(r, 1));
	world.fail = 0;
	assert_int_equal(lesson(r, 1, "db.internal", NULL), 0);
}

/* One answer with names of two targets, as a chain of CNAME gives: an address has one owner. */
static void test_two_targets_in_one_answer(void **state)
{
	struct rig *r = *state;

	assert_int_equal(lesson(r, 1, "db.internal", "bank.internal"), TG_R_DNS_REBIND);
	assert_null(entry(r, 1));
	assert_int_equal(world.sets, 0);
	assert_int_equal(lesson(r, 2, "bank.internal", NULL), 0);
	assert_int_equal(lesson(r, 2, "db.internal", NULL), TG_R_DNS_REBIND);
	assert_int_equal(world.target[2], BANK);
}

#define TEST(fn) cmocka_unit_test_setup_teardown(fn, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(test_time),	TEST(test_said_again),	       TEST(test_open_session),
		TEST(test_literal),	TEST(test_literal_of_another), TEST(test_hosts_file),
		TEST(test_failed_delete), TEST(test_failed_set), TEST(test_two_targets_in_one_answer),
	};

	return cmocka_run_group_tests_name("learned", tests, NULL, NULL);
}
