/* SPDX-License-Identifier: MIT */
/* What agents may do besides connecting to targets: listed addresses, AF_UNIX paths. */
#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "kern/kern_held.h"

enum { ADDR_BITS = 64, PATH_BITS = 32 };

static const uint32_t options_key;

static void options_count(struct tg_options *o, uint32_t flags, uint32_t n)
{
	o->deny_agents += flags & TG_AGENT_DENY ? n : 0;
	o->unix_agents += flags & TG_AGENT_UNIX ? n : 0;
}

/* Anew, from all agents. */
static int options_update(struct kern *k)
{
	struct tg_options o = {0};
	struct tg_agent_state a;
	uint32_t agent, *at = NULL;

	while (!bpf_map_get_next_key(k->map[KM_AGENTS], at, &agent)) {
		if (!bpf_map_lookup_elem(k->map[KM_AGENTS], &agent, &a))
			options_count(&o, a.flags, 1);
		at = &agent;
	}
	return kern_put(k, KM_OPTIONS, &options_key, &o);
}

/*
 * One agent's state. It is counted before it is there, and what it was no more after: a
 * count that is too low would let everybody by.
 */
static int state_put(struct kern *k, uint32_t agent, uint32_t was, const struct tg_agent_state *a)
{
	struct tg_options o;
	int r = 0;

	if (bpf_map_lookup_elem(k->map[KM_OPTIONS], &options_key, &o))
		return -errno;
	options_count(&o, a->flags & ~was, 1);
	if (a->flags & ~was)
		r = kern_put(k, KM_OPTIONS, &options_key, &o);
	if (!r)
		r = kern_put(k, KM_AGENTS, &agent, a);
	options_count(&o, was & ~a->flags, (uint32_t)-1);
	if (!r && was & ~a->flags)
		r = kern_put(k, KM_OPTIONS, &options_key, &o);
	return r;
}

/* ------------------------------------------------------------- addresses */

static int allow_key(uint32_t agent, const struct tg_addr_key *a, struct tg_allow_key *ret)
{
	if (a->prefixlen < 32 || a->prefixlen > 32 + 128)
		return -EINVAL;
	if (a->protocol != IPPROTO_TCP && a->protocol != IPPROTO_UDP)
		return -EPROTONOSUPPORT;
	*ret = (struct tg_allow_key){.prefixlen = a->prefixlen - 32 + ADDR_BITS,
				     .agent = agent,
				     .protocol = a->protocol,
				     .port_be = a->port_be};
	memcpy(ret->addr, a->addr, sizeof(ret->addr));
	return 0;
}

static bool allow_wanted(const struct tg_allow_key *key, const struct tg_allow_key *all, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (memcmp(&all[i], key, sizeof(*key)) == 0)
			return true;
	return false;
}

/* Those that the agent has and @wanted does not name. */
static int allow_drop(struct kern *k, const struct held_agent *a, const struct tg_allow_key *wanted,
		      size_t n)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < a->nallow; i++)
		if (!allow_wanted(&a->allow[i], wanted, n))
			rc = kern_drop(k, KM_ALLOW, &a->allow[i]);
	return rc == -ENOENT ? 0 : rc;
}

static int allow_add(struct kern *k, uint32_t agent, const struct kern_agent_rules *r,
		     struct tg_allow_key *ret_keys)
{
	uint32_t one = 1;
	int rc = 0;

	for (size_t i = 0; !rc && i < r->nallow; i++) {
		rc = allow_key(agent, &r->allow[i], &ret_keys[i]);
		if (!rc)
			rc = kern_put(k, KM_ALLOW, &ret_keys[i], &one);
	}
	return rc;
}

/* -------------------------------------------------------------- AF_UNIX */

/*
 * @lead: the first byte, or 0 and none. A name of which only the beginning is given is open
 * at its end; else its NUL belongs to it.
 */
static int unix_add(struct unix_list *l, int lead, struct slice text, bool open,
		    bool pass)
{
	struct unix_entry *e = &l->e[l->n];
	size_t n = text.n + (lead >= 0) + !open;

	if (n > TG_UNIX_PATH)
		return -ENAMETOOLONG;
	*e = (struct unix_entry){.verdict = pass ? TG_UNIX_PASS : TG_UNIX_REFUSE};
	/* The longest rule counts: an exact one is longer than any beginning. */
	e->key.prefixlen = PATH_BITS + 8 * (uint32_t)n;
	if (lead >= 0)
		e->key.path[0] = (uint8_t)lead;
	if (text.n)
		memcpy(e->key.path + (lead >= 0), text.p, text.n);
	for (size_t i = 0; i < l->n; i++) {
		if (memcmp(&l->e[i].key, &e->key, sizeof(e->key)) != 0)
			continue;
		l->e[i].verdict = e->verdict; /* the later word counts */
		return 0;
	}
	l->n++;
	return 0;
}

static struct slice last_part(struct slice path)
{
	size_t i = path.n;

	while (i > 0 && path.p[i - 1] != '/')
		i--;
	return slice_from(path, i);
}

/* A file below /run is below /var/run too. */
static int unix_add_path(struct unix_list *l, struct slice path, bool open, bool pass)
{
	char other[TG_UNIX_PATH + 8];
	struct slice last = last_part(path);
	int r = unix_add(l, -1, path, open, pass);

	if (!r && path.n > 5 && memcmp(path.p, "/run/", 5) == 0) {
		(void)snprintf(other, sizeof(other), "/var%.*s", (int)path.n, (const char *)path.p);
		r = unix_add(l, -1, slice_str(other), open, pass);
	}
	/* Refused by its path: refused to who goes into its folder first, too. */
	if (!r && !pass && last.n)
		r = unix_add(l, TG_UNIX_LAST, last, open, false);
	return r;
}

