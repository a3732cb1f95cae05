/* SPDX-License-Identifier: MIT */
/*
 * The parent's orders to roled: what is to be done with which role on which server. roled has
 * the administrator's login and speaks with the server; it decides nothing.
 */
#ifndef TIDEGATE_DAEMON_ROLE_JOB_H
#define TIDEGATE_DAEMON_ROLE_JOB_H

#include "daemon/ipc.h"

enum role_job_kind { ROLE_JOB_MAKE, ROLE_JOB_REKEY, ROLE_JOB_DROP, ROLE_JOB_SWEEP };

enum role_job_error {
	ROLE_OK,
	ROLE_NO_LOGIN, /* the administrator's credential cannot be had */
	ROLE_NO_SERVER, /* it could not be asked: nothing has been done */
	ROLE_REFUSED,  /* by the server: nothing has been done */
	ROLE_UNKNOWN,  /* the connection was lost: it may have been done */
	ROLE_NOT_OURS, /* it has not our mark */
};

struct role_job {
	enum role_job_kind kind;
	struct slice target, credential, upstream, database, role; /* upstream as a session's */
	struct slice verifier; /* MAKE, REKEY */
	struct slice mark;     /* MAKE: its comment; DROP, SWEEP: what that begins with */
	uint64_t ttl_ms;       /* MAKE: it can log in so long */
};

void role_job_put(struct ipc *ipc, const struct role_job *j);
MUST_CHECK bool role_job_get(struct ipc_msg *m, struct role_job *ret);

#endif
