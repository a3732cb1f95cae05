/* SPDX-License-Identifier: MIT */
/* Views: which entries apply to an agent on a target, and what they say together. */
#include "policy/policy.h"

#include <errno.h>

#include "base/reason.h"
#include "base/text.h"
#include "policy/rules.h"

struct policy *policy_ref(struct policy *p)
{
	p->refs++;
	return p;
}

void policy_unref(struct policy *p)
{
	struct kept_masks *k, *next;

	if (!p || --p->refs > 0)
		return;
	for (k = p->masks; k; k = next) {
		next = k->next;
		mask_set_free(k->set);
		free(k);
	}
	patterns_free(p->texts);
	patterns_scratch_free(p->scratch);
	free(p->matched);
	arena_done(&p->arena);
	free(p);
}

const char *policy_digest(const struct policy *p)
{
	return p->digest;
}

static bool any_glob(const char *const *globs, uint32_t n, struct slice s)
{
	for (uint32_t i = 0; i < n; i++)
		if (text_glob(slice_str(globs[i]), s))
			return true;
	return false;
}

static bool entry_applies(const struct entry *e, struct slice agent, struct slice target)
{
	return any_glob(e->agents, e->nagents, agent) && any_glob(e->targets, e->ntargets, target);
}

static bool list_has(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = list; (at = strstr(at, word)); at += n)
		if ((at == list || at[-1] == ' ') && (at[n] == 0 || at[n] == ' '))
			return true;
	return false;
}

typedef const char *entry_word(const struct entry *e);

static const char *scope_of(const struct entry *e)
{
	return e->scope;
}

static const char *way_of(const struct entry *e)
{
	return e->way;
}

/* What all entries that ask a provider say, each once, with spaces between (RFC 6749 3.3). */
static char *join(const struct policy_view *v, entry_word *word)
{
	size_t room = 1;
	char *list;

	for (uint32_t i = 0; i < v->nentries; i++)
		if (v->entries[i]->via == ACCESS_IDP)
			room += strlen(word(v->entries[i])) + 1;
	list = calloc(1, room);
	for (uint32_t i = 0; list && i < v->nentries; i++) {
		const char *w = word(v->entries[i]);
		size_t used = strlen(list);

		if (v->entries[i]->via != ACCESS_IDP || !w[0] || list_has(list, w))
			continue;
		(void)snprintf(list + used, room - used, "%s%s", used ? " " : "", w);
	}
	return list;
}

/* Why nobody is let in: what is not known of him, if that would help. */
static uint16_t why_not(uint32_t unknown)
{
	if (!unknown)
		return TG_R_NO_RULE;
	return unknown & FACTS_OF_TOKEN ? TG_R_NO_TOKEN : TG_R_FACTS_UNKNOWN;
}

/* The strictest way decides who approves; times are the shortest of all. */
static int merge_access(struct policy_view *v, uint32_t unknown)
{
	struct access_decision *a = &v->access;

	v->scopes = join(v, scope_of);
	v->ways = join(v, way_of);
	if (!v->scopes || !v->ways)
		return -ENOMEM;
	a->rule = v->nentries ? "no entry of policy: is known to match" : "no entry of policy: matches";
	a->scope = v->scopes;
	a->ways = v->ways;
	a->observe = true;
	for (uint32_t i = 0; i < v->nentries; i++)
		a->allowed |= !v->perhaps[i];
	a->reason = a->allowed ? TG_R_NONE : why_not(unknown);
	for (uint32_t i = 0; a->allowed && i < v->nentries; i++) {
		const struct entry *e = v->entries[i];

		if (i == 0 || e->max_ms < a->max_ms)
			a->max_ms = e->max_ms;
		if (i == 0 || e->hold_ms < a->hold_ms)
			a->hold_ms = e->hold_ms;
		if (i == 0 || e->grace_ms < a->grace_ms)
			a->grace_ms = e->grace_ms;
		if (i == 0 || e->via > a->via ||
		    (e->via == a->via && e->min_approvals > a->min_approvals)) {
			a->via = e->via;
			a->approvers = e->approvers;
			a->napprovers = e->napprovers;
			a->min_approvals = e->min_approvals;
			a->rule = e->label;
		}
		a->observe &= e->observe;
	}
	a->observe &= a->allowed;
	v->all_observe = a->observe;
	return 0;
}

static const struct kept_masks *find_masks(const struct policy_view *v)
{
	for (const struct kept_masks *k = v->policy->masks; k; k = k->next)
		if (k->nentries == v->nentries &&
		    memcmp(k->entries, v->entries, v->nentries * sizeof(v->entries[0])) == 0)
			return k;
	return NULL;
}

