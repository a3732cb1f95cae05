/* SPDX-License-Identifier: MIT */
/*
 * A small PostgreSQL client for the daemon's own look-ups: one connection, a
 * list of simple queries, rows to a callback. Non-blocking, on the worker's
 * loop. Passwords are keyd's: it answers the server's challenge. Everything the server
 * sends is bounded and strictly parsed; it is the target that the agent uses too,
 * and may be hostile.
 */
#ifndef TIDEGATE_DAEMON_PGCLIENT_H
#define TIDEGATE_DAEMON_PGCLIENT_H

#include "daemon/ipc.h"

struct pgclient;
struct worker;

struct pgclient_ops {
	/* The text of query @i; NULL: there are no more. */
	const char *(*query)(void *ctx, unsigned i);
	/* A row of query @i; a NULL value has p == NULL. Not 0: give up. */
	int (*row)(void *ctx, unsigned i, const struct slice *values, unsigned n);
	/* Once: @error NULL if all queries were answered. The client is freed after it. */
	void (*done)(void *ctx, const char *error);
};

/*
 * @fd: connecting or connected, taken over. @target names the login to keyd. Strings are
 * borrowed until done().
 */
MUST_CHECK int pgclient_start(struct worker *w, int fd, const char *target, const char *user,
			      const char *database, const struct pgclient_ops *ops, void *ctx,
			      struct pgclient **ret);
/* Frees without calling done(). */
void pgclient_stop(struct pgclient *c);
/* keyd's answer, if @m->id is the one that is waited for; true if so. */
bool pgclient_key(struct pgclient *c, struct ipc_msg *m);

#endif
