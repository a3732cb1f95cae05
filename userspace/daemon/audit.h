/* SPDX-License-Identifier: MIT */
/*
 * The audit log: <state_dir>/audit.jsonl, one JSON object a line, only ever appended to. What the
 * daemon and its operators did, what happened while it was down, what somebody else changed. What agents
 * did is in the recordings. Written by the parent alone; read by `tidegate audit`.
 */
#ifndef TIDEGATE_DAEMON_AUDIT_H
#define TIDEGATE_DAEMON_AUDIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/compiler.h"

struct audit;
struct parent;

/* Events that must not be lost are on the disk when audit_write() returns. */
enum audit_weight { AUDIT_NOTE, AUDIT_SYNC };

/* Opens p->audit. 0 or negative errno; without it every event is logged as an error and counted. */
MUST_CHECK int audit_start(struct parent *p);
void audit_stop(struct parent *p);

/*
 * Appends {"time", "event": @event, ...}; @fmt as for json_pack(), an object. 0, or negative errno:
 * it is not on record (logged and counted here), so who opens the gate must not go on.
 */
int audit_write(struct parent *p, enum audit_weight weight, const char *event, const char *fmt, ...);

/*
 * The same for what @agent caused and nobody decided by hand: of those so many a minute are written
 * (`audit: agent_lines`), the rest is counted by @event and @outcome and told by "audit.left_out".
 * @agent NULL: written in any case.
 */
void audit_write_of(struct parent *p, const char *agent, const char *event, const char *outcome,
		    const char *fmt, ...);
/* Tells what was left out of minutes that are over; with @all of all: before the daemon ends. */
void audit_tick(struct parent *p, bool all);

#endif
