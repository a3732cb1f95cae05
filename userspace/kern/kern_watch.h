/* SPDX-License-Identifier: MIT */
/*
 * Does what is pinned still guard? Links that were detached or moved, pins that were removed,
 * programs of others that have the last word, map entries that somebody else wrote.
 */
#ifndef TIDEGATE_KERN_KERN_WATCH_H
#define TIDEGATE_KERN_KERN_WATCH_H

#include "kern/kern.h"

/* X(NAME, "label", "what it means") */
#define KERN_FAULTS(X)                                                                  \
	X(LINK_UNPINNED, "link_unpinned", "a pin of ours was removed")                  \
	X(LINK_DETACHED, "link_detached", "a program of ours was detached")             \
	X(LINK_CHANGED, "link_changed", "another program was put into a link of ours")  \
	X(PROG_AFTER, "foreign_program", "a program of somebody else runs after ours")  \
	X(MAP_WEAKENED, "map_weakened", "somebody else took a guard out of a map")      \
	X(MAP_CHANGED, "map_changed", "somebody else wrote a map")                      \
	X(PINS_GONE, "pins_gone", "the whole pin directory was removed or is another one")

enum kern_fault {
#define X(name, label, what) KERN_##name,
	KERN_FAULTS(X)
#undef X
		KERN_FAULT_COUNT
};

struct kern_finding {
	enum kern_fault fault;
	bool repaired;	/* put right again */
	bool stays;	/* it is still so, and will be found again */
	char what[48];	/* the link or map */
	char text[256]; /* for a person */
};

typedef void (*kern_finding_fn)(void *ctx, const struct kern_finding *f);

const char *kern_fault_label(enum kern_fault f);
const char *kern_fault_what(enum kern_fault f);

/*
 * For who relies on it now (`agent run`): all programs are pinned and attached where they
 * belong. 0, or -ENOLINK and which one in *error.
 */
MUST_CHECK int kern_guarding(struct kern *k, struct buf *error);

/*
 * From here on @k knows what it wrote: it holds the links, and keeps a copy of the maps that say
 * who is guarded (not of counters and connections). For the one process that owns the pins, when
 * it has brought them in line with its configuration. -ENOLINK as kern_guarding.
 */
MUST_CHECK int kern_watch_start(struct kern *k, struct buf *error);
/*
 * Once a second: calls @fn for what is not as it was left. What is safe to put right is: links are
 * attached and pinned again, entries that were taken away or changed are written back. Entries that
 * were added (`target add`) are taken over. Nothing to do with kern_agents_refresh, which has the
 * filters of single cgroups; what that finds is told here the next time. -EBUSY: not looked, because
 * another process is loading.
 */
MUST_CHECK int kern_watch_tick(struct kern *k, kern_finding_fn fn, void *ctx);

#endif
