/* SPDX-License-Identifier: MIT */
#include "daemon/cfgsame.h"

#include <string.h>

bool cfgsame_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

bool cfgsame_list(const char *const *a, const char *const *b)
{
	if (!a || !b)
		return a == b;
	while (*a && *b && strcmp(*a, *b) == 0) {
		a++;
		b++;
	}
	return !*a && !*b;
}

bool cfgsame_idp(const struct cfg_idp *a, const struct cfg_idp *b)
{
	if (!a || !b)
		return a == b;
	return cfgsame_text(a->issuer, b->issuer) && cfgsame_text(a->client_id, b->client_id) &&
	       a->auth == b->auth && cfgsame_text(a->audience, b->audience) &&
	       cfgsame_text(a->resource, b->resource) && cfgsame_text(a->details_type, b->details_type) &&
	       cfgsame_text(a->ca_file, b->ca_file) && cfgsame_list(a->algorithms, b->algorithms) &&
	       cfgsame_list(a->extra_origins, b->extra_origins) &&
	       cfgsame_text(a->assertion_audience, b->assertion_audience) &&
	       cfgsame_text(a->events_audience, b->events_audience) &&
	       a->introspect_bearer == b->introspect_bearer &&
	       cfgsame_text(a->introspect_scope, b->introspect_scope) &&
	       cfgsame_text(a->name_claim, b->name_claim) && a->name_from == b->name_from &&
	       a->dpop == b->dpop && a->timeout_ms == b->timeout_ms && a->skew_ms == b->skew_ms &&
	       a->allow_http == b->allow_http;
}

static bool same_saml(const struct cfg_saml *a, const struct cfg_saml *b)
{
	return cfgsame_text(a->issuer, b->issuer) && cfgsame_text(a->audience, b->audience) &&
	       cfgsame_text(a->recipient, b->recipient) &&
	       cfgsame_text(a->certificate_file, b->certificate_file) && a->once == b->once &&
	       a->response == b->response && a->lifetime_ms == b->lifetime_ms &&
	       a->skew_ms == b->skew_ms;
}

static bool same_way(const struct cfg_way *a, const struct cfg_way *b)
{
	return strcmp(a->name, b->name) == 0 && a->kind == b->kind &&
	       cfgsame_text(a->scope, b->scope) && cfgsame_text(a->audience, b->audience) &&
	       cfgsame_text(a->resource, b->resource) && cfgsame_text(a->login_hint, b->login_hint) &&
	       a->hint_token == b->hint_token && a->binding == b->binding && a->delivery == b->delivery && a->details == b->details &&
	       cfgsame_list(a->approvers, b->approvers) && cfgsame_list(a->groups, b->groups) &&
	       cfgsame_text(a->groups_claim, b->groups_claim) && cfgsame_list(a->acr, b->acr) &&
	       a->max_age_ms == b->max_age_ms && a->poll_ms == b->poll_ms &&
	       a->timeout_ms == b->timeout_ms && cfgsame_text(a->url, b->url) &&
	       cfgsame_text(a->decision_point, b->decision_point) && cfgsame_text(a->ca_file, b->ca_file) &&
	       same_saml(&a->saml, &b->saml) && cfgsame_text(a->then, b->then);
}

bool cfgsame_ways(const struct config *a, const struct config *b)
{
	if (a->nways != b->nways)
		return false;
	for (uint32_t i = 0; i < a->nways; i++)
		if (!same_way(&a->ways[i], &b->ways[i]))
			return false;
	return true;
}
