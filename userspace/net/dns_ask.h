/* SPDX-License-Identifier: MIT */
/*
 * Questions to name servers: c-ares on a libuv loop. Each question has sockets of its own, so
 * that its source port is as hard to guess as its id; what was truncated is asked again by
 * TCP; a server that fails is followed by the next.
 */
#ifndef TIDEGATE_NET_DNS_ASK_H
#define TIDEGATE_NET_DNS_ASK_H

#include <uv.h>

#include "net/dns.h"

enum { DNS_ASK_MS = 8000 }; /* in all, whatever the timeout of one try */

struct dns_ask_config {
	const char *servers; /* "10.0.0.53,10.0.0.54:5353,[2001:db8::53]:53"; "": none */
	uint64_t timeout_ms; /* of one try */
};

/*
 * @error 0: @answer is the server's message, borrowed. -ETIMEDOUT, -ECONNREFUSED, -EHOSTUNREACH
 * (no server, or each one failed), -ENOMEM. Called once, never from inside dns_ask_start().
 */
typedef void dns_ask_done(void *ctx, int error, struct slice answer);

struct dns_ask;

/* 0 and *ret, valid until @done is called or dns_ask_cancel(). The id of @q does not count. */
MUST_CHECK int dns_ask_start(uv_loop_t *loop, const struct dns_ask_config *c,
			     const struct dns_query *q, dns_ask_done *done, void *ctx,
			     struct dns_ask **ret);
/* @done is not called any more. NULL is fine. */
void dns_ask_cancel(struct dns_ask *a);
/* Once, before the first question. */
MUST_CHECK int dns_ask_init(void);

#endif
