/* SPDX-License-Identifier: MIT */
/*
 * The parent's side of a credential's program: it is run under an account of its own, with
 * no descriptor but the pipe it writes to, and the pipe goes to keyd unread.
 */
#ifndef TIDEGATE_DAEMON_PLUGIN_H
#define TIDEGATE_DAEMON_PLUGIN_H

#include <sys/types.h>

#include "base/slice.h"

struct parent;

/* keyd wants the secret of @credential; it is told when the program has ended. */
void plugin_run(struct parent *p, struct slice credential);
/* A child that is none of the roles. */
void plugin_reaped(struct parent *p, pid_t pid, int status);

#endif
