/* SPDX-License-Identifier: MIT */
/*
 * The daemon's own questions. Names of targets are looked up again and again, so that an
 * address is guarded also from an agent that has it from elsewhere; and when a session
 * is opened the target is reached at what its name means now, not at what the agent says.
 */
#include <errno.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/named.h"

enum {
	REFRESH_MIN_S = 5,
	REFRESH_MAX_S = 60,
	RETRY_S = 5,
	FRESH_MAX_S = 30,   /* an answer is not used again after this, whatever its TTL */
	NAMES_MAX = 4096,   /* and questions about what wildcards cover */
	IDLE_S = 600,	    /* a name of a wildcard that nobody asks for any more */
	WAITERS_MAX = 1024,
};

struct waiter {
	struct list link;
	uint64_t id;
};

/* One name; its addresses are those of the last answers. */
struct rname {
	struct list link, waiters;
	struct named *n;
	char name[NAMED_NAME], host[NAMED_NAME];
	bool standing; /* of the configuration: looked up without being asked for */
	bool tried;
	uint32_t candidate, nwaiters; /* which completion of a short name is being tried */
	struct dns_query q[2];
	struct dns_ask *ask[2]; /* A and AAAA */
	int error[2];
	struct found found, answer;
	uint64_t next_ns, fresh_ns, used_ns;
};

static struct rname *find(struct named *n, const char *name, const char *host)
{
	list_each(it, &n->names) {
		struct rname *r = container_of(it, struct rname, link);

		if (strcmp(r->name, name) == 0 && strcmp(r->host, host) == 0)
			return r;
	}
	return NULL;
}

static struct rname *add(struct named *n, const char *name, const char *host)
{
	struct rname *r = n->nnames < NAMES_MAX ? calloc(1, sizeof(*r)) : NULL;

	if (!r)
		return NULL;
	r->n = n;
	(void)snprintf(r->name, sizeof(r->name), "%s", name);
	(void)snprintf(r->host, sizeof(r->host), "%s", host);
	list_init(&r->waiters);
	list_add_tail(&n->names, &r->link);
	n->nnames++;
	return r;
}

static bool busy(const struct rname *r)
{
	return r->ask[0] || r->ask[1];
}

static void answer_one(struct rname *r, uint64_t id)
{
	const struct found *f = &r->found;

	ipc_begin(r->n->ipc, IPC_DNS_RESOLVE, id);
	ipc_put_u32(r->n->ipc, f->naddrs ? 0 : EHOSTUNREACH);
	ipc_put_bytes(r->n->ipc, slice_of(f->addrs, f->naddrs * sizeof(f->addrs[0])));
	ipc_send(r->n->ipc);
}

static void answer_all(struct rname *r)
{
	list_each(it, &r->waiters) {
		struct waiter *w = container_of(it, struct waiter, link);

		answer_one(r, w->id);
		list_del(&w->link);
		free(w);
	}
	r->nwaiters = 0;
}

static void drop(struct rname *r)
{
	dns_ask_cancel(r->ask[0]);
	dns_ask_cancel(r->ask[1]);
	r->found.naddrs = 0;
	answer_all(r);
	list_del(&r->link);
	r->n->nnames--;
	free(r);
}

/* ---------------------------------------------------------------- asking */

static void start(struct rname *r);

/* The @i-th name to try for a short one: with each of the search list, then as it is. */
static bool candidate(const struct rname *r, uint32_t i, char *dst, size_t cap)
{
	uint32_t n = strchr(r->name, '.') ? 0 : r->n->nsearch;

	if (i > n)
		return false;
	if (i < n)
		return (size_t)snprintf(dst, cap, "%s.%s", r->name, r->n->search[i]) < cap;
	return (size_t)snprintf(dst, cap, "%s", r->name) < cap;
}

static void schedule(struct rname *r, uint64_t now)
{
	uint64_t ttl = r->found.ttl_s, wait = ttl;

	if (!r->found.naddrs)
		wait = RETRY_S;
	else if (ttl < REFRESH_MIN_S)
		wait = REFRESH_MIN_S;
	else if (ttl > REFRESH_MAX_S)
		wait = REFRESH_MAX_S;
	r->next_ns = now + wait * 1000000000ull;
	r->fresh_ns = now + (ttl < FRESH_MAX_S ? ttl : FRESH_MAX_S) * 1000000000ull;
}

/* Both answers are there. What was learnt reaches the parent before those who wait. */
static void complete(struct rname *r)
{
	uint64_t now = clock_boot_ns();

	if (!r->answer.naddrs) {
		r->candidate++;
		start(r);
		if (busy(r))
			return;
		log_debug("%s cannot be resolved", r->name);
	}
	r->tried = true;
	r->found = r->answer;
	if (!r->found.naddrs)
		r->found.ttl_s = 0;
	schedule(r, now);
	if (r->found.naddrs) {
		r->found.nnames = 1;
		(void)snprintf(r->found.names[0].name, NAMED_NAME, "%s", r->name);
		r->found.names[0].host = r->host;
		match_learn(r->n, 0, &r->found);
	}
	answer_all(r);
}

