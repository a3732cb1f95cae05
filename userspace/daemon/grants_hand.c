/* SPDX-License-Identifier: MIT */
/* Grants and approvals on their way over an upgrade. They do not survive a restart. */
#include "daemon/grants.h"

#include "daemon/hand.h"
#include "daemon/recheck.h"
#include "daemon/children.h"

static json_t *save_grant(struct hand *h, const struct grant *g)
{
	json_t *o = json_object();

	hand_put_str(h, o, "id", g->id);
	hand_put_str(h, o, "agent", g->agent);
	hand_put_str(h, o, "target", g->target);
	hand_put_str(h, o, "user", g->user);
	hand_put_str(h, o, "database", g->database);
	hand_put_str(h, o, "scope", g->scope);
	hand_put_str(h, o, "via", g->via);
	hand_put_str(h, o, "by", g->by);
	hand_put_str(h, o, "reason", g->reason);
	hand_put_u64(h, o, "since", g->since_wall_ns);
	hand_put_u64(h, o, "until", g->until_wall_ns);
	hand_put_u64(h, o, "until_boot", g->until_boot_ns);
	hand_put_u64(h, o, "signing", g->signing);
	hand_put_str(h, o, "receipt", g->receipt);
	if (g->evidence)
		hand_put(h, o, "evidence", json_incref(g->evidence));
	hand_put_u64(h, o, "idp_id", g->idp_id);
	hand_put_str(h, o, "token", g->token);
	hand_put_u64(h, o, "terms", g->terms);
	/* keyd is started anew: what it kept is not there any more. */
	hand_put_bool(h, o, "lost", g->lost || g->kept);
	rechecks_save(h, o, &g->rechecks);
	return o;
}

static void take_grant(struct parent *p, struct hand *h, const json_t *o)
{
	struct grant *g = calloc(1, sizeof(*g));

	if (!g) {
		hand_fail(h, "grant");
		return;
	}
	hand_str(h, o, "id", g->id, sizeof(g->id));
	hand_str(h, o, "agent", g->agent, sizeof(g->agent));
	hand_str(h, o, "target", g->target, sizeof(g->target));
	hand_str(h, o, "user", g->user, sizeof(g->user));
	hand_str(h, o, "database", g->database, sizeof(g->database));
	hand_str(h, o, "scope", g->scope, sizeof(g->scope));
	hand_str(h, o, "via", g->via, sizeof(g->via));
	hand_str(h, o, "by", g->by, sizeof(g->by));
	hand_str(h, o, "reason", g->reason, sizeof(g->reason));
	g->since_wall_ns = hand_u64(h, o, "since");
	g->until_wall_ns = hand_u64(h, o, "until");
	g->until_boot_ns = hand_u64(h, o, "until_boot");
	g->signing = hand_u64(h, o, "signing");
	g->receipt = hand_dup(h, o, "receipt");
	g->evidence = json_incref(json_object_get(o, "evidence"));
	g->idp_id = hand_u64(h, o, "idp_id");
	hand_str(h, o, "token", g->token, sizeof(g->token));
	/* Of a binary that did not say: its sessions go on, and who comes next is asked about. */
	g->terms = hand_has(o, "terms") ? hand_u64(h, o, "terms") : 0;
	g->lost = hand_has(o, "lost") && hand_bool(h, o, "lost");
	list_init(&g->rechecks);
	rechecks_take(h, o, &g->rechecks);
	list_add_tail(&p->grants, &g->link);
}

static json_t *save_waiters(struct hand *h, const struct approval *a)
{
	json_t *list = json_array();

	list_each(it, &a->waiters) {
		const struct waiter *w = container_of(it, struct waiter, link);
		json_t *o = json_object();

		hand_put_u64(h, o, "slot", w->worker->index);
		hand_put_u64(h, o, "ask", w->ask);
		hand_put_slice(h, o, "session", slice_of(w->session.b, sizeof(w->session.b)));
		(void)json_array_append_new(list, o);
	}
	return list;
}

static void save_people(struct hand *h, json_t *o, const struct approval *a)
{
	json_t *approvers = json_array(), *by = json_array();

	for (uint32_t i = 0; i < a->napprovers; i++)
		(void)json_array_append_new(approvers, json_string(a->approvers[i]));
	for (uint32_t i = 0; i < a->nby; i++)
		(void)json_array_append_new(by, json_integer(a->by[i]));
	hand_put(h, o, "approvers", approvers);
	hand_put(h, o, "by", by);
	hand_put_u64(h, o, "min", a->min);
}

