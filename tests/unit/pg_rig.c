/* SPDX-License-Identifier: MIT */
#include "pg_rig.h"

#include <stdarg.h>
#include <stdio.h>

#include "guard.h"

#include "base/text.h"

enum { RIG_MAX = 64 << 20 };

static void say(struct rig *r, const char *fmt, ...) PRINTF(2, 3);

static void say(struct rig *r, const char *fmt, ...)
{
	char line[1024];
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	BUG_ON(n < 0 || buf_append(&r->lines[r->now], line, min_size(n, sizeof(line) - 1)));
}

static bool has(struct slice s, const char *word)
{
	return memmem(s.p, s.n, word, strlen(word)) != NULL;
}

static enum insp_verdict judge(struct rig *r, const struct event *ev, struct insp_answer *ret)
{
	struct slice text = ev->kind == EV_LOGIN ? ev->login.database : ev->statement.text;

	ret->verdict = INSP_V_ALLOW;
	if (ev->kind == EV_STATEMENT && has(text, "LATER")) {
		if (!ev->statement.simple) {
			ret->at_execute = true;
			return INSP_V_ALLOW;
		}
	}
	if (has(text, "WAITING")) {
		if (!r->release)
			return INSP_V_WAIT;
		if (r->release < 0) {
			ret->cancelled = true;
			ret->reason = TG_R_APPROVAL_CANCELLED;
			return INSP_V_DENY;
		}
	}
	if (!has(text, "DENIED") && !has(text, "nobody")) {
		if (ev->kind == EV_LOGIN && r->login_as)
			ret->login_as = slice_str(r->login_as);
		return INSP_V_ALLOW;
	}
	ret->reason = TG_R_RULE_DENY;
	ret->message = SLICE_LIT("denied by rule 1");
	ret->detail = SLICE_LIT("request r1");
	return INSP_V_DENY;
}

static enum insp_verdict on_event(void *ctx, const struct event *ev, struct insp_answer *ret)
{
	static const char *const verdicts[] = {"allow", "deny", "wait"};
	struct rig *r = ctx;
	enum insp_verdict v = INSP_V_ALLOW;
	unsigned long seq = (unsigned long)ev->seq;

	switch (ev->kind) {
	case EV_LOGIN:
		v = judge(r, ev, ret);
		if (v != INSP_V_WAIT)
			say(r, "%lu login %.*s@%.*s %s\n", seq, (int)ev->login.user.n,
			    ev->login.user.p, (int)ev->login.database.n, ev->login.database.p,
			    verdicts[v]);
		break;
	case EV_STATEMENT:
	case EV_EXECUTE:
		v = judge(r, ev, ret);
		if (v == INSP_V_WAIT)
			break;
		say(r, "%lu %s %.*s %s effects=%x", seq,
		    ev->kind == EV_STATEMENT ? "statement" : "execute",
		    (int)min_size(ev->statement.text.n, 200), ev->statement.text.p, verdicts[v],
		    ev->statement.info->effects);
		if (ev->kind == EV_EXECUTE)
			say(r, " of=%lu digest=%02x%02x", (unsigned long)ev->statement.statement_seq,
			    ev->statement.digest[0], ev->statement.digest[1]);
		say(r, "%s\n", ev->statement.simple ? " simple" : "");
		break;
	case EV_CANCEL:
	case EV_BACKEND_KEY:
		say(r, "%lu %s %u %u\n", seq, ev->kind == EV_CANCEL ? "cancel" : "key",
		    ev->backend.pid, ev->backend.key);
		break;
	case EV_READY:
		say(r, "%lu ready\n", seq);
		break;
	case EV_RESULT:
		say(r, "%lu result %.*s rows=%lu of=%lu\n", seq, (int)ev->result.tag.n,
		    ev->result.tag.p, (unsigned long)ev->result.rows,
		    (unsigned long)ev->result.statement_seq);
		break;
	case EV_SETTLED:
		r->settled++;
		break;
	case EV_ERROR:
		say(r, "%lu error %.*s %.*s\n", seq, (int)ev->error.code.n, ev->error.code.p,
		    (int)min_size(ev->error.message.n, 200), ev->error.message.p);
		break;
	case EV_MASKED:
		say(r, "%lu masked values=%lu hits=%lu over=%lu detectors=%x\n", seq,
		    (unsigned long)ev->masked.values, (unsigned long)ev->masked.hits,
		    (unsigned long)ev->masked.over_cap, ev->masked.detectors);
		break;
	case EV_LOGIN_ERROR:
		say(r, "%lu login error %.*s %.*s\n", seq, (int)ev->error.code.n, ev->error.code.p,
		    (int)min_size(ev->error.message.n, 200), ev->error.message.p);
		break;
	case EV_GLITCH:
		say(r, "%lu glitch %s\n", seq, ev->glitch.what);
		break;
	}
	ret->verdict = v;
	return v;
}

