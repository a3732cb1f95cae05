/* SPDX-License-Identifier: MIT */
/* The operations of the control socket, one function each. */
#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/audit.h"
#include "daemon/decisions.h"
#include "daemon/grants.h"
#include "daemon/integrity.h"
#include "daemon/learned.h"
#include "daemon/registry.h"
#include "daemon/recheck.h"
#include "daemon/reload.h"
#include "daemon/roles.h"
#include "daemon/netns.h"
#include "daemon/accel.h"
#include "daemon/parent.h"
#include "daemon/sandbox.h"
#include "daemon/upgrade.h"
#include "kern/kern.h"
#include "kern/kern_ways.h"
#include "tidegate_ctl.h"

#define YEAR_MS (366ll * 86400000)

struct call {
	struct parent *p;
	struct ctl_client *client;
	json_t *args;
	uint32_t uid;
	struct ctl_error *e;
	bool later;
};

static json_t *fail(struct call *c, const char *code, const char *hint, const char *fmt, ...)
	PRINTF(4, 5);

static json_t *fail(struct call *c, const char *code, const char *hint, const char *fmt, ...)
{
	va_list ap;

	c->e->code = code;
	(void)snprintf(c->e->hint, sizeof(c->e->hint), "%s", hint ? hint : "");
	va_start(ap, fmt);
	(void)vsnprintf(c->e->message, sizeof(c->e->message), fmt, ap);
	va_end(ap);
	return NULL;
}

static const char *arg(const struct call *c, const char *name)
{
	return json_string_value(json_object_get(c->args, name));
}

static uint64_t arg_ms(const struct call *c, const char *name)
{
	json_int_t v = json_integer_value(json_object_get(c->args, name));

	/* What is longer than a year was meant as for ever, which nothing here is. */
	return v <= 0 ? 0 : v < YEAR_MS ? (uint64_t)v : YEAR_MS;
}

json_t *text_json(const char *s)
{
	return s && *s ? json_string(s) : json_null();
}

json_t *time_json(uint64_t wall_ns)
{
	char text[32];

	if (!wall_ns)
		return json_null();
	text_time(wall_ns, text, sizeof(text));
	return json_string(text);
}

/* ---------------------------------------------------------------- targets */

static json_t *target_json(struct parent *p, const struct ptarget *t)
{
	json_t *o = json_object(), *addrs = json_array(), *off = json_null();
	char by[32];

	for (uint32_t i = 0; t->cfg && i < t->cfg->naddrs; i++) {
		char text[300];

		(void)snprintf(text, sizeof(text), strchr(t->cfg->addrs[i].host, ':') ? "[%s]:%u" : "%s:%u",
			       t->cfg->addrs[i].host, t->cfg->addrs[i].port);
		(void)json_array_append_new(addrs, json_string(text));
	}
	if (t->toggled) {
		(void)snprintf(by, sizeof(by), "uid %u", t->by_uid);
		off = json_pack("{s:s, s:s, s:o, s:o}", "reason", t->reason, "by", by, "since",
				time_json(t->since_wall_ns), "until", time_json(t->until_wall_ns));
	}
	(void)json_object_set_new(o, "id", json_integer(t->id));
	(void)json_object_set_new(o, "name", json_string(t->name));
	(void)json_object_set_new(o, "protocol", json_string(t->cfg ? t->cfg->protocol : "?"));
	(void)json_object_set_new(o, "addresses", addrs);
	(void)json_object_set_new(o, "mode", json_string(target_mode_name(t->mode)));
	(void)json_object_set_new(
		o, "configured_mode",
		json_string(target_mode_name(t->cfg ? t->cfg->mode : TARGET_STEER)));
	(void)json_object_set_new(o, "credential", t->cfg && t->cfg->credential
							   ? json_string(t->cfg->credential)
							   : json_null());
	(void)json_object_set_new(
		o, "tls", json_string(t->cfg && cfg_target_verified(t->cfg) ? "verified" : "off"));
	(void)json_object_set_new(o, "sessions", json_integer(t->sessions));
	(void)json_object_set_new(o, "off", off);
	return o;
}

