/* SPDX-License-Identifier: MIT */
/* Targets: addresses to ids, ids to states. */
#include <errno.h>
#include <netinet/in.h>

#include <bpf/bpf.h>

#include "kern/kern_priv.h"

int kern_target_set(struct kern *k, uint32_t id, const struct tg_target_state *state)
{
	struct tg_target_state now, next = *state;

	if (state->mode > TG_MODE_OFF || state->mode_after >= TG_MODE_OFF)
		return -EINVAL;
	next.pad = 0;
	next.generation = 1;
	if (!bpf_map_lookup_elem(k->map[KM_TARGETS], &id, &now))
		next.generation = now.generation + 1;
	return kern_put(k, KM_TARGETS, &id, &next);
}

int kern_target_get(struct kern *k, uint32_t id, struct tg_target_state *ret)
{
	return bpf_map_lookup_elem(k->map[KM_TARGETS], &id, ret) ? -errno : 0;
}

int kern_target_delete(struct kern *k, uint32_t id)
{
	return kern_drop(k, KM_TARGETS, &id);
}

int kern_target_each(struct kern *k,
		     int (*fn)(void *ctx, uint32_t id, const struct tg_target_state *state),
		     void *ctx)
{
	struct tg_target_state state;
	uint32_t key, next;
	bool more = !bpf_map_get_next_key(k->map[KM_TARGETS], NULL, &next);
	int r = 0;

	while (more && !r) {
		key = next; /* the next key first: fn may delete this one */
		more = !bpf_map_get_next_key(k->map[KM_TARGETS], &key, &next);
		if (!bpf_map_lookup_elem(k->map[KM_TARGETS], &key, &state))
			r = fn(ctx, key, &state);
	}
	return r;
}

/* Bits behind the prefix must be zero, or bpftool would show what does not count. */
static int addr_check(const struct tg_addr_key *key)
{
	unsigned int bits = key->prefixlen - 32;

	if (key->prefixlen < 32 || bits > 128 || key->pad)
		return -EINVAL;
	if (key->protocol != IPPROTO_TCP && key->protocol != IPPROTO_UDP)
		return -EPROTONOSUPPORT;
	for (unsigned int i = bits; i < 128; i++)
		if (key->addr[i / 8] & 0x80 >> i % 8)
			return -EINVAL;
	return 0;
}

int kern_addr_set(struct kern *k, const struct tg_addr_key *key, uint32_t target)
{
	int r = addr_check(key);

	if (r)
		return r;
	return kern_index_addr(k, key, &target);
}

int kern_addr_delete(struct kern *k, const struct tg_addr_key *key)
{
	return kern_index_addr(k, key, NULL);
}

int kern_addr_each(struct kern *k,
		   int (*fn)(void *ctx, const struct tg_addr_key *key, uint32_t target), void *ctx)
{
	struct tg_addr_key key, next;
	uint32_t target;
	bool more = !bpf_map_get_next_key(k->map[KM_ADDRS], NULL, &next);
	int r = 0;

	while (more && !r) {
		key = next;
		more = !bpf_map_get_next_key(k->map[KM_ADDRS], &key, &next);
		if (!bpf_map_lookup_elem(k->map[KM_ADDRS], &key, &target))
			r = fn(ctx, &key, target);
	}
	return r;
}
