/* SPDX-License-Identifier: MIT */
/*
 * What this process wrote into the maps that say who is guarded, to compare with what is in
 * them. The setters of kern/ write through kern_put() and kern_drop(), so the copy is always what we meant.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <inttypes.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <uthash.h>

#include "base/clock.h"
#include "kern/kern_priv.h"
#include "kern/kern_watch.h"

enum {
	CHUNK = 512,
	QUICK_NS = 10000000, /* a look at some thousand entries: every time */
	REST = 40,	     /* for a longer one, so many times as long without one */
};

static const enum kern_map watched[] = {
	KM_ADDRS,     KM_EXACT, KM_TARGETS, KM_PATHS, KM_UIDS, KM_CONFIG,
	KM_LISTENERS, KM_AGENTS,  KM_ALLOW, KM_UNIX, KM_OPTIONS, KM_RESOLVERS, KM_DNS,
};

struct entry {
	UT_hash_handle hh;
	uint32_t round;	 /* of the last check that saw it */
	bool adopted;	 /* somebody else's, who may take it away again */
	uint8_t data[];	 /* key and value */
};

struct copy {
	enum kern_map map;
	uint32_t key_size, value_size, round;
	struct entry *all;
};

struct kern_shadow {
	struct copy copy[ARRAY_SIZE(watched)];
	uint8_t *keys, *values; /* CHUNK of each, of the largest map */
	uint64_t next_boot_ns;
	unsigned int looks; /* how often the maps were gone through since */
};

static struct copy *copy_of(const struct kern *k, enum kern_map map)
{
	struct kern_shadow *s = kern_watch_shadow(k->watch);

	for (size_t i = 0; s && i < ARRAY_SIZE(watched); i++)
		if (watched[i] == map)
			return &s->copy[i];
	return NULL;
}

static struct entry *find(const struct copy *c, const void *key)
{
	struct entry *e;

	HASH_FIND(hh, c->all, key, c->key_size, e);
	return e;
}

static void forget(struct copy *c, struct entry *e)
{
	HASH_DEL(c->all, e);
	free(e);
}

/* Without memory the entry is not known and comes up as somebody else's: said, not lost. */
static struct entry *keep(struct copy *c, const void *key, const void *value)
{
	struct entry *e = find(c, key);

	if (!e) {
		e = calloc(1, sizeof(*e) + c->key_size + c->value_size);
		if (!e)
			return NULL;
		memcpy(e->data, key, c->key_size);
		HASH_ADD_KEYPTR(hh, c->all, e->data, c->key_size, e);
	}
	memcpy(e->data + c->key_size, value, c->value_size);
	e->adopted = false;
	e->round = c->round;
	return e;
}

int kern_put(struct kern *k, enum kern_map map, const void *key, const void *value)
{
	struct copy *c = copy_of(k, map);

	if (bpf_map_update_elem(k->map[map], key, value, BPF_ANY))
		return -errno;
	if (c)
		(void)keep(c, key, value);
	return 0;
}

int kern_drop(struct kern *k, enum kern_map map, const void *key)
{
	struct copy *c = copy_of(k, map);
	struct entry *e = c ? find(c, key) : NULL;

	if (e)
		forget(c, e);
	return bpf_map_delete_elem(k->map[map], key) ? -errno : 0;
}

/* ---------------------------------------------------------------- walking */

typedef void (*entry_fn)(struct kern *k, struct copy *c, const uint8_t *key, const uint8_t *value);

static int walk_slowly(struct kern *k, struct copy *c, struct kern_shadow *s, entry_fn fn)
{
	uint8_t *next = s->keys + c->key_size;
	bool more = !bpf_map_get_next_key(k->map[c->map], NULL, next);

	while (more) {
		memcpy(s->keys, next, c->key_size);
		more = !bpf_map_get_next_key(k->map[c->map], s->keys, next);
		if (!bpf_map_lookup_elem(k->map[c->map], s->keys, s->values))
			fn(k, c, s->keys, s->values);
	}
	return 0;
}

/* Many entries a system call: a hundred thousand are walked in some milliseconds. */
static int walk(struct kern *k, struct copy *c, struct kern_shadow *s, entry_fn fn)
{
	LIBBPF_OPTS(bpf_map_batch_opts, opts);
	uint8_t at[TG_PATH_LEN];
	bool first = true;
	uint32_t n;
	int r = 0;

	while (!r) {
		n = CHUNK;
		if (bpf_map_lookup_batch(k->map[c->map], first ? NULL : at, at, s->keys, s->values,
					 &n, &opts))
			r = -errno;
		if (r && r != -ENOENT)
			/* Not for this kind of map, here: entries seen twice do no harm. */
			return walk_slowly(k, c, s, fn);
		for (uint32_t i = 0; i < n; i++)
			fn(k, c, s->keys + i * c->key_size, s->values + i * c->value_size);
		first = false;
	}
	return 0;
}

