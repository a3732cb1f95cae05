/* SPDX-License-Identifier: MIT */
/* Commands: what the rules of a view say to one statement. */
#include "policy/rules.h"

#include "base/reason.h"
#include "base/text.h"

/* Accesses whose object is not named but could be any. */
enum { BLIND_EFFECTS = SQL_UNKNOWN | SQL_PROGRAM };

static bool object_matches(const struct rule *r, const struct sql_access *a)
{
	if (r->any_object)
		return true;
	if (a->name.n == 0)
		return r->what != RULE_ALLOW && (a->effect & BLIND_EFFECTS);
	if (!text_glob(r->name, a->name))
		return false;
	if (r->any_schema)
		return true;
	if (a->schema.n == 0)
		return r->what != RULE_ALLOW;
	return text_glob(r->schema, a->schema);
}

static bool text_matches(const struct policy *p, const struct rule *r)
{
	return r->text_id == NO_TEXT || (p->matched[r->text_id / 64] >> (r->text_id % 64) & 1);
}

/* Code may have any effect: what is not allowed by itself is not allowed to it either. */
static bool concerns(const struct rule *r, uint32_t effect)
{
	return (r->effects & effect) || (r->what != RULE_ALLOW && (effect & BLIND_EFFECTS));
}

/*
 * The first of an entry's rules that matches, or NULL. For an access that may have any effect the
 * strictest of those that deny or ask on the way to it.
 */
static const struct rule *first_rule(const struct policy *p, const struct entry *e,
				     const struct sql_access *a)
{
	const struct rule *strictest = NULL;

	for (uint32_t i = 0; i < e->nrules; i++) {
		const struct rule *r = &e->rules[i];

		if (!concerns(r, a->effect) || !object_matches(r, a) || !text_matches(p, r))
			continue;
		if (!strictest || r->what > strictest->what)
			strictest = r;
		if (r->effects & a->effect)
			break;
	}
	return strictest;
}

/*
 * Orders verdicts: first by what really happens (an observing entry lets through),
 * then by what the rule says, then by how many people it asks, then by whether it asks elsewhere
 * than here. No rule is a denial.
 */
static uint64_t strictness(const struct effect_verdict *e)
{
	uint64_t what = e->rule ? e->rule->what : RULE_DENY;
	bool asks = e->rule && what == RULE_APPROVE;
	uint64_t people = asks ? e->rule->min_approvals : 0;
	uint64_t elsewhere = asks && e->rule->way[0];

	return (e->observe ? 0 : what) << 48 | what << 40 | people << 1 | elsewhere;
}

/* What the entries say together to one access. */
static struct effect_verdict judge(const struct policy_view *v, const struct sql_access *a)
{
	struct effect_verdict enforced = {0}, observed = {0};

	for (uint32_t i = 0; i < v->nentries; i++) {
		const struct entry *e = v->entries[i];
		struct effect_verdict of = {.rule = first_rule(v->policy, e, a),
					    .observe = e->observe};
		struct effect_verdict *best = e->observe ? &observed : &enforced;

		/* One that is not known to apply allows nothing. */
		if (of.rule && v->perhaps[i] && of.rule->what == RULE_ALLOW)
			continue;
		if (of.rule && (!best->rule || strictness(&of) > strictness(best)))
			*best = of;
	}
	if (!enforced.rule && !observed.rule)
		return (struct effect_verdict){.observe = v->all_observe};
	if (!enforced.rule) {
		observed.observe = !v->enforcing;
		return observed;
	}
	return observed.rule && strictness(&observed) > strictness(&enforced) ? observed : enforced;
}

/* True if rules that could match @effect look at nothing but effects. */
static bool is_plain(const struct policy_view *v, uint32_t effect)
{
	for (uint32_t i = 0; i < v->nentries; i++) {
		const struct entry *e = v->entries[i];

		for (uint32_t k = 0; k < e->nrules; k++) {
			if (!concerns(&e->rules[k], effect))
				continue;
			if (!e->rules[k].any_object || e->rules[k].text_id != NO_TEXT)
				return false;
			if (e->rules[k].effects & effect)
				break; /* it decides; what follows is not reached */
		}
	}
	return true;
}

void rules_prepare(struct policy_view *v)
{
	for (uint32_t i = 0; i < v->nentries; i++) {
		const struct entry *e = v->entries[i];

		v->enforcing |= !e->observe && e->nrules > 0;
		for (uint32_t k = 0; k < e->nrules; k++)
			v->uses_text |= e->rules[k].text_id != NO_TEXT;
	}
	for (unsigned bit = 0; bit < SQL_EFFECT_COUNT; bit++) {
		struct sql_access a = {.effect = (uint16_t)(1u << bit)};

		v->effects[bit].plain = is_plain(v, a.effect);
		if (v->effects[bit].plain) {
			v->effects[bit] = judge(v, &a);
			v->effects[bit].plain = true;
		}
	}
}

