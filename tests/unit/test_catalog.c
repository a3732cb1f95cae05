/* SPDX-License-Identifier: MIT */
/* A snapshot from rows as PostgreSQL gives them; a real server: tests/e2e/test_catalog.py. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "guard.h"
#include "policy/catalog.h"
#include "policy/lineage.h"

#define S(text) SLICE_LIT(text)
#define ROW(c, q, ...)                                         \
	catalog_row(c, q, (const struct slice[]){__VA_ARGS__}, \
		    sizeof((const struct slice[]){__VA_ARGS__}) / sizeof(struct slice))
#define NULL_VALUE ((struct slice){0})

static struct policy *policy;
static struct policy_view *view;
static const struct mask_set *masks;

static int open_policy(void **state)
{
	static struct slice all[] = {SLICE_LIT("*")};
	struct mask_spec spec[] = {
		{.column = S("public.customers.ssn"), .how = MASK_LAST4, .line = 4},
		{.column = S("customers.ssn"), .how = MASK_HASH, .line = 5},
		{.detectors = 1u << DETECT_BIT_CARD | 1u << DETECT_BIT_DOB, .how = MASK_REDACT},
	};
	struct entry_spec e = {.agents = all,
			       .nagents = 1,
			       .targets = all,
			       .ntargets = 1,
			       .masks = spec,
			       .nmasks = 3};
	char why[256];

	if (policy_new(&e, 1, "t.yaml", &policy, why, sizeof(why)) ||
	    policy_view_new(policy, S("a"), S("t"), &view))
		return -1;
	masks = policy_masks(view);
	return 0;
}

static int close_policy(void **state)
{
	policy_view_free(view);
	policy_unref(policy);
	return 0;
}

#define ENTRY(no, name, table, column, junk)                                                      \
	"{TARGETENTRY :expr {VAR :varno 1 :varattno 2 :vartype 25} :resno " #no " :resname " name \
	" :ressortgroupref 0 :resorigtbl " #table " :resorigcol " #column " :resjunk " junk "}"
#define TREE(entries)                                                                \
	"({QUERY :commandType 1 :rtable ({RTE :subquery {QUERY :targetList (" ENTRY( \
		1, "inner", 9, 9, "false") ")}}) :jointree <> :targetList (" entries \
					   ") :override 0 :returningList <>})"

/* customers(id, ssn) 20001; v(tax, shout) 20002; v2(t) 20003 over v; rows() reads anything. */
static struct catalog *snapshot(void)
{
	struct catalog *c;

	assert_int_equal(catalog_new(masks, &c), 0);
	assert_int_equal(ROW(c, CATALOG_Q_COLUMNS, S("0"), S("20001"), S("2"), S("ssn"),
			     S("public"), S("customers")),
			 0);
	assert_int_equal(ROW(c, CATALOG_Q_COLUMNS, S("1"), S("20001"), S("2"), S("ssn"),
			     S("public"), S("customers")),
			 0);
	assert_int_equal(ROW(c, CATALOG_Q_COLUMNS, S("-1"), S("2619"), S("27"), S("stavalues1"),
			     S("pg_catalog"), S("pg_statistic")),
			 0);
	/* The view over the view comes first: one round is not enough. */
	assert_int_equal(ROW(c, CATALOG_Q_VIEWS, S("20003"), S("public"), S("v2"), S("f"),
			     S("20002.1"), S(TREE(ENTRY(1, "t", 20002, 1, "false")))),
			 0);
	assert_int_equal(ROW(c, CATALOG_Q_VIEWS, S("20002"), S("public"), S("v"), S("f"),
			     S("20001.2,20001.1"),
			     S(TREE(ENTRY(1, "tax", 20001, 2, "false") " " ENTRY(
				     2, "shout", 0, 0,
				     "false") " " ENTRY(3, "id", 20001, 1,
							"false") " " ENTRY(4, "x", 0, 0, "true")))),
			 0);
	assert_int_equal(ROW(c, CATALOG_Q_VIEWS, S("20004"), S("public"), S("count"), S("f"),
			     S("20001.0"), S(TREE(ENTRY(1, "n", 0, 0, "false")))),
			 0);
	assert_int_equal(ROW(c, CATALOG_Q_ATTRIBUTES, S("20001"), S("1"), S("id"), S("f"), S("25")), 0);
	assert_int_equal(ROW(c, CATALOG_Q_ATTRIBUTES, S("20001"), S("2"), S("ssn"), S("f"), S("25")), 0);
	assert_int_equal(ROW(c, CATALOG_Q_ATTRIBUTES, S("20002"), S("1"), S("tax"), S("f"), S("25")), 0);
	assert_int_equal(ROW(c, CATALOG_Q_ATTRIBUTES, S("20002"), S("2"), S("shout"), S("f"), S("25")), 0);
	assert_int_equal(ROW(c, CATALOG_Q_ATTRIBUTES, S("20003"), S("1"), S("t"), S("f"), S("25")), 0);
	assert_int_equal(ROW(c, CATALOG_Q_FUNCTIONS, S("rows"), S("t")), 0);
	assert_int_equal(ROW(c, CATALOG_Q_FUNCTIONS, S("similarity"), S("f")), 0);
	assert_int_equal(ROW(c, CATALOG_Q_MISC, S("setting"), S("off")), 0);
	assert_int_equal(ROW(c, CATALOG_Q_MISC, S("max_oid"), S("20050")), 0);
	assert_int_equal(ROW(c, CATALOG_Q_NAMES, S("public"), S("customers")), 0);
	assert_int_equal(ROW(c, CATALOG_Q_NAMES, S("public"), S("plain")), 0);
	assert_int_equal(catalog_seal(c), 0);
	return c;
}

