/* SPDX-License-Identifier: MIT */
#include "daemon/recheck_ask.h"

#include <errno.h>
#include <string.h>

#include "base/reason.h"
#include "daemon/ways.h"

enum { ASK_BYTES = 64 << 10 };

static uint64_t interval(const struct config *c, const struct cfg_way *w)
{
	return w ? w->recheck_ms : c->idp ? c->idp->recheck_ms : 0;
}

bool recheck_hand(struct ipc *ipc, const struct config *c, uint64_t id, const struct idp_ask *q,
		  const struct cfg_way *w, const struct oidc_result *r)
{
	struct slice token = w && w->kind == WAY_INTROSPECTION ? q->token : r->token;

	/* A statement is approved once: there is nothing that could be taken back. */
	if (!interval(c, w) || q->effect[0])
		return true;
	if (!token.n || token.n > RECHECK_TOKEN_MAX)
		return false;
	ipc_begin(ipc, IPC_RECHECK_TOKEN, id);
	ipc_put_str(ipc, w ? w->name : "idp");
	ipc_put_bytes(ipc, token);
	ipc_send(ipc);
	return true;
}

static void answer(struct ipc *ipc, uint64_t id, uint16_t reason, uint64_t ttl_ms, const char *words)
{
	ipc_begin(ipc, IPC_RECHECK, id);
	ipc_put_u32(ipc, reason);
	ipc_put_u64(ipc, ttl_ms);
	ipc_put_str(ipc, words);
	ipc_send(ipc);
}

static void on_done(void *ctx, uint64_t id, const struct oidc_result *r)
{
	answer(ctx, id, r->reason, r->ttl_ms, r->detail);
}

void recheck_ask(struct ipc *ipc, const struct config *c, struct oidc *o, struct ipc_msg *m)
{
	struct slice way = ipc_get_str(m), agent = ipc_get_str(m), scope = ipc_get_str(m);
	struct slice token = ipc_get_bytes(m);
	const struct cfg_way *w = c ? config_way(c, way) : NULL;
	struct oidc_ask ask = {.flow = OIDC_RECHECK, .token = token};
	struct arena texts;
	int err = -ENOENT;

	if (!ipc_end(m)) {
		m->bad = true;
		return;
	}
	arena_init(&texts, ASK_BYTES);
	ask.agent = arena_strdup(&texts, agent);
	ask.scope = scope.n || !w || !w->scope ? arena_strdup(&texts, scope) : w->scope;
	if (!ask.agent || !ask.scope)
		err = -ENOMEM;
	else if (o)
		err = oidc_request(o, m->id, &ask, on_done, ipc);
	arena_done(&texts);
	if (err)
		answer(ipc, m->id, err == -ENOENT ? TG_R_IDP_UNREACHABLE : TG_R_INTERNAL, 0,
		       err == -ENOENT ? "no identity provider is configured" : strerror(-err));
}
