/* SPDX-License-Identifier: MIT */
/*
 * Keeps tg_index and tg_exact in step with tg_addrs and tg_cgroups, which are the truth. Each
 * addition is in the index before it is in the map, each removal after; both under the pin
 * directory's lock, as several processes write. What tg_cgroup_mkdir counts it counts by itself.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/membarrier.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "kern/kern_priv.h"

static struct tg_index *map_index(int fd)
{
	void *p = mmap(NULL, sizeof(struct tg_index), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

int kern_index_open(struct kern *k)
{
	k->index = map_index(k->map[KM_INDEX]);
	return k->index ? 0 : -errno;
}

void kern_index_close(struct kern *k)
{
	if (k->index)
		(void)munmap(k->index, sizeof(*k->index));
	k->index = NULL;
}

/* ------------------------------------------------------------- addresses */

static enum tg_port_kind kind_of(const struct tg_addr_key *key)
{
	bool one = key->prefixlen == 32 + 128;

	if (key->protocol == IPPROTO_UDP)
		return one ? TG_PORT_UDP_ONE : TG_PORT_UDP_NET;
	return one ? TG_PORT_TCP_ONE : TG_PORT_TCP_NET;
}

static size_t slot_of(const struct tg_addr_key *key)
{
	return key->port_be ? ntohs(key->port_be) % TG_PORT_SLOTS : TG_PORT_SLOTS;
}

static uint8_t *flags_at(struct tg_index *x, size_t slot)
{
	return slot < TG_PORT_SLOTS ? &x->port[slot] : &x->any;
}

static void flag(struct tg_index *x, const struct tg_addr_key *key)
{
	(void)__atomic_fetch_or(flags_at(x, slot_of(key)), (uint8_t)(1u << kind_of(key)),
				__ATOMIC_SEQ_CST);
}

static void use(struct tg_index *x, const struct tg_addr_key *key)
{
	x->uses[slot_of(key)][kind_of(key)]++;
	flag(x, key);
}

static void unuse(struct tg_index *x, const struct tg_addr_key *key)
{
	uint32_t *n = &x->uses[slot_of(key)][kind_of(key)];

	if (*n && !--*n)
		(void)__atomic_fetch_and(flags_at(x, slot_of(key)),
					 (uint8_t)~(1u << kind_of(key)), __ATOMIC_SEQ_CST);
}

bool kern_index_has(const struct kern *k, const struct tg_addr_key *key)
{
	return *flags_at(k->index, slot_of(key)) & 1u << kind_of(key);
}

void kern_index_flag(struct kern *k, const struct tg_addr_key *key)
{
	flag(k->index, key);
}

/* With the lock. */
static int mirror(struct kern *k, const struct tg_addr_key *key, uint32_t target)
{
	uint32_t old;
	bool known = !bpf_map_lookup_elem(k->map[KM_EXACT], key, &old);
	int r;

	if (!known)
		use(k->index, key);
	r = kern_put(k, KM_EXACT, key, &target);
	if (r && !known)
		unuse(k->index, key);
	return r;
}

static int unmirror(struct kern *k, const struct tg_addr_key *key)
{
	int r = kern_drop(k, KM_EXACT, key);

	if (!r)
		unuse(k->index, key);
	return r == -ENOENT ? 0 : r;
}

int kern_index_mirror(struct kern *k, const struct tg_addr_key *key, const uint32_t *target)
{
	int r, lock = kern_pin_lock(k->dir);

	if (lock < 0)
		return lock;
	r = target ? mirror(k, key, *target) : unmirror(k, key);
	(void)close(lock);
	return r;
}

static int addr_set(struct kern *k, const struct tg_addr_key *key, uint32_t target)
{
	uint32_t old;
	bool known = !bpf_map_lookup_elem(k->map[KM_EXACT], key, &old);
	int r = mirror(k, key, target);

	if (r)
		return r;
	r = kern_put(k, KM_ADDRS, key, &target);
	if (r) /* no room: as it was, and the error that counts is the first */
		(void)(known ? kern_put(k, KM_EXACT, key, &old) : unmirror(k, key));
	return r;
}

static int addr_delete(struct kern *k, const struct tg_addr_key *key)
{
	int r = kern_drop(k, KM_ADDRS, key);

	if (r && r != -ENOENT)
		return r;
	return unmirror(k, key) ? -errno : r;
}

int kern_index_addr(struct kern *k, const struct tg_addr_key *key, const uint32_t *target)
{
	int r, lock = kern_pin_lock(k->dir);

	if (lock < 0)
		return lock;
	r = target ? addr_set(k, key, *target) : addr_delete(k, key);
	(void)close(lock);
	return r;
}

/* -------------------------------------------------------------- cgroups */

bool kern_index_has_cgroup(const struct kern *k, uint64_t id)
{
	return __atomic_load_n(&k->index->cgroup[tg_index_cgroup_slot(id)], __ATOMIC_SEQ_CST);
}

