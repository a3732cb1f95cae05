/* SPDX-License-Identifier: MIT */
#include "ident/token.h"

#include <errno.h>
#include <strings.h>

#include "base/text.h"
#include "ident/clientauth.h"
#include "ident/strict_json.h"

static const char assertion_type[] = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/* Any character besides these would be another header, or a part of this one. */
static bool is_bearer(struct slice token)
{
	for (size_t i = 0; i < token.n; i++)
		if (token.p[i] <= ' ' || token.p[i] > '~')
			return false;
	return token.n > 0;
}

static int append_bearer(struct slice token, struct buf *header)
{
	int err = is_bearer(token) ? buf_printf(header, "Authorization: Bearer ") : -EINVAL;

	if (!err)
		err = buf_append_slice(header, token);
	return err ? err : buf_append(header, "", 1);
}

static int append_auth(const struct token_request *q, struct buf *body, struct buf *header)
{
	int err;

	if (q->auth == TOKEN_AUTH_BEARER)
		return append_bearer(q->credential, header);
	if (q->auth == TOKEN_AUTH_BASIC) {
		err = buf_printf(header, "Authorization: ");
		if (!err)
			err = clientauth_basic(slice_str(q->client_id), q->credential, header);
		return err ? err : buf_append(header, "", 1);
	}
	/* With an assertion it is not needed (RFC 7521 section 4.2), but some ask for it. */
	err = clientauth_param(body, "client_id", slice_str(q->client_id));
	if (!err && q->auth == TOKEN_AUTH_POST)
		return clientauth_param(body, "client_secret", q->credential);
	if (q->auth == TOKEN_AUTH_TLS)
		return err;
	if (!err)
		err = clientauth_param(body, "client_assertion_type", slice_str(assertion_type));
	return err ? err : clientauth_param(body, "client_assertion", q->credential);
}

int token_request_build(const struct token_request *q, struct buf *ret_body, struct buf *ret_header)
{
	int err = 0;

	for (unsigned i = 0; !err && i < q->nparams; i++)
		if (q->params[i].value.n)
			err = clientauth_param(ret_body, q->params[i].name, q->params[i].value);
	return err ? err : append_auth(q, ret_body, ret_header);
}

/* A number, or digits in a string as some providers have it; absent is fine. */
static bool parse_expiry(const json_t *j, struct token_answer *a)
{
	if (!j || json_is_null(j))
		return true;
	a->has_expiry = true;
	if (json_is_string(j))
		return text_parse_u64(slice_str(json_string_value(j)), 0, UINT32_MAX,
				      &a->expires_in_s) == 0;
	if (!json_is_number(j) || json_number_value(j) < 0 || json_number_value(j) > UINT32_MAX)
		return false;
	a->expires_in_s = (uint64_t)json_number_value(j);
	return true;
}

static const char *check_answer(struct token_answer *a)
{
	const json_t *token = json_object_get(a->json, "access_token");
	const char *type = strict_json_string(a->json, "token_type");

	if (!json_is_string(token) || json_string_length(token) == 0)
		return "the provider's answer holds no access_token";
	/* RFC 6749 section 5.1: the type's case does not matter, its absence does. */
	a->dpop = type && strcasecmp(type, "DPoP") == 0;
	if (!type || (!a->dpop && strcasecmp(type, "Bearer") != 0))
		return "the token's type is neither Bearer nor DPoP";
	a->token = slice_of(json_string_value(token), json_string_length(token));
	if (!parse_expiry(json_object_get(a->json, "expires_in"), a))
		return "expires_in is no number of seconds";
	a->scope = json_object_get(a->json, "scope");
	if (json_is_null(a->scope))
		a->scope = NULL;
	return NULL;
}

int token_answer_parse(struct slice body, struct token_answer *ret, char *error, size_t error_cap)
{
	struct token_answer a = {
		.json = strict_json_object(body, TOKEN_BODY_MAX, error, error_cap)};
	const char *why;

	if (!a.json)
		return -EINVAL;
	why = check_answer(&a);
	if (why) {
		struct token_error e;

		/* An error with status 200 is seen in the field. */
		token_error_parse(body, &e);
		(void)snprintf(error, error_cap, "%s%s%s", why, e.code[0] ? ": " : "", e.code);
		token_answer_done(&a);
		return -EINVAL;
	}
	*ret = a;
	return 0;
}

const char *token_answer_string(const struct token_answer *a, const char *name)
{
	return strict_json_string(a->json, name);
}

void token_answer_done(struct token_answer *a)
{
	static const char *const secrets[] = {"access_token", "refresh_token", "id_token"};

	for (size_t i = 0; a->json && i < ARRAY_SIZE(secrets); i++)
		strict_json_wipe(json_object_get(a->json, secrets[i]));
	json_decref(a->json);
	*a = (struct token_answer){.json = NULL};
}

void token_error_parse(struct slice body, struct token_error *ret)
{
	char ignored[128];
	json_t *j = strict_json_object(body, TOKEN_BODY_MAX, ignored, sizeof(ignored));

	*ret = (struct token_error){.code = ""};
	if (!j)
		return;
	(void)text_escape(slice_str(strict_json_string(j, "error")), ret->code, sizeof(ret->code));
	(void)text_escape(slice_str(strict_json_string(j, "error_description")), ret->description,
			  sizeof(ret->description));
	json_decref(j);
}
