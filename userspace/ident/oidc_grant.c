/* SPDX-License-Identifier: MIT */
/* One question to the token endpoint, and the complete check of what it answers. */
#include <errno.h>
#include <openssl/evp.h>

#include "base/text.h"
#include "ident/oidc_impl.h"
#include "ident/scope.h"
#include "ident/strict_json.h"

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
		{"unauthorized_client", "allow the client_credentials grant for the client"},
		{"unsupported_grant_type", "allow the client_credentials grant at the provider"},
		{"invalid_scope", "register the scope at the provider and allow it for the client"},
		{"invalid_target", "check idp.resource and idp.audience"},
		{"invalid_authorization_details", "see what the provider allows the agent, and "
						  "idp.details_type"},
		{"access_denied", "the provider's own policy says no"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (strcmp(code, table[i].code) == 0)
			return table[i].todo;
	return "ask for the scope at the provider";
}

static void refused(struct oidc_grant *g, const struct http_response *r)
{
	struct oidc *o = g->o;
	struct token_error e;

	token_error_parse(r->body, &e);
	if (is_outage(e.code)) {
		char why[OIDC_DETAIL];

		(void)snprintf(why, sizeof(why), "the token endpoint: HTTP %d, %s", r->status,
			       e.code);
		oidc_provider_failed(o, TG_R_IDP_UNREACHABLE, r->retry_after_s, true, why,
				     "see the provider's own log");
		oidc_decide(g, TG_R_IDP_UNREACHABLE, "%s", why);
		return;
	}
	health_good(&o->health, clock_wall_ns());
	if (e.code[0])
		oidc_decide(g, TG_R_IDP_DENIED, "%s%s%s (HTTP %d): %s", e.code,
			    e.description[0] ? ": " : "", e.description, r->status,
			    todo_for(e.code));
	else
		oidc_decide(g, TG_R_IDP_DENIED, "HTTP %d without an error code%s", r->status,
			    r->status == 401 ? ": check idp.client" : "");
}

static void failed(struct oidc_grant *g, const struct http_response *r)
{
	char why[OIDC_DETAIL];
	const char *todo;
	uint16_t reason = oidc_http_reason(r, &todo);

	if (r->error != HTTP_OK)
		(void)snprintf(why, sizeof(why), "the token endpoint: %s", r->detail);
	else if (r->status >= 300 && r->status < 400)
		(void)snprintf(why, sizeof(why),
			       "the token endpoint: a redirect (HTTP %d), which is not followed",
			       r->status);
	else
		(void)snprintf(why, sizeof(why), "the token endpoint: HTTP %d", r->status);
	oidc_provider_failed(g->o, reason, r->retry_after_s, reason != TG_R_IDP_BAD_ANSWER, why,
			     todo);
	oidc_decide(g, reason, "%s", why);
}

static void on_answer(void *ctx, const struct http_response *r)
{
	struct oidc_grant *g = ctx;
	struct oidc *o = g->o;
	char why[200];

	g->transfer = NULL;
	if (r->error == HTTP_OK && r->status >= 400 && r->status < 500 && r->status != 429) {
		refused(g, r);
	} else if (r->error != HTTP_OK || r->status != 200) {
		failed(g, r);
	} else if (token_answer_parse(r->body, &g->answer, why, sizeof(why)) != 0) {
		oidc_provider_failed(o, TG_R_IDP_BAD_ANSWER, 0, false, why,
				     "check that idp.issuer is the provider's own address");
		oidc_decide(g, TG_R_IDP_BAD_ANSWER, "the token endpoint: %s", why);
	} else {
		health_good(&o->health, clock_wall_ns());
		grant_verify(g);
	}
	oidc_run(o);
}

void grant_want_credential(struct oidc_grant *g)
{
	struct oidc *o = g->o;
	const char *audience = NULL;

	if (o->cfg.private_key_jwt)
		audience = o->cfg.assertion_audience ? o->cfg.assertion_audience
						     : o->discovery.token_endpoint;
	g->state = GRANT_NEEDS_CREDENTIAL;
	o->ops.need_credential(o->ctx, g->id, audience);
}

static enum token_auth auth_kind(const struct oidc_config *c)
{
	if (c->private_key_jwt)
		return TOKEN_AUTH_ASSERTION;
	return c->secret_post ? TOKEN_AUTH_POST : TOKEN_AUTH_BASIC;
}

/* What the provider is asked to approve, and the token must say. NULL: no memory. */
static json_t *details_of(const struct oidc_grant *g)
{
	return json_pack("{s:s, s:s}", "type", g->o->cfg.details_type, "agent", g->agent);
}

/* One element says all that was asked; what a provider adds to it does not matter. */
static bool carries_details(const struct oidc_grant *g, const json_t *claims)
{
	const json_t *list = json_object_get(claims, "authorization_details");
	json_t *asked = details_of(g), *value;
	bool found = false;
	const char *name;

	for (size_t i = 0; asked && !found && i < json_array_size(list); i++) {
		const json_t *one = json_array_get(list, i);

		found = true;
		json_object_foreach(asked, name, value) found =
			found && json_equal(json_object_get(one, name), value);
	}
	json_decref(asked);
	return found;
}

