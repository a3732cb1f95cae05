/* SPDX-License-Identifier: MIT */
/*
 * The PostgreSQL inspector: protocol 3.0 (PostgreSQL documentation, "Frontend/
 * Backend Protocol"). This file takes the streams apart into messages; what they
 * mean is in pg_*.c, and how both directions keep step is told in pg_state.h.
 *
 * Where this deviates from a server's behaviour:
 *  - SSLRequest and GSSENCRequest are answered 'N'.
 *  - Replication connections (`replication` in the startup message, CopyBoth)
 *    are refused.
 *  - Messages that a server would skip (after an error up to Sync, CopyData
 *    outside of COPY) do not go on to it.
 *  - Names of prepared statements and portals that are not ASCII are refused unless both
 *    sides use UTF-8: the server converts names, so that two may be one to it.
 *  - A Sync sent during COPY goes on only if the COPY fails: a server ignores it too.
 */
#include "inspect/pg.h"

#include <errno.h>
#include <string.h>

struct insp_out *pg_out(const struct pg *st, enum insp_to to)
{
	return st->env->out[to];
}

static enum pg_step begin_rest(struct pg *st, enum insp_dir dir, const struct pg_msg *m,
			       enum pg_rest rest)
{
	st->dir[dir].left = m->total - m->all.n;
	st->dir[dir].rest = (uint8_t)rest;
	return PG_OK;
}

enum pg_step pg_pass(struct pg *st, enum insp_dir dir, const struct pg_msg *m)
{
	insp_out_pass(pg_out(st, dir == INSP_C2S ? INSP_TO_SERVER : INSP_TO_CLIENT), m->all);
	return begin_rest(st, dir, m, PG_REST_PASS);
}

enum pg_step pg_drop(struct pg *st, enum insp_dir dir, const struct pg_msg *m)
{
	return begin_rest(st, dir, m, PG_REST_DROP);
}

void pg_make_empty(struct pg *st, enum insp_to to, uint8_t type)
{
	uint8_t *p = insp_out_make(pg_out(st, to), PG_HEAD);

	if (!p)
		return;
	p[0] = type;
	store_be32(p + 1, 4);
}

/* Odd numbers for one side and even ones for the other: the same however the sides interleave. */
uint64_t pg_next_seq(struct pg *st, enum insp_dir dir)
{
	if (!st->seq[dir])
		st->seq[dir] = dir == INSP_C2S ? 1 : 2;
	else
		st->seq[dir] += 2;
	return st->seq[dir];
}

void pg_tell(struct pg *st, enum insp_dir dir, struct event *ev)
{
	struct insp_answer none = {0};

	st->events++;
	ev->seq = pg_next_seq(st, dir);
	(void)st->env->host->event(st->env->ctx, ev, &none);
}

enum insp_verdict pg_ask(struct pg *st, struct event *ev, struct insp_answer *ret)
{
	enum insp_verdict v;

	if (!st->asked)
		st->asked = pg_next_seq(st, INSP_C2S);
	st->events++;
	ev->seq = st->asked;
	*ret = (struct insp_answer){0};
	v = st->env->host->event(st->env->ctx, ev, ret);
	if (v != INSP_V_WAIT)
		st->asked = 0;
	return v;
}

bool pg_client_free(const struct pg *st)
{
	const struct pg_dir *d = &st->dir[INSP_S2C];

	return d->left == 0 || d->rest == PG_REST_DROP;
}

/* ------------------------------------------------------------------- loop */

static enum pg_step take_rest(struct pg *st, enum insp_dir dir, struct slice s)
{
	struct pg_dir *d = &st->dir[dir];
	bool ok = true;

	d->left -= s.n;
	switch ((enum pg_rest)d->rest) {
	case PG_REST_PASS:
		insp_out_pass(pg_out(st, dir == INSP_C2S ? INSP_TO_SERVER : INSP_TO_CLIENT), s);
		break;
	case PG_REST_FILL:
		ok = st->copy ? pg_copy_more(st, s) : pg_rows_more(st, s);
		break;
	case PG_REST_DROP:
		break;
	}
	if (d->left == 0 && dir == INSP_S2C)
		pg_send_local(st);
	return ok ? PG_OK : pg_bad(st, TG_R_PROTO_BAD);
}

