/* SPDX-License-Identifier: MIT */
/* What an inspector asks, answered: from the policy, from the catalog, or by asking on. */
#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/grants_known.h"
#include "daemon/session_end.h"
#include "daemon/session_rec.h"
#include "daemon/session_login.h"
#include "policy/catalog.h"
#include "policy/policy.h"

enum { TEXTS = 2048 };

/* ----------------------------------------------------------------- answers */

static enum insp_verdict recorded_denial(struct session *s, uint64_t seq,
					 const struct insp_answer *a)
{
	if (!srec_answer(s, seq, a))
		s->fatal = TG_R_RECORD_FAILED;
	return INSP_V_DENY;
}

/* Fills the answer of a denial with words that say what to do. */
static enum insp_verdict refuse(struct session *s, struct insp_answer *a, uint64_t seq,
				uint16_t reason, const char *message, const char *hint)
{
	char *texts = s->ask.texts ? s->ask.texts : malloc(TEXTS);

	*a = (struct insp_answer){
		.verdict = INSP_V_DENY,
		.reason = reason,
		.cancelled = reason == TG_R_APPROVAL_CANCELLED,
	};
	count_reason(s->w, reason);
	s->ask.texts = texts;
	if (!texts) {
		a->message = slice_str(reason_what(reason));
		return recorded_denial(s, seq, a);
	}
	(void)snprintf(texts, 1024, "%s", message);
	a->message = slice_str(texts);
	(void)snprintf(texts + 1024, 256, "Tidegate request %s/%llu", session_id(s).text,
		       (unsigned long long)seq);
	a->detail = slice_str(texts + 1024);
	(void)snprintf(texts + 1280, TEXTS - 1280, "%s", hint ? hint : reason_todo(reason));
	a->hint = slice_str(texts + 1280);
	return recorded_denial(s, seq, a);
}

static enum insp_verdict allow(struct insp_answer *a)
{
	*a = (struct insp_answer){.verdict = INSP_V_ALLOW};
	return INSP_V_ALLOW;
}

/* The question goes on to somebody else; the inspector asks again when it is answered. */
static enum insp_verdict wait_for(struct session *s, enum ask_kind kind, uint64_t seq,
				  struct insp_answer *a)
{
	if (kind != ASK_CATALOG && !s->ask.answer)
		s->ask.answer = malloc(sizeof(*s->ask.answer));
	if (kind != ASK_CATALOG && !s->ask.answer)
		return refuse(s, a, seq, TG_R_NO_MEMORY, reason_what(TG_R_NO_MEMORY), NULL);
	s->ask.kind = kind;
	s->ask.seq = seq;
	if (seq)
		s->ask.open_seq = seq;
	s->ask.answered = false;
	s->ask.until_boot_ns = UINT64_MAX;
	a->verdict = INSP_V_WAIT;
	return INSP_V_WAIT;
}

/* The stored answer of @seq, if this question was asked before. */
static bool answered(struct session *s, uint64_t seq, struct insp_answer *ret,
		     enum insp_verdict *ret_verdict)
{
	if (s->ask.kind == ASK_NONE || s->ask.kind == ASK_CATALOG || s->ask.kind == ASK_LOGIN ||
	    s->ask.seq != seq)
		return false;
	if (!s->ask.answered) {
		*ret = (struct insp_answer){.verdict = INSP_V_WAIT};
	} else {
		*ret = *s->ask.answer;
		free(s->ask.answer);
		s->ask.answer = NULL;
		s->ask.kind = ASK_NONE;
	}
	*ret_verdict = ret->verdict;
	return true;
}

static void put_approvers(struct ipc *ipc, uint32_t min, const char *const *names, uint32_t n)
{
	ipc_put_u32(ipc, min);
	ipc_put_u32(ipc, n);
	for (uint32_t i = 0; i < n; i++)
		ipc_put_str(ipc, names[i]);
}

/* ------------------------------------------------------------------- login */

