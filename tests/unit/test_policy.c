/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>

#include "base/reason.h"
#include "policy/mask_set.h"
#include "policy/policy.h"

static struct slice everyone[] = {SLICE_LIT("*")};
static struct slice dba[] = {SLICE_LIT("dba")};

#define ANY 0xffffffffu
#define RULES(...)                                        \
	.rules = (const struct rule_spec[]){__VA_ARGS__}, \
	.nrules = sizeof((const struct rule_spec[]){__VA_ARGS__}) / sizeof(struct rule_spec)
#define MASKS(...)                                        \
	.masks = (const struct mask_spec[]){__VA_ARGS__}, \
	.nmasks = sizeof((const struct mask_spec[]){__VA_ARGS__}) / sizeof(struct mask_spec)
#define FOR_ALL .agents = everyone, .nagents = 1, .targets = everyone, .ntargets = 1
#define OBJ(s)	.object = SLICE_LIT(s)

struct loaded {
	struct policy *p;
	struct policy_view *v;
};

static struct loaded load(const struct entry_spec *e, uint32_t n)
{
	struct loaded l;
	char why[1024];
	int rc = policy_new(e, n, "t.yaml", &l.p, why, sizeof(why));

	if (rc)
		fail_msg("%d: %s", rc, why);
	assert_int_equal(policy_view_new(l.p, SLICE_LIT("agent"), SLICE_LIT("db"), &l.v), 0);
	return l;
}

static void unload(struct loaded *l)
{
	policy_view_free(l->v);
	policy_unref(l->p);
}

/* What a statement with these accesses gets. */
static struct command_decision decide(const struct loaded *l, const struct sql_access *a,
				      uint16_t n, const char *text)
{
	struct sql_info info = {.access = a, .naccess = n};
	struct command_decision d;

	for (uint16_t i = 0; i < n; i++)
		info.effects |= a[i].effect;
	policy_command(l->v, &info, slice_str(text), &d);
	return d;
}

static struct sql_access on(uint16_t effect, const char *schema, const char *name)
{
	return (struct sql_access){.effect = effect,
				   .kind = SQL_OBJ_RELATION,
				   .schema = slice_str(schema),
				   .name = slice_str(name)};
}

static enum rule_do what(const struct loaded *l, uint16_t effect, const char *schema,
			 const char *name)
{
	struct sql_access a = on(effect, schema, name);

	return decide(l, &a, 1, "").what;
}

static void test_order_and_strictness(void **state)
{
	struct entry_spec e[] = {
		{FOR_ALL, .line = 3,
		 RULES({.effects = SQL_READ, .what = RULE_ALLOW, .line = 5},
		       {.effects = SQL_DDL,
			.what = RULE_APPROVE,
			.approvers = dba,
			.napprovers = 1,
			.min_approvals = 2,
			.hold_ms = 7,
			.line = 6},
		       {.effects = SQL_READ | SQL_WRITE, .what = RULE_DENY, .line = 7})}};
	struct loaded l = load(e, 1);
	struct sql_access read = on(SQL_READ, "", "a"), ddl = on(SQL_DDL, "", "b"),
			  write = on(SQL_WRITE, "s", "c"), session = on(SQL_SESSION, "", "");
	struct command_decision d;
	char text[200];

	d = decide(&l, &read, 1, "");
	assert_int_equal(d.what, RULE_ALLOW);
	assert_string_equal(d.rule, "policy[0].commands[0] (t.yaml:5)");
	d = decide(&l, (struct sql_access[]){read, ddl}, 2, "");
	assert_int_equal(d.what, RULE_APPROVE);
	assert_int_equal(d.min_approvals, 2);
	assert_int_equal(d.hold_ms, 7);
	assert_int_equal(d.hold_tx_ms, 30000);
	assert_string_equal(d.approvers[0], "dba");
	d = decide(&l, (struct sql_access[]){read, ddl, write}, 3, "");
	assert_int_equal(d.what, RULE_DENY);
	assert_int_equal(d.reason, TG_R_RULE_DENY);
	assert_int_equal(d.effect, SQL_BIT_WRITE);
	assert_true(slice_eq_str(d.object, "c"));
	(void)policy_explain(&d, text, sizeof(text));
	assert_string_equal(text, "denied: write on c, by policy[0].commands[2] (t.yaml:7)");
	d = decide(&l, &session, 1, "");
	assert_int_equal(d.what, RULE_DENY);
	assert_int_equal(d.reason, TG_R_NO_RULE);
	d = decide(&l, NULL, 0, "");
	assert_int_equal(d.what, RULE_ALLOW); /* an empty statement */
	unload(&l);
}

