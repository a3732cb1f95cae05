/* SPDX-License-Identifier: MIT */
/*
 * The accelerator, seen from user space: is it loaded, and what does this very kernel make
 * of it. Nothing else depends on it.
 */
#ifndef TIDEGATE_KERN_KERN_ACCEL_H
#define TIDEGATE_KERN_KERN_ACCEL_H

#include "base/compiler.h"
#include "base/jsonw.h"
#include "kern/kern_rows.h"

struct kern;

/*
 * Which ends redirect. "Replies alone" is not offered: it is the riskier half. FALLEN is what
 * either becomes when both ends are back on TCP: still enrolled, which shows in places.
 */
enum kern_accel_config {
	KERN_ACCEL_PLAIN,
	KERN_ACCEL_REQUESTS,
	KERN_ACCEL_BOTH,
	KERN_ACCEL_FALLEN,
	KERN_ACCEL_CONFIGS
};

enum { KERN_SELFTEST_ROWS = 48 };

/* What the calls of kern_rows did on private connections, by configuration. */
struct kern_selftest {
	char why[160]; /* it could not be run, or not to its end; empty: it was */
	unsigned n;
	struct {
		const struct kern_row *row;
		char seen[KERN_ACCEL_CONFIGS][KERN_ROW_TEXT];
	} rows[KERN_SELFTEST_ROWS];
};

/* Why the programs are not there; NULL: they are. */
const char *kern_accel_missing(const struct kern *k);

/*
 * Takes about a second; blocks. Uses a copy of the programs on sockets of its own, in a child
 * process. Root; may be called from any thread.
 */
void kern_selftest_run(struct kern_selftest *ret);
/* For a process that ends: one that runs is given up at once. */
void kern_selftest_cancel(void);
/* Row @i behaves otherwise than plain TCP, before or after a direction has fallen back. */
bool kern_selftest_differs(const struct kern_selftest *t, unsigned i, enum kern_accel_config c);
/* How many rows do; with @integrity only those where bytes would be lost or out of order. */
unsigned kern_selftest_count(const struct kern_selftest *t, enum kern_accel_config c,
			     bool integrity);
/* Names of those rows, with commas; cut with "..." if they do not fit. */
void kern_selftest_names(const struct kern_selftest *t, enum kern_accel_config c, bool integrity,
			 char *dst, size_t cap);

#endif