static json_t *op_target_list(struct call *c)
{
	json_t *list = json_array();

	list_each(it, &c->p->targets) {
		const struct ptarget *t = container_of(it, struct ptarget, link);

		if (t->cfg)
			(void)json_array_append_new(list, target_json(c->p, t));
	}
	return list;
}

static json_t *op_target_set(struct call *c)
{
	const char *name = arg(c, "name"), *mode = arg(c, "mode"), *reason = arg(c, "reason");
	struct ptarget *t = name ? target_find(c->p, slice_str(name)) : NULL;
	bool reset = mode && strcmp(mode, "reset") == 0;
	struct buf error;
	int m, rc;

	if (!mode)
		return fail(c, "bad_request", NULL, "mode is missing");
	if (!t || !t->cfg)
		return fail(c, "not_found", "see `tidegate target list`", "there is no target %s",
			    name ? name : "without a name");
	m = reset ? -1 : target_mode_parse(slice_str(mode));
	if (!reset && m < 0)
		return fail(c, "bad_request", "steer, block, observe, off or reset",
			    "unknown mode %s", mode);
	if (m == TARGET_OFF && (!reason || !*reason))
		return fail(c, "bad_request", "say why with --reason",
			    "a target is switched off only with a reason");
	buf_init(&error, 4096);
	rc = target_switch(c->p, t, m, reason, arg_ms(c, "for_ms"), c->uid, &error);
	if (rc)
		(void)fail(c, "failed", NULL, "target %s: %.*s", t->name, (int)error.n,
			   (const char *)buf_data(&error));
	buf_done(&error);
	return rc ? NULL : target_json(c->p, t);
}

/* ----------------------------------------------------------------- agents */

static json_t *op_agent_list(struct call *c)
{
	json_t *list = json_array();

	list_each(it, &c->p->agents) {
		const struct pagent *a = container_of(it, struct pagent, link);
		json_t *cgroups = json_array(), *uids = json_array(), *sources = json_array();

		for (uint32_t i = 0; a->cfg && i < a->cfg->ncgroups; i++)
			(void)json_array_append_new(cgroups, json_string(a->cfg->cgroups[i]));
		for (uint32_t i = 0; a->cfg && i < a->cfg->nuids; i++)
			(void)json_array_append_new(uids, json_integer(a->cfg->uids[i]));
		for (uint32_t i = 0; a->cfg && i < a->cfg->nsources; i++)
			(void)json_array_append_new(sources, json_string(a->cfg->sources[i]));
		(void)json_array_append_new(
			list, json_pack("{s:i, s:s, s:o, s:o, s:o, s:i, s:s, s:i, s:s}", "id",
					(int)a->id, "name", a->name, "cgroups", cgroups, "uids", uids,
					"sources", sources, "sessions", (int)a->sessions, "default",
					a->cfg && a->cfg->deny ? "deny" : "allow", "allowed",
					a->cfg ? (int)a->cfg->nallow : 0, "unix",
					a->cfg ? cfg_unix_words[a->cfg->unix_mode] : "guard"));
	}
	return list;
}

/* --------------------------------------------------------------- sessions */

static json_t *op_session_list(struct call *c)
{
	const char *agent = arg(c, "agent"), *target = arg(c, "target");
	json_t *list = json_array();
	struct psession *s, *tmp;

	HASH_ITER(hh, c->p->sessions, s, tmp) {
		json_t *o;

		if (!s->open || (agent && strcmp(agent, s->agent->name) != 0) ||
		    (target && strcmp(target, s->target->name) != 0))
			continue;
		o = json_object();
		registry_json(s, o);
		(void)json_array_append_new(list, o);
	}
	return list;
}

static struct psession *session_arg(struct call *c)
{
	const char *id = arg(c, "id");
	struct psession *s = NULL;
	struct uuid u;

	if (id && uuid_parse(slice_str(id), &u) == 0)
		s = registry_find(c->p, &u);
	if (!s)
		(void)fail(c, "not_found", "see `tidegate session list`", "there is no session %s",
			   id ? id : "without an id");
	return s;
}

