/* SPDX-License-Identifier: MIT */
/* Grants and the approvals that make them: by people here, or by the identity provider. */
#include <errno.h>
#include <grp.h>
#include <pwd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/audit.h"
#include "daemon/decisions.h"
#include "daemon/glogin.h"
#include "daemon/grants.h"
#include "daemon/peek.h"
#include "daemon/recheck.h"
#include "daemon/registry.h"
#include "daemon/roles.h"
#include "daemon/parent.h"
#include "inspect/inspect.h"

enum { APPROVALS_MAX = 20000, APPROVALS_AGENT = 2000, APPROVERS_MAX = 64, HOUR_MS = 3600000, QUARTER_MS = 900000 };

/* ----------------------------------------------------------------- grants */

struct grant *grant_find(struct parent *p, const char *id)
{
	list_each(it, &p->grants) {
		struct grant *g = container_of(it, struct grant, link);

		if (strcmp(g->id, id) == 0)
			return g;
	}
	return NULL;
}

const char *approval_via(const struct approval *a)
{
	return a->ways[0] ? a->ways : "builtin";
}

/* Whoever said yes was told these. */
static bool same_login(const struct approval *a, const char *user, const char *database)
{
	return strcmp(a->user, user) == 0 && strcmp(a->database, database) == 0;
}

/* By the configuration's text, which no agent writes. */
static uint64_t terms_of(const struct approval *a)
{
	char min[16];
	uint64_t h;

	(void)snprintf(min, sizeof(min), "%u", a->min);
	h = text_hash(TEXT_HASH_START, min);
	for (uint32_t i = 0; i < a->napprovers; i++)
		h = text_hash(h, a->approvers[i]);
	return h;
}

/* Who is given less time is served by the last of it only. */
static bool not_too_long(const struct grant *g, const struct approval *a, uint64_t now)
{
	return (g->until_boot_ns - now) / 1000000 <= a->max_ms;
}

/* A grant serves only where the same ways would be asked for the same; "*" serves everywhere. */
static struct grant *grant_for(struct parent *p, const struct approval *a)
{
	uint64_t now = clock_boot_ns();

	list_each(it, &p->grants) {
		struct grant *g = container_of(it, struct grant, link);

		if (g->lost || (strcmp(g->token, a->token) != 0 && strcmp(g->scope, "*") != 0))
			continue;
		if (g->until_boot_ns > now && strcmp(g->agent, a->agent) == 0 &&
		    strcmp(g->target, a->target) == 0 &&
		    (strcmp(g->scope, "*") == 0 ||
		     (strcmp(g->scope, a->scope) == 0 && strcmp(g->via, approval_via(a)) == 0 &&
		      g->terms == a->terms && not_too_long(g, a, now) &&
		      same_login(a, g->user, g->database))))
			return g;
	}
	return NULL;
}

/* Whose events no agent can bring about alone. */
static bool by_hand(const char *via)
{
	return strcmp(via, "builtin") == 0 || strcmp(via, "break-glass") == 0;
}

struct grant *grant_new(struct parent *p, const char *agent, const char *target, const char *scope,
			const char *via, const char *by, uint64_t ms, const char *reason)
{
	struct grant *g = calloc(1, sizeof(*g));

	if (!g)
		return NULL;
	handle_new(g->id);
	(void)snprintf(g->agent, sizeof(g->agent), "%s", agent);
	(void)snprintf(g->target, sizeof(g->target), "%s", target);
	(void)snprintf(g->scope, sizeof(g->scope), "%s", scope);
	(void)snprintf(g->via, sizeof(g->via), "%s", via);
	(void)snprintf(g->by, sizeof(g->by), "%s", by);
	(void)snprintf(g->reason, sizeof(g->reason), "%s", reason ? reason : "");
	g->since_wall_ns = clock_wall_ns();
	g->until_wall_ns = g->since_wall_ns + ms * 1000000;
	g->until_boot_ns = clock_boot_ns() + ms * 1000000;
	list_init(&g->rechecks);
	list_add_tail(&p->grants, &g->link);
	log_notice("grant %s: agent %s on target %s for %llu ms, by %s", g->id, agent, target,
		   (unsigned long long)ms, by);
	audit_write_of(p, by_hand(via) ? NULL : agent, "grant.new", target, "{s:s, s:s, s:s, s:s, s:s, s:s, s:I}", "grant",
		       g->id, "agent", agent, "target", target, "scope", scope, "via", via, "by", by,
		       "for_ms", (json_int_t)ms);
	return g;
}

