/* SPDX-License-Identifier: MIT */
/*
 * What of a target's catalog the column masks need: a snapshot, made from
 * query results by the daemon, read here. Pure data.
 */
#ifndef TIDEGATE_POLICY_CATALOG_H
#define TIDEGATE_POLICY_CATALOG_H

#include "base/compiler.h"
#include "inspect/inspect.h"
#include "policy/policy.h"

struct catalog;

/*
 * The queries to send, in order; each result is given to catalog_row(). They
 * select only what can concern the rules, with the rules' names as text that is quoted
 * by the function. Valid for the life of the mask set.
 */
enum { CATALOG_QUERIES = 5 };
const char *catalog_query(const struct mask_set *m, unsigned i);

MUST_CHECK int catalog_new(const struct mask_set *m, struct catalog **ret);
/* One row of the result of query @i, in text format; a NULL value has p == NULL. */
MUST_CHECK int catalog_row(struct catalog *c, unsigned i, const struct slice *values, unsigned n);
/* All rows are in: sorts, closes over views and inheritance. */
MUST_CHECK int catalog_seal(struct catalog *c);
void catalog_free(struct catalog *c);

/* Highest OID seen; a column whose table is not known and whose OID is above is new. */
uint32_t catalog_max_oid(const struct catalog *c);

/*
 * Plans for the columns of a result (see insp_host.columns). @c NULL: nothing
 * is resolvable; then with column rules every column that could be one is masked.
 * *ret_stale: a table was met that the snapshot does not know; the
 * caller may load a new one and ask again (once).
 */
void mask_plan(const struct mask_set *m, const struct catalog *c, const struct sql_info *info,
	       bool tainted, const struct insp_column *cols, uint32_t n, struct insp_plan *plans,
	       bool *ret_texts, bool *ret_stale);

/* The statement names, or may reach, a masked column. @c as above. */
bool mask_tainted(const struct mask_set *m, const struct catalog *c, const struct sql_info *info);

#endif
