/* SPDX-License-Identifier: MIT */
/*
 * The catalog queries. They start from names, by index, and follow pg_inherits
 * and pg_depend, so that their cost goes with what the rules concern and not
 * with the size of the database. All names are qualified, and
 * search_path is the server's own schema.
 */
#include "policy/catalog_sql.h"

#include <errno.h>

#include "base/buf.h"
#include "policy/catalog.h"
#include "policy/mask_set.h"

enum { QUERY_MAX = 4 << 20 };

/*
 * Operators cannot be named so and stay readable: without this one that somebody has made in a schema
 * of search_path, and that fits better than the server's own, would run as us and say what is masked.
 */
static const char safely[] = "SET LOCAL search_path = pg_catalog;\n";

#define CLASS(name) "'pg_catalog." name "'::pg_catalog.regclass"

/* Columns of statistics that hold values of tables; nobody masks them by a rule. */
static const char statistics[] =
	" UNION ALL SELECT -1, a.attrelid, a.attname FROM pg_catalog.pg_class c"
	" JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid"
	" WHERE c.relnamespace = 'pg_catalog'::pg_catalog.regnamespace AND a.attnum > 0"
	" AND c.relname IN ('pg_statistic', 'pg_statistic_ext_data', 'pg_stats', 'pg_stats_ext',"
	" 'pg_stats_ext_exprs') AND a.attname IN ('stavalues1', 'stavalues2', 'stavalues3',"
	" 'stavalues4', 'stavalues5', 'stxdmcv', 'stxdexpr', 'most_common_vals', "
	"'histogram_bounds',"
	" 'most_common_elems', 'most_common_val_nulls')";

/*
 * base: the columns themselves, by name down to partitions and children and from there up to
 * all parents. derived: columns generated from them, and their overflow in TOAST tables.
 */
static const char family[] =
	", down AS (SELECT rule, relid, attname FROM named UNION SELECT d.rule, i.inhrelid, "
	"d.attname"
	" FROM down d JOIN pg_catalog.pg_inherits i ON i.inhparent = d.relid)"
	", up AS (SELECT rule, relid, attname FROM down UNION SELECT u.rule, i.inhparent, u.attname"
	" FROM up u JOIN pg_catalog.pg_inherits i ON i.inhrelid = u.relid)"
	", base AS (SELECT u.rule, a.attrelid AS relid, a.attnum, a.attname FROM up u"
	" JOIN pg_catalog.pg_attribute a ON a.attrelid = u.relid AND a.attname = u.attname"
	" WHERE NOT a.attisdropped)"
	", derived AS (SELECT -1 AS rule, g.attrelid AS relid, g.attnum, g.attname FROM base b"
	" JOIN pg_catalog.pg_attribute g ON g.attrelid = b.relid AND g.attgenerated <> ''"
	" LEFT JOIN pg_catalog.pg_attrdef e ON e.adrelid = g.attrelid AND e.adnum = g.attnum"
	" JOIN pg_catalog.pg_depend d ON d.refclassid = " CLASS(
		"pg_class") " AND d.refobjid = b.relid AND d.refobjsubid = b.attnum"
			    " AND (d.classid = " CLASS(
				    "pg_class") " AND d.objid = b.relid AND d.objsubid = g.attnum"
						" OR d.classid = " CLASS(
							"pg_attrdef") " AND d.objid = e.oid)"
								      " UNION SELECT -1, "
								      "t.attrelid, t.attnum, "
								      "t.attname FROM base b"
								      " JOIN pg_catalog.pg_class c "
								      "ON c.oid = b.relid"
								      " JOIN "
								      "pg_catalog.pg_attribute t "
								      "ON t.attrelid = "
								      "c.reltoastrelid AND "
								      "t.attnum > 0"
								      " WHERE c.reltoastrelid <> "
								      "0)";

/* Code that could read any table: not built in, and not C that depends on its arguments only. */
#define FOREIGN_CODE(p)                                                                        \
	p ".oid >= 16384 AND NOT (" p ".provolatile = 'i' AND " p                              \
	  ".prolang IN (SELECT oid FROM pg_catalog.pg_language WHERE lanname IN ('internal', " \
	  "'c')))"

