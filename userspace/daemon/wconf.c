/* SPDX-License-Identifier: MIT */
/* A configuration as a worker uses it: its views by agent, target and what is known of the agent. */
#include "daemon/who.h"
#include "daemon/trust.h"
#include "daemon/worker.h"

struct wconf *wconf_ref(struct wconf *c)
{
	c->refs++;
	return c;
}

void wconf_unref(struct wconf *c)
{
	if (!c || --c->refs)
		return;
	list_each(it, &c->views) {
		struct wview *v = container_of(it, struct wview, link);

		policy_view_free(v->view);
		free(v->agent);
		free(v);
	}
	config_free(c->cfg);
	trust_free(c->trust);
	free(c);
}

static struct wview *view_new(struct wconf *c, struct slice agent, const struct cfg_target *target,
			      const struct policy_facts *facts)
{
	struct wview *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	v->conf = c;
	v->target = target;
	v->agent = strndup((const char *)agent.p, agent.n);
	if (!v->agent || policy_view_for(c->cfg->policy, agent, slice_str(target->name), facts,
					 &v->view)) {
		free(v->agent);
		free(v);
		return NULL;
	}
	list_add_tail(&c->views, &v->link);
	return v;
}

/* @facts NULL: no entry looks at them. */
static struct wview *view_find(struct wconf *c, struct slice agent, const struct cfg_target *target,
			       const struct policy_facts *facts)
{
	list_each(it, &c->views) {
		struct wview *v = container_of(it, struct wview, link);

		if (v->target == target && slice_eq_str(agent, v->agent) &&
		    (!facts || policy_view_is_for(v->view, facts)))
			return v;
	}
	return NULL;
}

struct wview *wconf_view(struct wconf *c, struct slice agent, const struct cfg_target *target,
			 const char *facts, bool older)
{
	struct wview *v = view_find(c, agent, target, NULL);
	struct who *who;

	if (v && !v->by_facts)
		return v;
	if (!v && !policy_terms(c->cfg->policy, agent, slice_str(target->name)))
		return view_new(c, agent, target, NULL);
	who = malloc(sizeof(*who));
	if (!who)
		return NULL;
	who_init(who, facts);
	who->facts.some_claims = older;
	v = view_find(c, agent, target, &who->facts);
	if (!v)
		v = view_new(c, agent, target, &who->facts);
	if (v)
		v->by_facts = true;
	who_done(who);
	free(who);
	return v;
}