static const struct {
	uint32_t table;
	int16_t attnum;
	enum mask_how how;
	bool unresolved;
} columns[] = {
	{20001, 2, MASK_HASH, false}, /* of two rules the one that leaves less */
	{20001, 1, MASK_NONE, false}, {20002, 1, MASK_HASH, false},  {20002, 2, MASK_REDACT, false},
	{20002, 3, MASK_NONE, false}, {20002, 4, MASK_NONE, false}, /* a junk entry is no column */
	{20003, 1, MASK_HASH, false}, {20004, 1, MASK_NONE, false},  {2619, 27, MASK_REDACT, false},
	{2619, 1, MASK_NONE, false},  {20051, 1, MASK_REDACT, true}, /* newer than the snapshot */
	{20050, 1, MASK_NONE, false}, {0, 0, MASK_NONE, false},
};

static void test_origins(void **state)
{
	struct catalog *c = snapshot();
	struct sql_info info = {0};

	assert_int_equal(catalog_max_oid(c), 20050);
	for (size_t i = 0; i < ARRAY_SIZE(columns); i++) {
		struct insp_column col = {.table = columns[i].table, .attnum = columns[i].attnum};
		struct insp_plan plan;
		bool texts, stale;

		mask_plan(masks, c, &info, false, &col, 1, &plan, &texts, &stale);
		if (plan.how != columns[i].how || plan.unresolved != columns[i].unresolved ||
		    stale != columns[i].unresolved || texts != (plan.how != MASK_NONE))
			fail_msg("column %zu: how %d unresolved %d stale %d texts %d", i, plan.how,
				 plan.unresolved, stale, texts);
		assert_int_equal(plan.detectors != 0, plan.how == MASK_NONE);
	}
	catalog_free(c);
}

#define NAMES(...)                                    \
	.names = (const struct slice[]){__VA_ARGS__}, \
	.nnames = sizeof((const struct slice[]){__VA_ARGS__}) / sizeof(struct slice)
#define ACCESS(e, k, n)                                                                 \
	.access = &(const struct sql_access){.effect = (e), .kind = (k), .name = S(n)}, \
	.naccess = 1, .effects = (e)