static json_t *op_session_show(struct call *c)
{
	struct psession *s = session_arg(c);
	uint64_t id;

	if (!s)
		return NULL;
	if (!s->worker->ipc)
		return fail(c, "failed", NULL, "its worker is not running");
	id = ++c->p->next_id;
	ctl_client_wait(c->client, id, s);
	ipc_begin(s->worker->ipc, IPC_SESSION_SHOW, id);
	ipc_put_uuid(s->worker->ipc, &s->uuid);
	ipc_send(s->worker->ipc);
	c->later = true;
	return NULL;
}

static json_t *op_session_kill(struct call *c)
{
	const char *reason = arg(c, "reason");
	struct psession *s = session_arg(c);
	char words[256];

	if (!s)
		return NULL;
	(void)snprintf(words, sizeof(words), "the session was ended by an operator%s%s",
		       reason ? ": " : "", reason ? reason : "");
	log_notice("session %s is ended by uid %u", s->id, c->uid);
	return json_pack("{s:i}", "killed",
			 (int)registry_kill(c->p, &s->uuid, NULL, NULL, TG_R_SESSION_KILLED, words));
}

static json_t *op_session_follow(struct call *c)
{
	const char *id = arg(c, "id");

	if (id && !session_arg(c))
		return NULL;
	ctl_client_follow(c->client, id);
	c->later = true;
	return NULL;
}

/* ----------------------------------------------------- grants and approvals */

static json_t *op_grant_list(struct call *c)
{
	json_t *list = json_array();

	list_each(it, &c->p->grants)
		(void)json_array_append_new(list,
					    grant_json(c->p, container_of(it, struct grant, link)));
	return list;
}

static json_t *op_grant_create(struct call *c)
{
	const char *agent = arg(c, "agent"), *target = arg(c, "target"), *reason = arg(c, "reason");
	uint64_t ms = arg_ms(c, "for_ms");
	struct grant *g;
	json_t *o;
	char by[32];

	if (c->uid != 0)
		return fail(c, "permission", NULL, "only root creates a grant without approval");
	if (!agent || !target || !reason || !*reason || !ms)
		return fail(c, "bad_request", NULL, "agent, target, for_ms and reason are needed");
	if (!agent_find(c->p, slice_str(agent)) || !target_find(c->p, slice_str(target)))
		return fail(c, "not_found", NULL, "no such agent or target");
	(void)snprintf(by, sizeof(by), "uid %u", c->uid);
	log_warning("BREAK-GLASS: uid %u grants agent %s target %s: %s", c->uid, agent, target,
		    reason);
	if (audit_write(c->p, AUDIT_SYNC, "grant.break_glass", "{s:s, s:s, s:I, s:I, s:s}", "agent",
			agent, "target", target, "uid", (json_int_t)c->uid, "for_ms",
			(json_int_t)ms, "reason", reason))
		return fail(c, "failed", "see `tidegate status`",
			    "it would not be on record: the audit log cannot be written");
	g = grant_new(c->p, agent, target, "*", "break-glass", by, ms, reason);
	if (!g)
		return fail(c, "failed", NULL, "no memory");
	o = grant_json(c->p, g);
	decision_of_root(c->p, g);
	return o;
}

static json_t *op_grant_revoke(struct call *c)
{
	const char *id = arg(c, "id"), *reason = arg(c, "reason");
	struct grant *g = id ? grant_find(c->p, id) : NULL;
	char words[256];

	if (!g)
		return fail(c, "not_found", "see `tidegate grant list`", "there is no grant %s",
			    id ? id : "without an id");
	(void)snprintf(words, sizeof(words), "the grant was revoked%s%s", reason ? ": " : "",
		       reason ? reason : "");
	return json_pack("{s:i}", "sessions", (int)grant_end(c->p, g, TG_R_GRANT_REVOKED, words));
}

static json_t *op_approval_list(struct call *c)
{
	json_t *list = json_array();

	list_each(it, &c->p->approvals) {
		const struct approval *a = container_of(it, struct approval, link);

		if (!a->signing)
			(void)json_array_append_new(list, approval_json(a));
	}
	return list;
}

