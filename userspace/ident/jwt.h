/* SPDX-License-Identifier: MIT */
/*
 * Verification of a JSON Web Token (RFC 7519, RFC 8725, RFC 9068) against a
 * key set (RFC 7517): signature with an algorithm from an allow-list, issuer,
 * audience, times, scope. Pure: time is a parameter.
 */
#ifndef TIDEGATE_IDENT_JWT_H
#define TIDEGATE_IDENT_JWT_H

#include <jansson.h>

#include "base/compiler.h"
#include "base/slice.h"

struct jwks;

/* 0 or -EINVAL with a message. Keys that cannot be used are skipped and counted. */
MUST_CHECK int jwks_parse(struct slice json, struct jwks **ret, char *error, size_t error_cap);
void jwks_free(struct jwks *k);
unsigned jwks_count(const struct jwks *k);
unsigned jwks_skipped(const struct jwks *k);

struct jwt_expect {
	const char *issuer, *audience; /* needed */
	const char *scope;	       /* every word of it must be in the token; NULL: any */
	const char *client_id;	       /* must be the token's client_id and azp where it has them */
	const char *const *algorithms; /* NULL-terminated; "none" and HS* are refused even here */
	const char *const *types; /* accepted `typ`, NULL-terminated; NULL: at+jwt, JWT, no typ */
	bool event; /* a security event token (RFC 8417): needs neither subject nor expiry */
	uint64_t now_s, skew_s;
};

enum jwt_status {
	JWT_OK,
	JWT_UNKNOWN_KEY, /* no key of this kid: the set may have been rotated */
	JWT_BAD,	 /* see the message */
	JWT_NARROW,	 /* genuine and for us, but without a word of the scope */
};

enum { JWT_BYTES_MAX = 16 << 10 };

/* Three parts: looks like a signed JWT, and not like an opaque token. */
bool jwt_shaped(struct slice token);

/*
 * *ret_claims (JWT_OK only) is the caller's reference. The claims are not even
 * parsed before the signature is right. The message never quotes the token
 * but for single values of its header and claims, escaped.
 */
MUST_CHECK enum jwt_status jwt_verify(struct slice token, const struct jwks *keys,
				      const struct jwt_expect *expect, json_t **ret_claims,
				      char *error, size_t error_cap);

#endif