static void test_taint(void **state)
{
	const struct {
		struct sql_info info;
		bool tainted, without;
	} cases[] = {
		{{.flags = 0}, false, false},
		{{NAMES(S("id"), S("name"))}, false, false},
		{{NAMES(S("customers")), ACCESS(SQL_READ, SQL_OBJ_RELATION, "customers")},
		 false,
		 true},
		{{NAMES(S("customers")), .flags = SQL_F_STAR}, true, false},
		{{NAMES(S("count")), .flags = SQL_F_STAR}, false, false},
		{{NAMES(S("ssn"))}, true, false},
		{{NAMES(S("shout"))}, true, false},
		{{NAMES(S("t"))}, true, false},
		{{NAMES(S("rows"))}, true, false},
		{{.flags = SQL_F_USER_FUNCTION,
		  ACCESS(SQL_PROCEDURE, SQL_OBJ_FUNCTION, "similarity"),
		  NAMES(S("similarity"))},
		 false,
		 true},
		{{.flags = SQL_F_USER_FUNCTION, ACCESS(SQL_PROCEDURE, SQL_OBJ_FUNCTION, "<->")},
		 false,
		 true},
		{{.flags = SQL_F_USER_FUNCTION, ACCESS(SQL_PROCEDURE, SQL_OBJ_FUNCTION, "new_one")},
		 true,
		 true},
		{{.flags = SQL_F_USER_FUNCTION, ACCESS(SQL_PROGRAM, SQL_OBJ_NONE, "")}, true, true},
		{{.effects = SQL_UNKNOWN}, true, true},
	};
	struct catalog *c = snapshot();

	for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
		struct insp_column col = {.table = 0};
		struct insp_plan plan;
		bool texts, stale;

		if (mask_tainted(masks, c, &cases[i].info) != cases[i].tainted ||
		    mask_tainted(masks, NULL, &cases[i].info) != cases[i].without)
			fail_msg("case %zu", i);
		mask_plan(masks, c, &cases[i].info, false, &col, 1, &plan, &texts, &stale);
		assert_int_equal(plan.how, cases[i].tainted ? MASK_REDACT : MASK_NONE);
		mask_plan(masks, c, &cases[i].info, true, &col, 1, &plan, &texts, &stale);
		assert_int_equal(plan.how, MASK_REDACT);
		assert_true(texts);
	}
	assert_true(mask_tainted(masks, c, NULL));
	catalog_free(c);
}

/* Operators of users: no expression over a relation is sure. */
static void test_foreign_operators(void **state)
{
	struct sql_info info = {NAMES(S("plain")), ACCESS(SQL_READ, SQL_OBJ_RELATION, "plain")};
	struct catalog *c;

	assert_int_equal(catalog_new(masks, &c), 0);
	assert_int_equal(ROW(c, CATALOG_Q_MISC, S("operator"), S("+++")), 0);
	assert_false(mask_tainted(masks, NULL, &(struct sql_info){0}));
	assert_int_equal(catalog_seal(c), 0);
	assert_true(mask_tainted(masks, c, &info));
	catalog_free(c);
}

static void test_copy(void **state)
{
	struct sql_copy copy = {.relation = S("customers")};
	struct sql_info info = {.flags = SQL_F_COPY_OUT, .copy = &copy};
	struct insp_column cols[3] = {0};
	struct insp_plan plan[3];
	struct catalog *c = snapshot();
	bool texts, stale;

	mask_plan(masks, c, &info, false, cols, 2, plan, &texts, &stale);
	assert_true(plan[0].how == MASK_NONE && plan[1].how == MASK_HASH && !stale && texts);
	assert_true(plan[0].type == 25 && plan[1].type == 25);
	/* A column more than the snapshot has. */
	mask_plan(masks, c, &info, false, cols, 3, plan, &texts, &stale);
	assert_true(plan[0].how == MASK_REDACT && plan[2].how == MASK_REDACT && stale);
	mask_plan(masks, c, &info, false, cols, 1, plan, &texts, &stale);
	assert_true(plan[0].how == MASK_REDACT && stale);
	copy.relation = S("plain");
	mask_plan(masks, c, &info, false, cols, 3, plan, &texts, &stale);
	assert_true(plan[0].how == MASK_NONE && !stale && !texts);
	copy.schema = S("elsewhere");
	mask_plan(masks, c, &info, false, cols, 3, plan, &texts, &stale);
	assert_true(plan[0].how == MASK_REDACT && plan[0].unresolved && stale);
	catalog_free(c);
}