static bool names_secret(const struct sql_info *info)
{
	for (uint32_t i = 0; info && i < info->nnames; i++)
		if (slice_eq_str(info->names[i], "secret"))
			return true;
	return false;
}

static enum insp_verdict on_columns(void *ctx, const struct sql_info *info, bool tainted,
				    const struct insp_column *cols, uint32_t n,
				    struct insp_plan *plans, struct insp_shape *ret)
{
	struct rig *r = ctx;

	r->column_calls++;
	r->tainted = tainted;
	if (r->wait_columns) {
		r->wait_columns--;
		return INSP_V_WAIT;
	}
	for (uint32_t i = 0; i < n; i++) {
		bool secret = (cols[i].table == 1000 && cols[i].attnum == 2) ||
			      slice_eq_str(cols[i].name, "secret") ||
			      (cols[i].table && slice_eq_str(cols[i].label, "secret"));

		/* "COPY customers TO": its columns in their order. */
		if (info && info->copy && !info->copy->ncolumns && i == 1)
			secret |= slice_eq_str(info->copy->relation, "customers");
		if (!cols[i].table && !cols[i].name.n && (tainted || (names_secret(info) && !info->copy)))
			secret = true;
		plans[i] = (struct insp_plan){
			.how = secret ? r->how : MASK_NONE,
			.found_how = MASK_REDACT,
			.detectors = 1u << DETECT_BIT_EMAIL | 1u << DETECT_BIT_CARD |
				     1u << DETECT_BIT_UUID | r->detectors,
		};
	}
	for (uint32_t i = 0; r->copy_types && i < n; i++)
		plans[i].type = r->copy_types[i];
	ret->texts = r->hide_texts;
	return INSP_V_ALLOW;
}

/* A hit is replaced by a longer text, so that framing shows. */
static uint32_t on_mask(void *ctx, struct insp_value *v, uint32_t n)
{
	struct rig *r = ctx;
	uint32_t changed = 0;

	r->mask_calls++;
	for (uint32_t i = 0; i < n; i++) {
		uint32_t hits = 0;

		r->masked_values++;
		if (v[i].plan->how != MASK_NONE) {
			v[i].out = v[i].plan->how == MASK_NULL ? (struct slice){0} : SLICE_LIT("***");
			v[i].changed = true;
			changed++;
			continue;
		}
		if (has(v[i].in, "@"))
			hits |= 1u << DETECT_BIT_EMAIL;
		if (has(v[i].in, "4111"))
			hits |= 1u << DETECT_BIT_CARD;
		if (!hits)
			continue;
		v[i].hits = hits;
		v[i].out = v[i].in.p[0] == '{' ? SLICE_LIT("{\"a\":\"<hit>\"}") : SLICE_LIT("<hit>");
		v[i].changed = true;
		changed++;
	}
	return changed;
}

/* Each answer is the same, so that a server can be played from a table. */
static enum insp_verdict on_login(void *ctx, const struct insp_challenge *c,
				  struct insp_response *ret)
{
	static const char *const names[] = {"nonce", "password", "md5", "scram"};
	struct rig *r = ctx;

