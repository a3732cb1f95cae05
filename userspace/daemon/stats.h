/* SPDX-License-Identifier: MIT */
/*
 * Counters of a worker, in a page that it shares with the parent: the parent
 * reads them for metrics and `status` without a message. One writer.
 */
#ifndef TIDEGATE_DAEMON_STATS_H
#define TIDEGATE_DAEMON_STATS_H

#include <stddef.h>
#include <stdint.h>

#include "base/reason.h"
#include "record/journal.h"

/*
 * A parent reads the pages of workers of the binary before: fields are only added, at
 * the end of each part, whose places are fixed. What an older worker does not have is zero.
 */
enum { STATS_BYTES = 8192 };

struct worker_stats {
	uint64_t accepted, sessions, sessions_ended, commands, held, masked_values, detector_hits;
	uint64_t catalog_loads, glitches;
	uint64_t sql_hits, sql_misses, syncs;
	_Alignas(512) struct journal_stats journal;
	_Alignas(1024) uint64_t reason[TG_R_COUNT];
};

_Static_assert(offsetof(struct worker_stats, journal) == 512 &&
		       offsetof(struct worker_stats, reason) == 1024 &&
		       sizeof(struct worker_stats) <= STATS_BYTES,
	       "the places of the parts are fixed");

#endif
