/* SPDX-License-Identifier: MIT */
/*
 * Whether the process that made a connection lives: one pidfd for each such process. When it ends
 * and its socket lives on elsewhere (in a child, or passed on), the session is taken away.
 */
#ifndef TIDEGATE_DAEMON_ALIVE_H
#define TIDEGATE_DAEMON_ALIVE_H

#include "daemon/registry.h"

/*
 * Takes over @pidfd, which is the process of @s, whose start is known; -1: one that alive_started() has just
 * told of. 0 or negative errno.
 */
MUST_CHECK int alive_watch(struct psession *s, int pidfd);
/* True if the process is watched and has not ended: then it is the one that it was. */
bool alive_started(uint32_t pid, uint64_t *ret_boot_ns);
/* Once a second: processes that have had no session for a while are not watched any more. */
void alive_tick(void);
/* After an upgrade: the process is looked for again. */
void alive_take(struct psession *s);
/* The session closes. */
void alive_drop(struct psession *s);
/* Its process is gone: its worker ends the session, unless the agent's configuration lets it be. */
void alive_tell(struct psession *s);

#endif
