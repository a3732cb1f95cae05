/* SPDX-License-Identifier: MIT */
/*
 * What a provider tells by itself: logout tokens (OpenID Connect Back-Channel Logout 1.0) and
 * security event tokens (RFC 8417) of CAEP and RISC, pushed over HTTP (RFC 8935). Pure: what
 * jwt.h has verified is read here, and the one HTTP request that brings it.
 */
#ifndef TIDEGATE_IDENT_SECEVENT_H
#define TIDEGATE_IDENT_SECEVENT_H

#include <jansson.h>

#include "base/compiler.h"
#include "base/slice.h"

enum {
	SECEVENT_FRESH_S = 300, /* an older one is refused */
	SECEVENT_TEXT = 256,
	SECEVENT_PING_MAX = 1024, /* bytes of an auth_req_id; longer ones are polled for */
	SECEVENT_HEAD_MAX = 8 << 10,
	SECEVENT_BODY_MAX = 20 << 10,
};

struct secevent {
	const char *kind; /* static; "verification" ends nothing */
	bool ends;	  /* the subject's access */
	char jti[SECEVENT_TEXT], subject[SECEVENT_TEXT], session[SECEVENT_TEXT];
};

/* Values of `typ`, NULL-terminated. */
extern const char *const secevent_types[];

/*
 * @claims are genuine, of @issuer and for us. True, or why not: an error code of RFC 8935 and
 * words, both static.
 */
struct secevent_error {
	const char *code, *words;
};
MUST_CHECK bool secevent_read(const json_t *claims, const char *issuer, uint64_t now_s,
			      uint64_t skew_s, struct secevent *ret, struct secevent_error *ret_error);

enum secevent_http { SECEVENT_MORE, SECEVENT_WHOLE, SECEVENT_REFUSED };

struct secevent_request {
	struct slice token; /* in the input */
	bool logout;	    /* it came as a form's logout_token: the answer is 200, not 202 */
	bool ping; /* of CIBA (Core 1.0 section 10.2): @token is JSON; who sends it shows: */
	struct slice bearer;
	int status;	    /* SECEVENT_REFUSED: the HTTP status that says why */
};

/* The auth_req_id in the body of a ping; false: it has none that could be one. */
MUST_CHECK bool secevent_ping(const struct secevent_request *q, char ret[SECEVENT_PING_MAX]);

/* One POST; what stands behind it is ignored. The same for every cut of the input. */
enum secevent_http secevent_request(struct slice in, struct secevent_request *ret);

#endif
