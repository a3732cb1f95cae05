/* SPDX-License-Identifier: MIT */
/* Inside policy/: what a sealed snapshot is made of, for lineage.c. */
#ifndef TIDEGATE_POLICY_LINEAGE_H
#define TIDEGATE_POLICY_LINEAGE_H

#include "base/arena.h"
#include "policy/catalog.h"
#include "policy/mask_set.h"

/* A column that must not be seen. Sorted by (table, attnum), unique. */
struct cat_column {
	uint32_t table;
	int16_t attnum;
	uint16_t rule; /* MASK_RULE_NONE: made of masked columns */
};

/* A table or view that has such columns or may have. Sorted by name, then by OID. */
struct cat_table {
	uint32_t oid;
	struct slice schema, name;
};

/* Sorted by (table, attnum), unique. */
struct cat_attribute {
	uint32_t table;
	int16_t attnum;
	bool generated;
	uint32_t type; /* OID; of a domain, that of its base */
	struct slice name;
};

struct cat_function {
	struct slice name;
	bool foreign; /* may read any table */
};

struct cat_view {
	uint32_t oid;
	bool calls;	 /* code that may read any table */
	bool whole_rows; /* takes a whole row of some table */
	bool reads;	 /* of masked columns, if only to choose rows */
	struct slice name;
	struct slice uses; /* "16385.2,16390.0" */
	struct slice tree; /* pg_rewrite.ev_action */
};

/* A growing array of one of the above. */
struct cat_array {
	void *v;
	size_t n, cap;
};

struct catalog {
	struct arena arena;
	bool sealed;
	bool foreign_operators; /* operators or casts that run code of users */
	uint32_t max_oid;
	uint64_t rules_hash[2]; /* of the mask set's queries */
	uint16_t nrules;
	uint8_t *rule_rank;
	struct cat_array columns, tables, attributes, functions, views;
	struct cat_array readers; /* struct slice: names of views that read, sorted, unique */
	struct cat_array column_names; /* struct slice: of columns, sorted, unique */
	struct cat_array
		all_names; /* uint64_t: hashes of all relations' names, with and without schema */
};

/* The masked column, or NULL. */
bool catalog_masks_table(const struct catalog *c, uint32_t table);
const struct cat_column *catalog_column(const struct catalog *c, uint32_t table, int16_t attnum);
/* The first table of that name; further ones follow it in c->tables. NULL: none. */
const struct cat_table *catalog_table(const struct catalog *c, struct slice name);
const struct cat_function *catalog_function(const struct catalog *c, struct slice name);
/* A view of that name reads masked columns, whether it shows them or not. */
bool catalog_reads(const struct catalog *c, struct slice name);
bool catalog_has_column_name(const struct catalog *c, struct slice name);
/* There is a relation of that name; @schema empty: in any schema. */
bool catalog_knows(const struct catalog *c, struct slice schema, struct slice name);

int slice_cmp(struct slice a, struct slice b);

/*
 * Where the columns of a view come from, as its stored tree tells (PostgreSQL's
 * nodeToString(), versions 12 to 17). Calls @cb for each output column: its number and the
 * table and column it is, unchanged, or table 0 if it is an expression.
 * False if the tree could not be read.
 */
typedef void view_column_cb(void *ctx, int16_t attnum, uint32_t table, int16_t column);
bool viewtree_columns(struct slice tree, view_column_cb *cb, void *ctx);
/* Some table's whole row is taken. */
bool viewtree_whole_row(struct slice tree);
/* A function of the server's own is called that gives a table, or what a text selects. */
bool viewtree_calls_reader(struct slice tree);

#endif