static bool known_type(enum insp_dir dir, uint8_t type)
{
#define T(c) (1ull << ((c) & 63))
	/* Bits of the types below 64, and of those from there on. */
	static const uint64_t known[2][2] = {
		[INSP_C2S] = {0, T('B') | T('C') | T('c') | T('D') | T('d') | T('E') | T('f') |
					 T('F') | T('H') | T('P') | T('p') | T('Q') | T('S') |
					 T('X')},
		[INSP_S2C] = {T('1') | T('2') | T('3'),
			      T('A') | T('C') | T('c') | T('D') | T('d') | T('E') | T('G') |
				      T('H') | T('I') | T('K') | T('n') | T('N') | T('R') |
				      T('s') | T('S') | T('t') | T('T') | T('v') | T('V') |
				      T('W') | T('Z')},
	};
#undef T
	return type < 128 && known[dir][type / 64] >> (type % 64) & 1;
}

/* The largest length a peer may announce for a message, with its head. */
static size_t total_max(const struct pg *st, enum insp_dir dir, uint8_t type)
{
	if (dir == INSP_S2C)
		return st->phase == PG_LOGIN ? PG_AUTH_MAX : (size_t)PG_LARGE_MAX + PG_HEAD;
	switch (type) {
	case PG_F_PASSWORD:
		return PG_AUTH_MAX;
	case PG_F_QUERY:
	case PG_F_PARSE:
	case PG_F_BIND:
	case PG_F_FUNCTION_CALL:
	case PG_F_COPY_DATA:
		return (size_t)PG_LARGE_MAX + PG_HEAD;
	default:
		return PG_SMALL_MAX + PG_HEAD;
	}
}

static enum pg_step one_message(struct pg *st, enum insp_dir dir, struct slice in, size_t *ret_used)
{
	struct pg_msg m = {.type = in.p[0]};
	uint32_t length = load_be32(in.p + 1);
	enum pg_step step;

	if (length < 4 || !known_type(dir, m.type))
		return pg_bad(st, TG_R_PROTO_BAD);
	m.total = (size_t)length + 1;
	if (m.total > total_max(st, dir, m.type))
		return pg_bad(st, TG_R_PROTO_LIMIT);
	m.whole = in.n >= m.total;
	m.all = slice_of(in.p, min_size(in.n, m.total));
	m.body = slice_from(m.all, PG_HEAD);
	if (st->phase == PG_LOGIN)
		step = dir == INSP_C2S ? pg_login_client(st, &m) : pg_login_server(st, &m);
	else
		step = dir == INSP_C2S ? pg_client_message(st, &m) : pg_server_message(st, &m);
	if (step == PG_OK || step == PG_END) {
		*ret_used = m.all.n;
		if (dir == INSP_S2C && pg_client_free(st))
			pg_send_local(st);
	}
	return step;
}

static enum pg_step run(struct pg *st, enum insp_dir dir, struct slice in, size_t *ret_used)
{
	uint32_t budget = st->env->limits.turn_events;
	enum pg_step step = PG_OK;
	size_t n;

	while (*ret_used < in.n && step == PG_OK) {
		struct slice rest = slice_from(in, *ret_used);
		struct pg_dir *d = &st->dir[dir];

		n = 0;
		if (d->left) {
			n = min_size(d->left, rest.n);
			step = take_rest(st, dir, slice_of(rest.p, n));
			*ret_used += n;
			continue;
		}
		if (st->phase == PG_DONE) {
			/* After Terminate nothing of the client counts. */
			*ret_used = dir == INSP_C2S ? in.n : *ret_used;
			if (dir == INSP_C2S)
				break;
		}
		if (budget && st->events >= budget)
			return PG_OK;
		if (dir == INSP_C2S && st->phase == PG_STARTUP)
			step = pg_startup(st, rest, &n);
		else if (dir == INSP_S2C && st->phase == PG_STARTUP)
			return pg_bad(st, TG_R_PROTO_BAD);
		else if (dir == INSP_S2C && rest.p[0] == PG_B_DATA_ROW && st->rows.desc)
			step = pg_rows_batch(st, rest, &n);
		if (step == PG_OK && n == 0 && st->phase != PG_STARTUP) {
			if (rest.n < PG_HEAD)
				return PG_NEED;
			step = one_message(st, dir, rest, &n);
		}
		*ret_used += n;
	}
	return step;
}