void session_tell_login(struct session *s)
{
	if (!s->login_due)
		return;
	s->login_due = false;
	ipc_begin(s->w->ipc, IPC_SESSION_LOGIN, 0);
	ipc_put_uuid(s->w->ipc, &s->uuid);
	ipc_put_str(s->w->ipc, s->user);
	ipc_put_str(s->w->ipc, s->database);
	ipc_put_str(s->w->ipc, s->application);
	ipc_put_str(s->w->ipc, s->login_as);
	ipc_put_u32(s->w->ipc, s->pid);
	ipc_put_u32(s->w->ipc, s->key);
	ipc_send(s->w->ipc);
	if (!s->grant_due)
		return;
	s->grant_due = false;
	ipc_begin(s->w->ipc, IPC_GRANT_USED, 0);
	ipc_put_uuid(s->w->ipc, &s->uuid);
	ipc_put_str(s->w->ipc, s->grant);
	ipc_send(s->w->ipc);
}

/* In one piece: each would be rounded up. */
static void keep_names(struct session *s, const struct event *ev)
{
	const struct slice from[] = {ev->login.user, ev->login.database, ev->login.application};
	const char **to[] = {&s->user, &s->database, &s->application};
	char *p = arena_alloc(&s->arena, from[0].n + from[1].n + from[2].n + 3);

	for (size_t i = 0; p && i < 3; i++) {
		*to[i] = p;
		if (from[i].n)
			memcpy(p, from[i].p, from[i].n);
		p += from[i].n + 1;
	}
}

/* The parent hears of it with the server's key, before a question, or at the next tick. */
static void tell_login(struct session *s, const struct event *ev)
{
	keep_names(s, ev);
	s->login_due = true;
	if (!srec_login(s))
		s->fatal = TG_R_RECORD_FAILED;
}

static void ask_access(struct session *s, const struct access_decision *d)
{
	struct ipc *ipc = s->w->ipc;

	session_tell_login(s);
	free(s->ask.asked);
	s->ask.asked = grants_known_asked(s, d);
	s->ask.id = ++s->w->next_ask;
	ipc_begin(ipc, IPC_ACCESS_ASK, s->ask.id);
	ipc_put_uuid(ipc, &s->uuid);
	ipc_put_str(ipc, d->via == ACCESS_IDP ? d->ways : "");
	ipc_put_str(ipc, d->scope);
	ipc_put_u64(ipc, d->max_ms);
	ipc_put_u64(ipc, d->hold_ms);
	ipc_put_str(ipc, d->rule);
	put_approvers(ipc, d->min_approvals, d->approvers, d->napprovers);
	ipc_send(ipc);
}

/* Who logs in in the agent's place, if the target has a credential. */
static enum insp_verdict find_login(struct session *s, uint64_t seq, struct insp_answer *ret)
{
	struct slogin_who who;
	char words[512];

	switch (slogin_user(s, &who)) {
	case INSP_V_WAIT:
		return wait_for(s, ASK_LOGIN, seq, ret);
	case INSP_V_DENY:
		s->ask.kind = ASK_NONE;
		(void)snprintf(words, sizeof(words), "%s%s%s", reason_what(who.reason),
			       *who.words ? ": " : "", who.words);
		return refuse(s, ret, seq, who.reason, words, NULL);
	case INSP_V_ALLOW:
		break;
	}
	s->ask.kind = ASK_NONE;
	s->login_as = arena_strdup(&s->arena, slice_str(who.user));
	if (who.words[0])
		s->role_facts = arena_strdup(&s->arena, slice_str(who.words));
	if (!s->login_as || (who.words[0] && !s->role_facts))
		return refuse(s, ret, seq, TG_R_NO_MEMORY, reason_what(TG_R_NO_MEMORY), NULL);
	s->login_due = true; /* again: with whom it is now */
	if (!srec_login_as(s, seq))
		s->fatal = TG_R_RECORD_FAILED;
	return INSP_V_ALLOW;
}

/* Access is given: the server leg is opened; what the inspector sends waits for it. */
static enum insp_verdict let_in(struct session *s, uint64_t seq, struct insp_answer *ret)
{
	char words[256];
	int rc;

