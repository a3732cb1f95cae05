/* SPDX-License-Identifier: MIT */
/*
 * A graceful upgrade. The binary that is at the daemon's path now is asked whether it could take
 * over (handover_check()), then executed in the parent's place: the same process, its
 * state in a memory file, its descriptors as they are. New workers take the listeners, which are the
 * same sockets all the time; those of the binary before keep their sessions and end with them.
 */
#ifndef TIDEGATE_DAEMON_UPGRADE_H
#define TIDEGATE_DAEMON_UPGRADE_H

#include <sys/types.h>

#include "daemon/parent.h"

struct hand;

/* --- upgrade.c: the binary that is left */
/*
 * Begins one; its end is control_upgraded(), here with an error or in the new binary.
 * Negative errno with *error: refused at once.
 */
MUST_CHECK int upgrade_begin(struct parent *p, struct buf *error);
/* A process that is no child of children.c has ended. */
void upgrade_reaped(struct parent *p, pid_t pid, int status);

enum { HANDOVER_CFG_FD = 3, HANDOVER_START_FD = 5 };

/* --- handover.c: the state, and the binary that comes */
/* What a binary that takes over from this one must understand. */
void handover_spec(char *dst, size_t cap);
/* Does this binary? False and a reason. */
MUST_CHECK bool handover_accepts(const char *spec, char *why, size_t cap);
/*
 * `tidegated --handover-check SPEC`: the exit code. The configuration in force is descriptor
 * HANDOVER_CFG_FD, that of the start HANDOVER_START_FD, if it is another. Changes nothing.
 */
int handover_check(const char *spec);
/* The state as a memory file, or negative errno. The caller ends @h. */
struct ready;
/* @ready, @said: what the check of the new binary has loaded, and said. */
MUST_CHECK int handover_save(struct parent *p, struct hand *h, const struct ready *ready,
			     struct slice said);
/* Instead of a start: goes on with the state in @fd. */
MUST_CHECK int handover_take(struct parent *p, int fd);

/* --- of parent.c: parts of a start */
/* A directory of root that nobody else can write to, made if need be. */
MUST_CHECK int parent_make_dir(const char *path, mode_t mode);
MUST_CHECK int parent_make_dirs(struct parent *p);
void parent_start_audit(struct parent *p);
struct kern_progs;
/* @ready: loaded before, or NULL. */
void parent_try_kernel(struct parent *p, const struct kern_progs *ready);

/* --- of targets_hand.c, control.c and metrics.c; the other modules' are in their headers */
void targets_hand(struct parent *p, struct hand *h, json_t *root);
/*
 * Over a restart connections wait with the ids that the daemon before gave: its agents keep theirs
 * (those of targets are in their own file), and new ones get none that was in the maps. So a
 * name whose id was lost is unknown, and refused, but never somebody else.
 */
void targets_ids_apart(struct parent *p);
void agents_take_ids(struct parent *p);
MUST_CHECK int agents_save_ids(struct parent *p);
/* Before targets_apply(), which then looks at no file of an earlier daemon. */
void targets_take(struct parent *p, struct hand *h, const json_t *root);
void control_save(struct parent *p, struct hand *h, json_t *root);
MUST_CHECK int control_take(struct parent *p, struct hand *h, const json_t *root);
void metrics_save(struct parent *p, struct hand *h, json_t *root);
MUST_CHECK int metrics_take(struct parent *p, struct hand *h, const json_t *root);

#endif
