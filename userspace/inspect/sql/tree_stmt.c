/* SPDX-License-Identifier: MIT */
/*
 * Statements that read and write rows, and those of a session. Where the words of
 * sqlinfo.h leave a choice:
 *
 *   TRUNCATE, LOCK, SELECT ... FOR UPDATE/SHARE  write
 *   VACUUM, ANALYZE, CLUSTER, REINDEX, REFRESH, CHECKPOINT, COMMENT  ddl
 *   a target is read only if rows come back (RETURNING, ON CONFLICT DO UPDATE)
 *   EXECUTE has no effect but session, FETCH none but read: the statement
 *   behind the handle was judged when it was prepared or declared
 *   plain EXPLAIN reads what the statement would write; with ANALYZE, or if
 *   that cannot be told, it does what the statement does
 */
#include "inspect/sql/tree_pg.h"

#include "base/reason.h"
#include "inspect/sql/lexer.h"
#include "inspect/sql/settings.h"

/* Prepared statements and cursors: two different ones in one text cannot be followed. */
static void handle(struct walk *w, uint32_t flag, const char *name)
{
	struct slice s = slice_str(name);

	w->g->flags |= flag;
	if (w->handles++ && !slice_eq(w->g->handle, s))
		gather_unknown(w->g, TG_R_SQL_UNPARSED);
	w->g->handle = s;
	gather_foreign(w->g, s);
}

static void rows(struct walk *w, const struct item *it)
{
	if (it->ctx & CTX_TOP)
		w->g->flags |= SQL_F_ROWS;
}

static uint32_t inner_ctx(const struct item *it)
{
	return it->ctx & ~(uint32_t)(CTX_TOP | CTX_EXISTS);
}

/* ------------------------------------------------------------ rows changed */

static void target(struct walk *w, const struct item *it, const RangeVar *r, const List *returning)
{
	note_relation(w, it, returning ? SQL_READ | SQL_WRITE : SQL_WRITE, r);
	note_effects(w, it, SQL_WRITE);
	name_word(w, r->alias ? r->alias->aliasname : r->relname, WORD_RANGE);
	if (returning)
		rows(w, it);
}

static uint32_t carrying(const struct item *it)
{
	return it->ctx & CTX_PLAN ? inner_ctx(it) : inner_ctx(it) | CTX_CARRY;
}

static void visit_insert(struct walk *w, const struct item *it)
{
	const InsertStmt *s = (const InsertStmt *)it->node;
	const OnConflictClause *c = s->onConflictClause;
	uint32_t ctx = inner_ctx(it), carry = carrying(it), scope;

	target(w, it, s->relation, s->returningList);
	if (c && c->action == ONCONFLICT_UPDATE)
		note_relation(w, it, SQL_READ, s->relation);
	scope = push_with(w, it, s->withClause, ctx);
	push_from(w, it, s->returningList, ctx, scope, NULL);
	if (c) {
		push_from(w, it, c->whereClause, ctx | CTX_CONFLICT, scope, NULL);
		push_from(w, it, c->targetList, carry | CTX_CONFLICT, scope, NULL);
		push_from(w, it, c->infer, ctx, scope, NULL);
	}
	push_from(w, it, s->selectStmt, carry, scope, NULL);
	push_from(w, it, s->cols, ctx, scope, NULL);
}

static void visit_update(struct walk *w, const struct item *it)
{
	const UpdateStmt *s = (const UpdateStmt *)it->node;
	uint32_t ctx = inner_ctx(it), scope;

	target(w, it, s->relation, s->returningList);
	scope = push_with(w, it, s->withClause, ctx);
	push_from(w, it, s->returningList, ctx, scope, NULL);
	push_from(w, it, s->whereClause, ctx, scope, NULL);
	push_from(w, it, s->fromClause, ctx, scope, NULL);
	push_from(w, it, s->targetList, carrying(it), scope, NULL);
}