static int unix_add_rule(struct unix_list *l, const struct kern_unix_rule *rule)
{
	struct slice s = slice_str(rule->path);
	bool open = s.n && (s.p[s.n - 1] == '*' || s.p[s.n - 1] == '/');

	if (s.n && s.p[s.n - 1] == '*')
		s.n--;
	if (!s.n)
		return -EINVAL;
	if (s.p[0] == '@')
		return unix_add(l, 0, slice_from(s, 1), open, rule->pass);
	if (s.n > 2 && s.p[0] == '.' && s.p[1] == '/')
		return unix_add(l, TG_UNIX_LAST, slice_from(s, 2), open, rule->pass);
	return s.p[0] == '/' ? unix_add_path(l, s, open, rule->pass) : -EINVAL;
}

static int unix_list(struct unix_list *l, const struct kern_agent_rules *r)
{
	int rc = 0;

	*l = (struct unix_list){.e = calloc(r->nunix * 3 + 2, sizeof(*l->e))};
	if (!l->e)
		return -ENOMEM;
	if (r->unix_judged && r->unix_listed)
		rc = unix_add(l, -1, slice_of("", 0), true, false);
	for (size_t i = 0; !rc && r->unix_judged && i < r->nunix; i++)
		rc = unix_add_rule(l, &r->unix_rules[i]);
	return rc;
}

/* ------------------------------------------------------------------ agent */

/* What we know of the maps; read (again) if somebody else has set this agent's rules. */
static int held_fresh(struct kern *k, uint32_t agent, const struct tg_agent_state *now)
{
	const struct held_agent *a = k->held ? held_agent(k->held, agent) : NULL;
	int rc;

	if (k->held && now->generation == (a ? a->generation : 0))
		return 0;
	kern_rules_forget(k);
	rc = held_new(k, &k->held);
	return rc ? rc : options_update(k);
}

/*
 * What is listed comes before the state that makes it count, what is not goes after it. AF_UNIX rules
 * are another set, so that those of no moment are half old and half new.
 */
static int rules_put(struct kern *k, struct held_agent *a, const struct kern_agent_rules *r,
		     struct unix_list *l, const struct tg_agent_state *old)
{
	struct tg_allow_key *keys = calloc(r->nallow + 1, sizeof(*keys));
	struct tg_agent_state next = {.flags = (r->deny ? TG_AGENT_DENY : 0) |
					       (r->unix_judged ? TG_AGENT_UNIX : 0),
				      .generation = old->generation + 1};
	struct held_set *set = NULL, *before = a->set;
	int rc = keys ? allow_add(k, a->agent, r, keys) : -ENOMEM;

	if (!rc)
		rc = held_set_get(k, k->held, l, &set);
	if (!rc) {
		next.unix_set = set ? set->id : TG_UNIX_SET; /* that one is empty */
		rc = state_put(k, a->agent, old->flags, &next);
	}
	if (!rc) {
		a->generation = next.generation;
		a->set = set;
		rc = allow_drop(k, a, keys, r->nallow);
	}
	if (rc) {
		free(keys);
		return rc;
	}
	free(a->allow);
	a->allow = keys;
	a->nallow = r->nallow;
	return held_set_unref(k, k->held, before);
}

static int rules_set(struct kern *k, uint32_t agent, const struct kern_agent_rules *r,
		     struct unix_list *l)
{
	struct tg_agent_state old = {0};
	struct held_agent *a;
	int rc;

	(void)bpf_map_lookup_elem(k->map[KM_AGENTS], &agent, &old); /* not there: the first */
	rc = held_fresh(k, agent, &old);
	if (rc)
		return rc;
	a = held_agent_get(k->held, agent);
	rc = a ? rules_put(k, a, r, l, &old) : -ENOMEM;
	if (rc)
		kern_rules_forget(k); /* half done: what is in the maps is read again */
	return rc;
}

void kern_rules_forget(struct kern *k)
{
	held_free(k->held);
	k->held = NULL;
}

int kern_agent_rules_set(struct kern *k, uint32_t agent, const struct kern_agent_rules *r)
{
	struct unix_list l;
	int lock, rc = unix_list(&l, r);

	if (!rc) {
		rc = lock = kern_pin_lock(k->dir);
		if (lock >= 0) {
			rc = rules_set(k, agent, r, &l);
			(void)close(lock);
		}
	}
	free(l.e);
	return rc;
}

static int forget(struct kern *k, uint32_t agent)
{
	struct held_agent *a = held_agent(k->held, agent);
	int rc = kern_drop(k, KM_AGENTS, &agent);

	if (rc || !a)
		return rc;
	rc = allow_drop(k, a, NULL, 0);
	if (!rc)
		rc = held_set_unref(k, k->held, a->set);
	held_agent_drop(k->held, a);
	return rc;
}

static int prune(struct kern *k, bool (*keep)(void *ctx, uint32_t agent), void *ctx)
{
	uint32_t agent, next;
	bool more;
	int rc;

	kern_rules_forget(k);
	rc = held_new(k, &k->held);
	more = !rc && !bpf_map_get_next_key(k->map[KM_AGENTS], NULL, &next);
	while (more && !rc) {
		agent = next;
		more = !bpf_map_get_next_key(k->map[KM_AGENTS], &agent, &next);
		if (!keep(ctx, agent))
			rc = forget(k, agent);
	}
	return rc ? rc : options_update(k);
}

int kern_agent_rules_prune(struct kern *k, bool (*keep)(void *ctx, uint32_t agent), void *ctx)
{
	int rc, lock = kern_pin_lock(k->dir);

	if (lock < 0)
		return lock;
	rc = prune(k, keep, ctx);
	if (rc)
		kern_rules_forget(k);
	(void)close(lock);
	return rc;
}
