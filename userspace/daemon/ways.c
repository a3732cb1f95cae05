/* SPDX-License-Identifier: MIT */
#include "daemon/ways.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>
#include <stdlib.h>

#include "base/text.h"
#include "config/cfghint.h"
#include "ident/b64.h"
#include "ident/saml.h"

static bool have(const struct cfg_way **list, int n, const struct cfg_way *w)
{
	for (int i = 0; i < n; i++)
		if (list[i] == w)
			return true;
	return false;
}

static int add_chain(const struct config *c, const struct cfg_way *w, const struct cfg_way **list,
		     int n)
{
	while (w && !have(list, n, w)) {
		if (n == WAYS_MAX)
			return -E2BIG;
		list[n++] = w;
		w = w->then ? config_way(c, slice_str(w->then)) : NULL;
	}
	return n;
}

int ways_list(const struct config *c, const struct idp_ask *q, const struct cfg_way *ret[WAYS_MAX],
	      struct slice *ret_missing)
{
	const char *at = q->ways;
	int n = 0;

	while (*at && n >= 0) {
		size_t len = strcspn(at, " ");
		struct slice name = slice_of(at, len);
		const struct cfg_way *w = config_way(c, name);

		if (w) {
			n = add_chain(c, w, ret, n);
		} else if (!slice_eq_str(name, "idp")) {
			*ret_missing = name;
			return -ENOENT;
		} else if (n == WAYS_MAX) {
			return -E2BIG;
		} else {
			ret[n++] = NULL;
		}
		at += len + (at[len] == ' ');
	}
	return n;
}

bool ways_need_token(const struct config *c, const char *ways)
{
	const struct cfg_way *list[WAYS_MAX];
	struct slice missing;
	int n = ways_list(c, &(struct idp_ask){.ways = ways}, list, &missing);

	for (int i = 0; i < n; i++)
		if (list[i] && (list[i]->kind == WAY_TOKEN_EXCHANGE ||
				list[i]->kind == WAY_INTROSPECTION ||
				list[i]->kind == WAY_SAML_BEARER || list[i]->kind == WAY_SAML ||
				list[i]->hint_token))
			return true;
	return false;
}

/* ------------------------------------------------------------------- texts */

static const char *placeholder(struct slice name, const struct idp_ask *q)
{
	const struct {
		const char *name, *value;
	} table[] = {
		{"agent", q->agent},	   {"target", q->target},   {"user", q->user},
		{"database", q->database}, {"request", q->request},
	};

	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (slice_eq_str(name, table[i].name))
			return table[i].value;
	return NULL;
}

/* What an agent says itself goes in between what the template says, and nowhere else. */
static int expand_text(const char *template, const struct idp_ask *q, bool quoted, char *dst, size_t cap)
{
	size_t n = 0;

	while (*template && n < cap) {
		const char *end = *template == '{' ? strchr(template, '}') : NULL;
		const char *value =
			end ? placeholder(slice_of(template + 1, (size_t)(end - template - 1)), q)
			    : NULL;

		if (!value) {
			dst[n++] = *template++;
			continue;
		}
		for (const char *c = value; !quoted && *c; c++)
			if ((unsigned char)*c < ' ' || *c == 127)
				return -EILSEQ;
		n += (size_t)snprintf(dst + n, cap - n, "%s", value);
		template = end + 1;
	}
	if (n >= cap)
		return -EMSGSIZE;
	dst[n] = 0;
	return 0;
}

/* The strings of a JSON template, each by itself: whatever is put in stays inside of it. */
static int expand_strings(json_t *v, const struct idp_ask *q)
{
	char text[HINT_MAX];
	json_t *one;
	const char *name;
	size_t i;
	int err = 0;

	if (json_is_string(v)) {
		err = expand_text(json_string_value(v), q, true, text, sizeof(text));
		/* It takes UTF-8 only. */
		return err ? err : json_string_set(v, text) == 0 ? 0 : -EILSEQ;
	}
	json_object_foreach(v, name, one)
	{
		err = expand_strings(one, q);
		if (err)
			return err;
	}
	json_array_foreach(v, i, one)
	{
		err = expand_strings(one, q);
		if (err)
			return err;
	}
	return 0;
}

static int expand_json(json_t *v, const struct idp_ask *q, char *dst, size_t cap)
{
	int err = expand_strings(v, q);
	char *text = err ? NULL : json_dumps(v, JSON_COMPACT | JSON_ENSURE_ASCII | JSON_ENCODE_ANY);

	if (!err && !text)
		err = -ENOMEM;
	else if (!err && strlen(text) >= cap)
		err = -EMSGSIZE;
	else if (!err)
		memcpy(dst, text, strlen(text) + 1);
	free(text);
	return err;
}

int ways_expand(const char *template, const struct idp_ask *q, char *dst, size_t cap)
{
	json_t *v;
	int err = -ENOTSUP;

	switch (cfghint_read(template, &v)) {
	case CFGHINT_PLAIN:
		err = expand_text(template, q, false, dst, cap);
		break;
	case CFGHINT_JSON:
		err = expand_json(v, q, dst, cap);
		break;
	case CFGHINT_BROKEN:
		break; /* no configuration that is accepted has one */
	}
	json_decref(v);
	return err;
}

