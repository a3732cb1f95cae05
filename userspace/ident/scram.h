/* SPDX-License-Identifier: MIT */
/*
 * The client's half of SCRAM-SHA-256 (RFC 5802, RFC 7677), cut in two: whoever
 * talks to the server holds no password, whoever holds the password never
 * sees the server. Pure.
 *
 * The salted password costs thousands of hashes and depends on salt and count
 * only, so its owner may keep it for the next login.
 */
#ifndef TIDEGATE_IDENT_SCRAM_H
#define TIDEGATE_IDENT_SCRAM_H

#include "base/compiler.h"
#include "base/slice.h"

enum {
	SCRAM_KEY = 32, /* bytes of SHA-256 */
	SCRAM_SALT_MAX = 64,
	SCRAM_ITERATIONS_MIN = 4096,	/* RFC 7677 section 4: fewer help who guesses */
	SCRAM_ITERATIONS_MAX = 1000000, /* about half a second: more would be an attack on us */
	SCRAM_MESSAGE_MAX = 4096,
};

struct scram_salt {
	uint8_t salt[SCRAM_SALT_MAX];
	uint32_t salt_bytes, iterations;
};

/*
 * Checks that the three messages belong together: the server's nonce
 * continues the client's, and the final message repeats it. 0 and *ret;
 * -EBADMSG: they do not, or the server asks for an extension; -ERANGE: its
 * count is outside the limits.
 */
MUST_CHECK int scram_check(struct slice client_first_bare, struct slice server_first,
			   struct slice client_final_without_proof, struct scram_salt *ret);

/*
 * 0; -EOPNOTSUPP: the password is not ASCII and would have to be normalised
 * (RFC 4013), which is not done here. What is no valid UTF-8 is taken as it
 * is, as PostgreSQL does.
 */
MUST_CHECK int scram_salted(struct slice password, const struct scram_salt *s,
			    uint8_t ret_key[SCRAM_KEY]);

/* @key from scram_salted(); the messages as given to scram_check(). 0 or -ENOMEM. */
MUST_CHECK int scram_answer(const uint8_t key[SCRAM_KEY], struct slice client_first_bare,
			    struct slice server_first, struct slice client_final_without_proof,
			    uint8_t ret_proof[SCRAM_KEY], uint8_t ret_server_signature[SCRAM_KEY]);

enum { SCRAM_SALT_BYTES = 16, SCRAM_VERIFIER_TEXT = 136 };

/*
 * What a server keeps of a password, as PostgreSQL writes it ("SCRAM-SHA-256$4096:salt$...:..."):
 * it proves the owner and does not make anybody it. 0, -EOPNOTSUPP as above, or -ENOMEM.
 */
MUST_CHECK int scram_verifier(struct slice password, const uint8_t salt[SCRAM_SALT_BYTES],
			      char ret[SCRAM_VERIFIER_TEXT]);

#endif
