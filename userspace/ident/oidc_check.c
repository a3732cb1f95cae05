/* SPDX-License-Identifier: MIT */
/*
 * Whether what the provider answered is the approval that was asked for. What
 * is missing is no approval: not the scope, not the details, not the right person.
 */
#include <errno.h>

#include "base/text.h"
#include "ident/introspection.h"
#include "ident/oidc_name.h"
#include "ident/scope.h"
#include "ident/strict_json.h"

static bool listed(const char *const *list, const char *word)
{
	for (; list && word && *list; list++)
		if (strcmp(*list, word) == 0)
			return true;
	return false;
}

/* What names the person may know the groups, too, if the token does not. */
static bool in_groups(const struct oidc_grant *g)
{
	const char *name = g->ask.groups_claim ? g->ask.groups_claim : "groups";
	const json_t *groups = name_claim(g, name);

	if (!groups)
		groups = json_object_get(g->named, name);
	if (json_is_string(groups))
		return listed(g->ask.groups, json_string_value(groups));
	for (size_t i = 0; i < json_array_size(groups); i++)
		if (listed(g->ask.groups, json_string_value(json_array_get(groups, i))))
			return true;
	return false;
}

/* NULL, or why the person's word does not count. */
static const char *check_person(const struct oidc_grant *g)
{
	const struct oidc_ask *a = &g->ask;
	double at = json_number_value(name_claim(g, "auth_time"));
	double now = (double)(clock_wall_ns() / 1000000000);

	if (g->id_said && json_object_get(g->said, "sub") &&
	    !json_equal(json_object_get(g->id_said, "sub"), json_object_get(g->said, "sub")))
		return "the two tokens speak of different persons";
	if ((a->approvers || a->groups) && !listed(a->approvers, name_of(g)) && !in_groups(g))
		return "the person who said yes is not among `approvers` and `groups`";
	if (a->acr && !listed(a->acr, json_string_value(name_claim(g, "acr"))))
		return "the person's authentication is none of `acr`";
	if (a->max_age_ms && (at <= 0 || now - at > (double)(a->max_age_ms + g->o->cfg.skew_ms) / 1000))
		return "the person authenticated longer ago than `max_age`, or the token does not say when";
	return NULL;
}

static uint64_t time_left(const struct oidc_grant *g)
{
	uint64_t now_ms = clock_wall_ns() / 1000000, exp_ms, ttl;
	double exp = json_number_value(json_object_get(g->said, "exp"));

	if (exp <= 0 || exp > 1e12)
		return 0;
	exp_ms = (uint64_t)(exp * 1000);
	ttl = exp_ms > now_ms ? exp_ms - now_ms : 0;
	if (g->answer.has_expiry && g->answer.expires_in_s * 1000 < ttl)
		ttl = g->answer.expires_in_s * 1000;
	return ttl;
}

static char *evidence(const struct oidc_grant *g)
{
	static const char *const copied[] = {"iss", "sub", "client_id", "jti", "exp", "iat", "acr",
					     "amr", "auth_time", "scope", "act",
					     "sid", "authorization_details", "cnf"};
	json_t *o = json_pack("{s:s, s:s}", "issuer", g->o->cfg.issuer, "token_sha256", g->digest);
	char *text;

	for (size_t i = 0; o && i < ARRAY_SIZE(copied); i++) {
		json_t *v = (json_t *)(uintptr_t)name_claim(g, copied[i]);

		if (v)
			(void)json_object_set(o, copied[i], v);
	}
	if (o && name_needed(g))
		(void)json_object_set_new(o, "name", json_string(name_of(g)));
	text = o ? json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
	json_decref(o);
	return text;
}

static void digest_token(struct oidc_grant *g, struct slice token)
{
	uint8_t md[SHA256_DIGEST_LENGTH];

	(void)SHA256(token.p, token.n, md);
	text_hex(md, sizeof(md), g->digest);
}

static bool keep_texts(struct oidc_grant *g)
{
	const char *name = name_of(g);
	const char *client = json_string_value(name_claim(g, "client_id"));

	g->subject = strdup(name ? name : client ? client : "");
	g->approver = strdup(oidc_ask_of_person(&g->ask) && name ? name : "");
	g->evidence = evidence(g);
	return g->subject && g->approver && g->evidence;
}