static json_t *give_answer(struct call *c, bool approve)
{
	const char *id = arg(c, "id"), *reason = arg(c, "reason");
	struct approval *a = id ? approval_find(c->p, id) : NULL;
	json_t *o;
	int rc;

	if (!a)
		return fail(c, "not_found", "see `tidegate approval list`",
			    "there is no open approval %s", id ? id : "without an id");
	if (a->ways[0])
		return fail(c, "conflict", NULL, "approval %s is the identity provider's to give", id);
	o = approval_json(a);
	rc = approve ? approval_approve(c->p, a, c->uid, arg_ms(c, "for_ms"), reason ? reason : "")
		     : approval_deny(c->p, a, c->uid, reason ? reason : "");
	if (rc) {
		json_decref(o);
		return rc == -EALREADY
			       ? fail(c, "conflict", NULL, "uid %u has approved it already", c->uid)
			       : fail(c, "permission", NULL,
				      "uid %u is no approver of it: see its approvers; nobody "
				      "approves for a process of his own",
				      c->uid);
	}
	/* It is gone if that decided it; while more approvals are needed it is shown as it is now. */
	a = approval_find(c->p, id);
	if (a) {
		json_decref(o);
		o = approval_json(a);
	}
	(void)json_object_set_new(o, "decided", json_boolean(!a));
	return o;
}

static json_t *op_approval_approve(struct call *c)
{
	return give_answer(c, true);
}

static json_t *op_approval_deny(struct call *c)
{
	return give_answer(c, false);
}

/* ----------------------------------------------------------------- policy */

static json_t *op_policy_reload(struct call *c)
{
	struct buf error;
	bool changed = false;
	int rc;

	buf_init(&error, 65536);
	rc = parent_reload(c->p, &error, &changed);
	if (rc)
		(void)fail(c, "failed", "the old configuration stays in force", "%.*s",
			   (int)min_size(error.n, 900), (const char *)buf_data(&error));
	buf_done(&error);
	if (rc)
		return NULL;
	return json_pack("{s:s, s:b, s:o}", "digest", policy_digest(c->p->cfg->policy), "changed",
			 changed, "pending", reload_pending_json(c->p));
}

static json_t *op_daemon_upgrade(struct call *c)
{
	struct buf error;
	int rc;

	buf_init(&error, 1024);
	rc = upgrade_begin(c->p, &error);
	if (rc)
		(void)fail(c, rc == -EALREADY || rc == -ESHUTDOWN ? "conflict" : "failed",
			   "nothing has changed", "%.*s", (int)error.n, (const char *)buf_data(&error));
	buf_done(&error);
	if (rc)
		return NULL;
	ctl_client_wait_upgrade(c->client);
	c->later = true;
	return NULL;
}

static json_t *op_policy_show(struct call *c)
{
	return json_pack("{s:s, s:s, s:o}", "file", c->p->config_path, "digest",
			 policy_digest(c->p->cfg->policy), "loaded", time_json(c->p->loaded_wall_ns));
}

/* ------------------------------------------------------------------ names */

static json_t *op_dns_list(struct call *c)
{
	return learned_list_json(c->p);
}

static json_t *op_dns_show(struct call *c)
{
	return learned_state_json(c->p);
}

/* ----------------------------------------------------------------- status */

static json_t *kernel_json(struct parent *p)
{
	static const char *const labels[] = {
#define X(name, label, what) [TG_K_##name] = label,
		TG_KERNEL_COUNTERS(X)
#undef X
	};
	uint64_t n[TG_K_COUNT];
	json_t *o = json_object();

	if (p->kern && kern_counters(p->kern, n) == 0)
		for (unsigned i = 0; i < TG_K_COUNT; i++)
			(void)json_object_set_new(o, labels[i], json_integer((json_int_t)n[i]));
	return o;
}

