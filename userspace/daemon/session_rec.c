/* SPDX-License-Identifier: MIT */
/* What of a session goes into its recording, and in which form. */
#include <errno.h>
#include <inttypes.h>
#include <openssl/sha.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/address.h"
#include "daemon/session_rec.h"
#include "inspect/sql/sql.h"

enum {
	NAME_SHOWN = 128, /* bytes of an object's name; PostgreSQL cuts at 63 */
	CUT_WORDS = 80,
};

/* A failed recording ends the session unless the administrator said otherwise. */
static bool failed(struct session *s, int error)
{
	struct wconf *c = s->conf;

	if (s->rec || error)
		log_debug("session %s: recording: %s", session_id(s).text, strerror(-error));
	return c && !c->cfg->record_required;
}

/* All that one turn records happened when it began. */
static uint64_t time_of_record(const struct session *s)
{
	return s->in_turn ? s->w->turn_wall_ns : clock_wall_ns();
}

/* Where a steered connection came from. */
static void put_origin(const struct session *s, struct jsonw *j)
{
	const struct tg_record *r = s->record;
	char addr[ADDRESS_TEXT];

	jsonw_kv_string(j, "upstream", s->upstream);
	jsonw_kv_bool(j, "steered", s->steered);
	if (!r)
		return;
	address_format_mapped(r->addr, (uint16_t)(r->port_be << 8 | r->port_be >> 8),
			      addr);
	jsonw_kv_string(j, "destination", addr);
	jsonw_kv_u64(j, "pid", r->tgid);
	jsonw_kv_u64(j, "uid", r->uid);
	jsonw_kv_slice(j, "comm", slice_of(r->comm, strnlen(r->comm, TG_COMM_LEN)));
	jsonw_kv_u64(j, "cgroup_id", r->cgroup_id);
}

static void begin_head(const struct session *s, struct jsonw *j)
{
	char when[32];

	buf_reset(&s->w->json);
	jsonw_init(j, &s->w->json, false);
	jsonw_object(j);
	jsonw_kv_string(j, "session", session_id(s).text);
	text_time(uuid_wall_ns(&s->uuid), when, sizeof(when));
	jsonw_kv_string(j, "time", when);
}

static bool end_head(struct session *s, struct jsonw *j)
{
	/* The parent's facts are a JSON object already; kept as text so that they stay what it said. */
	jsonw_kv_string(j, "facts", s->facts ? s->facts : "");
	jsonw_kv_string(j, "tidegate", TIDEGATE_VERSION);
	jsonw_object_end(j);
	if (!jsonw_end(j))
		s->head = strndup((const char *)buf_data(&s->w->json), s->w->json.n);
	return s->head ? true : failed(s, -ENOMEM);
}

bool srec_open(struct session *s)
{
	struct access_decision d;
	struct jsonw j;

	begin_head(s, &j);
	jsonw_kv_string(&j, "agent", s->view->agent);
	jsonw_kv_string(&j, "target", s->view->target->name);
	jsonw_kv_string(&j, "protocol", s->view->target->protocol);
	put_origin(s, &j);
	jsonw_kv_string(&j, "policy", policy_digest(s->conf->cfg->policy));
	policy_access(s->view->view, &d);
	jsonw_kv_string(&j, "access_rule", d.rule);
	srec_put_inspector(s, &j);
	return end_head(s, &j);
}

/* Something is to be recorded: behind who it is. */
static int begin_rec(struct session *s)
{
	int rc;

	if (!s->head)
		return 0;
	rc = rec_new(s->w->journal, &s->uuid, slice_str(s->head), &s->rec);
	free(s->head);
	s->head = NULL;
	if (rc || s->rec_fd < 0)
		return rc;
	journal_file(s->w->journal, &s->uuid, s->rec_fd, 0);
	s->rec_fd = -1;
	s->w->nheld--;
	return 0;
}

bool srec_refused(struct session *s, struct slice agent, struct slice target, uint16_t reason)
{
	const struct cfg_target *t = config_target(s->conf->cfg, target);
	struct jsonw j;
	int rc;

	begin_head(s, &j);
	if (agent.n)
		jsonw_kv_slice(&j, "agent", agent);
	if (target.n)
		jsonw_kv_slice(&j, "target", target);
	if (t)
		jsonw_kv_string(&j, "protocol", t->protocol);
	put_origin(s, &j);
	jsonw_kv_string(&j, "policy", policy_digest(s->conf->cfg->policy));
	jsonw_kv_string(&j, "refused", reason_label(reason));
	if (!end_head(s, &j))
		return false;
	rc = begin_rec(s);
	return rc ? failed(s, rc) : true;
}

