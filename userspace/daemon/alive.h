/* SPDX-License-Identifier: MIT */
/*
 * Whether the process that made a connection lives: one pidfd for each such process. When it ends
 * and its socket lives on elsewhere (in a child, or passed on), the session is taken away.
 */
#ifndef TIDEGATE_DAEMON_ALIVE_H
#define TIDEGATE_DAEMON_ALIVE_H

#include "daemon/registry.h"

/* Takes over @pidfd, which is the process of @s, whose start is known. 0 or negative errno. */
MUST_CHECK int alive_watch(struct psession *s, int pidfd);
/* After an upgrade: the process is looked for again. */
void alive_take(struct psession *s);
/* The session closes. */
void alive_drop(struct psession *s);
/* Its process is gone: its worker ends the session, unless the agent's configuration lets it be. */
void alive_tell(struct psession *s);

#endif