	if (r->wait_login) {
		r->wait_login--;
		return INSP_V_WAIT;
	}
	say(r, "asked %s", names[c->need]);
	for (size_t i = 0; i < c->salt.n; i++)
		say(r, " %02x", c->salt.p[i]);
	if (c->need == INSP_NEED_SCRAM)
		say(r, " %.*s | %.*s | %.*s", (int)c->first.n, c->first.p, (int)c->server.n,
		    c->server.p, (int)c->final.n, c->final.p);
	say(r, "\n");
	ret->reason = TG_R_CREDENTIAL_METHOD;
	if (c->need == INSP_NEED_PASSWORD && r->no_clear_text)
		return INSP_V_DENY;
	ret->text = c->need == INSP_NEED_NONCE	 ? SLICE_LIT("fyko+d2lbbFgONRv9qkxdawL")
		    : c->need == INSP_NEED_SCRAM ? SLICE_LIT("v0X8v3Bz2T0CJGbJQyF0X+HI4Ts=")
		    : c->need == INSP_NEED_MD5	 ? SLICE_LIT("md5c0ffee")
						 : SLICE_LIT("open sesame");
	ret->signature = SLICE_LIT("rmF9pqV8S7suAoZWja4dJRkFsKQ=");
	return INSP_V_ALLOW;
}

static void on_secret(void *ctx, struct slice s)
{
	struct rig *r = ctx;

	BUG_ON(buf_append_slice(&r->secrets, s) || buf_append(&r->secrets, "\n", 1));
}

static const struct insp_host host = {
	.event = on_event,
	.columns = on_columns,
	.mask = on_mask,
	.login = on_login,
	.secret = on_secret,
};

void rig_init(struct rig *r, struct sql *sql, bool masking)
{
	*r = (struct rig){.how = MASK_REDACT};
	arena_init(&r->arena, 1 << 20);
	buf_init(&r->scratch, 8 << 20);
	buf_init(&r->secrets, 1 << 20);
	for (int i = 0; i < 2; i++) {
		insp_out_init(&r->out[i], RIG_MAX);
		buf_init(&r->in[i], RIG_MAX);
		buf_init(&r->got[i], RIG_MAX);
		buf_init(&r->lines[i], RIG_MAX);
		r->env.out[i] = &r->out[i];
	}
	r->env.host = &host;
	r->env.ctx = r;
	r->env.arena = &r->arena;
	r->env.sql = sql;
	r->env.scratch = &r->scratch;
	r->env.masking = masking;
	r->state = arena_alloc(&r->arena, inspector_postgresql.state_size);
	BUG_ON(!r->state || inspector_postgresql.open(r->state, &r->env));
	r->status = INSP_MORE;
}

void rig_done(struct rig *r)
{
	inspector_postgresql.close(r->state);
	for (int i = 0; i < 2; i++) {
		insp_out_done(&r->out[i]);
		buf_done(&r->in[i]);
		buf_done(&r->got[i]);
		buf_done(&r->lines[i]);
	}
	buf_done(&r->scratch);
	buf_done(&r->secrets);
	arena_done(&r->arena);
}

static void collect(struct rig *r)
{
	for (int to = 0; to < 2; to++) {
		for (uint32_t i = 0; i < r->out[to].nseg; i++)
			BUG_ON(buf_append(&r->got[to], insp_out_ptr(&r->out[to], i),
					  r->out[to].seg[i].n));
		insp_out_reset(&r->out[to]);
	}
}

/* One call; true if it used something. */
static bool feed_once(struct rig *r, enum insp_dir dir)
{
	struct slice in = buf_slice(&r->in[dir]);
	void *handle = NULL;
	uint8_t *copy;
	size_t used = 0;
	uint16_t why = 0;
	enum insp_status s;

	if (r->status == INSP_BAD || r->status == INSP_END)
		return false;
	r->now = dir;
	copy = r->exact ? guard_copy(in, &handle) : malloc(in.n ? in.n : 1);
	if (!r->exact && in.n)
		memcpy(copy, in.p, in.n);
	s = inspector_postgresql.feed(r->state, dir, slice_of(copy, in.n), r->eof[dir], &used, &why);
	BUG_ON(used > in.n);
	collect(r);
	if (r->exact)
		guard_free(handle);
	else
		free(copy);
	buf_consume(&r->in[dir], used);
	r->peak = max_size(r->peak, r->in[dir].n);
	if (s == INSP_BAD || s == INSP_END) {
		r->status = s;
		r->why = why;
	} else if (s == INSP_YIELD) {
		return true;
	}
	return used > 0;
}

void rig_again(struct rig *r)
{
	bool moved;

	do {
		moved = r->in[INSP_S2C].n && feed_once(r, INSP_S2C);
		moved |= r->in[INSP_C2S].n && feed_once(r, INSP_C2S);
	} while (moved);
}

