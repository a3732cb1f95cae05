/* SPDX-License-Identifier: MIT */
#include "inspect/pg_proof.h"

#include <stdio.h>
#include <string.h>

#include "base/cursor.h"
#include "inspect/pg_wire.h"

#define MECHANISM "SCRAM-SHA-256"
#define PLUS	  MECHANISM "-PLUS"
#define BOUND	  "p=tls-server-end-point,,"
#define BARE	  "n=,r=" /* the server takes the user from the startup message */

enum { SERVER_NONCE_MAX = 160, END_POINT_MAX = 64 };

static enum pg_proof_step ask(struct insp_challenge *ret, enum insp_need need)
{
	*ret = (struct insp_challenge){.need = need};
	return PG_PROOF_ASK;
}

static bool can_bind(const struct pg_proof *a)
{
	return a->channel && a->channel->end_point.n && a->channel->end_point.n <= END_POINT_MAX;
}

static enum pg_proof_step begin_scram(struct pg_proof *a, struct slice list,
				     struct insp_challenge *ret)
{
	struct cursor cur = cur_of(list);
	bool offered = false, plus = false;

	if (a->state != PG_PROOF_FRESH)
		return PG_PROOF_BROKEN;
	while (!cur.bad && cur_left(&cur)) {
		struct slice name = cur_cstr(&cur);

		offered |= slice_eq_str(name, MECHANISM);
		plus |= slice_eq_str(name, PLUS);
	}
	a->plus = plus && can_bind(a);
	return offered || a->plus ? ask(ret, INSP_NEED_NONCE) : PG_PROOF_UNSUPPORTED;
}

/*
 * RFC 5802 section 6: with what the channel is bound; "y": we could have, but the server does not offer
 * it, and says no to who was made believe so; "n": we cannot.
 */
static const char *gs2_header(const struct pg_proof *a)
{
	return a->plus ? BOUND : can_bind(a) ? "y,," : "n,,";
}

/* RFC 4648 section 4; @dst holds 4 * ((n + 2) / 3) + 1. */
static void base64(const uint8_t *p, size_t n, char *dst)
{
	static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

	for (size_t i = 0; i < n; i += 3) {
		uint32_t v = (uint32_t)p[i] << 16 | (i + 1 < n ? (uint32_t)p[i + 1] << 8 : 0) |
			     (i + 2 < n ? p[i + 2] : 0);

		*dst++ = digits[v >> 18];
		*dst++ = digits[v >> 12 & 63];
		*dst++ = i + 1 < n ? digits[v >> 6 & 63] : '=';
		*dst++ = i + 2 < n ? digits[v & 63] : '=';
	}
	*dst = '\0';
}

/* "c=" of the final message: the header, and what the channel is bound to. */
static void put_binding(const struct pg_proof *a, char dst[132])
{
	uint8_t raw[sizeof(BOUND) - 1 + END_POINT_MAX];
	size_t n = strlen(gs2_header(a));

	memcpy(raw, gs2_header(a), n);
	if (a->plus) {
		memcpy(raw + n, a->channel->end_point.p, a->channel->end_point.n);
		n += a->channel->end_point.n;
	}
	base64(raw, n, dst);
}

static enum pg_proof_step continue_scram(struct pg_proof *a, struct slice server,
					struct insp_challenge *ret)
{
	const uint8_t *comma = server.n ? memchr(server.p, ',', server.n) : NULL;
	struct slice ours = slice_from(slice_str(a->first), strlen(BARE));
	size_t theirs = comma ? (size_t)(comma - server.p) : 0;
	char binding[132];

	/* RFC 5802 section 5.1: the server's nonce begins with ours, and goes on. */
	if (a->state != PG_PROOF_BEGUN || theirs <= 2 + ours.n || theirs > SERVER_NONCE_MAX ||
	    memcmp(server.p, "r=", 2) != 0 || memcmp(server.p + 2, ours.p, ours.n) != 0 ||
	    memchr(server.p, 0, theirs))
		return PG_PROOF_BROKEN;
	put_binding(a, binding);
	(void)snprintf(a->final, sizeof(a->final), "c=%s,%.*s", binding, (int)theirs,
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
	const char *mechanism = a->plus ? PLUS : MECHANISM, *header = gs2_header(a);
	uint8_t *p = dst + PG_HEAD;
	size_t n = strlen(mechanism) + 1, head = strlen(header), bare;

	if (!is_token(nonce, PG_PROOF_NONCE_MAX))
		return 0;
	(void)snprintf(a->first, sizeof(a->first), BARE "%.*s", (int)nonce.n,
		       (const char *)nonce.p);
	bare = strlen(a->first);
	memcpy(p, mechanism, n);
	store_be32(p + n, (uint32_t)(bare + head));
	memcpy(p + n + 4, header, head);
	memcpy(p + n + 4 + head, a->first, bare);
	a->state = PG_PROOF_BEGUN;
	return message(dst, n + 4 + head + bare);
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
