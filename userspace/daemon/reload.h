/* SPDX-License-Identifier: MIT */
/*
 * The configuration of a daemon that runs. A new one is in force as a whole or not at all,
 * but for values that a running daemon cannot change (config/cfgheld.h): these stay, and each
 * is named until it is in effect or taken back.
 */
#ifndef TIDEGATE_DAEMON_RELOAD_H
#define TIDEGATE_DAEMON_RELOAD_H

#include "daemon/parent.h"

/* Parses the file, and keeps its exact text for the children in *ret_fd. */
MUST_CHECK int reload_read(struct parent *p, struct config **ret, int *ret_fd, struct buf *error);
/* At a start: p->cfg is what values are held from that only a start changes. */
MUST_CHECK int reload_remember(struct parent *p);
/* In a binary that took over: p->cfg from p->cfg_fd, with what p->start_fd holds. */
MUST_CHECK int reload_take(struct parent *p, struct buf *error);
/* Warns where more is allowed than descriptors are enough for. */
void reload_check_limits(const struct parent *p);

/* 0 or -EINVAL with messages in @error; the old configuration stays then. */
MUST_CHECK int parent_reload(struct parent *p, struct buf *error, bool *ret_changed);
void reload_by_signal(struct parent *p);

/* What of the file is not in effect: [{"key", "text", "takes"}]; empty: all is. */
json_t *reload_pending_json(const struct parent *p);

/* Reads @fd, a memory file with a text of a configuration. */
MUST_CHECK int reload_parse(int fd, const char *name, struct config **ret, struct buf *error);

#endif
