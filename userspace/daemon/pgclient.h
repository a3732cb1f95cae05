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
#include "net/tls.h"

struct pgclient;

/* Whose it is. Strings are borrowed until done(). */
struct pgclient_env {
	uv_loop_t *loop;
	struct ipc *ipc;
	uint64_t *next_ask;	 /* numbers questions to the parent */
	const char *application; /* application_name */
	bool must_ask; /* a server that lets it in without a question is refused */
	const struct tls_start *tls; /* NULL: in clear; read by pgclient_start() alone */
};

struct pgclient_login {
	const char *target; /* keyd's name of the secret */
	const char *user, *database;
};

struct pgclient_ops {
	/* The text of query @i; NULL: there are no more. */
	const char *(*query)(void *ctx, unsigned i);
	/* Query @i may end with an error, and the next one follows; NULL: none may. */
	bool (*may_fail)(void *ctx, unsigned i, const char *sqlstate);
	/* What the server remarks on query @i: its code; NULL: nobody listens. */
	void (*notice)(void *ctx, unsigned i, struct slice sqlstate);
	/* A row of query @i; a NULL value has p == NULL. Not 0: give up. */
	int (*row)(void *ctx, unsigned i, const struct slice *values, unsigned n);
	/*
	 * Once: @error NULL if all queries were answered; @sqlstate "" if it is not the server's
	 * word. The client is freed after it.
	 */
	void (*done)(void *ctx, const char *error, const char *sqlstate);
};

/* @fd: connecting or connected, taken over unless it fails. */
MUST_CHECK int pgclient_start(const struct pgclient_env *env, int fd,
			      const struct pgclient_login *login, const struct pgclient_ops *ops,
			      void *ctx, struct pgclient **ret);
/* Frees without calling done(). */
void pgclient_stop(struct pgclient *c);
/* keyd's answer, if @m->id is the one that is waited for; true if so. */
bool pgclient_key(struct pgclient *c, struct ipc_msg *m);
/* keyd is gone: ends it if that owes an answer. NULL is allowed. */
void pgclient_key_gone(struct pgclient *c);

#endif
