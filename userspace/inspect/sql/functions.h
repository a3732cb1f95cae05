/* SPDX-License-Identifier: MIT */
/*
 * What is known of functions and operators by name: PostgreSQL's own, and
 * those of well-known extensions that do more than their name's rights say.
 */
#ifndef TIDEGATE_INSPECT_SQL_FUNCTIONS_H
#define TIDEGATE_INSPECT_SQL_FUNCTIONS_H

#include "base/compiler.h"
#include "base/slice.h"

enum fn_flag {
	FN_BUILTIN = 1u << 0,	/* in pg_catalog of a plain server */
	FN_VOLATILE = 1u << 1,	/* its result or the world changes */
	FN_REVIEWED = 1u << 2,	/* in the table of effects: those are all it has */
	FN_LITERALS = 1u << 3,	/* constants in its arguments say what it does */
	FN_CARRY = 1u << 4,	/* its arguments end up where no mask follows */
	FN_RUNS_TEXT = 1u << 5, /* runs a text of SQL, or reads what a text names */
	FN_RELATION = 1u << 6,	/* the first argument names the relation of its effects */
	FN_SETTING = 1u << 7,	/* the first argument names a setting */
	FN_ALL_COLUMNS = 1u << 8, /* gives values of columns that nothing names */
	FN_ROW = 1u << 9,	/* row.f is f(row) and shows what is in the row */
};

struct fn_known {
	uint32_t effects; /* enum sql_effect */
	uint32_t flags;	  /* enum fn_flag */
};

struct fn_table;

MUST_CHECK int fn_table_new(struct fn_table **ret);
void fn_table_free(struct fn_table *t);

/* Zeroed for a name that is not known. */
struct fn_known fn_lookup(const struct fn_table *t, struct slice name);
bool op_is_builtin(const struct fn_table *t, struct slice name);
/* The @i-th name of the table, empty behind its end: for tests. */
struct slice fn_name(const struct fn_table *t, uint32_t i);

#endif
