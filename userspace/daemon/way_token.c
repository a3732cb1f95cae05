/* SPDX-License-Identifier: MIT */
#include "daemon/way_token.h"

#include <stdlib.h>
#include <string.h>

#include "base/log.h"

enum { WAY_TOKEN_MAX = 16000 }; /* as GRANTED_TEXT_MAX of keyd */

/* Only access is given for a time in which one can log in. */
bool way_token_wanted(const struct config *c, const struct idp_ask *q, const struct cfg_way *w)
{
	const struct cfg_target *t = config_target(c, slice_str(q->target));

	return t && t->login && t->login->grant_token && !q->effect[0] &&
	       strcmp(t->login->grant_token, w ? w->name : "idp") == 0;
}

bool way_token_keep(struct way_token *t, const struct config *c, const struct idp_ask *q,
		    const struct cfg_way *w, const struct oidc_result *r)
{
	if (!r->token.n || !way_token_wanted(c, q, w))
		return true;
	if (r->token.n > WAY_TOKEN_MAX) {
		log_error("approval %s: the token is too long for a password", w ? w->name : "idp");
		return true; /* the login will say that there is none */
	}
	way_token_drop(t);
	t->text = strndup((const char *)r->token.p, r->token.n);
	t->user = strdup(r->subject);
	t->ttl_ms = r->ttl_ms;
	return t->text && t->user;
}

void way_token_hand(const struct way_token *t, struct ipc *ipc, uint64_t id)
{
	if (!t->text)
		return;
	ipc_begin(ipc, IPC_GRANT_TOKEN, id);
	ipc_put_str(ipc, t->user);
	ipc_put_u64(ipc, t->ttl_ms);
	ipc_put_bytes(ipc, slice_str(t->text));
	ipc_send(ipc);
}

void way_token_drop(struct way_token *t)
{
	if (t->text)
		explicit_bzero(t->text, strlen(t->text));
	free(t->text);
	free(t->user);
	*t = (struct way_token){.text = NULL};
}
