/* SPDX-License-Identifier: MIT */
/*
 * What somebody else does to the kernel side: looked for once a second, put right where that is
 * safe, and told in the log, the audit log, `status` and the metrics.
 */
#ifndef TIDEGATE_DAEMON_INTEGRITY_H
#define TIDEGATE_DAEMON_INTEGRITY_H

#include <jansson.h>

#include "kern/kern_watch.h"

struct parent;
struct integrity;

/* When targets and agents are in the maps. Nothing without BPF. */
void integrity_start(struct parent *p);
void integrity_tick(struct parent *p);
void integrity_stop(struct parent *p);
struct hand;
/* What was found so far, over an upgrade; _take() after integrity_start(). */
void integrity_save(struct parent *p, struct hand *h, json_t *root);
void integrity_take(struct parent *p, struct hand *h, const json_t *root);

/* For the status: {changes, repaired, last, faults: [{fault, where, text, since}]}; null without BPF. */
json_t *integrity_json(const struct parent *p);
/* Adds a line for each fault that stays, and one for the others of the last hour. */
void integrity_warnings(const struct parent *p, json_t *list);
/* How often each was found; NULL without BPF. */
const uint64_t *integrity_counts(const struct parent *p);

#endif
