/* SPDX-License-Identifier: MIT */
/* Tokens that are bound to a key of ours (RFC 7800, RFC 8705), and the certificate that binds them. */
#include <errno.h>

#include "ident/oidc_impl.h"
#include "ident/tls_sign.h"

int bound_use_certificate(struct oidc *o, struct slice chain)
{
	struct http_identity who = {.chain = chain, .sign = o->ops.sign, .ctx = o->ctx};
	char thumb[sizeof(o->thumb)];
	uint8_t md[TLS_THUMB];
	struct curl_loop *l;
	int err = tls_chain_thumb(chain, md);

	if (err)
		return err;
	(void)b64_url_encode(slice_of(md, sizeof(md)), thumb);
	if (o->tls && strcmp(thumb, o->thumb) == 0)
		return 0;
	err = curl_loop_new_as(o->http, &who, &l);
	if (err)
		return err;
	/* What is under way with the old one ends with it. */
	curl_loop_retire(o->tls);
	o->tls = l;
	memcpy(o->thumb, thumb, sizeof(thumb));
	return 0;
}

/* What is issued to us, and what is asked of us; a token that others are to use is bound to nobody. */
static bool wants_proof(const struct oidc_grant *g)
{
	const struct oidc *o = g->o;

	if (o->cfg.dpop == OIDC_DPOP_OFF || g->ask.bearer || !o->ops.need_proof)
		return false;
	/* Shown to userinfo it would need another kind of proof (RFC 9449 section 7). */
	if (o->cfg.name_from == OIDC_NAME_USERINFO)
		return false;
	if (g->proof_wanted)
		return true;
	/* By itself never beside a certificate: there are providers that take one of the two only. */
	return (g->phase == PHASE_TOKEN || g->phase == PHASE_POLL) &&
	       (o->cfg.dpop == OIDC_DPOP_ON || (o->discovery.dpop && !o->cfg.tls_auth));
}

bool bound_ask_proof(struct oidc_grant *g)
{
	free(g->proof);
	g->proof = NULL;
	if (!wants_proof(g))
		return false;
	g->o->ops.need_proof(g->o->ctx, g->id, grant_endpoint(g), g->o->nonce);
	return true;
}

void oidc_proof(struct oidc *o, uint64_t id, struct slice proof, struct slice thumb, int error)
{
	list_each(it, &o->grants)
	{
		struct oidc_grant *g = container_of(it, struct oidc_grant, in_oidc);

		if (g->id != id || g->state != GRANT_NEEDS_CREDENTIAL || g->proof)
			continue;
		if (!error && (thumb.n != DPOP_THUMB_CHARS || proof.n > DPOP_PROOF_MAX ||
			       asprintf(&g->proof, "DPoP: %.*s", (int)proof.n, (const char *)proof.p) < 0))
			error = -EPROTO;
		if (error) {
			oidc_decide(g, TG_R_INTERNAL, "the proof of our key (DPoP): %s", strerror(-error));
			return;
		}
		/* Of the key that the token was asked for with. */
		if (g->phase != PHASE_INTROSPECT)
			(void)snprintf(g->jkt, sizeof(g->jkt), "%.*s", (int)thumb.n, (const char *)thumb.p);
		grant_want_secret(g);
		return;
	}
	/* Too late: the request is over. */
}

bool bound_again(struct oidc_grant *g, const struct http_response *r)
{
	bool fresh = r->error == HTTP_OK && dpop_nonce_valid(r->wanted), tried = g->nonce_tried;
	struct token_error e;

	g->nonce_tried = false;
	if (fresh)
		(void)snprintf(g->o->nonce, sizeof(g->o->nonce), "%s", r->wanted);
	if (!fresh || tried || (r->status != 400 && r->status != 401))
		return false;
	token_error_parse(r->body, &e);
	if (strcmp(e.code, "use_dpop_nonce") != 0)
		return false;
	g->proof_wanted = true;
	if (!wants_proof(g))
		return false;
	g->nonce_tried = true;
	grant_want_credential(g);
	return true;
}

/* What is bound to several keys is ours only if all of them are. */
const char *bound_check(const struct oidc_grant *g, const json_t *claims)
{
	const json_t *cnf = json_object_get(claims, "cnf"), *value;
	bool jkt = false;
	const char *name;

	if (cnf && !json_object_size(cnf))
		return "the token is bound to a key (cnf), but does not say to which";
	json_object_foreach((json_t *)cnf, name, value)
	{
		const char *text = json_string_value(value);

		if (strcmp(name, "x5t#S256") == 0) {
			if (!text || !g->thumb[0] || strcmp(text, g->thumb) != 0)
				return "the token is bound to another certificate (cnf x5t#S256) than ours";
		} else if (strcmp(name, "jkt") == 0) {
			if (!text || !g->jkt[0] || strcmp(text, g->jkt) != 0)
				return "the token is bound to another key (cnf jkt) than ours";
			jkt = true;
		} else {
			return "the token is bound to a key (cnf) in a way that is not known here";
		}
	}
	if (g->answer.dpop && !jkt)
		return "the token's type is DPoP, but it does not say to which key it is bound (cnf jkt)";
	if (!jkt && !g->ask.bearer && g->o->cfg.dpop == OIDC_DPOP_ON)
		return "`dpop: on`, but the provider has not bound the token to our key (cnf jkt)";
	return NULL;
}