void rig_feed(struct rig *r, enum insp_dir dir, struct slice s)
{
	BUG_ON(buf_append_slice(&r->in[dir], s));
	(void)feed_once(r, dir);
	rig_again(r);
}

void rig_close(struct rig *r, enum insp_dir dir)
{
	r->eof[dir] = true;
	(void)feed_once(r, dir);
}

/* ---------------------------------------------------------------- messages */

void msg_add(struct buf *b, uint8_t type, struct slice body)
{
	uint8_t head[5] = {type};

	store_be32(head + 1, (uint32_t)body.n + 4);
	BUG_ON(buf_append(b, head, type ? 5 : 0) || buf_append_slice(b, body));
}

void msg_str(struct buf *b, uint8_t type, const char *s)
{
	msg_add(b, type, slice_of(s, strlen(s) + 1));
}

static void add_str(struct buf *b, const char *s)
{
	BUG_ON(buf_append(b, s, strlen(s) + 1));
}

static void add_be(struct buf *b, uint32_t v, size_t n)
{
	uint8_t be[4];

	store_be32(be, v);
	BUG_ON(buf_append(b, be + 4 - n, n));
}

void msg_startup(struct buf *b, const char *user, const char *database)
{
	struct buf body;

	buf_init(&body, 1024);
	add_be(&body, 3 << 16, 4);
	add_str(&body, "user");
	add_str(&body, user);
	add_str(&body, "database");
	add_str(&body, database);
	add_str(&body, "");
	add_be(b, (uint32_t)body.n + 4, 4);
	BUG_ON(buf_append_slice(b, buf_slice(&body)));
	buf_done(&body);
}

static void finish(struct buf *b, uint8_t type, struct buf *body)
{
	msg_add(b, type, buf_slice(body));
	buf_done(body);
}

void msg_parse(struct buf *b, const char *name, const char *text)
{
	struct buf body;

	buf_init(&body, RIG_MAX);
	add_str(&body, name);
	add_str(&body, text);
	add_be(&body, 0, 2);
	finish(b, 'P', &body);
}

void msg_bind(struct buf *b, const char *portal, const char *name, const char *value, int format)
{
	struct buf body;

	buf_init(&body, RIG_MAX);
	add_str(&body, portal);
	add_str(&body, name);
	add_be(&body, 0, 2);
	add_be(&body, value ? 1 : 0, 2);
	if (value) {
		add_be(&body, (uint32_t)strlen(value), 4);
		BUG_ON(buf_append(&body, value, strlen(value)));
	}
	add_be(&body, 1, 2);
	add_be(&body, (uint32_t)format, 2);
	finish(b, 'B', &body);
}

void msg_target(struct buf *b, uint8_t type, char kind, const char *name)
{
	struct buf body;

	buf_init(&body, 4096);
	add_be(&body, (uint8_t)kind, 1);
	add_str(&body, name);
	finish(b, type, &body);
}

void msg_execute(struct buf *b, const char *portal)
{
	struct buf body;

	buf_init(&body, 4096);
	add_str(&body, portal);
	add_be(&body, 0, 4);
	finish(b, 'E', &body);
}

void msg_empty(struct buf *b, uint8_t type)
{
	msg_add(b, type, (struct slice){0});
}

void msg_ready(struct buf *b, char status)
{
	msg_add(b, 'Z', slice_of(&status, 1));
}

void msg_error(struct buf *b, const char *severity, const char *code, const char *message,
	       const char *detail)
{
	struct buf body;

	buf_init(&body, RIG_MAX);
	BUG_ON(buf_printf(&body, "S%s%cV%s%cC%s%cM%s%c", severity, 0, severity, 0, code, 0, message,
			  0));
	if (detail)
		BUG_ON(buf_printf(&body, "D%s%c", detail, 0));
	add_be(&body, 0, 1);
	finish(b, 'E', &body);
}

void msg_rows(struct buf *b, const char *const *cols)
{
	struct buf body;
	uint16_t n = 0;

	while (cols[n])
		n++;
	buf_init(&body, RIG_MAX);
	add_be(&body, n, 2);
	for (uint16_t i = 0; i < n; i++) {
		unsigned table, type;
		char name[64], b1 = 0;
		int att;

		BUG_ON(sscanf(cols[i], "%63[^:]:%u:%d:%u:%c", name, &table, &att, &type, &b1) < 4);
		add_str(&body, name);
		add_be(&body, table, 4);
		add_be(&body, (uint32_t)att, 2);
		add_be(&body, type, 4);
		add_be(&body, 0xffff, 2);
		add_be(&body, 0xffffffff, 4);
		add_be(&body, b1 == 'b', 2);
	}
	finish(b, 'T', &body);
}

