/* SPDX-License-Identifier: MIT */
#include "ctl/rerun.h"

#include <errno.h>
#include <jansson.h>
#include <stdarg.h>

#include "base/text.h"
#include "inspect/inspect.h"
#include "inspect/sql/sql.h"

enum {
	HELD_MAX = 64 << 20, /* bytes of a message that is not complete */
	DROPPED_MAX = 4096,
	SHOWN = 80,
};

/* Records that say what must happen again, in their order. */
struct due_event {
	struct due_event *next;
	enum tg_rec_type type;
	json_t *json;
};

struct due_events {
	struct due_event *first, **last;
};

struct rerun {
	const struct inspector *insp;
	struct insp_env env;
	struct arena arena;
	struct insp_out out[2];
	struct buf scratch;
	void *st;
	bool begun, ended;   /* the latter by the inspector */
	bool refused;	     /* before it was a session */
	bool own_login;	     /* who is let in is logged in by Tidegate */
	struct buf in[2];    /* not used by it yet */
	uint64_t left;	     /* of the server's message that is coming */
	struct buf due;	     /* what it said by itself, not seen in the recording yet */
	struct due_events events[2];
	json_t *answers; /* by number: refusals, and "at_execute" */
	uint64_t dropped[DROPPED_MAX];
	unsigned ndropped;
	int error;
	char why[512];
	struct rerun_counts counts;
};

/* ------------------------------------------------------------------ faults */

static int differs(struct rerun *r, const char *fmt, ...) PRINTF(2, 3);

/* Only the first is told. */
static int differs(struct rerun *r, const char *fmt, ...)
{
	va_list ap;
	int n;

	if (r->error)
		return r->error;
	n = snprintf(r->why, sizeof(r->why), "byte %llu of the client, %llu of the server: ",
		     (unsigned long long)r->counts.client_bytes,
		     (unsigned long long)r->counts.server_bytes);
	va_start(ap, fmt);
	(void)vsnprintf(r->why + n, sizeof(r->why) - (size_t)n, fmt, ap);
	va_end(ap);
	r->error = -EBADMSG;
	return r->error;
}

const char *rerun_why(const struct rerun *r)
{
	return r->why;
}

static struct slice str(const json_t *o, const char *key)
{
	const json_t *v = json_object_get(o, key);

	return slice_of(json_string_value(v), json_string_length(v));
}

static uint64_t number(const json_t *o, const char *key)
{
	return (uint64_t)json_integer_value(json_object_get(o, key));
}

static bool is_utf8(struct slice s)
{
	size_t n;

	for (; s.n; s = slice_from(s, n)) {
		n = utf8_length(s);
		if (!n)
			return false;
	}
	return true;
}

/* Secrets may have been overwritten in one and not in the other. JSON has only valid text. */
static bool same_text(struct slice a, struct slice b)
{
	if (!is_utf8(a) || !is_utf8(b))
		return true;
	if (a.n != b.n)
		return false;
	for (size_t i = 0; i < a.n; i++)
		if (a.p[i] != b.p[i] && a.p[i] != '*' && b.p[i] != '*')
			return false;
	return true;
}

static int expect_text(struct rerun *r, const char *what, struct slice want, struct slice got)
{
	char w[4 * SHOWN + 1], g[4 * SHOWN + 1];

	if (same_text(want, got))
		return 0;
	(void)text_escape(slice_of(want.p, min_size(want.n, SHOWN)), w, sizeof(w));
	(void)text_escape(slice_of(got.p, min_size(got.n, SHOWN)), g, sizeof(g));
	return differs(r, "%s: recorded `%s`, now `%s`", what, w, g);
}

static int expect_number(struct rerun *r, const char *what, uint64_t want, uint64_t got)
{
	if (want == got)
		return 0;
	return differs(r, "%s: recorded %llu, now %llu", what, (unsigned long long)want,
		       (unsigned long long)got);
}

/* ------------------------------------------------------------------ events */