/* Decided, and waits for its receipt. */
static json_t *save_held(struct hand *h, const struct approval *a)
{
	json_t *o = json_object();

	hand_put_u64(h, o, "verdict", a->held.v);
	hand_put_u64(h, o, "reason", a->held.reason);
	hand_put_str(h, o, "by", a->held.by);
	hand_put_str(h, o, "request", a->held.request);
	hand_put_str(h, o, "detail", a->held.detail);
	hand_put_str(h, o, "grant", a->held.grant);
	return o;
}

static void take_held(struct hand *h, const json_t *o, struct approval *a)
{
	a->held.v = (uint32_t)hand_u64(h, o, "verdict");
	a->held.reason = (uint16_t)hand_u64(h, o, "reason");
	hand_str(h, o, "by", a->held.by, sizeof(a->held.by));
	hand_str(h, o, "request", a->held.request, sizeof(a->held.request));
	hand_str(h, o, "detail", a->held.detail, sizeof(a->held.detail));
	hand_str(h, o, "grant", a->held.grant, sizeof(a->held.grant));
}

static json_t *save_approval(struct hand *h, const struct approval *a)
{
	json_t *o = json_object();

	hand_put_str(h, o, "id", a->id);
	hand_put_bool(h, o, "statement", a->statement);
	hand_put_str(h, o, "ways", a->ways);
	hand_put_str(h, o, "asked", a->asked);
	hand_put_str(h, o, "code", a->code);
	hand_put_str(h, o, "uri", a->uri);
	hand_put_str(h, o, "agent", a->agent);
	hand_put_str(h, o, "target", a->target);
	hand_put_str(h, o, "scope", a->scope);
	hand_put_str(h, o, "effect", a->effect);
	hand_put_str(h, o, "rule", a->rule);
	hand_put_str(h, o, "text", a->text);
	hand_put_slice(h, o, "digest", slice_of(a->digest, sizeof(a->digest)));
	hand_put_str(h, o, "user", a->user);
	hand_put_str(h, o, "database", a->database);
	hand_put_u64(h, o, "agent_uid", a->agent_uid);
	hand_put_bool(h, o, "has_uid", a->has_uid);
	hand_put_u64(h, o, "since", a->since_wall_ns);
	hand_put_u64(h, o, "until", a->until_wall_ns);
	hand_put_u64(h, o, "until_boot", a->until_boot_ns);
	hand_put_u64(h, o, "max_ms", a->max_ms);
	hand_put_bool(h, o, "in_transaction", a->in_transaction);
	hand_put_u64(h, o, "idp_id", a->idp_id);
	hand_put_str(h, o, "token", a->token);
	hand_put_bool(h, o, "needs_token", a->needs_token);
	hand_put_u64(h, o, "terms", a->terms);
	if (a->authd)
		hand_put_u64(h, o, "authd", child_key(a->authd));
	hand_put_u64(h, o, "signing", a->signing);
	hand_put(h, o, "held", save_held(h, a));
	hand_put(h, o, "waiters", save_waiters(h, a));
	/* Of the ways that have said yes; who asks the others goes on over the upgrade. */
	rechecks_save(h, o, &a->rechecks);
	hand_put_bool(h, o, "unchecked", a->unchecked);
	save_people(h, o, a);
	return o;
}

void grants_save(struct parent *p, struct hand *h, json_t *root)
{
	json_t *grants = json_array(), *approvals = json_array();

	list_each(it, &p->grants)
		(void)json_array_append_new(grants,
					    save_grant(h, container_of(it, struct grant, link)));
	list_each(it, &p->approvals)
		(void)json_array_append_new(
			approvals, save_approval(h, container_of(it, struct approval, link)));
	hand_put(h, root, "grants", grants);
	hand_put(h, root, "approvals", approvals);
}

static void take_waiters(struct parent *p, struct hand *h, const json_t *o, struct approval *a)
{
	json_t *one;
	size_t i;

	json_array_foreach(hand_list(h, o, "waiters"), i, one)
	{
		struct waiter *w = calloc(1, sizeof(*w));

		if (!w) {
			hand_fail(h, "waiter");
			return;
		}
		w->worker = child_by_slot(p, h, hand_u64(h, one, "slot"));
		w->ask = hand_u64(h, one, "ask");
		hand_bytes(h, one, "session", w->session.b, sizeof(w->session.b));
		list_add_tail(&a->waiters, &w->link);
	}
}

