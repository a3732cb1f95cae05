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

struct oidc_config {
	const char *issuer, *client_id, *audience, *resource, *ca_file;
	const char *const *algorithms; /* NULL-terminated */
	bool secret_post;	       /* else basic */
	bool private_key_jwt;
	bool allow_http;
	uint64_t timeout_ms, skew_ms;
};

/*
 * Authentication of the client at the token endpoint; authd holds no key, so it is made
 * elsewhere (keyd). The callee calls oidc_credential() now or later with the same id.
 */
struct oidc_ops {
	/* @audience: for a client assertion; NULL: the client secret is wanted. */
	void (*need_credential)(void *ctx, uint64_t id, const char *audience);
};

struct oidc_result {
	uint16_t reason;    /* TG_R_NONE: granted */
	uint64_t ttl_ms;    /* until the token's exp */
	const char *scope;  /* granted scope */
	const char *subject;
	const char *token_digest; /* SHA-256 of the token, hex */
	const char *detail; /* what failed, without secrets; for the operator */
};

typedef void oidc_done_fn(void *ctx, uint64_t id, const struct oidc_result *r);

MUST_CHECK int oidc_new(uv_loop_t *loop, const struct oidc_config *cfg, const struct oidc_ops *ops,
			void *ctx, struct oidc **ret);
/* Cancels everything; callbacks do not fire any more. */
void oidc_free(struct oidc *o);
/*
 * Asks whether @agent may use @scope. Equal requests in flight are asked once.
 * @done is called exactly once, never from inside this call, unless cancelled.
 */
MUST_CHECK int oidc_request(struct oidc *o, uint64_t id, const char *agent, const char *scope,
			    oidc_done_fn *done, void *ctx);
void oidc_cancel(struct oidc *o, uint64_t id);
/* The secret or assertion that need_credential() asked for; wiped by the callee after use. */
void oidc_credential(struct oidc *o, uint64_t id, struct slice credential, int error);
/* State for `status`: reachable, since when, last error, keys, counts. */
void oidc_describe(const struct oidc *o, struct jsonw *w);

#endif
