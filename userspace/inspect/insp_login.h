/* SPDX-License-Identifier: MIT */
/*
 * A login of our own at the server, in the client's place. The inspector speaks with the server
 * and has no secret; the host answers what only the owner of the secret can, and is neither
 * shown to the client nor recorded.
 */
#ifndef TIDEGATE_INSPECT_INSP_LOGIN_H
#define TIDEGATE_INSPECT_INSP_LOGIN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/slice.h"

/* TLS with the server, as far as a login is concerned. */
struct insp_channel {
	struct slice end_point; /* `tls-server-end-point` (RFC 5929); empty: not defined for its certificate */
	bool certified; /* the server asked for a certificate of ours, and it was proved */
};

enum insp_verdict { INSP_V_ALLOW, INSP_V_DENY, INSP_V_WAIT };

enum insp_need {
	INSP_NEED_NONCE,    /* printable random text, fresh for each login */
	INSP_NEED_PASSWORD, /* the password itself */
	INSP_NEED_MD5,
	INSP_NEED_SCRAM,
};

struct insp_challenge {
	enum insp_need need;
	struct slice salt; /* MD5: 4 bytes */
	/* SCRAM (RFC 5802): client-first-message-bare, server-first-message and
	 * client-final-message-without-proof. */
	struct slice first, server, final;
};

/* Slices live until the next call into the host. */
struct insp_response {
	uint16_t reason;	/* of a denial */
	struct slice text;	/* what was needed; SCRAM: the proof in Base64 */
	struct slice signature; /* SCRAM: in Base64, what the server must prove */
};

/* What the server asks for a login of our own (insp_answer.login_as). ALLOW: *ret is filled; DENY:
 * there is no answer; WAIT. Not called in a replay. */
typedef enum insp_verdict insp_login_fn(void *ctx, const struct insp_challenge *c,
					struct insp_response *ret);

#endif
