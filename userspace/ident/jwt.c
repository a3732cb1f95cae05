/* SPDX-License-Identifier: MIT */
/*
 * Verification of one token. Follows RFC 8725 (best practices): the allow-list
 * chooses the algorithm, the key set binds each key to its kind, the header's
 * own pointers to keys (jku, x5u, jwk, x5c) are never looked at.
 */
#include "ident/jwt.h"

#include <stdarg.h>
#include <strings.h>

#include "base/text.h"
#include "ident/b64.h"
#include "ident/jws.h"
#include "ident/scope.h"
#include "ident/strict_json.h"

enum {
	HEADER_MAX = 4096,    /* bytes, decoded */
	TRIES_MAX = 8,	      /* keys tried for a token that names none */
	QUOTE_MAX = 80,	      /* bytes of a value shown in a message */
	TIME_MAX_S = 1 << 30, /* seconds that a token may still live: 34 years */
};

struct check {
	const struct jwt_expect *want;
	char *error;
	size_t error_cap;
};

static enum jwt_status bad(const struct check *c, const char *fmt, ...) PRINTF(2, 3);
static enum jwt_status bad(const struct check *c, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(c->error, c->error_cap, fmt, ap);
	va_end(ap);
	return JWT_BAD;
}

/* A peer's value, made fit for a message. */
struct quote {
	char s[QUOTE_MAX * 4 + 1];
};

static const char *quote(const char *value, struct quote *q)
{
	struct slice s = slice_str(value);

	if (s.n > QUOTE_MAX)
		s.n = QUOTE_MAX;
	(void)text_escape(s, q->s, sizeof(q->s));
	return q->s;
}

struct parts {
	struct slice header, payload, sig, signed_part;
};

/* Exactly three parts, none of them empty (an unsigned token has an empty third). */
static bool split(struct slice token, struct parts *ret)
{
	const uint8_t *dot1 = token.n ? memchr(token.p, '.', token.n) : NULL, *dot2;
	size_t left;

	if (!dot1)
		return false;
	left = token.n - (size_t)(dot1 - token.p) - 1;
	dot2 = memchr(dot1 + 1, '.', left);
	if (!dot2)
		return false;
	ret->header = slice_of(token.p, (size_t)(dot1 - token.p));
	ret->payload = slice_of(dot1 + 1, (size_t)(dot2 - dot1) - 1);
	ret->signed_part = slice_of(token.p, (size_t)(dot2 - token.p));
	ret->sig = slice_from(token, ret->signed_part.n + 1);
	return !memchr(dot2 + 1, '.', ret->sig.n) && ret->header.n && ret->payload.n;
}

bool jwt_shaped(struct slice token)
{
	struct parts p;

	return split(token, &p);
}

static json_t *decode_object(const struct check *c, struct slice part, size_t max, const char *what)
{
	char why[120] = "no base64url";
	uint8_t *mem = malloc(max);
	json_t *j = NULL;
	size_t n;

	if (mem && b64_url_decode(part, mem, max, &n) == 0)
		j = strict_json_object(slice_of(mem, n), max, why, sizeof(why));
	free(mem);
	if (!j)
		(void)bad(c, "the token's %s: %s", what, why);
	return j;
}

/* RFC 9068 section 4: case does not matter, "application/" may be left out. */
static bool type_accepted(const char *typ, const char *const *types)
{
	static const char *const usual[] = {"at+jwt", "JWT", NULL};

	if (strncasecmp(typ, "application/", 12) == 0)
		typ += 12;
	for (types = types ? types : usual; *types; types++)
		if (strcasecmp(typ, *types) == 0)
			return true;
	return false;
}

static bool alg_allowed(const char *alg, const char *const *algorithms)
{
	for (; algorithms && *algorithms; algorithms++)
		if (strcmp(alg, *algorithms) == 0)
			return true;
	return false;
}

