/* SPDX-License-Identifier: MIT */
/* Which processes are agents', looked up in /proc and the cgroups; for what events do not tell. */
#ifndef TIDEGATE_DAEMON_NETNS_SCAN_H
#define TIDEGATE_DAEMON_NETNS_SCAN_H

#include <sys/types.h>

#include "daemon/parent.h"

/* A namespace's inode names it as long as somebody holds it. */
struct netns_id {
	dev_t dev;
	ino_t ino;
};

static inline bool netns_id_same(const struct netns_id *a, const struct netns_id *b)
{
	return a->dev == b->dev && a->ino == b->ino;
}

MUST_CHECK int netns_id_of(int fd, struct netns_id *ret);
MUST_CHECK int netns_id_at(const char *path, struct netns_id *ret);

/* The agent whose process this is, or NULL. The innermost cgroup counts, as in the kernel. */
struct pagent *netns_scan_agent(struct parent *p, uint32_t pid);
/* Calls @fn with each process of an agent. */
void netns_scan(struct parent *p, void (*fn)(void *ctx, const struct pagent *a, uint32_t pid),
		void *ctx);

#endif
