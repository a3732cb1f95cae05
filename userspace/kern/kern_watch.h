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

#endif
