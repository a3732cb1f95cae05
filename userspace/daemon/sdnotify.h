/* SPDX-License-Identifier: MIT */
/*
 * sd_notify(3) without the library: a datagram to $NOTIFY_SOCKET. Nothing is sent where there
 * is no service manager that listens.
 */
#ifndef TIDEGATE_DAEMON_SDNOTIFY_H
#define TIDEGATE_DAEMON_SDNOTIFY_H

#include <stdbool.h>

#include "base/compiler.h"

bool sdnotify_there(void);
/* Lines as in sd_notify(3): "READY=1", "STOPPING=1". */
void sdnotify(const char *fmt, ...) PRINTF(1, 2);
/* With a descriptor, waiting for room for a second: 0 or negative errno. */
MUST_CHECK int sdnotify_fd(int fd, const char *fmt, ...) PRINTF(2, 3);
/* Says that all is well, if a watchdog is set; once a second. */
void sdnotify_alive(void);

#endif
