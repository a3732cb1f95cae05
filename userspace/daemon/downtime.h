/* SPDX-License-Identifier: MIT */
/*
 * What the kernel side counted while no daemon was there to see: a file in the state directory
 * holds what had been counted when a daemon last looked. It is written through a mapping each second, so it
 * outlives a kill.
 */
#ifndef TIDEGATE_DAEMON_DOWNTIME_H
#define TIDEGATE_DAEMON_DOWNTIME_H

struct parent;

/*
 * The daemon, when it has its listener in the map: puts what was counted since into the log and
 * the audit log. Nothing without BPF.
 */
void downtime_end(struct parent *p);
/* Each second, and when the daemon ends. */
void downtime_tick(struct parent *p);
void downtime_stop(struct parent *p);
/* The process after an upgrade: there was no downtime. */
void downtime_resume(struct parent *p);
/* `tidegated --pin`: counting starts now, unless it goes on from before in this boot. */
void downtime_pinned(struct parent *p);

#endif
