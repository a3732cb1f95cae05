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

struct cgroup;
struct cgroup_subsys_state {
	struct cgroup *cgroup;
	struct cgroup_subsys_state *parent; /* NULL: of the root */
};

struct cgroup {
	struct cgroup_subsys_state self;
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

struct in6_addr {
	union {
		__be32 u6_addr32[4];
	} in6_u;
};

struct net {
	__u64 net_cookie; /* what SO_NETNS_COOKIE says */
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__be32 skc_daddr;
	__be16 skc_dport;
	unsigned short skc_family;
	volatile unsigned char skc_state;
	possible_net_t skc_net;
	struct in6_addr skc_v6_daddr;
};

struct bpf_local_storage;

struct sock {
	struct sock_common __sk_common;
	struct sock_cgroup_data sk_cgrp_data;
	struct bpf_local_storage *sk_bpf_storage; /* NULL: no program keeps anything */
	__u16 sk_protocol;
	struct {
		struct {
			int counter;
		} rmem_alloc;
	} sk_backlog;
};

struct socket {
	struct sock *sk;
};

struct file;

/* What a sock_addr program's context is inside the kernel (AF_UNIX: since 6.7). */
struct bpf_sock_addr_kern {
	struct sock *sk;
	struct sockaddr *uaddr;
	int uaddrlen;
};

/* --- tasks */
typedef struct {
	__u32 val;
} kuid_t;

struct cred {
	kuid_t uid;
};

struct css_set {
	struct cgroup *dfl_cgrp; /* of the unified hierarchy */
};

struct nsproxy {
	struct net *net_ns;
};

struct task_struct {
	int pid;  /* of the thread */
	int tgid; /* of the process */
	struct task_struct *group_leader;
	__u64 start_boottime;
	const struct cred *cred;
	struct nsproxy *nsproxy; /* NULL once it exits */
	struct css_set *cgroups;
};

/* --- iterators */
struct seq_file;

struct bpf_iter_meta {
	struct seq_file *seq;
};

struct bpf_iter__tcp {
	struct bpf_iter_meta *meta;
	struct sock_common *sk_common;
	__u32 uid;
};

struct bpf_iter__task_file {
	struct bpf_iter_meta *meta;
	struct task_struct *task;
	struct file *file;
};

/* Begins with a struct sock, and a tcp_sock with it. */
struct inet_connection_sock {
	const void *icsk_ulp_ops;
};

struct tcp_sock {
	__u32 write_seq;
	__u32 snd_una;
	__u64 bytes_acked;
	_Bool is_mptcp; /* where MPTCP is configured */
};

#pragma clang attribute pop

#endif