static struct grant *grant_given(struct parent *p, struct approval *a, const char *by,
				 uint64_t ms, const char *reason)
{
	struct grant *g = grant_new(p, a->agent, a->target, a->scope, approval_via(a), by, ms, reason);

	if (!g)
		return NULL;
	rechecks_move(&a->rechecks, &g->rechecks);
	memcpy(g->token, a->token, sizeof(g->token));
	g->terms = a->terms;
	memcpy(g->user, a->user, sizeof(g->user));
	memcpy(g->database, a->database, sizeof(g->database));
	return g;
}

uint32_t grant_end(struct parent *p, struct grant *g, uint16_t reason, const char *words)
{
	struct psession *s, *tmp;
	uint32_t n = 0;

	HASH_ITER(hh, p->sessions, s, tmp)
		n += strcmp(s->grant, g->id) == 0;
	each_worker(p, c)
	{
		ipc_begin(c->ipc, IPC_GRANT_END, 0);
		ipc_put_str(c->ipc, g->id);
		ipc_put_u32(c->ipc, reason);
		ipc_put_str(c->ipc, words);
		ipc_send(c->ipc);
	}
	log_notice("grant %s ends: %s", g->id, reason_what(reason));
	audit_write_of(p, by_hand(g->via) || reason == TG_R_GRANT_REVOKED ? NULL : g->agent,
		       "grant.end", reason_label(reason), "{s:s, s:s, s:s, s:s, s:I}",
		       "grant", g->id, "agent", g->agent, "target", g->target, "reason",
		       reason_label(reason), "sessions", (json_int_t)n);
	glogin_forget(p, g->kept);
	rechecks_free(&g->rechecks);
	roles_end(p, g->id);
	list_del(&g->link);
	free(g->receipt);
	json_decref(g->evidence);
	free(g);
	return n;
}

void approval_free(struct parent *p, struct approval *a)
{
	struct pagent *agent = agent_find(p, slice_str(a->agent));

	p->napprovals--;
	if (agent)
		agent->approvals--;
	peek_cancel(a->peek);
	rechecks_free(&a->rechecks);
	list_each(it, &a->waiters)
		free(container_of(it, struct waiter, link));
	list_del(&a->link);
	free(a->approvers);
	free(a->text);
	free(a);
}

/* ------------------------------------------------------------------- asks */

static bool take_approvers(struct approval *a, struct ipc_msg *m)
{
	uint32_t n;

	a->min = ipc_get_u32(m);
	n = ipc_get_u32(m);
	if (a->min == 0)
		a->min = 1;
	if (n > APPROVERS_MAX || a->min > ARRAY_SIZE(a->by))
		return false;
	a->approvers = n ? calloc(n, sizeof(*a->approvers)) : NULL;
	if (n && !a->approvers)
		return false;
	a->napprovers = n;
	for (uint32_t i = 0; i < n; i++) {
		struct slice s = ipc_get_str(m);

		(void)snprintf(a->approvers[i], NAME_MAX_LEN, "%.*s", (int)s.n,
			       (const char *)s.p);
	}
	a->terms = terms_of(a);
	return ipc_end(m);
}

/* What is not UTF-8 (a name or a text that was cut, another encoding) JSON could not tell anyone. */
static void make_valid(char *s)
{
	size_t n;

	for (; s && *s; s += n ? n : 1) {
		n = utf8_length(slice_str(s));
		if (!n)
			*s = '?';
	}
}