static char *details_text(const struct oidc_grant *g)
{
	json_t *list = json_pack("[o]", details_of(g));
	char *text = list ? json_dumps(list, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;

	json_decref(list);
	return text;
}

void grant_ask(struct oidc_grant *g, struct slice credential)
{
	struct oidc *o = g->o;
	char *details = o->cfg.details_type ? details_text(g) : NULL;
	struct token_request t = {
		.client_id = o->cfg.client_id,
		.scope = g->scope,
		.resource = o->cfg.resource,
		.audience = o->cfg.audience,
		.details = details,
		.auth = auth_kind(&o->cfg),
		.credential = credential,
	};
	struct buf body, auth;
	int err;

	buf_init(&body, TOKEN_REQUEST_MAX);
	buf_init(&auth, TOKEN_REQUEST_MAX);
	/* All room at once: a buffer that grew would leave copies of the secret behind. */
	if ((o->cfg.details_type && !details) || !buf_reserve(&body, TOKEN_REQUEST_MAX) ||
	    !buf_reserve(&auth, TOKEN_REQUEST_MAX))
		err = -ENOMEM;
	else
		err = token_request_build(&t, &body, &auth);
	if (!err) {
		const char *headers[] = {
			"Accept: application/json",
			"Content-Type: application/x-www-form-urlencoded",
			"Expect:",
			auth.n ? (const char *)buf_data(&auth) : NULL,
			NULL,
		};
		struct slice b = buf_slice(&body);
		struct http_request q = {
			.url = o->discovery.token_endpoint,
			.headers = headers,
			.body = &b,
			.timeout_ms = o->cfg.timeout_ms,
			.max_bytes = TOKEN_BODY_MAX,
		};

		o->counts.token_calls++;
		g->state = GRANT_ASKING;
		err = curl_loop_start(o->http, &q, on_answer, g, &g->transfer);
	}
	free(details);
	buf_wipe(&body);
	buf_wipe(&auth);
	if (err)
		oidc_decide(g, err == -EMSGSIZE ? TG_R_INTERNAL : TG_R_NO_MEMORY,
			    "the request to the token endpoint could not be made: %s",
			    strerror(-err));
}

static void digest_token(struct oidc_grant *g)
{
	uint8_t md[SHA256_DIGEST_LENGTH];

	(void)SHA256(g->answer.token.p, g->answer.token.n, md);
	text_hex(md, sizeof(md), g->digest);
}

/* The token is genuine; what remains is what the answer says beside it. */
static void take(struct oidc_grant *g, const json_t *claims)
{
	const struct token_answer *a = &g->answer;
	uint64_t now_ms = clock_wall_ns() / 1000000, exp_ms;
	double exp = json_number_value(json_object_get(claims, "exp"));
	struct slice missing;

	if (a->scope && !scope_covers(a->scope, g->scope, &missing)) {
		oidc_decide(g, TG_R_IDP_DENIED, "the provider granted less than asked: not `%.*s`",
			    (int)missing.n, (const char *)missing.p);
		return;
	}
	if (g->o->cfg.details_type && !carries_details(g, claims)) {
		oidc_decide(
			g, TG_R_IDP_DENIED,
			"the token does not carry the authorization details that name the agent");
		return;
	}
	exp_ms = (uint64_t)(exp * 1000);
	g->result.ttl_ms = exp_ms > now_ms ? exp_ms - now_ms : 0;
	if (a->has_expiry && a->expires_in_s * 1000 < g->result.ttl_ms)
		g->result.ttl_ms = a->expires_in_s * 1000;
	if (!g->result.ttl_ms) {
		oidc_decide(g, TG_R_IDP_BAD_ANSWER, "the token has no time left");
		return;
	}
	g->subject = strdup(strict_json_string(claims, "sub"));
	if (!g->subject) {
		oidc_decide(g, TG_R_NO_MEMORY, "out of memory");
		return;
	}
	digest_token(g);
	oidc_decide(g, TG_R_NONE, "%s", "");
}

static void unknown_key(struct oidc_grant *g, const char *why)
{
	const char *refused_because = "fetching the keys anew did not help";

	if (!g->keys_tried) {
		g->keys_tried = true;
		refused_because = oidc_keys_again(g->o);
		if (!refused_because) {
			g->state = GRANT_NEEDS_KEYS;
			return;
		}
	}
	oidc_provider_failed(g->o, TG_R_IDP_BAD_ANSWER, 0, false, why,
			     "see whether the provider publishes all keys it signs with");
	oidc_decide(g, TG_R_IDP_BAD_ANSWER, "%s; %s", why, refused_because);
}

void grant_verify(struct oidc_grant *g)
{
	struct oidc *o = g->o;
	struct jwt_expect want = {
		.issuer = o->cfg.issuer,
		.audience = o->cfg.audience ? o->cfg.audience : o->cfg.client_id,
		.scope = g->scope,
		.client_id = o->cfg.client_id,
		.algorithms = o->cfg.algorithms,
		.now_s = clock_wall_ns() / 1000000000,
		.skew_s = o->cfg.skew_ms / 1000,
	};
	json_t *claims = NULL;
	char why[OIDC_DETAIL / 2];

	if (!jwt_shaped(g->answer.token)) {
		static const char opaque[] = "the access token is no signed JWT, and introspection "
					     "is not configured";

		oidc_provider_failed(o, TG_R_IDP_BAD_ANSWER, 0, false, opaque,
				     "have the provider issue JWT access tokens for the resource");
		oidc_decide(g, TG_R_IDP_BAD_ANSWER, "%s", opaque);
		return;
	}
	switch (jwt_verify(g->answer.token, o->keys, &want, &claims, why, sizeof(why))) {
	case JWT_OK:
		take(g, claims);
		json_decref(claims);
		break;
	case JWT_UNKNOWN_KEY:
		unknown_key(g, why);
		break;
	case JWT_NARROW:
		oidc_decide(g, TG_R_IDP_DENIED, "%s", why);
		break;
	case JWT_BAD:
		oidc_provider_failed(o, TG_R_IDP_BAD_ANSWER, 0, false, why,
				     "compare idp: in the configuration with the provider's");
		oidc_decide(g, TG_R_IDP_BAD_ANSWER, "%s", why);
		break;
	}
}
