/* SPDX-License-Identifier: MIT */
/*
 * What ends most runs: nothing that is guarded concerns the address, or nobody is an agent.
 * Without a call where that can be, as each costs more than all that is read here. What they
 * say is what the long way would come to; where they cannot tell they say false.
 */
#ifndef TIDEGATE_BPF_QUICK_H
#define TIDEGATE_BPF_QUICK_H

#include "lib/dns.h"
#include "lib/rules.h"

/* A kfunc of 6.2. CO-RE sees no kfunc, but this helper came with the same release. */
extern void *bpf_cast_to_kern_ctx(void *ctx) __ksym __weak;
#define HAS_KERN_CTX bpf_core_enum_value_exists(enum bpf_func_id___quick, BPF_FUNC_cgrp_storage_get___quick)

enum bpf_func_id___quick { BPF_FUNC_cgrp_storage_get___quick = 210 };

/* No cgroup above it is watched, for certain. */
static __always_inline bool cgroup_quiet(const struct tg_index *x, const struct cgroup *cg)
{
	const struct cgroup_subsys_state *up;
	__u64 id;

	for (int i = 0; i < WALK_DEPTH && cg; i++) {
		id = cg->kn->id;
		if (!id || x->cgroup[tg_index_cgroup_slot(id)])
			return false;
		up = cg->self.parent;
		if (!up)
			return true;
		cg = up->cgroup;
	}
	return false;
}

/*
 * Is @t nobody's agent, and nobody's the socket of @cg (NULL: not asked)? The socket must bear no
 * mark.
 */
static __always_inline bool quick_nobody(const struct cgroup *cg, const struct task_struct *t)
{
	struct tg_index *x = index_ready(TG_INDEX_CGROUPS);
	struct tg_config *c = config();
	const struct cgroup *of_task;
	__u32 uid;

	if (!x || !c)
		return false;
	if (c->uid_agents) {
		uid = t->cred->uid.val;
		if (bpf_map_lookup_elem(&tg_uids, &uid))
			return false;
	}
	of_task = t->cgroups->dfl_cgrp;
	if (cg && cg != of_task && !cgroup_quiet(x, cg))
		return false;
	return cgroup_quiet(x, of_task);
}

/* No target, no rule, no listener of ours and no look-up is at this address, whoever asks. */
static __always_inline bool quick_address(const struct tg_addr_key *key, __u8 kinds, bool loopback)
{
	struct tg_index *x = index_ready(TG_INDEX_PORTS);
	__u8 there;

	if (!x || rules_in_use() || dns_port(key->port_be))
		return false;
	there = x->any | x->port[port_slot(key->port_be)];
	return !(there & kinds) && (loopback || !key_is_loopback(key));
}

static __always_inline const struct sock *quick_sock(struct bpf_sock_addr *ctx)
{
	struct bpf_sock_addr_kern *k;

	if (!HAS_KERN_CTX)
		return (const struct sock *)bpf_skc_to_tcp_sock(ctx->sk);
	k = bpf_cast_to_kern_ctx(ctx);
	return k->sk;
}

/* connect(): also not of another kind than TCP. */
static __always_inline bool quick_connect(struct bpf_sock_addr *ctx, const struct tg_addr_key *key)
{
	const struct sock *sk = quick_sock(ctx);
	__u8 kinds = ctx->protocol == PROTO_TCP ? TG_PORT_TCP : TG_PORT_TCP | TG_PORT_UDP;

	if (!sk || sk->sk_bpf_storage)
		return false; /* what an earlier connect() left behind must go */
	return quick_address(key, kinds, false) ||
	       quick_nobody(sk->sk_cgrp_data.cgroup, bpf_get_current_task_btf());
}

static __always_inline bool quick_sendmsg(struct bpf_sock_addr *ctx, const struct tg_addr_key *key)
{
	const struct sock *sk;

	if (quick_address(key, TG_PORT_TCP | TG_PORT_UDP, false))
		return true;
	sk = quick_sock(ctx);
	return sk && !sk->sk_bpf_storage &&
	       quick_nobody(sk->sk_cgrp_data.cgroup, bpf_get_current_task_btf());
}

/* socket(), its cgroup is the caller's: 1 an agent's by cgroup, 0 nobody's, less than 0 not known. */
static __always_inline int quick_create(struct bpf_sock *ctx, struct who *w)
{
	struct tg_index *x = index_ready(TG_INDEX_CGROUPS);
	struct tg_config *c = config();
	const struct sock *sk;

	if (!x || !c)
		return -1;
	if (!HAS_KERN_CTX || c->uid_agents)
		return quick_nobody(NULL, bpf_get_current_task_btf()) ? 0 : -1;
	sk = bpf_cast_to_kern_ctx(ctx);
	return who_walk(x, sk->sk_cgrp_data.cgroup, w);
}

/* A packet that is plain, and to nothing that is guarded. */
static __always_inline bool quick_packet4(struct __sk_buff *skb, struct tg_addr_key *key)
{
	const __u8 *p = (const __u8 *)(long)skb->data;

	if (p + 24 > (const __u8 *)(long)skb->data_end)
		return false;
	/* No options, no later fragment. */
	if (p[0] != 0x45 || p[6] & 0x1f || p[7])
		return false;
	key_init(key, p[9], *(const __u16 *)(p + 22));
	key_set4(key, *(const __u32 *)(p + 16));
	return true;
}

static __always_inline bool quick_packet6(struct __sk_buff *skb, struct tg_addr_key *key)
{
	const __u8 *p = (const __u8 *)(long)skb->data;
	const __u32 *a = (const __u32 *)(p + 24);

	if (p + 44 > (const __u8 *)(long)skb->data_end)
		return false;
	key_init(key, p[6], *(const __u16 *)(p + 42));
	key_set6(key, a[0], a[1], a[2], a[3]);
	return true;
}

static __always_inline bool quick_packet(struct __sk_buff *skb)
{
	bool v4 = skb->protocol == bpf_htons(0x0800);
	struct tg_addr_key key;

	if (!(v4 ? quick_packet4(skb, &key) : quick_packet6(skb, &key)))
		return false;
	/* Where a datagram to the resolver came from is written down: not on loopback. */
	if (key.protocol == PROTO_TCP)
		return quick_address(&key, TG_PORT_TCP, true);
	return key.protocol == PROTO_UDP && quick_address(&key, TG_PORT_TCP | TG_PORT_UDP, false);
}

#endif
