/* SPDX-License-Identifier: MIT */
/* The server's leg through TLS: from the connection to the first byte of the protocol. */
#ifndef TIDEGATE_DAEMON_SESSION_TLS_H
#define TIDEGATE_DAEMON_SESSION_TLS_H

#include "daemon/session.h"
#include "daemon/trust.h"

/* The target wants it. */
static inline bool stls_wanted(const struct session *s)
{
	return cfg_target_verified(s->view->target);
}

/* The leg is connected: begins. */
void stls_begin(struct session *s);
/* Its socket is ready. */
void stls_go_on(struct session *s);
/* keyd's signature for the handshake, or negative errno. */
void stls_signed(struct session *s, int error, struct slice sig);
/* It broke after it was up: says so. */
void stls_broken(struct session *s);
void stls_describe(const struct session *s, struct jsonw *j);

/* --- errand.c: a few bytes to the target's server over a connection of their own, @fd, taken over. */
void errand_send(struct session *s, int fd, struct slice bytes);

#endif
