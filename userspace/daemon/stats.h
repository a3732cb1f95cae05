/* SPDX-License-Identifier: MIT */
/*
 * Counters of a worker, in a page that it shares with the parent: the parent
 * reads them for metrics and `status` without a message. One writer.
 */
#ifndef TIDEGATE_DAEMON_STATS_H
#define TIDEGATE_DAEMON_STATS_H

#include <stdint.h>

#include "base/reason.h"
#include "record/journal.h"

struct worker_stats {
	uint64_t reason[TG_R_COUNT];
	uint64_t accepted, sessions, sessions_ended, commands, held, masked_values, detector_hits;
	uint64_t catalog_loads, glitches;
	uint64_t sql_hits, sql_misses, syncs;
	struct journal_stats journal;
};

#endif