static void visit_delete(struct walk *w, const struct item *it)
{
	const DeleteStmt *s = (const DeleteStmt *)it->node;
	uint32_t ctx = inner_ctx(it), scope;

	target(w, it, s->relation, s->returningList);
	scope = push_with(w, it, s->withClause, ctx);
	push_from(w, it, s->returningList, ctx, scope, NULL);
	push_from(w, it, s->whereClause, ctx, scope, NULL);
	push_from(w, it, s->usingClause, ctx, scope, NULL);
}

static void visit_merge(struct walk *w, const struct item *it)
{
	const MergeStmt *s = (const MergeStmt *)it->node;
	uint32_t ctx = inner_ctx(it), scope;
	const ListCell *cell;

	target(w, it, s->relation, NULL);
	scope = push_with(w, it, s->withClause, ctx);
	foreach (cell, s->mergeWhenClauses) {
		const MergeWhenClause *c = lfirst(cell);

		push_from(w, it, c->condition, ctx, scope, NULL);
		push_from(w, it, c->targetList, carrying(it), scope, NULL);
		push_from(w, it, c->values, carrying(it), scope, NULL);
	}
	push_from(w, it, s->joinCondition, ctx, scope, NULL);
	push_from(w, it, s->sourceRelation, ctx, scope, NULL);
}

/* CREATE TABLE AS, CREATE MATERIALIZED VIEW, and EXECUTE into a table. */
static void visit_create_as(struct walk *w, const struct item *it)
{
	const CreateTableAsStmt *s = (const CreateTableAsStmt *)it->node;

	note_relation(w, it, SQL_DDL, s->into->rel);
	if (!(it->ctx & CTX_PLAN))
		w->g->flags |= SQL_F_CARRIES;
	push_kids(w, it, inner_ctx(it));
}

/* -------------------------------------------------------------------- COPY */

static bool option_is_false(const Node *arg)
{
	static const char *const no[] = {"false", "off", "no", "0",   "f",
					 "n",	  "of",	 "fa", "fal", "fals"};
	const char *s = string_of(arg);

	if (arg && IsA(arg, Integer))
		return intVal(arg) == 0;
	if (arg && IsA(arg, Boolean))
		return !boolVal(arg);
	for (size_t i = 0; s && i < ARRAY_SIZE(no); i++)
		if (strcasecmp(s, no[i]) == 0)
			return true;
	return false;
}

static bool encoding_is_plain(const char *s)
{
	static const char *const plain[] = {"utf8",	 "utf-8",  "unicode",
					    "sql_ascii", "latin1", "latin9"};

	for (size_t i = 0; s && i < ARRAY_SIZE(plain); i++)
		if (strcasecmp(s, plain[i]) == 0)
			return true;
	return false;
}

static void one_byte(struct walk *w, const char *s, uint8_t *ret)
{
	if (s && s[0] && !s[1])
		*ret = (uint8_t)s[0];
	else
		gather_unknown(w->g, TG_R_SQL_UNPARSED);
}

static void copy_option(struct walk *w, const DefElem *d, bool *ret_null, bool *ret_escape)
{
	struct sql_copy *c = &w->g->copy;
	const char *s = string_of(d->arg);

	if (d->arg)
		w->g->flags |= SQL_F_LITERALS;
	if (strcmp(d->defname, "format") == 0) {
		c->csv = s && strcmp(s, "csv") == 0;
		c->binary = s && strcmp(s, "binary") == 0;
	} else if (strcmp(d->defname, "delimiter") == 0) {
		one_byte(w, s, &c->delim);
	} else if (strcmp(d->defname, "quote") == 0) {
		one_byte(w, s, &c->quote);
	} else if (strcmp(d->defname, "escape") == 0) {
		one_byte(w, s, &c->escape);
		*ret_escape = true;
	} else if (strcmp(d->defname, "null") == 0) {
		c->null_text = slice_str(s);
		*ret_null = true;
	} else if (strcmp(d->defname, "header") == 0) {
		c->header = !option_is_false(d->arg);
	} else if (strcmp(d->defname, "encoding") == 0 && !encoding_is_plain(s)) {
		gather_unknown(w->g, TG_R_SQL_UNPARSED);
	}
}

