/* SPDX-License-Identifier: MIT */
/* A snapshot of a catalog: rows in, sorted arrays out. */
#include "policy/catalog.h"

#include <errno.h>
#include <xxhash.h>

#include "base/text.h"
#include "policy/lineage.h"

enum { CATALOG_BUDGET = 256 << 20, ROW_MAX = 6 };

int slice_cmp(struct slice a, struct slice b)
{
	size_t n = min_size(a.n, b.n);
	int order = n ? memcmp(a.p, b.p, n) : 0;

	return order ? order : (a.n > b.n) - (a.n < b.n);
}

static uint64_t name_hash(struct slice schema, struct slice name)
{
	return XXH3_64bits_withSeed(name.p, name.n, schema.n ? XXH3_64bits(schema.p, schema.n) : 0);
}

int catalog_new(const struct mask_set *m, struct catalog **ret)
{
	struct catalog *c = calloc(1, sizeof(*c));

	if (!c)
		return -ENOMEM;
	arena_init(&c->arena, CATALOG_BUDGET);
	memcpy(c->rules_hash, m->rules_hash, sizeof(c->rules_hash));
	c->nrules = (uint16_t)m->nrules;
	c->rule_rank = calloc(m->nrules ? m->nrules : 1, 1);
	if (!c->rule_rank) {
		catalog_free(c);
		return -ENOMEM;
	}
	for (uint32_t i = 0; i < m->nrules; i++)
		c->rule_rank[i] = (uint8_t)mask_rank(m->rules[i]->how);
	*ret = c;
	return 0;
}

void catalog_free(struct catalog *c)
{
	if (!c)
		return;
	arena_done(&c->arena);
	free(c->rule_rank);
	free(c->columns.v);
	free(c->tables.v);
	free(c->attributes.v);
	free(c->functions.v);
	free(c->views.v);
	free(c->column_names.v);
	free(c->readers.v);
	free(c->all_names.v);
	free(c);
}

uint32_t catalog_max_oid(const struct catalog *c)
{
	return c->max_oid;
}

/* ------------------------------------------------------------------ rows */

static void *push(struct cat_array *a, size_t size)
{
	if (a->n == a->cap) {
		size_t cap = a->cap ? a->cap * 2 : 64;
		void *v = reallocarray(a->v, cap, size);

		if (!v)
			return NULL;
		a->v = v;
		a->cap = cap;
	}
	return (char *)a->v + a->n++ * size;
}

/* The whole of @s is a number that fits; the row is bad otherwise. */
static int64_t integer(struct slice s, int64_t min, int64_t max, int *rc)
{
	bool minus = s.n && s.p[0] == '-';
	uint64_t v;

	if (!s.p || text_parse_u64(slice_from(s, minus), 0, INT32_MAX * 2ull + 1, &v)) {
		*rc = -EINVAL;
		return 0;
	}
	if ((minus ? -(int64_t)v : (int64_t)v) < min || (minus ? -(int64_t)v : (int64_t)v) > max) {
		*rc = -EINVAL;
		return 0;
	}
	return minus ? -(int64_t)v : (int64_t)v;
}

static uint32_t oid_of(struct slice s, int *rc)
{
	return (uint32_t)integer(s, 0, UINT32_MAX, rc);
}

static int16_t attnum_of(struct slice s, int *rc)
{
	return (int16_t)integer(s, INT16_MIN, INT16_MAX, rc);
}

static bool bool_of(struct slice s, int *rc)
{
	if (!slice_eq_str(s, "t") && !slice_eq_str(s, "f"))
		*rc = -EINVAL;
	return slice_eq_str(s, "t");
}

static struct slice keep(struct catalog *c, struct slice s, int *rc)
{
	char *copy;

	if (!s.p || s.n == 0)
		return (struct slice){.p = (const uint8_t *)"", .n = 0};
	copy = arena_strdup(&c->arena, s);
	if (!copy)
		*rc = -ENOMEM;
	return slice_of(copy, copy ? s.n : 0);
}