	s->let_in = true;
	if (s->view->target->login && find_login(s, seq, ret) != INSP_V_ALLOW)
		return ret->verdict;
	if (s->no_upstream)
		return refuse(s, ret, seq, s->no_upstream, reason_what(s->no_upstream),
			      reason_todo(s->no_upstream));
	rc = session_connect(s);
	if (rc) {
		(void)snprintf(words, sizeof(words), "cannot connect to target %s at %s: %s",
			       s->view->target->name, s->upstream, strerror(-rc));
		return refuse(s, ret, seq, TG_R_UPSTREAM_REFUSED, words, NULL);
	}
	session_arm(s);
	(void)allow(ret);
	if (s->login_as)
		ret->login_as = slice_str(s->login_as);
	return INSP_V_ALLOW;
}

static void take_grant(struct session *s, const struct verdict *v)
{
	(void)snprintf(s->grant, sizeof(s->grant), "%s", v->grant);
	s->grant_until_boot_ns = v->until_boot_ns;
}

/* By a grant that the parent has told of; it hears with the login who used it. */
static bool let_in_by_known(struct session *s, const struct access_decision *d)
{
	struct verdict v;

	if (!worker_has_room(s->w) || !grants_known_find(s, d, &v))
		return false;
	if (!srec_decision(s, "access", "allow", &v))
		s->fatal = TG_R_RECORD_FAILED;
	take_grant(s, &v);
	s->grant_due = true;
	return true;
}

static enum insp_verdict on_login(struct session *s, const struct event *ev,
				  struct insp_answer *ret)
{
	struct verdict by_policy = {.by = "policy"};
	struct access_decision d;
	enum insp_verdict v;
	char words[512];

	if (s->let_in) /* and what waited was the credential */
		return let_in(s, ev->seq, ret);
	if (answered(s, ev->seq, ret, &v))
		return v == INSP_V_ALLOW ? let_in(s, ev->seq, ret) : v;
	tell_login(s, ev);
	policy_access(s->view->view, &d);
	d.observe |= s->observe;
	(void)snprintf(by_policy.detail, sizeof(by_policy.detail), "%s", d.rule);
	if (!d.allowed && !d.observe) {
		by_policy.reason = d.reason;
		(void)srec_decision(s, "access", "deny", &by_policy);
		(void)snprintf(words, sizeof(words), "access to target %s denied for agent %s: %s",
			       s->view->target->name, s->view->agent, reason_what(d.reason));
		return refuse(s, ret, ev->seq, d.reason, words, NULL);
	}
	if (d.via == ACCESS_NONE || d.observe) {
		if (!srec_decision(s, "access", d.via == ACCESS_NONE ? "allow" : "observe",
				   &by_policy))
			s->fatal = TG_R_RECORD_FAILED;
		return let_in(s, ev->seq, ret);
	}
	if (let_in_by_known(s, &d))
		return let_in(s, ev->seq, ret);
	v = wait_for(s, ASK_ACCESS, ev->seq, ret);
	if (v != INSP_V_WAIT)
		return v;
	ask_access(s, &d);
	s->w->stats->held++;
	return v;
}

/* -------------------------------------------------------------- statements */

static const char *verdict_name(const struct command_decision *d)
{
	static const char *const names[] = {"allow", "approve", "deny"};
	static const char *const observed[] = {"allow", "would-approve", "would-deny"};

	return (d->observe ? observed : names)[d->what];
}

static enum insp_verdict refuse_command(struct session *s, const struct event *ev,
					const struct command_decision *d, struct insp_answer *ret)
{
	const struct sql_info *info = ev->statement.info;
	const char *effect = sql_effect_name(d->effect);
	char words[1024];

	if (d->reason == TG_R_SQL_UNPARSED && info && info->error.n)
		(void)snprintf(words, sizeof(words),
			       "statement not understood, so not let through (%s): %.*s", d->rule,
			       (int)min_size(info->error.n, 256), (const char *)info->error.p);
	else if (d->object.n)
		(void)snprintf(words, sizeof(words), "%s on %.*s is denied by %s",
			       effect ? effect : "statement", (int)min_size(d->object.n, 256),
			       (const char *)d->object.p, d->rule);
	else
		(void)snprintf(words, sizeof(words), "%s is denied by %s",
			       effect ? effect : "statement", d->rule);
	return refuse(s, ret, ev->seq, d->reason ? d->reason : TG_R_RULE_DENY, words, NULL);
}