static void test_several_entries(void **state)
{
	struct entry_spec e[] = {
		{FOR_ALL, RULES({.effects = SQL_READ | SQL_WRITE, .what = RULE_ALLOW})},
		{FOR_ALL, RULES({.effects = SQL_WRITE, .what = RULE_APPROVE, .min_approvals = 1},
				{.effects = SQL_DDL, .what = RULE_ALLOW})},
		{FOR_ALL, RULES({.effects = SQL_WRITE, .what = RULE_APPROVE, .min_approvals = 3},
				{.effects = SQL_READ, .what = RULE_DENY, OBJ("secrets")})},
		{FOR_ALL}, /* without commands: says nothing */
	};
	struct loaded l = load(e, 4);
	struct sql_access write = on(SQL_WRITE, "", "t");

	assert_int_equal(what(&l, SQL_READ, "", "t"), RULE_ALLOW);
	assert_int_equal(what(&l, SQL_READ, "", "secrets"), RULE_DENY);
	assert_int_equal(what(&l, SQL_DDL, "", "t"), RULE_ALLOW);
	assert_int_equal(decide(&l, &write, 1, "").min_approvals, 3);
	unload(&l);
}

static void test_only_masks_allows_nothing(void **state)
{
	struct entry_spec e[] = {{FOR_ALL, MASKS({.detectors = 1, .how = MASK_REDACT})}};
	struct loaded l = load(e, 1);

	assert_int_equal(what(&l, SQL_READ, "", "t"), RULE_DENY);
	assert_false(mask_set_empty(policy_masks(l.v)));
	assert_false(mask_set_needs_catalog(policy_masks(l.v)));
	unload(&l);
}

static void test_unknown(void **state)
{
	struct entry_spec named[] = {{FOR_ALL, RULES({.effects = SQL_READ, .what = RULE_ALLOW})}};
	struct entry_spec any[] = {{FOR_ALL, RULES({.effects = ANY, .what = RULE_ALLOW})}};
	struct entry_spec deny[] = {{FOR_ALL, RULES({.effects = ANY, .what = RULE_DENY})}};
	struct sql_info info = {.effects = SQL_UNKNOWN, .why = TG_R_SQL_TOO_DEEP};
	struct command_decision d;
	struct loaded l = load(named, 1);

	policy_command(l.v, &info, SLICE_LIT(""), &d);
	assert_int_equal(d.what, RULE_DENY);
	assert_int_equal(d.reason, TG_R_SQL_TOO_DEEP);
	info.effects |= SQL_READ;
	policy_command(l.v, &info, SLICE_LIT(""), &d);
	assert_int_equal(d.what, RULE_DENY);
	unload(&l);
	l = load(any, 1);
	policy_command(l.v, &info, SLICE_LIT(""), &d);
	assert_int_equal(d.what, RULE_ALLOW);
	unload(&l);
	l = load(deny, 1);
	info.why = 0;
	info.effects = SQL_UNKNOWN;
	policy_command(l.v, &info, SLICE_LIT(""), &d);
	assert_int_equal(d.reason, TG_R_SQL_UNPARSED);
	unload(&l);
}

