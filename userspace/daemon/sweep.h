/* SPDX-License-Identifier: MIT */
/*
 * Closes agents' connections that nothing has judged, and logs them: in the daemon's network
 * namespace and in those where agents are known to be.
 */
#ifndef TIDEGATE_DAEMON_SWEEP_H
#define TIDEGATE_DAEMON_SWEEP_H

#include "daemon/parent.h"

/* After a change of agents, rules or targets: when it returns it is done. */
void sweep_now(struct parent *p);
/*
 * Every few seconds, for what is carried or passed to agents meanwhile: in a thread, because it
 * walks all descriptors of the host. Nothing is done while there are no agents.
 */
void sweep_start(struct parent *p);
/* Waits for the thread: it uses p->kern. */
void sweep_stop(struct parent *p);

#endif