static void ask_statement(struct session *s, const struct event *ev,
			  const struct command_decision *d)
{
	struct ipc *ipc = s->w->ipc;
	uint64_t hold = ev->statement.in_transaction ? d->hold_tx_ms : d->hold_ms;
	const char *effect = sql_effect_name(d->effect);
	uint8_t digest[32];

	statement_digest(ev, digest);
	session_tell_login(s);
	s->ask.id = ++s->w->next_ask;
	s->ask.in_transaction = ev->statement.in_transaction;
	s->ask.until_boot_ns = clock_boot_ns() + hold * 1000000;
	ipc_begin(ipc, IPC_STATEMENT_ASK, s->ask.id);
	ipc_put_uuid(ipc, &s->uuid);
	srec_put_text(s, ipc, ev);
	ipc_put_bytes(ipc, slice_of(digest, sizeof(digest)));
	ipc_put_str(ipc, effect);
	ipc_put_str(ipc, d->rule);
	ipc_put_u64(ipc, hold);
	ipc_put_u32(ipc, ev->statement.in_transaction);
	ipc_put_str(ipc, d->way);
	put_approvers(ipc, d->min_approvals, d->approvers, d->napprovers);
	ipc_send(ipc);
}

static enum insp_verdict hold_statement(struct session *s, const struct event *ev,
					const struct command_decision *d, struct insp_answer *ret)
{
	enum insp_verdict v = wait_for(s, ASK_STATEMENT, ev->seq, ret);

	if (v != INSP_V_WAIT)
		return v;
	ask_statement(s, ev, d);
	s->w->stats->held++;
	session_arm(s);
	return v;
}

/* What the masks say to a statement that could put a masked column where none follows. */
static enum insp_verdict judge_masks(struct session *s, const struct event *ev, uint16_t *ret_why)
{
	const struct mask_set *m = policy_masks(s->view->view);
	const struct sql_info *info = ev->statement.info;
	const struct catalog *c = NULL;

	*ret_why = TG_R_NONE;
	if ((!(info->flags & (SQL_F_CARRIES | SQL_F_CODE)) && !info->ndropped &&
	     !(info->effects & (SQL_FILE | SQL_PROGRAM))) || !mask_set_needs_catalog(m))
		return INSP_V_ALLOW;
	if (catalog_want(s, false, &c) == CATALOG_LOADING)
		return INSP_V_WAIT;
	*ret_why = mask_refuses(m, c, info);
	return INSP_V_ALLOW;
}

static enum insp_verdict on_statement(struct session *s, const struct event *ev,
				      struct insp_answer *ret)
{
	const struct sql_info *info = ev->statement.info;
	struct command_decision d;
	enum insp_verdict v;
	uint16_t why = TG_R_NONE;

	if (answered(s, ev->seq, ret, &v))
		return v;
	policy_command(s->view->view, info, ev->statement.text, &d);
	d.observe |= s->observe;
	if (d.what != RULE_DENY) {
		if (judge_masks(s, ev, &why) == INSP_V_WAIT)
			return wait_for(s, ASK_CATALOG, ev->seq, ret);
		if (why) {
			d.what = RULE_DENY;
			d.reason = why;
		}
	}
	if (s->grace && !grace_allows(info)) {
		d.what = RULE_DENY;
		d.observe = false;
		d.reason = why = s->grace->reason;
	}
	if (s->ask.kind == ASK_CATALOG)
		s->ask.kind = ASK_NONE;
	if (!srec_command(s, ev, verdict_name(&d), d.rule, d.reason))
		s->fatal = TG_R_RECORD_FAILED;
	if (s->fatal)
		return refuse(s, ret, ev->seq, s->fatal, reason_what(s->fatal), NULL);
	s->ddl |= !!(info->effects & (SQL_DDL | SQL_UNKNOWN));
	if (d.observe || d.what == RULE_ALLOW)
		return allow(ret);
	if (d.what == RULE_DENY) {
		if (why)
			return refuse(s, ret, ev->seq, d.reason, reason_what(d.reason), NULL);
		return refuse_command(s, ev, &d, ret);
	}
	if (ev->kind == EV_STATEMENT && !ev->statement.simple) {
		(void)allow(ret);
		ret->at_execute = true;
		return INSP_V_ALLOW;
	}
	return hold_statement(s, ev, &d, ret);
}

/* ------------------------------------------------------------ other events */