static json_t *workers_json(struct parent *p)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < p->nworkers; i++) {
		const struct child *w = &p->workers[i];

		if (w->journal_fd < 0)
			continue;
		(void)json_array_append_new(
			list, json_pack("{s:i, s:i, s:i, s:i, s:b}", "id", (int)i, "pid", (int)w->pid,
					"sessions", (int)w->stats->sessions, "restarts",
					(int)w->restarts, "before", w->retired));
	}
	return list;
}

/* A grant that nobody approved must not be forgotten while it lasts. */
static void warn_break_glass(struct parent *p, json_t *list)
{
	list_each(it, &p->grants) {
		const struct grant *g = container_of(it, struct grant, link);
		char until[32];

		if (strcmp(g->via, "break-glass") != 0)
			continue;
		text_time(g->until_wall_ns, until, sizeof(until));
		(void)json_array_append_new(
			list, json_sprintf("BREAK-GLASS grant %s: agent %s has target %s until %s, by %s: %s",
					   g->id, g->agent, g->target, until, g->by, g->reason));
	}
}

static json_t *warnings_json(struct parent *p)
{
	json_t *list = json_array();
	char text[400];

	warn_break_glass(p, list);
	if (!p->kern) {
		(void)snprintf(text, sizeof(text), "nothing is steered: %s", p->bpf_why);
		(void)json_array_append_new(list, json_string(text));
	}
	if (!sandbox_has_landlock())
		(void)json_array_append_new(
			list, json_string("Landlock is not in this kernel: children are held by "
					  "their accounts and seccomp only"));
	integrity_warnings(p, list);
	roles_warnings(p, list);
	if (p->audit_lost) {
		(void)snprintf(text, sizeof(text),
			       "%llu events are not in the audit log: is the disk of %s full?",
			       (unsigned long long)p->audit_lost, p->cfg->state_dir);
		(void)json_array_append_new(list, json_string(text));
	}
	if ((p->cfg->idp || p->cfg->nways) && !p->authd.ready)
		(void)json_array_append_new(list, json_string("authd is not running"));
	if (learned_needed(p) && !p->named.ready)
		(void)json_array_append_new(list, json_string("named is not running: names cannot be "
							      "looked up"));
	for (uint32_t i = 0; i < p->nworkers; i++) {
		const struct journal_stats *j = &p->workers[i].stats->journal;

		if (!j->stuck)
			continue;
		(void)snprintf(text, sizeof(text),
			       "worker %u cannot write %u recordings: is the disk full?", i, j->stuck);
		(void)json_array_append_new(list, json_string(text));
	}
	return list;
}

/* What the kernel leaves open, by the names of `feature probe`. */
static json_t *gaps_json(struct parent *p)
{
	json_t *list = json_array();

	for (unsigned w = 0; p->kern && w < KERN_WAY_COUNT; w++)
		if (p->ways_open & 1u << w)
			(void)json_array_append_new(
				list, json_pack("{s:s, s:s}", "way", kern_way_words[w].label, "text",
						kern_way_words[w].gap));
	if (p->kern && kern_left_out(p->kern))
		(void)json_array_append_new(list, json_pack("{s:s, s:s+}", "way", "programs",
							    "text", "refused by this kernel: ",
							    kern_left_out(p->kern)));
	return list;
}

/* What authd said a second ago, and whether that is good. */
static json_t *judged(const struct parent *p, json_t *o)
{
	const char *state = json_string_value(json_object_get(o, "state"));
	const char *error = json_string_value(json_object_get(o, "last_error"));
	const char *todo = json_string_value(json_object_get(o, "todo"));
	char detail[512];

	if (!p->authd.ready || (state && strcmp(state, "unknown") != 0))
		(void)json_object_set_new(o, "ok",
					  json_boolean(p->authd.ready && strcmp(state, "up") == 0));
	if (error) {
		(void)snprintf(detail, sizeof(detail), "%s%s%s", error, todo ? ": " : "",
			       todo ? todo : "");
		(void)json_object_set_new(o, "detail", json_string(detail));
	}
	return o;
}

