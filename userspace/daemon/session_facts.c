/* SPDX-License-Identifier: MIT */
/*
 * What an inspector was told and cannot be seen in the bytes of the session: plans for columns,
 * refusals, and what the daemon had it say. With these the recording explains itself: the
 * inspector, fed from it, does the same again (ctl/rerun.c). tidegate-recording(5), FACT.
 */
#include "daemon/session_rec.h"
#include "daemon/session_tls.h"

enum {
	MEMO_SLOTS = 32,     /* plans of a session that are known to be in its recording */
	MEMO_KEY_MAX = 8192, /* a larger one is recorded each time */
};

struct plan_memo {
	uint32_t last_id;
	unsigned last, next; /* last one met; the one to be replaced next */
	struct {
		uint32_t id;
		uint64_t hash;
		size_t n;
		uint8_t *key;
	} slot[MEMO_SLOTS];
};

void srec_facts_free(struct session *s)
{
	struct plan_memo *m = s->plans;

	for (unsigned i = 0; m && i < MEMO_SLOTS; i++)
		free(m->slot[i].key);
	free(m);
	s->plans = NULL;
}

static void begin(struct session *s, struct jsonw *j)
{
	buf_reset(&s->w->json);
	jsonw_init(j, &s->w->json, false);
	jsonw_object(j);
}

static bool finish(struct session *s, struct jsonw *j, enum tg_rec_type type)
{
	jsonw_object_end(j);
	/* Too long for a record: as a recording that fails. */
	return srec_json(s, type, jsonw_end(j) ? (struct slice){0} : buf_slice(j->out));
}

/* ------------------------------------------------------------------- plans */

static bool does_something(const struct insp_plan *plans, uint32_t n, bool texts)
{
	for (uint32_t i = 0; i < n && !texts; i++)
		texts = plans[i].how != MASK_NONE || plans[i].detectors;
	return texts;
}

/* All that a plan's record is made of, in the session's scratch. */
static struct slice plan_key(struct session *s, const struct insp_column *cols, uint32_t n,
			     const struct insp_plan *plans, bool texts)
{
	struct buf *b = &s->w->scratch;

	buf_reset(b);
	if (buf_append(b, &texts, 1))
		return (struct slice){0};
	for (uint32_t i = 0; i < n; i++) {
		const struct insp_plan *p = &plans[i];
		size_t label = min_size(cols[i].label.n, UINT16_MAX);
		uint8_t *dst = buf_reserve(b, 12 + label);

		if (!dst)
			return (struct slice){0};
		store_be32(dst, p->detectors);
		dst[4] = p->how;
		dst[5] = p->found_how;
		dst[6] = (uint8_t)(p->rule >> 8);
		dst[7] = (uint8_t)p->rule;
		dst[8] = p->unresolved;
		dst[9] = 0;
		dst[10] = (uint8_t)(label >> 8);
		dst[11] = (uint8_t)label;
		if (label)
			memcpy(dst + 12, cols[i].label.p, label);
		buf_commit(b, 12 + label);
	}
	return buf_slice(b);
}

/* FNV-1a: only to find the slot; the keys are compared. */
static uint64_t hash_of(struct slice s)
{
	uint64_t h = 0xcbf29ce484222325u;

	for (size_t i = 0; i < s.n; i++)
		h = (h ^ s.p[i]) * 0x100000001b3u;
	return h;
}

static bool memo_is(const struct plan_memo *m, unsigned i, struct slice key)
{
	return m->slot[i].id && m->slot[i].n == key.n && !memcmp(m->slot[i].key, key.p, key.n);
}

/* The number under which the same is in the recording; 0: it is not. */
static uint32_t memo_find(struct plan_memo *m, struct slice key, uint64_t hash)
{
	if (memo_is(m, m->last, key))
		return m->slot[m->last].id;
	for (unsigned i = 0; i < MEMO_SLOTS; i++) {
		if (m->slot[i].hash != hash || !memo_is(m, i, key))
			continue;
		m->last = i;
		return m->slot[i].id;
	}
	return 0;
}

/* Without memory it is only written again the next time. */
static void memo_keep(struct plan_memo *m, struct slice key, uint64_t hash, uint32_t id)
{
	uint8_t *copy = key.n <= MEMO_KEY_MAX ? malloc(key.n) : NULL;

	if (!copy)
		return;
	memcpy(copy, key.p, key.n);
	free(m->slot[m->next].key);
	m->slot[m->next].id = id;
	m->slot[m->next].hash = hash;
	m->slot[m->next].n = key.n;
	m->slot[m->next].key = copy;
	m->last = m->next;
	m->next = (m->next + 1) % MEMO_SLOTS;
}