static enum insp_verdict on_result(struct session *s, const struct event *ev)
{
	s->commands++;
	s->w->stats->commands++;
	if (!srec_result(s, ev))
		s->fatal = TG_R_RECORD_FAILED;
	/* Some changes are seen at once, the others when EV_SETTLED comes. */
	if (ev->result.defines)
		catalog_changed(s);
	return INSP_V_ALLOW;
}

static enum insp_verdict on_backend_key(struct session *s, const struct event *ev)
{
	s->pid = ev->backend.pid;
	s->key = ev->backend.key;
	if (s->login_due) {
		session_tell_login(s);
		return INSP_V_ALLOW;
	}
	ipc_begin(s->w->ipc, IPC_SESSION_KEY, 0);
	ipc_put_uuid(s->w->ipc, &s->uuid);
	ipc_put_u32(s->w->ipc, s->pid);
	ipc_put_u32(s->w->ipc, s->key);
	ipc_send(s->w->ipc);
	return INSP_V_ALLOW;
}

static enum insp_verdict on_cancel(struct session *s, const struct event *ev)
{
	ipc_begin(s->w->ipc, IPC_CANCEL_ASK, 0);
	ipc_put_u32(s->w->ipc, ev->backend.pid);
	ipc_put_u32(s->w->ipc, ev->backend.key);
	ipc_put_str(s->w->ipc, s->view->agent);
	ipc_send(s->w->ipc);
	return INSP_V_ALLOW;
}

static enum insp_verdict on_masked(struct session *s, const struct event *ev)
{
	s->masked += ev->masked.values + ev->masked.hits;
	s->w->stats->masked_values += ev->masked.values;
	s->w->stats->detector_hits += ev->masked.hits;
	s->w->stats->reason[TG_R_MASK_VALUE_CAP] += ev->masked.over_cap;
	if (!srec_masked(s, ev))
		s->fatal = TG_R_RECORD_FAILED;
	return INSP_V_ALLOW;
}

static enum insp_verdict host_event(void *ctx, const struct event *ev, struct insp_answer *ret)
{
	struct session *s = ctx;

	ret->verdict = INSP_V_ALLOW;
	switch (ev->kind) {
	case EV_LOGIN:
		return on_login(s, ev, ret);
	case EV_STATEMENT:
	case EV_EXECUTE:
		return on_statement(s, ev, ret);
	case EV_CANCEL:
		return on_cancel(s, ev);
	case EV_BACKEND_KEY:
		return on_backend_key(s, ev);
	case EV_MASKED:
		return on_masked(s, ev);
	case EV_ERROR:
		if (!srec_error(s, "server", ev->error.code, ev->error.message, ev->error.plan))
			s->fatal = TG_R_RECORD_FAILED;
		return INSP_V_ALLOW;
	case EV_RESULT:
		return on_result(s, ev);
	case EV_SETTLED:
		catalog_changed(s);
		return INSP_V_ALLOW;
	case EV_LOGIN_ERROR:
		slogin_refused(s, ev);
		if (!srec_error(s, "login", ev->error.code, ev->error.message, 0))
			s->fatal = TG_R_RECORD_FAILED;
		return INSP_V_ALLOW;
	case EV_READY:
		slogin_free(s);
		s->result_at = s->bytes[INSP_S2C] + s->w->out[INSP_TO_CLIENT].bytes;
		return INSP_V_ALLOW;
	case EV_GLITCH:
		s->w->stats->glitches++;
		return INSP_V_ALLOW;
	}
	return INSP_V_DENY;
}

static bool copies_out(const struct sql_info *info)
{
	return info && info->copy && !info->copy->query && info->flags & SQL_F_COPY_OUT;
}

/*
 * COPY tells columns by their place only. The server has locked the table by now, so that a
 * snapshot loaded from now on has its columns, unless this very transaction changed them: then
 * none does.
 */
static enum catalog_status want_catalog(struct session *s, const struct sql_info *info, bool tainted,
					const struct catalog **ret)
{
	enum catalog_status status;

	if (!copies_out(info))
		return catalog_want(s, false, ret);
	*ret = NULL;
	if (tainted)
		return CATALOG_NONE;
	if (!s->copy_boot_ns)
		s->copy_boot_ns = clock_boot_ns();
	status = catalog_since(s, s->copy_boot_ns, ret);
	if (status != CATALOG_LOADING)
		s->copy_boot_ns = 0;
	return status;
}

