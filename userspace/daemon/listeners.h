/* SPDX-License-Identifier: MIT */
/* Listening sockets: made by the parent, accepted from by all workers. */
#ifndef TIDEGATE_DAEMON_LISTENERS_H
#define TIDEGATE_DAEMON_LISTENERS_H

#include "daemon/parent.h"

/*
 * The daemon's sockets of one network namespace, which is the calling thread's: on 127.0.0.1
 * and ::1, on one free port. What every namespace must have is opened here, told to the kernel's
 * maps in _steer() and to a worker in _give().
 */
MUST_CHECK int listener_set_open(struct listener_set *ret);
void listener_set_close(struct listener_set *s);
MUST_CHECK int listener_set_steer(struct parent *p, const struct listener_set *s);
/* @netns: the cookie by which netns.c ends them; 0: never. */
void listener_set_give(const struct listener_set *s, struct child *c, uint64_t netns);
/* One for each target with listen:; those that are there already are kept. */
MUST_CHECK int listeners_gateways(struct parent *p);
/* All of them to a worker that has just started. */
void listeners_give(struct parent *p, struct child *c);
/* A listening TCP socket, or negative errno. */
MUST_CHECK int listener_open(const char *address);

#endif
