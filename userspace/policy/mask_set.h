/* SPDX-License-Identifier: MIT */
/* Inside policy/: the mask rules that apply to one agent on one target. */
#ifndef TIDEGATE_POLICY_MASK_SET_H
#define TIDEGATE_POLICY_MASK_SET_H

#include "policy/patterns.h"
#include "policy/policy.h"

struct mask_rule {
	struct slice schema, table, column; /* column empty: by detector; schema empty: any */
	uint32_t detectors;
	const struct slice *patterns;
	uint32_t npatterns;
	enum mask_how how;
	const char *label;
};

struct mask_set {
	const struct mask_rule **rules;
	uint32_t nrules;
	uint32_t ncolumns; /* column rules among them */
	uint32_t detectors;
	uint8_t found_how[DETECTOR_COUNT]; /* enum mask_how by detector */
	uint16_t found_rule[DETECTOR_COUNT];
	struct patterns *patterns; /* NULL if no rule has any */
	char **queries;		   /* for the catalog; NULL without column rules */
	uint64_t rules_hash[2];	   /* of the queries: a snapshot is of these rules or of others */
};

/* Rules of several entries; @rules is taken over, also on failure. */
MUST_CHECK int mask_set_new(const struct mask_rule **rules, uint32_t n, struct mask_set **ret);
void mask_set_free(struct mask_set *m);

/* How much less of a value is left: a higher rank replaces a lower. */
static inline unsigned mask_rank(enum mask_how how)
{
	static const uint8_t rank[] = {[MASK_NONE] = 0,
				       [MASK_LAST4] = 1,
				       [MASK_HASH] = 2,
				       [MASK_REDACT] = 3,
				       [MASK_NULL] = 4};

	return (unsigned)how < ARRAY_SIZE(rank) ? rank[how] : 0;
}

/* "*" or the name itself. */
static inline bool mask_name_matches(struct slice pattern, struct slice name)
{
	return (pattern.n == 1 && pattern.p[0] == '*') || slice_eq(pattern, name);
}

#endif
