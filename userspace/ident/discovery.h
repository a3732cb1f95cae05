/* SPDX-License-Identifier: MIT */
/*
 * The provider's own description (OpenID Connect Discovery 1.0, RFC 8414).
 * It is believed only as far as it speaks about itself: the issuer must be
 * the configured one to the letter, and endpoints must lie on the issuer's own
 * origin (documents that follow the request's Host header exist), or on one
 * that the configuration names.
 */
#ifndef TIDEGATE_IDENT_DISCOVERY_H
#define TIDEGATE_IDENT_DISCOVERY_H

#include "base/compiler.h"
#include "base/slice.h"

enum { DISCOVERY_MAX = 256 << 10 };

struct discovery_rules {
	const char *issuer;
	const char *const *extra_origins; /* "https://keys.example.com", NULL-terminated, or NULL */
	bool allow_http;		  /* on loopback */
	bool keys_only;			  /* no endpoint but `jwks_uri` is needed, and none taken */
	bool mtls; /* of RFC 8705 section 5: endpoints for clients with a certificate come first */
};

struct discovery {
	char *token_endpoint, *jwks_uri; /* no token_endpoint with keys_only */
	/* NULL: the provider has none that may be used. */
	char *backchannel_endpoint;	/* CIBA Core 1.0 section 4 */
	char *device_endpoint;		/* RFC 8628 section 4 */
	char *introspection_endpoint;	/* RFC 8414 section 2 */
	char *userinfo_endpoint;	/* OpenID Connect Core 1.0 section 5.3 */
	bool dpop;			/* it takes proofs that are signed with ES256 (RFC 9449) */
};

/* 0 and *ret (allocated), or -EINVAL if the issuer is no URL that may be used. */
MUST_CHECK int discovery_url(const struct discovery_rules *rules, char **ret);

/* 0, or -EINVAL with a message. */
MUST_CHECK int discovery_parse(struct slice json, const struct discovery_rules *rules,
			       struct discovery *ret, char *error, size_t error_cap);
void discovery_done(struct discovery *d);

#endif