static void take_people(struct hand *h, const json_t *o, struct approval *a)
{
	const json_t *approvers = hand_list(h, o, "approvers"), *by = hand_list(h, o, "by");
	size_t n = json_array_size(approvers);

	a->min = (uint32_t)hand_u64(h, o, "min");
	a->approvers = n ? calloc(n, sizeof(*a->approvers)) : NULL;
	if (n && !a->approvers) {
		hand_fail(h, "approvers");
		return;
	}
	a->napprovers = (uint32_t)n;
	for (size_t i = 0; i < n; i++) {
		const char *name = json_string_value(json_array_get(approvers, i));

		(void)snprintf(a->approvers[i], NAME_MAX_LEN, "%s", name ? name : "");
	}
	if (json_array_size(by) > ARRAY_SIZE(a->by)) {
		hand_fail(h, "by");
		return;
	}
	for (size_t i = 0; i < json_array_size(by); i++)
		a->by[a->nby++] = (uint32_t)json_integer_value(json_array_get(by, i));
}

static void take_texts(struct hand *h, const json_t *o, struct approval *a)
{
	hand_str(h, o, "id", a->id, sizeof(a->id));
	hand_str(h, o, "ways", a->ways, sizeof(a->ways));
	hand_str(h, o, "asked", a->asked, sizeof(a->asked));
	hand_str(h, o, "code", a->code, sizeof(a->code));
	hand_str(h, o, "uri", a->uri, sizeof(a->uri));
	hand_str(h, o, "agent", a->agent, sizeof(a->agent));
	hand_str(h, o, "target", a->target, sizeof(a->target));
	hand_str(h, o, "scope", a->scope, sizeof(a->scope));
	hand_str(h, o, "effect", a->effect, sizeof(a->effect));
	hand_str(h, o, "rule", a->rule, sizeof(a->rule));
	hand_str(h, o, "user", a->user, sizeof(a->user));
	hand_str(h, o, "database", a->database, sizeof(a->database));
	a->text = hand_dup(h, o, "text");
	hand_bytes(h, o, "digest", a->digest, sizeof(a->digest));
}

static void take_approval(struct parent *p, struct hand *h, const json_t *o)
{
	struct approval *a = calloc(1, sizeof(*a));
	struct pagent *agent;

	if (!a) {
		hand_fail(h, "approval");
		return;
	}
	list_init(&a->waiters);
	list_init(&a->rechecks);
	take_texts(h, o, a);
	a->statement = hand_bool(h, o, "statement");
	a->agent_uid = (uint32_t)hand_u64(h, o, "agent_uid");
	a->has_uid = hand_bool(h, o, "has_uid");
	a->since_wall_ns = hand_u64(h, o, "since");
	a->until_wall_ns = hand_u64(h, o, "until");
	a->until_boot_ns = hand_u64(h, o, "until_boot");
	a->max_ms = hand_u64(h, o, "max_ms");
	a->in_transaction = hand_bool(h, o, "in_transaction");
	a->idp_id = hand_u64(h, o, "idp_id");
	hand_str(h, o, "token", a->token, sizeof(a->token));
	a->needs_token = hand_has(o, "needs_token") && hand_bool(h, o, "needs_token");
	a->terms = hand_has(o, "terms") ? hand_u64(h, o, "terms") : 0;
	a->authd = hand_has(o, "authd") ? child_by_key(p, hand_u64(h, o, "authd")) : NULL;
	a->signing = hand_u64(h, o, "signing");
	take_held(h, json_object_get(o, "held"), a);
	take_waiters(p, h, o, a);
	rechecks_take(h, o, &a->rechecks);
	a->unchecked = hand_has(o, "unchecked") && hand_bool(h, o, "unchecked");
	take_people(h, o, a);
	list_add_tail(&p->approvals, &a->link);
	p->napprovals++;
	agent = agent_find(p, slice_str(a->agent));
	if (agent)
		agent->approvals++;
}

void grants_take(struct parent *p, struct hand *h, const json_t *root)
{
	json_t *o;
	size_t i;

	json_array_foreach(hand_list(h, root, "grants"), i, o)
		take_grant(p, h, o);
	json_array_foreach(hand_list(h, root, "approvals"), i, o)
		take_approval(p, h, o);
}