static void copy_stream(struct walk *w, const CopyStmt *s)
{
	struct sql_copy *c = &w->g->copy;
	bool has_null = false, has_escape = false;
	const ListCell *cell;

	if (w->copies++)
		gather_unknown(w->g, TG_R_SQL_UNPARSED);
	w->g->flags |= s->is_from ? SQL_F_COPY_IN : SQL_F_COPY_OUT;
	w->g->has_copy = true;
	*c = (struct sql_copy){.query = s->query != NULL, .quote = '"'};
	foreach (cell, s->options)
		copy_option(w, lfirst(cell), &has_null, &has_escape);
	if (!c->delim)
		c->delim = c->csv ? ',' : '\t';
	if (!has_null && !c->csv)
		c->null_text = SLICE_LIT("\\N");
	if (!has_escape)
		c->escape = c->quote;
	if (s->relation) {
		c->schema = slice_str(s->relation->schemaname);
		c->relation = slice_str(s->relation->relname);
	}
	foreach (cell, s->attlist)
		gather_copy_column(w->g, slice_str(string_of(lfirst(cell))));
}

static void visit_copy(struct walk *w, const struct item *it)
{
	const CopyStmt *s = (const CopyStmt *)it->node;
	const ListCell *cell;

	if (s->relation)
		note_relation(w, it, s->is_from ? SQL_WRITE : SQL_READ, s->relation);
	note_effects(w, it, s->is_from ? SQL_WRITE : SQL_READ);
	if (!s->is_from && s->relation) {
		if (!s->attlist)
			w->g->flags |= SQL_F_STAR;
		foreach (cell, s->attlist)
			name_word(w, string_of(lfirst(cell)), WORD_NAME);
	}
	if (s->filename) {
		w->g->flags |= SQL_F_LITERALS;
		note(w, it, s->is_program ? SQL_PROGRAM : SQL_FILE, SQL_OBJ_OTHER, NULL,
		     s->filename);
	} else if (s->is_program) {
		note_effects(w, it, SQL_PROGRAM);
	} else {
		copy_stream(w, s);
	}
	if (s->filename && !s->is_from)
		w->g->flags |= SQL_F_CARRIES;
	push_kids(w, it, inner_ctx(it));
}

/* ------------------------------------------------------- handles and plans */

static void visit_prepare(struct walk *w, const struct item *it)
{
	handle(w, SQL_F_PREPARE, ((const PrepareStmt *)it->node)->name);
	push_kids(w, it, inner_ctx(it));
}

static void visit_execute(struct walk *w, const struct item *it)
{
	handle(w, SQL_F_EXECUTE, ((const ExecuteStmt *)it->node)->name);
	rows(w, it);
	/* What the arguments become is in the prepared statement's text, which does not name them.
	 */
	push_kids(w, it, inner_ctx(it) | CTX_CARRY);
}

static void visit_deallocate(struct walk *w, const struct item *it)
{
	handle(w, SQL_F_DEALLOCATE, ((const DeallocateStmt *)it->node)->name);
}

static void visit_declare(struct walk *w, const struct item *it)
{
	handle(w, SQL_F_DECLARE, ((const DeclareCursorStmt *)it->node)->portalname);
	push_kids(w, it, inner_ctx(it));
}

static void visit_fetch(struct walk *w, const struct item *it)
{
	const FetchStmt *s = (const FetchStmt *)it->node;

	handle(w, SQL_F_FETCH, s->portalname);
	if (!s->ismove)
		rows(w, it);
}

static void visit_close(struct walk *w, const struct item *it)
{
	const ClosePortalStmt *s = (const ClosePortalStmt *)it->node;

	w->g->flags |= SQL_F_CLOSE;
	if (s->portalname)
		handle(w, 0, s->portalname);
}

