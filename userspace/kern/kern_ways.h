/* SPDX-License-Identifier: MIT */
/*
 * Ways round the gate, one row for each class of the bypass matrix: what closes it, and on
 * which kernel; if nothing does, the sentence that says so in `feature probe`, `status`
 * and the matrix itself.
 *
 * X(NAME, "label", "what closes it", since, "what is open without")
 * since: the probed feature that it needs, or "" always, or "-" never in the kernel.
 */
#ifndef TIDEGATE_KERN_KERN_WAYS_H
#define TIDEGATE_KERN_KERN_WAYS_H

#include <stdbool.h>

#define KERN_WAYS(X)                                                                               \
	X(TCP, "tcp", "cgroup/connect4, connect6: steered", "", "")                                \
	X(UDP, "udp", "cgroup/sendmsg, connect: refused", "", "")                                  \
	X(RAW, "raw", "cgroup/sock_create: refused", "", "")                                       \
	X(FAMILY, "family", "seccomp filter of `tidegate agent run`", "-",                         \
	  "AF_PACKET, AF_XDP, AF_VSOCK and other families are seen by no cgroup hook: start agents " \
	  "with `tidegate agent run`, or without CAP_NET_RAW and with a filter on socket(2)")      \
	X(UNIX, "unix", "cgroup/connect_unix, sendmsg_unix: refused by path", "connect_unix",      \
	  "agents reach every AF_UNIX socket of this host that its file mode lets them")           \
	X(UNIX_ALIAS, "unix_alias", "`unix: listed` with folders that agents cannot write to", "-", \
	  "an AF_UNIX socket under a name of the agent's own (symbolic link, hard link, bind mount) " \
	  "is not recognised by `unix: guard`: use `unix: listed`")                                \
	X(OLDER, "older", "cgroup_skb/egress: cut; bpf_sock_destroy: closed", "", "")              \
	X(PASSED, "passed", "the sweep with bpf_sock_destroy, every ten seconds", "-",             \
	  "a connected socket that somebody outside passes to an agent works until the next "       \
	  "sweep, up to ten seconds; before 6.5 for good")                                         \
	X(PORT, "port", "mark in socket storage, cgroup/post_bind: refused", "", "")               \
	X(NETNS, "netns", "listener by network namespace: refused where there is none", "", "")    \
	X(INBOUND, "inbound", "`default: deny`", "-",                                              \
	  "a target that was talked into connecting back, from another port than its own, reaches " \
	  "a server that the agent runs: use `default: deny`, or deny the statements that can")    \
	X(CGROUP, "cgroup", "ancestors of the socket's cgroup; raw_tp/cgroup_mkdir", "", "")       \
	X(UID, "uid", "`cgroup:` instead, or no_new_privs of `tidegate agent run`", "-",           \
	  "an agent that is known by `uid:` alone is somebody else behind a set-user-id program "  \
	  "(sudo, at, newuidmap): know it by `cgroup:`, or start it with `tidegate agent run`")

enum kern_way {
#define X(name, label, by, since, gap) KERN_WAY_##name,
	KERN_WAYS(X)
#undef X
		KERN_WAY_COUNT
};

struct kern_way_words {
	const char *label, *by, *since, *gap;
};
extern const struct kern_way_words kern_way_words[KERN_WAY_COUNT];

/* Connections that are older or were passed on can be closed (6.5), not only cut. */
bool kern_can_sweep(void);
/* By what this kernel has. */
bool kern_way_closed(enum kern_way way);
struct kern;
/* It is not, or this kernel refused the program that would close it. */
bool kern_way_open(const struct kern *k, enum kern_way way);

#endif
