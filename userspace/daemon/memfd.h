/* SPDX-License-Identifier: MIT */
/* Sealed memory files: how the parent hands text to its children. */
#ifndef TIDEGATE_DAEMON_MEMFD_H
#define TIDEGATE_DAEMON_MEMFD_H

#include "base/compiler.h"
#include "base/slice.h"

/* A sealed, read-only copy of @s, or negative errno. */
MUST_CHECK int memfd_from(const char *name, struct slice s);
/* Zeroed shared memory of @n bytes, or negative errno. */
MUST_CHECK int memfd_shared(const char *name, size_t n);
/* Maps all of @fd read-only; an empty file gives an empty slice. */
MUST_CHECK int memfd_map(int fd, struct slice *ret);
void memfd_unmap(struct slice s);

#endif
