/* SPDX-License-Identifier: MIT */
/* One exchange with an endpoint of the provider: what is sent, and what kind of answer it is. */
#include <errno.h>
#include <openssl/crypto.h>

#include "base/text.h"
#include "ident/oidc_bearer.h"
#include "ident/oidc_name.h"

enum { PARAMS_MAX = 16 };

static const char type_access_token[] = "urn:ietf:params:oauth:token-type:access_token";
static const char type_jwt[] = "urn:ietf:params:oauth:token-type:jwt";

/* --------------------------------------------------------------- answers */

/* Error codes that speak of the provider's own state, whatever the HTTP status. */
static bool is_outage(const char *code)
{
	return strcmp(code, "temporarily_unavailable") == 0 || strcmp(code, "server_error") == 0;
}

static const char *todo_for(const char *code)
{
	static const struct {
		const char *code, *todo;
	} table[] = {
		{"invalid_client",
		 "check idp.client: id, kind of authentication and secret or key"},
		{"unauthorized_client", "allow this grant type for the client"},
		{"unsupported_grant_type", "allow this grant type at the provider"},
		{"invalid_scope", "register the scope at the provider and allow it for the client"},
		{"invalid_target", "check idp.resource and idp.audience"},
		{"invalid_authorization_details", "see what the provider allows the agent, and "
						  "idp.details_type"},
		{"access_denied", "the provider's own policy says no"},
		{"unknown_user_id", "check `login_hint`: the provider knows nobody by it"},
		{"expired_login_hint_token", "have the agent's token renewed in time"},
		{"missing_user_code", "the provider wants a user code, which Tidegate does not have"},
		{"invalid_binding_message", "set `binding_message: short` or `none`"},
		{"unsupported_token_type", "the provider does not introspect this kind of token: have "
					   "it issue opaque ones, or leave out `recheck`"},
		{"invalid_grant", "the provider does not take this token or request any more"},
		{"use_dpop_nonce", "the provider wants a DPoP nonce, and gives none, or `dpop: off`"},
		{"invalid_dpop_proof", "compare the clocks, or set `dpop: off`"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (strcmp(code, table[i].code) == 0)
			return table[i].todo;
	return "see the provider's own log";
}

static const char *endpoint_name(const struct oidc_grant *g)
{
	switch (g->phase) {
	case PHASE_START:
		return g->ask.flow == OIDC_DEVICE ? "the device authorization endpoint"
						  : "the backchannel authentication endpoint";
	case PHASE_INTROSPECT:
		return "the introspection endpoint";
	case PHASE_USERINFO:
		return "the userinfo endpoint";
	case PHASE_TOKEN:
	case PHASE_POLL:
		break;
	}
	return "the token endpoint";
}

void grant_refused(struct oidc_grant *g, const struct http_response *r,
		   const struct token_error *e)
{
	const char *but = "";
	uint16_t reason = TG_R_IDP_DENIED;

	health_good(&g->o->health, clock_wall_ns());
	if (g->phase == PHASE_POLL)
		reason = person_reason(g, e->code, &but);
	else if (g->phase == PHASE_USERINFO)
		but = "the userinfo endpoint does not take the token: see `name_from`";
	else if (g->phase == PHASE_INTROSPECT && g->o->cfg.introspect_bearer)
		but = "see `introspection: bearer` and its scope";
	if (e->code[0])
		oidc_decide(g, reason, "%s%s%s (HTTP %d): %s%s", e->code, e->description[0] ? ": " : "",
			    e->description, r->status, but, *but ? "" : todo_for(e->code));
	else
		oidc_decide(g, reason, "HTTP %d without an error code%s%s%s", r->status,
			    r->status == 401 ? ": check idp.client" : "", *but ? ": " : "", but);
}

/* The provider could not answer. A person's decision is asked for again, all else ends. */
static void unavailable(struct oidc_grant *g, uint16_t reason, uint32_t retry_after_s,
			const char *why, const char *todo)
{
	bool away = reason == TG_R_IDP_UNREACHABLE || reason == TG_R_IDP_TIMEOUT;

	oidc_provider_failed(g->o, reason, retry_after_s, away, why, todo);
	if (g->phase == PHASE_POLL && (away || reason == TG_R_INTERNAL))
		person_try_later(g);
	else
		oidc_decide(g, reason, "%s", why);
}

static void refused(struct oidc_grant *g, const struct http_response *r)
{
	struct token_error e;
	char why[OIDC_DETAIL];

	token_error_parse(r->body, &e);
	if (is_outage(e.code)) {
		(void)snprintf(why, sizeof(why), "%s: HTTP %d, %s", endpoint_name(g), r->status,
			       e.code);
		unavailable(g, TG_R_IDP_UNREACHABLE, r->retry_after_s, why,
			    "see the provider's own log");
	} else if (g->phase != PHASE_POLL || !person_waits_on(g, &e)) {
		grant_refused(g, r, &e);
	}
}

static void failed(struct oidc_grant *g, const struct http_response *r)
{
	char why[OIDC_DETAIL];
	const char *todo, *what = endpoint_name(g);
	uint16_t reason = oidc_http_reason(r, &todo);

	/* What refuses to do something has not done it; of a gateway nobody knows what is behind it. */
	g->answer_lost |= r->sent && g->phase == PHASE_POLL &&
			  (r->error != HTTP_OK || (r->status != 503 && r->status != 429));
	if (r->error != HTTP_OK)
		(void)snprintf(why, sizeof(why), "%s: %s", what, r->detail);
	else if (r->status >= 300 && r->status < 400)
		(void)snprintf(why, sizeof(why), "%s: a redirect (HTTP %d), which is not followed",
			       what, r->status);
	else
		(void)snprintf(why, sizeof(why), "%s: HTTP %d", what, r->status);
	unavailable(g, reason, r->retry_after_s, why, todo);
}

/* RFC 8693 section 2.2.1: what was issued may be something else than what was asked for. */
static bool right_kind(const struct oidc_grant *g)
{
	const char *type = token_answer_string(&g->answer, "issued_token_type");

	return g->ask.flow != OIDC_TOKEN_EXCHANGE ||
	       (type && (strcmp(type, type_access_token) == 0 || strcmp(type, type_jwt) == 0));
}

static void took_token(struct oidc_grant *g, struct slice body)
{
	char why[200];

	if (token_answer_parse(body, &g->answer, why, sizeof(why)) != 0) {
		oidc_provider_failed(g->o, TG_R_IDP_BAD_ANSWER, 0, false, why,
				     "check that idp.issuer is the provider's own address");
		oidc_decide(g, TG_R_IDP_BAD_ANSWER, "the token endpoint: %s", why);
		return;
	}
	health_good(&g->o->health, clock_wall_ns());
	if (g->answer.dpop && !g->proof)
		oidc_decide(g, TG_R_IDP_BAD_ANSWER, "the token's type is DPoP, but no proof was sent");
	else if (g->ask.flow == OIDC_OWN_USE)
		bearer_took(g);
	else if (right_kind(g))
		grant_verify(g);
	else
		oidc_decide(g, TG_R_IDP_BAD_ANSWER,
			    "the token endpoint: issued_token_type is no access token");
}

static void on_answer(void *ctx, const struct http_response *r)
{
	struct oidc_grant *g = ctx;
	struct oidc *o = g->o;

	g->transfer = NULL;
	g->answer_lost |= r->sent > 1 && g->phase == PHASE_POLL;
	if (bound_again(g, r) || bearer_again(g, r))
		;
	else if (r->error == HTTP_OK && r->status >= 400 && r->status < 500 && r->status != 429)
		refused(g, r);
	else if (r->error != HTTP_OK || r->status != 200)
		failed(g, r);
	else if (g->phase == PHASE_START)
		person_started(g, r->body);
	else if (g->phase == PHASE_INTROSPECT)
		grant_introspected(g, r->body);
	else if (g->phase == PHASE_USERINFO)
		name_told(g, r->body);
	else
		took_token(g, r->body);
	oidc_run(o);
}

/* -------------------------------------------------------------- questions */

const char *grant_endpoint(const struct oidc_grant *g)
{
	const struct discovery *d = &g->o->discovery;

	switch (g->phase) {
	case PHASE_START:
		return g->ask.flow == OIDC_DEVICE ? d->device_endpoint : d->backchannel_endpoint;
	case PHASE_INTROSPECT:
		return d->introspection_endpoint;
	case PHASE_USERINFO:
		return d->userinfo_endpoint;
	case PHASE_TOKEN:
	case PHASE_POLL:
		break;
	}
	return d->token_endpoint;
}

void grant_want_credential(struct oidc_grant *g)
{
	if (!grant_endpoint(g)) {
		oidc_decide(g, TG_R_IDP_DENIED, "the provider has no such endpoint: %s",
			    endpoint_name(g));
		return;
	}
	if (g->phase == PHASE_INTROSPECT && g->o->cfg.introspect_bearer) {
		bearer_want(g);
		return;
	}
	if (g->phase == PHASE_USERINFO) {
		grant_ask(g, name_token(g));
		return;
	}
	g->state = GRANT_NEEDS_CREDENTIAL;
	if (!bound_ask_proof(g))
		grant_want_secret(g);
}

/* Providers want their token endpoint there, their issuer, or just the endpoint that is called. */
static const char *assertion_audience(const struct oidc_grant *g)
{
	const char *set = g->o->cfg.assertion_audience;

	if (!set)
		return g->o->discovery.token_endpoint;
	return strcmp(set, "endpoint") == 0 ? grant_endpoint(g) : set;
}

void grant_want_secret(struct oidc_grant *g)
{
	struct oidc *o = g->o;
	const char *audience = NULL;

	if (o->cfg.private_key_jwt)
		audience = assertion_audience(g);
	o->ops.need_credential(o->ctx, g->id, audience);
}

static enum token_auth auth_kind(const struct oidc_grant *g)
{
	const struct oidc_config *c = &g->o->cfg;

	if (g->phase == PHASE_USERINFO || (g->phase == PHASE_INTROSPECT && c->introspect_bearer))
		return TOKEN_AUTH_BEARER;
	if (c->private_key_jwt)
		return TOKEN_AUTH_ASSERTION;
	if (c->tls_auth)
		return TOKEN_AUTH_TLS;
	return c->secret_post ? TOKEN_AUTH_POST : TOKEN_AUTH_BASIC;
}

struct params {
	struct token_param list[PARAMS_MAX];
	unsigned n;
	char *details; /* owned */
	char acr[1024], expiry[24];
};

static void put(struct params *p, const char *name, struct slice value)
{
	BUG_ON(p->n == PARAMS_MAX);
	p->list[p->n++] = (struct token_param){.name = name, .value = value};
}

static void put_str(struct params *p, const char *name, const char *value)
{
	put(p, name, slice_str(value ? value : ""));
}

/* What is asked for, in the first question of every flow. */
static bool put_ask(const struct oidc_grant *g, struct params *p)
{
	const struct oidc_ask *a = &g->ask;
	const struct oidc_config *c = &g->o->cfg;

	put_str(p, "scope", a->scope);
	put_str(p, "resource", a->resource ? a->resource : c->resource);
	put_str(p, "audience", a->audience ? a->audience : c->audience);
	if (!a->details || !c->details_type)
		return true;
	p->details = oidc_ask_details(a, c->details_type);
	put_str(p, "authorization_details", p->details);
	return p->details;
}

static void join(const char *const *list, char *dst, size_t cap)
{
	size_t n = 0;

	dst[0] = 0;
	for (; list && *list && n < cap; list++)
		n += (size_t)snprintf(dst + n, cap - n, "%s%s", n ? " " : "", *list);
}

/* Some providers put these into the ID token only if they are asked (OpenID Connect Core 5.5). */
static const char essential_claims[] =
	"{\"id_token\":{\"acr\":{\"essential\":true},\"auth_time\":{\"essential\":true}}}";

static bool put_start(struct oidc_grant *g, struct params *p)
{
	const struct oidc_ask *a = &g->ask;
	uint64_t left = (g->deadline_ms - oidc_now_ms()) / 1000;

	join(a->acr, p->acr, sizeof(p->acr));
	put_str(p, "acr_values", p->acr);
	if (a->acr || a->max_age_ms)
		put_str(p, "claims", essential_claims);
	if (a->flow == OIDC_DEVICE) {
		put_str(p, "client_id", auth_kind(g) == TOKEN_AUTH_BASIC ? g->o->cfg.client_id : NULL);
		return put_ask(g, p);
	}
	(void)snprintf(p->expiry, sizeof(p->expiry), "%llu", (unsigned long long)(left ? left : 1));
	if (a->hint_token)
		put(p, "login_hint_token", a->token);
	else
		put_str(p, "login_hint", a->login_hint);
	put_str(p, "binding_message", a->binding_message);
	put_str(p, "requested_expiry", p->expiry);
	if (a->ping)
		put_str(p, "client_notification_token", person_notify_token(g));
	return put_ask(g, p);
}

static bool put_token(const struct oidc_grant *g, struct params *p)
{
	if (g->ask.flow == OIDC_CLIENT_CREDENTIALS || g->ask.flow == OIDC_OWN_USE) {
		put_str(p, "grant_type", "client_credentials");
		if (g->ask.flow == OIDC_CLIENT_CREDENTIALS)
			return put_ask(g, p);
		put_str(p, "scope", g->ask.scope);
		return true;
	}
	if (g->ask.flow == OIDC_SAML_BEARER) {
		put_str(p, "grant_type", "urn:ietf:params:oauth:grant-type:saml2-bearer");
		put(p, "assertion", g->ask.token);
		return put_ask(g, p);
	}
	put_str(p, "grant_type", "urn:ietf:params:oauth:grant-type:token-exchange");
	put(p, "subject_token", g->ask.token);
	put_str(p, "subject_token_type", jwt_shaped(g->ask.token) ? type_jwt : type_access_token);
	put_str(p, "requested_token_type", type_access_token);
	return put_ask(g, p);
}

static bool put_phase(struct oidc_grant *g, struct params *p)
{
	switch (g->phase) {
	case PHASE_TOKEN:
		return put_token(g, p);
	case PHASE_START:
		return put_start(g, p);
	case PHASE_POLL:
		put_str(p, "grant_type",
			g->ask.flow == OIDC_DEVICE ? "urn:ietf:params:oauth:grant-type:device_code"
						   : "urn:openid:params:grant-type:ciba");
		put_str(p, g->ask.flow == OIDC_DEVICE ? "device_code" : "auth_req_id", g->handle);
		return true;
	case PHASE_INTROSPECT:
		put(p, "token", g->ask.flow == OIDC_INTROSPECTION || g->ask.flow == OIDC_RECHECK
				       ? g->ask.token : g->answer.token);
		put_str(p, "token_type_hint", "access_token");
		return true;
	case PHASE_USERINFO:
		return true;
	}
	return false;
}

static void count_call(struct oidc_grant *g)
{
	struct oidc_counts *c = &g->o->counts;

	c->start_calls += g->phase == PHASE_START;
	c->introspection_calls += g->phase == PHASE_INTROSPECT;
	c->userinfo_calls += g->phase == PHASE_USERINFO;
	c->token_calls += g->phase == PHASE_TOKEN || g->phase == PHASE_POLL;
}

static int post(struct oidc_grant *g, struct buf *body, struct buf *auth)
{
	struct oidc *o = g->o;
	bool get = g->phase == PHASE_USERINFO;
	const char *proof = get ? NULL : g->proof;
	const char *headers[] = {
		"Accept: application/json",
		get ? "Expect:" : "Content-Type: application/x-www-form-urlencoded",
		"Expect:",
		/* The first that is not there is the end. */
		auth->n ? (const char *)buf_data(auth) : proof,
		auth->n ? proof : NULL,
		NULL,
	};
	struct slice b = buf_slice(body);
	struct http_request q = {
		.url = grant_endpoint(g),
		.want = "DPoP-Nonce",
		.headers = headers,
		.body = get ? NULL : &b,
		.timeout_ms = o->cfg.timeout_ms,
		.max_bytes = TOKEN_BODY_MAX,
	};

	/* The documents may have been fetched anew since. */
	if (!q.url)
		return -ENOENT;
	count_call(g);
	g->state = GRANT_ASKING;
	return curl_loop_start(o->cfg.tls_auth && o->tls ? o->tls : o->http, &q, on_answer, g, &g->transfer);
}

void grant_ask(struct oidc_grant *g, struct slice credential)
{
	struct oidc *o = g->o;
	struct params p = {.n = 0};
	struct token_request t = {
		.client_id = o->cfg.client_id,
		.params = p.list,
		.auth = auth_kind(g),
		.credential = credential,
	};
	struct buf body, auth;
	int err = -ENOMEM;

	buf_init(&body, TOKEN_REQUEST_MAX);
	buf_init(&auth, TOKEN_REQUEST_MAX);
	/* All room at once: a buffer that grew would leave copies of the secret behind. */
	if (put_phase(g, &p) && buf_reserve(&body, TOKEN_REQUEST_MAX) &&
	    buf_reserve(&auth, TOKEN_REQUEST_MAX)) {
		t.nparams = p.n;
		err = token_request_build(&t, &body, &auth);
	}
	if (!err && t.auth == TOKEN_AUTH_TLS) {
		err = bound_use_certificate(o, credential);
		memcpy(g->thumb, o->thumb, sizeof(g->thumb));
	}
	if (!err)
		err = post(g, &body, &auth);
	free(p.details);
	buf_wipe(&body);
	buf_wipe(&auth);
	if (err)
		oidc_decide(g, err == -ENOMEM ? TG_R_NO_MEMORY : TG_R_INTERNAL,
			    "the request to %s could not be made: %s", endpoint_name(g),
			    strerror(-err));
}
