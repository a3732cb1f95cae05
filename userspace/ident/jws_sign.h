/* SPDX-License-Identifier: MIT */
/* Signing what jwt.h would verify: used by keyd, which holds the keys. Pure but for random numbers. */
#ifndef TIDEGATE_IDENT_JWS_SIGN_H
#define TIDEGATE_IDENT_JWS_SIGN_H

#include <openssl/evp.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "ident/b64.h"

enum { JWS_SIGN_MAX = 8 << 10, JWS_ID = B64_TEXT(16) };

/* @alg: ES256, PS256, RS256, EdDSA. 0 if the key is of its kind and strong enough, else -EINVAL and why. */
MUST_CHECK int jws_sign_key_fits(const EVP_PKEY *key, const char *alg, const char **ret_why);
/* Appends the compact form of two JSON texts. 0, -EINVAL (key and algorithm do not fit), -EMSGSIZE, -ENOMEM. */
MUST_CHECK int jws_sign(EVP_PKEY *key, const char *alg, struct slice header, struct slice claims,
			struct buf *ret);
/* A `jti` that nobody has used. */
void jws_random_id(char ret[JWS_ID]);

#endif
