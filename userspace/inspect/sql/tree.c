/* SPDX-License-Identifier: MIT */
/*
 * The walk: a stack on the heap instead of recursion, because a text of a few
 * kilobytes makes trees that are thousands of levels deep, with a budget of
 * nodes and of depth. The order is that of the text.
 */
#include "inspect/sql/tree_pg.h"

#include <errno.h>

#include "base/reason.h"
#include "inspect/sql/sqlsecret.h"
#include "inspect/sql/tree.h"

enum { FIRST_ITEMS = 256, FIRST_SCOPES = 16, KEPT_ITEMS = 4096 };

struct tree {
	struct fn_table *fns;
	uint32_t max_depth, max_nodes;
	/* By node tag. */
	uint16_t first_kid[NTAGS];
	uint8_t nkids[NTAGS];
	bool known[NTAGS], leaf[NTAGS];
	visit_fn *visit[NTAGS];
	const struct statement *statement[NTAGS];
	/* Kept between texts. */
	struct item *stack;
	uint32_t cap_stack;
	struct scope *scopes;
	uint32_t cap_scopes;
};

static const List lock_all;
const List *const LOCK_ALL = &lock_all;

static void add_statements(struct tree *t, const struct statement *rows, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		t->statement[rows[i].tag] = &rows[i];
		t->leaf[rows[i].tag] = false;
		if (rows[i].visit)
			t->visit[rows[i].tag] = rows[i].visit;
	}
}

static void add_visitors(struct tree *t, const struct visitor *rows, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		t->visit[rows[i].tag] = rows[i].visit;
		t->leaf[rows[i].tag] = false;
	}
}

static void build_index(struct tree *t)
{
	for (uint32_t i = tree_nkids; i-- > 0;) {
		const struct kid *k = &tree_kids[i];

		t->known[k->tag] = true;
		t->leaf[k->tag] = k->offset == 0;
		t->first_kid[k->tag] = (uint16_t)i;
		if (k->offset)
			t->nkids[k->tag]++;
	}
	add_visitors(t, tree_visitors, tree_nvisitors);
	add_visitors(t, tree_ddl_visitors, tree_nddl_visitors);
	add_statements(t, tree_statements, tree_nstatements);
	add_statements(t, tree_definitions, tree_ndefinitions);
}

int tree_new(uint32_t depth, uint32_t nodes, struct tree **ret)
{
	struct tree *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return -ENOMEM;
	r = fn_table_new(&t->fns);
	if (r < 0) {
		free(t);
		return r;
	}
	t->max_depth = depth;
	t->max_nodes = nodes;
	build_index(t);
	*ret = t;
	return 0;
}

void tree_free(struct tree *t)
{
	if (!t)
		return;
	fn_table_free(t->fns);
	free(t->stack);
	free(t->scopes);
	free(t);
}

int tree_grammar_major(void)
{
	return GRAMMAR_MAJOR;
}

const struct fn_table *tree_functions(const struct tree *t)
{
	return t->fns;
}

/* Made by other parsers or by parse analysis, never by gram.y for a text of SQL. */
static bool is_foreign(unsigned tag)
{
	switch (tag) {
	case T_SetOperationStmt:
	case T_PLAssignStmt:
	case T_RangeTblEntry:
	case T_RangeTblFunction:
	case T_TableSampleClause:
	case T_WithCheckOption:
	case T_SortGroupClause:
	case T_WindowClause:
	case T_RowMarkClause:
	case T_PartitionRangeDatum:
	case T_WithClause: /* push_with() goes through it */
		return true;
	default:
		return false;
	}
}

unsigned tree_missing(const struct tree *t)
{
	unsigned n = 0;

	for (unsigned tag = T_InsertStmt; tag <= T_PublicationTable; tag++)
		n += !t->known[tag] && !is_foreign(tag);
	/* A statement without a row has no effects, whatever its children do. */
	for (unsigned tag = T_InsertStmt; tag <= T_AlterStatsStmt; tag++)
		n += !t->statement[tag] && !is_foreign(tag) && tag != T_SelectStmt &&
		     tag != T_AlterTableCmd && tag != T_ReplicaIdentityStmt;
	return n;
}

/* ------------------------------------------------------------------- walk */

