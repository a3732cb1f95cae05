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

static __always_inline __u64 ancestor_id(const struct cgroup *cg, int level)
{
	struct cgroup *ancestor = NULL;
	__u64 id = 0;
	long off;

	if (bpf_core_field_exists(cg->ancestors)) {
		off = bpf_core_field_offset(cg->ancestors) + level * sizeof(void *);
		bpf_probe_read_kernel(&ancestor, sizeof(ancestor), (const char *)cg + off);
		return BPF_CORE_READ(ancestor, kn, id);
	}
	off = bpf_core_field_offset(((struct cgroup___ids *)cg)->ancestor_ids);
	bpf_probe_read_kernel(&id, sizeof(id), (const char *)cg + off + level * sizeof(id));
	return id;
}

/*
 * From the root down, so that nesting cgroups deeper than the loop reaches does not
 * lead out of a watched one. The innermost watched cgroup names the agent.
 */
__noinline int who_by_cgroup(__u64 cgroup, __u32 mask, struct who *w)
{
	const struct cgroup *cg = (const struct cgroup *)cgroup;
	int level = BPF_CORE_READ(cg, level);
	int found = 0;

	if (!w)
		return 0;
	for (int i = 1; i <= TG_MAX_LEVEL; i++) {
		if (i > level)
			break;
		if (mask & 1u << i)
			found |= watched_cgroup(ancestor_id(cg, i), w);
	}
	return found;
}

/* The innermost first, so the first that is found. Less than 0: nested deeper than this reaches. */
enum { WALK_DEPTH = 12 };

static __always_inline int who_walk(const struct tg_index *x, const struct cgroup *cg,
				    struct who *w)
{
	const struct cgroup_subsys_state *up;
	__u64 id;

	for (int i = 0; i < WALK_DEPTH && cg; i++) {
		id = cg->kn->id;
		if (x->cgroup[tg_index_cgroup_slot(id)] && watched_cgroup(id, w))
			return 1;
		up = cg->self.parent;
		if (!up)
			return 0;
		cg = up->cgroup;
	}
	return -1;
}

__noinline int who_by_task(__u32 mask, struct who *w)
{
	int found = 0;
	__u64 id;

	if (!w)
		return 0;
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

/* Address of a TCP socket's cgroup; 0: not TCP. */
static __always_inline __u64 sock_cgroup(struct bpf_sock *sk)
{
	struct sock *tcp = (struct sock *)bpf_skc_to_tcp_sock(sk);

	return tcp ? (__u64)BPF_CORE_READ(tcp, sk_cgrp_data.cgroup) : 0;
}

static __always_inline int who_is_task(const struct cgroup *cg, __u32 mask, struct who *w)
{
	struct tg_index *x = index_ready(TG_INDEX_CGROUPS);
	int found = x ? who_walk(x, cg, w) : -1;

	return found < 0 ? who_by_task(mask, w) : found;
}

/*
 * In a process's context only. @cg is the socket's cgroup or 0, @s the socket's mark or NULL.
 * Most sockets are used where they were made: one look at the task's cgroup, for which there
 * is a quick helper, then answers for the socket's too.
 */
__noinline int who_is(__u64 cg, const struct tg_sock *s, struct who *w)
{
	struct tg_config *c = config();
	const struct cgroup *of_task;
	bool same;

	if (!w)
		return 0;
	w->watched = 0;
	w->uid = (__u32)bpf_get_current_uid_gid();
	if (!c)
		return 0;
	if (c->level_mask) {
		of_task = bpf_get_current_task_btf()->cgroups->dfl_cgrp;
		same = cg == (__u64)of_task;
		if (cg && !same && who_by_cgroup(cg, c->level_mask, w))
			return 1;
		if (!same && who_by_mark(s, w))
			return 1;
		if (who_is_task(of_task, c->level_mask, w))
			return 1;
	}
	if (!c->uid_agents)
		return 0;
	return who_by_mark(s, w) || watched_uid(w->uid, w);
}

#endif
