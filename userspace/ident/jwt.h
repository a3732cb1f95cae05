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

struct jwt_expect {
	const char *issuer, *audience;
	const char *scope;	       /* every word of it must be in the token; NULL: any */
	const char *const *algorithms; /* NULL-terminated; never "none" or HS* */
	const char *const *types;      /* accepted `typ`, NULL-terminated; NULL: at+jwt, JWT, none */
	uint64_t now_s, skew_s;
};

enum jwt_status {
	JWT_OK,
	JWT_UNKNOWN_KEY, /* no key of this kid: the set may have been rotated */
	JWT_BAD,	 /* see the message */
};

/* *ret_claims (JWT_OK only) is the caller's reference. */
MUST_CHECK enum jwt_status jwt_verify(struct slice token, const struct jwks *keys,
				      const struct jwt_expect *expect, json_t **ret_claims,
				      char *error, size_t error_cap);

#endif
