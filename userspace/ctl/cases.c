/* SPDX-License-Identifier: MIT */
/*
 * tidegate policy test: a file of cases, each of which says what the policy is
 * to decide. A list, by itself or under `cases:`.
 *
 *   - name: agents do not drop tables        # optional
 *     agent: autogen
 *     target: orders-db
 *     statement: "drop table customers"
 *     expect: deny                           # allow, approve or deny
 *     rule: policy[0].commands[2]            # optional: how the rule begins
 *     facts: { uid: 1000 }                   # optional: what is known of its process
 *     claims: { team: blue }                 # optional: what its token says
 */
#include <errno.h>
#include <stdarg.h>

#include "base/arena.h"
#include "config/yaml.h"
#include "ctl/judge.h"

enum { ARENA_MAX = 64 << 20, ERROR_TEXT = 512 };

enum key { KEY_AGENT, KEY_TARGET, KEY_STATEMENT, KEY_EXPECT, KEY_RULE, KEY_NAME, KEY_COUNT };

static const char *const key_names[KEY_COUNT] = {
	[KEY_AGENT] = "agent",	 [KEY_TARGET] = "target", [KEY_STATEMENT] = "statement",
	[KEY_EXPECT] = "expect", [KEY_RULE] = "rule",	  [KEY_NAME] = "name",
};

struct one_case {
	struct slice v[KEY_COUNT]; /* p == NULL: not given */
	struct known known;
	uint32_t line;
};

struct run {
	struct ctl *c;
	const char *path;
	struct judge judge;
	const struct known *known; /* of the command line: of all cases */
	json_t *results;
	uint32_t passed, failed;
};

static int read_text(struct ctl *c, const char *path, struct buf *text)
{
	FILE *f = strcmp(path, "-") == 0 ? stdin : fopen(path, "re");
	int rc = 0;

	if (!f)
		return out_error(c, "failed", NULL, "cannot open %s: %s", path, strerror(errno));
	for (;;) {
		uint8_t *p = buf_reserve(text, 4096);
		size_t n = p ? fread(p, 1, 4096, f) : 0;

		if (!p)
			rc = out_error(c, "failed", NULL, "%s is over %d bytes", path,
				       YAML_TEXT_MAX);
		if (n == 0)
			break;
		buf_commit(text, n);
	}
	if (rc == 0 && ferror(f))
		rc = out_error(c, "failed", NULL, "cannot read %s", path);
	if (f != stdin)
		(void)fclose(f);
	return rc;
}

static PRINTF(3, 4) int wrong(const struct run *r, const struct ynode *n, const char *fmt, ...)
{
	char text[ERROR_TEXT];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return out_error(r->c, "cases", "see tidegate(8) for the form of a case", "%s:%u:%u: %s",
			 r->path, n->line, n->column, text);
}

static int read_facts(const struct run *r, const struct ynode *n, bool claims, struct known *k)
{
	if (n->kind != YNODE_MAP)
		return wrong(r, n, "%s is a mapping of names to values", claims ? "claims" : "facts");
	for (const struct yitem *i = n->items; i; i = i->next) {
		const struct yitem *v = i->value->kind == YNODE_LIST ? i->value->items : NULL;
		const char *why = NULL;

		if (i->value->kind == YNODE_SCALAR)
			why = known_add(k, claims, i->key->text, i->value->text);
		else if (!v)
			why = "a text or a list of texts is expected";
		for (; v && !why; v = v->next)
			why = v->value->kind == YNODE_SCALAR
				      ? known_add(k, claims, i->key->text, v->value->text)
				      : "a text or a list of texts is expected";
		if (why)
			return wrong(r, i->value, "`%.*s`: %s", (int)i->key->text.n,
				     (const char *)i->key->text.p, why);
	}
	return 0;
}

static int read_member(const struct run *r, const struct yitem *item, struct one_case *one)
{
	if (slice_eq_str(item->key->text, "facts") || slice_eq_str(item->key->text, "claims"))
		return read_facts(r, item->value, slice_eq_str(item->key->text, "claims"),
				  &one->known);
	for (int k = 0; k < KEY_COUNT; k++) {
		if (!slice_eq_str(item->key->text, key_names[k]))
			continue;
		if (item->value->kind != YNODE_SCALAR)
			return wrong(r, item->value, "%s is a text", key_names[k]);
		one->v[k] = item->value->text;
		if (!one->v[k].p)
			one->v[k] = SLICE_LIT("");
		return 0;
	}
	return wrong(r, item->key, "unknown key `%.*s` in a case", (int)item->key->text.n,
		     (const char *)item->key->text.p);
}

