/* SPDX-License-Identifier: MIT */
/*
 * roled: the process that makes and drops roles. It is the only one that is logged in with an
 * administrator's credential, and no agent's byte ever reaches it. What it does is the parent's
 * word; passwords are keyd's.
 */
#ifndef TIDEGATE_DAEMON_ROLED_H
#define TIDEGATE_DAEMON_ROLED_H

#include "base/buf.h"
#include "base/list.h"
#include "config/config.h"
#include "daemon/pgclient.h"
#include "daemon/role_job.h"
#include "daemon/trust.h"

enum { ROLED_NAMES_MAX = 200, ROLED_JOBS_MAX = 64 };

struct roled {
	uv_loop_t loop;
	struct ipc *ipc;
	struct config *cfg;
	struct trust *trust, *next; /* of it; of the one that comes next */
	struct list jobs; /* struct task */
	uint32_t running;
	uint64_t next_ask;
};

/* Takes an order; starts what may start. */
void roled_take(struct roled *o, struct ipc_msg *m);
/* keyd's answer. */
void roled_key(struct roled *o, struct ipc_msg *m);
/* keyd is gone, and with it what it was asked. */
void roled_key_gone(struct roled *o);

#endif