bool srec_json(struct session *s, enum tg_rec_type type, struct slice json)
{
	int rc;

	if (!json.n)
		return failed(s, -EMSGSIZE);
	rc = begin_rec(s);
	if (rc || !s->rec)
		return failed(s, rc);
	rc = rec_put(s->rec, type, time_of_record(s), &json, 1);
	return rc ? failed(s, rc) : true;
}

/* Overwrites in @dst, a copy of @p, what of the running call's input was reported as secret. */
static void hide_ranges(const struct session *s, const uint8_t *p, uint8_t *dst, size_t n)
{
	const struct worker *w = s->w;
	size_t from;

	if (!w->turn_in.p || p < w->turn_in.p || p >= w->turn_in.p + w->turn_in.n)
		return; /* made by us */
	from = (size_t)(p - w->turn_in.p);
	if (w->all_secret) {
		memset(dst, '*', n);
		return;
	}
	for (unsigned i = 0; i < w->nsecret; i++) {
		size_t a = w->secret[i].off, b = a + w->secret[i].n;

		a = a < from ? from : a;
		b = b > from + n ? from + n : b;
		if (a < b)
			memset(dst + (a - from), '*', b - a);
	}
}

/*
 * Secrets in @dst, a copy of @p. What the statement's record has looked through already is left
 * out: no secret reaches over the zero byte behind a statement's text, and in front of it is one,
 * too, or the message's head.
 */
static void hide_found(const struct session *s, const uint8_t *p, uint8_t *dst, size_t n)
{
	struct worker *w = s->w;
	size_t from = 0, to = 0;

	if (w->clean.n && w->clean.p >= p && w->clean.p + w->clean.n <= p + n) {
		from = (size_t)(w->clean.p - p);
		to = from + w->clean.n;
	}
	(void)masker_hide_secrets(w->masker, dst, from);
	(void)masker_hide_secrets(w->masker, dst + to, n - to);
}

bool srec_bytes(struct session *s, enum insp_dir dir, const uint8_t *p, size_t n)
{
	enum tg_rec_type type = dir == INSP_C2S ? TG_REC_CLIENT : TG_REC_SERVER;
	uint64_t now = time_of_record(s);
	int rc = begin_rec(s);

	if (rc || !s->rec)
		return failed(s, rc);
	for (size_t off = 0; off < n;) {
		size_t part = min_size(n - off, TG_REC_CHUNK);
		uint8_t *dst = rec_reserve(s->rec, type, now, part, &rc);

		if (!dst)
			return failed(s, rc);
		memcpy(dst, p + off, part);
		hide_ranges(s, p + off, dst, part);
		if (dir == INSP_C2S)
			hide_found(s, p + off, dst, part);
		rec_commit(s->rec);
		off += part;
	}
	return true;
}

/* A copy of the statement's text, and what is behind it, without secrets, in the scratch buffer. */
static struct slice shown_copy(struct session *s, const struct event *ev, const char *behind)
{
	const struct sql_info *info = ev->statement.info;
	struct buf *b = &s->w->scratch;

	buf_reset(b);
	if (buf_append_slice(b, ev->statement.text) ||
	    (ev->statement.params.n &&
	     (buf_append(b, behind, strlen(behind)) || buf_append_slice(b, ev->statement.params))))
		return (struct slice){.p = NULL, .n = 0};
	for (unsigned i = 0; info && i < info->nsecrets; i++) {
		size_t off = info->secrets[i].off, n = info->secrets[i].n;

		if (off < b->n)
			memset(buf_data(b) + off, '*', min_size(n, b->n - off));
	}
	(void)masker_hide_secrets(s->w->masker, buf_data(b), b->n);
	return buf_slice(b);
}

/* What it names, where it names another, behind what shown_copy() has made. */
static struct slice shown_named(struct session *s, const struct event *ev, struct slice text)
{
	static const char behind[] = "\n-- which is: ";
	const struct sql_info *info = ev->statement.named_info;
	struct buf *b = &s->w->scratch;
	size_t at;

	if (!text.p || !ev->statement.named.n)
		return text;
	if (buf_append(b, behind, sizeof(behind) - 1))
		return (struct slice){.p = NULL, .n = 0};
	at = b->n;
	if (buf_append_slice(b, ev->statement.named))
		return (struct slice){.p = NULL, .n = 0};
	for (unsigned i = 0; info && i < info->nsecrets; i++) {
		size_t off = at + info->secrets[i].off;

		if (off < b->n)
			memset(buf_data(b) + off, '*', min_size(info->secrets[i].n, b->n - off));
	}
	(void)masker_hide_secrets(s->w->masker, buf_data(b) + at, b->n - at);
	return buf_slice(b);
}

/* The same, or the text itself if there is nothing to hide. */
static struct slice shown_text(struct session *s, const struct event *ev, const char *behind)
{
	const struct sql_info *info = ev->statement.info;
	struct worker *w = s->w;
	struct slice text = ev->statement.text;

