/* SPDX-License-Identifier: MIT */
/* Requests to a provider's endpoints as an authenticated client, and what comes back. Pure. */
#ifndef TIDEGATE_IDENT_TOKEN_H
#define TIDEGATE_IDENT_TOKEN_H

#include <jansson.h>

#include "base/buf.h"
#include "base/compiler.h"

enum {
	TOKEN_BODY_MAX = 64 << 10, /* of the answer */
	TOKEN_REQUEST_MAX = 32 << 10,
};

enum token_auth {
	TOKEN_AUTH_BASIC,
	TOKEN_AUTH_POST,
	TOKEN_AUTH_ASSERTION,
	TOKEN_AUTH_BEARER, /* not as a client, but with a token (RFC 6750 section 2.1) */
	TOKEN_AUTH_TLS, /* by the connection's certificate: the request says only who we are */
};

struct token_param {
	const char *name;
	struct slice value; /* empty: not sent */
};

struct token_request {
	const char *client_id;
	const struct token_param *params;
	unsigned nparams;
	enum token_auth auth;
	struct slice credential; /* the secret, the assertion or the token; nothing with TLS */
};

/*
 * @ret_header: "Authorization: ..." or left empty. 0, -EMSGSIZE, -ENOMEM; -EINVAL: a token that is to
 * be shown is none.
 */
MUST_CHECK int token_request_build(const struct token_request *q, struct buf *ret_body,
				   struct buf *ret_header);

struct token_answer {
	json_t *json; /* owns the rest */
	struct slice token;
	const json_t *scope; /* NULL: not said, as asked (section 5.1) */
	bool dpop; /* of type DPoP: good only for who holds the key (RFC 9449) */
	bool has_expiry;
	uint64_t expires_in_s;
};

/* A successful answer. 0, or -EINVAL with a message. */
MUST_CHECK int token_answer_parse(struct slice body, struct token_answer *ret, char *error,
				  size_t error_cap);
/* The string that @name holds, or NULL. */
const char *token_answer_string(const struct token_answer *a, const char *name);
/* Overwrites the tokens; safe on a zeroed one. */
void token_answer_done(struct token_answer *a);

struct token_error {
	char code[64];	       /* as registered or not; "" if the body has none */
	char description[200]; /* escaped */
};

/* Anything may stand in the body of a 4xx: nothing at all, HTML, JSON without `error`. */
void token_error_parse(struct slice body, struct token_error *ret);

#endif
