/* SPDX-License-Identifier: MIT */
/*
 * A login in the agent's place: keyd says who logs in, then answers what the server asks;
 * the inspector speaks with the server.
 */
#ifndef TIDEGATE_DAEMON_SESSION_LOGIN_H
#define TIDEGATE_DAEMON_SESSION_LOGIN_H

#include "daemon/session.h"

struct slogin_who {
	const char *user;
	uint16_t reason;   /* of a denial */
	/* What is to be said besides; or of a role, members of JSON for the record; "": nothing. */
	const char *words;
};

/* Who logs in with the target's credential; texts are valid until slogin_free(). */
enum insp_verdict slogin_user(struct session *s, struct slogin_who *ret);
/* See insp_host.login. */
enum insp_verdict slogin_answer(void *ctx, const struct insp_challenge *c, struct insp_response *ret);
/* The server refused: the journal gets its words. */
void slogin_refused(struct session *s, const struct event *ev);
/* The certificates to show in TLS, in DER form; empty: none. */
struct slice slogin_chain(const struct session *s);
/* The handshake wants a signature: stls_signed() follows. */
void slogin_prove(struct session *s);
uint64_t slogin_deadline(const struct session *s);
void slogin_due(struct session *s);
/* The login is over; wipes. */
void slogin_free(struct session *s);
/* keyd's answer, if it is for one of these. */
bool slogin_key_answer(struct worker *w, struct ipc_msg *m);
/* The parent's, where the credential belongs to the grant. */
void slogin_grant_answer(struct session *s, struct ipc_msg *m);
void slogins_keyd_gone(struct worker *w);

#endif
