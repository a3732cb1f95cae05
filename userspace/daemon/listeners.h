/* SPDX-License-Identifier: MIT */
/* Listening sockets: made by the parent, accepted from by all workers. */
#ifndef TIDEGATE_DAEMON_LISTENERS_H
#define TIDEGATE_DAEMON_LISTENERS_H

#include "daemon/parent.h"

/* The pair on 127.0.0.1 and ::1 that steered connections go to, on one free port. */
MUST_CHECK int listeners_steered(struct parent *p);

/*
 * One for each target of @cfg with `listen`. Those at an address that is wanted already are
 * kept, whichever target they were for. A failure is in @error, and nothing is changed. Then
 * either both of what follows, before and after the workers get @cfg, or listeners_abort().
 */
MUST_CHECK int listeners_prepare(struct parent *p, const struct config *cfg, struct buf *error);
/* Those that are not wanted any more are closed, here and in the workers; sessions live on. */
void listeners_close_old(struct parent *p);
void listeners_open_new(struct parent *p);
void listeners_abort(struct parent *p);

/* All of them to a worker that has just started. */
void listeners_give(struct parent *p, struct child *c);
/* A listening TCP socket, or negative errno. */
MUST_CHECK int listener_open(const char *address);

#endif
