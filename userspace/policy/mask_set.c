/* SPDX-License-Identifier: MIT */
#include "policy/mask_set.h"

#include <errno.h>
#include <xxhash.h>

#include "policy/catalog.h"
#include "policy/catalog_sql.h"

static int compile_patterns(struct mask_set *m)
{
	struct slice *all;
	uint32_t n = 0, bad;
	char why[256];
	int rc;

	for (uint32_t i = 0; i < m->nrules; i++)
		n += m->rules[i]->npatterns;
	if (n == 0)
		return 0;
	all = calloc(n, sizeof(*all));
	if (!all)
		return -ENOMEM;
	n = 0;
	for (uint32_t i = 0; i < m->nrules; i++)
		for (uint32_t k = 0; k < m->rules[i]->npatterns; k++)
			all[n++] = m->rules[i]->patterns[k];
	rc = patterns_new(all, n, PATTERNS_WHERE, &m->patterns, &bad, why, sizeof(why));
	free(all);
	return rc;
}

static void add_detectors(struct mask_set *m, uint16_t index)
{
	const struct mask_rule *r = m->rules[index];

	m->detectors |= r->detectors;
	for (unsigned bit = 0; bit < DETECTOR_COUNT; bit++) {
		if (!(r->detectors >> bit & 1) || mask_rank(r->how) <= mask_rank(m->found_how[bit]))
			continue;
		m->found_how[bit] = (uint8_t)r->how;
		m->found_rule[bit] = index;
	}
}

static void hash_rules(struct mask_set *m)
{
	const char *text = m->queries ? m->queries[CATALOG_Q_COLUMNS] : "";
	XXH128_hash_t h = XXH3_128bits(text, strlen(text));

	m->rules_hash[0] = h.low64;
	m->rules_hash[1] = h.high64;
}

int mask_set_new(const struct mask_rule **rules, uint32_t n, struct mask_set **ret)
{
	struct mask_set *m = calloc(1, sizeof(*m));
	int rc;

	if (!m || n > UINT16_MAX) {
		free(rules);
		free(m);
		return m ? -EINVAL : -ENOMEM;
	}
	m->rules = rules;
	m->nrules = n;
	for (uint32_t i = 0; i < n; i++) {
		if (rules[i]->column.n)
			m->ncolumns++;
		else
			add_detectors(m, (uint16_t)i);
	}
	rc = compile_patterns(m);
	if (!rc && m->ncolumns)
		rc = catalog_sql_make(m, &m->queries);
	if (rc) {
		mask_set_free(m);
		return rc;
	}
	hash_rules(m);
	*ret = m;
	return 0;
}

void mask_set_free(struct mask_set *m)
{
	if (!m)
		return;
	patterns_free(m->patterns);
	catalog_sql_free(m->queries);
	free(m->rules);
	free(m);
}

bool mask_set_empty(const struct mask_set *m)
{
	return m->nrules == 0;
}

bool mask_set_needs_catalog(const struct mask_set *m)
{
	return m->ncolumns > 0;
}

const char *mask_set_rule(const struct mask_set *m, uint16_t rule)
{
	return rule < m->nrules ? m->rules[rule]->label : "";
}

const char *mask_set_found(const struct mask_set *m, unsigned bit, int *ret_how)
{
	bool known = bit < DETECTOR_COUNT && m->detectors >> bit & 1;

	*ret_how = known ? m->found_how[bit] : MASK_NONE;
	return known ? mask_set_rule(m, m->found_rule[bit]) : "";
}
