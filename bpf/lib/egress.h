/* SPDX-License-Identifier: MIT */
/*
 * The backstop. Whatever a connect hook did not see (a connection older than the
 * target's entry, a raw socket older than the agent's) still has to send packets:
 * those to a target are dropped unless the socket was steered.
 */
#ifndef TIDEGATE_BPF_EGRESS_H
#define TIDEGATE_BPF_EGRESS_H

#include "lib/dns.h"
#include "lib/quick.h"
#include "lib/rules.h"

enum skb_dest { DEST_OK, DEST_OTHER_PROTOCOL, DEST_UNREADABLE };

static __always_inline enum skb_dest dest_port(struct __sk_buff *skb, struct tg_addr_key *key,
					       __u8 protocol, __u32 off)
{
	if (protocol != PROTO_TCP && protocol != PROTO_UDP)
		return DEST_OTHER_PROTOCOL;
	key->protocol = protocol;
	if (bpf_skb_load_bytes(skb, off + 2, &key->port_be, sizeof(key->port_be)))
		return DEST_UNREADABLE;
	return DEST_OK;
}

/* Only a raw socket sends later fragments here: the kernel's are cut after this hook. */
static __always_inline enum skb_dest dest4(struct __sk_buff *skb, struct tg_addr_key *key)
{
	__u8 ip[20];
	__u32 addr;

	if (bpf_skb_load_bytes(skb, 0, ip, sizeof(ip)))
		return DEST_UNREADABLE;
	memcpy(&addr, ip + 16, sizeof(addr));
	key_set4(key, addr);
	if (ip[6] & 0x1f || ip[7])
		return DEST_UNREADABLE;
	return dest_port(skb, key, ip[9], (ip[0] & 15) * 4);
}

static __always_inline enum skb_dest dest6(struct __sk_buff *skb, struct tg_addr_key *key)
{
	__u32 a[4], off = 40;
	__u8 ext[4], next;

	if (bpf_skb_load_bytes(skb, 24, a, sizeof(a)) || bpf_skb_load_bytes(skb, 6, &next, 1))
		return DEST_UNREADABLE;
	key_set6(key, a[0], a[1], a[2], a[3]);
	for (int i = 0; i < 6; i++) {
		if (next != PROTO_HOPOPTS && next != PROTO_ROUTING && next != PROTO_DSTOPTS &&
		    next != PROTO_FRAGMENT && next != PROTO_AH)
			return dest_port(skb, key, next, off);
		if (bpf_skb_load_bytes(skb, off, ext, sizeof(ext)))
			return DEST_UNREADABLE;
		if (next == PROTO_FRAGMENT && (ext[2] || ext[3] & 0xf8))
			return DEST_UNREADABLE;
		if (next == PROTO_FRAGMENT)
			off += 8;
		else
			off += next == PROTO_AH ? (ext[1] + 2) * 4 : (ext[1] + 1) * 8;
		next = ext[0];
	}
	return DEST_UNREADABLE;
}

static __always_inline int drop(void)
{
	count(TG_K_EGRESS_DROPPED);
	return 0;
}

/* The socket's cgroup, for sockets that are older than their agent. No process's context. */
__noinline int who_by_skb(struct __sk_buff *skb, struct who *w)
{
	struct tg_config *c = config();
	int found = 0;
	__u64 id;

	if (!w)
		return 0;
	for (int i = 1; c && i <= TG_MAX_LEVEL; i++) {
		if (!(c->level_mask & 1u << i))
			continue;
		id = bpf_skb_ancestor_cgroup_id(skb, i);
		if (!id)
			break;
		found |= watched_cgroup(id, w);
	}
	return found;
}

