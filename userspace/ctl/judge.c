/* SPDX-License-Identifier: MIT */
#include "ctl/judge.h"

#include "base/reason.h"
#include "base/text.h"
#include "policy/catalog.h"

int judge_init(struct judge *j, struct ctl *c)
{
	int rc;

	*j = (struct judge){0};
	rc = conf_load(c, &j->conf);
	if (rc)
		return rc;
	rc = sql_new(&(struct sql_limits){0}, &j->sql);
	return rc ? out_error(c, "failed", NULL, "the classifier: %s", strerror(-rc)) : 0;
}

void judge_done(struct judge *j)
{
	sql_free(j->sql);
	j->sql = NULL;
}

/* As the daemon does without the target's catalog, which can only make it more exact. */
static void judge_masks(struct verdict *v)
{
	const struct mask_set *m = policy_masks(v->view);

	uint16_t why = mask_refuses(m, NULL, v->info);

	v->tainted = mask_tainted(m, NULL, v->info);
	if (why && v->command.what != RULE_DENY) {
		v->command.what = RULE_DENY;
		v->command.reason = why;
		v->command.rule = why == TG_R_MASK_CODE ? "mask: what it defines could read masked columns"
							: "mask: a masked column would be copied";
	}
}

/* Who has a target that is not known is told about its rules as if it were. */
static bool looks_into(const struct cfg_target *t)
{
	const struct inspector *insp = t ? inspector_find(slice_str(t->protocol)) : NULL;

	return !insp || insp->does & INSP_JUDGES;
}

static bool is_hex(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!s.p[i] || !strchr("0123456789abcdefABCDEF", s.p[i]))
			return false;
	return s.n == 64;
}

static const char *wrong_value(enum fact_kind kind, struct slice value)
{
	uint64_t uid;

	if (kind == FACT_EXE_SHA256 && !is_hex(value))
		return "64 hexadecimal digits are expected";
	if (kind == FACT_UID && text_parse_u64(value, 0, UINT32_MAX, &uid))
		return "a user id is a number";
	if (kind == FACT_EXE && (!value.n || value.p[0] != '/'))
		return "an absolute path is expected";
	if (kind == FACT_SUB && !value.n)
		return "a token has a subject";
	return NULL;
}

const char *known_add(struct known *k, bool claim, struct slice name, struct slice value)
{
	static const char *const names[FACT_KINDS] = {
#define X(fact, text) [FACT_##fact] = text,
		POLICY_FACTS(X)
#undef X
	};
	int kind = FACT_CLAIM;
	const char *why;

	for (kind = 0; !claim && kind < FACT_CLAIM; kind++)
		if (slice_eq_str(name, names[kind]))
			break;
	if (claim)
		kind = FACT_CLAIM;
	if (claim ? !name.n : kind == FACT_CLAIM)
		return "it is exe, exe_sha256, container, image, uid or sub";
	why = wrong_value((enum fact_kind)kind, value);
	if (why)
		return why;
	if (k->n == ARRAY_SIZE(k->list))
		return "too many facts";
	k->kinds |= 1u << kind;
	/* Who is in no container has no image; a token says no more than is given here. */
	if (kind == FACT_CONTAINER && !value.n)
		k->kinds |= 1u << FACT_IMAGE;
	if (kind == FACT_SUB)
		k->kinds |= 1u << FACT_CLAIM;
	if (value.n)
		k->list[k->n++] = (struct policy_fact){.kind = (enum fact_kind)kind,
						       .name = claim ? name : slice_of("", 0),
						       .value = value};
	return NULL;
}

int judge_statement(struct judge *j, struct slice agent, struct slice target, struct slice text,
		    const struct known *known, struct verdict *ret)
{
	const struct policy_facts facts = {.known = known->kinds, .list = known->list, .n = known->n};
	bool judged = looks_into(config_target(j->conf, target));
	struct verdict v = {0};
	int rc = policy_view_for(j->conf->policy, agent, target, &facts, &v.view);

	if (rc)
		return rc;
	policy_access(v.view, &v.access);
	v.info = sql_classify(j->sql, judged ? text : slice_of("", 0), SQL_LEX_STANDARD);
	if (v.access.allowed && !judged) {
		v.command = (struct command_decision){
			.what = RULE_ALLOW, .rule = "the target's protocol: what it carries is not looked into"};
	} else if (v.access.allowed) {
		policy_command(v.view, v.info, text, &v.command);
		judge_masks(&v);
	}
	*ret = v;
	return 0;
}