void kern_index_cgroup(struct kern *k, uint64_t id, bool on)
{
	uint32_t *n = &k->index->cgroup[tg_index_cgroup_slot(id)];

	if (on)
		(void)__atomic_fetch_add(n, 1, __ATOMIC_SEQ_CST);
	else if (__atomic_load_n(n, __ATOMIC_SEQ_CST))
		(void)__atomic_fetch_sub(n, 1, __ATOMIC_SEQ_CST);
}

/* --------------------------------------------------------------- building */

struct entry {
	struct tg_addr_key key;
	uint32_t target;
};

struct entries {
	struct entry *e;
	size_t n, cap;
};

static int add_entry(void *ctx, const struct tg_addr_key *key, uint32_t target)
{
	struct entries *all = ctx;
	size_t cap = all->cap ? all->cap * 2 : 1024;
	struct entry *e = all->e;

	if (all->n == all->cap) {
		e = reallocarray(e, cap, sizeof(*e));
		if (!e)
			return -ENOMEM;
		all->e = e;
		all->cap = cap;
	}
	e[all->n++] = (struct entry){*key, target};
	return 0;
}

static int by_key(const void *a, const void *b)
{
	return memcmp(a, b, sizeof(struct tg_addr_key));
}

/* What was taken away while nobody kept tg_exact: an earlier version did not know it. */
static int drop_stale(struct kern *k, const struct entries *all)
{
	struct tg_addr_key key, next;
	bool more = !bpf_map_get_next_key(k->map[KM_EXACT], NULL, &next);
	int r = 0;

	while (more && !r) {
		key = next;
		more = !bpf_map_get_next_key(k->map[KM_EXACT], &key, &next);
		if (!all->n || !bsearch(&key, all->e, all->n, sizeof(*all->e), by_key))
			r = kern_drop(k, KM_EXACT, &key);
	}
	return r;
}

/* A kind is cleared where there is no entry of it, and at no time where there is one. */
static int build_ports(struct kern *k, const struct entries *all)
{
	struct tg_index *x = k->index, *fresh = calloc(1, sizeof(*fresh));
	int r = fresh ? 0 : -ENOMEM;

	for (size_t i = 0; !r && i < all->n; i++) {
		use(fresh, &all->e[i].key);
		flag(x, &all->e[i].key);
		r = kern_put(k, KM_EXACT, &all->e[i].key, &all->e[i].target);
	}
	if (!r) {
		memcpy(x->uses, fresh->uses, sizeof(x->uses));
		for (size_t i = 0; i <= TG_PORT_SLOTS; i++)
			__atomic_store_n(flags_at(x, i), *flags_at(fresh, i), __ATOMIC_SEQ_CST);
		(void)__atomic_fetch_or(&x->ready, TG_INDEX_PORTS, __ATOMIC_SEQ_CST);
	}
	free(fresh);
	return r;
}

static int build_addrs(struct kern *k)
{
	struct entries all = {0};
	int r = kern_addr_each(k, add_entry, &all);

	if (!r && all.n)
		qsort(all.e, all.n, sizeof(*all.e), by_key);
	if (!r)
		r = drop_stale(k, &all);
	if (!r)
		r = build_ports(k, &all);
	free(all.e);
	return r;
}

/*
 * Counts anew. What a program counted before the first copy was taken is in the map after the
 * barrier, so in @found; what it counts later is added to. Where the kernel has no barrier for us
 * the counts do not come into use.
 */
static int build_cgroups(struct kern *k)
{
	size_t size = sizeof(k->index->cgroup);
	uint32_t *before = malloc(size), *found = calloc(1, size);
	uint64_t id, *at = NULL;
	int r = before && found ? 0 : -ENOMEM;

	if (!r) {
		for (size_t i = 0; i < TG_CGROUP_SLOTS; i++)
			before[i] = __atomic_load_n(&k->index->cgroup[i], __ATOMIC_SEQ_CST);
		if (!syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0)) {
			for (; !bpf_map_get_next_key(k->map[KM_CGROUPS], at, &id); at = &id)
				found[tg_index_cgroup_slot(id)]++;
			for (size_t i = 0; i < TG_CGROUP_SLOTS; i++)
				if (found[i] != before[i])
					(void)__atomic_fetch_add(&k->index->cgroup[i],
								 found[i] - before[i],
								 __ATOMIC_SEQ_CST);
			(void)__atomic_fetch_or(&k->index->ready, TG_INDEX_CGROUPS, __ATOMIC_SEQ_CST);
		}
	}
	free(before);
	free(found);
	return r;
}

int kern_index_build(struct kern *k)
{
	int r, lock = kern_pin_lock(k->dir);

	if (lock < 0)
		return lock;
	r = build_addrs(k);
	if (!r)
		r = build_cgroups(k);
	(void)close(lock);
	return r;
}

int kern_index_suspend(int map_fd)
{
	struct tg_index *x = map_index(map_fd);

	if (!x)
		return -errno;
	__atomic_store_n(&x->ready, 0, __ATOMIC_SEQ_CST);
	(void)munmap(x, sizeof(*x));
	return 0;
}