/* ----------------------------------------------------------------- words */

static void key_text(enum kern_map map, const uint8_t *key, char *dst, size_t cap)
{
	struct tg_allow_key allow;
	struct tg_unix_key path;
	struct tg_addr_key a;
	char ip[INET6_ADDRSTRLEN] = "?";
	uint64_t netns;
	uint32_t id;

	if (map == KM_ADDRS || map == KM_EXACT) {
		memcpy(&a, key, sizeof(a));
		(void)inet_ntop(AF_INET6, a.addr, ip, sizeof(ip));
		(void)snprintf(dst, cap, "address [%s]:%u/%u", ip, ntohs(a.port_be),
			       a.prefixlen - 32);
	} else if (map == KM_PATHS) {
		(void)snprintf(dst, cap, "cgroup %.*s", TG_PATH_LEN, (const char *)key);
	} else if (map == KM_LISTENERS) {
		memcpy(&netns, key, sizeof(netns));
		(void)snprintf(dst, cap, "the listener of network namespace %" PRIu64, netns);
	} else if (map == KM_RESOLVERS) {
		memcpy(&netns, key, sizeof(netns));
		(void)snprintf(dst, cap, "the resolver of network namespace %" PRIu64, netns);
	} else if (map == KM_DNS) {
		(void)snprintf(dst, cap, "whether look-ups are steered");
	} else if (map == KM_CONFIG || map == KM_OPTIONS) {
		(void)snprintf(dst, cap, "what is looked at");
	} else if (map == KM_ALLOW) {
		memcpy(&allow, key, sizeof(allow));
		(void)inet_ntop(AF_INET6, allow.addr, ip, sizeof(ip));
		(void)snprintf(dst, cap, "[%s]:%u of agent %u", ip, ntohs(allow.port_be),
			       allow.agent);
	} else if (map == KM_UNIX) {
		memcpy(&path, key, sizeof(path));
		(void)snprintf(dst, cap, "a unix socket's path of %s %u",
			       path.agent & TG_UNIX_SET ? "set" : "agent",
			       path.agent & ~TG_UNIX_SET);
	} else {
		memcpy(&id, key, sizeof(id));
		(void)snprintf(dst, cap,
			       map == KM_UIDS	  ? "uid %u"
			       : map == KM_AGENTS ? "the state of agent %u"
						  : "the state of target %u",
			       id);
	}
}

static void tell(struct kern *k, const struct copy *c, const uint8_t *key, enum kern_fault fault,
		 int r, const char *what)
{
	char text[TG_PATH_LEN + 32];

	key_text(c->map, key, text, sizeof(text));
	kern_watch_add(k->watch, fault, fault != KERN_MAP_CHANGED && r == 0, kern_map_names[c->map],
		       "%s was %s by another program%s", text, what,
		       fault == KERN_MAP_CHANGED ? ""
		       : r			 ? " and cannot be put back"
						 : ": put back");
}

/* ---------------------------------------------------------------- checking */

/* What was done to tg_addrs alone is done to what follows it. @value NULL: it is gone there. */
static void mirror(struct kern *k, const uint8_t *key, const uint8_t *value)
{
	struct tg_addr_key a;
	uint32_t target;

	memcpy(&a, key, sizeof(a));
	if (value)
		memcpy(&target, value, sizeof(target));
	if (kern_index_mirror(k, &a, value ? &target : NULL))
		kern_watch_add(k->watch, KERN_MAP_WEAKENED, false, kern_map_names[KM_EXACT],
			       "tg_exact cannot be written");
}

/* The generation counts changes and decides nothing. */
static bool same(const struct copy *c, const uint8_t *a, const uint8_t *b)
{
	struct tg_target_state x, y;

	if (c->map != KM_TARGETS)
		return memcmp(a, b, c->value_size) == 0;
	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	x.generation = y.generation = 0;
	return memcmp(&x, &y, sizeof(x)) == 0;
}

/*
 * A listener of somebody else would get agents' passwords, and what is allowed is a way past
 * default deny; any other entry guards more.
 */