void msg_row(struct buf *b, const char *const *values)
{
	struct buf body;
	uint16_t n = 0;

	while (values[n])
		n++;
	buf_init(&body, RIG_MAX);
	add_be(&body, n, 2);
	for (uint16_t i = 0; i < n; i++) {
		bool null = strcmp(values[i], "\1") == 0;

		add_be(&body, null ? UINT32_MAX : (uint32_t)strlen(values[i]), 4);
		if (!null)
			BUG_ON(buf_append(&body, values[i], strlen(values[i])));
	}
	finish(b, 'D', &body);
}

void msg_row1(struct buf *b, struct slice v)
{
	struct buf body;

	buf_init(&body, RIG_MAX);
	add_be(&body, 1, 2);
	add_be(&body, (uint32_t)v.n, 4);
	BUG_ON(buf_append_slice(&body, v));
	finish(b, 'D', &body);
}

void msg_login_ok(struct buf *b)
{
	msg_add(b, 'R', SLICE_LIT("\0\0\0\3"));
	msg_add(b, 'R', SLICE_LIT("\0\0\0\0"));
	msg_add(b, 'S', SLICE_LIT("server_version\0" "15.1\0"));
	msg_add(b, 'S', SLICE_LIT("standard_conforming_strings\0on\0"));
	msg_add(b, 'S', SLICE_LIT("client_encoding\0UTF8\0"));
	msg_add(b, 'K', SLICE_LIT("\0\0\0\7\0\0\0\10"));
	msg_ready(b, 'I');
}

void msg_dump(struct slice s, struct buf *b)
{
	char text[8192];

	while (s.n >= 5) {
		size_t total = (size_t)load_be32(s.p + 1) + 1;
		struct slice body = slice_from(slice_of(s.p, min_size(total, s.n)), 5);
		size_t n = 0;

		for (size_t i = 0; i < body.n && n + 1 < sizeof(text); i++)
			if (body.p[i] >= 0x20 && body.p[i] < 0x7f)
				text[n++] = (char)body.p[i];
			else if (n && text[n - 1] != '.')
				text[n++] = '.';
		while (n && text[n - 1] == '.')
			n--;
		if (n > 120)
			n = 120;
		BUG_ON(buf_printf(b, n ? "%s%c(%.*s)" : "%s%c", b->n ? " " : "", s.p[0], (int)n,
				  text));
		s = slice_from(s, total);
	}
	if (s.n)
		BUG_ON(buf_printf(b, " +%zu", s.n));
}

struct sql *rig_sql;

int rig_setup(void **state)
{
	(void)state;
	return sql_new(NULL, &rig_sql);
}

int rig_teardown(void **state)
{
	(void)state;
	sql_free(rig_sql);
	return 0;
}

void rig_send(struct rig *r, enum insp_dir dir, struct buf *b)
{
	rig_feed(r, dir, buf_slice(b));
	buf_reset(b);
}

static void send_password(struct rig *r)
{
	struct buf b;

	buf_init(&b, 64);
	msg_str(&b, 'p', "hunter2");
	rig_send(r, INSP_C2S, &b);
	buf_done(&b);
}

void rig_login(struct rig *r, bool masking, struct buf *b)
{
	enum { REQUEST = 9 }; /* AuthenticationCleartextPassword; the client answers to it */

	buf_init(b, 32 << 20);
	rig_init(r, rig_sql, masking);
	r->exact = true;
	msg_startup(b, "agent", "shop");
	rig_send(r, INSP_C2S, b);
	msg_login_ok(b);
	rig_feed(r, INSP_S2C, slice_of(buf_data(b), REQUEST));
	buf_consume(b, REQUEST);
	send_password(r);
	rig_send(r, INSP_S2C, b);
	BUG_ON(r->status != INSP_MORE);
	buf_reset(&r->got[0]);
	buf_reset(&r->got[1]);
}

void rig_logout(struct rig *r, struct buf *b)
{
	buf_done(b);
	rig_done(r);
}