static struct approval *approval_new(struct parent *p, struct psession *s, bool statement)
{
	struct approval *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	p->napprovals++;
	s->agent->approvals++;
	handle_new(a->id);
	a->statement = statement;
	(void)snprintf(a->agent, sizeof(a->agent), "%s", s->agent->name);
	(void)snprintf(a->target, sizeof(a->target), "%s", s->target->name);
	(void)snprintf(a->user, sizeof(a->user), "%s", s->user ? s->user : "");
	(void)snprintf(a->database, sizeof(a->database), "%s", s->database ? s->database : "");
	make_valid(a->user);
	make_valid(a->database);
	a->agent_uid = s->uid;
	a->has_uid = s->uid != (uint32_t)-1;
	list_init(&a->waiters);
	list_init(&a->rechecks);
	list_init(&a->link);
	return a;
}

static void set_times(struct approval *a, uint64_t hold_ms)
{
	if (hold_ms == 0)
		hold_ms = HOUR_MS;
	a->since_wall_ns = clock_wall_ns();
	a->until_wall_ns = a->since_wall_ns + hold_ms * 1000000;
	a->until_boot_ns = clock_boot_ns() + hold_ms * 1000000;
}

static bool add_waiter(struct approval *a, struct child *c, uint64_t ask, const struct uuid *u)
{
	struct waiter *w = calloc(1, sizeof(*w));

	if (!w)
		return false;
	w->worker = c;
	w->ask = ask;
	w->session = *u;
	list_add_tail(&a->waiters, &w->link);
	return true;
}

static void tell_pending(struct child *c, uint64_t ask, const struct uuid *u, const char *id,
			 const char *words)
{
	ipc_begin(c->ipc, IPC_PENDING, ask);
	ipc_put_uuid(c->ipc, u);
	ipc_put_str(c->ipc, id);
	ipc_put_str(c->ipc, words);
	ipc_send(c->ipc);
}

/* Equal access that is being asked for already: one decision serves both. */
static struct approval *same_access(struct parent *p, const struct approval *b)
{
	/* Of a token that is not known nobody can say that it is the same. */
	if (b->needs_token && !b->token[0])
		return NULL;
	list_each(it, &p->approvals) {
		struct approval *a = container_of(it, struct approval, link);

		if (strcmp(a->token, b->token) != 0)
			continue;
		if (!a->statement && a->terms == b->terms && a->max_ms == b->max_ms &&
		    strcmp(a->ways, b->ways) == 0 && strcmp(a->agent, b->agent) == 0 &&
		    strcmp(a->target, b->target) == 0 && strcmp(a->scope, b->scope) == 0 &&
		    same_login(a, b->user, b->database))
			return a;
	}
	return NULL;
}

/* One agent that asks for ever must not keep the others from asking. */
static bool too_many(const struct parent *p, const struct psession *s)
{
	return p->napprovals > APPROVALS_MAX || s->agent->approvals > APPROVALS_AGENT;
}

/*
 * Who asks the same gets the same: not where it depends on the agent's token, which may be
 * another, or on one that keyd has and may lose.
 */
static bool holds_for_all(const struct grant *g, const struct approval *a)
{
	return !g->kept && (strcmp(g->scope, "*") == 0 || !a->needs_token);
}

void grant_used(struct parent *p, struct psession *s, struct ipc_msg *m)
{
	struct slice id = ipc_get_str(m);

	if (!ipc_end(m) || !s->open) {
		m->bad = true;
		return;
	}
	list_each(it, &p->grants) {
		const struct grant *g = container_of(it, struct grant, link);

		if (slice_eq_str(id, g->id) && !g->kept && strcmp(g->agent, s->agent->name) == 0 &&
		    strcmp(g->target, s->target->name) == 0)
			memcpy(s->grant, g->id, sizeof(s->grant));
	}
}

