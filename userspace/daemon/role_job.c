/* SPDX-License-Identifier: MIT */
#include "daemon/role_job.h"

void role_job_put(struct ipc *ipc, const struct role_job *j)
{
	ipc_put_u32(ipc, j->kind);
	ipc_put_slice(ipc, j->credential);
	ipc_put_slice(ipc, j->upstream);
	ipc_put_slice(ipc, j->database);
	ipc_put_slice(ipc, j->role);
	ipc_put_slice(ipc, j->verifier);
	ipc_put_slice(ipc, j->mark);
	ipc_put_u64(ipc, j->ttl_ms);
	ipc_put_slice(ipc, j->target);
}

bool role_job_get(struct ipc_msg *m, struct role_job *ret)
{
	uint32_t kind = ipc_get_u32(m);

	*ret = (struct role_job){.kind = (enum role_job_kind)kind};
	ret->credential = ipc_get_str(m);
	ret->upstream = ipc_get_str(m);
	ret->database = ipc_get_str(m);
	ret->role = ipc_get_str(m);
	ret->verifier = ipc_get_str(m);
	ret->mark = ipc_get_str(m);
	ret->ttl_ms = ipc_get_u64(m);
	ret->target = ipc_get_str(m);
	return ipc_end(m) && kind <= ROLE_JOB_SWEEP;
}
