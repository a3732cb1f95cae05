/* SPDX-License-Identifier: MIT */
/*
 * Keys and signature algorithms behind jwt.h. A key is bound to one kind of
 * algorithm when the set is read, so a token cannot choose what its key means.
 */
#ifndef TIDEGATE_IDENT_JWS_H
#define TIDEGATE_IDENT_JWS_H

#include <cjose/cjose.h>
#include <openssl/evp.h>

#include "base/compiler.h"
#include "base/slice.h"

enum {
	JWS_KEYS_MAX = 64,
	JWS_KID_MAX = 256, /* bytes */
	JWS_SET_MAX = 256 << 10,
	JWS_SIG_MAX = 1024, /* RSA with 8192 bits */
};

enum jws_kind { JWS_RSA, JWS_P256, JWS_P384, JWS_P521, JWS_ED25519 };

struct jws_alg {
	const char *name;
	enum jws_kind kind;
	uint16_t sig_bytes; /* 0: as long as the modulus */
};

struct jws_key {
	char *kid;		   /* NULL: the set gives none */
	const struct jws_alg *alg; /* NULL: every algorithm of the kind */
	enum jws_kind kind;
	cjose_jwk_t *jwk; /* all kinds but Ed25519, which cjose does not know */
	EVP_PKEY *ed;
};

struct jwks {
	struct jws_key keys[JWS_KEYS_MAX];
	unsigned count, skipped;
};

/* NULL for everything that is not an asymmetric signature, `none` and HS* among it. */
const struct jws_alg *jws_alg_find(const char *name);

/* True if the key may be used with the algorithm. */
bool jws_key_fits(const struct jws_key *k, const struct jws_alg *alg);

/*
 * @token is the compact form, @signed_part its first two parts with the dot
 * between them, @sig the decoded third; the header's alg is @alg.
 */
bool jws_verify(const struct jws_key *k, const struct jws_alg *alg, struct slice token,
		struct slice signed_part, struct slice sig);

#endif