static void merge(struct found *into, const struct found *f)
{
	if (f->ttl_s < into->ttl_s)
		into->ttl_s = f->ttl_s;
	for (uint32_t i = 0; i < f->naddrs && into->naddrs < FOUND_ADDRS; i++)
		memcpy(into->addrs[into->naddrs++], f->addrs[i], 16);
}

static void on_answer(struct rname *r, int which, int error, struct slice msg)
{
	struct dns_answer head;
	struct found f;

	r->ask[which] = NULL;
	if (!error)
		error = match_answer(r->n, msg, &r->q[which], &f, &head);
	if (!error && head.rcode == DNS_NOERROR && !head.truncated)
		merge(&r->answer, &f);
	else if (error || head.rcode != DNS_NXDOMAIN)
		named_count(r->n, TG_R_DNS_UPSTREAM);
	if (!busy(r))
		complete(r);
}

static void on_a(void *ctx, int error, struct slice msg)
{
	on_answer(ctx, 0, error, msg);
}

static void on_aaaa(void *ctx, int error, struct slice msg)
{
	on_answer(ctx, 1, error, msg);
}

static void start(struct rname *r)
{
	static const uint16_t types[2] = {DNS_T_A, DNS_T_AAAA};
	static dns_ask_done *const done[2] = {on_a, on_aaaa};
	struct dns_ask_config up = named_upstream(r->n);
	char name[NAMED_NAME];

	r->answer.naddrs = r->answer.nnames = 0;
	r->answer.ttl_s = UINT32_MAX;
	if (!candidate(r, r->candidate, name, sizeof(name)))
		return;
	for (int i = 0; i < 2; i++)
		if (dns_query_make(name, types[i], &r->q[i]) ||
		    dns_ask_start(&r->n->loop, &up, &r->q[i], done[i], r, &r->ask[i]))
			r->ask[i] = NULL;
}

static void begin(struct rname *r)
{
	if (busy(r))
		return;
	r->candidate = 0;
	start(r);
	if (!busy(r)) { /* no name, or no memory */
		r->answer.naddrs = 0;
		r->candidate = NAMED_SEARCH;
		complete(r);
	}
}

void names_resolve(struct named *n, uint64_t id, const char *name, const char *host)
{
	struct rname *r = find(n, name, host);
	struct waiter *w = calloc(1, sizeof(*w));

	if (!r)
		r = add(n, name, host);
	if (!w || !r || r->nwaiters >= WAITERS_MAX) {
		free(w);
		ipc_begin(n->ipc, IPC_DNS_RESOLVE, id);
		ipc_put_u32(n->ipc, ENOMEM);
		ipc_put_bytes(n->ipc, slice_of("", 0));
		ipc_send(n->ipc);
		return;
	}
	r->used_ns = clock_boot_ns();
	w->id = id;
	list_add_tail(&r->waiters, &w->link);
	r->nwaiters++;
	if (r->used_ns < r->fresh_ns && r->found.naddrs && !busy(r))
		answer_all(r);
	else
		begin(r);
}

/* ------------------------------------------------------------- the round */

static void tell_round(struct named *n)
{
	if (n->round_told)
		return;
	list_each(it, &n->names) {
		const struct rname *r = container_of(it, struct rname, link);

		if (r->standing && !r->tried)
			return;
	}
	n->round_told = true;
	ipc_begin(n->ipc, IPC_DNS_ROUND, 0);
	ipc_send(n->ipc);
}

void names_tick(struct named *n)
{
	uint64_t now = clock_boot_ns();

	list_each(it, &n->names) {
		struct rname *r = container_of(it, struct rname, link);

		if (r->standing && !busy(r) && now >= r->next_ns)
			begin(r);
		else if (!r->standing && !busy(r) && now - r->used_ns > IDLE_S * 1000000000ull)
			drop(r);
	}
	tell_round(n);
}

void names_config(struct named *n)
{
	list_each(it, &n->names)
		container_of(it, struct rname, link)->standing = false;
	for (uint32_t i = 0; i < n->cfg->ntargets; i++) {
		for (uint32_t k = 0; k < n->cfg->targets[i].naddrs; k++) {
			const struct cfg_addr *a = &n->cfg->targets[i].addrs[k];
			struct rname *r;

			if (a->literal || a->wildcard)
				continue;
			r = find(n, a->host, a->host);
			if (!r)
				r = add(n, a->host, a->host);
			if (!r) {
				log_error("more names of targets than %u", NAMES_MAX);
				return;
			}
			r->standing = true;
			/* Also one that is known: another target may have it now. */
			r->next_ns = 0;
		}
	}
	/* What is gone from the configuration is asked for no more. */
	list_each(it, &n->names) {
		struct rname *r = container_of(it, struct rname, link);

		if (!r->standing && list_empty(&r->waiters) && !r->used_ns)
			drop(r);
	}
	n->round_told = false;
	names_tick(n);
}
