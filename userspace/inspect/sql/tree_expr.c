/* SPDX-License-Identifier: MIT */
/* Expressions and sources of rows: what they read, call and name. */
#include "inspect/sql/tree_pg.h"

#include "base/reason.h"
#include "inspect/sql/settings.h"

#define TEXT_SPACE " \t\n\r\f"

const char *const_string(const void *node)
{
	const A_Const *c;

	/* As in 'x'::text::regclass; a longer chain of casts is no name. */
	for (int i = 0; i < 3 && node && IsA(node, TypeCast); i++)
		node = ((const TypeCast *)node)->arg;
	if (!node || !IsA(node, A_Const))
		return NULL;
	c = node;
	return !c->isnull && IsA(&c->val, String) ? c->val.sval.sval : NULL;
}

const char *name_part(const List *names, int from_end)
{
	int n = list_length(names);

	return from_end < n ? string_of(list_nth(names, n - 1 - from_end)) : NULL;
}

void name_word(struct walk *w, const char *s, uint32_t bits)
{
	if (s)
		(void)gather_word(w->g, slice_str(s), bits);
}

void note_effects(struct walk *w, const struct item *it, uint32_t effects)
{
	if (it->ctx & CTX_PLAN)
		effects &= ~(uint32_t)(SQL_WRITE | SQL_DDL);
	w->g->effects |= effects;
}

void note(struct walk *w, const struct item *it, uint32_t effects, enum sql_object_kind kind,
	  const char *schema, const char *name)
{
	/* What is only planned changes nothing, but its plan shows what is there. */
	if (it->ctx & CTX_PLAN && kind == SQL_OBJ_RELATION && effects & SQL_WRITE)
		effects |= SQL_READ;
	if (it->ctx & CTX_PLAN)
		effects &= ~(uint32_t)(SQL_WRITE | SQL_DDL);
	if (!name)
		kind = SQL_OBJ_NONE;
	for (uint32_t left = effects; left; left &= left - 1)
		gather_access(w->g, left & -left, kind, slice_str(schema), slice_str(name));
}

void note_relation(struct walk *w, const struct item *it, uint32_t effects, const RangeVar *r)
{
	bool catalog;

	if (!r)
		return;
	name_word(w, r->relname, WORD_NAME);
	note(w, it, effects, SQL_OBJ_RELATION, r->schemaname, r->relname);
	if (!(effects & SQL_WRITE))
		return;
	/* A rule of the view makes an UPDATE of it a set_config(). */
	if (strcmp(r->relname, "pg_settings") == 0) {
		note_effects(w, it, SQL_SESSION);
		w->g->flags |= SQL_F_LEXER;
		return;
	}
	catalog = r->schemaname ? strcmp(r->schemaname, "pg_catalog") == 0
				: strncmp(r->relname, "pg_", 3) == 0;
	if (catalog && !(it->ctx & CTX_PLAN))
		note(w, it, SQL_PRIVILEGE, SQL_OBJ_RELATION, r->schemaname, r->relname);
}

/* ---------------------------------------------------------------- columns */

static bool shows_row(struct walk *w, const char *name)
{
	return name && fn_lookup(w->fns, slice_str(name)).flags & FN_ROW;
}

static void visit_column(struct walk *w, const struct item *it)
{
	const ColumnRef *c = (const ColumnRef *)it->node;
	const Node *last = llast(c->fields);
	int n = list_length(c->fields);
	const char *first = string_of(linitial(c->fields));

	if (it->ctx & CTX_CONFLICT && n == 2 && first && strcmp(first, "excluded") == 0)
		return;
	if (it->ctx & CTX_CARRY)
		w->g->flags |= SQL_F_CARRIES;
	if (IsA(last, A_Star)) {
		w->g->flags |= SQL_F_STAR;
		return;
	}
	name_word(w, string_of(last), n == 1 ? WORD_NAME | WORD_SINGLE : WORD_NAME);
	if (n > 1 && shows_row(w, string_of(last)))
		w->g->flags |= SQL_F_STAR;
}

static void visit_star(struct walk *w, const struct item *it)
{
	w->g->flags |= SQL_F_STAR;
}

static void visit_indirection(struct walk *w, const struct item *it)
{
	const A_Indirection *a = (const A_Indirection *)it->node;
	const ListCell *cell;

	foreach (cell, a->indirection) {
		const char *field = string_of(lfirst(cell));

		name_word(w, field, WORD_NAME);
		if (shows_row(w, field))
			w->g->flags |= SQL_F_STAR;
	}
	push_kids(w, it, it->ctx);
}

/* ------------------------------------------------- functions and operators */

