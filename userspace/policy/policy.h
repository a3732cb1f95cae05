/* SPDX-License-Identifier: MIT */
/*
 * Rules and their evaluation: events + identity -> decision. Pure: no I/O, no
 * clock. A policy is immutable once built; reload builds another and swaps.
 */
#ifndef TIDEGATE_POLICY_POLICY_H
#define TIDEGATE_POLICY_POLICY_H

#include "base/compiler.h"
#include "base/slice.h"
#include "inspect/inspect.h"

struct policy;

enum rule_do { RULE_ALLOW, RULE_APPROVE, RULE_DENY }; /* ordered by strictness */

/* How access to a target is approved when a session opens. */
enum access_via {
	ACCESS_NONE,	/* allowed by the policy itself */
	ACCESS_BUILTIN, /* `tidegate approval approve` */
	ACCESS_IDP,	/* a way of `approvals:`, or the identity provider by scope */
};

/*
 * Building. All that a spec points to is copied.
 *
 * An object pattern is a glob over a name, or two globs with a dot between,
 * over schema and name; without a dot the schema does not matter. Where the
 * statement does not say the schema, a rule that denies or asks matches whatever
 * its schema pattern (it could be that one), and a rule that allows
 * only if its schema pattern is `*`: which schema the name would mean is up to search_path.
 * Likewise an access that may reach any object but names none (what is not
 * understood, code run in the server) is matched by rules that deny or
 * ask whatever their object, and by rules that allow only if they have none. Since such an access may
 * have any effect, too, rules that deny or ask match it whatever their effects: of those before
 * the first rule that names its effect the strictest decides.
 */
struct rule_spec {	     /* one line of commands: */
	uint32_t effects;    /* OR of enum sql_effect; all bits: `any` */
	struct slice object; /* glob over "schema.name" or "name"; empty: all */
	struct slice text;   /* pattern (vectorscan syntax) the statement must match; empty: all */
	enum rule_do what;
	struct slice way;	 /* who is asked, a name of `approvals:`; empty: people here */
	struct slice *approvers; /* groups or names; may be empty */
	uint32_t napprovers;
	uint32_t min_approvals; /* 0: 1 */
	uint64_t hold_ms;	/* how long a statement may wait; 0: 1 h */
	uint64_t hold_tx_ms;	/* inside a transaction; 0: 30 s */
	uint32_t line;		/* in the file, for messages */
};

struct mask_spec {		/* one line of mask: */
	struct slice column;	/* "table.column" or "schema.table.column"; empty: by detector */
	uint32_t detectors;	/* bits; for a column rule 0 */
	struct slice *patterns; /* user patterns, with DETECT_BIT_PATTERN set */
	uint32_t npatterns;
	enum mask_how how;
	uint32_t line;
};

/* What is known of the agent's process and of its workload token. */
#define POLICY_FACTS(X)                                                                            \
	X(EXE, "exe")		    /* path, glob */                                               \
	X(EXE_SHA256, "exe_sha256") /* hex */                                                      \
	X(CONTAINER, "container")   /* id, glob */                                                 \
	X(IMAGE, "image")	    /* glob */                                                     \
	X(UID, "uid")		    /* decimal */                                                  \
	X(SUB, "sub")		    /* of the token, glob */                                       \
	X(CLAIM, "claims")	    /* of the token, by name */

enum fact_kind {
#define X(name, text) FACT_##name,
	POLICY_FACTS(X)
#undef X
	FACT_KINDS
};
enum { FACTS_OF_TOKEN = 1u << FACT_SUB | 1u << FACT_CLAIM };

/* Holds if one of the values is the fact, or one of the facts where there are several. */
struct term_spec {
	enum fact_kind kind;
	struct slice name; /* of a claim */
	struct slice *values;
	uint32_t nvalues;
};

struct entry_spec {			/* one element of policy: */
	struct slice *agents, *targets; /* names; globs allowed */
	const struct term_spec *terms;	/* all must hold for the entry to apply */
	uint32_t nterms;
	uint32_t nagents, ntargets;
	enum access_via via;
	struct slice way;	 /* ACCESS_IDP: a name of `approvals:`; empty: "idp" */
	struct slice scope;	 /* ACCESS_IDP */
	uint64_t max_ms;	 /* length of a grant; 0: 15 min */
	uint64_t access_hold_ms; /* how long a connection may wait; 0: 1 h */
	uint64_t grace_ms;	 /* what runs at the end of a grant may take so long; 0: none */
	struct slice *approvers;
	uint32_t napprovers, min_approvals;
	const struct rule_spec *rules;
	uint32_t nrules;
	const struct mask_spec *masks;
	uint32_t nmasks;
	bool observe; /* decide and record, do not block */
	uint32_t line;
};

/*
 * @file stands in messages. 0 or -EINVAL (bad rules: all that is wrong, a line each, in @error,
 * "tidegate.yaml:21: ...") or -ENOMEM.
 */
MUST_CHECK int policy_new(const struct entry_spec *entries, uint32_t n, const char *file,
			  struct policy **ret, char *error, size_t error_cap);
