/* SPDX-License-Identifier: MIT */
/*
 * Agents' name look-ups. Port 53 of whatever server leads to the daemon's resolver, which
 * learns what a target's names mean before the agent does; ways round it (DoT, DoQ, mDNS,
 * LLMNR) are refused. A server that is itself a target is the target's business.
 */
#ifndef TIDEGATE_BPF_DNS_H
#define TIDEGATE_BPF_DNS_H

#include "lib/listener.h"
#include "lib/record.h"

enum { PORT_DNS = 53, PORT_DOT = 853, PORT_MDNS = 5353, PORT_LLMNR = 5355 };

static __always_inline bool dns_on(void)
{
	__u32 zero = 0;
	struct tg_dns *d = bpf_map_lookup_elem(&tg_dns, &zero);

	return d && d->flags & TG_DNS_STEER;
}

static __always_inline bool dns_port(__u16 port_be)
{
	return port_be == bpf_htons(PORT_DNS) || port_be == bpf_htons(PORT_DOT) ||
	       port_be == bpf_htons(PORT_MDNS) || port_be == bpf_htons(PORT_LLMNR);
}

static __always_inline struct tg_resolver *resolver_of(__u64 netns)
{
	return bpf_map_lookup_elem(&tg_resolvers, &netns);
}

/* A question of an agent, in either protocol. */
__noinline int dns_steer(struct bpf_sock_addr *ctx, const struct tg_addr_key *key, __u32 agent,
			 struct step *step)
{
	__u64 netns = bpf_get_netns_cookie(ctx);
	struct tg_resolver *r = resolver_of(netns);
	int why = TG_K_DENIED_NO_LISTENER;
	struct tg_sock *s;

	if (!key || !step)
		return -E_PERM;
	if (r)
		why = daemon_check(ctx, r->port_be, key_is_v4(key));
	if (!r || why)
		return deny(why, -E_CONNREFUSED);
	s = bpf_sk_storage_get(&tg_socks, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!s)
		return deny(TG_K_STORAGE_FAILED, -E_CONNREFUSED);
	record_fill(ctx, &s->record, key, sock_cgroup(ctx->sk));
	s->record.agent = agent;
	s->record.target = 0;
	s->record.flags = TG_RECORD_DNS;
	s->flags |= TG_SOCK_DNS;
	if (!step->datagram)
		s->flags |= TG_SOCK_STEERED;
	step->steer = true;
	step->port_be = r->port_be;
	count(TG_K_DNS_STEERED);
	return 0;
}

/*
 * A connected socket's send() to a v4-mapped peer comes by sendmsg4, as it was rewritten: it has
 * been judged.
 */
static __always_inline bool dns_is_mapped(const struct tg_addr_key *key, __u64 netns,
					  const struct tg_sock *s)
{
	__u32 both = TG_SOCK_DNS | TG_SOCK_STEERED;
	struct tg_resolver *r;

	if (!s || (s->flags & both) != both || !key_is_loopback(key))
		return false;
	r = resolver_of(netns);
	return r && r->port_be == key->port_be;
}

enum dns_kind { DNS_NOT, DNS_OWN_PORT, DNS_ASK, DNS_ROUND };

/* What connect() or sendmsg() to no target has to do with names, if an agent does it. */
static __always_inline enum dns_kind dns_kind(const struct tg_addr_key *key, __u64 netns)
{
	struct tg_resolver *r;

	if (key_is_loopback(key)) {
		r = resolver_of(netns);
		if (r && r->port_be == key->port_be)
			return DNS_OWN_PORT;
	}
	if (!dns_port(key->port_be) || !dns_on())
		return DNS_NOT;
	return key->port_be == bpf_htons(PORT_DNS) ? DNS_ASK : DNS_ROUND;
}

