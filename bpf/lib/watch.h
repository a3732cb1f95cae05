/* SPDX-License-Identifier: MIT */
/*
 * A watched cgroup that is removed and made again has a new id. This binds the id to
 * the agent before mkdir() returns, so before a process can be in it.
 */
#ifndef TIDEGATE_BPF_WATCH_H
#define TIDEGATE_BPF_WATCH_H

#include "lib/errstat.h"

static __always_inline int watch_mkdir(struct cgroup *cg, const char *path)
{
	__u32 zero = 0, *agent;
	struct tg_index *x;
	struct tg_path *key;
	__u64 id;

	if (BPF_CORE_READ(cg, root, hierarchy_id))
		return 0; /* cgroup v1 */
	key = bpf_map_lookup_elem(&tg_scratch, &zero);
	if (!key)
		return 0;
	memset(key, 0, sizeof(*key));
	if (bpf_probe_read_kernel_str(key->path, sizeof(key->path), path) <= 0) {
		count(TG_K_HELPER_FAILED);
		return 0;
	}
	agent = bpf_map_lookup_elem(&tg_paths, key);
	if (!agent)
		return 0;
	id = BPF_CORE_READ(cg, kn, id);
	x = bpf_map_lookup_elem(&tg_index, &zero);
	if (!x)
		return 0;
	/* Counted before it can be looked up. */
	__sync_fetch_and_add(&x->cgroup[tg_index_cgroup_slot(id)], 1);
	if (bpf_map_update_elem(&tg_cgroups, &id, agent, BPF_ANY)) {
		__sync_fetch_and_add(&x->cgroup[tg_index_cgroup_slot(id)], -1);
		count(TG_K_HELPER_FAILED);
	} else {
		count(TG_K_CGROUP_REMADE);
	}
	return 0;
}

#endif
