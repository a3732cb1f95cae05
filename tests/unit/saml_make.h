/* SPDX-License-Identifier: MIT */
/* Signs XML as an issuer would, and as one who wants more would. */
#ifndef TIDEGATE_TESTS_SAML_MAKE_H
#define TIDEGATE_TESTS_SAML_MAKE_H

#include <openssl/evp.h>

/* NULL: as SAML has it. */
struct saml_sign {
	const char *uri;	/* of the reference; "#_a1" */
	const char *method;	/* "rsa-sha256" of xmldsig-more */
	const char *digest;	/* URI */
	const char *c14n;	/* URI */
	const char *transforms; /* elements */
	const char *more;	/* elements behind SignatureValue */
	const char *second;	/* a second Reference, whole */
};

/* @xml with its `@SIG@` replaced by a signature; the caller frees. */
char *saml_make(EVP_PKEY *key, const char *xml, const struct saml_sign *how);
/* A self-signed certificate, PEM; the caller frees. */
char *saml_certificate(EVP_PKEY *key);
/* A copy of @text with the first @from replaced; aborts if there is none. The caller frees. */
char *saml_replace(const char *text, const char *from, const char *to);

#endif