struct policy *policy_ref(struct policy *p);
void policy_unref(struct policy *p);
/* SHA-256 over the canonical form, hex: stands in every recording. */
const char *policy_digest(const struct policy *p);

/* ------------------------------------------------------------ decisions */

struct policy_fact {
	enum fact_kind kind;
	struct slice name, value; /* @name of a claim */
};

struct policy_facts {
	uint32_t known; /* bits of kinds; a fact that is not known may be anything */
	bool some_claims; /* there may be others than those listed */
	const struct policy_fact *list;
	uint32_t n;
};

/* Kinds of facts that the entries for this agent on this target look at: bits. */
uint32_t policy_terms(const struct policy *p, struct slice agent, struct slice target);
/* Nobody is let in without an approval, whatever is known of him. */
bool policy_asks_always(const struct policy *p, struct slice agent, struct slice target);
/*
 * True if a term looks at the claim of this name, or at one inside of it: these are called
 * "kubernetes.io/namespace", with a slash between the names.
 */
bool policy_wants_claim(const struct policy *p, struct slice name);

/*
 * The entries that match one agent on one target, merged. NULL-free. An entry whose terms hold
 * applies. Where a fact is not known and nothing else speaks against it, an entry
 * can make things only stricter: its masks and what it denies or asks count, what it allows does
 * not. @facts NULL: nothing is known.
 */
struct policy_view;
MUST_CHECK int policy_view_for(struct policy *p, struct slice agent, struct slice target,
			       const struct policy_facts *facts, struct policy_view **ret);
/* For other facts the view would be the same. */
bool policy_view_is_for(const struct policy_view *v, const struct policy_facts *facts);
static inline MUST_CHECK int policy_view_new(struct policy *p, struct slice agent,
					     struct slice target, struct policy_view **ret)
{
	return policy_view_for(p, agent, target, NULL, ret);
}
void policy_view_free(struct policy_view *v);

struct access_decision {
	bool allowed;	     /* false: no entry matches, */
	uint16_t reason;     /* TG_R_NO_RULE, or what would have to be known for one to match */
	enum access_via via; /* the strictest of the matching entries */
	const char *ways;    /* ACCESS_IDP: names with spaces between; all have to say yes */
	const char *scope;   /* ACCESS_IDP */
	uint64_t max_ms, hold_ms, grace_ms;
	const char *const *approvers;
	uint32_t napprovers, min_approvals;
	bool observe;
	const char *rule; /* "policy[0].access (tidegate.yaml:17)" */
};
void policy_access(const struct policy_view *v, struct access_decision *ret);

struct command_decision {
	enum rule_do what;
	uint16_t reason;  /* TG_R_RULE_DENY, TG_R_NO_RULE or why the statement is unknown */
	const char *rule; /* "policy[0].commands[2] (tidegate.yaml:21)"; never NULL */
	enum sql_effect_bit effect; /* the access that made it so */
	struct slice object;	    /* borrowed from the info */
	const char *way;	    /* RULE_APPROVE: who is asked; "": people here */
	const char *const *approvers;
	uint32_t napprovers, min_approvals;
	uint64_t hold_ms, hold_tx_ms;
	bool observe; /* what would be, but it is let through */
};
/*
 * For each access of the statement each matching entry gives the first of its commands that
 * matches; of several entries the strictest decides; what no entry matches is denied.
 * An entry without commands says nothing here. The strictest over all accesses is
 * the decision; of two rules that ask, the one that asks more people, then the one that asks
 * elsewhere than here.
 * A statement without effects (empty text) is allowed to whoever has a policy entry.
 * An entry that only observes can make nothing stricter: what it would do is told (observe)
 * if the others let the statement through. Not for two threads at once: text
 * patterns share a scratch.
 */
void policy_command(const struct policy_view *v, const struct sql_info *info, struct slice text,
		    struct command_decision *ret);

/*
 * One line for a person: "denied: ddl on public.orders, by policy[0].commands[2]
 * (tidegate.yaml:21)". Returns the length without the NUL.
 */
size_t policy_explain(const struct command_decision *d, char *dst, size_t cap);

/* ---------------------------------------------------------------- masks */

/*
 * The mask rules of a view: of all its entries, also those that only observe. A
 * column named by several rules gets the strictest replacement (null, redact, hash, last4).
 */
struct mask_set;
const struct mask_set *policy_masks(const struct policy_view *v);
bool mask_set_empty(const struct mask_set *m);
/* True if a column rule is in it: then the target's catalog is needed. */
bool mask_set_needs_catalog(const struct mask_set *m);
/* "policy[0].mask[1] (tidegate.yaml:25)" for insp_plan.rule; "" if there is none. */
const char *mask_set_rule(const struct mask_set *m, uint16_t rule);
/* The rule that looks for the detector's bit, and what replaces a hit; "" and MASK_NONE: none. */
const char *mask_set_found(const struct mask_set *m, unsigned bit, int *ret_how);

#endif
