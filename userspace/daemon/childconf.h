/* SPDX-License-Identifier: MIT */
/* The configuration as a child gets it: the parent has checked it already. */
#ifndef TIDEGATE_DAEMON_CHILDCONF_H
#define TIDEGATE_DAEMON_CHILDCONF_H

#include "config/config.h"

/* Takes over @fd, the memfd of IPC_CONFIG. A text that is not accepted ends the process. */
struct config *childconf_take(int fd);

#endif
