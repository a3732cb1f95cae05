/* SPDX-License-Identifier: MIT */
/* Starting, feeding, restarting and handing over the child processes. */
#ifndef TIDEGATE_DAEMON_CHILDREN_H
#define TIDEGATE_DAEMON_CHILDREN_H

#include "daemon/parent.h"

MUST_CHECK int children_start(struct parent *p);
void children_reaped(struct parent *p);
void children_config(struct parent *p);
void child_send_config(struct child *c);
void children_stop(struct parent *p);
bool children_gone(const struct parent *p);
/* 0, or -ENOENT and @error: an account that children of this configuration need does not exist. */
MUST_CHECK int children_accounts(const struct config *cfg, struct buf *error);
/* Uids that the children run as, as far as their accounts exist; returns how many. */
size_t children_uids(const struct parent *p, uint32_t *uids, size_t cap);
/* The worker is to complete a recording once it is up. */
void child_add_orphan(struct child *c, const struct uuid *session, uint16_t reason);
/* --- for crew.c and children_hand.c */
void child_init(struct parent *p, struct child *c, enum role role, uint32_t index);
/* The same, with the memory that it counts in. */
MUST_CHECK int child_prepare(struct parent *p, struct child *c, enum role role, uint32_t index);
MUST_CHECK int child_map_stats(struct child *c);
/* If it cannot be started, that is said, and tried again. */
void child_start_late(struct child *c);
/* --- for upgrades */
struct hand;
/* Slots, journals and stats for as many new workers as are configured: 0, or all as it was. */
MUST_CHECK int children_reserve(struct parent *p, struct buf *error);
void children_unreserve(struct parent *p);
/* Nothing waits to be sent to any of them. */
MUST_CHECK bool children_flushed(struct parent *p);
void children_save(struct parent *p, struct hand *h, json_t *root);
/* Those of the binary before, retired; and the new ones into what was reserved. */
void children_take(struct parent *p, struct hand *h, const json_t *root);
MUST_CHECK int children_start_new(struct parent *p);
/* Slot number in a state; NULL and a failure: no such worker. */
/* A number for authd, or one of p->old, in the state; and the process that it means there. */
uint64_t child_key(const struct child *c);
struct child *child_by_key(struct parent *p, uint64_t key);
struct child *child_by_slot(struct parent *p, struct hand *h, uint64_t slot);
/* A worker is up: if all new ones are, the old ones accept no more. */
void children_retire(struct parent *p);
/* Its successor is up: the others of before take nothing new. */
void children_retire_old(struct parent *p, enum role role);
/* Once a second: those that nobody asks any more are ended. */
void children_tick(struct parent *p);
uint32_t children_retired(const struct parent *p);

#endif