void access_ask(struct parent *p, struct child *c, struct ipc_msg *m)
{
	struct uuid u = ipc_get_uuid(m);
	struct slice ways = ipc_get_str(m), scope = ipc_get_str(m);
	uint64_t max_ms = ipc_get_u64(m), hold_ms = ipc_get_u64(m);
	struct slice rule = ipc_get_str(m);
	struct psession *s = registry_find(p, &u);
	struct approval *a, *same;
	struct grant *g;

	if (!s || !s->open || s->worker != c)
		return;
	a = approval_new(p, s, false);
	if (!a || !take_approvers(a, m)) {
		m->bad = a != NULL;
		if (a)
			approval_free(p, a);
		return;
	}
	approval_set_ways(p, a, s, ways);
	a->max_ms = max_ms ? max_ms : QUARTER_MS;
	(void)snprintf(a->scope, sizeof(a->scope), "%.*s", (int)scope.n, (const char *)scope.p);
	(void)snprintf(a->rule, sizeof(a->rule), "%.*s", (int)rule.n, (const char *)rule.p);
	set_times(a, hold_ms);
	g = grant_for(p, a);
	if (g && g->receipt) {
		decision_of_grant(p, c, m->id, &u, g, holds_for_all(g, a));
		approval_free(p, a);
		return;
	}
	same = g ? NULL : same_access(p, a);
	if (!g && ((a->ways[0] && !p->authd.ipc) || too_many(p, s))) {
		approval_free(p, a);
		decision_refuse(p, c, m->id, &u, ways.n ? TG_R_IDP_UNREACHABLE : TG_R_OVERLOAD);
		return;
	}
	if (same) {
		approval_free(p, a);
		a = same;
	}
	if (!add_waiter(a, c, m->id, &u)) {
		decision_refuse(p, c, m->id, &u, TG_R_NO_MEMORY);
		return;
	}
	if (same)
		return;
	list_add_tail(&p->approvals, &a->link);
	if (g)
		decision_join(a, g);
	else if (a->ways[0])
		approval_ask(p, a, s);
	else
		log_notice("approval %s: agent %s asks for target %s: `tidegate approval approve %s`",
			   a->id, a->agent, a->target, a->id);
}

void statement_ask(struct parent *p, struct child *c, struct ipc_msg *m)
{
	struct uuid u = ipc_get_uuid(m);
	struct slice text = ipc_get_str(m), digest = ipc_get_bytes(m), effect = ipc_get_str(m);
	struct slice rule = ipc_get_str(m);
	uint64_t hold_ms = ipc_get_u64(m);
	bool in_tx = ipc_get_u32(m) != 0;
	struct slice way = ipc_get_str(m);
	struct psession *s = registry_find(p, &u);
	struct approval *a;
	char words[128];

	if (!s || !s->open || s->worker != c)
		return;
	a = approval_new(p, s, true);
	if (!a || digest.n != 32 || !take_approvers(a, m)) {
		m->bad = a != NULL;
		if (a)
			approval_free(p, a);
		return;
	}
	if (too_many(p, s) || (way.n && !p->authd.ipc) || !add_waiter(a, c, m->id, &u)) {
		approval_free(p, a);
		decision_refuse(p, c, m->id, &u, way.n && !p->authd.ipc ? TG_R_IDP_UNREACHABLE : TG_R_OVERLOAD);
		return;
	}
	a->in_transaction = in_tx;
	approval_set_ways(p, a, s, way);
	a->text = strndup((const char *)text.p, min_size(text.n, STATEMENT_SHOWN));
	make_valid(a->text);
	memcpy(a->digest, digest.p, sizeof(a->digest));
	(void)snprintf(a->effect, sizeof(a->effect), "%.*s", (int)effect.n, (const char *)effect.p);
	(void)snprintf(a->rule, sizeof(a->rule), "%.*s", (int)rule.n, (const char *)rule.p);
	set_times(a, hold_ms);
	list_add_tail(&p->approvals, &a->link);
	log_notice("approval %s: agent %s on target %s: %s: %.200s", a->id, a->agent, a->target,
		   a->effect, a->text ? a->text : "");
	if (a->ways[0]) {
		approval_ask(p, a, s);
		return;
	}
	(void)snprintf(words, sizeof(words), "`tidegate approval approve %s`", a->id);
	tell_pending(c, m->id, &u, a->id, words);
}

static void cancel_idp(struct parent *p, const struct approval *a)
{
	if (!a->ways[0] || a->signing || !a->authd || !a->authd->ipc)
		return;
	ipc_begin(a->authd->ipc, IPC_IDP_CANCEL, a->idp_id);
	ipc_send(a->authd->ipc);
}

