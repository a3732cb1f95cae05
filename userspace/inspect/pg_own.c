/* SPDX-License-Identifier: MIT */
/*
 * A login of our own: the server's questions are answered here, with the host's help, and
 * swallowed; the client is shown how it ends. A recording holds what the client got, so a replay
 * sees the end alone.
 */
#include "inspect/pg.h"
#include "inspect/pg_proof.h"

#include <string.h>

/* A server that asks for nothing would let anybody in: the credential guards nothing there. */
static enum pg_step let_in(struct pg *st, const struct pg_msg *m)
{
	if (pg_proof_unasked(st->own) && !st->env->replay &&
	    !(st->env->server_socket && st->env->socket_trust))
		return pg_bad(st, TG_R_CREDENTIAL_UNASKED);
	st->auth_ok = true;
	return pg_pass(st, INSP_S2C, m);
}

static enum pg_step answer(struct pg *st, const struct pg_msg *m, const struct insp_challenge *c)
{
	struct insp_out *out = pg_out(st, INSP_TO_SERVER);
	struct insp_response r = {.reason = TG_R_CREDENTIAL_MISSING};
	uint8_t *dst;
	size_t n;

	switch (st->env->host->login(st->env->ctx, c, &r)) {
	case INSP_V_WAIT:
		return PG_WAIT;
	case INSP_V_DENY:
		return pg_bad(st, r.reason);
	case INSP_V_ALLOW:
		break;
	}
	dst = insp_out_make(out, PG_PROOF_SAY_MAX);
	if (!dst)
		return PG_OK; /* the output knows */
	n = pg_proof_say(st->own, c, &r, dst);
	if (n == 0)
		return pg_bad(st, TG_R_CREDENTIAL_MISSING);
	insp_out_trim(out, PG_PROOF_SAY_MAX - n);
	return pg_drop(st, INSP_S2C, m);
}

enum pg_step pg_own_auth(struct pg *st, const struct pg_msg *m)
{
	struct insp_challenge c;

	if (st->auth_ok)
		return pg_bad(st, TG_R_PROTO_BAD);
	st->own->channel = st->env->channel;
	switch (pg_proof_server(st->own, m->body, &c)) {
	case PG_PROOF_IN:
		return let_in(st, m);
	case PG_PROOF_NEXT:
		return pg_drop(st, INSP_S2C, m);
	case PG_PROOF_ASK:
		return st->env->replay ? pg_bad(st, TG_R_PROTO_BAD) : answer(st, m, &c);
	case PG_PROOF_UNSUPPORTED:
		return pg_bad(st, TG_R_CREDENTIAL_METHOD);
	case PG_PROOF_UNPROVED:
		return pg_bad(st, TG_R_CREDENTIAL_UNPROVED);
	case PG_PROOF_BROKEN:
		break;
	}
	return pg_bad(st, TG_R_PROTO_BAD);
}

/*
 * Class 28: the server's words name our user, and what is wrong with it is nothing that the
 * client could mend. Others (the server starts, has no room) are the client's to know.
 */
bool pg_own_refused(struct pg *st, const struct pg_msg *m, enum pg_step *ret)
{
	struct event ev = {.kind = EV_LOGIN_ERROR};
	struct cursor c = cur_of(m->body);

	while (!c.bad && cur_left(&c)) {
		uint8_t kind = cur_u8(&c);
		struct slice value = kind ? cur_cstr(&c) : (struct slice){0};

		if (kind == 'C')
			ev.error.code = value;
		else if (kind == 'M')
			ev.error.message = value;
		if (!kind)
			break;
	}
	if (st->auth_ok || c.bad || ev.error.code.n != 5 || memcmp(ev.error.code.p, "28", 2) != 0)
		return false;
	pg_tell(st, INSP_S2C, &ev);
	*ret = pg_bad(st, TG_R_CREDENTIAL_REFUSED);
	return true;
}
