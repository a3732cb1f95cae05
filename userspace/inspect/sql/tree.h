/* SPDX-License-Identifier: MIT */
/*
 * Parses a text with PostgreSQL's grammar and walks the tree: the way in for
 * the rest of inspect/sql, free of PostgreSQL's headers.
 */
#ifndef TIDEGATE_INSPECT_SQL_TREE_H
#define TIDEGATE_INSPECT_SQL_TREE_H

#include "base/compiler.h"
#include "inspect/sql/functions.h"
#include "inspect/sql/gather.h"

struct tree;

MUST_CHECK int tree_new(uint32_t depth, uint32_t nodes, struct tree **ret);
void tree_free(struct tree *t);

/*
 * @z is @text with a zero byte behind it. Fills the reset gather @g and packs
 * it, because the tree is gone afterwards; NULL without memory.
 */
MUST_CHECK const struct sql_info *tree_classify(struct tree *t, struct slice text, const char *z,
						struct gather *g);

int tree_grammar_major(void);
const struct fn_table *tree_functions(const struct tree *t);
/*
 * How many kinds of statements and of parse tree nodes PostgreSQL has that the
 * tables say nothing of, those apart that gram.y never makes. 0, or a test fails.
 */
unsigned tree_missing(const struct tree *t);

#endif
