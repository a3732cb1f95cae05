/* SPDX-License-Identifier: MIT */
/*
 * The client's side of a PostgreSQL login without its secret (documentation, "Start-up";
 * RFC 5802): clear text, MD5, SCRAM-SHA-256 and, where the server is reached through TLS,
 * SCRAM-SHA-256-PLUS, which is bound to the server's certificate. Pure; used by the inspector for
 * logins in an agent's place, and by the daemon for its own look-ups.
 *
 * A login is of one kind: a server that begins SCRAM and then asks for the password itself
 * is refused, and SCRAM ends with the server's proof.
 */
#ifndef TIDEGATE_INSPECT_PG_PROOF_H
#define TIDEGATE_INSPECT_PG_PROOF_H

#include <stdbool.h>

#include "base/compiler.h"
#include "inspect/insp_login.h"

enum {
	PG_PROOF_NONCE_MAX = 40,
	PG_PROOF_PASSWORD_MAX = 16 << 10, /* a signed token is one, too */
	/* the longest message: head, password or final message */
	PG_PROOF_SAY_MAX = PG_PROOF_PASSWORD_MAX + 64,
};

enum pg_proof_state {
	PG_PROOF_FRESH,
	PG_PROOF_TOLD,	/* password or MD5 went out */
	PG_PROOF_BEGUN,	/* SCRAM: the first message went out */
	PG_PROOF_PROVED, /* SCRAM: our proof went out */
	PG_PROOF_MUTUAL, /* SCRAM: the server's proof was right */
};

struct pg_proof {
	enum pg_proof_state state;
	bool plus; /* SCRAM is bound to the channel */
	const struct insp_channel *channel; /* set by the owner before each call; NULL: no TLS */
	char first[8 + PG_PROOF_NONCE_MAX], final[352], signature[64];
};

enum pg_proof_step {
	PG_PROOF_IN,   /* logged in: see pg_proof_unasked() */
	PG_PROOF_NEXT, /* the server goes on */
	PG_PROOF_ASK,  /* *ret says for what; pg_proof_say() with the answer */
	PG_PROOF_UNSUPPORTED, /* a kind of login that is not spoken here */
	PG_PROOF_BROKEN,	     /* against the protocol */
	PG_PROOF_UNPROVED,    /* the server does not know the secret */
};

/*
 * The body of an AuthenticationXxx message. May be called again with the same message until
 * pg_proof_say() was: nothing changes. *ret points into @body and @a.
 */
enum pg_proof_step pg_proof_server(struct pg_proof *a, struct slice body, struct insp_challenge *ret);

/* Nobody asked for anything: neither for a secret, nor for a certificate in TLS. */
static inline bool pg_proof_unasked(const struct pg_proof *a)
{
	return a->state == PG_PROOF_FRESH && !(a->channel && a->channel->certified);
}

/*
 * The message that answers @c, with its head: bytes written to @dst, which the caller wipes;
 * 0: the answer cannot be one.
 */
MUST_CHECK size_t pg_proof_say(struct pg_proof *a, const struct insp_challenge *c,
			      const struct insp_response *answer, uint8_t dst[PG_PROOF_SAY_MAX]);

#endif
