/* SPDX-License-Identifier: MIT */
#include "config/cfgtake.h"

#include <errno.h>

#include "base/text.h"
#include "config/cfgaddr.h"
#include "config/cfgload.h"

enum { NAME_MAX_BYTES = 63 };

/* [a-z0-9][a-z0-9-_.]*: fits into metrics, file names and shell words as it is. */
static bool name_ok(struct slice s)
{
	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];
		bool alnum = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');

		if (!alnum && (i == 0 || (c != '-' && c != '_' && c != '.')))
			return false;
	}
	return s.n > 0 && s.n <= NAME_MAX_BYTES;
}

/* The name of an agent or target, copied; NULL and an error if it cannot be one. */
static const char *take_name(struct loader *l, const struct ynode *key, const char *what)
{
	const char *name;

	if (!name_ok(key->text)) {
		cfg_fail(l, key, "`%s` cannot name %s: names are made of a-z, 0-9, `-`, `_` and `.`, "
			 "begin with a letter or digit and have at most %d characters",
			 cfg_show(l, key->text), what, (int)NAME_MAX_BYTES);
		return NULL;
	}
	name = arena_strdup(&l->c->arena, key->text);
	if (!name)
		l->no_memory = true;
	return name;
}

/* A mapping of names to objects with at least one element. */
static bool named_objects(struct loader *l, const struct ynode *v, const char *key,
			  const char *example)
{
	if (v->kind == YNODE_MAP && v->n > 0)
		return true;
	cfg_fail(l, v, "`%s` is a mapping of names, as `%s`", key, example);
	return false;
}

int cfg_take_idp(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	struct config *c = obj;
	struct cfg_idp *idp = cfg_alloc(l, &c->arena, sizeof(*idp), 1);
	static const char *const algorithms[] = {"ES256", "PS256", "RS256", NULL};

	if (!idp)
		return -ENOMEM;
	idp->algorithms = algorithms;
	cfg_fill(l, &cfg_idp_section, v, idp, "`idp`");
	if (!idp->audience)
		idp->audience = idp->client_id;
	c->idp = idp;
	return 0;
}

int cfg_take_agents(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	struct config *c = obj;

	if (!named_objects(l, v, "agents", "autogen: { cgroup: /agents.slice }"))
		return 0;
	c->agents = cfg_alloc(l, &c->arena, sizeof(*c->agents), v->n);
	l->agent_nodes = cfg_alloc(l, &l->tmp, sizeof(*l->agent_nodes), v->n);
	if (!c->agents || !l->agent_nodes)
		return -ENOMEM;
	for (const struct yitem *i = v->items; i; i = i->next) {
		struct cfg_agent *a = &c->agents[c->nagents];

		*a = (struct cfg_agent){.line = i->key->line};
		a->name = take_name(l, i->key, "an agent");
		if (!a->name)
			continue;
		cfg_fill(l, &cfg_agent_section, i->value, a,
			 cfg_text(l, "agent `%s`", a->name));
		if (i->value->kind == YNODE_MAP && !yaml_get(i->value, "cgroup") &&
		    !yaml_get(i->value, "uid") && !yaml_get(i->value, "source"))
			cfg_fail(l, i->key, "agent `%s` has neither `cgroup` nor `uid` nor `source`: "
				 "nothing tells who it is", a->name);
		l->agent_nodes[c->nagents++] = i->value;
	}
	return 0;
}

int cfg_take_uids(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	struct yitem one = {.value = (struct ynode *)v};
	const struct yitem *i = v->kind == YNODE_LIST ? v->items : &one;
	uid_t *uids = cfg_alloc(l, &l->c->arena, sizeof(*uids), v->kind == YNODE_LIST ? v->n + 1 : 1);
	struct cfg_agent *a = obj;
	uint64_t n;

	if (!uids)
		return -ENOMEM;
	if (!i)
		cfg_fail(l, v, "`uid` is empty");
	for (; i; i = i->next) {
		/* (uid_t)-1 means `no change` to the kernel and is nobody's. */
		if (i->value->kind == YNODE_SCALAR &&
		    text_parse_u64(i->value->text, 0, UINT32_MAX - 1, &n) == 0)
			uids[a->nuids++] = (uid_t)n;
		else
			cfg_fail(l, i->value, "`uid` takes numbers, not `%s` (`id -u NAME` tells the "
				 "number)", cfg_show(l, i->value->text));
	}
	a->uids = uids;
	return 0;
}

