/* SPDX-License-Identifier: MIT */
#include "kern/kern_held.h"

#include <errno.h>

#include <bpf/bpf.h>

struct held_agent *held_agent(struct kern_held *h, uint32_t agent)
{
	struct held_agent *a;

	HASH_FIND(hh, h->agents, &agent, sizeof(agent), a);
	return a;
}

struct held_agent *held_agent_get(struct kern_held *h, uint32_t agent)
{
	struct held_agent *a = held_agent(h, agent);

	if (a)
		return a;
	a = calloc(1, sizeof(*a));
	if (!a)
		return NULL;
	a->agent = agent;
	HASH_ADD(hh, h->agents, agent, sizeof(agent), a);
	return a;
}

void held_agent_drop(struct kern_held *h, struct held_agent *a)
{
	HASH_DEL(h->agents, a);
	free(a->allow);
	free(a);
}

static struct held_set *set_of(struct kern_held *h, uint32_t id)
{
	struct held_set *s;

	HASH_FIND(hh, h->sets, &id, sizeof(id), s);
	return s;
}

static size_t text_size(const struct held_set *s)
{
	return s->list.n * sizeof(*s->list.e);
}

static struct held_set *set_add(struct kern_held *h, uint32_t id)
{
	struct held_set *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->id = id;
	HASH_ADD(hh, h->sets, id, sizeof(id), s);
	return s;
}

static void set_free(struct kern_held *h, struct held_set *s)
{
	if (s->hh_text.tbl)
		HASH_DELETE(hh_text, h->by_text, s);
	HASH_DEL(h->sets, s);
	free(s->list.e);
	free(s);
}

/* --------------------------------------------------------------- reading */

/* Room for one more of @size: doubled when it is full. */
static void *grow(void *all, size_t n, size_t size)
{
	return n & (n - 1) ? all : reallocarray(all, n ? n * 2 : 1, size);
}

static int read_agents(struct kern *k, struct kern_held *h)
{
	uint32_t agent, *at = NULL;
	struct tg_agent_state state;
	struct held_agent *a;
	uint32_t id;

	for (; !bpf_map_get_next_key(k->map[KM_AGENTS], at, &agent); at = &agent) {
		if (bpf_map_lookup_elem(k->map[KM_AGENTS], &agent, &state))
			continue;
		a = held_agent_get(h, agent);
		if (!a)
			return -ENOMEM;
		a->generation = state.generation;
		id = state.unix_set ? state.unix_set : agent;
		a->set = set_of(h, id);
		if (!a->set)
			a->set = set_add(h, id);
		if (!a->set)
			return -ENOMEM;
		a->set->refs++;
		if (id > h->last_set)
			h->last_set = id;
	}
	return 0;
}

static int read_allow(struct kern *k, struct kern_held *h)
{
	struct tg_allow_key key, *at = NULL, *all;
	struct held_agent *a;

	for (; !bpf_map_get_next_key(k->map[KM_ALLOW], at, &key); at = &key) {
		a = held_agent_get(h, key.agent);
		all = a ? grow(a->allow, a->nallow, sizeof(*all)) : NULL;
		if (!all)
			return -ENOMEM;
		a->allow = all;
		all[a->nallow++] = key;
	}
	return 0;
}

static int read_unix(struct kern *k, struct kern_held *h)
{
	struct tg_unix_key key, *at = NULL;
	struct unix_entry *all;
	struct held_set *s;
	uint32_t verdict;

	for (; !bpf_map_get_next_key(k->map[KM_UNIX], at, &key); at = &key) {
		if (bpf_map_lookup_elem(k->map[KM_UNIX], &key, &verdict))
			continue;
		s = set_of(h, key.agent);
		if (!s)
			s = set_add(h, key.agent); /* nobody has it */
		all = s ? grow(s->list.e, s->list.n, sizeof(*all)) : NULL;
		if (!all)
			return -ENOMEM;
		s->list.e = all;
		all[s->list.n] = (struct unix_entry){key, verdict};
		all[s->list.n++].key.agent = 0;
	}
	return 0;
}