static void visit_explain(struct walk *w, const struct item *it)
{
	const ExplainStmt *s = (const ExplainStmt *)it->node;
	bool analyze = false;
	const ListCell *cell;

	foreach (cell, s->options) {
		const DefElem *d = lfirst(cell);

		if (strcmp(d->defname, "analyze") != 0)
			continue;
		/* 0 and 1, 'off' and 'on' have one shape */
		if (d->arg)
			w->g->flags |= SQL_F_LITERALS;
		if (!option_is_false(d->arg))
			analyze = true;
	}
	w->g->flags |= SQL_F_EXPLAIN;
	rows(w, it);
	push(w, it, s->query, analyze ? inner_ctx(it) : inner_ctx(it) | CTX_PLAN);
}

static void visit_call(struct walk *w, const struct item *it)
{
	const CallStmt *s = (const CallStmt *)it->node;

	note(w, it, SQL_PROCEDURE, SQL_OBJ_FUNCTION, name_part(s->funccall->funcname, 1),
	     name_part(s->funccall->funcname, 0));
	w->g->flags |= SQL_F_USER_FUNCTION;
	rows(w, it);
	push_kids(w, it, inner_ctx(it));
}

static void visit_load(struct walk *w, const struct item *it)
{
	w->g->flags |= SQL_F_LITERALS;
}

static void visit_do(struct walk *w, const struct item *it)
{
	w->g->flags |= SQL_F_LITERALS | SQL_F_USER_FUNCTION | SQL_F_CARRIES | SQL_F_STAR;
}

/* ----------------------------------------------------------------- session */

static void visit_transaction(struct walk *w, const struct item *it)
{
	const TransactionStmt *s = (const TransactionStmt *)it->node;

	/* Settings that were made in the transaction, or LOCAL to it, end with it: SQL_F_LEXER. */
	switch (s->kind) {
	case TRANS_STMT_BEGIN:
	case TRANS_STMT_START:
		w->g->flags |= SQL_F_TX_BEGIN;
		break;
	case TRANS_STMT_COMMIT:
	case TRANS_STMT_ROLLBACK:
		w->g->flags |= SQL_F_LEXER;
		w->g->flags |= s->chain ? SQL_F_TX_END | SQL_F_TX_BEGIN : SQL_F_TX_END;
		break;
	case TRANS_STMT_PREPARE:
		w->g->flags |= SQL_F_TX_END | SQL_F_LEXER;
		break;
	case TRANS_STMT_ROLLBACK_TO:
		w->g->flags |= SQL_F_LEXER;
		break;
	case TRANS_STMT_SAVEPOINT:
	case TRANS_STMT_RELEASE:
	case TRANS_STMT_COMMIT_PREPARED:
	case TRANS_STMT_ROLLBACK_PREPARED:
		break;
	}
}

static void visit_set(struct walk *w, const struct item *it)
{
	const VariableSetStmt *s = (const VariableSetStmt *)it->node;
	uint32_t flags;

	if (s->kind == VAR_SET_MULTI) {
		bool session = s->name && strncmp(s->name, "SESSION", 7) == 0;

		note_effects(w, it, session ? SQL_SESSION : SQL_TRANSACTION);
		return;
	}
	if (s->kind == VAR_RESET_ALL) {
		w->g->flags |= SQL_F_LEXER;
		note_effects(w, it, SQL_SESSION);
		return;
	}
	flags = sql_setting(s->name);
	if (flags & SETTING_LEXER)
		w->g->flags |= SQL_F_LEXER;
	if (flags & SETTING_PRIVILEGE) {
		const char *role = s->args ? const_string(linitial(s->args)) : NULL;

		if (role)
			w->g->flags |= SQL_F_LITERALS;
		note(w, it, SQL_PRIVILEGE, SQL_OBJ_OTHER, NULL, role ? role : s->name);
	} else {
		note(w, it, SQL_SESSION, SQL_OBJ_OTHER, NULL, s->name);
	}
}