static void user_function(struct walk *w, const struct item *it, const char *schema,
			  const char *name)
{
	w->g->flags |= SQL_F_USER_FUNCTION;
	if (it->ctx & CTX_CARRY)
		w->g->flags |= SQL_F_CARRIES;
	note(w, it, SQL_PROCEDURE, SQL_OBJ_FUNCTION, schema, name);
}

void operator_used(struct walk *w, const struct item *it, const List *name)
{
	const char *op = name_part(name, 0), *schema = name_part(name, 1);

	if (!op)
		return;
	if (schema ? strcmp(schema, "pg_catalog") == 0 && op_is_builtin(w->fns, slice_str(op))
		   : op_is_builtin(w->fns, slice_str(op)))
		return;
	user_function(w, it, schema, op);
}

static void visit_operator(struct walk *w, const struct item *it)
{
	const A_Expr *e = (const A_Expr *)it->node;

	/* BETWEEN and its like are not operators' names. */
	if (e->kind < AEXPR_BETWEEN)
		operator_used(w, it, e->name);
	push(w, it, e->rexpr, it->ctx);
	push(w, it, e->lexpr, it->ctx);
}

static void visit_sort(struct walk *w, const struct item *it)
{
	operator_used(w, it, ((const SortBy *)it->node)->useOp);
	push_kids(w, it, it->ctx);
}

/*
 * One identifier as the server's stringToQualifiedNameList() reads it: white space around it, in
 * quotes or in any case. It is rewritten where it stands, in the parser's own copy of the
 * text. NULL: it is none.
 */
static char *identifier(char *p, struct slice *ret)
{
	bool quoted, open;
	char *from, *to;

	p += strspn(p, TEXT_SPACE);
	open = quoted = *p == '"';
	from = to = p += quoted;
	for (; *p && (quoted || !strchr("." TEXT_SPACE, *p)); p++) {
		if (quoted && *p == '"' && *++p != '"') {
			open = false;
			break;
		}
		*to++ = quoted || *p < 'A' || *p > 'Z' ? *p : (char)(*p - 'A' + 'a');
	}
	*ret = slice_of(from, (size_t)(to - from));
	return ret->n && ret->n < NAMEDATALEN && !open ? p + strspn(p, TEXT_SPACE) : NULL;
}

/* "schema.name" as regclass reads it. False: a relation's number, or nothing that it reads. */
static bool relation_in_text(struct walk *w, const struct item *it, uint32_t effects, char *text)
{
	struct slice schema = {0}, s = {0};

	if (strspn(text, "0123456789") == strlen(text))
		return false;
	for (char *p = text; p;) {
		schema = s;
		p = identifier(p, &s);
		if (!p || (*p && *p != '.'))
			return false;
		p = *p ? p + 1 : NULL;
	}
	(void)gather_word(w->g, s, WORD_NAME);
	if (it->ctx & CTX_PLAN)
		effects = effects & SQL_WRITE ? SQL_READ : effects & ~(uint32_t)SQL_DDL;
	for (uint32_t left = effects; left; left &= left - 1)
		gather_access(w->g, left & -left, SQL_OBJ_RELATION, schema, s);
	return true;
}

static void setting_set(struct walk *w, const struct item *it, const FuncCall *f)
{
	const char *name = f->args ? const_string(linitial(f->args)) : NULL;
	uint32_t flags = sql_setting(name);

	if (flags & SETTING_LEXER)
		w->g->flags |= SQL_F_LEXER;
	if (flags & SETTING_PRIVILEGE)
		note(w, it, SQL_PRIVILEGE, SQL_OBJ_OTHER, NULL, name);
	note(w, it, SQL_SESSION, SQL_OBJ_OTHER, NULL, name);
}

static bool has_constant_arg(const FuncCall *f)
{
	const ListCell *cell;

	foreach (cell, f->args)
		if (const_string(lfirst(cell)))
			return true;
	return false;
}

/* A function whose effects are known by its name. */
static uint32_t known_function(struct walk *w, const struct item *it, const FuncCall *f,
			       struct fn_known k, const char *schema, const char *name)
{
	const uint32_t carries = CTX_CARRY | CTX_STORE;
	char *relation = NULL;

