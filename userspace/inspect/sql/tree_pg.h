/* SPDX-License-Identifier: MIT */
/*
 * The only file that includes PostgreSQL's node headers, for tree*.c. Their
 * major version must be that of the grammar in libpg_query: node tags and
 * layouts are fixed within one.
 */
#ifndef TIDEGATE_INSPECT_SQL_TREE_PG_H
#define TIDEGATE_INSPECT_SQL_TREE_PG_H

#include <pg_query.h>

enum { GRAMMAR_MAJOR = PG_VERSION_NUM / 10000 };
#undef PG_MAJORVERSION
#undef PG_VERSION
#undef PG_VERSION_NUM

#include <postgres.h>

#include <nodes/nodes.h>
#include <nodes/parsenodes.h>
#include <nodes/pg_list.h>
#include <pg_query/pg_query_internal.h>

_Static_assert(PG_VERSION_NUM / 10000 == GRAMMAR_MAJOR,
	       "node headers and libpg_query are of different major versions");

/* PostgreSQL's replacements of libc, which libpg_query does not have, and its own macros. */
#undef DEBUG
#undef fprintf
#undef likely
#undef printf
#undef snprintf
#undef sprintf
#undef strerror
#undef strerror_r
#undef unlikely
#undef vfprintf
#undef vprintf
#undef vsnprintf
#undef vsprintf

#include "base/compiler.h"
#include "inspect/sql/functions.h"
#include "inspect/sql/gather.h"

enum { NTAGS = 512 };
_Static_assert((int)T_SupportRequestWFuncMonotonic < (int)NTAGS, "NTAGS covers all node tags");

/* What a node stands in. Children inherit it unless their parent says otherwise. */
enum ctx {
	CTX_TOP = 1u << 0,	/* is the statement itself: not inherited */
	CTX_CARRY = 1u << 1,	/* values end up where no mask follows */
	CTX_PLAN = 1u << 2,	/* EXPLAIN without ANALYZE: is planned, not run */
	CTX_CONFLICT = 1u << 3, /* ON CONFLICT DO UPDATE: excluded.x is the new row */
	CTX_EXISTS = 1u << 4,	/* the SELECT of an EXISTS: its columns are not looked at; not
				   inherited */
	CTX_STORE = 1u << 5,	/* of a definition: values end up in rows that are stored later */
};

struct item {
	const Node *node;
	const List *locks; /* LockingClauses over a FROM item; LOCK_ALL; NULL */
	uint32_t depth;
	uint32_t scope; /* WITH queries that can be seen: number of the innermost */
	uint32_t ctx;
};

/* One WITH query; they are chained from inner to outer. */
struct scope {
	const char *name;
	uint32_t outer;
};

struct walk {
	struct tree *t;
	struct gather *g;
	const struct fn_table *fns;
	struct slice text;
	size_t statement_at; /* offset of the current statement in the text */
	struct item *stack;
	uint32_t nstack, cap_stack;
	struct scope *scopes; /* [0] is not used */
	uint32_t nscopes, cap_scopes;
	int64_t budget;
	uint32_t max_depth;
	uint32_t handles; /* statements so far that name a prepared statement or cursor */
	uint32_t copies;  /* COPY statements to or from the client so far */
	bool stopped;
};

typedef void visit_fn(struct walk *w, const struct item *it);

extern const List *const LOCK_ALL;

/* An object that a statement has its effects on. */
enum object_form {
	FORM_NONE,
	FORM_CSTRING, /* char * */
	FORM_NODE,    /* Node *: RangeVar, List of String, ObjectWithArgs, TypeName, RoleSpec ... */
	FORM_EACH,    /* List *: each element as FORM_NODE */
};

struct statement {
	uint16_t tag;
	uint16_t effects;
	uint8_t form, kind;
	uint16_t offset; /* of the object in the node */
	visit_fn *visit; /* what the table cannot say; NULL: only push children */
};

/* Rows of the statement tables: _V has a visitor, _O an object in a field. */
#define ROW(type, eff)		       {T_##type, eff, FORM_NONE, SQL_OBJ_NONE, 0, NULL}
#define ROW_V(type, eff, fn)	       {T_##type, eff, FORM_NONE, SQL_OBJ_NONE, 0, fn}
#define ROW_O(type, eff, frm, kd, fld) {T_##type, eff, FORM_##frm, SQL_OBJ_##kd, offsetof(type, fld), NULL}
#define ROW_OV(type, eff, frm, kd, fld, fn)                                                        \
	{T_##type, eff, FORM_##frm, SQL_OBJ_##kd, offsetof(type, fld), fn}

/* tree_stmt.c: rows and the session; tree_ddl.c: definitions and rights */
extern const struct statement tree_statements[], tree_definitions[];
extern const uint32_t tree_nstatements, tree_ndefinitions;

/* tree_expr.c, tree_ddl.c: other nodes that are more than their children */
struct visitor {
	uint16_t tag;
	visit_fn *visit;
};
extern const struct visitor tree_visitors[], tree_ddl_visitors[];
extern const uint32_t tree_nvisitors, tree_nddl_visitors;

/* tree_kids.c: which fields of a node are nodes; a tag that is not here is not understood */
struct kid {
	uint16_t tag;
	uint16_t offset; /* 0: none, the node is known and has no children */
};
extern const struct kid tree_kids[];
extern const uint32_t tree_nkids;

/* tree.c */
void push(struct walk *w, const struct item *parent, const void *node, uint32_t ctx);
void push_from(struct walk *w, const struct item *parent, const void *node, uint32_t ctx,
	       uint32_t scope, const List *locks);
/* All children as the table has them. */
void push_kids(struct walk *w, const struct item *it, uint32_t ctx);
/* Pushes the queries of a WITH clause; returns the scope of the statement's body. */
uint32_t push_with(struct walk *w, const struct item *it, const WithClause *with, uint32_t ctx);
bool scope_has(struct walk *w, uint32_t scope, const char *name);
void note(struct walk *w, const struct item *it, uint32_t effects, enum sql_object_kind kind,
	  const char *schema, const char *name);
/* The object(s) that @node is or names. */
void note_node(struct walk *w, const struct item *it, uint32_t effects, enum sql_object_kind kind,
	       const Node *node);
void note_relation(struct walk *w, const struct item *it, uint32_t effects, const RangeVar *r);
void note_effects(struct walk *w, const struct item *it, uint32_t effects);
/* A user's operator is a user's function. */
void operator_used(struct walk *w, const struct item *it, const List *name);
void name_word(struct walk *w, const char *s, uint32_t bits);

/* Small readers. */
static inline const char *string_of(const void *node)
{
	return node && IsA(node, String) ? strVal(node) : NULL;
}

/* The text of a string constant, NULL for anything else. */
const char *const_string(const void *node);
/* The @i-th from the end of a list of String nodes, NULL if there is none. */
const char *name_part(const List *names, int from_end);

#endif
