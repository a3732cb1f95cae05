/* SPDX-License-Identifier: MIT */
/*
 * The few kernel types that the BPF programs read, declared by hand. Only the
 * fields that are used are here: CO-RE moves each access to where the running
 * kernel keeps the field. Included by bpf/ only, after <linux/bpf.h>.
 */
#ifndef TIDEGATE_VMLINUX_H
#define TIDEGATE_VMLINUX_H

#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct kernfs_node {
	__u64 id;
};

struct cgroup_root {
	int hierarchy_id; /* 0: the unified hierarchy (cgroup v2) */
};

struct cgroup {
	int level;
	struct kernfs_node *kn;
	struct cgroup_root *root;
	struct cgroup *ancestors[0]; /* since 6.1, indexed by level */
};

/* Before 6.1. The suffix is cut off when CO-RE looks for the type. */
struct cgroup___ids {
	__u64 ancestor_ids[0];
};

struct sock_cgroup_data {
	struct cgroup *cgroup; /* a plain pointer to the v2 cgroup since 5.15 */
};

struct sock {
	struct sock_cgroup_data sk_cgrp_data;
};

#pragma clang attribute pop

#endif
