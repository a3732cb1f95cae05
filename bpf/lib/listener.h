/* SPDX-License-Identifier: MIT */
/* Who listens on a port of loopback: the daemon, nobody, or somebody else. */
#ifndef TIDEGATE_BPF_LISTENER_H
#define TIDEGATE_BPF_LISTENER_H

#include "lib/target.h"

static __always_inline struct bpf_sock *loopback_lookup(struct bpf_sock_addr *ctx, __u16 port_be,
							bool v4)
{
	struct bpf_sock_tuple tuple = {};
	__u32 size = v4 ? sizeof(tuple.ipv4) : sizeof(tuple.ipv6);

	if (v4) {
		tuple.ipv4.saddr = tuple.ipv4.daddr = V4_LOOPBACK;
		tuple.ipv4.dport = port_be;
	} else {
		tuple.ipv6.saddr[3] = tuple.ipv6.daddr[3] = bpf_htonl(1);
		tuple.ipv6.dport = port_be;
	}
	if (ctx->protocol == PROTO_TCP)
		return bpf_sk_lookup_tcp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
	return bpf_sk_lookup_udp(ctx, &tuple, size, BPF_F_CURRENT_NETNS, 0);
}

/*
 * 0, or the counter that says why the daemon cannot be used: nobody else on its port gets what
 * an agent sends. By the protocol of the socket that connects.
 */
__noinline int daemon_check(struct bpf_sock_addr *ctx, __u16 port_be, bool v4)
{
	struct bpf_sock *sk = loopback_lookup(ctx, port_be, v4);
	struct tg_sock *mark;
	bool ours;

	if (!sk)
		return TG_K_DENIED_NO_LISTENER;
	mark = bpf_sk_storage_get(&tg_socks, sk, 0, 0);
	ours = mark && mark->flags & TG_SOCK_LISTENER;
	bpf_sk_release(sk);
	return ours ? 0 : TG_K_DENIED_FOREIGN_LISTENER;
}

#endif