/* One rule with an object, then the opposite for all: which of them decides? */
static const struct {
	enum rule_do with_object;
	const char *object, *schema, *name;
	bool matches;
} objects[] = {
	{RULE_DENY, "payroll.*", "payroll", "salaries", true},
	{RULE_DENY, "payroll.*", "public", "salaries", false},
	{RULE_DENY, "payroll.sal*", "", "salaries", true}, /* it could be that one */
	{RULE_DENY, "payroll.sal*", "", "orders", false},
	{RULE_APPROVE, "payroll.sal*", "", "salaries", true},
	{RULE_ALLOW, "payroll.*", "payroll", "salaries", true},
	{RULE_ALLOW, "payroll.*", "", "salaries", false}, /* search_path decides */
	{RULE_ALLOW, "public.orders", "", "orders", false},
	{RULE_ALLOW, "*.orders", "", "orders", true},
	{RULE_ALLOW, "orders", "", "orders", true},
	{RULE_ALLOW, "orders", "public", "orders", true},
	{RULE_ALLOW, "ord?rs", "x", "orders", true},
	{RULE_ALLOW, "orders", "", "orders2", false},
	{RULE_ALLOW, "*", "a", "b", true},
	{RULE_ALLOW, "*.*", "", "", true},
	{RULE_DENY, "payroll.*", "", "", false},
};

static void test_objects(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(objects); i++) {
		enum rule_do other = objects[i].with_object == RULE_ALLOW ? RULE_DENY : RULE_ALLOW;
		struct entry_spec e = {FOR_ALL, RULES({.effects = ANY,
						       .object = slice_str(objects[i].object),
						       .what = objects[i].with_object},
						      {.effects = ANY, .what = other})};
		struct loaded l = load(&e, 1);
		enum rule_do got = what(&l, SQL_READ, objects[i].schema, objects[i].name);

		if (got != (objects[i].matches ? objects[i].with_object : other))
			fail_msg("object %zu: %d", i, got);
		unload(&l);
	}
}

/* What may reach any object counts as reaching the one that a rule protects. */
static void test_blind_accesses(void **state)
{
	struct entry_spec deny = {FOR_ALL,
				  RULES({.effects = ANY, OBJ("payroll.*"), .what = RULE_DENY},
					{.effects = ANY, .what = RULE_ALLOW})};
	struct entry_spec allow = {FOR_ALL,
				   RULES({.effects = ANY, OBJ("payroll.*"), .what = RULE_ALLOW})};
	struct loaded l = load(&deny, 1);

	assert_int_equal(what(&l, SQL_UNKNOWN, "", ""), RULE_DENY);
	assert_int_equal(what(&l, SQL_PROGRAM, "", ""), RULE_DENY);
	assert_int_equal(what(&l, SQL_TRANSACTION, "", ""), RULE_ALLOW);
	unload(&l);
	l = load(&allow, 1);
	assert_int_equal(what(&l, SQL_UNKNOWN, "", ""), RULE_DENY);
	assert_int_equal(what(&l, SQL_TRANSACTION, "", ""), RULE_DENY);
	unload(&l);
}

/* DO may have any effect: what denies or asks before its own effect is named holds for it. */
static void test_blind_effects(void **state)
{
	static const struct {
		struct rule_spec rules[3];
		enum rule_do want, named;
	} rows[] = {
		{{{.effects = SQL_DDL, .what = RULE_DENY}, {.effects = ANY, .what = RULE_ALLOW}},
		 RULE_DENY, RULE_ALLOW},
		{{{.effects = SQL_DDL, .what = RULE_APPROVE}, {.effects = ANY, .what = RULE_ALLOW}},
		 RULE_APPROVE, RULE_ALLOW},
		{{{.effects = SQL_DDL, .what = RULE_APPROVE}, {.effects = ANY, .what = RULE_DENY}},
		 RULE_DENY, RULE_DENY},
		{{{.effects = SQL_PROGRAM | SQL_UNKNOWN, .what = RULE_ALLOW},
		  {.effects = SQL_DDL, .what = RULE_DENY},
		  {.effects = ANY, .what = RULE_ALLOW}},
		 RULE_ALLOW, RULE_ALLOW},
		{{{.effects = SQL_READ, .what = RULE_ALLOW}, {.effects = ANY, .what = RULE_ALLOW}},
		 RULE_ALLOW, RULE_ALLOW},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct entry_spec e = {FOR_ALL, .rules = rows[i].rules};
		struct loaded l;

		while (e.nrules < 3 && rows[i].rules[e.nrules].effects)
			e.nrules++;
		l = load(&e, 1);
		assert_int_equal(what(&l, SQL_PROGRAM, "", ""), rows[i].want);
		assert_int_equal(what(&l, SQL_PROGRAM, "", "cat"), rows[i].want);
		assert_int_equal(what(&l, SQL_UNKNOWN, "", ""), rows[i].want);
		assert_int_equal(what(&l, SQL_SESSION, "", ""), rows[i].named);
		unload(&l);
	}
}