static int push_event(struct rerun *r, enum insp_dir dir, enum tg_rec_type type, json_t *o)
{
	struct due_event *e = malloc(sizeof(*e));

	if (!e)
		return -ENOMEM;
	*e = (struct due_event){.type = type, .json = json_incref(o)};
	*r->events[dir].last = e;
	r->events[dir].last = &e->next;
	return 0;
}

static void pop_event(struct rerun *r, enum insp_dir dir)
{
	struct due_events *q = &r->events[dir];
	struct due_event *e = q->first;

	if (!e)
		return;
	q->first = e->next;
	if (!q->first)
		q->last = &q->first;
	json_decref(e->json);
	free(e);
}

/* What is recorded for the event that happens now; NULL after differs(). */
static json_t *due_json(struct rerun *r, enum insp_dir dir, enum tg_rec_type type)
{
	const struct due_event *e = r->events[dir].first;

	if (!e || e->type != type) {
		(void)differs(r, "now a %s, recorded %s%s", reader_type_name(type),
			      e ? "a " : "nothing", e ? reader_type_name(e->type) : "");
		return NULL;
	}
	return e->json;
}

/* The number that a question of now had then: those that were dropped had one too. */
static uint64_t then(const struct rerun *r, uint64_t seq)
{
	for (unsigned i = 0; i < r->ndropped; i++)
		if (seq >= r->dropped[i])
			seq += 2;
	return seq;
}

static void expect_effects(struct rerun *r, const json_t *o, const struct sql_info *info)
{
	const json_t *list = json_object_get(o, "effects");
	size_t k = 0;

	for (unsigned i = 0; i < SQL_EFFECT_COUNT; i++) {
		const char *want = json_string_value(json_array_get(list, k));

		if (!(info->effects >> i & 1))
			continue;
		k++;
		if (want && strcmp(want, sql_effect_name((enum sql_effect_bit)i)) == 0)
			continue;
		(void)differs(r, "effect %s was not recorded",
			      sql_effect_name((enum sql_effect_bit)i));
	}
	(void)expect_number(r, "effects", json_array_size(list), k);
}

static enum insp_verdict answer_of(const struct rerun *r, uint64_t seq, struct insp_answer *ret)
{
	char key[24];
	const json_t *o;

	(void)snprintf(key, sizeof(key), "%llu", (unsigned long long)seq);
	o = json_object_get(r->answers, key);
	*ret = (struct insp_answer){.verdict = INSP_V_ALLOW};
	if (json_is_true(json_object_get(o, "at_execute"))) {
		ret->at_execute = true;
	} else if (json_object_get(o, "login_as")) {
		ret->login_as = str(o, "login_as");
	} else if (o) {
		*ret = (struct insp_answer){
			.verdict = INSP_V_DENY,
			.reason = (uint16_t)number(o, "code"),
			.message = str(o, "message"),
			.detail = str(o, "detail"),
			.hint = str(o, "hint"),
			.cancelled = json_is_true(json_object_get(o, "cancelled")),
		};
	}
	return ret->verdict;
}

static void on_login(struct rerun *r, const struct event *ev)
{
	const json_t *o = due_json(r, INSP_C2S, TG_REC_STATE);

	if (!o)
		return;
	(void)expect_text(r, "user", str(o, "user"), ev->login.user);
	(void)expect_text(r, "database", str(o, "database"), ev->login.database);
	(void)expect_text(r, "application", str(o, "application"), ev->login.application);
	pop_event(r, INSP_C2S);
}

static void on_statement(struct rerun *r, const struct event *ev)
{
	bool execute = ev->kind == EV_EXECUTE;
	const json_t *o = due_json(r, INSP_C2S, execute ? TG_REC_EXECUTE : TG_REC_COMMAND);

	if (!o)
		return;
	(void)expect_number(r, "number of a statement", number(o, "seq"), then(r, ev->seq));
	if (execute) {
		(void)expect_number(r, "statement of an execution", number(o, "statement"),
				    then(r, ev->statement.statement_seq));
	} else {
		(void)expect_text(r, "text", str(o, "text"), ev->statement.text);
		expect_effects(r, o, ev->statement.info);
	}
	r->counts.statements++;
	pop_event(r, INSP_C2S);
}