/* views: all that depends on those tables or on such code, and on that, and so on. */
static const char views[] =
	", calls AS (SELECT DISTINCT r.ev_class AS relid FROM pg_catalog.pg_proc p"
	" LEFT JOIN pg_catalog.pg_operator o ON o.oprcode = p.oid AND o.oid >= 16384"
	" JOIN pg_catalog.pg_depend d ON d.classid = " CLASS(
		"pg_rewrite") " AND (d.refclassid = " CLASS("pg_proc") " AND d.refobjid = p.oid"
								       " OR d.refclassid = " CLASS(
									       "pg_operator") " AND"
											      " d."
											      "refo"
											      "bjid"
											      " = "
											      "o."
											      "oid)"
											      " JOI"
											      "N "
											      "pg_"
											      "cata"
											      "log."
											      "pg_"
											      "rewr"
											      "ite "
											      "r "
											      "ON "
											      "r."
											      "oid "
											      "= "
											      "d."
											      "obji"
											      "d "
											      "AND "
											      "r."
											      "ev_"
											      "type"
											      " = "
											      "'1'"
											      " WHE"
											      "RE"
											      " " FOREIGN_CODE(
												      "p") ")"
													   ", reach AS (SELECT relid FROM base UNION SELECT relid FROM derived UNION"
													   " SELECT relid FROM calls)"
													   ", views AS (SELECT relid FROM reach UNION SELECT r.ev_class FROM views v"
													   " JOIN pg_catalog.pg_depend d ON d.refclassid = " CLASS("pg_class") " AND d.refobjid = v.relid AND d.classid = " CLASS(
														   "pg_rewrite") " JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid AND r.ev_type = '1')";

static const char select_columns[] =
	" SELECT x.rule, x.relid, x.attnum, x.attname, n.nspname, c.relname"
	" FROM (SELECT * FROM base UNION SELECT * FROM derived) x"
	" JOIN pg_catalog.pg_class c ON c.oid = x.relid"
	" JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace";

static const char select_views[] = " SELECT c.oid, n.nspname, c.relname, c.oid IN (SELECT relid "
				   "FROM calls),"
				   " (SELECT pg_catalog.string_agg(d.refobjid || '.' || "
				   "d.refobjsubid, ',')"
				   " FROM pg_catalog.pg_depend d WHERE d.classid = " CLASS(
					   "pg_rewrite") " AND d.objid = r.oid AND d.refclassid "
							 "= " CLASS("pg_class") " AND d.refobjid "
										"<> c.oid),"
										" r.ev_action::pg_"
										"catalog.text FROM "
										"views v JOIN "
										"pg_catalog.pg_"
										"class c ON c.oid "
										"= v.relid"
										" JOIN "
										"pg_catalog.pg_"
										"namespace n ON "
										"n.oid = "
										"c.relnamespace"
										" JOIN "
										"pg_catalog.pg_"
										"rewrite r ON "
										"r.ev_class = "
										"c.oid AND "
										"r.ev_type = '1'"
										" WHERE c.relkind "
										"IN ('v', 'm')";

static const char select_attributes[] =
	" SELECT a.attrelid, a.attnum, a.attname, a.attgenerated <> '',"
	" CASE WHEN y.typtype = 'd' THEN y.typbasetype ELSE y.oid END FROM views v"
	" JOIN pg_catalog.pg_attribute a ON a.attrelid = v.relid"
	" JOIN pg_catalog.pg_type y ON y.oid = a.atttypid"
	" WHERE a.attnum > 0 AND NOT a.attisdropped";

static const char functions[] = "SELECT p.proname, pg_catalog.bool_or(" FOREIGN_CODE(
	"p") ") FROM pg_catalog.pg_proc p"
	     " WHERE p.oid >= 16384 GROUP BY p.proname";

#define NOT_C(p)                                                                                  \
	p ".oid >= 16384 AND " p ".prolang NOT IN (SELECT oid FROM pg_catalog.pg_language WHERE " \
	  "lanname IN ('internal', 'c'))"

/*
 * The planner knows nothing of how few rows the recursion gives: left alone it
 * compiles and hashes whole catalogs, which is ten times as slow in a large database. The session
 * is ours.
 */
static const char misc[] =
	"SELECT 'setting', pg_catalog.set_config(s, 'off', false)"
	" FROM pg_catalog.unnest(ARRAY['jit', 'enable_hashjoin', 'enable_mergejoin']) s"
	" UNION ALL SELECT 'max_oid', pg_catalog.max(oid)::pg_catalog.text FROM pg_catalog.pg_class"
	" UNION ALL SELECT 'operator', o.oprname::pg_catalog.text FROM pg_catalog.pg_operator o"
	" JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode WHERE " NOT_C(
		"p") " UNION ALL SELECT 'cast', k.oid::pg_catalog.text FROM pg_catalog.pg_cast k"
		     " JOIN pg_catalog.pg_proc p ON p.oid = k.castfunc WHERE " NOT_C("p");

