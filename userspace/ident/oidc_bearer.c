/* SPDX-License-Identifier: MIT */
#include "ident/oidc_bearer.h"

#include <errno.h>
#include <openssl/crypto.h>

enum { TTL_DEFAULT_MS = 60000 }; /* of one that does not say it */

void bearer_drop(struct oidc *o)
{
	if (o->bearer)
		OPENSSL_cleanse(o->bearer, strlen(o->bearer));
	free(o->bearer);
	o->bearer = NULL;
}

static void show(struct oidc_grant *g)
{
	g->bearer_no = g->o->bearer_no;
	grant_ask(g, slice_str(g->o->bearer));
}

static void bearer_done(void *ctx, uint64_t id, const struct oidc_result *r)
{
	struct oidc *o = ctx;
	uint16_t reason = r->reason;

	o->bearer_asked = false;
	bearer_drop(o);
	if (!reason) {
		o->bearer = strndup((const char *)r->token.p, r->token.n);
		reason = o->bearer ? TG_R_NONE : TG_R_NO_MEMORY;
		o->bearer_no++;
		/* Not so late that it ends on its way. */
		o->bearer_until_ms = oidc_now_ms() + r->ttl_ms / 10 * 9;
	}
	list_each(it, &o->grants)
	{
		struct oidc_grant *g = container_of(it, struct oidc_grant, in_oidc);

		if (g->state != GRANT_NEEDS_BEARER)
			continue;
		if (reason)
			oidc_decide(g, reason, "the token for introspection: %s", r->detail);
		else
			show(g);
	}
}

void bearer_want(struct oidc_grant *g)
{
	struct oidc *o = g->o;
	const struct oidc_ask ask = {
		.flow = OIDC_OWN_USE,
		.scope = o->cfg.introspect_scope,
		.agent = "tidegate",
		.bearer = true,
	};
	int err = 0;

	if (o->bearer && oidc_now_ms() < o->bearer_until_ms) {
		show(g);
		return;
	}
	g->state = GRANT_NEEDS_BEARER;
	if (!o->bearer_asked)
		err = oidc_request(o, 0, &ask, bearer_done, o);
	if (err)
		oidc_decide(g, err == -ENOMEM ? TG_R_NO_MEMORY : TG_R_OVERLOAD,
			    "the token for introspection could not be asked for: %s", strerror(-err));
	else
		o->bearer_asked = true;
}

/* It is the provider's own business what it holds. */
void bearer_took(struct oidc_grant *g)
{
	g->result.ttl_ms = g->answer.has_expiry ? g->answer.expires_in_s * 1000 : TTL_DEFAULT_MS;
	oidc_decide(g, TG_R_NONE, "%s", "");
}

bool bearer_again(struct oidc_grant *g, const struct http_response *r)
{
	if (g->phase != PHASE_INTROSPECT || !g->o->cfg.introspect_bearer || g->bearer_tried ||
	    r->error != HTTP_OK || r->status != 401)
		return false;
	g->bearer_tried = true;
	/* Another question may have got a newer one meanwhile. */
	if (g->bearer_no == g->o->bearer_no)
		bearer_drop(g->o);
	bearer_want(g);
	return true;
}
