/* SPDX-License-Identifier: MIT */
/*
 * An agent's own workload token: genuine, its issuer's, for the audience that is expected, valid
 * now. Nothing that an agent sends is noted as a failure of the issuer: it could make
 * one up.
 */
#include "base/text.h"
#include "ident/oidc_impl.h"

static uint64_t left_ms(const json_t *claims)
{
	double exp = json_number_value(json_object_get(claims, "exp"));
	double now = (double)clock_wall_ns() / 1e9;

	return exp > now ? (uint64_t)((exp - now) * 1000) : 0;
}

static void take(struct oidc_grant *g, json_t *claims)
{
	const char *sub = json_string_value(json_object_get(claims, "sub"));
	uint8_t md[SHA256_DIGEST_LENGTH];

	if (json_object_get(claims, "cnf")) {
		oidc_decide(g, TG_R_NO_TOKEN, "the token is bound to a key of the agent's (cnf), which "
			    "it does not prove to hold: have one issued that is not");
		return;
	}
	(void)SHA256(g->ask.token.p, g->ask.token.n, md);
	text_hex(md, sizeof(md), g->digest);
	g->subject = strdup(sub ? sub : "");
	g->evidence = json_dumps(claims, JSON_COMPACT | JSON_ENSURE_ASCII);
	g->result.ttl_ms = left_ms(claims);
	if (g->subject && g->evidence)
		oidc_decide(g, TG_R_NONE, "%s", "");
	else
		oidc_decide(g, TG_R_NO_MEMORY, "out of memory");
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
	oidc_decide(g, TG_R_NO_TOKEN, "%s; %s", why, refused_because);
}

void grant_verify_own(struct oidc_grant *g)
{
	const struct oidc_config *c = &g->o->cfg;
	struct jwt_expect want = {
		.issuer = c->issuer,
		.audience = g->ask.audience ? g->ask.audience
			    : c->audience   ? c->audience
					    : c->client_id,
		.algorithms = c->algorithms,
		.now_s = clock_wall_ns() / 1000000000,
		.skew_s = c->skew_ms / 1000,
	};
	char why[OIDC_DETAIL / 2];
	json_t *claims = NULL;

	switch (jwt_verify(g->ask.token, g->o->keys, &want, &claims, why, sizeof(why))) {
	case JWT_OK:
		take(g, claims);
		break;
	case JWT_UNKNOWN_KEY:
		unknown_key(g, why);
		break;
	case JWT_NARROW:
	case JWT_BAD:
		oidc_decide(g, TG_R_NO_TOKEN, "%s", why);
		break;
	}
	json_decref(claims);
}
