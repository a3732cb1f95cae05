/* SPDX-License-Identifier: MIT */
/*
 * Carries the record from the agent's socket to the accepted one. On loopback the
 * agent's end is established, and its tuple in the map, before the ACK that makes the
 * daemon's end leaves. Both callbacks run in softirq: "current" is anybody there.
 */
#ifndef TIDEGATE_BPF_HANDOVER_H
#define TIDEGATE_BPF_HANDOVER_H

#include "lib/accel.h"
#include "lib/errstat.h"
#include "lib/target.h"

static __always_inline void addr_set4(__u8 *dst, __u32 addr)
{
	__u32 *a = (__u32 *)dst;

	a[0] = a[1] = 0;
	a[2] = V4_MAPPED;
	a[3] = addr;
}

static __always_inline void addr_set6(__u8 *dst, __u32 a0, __u32 a1, __u32 a2, __u32 a3)
{
	__u32 *a = (__u32 *)dst;

	a[0] = a0;
	a[1] = a1;
	a[2] = a2;
	a[3] = a3;
}

static __always_inline bool addr_is_loopback(const __u8 *addr)
{
	const __u32 *a = (const __u32 *)addr;

	if (a[0] || a[1])
		return false;
	return a[2] == V4_MAPPED ? addr[12] == 127 : !a[2] && a[3] == bpf_htonl(1);
}

/* @local and @remote are where this end's addresses go: client or server. */
static __always_inline void tuple_addrs(struct bpf_sock_ops *ctx, __u8 *local, __u8 *remote)
{
	if (ctx->family == FAMILY_INET) {
		addr_set4(local, ctx->local_ip4);
		addr_set4(remote, ctx->remote_ip4);
		return;
	}
	addr_set6(local, CTX_U32(ctx->local_ip6[0]), CTX_U32(ctx->local_ip6[1]),
		  CTX_U32(ctx->local_ip6[2]), CTX_U32(ctx->local_ip6[3]));
	addr_set6(remote, CTX_U32(ctx->remote_ip6[0]), CTX_U32(ctx->remote_ip6[1]),
		  CTX_U32(ctx->remote_ip6[2]), CTX_U32(ctx->remote_ip6[3]));
}

static __always_inline void handover_active(struct bpf_sock_ops *ctx)
{
	struct bpf_sock *sk = ctx->sk;
	struct tg_tuple tuple = {};
	struct tg_sock *s;

	if (!sk)
		return;
	tuple_addrs(ctx, tuple.client, tuple.server);
	if (!addr_is_loopback(tuple.server))
		return;
	tuple.client_port = ctx->local_port;
	tuple.server_port = bpf_ntohl(ctx->remote_port);
	tuple.netns_cookie = bpf_get_netns_cookie(ctx);
	s = bpf_sk_storage_get(&tg_socks, sk, 0, 0);
	if (!s || !(s->flags & TG_SOCK_STEERED)) {
		/* Not steered: must not inherit what an unfinished handshake left here. */
		bpf_map_delete_elem(&tg_tuples, &tuple);
		return;
	}
	/* Without its tuple the connection has no record, and the daemon resets it. */
	if (bpf_map_update_elem(&tg_tuples, &tuple, &s->record, BPF_ANY))
		count(TG_K_TUPLE_FULL);
	else
		accel_enrol(ctx, sk, &tuple, s->record.target, TG_END_AGENT);
}

static __always_inline void handover_passive(struct bpf_sock_ops *ctx)
{
	__u64 netns = bpf_get_netns_cookie(ctx);
	struct bpf_sock *sk = ctx->sk;
	struct tg_tuple tuple = {};
	struct tg_resolver *d;
	struct tg_listener *l;
	struct tg_record *r;

	if (!sk)
		return;
	tuple_addrs(ctx, tuple.server, tuple.client);
	if (!addr_is_loopback(tuple.server))
		return;
	tuple.server_port = ctx->local_port;
	l = bpf_map_lookup_elem(&tg_listeners, &netns);
	if (!l || bpf_ntohs(l->port_be) != tuple.server_port) {
		d = bpf_map_lookup_elem(&tg_resolvers, &netns);
		if (!d || bpf_ntohs(d->port_be) != tuple.server_port)
			return;
	}
	tuple.client_port = bpf_ntohl(ctx->remote_port);
	tuple.netns_cookie = netns;
	r = bpf_map_lookup_elem(&tg_tuples, &tuple);
	if (!r) {
		count(TG_K_HANDOVER_MISS);
		return;
	}
	if (bpf_sk_storage_get(&tg_records, sk, r, BPF_SK_STORAGE_GET_F_CREATE)) {
		count(TG_K_HANDED_OVER);
		accel_enrol(ctx, sk, &tuple, r->target, TG_END_DAEMON);
	} else {
		count(TG_K_STORAGE_FAILED);
	}
	bpf_map_delete_elem(&tg_tuples, &tuple);
}

static __always_inline const struct tg_record *steered_record(struct bpf_sock_addr *ctx)
{
	struct tg_sock *s = bpf_sk_storage_get(&tg_socks, ctx->sk, 0, 0);

	return s && s->flags & TG_SOCK_STEERED ? &s->record : NULL;
}

/* The agent sees the peer it asked for. */
static __always_inline void peername4(struct bpf_sock_addr *ctx)
{
	const struct tg_record *r = steered_record(ctx);

	if (!r)
		return;
	ctx->user_ip4 = ((const __u32 *)r->addr)[3];
	ctx->user_port = r->port_be;
}

static __always_inline void peername6(struct bpf_sock_addr *ctx)
{
	const struct tg_record *r = steered_record(ctx);
	const __u32 *a;

	if (!r)
		return;
	a = (const __u32 *)r->addr;
	ctx->user_ip6[0] = a[0];
	ctx->user_ip6[1] = a[1];
	ctx->user_ip6[2] = a[2];
	ctx->user_ip6[3] = a[3];
	ctx->user_port = r->port_be;
}

#endif