/* Marks which text patterns match; what cannot be scanned matches those that deny or ask. */
static void match_texts(const struct policy_view *v, struct slice text)
{
	struct policy *p = v->policy;

	memset(p->matched, 0, (p->ntexts + 63) / 64 * sizeof(p->matched[0]));
	if (patterns_which(p->texts, &p->scratch, text, p->matched) == 0)
		return;
	for (uint32_t i = 0; i < p->nentries; i++)
		for (uint32_t k = 0; k < p->entries[i].nrules; k++) {
			const struct rule *r = &p->entries[i].rules[k];

			if (r->text_id == NO_TEXT)
				continue;
			if (r->what == RULE_ALLOW)
				p->matched[r->text_id / 64] &= ~(1ull << (r->text_id % 64));
			else
				p->matched[r->text_id / 64] |= 1ull << (r->text_id % 64);
		}
}

struct verdict {
	struct effect_verdict of;
	bool set;
	enum sql_effect_bit effect;
	struct slice object;
};

/* Of two as strict ones the first is told. */
static void consider(struct verdict *best, struct effect_verdict of, unsigned bit,
		     struct slice object)
{
	if (!best->set || strictness(&of) > strictness(&best->of))
		*best = (struct verdict){.of = of, .set = true, .effect = bit, .object = object};
}

static void judge_all(const struct policy_view *v, const struct sql_info *info,
		      struct verdict *best)
{
	uint32_t left = info->effects & ALL_EFFECTS;

	for (uint32_t i = 0; i < info->naccess; i++) {
		const struct sql_access *a = &info->access[i];
		unsigned bit = (unsigned)__builtin_ctz(a->effect | 1u << SQL_EFFECT_COUNT);

		if (bit >= SQL_EFFECT_COUNT)
			continue;
		left &= ~(1u << bit);
		consider(best, v->effects[bit].plain ? v->effects[bit] : judge(v, a), bit, a->name);
	}
	for (; left; left &= left - 1) {
		unsigned bit = (unsigned)__builtin_ctz(left);
		struct sql_access a = {.effect = (uint16_t)(1u << bit)};

		consider(best, v->effects[bit].plain ? v->effects[bit] : judge(v, &a), bit, a.name);
	}
}

/* The object of the access with this effect, for the message. */
static struct slice object_of(const struct sql_info *info, unsigned bit)
{
	for (uint32_t i = 0; i < info->naccess; i++)
		if (info->access[i].effect == 1u << bit)
			return info->access[i].name;
	return (struct slice){0};
}

/* Without looking at the accesses; false if some effect's rules want to see them. */
static bool judge_plain(const struct policy_view *v, const struct sql_info *info,
			struct verdict *best)
{
	for (uint32_t left = info->effects & ALL_EFFECTS; left; left &= left - 1) {
		unsigned bit = (unsigned)__builtin_ctz(left);

		if (!v->effects[bit].plain)
			return false;
		consider(best, v->effects[bit], bit, (struct slice){0});
	}
	if (best->set && best->of.rule && best->of.rule->what == RULE_ALLOW)
		return true;
	best->object = object_of(info, best->effect);
	return true;
}

void policy_command(const struct policy_view *v, const struct sql_info *info, struct slice text,
		    struct command_decision *ret)
{
	struct verdict best = {0};
	const struct rule *r;

	*ret = (struct command_decision){.what = RULE_DENY, .reason = TG_R_NO_RULE, .way = ""};
	if (v->uses_text)
		match_texts(v, text);
	if (!judge_plain(v, info, &best)) {
		best = (struct verdict){0};
		judge_all(v, info, &best);
	}
	if (!best.set) { /* no effects at all */
		ret->what = v->access.allowed ? RULE_ALLOW : RULE_DENY;
		ret->reason = v->access.reason;
		ret->rule = v->access.allowed ? "nothing to decide" : v->access.rule;
		return;
	}
	r = best.of.rule;
	ret->effect = best.effect;
	ret->object = best.object;
	ret->observe = best.of.observe;
	ret->rule = r ? r->label : "no command of policy: matches";
	if (r) {
		ret->what = r->what;
		ret->reason = r->what == RULE_DENY ? TG_R_RULE_DENY : TG_R_NONE;
		ret->way = r->way;
		ret->approvers = r->approvers;
		ret->napprovers = r->napprovers;
		ret->min_approvals = r->min_approvals;
		ret->hold_ms = r->hold_ms;
		ret->hold_tx_ms = r->hold_tx_ms;
	}
	if (ret->what == RULE_DENY && best.effect == SQL_BIT_UNKNOWN)
		ret->reason = info->why ? info->why : TG_R_SQL_UNPARSED;
}

size_t policy_explain(const struct command_decision *d, char *dst, size_t cap)
{
	static const char *const did[] = {[RULE_ALLOW] = "allowed",
					  [RULE_APPROVE] = "waits for approval",
					  [RULE_DENY] = "denied"};
	static const char *const effects[] = {
#define X(name, text, what) text,
		SQL_EFFECTS(X)
#undef X
	};
	char object[160];
	int n;

	(void)text_escape(d->object, object, sizeof(object));
	n = snprintf(dst, cap, "%s%s: %s%s%s, by %s", d->observe ? "(observed only) " : "",
		     did[d->what], effects[d->effect], object[0] ? " on " : "", object, d->rule);
	return n < 0 ? 0 : min_size((size_t)n, cap ? cap - 1 : 0);
}
