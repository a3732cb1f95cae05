/* SPDX-License-Identifier: MIT */
/*
 * A client's TLS over a socket that does not block. It knows no loop: whoever has the socket watches
 * what is asked for and calls again. Where the protocol begins in clear text, one question of it and the
 * server's one byte come first.
 *
 * The key of a certificate of our own is somewhere else (far_key.h). OpenSSL signs in the middle of
 * a handshake, so that runs on a stack of its own (ASYNC_JOB), which stands still while the
 * signature is asked for.
 *
 * OpenSSL writes to the socket by write(2): SIGPIPE has to be ignored.
 */
#ifndef TIDEGATE_NET_TLS_H
#define TIDEGATE_NET_TLS_H

#include <sys/types.h>
#include <sys/uio.h>

#include "net/far_key.h"
#include "net/tls_trust.h"

struct tls;

enum { TLS_CLEAR_MAX = 32, TLS_IP_MAX = 16, TLS_CERTIFICATE_HASH = 32 };

struct tls_start {
	const struct tls_trust *trust; /* needed during tls_new() alone */
	/* Whose certificate it has to be: one of these names (".x": any below x), else this address. */
	const char *const *names; /* NULL-terminated; NULL: none */
	const uint8_t *ip;
	size_t ip_n;
	struct slice ask; /* in clear; empty: TLS begins at once */
	int (*answer)(uint8_t byte); /* what the byte says: 1: TLS begins; 0: there is none; < 0 */
	struct slice chain; /* our own certificates in DER, the first the key's; empty: none */
};

enum tls_step {
	TLS_STEP_WAIT, /* for tls_events() */
	TLS_STEP_SIGN, /* tls_signed() with what tls_to_sign() asks for, then again */
	TLS_STEP_UP,
	TLS_STEP_FAILED, /* see tls_reason() */
};

/* @fd: connected, stays the caller's, outlives it. 0; -EINVAL: the chain is none; -ENOMEM. */
MUST_CHECK int tls_new(const struct tls_start *s, int fd, struct tls **ret);
/* Says goodbye if that is possible at once. NULL is allowed. */
void tls_free(struct tls *t);

/* Goes on with the handshake. */
enum tls_step tls_step(struct tls *t);
uint32_t tls_events(const struct tls *t); /* EPOLL* */
/* Valid until it is answered. */
const struct far_ask *tls_to_sign(const struct tls *t);
void tls_signed(struct tls *t, int err, struct slice sig);

/* Why it failed: TG_R_UPSTREAM_*, 0 if it has not; and in words, which hold nothing unprintable. */
uint16_t tls_reason(const struct tls *t);
const char *tls_why(const struct tls *t);

/* --- once it is up */
/* Bytes; 0: the server has said that it has said all; -EAGAIN; -ECONNRESET: cut off, or tls_reason(). */
ssize_t tls_recv(struct tls *t, void *dst, size_t n);
/* Bytes that were taken, 0: none now; -EPIPE. What was not taken has to come first in the next call. */
ssize_t tls_send(struct tls *t, const struct iovec *iov, size_t n);
/* Says that we have said all; false: not yet, call again when the socket is writable. */
MUST_CHECK bool tls_finish(struct tls *t);
/* There may be bytes that no event will tell of: tls_recv() left off for want of room. */
bool tls_has_more(const struct tls *t);
/* What to watch where reading (EPOLLIN) or writing (EPOLLOUT) is meant, and what an event means. */
uint32_t tls_watch(const struct tls *t, uint32_t events);
uint32_t tls_means(const struct tls *t, uint32_t events);

const char *tls_version(const struct tls *t), *tls_cipher(const struct tls *t);
const uint8_t *tls_certificate_hash(const struct tls *t); /* SHA-256 of the server's */
struct slice tls_binding(const struct tls *t); /* see tls_end_point() */
bool tls_showed_certificate(const struct tls *t); /* the server asked for ours, and got it */

#endif