int cfg_take_allow(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	struct yitem one = {.value = (struct ynode *)v};
	const struct yitem *i = v->kind == YNODE_LIST ? v->items : &one;
	uint32_t n = v->kind == YNODE_LIST ? v->n : 1;
	struct cfg_allow *allow = cfg_alloc(l, &l->c->arena, sizeof(*allow), 2 * (n + 1));
	struct cfg_agent *a = obj;
	const char *why = "";
	int rc;

	if (!allow)
		return -ENOMEM;
	if (!i)
		cfg_fail(l, v, "`allow` is empty");
	for (; i; i = i->next) {
		rc = i->value->kind == YNODE_SCALAR
			     ? cfg_allow_parse(&l->c->arena, i->value->text, &allow[a->nallow], &why)
			     : -EINVAL;
		if (rc == -ENOMEM)
			return rc;
		if (rc < 0)
			cfg_fail(l, i->value, "`allow` takes addresses as `10.0.0.0/8:443`, "
				 "`10.0.0.2:53/udp` or `loopback`, not `%s`%s%s",
				 cfg_show(l, i->value->text), *why ? ": " : "", why);
		else
			a->nallow += (uint32_t)rc;
	}
	a->allow = allow;
	return 0;
}

int cfg_take_ways(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	static const char *const reserved[] = {"none", "builtin", "idp"};
	struct config *c = obj;

	if (!named_objects(l, v, "approvals", "oncall: { by: ciba, login_hint: dba }"))
		return 0;
	c->ways = cfg_alloc(l, &c->arena, sizeof(*c->ways), v->n);
	l->way_nodes = cfg_alloc(l, &l->tmp, sizeof(*l->way_nodes), v->n);
	if (!c->ways || !l->way_nodes)
		return -ENOMEM;
	for (const struct yitem *i = v->items; i; i = i->next) {
		struct cfg_way *w = &c->ways[c->nways];

		*w = (struct cfg_way){.line = i->key->line};
		w->name = take_name(l, i->key, "an approval");
		if (!w->name)
			continue;
		for (size_t k = 0; k < ARRAY_SIZE(reserved); k++)
			if (strcmp(w->name, reserved[k]) == 0)
				cfg_fail(l, i->key, "`%s` has a meaning of its own: choose another name",
					 w->name);
		cfg_fill(l, &cfg_way_section, i->value, w, cfg_text(l, "approval `%s`", w->name));
		l->way_nodes[c->nways++] = i->value;
	}
	return 0;
}

int cfg_take_credentials(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	struct config *c = obj;

	if (!named_objects(l, v, "credentials",
			   "orders-ro: { user: orders_ro, password_file: /etc/tidegate/orders-ro }"))
		return 0;
	c->credentials = cfg_alloc(l, &c->arena, sizeof(*c->credentials), v->n);
	l->credential_nodes = cfg_alloc(l, &l->tmp, sizeof(*l->credential_nodes), v->n);
	if (!c->credentials || !l->credential_nodes)
		return -ENOMEM;
	for (const struct yitem *i = v->items; i; i = i->next) {
		struct cfg_credential *cr = &c->credentials[c->ncredentials];

		*cr = (struct cfg_credential){.line = i->key->line};
		cr->name = take_name(l, i->key, "a credential");
		if (!cr->name)
			continue;
		cfg_fill(l, &cfg_credential_section, i->value, cr,
			 cfg_text(l, "credential `%s`", cr->name));
		l->credential_nodes[c->ncredentials++] = i->value;
	}
	return 0;
}

