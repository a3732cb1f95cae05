/* SPDX-License-Identifier: MIT */
/*
 * HTTP requests on a libuv loop, through libcurl's multi interface. Made for
 * talking to an identity provider, so strict where curl is lenient: https only
 * (http on loopback if allowed), no redirects, no proxy, no netrc, no cookies,
 * no compression, one CA, a deadline and a size for every answer. Names are
 * resolved by curl's own threads.
 */
#ifndef TIDEGATE_NET_CURL_LOOP_H
#define TIDEGATE_NET_CURL_LOOP_H

#include <uv.h>

#include "base/compiler.h"
#include "base/slice.h"
#include "net/far_key.h"

struct curl_loop;
struct http_transfer;

enum http_error {
	HTTP_OK,	  /* there is a status, whichever */
	HTTP_UNREACHABLE, /* name, connection, or cut off in the middle */
	HTTP_UNTRUSTED,	  /* TLS failed: certificate, name or version */
	HTTP_TIMEOUT,	  /* deadline, or too slow */
	HTTP_TOO_LARGE,
	HTTP_BROKEN,	  /* what came is no HTTP */
	HTTP_NOT_ALLOWED, /* the URL is not one that may be used */
	HTTP_UNSIGNED,	  /* TLS failed, because our own key could not be used */
	HTTP_UNPROVEN,	  /* TLS failed: the server does not take our certificate */
};

struct http_request {
	const char *url;
	const char *const *headers; /* "Name: value", NULL-terminated, or NULL */
	const struct slice *body;   /* POST; NULL: GET */
	uint64_t timeout_ms;
	size_t max_bytes; /* of the answer's body */
	const char *want; /* static: a header of the answer that is looked for, or NULL */
};

struct http_response {
	enum http_error error;
	int status;
	/* How often it was sent. 0: it did not come so far; 2: a kept connection had ended, so that
	 * libcurl sent it once more, and what became of the first is not known. */
	unsigned sent;
	struct slice body;	/* valid until the callback returns, then overwritten */
	const char *type;	/* Content-Type, may be "" */
	const char *wanted;	/* value of the header that was asked for, "" if it came not once */
	uint32_t retry_after_s; /* 0: not given */
	const char *detail;	/* for an operator; never holds a header or a body */
};

typedef void http_done_fn(void *ctx, const struct http_response *r);

/*
 * @ca_file: PEM, read now; NULL: the system's. @allow_http: for loopback
 * addresses only, which is checked again on the address that is connected to.
 */
MUST_CHECK int curl_loop_new(uv_loop_t *loop, const char *ca_file, bool allow_http,
			     struct curl_loop **ret);

/* A client certificate, for servers that ask for one; its key is elsewhere. */
struct http_identity {
	struct slice chain; /* certificates in DER form, one behind the other, our own first */
	far_sign_fn *sign;
	void *ctx; /* outlives the loop */
};
enum { HTTP_CHAIN_MAX = 8 };

/*
 * Another one with @like's authorities, whose connections are its own: none that was made without
 * the certificate, or with an older one, is used again. 0, -ENOMEM, -EINVAL: the chain is none;
 * -EOPNOTSUPP: this libcurl does TLS with another library than OpenSSL.
 */
MUST_CHECK int curl_loop_new_as(const struct curl_loop *like, const struct http_identity *who,
				struct curl_loop **ret);
/* No more transfers will be started: frees itself when the last one ends. */
void curl_loop_retire(struct curl_loop *l);

/*
 * Ends all transfers, without callbacks; may be called from one. The memory
 * goes when the loop has closed the handles: run it once more.
 */
void curl_loop_free(struct curl_loop *l);

/*
 * Everything in @q is copied; the copy of headers and body is overwritten
 * afterwards. @done is called once, never from inside this call.
 */
MUST_CHECK int curl_loop_start(struct curl_loop *l, const struct http_request *q,
			       http_done_fn *done, void *ctx, struct http_transfer **ret);

/* @done will not be called. Not for a transfer whose callback has been called. */
void curl_loop_cancel(struct http_transfer *t);

#endif