static json_t *idp_json(struct parent *p)
{
	json_t *o = p->idp_state ? json_loads(p->idp_state, 0, NULL) : NULL;

	if (!json_is_object(o)) {
		json_decref(o);
		o = json_object();
	}
	(void)json_object_set_new(o, "issuer", json_string(p->cfg->idp->issuer));
	return judged(p, o);
}

static json_t *list_json(struct parent *p, const char *state)
{
	json_t *list = state ? json_loads(state, 0, NULL) : NULL;

	for (size_t i = 0; i < json_array_size(list); i++)
		(void)judged(p, json_array_get(list, i));
	return list ? list : json_array();
}

static json_t *op_status(struct call *c)
{
	struct parent *p = c->p;
	json_t *counters = json_object(), *off = json_array(), *idp = json_null();
	uint64_t n[TG_R_COUNT];

	parent_reasons(p, n);
	for (unsigned i = 1; i < TG_R_COUNT; i++)
		(void)json_object_set_new(counters, reason_label((uint16_t)i),
					  json_integer((json_int_t)n[i]));
	list_each(it, &p->targets) {
		const struct ptarget *t = container_of(it, struct ptarget, link);

		if (t->cfg && t->mode == TARGET_OFF)
			(void)json_array_append_new(off, target_json(p, t));
	}
	if (p->cfg->idp)
		idp = idp_json(p);
	return json_pack("{s:s, s:i, s:o, s:I, s:o, s:o, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:i, s:o, s:o, s:o, s:o}", "version",
			 TIDEGATE_VERSION, "pid", (int)getpid(), "since", time_json(p->since_wall_ns),
			 "uptime_ms",
			 (json_int_t)((clock_wall_ns() - p->since_wall_ns) / 1000000), "workers",
			 workers_json(p), "idp", idp, "kernel", kernel_json(p), "bpf",
			 p->kern ? "on" : p->bpf_why, "counters", counters, "namespaces",
			 netns_json(p), "warnings",
			 warnings_json(p), "gaps", gaps_json(p), "targets_off", off, "accelerator", accel_json(p),
			 "integrity", integrity_json(p), "approvals", list_json(p, p->ways_state),
			 "token_issuers", list_json(p, p->issuers_state), "receipt_key",
			 p->receipt_key, "upgrades", (int)p->upgrades, "upgraded",
			 time_json(p->upgraded_wall_ns), "pending", reload_pending_json(p), "roles",
			 roles_json(p), "rechecks_failing", rechecks_failing_json(p));
}

static const struct {
	const char *op;
	json_t *(*run)(struct call *c);
} ops[] = {
	{"status", op_status},
	{"target.list", op_target_list},
	{"target.set", op_target_set},
	{"agent.list", op_agent_list},
	{"session.list", op_session_list},
	{"session.show", op_session_show},
	{"session.kill", op_session_kill},
	{"session.follow", op_session_follow},
	{"grant.list", op_grant_list},
	{"grant.create", op_grant_create},
	{"grant.revoke", op_grant_revoke},
	{"approval.list", op_approval_list},
	{"approval.approve", op_approval_approve},
	{"approval.deny", op_approval_deny},
	{"dns.list", op_dns_list},
	{"dns.show", op_dns_show},
	{"policy.reload", op_policy_reload},
	{"policy.show", op_policy_show},
	{"daemon.upgrade", op_daemon_upgrade},
};

_Static_assert(ARRAY_SIZE(ops) == TG_CTL_OP_COUNT, "every operation has its function");

json_t *control_run(struct parent *p, struct ctl_client *client, const char *op, json_t *args,
		    uint32_t uid, struct ctl_error *e, bool *ret_later)
{
	struct call c = {.p = p, .client = client, .args = args, .uid = uid, .e = e};
	json_t *result = NULL;

	for (size_t i = 0; i < ARRAY_SIZE(ops); i++) {
		if (strcmp(ops[i].op, op) != 0)
			continue;
		result = ops[i].run(&c);
		*ret_later = c.later;
		return result;
	}
	return fail(&c, "unknown_op", "the utility may be newer than the daemon",
		    "this daemon has no operation %s", op);
}
