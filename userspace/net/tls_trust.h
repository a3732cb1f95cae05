/* SPDX-License-Identifier: MIT */
/*
 * Whom a server that is spoken TLS with must be: the authorities, the least version, the keys that it
 * may have. Shared by the connections to one target.
 */
#ifndef TIDEGATE_NET_TLS_TRUST_H
#define TIDEGATE_NET_TLS_TRUST_H

#include <openssl/ssl.h>
#include <stdbool.h>

#include "base/compiler.h"
#include "base/slice.h"

enum { TLS_PIN = 32, TLS_BINDING_MAX = 64 };

struct tls_trust_spec {
	struct slice authorities; /* PEM; each of them is trusted, whoever issued it */
	bool only_13;		  /* not TLS 1.2 */
	const uint8_t (*pins)[TLS_PIN]; /* SHA-256 of a key, SubjectPublicKeyInfo; borrowed */
	uint32_t npins;			/* 0: any key */
};

struct tls_trust {
	SSL_CTX *ctx;
	const uint8_t (*pins)[TLS_PIN];
	uint32_t npins;
};

/* Loads what OpenSSL reads from files, and more: once a process, before its sandbox. 0 or -EOPNOTSUPP. */
MUST_CHECK int tls_init(void);

/* 0; or -EINVAL or -ENOMEM and why. */
MUST_CHECK int tls_trust_new(const struct tls_trust_spec *spec, struct tls_trust *ret,
			     const char **ret_why);
void tls_trust_done(struct tls_trust *t);

/* The key of @x is one of those that are allowed. */
bool tls_trust_has_key(const struct tls_trust *t, X509 *x);

/*
 * Channel binding `tls-server-end-point` (RFC 5929 section 4.1) of the server's certificate: how many
 * bytes; 0: none is defined, as its signature has no hash of its own.
 */
size_t tls_end_point(X509 *x, uint8_t ret[TLS_BINDING_MAX]);

#endif
