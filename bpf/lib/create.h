/* SPDX-License-Identifier: MIT */
/* socket() and bind(): what agents may make, and who may have the daemon's port. */
#ifndef TIDEGATE_BPF_CREATE_H
#define TIDEGATE_BPF_CREATE_H

#include "lib/identity.h"
#include "lib/netns.h"
#include "lib/target.h"

/*
 * Only TCP can be steered and only TCP and UDP can be judged. A denied MPTCP makes
 * libraries fall back to TCP. SOCK_RAW may carry any protocol's number.
 */
static __always_inline int create_errno(__u32 type, __u32 protocol)
{
	if (type == TYPE_STREAM)
		return protocol == PROTO_TCP ? 0 : -E_PROTONOSUPPORT;
	if (type == TYPE_RAW)
		return -E_PERM;
	if (type != TYPE_DGRAM)
		return -E_PROTONOSUPPORT;
	if (protocol == PROTO_UDP)
		return 0;
	return protocol == PROTO_ICMP || protocol == PROTO_ICMP6 ? -E_ACCES : -E_PROTONOSUPPORT;
}

/*
 * The socket's cgroup is the caller's here. Marks it, so that UDP and who is watched by uid
 * know their agent later. TCP is known by the socket's cgroup: the memory of a mark
 * would be most of what an agent's unsteered connection costs.
 */
static __always_inline int create_socket(struct bpf_sock *ctx)
{
	struct who w = {};
	struct tg_sock *s;
	int err, found;

	found = quick_create(ctx, &w);
	if (!found || (found < 0 && !who_is(0, NULL, &w)))
		return 0;
	err = create_errno(ctx->type, ctx->protocol);
	if (err)
		return deny(TG_K_DENIED_PROTOCOL, err);
	netns_socket(ctx, &w);
	if (ctx->protocol == PROTO_TCP && w.watched)
		return 0;
	s = bpf_sk_storage_get(&tg_socks, ctx, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!s)
		return deny(TG_K_STORAGE_FAILED, -E_NOBUFS);
	s->watched = w.watched;
	s->uid = (__u32)bpf_get_current_uid_gid();
	s->flags = TG_SOCK_AGENT;
	return 0;
}

/*
 * With the daemon down its port is free. A foreign listener there never gets a steered
 * connection (listener_check), but it could keep the daemon from coming back: so
 * the port is for root alone, and for no agent.
 */
static __always_inline bool daemon_port(struct bpf_sock *ctx)
{
	__u64 netns = bpf_get_netns_cookie(ctx);
	struct tg_listener *l = NULL;
	struct tg_resolver *d;

	if (ctx->protocol == PROTO_TCP)
		l = bpf_map_lookup_elem(&tg_listeners, &netns);
	if (l && bpf_ntohs(l->port_be) == ctx->src_port)
		return true;
	d = bpf_map_lookup_elem(&tg_resolvers, &netns);
	return d && bpf_ntohs(d->port_be) == ctx->src_port;
}

static __always_inline int create_bound(struct bpf_sock *ctx, bool reaches_loopback)
{
	struct who w = {};

	if (!reaches_loopback || !daemon_port(ctx))
		return 0;
	if (!who_is(0, NULL, &w) && !w.uid)
		return 0;
	return deny(TG_K_DENIED_BIND, -E_ADDRINUSE);
}

static __always_inline int create_bound4(struct bpf_sock *ctx)
{
	__u32 a = ctx->src_ip4;

	return create_bound(ctx, !a || (bpf_ntohl(a) >> 24) == 127);
}

static __always_inline int create_bound6(struct bpf_sock *ctx)
{
	__u32 high = CTX_U32(ctx->src_ip6[0]) | CTX_U32(ctx->src_ip6[1]);
	__u32 a2 = CTX_U32(ctx->src_ip6[2]), a3 = CTX_U32(ctx->src_ip6[3]);
	bool v4 = a2 == V4_MAPPED;

	if (v4)
		return create_bound(ctx, !high && (!a3 || (bpf_ntohl(a3) >> 24) == 127));
	return create_bound(ctx, !high && !a2 && bpf_ntohl(a3) <= 1);
}

#endif