static enum insp_verdict host_columns(void *ctx, const struct sql_info *info, bool tainted,
				      const struct insp_column *cols, uint32_t n,
				      struct insp_plan *plans, struct insp_shape *ret)
{
	struct session *s = ctx;
	const struct mask_set *m = policy_masks(s->view->view);
	const struct catalog *c = NULL;
	struct insp_answer unused;
	bool stale = false;

	if (mask_set_needs_catalog(m) && want_catalog(s, info, tainted, &c) == CATALOG_LOADING) {
		/* Both directions may wait for the snapshot; a held statement keeps its own. */
		if (s->ask.kind == ASK_NONE)
			(void)wait_for(s, ASK_CATALOG, 0, &unused);
		return INSP_V_WAIT;
	}
	mask_plan(m, c, info, tainted, cols, n, plans, &ret->texts, &stale);
	/*
	 * A table that the snapshot does not know: a newer one may; asked for once. That of a COPY is
	 * the newest there is, and would be loaded again and again.
	 */
	if (stale && c && !copies_out(info) && catalog_want(s, true, &c) == CATALOG_LOADING)
		return INSP_V_WAIT;
	for (uint32_t i = 0; i < n; i++) {
		if (plans[i].unresolved) {
			count_reason(s->w, TG_R_MASK_UNRESOLVED);
			break;
		}
	}
	if (!srec_plan(s, cols, n, plans, ret))
		s->fatal = TG_R_RECORD_FAILED;
	return INSP_V_ALLOW;
}

static uint32_t host_mask(void *ctx, struct insp_value *v, uint32_t n)
{
	struct session *s = ctx;

	return masker_apply(s->w->masker, policy_masks(s->view->view), v, n);
}

static void host_secret(void *ctx, struct slice range)
{
	struct session *s = ctx;
	struct worker *w = s->w;

	if (!w->turn_in.p || range.p < w->turn_in.p || range.p > w->turn_in.p + w->turn_in.n)
		return;
	if (w->nsecret == ARRAY_SIZE(w->secret)) {
		w->all_secret = true;
		return;
	}
	w->secret[w->nsecret++] =
		(struct secret_range){.off = (size_t)(range.p - w->turn_in.p), .n = range.n};
}

const struct insp_host session_host = {
	.event = host_event,
	.columns = host_columns,
	.mask = host_mask,
	.login = slogin_answer,
	.secret = host_secret,
};

/* ------------------------------------------------------------ late answers */

/* The direction whose bytes were held goes on. */
void session_go_on(struct session *s)
{
	for (int dir = 0; dir < 2; dir++) {
		s->retry[dir] |= s->waiting[dir];
		s->waiting[dir] = false;
	}
	session_resume(s);
	if (s->state < SESSION_END)
		session_arm(s);
}

static void refuse_by(struct session *s, const struct verdict *v, bool access)
{
	char words[768];

	if (v->own) {
		(void)refuse(s, s->ask.answer, s->ask.seq, v->reason, reason_what(v->reason), NULL);
		return;
	}
	(void)snprintf(words, sizeof(words), "%s denied: %s%s%s%s", access ? "access" : "statement",
		       reason_what(v->reason), *v->by ? " (" : "", v->by, *v->by ? ")" : "");
	(void)refuse(s, s->ask.answer, s->ask.seq, v->reason, words, *v->detail ? v->detail : NULL);
}

static void act_on(struct session *s, const struct verdict *v)
{
	bool access = s->ask.kind == ASK_ACCESS;

	if (!srec_decision(s, access ? "access" : "statement",
			   v->verdict == INSP_V_ALLOW ? "allow" : "deny", v)) {
		session_end(s, TG_R_RECORD_FAILED, NULL);
		return;
	}
	if (v->verdict == INSP_V_ALLOW) {
		(void)allow(s->ask.answer);
		if (access)
			take_grant(s, v);
		if (access && v->shared && s->ask.asked)
			grants_known_keep(s->w, s->ask.asked, v);
	} else {
		refuse_by(s, v, access);
	}
	free(s->ask.asked);
	s->ask.asked = NULL;
	s->ask.answered = true;
	session_go_on(s);
}