/* The session does not wait any more; an approval without waiters is gone. */
void ask_cancel(struct parent *p, struct child *c, struct ipc_msg *m)
{
	struct uuid u = ipc_get_uuid(m);

	if (!ipc_end(m))
		return;
	list_each(it, &p->approvals) {
		struct approval *a = container_of(it, struct approval, link);

		list_each(wi, &a->waiters) {
			struct waiter *w = container_of(wi, struct waiter, link);

			if (w->worker == c && w->ask == m->id && uuid_eq(&w->session, &u)) {
				list_del(&w->link);
				free(w);
			}
		}
		if (list_empty(&a->waiters)) {
			cancel_idp(p, a);
			approval_free(p, a);
		}
	}
}

void grants_worker_died(struct parent *p, struct child *c)
{
	list_each(it, &p->approvals) {
		struct approval *a = container_of(it, struct approval, link);

		list_each(wi, &a->waiters) {
			struct waiter *w = container_of(wi, struct waiter, link);

			if (w->worker == c) {
				list_del(&w->link);
				free(w);
			}
		}
		if (list_empty(&a->waiters)) {
			cancel_idp(p, a);
			approval_free(p, a);
		}
	}
}

/* --------------------------------------------------------------- decisions */

struct approval *approval_find(struct parent *p, const char *id)
{
	list_each(it, &p->approvals) {
		struct approval *a = container_of(it, struct approval, link);

		if (!a->signing && strcmp(a->id, id) == 0)
			return a;
	}
	return NULL;
}

static bool in_group(const struct passwd *pw, const char *name)
{
	gid_t groups[128];
	int n = ARRAY_SIZE(groups);

	if (getgrouplist(pw->pw_name, pw->pw_gid, groups, &n) < 0)
		return false;
	for (int i = 0; i < n; i++) {
		struct group *g = getgrgid(groups[i]);

		if (g && strcmp(g->gr_name, name) == 0)
			return true;
	}
	return false;
}

/* The process that asked first, or one that waits for the same answer. */
static bool is_his_own(struct parent *p, const struct approval *a, uint32_t uid)
{
	list_each(it, &a->waiters) {
		const struct waiter *w = container_of(it, struct waiter, link);
		const struct psession *s = registry_find(p, &w->session);

		if (s && s->uid == uid)
			return true;
	}
	return a->has_uid && a->agent_uid == uid;
}

/* root, or listed by name or by group; nobody approves what a process of his own asks. */
static bool may_approve(struct parent *p, const struct approval *a, uint32_t uid)
{
	const struct passwd *pw;

	if (uid == 0)
		return true;
	if (is_his_own(p, a, uid))
		return false;
	if (a->napprovers == 0)
		return true;
	pw = getpwuid(uid);
	for (uint32_t i = 0; pw && i < a->napprovers; i++)
		if (strcmp(pw->pw_name, a->approvers[i]) == 0 || in_group(pw, a->approvers[i]))
			return true;
	return false;
}

void who_is(uint32_t uid, char dst[64])
{
	const struct passwd *pw = getpwuid(uid);

	(void)snprintf(dst, 64, "%s (uid %u)", pw ? pw->pw_name : "?", uid);
}

int approval_approve(struct parent *p, struct approval *a, uint32_t uid, uint64_t for_ms,
		     const char *reason)
{
	struct grant *g = NULL;
	uint64_t ms = a->max_ms;
	char by[64];

	if (a->ways[0] || !may_approve(p, a, uid))
		return -EPERM;
	for (uint32_t i = 0; i < a->nby; i++)
		if (a->by[i] == uid)
			return -EALREADY;
	a->by[a->nby++] = uid;
	if (a->nby < a->min)
		return 0;
	who_is(uid, by);
	if (!a->statement) {
		if (for_ms && for_ms < ms)
			ms = for_ms;
		g = grant_given(p, a, by, ms, reason);
		if (!g)
			return -ENOMEM;
	}
	decide(p, a, &(struct decision){.v = INSP_V_ALLOW, .by = by, .request = a->id,
					.detail = reason, .grant = g});
	return 0;
}

