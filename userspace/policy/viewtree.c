/* SPDX-License-Identifier: MIT */
/*
 * Reads as much of a stored rule as lineage needs. The text is
 *   ({QUERY ... :targetList ({TARGETENTRY :expr {...} :resno 1 ... :resorigtbl 16385
 *   :resorigcol 2 :resjunk false} ...) ...})
 * where braces, parentheses, spaces and backslashes inside names and strings are
 * escaped with a backslash, so that nesting can be followed byte by byte.
 */
#include "base/text.h"
#include "policy/lineage.h"

struct tree {
	const uint8_t *p, *end;
	bool bad;
};

/* Moves over one token; *ret is it, without what encloses it. False at the end. */
static bool next_token(struct tree *t, struct slice *ret)
{
	const uint8_t *from;

	while (t->p < t->end && (*t->p == ' ' || *t->p == '\n' || *t->p == '\t'))
		t->p++;
	if (t->p == t->end)
		return false;
	from = t->p;
	if (strchr("(){}", *t->p) && *t->p) {
		t->p++;
		*ret = slice_of(from, 1);
		return true;
	}
	while (t->p < t->end && !(strchr(" \n\t(){}", *t->p) && *t->p)) {
		if (*t->p == '\\' && t->end - t->p > 1)
			t->p++;
		t->p++;
	}
	*ret = slice_of(from, (size_t)(t->p - from));
	return true;
}

static bool opens(struct slice s)
{
	return s.n == 1 && (s.p[0] == '(' || s.p[0] == '{');
}

static bool closes(struct slice s)
{
	return s.n == 1 && (s.p[0] == ')' || s.p[0] == '}');
}

static uint64_t number(struct tree *t)
{
	struct slice s;
	uint64_t v = 0;

	if (!next_token(t, &s) || text_parse_u64(s, 0, UINT32_MAX, &v))
		t->bad = true;
	return v;
}

/* Inside a TARGETENTRY, behind its name. */
static void read_entry(struct tree *t, view_column_cb *cb, void *ctx)
{
	uint64_t resno = 0, table = 0, column = 0;
	unsigned depth = 1, seen = 0;
	bool junk = false;
	struct slice s;

	while (depth > 0) {
		if (!next_token(t, &s)) {
			t->bad = true;
			return;
		}
		if (opens(s))
			depth++;
		else if (closes(s))
			depth--;
		if (depth != 1)
			continue;
		if (slice_eq_str(s, ":resno")) {
			resno = number(t);
			seen |= 1;
		} else if (slice_eq_str(s, ":resorigtbl")) {
			table = number(t);
			seen |= 2;
		} else if (slice_eq_str(s, ":resorigcol")) {
			column = number(t);
			seen |= 4;
		} else if (slice_eq_str(s, ":resjunk")) {
			t->bad |= !next_token(t, &s);
			junk = slice_eq_str(s, "true");
			seen |= 8;
		}
	}
	if (seen != 15 || resno == 0 || resno > INT16_MAX || column > INT16_MAX)
		t->bad = true;
	else if (!junk)
		cb(ctx, (int16_t)resno, (uint32_t)table, (int16_t)column);
}

bool viewtree_columns(struct slice tree, view_column_cb *cb, void *ctx)
{
	struct tree t = {.p = tree.p, .end = tree.p + tree.n};
	unsigned depth = 0, lists = 0;
	bool in_list = false;
	struct slice s;

	/* The query is at depth 2, "({QUERY"; its target list's entries at depth 4. */
	while (!t.bad && next_token(&t, &s)) {
		if (opens(s)) {
			depth++;
		} else if (closes(s)) {
			if (depth == 0)
				return false;
			depth--;
			if (depth == 2)
				in_list = false;
		} else if (depth == 2 && slice_eq_str(s, ":targetList")) {
			in_list = true;
			lists++;
		} else if (depth == 2 && s.p[0] == ':') {
			in_list = false;
		} else if (depth == 4 && in_list && slice_eq_str(s, "TARGETENTRY")) {
			read_entry(&t, cb, ctx);
			depth--;
		}
	}
	return !t.bad && depth == 0 && lists == 1;
}

/* table_to_xml() and its like, ts_stat(), ts_rewrite(): OIDs are fixed (pg_proc.dat). */
bool viewtree_calls_reader(struct slice tree)
{
	static const char *const marks[] = {
		":funcid 2923 ", ":funcid 2924 ", ":funcid 2925 ", ":funcid 2929 ", ":funcid 2930 ",
		":funcid 2933 ", ":funcid 2935 ", ":funcid 2936 ", ":funcid 2938 ", ":funcid 3685 ",
		":funcid 3689 ", ":funcid 3690 ",
	};

	for (size_t i = 0; tree.n && i < ARRAY_SIZE(marks); i++)
		if (memmem(tree.p, tree.n, marks[i], strlen(marks[i])))
			return true;
	return false;
}

bool viewtree_whole_row(struct slice tree)
{
	static const char mark[] = ":varattno 0 ";

	return tree.n && memmem(tree.p, tree.n, mark, sizeof(mark) - 1) != NULL;
}