void verdict_done(struct verdict *v)
{
	sql_info_unref(v->info);
	policy_view_free(v->view);
	*v = (struct verdict){0};
}

const char *rule_word(enum rule_do what)
{
	switch (what) {
	case RULE_ALLOW:
		return "allow";
	case RULE_APPROVE:
		return "approve";
	case RULE_DENY:
		return "deny";
	}
	return "deny";
}

const char *verdict_word(const struct verdict *v)
{
	return v->access.allowed ? rule_word(v->command.what) : "deny";
}

const char *verdict_rule(const struct verdict *v)
{
	return v->access.allowed ? v->command.rule : v->access.rule;
}

/* -------------------------------------------------------------- explain */

static json_t *json_slice(struct slice s)
{
	json_t *v = json_stringn((const char *)s.p, s.n);

	return v ? v : json_string("(not UTF-8)");
}

static const char *via_word(enum access_via via)
{
	switch (via) {
	case ACCESS_NONE:
		return "policy";
	case ACCESS_BUILTIN:
		return "approver";
	case ACCESS_IDP:
		return "idp";
	}
	return "policy";
}

static json_t *strings(const char *const *list, uint32_t n)
{
	json_t *a = json_array();

	for (uint32_t i = 0; i < n; i++)
		(void)json_array_append_new(a, json_string(list[i]));
	return a;
}

static json_t *access_json(const struct access_decision *a)
{
	if (!a->allowed)
		return json_pack("{s:b, s:s?}", "allowed", 0, "rule", a->rule);
	return json_pack("{s:b, s:s, s:s?, s:I, s:o, s:i, s:s}", "allowed", 1, "via",
			 via_word(a->via), "scope", a->scope && *a->scope ? a->scope : NULL,
			 "max_ms", (json_int_t)a->max_ms, "approvers",
			 strings(a->approvers, a->napprovers), "min_approvals",
			 (int)a->min_approvals, "rule", a->rule);
}

/* Which rule one effect on one object meets by itself. */
static json_t *one_access(const struct verdict *v, const struct sql_access *a, struct slice text)
{
	struct command_decision d = {0};
	struct sql_info one = *v->info;
	json_t *o;

	one.access = a;
	one.naccess = 1;
	one.effects = a->effect;
	o = json_pack("{s:s?, s:o, s:o}", "effect",
		      sql_effect_name((enum sql_effect_bit)__builtin_ctz(a->effect)), "schema",
		      a->schema.n ? json_slice(a->schema) : json_null(), "object",
		      a->name.n ? json_slice(a->name) : json_null());
	if (v->access.allowed) {
		policy_command(v->view, &one, text, &d);
		(void)json_object_set_new(o, "decision", json_string(rule_word(d.what)));
		(void)json_object_set_new(o, "rule", json_string(d.rule));
	}
	return o;
}

static json_t *accesses_json(const struct verdict *v, struct slice text)
{
	json_t *list = json_array();

	for (uint16_t i = 0; i < v->info->naccess; i++)
		(void)json_array_append_new(list, one_access(v, &v->info->access[i], text));
	return list;
}

static json_t *effects_json(uint32_t effects)
{
	json_t *list = json_array();

	for (int bit = 0; bit < SQL_EFFECT_COUNT; bit++)
		if (effects & 1u << bit)
			(void)json_array_append_new(
				list, json_string(sql_effect_name((enum sql_effect_bit)bit)));
	return list;
}

/* Without the target's catalog: a view or function over a masked column is not seen here. */
static const char *mask_word(const struct verdict *v)
{
	const struct mask_set *m = policy_masks(v->view);

	if (mask_set_empty(m))
		return "none apply to this agent on this target";
	if (v->tainted)
		return "the text names a masked column or what may hold one: columns of the result "
		       "without a known origin are masked too";
	return mask_set_needs_catalog(m) ? "columns of the result that are masked by their origin"
					 : "detectors look at every value";
}