static int by_entry(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct unix_entry));
}

static void sort(struct unix_list *l)
{
	if (l->n)
		qsort(l->e, l->n, sizeof(*l->e), by_entry);
}

static int drop_entries(struct kern *k, const struct held_set *s)
{
	struct tg_unix_key key;
	int r = 0;

	for (size_t i = 0; !r && i < s->list.n; i++) {
		key = s->list.e[i].key;
		key.agent = s->id;
		r = kern_drop(k, KM_UNIX, &key);
		if (r == -ENOENT)
			r = 0;
	}
	return r;
}

/* What nobody has is left from a change that was cut short. Sets of agents alone are not shared. */
static int index_sets(struct kern *k, struct kern_held *h)
{
	struct held_set *s, *tmp;
	int r = 0;

	HASH_ITER(hh, h->sets, s, tmp) {
		if (!s->refs) {
			r = drop_entries(k, s);
			if (r)
				return r;
			set_free(h, s);
			continue;
		}
		sort(&s->list);
		if (s->id & TG_UNIX_SET && s->list.n)
			HASH_ADD_KEYPTR(hh_text, h->by_text, s->list.e, text_size(s), s);
	}
	return 0;
}

int held_new(struct kern *k, struct kern_held **ret)
{
	struct kern_held *h = calloc(1, sizeof(*h));
	int r = h ? read_agents(k, h) : -ENOMEM;

	if (!r)
		r = read_allow(k, h);
	if (!r)
		r = read_unix(k, h);
	if (!r)
		r = index_sets(k, h);
	if (r)
		held_free(h);
	else
		*ret = h;
	return r;
}

void held_free(struct kern_held *h)
{
	struct held_agent *a, *next_agent;
	struct held_set *s, *next_set;

	if (!h)
		return;
	HASH_ITER(hh, h->agents, a, next_agent)
		held_agent_drop(h, a);
	HASH_ITER(hh, h->sets, s, next_set)
		set_free(h, s);
	free(h);
}

/* ------------------------------------------------------------------ sets */

static int put_entries(struct kern *k, const struct held_set *s)
{
	struct tg_unix_key key;
	int r = 0;

	for (size_t i = 0; !r && i < s->list.n; i++) {
		key = s->list.e[i].key;
		key.agent = s->id;
		r = kern_put(k, KM_UNIX, &key, &s->list.e[i].verdict);
	}
	return r;
}

/* Ids only grow; behind the last possible one any that is free. The first means no set at all. */
static uint32_t new_id(struct kern_held *h)
{
	uint32_t id = h->last_set | TG_UNIX_SET;

	do {
		id = (id + 1) | TG_UNIX_SET;
	} while (id == TG_UNIX_SET || set_of(h, id));
	h->last_set = id;
	return id;
}

int held_set_get(struct kern *k, struct kern_held *h, struct unix_list *list, struct held_set **ret)
{
	struct held_set *s = NULL;
	int r = 0;

	*ret = NULL;
	if (!list->n)
		return 0;
	sort(list);
	HASH_FIND(hh_text, h->by_text, list->e, list->n * sizeof(*list->e), s);
	if (!s) {
		s = set_add(h, new_id(h));
		if (!s)
			return -ENOMEM;
		s->list = *list;
		*list = (struct unix_list){0};
		HASH_ADD_KEYPTR(hh_text, h->by_text, s->list.e, text_size(s), s);
		r = put_entries(k, s);
	}
	if (r) {
		(void)drop_entries(k, s); /* the first error is the one to tell */
		set_free(h, s);
		return r;
	}
	s->refs++;
	*ret = s;
	return 0;
}

int held_set_unref(struct kern *k, struct kern_held *h, struct held_set *s)
{
	int r;

	if (!s || --s->refs)
		return 0;
	r = drop_entries(k, s);
	set_free(h, s);
	return r;
}
