/* SPDX-License-Identifier: MIT */
/* From the origin of a result's columns to what is done with them. */
#include "policy/lineage.h"

#include "base/reason.h"
#include "policy/catalog.h"

/* Types whose text can hold few of the kinds. OIDs are fixed (pg_type.dat). */
enum {
	FIRST_NORMAL_OID = 16384,
	TYPE_BOOL = 16,
	TYPE_INT8 = 20,
	TYPE_INT2 = 21,
	TYPE_INT4 = 23,
	TYPE_OID = 26,
	TYPE_FLOAT4 = 700,
	TYPE_FLOAT8 = 701,
	TYPE_CIDR = 650,
	TYPE_INET = 869,
	TYPE_DATE = 1082,
	TYPE_TIME = 1083,
	TYPE_TIMESTAMP = 1114,
	TYPE_TIMESTAMPTZ = 1184,
	TYPE_NUMERIC = 1700,
	TYPE_UUID = 2950,
};

#define BIT(name) (1u << DETECT_BIT_##name)

/* Why a value without an origin may be masked data. */
enum taint {
	TAINT_NAMES = 1u << 0, /* the text names masked columns or takes them with a row */
	TAINT_CODE = 1u << 1,  /* it runs what may read any table */
};

static uint32_t detectors_for(const struct mask_set *m, uint32_t type)
{
	uint32_t can;

	switch (type) {
	case TYPE_BOOL:
	case TYPE_INT2:
	case TYPE_INT4:
	case TYPE_OID:
	case TYPE_FLOAT4:
	case TYPE_TIME:
		can = 0;
		break;
	case TYPE_INT8:
	case TYPE_FLOAT8:
		can = BIT(CARD);
		break;
	case TYPE_NUMERIC:
		can = BIT(CARD) | BIT(IPV4);
		break;
	case TYPE_CIDR:
	case TYPE_INET:
		can = BIT(IPV4);
		break;
	case TYPE_DATE:
	case TYPE_TIMESTAMP:
	case TYPE_TIMESTAMPTZ:
		can = BIT(DOB);
		break;
	case TYPE_UUID:
		can = BIT(UUID);
		break;
	default:
		return m->detectors;
	}
	return m->detectors & (can | BIT(PATTERN)); /* a user's pattern may mean any type */
}

static void plan_scan(const struct mask_set *m, uint32_t type, struct insp_plan *plan)
{
	*plan = (struct insp_plan){
		.how = MASK_NONE, .detectors = detectors_for(m, type), .rule = MASK_RULE_NONE};
	for (uint32_t left = plan->detectors; left; left &= left - 1) {
		uint8_t how = m->found_how[__builtin_ctz(left)];

		if (mask_rank(how) > mask_rank(plan->found_how))
			plan->found_how = how;
	}
}

/* What @rule says; a column made of masked ones is hidden wholly. */
static void plan_mask(const struct mask_set *m, uint16_t rule, bool unresolved,
		      struct insp_plan *plan)
{
	*plan = (struct insp_plan){
		.how = (uint8_t)(rule < m->nrules ? m->rules[rule]->how : MASK_REDACT),
		.rule = rule,
		.unresolved = unresolved,
	};
}

/* A snapshot that can be used with this mask set. */
static const struct catalog *usable(const struct mask_set *m, const struct catalog *c)
{
	if (!c || !c->sealed)
		return NULL;
	return memcmp(m->rules_hash, c->rules_hash, sizeof(m->rules_hash)) == 0 ? c : NULL;
}

static bool is_operator(struct slice name)
{
	return name.n && memchr("+-*/<>=~!@#%^&|`?", name.p[0], 17) != NULL;
}