int cfg_take_targets(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	struct config *c = obj;

	if (!named_objects(l, v, "targets",
			   "orders-db: { address: \"db:5432\", protocol: postgresql }"))
		return 0;
	c->targets = cfg_alloc(l, &c->arena, sizeof(*c->targets), v->n);
	l->target_nodes = cfg_alloc(l, &l->tmp, sizeof(*l->target_nodes), v->n);
	if (!c->targets || !l->target_nodes)
		return -ENOMEM;
	for (const struct yitem *i = v->items; i; i = i->next) {
		struct cfg_target *t = &c->targets[c->ntargets];

		*t = (struct cfg_target){.line = i->key->line};
		t->name = take_name(l, i->key, "a target");
		if (!t->name)
			continue;
		cfg_fill(l, &cfg_target_section, i->value, t,
			 cfg_text(l, "target `%s`", t->name));
		l->target_nodes[c->ntargets++] = i->value;
	}
	return 0;
}

int cfg_take_addresses(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	struct yitem one = {.value = (struct ynode *)v};
	const struct yitem *i = v->kind == YNODE_LIST ? v->items : &one;
	struct cfg_target *t = obj;
	const char *why;
	int rc;

	if (!i)
		cfg_fail(l, v, "`address` is empty");
	t->addrs = cfg_alloc(l, &l->c->arena, sizeof(*t->addrs), v->kind == YNODE_LIST ? v->n + 1 : 1);
	if (!t->addrs)
		return -ENOMEM;
	for (; i; i = i->next) {
		if (i->value->kind != YNODE_SCALAR) {
			cfg_fail(l, i->value, "`address` takes `host:port`, one or a list");
			continue;
		}
		rc = cfg_addr_parse(&l->c->arena, i->value->text, &t->addrs[t->naddrs], &why);
		if (rc == -ENOMEM)
			return rc;
		if (rc == 0 && cfg_addr_is_any(&t->addrs[t->naddrs])) {
			rc = -EINVAL;
			why = "this is no address that anybody connects to; for all write `0.0.0.0/0`";
		}
		if (rc)
			cfg_fail(l, i->value, "address `%s`: %s", cfg_show(l, i->value->text), why);
		else
			t->naddrs++;
	}
	return 0;
}

/* --------------------------------------------------------------- policy */

/* By the tree, because the sections come in any order. */
static bool way_known(struct loader *l, const struct ynode *v)
{
	const struct ynode *ways = yaml_get(l->root, "approvals");

	if (v->kind != YNODE_SCALAR || !ways || ways->kind != YNODE_MAP)
		return false;
	for (const struct yitem *i = ways->items; i; i = i->next)
		if (slice_eq(i->key->text, v->text))
			return true;
	return false;
}

int cfg_take_approval(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	static const char *const words[] = {
		[ACCESS_NONE] = "none", [ACCESS_BUILTIN] = "builtin", [ACCESS_IDP] = "idp"};
	struct entry_spec *e = obj;

	/* One error is enough: what else depends on it is taken as right. */
	l->access_given = true;
	for (unsigned i = 0; i < ARRAY_SIZE(words); i++) {
		if (v->kind != YNODE_SCALAR || !slice_eq_str(v->text, words[i]))
			continue;
		e->via = (enum access_via)i;
		return 0;
	}
	if (way_known(l, v)) {
		e->via = ACCESS_IDP;
		e->way = v->text;
		return 0;
	}
	cfg_fail(l, v, "`approval` takes `none`, `builtin`, `idp` or a name of `approvals`, not `%s`%s",
		 cfg_show(l, v->text), cfg_nearest(l, v->text, words, ARRAY_SIZE(words)));
	return 0;
}