static void added(struct kern *k, struct copy *c, const uint8_t *key, const uint8_t *value)
{
	struct entry *e;
	int r;

	if (c->map == KM_LISTENERS || c->map == KM_RESOLVERS || c->map == KM_ALLOW ||
	    c->map == KM_UNIX) {
		r = bpf_map_delete_elem(k->map[c->map], key) ? -errno : 0;
		tell(k, c, key, KERN_MAP_WEAKENED, r, "added");
		return;
	}
	e = keep(c, key, value);
	if (e)
		e->adopted = true;
	if (c->map == KM_EXACT)
		return; /* told of tg_addrs, or no address at all: it guards more */
	if (c->map == KM_ADDRS)
		mirror(k, key, value);
	tell(k, c, key, KERN_MAP_CHANGED, 0, "added");
}

static int put_back(struct kern *k, const struct copy *c, const struct entry *e)
{
	if (c->map == KM_ADDRS)
		mirror(k, e->data, e->data + c->key_size);
	return bpf_map_update_elem(k->map[c->map], e->data, e->data + c->key_size, BPF_ANY) ? -errno
											    : 0;
}

/* An address that the programs have no reason to look for. */
static void check_index(struct kern *k, struct copy *c, const uint8_t *key)
{
	struct tg_addr_key a;

	memcpy(&a, key, sizeof(a));
	if (kern_index_has(k, &a))
		return;
	kern_index_flag(k, &a);
	tell(k, c, key, KERN_MAP_WEAKENED, 0, "taken out of the index");
}

static void check_one(struct kern *k, struct copy *c, const uint8_t *key, const uint8_t *value)
{
	struct entry *e = find(c, key);

	if (!e) {
		added(k, c, key, value);
		return;
	}
	if (c->map == KM_ADDRS)
		check_index(k, c, key);
	e->round = c->round;
	if (!same(c, value, e->data + c->key_size))
		tell(k, c, key, KERN_MAP_WEAKENED, put_back(k, c, e), "changed");
}

static void check_removed(struct kern *k, struct copy *c)
{
	struct entry *e, *tmp;

	HASH_ITER(hh, c->all, e, tmp) {
		if (e->round == c->round)
			continue;
		if (e->adopted) {
			if (c->map == KM_ADDRS)
				mirror(k, e->data, NULL);
			if (c->map != KM_EXACT)
				tell(k, c, e->data, KERN_MAP_CHANGED, 0, "removed again");
			forget(c, e);
		} else {
			tell(k, c, e->data, KERN_MAP_WEAKENED, put_back(k, c, e), "removed");
		}
	}
}

void kern_shadow_check(struct kern *k, struct kern_shadow *s)
{
	uint64_t now = clock_boot_ns();

	if (now < s->next_boot_ns)
		return;
	s->looks++;
	for (size_t i = 0; i < ARRAY_SIZE(watched); i++) {
		struct copy *c = &s->copy[i];

		c->round++;
		if (!walk(k, c, s, check_one))
			check_removed(k, c);
	}
	now = clock_boot_ns() - now;
	s->next_boot_ns = now < QUICK_NS ? 0 : clock_boot_ns() + now * REST;
}

unsigned int kern_shadow_looks(const struct kern *k)
{
	const struct kern_shadow *s = kern_watch_shadow(k->watch);

	return s ? s->looks : 0;
}

static void keep_one(struct kern *k, struct copy *c, const uint8_t *key, const uint8_t *value)
{
	(void)keep(c, key, value);
}

int kern_shadow_new(struct kern *k, struct kern_shadow **ret)
{
	struct kern_shadow *s = calloc(1, sizeof(*s));
	size_t key = 0, value = 0;
	int r = s ? 0 : -ENOMEM;

	for (size_t i = 0; !r && i < ARRAY_SIZE(watched); i++) {
		struct bpf_map_info info = {0};
		uint32_t len = sizeof(info);

		if (bpf_obj_get_info_by_fd(k->map[watched[i]], &info, &len))
			r = -errno;
		s->copy[i] = (struct copy){.map = watched[i],
					   .key_size = info.key_size,
					   .value_size = info.value_size};
		key = max_size(key, info.key_size);
		value = max_size(value, info.value_size);
	}
	if (!r) {
		s->keys = calloc(CHUNK, key);
		s->values = calloc(CHUNK, value);
		r = s->keys && s->values ? 0 : -ENOMEM;
	}
	for (size_t i = 0; !r && i < ARRAY_SIZE(watched); i++)
		r = walk(k, &s->copy[i], s, keep_one);
	if (r)
		kern_shadow_free(s);
	else
		*ret = s;
	return r;
}

void kern_shadow_free(struct kern_shadow *s)
{
	struct entry *e, *tmp;

	if (!s)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(watched); i++)
		HASH_ITER(hh, s->copy[i].all, e, tmp)
			forget(&s->copy[i], e);
	free(s->keys);
	free(s->values);
	free(s);
}