static void on_result(struct rerun *r, const struct event *ev)
{
	const json_t *o = due_json(r, INSP_S2C, TG_REC_RESULT);

	if (!o)
		return;
	(void)expect_text(r, "tag", str(o, "tag"), ev->result.tag);
	(void)expect_number(r, "rows", number(o, "rows"), ev->result.rows);
	(void)expect_number(r, "statement of a result", number(o, "statement"),
			    ev->result.statement_seq ? then(r, ev->result.statement_seq) : 0);
	r->counts.results++;
	pop_event(r, INSP_S2C);
}

static void on_error(struct rerun *r, const struct event *ev)
{
	const json_t *o = due_json(r, INSP_S2C, TG_REC_ERROR);

	if (!o)
		return;
	(void)expect_text(r, "code of an error", str(o, "code"), ev->error.code);
	(void)expect_text(r, "error", str(o, "message"), ev->error.message);
	r->counts.errors++;
	pop_event(r, INSP_S2C);
}

static enum insp_verdict host_event(void *ctx, const struct event *ev, struct insp_answer *ret)
{
	struct rerun *r = ctx;

	ret->verdict = INSP_V_ALLOW;
	switch (ev->kind) {
	case EV_LOGIN:
		on_login(r, ev);
		if (answer_of(r, then(r, ev->seq), ret) == INSP_V_ALLOW && r->own_login &&
		    !ret->login_as.n)
			(void)differs(r, "whom Tidegate logged in as is not recorded");
		return ret->verdict;
	case EV_STATEMENT:
	case EV_EXECUTE:
		on_statement(r, ev);
		return answer_of(r, then(r, ev->seq), ret);
	case EV_RESULT:
		on_result(r, ev);
		break;
	case EV_ERROR:
		on_error(r, ev);
		break;
	case EV_CANCEL:
	case EV_BACKEND_KEY:
	case EV_READY:
	case EV_SETTLED:
	case EV_MASKED:
	case EV_GLITCH:
	case EV_LOGIN_ERROR:
		break;
	}
	return INSP_V_ALLOW;
}

/* The values have been through their masks. */
static enum insp_verdict host_columns(void *ctx, const struct sql_info *info, bool tainted,
				      const struct insp_column *cols, uint32_t n,
				      struct insp_plan *plans, struct insp_shape *ret)
{
	(void)ctx;
	(void)info;
	(void)tainted;
	(void)cols;
	for (uint32_t i = 0; i < n; i++)
		plans[i] = (struct insp_plan){0};
	*ret = (struct insp_shape){0};
	return INSP_V_ALLOW;
}

static uint32_t host_mask(void *ctx, struct insp_value *v, uint32_t n)
{
	(void)ctx;
	for (uint32_t i = 0; i < n; i++) {
		v[i].changed = false;
		v[i].hits = 0;
	}
	return 0;
}

/* A replay is not asked: the recording begins where the login is over. */
static enum insp_verdict host_login(void *ctx, const struct insp_challenge *c,
				    struct insp_response *ret)
{
	(void)ctx;
	(void)c;
	ret->reason = TG_R_CREDENTIAL_MISSING;
	return INSP_V_DENY;
}

static void host_secret(void *ctx, struct slice s)
{
	(void)ctx;
	(void)s;
}

static const struct insp_host host = {
	.event = host_event,
	.columns = host_columns,
	.mask = host_mask,
	.login = host_login,
	.secret = host_secret,
};

/* ------------------------------------------------------------------- bytes */

