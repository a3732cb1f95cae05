/* SPDX-License-Identifier: MIT */
/* Listening sockets: made by the parent, accepted from by all workers. */
#ifndef TIDEGATE_DAEMON_LISTENERS_H
#define TIDEGATE_DAEMON_LISTENERS_H

#include "daemon/parent.h"

/* The pair on 127.0.0.1 and ::1 that steered connections go to, on one free port. */
MUST_CHECK int listeners_steered(struct parent *p);
/* One for each target with listen:; those that are there already are kept. */
MUST_CHECK int listeners_gateways(struct parent *p);
/* All of them to a worker that has just started. */
void listeners_give(struct parent *p, struct child *c);
/* A listening TCP socket, or negative errno. */
MUST_CHECK int listener_open(const char *address);

#endif