static json_t *verdict_json(const struct verdict *v, const char *agent, const char *target,
			    const char *text)
{
	const struct command_decision *d = &v->command;
	uint16_t reason = v->access.allowed ? d->reason : v->access.reason;
	json_t *o =
		json_pack("{s:s, s:s, s:s, s:s, s:s?}", "agent", agent, "target", target,
			  "statement", text, "decision", verdict_word(v), "rule", verdict_rule(v));

	if (reason != TG_R_NONE) {
		(void)json_object_set_new(o, "reason", json_string(reason_label(reason)));
		(void)json_object_set_new(o, "because", json_string(reason_what(reason)));
	}
	if (v->info->error.n)
		(void)json_object_set_new(o, "parser", json_slice(v->info->error));
	if (v->access.allowed && d->what == RULE_APPROVE) {
		(void)json_object_set_new(o, "approvers", strings(d->approvers, d->napprovers));
		(void)json_object_set_new(o, "hold_ms", json_integer((json_int_t)d->hold_ms));
		(void)json_object_set_new(o, "hold_in_transaction_ms",
					  json_integer((json_int_t)d->hold_tx_ms));
	}
	if (v->access.allowed && (v->access.observe || d->observe))
		(void)json_object_set_new(o, "observe", json_true());
	(void)json_object_set_new(o, "effects", effects_json(v->info->effects));
	(void)json_object_set_new(o, "access", access_json(&v->access));
	(void)json_object_set_new(o, "accesses", accesses_json(v, slice_str(text)));
	if (v->access.allowed)
		(void)json_object_set_new(o, "masks", json_string(mask_word(v)));
	return o;
}

static const struct out_col fields[] = {
	{"decision", "decision", OUT_TEXT, 0},
	{"rule", "rule", OUT_TEXT, 0},
	{"because", "because", OUT_TEXT, 0},
	{"parser says", "parser", OUT_TEXT, 0},
	{"approvers", "approvers", OUT_TEXT, 0},
	{"held at most", "hold_ms", OUT_MS, 0},
	{"in transaction", "hold_in_transaction_ms", OUT_MS, 0},
	{"only observed", "observe", OUT_TEXT, 0},
	{"effects", "effects", OUT_TEXT, 0},
	{"access", "access.via", OUT_TEXT, 0},
	{"scope", "access.scope", OUT_TEXT, 0},
	{"granted for", "access.max_ms", OUT_MS, 0},
	{"access rule", "access.rule", OUT_TEXT, 0},
	{"masks", "masks", OUT_TEXT, 0},
};

static const struct out_col access_cols[] = {
	{"EFFECT", "effect", OUT_TEXT, 0},
	{"SCHEMA", "schema", OUT_TEXT, OUT_SHRINKS | OUT_OPTIONAL},
	{"OBJECT", "object", OUT_TEXT, OUT_SHRINKS},
	{"DECISION", "decision", OUT_TEXT, OUT_OPTIONAL},
	{"RULE", "rule", OUT_TEXT, OUT_OPTIONAL},
};

static int print_verdict(struct ctl *c, json_t *o)
{
	json_t *accesses;
	int rc;

	if (c->json)
		return out_json(c, o);
	accesses = json_incref(json_object_get(o, "accesses"));
	/* What was asked is above in the terminal; what is in the table need not be said twice. */
	(void)json_object_del(o, "accesses");
	(void)json_object_del(o, "agent");
	(void)json_object_del(o, "target");
	(void)json_object_del(o, "statement");
	(void)json_object_del(o, "reason");
	rc = out_fields(c, o, fields, ARRAY_SIZE(fields));
	out_text(c, "\n");
	if (rc == CTL_OK)
		rc = out_list(c, accesses, access_cols, ARRAY_SIZE(access_cols),
			      "the statement touches no object");
	json_decref(accesses);
	return rc;
}

/* A name that is in no rule may be a typing error; it is judged nevertheless. */
static void warn_unknown(struct ctl *c, const struct config *conf, const char *agent,
			 const char *target)
{
	char name[256];

	if (c->json)
		return;
	if (!config_agent(conf, slice_str(agent))) {
		(void)out_escape(slice_str(agent), name, sizeof(name));
		(void)fprintf(stderr, "Note: no agent `%s` in %s\n", name, conf->file);
	}
	if (!config_target(conf, slice_str(target))) {
		(void)out_escape(slice_str(target), name, sizeof(name));
		(void)fprintf(stderr, "Note: no target `%s` in %s\n", name, conf->file);
	}
}

int judge_explain(struct ctl *c, const char *agent, const char *target, const char *text,
		  const struct known *known)
{
	struct verdict v;
	struct judge j;
	int rc = judge_init(&j, c);

	if (rc == 0) {
		warn_unknown(c, j.conf, agent, target);
		rc = judge_statement(&j, slice_str(agent), slice_str(target), slice_str(text),
				     known, &v);
		if (rc) {
			rc = out_error(c, "failed", NULL, "%s", strerror(-rc));
		} else {
			json_t *o = verdict_json(&v, agent, target, text);

			rc = print_verdict(c, o);
			json_decref(o);
			verdict_done(&v);
		}
	}
	judge_done(&j);
	return rc;
}
