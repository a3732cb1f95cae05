/* SPDX-License-Identifier: MIT */
/*
 * A private key that is in another process. To OpenSSL it is an EVP_PKEY as any other: its public
 * half is that of a certificate, and signing calls back. What the callback gets is the whole text
 * that is to be signed, not a digest of it, so that who holds the key can see what he signs.
 */
#ifndef TIDEGATE_NET_FAR_KEY_H
#define TIDEGATE_NET_FAR_KEY_H

#include <openssl/evp.h>
#include <openssl/x509.h>

#include "base/compiler.h"
#include "base/slice.h"

enum far_scheme { FAR_ECDSA, FAR_RSA_PKCS1, FAR_RSA_PSS };
enum { FAR_SIG_MAX = 1024 }; /* RSA with 8192 bits */

struct far_ask {
	enum far_scheme scheme;
	const char *digest; /* "SHA256", "SHA384" or "SHA512"; PSS salts are as long */
	struct slice text;
	struct slice certificate; /* whose key is meant: SHA-256 of its DER form */
};

/* 0 and the signature, or a negative errno. Called from inside OpenSSL; it may take its time. */
typedef int far_sign_fn(void *ctx, const struct far_ask *q, uint8_t sig[FAR_SIG_MAX], size_t *ret_n);

/* Makes OpenSSL know such keys: once a process, before its sandbox. 0 or -EOPNOTSUPP. */
MUST_CHECK int far_key_init(void);
/* When all keys are gone. */
void far_key_done(void);

/* NULL: the certificate's key is neither EC nor RSA, or no memory. @ctx outlives the key. */
EVP_PKEY *far_key_new(X509 *certificate, far_sign_fn *sign, void *ctx);

#endif
