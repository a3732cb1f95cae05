/* SPDX-License-Identifier: MIT */
/*
 * OpenID Connect client for approvals: discovery, JWKS, one of six ways to ask,
 * and complete verification of the token that is the answer. Runs in authd, on a libuv loop, through libcurl's multi interface: nothing
 * blocks, every request has a deadline.
 */
#ifndef TIDEGATE_IDENT_OIDC_H
#define TIDEGATE_IDENT_OIDC_H

#include <uv.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/jsonw.h"
#include "base/reason.h"
#include "ident/secevent.h"
#include "net/far_key.h"

struct oidc;

/* What tells who an approver or an agent is, where `sub` is only a number. */
enum oidc_name {
	OIDC_NAME_TOKEN,	 /* the ID token, or what is known of the access token */
	OIDC_NAME_USERINFO,	 /* OpenID Connect Core 1.0 section 5.3 */
	OIDC_NAME_INTROSPECTION, /* RFC 7662 */
};

/* RFC 9449: tokens that are bound to a key of ours. AUTO: where the provider says that it can. */
enum oidc_dpop { OIDC_DPOP_AUTO, OIDC_DPOP_ON, OIDC_DPOP_OFF };

/* Copied by oidc_new(). NULL and 0: the default. */
struct oidc_config {
	const char *issuer, *client_id; /* needed */
	const char *audience;		/* expected `aud`, and sent; NULL: client_id, not sent */
	const char *resource;		/* RFC 8707, sent; NULL: not sent */
	const char *ca_file;		/* PEM, read by oidc_new(); NULL: the system's */
	/*
	 * RFC 9396: type of the authorization_details that say who asks for what. NULL: the
	 * provider is not told.
	 */
	const char *details_type;
	const char *const *algorithms;	  /* NULL-terminated; NULL: RS256 PS256 ES256 EdDSA */
	const char *const *extra_origins; /* where endpoints may lie besides the issuer's origin */
	const char *assertion_audience;	  /* NULL: the token endpoint; "endpoint": the one that is called */
	const char *name_claim;		  /* of whom is `name_from`; NULL: sub */
	enum oidc_name name_from;	  /* USERINFO: tokens are not bound by DPoP */
	/* Introspection shows a token that is got with this scope (NULL: none), no client. */
	bool introspect_bearer;
	const char *introspect_scope;
	enum oidc_dpop dpop;		  /* ON: a token that is not bound is no approval */
	bool keys_only;			  /* of the issuer of workload tokens: OIDC_VERIFY, no more */
	bool secret_post;		  /* else basic */
	bool private_key_jwt;
	bool tls_auth; /* by a certificate (RFC 8705); what is called a credential is its chain then */
	bool allow_http;      /* issuer on a loopback address only */
	uint64_t timeout_ms;  /* of one HTTP request; a whole oidc_request() has twice that; 5 s */
	uint64_t skew_ms;     /* clock tolerance */
	uint64_t keys_min_ms; /* between two fetches of the keys for an unknown one; 10 s */
};

enum { OIDC_WAITING_MAX = 16384 }; /* requests that wait for an answer */

enum oidc_flow {
	OIDC_CLIENT_CREDENTIALS, /* RFC 6749 section 4.4 */
	OIDC_TOKEN_EXCHANGE,	 /* RFC 8693: about the agent's own token */
	OIDC_CIBA,		 /* CIBA Core 1.0, poll or ping mode: a person on a device of theirs */
	OIDC_DEVICE,		 /* RFC 8628: a person, with a code */
	OIDC_INTROSPECTION,	 /* RFC 7662: the agent's own token is good */
	OIDC_SAML_BEARER,	 /* RFC 7522: about the agent's own SAML assertion */
	OIDC_RECHECK,		 /* RFC 7662: a token that was an approval still is one */
	OIDC_VERIFY,		 /* the agent's own token by its signature: only keys are fetched */
	OIDC_OWN_USE,		 /* client_credentials for our own requests: not looked into */
};

/* What is asked. Copied by oidc_request(). NULL and 0: none, or the configuration's. */
struct oidc_ask {
	enum oidc_flow flow;
	const char *scope; /* may be NULL with OIDC_INTROSPECTION, _RECHECK, _VERIFY and _OWN_USE only */
	const char *audience, *resource;
	const char *login_hint, *binding_message; /* OIDC_CIBA */
	bool hint_token; /* the same: @token says whom to ask, in the place of login_hint */
	struct slice token; /* the agent's; the flows about it need it */
	bool bearer; /* whoever holds the token that is issued can use it: it is not bound by DPoP */