/* It is an agent. */
static __always_inline int dns_connect(struct bpf_sock_addr *ctx, const struct tg_addr_key *key,
				       enum dns_kind kind, __u32 agent, struct step *step)
{
	if (kind == DNS_OWN_PORT)
		return deny(TG_K_DENIED_DAEMON_PORT, -E_CONNREFUSED);
	if (kind == DNS_ROUND)
		return deny(TG_K_DENIED_DNS, -E_CONNREFUSED);
	return dns_steer(ctx, key, agent, step);
}

/* recvmsg(): the answer comes from the server that was asked. */
static __always_inline const struct tg_record *dns_asked(struct bpf_sock_addr *ctx)
{
	struct tg_sock *s = bpf_sk_storage_get(&tg_socks, ctx->sk, 0, 0);
	struct tg_resolver *r;

	if (!s || !(s->flags & TG_SOCK_DNS))
		return NULL;
	r = resolver_of(s->record.netns_cookie);
	return r && r->port_be == ctx->user_port ? &s->record : NULL;
}

static __always_inline void dns_source4(struct bpf_sock_addr *ctx)
{
	const struct tg_record *r;

	if (ctx->user_ip4 != V4_LOOPBACK)
		return;
	r = dns_asked(ctx);
	if (!r)
		return;
	ctx->user_ip4 = ((const __u32 *)r->addr)[3];
	ctx->user_port = r->port_be;
}

static __always_inline void dns_source6(struct bpf_sock_addr *ctx)
{
	const struct tg_record *r;
	struct tg_addr_key key;
	const __u32 *a;

	key_set6(&key, CTX_U32(ctx->user_ip6[0]), CTX_U32(ctx->user_ip6[1]),
		 CTX_U32(ctx->user_ip6[2]), CTX_U32(ctx->user_ip6[3]));
	if (!key_is_loopback(&key))
		return;
	r = dns_asked(ctx);
	if (!r)
		return;
	a = (const __u32 *)r->addr;
	ctx->user_ip6[0] = a[0];
	ctx->user_ip6[1] = a[1];
	ctx->user_ip6[2] = a[2];
	ctx->user_ip6[3] = a[3];
	ctx->user_port = r->port_be;
}

/*
 * A datagram has no accepted socket that could carry who sent it: its source is written
 * down here, where a connected socket's is known at last.
 */
static __always_inline void dns_note(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk ? bpf_sk_fullsock(skb->sk) : NULL;
	struct tg_sock *s = sk ? bpf_sk_storage_get(&tg_socks, sk, 0, 0) : NULL;
	struct tg_asker asker = {};
	__u32 *a = (__u32 *)asker.addr;
	long err;

	if (!s)
		return;
	asker.port = (__u16)sk->src_port;
	asker.netns_cookie = s->record.netns_cookie;
	if (skb->protocol == bpf_htons(0x0800)) {
		a[2] = V4_MAPPED;
		err = bpf_skb_load_bytes(skb, 12, &a[3], 4);
	} else {
		err = bpf_skb_load_bytes(skb, 8, asker.addr, sizeof(asker.addr));
	}
	/* Without it the resolver refuses to answer. */
	if (err || bpf_map_update_elem(&tg_askers, &asker, &s->record, BPF_ANY))
		count(TG_K_HELPER_FAILED);
}

/* Packets: a steered question goes on, whatever target covers loopback. */
static __always_inline bool dns_egress(struct __sk_buff *skb, const struct tg_addr_key *key,
				       const struct tg_sock *s)
{
	struct tg_resolver *r;

	if (!s || !(s->flags & TG_SOCK_DNS) || !key_is_loopback(key))
		return false;
	r = resolver_of(s->record.netns_cookie);
	if (!r || r->port_be != key->port_be)
		return false;
	if (key->protocol == PROTO_UDP)
		dns_note(skb);
	return true;
}

/* And one that was not steered (an older connection, a raw socket) does not. */
static __always_inline bool dns_backstop(const struct tg_addr_key *key)
{
	return dns_port(key->port_be) && dns_on();
}

#endif