static void test_text(void **state)
{
	struct entry_spec e = {
		FOR_ALL,
		RULES({.effects = SQL_READ, .text = SLICE_LIT("(?i)pg_sleep"), .what = RULE_DENY},
		      {.effects = SQL_READ, .text = SLICE_LIT("LIMIT [0-9]+$"), .what = RULE_ALLOW},
		      {.effects = SQL_READ, .what = RULE_APPROVE})};
	struct loaded l = load(&e, 1);
	struct sql_access read = on(SQL_READ, "", "t");

	assert_int_equal(decide(&l, &read, 1, "select PG_SLEEP(1) LIMIT 5").what, RULE_DENY);
	assert_int_equal(decide(&l, &read, 1, "select 1\nLIMIT 5").what, RULE_ALLOW);
	assert_int_equal(decide(&l, &read, 1, "select 1 LIMIT 5 -- no").what, RULE_APPROVE);
	assert_int_equal(decide(&l, &read, 1, "").what, RULE_APPROVE);
	unload(&l);
}

static void test_observe(void **state)
{
	struct entry_spec watch = {FOR_ALL, .observe = true,
				   RULES({.effects = SQL_WRITE, .what = RULE_DENY},
					 {.effects = SQL_READ, .what = RULE_ALLOW})};
	struct entry_spec e[] = {watch,
				 {FOR_ALL, RULES({.effects = SQL_WRITE, .what = RULE_ALLOW},
						 {.effects = SQL_DDL, .what = RULE_APPROVE})}};
	struct sql_access ddl = on(SQL_DDL, "", "t"), write = on(SQL_WRITE, "", "t"),
			  session = on(SQL_SESSION, "", "");
	struct command_decision d;
	struct access_decision a;
	struct loaded l = load(e, 1);

	policy_access(l.v, &a);
	assert_true(a.observe);
	d = decide(&l, &write, 1, "");
	assert_true(d.what == RULE_DENY && d.observe);
	d = decide(&l, &session, 1, "");
	assert_true(d.what == RULE_DENY && d.observe && d.reason == TG_R_NO_RULE);
	unload(&l);

	l = load(e, 2);
	policy_access(l.v, &a);
	assert_false(a.observe);
	d = decide(&l, &write, 1, "");
	assert_true(d.what == RULE_DENY && d.observe);
	/* An enforced question is not hidden by an observed denial. */
	d = decide(&l, (struct sql_access[]){write, ddl}, 2, "");
	assert_true(d.what == RULE_APPROVE && !d.observe);
	d = decide(&l, &session, 1, "");
	assert_true(d.what == RULE_DENY && !d.observe);
	unload(&l);
}

static void test_access(void **state)
{
	struct slice agents[] = {SLICE_LIT("ag*"), SLICE_LIT("x")}, dbs[] = {SLICE_LIT("db")};
	struct entry_spec e[] = {
		{.agents = agents,
		 .nagents = 2,
		 .targets = dbs,
		 .ntargets = 1,
		 .line = 4,
		 .via = ACCESS_IDP,
		 .scope = SLICE_LIT("db:read"),
		 .max_ms = 9000},
		{FOR_ALL, .via = ACCESS_BUILTIN, .approvers = dba, .napprovers = 1, .max_ms = 5000,
		 .line = 8},
		{FOR_ALL, .via = ACCESS_IDP, .scope = SLICE_LIT("db"), .access_hold_ms = 10},
		{FOR_ALL, .via = ACCESS_IDP, .scope = SLICE_LIT("db:read")},
	};
	struct loaded l = load(e, 4);
	struct policy_view *v;
	struct access_decision a;

	policy_access(l.v, &a);
	assert_true(a.allowed && a.via == ACCESS_IDP);
	assert_string_equal(a.scope, "db:read db");
	assert_int_equal(a.max_ms, 5000);
	assert_int_equal(a.hold_ms, 10);
	assert_string_equal(a.rule, "policy[0].access (t.yaml:4)");
	unload(&l);

	l = load(e, 1);
	assert_int_equal(policy_view_new(l.p, SLICE_LIT("other"), SLICE_LIT("db"), &v), 0);
	policy_access(v, &a);
	assert_false(a.allowed);
	assert_true(mask_set_empty(policy_masks(v)));
	policy_view_free(v);
	assert_int_equal(policy_view_new(l.p, SLICE_LIT("x"), SLICE_LIT("other"), &v), 0);
	policy_access(v, &a);
	assert_false(a.allowed);
	policy_view_free(v);
	unload(&l);
}

