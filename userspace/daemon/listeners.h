/* SPDX-License-Identifier: MIT */
/* Listening sockets: made by the parent, accepted from by all workers. */
#ifndef TIDEGATE_DAEMON_LISTENERS_H
#define TIDEGATE_DAEMON_LISTENERS_H

#include "daemon/parent.h"

/*
 * The daemon's sockets of one network namespace, which is the calling thread's: on 127.0.0.1
 * and ::1, on one free port. What every namespace must have is opened here, told to the kernel's
 * maps in _steer() and to a worker, or named, in _give().
 */
MUST_CHECK int listener_set_open(struct listener_set *ret);
void listener_set_close(struct listener_set *s);
MUST_CHECK int listener_set_steer(struct parent *p, const struct listener_set *s);
/* @netns: the cookie by which netns.c ends them; 0: never. */
void listener_set_give(const struct listener_set *s, struct child *c, uint64_t netns);

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

struct hand;
json_t *listener_set_save(struct hand *h, const struct listener_set *s);
/* At least one socket, or a failure. */
void listener_set_take(struct hand *h, const json_t *o, struct listener_set *ret);
/* Those of targets. */
void listeners_save(struct parent *p, struct hand *h, json_t *root);
void listeners_take(struct parent *p, struct hand *h, const json_t *root);

/* --- listeners_kept.c: what the service manager keeps from one daemon to the next, see fdstore.h */
/* Cookie of the daemon's own network namespace. */
MUST_CHECK int listeners_netns(uint64_t *ret);
/*
 * The set of @netns that was kept. False: there is none, or it is not the one that the kernel's
 * maps have (said, and closed). @p->kern must be there, and its maps as they were.
 */
MUST_CHECK bool listener_set_kept(struct parent *p, uint64_t netns, struct listener_set *ret);
/* The cookie of the next namespace that has one which was not asked for yet. */
MUST_CHECK bool listener_set_next_kept(struct parent *p, uint64_t *ret_netns);
void listener_set_keep(struct parent *p, const struct listener_set *s, uint64_t netns);
void listener_set_forsake(struct parent *p, uint64_t netns);
/* A target's that was kept, at this address; -1: none. */
MUST_CHECK int gateway_kept(struct parent *p, const struct sockaddr_storage *ss);
void gateway_keep(struct parent *p, int fd);
void gateway_forsake(struct parent *p, int fd);
/* In listeners.c: of all targets. */
void gateways_keep(struct parent *p);
/* All there are; those that are kept already are no matter. */
void listeners_keep(struct parent *p);

/* All of them to a worker that has just started. */
void listeners_give(struct parent *p, struct child *c);
/* A listening TCP socket, or negative errno. */
MUST_CHECK int listener_open(const char *address);

#endif
