/* SPDX-License-Identifier: MIT */
/* Are two infos the same, whoever made them? */
#ifndef TIDEGATE_TESTS_SQLCMP_H
#define TIDEGATE_TESTS_SQLCMP_H

#include "base/compiler.h"
#include "inspect/sql/sqlinfo.h"

static inline const char *sql_copy_differs(const struct sql_copy *a, const struct sql_copy *b)
{
	if (!a || !b)
		return a == b ? NULL : "copy";
	if (a->query != b->query || a->binary != b->binary || a->csv != b->csv ||
	    a->header != b->header || a->delim != b->delim || a->quote != b->quote ||
	    a->escape != b->escape || !slice_eq(a->null_text, b->null_text) ||
	    !slice_eq(a->schema, b->schema) || !slice_eq(a->relation, b->relation) ||
	    a->ncolumns != b->ncolumns)
		return "copy options";
	for (unsigned i = 0; i < a->ncolumns; i++)
		if (!slice_eq(a->columns[i], b->columns[i]))
			return "copy columns";
	return NULL;
}

/* What differs first, or NULL. */
static inline const char *sql_info_differs(const struct sql_info *a, const struct sql_info *b)
{
	if (a->effects != b->effects)
		return "effects";
	if (a->flags != b->flags)
		return "flags";
	if (a->why != b->why || !slice_eq(a->error, b->error) || a->error_pos != b->error_pos)
		return "error";
	if (a->nstatements != b->nstatements || !slice_eq(a->handle, b->handle))
		return "statements";
	if (a->naccess != b->naccess || a->nnames != b->nnames || a->nsecrets != b->nsecrets)
		return "counts";
	for (unsigned i = 0; i < a->naccess; i++)
		if (a->access[i].effect != b->access[i].effect ||
		    a->access[i].kind != b->access[i].kind ||
		    !slice_eq(a->access[i].schema, b->access[i].schema) ||
		    !slice_eq(a->access[i].name, b->access[i].name))
			return "access";
	for (unsigned i = 0; i < a->nnames; i++)
		if (!slice_eq(a->names[i], b->names[i]))
			return "names";
	for (unsigned i = 0; i < a->nsecrets; i++)
		if (a->secrets[i].off != b->secrets[i].off || a->secrets[i].n != b->secrets[i].n)
			return "secrets";
	return sql_copy_differs(a->copy, b->copy);
}

#endif
