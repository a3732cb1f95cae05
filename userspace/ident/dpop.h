/* SPDX-License-Identifier: MIT */
/*
 * Demonstrating proof of possession (RFC 9449): JWTs by which a request shows that its sender holds
 * a key, and the name of that key which bound tokens carry. Made by keyd. Pure but for random numbers.
 */
#ifndef TIDEGATE_IDENT_DPOP_H
#define TIDEGATE_IDENT_DPOP_H

#include <openssl/evp.h>
#include <openssl/sha.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "ident/b64.h"

enum {
	DPOP_PROOF_MAX = 4096,
	DPOP_NONCE_MAX = 512,
	DPOP_THUMB = B64_TEXT(SHA256_DIGEST_LENGTH),
	DPOP_THUMB_CHARS = 43,
};

struct dpop_claims {
	const char *url;   /* of a POST; its query is left out */
	const char *nonce; /* "": the server has given none */
	uint64_t now_s;
};

/* A fresh key for ES256; NULL: it cannot be made. */
EVP_PKEY *dpop_key_new(void);
/* Appends the compact form. 0, -EINVAL, -EMSGSIZE or -ENOMEM. */
MUST_CHECK int dpop_proof(EVP_PKEY *key, const struct dpop_claims *c, struct buf *ret);
/* RFC 7638: what `jkt` of a token that is bound to the key says. 0 or -EINVAL. */
MUST_CHECK int dpop_thumb(const EVP_PKEY *key, char ret[DPOP_THUMB]);
/* True if a server may have said it (RFC 9449 section 8.1), and we send it back. */
bool dpop_nonce_valid(const char *nonce);

#endif
