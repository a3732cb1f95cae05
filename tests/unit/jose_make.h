/* SPDX-License-Identifier: MIT */
/* Makes keys, key sets and tokens for tests; good and bad ones alike. */
#ifndef TIDEGATE_TESTS_JOSE_MAKE_H
#define TIDEGATE_TESTS_JOSE_MAKE_H

#include <openssl/evp.h>

/* "RSA" (2048 bits), "RSA1024", "P-256", "P-384", "Ed25519". */
EVP_PKEY *jose_key(const char *kind);

/*
 * The public half as a JWK. @more: further members, each with a leading comma
 * (",\"kid\":\"a\""), may be "". The caller frees.
 */
char *jose_jwk(EVP_PKEY *key, const char *more);

/*
 * A compact token over exactly these texts, signed as @alg says (RS256, PS256,
 * ES256, ES384, EdDSA), whatever the header claims. The caller frees.
 */
char *jose_token(EVP_PKEY *key, const char *alg, const char *header, const char *claims);

/* base64url; the caller frees. */
char *jose_b64(const void *p, size_t n);

#endif
