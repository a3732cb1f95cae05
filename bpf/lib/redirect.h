/* SPDX-License-Identifier: MIT */
/* connect() and sendmsg(): which target, which state, and the way to the daemon. */
#ifndef TIDEGATE_BPF_REDIRECT_H
#define TIDEGATE_BPF_REDIRECT_H

#include "lib/dns.h"
#include "lib/listener.h"
#include "lib/quick.h"
#include "lib/record.h"
#include "lib/rules.h"

/*
 * A namespace that has no listener because it is new is no daemon that is down: nobody gets
 * to a fail-open target by being faster than the daemon there.
 */
static __always_inline bool has_served(void)
{
	struct tg_config *c = config();

	return c && c->level_mask & TG_CONFIG_SERVED;
}

static __always_inline int connect_target(struct bpf_sock_addr *ctx, const struct tg_addr_key *key,
					  __u32 target, struct tg_sock *s, struct step *step)
{
	__u64 cg = sock_cgroup(ctx->sk);
	__u64 netns = bpf_get_netns_cookie(ctx);
	int why = TG_K_DENIED_NO_LISTENER;
	struct tg_target_state *state;
	struct tg_listener *l;
	struct who w = {};
	__u8 mode;

	if (!who_is(cg, s, &w))
		return 0;
	state = bpf_map_lookup_elem(&tg_targets, &target);
	mode = mode_now(state);
	if (mode == TG_MODE_OFF) {
		count(TG_K_PASSED_OFF);
		return 0;
	}
	if (!state || (mode != TG_MODE_STEER && mode != TG_MODE_OBSERVE))
		return deny(TG_K_DENIED_BLOCKED, -E_PERM);
	s = bpf_sk_storage_get(&tg_socks, ctx->sk, 0, BPF_SK_STORAGE_GET_F_CREATE);
	if (!s)
		return deny(TG_K_STORAGE_FAILED, -E_CONNREFUSED);
	l = bpf_map_lookup_elem(&tg_listeners, &netns);
	if (l)
		why = daemon_check(ctx, l->port_be, key_is_v4(key));
	if (!l || why) {
		if (!(state->flags & TG_TARGET_FAIL_OPEN) || (!l && has_served()))
			return deny(why, -E_CONNREFUSED);
		s->flags |= TG_SOCK_LET_THROUGH;
		count(TG_K_FAILED_OPEN);
		return 0;
	}
	record_fill(ctx, &s->record, key, cg);
	s->record.agent = w.agent;
	s->record.target = target;
	s->record.flags = mode == TG_MODE_OBSERVE ? TG_RECORD_OBSERVE : 0;
	s->flags |= TG_SOCK_STEERED;
	step->steer = true;
	step->port_be = l->port_be;
	count(TG_K_STEERED);
	return 0;
}

/* Not a target: an agent may go there, unless it is the daemon itself or its rules say no. */
static __always_inline int connect_other(struct bpf_sock_addr *ctx, const struct tg_addr_key *key,
					 struct tg_sock *s, struct step *step)
{
	__u64 netns = bpf_get_netns_cookie(ctx);
	struct tg_listener *l = NULL;
	bool rules = rules_in_use();
	enum dns_kind kind = dns_kind(key, netns);
	struct who w = {};

	if (key_is_loopback(key))
		l = bpf_map_lookup_elem(&tg_listeners, &netns);
	if (l && l->port_be != key->port_be)
		l = NULL;
	if ((!l && !rules && !kind) || !who_is(sock_cgroup(ctx->sk), s, &w))
		return 0;
	if (kind)
		return dns_connect(ctx, key, kind, w.agent, step);
	if (l)
		return deny(TG_K_DENIED_DAEMON_PORT, -E_CONNREFUSED);
	return rules_refuse(w.agent, key) ? deny(TG_K_DENIED_DEFAULT, -E_PERM) : 0;
}

/* UDP and whatever else reaches these hooks cannot be steered, but for name look-ups. */
__noinline int datagram(struct bpf_sock_addr *ctx, const struct tg_addr_key *to,
			struct tg_sock *s, struct step *step)
{
	struct tg_addr_key key;
	__u64 netns = bpf_get_netns_cookie(ctx);
	enum dns_kind kind;
	struct who w = {};
	__u32 *target;
	__u8 mode;