	/*
	 * With @details the request carries authorization_details that say the following, and
	 * a token that does not say the same is no approval. The provider may lower the duration.
	 */
	bool details;
	const char *agent, *target, *action; /* @agent is needed */
	const char *user, *database, *digest; /* of a statement, hex */
	uint64_t duration_ms;

	/* Who may approve; NULL-terminated lists. Both NULL: whom the provider asked. */
	const char *const *approvers; /* `sub`, or the name */
	const char *const *groups;    /* values of the claim @groups_claim */
	const char *groups_claim;
	const char *const *acr; /* asked for, and one of them must be in the ID token */
	uint64_t max_age_ms;	/* since the approver authenticated */

	uint64_t hold_ms; /* a person may take so long */
	uint64_t poll_ms; /* 5 s */
	bool ping; /* OIDC_CIBA: the provider tells by oidc_ping() that there is an answer */
};

/*
 * Authentication of the client at the token endpoint; authd holds no key, so it is made
 * elsewhere (keyd). The callee calls oidc_credential() now or later with the same id.
 */
struct oidc_ops {
	/*
	 * @audience: for a client assertion; NULL: the client secret is wanted, or the chain of
	 * certificates (see tls_chain_read()). @id is not the
	 * id of an oidc_request(): several of those may wait for one answer of the provider.
	 */
	void (*need_credential)(void *ctx, uint64_t id, const char *audience);
	/* With tls_auth: signs for the certificate that need_credential() was answered with. */
	far_sign_fn *sign;
	/* A proof for a POST to @url (RFC 9449); as above, for oidc_proof(). NULL: none can be made. */
	void (*need_proof)(void *ctx, uint64_t id, const char *url, const char *nonce);
	/* A person is being asked; @id of the oidc_request(). @code, @uri: "" if there is none. */
	void (*pending)(void *ctx, uint64_t id, const char *words, const char *code,
			const char *uri);
};

/* Valid during the callback. Texts are never NULL, and "" if there is nothing to say. */
struct oidc_result {
	uint16_t reason;   /* TG_R_NONE: granted; else TG_R_IDP_*, NO_TOKEN, INTERNAL or NO_MEMORY */
	uint64_t ttl_ms;   /* until the token's exp, or its expires_in if that is sooner */
	const char *scope; /* the scope that was asked for: all of it was granted */
	const char *subject;	   /* of the token, or its name as configured */
	const char *approver;	   /* the person who said yes; "": none did */
	const char *token_digest; /* SHA-256 of the token, hex */
	struct slice token; /* that was issued for the question: a secret; empty: none was */
	const char *evidence;	   /* JSON object: what the token says, for the record; all of it if OIDC_VERIFY */
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
 * Equal requests in flight are asked once, unless a person is asked.
 * @done is called exactly once, never from inside this call, unless cancelled.
 * 0; -EINVAL: the scope is no scope, or what the flow needs is missing; -EBUSY: OIDC_WAITING_MAX;
 * -ENOMEM.
 */
MUST_CHECK int oidc_request(struct oidc *o, uint64_t id, const struct oidc_ask *ask,
			    oidc_done_fn *done, void *ctx);
void oidc_cancel(struct oidc *o, uint64_t id);
/* The secret or assertion that need_credential() asked for; wiped by the callee after use. */
void oidc_credential(struct oidc *o, uint64_t id, struct slice credential, int error);
/* The proof that need_proof() asked for, and the name of its key: dpop_thumb(). */
void oidc_proof(struct oidc *o, uint64_t id, struct slice proof, struct slice thumb, int error);
/*
 * Somebody says that the question @auth_req_id has an answer, and shows @token. True: they were told
 * this token for it, and have not said so before. The answer itself is asked of the provider.
 */
bool oidc_ping(struct oidc *o, const char *auth_req_id, struct slice token);
/*
 * An event that somebody has brought. 0; -EAGAIN: the provider's keys are being fetched, ask again
 * soon, with the same *keys_tried (false at first); -EBADMSG: see *ret_error.
 */
struct oidc_event_error {
	const char *code; /* of RFC 8935 */
	char words[200];
};
MUST_CHECK int oidc_event(struct oidc *o, struct slice token, const char *audience,
			  bool *keys_tried, struct secevent *ret,
			  struct oidc_event_error *ret_error);
/* State for `status`, an object: up or down, since when, last error, what to do, keys, counts. */
void oidc_describe(const struct oidc *o, struct jsonw *w);
/* The same, as members of an object that is open. */
void oidc_describe_into(const struct oidc *o, struct jsonw *w);

#endif
