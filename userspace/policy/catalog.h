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
 * The queries to send, each a text of one statement for PostgreSQL 12 or newer, in this
 * order on one connection of our own (the first changes its settings); each result is given to
 * catalog_row(). Any login will do that may read pg_catalog. They select only what can
 * concern the column rules. Valid for the life of the mask set; NULL if it has no
 * column rules (mask_set_needs_catalog()).
 */
enum catalog_query_id {
	CATALOG_Q_MISC,	      /* settings; highest OID; operators and casts that run users' code */
	CATALOG_Q_COLUMNS,    /* the columns that the rules name, with those of parents, children
				 and columns generated from them */
	CATALOG_Q_VIEWS,      /* what depends on their tables, or runs code of users */
	CATALOG_Q_ATTRIBUTES, /* all columns of both */
	CATALOG_Q_FUNCTIONS,  /* functions that are not built in */
	CATALOG_Q_NAMES,      /* names of all relations: what is not there is new */
	CATALOG_QUERIES,
};
const char *catalog_query(const struct mask_set *m, unsigned i);

/*
 * A snapshot belongs to one database and to one set of column rules: it is no good for
 * another mask set unless that has the same column rules at the same places (mask_plan()
 * then takes it as if there were none). It does not change by itself: after DDL, and
 * from time to time, load another.
 */
MUST_CHECK int catalog_new(const struct mask_set *m, struct catalog **ret);
/* One row of the result of query @i, in text format; a NULL value has p == NULL. */
MUST_CHECK int catalog_row(struct catalog *c, unsigned i, const struct slice *values, unsigned n);
/* All rows are in: sorts, follows columns through views. */
MUST_CHECK int catalog_seal(struct catalog *c);
void catalog_free(struct catalog *c);

/* Highest OID seen; a column whose table is not known and whose OID is above is new. */
uint32_t catalog_max_oid(const struct catalog *c);

/*
 * Plans for the columns of a result (see insp_host.columns). A column that a rule names gets
 * its replacement; one that is made of such columns (an expression in a statement that
 * names them, an expression in a view over them) is redacted whatever the rule
 * says, because the last four characters of a part can be any four; all others are only
 * scanned, for what their type can hold.
 *
 * @c NULL (or not sealed): no origin is resolvable. Then with column rules every column is redacted
 * and `unresolved`, unless the statement names nothing, or the column belongs to a system table.
 *
 * *ret_stale: a table was met that the snapshot does not know and cannot rule out; its
 * columns are redacted and unresolved. The caller may load a new snapshot and ask
 * again (once). *ret_texts: values in the statement's error texts must be hidden.
 */
void mask_plan(const struct mask_set *m, const struct catalog *c, const struct sql_info *info,
	       bool tainted, const struct insp_column *cols, uint32_t n, struct insp_plan *plans,
	       bool *ret_texts, bool *ret_stale);

/*
 * What the statement makes without an origin could hold a masked column: it names one,
 * takes whole rows of a table that has one, reads statistics of values, or runs
 * code that may read any table, or files of the server. @c as above.
 */
bool mask_tainted(const struct mask_set *m, const struct catalog *c, const struct sql_info *info);

/*
 * Why the statement must not run under the column rules, whatever else allows it: it would carry a masked
 * column to where no mask follows, or define code that could. 0: it may. @c as above.
 */
uint16_t mask_refuses(const struct mask_set *m, const struct catalog *c,
		      const struct sql_info *info);

/* insp_plan.rule of a column that no single rule stands for. */
enum { MASK_RULE_NONE = UINT16_MAX };

#endif