static void test_complaints(void **state)
{
	const struct {
		struct entry_spec e;
		const char *complaint;
	} bad[] = {
		{{.line = 2}, "t.yaml:2: an entry needs agents: and targets: (`*` for all)\n"},
		{{FOR_ALL, RULES({.effects = 0, .line = 9})},
		 "t.yaml:9: a command needs an effect: (`any` for all)\n"},
		{{FOR_ALL, RULES({.effects = ANY, OBJ("a."), .line = 9})},
		 "t.yaml:9: object: `a.` lacks a name beside the dot\n"},
		{{FOR_ALL, RULES({.effects = ANY, .approvers = dba, .napprovers = 1, .line = 9})},
		 "t.yaml:9: approvers: only make sense where something is to be approved\n"},
		{{FOR_ALL, .scope = SLICE_LIT("s"), .line = 1},
		 "t.yaml:1: scope: only makes sense where a provider is asked\n"},
		{{FOR_ALL, MASKS({.column = SLICE_LIT("ssn"), .how = MASK_REDACT, .line = 3})},
		 "t.yaml:3: column: `ssn` is not table.column or schema.table.column\n"},
		{{FOR_ALL, MASKS({.column = SLICE_LIT("a.b.c.d"), .how = MASK_REDACT, .line = 3})},
		 "t.yaml:3: column: `a.b.c.d` is not table.column or schema.table.column\n"},
		{{FOR_ALL, MASKS({.column = SLICE_LIT("a."), .how = MASK_REDACT, .line = 3})},
		 "t.yaml:3: column: `a.` is not table.column or schema.table.column\n"},
		{{FOR_ALL, MASKS({.column = SLICE_LIT("a.b*"), .how = MASK_REDACT, .line = 3})},
		 "t.yaml:3: column: `*` stands for a whole name only: `a.b*`\n"},
		{{FOR_ALL, MASKS({.how = MASK_REDACT, .line = 3})},
		 "t.yaml:3: a mask needs a column:, a detect: or a pattern:\n"},
		{{FOR_ALL, MASKS({.detectors = 1, .line = 3})},
		 "t.yaml:3: a mask needs an as: (redact, last4, hash, null)\n"},
	};
	struct slice back[] = {SLICE_LIT("(a)\\1")};
	struct entry_spec two = {
		FOR_ALL,
		RULES({.effects = ANY, .text = SLICE_LIT("a("), .line = 20},
		      {.effects = ANY, .text = SLICE_LIT("ok"), .line = 21}),
		MASKS({.patterns = back, .npatterns = 1, .how = MASK_REDACT, .line = 22})};
	struct policy *p;
	char why[600];

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(policy_new(&bad[i].e, 1, "t.yaml", &p, why, sizeof(why)), -EINVAL);
		assert_string_equal(why, bad[i].complaint);
		/* Too small a buffer is not written behind, and holds whole lines only. */
		memset(why, 'x', sizeof(why));
		assert_int_equal(policy_new(&bad[i].e, 1, "t.yaml", &p, why, 10), -EINVAL);
		assert_string_equal(why, "");
		assert_int_equal(why[10], 'x');
	}
	assert_int_equal(policy_new(&two, 1, "t.yaml", &p, why, sizeof(why)), -EINVAL);
	assert_non_null(strstr(why, "t.yaml:20: text: `a(` is no usable pattern: "));
	assert_null(strstr(why, "t.yaml:21"));
	assert_non_null(strstr(why, "t.yaml:22: pattern: `(a)\\\\1` is no usable pattern: "));
}