/* Numbers, dates and UUIDs are only scanned for what they can be. */
static void test_types(void **state)
{
	static const struct {
		uint32_t type, want;
	} types[] = {
		{25, 1u << DETECT_BIT_CARD | 1u << DETECT_BIT_DOB},
		{23, 0},
		{20, 1u << DETECT_BIT_CARD},
		{1082, 1u << DETECT_BIT_DOB},
		{2950, 0},
		{99999, 1u << DETECT_BIT_CARD | 1u << DETECT_BIT_DOB},
	};
	struct catalog *c = snapshot();
	struct sql_info info = {0};

	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		struct insp_column col = {.table = 20001, .attnum = 1, .type = types[i].type};
		struct insp_plan plan;
		bool texts, stale;

		mask_plan(masks, c, &info, false, &col, 1, &plan, &texts, &stale);
		assert_int_equal(plan.detectors, types[i].want);
	}
	catalog_free(c);
}

/* A snapshot made for other rules is as good as none. */
static void test_of_other_rules(void **state)
{
	static struct slice all[] = {SLICE_LIT("*")};
	struct mask_spec spec = {.column = S("customers.name"), .how = MASK_NULL};
	struct entry_spec e = {.agents = all,
			       .nagents = 1,
			       .targets = all,
			       .ntargets = 1,
			       .masks = &spec,
			       .nmasks = 1};
	struct insp_column col = {.table = 20001, .attnum = 1};
	struct sql_info info = {0};
	struct catalog *c = snapshot(), *unsealed;
	struct policy_view *v;
	struct policy *p;
	struct insp_plan plan;
	bool texts, stale;
	char why[64];

	assert_int_equal(policy_new(&e, 1, "t", &p, why, sizeof(why)), 0);
	assert_int_equal(policy_view_new(p, S("a"), S("t"), &v), 0);
	mask_plan(policy_masks(v), c, &info, false, &col, 1, &plan, &texts, &stale);
	assert_true(plan.how == MASK_REDACT && plan.unresolved && !stale);
	assert_int_equal(catalog_new(masks, &unsealed), 0);
	mask_plan(masks, unsealed, &info, false, &col, 1, &plan, &texts, &stale);
	assert_true(plan.how == MASK_REDACT && plan.unresolved);
	catalog_free(unsealed);
	catalog_free(c);
	policy_view_free(v);
	policy_unref(p);
}

static void test_bad_rows(void **state)
{
	struct catalog *c;

	assert_int_equal(catalog_new(masks, &c), 0);
	assert_int_equal(ROW(c, CATALOG_QUERIES, S("1")), -EINVAL);
	assert_int_equal(ROW(c, CATALOG_Q_MISC, S("max_oid")), -EINVAL);
	assert_int_equal(ROW(c, CATALOG_Q_MISC, S("other"), S("1")), -EINVAL);
	assert_int_equal(ROW(c, CATALOG_Q_MISC, S("max_oid"), NULL_VALUE), -EINVAL);
	assert_int_equal(ROW(c, CATALOG_Q_MISC, S("max_oid"), S("4294967296")), -EINVAL);
	assert_int_equal(ROW(c, CATALOG_Q_MISC, S("max_oid"), S("-1")), -EINVAL);
	assert_int_equal(ROW(c, CATALOG_Q_MISC, S("max_oid"), S("4294967295")), 0);
	assert_int_equal(catalog_max_oid(c), UINT32_MAX);
	/* A rule that the mask set does not have. */
	assert_int_equal(ROW(c, CATALOG_Q_COLUMNS, S("3"), S("1"), S("1"), S("a"), S("b"), S("c")),
			 -EINVAL);
	assert_int_equal(
		ROW(c, CATALOG_Q_COLUMNS, S("0"), S("1"), S("40000"), S("a"), S("b"), S("c")),
		-EINVAL);
	assert_int_equal(ROW(c, CATALOG_Q_FUNCTIONS, S("f"), S("yes")), -EINVAL);
	assert_int_equal(catalog_seal(c), 0);
	assert_int_equal(ROW(c, CATALOG_Q_NAMES, S("a"), S("b")), -EINVAL);
	assert_int_equal(catalog_seal(c), -EINVAL);
	catalog_free(c);
}

