/* SPDX-License-Identifier: MIT */
/*
 * What a program can observe of a stream socket, call by call. Each row does one thing with both
 * ends of a fresh connection and says in a few words what came of it; whoever runs the rows over
 * different kinds of connections compares the words. Used by the accelerator's self-test and by
 * the socket-fidelity suite.
 */
#ifndef TIDEGATE_KERN_KERN_ROWS_H
#define TIDEGATE_KERN_KERN_ROWS_H

#include <stdbool.h>
#include <stddef.h>

enum { KERN_ROW_TEXT = 64 };

/* The agent's socket, and that of the server it talks to, or thinks it does. */
struct kern_pair {
	int c, s;
};

struct kern_row_env {
	/* A connection; with @early bytes 'e' sent by the agent's end in connect() itself. */
	int (*pair)(void *ctx, size_t early, struct kern_pair *ret);
	void *ctx;
};

struct kern_row {
	const char *name, *what;
	bool integrity; /* bytes are lost, doubled or out of order if it differs: never acceptable */
	/* Writes what was observed to @out. May not be run beside others: uses signals. */
	void (*run)(const struct kern_row_env *env, char out[KERN_ROW_TEXT]);
};

/* Ends with a row without a name. */
extern const struct kern_row kern_rows[], kern_rows_close[];

#endif
