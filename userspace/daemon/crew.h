/* SPDX-License-Identifier: MIT */
/*
 * Slots of workers: each has a journal in the state directory. Workers are never changed but
 * replaced: new ones start in free slots, those of before end with their last session.
 */
#ifndef TIDEGATE_DAEMON_CREW_H
#define TIDEGATE_DAEMON_CREW_H

#include "daemon/children.h"

/* At a start: journals for as many workers as are configured, and those of an earlier run. */
MUST_CHECK int crew_open(struct parent *p);
/* Its journal is not needed any more: the slot is free. */
void crew_release(struct child *c);
/* Recordings that a killed daemon left. Those that no journal knows are completed by any worker. */
void crew_find_orphans(struct parent *p);
void crew_add_orphan(struct parent *p, const struct orphan *o);
/* A file that was made for a session of which nothing is to be said: true if it was one. */
bool crew_drop_empty(const struct parent *p, const struct uuid *session);
void crew_tick(struct parent *p);
/* With a new configuration: other workers, if it wants more, fewer or larger journals. */
void crew_replace(struct parent *p);
/* After a clean stop. */
void crew_tidy(const struct parent *p);

#endif