/* No target's address: dropped if the agent's default is deny and nothing lists it. */
static __always_inline int egress_other(struct __sk_buff *skb, const struct tg_addr_key *key,
					const struct tg_sock *s, struct who *w)
{
	if (!rules_in_use())
		return 1;
	if (s && s->flags & TG_SOCK_STEERED && key_is_loopback(key))
		return 1;
	/* A cgroup says more than a uid, which @w may have. */
	if (!who_by_skb(skb, w) && !w->agent && !who_by_mark(s, w))
		return 1;
	if (!rules_refuse(w->agent, key))
		return 1;
	count(TG_K_EGRESS_UNLISTED);
	return 0;
}

static __always_inline int egress_target(const struct tg_addr_key *key, __u32 target,
					 const struct tg_sock *s)
{
	struct tg_target_state *state = bpf_map_lookup_elem(&tg_targets, &target);
	__u8 mode = mode_now(state);

	if (mode == TG_MODE_OFF)
		return 1;
	/* A target may cover the daemon's address ("any port of 127.0.0.1"). */
	if (s && s->flags & TG_SOCK_STEERED && key_is_loopback(key))
		return 1;
	if (mode == TG_MODE_OBSERVE) {
		count(TG_K_PASSED_OBSERVED);
		return 1;
	}
	if (s && s->flags & TG_SOCK_LET_THROUGH && mode == TG_MODE_STEER && state &&
	    state->flags & TG_TARGET_FAIL_OPEN)
		return 1;
	return drop();
}

/* Where an agent's packet goes is known: 1 lets it go, 0 drops it. */
__noinline int egress_judge(struct __sk_buff *skb, const struct tg_addr_key *to,
			    const struct tg_sock *s, struct who *w)
{
	struct tg_addr_key key;
	__u32 *target;

	if (!to || !w)
		return 0;
	key = *to;
	if (dns_egress(skb, &key, s))
		return 1;
	target = key.protocol == PROTO_UDP ? target_find_udp(&key) : target_find(&key);
	if (target)
		return egress_target(&key, *target, s);
	return dns_backstop(&key) ? drop() : egress_other(skb, &key, s, w);
}

/* 1: let it go, 0: drop. @sk belongs to an agent: @w if that is known. */
static __always_inline int egress_agent(struct __sk_buff *skb, struct bpf_sock *sk,
					const struct tg_sock *s, struct who *w)
{
	bool v4 = skb->protocol == bpf_htons(0x0800);
	struct tg_addr_key key;
	enum skb_dest dest;

	key_init(&key, PROTO_TCP, 0);
	dest = v4 ? dest4(skb, &key) : dest6(skb, &key);
	if (dest == DEST_OTHER_PROTOCOL && sk->type != TYPE_RAW &&
	    (sk->protocol == PROTO_TCP || sk->protocol == PROTO_UDP))
		return 1; /* already inside IPsec: judged when it was connected */
	if (dest != DEST_OK)
		return drop();
	return egress_judge(skb, &key, s, w) ? 1 : 0;
}

static __always_inline struct bpf_sock *egress_sock(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	return sk ? bpf_sk_fullsock(sk) : NULL;
}

/* On a watched cgroup: whatever comes by is an agent's. */
static __always_inline int egress_cgroup(struct __sk_buff *skb)
{
	struct bpf_sock *sk;
	struct who w = {};

	if (quick_packet(skb))
		return 1;
	sk = egress_sock(skb);
	if (!sk)
		return 1;
	return egress_agent(skb, sk, bpf_sk_storage_get(&tg_socks, sk, 0, 0), &w);
}

/* On the root, where agents are watched by uid. Not in a process's context. */
static __always_inline int egress_uid(struct __sk_buff *skb)
{
	struct who w = {};
	struct bpf_sock *sk;
	struct tg_sock *s;

	if (quick_packet(skb))
		return 1;
	sk = egress_sock(skb);
	if (!sk)
		return 1;
	s = bpf_sk_storage_get(&tg_socks, sk, 0, 0);
	if (!who_by_mark(s, &w) && !watched_uid(bpf_get_socket_uid(skb), &w))
		return 1;
	return egress_agent(skb, sk, s, &w);
}

#endif