static void stop(struct walk *w, uint16_t why)
{
	gather_unknown(w->g, why);
	w->stopped = true;
}

static void push_one(struct walk *w, const struct item *item)
{
	unsigned tag = nodeTag(item->node);

	if (tag < NTAGS && w->t->leaf[tag])
		return;
	if (w->nstack == w->cap_stack) {
		uint32_t cap = w->cap_stack ? w->cap_stack * 2 : FIRST_ITEMS;
		struct item *mem = reallocarray(w->stack, cap, sizeof(*mem));

		if (!mem) {
			stop(w, TG_R_NO_MEMORY);
			return;
		}
		w->stack = mem;
		w->cap_stack = cap;
	}
	w->stack[w->nstack++] = *item;
}

void push_from(struct walk *w, const struct item *parent, const void *node, uint32_t ctx,
	       uint32_t scope, const List *locks)
{
	struct item item = {
		.node = node,
		.locks = locks,
		.depth = parent->depth + 1,
		.scope = scope,
		.ctx = ctx & ~(uint32_t)CTX_TOP,
	};

	if (!node || w->stopped)
		return;
	if (item.depth > w->max_depth) {
		stop(w, TG_R_SQL_TOO_DEEP);
		return;
	}
	if (!IsA(node, List)) {
		w->budget--;
		push_one(w, &item);
		return;
	}
	w->budget -= list_length(node);
	for (int i = list_length(node); i-- > 0;) {
		item.node = list_nth(node, i);
		if (item.node)
			push_one(w, &item);
	}
}

void push(struct walk *w, const struct item *parent, const void *node, uint32_t ctx)
{
	push_from(w, parent, node, ctx, parent->scope, NULL);
}

void push_kids(struct walk *w, const struct item *it, uint32_t ctx)
{
	unsigned tag = nodeTag(it->node), first = w->t->first_kid[tag];

	for (unsigned i = w->t->nkids[tag]; i-- > 0;) {
		const void *kid;

		memcpy(&kid, (const char *)it->node + tree_kids[first + i].offset, sizeof(kid));
		push(w, it, kid, ctx);
	}
}

static uint32_t new_scope(struct walk *w, const char *name, uint32_t outer)
{
	if (w->nscopes >= w->cap_scopes) {
		uint32_t cap = w->cap_scopes ? w->cap_scopes * 2 : FIRST_SCOPES;
		struct scope *mem = reallocarray(w->scopes, cap, sizeof(*mem));

		if (!mem) {
			stop(w, TG_R_NO_MEMORY);
			return outer;
		}
		w->scopes = mem;
		w->cap_scopes = cap;
	}
	w->scopes[w->nscopes] = (struct scope){.name = name, .outer = outer};
	return w->nscopes++;
}

/* A query sees those before it; with RECURSIVE all, itself included. */
uint32_t push_with(struct walk *w, const struct item *it, const WithClause *with, uint32_t ctx)
{
	uint32_t outer = it->scope, inner = outer;
	const ListCell *cell;

	if (!with || w->stopped)
		return outer;
	foreach (cell, with->ctes) {
		const CommonTableExpr *cte = lfirst(cell);

		name_word(w, cte->ctename, WORD_RANGE);
		inner = new_scope(w, cte->ctename, inner);
	}
	if (w->stopped)
		return outer;
	foreach (cell, with->ctes) {
		uint32_t sees = with->recursive ? inner : outer;

		push_from(w, it, lfirst(cell), ctx, sees, NULL);
		outer = inner - (uint32_t)(list_length(with->ctes) - 1 - foreach_current_index(cell));
	}
	return inner;
}

bool scope_has(struct walk *w, uint32_t scope, const char *name)
{
	for (; scope; scope = w->scopes[scope].outer) {
		w->budget--;
		if (strcmp(w->scopes[scope].name, name) == 0)
			return true;
	}
	return false;
}

