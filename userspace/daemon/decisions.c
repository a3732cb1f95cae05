/* SPDX-License-Identifier: MIT */
#include "daemon/decisions.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/audit.h"
#include "daemon/receipts.h"
#include "daemon/registry.h"

/* ---------------------------------------------------------------- answers */

struct answer {
	uint32_t v;
	uint16_t reason;
	const char *by, *request, *detail, *receipt;
	const struct grant *grant;
	bool shared;
};

static void answer(struct parent *p, struct child *c, uint64_t ask, const struct uuid *session,
		   const struct answer *v)
{
	struct psession *s = registry_find(p, session);

	if (!c->ipc)
		return;
	if (s && v->grant)
		(void)snprintf(s->grant, sizeof(s->grant), "%s", v->grant->id);
	ipc_begin(c->ipc, IPC_ANSWER, ask);
	ipc_put_uuid(c->ipc, session);
	ipc_put_u32(c->ipc, v->v);
	ipc_put_u32(c->ipc, v->reason);
	ipc_put_str(c->ipc, v->by);
	ipc_put_str(c->ipc, v->request);
	ipc_put_str(c->ipc, v->grant ? v->grant->id : "");
	ipc_put_u64(c->ipc, v->grant ? v->grant->until_boot_ns : 0);
	ipc_put_str(c->ipc, v->detail);
	ipc_put_bytes(c->ipc, slice_str(v->receipt ? v->receipt : ""));
	ipc_put_u32(c->ipc, v->shared);
	ipc_send(c->ipc);
}

void decision_of_grant(struct parent *p, struct child *c, uint64_t ask, const struct uuid *session,
		       const struct grant *g, bool shared)
{
	answer(p, c, ask, session,
	       &(struct answer){.v = INSP_V_ALLOW, .by = g->by, .request = "", .detail = "",
				.receipt = g->receipt, .grant = g,
				.shared = shared});
}

void decision_refuse(struct parent *p, struct child *c, uint64_t ask, const struct uuid *session,
		     uint16_t reason)
{
	answer(p, c, ask, session,
	       &(struct answer){.v = INSP_V_DENY, .reason = reason, .by = "tidegate", .request = "",
				.detail = ""});
}

/* --------------------------------------------------------------- the receipt */

static void put_time(json_t *o, const char *name, uint64_t wall_ns)
{
	char text[32];

	text_time(wall_ns, text, sizeof(text));
	(void)json_object_set_new(o, name, json_string(text));
}

static void put_text(json_t *o, const char *name, const char *text)
{
	json_t *v = text && *text ? json_string(text) : NULL;

	/* A name that a client gave may be anything. */
	if (text && *text)
		(void)json_object_set_new(o, name, v ? v : json_string("(not UTF-8)"));
}

static void put_slice(json_t *o, const char *name, struct slice s)
{
	if (s.n)
		(void)json_object_set_new(o, name, json_stringn((const char *)s.p, s.n));
}

static void put_people(json_t *o, const struct approval *a)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < a->nby; i++) {
		char who[64];

		who_is(a->by[i], who);
		(void)json_array_append_new(list, json_string(who));
	}
	(void)json_object_set_new(o, "approved_by", list);
}

static void put_request(json_t *o, const struct approval *a)
{
	char text[UUID_TEXT], digest[65];

	put_text(o, "request", a->id);
	put_text(o, "agent", a->agent);
	put_text(o, "target", a->target);
	put_text(o, "user", a->user);
	put_text(o, "database", a->database);
	put_text(o, "scope", a->scope);
	put_text(o, "rule", a->rule);
	if (!list_empty(&a->waiters)) {
		uuid_format(&container_of(a->waiters.next, struct waiter, link)->session, text);
		put_text(o, "session", text);
	}
	if (a->statement) {
		text_hex(a->digest, sizeof(a->digest), digest);
		put_text(o, "statement_sha256", digest);
		put_text(o, "effect", a->effect);
	}
	put_time(o, "asked", a->since_wall_ns);
}

static void put_grant(json_t *o, const struct grant *g)
{
	put_text(o, "grant", g->id);
	put_time(o, "until", g->until_wall_ns);
}

/* NULL: no memory, or the evidence cannot be read. */
static json_t *receipt_of(const struct approval *a, const struct decision *d)
{
	json_t *o = json_pack("{s:i, s:s, s:s}", "receipt", 1, "what",
			      a->statement ? "statement" : "access", "decision",
			      d->v == INSP_V_ALLOW ? "allow" : "deny");
	json_t *evidence;

	if (!o)
		return NULL;
	put_text(o, "reason", d->reason ? reason_label(d->reason) : NULL);
	put_text(o, "detail", d->detail);
	put_text(o, "via", approval_via(a));
	put_text(o, "by", d->by);
	if (a->nby)
		put_people(o, a);
	put_request(o, a);
	put_time(o, "decided", clock_wall_ns());
	if (d->grant)
		put_grant(o, d->grant);
	put_slice(o, "subject", d->subject);
	put_slice(o, "token_sha256", d->token);
	if (!d->evidence.n)
		return o;
	evidence = json_loadb((const char *)d->evidence.p, d->evidence.n, JSON_REJECT_DUPLICATES,
			      NULL);
	if (json_is_array(evidence) && json_object_set(o, "evidence", evidence) == 0) {
		if (d->grant)
			d->grant->evidence = json_incref(evidence);
		json_decref(evidence);
		return o;
	}
	json_decref(evidence);
	json_decref(o);
	return NULL;
}

