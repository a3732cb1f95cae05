/* SPDX-License-Identifier: MIT */
#include "ident/oidc_name.h"

#include "ident/strict_json.h"

const json_t *name_claim(const struct oidc_grant *g, const char *claim)
{
	const json_t *v = g->id_said ? json_object_get(g->id_said, claim) : NULL;

	return v ? v : json_object_get(g->said, claim);
}

/* Of our own client's tokens there is nobody to be named. */
bool name_needed(const struct oidc_grant *g)
{
	const struct oidc_config *c = &g->o->cfg;

	if (!c->name_claim && c->name_from == OIDC_NAME_TOKEN)
		return false;
	return oidc_ask_of_person(&g->ask) || g->ask.flow == OIDC_TOKEN_EXCHANGE ||
	       g->ask.flow == OIDC_INTROSPECTION || g->ask.flow == OIDC_SAML_BEARER;
}

bool name_wanted(struct oidc_grant *g)
{
	if (!name_needed(g) || g->named)
		return false;
	switch (g->o->cfg.name_from) {
	case OIDC_NAME_TOKEN:
		return false;
	case OIDC_NAME_USERINFO:
		g->phase = PHASE_USERINFO;
		break;
	case OIDC_NAME_INTROSPECTION:
		if (g->phase == PHASE_INTROSPECT) { /* and that is all that is known of it */
			g->named = json_incref(g->said);
			return false;
		}
		g->phase = PHASE_INTROSPECT;
		break;
	}
	g->proof_wanted = false;
	grant_want_credential(g);
	return true;
}

struct slice name_token(const struct oidc_grant *g)
{
	return g->ask.flow == OIDC_INTROSPECTION ? g->ask.token : g->answer.token;
}

/* OpenID Connect Core 1.0 section 5.3.2: else it is somebody else's, and must not be used. */
static bool same_subject(const struct oidc_grant *g, const json_t *o)
{
	const json_t *sub = name_claim(g, "sub");

	return json_is_string(sub) && json_equal(sub, json_object_get(o, "sub"));
}

static void take(struct oidc_grant *g, json_t *o, const char *what)
{
	if (!same_subject(g, o)) {
		oidc_decide(g, TG_R_IDP_BAD_ANSWER, "%s speaks of another `sub` than the token, or of none",
			    what);
		return;
	}
	g->named = json_incref(o);
	grant_settle(g);
}

void name_told(struct oidc_grant *g, struct slice body)
{
	char error[200];
	json_t *o = strict_json_object(body, TOKEN_BODY_MAX, error, sizeof(error));

	if (o) {
		health_good(&g->o->health, clock_wall_ns());
		take(g, o, "userinfo");
	} else {
		oidc_decide(g, TG_R_IDP_BAD_ANSWER, "userinfo: %s", error);
	}
	json_decref(o);
}

void name_introspected(struct oidc_grant *g, json_t *o)
{
	if (json_is_true(json_object_get(o, "active")))
		take(g, o, "introspection");
	else
		oidc_decide(g, TG_R_IDP_DENIED, "introspection: the token is not active");
}

static bool can_be_shown(const char *name)
{
	size_t n = 0;

	for (; name[n]; n++)
		if ((unsigned char)name[n] < ' ' || name[n] == 127)
			return false;
	return n > 0 && n <= OIDC_NAME_BYTES;
}

const char *name_of(const struct oidc_grant *g)
{
	const char *claim = g->o->cfg.name_claim ? g->o->cfg.name_claim : "sub", *name;

	if (!name_needed(g))
		return json_string_value(name_claim(g, "sub"));
	if (g->o->cfg.name_from == OIDC_NAME_TOKEN)
		name = json_string_value(name_claim(g, claim));
	else
		name = strict_json_string(g->named, claim);
	return name && can_be_shown(name) ? name : NULL;
}
