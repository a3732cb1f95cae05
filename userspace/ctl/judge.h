/* SPDX-License-Identifier: MIT */
/* What the configuration says about a statement, without a daemon or a target. */
#ifndef TIDEGATE_CTL_JUDGE_H
#define TIDEGATE_CTL_JUDGE_H

#include "config/config.h"
#include "ctl/ctl.h"
#include "inspect/sql/sql.h"
#include "policy/policy.h"

/* What is assumed of the agent's process and token; the rest is not known. All is borrowed. */
struct known {
	struct policy_fact list[64];
	uint32_t n, kinds; /* bits of enum fact_kind */
};

/*
 * @name=@value, a claim or a fact as `when` of tidegate.yaml(5) names them; an empty value: there
 * is none. NULL, or what is wrong with it.
 */
const char *known_add(struct known *k, bool claim, struct slice name, struct slice value);

struct judge {
	const struct config *conf;
	struct sql *sql;
};

/* Everything borrows from the judge, the configuration and each other, until verdict_done(). */
struct verdict {
	struct policy_view *view;
	const struct sql_info *info;
	struct access_decision access;
	struct command_decision command; /* only if access.allowed */
	bool tainted; /* may show a masked column, as far as the text alone tells */
};

/* 0, or an exit code after the error was said. judge_done() in any case. */
MUST_CHECK int judge_init(struct judge *j, struct ctl *c);
void judge_done(struct judge *j);

/* 0 or negative errno. Agent and target are names; they need not be in the configuration. */
MUST_CHECK int judge_statement(struct judge *j, struct slice agent, struct slice target,
			       struct slice text, const struct known *known, struct verdict *ret);
void verdict_done(struct verdict *v);

/* "allow", "approve" or "deny": of the access and the command together. */
const char *verdict_word(const struct verdict *v);
/* The rule that decided. */
const char *verdict_rule(const struct verdict *v);
const char *rule_word(enum rule_do what);

/* `tidegate policy test FILE`: runs the cases of a file. */
int judge_cases(struct ctl *c, const char *path, const struct known *known);
/* `tidegate policy explain`. */
int judge_explain(struct ctl *c, const char *agent, const char *target, const char *text,
		  const struct known *known);

#endif