static int make_masks(struct policy_view *v, struct mask_set **ret)
{
	const struct mask_rule **rules;
	uint32_t n = 0;

	for (uint32_t i = 0; i < v->nentries; i++)
		n += v->entries[i]->nmasks;
	rules = calloc(n ? n : 1, sizeof(struct mask_rule *));
	if (!rules)
		return -ENOMEM;
	n = 0;
	for (uint32_t i = 0; i < v->nentries; i++)
		for (uint32_t k = 0; k < v->entries[i]->nmasks; k++)
			rules[n++] = &v->entries[i]->masks[k];
	return mask_set_new(rules, n, ret);
}

static int attach_masks(struct policy_view *v)
{
	const struct kept_masks *known = find_masks(v);
	struct kept_masks *k;
	int rc;

	if (known) {
		v->masks = known->set;
		return 0;
	}
	k = calloc(1, sizeof(*k) + v->nentries * sizeof(k->entries[0]));
	if (!k)
		return -ENOMEM;
	rc = make_masks(v, &k->set);
	if (rc) {
		free(k);
		return rc;
	}
	k->nentries = v->nentries;
	if (v->nentries)
		memcpy(k->entries, v->entries, v->nentries * sizeof(k->entries[0]));
	k->next = v->policy->masks;
	v->policy->masks = k;
	v->masks = k->set;
	return 0;
}

uint32_t policy_terms(const struct policy *p, struct slice agent, struct slice target)
{
	uint32_t kinds = 0;

	for (uint32_t i = 0; i < p->nentries; i++) {
		const struct entry *e = &p->entries[i];

		for (uint32_t k = 0; k < e->nterms && entry_applies(e, agent, target); k++)
			kinds |= 1u << e->terms[k].kind;
	}
	return kinds;
}

bool policy_asks_always(const struct policy *p, struct slice agent, struct slice target)
{
	for (uint32_t i = 0; i < p->nentries; i++) {
		const struct entry *e = &p->entries[i];

		if (entry_applies(e, agent, target) && (e->via == ACCESS_NONE || e->observe))
			return false;
	}
	return true;
}

/* Takes the entry into the view as far as it applies. */
static void consider_entry(struct policy_view *v, const struct entry *e,
			   const struct policy_facts *facts, uint32_t *unknown)
{
	enum applies how = terms_hold(e, facts, unknown);

	if (e->nterms) {
		v->conditional[v->nconditional] = e;
		v->applies[v->nconditional++] = (uint8_t)how;
	}
	if (how == APPLIES_NOT)
		return;
	v->perhaps[v->nentries] = how == APPLIES_PERHAPS;
	v->entries[v->nentries++] = e;
}

int policy_view_for(struct policy *p, struct slice agent, struct slice target,
		    const struct policy_facts *facts, struct policy_view **ret)
{
	struct policy_view *v = calloc(1, sizeof(*v));
	size_t room = p->nentries ? p->nentries : 1;
	uint32_t unknown = 0;
	int rc = -ENOMEM;

	if (!v)
		return -ENOMEM;
	v->policy = policy_ref(p);
	v->entries = calloc(room, sizeof(struct entry *));
	v->perhaps = calloc(room, sizeof(*v->perhaps));
	v->conditional = calloc(room, sizeof(struct entry *));
	v->applies = calloc(room, sizeof(*v->applies));
	if (!v->entries || !v->perhaps || !v->conditional || !v->applies)
		goto fail;
	for (uint32_t i = 0; i < p->nentries; i++)
		if (entry_applies(&p->entries[i], agent, target))
			consider_entry(v, &p->entries[i], facts, &unknown);
	rc = merge_access(v, unknown);
	if (!rc)
		rc = attach_masks(v);
	if (rc)
		goto fail;
	rules_prepare(v);
	*ret = v;
	return 0;
fail:
	policy_view_free(v);
	return rc;
}

void policy_view_free(struct policy_view *v)
{
	if (!v)
		return;
	free(v->entries);
	free(v->perhaps);
	free(v->conditional);
	free(v->applies);
	free(v->scopes);
	free(v->ways);
	policy_unref(v->policy);
	free(v);
}

void policy_access(const struct policy_view *v, struct access_decision *ret)
{
	*ret = v->access;
}

const struct mask_set *policy_masks(const struct policy_view *v)
{
	return v->masks;
}
