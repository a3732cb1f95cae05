/* SPDX-License-Identifier: MIT */
/* Grants and approvals as the control socket tells them. */
#include "base/text.h"
#include "daemon/grants.h"
#include "daemon/recheck.h"
#include "daemon/registry.h"
#include "daemon/roles.h"

json_t *grant_json(struct parent *p, const struct grant *g)
{
	const struct prole *r = roles_of(p, g->id);
	struct psession *s, *tmp;
	uint32_t n = 0;

	HASH_ITER(hh, p->sessions, s, tmp)
		n += strcmp(s->grant, g->id) == 0;
	return json_pack("{s:s, s:s, s:s, s:o, s:o, s:s, s:s, s:s, s:o, s:o, s:i, s:o, s:o, s:o}", "id", g->id,
			 "agent", g->agent, "target", g->target, "user", text_json(g->user),
			 "database", text_json(g->database), "scope", g->scope, "via", g->via, "by",
			 g->by, "since", time_json(g->since_wall_ns), "until",
			 time_json(g->until_wall_ns), "sessions", (int)n, "reason",
			 text_json(g->reason), "rechecks", rechecks_json(&g->rechecks), "role",
			 text_json(r ? r->name : NULL));
}

json_t *approval_json(const struct approval *a)
{
	json_t *approvers = json_array(), *by = json_array();
	char session[UUID_TEXT] = "", digest[65] = "";

	if (a->statement)
		text_hex(a->digest, sizeof(a->digest), digest);
	for (uint32_t i = 0; i < a->napprovers; i++)
		(void)json_array_append_new(approvers, json_string(a->approvers[i]));
	for (uint32_t i = 0; i < a->nby; i++) {
		char who[64];

		who_is(a->by[i], who);
		(void)json_array_append_new(by, json_string(who));
	}
	if (!list_empty(&a->waiters))
		uuid_format(&container_of(a->waiters.next, struct waiter, link)->session, session);
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:o, s:o, s:o, s:s, s:o, s:i, s:o, "
			 "s:o, s:o, s:b, s:o, s:o, s:o, s:o}",
			 "id", a->id, "kind", a->statement ? "statement" : "access", "agent",
			 a->agent, "target", a->target, "user", a->user, "database", a->database,
			 "session", session, "text", text_json(a->text), "digest",
			 text_json(digest), "effect", text_json(a->effect), "rule", a->rule,
			 "approvers", approvers, "min_approvals", (int)a->min, "approved_by", by,
			 "since", time_json(a->since_wall_ns), "until",
			 time_json(a->until_wall_ns), "in_transaction", a->in_transaction, "ways",
			 text_json(a->ways), "asked", text_json(a->asked), "code",
			 text_json(a->code), "uri", text_json(a->uri));
}
