/* SPDX-License-Identifier: MIT */
/*
 * Client of a policy decision point (AuthZEN Authorization API 1.0, section 6: access
 * evaluation, section 9: metadata). Runs in authd beside the identity provider's client; one for each endpoint.
 * Only `"decision": true` in a 200 is a yes.
 */
#ifndef TIDEGATE_IDENT_AUTHZEN_H
#define TIDEGATE_IDENT_AUTHZEN_H

#include <uv.h>

#include "base/compiler.h"
#include "base/jsonw.h"
#include "base/reason.h"

struct authzen;

enum { AUTHZEN_WAITING_MAX = 16384 };

struct authzen_config {
	const char *url;     /* of access evaluation; https, or http on loopback if allowed */
	const char *point;   /* in place of that: the decision point, whose metadata tell it */
	const char *ca_file; /* NULL: the system's */
	bool allow_http;
	uint64_t timeout_ms; /* of a question */
};

/* NULL: not said. */
struct authzen_ask {
	const char *agent;	      /* subject of type "agent" */
	const char *target;	      /* resource of type "target" */
	const char *action;	      /* "connect", or the effect of a statement */
	const char *user, *database, *digest, *text;
	const char *request, *session; /* context */
	const char *facts;	       /* JSON object: properties of the subject */
};

/* Valid during the callback. */
struct authzen_result {
	uint16_t reason;      /* TG_R_NONE: yes; TG_R_PDP_DENIED, TG_R_PDP_FAILED, INTERNAL */
	const char *evidence; /* JSON object: the answer's `context`, for the record; "{}" */
	const char *detail;   /* for the operator; "" */
};

typedef void authzen_done_fn(void *ctx, uint64_t id, const struct authzen_result *r);

/* 0; -EINVAL: the URL cannot be used; or why ca_file cannot be read. */
MUST_CHECK int authzen_new(uv_loop_t *loop, const struct authzen_config *cfg, struct authzen **ret);
/* As oidc_free(). */
void authzen_free(struct authzen *z);
/* @done is called once, never from inside this call, unless cancelled. 0, -EBUSY, -ENOMEM. */
MUST_CHECK int authzen_request(struct authzen *z, uint64_t id, const struct authzen_ask *ask,
			       authzen_done_fn *done, void *ctx);
void authzen_cancel(struct authzen *z, uint64_t id);
/* The body of a question, JSON; NULL: no memory. For tests. */
char *authzen_body(const struct authzen_ask *ask);
/* True: yes. False with words. For tests and fuzzing. */
bool authzen_decision(struct slice body, char **ret_evidence, char *error, size_t error_cap);
/* Members for `status`, into an open object. */
void authzen_describe(const struct authzen *z, struct jsonw *w);

#endif