/* What the text calls that is not built in: all of it known, and none reads tables? */
static bool calls_are_harmless(const struct catalog *c, const struct sql_info *info)
{
	uint32_t seen = 0;

	for (uint32_t i = 0; i < info->naccess; i++) {
		const struct sql_access *a = &info->access[i];
		const struct cat_function *f;

		if (a->effect != SQL_PROCEDURE)
			continue;
		if (a->kind != SQL_OBJ_FUNCTION)
			return false;
		seen++;
		if (is_operator(a->name)) /* those of users are looked for as a whole */
			continue;
		f = catalog_function(c, a->name);
		if (!f || f->foreign)
			return false;
	}
	return seen > 0;
}

static bool names_a_relation(const struct sql_info *info)
{
	for (uint32_t i = 0; i < info->naccess; i++)
		if (info->access[i].kind == SQL_OBJ_RELATION)
			return true;
	return false;
}

static unsigned taint_without_catalog(const struct sql_info *info)
{
	unsigned t = names_a_relation(info) ? TAINT_NAMES : 0;

	return t | (info->flags & SQL_F_USER_FUNCTION ? TAINT_CODE : 0);
}

static unsigned taint_of(const struct catalog *c, const struct sql_info *info)
{
	unsigned t = 0;

	if (!info || info->effects & SQL_UNKNOWN)
		return TAINT_NAMES | TAINT_CODE;
	if (!c)
		return taint_without_catalog(info);
	if (info->flags & SQL_F_USER_FUNCTION && !calls_are_harmless(c, info))
		t |= TAINT_CODE;
	/* The server's files are also those of its tables. */
	if (info->effects & (SQL_FILE | SQL_PROGRAM))
		t |= TAINT_CODE;
	if (c->foreign_operators && names_a_relation(info))
		t |= TAINT_CODE;
	for (uint32_t i = 0; i < info->nnames; i++) {
		const struct cat_function *f = catalog_function(c, info->names[i]);

		if (f && f->foreign)
			t |= TAINT_CODE;
		if (catalog_has_column_name(c, info->names[i]) ||
		    (info->flags & SQL_F_STAR && catalog_table(c, info->names[i])))
			t |= TAINT_NAMES;
	}
	return t;
}

bool mask_tainted(const struct mask_set *m, const struct catalog *c, const struct sql_info *info)
{
	if (!mask_set_needs_catalog(m))
		return false;
	return taint_of(usable(m, c), info) != 0;
}

static bool is_name(struct slice rule, const struct slice *names, uint32_t n)
{
	if (rule.n == 0 || slice_eq_str(rule, "*"))
		return true;
	for (uint32_t i = 0; i < n; i++)
		if (slice_eq(rule, names[i]))
			return true;
	return false;
}

/* A rule's column that goes may stay in a child, which is then no child of a column with a rule. */
static bool drops_masked(const struct mask_set *m, const struct sql_info *info)
{
	for (uint32_t i = 0; i < m->nrules && info->ndropped; i++) {
		const struct mask_rule *r = m->rules[i];

		if (r->column.n && is_name(r->column, info->dropped, info->ndropped) &&
		    is_name(r->table, info->names, info->nnames))
			return true;
	}
	return false;
}

uint16_t mask_refuses(const struct mask_set *m, const struct catalog *c,
		      const struct sql_info *info)
{
	if (!mask_set_needs_catalog(m))
		return TG_R_NONE;
	if (info->flags & SQL_F_CODE)
		return TG_R_MASK_CODE;
	/* A file's content would become a table's or a large object's. */
	if (info->effects & (SQL_FILE | SQL_PROGRAM) && info->effects & SQL_WRITE)
		return TG_R_MASK_CARRY;
	if (info->flags & SQL_F_CARRIES && mask_tainted(m, c, info))
		return TG_R_MASK_CARRY;
	return drops_masked(m, info) ? TG_R_MASK_CARRY : TG_R_NONE;
}

/* Reads what the server keeps of values for its planner. */
static bool names_statistics(const struct sql_info *info)
{
	static const char *const names[] = {"pg_statistic", "pg_statistic_ext_data", "pg_stats",
					    "pg_stats_ext", "pg_stats_ext_exprs"};

	if (!info)
		return true;
	for (uint32_t i = 0; i < info->nnames; i++)
		for (unsigned k = 0; k < ARRAY_SIZE(names); k++)
			if (slice_eq_str(info->names[i], names[k]))
				return true;
	return false;
}