	if (k.flags & FN_LITERALS && has_constant_arg(f))
		w->g->flags |= SQL_F_LITERALS;
	if (k.flags & FN_RELATION && f->args)
		relation = (char *)(uintptr_t)const_string(linitial(f->args));
	if (k.flags & FN_SETTING)
		setting_set(w, it, f);
	else if (relation && !relation_in_text(w, it, k.effects, relation))
		relation = NULL;
	if (!relation && !(k.flags & FN_SETTING))
		note(w, it, k.effects, SQL_OBJ_FUNCTION, schema, name);
	if (k.flags & FN_ALL_COLUMNS) {
		w->g->flags |= SQL_F_STAR;
		if (k.flags & FN_RELATION && !relation)
			gather_unknown(w->g, TG_R_SQL_UNPARSED);
	}
	/* What it gives comes from tables, although the text has no column. */
	if (it->ctx & carries && (k.flags & FN_ALL_COLUMNS || k.effects & (SQL_FILE | SQL_PROGRAM)))
		w->g->flags |= SQL_F_CARRIES;
	/* ts_rewrite of three queries computes, of a query and a text it runs the text. */
	if (k.flags & FN_RUNS_TEXT &&
	    !(strcmp(name, "ts_rewrite") == 0 && list_length(f->args) == 3))
		gather_unknown(w->g, TG_R_SQL_UNPARSED);
	return k.flags & FN_CARRY ? it->ctx | CTX_CARRY : it->ctx;
}

static void visit_function(struct walk *w, const struct item *it)
{
	const FuncCall *f = (const FuncCall *)it->node;
	const char *name = name_part(f->funcname, 0), *schema = name_part(f->funcname, 1);
	struct fn_known k = fn_lookup(w->fns, slice_str(name));
	bool builtin = k.flags & FN_BUILTIN && (!schema || strcmp(schema, "pg_catalog") == 0);
	uint32_t ctx = it->ctx;

	name_word(w, name, WORD_NAME);
	if (!builtin)
		user_function(w, it, schema, name);
	else if (k.flags & FN_VOLATILE && !(k.flags & FN_REVIEWED))
		note(w, it, SQL_PROCEDURE, SQL_OBJ_FUNCTION, schema, name);
	/* In a user's schema the name of a built-in says nothing, that of an extension does. */
	if (builtin || !(k.flags & FN_BUILTIN))
		ctx = known_function(w, it, f, k, schema, name);
	push_kids(w, it, ctx);
}

static void visit_cast(struct walk *w, const struct item *it)
{
	const TypeCast *c = (const TypeCast *)it->node;
	const char *type = c->typeName ? name_part(c->typeName->names, 0) : NULL;
	const char *s = const_string(c->arg);

	/* 'name'::regclass and its like name an object by a constant */
	if (type && s && strncmp(type, "reg", 3) == 0) {
		w->g->flags |= SQL_F_LITERALS;
		(void)relation_in_text(w, it, 0, (char *)(uintptr_t)s); /* names nothing, if none */
	}
	push_kids(w, it, it->ctx);
}

/* ---------------------------------------------------------------- subqueries */

static void visit_sublink(struct walk *w, const struct item *it)
{
	const SubLink *s = (const SubLink *)it->node;
	uint32_t ctx = it->ctx & ~(uint32_t)CTX_CONFLICT;

	operator_used(w, it, s->operName);
	push(w, it, s->subselect, s->subLinkType == EXISTS_SUBLINK ? ctx | CTX_EXISTS : ctx);
	push(w, it, s->testexpr, ctx);
}

static void visit_multiassign(struct walk *w, const struct item *it)
{
	const MultiAssignRef *m = (const MultiAssignRef *)it->node;

	/* The same source stands in one of these for each column. */
	if (m->colno == 1)
		push(w, it, m->source, it->ctx);
}

/* --------------------------------------------------------------- row sources */

static void range_name(struct walk *w, const Alias *alias, const char *otherwise)
{
	name_word(w, alias ? alias->aliasname : otherwise, WORD_RANGE);
}

static bool is_locked(const struct item *it, const char *name)
{
	const ListCell *cell, *rel;

	if (!it->locks || it->locks == LOCK_ALL)
		return it->locks != NULL;
	foreach (cell, it->locks) {
		const LockingClause *l = lfirst(cell);

		if (!l->lockedRels)
			return true;
		foreach (rel, l->lockedRels)
			if (name && strcmp(((const RangeVar *)lfirst(rel))->relname, name) == 0)
				return true;
	}
	return false;
}

static void visit_relation(struct walk *w, const struct item *it)
{
	const RangeVar *r = (const RangeVar *)it->node;
	const char *range = r->alias ? r->alias->aliasname : r->relname;

	/* An alias with a list of columns gives them other names. */
	if (r->alias && r->alias->colnames)
		w->g->flags |= SQL_F_STAR;
	if (it->ctx & CTX_CARRY)
		w->g->flags |= SQL_F_CARRIES;
	name_word(w, range, WORD_RANGE);
	if (!r->schemaname && scope_has(w, it->scope, r->relname))
		return;
	note_relation(w, it, is_locked(it, range) ? SQL_READ | SQL_WRITE : SQL_READ, r);
	/* Samples of the values of all columns. */
	if (strncmp(r->relname, "pg_stat", 7) == 0 &&
	    (strncmp(r->relname, "pg_statistic", 12) == 0 || strcmp(r->relname, "pg_stats") == 0 ||
	     strncmp(r->relname, "pg_stats_ext", 12) == 0))
		w->g->flags |= SQL_F_STAR;
}

