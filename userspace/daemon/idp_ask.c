/* SPDX-License-Identifier: MIT */
#include "daemon/idp_ask.h"

#include "base/arena.h"

void idp_ask_put(struct ipc *ipc, const struct idp_ask *a)
{
	ipc_put_str(ipc, a->ways);
	ipc_put_str(ipc, a->scope);
	ipc_put_str(ipc, a->agent);
	ipc_put_str(ipc, a->target);
	ipc_put_str(ipc, a->effect);
	ipc_put_str(ipc, a->user);
	ipc_put_str(ipc, a->database);
	ipc_put_str(ipc, a->request);
	ipc_put_str(ipc, a->session);
	ipc_put_bytes(ipc, slice_of(a->digest, a->has_digest ? sizeof(a->digest) : 0));
	ipc_put_u64(ipc, a->max_ms);
	ipc_put_u64(ipc, a->hold_ms);
	ipc_put_bytes(ipc, a->token);
	/* Last: they are cut if there is no room. */
	ipc_put_str(ipc, a->text);
	ipc_put_str(ipc, a->facts);
}

static bool text(struct ipc_msg *m, struct arena *a, const char **ret)
{
	*ret = arena_strdup(a, ipc_get_str(m));
	return *ret;
}

bool idp_ask_get(struct ipc_msg *m, struct arena *a, struct idp_ask *ret)
{
	struct slice s;

	*ret = (struct idp_ask){0};
	if (!text(m, a, &ret->ways) || !text(m, a, &ret->scope) || !text(m, a, &ret->agent) ||
	    !text(m, a, &ret->target) || !text(m, a, &ret->effect) || !text(m, a, &ret->user) ||
	    !text(m, a, &ret->database) || !text(m, a, &ret->request) ||
	    !text(m, a, &ret->session))
		return false;
	s = ipc_get_bytes(m);
	ret->has_digest = s.n == sizeof(ret->digest);
	if (ret->has_digest)
		memcpy(ret->digest, s.p, s.n);
	else if (s.n)
		m->bad = true;
	ret->max_ms = ipc_get_u64(m);
	ret->hold_ms = ipc_get_u64(m);
	s = ipc_get_bytes(m);
	if (s.n) {
		uint8_t *copy = arena_alloc(a, s.n);

		if (!copy)
			return false;
		memcpy(copy, s.p, s.n);
		ret->token = slice_of(copy, s.n);
	}
	return text(m, a, &ret->text) && text(m, a, &ret->facts);
}
