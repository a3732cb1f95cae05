/* SPDX-License-Identifier: MIT */
/*
 * The signature by which a TLS client proves that it holds the key of its certificate (RFC 8446
 * section 4.4.3, RFC 5246 section 7.4.8). Made by keyd; nothing but such a proof is signed. Pure.
 */
#ifndef TIDEGATE_IDENT_TLS_SIGN_H
#define TIDEGATE_IDENT_TLS_SIGN_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "base/buf.h"
#include "net/far_key.h"

enum { TLS_CHAIN_MAX = 8, TLS_CHAIN_BYTES = 24 << 10, TLS_THUMB = 32 };

/* 0 if such a key may prove a client, else -EINVAL and why. */
MUST_CHECK int tls_sign_key_fits(const EVP_PKEY *key, const char **ret_why);

/* 0; -EPERM: the text is no TLS client's proof; -EINVAL: key, scheme and digest do not fit. */
MUST_CHECK int tls_sign(EVP_PKEY *key, const struct far_ask *q, uint8_t sig[FAR_SIG_MAX],
			size_t *ret_n);

/*
 * The certificates in @pem, @key's own first, appended to @ret in DER form one behind the other;
 * -EINVAL and why: none is there, the first is not the key's, or there are too many.
 */
MUST_CHECK int tls_chain_read(struct slice pem, const EVP_PKEY *key, struct buf *ret,
			      const char **ret_why);
/* SHA-256 of the first one, which is what `x5t#S256` says (RFC 8705 section 3). */
MUST_CHECK int tls_chain_thumb(struct slice chain, uint8_t ret[TLS_THUMB]);

#endif
