/* SPDX-License-Identifier: MIT */
/*
 * The socket on which the provider's events arrive. It is the parent's, so that nobody else can
 * take the port while authd is started again; authd reads what arrives.
 */
#ifndef TIDEGATE_DAEMON_EVENTSOCK_H
#define TIDEGATE_DAEMON_EVENTSOCK_H

#include "daemon/parent.h"

struct hand;

/* As the configuration says now. */
void eventsock_open(struct parent *p);
/* To authd, which has just been started. */
void eventsock_give(struct parent *p);
void eventsock_save(struct parent *p, struct hand *h, json_t *root);
void eventsock_take(struct parent *p, struct hand *h, const json_t *root);

#endif
