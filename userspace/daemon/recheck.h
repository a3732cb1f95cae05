/* SPDX-License-Identifier: MIT */
/*
 * Grants that the identity provider may take back (`recheck`): the token that each of their ways
 * has brought is introspected from time to time. Not active any more: the grant ends. No answer
 * for longer than is tolerated: likewise. The parent has the tokens, so that they outlive
 * authd and an upgrade; it does nothing with them but to have them asked about.
 */
#ifndef TIDEGATE_DAEMON_RECHECK_H
#define TIDEGATE_DAEMON_RECHECK_H

#include "daemon/grants.h"
#include "daemon/hand.h"

/* authd has a token of an approval that is being asked for. Without room for it there will be no grant. */
void recheck_token(struct parent *p, struct ipc_msg *m);
/* authd's answer to IPC_RECHECK. */
void recheck_answer(struct parent *p, struct ipc_msg *m);
/* What an approval has got is from now on the grant's. */
void rechecks_move(struct list *from, struct list *to);
/* Wipes. */
void rechecks_free(struct list *l);
void rechecks_tick(struct parent *p, uint64_t now_boot_ns);
/* For `grant show`: an array. */
json_t *rechecks_json(const struct list *l);
/* For `status`: an array of ways whose grants the provider does not confirm. */
json_t *rechecks_failing_json(struct parent *p);
void rechecks_save(struct hand *h, json_t *o, const struct list *l);
/* A binary that knew nothing of them has left none. */
void rechecks_take(struct hand *h, const json_t *o, struct list *l);

struct recheck_counts {
	uint64_t active, ended, failed, unkept;
};
const struct recheck_counts *recheck_counts(void);

#endif
