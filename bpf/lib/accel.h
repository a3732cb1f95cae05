/* SPDX-License-Identifier: MIT */
/*
 * The accelerator: what one end of a steered connection sends goes into the other end's
 * receive queue, past the TCP stack. Never needed for anything: whatever is missing or
 * odd leaves the connection on TCP, and from TCP there is no way back.
 *
 * Order: a receiver reads what was redirected before what came by TCP. So an end may
 * redirect only as long as TCP has not carried a byte of its own, which is looked at for
 * every message: data with the SYN, or a thread that was already inside send(), end it.
 *
 * Memory: nothing slows down a sender whose bytes are redirected. What the receiver has not
 * read is read off its socket, and above a cap the direction falls back to TCP, which does.
 */
#ifndef TIDEGATE_BPF_ACCEL_H
#define TIDEGATE_BPF_ACCEL_H

#include "lib/errstat.h"

/* Off where the running kernel does not take the programs with it: no code is left then. */
const volatile bool tg_accel_built = true;

/* Not a plain TCP socket: MPTCP, or TLS or the like on top of it. */
static __always_inline bool accel_odd(const struct tcp_sock *tp)
{
	if (((const struct inet_connection_sock *)tp)->icsk_ulp_ops)
		return true;
	return bpf_core_field_exists(tp->is_mptcp) && tp->is_mptcp;
}

static __always_inline int accel_insert(struct bpf_sock_ops *ctx, struct tg_tuple *key, bool sends)
{
	/* EBUSY: another program's map has the socket. EEXIST: never replaced, its bytes would go. */
	if (sends)
		return bpf_sock_hash_update(ctx, &tg_acc_send, key, BPF_NOEXIST);
	return bpf_sock_hash_update(ctx, &tg_acc_recv, key, BPF_NOEXIST);
}

/* The agent's end begins the pair, the daemon's completes it. */
static __always_inline bool accel_pair(const struct tg_tuple *conn, __u32 end, __u64 sock)
{
	struct tg_pair fresh = {}, *p;

	if (end == TG_END_AGENT) {
		fresh.sock[TG_END_AGENT] = sock;
		return !bpf_map_update_elem(&tg_acc_pairs, conn, &fresh, BPF_ANY);
	}
	p = bpf_map_lookup_elem(&tg_acc_pairs, conn);
	if (p)
		p->sock[TG_END_DAEMON] = sock;
	return p;
}

static __always_inline bool accel_try(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
				      const struct tg_tuple *conn, __u8 wanted, __u32 end)
{
	bool replies = wanted & TG_TARGET_ACCEL_REPLIES, agent = end == TG_END_AGENT;
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	struct tg_tuple key = *conn;
	struct tg_accel *a;

	if (!tp || accel_odd(tp))
		return false;
	a = bpf_sk_storage_get(&tg_acc_socks, sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!a)
		return false;
	a->end = end;
	a->conn = *conn;
	a->peer = *conn;
	a->peer.end = agent ? TG_END_DAEMON : TG_END_AGENT;
	a->flags = (agent || replies ? TG_ACCEL_SENDS : 0) |
		   (!agent || replies ? TG_ACCEL_PEER_SENDS : 0);
	key.end = end;
	if (accel_pair(conn, end, (__u64)(long)tp) && !accel_insert(ctx, &key, agent || replies))
		return true;
	a->flags |= TG_ACCEL_PLAIN;
	return false;
}

/* A connection of an agent that was steered, and nothing else, comes here. */
static __always_inline void accel_enrol(struct bpf_sock_ops *ctx, struct bpf_sock *sk,
					const struct tg_tuple *conn, __u32 target, __u32 end)
{
	struct tg_target_state *state;

	if (!tg_accel_built)
		return;
	state = bpf_map_lookup_elem(&tg_targets, &target);
	if (!state || !(state->flags & TG_TARGET_ACCEL_REQUESTS))
		return;
	/* Where the daemon's end fails the agent's finds no peer, and counts it. */
	if (!accel_try(ctx, sk, conn, state->flags, end) && end == TG_END_AGENT)
		count(TG_K_ACCEL_REFUSED);
}

/*
 * May this message be redirected? The receiver's socket is not held: it is only asked for a
 * number, and if it is gone the redirect below finds nobody.
 */
static __always_inline bool accel_may(struct sk_msg_md *msg, struct bpf_sock *sk,
				      const struct tg_accel *a, const struct tg_pair *p)
{
	struct tcp_sock *tp = bpf_skc_to_tcp_sock(sk);
	__u32 end = a->end & 1;
	const struct sock *to = (const struct sock *)(long)p->sock[end ^ 1];
	__u32 unread;

	if (!tp || !to || tp->write_seq != tp->snd_una || tp->bytes_acked > 1)
		return false;
	if (a->flags & TG_ACCEL_PEER_SENDS && p->run[end] > TG_ACCEL_RUN)
		return false;
	unread = (__u32)BPF_CORE_READ(to, sk_backlog.rmem_alloc.counter);
	return unread <= TG_ACCEL_CAP && unread + msg->size <= TG_ACCEL_CAP;
}

static __always_inline bool accel_redirect(struct sk_msg_md *msg, struct tg_accel *a)
{
	if (a->flags & TG_ACCEL_PEER_SENDS)
		return bpf_msg_redirect_hash(msg, &tg_acc_send, &a->peer, BPF_F_INGRESS) == SK_PASS;
	return bpf_msg_redirect_hash(msg, &tg_acc_recv, &a->peer, BPF_F_INGRESS) == SK_PASS;
}

static __always_inline void accel_msg(struct sk_msg_md *msg)
{
	struct bpf_sock *sk = msg->sk;
	struct tg_accel *a;
	struct tg_pair *p;
	__u32 end;

	a = sk ? bpf_sk_storage_get(&tg_acc_socks, sk, 0, 0) : NULL;
	if (!a)
		return;
	p = bpf_map_lookup_elem(&tg_acc_pairs, &a->conn);
	end = a->end & 1;
	if (p) {
		p->run[end ^ 1] = 0;
		p->run[end] += msg->size;
	}
	if (a->flags & TG_ACCEL_PLAIN)
		return;
	if (p && accel_may(msg, sk, a, p) && accel_redirect(msg, a)) {
		if (!(a->flags & TG_ACCEL_STARTED) && end == TG_END_AGENT)
			count(TG_K_ACCELERATED);
		a->flags |= TG_ACCEL_STARTED;
		return;
	}
	if (a->flags & TG_ACCEL_STARTED)
		count(TG_K_ACCEL_RATCHETED);
	else if (end == TG_END_AGENT)
		count(TG_K_ACCEL_REFUSED);
	a->flags |= TG_ACCEL_PLAIN;
}

#endif