/* What it says to the client: the first @same bytes are @in's; the rest is its own. */
static int take_output(struct rerun *r, struct slice in, size_t same)
{
	const struct insp_out *o = &r->out[INSP_TO_CLIENT];
	int err = 0;

	if (o->bytes < same)
		return differs(r, "%zu bytes of the server's do not go on now", same - o->bytes);
	for (uint32_t i = 0; i < o->nseg && !err; i++) {
		struct slice s = slice_of(insp_out_ptr(o, i), o->seg[i].n);
		size_t n = min_size(s.n, same);

		if (n && memcmp(s.p, in.p, n) != 0)
			return differs(r, "bytes of the server's are changed now");
		in = slice_from(in, n);
		same -= n;
		s = slice_from(s, n);
		r->counts.own_bytes += s.n;
		err = s.n ? buf_append_slice(&r->due, s) : 0;
	}
	return err;
}

/* Gives it what there is of one side, also nothing. */
static int feed_now(struct rerun *r, enum insp_dir dir)
{
	struct slice in = buf_slice(&r->in[dir]);
	enum insp_status status;
	size_t used = 0;
	uint16_t why = 0;
	int err;

	if (r->ended)
		return differs(r, "bytes behind the end of the session");
	insp_out_reset(&r->out[0]);
	insp_out_reset(&r->out[1]);
	status = r->insp->feed(r->st, dir, in, false, &used, &why);
	if (r->out[0].failed || r->out[1].failed)
		return -ENOMEM;
	err = take_output(r, in, dir == INSP_S2C ? used : 0);
	buf_consume(&r->in[dir], used);
	if (!err && status == INSP_BAD)
		err = differs(r, "the inspector refuses the %s's bytes now: %s",
			      dir == INSP_C2S ? "client" : "server", reason_what(why));
	r->ended |= status == INSP_END;
	return err ? err : r->error;
}

/* As the first call of a flow, whose answer may stand in the recording behind the question. */
static int begin(struct rerun *r)
{
	if (r->begun || r->ended)
		return 0;
	r->begun = true;
	return feed_now(r, INSP_C2S);
}

static int feed(struct rerun *r, enum insp_dir dir)
{
	return r->in[dir].n ? feed_now(r, dir) : 0;
}

static int on_client(struct rerun *r, struct slice s)
{
	int err = buf_append_slice(&r->in[INSP_C2S], s);

	r->counts.client_bytes += s.n;
	return err ? err : feed(r, INSP_C2S);
}

/*
 * One piece of the server's stream: as much of a message as there is, so that what the inspector
 * says between messages is looked for at their ends. Its head is found byte by byte.
 */
static int server_piece(struct rerun *r, struct slice s, size_t *ret_n)
{
	struct buf *in = &r->in[INSP_S2C];
	int err = 0;

	for (*ret_n = 0; !r->left && *ret_n < s.n && !err;) {
		uint64_t whole;

		err = buf_append(in, s.p + (*ret_n)++, 1);
		whole = err ? 0 : r->insp->extent(buf_slice(in));
		if (whole == INSP_NO_MESSAGE)
			return differs(r, "no message of the server's begins so");
		if (whole && whole < in->n)
			return differs(r, "the server's message is not used now");
		if (whole == in->n)
			break;
		r->left = whole ? whole - in->n : 0;
	}
	if (!err && r->left) {
		size_t n = min_size(r->left, s.n - *ret_n);

		err = buf_append(in, s.p + *ret_n, n);
		*ret_n += n;
		r->left -= n;
	}
	if (err)
		return err;
	/* Whole messages, or what there is of a long one. */
	if (r->left && in->n < (1 << 20) && *ret_n < s.n)
		return 0;
	err = feed(r, INSP_S2C);
	return err ? err : feed(r, INSP_C2S);
}

/* A stream without messages: nothing of the inspector's own can be in it. */
static int server_stream(struct rerun *r, struct slice s)
{
	int err = buf_append_slice(&r->in[INSP_S2C], s);

	r->counts.server_bytes += s.n;
	return err ? err : feed(r, INSP_S2C);
}