static void visit(struct walk *w, const struct item *it)
{
	unsigned tag = nodeTag(it->node);
	const struct statement *s;
	const void *object = NULL;

	if (tag == T_List) {
		push_from(w, it, it->node, it->ctx, it->scope, it->locks);
		return;
	}
	if (tag >= NTAGS || !w->t->known[tag]) {
		stop(w, TG_R_SQL_UNPARSED);
		return;
	}
	s = w->t->statement[tag];
	if (s && s->form != FORM_NONE)
		memcpy(&object, (const char *)it->node + s->offset, sizeof(object));
	if (s && s->form == FORM_CSTRING)
		note(w, it, s->effects, s->kind, NULL, object);
	else if (s && s->form == FORM_NODE)
		note_node(w, it, s->effects, s->kind, object);
	else if (s && s->form == FORM_EACH)
		for (int i = 0; i < list_length(object); i++)
			note_node(w, it, s->effects, s->kind, list_nth(object, i));
	if (s)
		note_effects(w, it, s->effects);
	if (w->t->visit[tag])
		w->t->visit[tag](w, it);
	else
		push_kids(w, it, it->ctx & ~(uint32_t)(CTX_TOP | CTX_EXISTS));
}

static void walk_statement(struct walk *w, const RawStmt *raw)
{
	struct item top = {.node = raw->stmt, .ctx = CTX_TOP};

	w->statement_at = raw->stmt_location > 0 ? (size_t)raw->stmt_location : 0;
	w->nscopes = 1;
	w->nstack = 0;
	push_one(w, &top);
	while (w->nstack && !w->stopped) {
		struct item it = w->stack[--w->nstack];

		if (w->budget-- <= 0) {
			stop(w, TG_R_SQL_TOO_DEEP);
			return;
		}
		visit(w, &it);
	}
}

static void walk_all(struct tree *t, const List *statements, struct slice text, struct gather *g)
{
	struct walk w = {
		.t = t,
		.g = g,
		.fns = t->fns,
		.text = text,
		.stack = t->stack,
		.cap_stack = t->cap_stack,
		.scopes = t->scopes,
		.cap_scopes = t->cap_scopes,
		.budget = t->max_nodes,
		.max_depth = t->max_depth,
	};
	int n = list_length(statements);

	g->nstatements = (uint16_t)Min(n, UINT16_MAX);
	if (n == 0)
		g->flags |= SQL_F_EMPTY;
	if (n > 1)
		g->flags |= SQL_F_MULTI;
	for (int i = 0; i < n && !w.stopped; i++)
		walk_statement(&w, list_nth(statements, i));
	t->scopes = w.scopes;
	t->cap_scopes = w.cap_scopes;
	t->stack = w.stack;
	t->cap_stack = w.cap_stack;
	if (t->cap_stack > KEPT_ITEMS) {
		free(t->stack);
		t->stack = NULL;
		t->cap_stack = 0;
	}
	if (t->cap_scopes > KEPT_ITEMS) {
		free(t->scopes);
		t->scopes = NULL;
		t->cap_scopes = 0;
	}
}

/* The parser counts characters; a byte that continues one in UTF-8 is none. */
static uint32_t byte_position(struct slice text, int chars)
{
	size_t i = 0;

	if (chars <= 0)
		return 0;
	for (int left = chars - 1; left > 0 && i < text.n; left--)
		for (i++; i < text.n && (text.p[i] & 0xc0) == 0x80;)
			i++;
	return (uint32_t)i + 1;
}

/* What stands where the error is may be the secret. */
static struct slice error_text(const char *message, bool secret)
{
	const char *near = secret ? strstr(message, " at or near ") : NULL;

	return near ? slice_of(message, (size_t)(near - message)) : slice_str(message);
}

const struct sql_info *tree_classify(struct tree *t, struct slice text, const char *z,
				     struct gather *g)
{
	MemoryContext ctx = pg_query_enter_memory_context();
	PgQueryInternalParsetreeAndError parsed = pg_query_raw_parse(z);
	const struct sql_info *ret;

	sqlsecret_find(text, z, g);
	if (parsed.error) {
		gather_unknown(g, TG_R_SQL_UNPARSED);
		g->error = error_text(parsed.error->message, g->nsecrets > 0);
		g->error_pos = byte_position(text, parsed.error->cursorpos);
		g->nstatements = 1;
	} else {
		walk_all(t, parsed.tree, text, g);
	}
	ret = gather_pack(g);
	if (parsed.error)
		pg_query_free_error(parsed.error);
	free(parsed.stderr_buffer);
	pg_query_exit_memory_context(ctx);
	return ret;
}