int approval_deny(struct parent *p, struct approval *a, uint32_t uid, const char *reason)
{
	char by[64];

	if (a->ways[0] || !may_approve(p, a, uid))
		return -EPERM;
	who_is(uid, by);
	decide(p, a, &(struct decision){.v = INSP_V_DENY, .reason = TG_R_APPROVAL_DENIED, .by = by,
				       .by_hand = true, .request = a->id, .detail = reason});
	return 0;
}

void idp_answer(struct parent *p, struct ipc_msg *m)
{
	uint32_t reason = ipc_get_u32(m);
	uint64_t ttl_ms = ipc_get_u64(m);
	struct slice scope = ipc_get_str(m), subject = ipc_get_str(m), digest = ipc_get_str(m);
	struct slice detail = ipc_get_str(m), evidence = ipc_get_str(m);
	char by[192], why[256];
	struct grant *g = NULL;

	if (!ipc_end(m))
		return;
	(void)snprintf(by, sizeof(by), "idp: %.*s%s%.16s", (int)min_size(subject.n, 100),
		       (const char *)subject.p, digest.n >= 16 ? ", token " : "",
		       digest.n >= 16 ? (const char *)digest.p : "");
	(void)snprintf(why, sizeof(why), "%.*s", (int)detail.n, (const char *)detail.p);
	(void)scope;
	list_each(it, &p->approvals) {
		struct approval *a = container_of(it, struct approval, link);

		if (!a->ways[0] || a->signing || a->idp_id != m->id)
			continue;
		if (!reason && a->unchecked) {
			reason = TG_R_NO_MEMORY;
			(void)snprintf(why, sizeof(why), "there is no room to keep its token for `recheck`");
		}
		if (!reason && !a->statement) {
			g = grant_given(p, a, by, ttl_ms < a->max_ms ? ttl_ms : a->max_ms, "");
			if (!g)
				reason = TG_R_NO_MEMORY;
			else if (a->kept)
				g->kept = a->idp_id;
		}
		if (!g && a->kept)
			glogin_forget(p, a->idp_id);
		if (reason)
			log_warning("identity provider: agent %s, scope %s: %s: %s", a->agent,
				    a->scope, reason_what((uint16_t)reason), why);
		decide(p, a,
		       &(struct decision){.v = reason ? INSP_V_DENY : INSP_V_ALLOW,
					 .reason = (uint16_t)reason, .by = reason ? "idp" : by,
					 .request = a->id, .detail = why, .grant = g,
					 .subject = subject, .token = digest,
					 .evidence = evidence});
		return;
	}
}

static bool says(const json_t *o, const char *name, struct slice want)
{
	const char *s = json_string_value(json_object_get(o, name));

	return s && want.n && slice_eq_str(want, s);
}

/*
 * One of the ways' answers was about this subject, or came out of this session of theirs. An answer
 * that does not tell its session may be of any.
 */
static bool is_about(const struct grant *g, struct slice issuer, struct slice subject,
		     struct slice session)
{
	size_t i;
	json_t *said;

	json_array_foreach(g->evidence, i, said)
	{
		bool known = session.n && json_object_get(said, "sid");

		if (!says(said, "issuer", issuer) && !says(said, "iss", issuer))
			continue;
		if (known ? says(said, "sid", session) : says(said, "sub", subject))
			return true;
	}
	return false;
}

void idp_event(struct parent *p, struct ipc_msg *m)
{
	struct slice kind = ipc_get_str(m), issuer = ipc_get_str(m);
	struct slice subject = ipc_get_str(m), session = ipc_get_str(m);
	char words[256];
	unsigned n = 0;

	if (!ipc_end(m))
		return;
	(void)snprintf(words, sizeof(words), "the identity provider ended it: %.*s", (int)min_size(kind.n, 64),
		       (const char *)kind.p);
	list_each(it, &p->grants) {
		struct grant *g = container_of(it, struct grant, link);

		if (!is_about(g, issuer, subject, session))
			continue;
		(void)grant_end(p, g, TG_R_IDP_REVOKED, words);
		n++;
	}
	log_notice("identity provider: %.*s of %.*s: %u grants end", (int)min_size(kind.n, 64),
		   (const char *)kind.p, (int)min_size(subject.n, 128), (const char *)subject.p, n);
	(void)audit_write(p, AUDIT_SYNC, "idp.event", "{s:s%, s:s%, s:s%, s:i}", "kind",
			  (const char *)kind.p, kind.n, "subject", (const char *)subject.p, subject.n,
			  "session", (const char *)session.p, session.n, "grants", (int)n);
}

