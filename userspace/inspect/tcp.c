/* SPDX-License-Identifier: MIT */
/*
 * The inspector of what is not looked into: any protocol over TCP. Who may connect is asked
 * before a byte is read; then both streams pass as they are, with their ends. It sees how much went
 * which way, never what: no statement is judged, nothing is masked, nobody is logged in.
 */
#include "inspect/inspect.h"

struct tcp {
	const struct insp_env *env;
	bool asked, let_in;
	bool ended[2];
	uint64_t bytes[2];
};

static enum insp_match probe(struct slice c2s, struct slice s2c)
{
	(void)c2s;
	(void)s2c;
	return INSP_MAYBE;
}

static int open_flow(void *state, const struct insp_env *env)
{
	struct tcp *st = state;

	st->env = env;
	return 0;
}

/* May this session open? The only question, so it has the first number of the client's side. */
static enum insp_status ask(struct tcp *st, uint16_t *ret_why)
{
	struct event ev = {.kind = EV_LOGIN, .seq = 1};
	struct insp_answer a = {0};

	st->asked = true;
	switch (st->env->host->event(st->env->ctx, &ev, &a)) {
	case INSP_V_WAIT:
		return INSP_WAIT;
	case INSP_V_DENY:
		*ret_why = a.reason;
		return INSP_END;
	case INSP_V_ALLOW:
		break;
	}
	st->let_in = true;
	return INSP_MORE;
}

static enum insp_status feed(void *state, enum insp_dir dir, struct slice in, bool eof,
			     size_t *ret_used, uint16_t *ret_why)
{
	struct tcp *st = state;
	enum insp_status status = INSP_MORE;

	*ret_used = 0;
	*ret_why = TG_R_NONE;
	if (!st->let_in && dir == INSP_C2S)
		status = ask(st, ret_why);
	if (status != INSP_MORE)
		return status;
	if (!st->let_in) { /* the host has not connected to a server yet */
		*ret_why = TG_R_PROTO_BAD;
		return in.n ? INSP_BAD : INSP_MORE;
	}
	insp_out_pass(st->env->out[dir == INSP_C2S ? INSP_TO_SERVER : INSP_TO_CLIENT], in);
	st->bytes[dir] += in.n;
	st->ended[dir] |= eof;
	*ret_used = in.n;
	return INSP_MORE;
}

/* There are no words that any client of any protocol would understand: the host resets. */
static void end(void *state, const struct insp_words *words)
{
	(void)state;
	(void)words;
}

static void notice(void *state, struct slice text)
{
	(void)state;
	(void)text;
}

static bool holding(const void *state)
{
	const struct tcp *st = state;

	return st->asked && !st->let_in;
}

static void close_flow(void *state)
{
	(void)state;
}

static void describe(const void *state, struct jsonw *w)
{
	const struct tcp *st = state;

	jsonw_object(w);
	jsonw_kv_string(w, "protocol", "tcp");
	jsonw_kv_bool(w, "let_in", st->let_in);
	jsonw_kv_u64(w, "client_bytes", st->bytes[INSP_C2S]);
	jsonw_kv_u64(w, "server_bytes", st->bytes[INSP_S2C]);
	jsonw_kv_bool(w, "client_ended", st->ended[INSP_C2S]);
	jsonw_kv_bool(w, "server_ended", st->ended[INSP_S2C]);
	jsonw_object_end(w);
}

const struct inspector inspector_tcp = {
	.name = "tcp",
	.half_close = true,
	.state_size = sizeof(struct tcp),
	.probe = probe,
	.open = open_flow,
	.feed = feed,
	.end = end,
	.notice = notice,
	.holding = holding,
	.close = close_flow,
	.describe = describe,
};