static int on_server(struct rerun *r, struct slice s)
{
	int err = 0;

	if (!r->insp->extent)
		return server_stream(r, s);
	while (s.n && !err) {
		size_t n = min_size(r->due.n, s.n);

		if (n) {
			if (memcmp(buf_data(&r->due), s.p, n) != 0)
				return differs(r, "the inspector says something else now");
			buf_consume(&r->due, n);
		} else {
			err = server_piece(r, s, &n);
		}
		r->counts.server_bytes += n;
		s = slice_from(s, n);
	}
	return err;
}

/* ----------------------------------------------------------------- records */

static int keep_answer(struct rerun *r, uint64_t seq, json_t *o)
{
	char key[24];

	(void)snprintf(key, sizeof(key), "%llu", (unsigned long long)seq);
	return json_object_set(r->answers, key, o) ? -ENOMEM : 0;
}

static int say(struct rerun *r, const json_t *o)
{
	struct insp_words w = {
		.reason = (uint16_t)number(o, "code"),
		.message = str(o, "message"),
		.detail = str(o, "detail"),
		.hint = str(o, "hint"),
	};
	bool end = slice_eq_str(str(o, "said"), "end");
	int err = r->events[INSP_C2S].first ? begin(r) : 0;

	if (err)
		return err;
	insp_out_reset(&r->out[0]);
	insp_out_reset(&r->out[1]);
	if (end)
		r->insp->end(r->st, &w);
	else
		r->insp->notice(r->st, w.message);
	r->ended |= end;
	return take_output(r, (struct slice){0}, 0);
}

static int drop(struct rerun *r, uint64_t seq)
{
	const struct due_event *e = r->events[INSP_C2S].first;

	if (r->ndropped == DROPPED_MAX)
		return -ENOMEM;
	r->dropped[r->ndropped++] = seq;
	if (e && number(e->json, "seq") == seq)
		pop_event(r, INSP_C2S);
	return 0;
}

static int on_fact(struct rerun *r, json_t *o)
{
	if (json_object_get(o, "answer"))
		return keep_answer(r, number(o, "answer"), o);
	if (json_object_get(o, "said"))
		return say(r, o);
	if (json_object_get(o, "dropped"))
		return drop(r, number(o, "dropped"));
	return 0; /* plans: for people */
}

static int on_header(struct rerun *r, const json_t *o)
{
	const json_t *env = json_object_get(o, "inspector");

	/* No inspector has seen anything of it. */
	r->refused = json_object_get(o, "refused") != NULL;
	if (r->refused)
		return 0;
	r->insp = inspector_find(str(o, "protocol"));
	if (!r->insp || !json_is_object(env))
		return -ENOTSUP;
	r->env.masking = json_is_true(json_object_get(env, "masking"));
	r->env.limits.message_bytes = number(env, "message_bytes");
	r->env.limits.value_bytes = number(env, "value_bytes");
	r->env.server_socket = json_is_true(json_object_get(env, "server_socket"));
	r->env.socket_trust = json_is_true(json_object_get(env, "socket_trust"));
	r->own_login = json_is_true(json_object_get(env, "own_login"));
	r->st = arena_alloc(&r->arena, r->insp->state_size);
	if (!r->st || r->insp->open(r->st, &r->env)) {
		r->st = NULL;
		return -ENOMEM;
	}
	return 0;
}

static int on_state(struct rerun *r, json_t *o)
{
	if (slice_eq_str(str(o, "what"), "login"))
		return push_event(r, INSP_C2S, TG_REC_STATE, o);
	if (slice_eq_str(str(o, "what"), "policy")) {
		r->env.masking = json_is_true(json_object_get(o, "masking"));
		r->env.rules++;
		r->env.generation++;
	}
	return 0;
}

static int on_command(struct rerun *r, enum tg_rec_type type, json_t *o)
{
	int err = json_is_true(json_object_get(o, "at_execute")) ?
			  keep_answer(r, number(o, "seq"), o) : 0;

	return err ? err : push_event(r, INSP_C2S, type, o);
}