int cfg_take_way(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	struct rule_spec *r = obj;

	if (v->kind == YNODE_SCALAR && slice_eq_str(v->text, "builtin"))
		return 0;
	if (way_known(l, v))
		r->way = v->text;
	else
		cfg_fail(l, v, "`approval` of a command takes `builtin` or a name of `approvals`, not "
			 "`%s`", cfg_show(l, v->text));
	return 0;
}

static void take_entry(struct loader *l, const struct ynode *v, struct entry_spec *e, uint32_t i)
{
	const char *where = cfg_text(l, "policy[%u]", i);

	*e = (struct entry_spec){.line = v->line};
	l->access_given = false;
	cfg_fill(l, &cfg_entry_section, v, e, where);
	if (!l->access_given)
		e->via = yaml_get(l->root, "idp") ? ACCESS_IDP : ACCESS_BUILTIN;
	/* Its default is none of an entry where nobody is asked. */
	if (e->via != ACCESS_BUILTIN)
		e->min_approvals = 0;
}

int cfg_take_policy(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	if (v->kind != YNODE_LIST || v->n == 0) {
		cfg_fail(l, v, "`policy` is a list of entries, each with agents, targets and access");
		return 0;
	}
	l->entries = cfg_alloc(l, &l->tmp, sizeof(*l->entries), v->n);
	l->entry_nodes = cfg_alloc(l, &l->tmp, sizeof(*l->entry_nodes), v->n);
	if (!l->entries || !l->entry_nodes)
		return -ENOMEM;
	for (const struct yitem *i = v->items; i; i = i->next) {
		take_entry(l, i->value, &l->entries[l->nentries], l->nentries);
		l->entry_nodes[l->nentries++] = i->value;
	}
	return 0;
}

/* What tells how a rule is approved is an error in one that is not. */
static void nobody_is_asked(struct loader *l, const struct ynode *map, struct rule_spec *r)
{
	static const char *const keys[] = {"approval", "approvers", "min_approvals", "hold",
					   "hold_in_transaction"};

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++)
		if (yaml_get(map, keys[i]))
			cfg_fail(l, yaml_key(map, keys[i]),
				 "`%s` has a meaning only with `do: approve`", keys[i]);
	/* Nor do the defaults of these keys apply. */
	r->min_approvals = 0;
	r->hold_ms = r->hold_tx_ms = 0;
}

int cfg_take_commands(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	struct entry_spec *e = obj;
	struct rule_spec *rules;

	if (v->kind != YNODE_LIST) {
		cfg_fail(l, v, "`commands` is a list of rules, as `- { effect: read, do: allow }`");
		return 0;
	}
	rules = cfg_alloc(l, &l->tmp, sizeof(*rules), v->n + 1);
	if (!rules)
		return -ENOMEM;
	for (const struct yitem *i = v->items; i; i = i->next) {
		struct rule_spec *r = &rules[e->nrules];

		r->line = i->value->line;
		cfg_fill(l, &cfg_rule_section, i->value, r,
			 cfg_text(l, "%s.commands[%u]", where, e->nrules));
		e->nrules++;
		if (r->what != RULE_APPROVE && i->value->kind == YNODE_MAP)
			nobody_is_asked(l, i->value, r);
	}
	e->rules = rules;
	return 0;
}

int cfg_take_effects(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	static const char *const words[] = {
#define X(name, text, what) [SQL_BIT_##name] = text,
		SQL_EFFECTS(X)
#undef X
		[SQL_EFFECT_COUNT] = "any",
	};
	struct yitem one = {.value = (struct ynode *)v};
	const struct yitem *i = v->kind == YNODE_LIST ? v->items : &one;
	struct rule_spec *r = obj;

	if (!i)
		cfg_fail(l, v, "`effect` is empty");
	for (; i; i = i->next) {
		struct slice s = i->value->text;
		unsigned bit = 0;

		while (bit < ARRAY_SIZE(words) && !slice_eq_str(s, words[bit]))
			bit++;
		if (bit == SQL_EFFECT_COUNT)
			r->effects |= (1u << SQL_EFFECT_COUNT) - 1;
		else if (bit < SQL_EFFECT_COUNT)
			r->effects |= 1u << bit;
		else
			cfg_fail(l, i->value, "no effect is called `%s`%s", cfg_show(l, s),
				 cfg_nearest(l, s, words, ARRAY_SIZE(words)));
	}
	return 0;
}