/* -------------------------------------------------------------- the decision */

static void finish(struct parent *p, struct approval *a, const char *receipt)
{
	struct grant *g = a->held.grant[0] ? grant_find(p, a->held.grant) : NULL;
	struct answer v = {.v = a->held.v,
			   .reason = a->held.reason,
			   .by = a->held.by,
			   .request = a->held.request,
			   .detail = a->held.detail,
			   .receipt = receipt,
			   .grant = g};

	/* The grant may have ended meanwhile. */
	if (v.v == INSP_V_ALLOW && (!receipt || (a->held.grant[0] && !g))) {
		v.v = INSP_V_DENY;
		v.reason = receipt ? TG_R_GRANT_REVOKED : TG_R_RECEIPT_FAILED;
		v.by = "tidegate";
		v.detail = "";
		v.receipt = NULL;
		v.grant = NULL;
	}
	list_each(it, &a->waiters) {
		struct waiter *w = container_of(it, struct waiter, link);

		answer(p, w->worker, w->ask, &w->session, &v);
	}
	approval_free(p, a);
}

static void hold(struct approval *a, const struct decision *d)
{
	a->held.v = d->v;
	a->held.reason = d->reason;
	(void)snprintf(a->held.by, sizeof(a->held.by), "%s", d->by);
	(void)snprintf(a->held.request, sizeof(a->held.request), "%s", d->request);
	(void)snprintf(a->held.detail, sizeof(a->held.detail), "%s", d->detail);
	if (d->grant)
		(void)snprintf(a->held.grant, sizeof(a->held.grant), "%s", d->grant->id);
}

void decide(struct parent *p, struct approval *a, const struct decision *d)
{
	json_t *body = receipt_of(a, d);

	log_notice("approval %s (%s, agent %s, target %s): %s by %s%s%s", a->id,
		   a->statement ? "statement" : "access", a->agent, a->target,
		   d->v == INSP_V_ALLOW ? "approved" : "denied", d->by, d->reason ? ": " : "",
		   d->reason ? reason_what(d->reason) : "");
	/* An operator's word is always on record; an agent that loops brings about any number of others. */
	audit_write_of(p, a->nby || d->by_hand ? NULL : a->agent, "approval.decided",
		       d->reason ? reason_label(d->reason) : "approved",
		       "{s:s, s:s, s:s, s:s, s:b, s:s, s:s?}", "approval", a->id, "kind",
		       a->statement ? "statement" : "access", "agent", a->agent, "target", a->target,
		       "approved", d->v == INSP_V_ALLOW, "by", d->by, "reason",
		       d->reason ? reason_label(d->reason) : NULL);
	hold(a, d);
	a->signing = body ? receipts_ask(p, body) : 0;
	json_decref(body);
	if (d->grant)
		d->grant->signing = a->signing;
	if (a->signing)
		return;
	if (d->grant)
		(void)grant_end(p, d->grant, TG_R_RECEIPT_FAILED, reason_what(TG_R_RECEIPT_FAILED));
	finish(p, a, NULL);
}

void decision_join(struct approval *a, const struct grant *g)
{
	hold(a, &(struct decision){.v = INSP_V_ALLOW, .by = g->by, .request = "", .detail = "",
				   .grant = (struct grant *)(uintptr_t)g});
	a->signing = g->signing;
}

void decision_of_root(struct parent *p, struct grant *g)
{
	json_t *o = json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:s}", "receipt", 1, "what",
			      "grant", "decision", "allow", "via", g->via, "by", g->by, "detail",
			      g->reason, "agent", g->agent, "target", g->target, "scope", g->scope);

	if (o) {
		put_time(o, "decided", g->since_wall_ns);
		put_grant(o, g);
		g->signing = receipts_ask(p, o);
		json_decref(o);
	}
	if (!g->signing)
		(void)grant_end(p, g, TG_R_RECEIPT_FAILED, reason_what(TG_R_RECEIPT_FAILED));
}

void decision_signed(struct parent *p, uint64_t id, const char *receipt)
{
	list_each(it, &p->grants) {
		struct grant *g = container_of(it, struct grant, link);

		if (g->signing != id)
			continue;
		g->signing = 0;
		g->receipt = receipt ? strdup(receipt) : NULL;
		if (!g->receipt)
			(void)grant_end(p, g, TG_R_RECEIPT_FAILED,
					reason_what(TG_R_RECEIPT_FAILED));
	}
	list_each(it, &p->approvals) {
		struct approval *a = container_of(it, struct approval, link);

		if (a->signing == id)
			finish(p, a, receipt);
	}
}