/* Many that are answered at once want more of the journal than it has at once: they queue. */
static void act_when_recorded(struct session *s, const struct verdict *v)
{
	if (worker_has_room(s->w)) {
		act_on(s, v);
		return;
	}
	s->late = malloc(sizeof(*v) + v->receipt.n);
	if (!s->late) {
		session_end(s, TG_R_NO_MEMORY, NULL);
		return;
	}
	*s->late = *v;
	if (v->receipt.n)
		memcpy(s->late + 1, v->receipt.p, v->receipt.n);
	s->late->receipt.p = (const uint8_t *)(s->late + 1);
	s->journal_wait = s->w->waiting_room = true;
}

void session_late(struct session *s)
{
	struct verdict *v = s->late;

	if (!worker_has_room(s->w)) {
		s->journal_wait = s->w->waiting_room = true;
		return;
	}
	s->late = NULL;
	act_on(s, v);
	free(v);
}

/* What the worker waits for and has not been told. */
static bool is_open(const struct session *s)
{
	return (s->ask.kind == ASK_ACCESS || s->ask.kind == ASK_STATEMENT) && !s->ask.answered &&
	       !s->late;
}

void session_refuse_held(struct session *s, uint16_t reason)
{
	struct verdict v = {.own = true, .verdict = INSP_V_DENY, .reason = reason, .by = "tidegate"};

	if (!is_open(s))
		return;
	ipc_begin(s->w->ipc, IPC_ASK_CANCEL, s->ask.id);
	ipc_put_uuid(s->w->ipc, &s->uuid);
	ipc_send(s->w->ipc);
	act_when_recorded(s, &v);
}

void session_cancel(struct session *s)
{
	if (s->ask.kind == ASK_STATEMENT && is_open(s))
		session_refuse_held(s, TG_R_APPROVAL_CANCELLED);
	else if (s->state == SESSION_RUN)
		session_cancel_upstream(s);
}

static void copy(char *dst, size_t cap, struct slice s)
{
	(void)snprintf(dst, cap, "%.*s", (int)s.n, (const char *)s.p);
}

void session_answer(struct session *s, struct ipc_msg *m)
{
	struct verdict v = {.verdict = ipc_get_u32(m)};

	v.reason = (uint16_t)ipc_get_u32(m);
	copy(v.by, sizeof(v.by), ipc_get_str(m));
	copy(v.request, sizeof(v.request), ipc_get_str(m));
	copy(v.grant, sizeof(v.grant), ipc_get_str(m));
	v.until_boot_ns = ipc_get_u64(m);
	copy(v.detail, sizeof(v.detail), ipc_get_str(m));
	v.receipt = ipc_get_bytes(m);
	v.shared = ipc_get_u32(m) != 0;
	if (ipc_end(m) && s->ask.id == m->id && is_open(s))
		act_when_recorded(s, &v);
}

void session_notice(struct session *s, struct slice text)
{
	/* A courtesy: nobody waits for room for its sake. */
	if (s->state != SESSION_RUN || s->in_turn || !worker_has_room(s->w))
		return;
	insp_out_reset(&s->w->out[0]);
	insp_out_reset(&s->w->out[1]);
	if (!srec_said(s, "notice", &(struct insp_words){.message = text}))
		s->fatal = TG_R_RECORD_FAILED;
	s->insp->notice(s->st, text);
	s->in_turn = true;
	session_send_outputs(s);
	s->in_turn = false;
	leg_update(s);
}

void session_pending(struct session *s, struct slice request, struct slice words)
{
	char text[1024];

	if (s->ask.kind != ASK_STATEMENT || !is_open(s))
		return;
	(void)snprintf(text, sizeof(text),
		       "waiting for approval %.*s: %.*s", (int)request.n, (const char *)request.p,
		       (int)min_size(words.n, 900), (const char *)words.p);
	session_notice(s, slice_str(text));
}

void session_catalog_ready(struct session *s)
{
	if (s->ask.kind == ASK_CATALOG)
		s->ask.kind = ASK_NONE;
	/* What waits for a person goes on waiting: it asks again and is told to. */
	session_go_on(s);
}