void idp_pending(struct parent *p, struct ipc_msg *m)
{
	struct slice words = ipc_get_str(m), code = ipc_get_str(m), uri = ipc_get_str(m);

	if (!ipc_end(m))
		return;
	list_each(it, &p->approvals) {
		struct approval *a = container_of(it, struct approval, link);

		if (!a->ways[0] || a->signing || a->idp_id != m->id)
			continue;
		(void)snprintf(a->asked, sizeof(a->asked), "%.*s", (int)words.n, (const char *)words.p);
		(void)snprintf(a->code, sizeof(a->code), "%.*s", (int)code.n, (const char *)code.p);
		(void)snprintf(a->uri, sizeof(a->uri), "%.*s", (int)uri.n, (const char *)uri.p);
		log_notice("approval %s: agent %s, target %s: %s", a->id, a->agent, a->target, a->asked);
		list_each(wi, &a->waiters) {
			struct waiter *w = container_of(wi, struct waiter, link);

			if (w->worker->ipc)
				tell_pending(w->worker, w->ask, &w->session, a->id, a->asked);
		}
		return;
	}
}

static void deny_unasked(struct parent *p, struct approval *a)
{
	decide(p, a, &(struct decision){.v = INSP_V_DENY, .reason = TG_R_IDP_UNREACHABLE,
					.by = "tidegate", .request = "", .detail = ""});
}

/* Of whoever waits first, and only then: each approval has one. */
static void ask_again(struct parent *p, struct approval *a)
{
	const struct waiter *w = container_of(a->waiters.next, struct waiter, link);
	const struct psession *s = list_empty(&a->waiters) ? NULL : registry_find(p, &w->session);

	if (p->authd.ipc && s)
		approval_ask(p, a, s);
	else
		deny_unasked(p, a);
}

void idp_gone(struct parent *p, struct child *authd)
{
	list_each(it, &p->approvals) {
		struct approval *a = container_of(it, struct approval, link);

		if (!a->ways[0] || a->signing || a->authd != authd)
			continue;
		if (authd->retired)
			ask_again(p, a);
		else
			deny_unasked(p, a);
	}
}

void grants_ask_again(struct parent *p)
{
	list_each(it, &p->approvals) {
		struct approval *a = container_of(it, struct approval, link);

		if (a->ways[0] && !a->signing && !a->authd)
			ask_again(p, a);
	}
}

bool grants_wait_for(struct parent *p, const struct child *authd)
{
	list_each(it, &p->approvals) {
		const struct approval *a = container_of(it, struct approval, link);

		if (a->authd == authd && !a->signing)
			return true;
	}
	return false;
}

void grants_tick(struct parent *p)
{
	uint64_t now = clock_boot_ns();

	rechecks_tick(p, now);
	list_each(it, &p->grants) {
		struct grant *g = container_of(it, struct grant, link);

		if (now >= g->until_boot_ns)
			(void)grant_end(p, g, TG_R_GRANT_EXPIRED, "the granted time is over");
	}
	list_each(it, &p->approvals) {
		struct approval *a = container_of(it, struct approval, link);

		if (a->signing || now < a->until_boot_ns)
			continue;
		cancel_idp(p, a);
		/* Statements in transactions: the worker, which sees the locks, is first. */
		decide(p, a,
			       &(struct decision){.v = INSP_V_DENY,
						 .reason = a->in_transaction ? TG_R_HELD_IN_TRANSACTION
									     : TG_R_APPROVAL_EXPIRED,
						 .by = "tidegate", .request = a->id, .detail = ""});
	}
}
