/* SPDX-License-Identifier: MIT */
/* Who wants to go where: taken in connect() and sendmsg(), in the caller's own context. */
#ifndef TIDEGATE_BPF_RECORD_H
#define TIDEGATE_BPF_RECORD_H

#include "lib/identity.h"
#include "lib/target.h"

static __always_inline void record_fill(struct bpf_sock_addr *ctx, struct tg_record *r,
					const struct tg_addr_key *key, __u64 cgroup)
{
	const struct cgroup *cg = (const struct cgroup *)cgroup;
	__u64 id = bpf_get_current_pid_tgid();

	memcpy(r->addr, key->addr, sizeof(r->addr));
	r->port_be = key->port_be;
	r->family = ctx->family;
	r->tgid = id >> 32;
	r->tid = (__u32)id;
	r->uid = (__u32)bpf_get_current_uid_gid();
	r->task_cgroup_id = bpf_get_current_cgroup_id();
	r->cgroup_id = cg ? BPF_CORE_READ(cg, kn, id) : r->task_cgroup_id;
	r->netns_cookie = bpf_get_netns_cookie(ctx);
	r->boot_ns = bpf_ktime_get_boot_ns();
	if (bpf_get_current_comm(r->comm, sizeof(r->comm)))
		count(TG_K_HELPER_FAILED);
}

/* What connect() or sendmsg() is to do; the hook rewrites the address if steer. */
struct step {
	bool datagram; /* sendmsg(): the socket's peer is another thing */
	bool steer;
	__u16 port_be;
};

#endif
