/* SPDX-License-Identifier: MIT */
/*
 * AF_UNIX: connect() and sendto() to a path, since 6.7. The kernel has not looked the path up
 * yet: what can be judged is how it is written. "//" and "/./" are taken out, ".." is
 * refused, the last part of a relative path is judged by itself. A symbolic link
 * that an agent makes under another name is not seen through.
 */
#ifndef TIDEGATE_BPF_UNIX_H
#define TIDEGATE_BPF_UNIX_H

#include "lib/quick.h"

enum { UNIX_PATH_AT = 2, UNIX_PATH_MAX = 108 };

struct unix_scan {
	struct tg_unix_key key; /* the path, tidied up */
	__u8 raw[TG_UNIX_PATH]; /* as the caller wrote it */
	__u32 out, last;	/* end of key.path, begin of the last part in raw */
	__u8 prev;		/* last byte of key.path */
	bool up;		/* ".." is in it */
};

static __always_inline bool part_ends(__u8 c)
{
	return c == '/' || !c;
}

/* bpf_loop's callback: one byte of raw. Returns 1 at the end. */
static long unix_step(__u32 i, void *arg)
{
	struct unix_scan *s = arg;
	__u32 out = s->out;
	__u8 c;

	if (i >= UNIX_PATH_MAX || out >= UNIX_PATH_MAX)
		return 1;
	c = s->raw[i];
	if (!c)
		return 1;
	if (c == '/')
		s->last = i + 1;
	if (s->prev == '/') {
		if (c == '/' || (c == '.' && part_ends(s->raw[i + 1])))
			return 0;
		s->up |= c == '.' && s->raw[i + 1] == '.' && part_ends(s->raw[i + 2]);
	}
	s->prev = c;
	s->key.path[out] = c;
	s->out = out + 1;
	return 0;
}

/* The caller's address is not NUL-terminated, and what lies behind its end is not its. */
static __always_inline bool unix_read(struct bpf_sock_addr_kern *k, struct unix_scan *s)
{
	const char *from = (const char *)BPF_CORE_READ(k, uaddr) + UNIX_PATH_AT;
	__u32 n = (__u32)BPF_CORE_READ(k, uaddrlen) - UNIX_PATH_AT;

	/* Or clang takes n + 1 from what it was before the check, which the verifier refuses. */
	asm volatile("" : "+r"(n));
	if (!n || n > UNIX_PATH_MAX)
		return false;
	if (bpf_probe_read_kernel(s->raw, 1, from))
		return false;
	if (!s->raw[0])
		return !bpf_probe_read_kernel(s->key.path, n, from);
	return bpf_probe_read_kernel_str(s->raw, n + 1, from) > 0;
}

static __always_inline bool unix_refused(struct unix_scan *s)
{
	__u32 *verdict, last;

	if (s->raw[0]) {
		/* Before a relative path's first byte there is a slash, so to speak. */
		s->prev = s->raw[0] == '/' ? 0 : '/';
		bpf_loop(UNIX_PATH_MAX, unix_step, s, 0);
		if (s->up)
			return true;
	}
	if (s->raw[0] && s->raw[0] != '/') {
		last = s->last;
		if (last >= UNIX_PATH_MAX)
			return true;
		memset(s->key.path, 0, sizeof(s->key.path));
		s->key.path[0] = TG_UNIX_LAST;
		if (bpf_probe_read_kernel_str(s->key.path + 1, sizeof(s->key.path) - 1,
					      s->raw + last) <= 0)
			return true;
	}
	s->key.prefixlen = 32 + 8 * TG_UNIX_PATH;
	verdict = bpf_map_lookup_elem(&tg_unix, &s->key);
	return verdict && *verdict == TG_UNIX_REFUSE;
}

static __always_inline int unix_connect(struct bpf_sock_addr *ctx)
{
	struct tg_options *o = options();
	struct bpf_sock_addr_kern *k;
	struct tg_agent_state *a;
	struct unix_scan s = {};
	struct who w = {};

	if (!o || !o->unix_agents)
		return 0;
	k = bpf_cast_to_kern_ctx(ctx);
	if (quick_nobody(k->sk->sk_cgrp_data.cgroup, bpf_get_current_task_btf()))
		return 0;
	if (!who_is((__u64)BPF_CORE_READ(k, sk, sk_cgrp_data.cgroup), NULL, &w))
		return 0;
	a = bpf_map_lookup_elem(&tg_agents, &w.agent);
	if (!a || !(a->flags & TG_AGENT_UNIX))
		return 0;
	s.key.agent = a->unix_set ? a->unix_set : w.agent;
	if (!unix_read(k, &s))
		return deny(TG_K_HELPER_FAILED, -E_PERM);
	return unix_refused(&s) ? deny(TG_K_DENIED_UNIX, -E_PERM) : 0;
}

#endif