	if (!text.n || ev->statement.params.n || (info && info->nsecrets) ||
	    masker_has_secrets(w->masker, text))
		return shown_copy(s, ev, behind);
	if (text.p >= w->turn_in.p && text.p < w->turn_in.p + w->turn_in.n)
		w->clean = text;
	return text;
}

/* Who approves must see that he does not see all: harmless lines may be in front of others. */
void srec_put_text(struct session *s, struct ipc *ipc, const struct event *ev)
{
	struct slice text = shown_named(s, ev, shown_copy(s, ev, "\n-- parameters: "));
	size_t n = STATEMENT_SHOWN - CUT_WORDS;
	char *at;

	if (text.n > STATEMENT_SHOWN) {
		while (n && (text.p[n] & 0xc0) == 0x80)
			n--;
		at = (char *)buf_data(&s->w->scratch) + n;
		n += (size_t)snprintf(at, CUT_WORDS, "\n[Tidegate: cut; %zu more bytes are not shown]",
				      text.n - n);
		text.n = n;
	}
	ipc_put_slice(ipc, text);
}

static void put_effects(struct jsonw *j, const struct sql_info *info)
{
	jsonw_name(j, "effects");
	jsonw_array(j);
	for (unsigned i = 0; info && i < SQL_EFFECT_COUNT; i++)
		if (info->effects >> i & 1)
			jsonw_string(j, sql_effect_name((enum sql_effect_bit)i));
	jsonw_array_end(j);
}

static void put_objects(struct jsonw *j, const struct sql_info *info)
{
	jsonw_name(j, "objects");
	jsonw_array(j);
	for (unsigned i = 0; info && i < info->naccess && i < 64; i++) {
		const struct sql_access *a = &info->access[i];
		size_t schema = min_size(a->schema.n, NAME_SHOWN), n = min_size(a->name.n, NAME_SHOWN);
		uint8_t name[2 * NAME_SHOWN + 1], *at = name;

		if (!n)
			continue;
		if (schema) {
			memcpy(at, a->schema.p, schema);
			at[schema] = '.';
			at += schema + 1;
		}
		memcpy(at, a->name.p, n);
		jsonw_slice(j, slice_of(name, (size_t)(at - name) + n));
	}
	jsonw_array_end(j);
}

struct info_text {
	const struct sql_info *info; /* referenced; NULL: free */
	char *json;
	uint32_t n;
};

/* What the record of each statement of a shape says is written once, and copied. */
static void put_info(struct session *s, struct jsonw *j, const struct sql_info *info)
{
	enum { PLACES = 512, KEPT_MAX = 2048 };
	struct worker *w = s->w;
	struct info_text *t;
	struct slice made;
	size_t at;

	if (!w->info_texts)
		w->info_texts = calloc(PLACES, sizeof(*w->info_texts));
	/* Without a shape it is not shared: of one text, or not on the heap at all. */
	if (!w->info_texts || !info || !info->shape || info->flags & SQL_F_LITERALS) {
		put_effects(j, info);
		put_objects(j, info);
		return;
	}
	t = &w->info_texts[info->shape % PLACES];
	if (t->info == info) {
		jsonw_members(j, slice_of(t->json, t->n));
		return;
	}
	at = j->out->n + 1; /* behind the comma */
	put_effects(j, info);
	put_objects(j, info);
	made = slice_from(buf_slice(j->out), at);
	if (made.n > KEPT_MAX)
		return;
	if (t->info)
		sql_info_unref(t->info);
	free(t->json);
	*t = (struct info_text){.json = malloc(made.n), .n = (uint32_t)made.n};
	if (t->json) {
		memcpy(t->json, made.p, made.n);
		t->info = sql_info_ref(info);
	}
}

/* People who follow see what goes into the recording. */
static void tell_followers(struct session *s, const char *kind, struct slice json)
{
	char when[32];
	struct buf b;

	if (!s->w->follow)
		return;
	text_time(time_of_record(s), when, sizeof(when));
	buf_init(&b, IPC_MAX);
	if (!buf_printf(&b,
			"{\"time\":\"%s\",\"session\":\"%s\",\"agent\":\"%s\",\"target\":\"%s\","
			"\"event\":\"%s\",\"data\":%.*s}",
			when, session_id(s).text, s->view ? s->view->agent : "", s->view ? s->view->target->name : "",
			kind, (int)min_size(json.n, 32768), (const char *)json.p)) {
		ipc_begin(s->w->ipc, IPC_EVENT, 0);
		ipc_put_slice(s->w->ipc, buf_slice(&b));
		ipc_send(s->w->ipc);
	}
	buf_done(&b);
}

void statement_digest(const struct event *ev, uint8_t ret[32])
{
	if (ev->statement.has_digest)
		memcpy(ret, ev->statement.digest, 32);
	else
		(void)SHA256(ev->statement.text.p, ev->statement.text.n, ret);
}

