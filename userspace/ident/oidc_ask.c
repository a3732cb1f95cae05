/* SPDX-License-Identifier: MIT */
/* What is asked of a provider: kept, compared, and said in the protocol's words. */
#include <errno.h>

#include "ident/oidc_impl.h"
#include "ident/scope.h"

static bool copy_text(struct arena *a, const char **text)
{
	if (*text && !**text)
		*text = NULL;
	if (*text)
		*text = arena_strdup(a, slice_str(*text));
	else
		return true;
	return *text;
}

static bool copy_list(struct arena *a, const char *const **list)
{
	const char **copy;
	size_t n = 0;

	while (*list && (*list)[n])
		n++;
	if (!n) {
		*list = NULL;
		return true;
	}
	copy = arena_alloc(a, (n + 1) * sizeof(*copy));
	for (size_t i = 0; copy && i < n; i++) {
		copy[i] = arena_strdup(a, slice_str((*list)[i]));
		if (!copy[i])
			return false;
	}
	*list = copy;
	return copy;
}

static bool copy_token(struct arena *a, struct slice *token)
{
	uint8_t *copy = token->n ? arena_alloc(a, token->n) : NULL;

	if (!token->n)
		return true;
	if (!copy)
		return false;
	memcpy(copy, token->p, token->n);
	token->p = copy;
	return true;
}

static bool usable(const struct oidc_ask *a)
{
	bool no_scope = a->flow == OIDC_INTROSPECTION || a->flow == OIDC_RECHECK ||
			a->flow == OIDC_VERIFY || a->flow == OIDC_OWN_USE;

	if (!a->agent || !*a->agent)
		return false;
	if (a->scope && *a->scope ? !scope_valid(a->scope) : !no_scope)
		return false;
	if ((oidc_ask_of_token(a) || a->hint_token) && !a->token.n)
		return false;
	return a->flow != OIDC_CIBA || a->hint_token || (a->login_hint && *a->login_hint);
}

int oidc_ask_copy(struct arena *a, const struct oidc_ask *from, struct oidc_ask *ret)
{
	const char **texts[] = {&ret->scope,	&ret->audience, &ret->resource, &ret->login_hint,
				&ret->agent,	&ret->target,	&ret->action,	&ret->user,
				&ret->database, &ret->digest,	&ret->binding_message,
				&ret->groups_claim};

	if (!usable(from))
		return -EINVAL;
	*ret = *from;
	for (size_t i = 0; i < ARRAY_SIZE(texts); i++)
		if (!copy_text(a, texts[i]))
			return -ENOMEM;
	if (!copy_list(a, &ret->approvers) || !copy_list(a, &ret->groups) ||
	    !copy_list(a, &ret->acr) || !copy_token(a, &ret->token))
		return -ENOMEM;
	return 0;
}

static bool same(const char *a, const char *b)
{
	return strcmp(a ? a : "", b ? b : "") == 0;
}

/* Of questions that no person is asked: what the answer depends on. */
bool oidc_ask_same(const struct oidc_ask *a, const struct oidc_ask *b)
{
	return a->flow == b->flow && same(a->scope, b->scope) && same(a->audience, b->audience) &&
	       same(a->resource, b->resource) && same(a->agent, b->agent) &&
	       slice_eq(a->token, b->token) && a->bearer == b->bearer && a->details == b->details &&
	       (!a->details ||
		(same(a->target, b->target) && same(a->action, b->action) &&
		 same(a->user, b->user) && same(a->database, b->database) &&
		 same(a->digest, b->digest) && a->duration_ms == b->duration_ms));
}

const char *oidc_ask_scope(struct arena *a, const char *scope)
{
	static const char *const openid[] = {"openid",	"profile", "email",
					     "address", "phone",   "offline_access"};
	char *list = arena_strdup(a, slice_str(scope ? scope : "")), *word, *save = NULL, *copy;
	size_t room = list ? strlen(list) + 1 : 0, n = 0;

	copy = list ? arena_alloc(a, room) : NULL;
	if (!copy)
		return NULL;
	for (word = strtok_r(list, " ", &save); word; word = strtok_r(NULL, " ", &save)) {
		bool meant = false;

		for (size_t i = 0; i < ARRAY_SIZE(openid); i++)
			meant |= strcmp(word, openid[i]) == 0;
		if (!meant)
			n += (size_t)snprintf(copy + n, room - n, "%s%s", n ? " " : "", word);
	}
	return copy;
}

static json_t *details(const struct oidc_ask *a, const char *type)
{
	/* `actions` and `identifier` are RFC 9396's own words (section 2.2). */
	json_t *actions = a->action ? json_pack("[s]", a->action) : NULL;
	json_t *o = json_pack("{s:s, s:s, s:s*, s:o*, s:s*, s:s*}", "type", type, "agent",
			      a->agent, "identifier", a->target, "actions", actions, "user",
			      a->user, "database", a->database);

	if (o && a->digest &&
	    json_object_set_new(o, "statement_digest",
				json_sprintf("sha-256:%s", a->digest)) != 0) {
		json_decref(o);
		return NULL;
	}
	if (o && a->duration_ms &&
	    json_object_set_new(o, "duration",
				json_integer((json_int_t)(a->duration_ms / 1000))) != 0) {
		json_decref(o);
		return NULL;
	}
	return o;
}

char *oidc_ask_details(const struct oidc_ask *a, const char *type)
{
	json_t *list = json_pack("[o]", details(a, type));
	char *text = list ? json_dumps(list, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;

	json_decref(list);
	return text;
}

static bool says(const json_t *one, const char *name, const json_t *asked, uint64_t *ret_ms)
{
	const json_t *value = json_object_get(one, name);
	double s = json_number_value(value);

	if (strcmp(name, "duration") != 0)
		return json_equal(value, asked);
	if (!json_is_number(value) || s <= 0 || s > (double)json_integer_value(asked))
		return false;
	*ret_ms = (uint64_t)(s * 1000);
	return true;
}

/* What a provider adds does not matter. */
bool oidc_ask_carried(const struct oidc_ask *a, const char *type, const json_t *list,
		      uint64_t *ret_duration_ms)
{
	json_t *asked = details(a, type), *value;
	bool found = false;
	const char *name;

	for (size_t i = 0; asked && !found && i < json_array_size(list); i++) {
		const json_t *one = json_array_get(list, i);

		found = true;
		*ret_duration_ms = a->duration_ms;
		json_object_foreach(asked, name, value) found =
			found && says(one, name, value, ret_duration_ms);
	}
	json_decref(asked);
	return found;
}