/* "t.c" or "s.t.c", no part empty. */
static bool column_ok(struct slice s)
{
	unsigned dots = 0;

	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] != '.')
			continue;
		dots++;
		if (i == 0 || i + 1 == s.n || s.p[i + 1] == '.')
			return false;
	}
	return dots == 1 || dots == 2;
}

static void check_mask(struct loader *l, const struct ynode *v, struct mask_spec *m,
		       const char *where)
{
	const struct ynode *column = yaml_get(v, "column");
	bool by_value = yaml_get(v, "detect") || yaml_get(v, "pattern");

	if (m->npatterns)
		m->detectors |= 1u << DETECT_BIT_PATTERN;
	if (column && by_value)
		cfg_fail(l, column, "%s has both `column` and `detect` or `pattern`: write two", where);
	else if (!column && !by_value)
		cfg_fail(l, v, "%s lacks one of `column`, `detect` and `pattern`", where);
	else if (column && m->column.n && !column_ok(m->column))
		cfg_fail(l, column, "`column` takes `table.column` or `schema.table.column`, not `%s`",
			 cfg_show(l, m->column));
}

int cfg_take_masks(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	struct entry_spec *e = obj;
	struct mask_spec *masks;

	if (v->kind != YNODE_LIST) {
		cfg_fail(l, v, "`mask` is a list, as `- { column: \"customers.ssn\", as: last4 }`");
		return 0;
	}
	masks = cfg_alloc(l, &l->tmp, sizeof(*masks), v->n + 1);
	if (!masks)
		return -ENOMEM;
	for (const struct yitem *i = v->items; i; i = i->next) {
		const char *here = cfg_text(l, "%s.mask[%u]", where, e->nmasks);
		struct mask_spec *m = &masks[e->nmasks++];

		m->line = i->value->line;
		cfg_fill(l, &cfg_mask_section, i->value, m, here);
		if (i->value->kind == YNODE_MAP)
			check_mask(l, i->value, m, here);
	}
	e->masks = masks;
	return 0;
}

int cfg_take_detectors(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	struct yitem one = {.value = (struct ynode *)v};
	const struct yitem *i = v->kind == YNODE_LIST ? v->items : &one;
	const char *words[DETECTOR_COUNT];
	struct mask_spec *m = obj;

	for (unsigned bit = 0; bit < DETECTOR_COUNT; bit++)
		words[bit] = detector_name((enum detector_bit)bit);
	if (!i)
		cfg_fail(l, v, "`detect` is empty");
	for (; i; i = i->next) {
		struct slice s = i->value->text;
		int bit = i->value->kind == YNODE_SCALAR ? detector_parse(s) : -1;

		if (bit == DETECT_BIT_PATTERN)
			cfg_fail(l, i->value, "write the pattern itself: `pattern: \"...\"`");
		else if (bit >= 0)
			m->detectors |= 1u << bit;
		else
			cfg_fail(l, i->value, "no detector is called `%s`%s", cfg_show(l, s),
				 cfg_nearest(l, s, words, DETECTOR_COUNT));
	}
	return 0;
}

int cfg_take_how(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	static const char *const words[] = {"redact", "last4", "hash", "null"};
	int how = v->kind == YNODE_SCALAR ? mask_how_parse(v->text) : -1;
	struct mask_spec *m = obj;

	if (how > MASK_NONE)
		m->how = (enum mask_how)how;
	else
		cfg_fail(l, v, "`as` takes `redact`, `last4`, `hash` or `null`, not `%s`%s",
			 cfg_show(l, v->text),
			 cfg_nearest(l, v->text, words, ARRAY_SIZE(words)));
	return 0;
}