static const char names[] = "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c"
			    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
			    " WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 't')";

static int add(struct buf *b, const char *s)
{
	return buf_append_slice(b, slice_str(s));
}

/* A literal that reads the same whatever standard_conforming_strings is. */
static int add_literal(struct buf *b, struct slice s)
{
	int rc = add(b, " E'");

	for (size_t i = 0; i < s.n && !rc; i++) {
		if (s.p[i] == '\'' || s.p[i] == '\\')
			rc = buf_append(b, &s.p[i], 1);
		if (!rc)
			rc = buf_append(b, &s.p[i], 1);
	}
	return rc ? rc : add(b, "'");
}

static bool is_star(struct slice s)
{
	return slice_eq_str(s, "*");
}

/* @column = the name, unless it may be any. */
static int add_match(struct buf *b, const char *column, struct slice name)
{
	int rc;

	if (name.n == 0 || is_star(name))
		return 0;
	rc = add(b, " AND ");
	if (!rc)
		rc = add(b, column);
	if (!rc)
		rc = add(b, " =");
	return rc ? rc : add_literal(b, name);
}

static int add_rule(struct buf *b, uint32_t index, const struct mask_rule *r)
{
	bool any_schema = r->schema.n == 0 || is_star(r->schema);
	int rc = buf_printf(b,
			    " SELECT %u, a.attrelid, a.attname FROM pg_catalog.pg_class c"
			    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
			    " JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid"
			    " WHERE a.attnum > 0 AND NOT a.attisdropped"
			    " AND c.relkind IN ('r', 'p', 'v', 'm', 'f')",
			    index);

	if (!rc && any_schema)
		rc = add(b, " AND n.nspname NOT IN ('pg_catalog', 'information_schema')");
	if (!rc)
		rc = add_match(b, "n.nspname", r->schema);
	if (!rc)
		rc = add_match(b, "c.relname", r->table);
	return rc ? rc : add_match(b, "a.attname", r->column);
}

/* WITH ... up to base and derived. */
static int add_base(struct buf *b, const struct mask_set *m)
{
	bool some = false;
	int rc = add(b, "WITH RECURSIVE named(rule, relid, attname) AS (");

	for (uint32_t i = 0; i < m->nrules && !rc; i++) {
		if (m->rules[i]->column.n == 0)
			continue;
		if (some)
			rc = add(b, " UNION ALL");
		if (!rc)
			rc = add_rule(b, i, m->rules[i]);
		some = true;
	}
	if (!rc)
		rc = add(b, statistics);
	if (!rc)
		rc = add(b, ")");
	return rc ? rc : add(b, family);
}

static int add_query(struct buf *b, const struct mask_set *m, enum catalog_query_id id)
{
	int rc;

	switch (id) {
	case CATALOG_Q_COLUMNS:
		rc = add_base(b, m);
		return rc ? rc : add(b, select_columns);
	case CATALOG_Q_VIEWS:
	case CATALOG_Q_ATTRIBUTES:
		rc = add_base(b, m);
		if (!rc)
			rc = add(b, views);
		if (rc)
			return rc;
		return add(b, id == CATALOG_Q_VIEWS ? select_views : select_attributes);
	case CATALOG_Q_FUNCTIONS:
		return add(b, functions);
	case CATALOG_Q_MISC:
		return add(b, misc);
	case CATALOG_Q_NAMES:
		return add(b, names);
	case CATALOG_QUERIES:
		break;
	}
	return -EINVAL;
}

int catalog_sql_make(const struct mask_set *m, char ***ret)
{
	char **queries = calloc(CATALOG_QUERIES, sizeof(*queries));
	int rc = queries ? 0 : -ENOMEM;

	for (unsigned i = 0; i < CATALOG_QUERIES && !rc; i++) {
		struct buf b;

		buf_init(&b, QUERY_MAX);
		rc = add(&b, safely);
		if (!rc)
			rc = add_query(&b, m, i);
		if (!rc)
			rc = buf_append(&b, "", 1);
		if (!rc && !(queries[i] = strdup((const char *)buf_data(&b))))
			rc = -ENOMEM;
		buf_done(&b);
	}
	if (rc) {
		catalog_sql_free(queries);
		return rc;
	}
	*ret = queries;
	return 0;
}

void catalog_sql_free(char **queries)
{
	for (unsigned i = 0; queries && i < CATALOG_QUERIES; i++)
		free(queries[i]);
	free(queries);
}

const char *catalog_query(const struct mask_set *m, unsigned i)
{
	return m->queries && i < CATALOG_QUERIES ? m->queries[i] : NULL;
}
