/* SPDX-License-Identifier: MIT */
/*
 * The sockets for administrators, control and metrics, over a reload: what moves is opened
 * first, so that a place where nobody can listen refuses the new configuration.
 */
#ifndef TIDEGATE_DAEMON_ADMINSOCK_H
#define TIDEGATE_DAEMON_ADMINSOCK_H

#include "daemon/parent.h"

/* 0, or negative errno and @error: nothing has changed. */
MUST_CHECK int adminsock_prepare(struct parent *p, const struct config *fresh, struct buf *error);
void adminsock_abort(struct parent *p, const struct config *fresh);
/* p->cfg is in force, instead of @old. */
void adminsock_finish(struct parent *p, const struct config *old);

/* A listening unix socket in the run directory, or negative errno (logged). */
MUST_CHECK int control_listen(const char *dir, const char *name, mode_t mode, const char *group);
/* Who may open the control socket: the group, if there is one. */
mode_t control_mode(const struct config *c);
/* The same descriptor, and what waits for it, from now on is @fd's socket. */
void control_use(struct parent *p, int fd);
/* Clients that were of another group go. */
void control_recheck(struct parent *p);
void metrics_use(struct parent *p, int fd);
/* @fd -1: none any more. */
void metrics_use_tcp(struct parent *p, int fd);

#endif