static void visit_show(struct walk *w, const struct item *it)
{
	rows(w, it);
}

static void visit_discard(struct walk *w, const struct item *it)
{
	const DiscardStmt *s = (const DiscardStmt *)it->node;

	if (s->target != DISCARD_ALL)
		return;
	handle(w, SQL_F_DEALLOCATE, NULL);
	w->g->flags |= SQL_F_LEXER;
}

/* ----------------------------------------------------------- tables at large */

static void visit_vacuum(struct walk *w, const struct item *it)
{
	const VacuumStmt *s = (const VacuumStmt *)it->node;
	const ListCell *cell;

	foreach (cell, s->rels)
		note_relation(w, it, SQL_DDL, ((const VacuumRelation *)lfirst(cell))->relation);
}

static void visit_reindex(struct walk *w, const struct item *it)
{
	const ReindexStmt *s = (const ReindexStmt *)it->node;

	if (s->relation)
		note_relation(w, it, SQL_DDL, s->relation);
	else
		note(w, it, SQL_DDL, SQL_OBJ_OTHER, NULL, s->name);
}

static void visit_cluster(struct walk *w, const struct item *it)
{
	note_relation(w, it, SQL_DDL, ((const ClusterStmt *)it->node)->relation);
}

const struct statement tree_statements[] = {
	ROW_V(InsertStmt, 0, visit_insert),
	ROW_V(UpdateStmt, 0, visit_update),
	ROW_V(DeleteStmt, 0, visit_delete),
	ROW_V(MergeStmt, 0, visit_merge),
	ROW(ReturnStmt, 0),
	ROW_V(CreateTableAsStmt, SQL_DDL, visit_create_as),
	ROW_V(CopyStmt, 0, visit_copy),
	ROW_O(TruncateStmt, SQL_WRITE, EACH, RELATION, relations),
	ROW_O(LockStmt, SQL_WRITE, EACH, RELATION, relations),

	ROW_V(PrepareStmt, 0, visit_prepare),
	ROW_V(ExecuteStmt, SQL_SESSION, visit_execute),
	ROW_V(DeallocateStmt, SQL_SESSION, visit_deallocate),
	ROW_V(DeclareCursorStmt, 0, visit_declare),
	ROW_V(FetchStmt, SQL_READ, visit_fetch),
	ROW_V(ClosePortalStmt, SQL_SESSION, visit_close),
	ROW_V(ExplainStmt, 0, visit_explain),
	ROW_V(CallStmt, 0, visit_call),
	ROW_V(DoStmt, SQL_PROGRAM | SQL_PROCEDURE, visit_do),
	ROW_OV(LoadStmt, SQL_PROGRAM, CSTRING, OTHER, filename, visit_load),

	ROW_V(TransactionStmt, SQL_TRANSACTION, visit_transaction),
	ROW(ConstraintsSetStmt, SQL_TRANSACTION),
	ROW_V(VariableSetStmt, 0, visit_set),
	ROW_OV(VariableShowStmt, SQL_SESSION, CSTRING, OTHER, name, visit_show),
	ROW_V(DiscardStmt, SQL_SESSION, visit_discard),
	ROW_O(ListenStmt, SQL_SESSION, CSTRING, OTHER, conditionname),
	ROW_O(UnlistenStmt, SQL_SESSION, CSTRING, OTHER, conditionname),
	ROW_O(NotifyStmt, SQL_SESSION, CSTRING, OTHER, conditionname),

	ROW_V(VacuumStmt, SQL_DDL, visit_vacuum),
	ROW_V(ReindexStmt, SQL_DDL, visit_reindex),
	ROW_V(ClusterStmt, SQL_DDL, visit_cluster),
	ROW_O(RefreshMatViewStmt, SQL_DDL, NODE, RELATION, relation),
	ROW(CheckPointStmt, SQL_DDL),
};
const uint32_t tree_nstatements = sizeof(tree_statements) / sizeof(tree_statements[0]);
