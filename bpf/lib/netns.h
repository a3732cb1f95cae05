/* SPDX-License-Identifier: MIT */
/*
 * Tells the daemon of network namespaces that an agent has come to and that have no
 * listener yet. Only what says so in time is missed here by design: until the listener
 * is there connect() refuses. The look-up that ends most calls comes first.
 */
#ifndef TIDEGATE_BPF_NETNS_H
#define TIDEGATE_BPF_NETNS_H

#include "lib/quick.h"

static __always_inline void netns_tell(__u64 cookie, struct task_struct *t, const struct who *w,
				       __u32 how)
{
	__u64 now = bpf_ktime_get_boot_ns(), next = now + TG_NETNS_AGAIN_NS;
	__u64 *quiet = bpf_map_lookup_elem(&tg_netns_quiet, &cookie);
	struct tg_netns_event ev = {};

	if (quiet && now < *quiet)
		return;
	if (bpf_map_update_elem(&tg_netns_quiet, &cookie, &next, BPF_ANY))
		count(TG_K_HELPER_FAILED);
	ev.netns_cookie = cookie;
	ev.started_boot_ns = BPF_CORE_READ(t, group_leader, start_boottime);
	ev.watched = w->watched;
	ev.tgid = BPF_CORE_READ(t, tgid);
	ev.tid = BPF_CORE_READ(t, pid);
	ev.agent = w->agent;
	ev.how = how;
	if (bpf_ringbuf_output(&tg_netns_ring, &ev, sizeof(ev), 0))
		count(TG_K_NETNS_LOST);
	else
		count(TG_K_NETNS_TOLD);
}

static __always_inline bool task_is_agent(struct task_struct *t, __u64 cg, struct who *w)
{
	struct tg_config *c = config();

	if (!c)
		return false;
	if (c->level_mask && who_by_cgroup(cg, c->level_mask, w))
		return true;
	return c->uid_agents && watched_uid(BPF_CORE_READ(t, cred, uid.val), w);
}

/* @t may be about to run for the first time. A thread can have a namespace of its own. */
static __always_inline int netns_task(struct task_struct *t, __u32 how)
{
	struct who w = {};
	__u64 cookie;

	if (quick_nobody(NULL, t))
		return 0;
	cookie = BPF_CORE_READ(t, nsproxy, net_ns, net_cookie);
	if (!cookie || bpf_map_lookup_elem(&tg_listeners, &cookie))
		return 0;
	if (task_is_agent(t, (__u64)BPF_CORE_READ(t, cgroups, dfl_cgrp), &w))
		netns_tell(cookie, t, &w, how);
	return 0;
}

/* An agent makes a socket: the last chance to be in time for its connect(). */
static __always_inline void netns_socket(struct bpf_sock *sk, const struct who *w)
{
	__u64 cookie = bpf_get_netns_cookie(sk);

	if (!bpf_map_lookup_elem(&tg_listeners, &cookie))
		netns_tell(cookie, (struct task_struct *)bpf_get_current_task(), w,
			   TG_NETNS_SOCKET);
}

#endif