static int add_column(struct catalog *c, uint32_t table, int16_t attnum, uint16_t rule)
{
	struct cat_column *col = push(&c->columns, sizeof(*col));

	if (!col)
		return -ENOMEM;
	*col = (struct cat_column){.table = table, .attnum = attnum, .rule = rule};
	return 0;
}

static int add_table(struct catalog *c, uint32_t oid, struct slice schema, struct slice name)
{
	struct cat_table *t = push(&c->tables, sizeof(*t));
	int rc = 0;

	if (!t)
		return -ENOMEM;
	*t = (struct cat_table){
		.oid = oid, .schema = keep(c, schema, &rc), .name = keep(c, name, &rc)};
	return rc;
}

static int add_column_name(struct catalog *c, struct slice name)
{
	struct slice *s = push(&c->column_names, sizeof(*s));
	int rc = 0;

	if (!s)
		return -ENOMEM;
	*s = keep(c, name, &rc);
	return rc;
}

/* rule, table, attnum, column's name, schema, table's name */
static int column_row(struct catalog *c, const struct slice *v)
{
	int rc = 0;
	int64_t rule = integer(v[0], -1, (int64_t)c->nrules - 1, &rc);
	uint32_t table = oid_of(v[1], &rc);
	int16_t attnum = attnum_of(v[2], &rc);

	if (!rc)
		rc = add_column(c, table, attnum, rule < 0 ? MASK_RULE_NONE : (uint16_t)rule);
	if (!rc)
		rc = add_column_name(c, v[3]);
	return rc ? rc : add_table(c, table, v[4], v[5]);
}

/* view, schema, name, calls code, "table.column,...", tree */
static int view_row(struct catalog *c, const struct slice *v)
{
	struct cat_view *view = push(&c->views, sizeof(*view));
	int rc = 0;

	if (!view)
		return -ENOMEM;
	*view = (struct cat_view){
		.oid = oid_of(v[0], &rc),
		.name = keep(c, v[2], &rc),
		.calls = bool_of(v[3], &rc),
		.uses = keep(c, v[4], &rc),
		.tree = keep(c, v[5], &rc),
	};
	view->whole_rows = viewtree_whole_row(view->tree);
	view->calls |= viewtree_calls_reader(view->tree);
	return rc ? rc : add_table(c, view->oid, v[1], v[2]);
}

/* table, attnum, name, generated, type */
static int attribute_row(struct catalog *c, const struct slice *v)
{
	struct cat_attribute *a = push(&c->attributes, sizeof(*a));
	int rc = 0;

	if (!a)
		return -ENOMEM;
	*a = (struct cat_attribute){
		.table = oid_of(v[0], &rc),
		.attnum = attnum_of(v[1], &rc),
		.name = keep(c, v[2], &rc),
		.generated = bool_of(v[3], &rc),
		.type = oid_of(v[4], &rc),
	};
	return rc;
}

/* name, may read any table */
static int function_row(struct catalog *c, const struct slice *v)
{
	struct cat_function *f = push(&c->functions, sizeof(*f));
	int rc = 0;

	if (!f)
		return -ENOMEM;
	*f = (struct cat_function){.name = keep(c, v[0], &rc), .foreign = bool_of(v[1], &rc)};
	return rc;
}

/* kind, value */
static int misc_row(struct catalog *c, const struct slice *v)
{
	int rc = 0;

	if (slice_eq_str(v[0], "max_oid"))
		c->max_oid = oid_of(v[1], &rc);
	else if (slice_eq_str(v[0], "operator") || slice_eq_str(v[0], "cast"))
		c->foreign_operators = true;
	else if (!slice_eq_str(v[0], "setting"))
		rc = -EINVAL;
	return rc;
}

/* schema, name */
static int name_row(struct catalog *c, const struct slice *v)
{
	uint64_t *hash;

	for (unsigned i = 0; i < 2; i++) {
		hash = push(&c->all_names, sizeof(*hash));
		if (!hash)
			return -ENOMEM;
		*hash = name_hash(i ? v[0] : (struct slice){0}, v[1]);
	}
	return 0;
}