static int read_case(const struct run *r, const struct ynode *n, struct one_case *ret)
{
	struct one_case one = {.line = n->line, .known = *r->known};

	if (n->kind != YNODE_MAP)
		return wrong(r, n, "a case is a mapping");
	for (const struct yitem *i = n->items; i; i = i->next) {
		int rc = read_member(r, i, &one);

		if (rc)
			return rc;
	}
	for (int k = 0; k <= KEY_EXPECT; k++)
		if (!one.v[k].p)
			return wrong(r, n, "a case needs `%s`", key_names[k]);
	if (!slice_eq_str(one.v[KEY_EXPECT], "allow") &&
	    !slice_eq_str(one.v[KEY_EXPECT], "approve") && !slice_eq_str(one.v[KEY_EXPECT], "deny"))
		return wrong(r, yaml_get(n, "expect"), "expect is allow, approve or deny");
	*ret = one;
	return 0;
}

static json_t *text_json(struct slice s)
{
	return json_stringn(s.p ? (const char *)s.p : "", s.n);
}

static bool starts(const char *s, struct slice with)
{
	return strlen(s) >= with.n && memcmp(s, with.p, with.n) == 0;
}

static int run_case(struct run *r, const struct one_case *one)
{
	struct slice label = one->v[KEY_NAME].n ? one->v[KEY_NAME] : one->v[KEY_STATEMENT];
	const char *word, *rule;
	struct verdict v;
	json_t *result;
	bool pass;
	int rc = judge_statement(&r->judge, one->v[KEY_AGENT], one->v[KEY_TARGET],
				 one->v[KEY_STATEMENT], &one->known, &v);

	if (rc)
		return out_error(r->c, "failed", NULL, "%s", strerror(-rc));
	word = verdict_word(&v);
	rule = verdict_rule(&v);
	pass = slice_eq_str(one->v[KEY_EXPECT], word) &&
	       (!one->v[KEY_RULE].n || (rule && starts(rule, one->v[KEY_RULE])));
	result = json_pack("{s:i, s:o, s:o, s:s, s:s?, s:s}", "line", (int)one->line, "case",
			   text_json(label), "expect", text_json(one->v[KEY_EXPECT]), "decision",
			   word, "rule", rule, "result", pass ? "pass" : "FAIL");
	verdict_done(&v);
	if (!result || json_array_append_new(r->results, result))
		return out_error(r->c, "failed", NULL, "out of memory");
	if (pass)
		r->passed++;
	else
		r->failed++;
	return 0;
}

static int run_all(struct run *r, const struct ynode *root)
{
	const struct ynode *list = root;
	int rc = 0;

	if (root->kind == YNODE_MAP) {
		list = yaml_get(root, "cases");
		if (!list || root->n != 1)
			return wrong(r, root, "a file of cases is a list, or has one key, `cases`");
	}
	if (list->kind != YNODE_LIST || !list->n)
		return wrong(r, list, "a list of cases is expected");
	for (const struct yitem *i = list->items; i && rc == 0; i = i->next) {
		struct one_case one = {0};

		rc = read_case(r, i->value, &one);
		if (rc == 0)
			rc = run_case(r, &one);
	}
	return rc;
}

static int report(struct run *r)
{
	static const struct out_col cols[] = {
		{"RESULT", "result", OUT_TEXT, 0},	 {"LINE", "line", OUT_NUM, 0},
		{"EXPECT", "expect", OUT_TEXT, 0},	 {"DECISION", "decision", OUT_TEXT, 0},
		{"CASE", "case", OUT_TEXT, OUT_SHRINKS}, {"RULE", "rule", OUT_TEXT, 0},
	};
	json_t *all;
	int rc;

	if (!r->c->json) {
		rc = out_list(r->c, r->results, cols, ARRAY_SIZE(cols), "no cases");
		out_text(r->c, "\n%u passed, %u failed\n", r->passed, r->failed);
	} else {
		all = json_pack("{s:i, s:i, s:O}", "passed", (int)r->passed, "failed",
				(int)r->failed, "cases", r->results);
		rc = out_json(r->c, all);
		json_decref(all);
	}
	return rc ? rc : r->failed ? CTL_FAILED : CTL_OK;
}

int judge_cases(struct ctl *c, const char *path, const struct known *known)
{
	struct run r = {.c = c, .path = path, .known = known};
	struct yaml_error error;
	struct ynode *root;
	struct arena arena;
	struct buf text;
	int rc;

	arena_init(&arena, ARENA_MAX);
	buf_init(&text, YAML_TEXT_MAX + 4096);
	r.results = json_array();
	rc = judge_init(&r.judge, c);
	if (rc == 0)
		rc = read_text(c, path, &text);
	if (rc == 0) {
		rc = yaml_parse(&arena, buf_slice(&text), &root, &error);
		if (rc == -EINVAL)
			rc = out_error(c, "cases", NULL, "%s:%u:%u: %s", path, error.line,
				       error.column, error.text);
		else if (rc)
			rc = out_error(c, "failed", NULL, "%s: %s", path, strerror(-rc));
		else
			rc = run_all(&r, root);
	}
	if (rc == 0)
		rc = report(&r);
	judge_done(&r.judge);
	json_decref(r.results);
	buf_done(&text);
	arena_done(&arena);
	return rc;
}