static void put_masked(struct jsonw *j, const struct mask_set *set, const struct insp_column *cols,
		       uint32_t n, const struct insp_plan *plans)
{
	jsonw_name(j, "masked");
	jsonw_array(j);
	for (uint32_t i = 0; i < n; i++) {
		if (plans[i].how == MASK_NONE)
			continue;
		jsonw_object(j);
		jsonw_kv_u64(j, "column", i + 1);
		jsonw_kv_slice(j, "name", cols[i].label);
		jsonw_kv_string(j, "as", mask_how_name((enum mask_how)plans[i].how));
		jsonw_kv_string(j, "rule", mask_set_rule(set, plans[i].rule));
		if (plans[i].unresolved)
			jsonw_kv_bool(j, "unresolved", true);
		jsonw_object_end(j);
	}
	jsonw_array_end(j);
}

static void put_detectors(struct jsonw *j, const struct mask_set *set, uint32_t detectors)
{
	jsonw_name(j, "detectors");
	jsonw_array(j);
	for (unsigned bit = 0; bit < DETECTOR_COUNT; bit++) {
		const char *rule;
		int how;

		if (!(detectors >> bit & 1))
			continue;
		rule = mask_set_found(set, bit, &how);
		jsonw_object(j);
		jsonw_kv_string(j, "name", detector_name((enum detector_bit)bit));
		jsonw_kv_string(j, "as", mask_how_name((enum mask_how)how));
		jsonw_kv_string(j, "rule", rule);
		jsonw_object_end(j);
	}
	jsonw_array_end(j);
}

static bool scanned(const struct insp_plan *p)
{
	return p->how == MASK_NONE && p->detectors;
}

/* Columns that the same is looked for in, together. */
static void put_scanned(struct jsonw *j, const struct mask_set *set, uint32_t n,
			const struct insp_plan *plans)
{
	jsonw_name(j, "scanned");
	jsonw_array(j);
	for (uint32_t i = 0; i < n; i++) {
		uint32_t first = 0;

		while (first < i &&
		       !(scanned(&plans[first]) && plans[first].detectors == plans[i].detectors))
			first++;
		if (!scanned(&plans[i]) || first < i)
			continue;
		jsonw_object(j);
		jsonw_name(j, "columns");
		jsonw_array(j);
		for (uint32_t k = i; k < n; k++)
			if (scanned(&plans[k]) && plans[k].detectors == plans[i].detectors)
				jsonw_u64(j, k + 1);
		jsonw_array_end(j);
		put_detectors(j, set, plans[i].detectors);
		jsonw_object_end(j);
	}
	jsonw_array_end(j);
}

static bool write_plan(struct session *s, const struct insp_column *cols, uint32_t n,
		       const struct insp_plan *plans, bool texts, uint32_t id)
{
	const struct mask_set *set = policy_masks(s->view->view);
	struct jsonw j;

	begin(s, &j);
	jsonw_kv_u64(&j, "plan", id);
	jsonw_kv_u64(&j, "columns", n);
	if (texts)
		jsonw_kv_bool(&j, "texts", true);
	put_masked(&j, set, cols, n, plans);
	put_scanned(&j, set, n, plans);
	return finish(s, &j, TG_REC_FACT);
}

bool srec_plan(struct session *s, const struct insp_column *cols, uint32_t n,
	       const struct insp_plan *plans, struct insp_shape *ret)
{
	struct slice key;
	uint64_t hash;

	ret->id = 0;
	if (!does_something(plans, n, ret->texts))
		return true;
	if (!s->plans)
		s->plans = calloc(1, sizeof(*s->plans));
	key = plan_key(s, cols, n, plans, ret->texts);
	if (!s->plans || !key.p)
		return false;
	hash = hash_of(key);
	ret->id = memo_find(s->plans, key, hash);
	if (ret->id)
		return true;
	ret->id = ++s->plans->last_id;
	memo_keep(s->plans, key, hash, ret->id);
	return write_plan(s, cols, n, plans, ret->texts, ret->id);
}

/* ----------------------------------------------------------------- results */

bool srec_result(struct session *s, const struct event *ev)
{
	uint64_t at = s->bytes[INSP_S2C] + s->w->out[INSP_TO_CLIENT].bytes;
	struct jsonw j;

	begin(s, &j);
	jsonw_kv_u64(&j, "statement", ev->result.statement_seq);
	jsonw_kv_slice(&j, "tag", ev->result.tag);
	jsonw_kv_u64(&j, "rows", ev->result.rows);
	jsonw_kv_u64(&j, "bytes", at - s->result_at);
	if (ev->result.plan)
		jsonw_kv_u64(&j, "plan", ev->result.plan);
	if (s->result_masked)
		jsonw_kv_u64(&j, "masked", s->result_masked);
	s->result_at = at;
	s->result_masked = 0;
	return finish(s, &j, TG_REC_RESULT);
}