static int on_json(struct rerun *r, enum tg_rec_type type, json_t *o)
{
	if (type == TG_REC_HEADER)
		return r->st ? differs(r, "a second header") : on_header(r, o);
	if (type == TG_REC_FACT)
		return on_fact(r, o);
	if (type == TG_REC_STATE)
		return on_state(r, o);
	if (type == TG_REC_COMMAND || type == TG_REC_EXECUTE)
		return on_command(r, type, o);
	if (type == TG_REC_RESULT)
		return push_event(r, INSP_S2C, type, o);
	if (type == TG_REC_ERROR && slice_eq_str(str(o, "from"), "server"))
		return push_event(r, INSP_S2C, type, o);
	r->counts.ended |= type == TG_REC_END && !json_is_true(json_object_get(o, "recovered"));
	return 0;
}

int rerun_record(struct rerun *r, const struct reader_record *rec)
{
	struct slice json = reader_json(rec);
	json_t *o;
	int err;

	if (r->error)
		return r->error;
	if (rec->type != TG_REC_HEADER && !r->st)
		return r->refused ? 0 : -ENOTSUP;
	if (rec->incomplete)
		return 0;
	if (rec->type == TG_REC_CLIENT || rec->type == TG_REC_SERVER) {
		err = begin(r);
		if (err)
			return err;
		return rec->type == TG_REC_CLIENT ? on_client(r, rec->payload)
						  : on_server(r, rec->payload);
	}
	o = json_loadb((const char *)json.p, json.n, JSON_ALLOW_NUL, NULL);
	err = json_is_object(o) ? on_json(r, rec->type, o) :
				  differs(r, "a %s is not JSON", reader_type_name(rec->type));
	json_decref(o);
	return err;
}

int rerun_end(struct rerun *r, struct rerun_counts *ret)
{
	const struct due_event *c, *s;
	int err = r->st && r->events[INSP_C2S].first ? begin(r) : 0;

	if (err || r->error)
		return err ? err : r->error;
	c = r->events[INSP_C2S].first;
	s = r->events[INSP_S2C].first;
	*ret = r->counts;
	/* A session that runs, or was cut off: its last records may say more than its bytes. */
	if (!r->counts.ended)
		return 0;
	if (r->in[0].n || r->in[1].n)
		return differs(r, "%zu bytes of the client and %zu of the server are not used now",
			       r->in[0].n, r->in[1].n);
	if (r->due.n)
		return differs(r, "%zu bytes that the inspector says now are not recorded", r->due.n);
	/* A login or a statement may have waited for its answer until the end. */
	if (c && !c->next &&
	    (c->type == TG_REC_STATE || slice_eq_str(str(c->json, "decision"), "approve")))
		c = NULL;
	if (s || c)
		return differs(r, "a recorded %s does not happen now",
			       reader_type_name(s ? s->type : c->type));
	return 0;
}

/* --------------------------------------------------------------- life time */

struct rerun *rerun_new(struct sql *sql)
{
	struct rerun *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	arena_init(&r->arena, 4 << 20);
	buf_init(&r->scratch, HELD_MAX);
	buf_init(&r->due, HELD_MAX);
	for (int i = 0; i < 2; i++) {
		insp_out_init(&r->out[i], HELD_MAX);
		buf_init(&r->in[i], HELD_MAX);
		r->env.out[i] = &r->out[i];
		r->events[i].last = &r->events[i].first;
	}
	r->env.host = &host;
	r->env.ctx = r;
	r->env.arena = &r->arena;
	r->env.sql = sql;
	r->env.scratch = &r->scratch;
	r->env.replay = true;
	r->answers = json_object();
	if (r->answers)
		return r;
	rerun_free(r);
	return NULL;
}

void rerun_free(struct rerun *r)
{
	if (!r)
		return;
	if (r->st)
		r->insp->close(r->st);
	for (int i = 0; i < 2; i++) {
		while (r->events[i].first)
			pop_event(r, (enum insp_dir)i);
		insp_out_done(&r->out[i]);
		buf_done(&r->in[i]);
	}
	json_decref(r->answers);
	buf_done(&r->scratch);
	buf_done(&r->due);
	arena_done(&r->arena);
	free(r);
}
