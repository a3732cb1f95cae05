/* SPDX-License-Identifier: MIT */
/* Inside policy/: what a policy is made of. Built once, then only read. */
#ifndef TIDEGATE_POLICY_RULES_H
#define TIDEGATE_POLICY_RULES_H

#include "base/arena.h"
#include "policy/mask_set.h"
#include "policy/patterns.h"
#include "policy/policy.h"

enum { ALL_EFFECTS = (1u << SQL_EFFECT_COUNT) - 1, NO_TEXT = UINT32_MAX };

struct rule {
	uint32_t effects;
	bool any_object;
	bool any_schema;	   /* no schema part, or one of `*` */
	struct slice schema, name; /* globs */
	uint32_t text_id;	   /* in policy.texts, or NO_TEXT */
	enum rule_do what;
	const char *way; /* "": people here */
	const char *const *approvers;
	uint32_t napprovers, min_approvals;
	uint64_t hold_ms, hold_tx_ms;
	const char *label;
};

struct term {
	enum fact_kind kind;
	struct slice name;
	const struct slice *values;
	uint32_t nvalues;
};

/* Whether an entry applies to somebody. */
enum applies { APPLIES_NOT, APPLIES_PERHAPS, APPLIES };

struct entry {
	const char *const *agents, *const *targets;
	uint32_t nagents, ntargets;
	const struct term *terms;
	uint32_t nterms;
	enum access_via via;
	const char *way, *scope;
	uint64_t max_ms, hold_ms, grace_ms;
	const char *const *approvers;
	uint32_t napprovers, min_approvals;
	const struct rule *rules;
	uint32_t nrules;
	const struct mask_rule *masks;
	uint32_t nmasks;
	bool observe;
	const char *label; /* "policy[0].access (tidegate.yaml:17)" */
};

struct policy {
	uint32_t refs;
	struct arena arena;
	const struct entry *entries;
	uint32_t nentries;
	uint32_t ntexts;
	struct patterns *texts; /* all text patterns of rules, NULL if none */
	struct patterns_scratch *scratch;
	uint64_t *matched; /* bit per text pattern: of the text being judged */
	/* By combination of entries: patterns are compiled once, not for each session. */
	struct kept_masks *masks;
	char digest[65];
};

struct kept_masks {
	struct kept_masks *next;
	struct mask_set *set;
	uint32_t nentries;
	const struct entry *entries[];
};

/* What one effect comes to if no rule that could match it looks at objects or text. */
struct effect_verdict {
	bool plain;
	const struct rule *rule; /* NULL: none matches */
	bool observe;
};

struct policy_view {
	struct policy *policy;
	const struct entry **entries;
	bool *perhaps; /* of each: it is not known to apply */
	uint32_t nentries;
	/* Those with terms, whether or not they apply, and whether they do. */
	const struct entry **conditional;
	uint8_t *applies;
	uint32_t nconditional;
	bool uses_text;
	bool enforcing;	  /* an entry that does not only observe has commands */
	bool all_observe; /* every entry only observes */
	struct access_decision access;
	char *scopes, *ways; /* joined for access */
	struct effect_verdict effects[SQL_EFFECT_COUNT];
	const struct mask_set *masks; /* of the policy */
};

/* What is not known is added to *unknown. */
enum applies terms_hold(const struct entry *e, const struct policy_facts *facts, uint32_t *unknown);

/* Fills v->effects. */
void rules_prepare(struct policy_view *v);

#endif