static enum jwt_status check_header(const struct check *c, const json_t *h,
				    const struct jws_alg **ret_alg)
{
	const json_t *typ = json_object_get(h, "typ"), *kid = json_object_get(h, "kid");
	const char *alg = strict_json_string(h, "alg");
	const struct jws_alg *found;
	struct quote q;

	if (!alg)
		return bad(c, "the token names no signature algorithm");
	found = jws_alg_find(alg);
	if (!found || !alg_allowed(alg, c->want->algorithms))
		return bad(c, "signature algorithm `%s` is not allowed", quote(alg, &q));
	if (json_object_get(h, "crit") || json_object_get(h, "b64"))
		return bad(c, "the token has a critical header extension, none is understood");
	if (kid && (!json_is_string(kid) || json_string_length(kid) > JWS_KID_MAX))
		return bad(c, "the token's key id is no string or too long");
	if (typ && !json_is_string(typ))
		return bad(c, "the token's type is no string");
	if (typ && !type_accepted(json_string_value(typ), c->want->types))
		return bad(c, "a token of type `%s` is not accepted",
			   quote(json_string_value(typ), &q));
	if (!typ && c->want->types)
		return bad(c, "the token has no type");
	*ret_alg = found;
	return JWT_OK;
}

static enum jwt_status check_signature(const struct check *c, const struct jwks *keys,
				       struct slice token, const struct parts *p,
				       const struct jws_alg *alg, const char *kid)
{
	uint8_t mem[JWS_SIG_MAX];
	unsigned named = 0, tried = 0;
	struct slice sig = {.p = mem, .n = 0};
	struct quote q;

	if (p->sig.n == 0 || b64_url_decode(p->sig, mem, sizeof(mem), &sig.n))
		return bad(c, "the token has no readable signature");
	for (unsigned i = 0; i < keys->count && tried < TRIES_MAX; i++) {
		const struct jws_key *k = &keys->keys[i];

		if (kid && (!k->kid || strcmp(k->kid, kid) != 0))
			continue;
		named++;
		if (!jws_key_fits(k, alg))
			continue;
		tried++;
		if (jws_verify(k, alg, token, p->signed_part, sig))
			return JWT_OK;
	}
	if (kid && named)
		return tried ? bad(c, "the signature is wrong")
			     : bad(c, "key `%s` is not for %s", quote(kid, &q), alg->name);
	/* Without a name, a key that was replaced shows as a signature that nobody made. */
	if (kid)
		(void)bad(c, "key `%s` is not in the provider's key set", quote(kid, &q));
	else
		(void)bad(c, "no %s key of the provider's key set made the signature", alg->name);
	return JWT_UNKNOWN_KEY;
}

/* NumericDate (RFC 7519 section 2): seconds, perhaps with a fraction. */
static bool numeric_date(const json_t *j, uint64_t *ret)
{
	double v = json_number_value(j);

	if (!json_is_number(j) || !(v >= 0) || v > 1e15)
		return false;
	*ret = json_is_integer(j) ? (uint64_t)json_integer_value(j) : (uint64_t)v;
	return true;
}

static enum jwt_status check_times(const struct check *c, const json_t *claims)
{
	const json_t *nbf = json_object_get(claims, "nbf"), *iat = json_object_get(claims, "iat");
	uint64_t now = c->want->now_s, skew = c->want->skew_s, t;

	if (c->want->event && !json_object_get(claims, "exp"))
		t = now + 1;
	else if (!numeric_date(json_object_get(claims, "exp"), &t))
		return bad(c, "the token has no valid expiry (exp)");
	if (t + skew <= now)
		return bad(c, "the token expired %llu s ago", (unsigned long long)(now - t));
	if (t > now && t - now > TIME_MAX_S)
		return bad(c, "the token's expiry (exp) is absurd; is it in milliseconds?");
	if (nbf && !numeric_date(nbf, &t))
		return bad(c, "the token's start (nbf) is no time");
	if (nbf && t > now + skew)
		return bad(c, "the token is valid only in %llu s: are the clocks right?",
			   (unsigned long long)(t - now));
	if (iat && !numeric_date(iat, &t))
		return bad(c, "the token's time of issue (iat) is no time");
	if (iat && t > now + skew)
		return bad(c, "the token was issued %llu s in the future: are the clocks right?",
			   (unsigned long long)(t - now));
	return JWT_OK;
}