static bool finish(struct session *s, struct jsonw *j, enum tg_rec_type type, const char *kind)
{
	jsonw_object_end(j);
	if (jsonw_end(j))
		return failed(s, -EMSGSIZE);
	tell_followers(s, kind, buf_slice(j->out));
	return srec_json(s, type, buf_slice(j->out));
}

static void begin(struct session *s, struct jsonw *j)
{
	buf_reset(&s->w->json);
	jsonw_init(j, &s->w->json, false);
	jsonw_object(j);
}

/* Of an EXECUTE the text is that of its statement, which stands in a COMMAND. */
static void put_text(struct session *s, struct jsonw *j, const struct event *ev)
{
	struct slice all = shown_text(s, ev, "");
	size_t n = min_size(ev->statement.text.n, all.n);

	if (ev->kind != EV_EXECUTE)
		jsonw_kv_slice(j, "text", slice_of(all.p, n));
	if (ev->statement.params.n)
		jsonw_kv_slice(j, "parameters", slice_from(all, n));
}

bool srec_command(struct session *s, const struct event *ev, const char *verdict, const char *rule,
		  uint16_t reason)
{
	const struct sql_info *info = ev->statement.info;
	struct jsonw j;

	begin(s, &j);
	jsonw_kv_u64(&j, "seq", ev->seq);
	if (ev->kind == EV_EXECUTE)
		jsonw_kv_u64(&j, "statement", ev->statement.statement_seq);
	if (ev->kind == EV_EXECUTE ? ev->statement.params.n : true)
		put_text(s, &j, ev);
	if (ev->kind != EV_EXECUTE) {
		put_info(s, &j, info);
		/* The question is put off to each execution. */
		if (!ev->statement.simple && strcmp(verdict, "approve") == 0)
			jsonw_kv_bool(&j, "at_execute", true);
	}
	jsonw_kv_string(&j, "decision", verdict);
	jsonw_kv_string(&j, "rule", rule);
	if (reason)
		jsonw_kv_string(&j, "reason", reason_label(reason));
	/* What a receipt is about; without a question nobody needs it. */
	if (ev->statement.has_digest || strcmp(verdict, "approve") == 0) {
		uint8_t digest[32];
		char hex[65];

		statement_digest(ev, digest);
		text_hex(digest, sizeof(digest), hex);
		jsonw_kv_string(&j, "digest", hex);
	}
	return finish(s, &j, ev->kind == EV_EXECUTE ? TG_REC_EXECUTE : TG_REC_COMMAND,
		      ev->kind == EV_EXECUTE ? "execute" : "statement");
}

bool srec_decision(struct session *s, const char *what, const char *word, const struct verdict *v)
{
	struct jsonw j;

	begin(s, &j);
	jsonw_kv_string(&j, "what", what);
	jsonw_kv_u64(&j, "seq", s->ask.seq);
	jsonw_kv_string(&j, "decision", word);
	jsonw_kv_string(&j, "by", v->by);
	if (*v->request)
		jsonw_kv_string(&j, "request", v->request);
	if (*v->grant)
		jsonw_kv_string(&j, "grant", v->grant);
	if (v->reason)
		jsonw_kv_string(&j, "reason", reason_label(v->reason));
	if (*v->detail)
		jsonw_kv_string(&j, "detail", v->detail);
	if (v->receipt.n) {
		jsonw_members(&j, slice_str("\"receipt\":"));
		if (buf_append_slice(j.out, v->receipt))
			return failed(s, -EMSGSIZE);
	}
	return finish(s, &j, TG_REC_DECISION, "decision");
}

bool srec_login(struct session *s)
{
	struct jsonw j;

	begin(s, &j);
	jsonw_kv_string(&j, "what", "login");
	if (!s->user || *s->user) { /* not every protocol names somebody */
		jsonw_kv_string(&j, "user", s->user);
		jsonw_kv_string(&j, "database", s->database);
		jsonw_kv_string(&j, "application", s->application);
	}
	return finish(s, &j, TG_REC_STATE, "open");
}

bool srec_error(struct session *s, const char *who, struct slice code, struct slice message,
		uint32_t plan)
{
	struct jsonw j;

	begin(s, &j);
	jsonw_kv_string(&j, "from", who);
	jsonw_kv_slice(&j, "code", code);
	jsonw_kv_slice(&j, "message", message);
	if (plan)
		jsonw_kv_u64(&j, "plan", plan);
	return finish(s, &j, TG_REC_ERROR, "error");
}

void srec_close(struct session *s)
{
	if (s->rec)
		rec_close(s->rec, clock_wall_ns(), s->end_reason);
	s->recorded = s->rec != NULL;
	s->rec = NULL;
	free(s->head);
	s->head = NULL;
}