static const char *const broken[] = {
	"",
	"(",
	"({QUERY",
	"({QUERY :targetList ({TARGETENTRY :resno 1 :resorigtbl 0 :resorigcol 0})})",
	"({QUERY :targetList ({TARGETENTRY :resno x :resorigtbl 0 :resorigcol 0 :resjunk false})})",
	"({QUERY :targetList ({TARGETENTRY :resno 0 :resorigtbl 0 :resorigcol 0 :resjunk false})})",
	"({QUERY :targetList ({TARGETENTRY :resno 1 :resorigtbl 5000000000 :resorigcol 0})})",
	"({QUERY :targetList ({TARGETENTRY :resno 1",
	"({QUERY :targetList <>})})",
	"({QUERY :rtable <>})",
	"\\",
	"({QUERY :targetList (\\",
};

static void count_column(void *ctx, int16_t attnum, uint32_t table, int16_t column)
{
	++*(unsigned *)ctx;
}

/* What cannot be read is said so, and nothing behind the end is looked at. */
static void test_broken_trees(void **state)
{
	static const char good[] = TREE(ENTRY(1, "a\\ \\{b\\}\\ :resjunk\\ true", 7, 1, "false"));
	unsigned seen = 0;

	for (size_t i = 0; i < ARRAY_SIZE(broken); i++) {
		void *handle;
		uint8_t *p = guard_copy(slice_str(broken[i]), &handle);

		if (viewtree_columns(slice_of(p, strlen(broken[i])), count_column, &seen))
			fail_msg("tree %zu was read", i);
		guard_free(handle);
	}
	for (size_t n = 0; n < sizeof(good) - 1; n++) {
		void *handle;
		uint8_t *p = guard_copy(slice_of(good, n), &handle);

		assert_false(viewtree_columns(slice_of(p, n), count_column, &seen));
		guard_free(handle);
	}
	seen = 0;
	assert_true(viewtree_columns(slice_str(good), count_column, &seen));
	assert_int_equal(seen, 1);
	assert_false(viewtree_whole_row(slice_str(good)));
	assert_true(viewtree_whole_row(S("{VAR :varno 1 :varattno 0 :vartype 2249}")));
}

/* A view whose tree cannot be read has all columns hidden. */
static void test_unreadable_view(void **state)
{
	struct insp_column col = {.table = 20002, .attnum = 1};
	struct sql_info info = {0};
	struct insp_plan plan;
	struct catalog *c;
	bool texts, stale;

	assert_int_equal(catalog_new(masks, &c), 0);
	assert_int_equal(ROW(c, CATALOG_Q_COLUMNS, S("0"), S("20001"), S("2"), S("ssn"),
			     S("public"), S("customers")),
			 0);
	assert_int_equal(ROW(c, CATALOG_Q_VIEWS, S("20002"), S("public"), S("v"), S("f"),
			     S("20001.2"), S("{NEWER SYNTAX}")),
			 0);
	assert_int_equal(ROW(c, CATALOG_Q_ATTRIBUTES, S("20002"), S("1"), S("x"), S("f"), S("25")), 0);
	assert_int_equal(ROW(c, CATALOG_Q_MISC, S("max_oid"), S("30000")), 0);
	assert_int_equal(catalog_seal(c), 0);
	mask_plan(masks, c, &info, false, &col, 1, &plan, &texts, &stale);
	assert_int_equal(plan.how, MASK_REDACT);
	catalog_free(c);
}

static void test_queries(void **state)
{
	for (unsigned i = 0; i < CATALOG_QUERIES; i++)
		assert_non_null(catalog_query(masks, i));
	assert_null(catalog_query(masks, CATALOG_QUERIES));
	assert_non_null(strstr(catalog_query(masks, CATALOG_Q_COLUMNS), "n.nspname = E'public'"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_origins),	 cmocka_unit_test(test_taint),
		cmocka_unit_test(test_copy),	 cmocka_unit_test(test_foreign_operators),
		cmocka_unit_test(test_types),	 cmocka_unit_test(test_of_other_rules),
		cmocka_unit_test(test_bad_rows), cmocka_unit_test(test_broken_trees),
		cmocka_unit_test(test_queries),	 cmocka_unit_test(test_unreadable_view),
	};

	return cmocka_run_group_tests(tests, open_policy, close_policy);
}
