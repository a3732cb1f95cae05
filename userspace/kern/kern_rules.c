/* SPDX-License-Identifier: MIT */
/* What agents may do besides connecting to targets: listed addresses, AF_UNIX paths. */
#include <errno.h>
#include <netinet/in.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "kern/kern_priv.h"

enum { ADDR_BITS = 64, PATH_BITS = 32 };

static int options_update(struct kern *k)
{
	struct tg_options o = {0};
	struct tg_agent_state a;
	uint32_t zero = 0, agent, *at = NULL;

	while (!bpf_map_get_next_key(k->map[KM_AGENTS], at, &agent)) {
		if (!bpf_map_lookup_elem(k->map[KM_AGENTS], &agent, &a)) {
			o.deny_agents += a.flags & TG_AGENT_DENY ? 1 : 0;
			o.unix_agents += a.flags & TG_AGENT_UNIX ? 1 : 0;
		}
		at = &agent;
	}
	return kern_put(k, KM_OPTIONS, &zero, &o);
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

static bool allow_wanted(const struct tg_allow_key *key, const struct kern_agent_rules *r)
{
	struct tg_allow_key want;

	for (size_t i = 0; i < r->nallow; i++)
		if (!allow_key(key->agent, &r->allow[i], &want) &&
		    memcmp(&want, key, sizeof(want)) == 0)
			return true;
	return false;
}

static int allow_drop(struct kern *k, uint32_t agent, const struct kern_agent_rules *r)
{
	struct tg_allow_key key, next;
	bool more = !bpf_map_get_next_key(k->map[KM_ALLOW], NULL, &next);
	int rc = 0;

	while (more && !rc) {
		key = next;
		more = !bpf_map_get_next_key(k->map[KM_ALLOW], &key, &next);
		if (key.agent == agent && !allow_wanted(&key, r))
			rc = kern_drop(k, KM_ALLOW, &key);
		if (rc == -ENOENT)
			rc = 0;
	}
	return rc;
}

static int allow_add(struct kern *k, uint32_t agent, const struct kern_agent_rules *r)
{
	struct tg_allow_key key;
	uint32_t one = 1;
	int rc = 0;

	for (size_t i = 0; !rc && i < r->nallow; i++) {
		rc = allow_key(agent, &r->allow[i], &key);
		if (!rc)
			rc = kern_put(k, KM_ALLOW, &key, &one);
	}
	return rc;
}

/* -------------------------------------------------------------- AF_UNIX */

struct unix_entry {
	struct tg_unix_key key;
	uint32_t verdict;
};

/* More entries than rules: a path may be written in more than one way. */
struct unix_list {
	struct unix_entry *e;
	size_t n;
};

/*
 * @lead: the first byte, or 0 and none. A name of which only the beginning is given is open
 * at its end; else its NUL belongs to it.
 */
static int unix_add(struct unix_list *l, uint32_t agent, int lead, struct slice text, bool open,
		    bool pass)
{
	struct unix_entry *e = &l->e[l->n];
	size_t n = text.n + (lead >= 0) + !open;

	if (n > TG_UNIX_PATH)
		return -ENAMETOOLONG;
	*e = (struct unix_entry){.verdict = pass ? TG_UNIX_PASS : TG_UNIX_REFUSE};
	e->key.agent = agent;
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
static int unix_add_path(struct unix_list *l, uint32_t agent, struct slice path, bool open,
			 bool pass)
{
	char other[TG_UNIX_PATH + 8];
	struct slice last = last_part(path);
	int r = unix_add(l, agent, -1, path, open, pass);

	if (!r && path.n > 5 && memcmp(path.p, "/run/", 5) == 0) {
		(void)snprintf(other, sizeof(other), "/var%.*s", (int)path.n, (const char *)path.p);
		r = unix_add(l, agent, -1, slice_str(other), open, pass);
	}
	/* Refused by its path: refused to who goes into its folder first, too. */
	if (!r && !pass && last.n)
		r = unix_add(l, agent, TG_UNIX_LAST, last, open, false);
	return r;
}

static int unix_add_rule(struct unix_list *l, uint32_t agent, const struct kern_unix_rule *rule)
{
	struct slice s = slice_str(rule->path);
	bool open = s.n && (s.p[s.n - 1] == '*' || s.p[s.n - 1] == '/');

	if (s.n && s.p[s.n - 1] == '*')
		s.n--;
	if (!s.n)
		return -EINVAL;
	if (s.p[0] == '@')
		return unix_add(l, agent, 0, slice_from(s, 1), open, rule->pass);
	if (s.n > 2 && s.p[0] == '.' && s.p[1] == '/')
		return unix_add(l, agent, TG_UNIX_LAST, slice_from(s, 2), open, rule->pass);
	return s.p[0] == '/' ? unix_add_path(l, agent, s, open, rule->pass) : -EINVAL;
}

static int unix_list(struct unix_list *l, uint32_t agent, const struct kern_agent_rules *r)
{
	int rc = 0;

	*l = (struct unix_list){.e = calloc(r->nunix * 3 + 2, sizeof(*l->e))};
	if (!l->e)
		return -ENOMEM;
	if (r->unix_judged && r->unix_listed)
		rc = unix_add(l, agent, -1, slice_of("", 0), true, false);
	for (size_t i = 0; !rc && r->unix_judged && i < r->nunix; i++)
		rc = unix_add_rule(l, agent, &r->unix_rules[i]);
	return rc;
}

static int unix_drop(struct kern *k, uint32_t agent, const struct unix_list *l)
{
	struct tg_unix_key key, next;
	bool more = !bpf_map_get_next_key(k->map[KM_UNIX], NULL, &next);
	size_t i;
	int r = 0;

	while (more && !r) {
		key = next;
		more = !bpf_map_get_next_key(k->map[KM_UNIX], &key, &next);
		if (key.agent != agent)
			continue;
		for (i = 0; i < l->n; i++)
			if (memcmp(&l->e[i].key, &key, sizeof(key)) == 0)
				break;
		if (i == l->n)
			r = kern_drop(k, KM_UNIX, &key);
		if (r == -ENOENT)
			r = 0;
	}
	return r;
}

static int unix_set(struct kern *k, const struct unix_list *l)
{
	int r = 0;

	for (size_t i = 0; !r && i < l->n; i++)
		r = kern_put(k, KM_UNIX, &l->e[i].key, &l->e[i].verdict);
	return r;
}

/* ------------------------------------------------------------------ agent */

/* What is listed comes before the state that makes it count, what is not goes after it. */
static int rules_set(struct kern *k, uint32_t agent, const struct kern_agent_rules *r,
		     const struct unix_list *l)
{
	struct tg_agent_state old = {0}, a = {.flags = (r->deny ? TG_AGENT_DENY : 0) |
						       (r->unix_judged ? TG_AGENT_UNIX : 0)};
	int rc = allow_add(k, agent, r);

	if (!rc)
		rc = unix_set(k, l);
	if (rc)
		return rc;
	(void)bpf_map_lookup_elem(k->map[KM_AGENTS], &agent, &old); /* not there: the first */
	a.generation = old.generation + 1;
	rc = kern_put(k, KM_AGENTS, &agent, &a);
	if (!rc)
		rc = options_update(k);
	if (!rc)
		rc = allow_drop(k, agent, r);
	return rc ? rc : unix_drop(k, agent, l);
}

int kern_agent_rules_set(struct kern *k, uint32_t agent, const struct kern_agent_rules *r)
{
	struct unix_list l;
	int lock, rc = unix_list(&l, agent, r);

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
	static const struct kern_agent_rules none;
	static const struct unix_list empty;
	int rc = kern_drop(k, KM_AGENTS, &agent);

	if (!rc)
		rc = allow_drop(k, agent, &none);
	return rc ? rc : unix_drop(k, agent, &empty);
}

int kern_agent_rules_prune(struct kern *k, bool (*keep)(void *ctx, uint32_t agent), void *ctx)
{
	int rc = 0, lock = kern_pin_lock(k->dir);
	uint32_t agent, next;
	bool more;

	if (lock < 0)
		return lock;
	more = !bpf_map_get_next_key(k->map[KM_AGENTS], NULL, &next);
	while (more && !rc) {
		agent = next;
		more = !bpf_map_get_next_key(k->map[KM_AGENTS], &agent, &next);
		if (!keep(ctx, agent))
			rc = forget(k, agent);
	}
	if (!rc)
		rc = options_update(k);
	(void)close(lock);
	return rc;
}