static void visit_join(struct walk *w, const struct item *it)
{
	const JoinExpr *j = (const JoinExpr *)it->node;
	const ListCell *cell;

	/* NATURAL compares columns that the text does not name. */
	if (j->isNatural || (j->alias && j->alias->colnames))
		w->g->flags |= SQL_F_STAR;
	range_name(w, j->alias, NULL);
	range_name(w, j->join_using_alias, NULL);
	foreach (cell, j->usingClause)
		name_word(w, string_of(lfirst(cell)), WORD_NAME);
	push(w, it, j->quals, it->ctx);
	push_from(w, it, j->rarg, it->ctx, it->scope, it->locks);
	push_from(w, it, j->larg, it->ctx, it->scope, it->locks);
}

static void visit_subselect(struct walk *w, const struct item *it)
{
	const RangeSubselect *s = (const RangeSubselect *)it->node;
	const char *name = s->alias ? s->alias->aliasname : NULL;

	range_name(w, s->alias, NULL);
	push_from(w, it, s->subquery, it->ctx, it->scope, is_locked(it, name) ? LOCK_ALL : NULL);
}

static void visit_sample(struct walk *w, const struct item *it)
{
	const RangeTableSample *s = (const RangeTableSample *)it->node;
	const char *name = name_part(s->method, 0);

	if (name && strcmp(name, "system") != 0 && strcmp(name, "bernoulli") != 0)
		user_function(w, it, name_part(s->method, 1), name);
	push(w, it, s->repeatable, it->ctx);
	push(w, it, s->args, it->ctx);
	push_from(w, it, s->relation, it->ctx, it->scope, it->locks);
}

static bool is_star_target(const void *node)
{
	const ResTarget *t = node;

	return t && IsA(t, ResTarget) && t->val && IsA(t->val, ColumnRef) &&
	       IsA(llast(((const ColumnRef *)t->val)->fields), A_Star);
}

static void visit_select(struct walk *w, const struct item *it)
{
	const SelectStmt *s = (const SelectStmt *)it->node;
	uint32_t ctx = it->ctx & ~(uint32_t)(CTX_TOP | CTX_EXISTS), scope;
	const List *locks = s->lockingClause ? s->lockingClause : it->locks;

	/* A row source of INSERT or UPDATE reads only if it has relations. */
	if (!(it->ctx & CTX_CARRY))
		note_effects(w, it, SQL_READ);
	if (s->intoClause) {
		note_relation(w, it, SQL_DDL, s->intoClause->rel);
		w->g->flags |= it->ctx & CTX_PLAN ? 0 : SQL_F_CARRIES;
	} else if (it->ctx & CTX_TOP) {
		w->g->flags |= SQL_F_ROWS;
	}
	scope = push_with(w, it, s->withClause, ctx);
	push_from(w, it, s->rarg, ctx, scope, locks);
	push_from(w, it, s->larg, ctx, scope, locks);
	push_from(w, it, s->limitCount, ctx, scope, NULL);
	push_from(w, it, s->limitOffset, ctx, scope, NULL);
	push_from(w, it, s->sortClause, ctx, scope, NULL);
	push_from(w, it, s->valuesLists, ctx, scope, NULL);
	push_from(w, it, s->windowClause, ctx, scope, NULL);
	push_from(w, it, s->havingClause, ctx, scope, NULL);
	push_from(w, it, s->groupClause, ctx, scope, NULL);
	push_from(w, it, s->whereClause, ctx, scope, NULL);
	push_from(w, it, s->fromClause, ctx, scope, locks);
	/* EXISTS (SELECT * ...) looks at no column. */
	if (!(it->ctx & CTX_EXISTS && list_length(s->targetList) == 1 &&
	      is_star_target(linitial(s->targetList))))
		push_from(w, it, s->targetList, ctx, scope, NULL);
	push_from(w, it, s->distinctClause, ctx, scope, NULL);
}

const struct visitor tree_visitors[] = {
	{T_A_Expr, visit_operator},
	{T_A_Indirection, visit_indirection},
	{T_A_Star, visit_star},
	{T_ColumnRef, visit_column},
	{T_FuncCall, visit_function},
	{T_JoinExpr, visit_join},
	{T_MultiAssignRef, visit_multiassign},
	{T_RangeSubselect, visit_subselect},
	{T_RangeTableSample, visit_sample},
	{T_RangeVar, visit_relation},
	{T_SelectStmt, visit_select},
	{T_SortBy, visit_sort},
	{T_SubLink, visit_sublink},
	{T_TypeCast, visit_cast},
};
const uint32_t tree_nvisitors = sizeof(tree_visitors) / sizeof(tree_visitors[0]);