/* The tokens are genuine; what remains is whether they say what was asked for. */
static void take(struct oidc_grant *g)
{
	const json_t *said = g->answer.scope;
	const char *type = g->o->cfg.details_type, *why;
	uint64_t duration_ms = 0;
	struct slice missing;

	/* An agent's own that is bound has been refused before: the agent does not prove to us. */
	why = g->ask.flow == OIDC_INTROSPECTION ? NULL : bound_check(g, g->said);
	if (why) {
		oidc_decide(g, TG_R_IDP_BAD_ANSWER, "%s", why);
		return;
	}
	if (said && g->scope[0] && !scope_covers(said, g->scope, &missing)) {
		oidc_decide(g, TG_R_IDP_DENIED, "the provider granted less than asked: not `%.*s`",
			    (int)missing.n, (const char *)missing.p);
		return;
	}
	if (g->ask.details && type &&
	    !oidc_ask_carried(&g->ask, type, json_object_get(g->said, "authorization_details"),
			      &duration_ms)) {
		oidc_decide(g, TG_R_IDP_DENIED,
			    "the token does not carry the authorization details that were asked for");
		return;
	}
	if (name_needed(g) && !name_of(g)) {
		oidc_decide(g, TG_R_IDP_BAD_ANSWER, "the provider does not say who that is: no usable `%s` "
			    "(see `name_claim` and `name_from`)",
			    g->o->cfg.name_claim ? g->o->cfg.name_claim : "sub");
		return;
	}
	why = oidc_ask_of_person(&g->ask) ? check_person(g) : NULL;
	if (why) {
		oidc_decide(g, TG_R_IDP_DENIED, "%s", why);
		return;
	}
	g->result.ttl_ms = time_left(g);
	if (duration_ms && duration_ms < g->result.ttl_ms)
		g->result.ttl_ms = duration_ms;
	if (!g->result.ttl_ms) {
		oidc_decide(g, TG_R_IDP_BAD_ANSWER, "the token has no time left");
		return;
	}
	digest_token(g, g->ask.flow == OIDC_INTROSPECTION ? g->ask.token : g->answer.token);
	if (!keep_texts(g)) {
		oidc_decide(g, TG_R_NO_MEMORY, "out of memory");
		return;
	}
	oidc_decide(g, TG_R_NONE, "%s", "");
}

