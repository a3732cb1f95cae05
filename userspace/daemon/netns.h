/* SPDX-License-Identifier: MIT */
/*
 * Network namespaces of agents other than the daemon's own: listeners are made in each
 * when its first agent appears there, and closed when its last is gone, because an
 * open socket would keep the namespace alive.
 */
#ifndef TIDEGATE_DAEMON_NETNS_H
#define TIDEGATE_DAEMON_NETNS_H

#include <jansson.h>

#include "daemon/parent.h"

struct hand;
/* The listeners of all other namespaces; after netns_start() of a process that has none. */
void netns_save(struct parent *p, struct hand *h, json_t *root);
/* Before netns_start(). */
void netns_take(struct parent *p, struct hand *h, const json_t *root);
/* The service manager keeps their listeners, see listeners_kept.c. */
void netns_keep(struct parent *p);
/* Once the daemon's own listeners are known to the kernel's maps. */
MUST_CHECK int netns_start(struct parent *p);
void netns_stop(struct parent *p);
/* Agents may have come or gone. */
void netns_reload(struct parent *p);
/* Once a second. */
void netns_tick(struct parent *p);
/* All listeners to a worker that has just started. */
void netns_give(struct parent *p, struct child *c);
/* For `tidegate status`: a list. */
json_t *netns_json(struct parent *p);

/*
 * An unconnected TCP socket in an agent's namespace, for a target with `netns: agent`. 0 and
 * *ret_fd, or the reason: no socket is made where the agent could be root.
 */
MUST_CHECK uint16_t netns_socket(struct parent *p, uint64_t cookie, int family, int *ret_fd);

/*
 * Copies of the descriptors of agents' namespaces, from the @from'th on: how many. They keep
 * the namespaces alive until the caller closes them.
 */
size_t netns_fds(struct parent *p, size_t from, int *ret_fds, size_t max);

/*
 * Runs @fn in a thread that is in the namespace @nsfd, and waits for it: descriptors that
 * it opens are the caller's, the namespace never is. -errno of getting there, or fn's result.
 */
MUST_CHECK int netns_run(int nsfd, int (*fn)(void *ctx), void *ctx);

#endif