#define VALUES(...)                                  \
	.values = (struct slice[]){__VA_ARGS__},     \
	.nvalues = sizeof((struct slice[]){__VA_ARGS__}) / sizeof(struct slice)
#define TERMS(...)                                        \
	.terms = (const struct term_spec[]){__VA_ARGS__}, \
	.nterms = sizeof((const struct term_spec[]){__VA_ARGS__}) / sizeof(struct term_spec)
#define S(x) SLICE_LIT(x)
#define FACT(k, v) {.kind = FACT_##k, .value = SLICE_LIT(v)}
#define CLAIM(n, v) {.kind = FACT_CLAIM, .name = SLICE_LIT(n), .value = SLICE_LIT(v)}
enum { ALL_KNOWN = (1u << FACT_KINDS) - 1 };

/* One entry that allows all: let in or not, and why not. */
static void test_terms(void **state)
{
	const struct term_spec exe = {.kind = FACT_EXE, VALUES(S("/usr/bin/py*"), S("/bin/x"))};
	const struct term_spec sha = {.kind = FACT_EXE_SHA256, VALUES(S("ab*"))};
	const struct term_spec uid = {.kind = FACT_UID, VALUES(S("10"))};
	const struct term_spec image = {.kind = FACT_IMAGE, VALUES(S("reg/*"))};
	const struct term_spec sub = {.kind = FACT_SUB, VALUES(S("spiffe://x/*"))};
	const struct term_spec env = {.kind = FACT_CLAIM, .name = S("env"),
					     VALUES(S("prod"), S("stage"))};
	const struct {
		struct term_spec term;
		struct policy_fact fact[2];
		uint32_t known;
		bool some_claims;
		uint16_t reason; /* TG_R_NONE: let in */
	} rows[] = {
		{exe, {FACT(EXE, "/usr/bin/python3")}, ALL_KNOWN, false, TG_R_NONE},
		{exe, {FACT(EXE, "/bin/x")}, ALL_KNOWN, false, TG_R_NONE},
		{exe, {FACT(EXE, "/bin/xx")}, ALL_KNOWN, false, TG_R_NO_RULE},
		{exe, {FACT(IMAGE, "/bin/x")}, ALL_KNOWN, false, TG_R_NO_RULE},
		{exe, {{0}}, 0, false, TG_R_FACTS_UNKNOWN},
		{sha, {FACT(EXE_SHA256, "abc")}, ALL_KNOWN, false, TG_R_NO_RULE}, /* no glob */
		{sha, {FACT(EXE_SHA256, "ab*")}, ALL_KNOWN, false, TG_R_NONE},
		{uid, {FACT(UID, "10")}, ALL_KNOWN, false, TG_R_NONE},
		{uid, {FACT(UID, "100")}, ALL_KNOWN, false, TG_R_NO_RULE},
		{image, {FACT(CONTAINER, "c")}, ALL_KNOWN, false, TG_R_NO_RULE}, /* no container */
		{image, {FACT(CONTAINER, "c")}, ALL_KNOWN & ~(1u << FACT_IMAGE), false,
		 TG_R_FACTS_UNKNOWN},
		{sub, {FACT(SUB, "spiffe://x/a")}, ALL_KNOWN, false, TG_R_NONE},
		{sub, {FACT(SUB, "spiffe://xy/a")}, ALL_KNOWN, false, TG_R_NO_RULE},
		{sub, {{0}}, ALL_KNOWN & ~FACTS_OF_TOKEN, false, TG_R_NO_TOKEN},
		{env, {CLAIM("env", "stage")}, ALL_KNOWN, false, TG_R_NONE},
		{env, {CLAIM("env", "dev"), CLAIM("env", "prod")}, ALL_KNOWN, false, TG_R_NONE},
		{env, {CLAIM("env", "dev"), CLAIM("ENV", "prod")}, ALL_KNOWN, false, TG_R_NO_RULE},
		{env, {CLAIM("other", "prod")}, ALL_KNOWN, false, TG_R_NO_RULE},
		{env, {CLAIM("other", "prod")}, ALL_KNOWN, true, TG_R_NO_TOKEN},
		{env, {CLAIM("env", "dev")}, ALL_KNOWN, true, TG_R_NO_RULE},
		{env, {{0}}, 0, false, TG_R_NO_TOKEN},
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct entry_spec e = {FOR_ALL, .terms = &rows[i].term, .nterms = 1};
		struct policy_facts facts = {.known = rows[i].known, .list = rows[i].fact, .n = 2,
					     .some_claims = rows[i].some_claims};
		struct loaded l = load(&e, 1);
		struct access_decision a;
		struct policy_view *v;

		assert_int_equal(policy_view_for(l.p, S("agent"), S("db"), &facts, &v), 0);
		policy_access(v, &a);
		if (a.reason != rows[i].reason || a.allowed != (rows[i].reason == TG_R_NONE))
			fail_msg("row %zu: %s", i, reason_label(a.reason));
		assert_true(policy_view_is_for(v, &facts));
		/* The view of nobody in particular is another one unless nothing is known here, too. */
		assert_int_equal(policy_view_is_for(l.v, &facts),
				 rows[i].reason == TG_R_NO_TOKEN ||
					 rows[i].reason == TG_R_FACTS_UNKNOWN);
		policy_view_free(v);
		unload(&l);
	}
}

