/* SPDX-License-Identifier: MIT */
/*
 * Inside of the OpenID Connect client: oidc.c (requests, their life), oidc_ask.c (what is
 * asked, as the protocol says it), oidc_fetch.c (documents of the provider: discovery and
 * keys), oidc_grant.c (one exchange with an endpoint), oidc_person.c (waiting for a person),
 * oidc_check.c (whether the answer is an approval), oidc_own.c (agents' own tokens), oidc_name.c
 * (who that is), oidc_bearer.c (the token that introspection is shown).
 *
 * Everything runs from oidc_run(), which a timer or the end of a transfer
 * calls: it starts what can be started and delivers what is decided. So no
 * callback of the user is ever called from inside a call of the user.
 */
#ifndef TIDEGATE_IDENT_OIDC_IMPL_H
#define TIDEGATE_IDENT_OIDC_IMPL_H

#include <openssl/sha.h>

#include "base/arena.h"
#include "base/clock.h"
#include "base/list.h"
#include "ident/discovery.h"
#include "ident/dpop.h"
#include "ident/b64.h"
#include "ident/health.h"
#include "ident/jwt.h"
#include "ident/oidc.h"
#include "ident/token.h"
#include "net/curl_loop.h"

enum {
	OIDC_DETAIL = 400,
	OIDC_DOC_REFRESH_MS = 10 * 60 * 1000, /* older: fetched anew, behind the requests' back */
	OIDC_DOC_MAX_MS = 60 * 60 * 1000,     /* older: not used any more */
	OIDC_DOC_RETRY_MS = 10 * 1000,	      /* between two fetches behind the back */
};

/* One waiting oidc_request(). */
struct oidc_waiter {
	struct list in_grant;
	uint64_t id;
	oidc_done_fn *done;
	void *ctx;
};

enum oidc_grant_state {
	GRANT_NEEDS_DOCS,	/* discovery and keys */
	GRANT_NEEDS_CREDENTIAL, /* asked for, not here yet */
	GRANT_NEEDS_BEARER,	/* the same; a token of ours */
	GRANT_ASKING,		/* an endpoint */
	GRANT_WAITING,		/* for a person: the next question is due at next_ms */
	GRANT_NEEDS_KEYS,	/* the token is here, signed with a key that is not known yet */
	GRANT_DECIDED,
};

/* Which endpoint is, or will be, asked. */
enum oidc_phase {
	PHASE_TOKEN,	  /* the token endpoint, once */
	PHASE_START,	  /* where a person's decision is asked for */
	PHASE_POLL,	  /* the token endpoint, until there is a decision */
	PHASE_INTROSPECT, /* what an opaque token is worth */
	PHASE_USERINFO,	  /* who that is */
};

/* One question to the provider; equal requests wait for the same. */
struct oidc_grant {
	struct list in_oidc;
	struct list waiters;
	struct oidc *o;
	uint64_t id;
	struct arena arena; /* the question's texts */
	struct oidc_ask ask;
	const char *scope;  /* that the token must hold: without `openid` and its like; "" */
	enum oidc_grant_state state;
	enum oidc_phase phase;
	char *handle; /* auth_req_id or device_code: a secret */
	uint64_t interval_ms, next_ms; /* GRANT_WAITING */
	/* What a ping has to show, once; "": none is expected. A secret. */
	char notify[B64_TEXT(32)];
	bool pinged; /* and it has not been asked since */
	/* A poll's answer was lost: it may have been the yes, after which the handle is a used one. */
	bool answer_lost;
	bool keys_tried; /* the keys were fetched anew for this one */
	uint64_t deadline_ms;
	struct http_transfer *transfer;
	struct token_answer answer;
	struct oidc_result result;
	/* Claims of a genuine answer: the token's, or what introspection says of it; the ID token's; and
	 * what says who that is. NULL: none. */
	json_t *said, *id_said, *named;
	unsigned bearer_no; /* which of our own tokens was shown */
	bool bearer_tried;  /* one was refused, and another one got */
	char *subject, *approver, *evidence;
	/* Of our certificate, as `x5t#S256` says it; "": we have shown none. */
	char thumb[B64_TEXT(SHA256_DIGEST_LENGTH)];
	/* Of the present exchange: a proof (RFC 9449), or NULL, and whose; "": we have shown none. */
	char *proof;
	char jkt[DPOP_THUMB];
	bool proof_wanted; /* the endpoint has asked for one */
	bool nonce_tried;  /* and this is the second time, with the nonce that it gave */
	char digest[2 * SHA256_DIGEST_LENGTH + 1];
	char detail[OIDC_DETAIL];
};

/* A document of the provider. */
struct oidc_doc {
	struct http_transfer *transfer;
	bool have;
	uint64_t at_ms, tried_ms; /* the last success, the last start */
};

struct oidc_counts {
	uint64_t requests, joined, granted, denied, failed, fast_failed, rechecked;
	uint64_t discovery_calls, keys_calls, token_calls, start_calls, introspection_calls, pings;
	uint64_t userinfo_calls;
};

