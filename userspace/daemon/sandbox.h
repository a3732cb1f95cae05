/* SPDX-License-Identifier: MIT */
/*
 * What a child may still do once it is set up: no new privileges, no files
 * (Landlock), and a list of system calls (seccomp); everything else kills the
 * process, and the parent says so. A build with LeakSanitizer allows what that needs.
 */
#ifndef TIDEGATE_DAEMON_SANDBOX_H
#define TIDEGATE_DAEMON_SANDBOX_H

#include <sys/types.h>

#include <stdbool.h>

#include "base/compiler.h"

/* Gives up root for good; between fork and exec, or later in keyd. 0 or negative errno. */
MUST_CHECK int sandbox_drop(uid_t uid, gid_t gid);

MUST_CHECK int sandbox_worker(void);
MUST_CHECK int sandbox_keyd(void);
/* Sockets, no file. */
MUST_CHECK int sandbox_roled(void);
/* named has sockets and look-ups in maps, and no file. */
MUST_CHECK int sandbox_named(void);
/* authd reads certificates and the resolver's configuration. */
MUST_CHECK int sandbox_authd(void);

/* Landlock is in this kernel and enabled. */
bool sandbox_has_landlock(void);

#endif