bool srec_masked(struct session *s, const struct event *ev)
{
	struct jsonw j;

	s->result_masked += ev->masked.values + ev->masked.hits + ev->masked.over_cap;
	begin(s, &j);
	jsonw_kv_u64(&j, "statement", ev->masked.statement_seq);
	jsonw_kv_u64(&j, "values", ev->masked.values);
	jsonw_kv_u64(&j, "hits", ev->masked.hits);
	jsonw_kv_u64(&j, "over_cap", ev->masked.over_cap);
	jsonw_name(&j, "detectors");
	jsonw_array(&j);
	for (unsigned i = 0; i < DETECTOR_COUNT; i++)
		if (ev->masked.detectors >> i & 1)
			jsonw_string(&j, detector_name((enum detector_bit)i));
	jsonw_array_end(&j);
	if (ev->masked.plan)
		jsonw_kv_u64(&j, "plan", ev->masked.plan);
	return finish(s, &j, TG_REC_MASKED);
}

/* ----------------------------------------------------------- what was said */

bool srec_answer(struct session *s, uint64_t seq, const struct insp_answer *a)
{
	struct jsonw j;

	begin(s, &j);
	jsonw_kv_u64(&j, "answer", seq);
	jsonw_kv_string(&j, "verdict", "deny");
	jsonw_kv_string(&j, "reason", reason_label(a->reason));
	jsonw_kv_u64(&j, "code", a->reason);
	jsonw_kv_slice(&j, "message", a->message);
	jsonw_kv_slice(&j, "detail", a->detail);
	jsonw_kv_slice(&j, "hint", a->hint);
	if (a->cancelled)
		jsonw_kv_bool(&j, "cancelled", true);
	return finish(s, &j, TG_REC_FACT);
}

bool srec_login_as(struct session *s, uint64_t seq)
{
	struct jsonw j;

	begin(s, &j);
	jsonw_kv_u64(&j, "answer", seq);
	jsonw_kv_string(&j, "verdict", "allow");
	jsonw_kv_string(&j, "login_as", s->login_as);
	jsonw_kv_string(&j, "credential", s->view->target->credential);
	if (s->role_facts) {
		jsonw_name(&j, "role");
		jsonw_object(&j);
		jsonw_members(&j, slice_str(s->role_facts));
		jsonw_object_end(&j);
	}
	return finish(s, &j, TG_REC_FACT);
}

bool srec_said(struct session *s, const char *what, const struct insp_words *words)
{
	struct jsonw j;

	begin(s, &j);
	jsonw_kv_string(&j, "said", what);
	jsonw_kv_u64(&j, "code", words->reason);
	jsonw_kv_slice(&j, "message", words->message);
	jsonw_kv_slice(&j, "detail", words->detail);
	jsonw_kv_slice(&j, "hint", words->hint);
	return finish(s, &j, TG_REC_FACT);
}

bool srec_dropped(struct session *s, uint64_t seq)
{
	struct jsonw j;

	begin(s, &j);
	jsonw_kv_u64(&j, "dropped", seq);
	return finish(s, &j, TG_REC_FACT);
}

bool srec_policy(struct session *s)
{
	struct jsonw j;

	begin(s, &j);
	jsonw_kv_string(&j, "what", "policy");
	jsonw_kv_string(&j, "policy", policy_digest(s->conf->cfg->policy));
	jsonw_kv_bool(&j, "masking", s->env.masking);
	return finish(s, &j, TG_REC_STATE);
}

bool srec_cancel(struct session *s)
{
	struct jsonw j;

	begin(s, &j);
	jsonw_kv_string(&j, "what", "cancel");
	jsonw_kv_string(&j, "to", "server");
	return finish(s, &j, TG_REC_STATE);
}

bool srec_tls(struct session *s)
{
	struct jsonw j;

	begin(s, &j);
	jsonw_kv_string(&j, "what", "tls");
	stls_describe(s, &j);
	return finish(s, &j, TG_REC_STATE);
}

void srec_put_inspector(const struct session *s, struct jsonw *j)
{
	const struct cfg_target *t = s->view->target;

	jsonw_name(j, "inspector");
	jsonw_object(j);
	jsonw_kv_bool(j, "masking", !mask_set_empty(policy_masks(s->view->view)));
	jsonw_kv_u64(j, "message_bytes", t->message_bytes);
	jsonw_kv_u64(j, "value_bytes", t->value_bytes);
	jsonw_kv_bool(j, "server_socket", t->socket != NULL);
	jsonw_kv_bool(j, "socket_trust", t->socket_trust);
	if (t->login)
		jsonw_kv_bool(j, "own_login", true);
	jsonw_object_end(j);
}
