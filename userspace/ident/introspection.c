/* SPDX-License-Identifier: MIT */
#include "ident/introspection.h"

#include <string.h>

#include "ident/scope.h"

static bool names_audience(const json_t *aud, const char *want)
{
	if (json_is_string(aud))
		return strcmp(json_string_value(aud), want) == 0;
	for (size_t i = 0; i < json_array_size(aud); i++) {
		const char *one = json_string_value(json_array_get(aud, i));

		if (one && strcmp(one, want) == 0)
			return true;
	}
	return false;
}

const char *introspection_check(const json_t *o, const struct introspection_rules *q,
				bool *ret_denied)
{
	const json_t *iss = json_object_get(o, "iss"), *aud = json_object_get(o, "aud");
	const json_t *nbf = json_object_get(o, "nbf");
	struct slice missing;

	*ret_denied = true;
	if (!json_is_true(json_object_get(o, "active")))
		return "the token is not active";
	if (json_object_get(o, "cnf") && !q->bound)
		return "the token is bound to a key of the agent's, which it did not prove to hold";
	if (q->scope[0] && !scope_covers(json_object_get(o, "scope"), q->scope, &missing))
		return "the token lacks a word of the scope";
	*ret_denied = false;
	if (iss && strcmp(json_is_string(iss) ? json_string_value(iss) : "", q->issuer) != 0)
		return "the token is another issuer's";
	if (aud ? !names_audience(aud, q->audience) : q->named)
		return "the token is for another audience";
	if (json_is_number(nbf) && json_number_value(nbf) > (double)(q->now_s + q->skew_s))
		return "the token is not valid yet";
	if (!json_is_number(json_object_get(o, "exp")))
		return "the provider does not say when the token ends";
	return NULL;
}