int catalog_row(struct catalog *c, unsigned i, const struct slice *values, unsigned n)
{
	static const struct {
		unsigned columns;
		int (*take)(struct catalog *c, const struct slice *v);
	} kinds[CATALOG_QUERIES] = {
		[CATALOG_Q_COLUMNS] = {6, column_row},
		[CATALOG_Q_VIEWS] = {6, view_row},
		[CATALOG_Q_ATTRIBUTES] = {5, attribute_row},
		[CATALOG_Q_FUNCTIONS] = {2, function_row},
		[CATALOG_Q_MISC] = {2, misc_row},
		[CATALOG_Q_NAMES] = {2, name_row},
	};

	if (i >= CATALOG_QUERIES || n != kinds[i].columns || c->sealed)
		return -EINVAL;
	return kinds[i].take(c, values);
}

/* --------------------------------------------------------------- sorting */

static int by_column(const void *a, const void *b)
{
	const struct cat_column *x = a, *y = b;

	if (x->table != y->table)
		return x->table < y->table ? -1 : 1;
	return (x->attnum > y->attnum) - (x->attnum < y->attnum);
}

static int by_attribute(const void *a, const void *b)
{
	const struct cat_attribute *x = a, *y = b;

	if (x->table != y->table)
		return x->table < y->table ? -1 : 1;
	return (x->attnum > y->attnum) - (x->attnum < y->attnum);
}

static int by_table_name(const void *a, const void *b)
{
	return slice_cmp(((const struct cat_table *)a)->name, ((const struct cat_table *)b)->name);
}

static int by_table(const void *a, const void *b)
{
	const struct cat_table *x = a, *y = b;
	int order = by_table_name(a, b);

	return order ? order : (x->oid > y->oid) - (x->oid < y->oid);
}

static int by_function(const void *a, const void *b)
{
	return slice_cmp(((const struct cat_function *)a)->name,
			 ((const struct cat_function *)b)->name);
}

static int by_name(const void *a, const void *b)
{
	return slice_cmp(*(const struct slice *)a, *(const struct slice *)b);
}

static int by_hash(const void *a, const void *b)
{
	uint64_t x, y;

	memcpy(&x, a, sizeof(x));
	memcpy(&y, b, sizeof(y));
	return (x > y) - (x < y);
}

typedef int compare_fn(const void *a, const void *b);

static void sort(struct cat_array *a, size_t size, compare_fn *cmp)
{
	if (a->n)
		qsort(a->v, a->n, size, cmp);
}

/* Of equal neighbours the first stays. */
static void unique(struct cat_array *a, size_t size, compare_fn *cmp)
{
	size_t kept = 0;

	for (size_t i = 0; i < a->n; i++) {
		char *at = (char *)a->v + i * size, *last = (char *)a->v + (kept - 1) * size;

		if (kept && cmp(last, at) == 0)
			continue;
		if (kept != i)
			memcpy((char *)a->v + kept * size, at, size);
		kept++;
	}
	a->n = kept;
}

static const void *find(const struct cat_array *a, size_t size, compare_fn *cmp, const void *key)
{
	return a->n ? bsearch(key, a->v, a->n, size, cmp) : NULL;
}

/*
 * One rule per column: the one that leaves least. A derived column named by a rule keeps
 * the rule: then it is a column like others.
 */
static void settle_columns(struct catalog *c)
{
	struct cat_column *v = c->columns.v;

	sort(&c->columns, sizeof(*v), by_column);
	for (size_t i = 1; i < c->columns.n; i++) {
		bool better;

		if (by_column(&v[i - 1], &v[i]) != 0)
			continue;
		better = v[i - 1].rule != MASK_RULE_NONE &&
			 (v[i].rule == MASK_RULE_NONE ||
			  c->rule_rank[v[i - 1].rule] >= c->rule_rank[v[i].rule]);
		if (better)
			v[i].rule = v[i - 1].rule;
		else
			v[i - 1].rule = v[i].rule;
	}
	/* Back again: the last of equal ones knows the best. */
	for (size_t i = c->columns.n; i-- > 1;)
		if (by_column(&v[i - 1], &v[i]) == 0)
			v[i - 1].rule = v[i].rule;
	unique(&c->columns, sizeof(*v), by_column);
}

