/* SPDX-License-Identifier: MIT */
/*
 * Turns this process into an agent: what `tidegate agent run` does between the command line and
 * exec. It knows no configuration and no maps. Every step that fails is an end: nothing is
 * started with less than all of it.
 */
#ifndef TIDEGATE_CTL_LAUNCH_H
#define TIDEGATE_CTL_LAUNCH_H

#include <sys/types.h>

#include "base/buf.h"
#include "base/compiler.h"

enum { LAUNCH_FDS_MAX = 64 };

/* What the filter lets through although it can lead around the gate. */
struct launch_allow {
	bool io_uring;	 /* makes sockets without socket(2) */
	bool namespaces; /* own user, network, ... namespaces */
	bool ptrace;	 /* into other processes of the same uid */
};

struct launch {
	int cgroup_fd;	    /* directory to join; -1: none, the agent is known by its uid */
	const char *cgroup; /* for messages */
	uid_t uid;
	gid_t gid;
	const char *user; /* whose groups it gets; NULL: none but gid */
	int pass_fds[LAUNCH_FDS_MAX];
	size_t npass_fds;
	bool stdio_sockets; /* AF_UNIX ones, of a service manager */
	struct launch_allow allow;
};

/*
 * Joins, closes, drops and filters; the caller goes on with exec. 0, or negative errno and the
 * step that failed in @error. After an error the process may be half an agent: end it.
 */
MUST_CHECK int launch_enter(const struct launch *l, struct buf *error);

/* The descriptors alone: before anything is changed. -EPERM: one of them must not go along. */
MUST_CHECK int launch_check_fds(const struct launch *l, struct buf *error);

/* --- launch_filter.c: 0 or negative errno. Needs no_new_privs, which it sets. */
MUST_CHECK int launch_filter(const struct launch_allow *allow);

/* --- launch_domain.c: 0, also on a kernel without Landlock, or negative errno. After the filter. */
MUST_CHECK int launch_domain(void);

#endif
