/* SPDX-License-Identifier: MIT */
/*
 * Who is an agent. A socket belongs to the cgroup it was made in for all its
 * life, whoever uses it later, so the socket's cgroup comes first; the calling
 * task's cgroup covers sockets that were made outside and carried in.
 */
#ifndef TIDEGATE_BPF_IDENTITY_H
#define TIDEGATE_BPF_IDENTITY_H

#include "lib/errstat.h"

struct who {
	__u32 agent;
	__u32 uid;
	__u64 watched; /* the cgroup that made it an agent; 0: the uid */
};

static __always_inline struct tg_config *config(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&tg_config, &zero);
}

static __always_inline bool watched_cgroup(__u64 id, struct who *w)
{
	__u32 *agent = bpf_map_lookup_elem(&tg_cgroups, &id);

	if (!agent)
		return false;
	w->agent = *agent;
	w->watched = id;
	return true;
}

static __always_inline bool watched_uid(__u32 uid, struct who *w)
{
	__u32 *agent = bpf_map_lookup_elem(&tg_uids, &uid);

	if (!agent)
		return false;
	w->agent = *agent;
	w->uid = uid;
	w->watched = 0;
	return true;
}

static __always_inline __u64 ancestor_id(struct cgroup *cg, int level)
{
	struct cgroup *ancestor = NULL;
	__u64 id = 0;
	long off;

	if (bpf_core_field_exists(cg->ancestors)) {
		off = bpf_core_field_offset(cg->ancestors) + level * sizeof(void *);
		bpf_probe_read_kernel(&ancestor, sizeof(ancestor), (char *)cg + off);
		return BPF_CORE_READ(ancestor, kn, id);
	}
	off = bpf_core_field_offset(((struct cgroup___ids *)cg)->ancestor_ids);
	bpf_probe_read_kernel(&id, sizeof(id), (char *)cg + off + level * sizeof(id));
	return id;
}

/*
 * From the root down, so that nesting cgroups deeper than the loop reaches does not
 * lead out of a watched one. The innermost watched cgroup names the agent.
 */
static __always_inline bool who_by_cgroup(struct cgroup *cg, __u32 mask, struct who *w)
{
	int level = BPF_CORE_READ(cg, level);
	bool found = false;

	for (int i = 1; i <= TG_MAX_LEVEL; i++) {
		if (i > level)
			break;
		if (mask & 1u << i)
			found |= watched_cgroup(ancestor_id(cg, i), w);
	}
	return found;
}

static __always_inline bool who_by_task(__u32 mask, struct who *w)
{
	bool found = false;
	__u64 id;

	for (int i = 1; i <= TG_MAX_LEVEL; i++) {
		if (!(mask & 1u << i))
			continue;
		id = bpf_get_current_ancestor_cgroup_id(i);
		if (!id)
			break;
		found |= watched_cgroup(id, w);
	}
	return found;
}

/* What made the socket an agent's must still hold: agents can be removed. */
static __always_inline bool who_by_mark(const struct tg_sock *s, struct who *w)
{
	if (!s || !(s->flags & TG_SOCK_AGENT))
		return false;
	return s->watched ? watched_cgroup(s->watched, w) : watched_uid(s->uid, w);
}

static __always_inline struct cgroup *sock_cgroup(struct bpf_sock *sk)
{
	struct sock *tcp = (struct sock *)bpf_skc_to_tcp_sock(sk);

	return tcp ? BPF_CORE_READ(tcp, sk_cgrp_data.cgroup) : NULL;
}

/* In a process's context only. @cg is the socket's cgroup if it is known, @s its mark. */
static __always_inline bool who_is(struct cgroup *cg, const struct tg_sock *s, struct who *w)
{
	struct tg_config *c = config();

	w->watched = 0;
	w->uid = (__u32)bpf_get_current_uid_gid();
	if (!c)
		return false;
	if (c->level_mask) {
		if (cg && who_by_cgroup(cg, c->level_mask, w))
			return true;
		if (who_by_mark(s, w) || who_by_task(c->level_mask, w))
			return true;
	}
	if (!c->uid_agents)
		return false;
	return who_by_mark(s, w) || watched_uid(w->uid, w);
}

#endif