/* ----------------------------------------------------------------- views */

bool catalog_masks_table(const struct catalog *c, uint32_t table)
{
	const struct cat_column *v = c->columns.v;
	size_t lo = 0, hi = c->columns.n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (v[mid].table < table)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < c->columns.n && v[lo].table == table;
}

static bool is_reader(const struct catalog *c, uint32_t oid)
{
	const struct cat_view *v = c->views.v;

	for (size_t i = 0; i < c->views.n; i++)
		if (v[i].oid == oid)
			return v[i].reads;
	return false;
}

/*
 * The view takes masked columns, or whole rows of a table that has some; with @through also if
 * one that it is made of does.
 */
static bool view_reaches(const struct catalog *c, const struct cat_view *view, bool through)
{
	struct slice rest = view->uses;

	if (view->calls)
		return true;
	while (rest.n) {
		const uint8_t *comma = memchr(rest.p, ',', rest.n);
		struct slice one = slice_of(rest.p, comma ? (size_t)(comma - rest.p) : rest.n);
		const uint8_t *dot = memchr(one.p, '.', one.n);
		int rc = dot ? 0 : -EINVAL;
		size_t head = dot ? (size_t)(dot - one.p) : 0;
		uint32_t table = oid_of(slice_of(one.p, head), &rc);
		int16_t column = attnum_of(slice_from(one, head + 1), &rc);

		if (rc || (column && catalog_column(c, table, column)) ||
		    (view->whole_rows && catalog_masks_table(c, table)) ||
		    (through && is_reader(c, table)))
			return true;
		rest = slice_from(rest, one.n + 1);
	}
	return false;
}

struct view_columns {
	struct catalog *c;
	const struct cat_view *view;
	struct cat_array found; /* struct cat_column: not in c->columns yet */
	bool no_memory;
};

static void view_column(void *ctx, int16_t attnum, uint32_t table, int16_t column)
{
	struct view_columns *vc = ctx;
	const struct cat_column *source = table ? catalog_column(vc->c, table, column) : NULL;
	struct cat_column *col;

	if (table && !source)
		return; /* a column that anyone may see */
	col = push(&vc->found, sizeof(*col));
	if (!col) {
		vc->no_memory = true;
		return;
	}
	*col = (struct cat_column){.table = vc->view->oid,
				   .attnum = attnum,
				   .rule = source ? source->rule : MASK_RULE_NONE};
}

/* All columns of the view, for a tree that cannot be read. */
static void all_view_columns(struct view_columns *vc)
{
	const struct cat_attribute *a = vc->c->attributes.v;

	vc->found.n = 0;
	for (size_t i = 0; i < vc->c->attributes.n; i++)
		if (a[i].table == vc->view->oid)
			view_column(vc, a[i].attnum, 0, 0);
}

/* The columns of a view that are masked, or made of masked ones. */
static int follow_view(struct catalog *c, const struct cat_view *view, bool *ret_new)
{
	struct view_columns vc = {.c = c, .view = view};
	const struct cat_column *found;
	size_t known;
	int rc;

	if (!viewtree_columns(view->tree, view_column, &vc))
		all_view_columns(&vc);
	found = vc.found.v;
	rc = vc.no_memory ? -ENOMEM : 0;
	known = c->columns.n;
	for (size_t i = 0; i < vc.found.n && !rc; i++) {
		struct cat_array sorted = {.v = c->columns.v, .n = known};

		if (!find(&sorted, sizeof(found[i]), by_column, &found[i]))
			rc = add_column(c, found[i].table, found[i].attnum, found[i].rule);
	}
	if (c->columns.n > known) {
		settle_columns(c);
		*ret_new = true;
	}
	free(vc.found.v);
	return rc;
}

/* Until nothing is new: a view over a view over a masked column. */
static int follow_views(struct catalog *c)
{
	struct cat_view *v = c->views.v;
	bool again = true;
	int rc = 0;

	while (again && !rc) {
		again = false;
		for (size_t i = 0; i < c->views.n && !rc; i++)
			if (view_reaches(c, &v[i], false))
				rc = follow_view(c, &v[i], &again);
	}
	return rc;
}

