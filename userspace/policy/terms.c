/* SPDX-License-Identifier: MIT */
/* Terms: whether an entry of the policy applies to who asks, by what is known of him. */
#include "base/text.h"
#include "policy/rules.h"

static bool is_glob(enum fact_kind kind)
{
	return kind == FACT_EXE || kind == FACT_CONTAINER || kind == FACT_IMAGE || kind == FACT_SUB;
}

static bool fact_matches(const struct term *t, const struct policy_fact *f)
{
	if (f->kind != t->kind || (t->kind == FACT_CLAIM && !slice_eq(f->name, t->name)))
		return false;
	for (uint32_t i = 0; i < t->nvalues; i++)
		if (is_glob(t->kind) ? text_glob(t->values[i], f->value)
				     : slice_eq(t->values[i], f->value))
			return true;
	return false;
}

static enum applies term_holds(const struct term *t, const struct policy_facts *facts)
{
	bool listed = false;

	if (!facts || !(facts->known & 1u << t->kind))
		return APPLIES_PERHAPS;
	for (uint32_t i = 0; i < facts->n; i++) {
		if (fact_matches(t, &facts->list[i]))
			return APPLIES;
		listed |= facts->list[i].kind == t->kind && slice_eq(facts->list[i].name, t->name);
	}
	return t->kind == FACT_CLAIM && facts->some_claims && !listed ? APPLIES_PERHAPS
								       : APPLIES_NOT;
}

enum applies terms_hold(const struct entry *e, const struct policy_facts *facts, uint32_t *unknown)
{
	enum applies all = APPLIES;
	uint32_t missing = 0;

	for (uint32_t i = 0; i < e->nterms; i++) {
		enum applies one = term_holds(&e->terms[i], facts);

		if (one == APPLIES_NOT)
			return APPLIES_NOT;
		if (one == APPLIES_PERHAPS)
			missing |= 1u << e->terms[i].kind;
		all = one < all ? one : all;
	}
	*unknown |= missing;
	return all;
}

static bool is_in(struct slice claim, struct slice name)
{
	return claim.n >= name.n && slice_eq(slice_of(claim.p, name.n), name) &&
	       (claim.n == name.n || claim.p[name.n] == '/');
}

bool policy_wants_claim(const struct policy *p, struct slice name)
{
	for (uint32_t i = 0; i < p->nentries; i++)
		for (uint32_t k = 0; k < p->entries[i].nterms; k++)
			if (p->entries[i].terms[k].kind == FACT_CLAIM &&
			    is_in(p->entries[i].terms[k].name, name))
				return true;
	return false;
}

bool policy_view_is_for(const struct policy_view *v, const struct policy_facts *facts)
{
	uint32_t unknown = 0;

	for (uint32_t i = 0; i < v->nconditional; i++)
		if (terms_hold(v->conditional[i], facts, &unknown) != v->applies[i])
			return false;
	return true;
}