/* Not known to apply: denies, asks and masks, but allows nothing. */
static void test_perhaps(void **state)
{
	const struct entry_spec e[] = {
		{FOR_ALL, RULES({.effects = SQL_DDL, .what = RULE_DENY}, {.effects = ANY})},
		{FOR_ALL, .via = ACCESS_BUILTIN, .max_ms = 1000,
		 TERMS({.kind = FACT_SUB, VALUES(S("bot"))}, {.kind = FACT_UID, VALUES(S("7"))}),
		 RULES({.effects = SQL_WRITE, .what = RULE_DENY, OBJ("t")}, {.effects = ANY}),
		 MASKS({.column = S("t.c"), .how = MASK_REDACT})},
	};
	static const struct policy_fact known[] = {FACT(UID, "7"), FACT(SUB, "bot")},
					other[] = {FACT(UID, "8")};
	static const struct sql_access write = {.effect = SQL_WRITE, .name = S("t")},
				       read = {.effect = SQL_READ, .name = S("t")},
				       ddl = {.effect = SQL_DDL, .name = S("t")};
	const struct {
		struct policy_facts facts;
		enum access_via via;
		enum rule_do write;
		bool masks;
	} rows[] = {
		{{.known = ALL_KNOWN, .list = known, .n = 2}, ACCESS_BUILTIN, RULE_DENY, true},
		{{.known = 1u << FACT_UID, .list = known, .n = 1}, ACCESS_BUILTIN, RULE_DENY, true},
		{{.known = 0}, ACCESS_BUILTIN, RULE_DENY, true},
		/* One term that does not hold is enough, whatever else is not known. */
		{{.known = 1u << FACT_UID, .list = other, .n = 1}, ACCESS_NONE, RULE_ALLOW, false},
	};
	struct loaded l = load(e, 2), only = load(e + 1, 1);

	assert_int_equal(policy_terms(l.p, S("a"), S("t")), 1u << FACT_SUB | 1u << FACT_UID);
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct loaded v = {.p = l.p};
		struct access_decision a;

		assert_int_equal(policy_view_for(l.p, S("a"), S("t"), &rows[i].facts, &v.v), 0);
		policy_access(v.v, &a);
		assert_true(a.allowed);
		assert_int_equal(a.via, rows[i].via);
		assert_int_equal(decide(&v, &write, 1, "w").what, rows[i].write);
		assert_int_equal(decide(&v, &read, 1, "r").what, RULE_ALLOW);
		assert_int_equal(decide(&v, &ddl, 1, "d").what, RULE_DENY);
		assert_int_equal(mask_set_empty(policy_masks(v.v)), !rows[i].masks);
		policy_view_free(v.v);
	}
	/* By itself it lets nobody in, and nothing through. */
	assert_int_equal(decide(&only, &read, 1, "r").what, RULE_DENY);
	assert_int_equal(decide(&only, NULL, 0, "").what, RULE_DENY);
	assert_int_equal(decide(&only, NULL, 0, "").reason, TG_R_NO_TOKEN);
	unload(&l);
	unload(&only);
}