/* ------------------------------------------------------------------ COPY */

enum copy_column { COPY_CLEAR, COPY_MASKED, COPY_NEW };

/* The first of a table's columns; they follow each other up to *ret_end. */
static const struct cat_attribute *attributes_of(const struct catalog *c, uint32_t table,
						 const struct cat_attribute **ret_end)
{
	const struct cat_attribute *a = c->attributes.v, *first;
	size_t lo = 0, hi = c->attributes.n;

	while (lo < hi) {
		size_t mid = lo + (hi - lo) / 2;

		if (a[mid].table < table)
			lo = mid + 1;
		else
			hi = mid;
	}
	first = a + lo;
	while (lo < c->attributes.n && a[lo].table == table)
		lo++;
	*ret_end = a + lo;
	return first;
}

/* The @index-th column that COPY sends of a table, NULL if there are not so many. */
static const struct cat_attribute *copied_attribute(const struct catalog *c, uint32_t table,
						    uint32_t index)
{
	const struct cat_attribute *end, *a = attributes_of(c, table, &end);

	for (; a < end; a++)
		if (!a->generated && index-- == 0)
			return a;
	return NULL;
}

static bool sends_columns(const struct catalog *c, uint32_t table, uint32_t n)
{
	return n > 0 && copied_attribute(c, table, n - 1) && !copied_attribute(c, table, n);
}

static const struct cat_attribute *named_attribute(const struct catalog *c, uint32_t table,
						   struct slice name)
{
	const struct cat_attribute *end, *a = attributes_of(c, table, &end);

	for (; a < end; a++)
		if (slice_eq(a->name, name))
			return a;
	return NULL;
}

/*
 * COPY says neither table nor number of its columns: both by name. Tables of the same name in
 * several schemas are all meant where the text does not say which.
 */
static enum copy_column copy_lookup(const struct catalog *c, const struct sql_copy *copy,
				    const struct insp_column *col, uint32_t index, uint32_t n,
				    uint16_t *ret_rule, uint32_t *ret_type)
{
	const struct cat_table *t = catalog_table(c, copy->relation);
	const struct cat_table *end = (const struct cat_table *)c->tables.v + c->tables.n;
	bool masked = false, clear = false, other = false;

	if (!catalog_knows(c, copy->schema, copy->relation))
		return COPY_NEW;
	for (; t && t < end && slice_eq(t->name, copy->relation); t++) {
		const struct cat_column *found;
		const struct cat_attribute *at;

		if (copy->schema.n && !slice_eq(copy->schema, t->schema))
			continue;
		at = copy->ncolumns ? named_attribute(c, t->oid, col->name)
				    : copied_attribute(c, t->oid, index);
		/* With other columns it is not this one, or it was changed since. */
		if (!at || (!copy->ncolumns && !sends_columns(c, t->oid, n))) {
			other = true;
			continue;
		}
		*ret_type = masked || clear ? (*ret_type == at->type ? at->type : 0) : at->type;
		found = catalog_column(c, t->oid, at->attnum);
		if (found)
			/* Of two rules none: redacted. */
			*ret_rule =
				masked && found->rule != *ret_rule ? MASK_RULE_NONE : found->rule;
		masked |= found != NULL;
		clear |= !found;
	}
	if (masked)
		return COPY_MASKED;
	return other && !clear ? COPY_NEW : COPY_CLEAR;
}

/* --------------------------------------------------------------- columns */

struct planner {
	const struct mask_set *m;
	const struct catalog *c;
	const struct sql_info *info;
	bool tainted; /* what has no origin is masked */
	bool statistics;
	bool stale, masked;
};

static bool is_copy(const struct sql_info *info)
{
	return info && info->copy && !info->copy->query && (info->flags & SQL_F_COPY_OUT);
}