/* What they compute of masked columns may fail, and the error tell a value. */
static int find_readers(struct catalog *c)
{
	struct cat_view *v = c->views.v;
	bool again = true;

	while (again) {
		again = false;
		for (size_t i = 0; i < c->views.n; i++) {
			struct slice *name;

			if (v[i].reads || !view_reaches(c, &v[i], true))
				continue;
			v[i].reads = again = true;
			name = push(&c->readers, sizeof(*name));
			if (!name)
				return -ENOMEM;
			*name = v[i].name;
		}
	}
	sort(&c->readers, sizeof(struct slice), by_name);
	unique(&c->readers, sizeof(struct slice), by_name);
	return 0;
}

/* Views give columns other names. */
static int name_view_columns(struct catalog *c)
{
	const struct cat_attribute *a = c->attributes.v;

	for (size_t i = 0; i < c->attributes.n; i++) {
		struct slice *s;

		if (!catalog_column(c, a[i].table, a[i].attnum))
			continue;
		s = push(&c->column_names, sizeof(*s));
		if (!s)
			return -ENOMEM;
		*s = a[i].name;
	}
	return 0;
}

/* Tables are looked up for what is masked in them: others were only on the way. */
static void drop_clear_tables(struct catalog *c)
{
	struct cat_table *t = c->tables.v;
	size_t kept = 0;

	for (size_t i = 0; i < c->tables.n; i++)
		if (catalog_masks_table(c, t[i].oid))
			t[kept++] = t[i];
	c->tables.n = kept;
}

int catalog_seal(struct catalog *c)
{
	int rc;

	if (c->sealed)
		return -EINVAL;
	settle_columns(c);
	sort(&c->attributes, sizeof(struct cat_attribute), by_attribute);
	unique(&c->attributes, sizeof(struct cat_attribute), by_attribute);
	rc = follow_views(c);
	if (!rc)
		rc = name_view_columns(c);
	if (!rc)
		rc = find_readers(c);
	if (rc)
		return rc;
	sort(&c->tables, sizeof(struct cat_table), by_table);
	unique(&c->tables, sizeof(struct cat_table), by_table);
	drop_clear_tables(c);
	sort(&c->functions, sizeof(struct cat_function), by_function);
	sort(&c->column_names, sizeof(struct slice), by_name);
	unique(&c->column_names, sizeof(struct slice), by_name);
	sort(&c->all_names, sizeof(uint64_t), by_hash);
	free(c->views.v);
	c->views = (struct cat_array){0};
	c->sealed = true;
	return 0;
}

/* --------------------------------------------------------------- look-up */

const struct cat_column *catalog_column(const struct catalog *c, uint32_t table, int16_t attnum)
{
	struct cat_column key = {.table = table, .attnum = attnum};

	return find(&c->columns, sizeof(key), by_column, &key);
}

const struct cat_table *catalog_table(const struct catalog *c, struct slice name)
{
	struct cat_table key = {.name = name};
	const struct cat_table *first = c->tables.v;
	const struct cat_table *t = find(&c->tables, sizeof(key), by_table_name, &key);

	while (t && t > first && slice_eq(t[-1].name, name))
		t--;
	return t;
}

const struct cat_function *catalog_function(const struct catalog *c, struct slice name)
{
	struct cat_function key = {.name = name};

	return find(&c->functions, sizeof(key), by_function, &key);
}

bool catalog_reads(const struct catalog *c, struct slice name)
{
	return find(&c->readers, sizeof(name), by_name, &name) != NULL;
}

bool catalog_has_column_name(const struct catalog *c, struct slice name)
{
	return find(&c->column_names, sizeof(name), by_name, &name) != NULL;
}

bool catalog_knows(const struct catalog *c, struct slice schema, struct slice name)
{
	uint64_t key = name_hash(schema, name);

	return find(&c->all_names, sizeof(key), by_hash, &key) != NULL;
}
