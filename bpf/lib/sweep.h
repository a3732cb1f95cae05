/* SPDX-License-Identifier: MIT */
/*
 * Closes agents' TCP connections that no connect hook has judged: older than the agent's
 * or the target's entry, or made outside and carried in or passed to an agent. Run by
 * user space as iterators, one network namespace at a time (bpf_sock_destroy: since 6.5).
 */
#ifndef TIDEGATE_BPF_SWEEP_H
#define TIDEGATE_BPF_SWEEP_H

#include "lib/rules.h"

extern int bpf_sock_destroy(struct sock_common *sk) __ksym __weak;

enum { STATE_ESTABLISHED = 1, STATE_CLOSE = 7, STATE_LISTEN = 10 };

static __always_inline void sweep_key(const struct sock *sk, struct tg_addr_key *key)
{
	__u32 a[4];

	key_init(key, PROTO_TCP, BPF_CORE_READ(sk, __sk_common.skc_dport));
	if (BPF_CORE_READ(sk, __sk_common.skc_family) == FAMILY_INET) {
		key_set4(key, BPF_CORE_READ(sk, __sk_common.skc_daddr));
		return;
	}
	BPF_CORE_READ_INTO(&a, sk, __sk_common.skc_v6_daddr.in6_u.u6_addr32);
	key_set6(key, a[0], a[1], a[2], a[3]);
}

static __always_inline bool sweep_state(const struct sock *sk)
{
	__u8 state = BPF_CORE_READ(sk, __sk_common.skc_state);

	return state != STATE_CLOSE && state != STATE_LISTEN;
}

/* May an agent not have this connection? As the backstop judges its packets. */
static __always_inline bool sweep_refuses(struct tg_addr_key *key, const struct tg_sock *s,
					  __u32 agent, __u32 *ret_target)
{
	__u32 *target = target_find(key);
	struct tg_target_state *state;
	__u8 mode;

	if (s && s->flags & TG_SOCK_STEERED && key_is_loopback(key))
		return false;
	if (!target)
		return rules_refuse(agent, key);
	*ret_target = *target;
	state = bpf_map_lookup_elem(&tg_targets, target);
	mode = mode_now(state);
	if (mode == TG_MODE_OFF || mode == TG_MODE_OBSERVE)
		return false;
	return !(s && s->flags & TG_SOCK_LET_THROUGH && mode == TG_MODE_STEER && state &&
		 state->flags & TG_TARGET_FAIL_OPEN);
}

/* By the socket itself: where it was made, by whom. */
static __always_inline bool sweep_agent(const struct sock *sk, const struct tg_sock *s, __u32 uid,
					struct who *w)
{
	struct tg_config *c = config();

	if (!c)
		return false;
	if (c->level_mask &&
	    who_by_cgroup((__u64)BPF_CORE_READ(sk, sk_cgrp_data.cgroup), c->level_mask, w))
		return true;
	return who_by_mark(s, w) || (c->uid_agents && watched_uid(uid, w));
}

/* First pass, over descriptors: what an agent holds, whoever made it. */
static __always_inline int sweep_held(struct task_struct *task, struct file *file)
{
	struct tg_config *c = config();
	struct tg_addr_key key;
	struct socket *socket;
	struct who w = {};
	struct tg_sock *s;
	__u32 target = 0;

	socket = bpf_sock_from_file(file);
	if (!c || !socket || !socket->sk)
		return 0;
	if (BPF_CORE_READ(socket, sk, sk_protocol) != PROTO_TCP || !sweep_state(socket->sk))
		return 0;
	if (!(c->level_mask &&
	      who_by_cgroup((__u64)BPF_CORE_READ(task, cgroups, dfl_cgrp), c->level_mask, &w)) &&
	    !(c->uid_agents && watched_uid(BPF_CORE_READ(task, cred, uid.val), &w)))
		return 0;
	sweep_key(socket->sk, &key);
	s = bpf_sk_storage_get(&tg_socks, socket->sk, 0, 0);
	if (!sweep_refuses(&key, s, w.agent, &target))
		return 0;
	s = bpf_sk_storage_get(&tg_socks, socket->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!s) {
		count(TG_K_STORAGE_FAILED);
		return 0;
	}
	s->record.agent = w.agent;
	s->flags |= TG_SOCK_DOOMED;
	return 0;
}

/* Second pass, over the connections of one network namespace. */
static __always_inline int sweep_tcp(struct bpf_iter__tcp *ctx)
{
	struct sock_common *skc = ctx->sk_common;
	struct tg_swept swept = {};
	struct tg_addr_key key;
	struct who w = {};
	struct tg_sock *s;
	struct sock *sk;

	sk = skc ? (struct sock *)bpf_skc_to_tcp_sock(skc) : NULL;
	if (!sk || !sweep_state(sk))
		return 0;
	s = bpf_sk_storage_get(&tg_socks, sk, 0, 0);
	if (s && s->flags & TG_SOCK_DOOMED)
		w.agent = s->record.agent;
	else if (!sweep_agent(sk, s, ctx->uid, &w))
		return 0;
	sweep_key(sk, &key);
	if (!sweep_refuses(&key, s, w.agent, &swept.target))
		return 0;
	if (bpf_sock_destroy(skc)) {
		count(TG_K_HELPER_FAILED);
		return 0;
	}
	count(TG_K_SWEPT);
	memcpy(swept.addr, key.addr, sizeof(swept.addr));
	swept.port_be = key.port_be;
	swept.agent = w.agent;
	swept.uid = ctx->uid;
	bpf_seq_write(ctx->meta->seq, &swept, sizeof(swept));
	return 0;
}

#endif
