/* SPDX-License-Identifier: MIT */
/* What /proc says of a process. The caller sees to it that it is still the same one. */
#ifndef TIDEGATE_DAEMON_PROCFS_H
#define TIDEGATE_DAEMON_PROCFS_H

#include <sys/types.h>

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/compiler.h"

/* Length without the NUL that is added, or negative errno. */
MUST_CHECK ssize_t procfs_read(uint32_t pid, const char *name, char *dst, size_t cap);
/* When it started, cut to a clock tick. */
MUST_CHECK bool procfs_started(uint32_t pid, uint64_t *ret_boot_ns);
/* Its path in cgroup v2. */
MUST_CHECK bool procfs_cgroup(uint32_t pid, char *dst, size_t cap);
/* Its real uid. */
MUST_CHECK bool procfs_uid(uint32_t pid, uint32_t *ret);
/* Of a clock tick, the unit of start times. */
uint64_t procfs_tick_ns(void);

#endif
