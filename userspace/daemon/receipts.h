/* SPDX-License-Identifier: MIT */
/*
 * Decisions on their way to keyd and back, signed. keyd may be started again meanwhile: then it
 * is asked again, for a while.
 */
#ifndef TIDEGATE_DAEMON_RECEIPTS_H
#define TIDEGATE_DAEMON_RECEIPTS_H

#include "daemon/parent.h"

/* The number under which decision_signed() tells what came of it; 0: no memory, or too long. */
uint64_t receipts_ask(struct parent *p, const json_t *body);
/* keyd's messages. */
void receipts_key(struct parent *p, struct ipc_msg *m);
void receipts_signed(struct parent *p, struct ipc_msg *m);
void receipts_keyd_ready(struct parent *p);
void receipts_tick(struct parent *p);
/* What is not signed yet fails now. */
void receipts_fail(struct parent *p, int error);

struct hand;
void receipts_save(struct parent *p, struct hand *h, json_t *root);
/* The new keyd is asked for what was not signed yet. */
void receipts_take(struct parent *p, struct hand *h, const json_t *root);

#endif