static void test_wanted_claims(void **state)
{
	const struct entry_spec e = {
		FOR_ALL, TERMS({.kind = FACT_CLAIM, .name = S("k8s.io/ns"), VALUES(S("x"))},
			       {.kind = FACT_CLAIM, .name = S("env"), VALUES(S("x"))})};
	struct loaded l = load(&e, 1);

	assert_true(policy_wants_claim(l.p, S("env")));
	assert_true(policy_wants_claim(l.p, S("k8s.io")));
	assert_true(policy_wants_claim(l.p, S("k8s.io/ns")));
	assert_false(policy_wants_claim(l.p, S("k8s")));
	assert_false(policy_wants_claim(l.p, S("en")));
	assert_false(policy_wants_claim(l.p, S("envy")));
	unload(&l);
}

static void test_digest(void **state)
{
	struct entry_spec a = {FOR_ALL, .line = 1,
			       RULES({.effects = ANY, .what = RULE_DENY, .line = 2})};
	struct entry_spec b = {FOR_ALL, .line = 7, .max_ms = 15 * 60 * 1000,
			       RULES({.effects = (1u << SQL_EFFECT_COUNT) - 1, .what = RULE_DENY})};
	struct entry_spec c = {FOR_ALL, .line = 1,
			       RULES({.effects = ANY, .what = RULE_ALLOW, .line = 2})};
	struct loaded la = load(&a, 1), lb = load(&b, 1), lc = load(&c, 1);

	assert_int_equal(strlen(policy_digest(la.p)), 64);
	assert_string_equal(policy_digest(la.p), policy_digest(lb.p));
	assert_string_not_equal(policy_digest(la.p), policy_digest(lc.p));
	unload(&la);
	unload(&lb);
	unload(&lc);
}

/* Views share what is costly, and keep the policy alive. */
static void test_masks_are_merged_and_shared(void **state)
{
	struct entry_spec e[] = {
		{FOR_ALL, MASKS({.detectors = 3, .how = MASK_LAST4, .line = 5},
				{.column = SLICE_LIT("s.t.c"), .how = MASK_HASH, .line = 6})},
		{FOR_ALL, MASKS({.detectors = 2, .how = MASK_REDACT, .line = 8},
				{.detectors = 1, .how = MASK_LAST4, .line = 9})},
	};
	struct loaded l = load(e, 2);
	struct policy_view *again;
	const struct mask_set *m = policy_masks(l.v);

	assert_int_equal(policy_view_new(l.p, SLICE_LIT("agent2"), SLICE_LIT("db2"), &again), 0);
	assert_ptr_equal(policy_masks(again), m);
	policy_unref(l.p);
	policy_view_free(l.v);
	assert_true(mask_set_needs_catalog(m));
	assert_int_equal(m->detectors, 3);
	assert_int_equal(m->found_how[0], MASK_LAST4);
	assert_int_equal(m->found_how[1], MASK_REDACT);
	assert_string_equal(mask_set_rule(m, m->found_rule[1]), "policy[1].mask[0] (t.yaml:8)");
	assert_string_equal(mask_set_rule(m, 99), "");
	policy_view_free(again);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_and_strictness),
		cmocka_unit_test(test_several_entries),
		cmocka_unit_test(test_only_masks_allows_nothing),
		cmocka_unit_test(test_unknown),
		cmocka_unit_test(test_objects),
		cmocka_unit_test(test_blind_accesses),
		cmocka_unit_test(test_blind_effects),
		cmocka_unit_test(test_text),
		cmocka_unit_test(test_observe),
		cmocka_unit_test(test_access),
		cmocka_unit_test(test_complaints),
		cmocka_unit_test(test_digest),
		cmocka_unit_test(test_terms),
		cmocka_unit_test(test_perhaps),
		cmocka_unit_test(test_wanted_claims),
		cmocka_unit_test(test_masks_are_merged_and_shared),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
