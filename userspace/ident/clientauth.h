/* SPDX-License-Identifier: MIT */
/*
 * How a client proves itself at the token endpoint: encodings of the secret
 * (RFC 6749 section 2.3.1) and signed assertions (RFC 7523). Pure but for the
 * randomness of `jti`; no network. Used by keyd, which holds the key, and by
 * the code that puts a request together.
 */
#ifndef TIDEGATE_IDENT_CLIENTAUTH_H
#define TIDEGATE_IDENT_CLIENTAUTH_H

#include <openssl/evp.h>

#include "base/buf.h"
#include "base/compiler.h"

enum {
	CLIENTAUTH_ASSERTION_S = 60, /* lifetime of an assertion */
	CLIENTAUTH_ASSERTION_MAX = 4096,
};

/* application/x-www-form-urlencoded, one value. 0, -EMSGSIZE or -ENOMEM. */
MUST_CHECK int clientauth_form(struct buf *b, struct slice value);
/* "name=value", after a "&" if the buffer is not empty; @name is taken as it is. */
MUST_CHECK int clientauth_param(struct buf *b, const char *name, struct slice value);

/* Appends "Basic ...": id and secret are form-encoded before they are joined. */
MUST_CHECK int clientauth_basic(struct slice id, struct slice secret, struct buf *ret);

struct clientauth_claims {
	const char *client_id; /* iss and sub */
	const char *audience;
	const char *key_id; /* NULL: none */
	const char *alg;    /* ES256, PS256, RS256, EdDSA */
	uint64_t now_s;
};

/* Appends the compact form. 0, -EINVAL (key and algorithm do not fit), -EMSGSIZE, -ENOMEM. */
MUST_CHECK int clientauth_assert(EVP_PKEY *key, const struct clientauth_claims *c, struct buf *ret);

#endif