static enum insp_status at_eof(struct pg *st, enum insp_dir dir, uint16_t *ret_why)
{
	if (dir == INSP_S2C) {
		*ret_why = st->said_terminate ? TG_R_NONE : TG_R_UPSTREAM_CLOSED;
		return INSP_END;
	}
	/* Replies that are due still go to a client which only stopped sending. */
	if (st->q.n && st->phase != PG_STARTUP)
		return INSP_MORE;
	*ret_why = st->said_terminate ? TG_R_NONE : TG_R_CLIENT_CLOSED;
	return INSP_END;
}

static enum insp_status feed(void *state, enum insp_dir dir, struct slice in, bool eof,
			     size_t *ret_used, uint16_t *ret_why)
{
	struct pg *st = state;
	enum pg_step step;

	*ret_used = 0;
	*ret_why = TG_R_NONE;
	st->events = 0;
	step = run(st, dir, in, ret_used);
	if (step == PG_OK && dir == INSP_S2C && st->said_terminate && !st->q.n && !st->dir[dir].left)
		step = pg_end(st, TG_R_NONE);
	if (pg_out(st, INSP_TO_CLIENT)->failed || pg_out(st, INSP_TO_SERVER)->failed)
		step = pg_bad(st, TG_R_NO_MEMORY);
	switch (step) {
	case PG_BAD:
		*ret_why = st->why;
		return INSP_BAD;
	case PG_END:
		*ret_why = st->why;
		return INSP_END;
	case PG_STALL:
		return INSP_STALL;
	case PG_WAIT:
		return INSP_WAIT;
	case PG_NEED:
		break;
	case PG_OK:
		if (*ret_used < in.n)
			return INSP_YIELD;
		break;
	}
	return eof ? at_eof(st, dir, ret_why) : INSP_MORE;
}

/* ------------------------------------------------------------------ the rest */

static enum insp_match probe(struct slice c2s, struct slice s2c)
{
	uint32_t length, code;

	if (c2s.n == 0)
		return s2c.n ? INSP_NO : INSP_MAYBE; /* the server never speaks first */
	if (c2s.p[0] != 0)
		return INSP_NO;
	if (c2s.n < 8)
		return INSP_MAYBE;
	length = load_be32(c2s.p);
	code = load_be32(c2s.p + 4);
	if (length < 8 || length > PG_STARTUP_MAX)
		return INSP_NO;
	if (code == PG_SSL_REQUEST || code == PG_GSSENC_REQUEST)
		return length == 8 ? INSP_YES : INSP_NO;
	if (code == PG_CANCEL_REQUEST)
		return length == 16 ? INSP_YES : INSP_NO;
	return code >> 16 == 3 ? INSP_YES : INSP_NO;
}

static uint64_t extent(struct slice head)
{
	uint32_t length = head.n < PG_HEAD ? 0 : load_be32(head.p + 1);

	if (head.n < PG_HEAD)
		return 0;
	return length < 4 ? INSP_NO_MESSAGE : 1 + (uint64_t)length;
}

static int open_flow(void *state, const struct insp_env *env)
{
	struct pg *st = state;

	st->env = env;
	st->status = PG_STATUS_IDLE;
	st->lexer = SQL_LEX_FOREIGN; /* until the server says otherwise */
	return 0;
}

static void close_flow(void *state)
{
	struct pg *st = state;

	pg_queue_free(st);
	pg_rows_free(st);
	pg_copy_free(st);
	pg_names_free(st, &st->stmts);
	pg_names_free(st, &st->portals);
	pg_known_free(st);
}

