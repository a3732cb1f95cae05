/* SPDX-License-Identifier: MIT */
#include "inspect/pg_proof.h"

#include <stdio.h>
#include <string.h>

#include "base/cursor.h"
#include "inspect/pg_wire.h"

#define MECHANISM "SCRAM-SHA-256"
#define BARE	  "n=,r=" /* the server takes the user from the startup message */

enum { SERVER_NONCE_MAX = 160 };

static enum pg_proof_step ask(struct insp_challenge *ret, enum insp_need need)
{
	*ret = (struct insp_challenge){.need = need};
	return PG_PROOF_ASK;
}

static enum pg_proof_step begin_scram(const struct pg_proof *a, struct slice list,
				     struct insp_challenge *ret)
{
	struct cursor cur = cur_of(list);
	bool offered = false;

	if (a->state != PG_PROOF_FRESH)
		return PG_PROOF_BROKEN;
	while (!cur.bad && cur_left(&cur)) {
		struct slice name = cur_cstr(&cur);

		offered |= slice_eq_str(name, MECHANISM);
	}
	return offered ? ask(ret, INSP_NEED_NONCE) : PG_PROOF_UNSUPPORTED;
}

static enum pg_proof_step continue_scram(struct pg_proof *a, struct slice server,
					struct insp_challenge *ret)
{
	const uint8_t *comma = server.n ? memchr(server.p, ',', server.n) : NULL;
	struct slice ours = slice_from(slice_str(a->first), strlen(BARE));
	size_t theirs = comma ? (size_t)(comma - server.p) : 0;

	/* RFC 5802 section 5.1: the server's nonce begins with ours, and goes on. */
	if (a->state != PG_PROOF_BEGUN || theirs <= 2 + ours.n || theirs > SERVER_NONCE_MAX ||
	    memcmp(server.p, "r=", 2) != 0 || memcmp(server.p + 2, ours.p, ours.n) != 0 ||
	    memchr(server.p, 0, theirs))
		return PG_PROOF_BROKEN;
	(void)snprintf(a->final, sizeof(a->final), "c=biws,%.*s", (int)theirs,
		       (const char *)server.p);
	(void)ask(ret, INSP_NEED_SCRAM);
	ret->first = slice_str(a->first);
	ret->server = server;
	ret->final = slice_str(a->final);
	return PG_PROOF_ASK;
}

static enum pg_proof_step end_scram(struct pg_proof *a, struct slice final)
{
	if (a->state != PG_PROOF_PROVED)
		return PG_PROOF_BROKEN;
	if (final.n < 2 || memcmp(final.p, "v=", 2) != 0 ||
	    !slice_eq_str(slice_from(final, 2), a->signature))
		return PG_PROOF_UNPROVED;
	a->state = PG_PROOF_MUTUAL;
	return PG_PROOF_NEXT;
}

enum pg_proof_step pg_proof_server(struct pg_proof *a, struct slice body, struct insp_challenge *ret)
{
	struct cursor cur = cur_of(body);
	uint32_t code = cur_be32(&cur);
	struct slice rest = slice_from(body, 4);

	if (cur.bad)
		return PG_PROOF_BROKEN;
	switch (code) {
	case PG_AUTH_OK:
		return a->state == PG_PROOF_BEGUN || a->state == PG_PROOF_PROVED ? PG_PROOF_UNPROVED
									       : PG_PROOF_IN;
	case PG_AUTH_CLEARTEXT:
		return a->state == PG_PROOF_FRESH && !rest.n ? ask(ret, INSP_NEED_PASSWORD)
							    : PG_PROOF_BROKEN;
	case PG_AUTH_MD5:
		if (a->state != PG_PROOF_FRESH || rest.n != 4)
			return PG_PROOF_BROKEN;
		(void)ask(ret, INSP_NEED_MD5);
		ret->salt = rest;
		return PG_PROOF_ASK;
	case PG_AUTH_SASL:
		return begin_scram(a, rest, ret);
	case PG_AUTH_SASL_CONTINUE:
		return continue_scram(a, rest, ret);
	case PG_AUTH_SASL_FINAL:
		return end_scram(a, rest);
	default:
		return PG_PROOF_UNSUPPORTED;
	}
}

/* What is printable and has no comma: a nonce, a proof. */
static bool is_token(struct slice s, size_t max)
{
	for (size_t i = 0; i < s.n; i++)
		if (s.p[i] <= ' ' || s.p[i] > '~' || s.p[i] == ',')
			return false;
	return s.n > 0 && s.n <= max;
}

static size_t message(uint8_t *dst, size_t body)
{
	dst[0] = PG_F_PASSWORD;
	store_be32(dst + 1, (uint32_t)body + 4);
	return PG_HEAD + body;
}

static size_t say_first(struct pg_proof *a, struct slice nonce, uint8_t *dst)
{
	uint8_t *p = dst + PG_HEAD;
	size_t n = sizeof(MECHANISM), bare;

	if (!is_token(nonce, PG_PROOF_NONCE_MAX))
		return 0;
	(void)snprintf(a->first, sizeof(a->first), BARE "%.*s", (int)nonce.n,
		       (const char *)nonce.p);
	bare = strlen(a->first);
	memcpy(p, MECHANISM, n);
	store_be32(p + n, (uint32_t)bare + 3);
	memcpy(p + n + 4, "n,,", 3);
	memcpy(p + n + 7, a->first, bare);
	a->state = PG_PROOF_BEGUN;
	return message(dst, n + 7 + bare);
}

static size_t say_proof(struct pg_proof *a, const struct insp_response *r, uint8_t *dst)
{
	int n;

	if (!is_token(r->text, 64) || !is_token(r->signature, sizeof(a->signature) - 1))
		return 0;
	(void)snprintf(a->signature, sizeof(a->signature), "%.*s", (int)r->signature.n,
		       (const char *)r->signature.p);
	n = snprintf((char *)dst + PG_HEAD, PG_PROOF_SAY_MAX - PG_HEAD, "%s,p=%.*s", a->final,
		     (int)r->text.n, (const char *)r->text.p);
	a->state = PG_PROOF_PROVED;
	return message(dst, (size_t)n);
}

size_t pg_proof_say(struct pg_proof *a, const struct insp_challenge *c,
		   const struct insp_response *answer, uint8_t dst[PG_PROOF_SAY_MAX])
{
	struct slice text = answer->text;

	switch (c->need) {
	case INSP_NEED_NONCE:
		return say_first(a, text, dst);
	case INSP_NEED_SCRAM:
		return say_proof(a, answer, dst);
	case INSP_NEED_PASSWORD:
	case INSP_NEED_MD5:
		break;
	}
	if (text.n == 0 || text.n > PG_PROOF_SAY_MAX - PG_HEAD - 1 || memchr(text.p, 0, text.n))
		return 0;
	memcpy(dst + PG_HEAD, text.p, text.n);
	dst[PG_HEAD + text.n] = 0;
	a->state = PG_PROOF_TOLD;
	return message(dst, text.n + 1);
}
