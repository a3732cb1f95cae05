/* SPDX-License-Identifier: MIT */
/*
 * OpenID Connect client for machine approval: discovery, client_credentials
 * with a scope (RFC 6749 4.4), JWKS, and complete verification of the token.
 * Runs in authd, on a libuv loop, through libcurl's multi interface: nothing
 * blocks, every request has a deadline.
 */
#ifndef TIDEGATE_IDENT_OIDC_H
#define TIDEGATE_IDENT_OIDC_H

#include <uv.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/jsonw.h"
#include "base/reason.h"

struct oidc;

/* Copied by oidc_new(). NULL and 0: the default. */
struct oidc_config {
	const char *issuer, *client_id; /* needed */
	const char *audience;		/* expected `aud`, and sent; NULL: client_id, not sent */
	const char *resource;		/* RFC 8707, sent; NULL: not sent */
	const char *ca_file;		/* PEM, read by oidc_new(); NULL: the system's */
	/*
	 * RFC 9396: if set, each request carries authorization_details of this type that name the
	 * agent, and a token that does not carry them, too, grants nothing. NULL: the provider
	 * is not told which agent asks.
	 */
	const char *details_type;
	const char *const *algorithms;	  /* NULL-terminated; NULL: RS256 PS256 ES256 EdDSA */
	const char *const *extra_origins; /* where endpoints may lie besides the issuer's origin */
	const char *assertion_audience;	  /* NULL: the token endpoint */
	bool secret_post;		  /* else basic */
	bool private_key_jwt;
	bool allow_http;      /* issuer on a loopback address only */
	uint64_t timeout_ms;  /* of one HTTP request; a whole oidc_request() has twice that; 5 s */
	uint64_t skew_ms;     /* clock tolerance */
	uint64_t keys_min_ms; /* between two fetches of the keys for an unknown one; 10 s */
};

enum { OIDC_WAITING_MAX = 4096 }; /* requests that wait for an answer */

/*
 * Authentication of the client at the token endpoint; authd holds no key, so it is made
 * elsewhere (keyd). The callee calls oidc_credential() now or later with the same id.
 */
struct oidc_ops {
	/*
	 * @audience: for a client assertion; NULL: the client secret is wanted. @id is not the
	 * id of an oidc_request(): several of those may wait for one answer of the provider.
	 */
	void (*need_credential)(void *ctx, uint64_t id, const char *audience);
};

/* Valid during the callback. Texts are never NULL, and "" if there is nothing to say. */
struct oidc_result {
	uint16_t reason;   /* TG_R_NONE: granted; else TG_R_IDP_*, INTERNAL or NO_MEMORY */
	uint64_t ttl_ms;   /* until the token's exp, or its expires_in if that is sooner */
	const char *scope; /* the scope that was asked for: all of it was granted */
	const char *subject;
	const char *token_digest; /* SHA-256 of the token, hex */
	const char *detail;	  /* what failed, escaped and without secrets; for the operator */
};

typedef void oidc_done_fn(void *ctx, uint64_t id, const struct oidc_result *r);

/*
 * 0; -EINVAL: issuer, client_id or an algorithm cannot be used; or why ca_file cannot be read.
 * Nothing is sent before the first request.
 */
MUST_CHECK int oidc_new(uv_loop_t *loop, const struct oidc_config *cfg, const struct oidc_ops *ops,
			void *ctx, struct oidc **ret);
/*
 * Cancels everything; callbacks do not fire any more. May be called from one. The memory goes
 * when the loop has closed the handles: run it once more.
 */
void oidc_free(struct oidc *o);
/*
 * Asks whether @agent may use @scope. Equal requests in flight are asked once.
 * @done is called exactly once, never from inside this call, unless cancelled.
 * 0; -EINVAL: @scope is no scope; -EBUSY: OIDC_WAITING_MAX; -ENOMEM.
 */
MUST_CHECK int oidc_request(struct oidc *o, uint64_t id, const char *agent, const char *scope,
			    oidc_done_fn *done, void *ctx);
void oidc_cancel(struct oidc *o, uint64_t id);
/* The secret or assertion that need_credential() asked for; wiped by the callee after use. */
void oidc_credential(struct oidc *o, uint64_t id, struct slice credential, int error);
/* State for `status`, an object: up or down, since when, last error, what to do, keys, counts. */
void oidc_describe(const struct oidc *o, struct jsonw *w);

#endif