	if (!to || !step)
		return -E_PERM;
	key = *to;
	if (step->datagram && dns_is_mapped(&key, netns, s))
		return 0;
	target = target_find_udp(&key);
	kind = target ? DNS_NOT : dns_kind(&key, netns);
	if ((!target && !kind && !rules_in_use()) || !who_is(0, s, &w))
		return 0;
	if (kind)
		return dns_connect(ctx, &key, kind, w.agent, step);
	if (!target)
		return rules_refuse(w.agent, &key) ? deny(TG_K_DENIED_DEFAULT, -E_PERM) : 0;
	mode = mode_now(bpf_map_lookup_elem(&tg_targets, target));
	if (mode == TG_MODE_OFF) {
		count(TG_K_PASSED_OFF);
		return 0;
	}
	if (mode == TG_MODE_OBSERVE) {
		count(TG_K_PASSED_OBSERVED);
		return 0;
	}
	return deny(TG_K_DENIED_PROTOCOL, -E_CONNREFUSED);
}

__noinline int redirect_connect(struct bpf_sock_addr *ctx, const struct tg_addr_key *to,
				struct step *step)
{
	struct tg_sock *s = bpf_sk_storage_get(&tg_socks, ctx->sk, 0, 0);
	struct tg_addr_key key;
	__u32 *target;

	if (!to || !step)
		return -E_PERM;
	key = *to;
	/* What an earlier connect() of this socket left behind is over. */
	if (s)
		s->flags &= ~(TG_SOCK_STEERED | TG_SOCK_LET_THROUGH | TG_SOCK_DNS);
	if (ctx->protocol != PROTO_TCP)
		return datagram(ctx, &key, s, step);
	target = target_find(&key);
	return target ? connect_target(ctx, &key, *target, s, step) :
			connect_other(ctx, &key, s, step);
}

static __always_inline void rewrite4(struct bpf_sock_addr *ctx, const struct step *step)
{
	ctx->user_ip4 = V4_LOOPBACK;
	ctx->user_port = step->port_be;
}

/* A v4-mapped destination stays v4-mapped: the socket may have no IPv6 route. */
static __always_inline void rewrite6(struct bpf_sock_addr *ctx, const struct step *step, bool v4)
{
	ctx->user_ip6[0] = 0;
	ctx->user_ip6[1] = 0;
	ctx->user_ip6[2] = v4 ? V4_MAPPED : 0;
	ctx->user_ip6[3] = v4 ? V4_LOOPBACK : bpf_htonl(1);
	ctx->user_port = step->port_be;
}

static __always_inline void key_of6(struct bpf_sock_addr *ctx, struct tg_addr_key *key, __u8 protocol)
{
	key_init(key, protocol, ctx->user_port);
	key_set6(key, CTX_U32(ctx->user_ip6[0]), CTX_U32(ctx->user_ip6[1]),
		 CTX_U32(ctx->user_ip6[2]), CTX_U32(ctx->user_ip6[3]));
}

static __always_inline int redirect_connect4(struct bpf_sock_addr *ctx)
{
	struct tg_addr_key key;
	struct step step = {};
	int err;

	key_init(&key, PROTO_TCP, ctx->user_port);
	key_set4(&key, ctx->user_ip4);
	if (quick_connect(ctx, &key))
		return 0;
	err = redirect_connect(ctx, &key, &step);
	if (!err && step.steer)
		rewrite4(ctx, &step);
	return err;
}

static __always_inline int redirect_connect6(struct bpf_sock_addr *ctx)
{
	struct tg_addr_key key;
	struct step step = {};
	int err;

	key_of6(ctx, &key, PROTO_TCP);
	if (quick_connect(ctx, &key))
		return 0;
	err = redirect_connect(ctx, &key, &step);
	if (!err && step.steer)
		rewrite6(ctx, &step, key_is_v4(&key));
	return err;
}

static __always_inline int redirect_sendmsg4(struct bpf_sock_addr *ctx)
{
	struct tg_addr_key key;
	struct step step = {.datagram = true};
	int err;

	key_init(&key, PROTO_UDP, ctx->user_port);
	key_set4(&key, ctx->user_ip4);
	if (quick_sendmsg(ctx, &key))
		return 0;
	err = datagram(ctx, &key, bpf_sk_storage_get(&tg_socks, ctx->sk, 0, 0), &step);
	if (!err && step.steer)
		rewrite4(ctx, &step);
	return err;
}

static __always_inline int redirect_sendmsg6(struct bpf_sock_addr *ctx)
{
	struct tg_addr_key key;
	struct step step = {.datagram = true};
	int err;

	key_of6(ctx, &key, PROTO_UDP);
	if (quick_sendmsg(ctx, &key))
		return 0;
	err = datagram(ctx, &key, bpf_sk_storage_get(&tg_socks, ctx->sk, 0, 0), &step);
	if (!err && step.steer)
		rewrite6(ctx, &step, key_is_v4(&key));
	return err;
}

#endif
