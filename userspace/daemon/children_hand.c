/* SPDX-License-Identifier: MIT */
/* Child processes in the state of an upgrade. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/crew.h"
#include "daemon/hand.h"

static json_t *save_orphan(struct hand *h, const struct orphan *o)
{
	json_t *one = json_object();

	hand_put_slice(h, one, "session", slice_of(o->session.b, sizeof(o->session.b)));
	hand_put_u64(h, one, "reason", o->reason);
	return one;
}

static json_t *save_one(struct hand *h, const struct child *c, uint64_t key)
{
	json_t *o = json_object(), *orphans = json_array();

	hand_put_u64(h, o, "key", key);
	hand_put_u64(h, o, "role", c->role);
	hand_put_u64(h, o, "pid", c->ipc ? (uint64_t)c->pid : 0);
	hand_put_u64(h, o, "types", c->ipc ? ipc_known(c->ipc) : 0);
	hand_put_fd(h, o, "ipc", c->ipc ? ipc_fd(c->ipc) : -1);
	hand_put_bool(h, o, "ready", c->ready);
	hand_put_bool(h, o, "told", c->told);
	hand_put_bool(h, o, "next", c->next);
	hand_put_u64(h, o, "restarts", c->restarts);
	hand_put_u64(h, o, "started", c->started_boot_ns);
	hand_put_fd(h, o, "stats", c->stats_fd);
	hand_put_fd(h, o, "journal", c->journal_fd);
	for (size_t i = 0; i < c->norphans; i++)
		(void)json_array_append_new(orphans, save_orphan(h, &c->orphans[i]));
	hand_put(h, o, "orphans", orphans);
	return o;
}

enum { KEY_KEYD, KEY_AUTHD, KEY_NAMED, KEY_OLD };

void children_save(struct parent *p, struct hand *h, json_t *root)
{
	json_t *workers = json_array(), *others = json_array(), *orphans = json_array();

	for (uint32_t i = 0; i < p->nworkers; i++)
		(void)json_array_append_new(workers, save_one(h, &p->workers[i], i));
	if (p->keyd.ipc)
		(void)json_array_append_new(others, save_one(h, &p->keyd, KEY_KEYD));
	if (p->authd.ipc)
		(void)json_array_append_new(others, save_one(h, &p->authd, KEY_AUTHD));
	if (p->named.ipc)
		(void)json_array_append_new(others, save_one(h, &p->named, KEY_NAMED));
	for (size_t i = 0; i < OLD_MAX; i++)
		if (p->old[i].ipc)
			(void)json_array_append_new(others, save_one(h, &p->old[i], KEY_OLD + i));
	for (size_t i = 0; i < p->norphans; i++)
		(void)json_array_append_new(orphans, save_orphan(h, &p->orphans[i]));
	hand_put(h, root, "orphans", orphans);
	hand_put(h, root, "workers", workers);
	hand_put(h, root, "others", others);
	hand_put_fd(h, root, "named_stats", p->named.stats_fd);
}

uint64_t child_key(const struct child *c)
{
	return c == &c->p->authd ? KEY_AUTHD : KEY_OLD + (uint64_t)(c - c->p->old);
}

struct child *child_by_key(struct parent *p, uint64_t key)
{
	for (size_t i = 0; i < OLD_MAX; i++)
		if (p->old[i].ipc && p->old[i].hand_key == key)
			return &p->old[i];
	return NULL;
}

struct child *child_by_slot(struct parent *p, struct hand *h, uint64_t slot)
{
	if (slot < p->nworkers)
		return &p->workers[slot];
	hand_fail(h, "slot");
	return NULL;
}

static void take_orphans(struct child *c, struct hand *h, const json_t *o)
{
	json_t *one;
	size_t i;

	json_array_foreach(hand_list(h, o, "orphans"), i, one)
	{
		struct uuid u;

		hand_bytes(h, one, "session", u.b, sizeof(u.b));
		child_add_orphan(c, &u, (uint16_t)hand_u64(h, one, "reason"));
	}
}

static void take_process(struct child *c, struct hand *h, const json_t *o)
{
	int fd = hand_fd(h, o, "ipc");

	c->pid = (pid_t)hand_u64(h, o, "pid");
	c->ready = hand_bool(h, o, "ready");
	c->told = hand_bool(h, o, "told");
	c->restarts = (uint32_t)hand_u64(h, o, "restarts");
	c->started_boot_ns = hand_u64(h, o, "started");
	if (fd < 0)
		return;
	if (ipc_new(&c->p->loop, fd, &route_ops, c, &c->ipc)) {
		close(fd);
		hand_fail(h, "ipc");
		return;
	}
	ipc_limit(c->ipc, (uint32_t)hand_u64(h, o, "types"));
}

static void take_worker(struct parent *p, struct hand *h, const json_t *o)
{
	uint32_t slot = (uint32_t)hand_u64(h, o, "key");
	struct child *c = &p->workers[slot];

	if (slot != p->nworkers || slot >= WORKER_SLOTS) {
		hand_fail(h, "slot");
		return;
	}
	child_init(p, c, ROLE_WORKER, slot);
	p->nworkers++;
	c->stats_fd = hand_fd(h, o, "stats");
	c->journal_fd = hand_fd(h, o, "journal");
	c->next = hand_bool(h, o, "next");
	c->retired = c->journal_fd >= 0 && !c->next;
	if (c->stats_fd < 0 || child_map_stats(c))
		hand_fail(h, "stats");
	take_process(c, h, o);
	take_orphans(c, h, o);
}

/* Without room for it: what it was asked is asked anew. */
static void take_other(struct parent *p, struct hand *h, const json_t *o)
{
	for (size_t i = 0; i < OLD_MAX; i++) {
		struct child *c = &p->old[i];

		if (c->pid)
			continue;
		child_init(p, c, (enum role)hand_u64(h, o, "role"), ROUTE_OLD + (uint32_t)i);
		c->retired = true;
		c->hand_key = (uint8_t)hand_u64(h, o, "key");
		take_process(c, h, o);
		c->told = true;
		return;
	}
	(void)kill((pid_t)hand_u64(h, o, "pid"), SIGTERM);
	close(hand_fd(h, o, "ipc"));
}

void children_take(struct parent *p, struct hand *h, const json_t *root)
{
	json_t *o;
	size_t i;

	child_init(p, &p->keyd, ROLE_KEYD, 0);
	child_init(p, &p->authd, ROLE_AUTHD, 0);
	child_init(p, &p->named, ROLE_NAMED, 0);
	/* It has ended with the binary before: what it was told is told to the next one. */
	child_init(p, &p->roled, ROLE_ROLED, 0);
	/* Both count in it for the moment that the named of before still has answers to give. */
	p->named.stats_fd = hand_fd(h, root, "named_stats");
	if (p->named.stats_fd < 0 || child_map_stats(&p->named))
		hand_fail(h, "named_stats");
	p->taken_boot_ns = clock_boot_ns();
	json_array_foreach(hand_list(h, root, "workers"), i, o)
		take_worker(p, h, o);
	json_array_foreach(hand_list(h, root, "others"), i, o)
		take_other(p, h, o);
	/* A binary from before there were any has given them to a worker. */
	json_array_foreach(json_object_get(root, "orphans"), i, o)
	{
		struct orphan one = {.reason = (uint16_t)hand_u64(h, o, "reason")};

		hand_bytes(h, o, "session", one.session.b, sizeof(one.session.b));
		crew_add_orphan(p, &one);
	}
}