struct oidc {
	uv_loop_t *loop;
	uv_timer_t timer;
	struct arena arena; /* the configuration's texts */
	struct oidc_config cfg;
	struct discovery_rules rules;
	struct oidc_ops ops;
	void *ctx;
	struct curl_loop *http;
	struct curl_loop *tls; /* with a certificate, whose digest is: */
	char thumb[B64_TEXT(SHA256_DIGEST_LENGTH)];
	char nonce[DPOP_NONCE_MAX]; /* the last that the provider gave for proofs; "": none */
	bool dead, running, again;
	struct list grants;
	unsigned waiting;
	uint64_t next_id;
	struct oidc_doc discovery_doc, keys_doc;
	char *discovery_at;
	struct discovery discovery;
	struct jwks *keys;
	uint64_t keys_forced_ms; /* last fetch for an unknown key */
	char *bearer;		 /* what introspection is shown, or NULL: a secret */
	uint64_t bearer_until_ms;
	unsigned bearer_no;
	bool bearer_asked;
	struct health health;
	struct oidc_counts counts;
};

static inline uint64_t oidc_now_ms(void)
{
	return clock_boot_ns() / 1000000;
}

/* oidc.c */
void oidc_run(struct oidc *o);
/* oidc_run() soon, from the loop. */
void oidc_poke(struct oidc *o);
/* The end of a grant; a second call is ignored. */
void oidc_decide(struct oidc_grant *g, uint16_t reason, const char *fmt, ...) PRINTF(3, 4);
/*
 * A failure of the provider itself, noted for `status`. @hard starts or keeps up the back-off.
 */
void oidc_provider_failed(struct oidc *o, uint16_t reason, uint32_t retry_after_s, bool hard,
			  const char *detail, const char *todo);
/* Reason and advice for a transfer that brought no usable status. */
uint16_t oidc_http_reason(const struct http_response *r, const char **ret_todo);

/* oidc_fetch.c: 1: discovery and keys are here; 0: they are being fetched; or why not. */
MUST_CHECK int oidc_docs_ready(struct oidc *o);
/* 0: the keys are being fetched anew; else the reason why not, in words. */
const char *oidc_keys_again(struct oidc *o);

/* oidc_ask.c */
/* 0, -EINVAL or -ENOMEM. */
MUST_CHECK int oidc_ask_copy(struct arena *a, const struct oidc_ask *from, struct oidc_ask *ret);
bool oidc_ask_same(const struct oidc_ask *a, const struct oidc_ask *b);
static inline bool oidc_ask_of_person(const struct oidc_ask *a)
{
	return a->flow == OIDC_CIBA || a->flow == OIDC_DEVICE;
}
static inline bool oidc_ask_of_token(const struct oidc_ask *a)
{
	return a->flow == OIDC_TOKEN_EXCHANGE || a->flow == OIDC_INTROSPECTION ||
	       a->flow == OIDC_SAML_BEARER || a->flow == OIDC_RECHECK || a->flow == OIDC_VERIFY;
}
/* @scope without the words that OpenID Connect itself means: in @a, NULL: no memory. */
const char *oidc_ask_scope(struct arena *a, const char *scope);
/* The value of authorization_details; NULL: no memory. */
char *oidc_ask_details(const struct oidc_ask *a, const char *type);
/*
 * True if one element of @list says all that was asked; *ret_duration_ms is what the provider
 * lowered the duration to.
 */
bool oidc_ask_carried(const struct oidc_ask *a, const char *type, const json_t *list,
		      uint64_t *ret_duration_ms);

/* oidc_grant.c */
void grant_want_credential(struct oidc_grant *g);
/* The same, when there is a proof already or none is needed. */
void grant_want_secret(struct oidc_grant *g);
const char *grant_endpoint(const struct oidc_grant *g);
void grant_ask(struct oidc_grant *g, struct slice credential);
/* Takes what the provider's error means for the question; r->status is 4xx. */
void grant_refused(struct oidc_grant *g, const struct http_response *r,
		   const struct token_error *e);

/* oidc_bound.c */
/* The certificate for the requests from here on. 0, -EINVAL, -ENOMEM, -EOPNOTSUPP. */
MUST_CHECK int bound_use_certificate(struct oidc *o, struct slice chain);
/* The next exchange needs a proof: it has been asked for, and then grant_want_credential() goes on. */
bool bound_ask_proof(struct oidc_grant *g);
/* Takes up the nonce of an answer. True: it wants another try with it, which has begun. */
bool bound_again(struct oidc_grant *g, const struct http_response *r);
/* NULL, or why the token with @claims, which was issued to us, is not ours to use. */
const char *bound_check(const struct oidc_grant *g, const json_t *claims);

/* oidc_person.c */
/* What the provider has to show when it pings: a new one. */
const char *person_notify_token(struct oidc_grant *g);
/* The provider will ask the person. */
void person_started(struct oidc_grant *g, struct slice body);
/* True: there is no decision yet, it will be asked for again. */
bool person_waits_on(struct oidc_grant *g, const struct token_error *e);
/* The provider could not be asked this time. */
void person_try_later(struct oidc_grant *g);
/* @code ends the poll: what it means, and what else it may, or "". */
uint16_t person_reason(const struct oidc_grant *g, const char *code, const char **ret_but);

/* oidc_own.c: OIDC_VERIFY, once the keys are here. */
void grant_verify_own(struct oidc_grant *g);

/* oidc_check.c */
/* What was said is genuine, and of somebody whose name is known. */
void grant_settle(struct oidc_grant *g);
void grant_verify(struct oidc_grant *g);
void grant_introspected(struct oidc_grant *g, struct slice body);

#endif