/* White space and what is not plain text would let a statement draw over what is asked. */
static void plain(const char *text, char *dst, size_t cap)
{
	size_t n = 0;
	bool space = false;

	for (; *text && n + 2 < cap; text++) {
		unsigned char c = (unsigned char)*text;

		if (c <= ' ' || c == 127) {
			space = n > 0;
			continue;
		}
		if (space)
			dst[n++] = ' ';
		space = false;
		dst[n++] = c < 127 ? (char)c : '?';
	}
	dst[n] = 0;
}

/* What is too long is cut, and says so: the digest, not the message, is what is approved. */
static void PRINTF(2, 3) put_line(char dst[BINDING_MAX + 1], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	if (vsnprintf(dst, BINDING_MAX + 1, fmt, ap) > BINDING_MAX)
		memcpy(dst + BINDING_MAX - 3, "...", 3);
	va_end(ap);
}

void ways_binding(enum way_binding kind, const struct idp_ask *q, char dst[BINDING_MAX + 1])
{
	char text[BINDING_MAX];

	dst[0] = 0;
	plain(q->text, text, sizeof(text));
	if (kind == BINDING_SHORT)
		put_line(dst, "%.20s", q->request);
	else if (kind == BINDING_LONG && q->effect[0])
		put_line(dst, "%s: %s wants %s on %s: %s", q->request, q->agent, q->effect,
			 q->target, text);
	else if (kind == BINDING_LONG)
		put_line(dst, "%s: %s wants access to %s", q->request, q->agent, q->target);
}

/* --------------------------------------------------------------- questions */

static const char *digest_text(const struct idp_ask *q, struct arena *a)
{
	char *hex = arena_alloc(a, 2 * sizeof(q->digest) + 1);

	if (hex)
		text_hex(q->digest, sizeof(q->digest), hex);
	return hex;
}

static int fill_person(const struct cfg_way *w, const struct idp_ask *q, struct arena *a,
		       struct oidc_ask *ret)
{
	char *hint = arena_alloc(a, HINT_MAX), *binding = arena_alloc(a, BINDING_MAX + 1);
	int err;

	if (!hint || !binding)
		return -ENOMEM;
	err = w->login_hint ? ways_expand(w->login_hint, q, hint, HINT_MAX) : 0;
	if (err)
		return err;
	ways_binding(w->binding, q, binding);
	ret->login_hint = hint;
	ret->binding_message = binding;
	ret->approvers = w->approvers;
	ret->groups = w->groups;
	ret->groups_claim = w->groups_claim;
	ret->acr = w->acr;
	ret->max_age_ms = w->max_age_ms;
	ret->poll_ms = w->poll_ms;
	ret->ping = w->delivery == DELIVERY_PING;
	return 0;
}

/* The agent may hold its assertion in another form than RFC 7522 section 2.1 wants it. */
static bool assertion(const struct idp_ask *q, struct arena *a, struct slice *ret)
{
	struct buf xml;
	char *text;
	bool ok;

	buf_init(&xml, SAML_MAX);
	ok = saml_decode(q->token, &xml) == 0;
	text = ok ? arena_alloc(a, B64_TEXT(xml.n)) : NULL;
	if (text)
		*ret = slice_of(text, b64_url_encode(buf_slice(&xml), text));
	/* What is no assertion in any form goes as it is: the provider will say so. */
	buf_wipe(&xml);
	return text || !ok;
}

int ways_oidc(const struct cfg_way *w, const struct idp_ask *q, struct arena *a,
	      struct oidc_ask *ret)
{
	static const enum oidc_flow flows[] = {
		[WAY_CLIENT_CREDENTIALS] = OIDC_CLIENT_CREDENTIALS,
		[WAY_TOKEN_EXCHANGE] = OIDC_TOKEN_EXCHANGE,
		[WAY_CIBA] = OIDC_CIBA,
		[WAY_DEVICE] = OIDC_DEVICE,
		[WAY_INTROSPECTION] = OIDC_INTROSPECTION,
		[WAY_SAML_BEARER] = OIDC_SAML_BEARER,
	};

	*ret = (struct oidc_ask){
		.flow = w ? flows[w->kind] : OIDC_CLIENT_CREDENTIALS,
		.scope = w && w->scope && !q->scope[0] ? w->scope : q->scope,
		.audience = w ? w->audience : NULL,
		.resource = w ? w->resource : NULL,
		.token = q->token,
		.hint_token = w && w->hint_token,
		.details = !w || w->details,
		.agent = q->agent,
		.target = q->target,
		.action = q->effect[0] ? q->effect : "connect",
		.user = q->user,
		.database = q->database,
		.digest = q->has_digest ? digest_text(q, a) : NULL,
		.duration_ms = q->has_digest ? 0 : q->max_ms,
		.hold_ms = q->hold_ms,
	};
	if (q->has_digest && !ret->digest)
		return -ENOMEM;
	if ((ret->flow == OIDC_TOKEN_EXCHANGE || ret->flow == OIDC_INTROSPECTION ||
	     ret->flow == OIDC_SAML_BEARER || ret->hint_token) && !q->token.n)
		return -ENODATA;
	if (ret->flow == OIDC_SAML_BEARER && !assertion(q, a, &ret->token))
		return -ENOMEM;
	return w ? fill_person(w, q, a, ret) : 0;
}