static bool audience_matches(const json_t *aud, const char *want)
{
	bool found = false;

	if (json_is_string(aud))
		return strcmp(json_string_value(aud), want) == 0;
	for (size_t i = 0; i < json_array_size(aud); i++) {
		const char *a = json_string_value(json_array_get(aud, i));

		if (!a)
			return false;
		if (strcmp(a, want) == 0)
			found = true;
	}
	return found;
}

static enum jwt_status check_parties(const struct check *c, const json_t *claims)
{
	static const char *const client_claims[] = {"client_id", "azp"};
	const char *iss = strict_json_string(claims, "iss"), *sub;
	struct quote q;

	if (!iss || strcmp(iss, c->want->issuer) != 0)
		return bad(c, "the token's issuer is `%s`, not `%s`", quote(iss, &q),
			   c->want->issuer);
	if (!audience_matches(json_object_get(claims, "aud"), c->want->audience)) {
		const char *aud = strict_json_string(claims, "aud");

		return bad(c, "the token's audience (%s) is not `%s`",
			   aud ? quote(aud, &q) : "a list or missing", c->want->audience);
	}
	sub = strict_json_string(claims, "sub");
	if (!c->want->event && (!sub || !*sub))
		return bad(c, "the token has no subject");
	for (size_t i = 0; c->want->client_id && i < ARRAY_SIZE(client_claims); i++) {
		const json_t *v = json_object_get(claims, client_claims[i]);

		if (v && (!json_is_string(v) || strcmp(json_string_value(v), c->want->client_id)))
			return bad(c, "the token was issued to another client (%s `%s`)",
				   client_claims[i], quote(json_string_value(v), &q));
	}
	return JWT_OK;
}

static enum jwt_status check_scope(const struct check *c, const json_t *claims)
{
	const json_t *granted = json_object_get(claims, "scope");
	struct slice missing;

	if (!c->want->scope)
		return JWT_OK;
	if (!granted)
		granted = json_object_get(claims, "scp"); /* Entra ID, Okta */
	if (scope_covers(granted, c->want->scope, &missing))
		return JWT_OK;
	(void)bad(c, "the token does not grant scope `%.*s`", (int)missing.n,
		  (const char *)missing.p);
	return JWT_NARROW;
}

static enum jwt_status check_claims(const struct check *c, const json_t *claims)
{
	enum jwt_status s = check_parties(c, claims);

	if (s == JWT_OK)
		s = check_times(c, claims);
	return s == JWT_OK ? check_scope(c, claims) : s;
}

enum jwt_status jwt_verify(struct slice token, const struct jwks *keys,
			   const struct jwt_expect *expect, json_t **ret_claims, char *error,
			   size_t error_cap)
{
	struct check c = {.want = expect, .error = error, .error_cap = error_cap};
	const struct jws_alg *alg = NULL;
	json_t *header, *claims;
	enum jwt_status s;
	struct parts p;

	if (token.n > JWT_BYTES_MAX)
		return bad(&c, "the token has %zu bytes, at most %d are read", token.n,
			   JWT_BYTES_MAX);
	if (!split(token, &p))
		return bad(&c, "the token is no signed JWT");
	header = decode_object(&c, p.header, HEADER_MAX, "header");
	if (!header)
		return JWT_BAD;
	s = check_header(&c, header, &alg);
	if (s == JWT_OK)
		s = check_signature(&c, keys, token, &p, alg, strict_json_string(header, "kid"));
	json_decref(header);
	if (s != JWT_OK)
		return s;
	claims = decode_object(&c, p.payload, JWT_BYTES_MAX, "claims");
	if (!claims)
		return JWT_BAD;
	s = check_claims(&c, claims);
	if (s == JWT_OK)
		*ret_claims = claims;
	else
		json_decref(claims);
	return s;
}
