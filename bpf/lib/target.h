/* SPDX-License-Identifier: MIT */
/* Addresses as keys, which target they belong to, and what to do with it now. */
#ifndef TIDEGATE_BPF_TARGET_H
#define TIDEGATE_BPF_TARGET_H

#include "lib/maps.h"

#define V4_LOOPBACK bpf_htonl(0x7f000001)
#define V4_MAPPED   bpf_htonl(0x0000ffff)

static __always_inline void key_init(struct tg_addr_key *key, __u8 protocol, __u16 port_be)
{
	memset(key, 0, sizeof(*key));
	key->prefixlen = 32 + 128;
	key->protocol = protocol;
	key->port_be = port_be;
}

/* The kernel connects the unspecified address to loopback: so it is looked up. */
static __always_inline void key_set4(struct tg_addr_key *key, __u32 addr)
{
	__u32 *a = (__u32 *)key->addr;

	a[0] = a[1] = 0;
	a[2] = V4_MAPPED;
	a[3] = addr ? addr : V4_LOOPBACK;
}

static __always_inline void key_set6(struct tg_addr_key *key, __u32 a0, __u32 a1, __u32 a2,
				     __u32 a3)
{
	__u32 *a = (__u32 *)key->addr;

	if (!a0 && !a1 && a2 == V4_MAPPED) {
		key_set4(key, a3);
		return;
	}
	a[0] = a0;
	a[1] = a1;
	a[2] = a2;
	a[3] = a0 | a1 | a2 | a3 ? a3 : bpf_htonl(1);
}

static __always_inline bool key_is_v4(const struct tg_addr_key *key)
{
	const __u32 *a = (const __u32 *)key->addr;

	return !a[0] && !a[1] && a[2] == V4_MAPPED;
}

static __always_inline bool key_is_loopback(const struct tg_addr_key *key)
{
	const __u32 *a = (const __u32 *)key->addr;

	if (key_is_v4(key))
		return key->addr[12] == 127;
	return !a[0] && !a[1] && !a[2] && a[3] == bpf_htonl(1);
}

/* Masked last, and seen to be: the verifier of 6.1 knows nothing of what a swap leaves. */
static __always_inline __u32 port_slot(__u16 port_be)
{
	__u32 port = bpf_ntohs(port_be);

	asm volatile("" : "+r"(port));
	return port & (TG_PORT_SLOTS - 1);
}

/* @there: kinds of entries that this port may have. The tree is deep where there are many. */
static __always_inline __u32 *target_at(const struct tg_addr_key *key, __u8 there)
{
	bool udp = key->protocol == PROTO_UDP;
	__u32 *target;

	if (there & 1 << (udp ? TG_PORT_UDP_ONE : TG_PORT_TCP_ONE)) {
		target = bpf_map_lookup_elem(&tg_exact, key);
		if (target)
			return target;
	}
	if (there & 1 << (udp ? TG_PORT_UDP_NET : TG_PORT_TCP_NET))
		return bpf_map_lookup_elem(&tg_addrs, key);
	return NULL;
}

/* The exact port first, then "any port". */
static __always_inline __u32 *target_find(struct tg_addr_key *key)
{
	struct tg_index *x = index_ready(TG_INDEX_PORTS);
	const __u8 tree = 1 << TG_PORT_TCP_NET | 1 << TG_PORT_UDP_NET;
	__u16 port_be = key->port_be;
	__u32 *target;

	target = target_at(key, x ? x->port[port_slot(port_be)] : tree);
	if (target)
		return target;
	key->port_be = 0;
	target = target_at(key, x ? x->any : tree);
	key->port_be = port_be;
	return target;
}

/* A target of TCP is protected from UDP too: HTTP/3 beside HTTPS. */
static __always_inline __u32 *target_find_udp(struct tg_addr_key *key)
{
	__u32 *target;

	key->protocol = PROTO_UDP;
	target = target_find(key);
	if (target)
		return target;
	key->protocol = PROTO_TCP;
	target = target_find(key);
	key->protocol = PROTO_UDP;
	return target;
}

/* An address whose target has no state is blocked: half a change must not open it. */
static __always_inline __u8 mode_now(const struct tg_target_state *state)
{
	if (!state)
		return TG_MODE_BLOCK;
	if (state->mode != TG_MODE_OFF || !state->off_until_boot_ns)
		return state->mode;
	if (bpf_ktime_get_boot_ns() < state->off_until_boot_ns)
		return TG_MODE_OFF;
	return state->mode_after;
}

#endif