static void plan_copied(struct planner *p, const struct insp_column *col, uint32_t index,
			uint32_t n, struct insp_plan *plan)
{
	uint16_t rule = MASK_RULE_NONE;
	uint32_t type = 0;

	switch (copy_lookup(p->c, p->info->copy, col, index, n, &rule, &type)) {
	case COPY_CLEAR:
		plan_scan(p->m, type, plan);
		break;
	case COPY_MASKED:
		plan_mask(p->m, rule, false, plan);
		break;
	case COPY_NEW:
		p->stale = true;
		plan_mask(p->m, MASK_RULE_NONE, true, plan);
		type = 0;
		break;
	}
	plan->type = type;
}

/* A column of a table or view. */
static void plan_origin(struct planner *p, const struct insp_column *col, struct insp_plan *plan)
{
	const struct cat_column *masked;

	if (!p->c) {
		if (col->table < FIRST_NORMAL_OID && !p->statistics)
			plan_scan(p->m, col->type, plan);
		else
			plan_mask(p->m, MASK_RULE_NONE, true, plan);
		return;
	}
	masked = catalog_column(p->c, col->table, col->attnum);
	if (col->attnum == 0 && catalog_masks_table(p->c, col->table)) {
		/* The whole row. */
		plan_mask(p->m, MASK_RULE_NONE, false, plan);
	} else if (masked) {
		plan_mask(p->m, masked->rule, false, plan);
	} else if (col->table > p->c->max_oid) {
		p->stale = true;
		plan_mask(p->m, MASK_RULE_NONE, true, plan);
	} else {
		plan_scan(p->m, col->type, plan);
	}
}

static void plan_column(struct planner *p, const struct insp_column *col, uint32_t index,
			uint32_t n, struct insp_plan *plan)
{
	if (col->table)
		plan_origin(p, col, plan);
	else if (p->c && is_copy(p->info) && col->type == 0)
		plan_copied(p, col, index, n, plan);
	else if (p->tainted)
		plan_mask(p->m, MASK_RULE_NONE, !p->c, plan);
	else
		plan_scan(p->m, col->type, plan);
	p->masked |= plan->how != MASK_NONE;
}

/* COMMIT runs what was deferred, ANALYZE the expressions of statistics: of tables not named here.
 */
static bool checks_any_table(const struct sql_info *info)
{
	return info && (info->effects & SQL_TRANSACTION ||
			(info->effects & SQL_DDL && !names_a_relation(info)));
}

void mask_plan(const struct mask_set *m, const struct catalog *c, const struct sql_info *info,
	       bool tainted, const struct insp_column *cols, uint32_t n, struct insp_plan *plans,
	       bool *ret_texts, bool *ret_stale)
{
	struct planner p = {.m = m, .info = info};
	unsigned taint;

	*ret_texts = *ret_stale = false;
	if (!mask_set_needs_catalog(m)) {
		for (uint32_t i = 0; i < n; i++)
			plan_scan(m, cols[i].type, &plans[i]);
		return;
	}
	p.c = usable(m, c);
	p.statistics = names_statistics(info);
	taint = taint_of(p.c, info);
	*ret_texts = tainted || taint || checks_any_table(info);
	/* A plan shows the query's own constants, unless code could put others there. */
	if (info && (info->flags & (SQL_F_EXPLAIN | SQL_F_MULTI)) == SQL_F_EXPLAIN)
		taint &= TAINT_CODE;
	p.tainted = tainted || taint;
	for (uint32_t i = 0; i < n; i++)
		plan_column(&p, &cols[i], i, n, &plans[i]);
	*ret_stale = p.stale;
	*ret_texts |= p.masked;
	for (uint32_t i = 0; info && p.c && i < info->nnames && !*ret_texts; i++)
		*ret_texts = catalog_table(p.c, info->names[i]) != NULL ||
			     catalog_reads(p.c, info->names[i]);
}