static void end(void *state, const struct insp_words *words)
{
	struct pg *st = state;
	struct insp_answer a = {.reason = words->reason};
	const char *code = "57P01"; /* admin_shutdown */
	struct pg_local *l;

	if (!pg_client_free(st) || st->phase == PG_DONE)
		return;
	if (words->reason == TG_R_PROTO_BAD)
		code = "08P01";
	else if (words->reason == TG_R_PROTO_LIMIT || words->reason == TG_R_NO_MEMORY)
		code = "54000";
	else if (words->reason == TG_R_PROTO_UNSUPPORTED)
		code = "0A000";
	else if (st->phase != PG_READY)
		code = a.reason == TG_R_UPSTREAM_REFUSED || a.reason == TG_R_UPSTREAM_TIMEOUT ?
			       "08006" : "28000";
	l = pg_error_new("FATAL", code, words->message, words->detail, words->hint);
	if (l)
		insp_out_copy(pg_out(st, INSP_TO_CLIENT), slice_of(l->bytes, l->n));
	free(l);
}

static void notice(void *state, struct slice text)
{
	struct pg *st = state;

	/* Before AuthenticationOk a client may not expect a notice. */
	if (st->phase == PG_READY && pg_client_free(st))
		pg_notice_make(st, text);
}

static bool holding(const void *state)
{
	const struct pg *st = state;

	return st->asked != 0;
}

static bool idle(const void *state)
{
	const struct pg *st = state;

	return st->phase == PG_READY && st->status == PG_STATUS_IDLE && !st->q.n && !st->begins &&
	       !st->batch_runs && !st->asked && pg_client_free(st);
}

static void describe(const void *state, struct jsonw *w)
{
	static const char *const phases[] = {
		[PG_STARTUP] = "startup", [PG_LOGIN] = "login",
		[PG_READY] = "ready", [PG_DONE] = "done",
	};
	const struct pg *st = state;

	jsonw_object(w);
	jsonw_kv_string(w, "protocol", "postgresql");
	jsonw_kv_string(w, "phase", phases[st->phase]);
	jsonw_kv_string(w, "server_version", st->server_version);
	jsonw_kv_slice(w, "transaction", slice_of(&st->status, 1));
	jsonw_kv_bool(w, "holding", st->asked != 0);
	jsonw_kv_bool(w, "copy_in", st->copy_in);
	jsonw_kv_u64(w, "replies_due", st->q.n);
	jsonw_kv_u64(w, "objects", st->objects);
	jsonw_kv_u64(w, "object_bytes", st->objects_bytes);
	jsonw_kv_u64(w, "statements", st->queries);
	jsonw_kv_u64(w, "refused", st->denied);
	jsonw_kv_u64(w, "masked_values", st->masked_values);
	jsonw_object_end(w);
}

/* CancelRequest: length, code, process, key. */
static size_t cancel(uint32_t pid, uint32_t key, uint8_t dst[INSP_CANCEL_MAX])
{
	store_be32(dst, 16);
	store_be32(dst + 4, PG_CANCEL_REQUEST);
	store_be32(dst + 8, pid);
	store_be32(dst + 12, key);
	return 16;
}

/* Documentation, "SSL Session Encryption": 'E' is of servers that never heard of it, or cannot go on. */
static size_t tls_ask(uint8_t dst[INSP_TLS_ASK_MAX])
{
	store_be32(dst, 8);
	store_be32(dst + 4, PG_SSL_REQUEST);
	return 8;
}

static int tls_answer(uint8_t byte)
{
	return byte == 'S' ? 1 : byte == 'N' ? 0 : -EBADMSG;
}

const struct inspector inspector_postgresql = {
	.name = "postgresql",
	.port = 5432,
	.does = INSP_JUDGES | INSP_MASKS | INSP_LOGS_IN | INSP_STARTS_TLS,
	.state_size = sizeof(struct pg),
	.probe = probe,
	.open = open_flow,
	.feed = feed,
	.extent = extent,
	.end = end,
	.notice = notice,
	.holding = holding,
	.idle = idle,
	.cancel = cancel,
	.tls_ask = tls_ask,
	.tls_answer = tls_answer,
	.close = close_flow,
	.describe = describe,
};