void grant_settle(struct oidc_grant *g)
{
	if (!name_wanted(g))
		take(g);
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

static const char *audience_of(const struct oidc_grant *g)
{
	const struct oidc_config *c = &g->o->cfg;

	return g->ask.audience ? g->ask.audience : c->audience ? c->audience : c->client_id;
}

/* False: the grant is decided, or waits for keys. */
static bool verify(struct oidc_grant *g, struct slice token, const struct jwt_expect *want,
		   json_t **ret)
{
	char why[OIDC_DETAIL / 2];

	switch (jwt_verify(token, g->o->keys, want, ret, why, sizeof(why))) {
	case JWT_OK:
		return true;
	case JWT_UNKNOWN_KEY:
		unknown_key(g, why);
		break;
	case JWT_NARROW:
		oidc_decide(g, TG_R_IDP_DENIED, "%s", why);
		break;
	case JWT_BAD:
		oidc_provider_failed(g->o, TG_R_IDP_BAD_ANSWER, 0, false, why,
				     "compare idp: in the configuration with the provider's");
		oidc_decide(g, TG_R_IDP_BAD_ANSWER, "%s", why);
		break;
	}
	return false;
}

/* An OpenID Provider that was asked for `openid` owes an ID token; it says who said yes. */
static bool verify_id(struct oidc_grant *g, json_t **ret)
{
	const struct oidc_config *c = &g->o->cfg;
	const char *token = token_answer_string(&g->answer, "id_token");
	struct jwt_expect want = {
		.issuer = c->issuer,
		.audience = c->client_id,
		.client_id = c->client_id,
		.algorithms = c->algorithms,
		.now_s = clock_wall_ns() / 1000000000,
		.skew_s = c->skew_ms / 1000,
	};

	*ret = NULL;
	if (!oidc_ask_of_person(&g->ask))
		return true;
	if (token)
		return verify(g, slice_str(token), &want, ret);
	if (g->ask.flow != OIDC_CIBA)
		return true;
	oidc_decide(g, TG_R_IDP_BAD_ANSWER, "the provider's answer holds no id_token");
	return false;
}

static void opaque_token(struct oidc_grant *g)
{
	static const char what[] = "the access token is no signed JWT, and the provider has no "
				   "introspection endpoint";

	if (g->o->discovery.introspection_endpoint) {
		g->phase = PHASE_INTROSPECT;
		g->proof_wanted = false;
		grant_want_credential(g);
		return;
	}
	oidc_provider_failed(g->o, TG_R_IDP_BAD_ANSWER, 0, false, what,
			     "have the provider issue JWT access tokens for the resource");
	oidc_decide(g, TG_R_IDP_BAD_ANSWER, "%s", what);
}

static void forget_said(struct oidc_grant *g)
{
	json_decref(g->said);
	json_decref(g->id_said);
	g->said = g->id_said = NULL;
}

void grant_verify(struct oidc_grant *g)
{
	const struct oidc_config *c = &g->o->cfg;
	struct jwt_expect want = {
		.issuer = c->issuer,
		.audience = audience_of(g),
		.scope = g->scope[0] ? g->scope : NULL,
		.client_id = c->client_id,
		.algorithms = c->algorithms,
		.now_s = clock_wall_ns() / 1000000000,
		.skew_s = c->skew_ms / 1000,
	};

	forget_said(g); /* of a try before, for which keys were missing */
	if (g->ask.flow == OIDC_VERIFY) {
		grant_verify_own(g);
		return;
	}
	if (!jwt_shaped(g->answer.token)) {
		opaque_token(g);
		return;
	}
	if (verify(g, g->answer.token, &want, &g->said) && verify_id(g, &g->id_said))
		grant_settle(g);
}

/* ---------------------------------------------------------- introspection */

/*
 * Who issued it and for whom was seen when it was an approval. What is asked here is whether the
 * provider has taken it back; only a plain no is one.
 */
static void rechecked(struct oidc_grant *g, const json_t *o)
{
	const json_t *active = json_object_get(o, "active"), *scope = json_object_get(o, "scope");
	double exp = json_number_value(json_object_get(o, "exp"));
	uint64_t now_ms = clock_wall_ns() / 1000000;
	struct slice missing;

	if (!json_is_boolean(active)) {
		oidc_decide(g, TG_R_IDP_BAD_ANSWER, "introspection: `active` is neither true nor false");
	} else if (json_is_false(active)) {
		oidc_decide(g, TG_R_IDP_REVOKED, "the token is not active any more");
	} else if (scope && g->scope[0] && !scope_covers(scope, g->scope, &missing)) {
		oidc_decide(g, TG_R_IDP_REVOKED, "the token has lost a word of its scope: %.*s",
			    (int)missing.n, (const char *)missing.p);
	} else {
		g->result.ttl_ms = UINT64_MAX;
		if (exp > 0 && exp < 1e12)
			g->result.ttl_ms = exp * 1000 > (double)now_ms ? (uint64_t)(exp * 1000) - now_ms : 0;
		oidc_decide(g, TG_R_NONE, "%s", "");
	}
}

static void introspected(struct oidc_grant *g, json_t *o)
{
	if (!verify_id(g, &g->id_said))
		return;
	g->said = json_incref(o);
	grant_settle(g);
}

void grant_introspected(struct oidc_grant *g, struct slice body)
{
	char error[200];
	json_t *o = strict_json_object(body, TOKEN_BODY_MAX, error, sizeof(error));
	const struct introspection_rules rules = {
		.issuer = g->o->cfg.issuer,
		.audience = audience_of(g),
		.scope = g->scope,
		.named = g->ask.audience != NULL,
		.bound = g->ask.flow != OIDC_INTROSPECTION,
		.now_s = clock_wall_ns() / 1000000000,
		.skew_s = g->o->cfg.skew_ms / 1000,
	};
	bool denied = false;
	const char *why = o ? introspection_check(o, &rules, &denied) : error;

	if (o)
		health_good(&g->o->health, clock_wall_ns());
	if (o && g->ask.flow == OIDC_RECHECK)
		rechecked(g, o);
	else if (o && g->said)
		name_introspected(g, o);
	else if (why)
		oidc_decide(g, denied ? TG_R_IDP_DENIED : TG_R_IDP_BAD_ANSWER, "introspection: %s", why);
	else
		introspected(g, o);
	json_decref(o);
}
