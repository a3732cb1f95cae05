/* SPDX-License-Identifier: MIT */
/* `token` of an agent, and `when` of a policy entry. */
#include <errno.h>

#include "base/text.h"
#include "config/cfgload.h"
#include "config/cfgtake.h"

/* ---------------------------------------------------------------- token */

int cfg_take_token(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	struct cfg_token *t = cfg_alloc(l, &l->c->arena, sizeof(*t), 1);
	struct cfg_agent *a = obj;

	if (!t)
		return -ENOMEM;
	*t = (struct cfg_token){0};
	a->token = t;
	if (v->kind != YNODE_SCALAR) {
		cfg_fill(l, &cfg_token_section, v, t, cfg_text(l, "`token` of %s", where));
		return 0;
	}
	if (v->text.n == 0 || v->text.p[0] != '/')
		cfg_fail(l, v, "`token` takes an absolute path or a mapping, not `%s`",
			 cfg_show(l, v->text));
	t->file = arena_strdup(&l->c->arena, v->text);
	return t->file ? 0 : -ENOMEM;
}

static bool env_name(const char *s)
{
	size_t n = strlen(s);

	return n && n < 256 && !strchr(s, '=');
}

/* An assertion names and signs for itself what a way of `approvals` checks. */
static bool has_saml(const struct config *c)
{
	for (uint32_t i = 0; i < c->nways; i++)
		if (c->ways[i].kind == WAY_SAML)
			return true;
	return false;
}

static void check_token(struct loader *l, const struct cfg_agent *a, const struct ynode *agent)
{
	const struct ynode *at = cfg_place(agent, "token");
	const struct cfg_token *t = a->token;
	struct cfg_idp like = {.issuer = t->issuer, .algorithms = t->algorithms,
			       .extra_origins = t->extra_origins, .allow_http = t->allow_http};
	static const char *const of_issuer[] = {"ca_file", "extra_origins", "allow_http"};

	if (at->kind == YNODE_MAP && !yaml_get(at, "file") == !yaml_get(at, "env"))
		cfg_fail(l, at, "`token` of agent `%s` names either a `file` or an `env`", a->name);
	if (t->env && !env_name(t->env))
		cfg_fail(l, cfg_place(at, "env"), "`env` is the name of an environment variable");
	if (!t->issuer && !l->c->idp && !has_saml(l->c))
		cfg_fail(l, at, "`token` of agent `%s` lacks `issuer`: there is no section `idp` whose "
			 "issuer it could be", a->name);
	if (t->issuer && !t->audience)
		cfg_fail(l, at, "`token` of agent `%s` lacks `audience`: a token that was made for "
			 "somebody else must not be taken", a->name);
	if (at->kind != YNODE_MAP)
		return;
	cfg_check_issuer(l, &like, at);
	for (size_t i = 0; !t->issuer && i < ARRAY_SIZE(of_issuer); i++)
		if (yaml_get(at, of_issuer[i]))
			cfg_fail(l, yaml_key(at, of_issuer[i]),
				 "`%s` has a meaning only with an `issuer` of the token's own", of_issuer[i]);
}

static bool names_agent(const struct entry_spec *e, const char *name)
{
	for (uint32_t i = 0; i < e->nagents; i++)
		if (text_glob(e->agents[i], slice_str(name)))
			return true;
	return false;
}

/* A term that nothing could ever tell is a mistake. */
static void check_when(struct loader *l, const struct entry_spec *e, const struct ynode *map)
{
	uint32_t kinds = 0;

	for (uint32_t i = 0; i < e->nterms; i++)
		kinds |= 1u << e->terms[i].kind;
	if (!(kinds & FACTS_OF_TOKEN))
		return;
	for (uint32_t i = 0; i < l->c->nagents; i++)
		if (l->c->agents[i].token && names_agent(e, l->c->agents[i].name))
			return;
	cfg_fail(l, cfg_place(cfg_place(map, "when"), "token"),
		 "none of the agents of this entry has a `token`");
}

void cfg_check_tokens(struct loader *l)
{
	for (uint32_t i = 0; i < l->c->nagents; i++)
		if (l->c->agents[i].token)
			check_token(l, &l->c->agents[i], l->agent_nodes[i]);
	for (uint32_t i = 0; i < l->nentries; i++)
		check_when(l, &l->entries[i], l->entry_nodes[i]);
}

/* ----------------------------------------------------------------- when */

static bool is_digest(struct slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!(s.p[i] >= '0' && s.p[i] <= '9') && !(s.p[i] >= 'a' && s.p[i] <= 'f'))
			return false;
	return s.n == 64;
}

static void check_values(struct loader *l, const struct ynode *map, const struct cfg_when *w)
{
	uint64_t n;

	for (uint32_t i = 0; i < w->nexe_sha256; i++)
		if (!is_digest(w->exe_sha256[i]))
			cfg_fail(l, cfg_place(map, "exe_sha256"), "`exe_sha256` takes 64 digits of 0-9 and "
				 "a-f, as `sha256sum` prints them, not `%s`",
				 cfg_show(l, w->exe_sha256[i]));
	for (uint32_t i = 0; i < w->nuid; i++)
		if (text_parse_u64(w->uid[i], 0, UINT32_MAX - 1, &n) ||
		    (w->uid[i].n > 1 && w->uid[i].p[0] == '0'))
			cfg_fail(l, cfg_place(map, "uid"), "`uid` takes numbers, not `%s`",
				 cfg_show(l, w->uid[i]));
}

int cfg_take_when(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	struct cfg_when w = {0};
	struct entry_spec *e = obj;
	struct term_spec *terms;
	uint32_t n = 0;

	cfg_fill(l, &cfg_when_section, v, &w, cfg_text(l, "`when` of %s", where));
	if (v->kind != YNODE_MAP)
		return 0;
	check_values(l, v, &w);
	const struct term_spec simple[] = {
		{.kind = FACT_EXE, .values = w.exe, .nvalues = w.nexe},
		{.kind = FACT_EXE_SHA256, .values = w.exe_sha256, .nvalues = w.nexe_sha256},
		{.kind = FACT_CONTAINER, .values = w.container, .nvalues = w.ncontainer},
		{.kind = FACT_IMAGE, .values = w.image, .nvalues = w.nimage},
		{.kind = FACT_UID, .values = w.uid, .nvalues = w.nuid},
		{.kind = FACT_SUB, .values = w.sub, .nvalues = w.nsub},
	};
	terms = cfg_alloc(l, &l->tmp, sizeof(*terms), ARRAY_SIZE(simple) + w.nclaims);
	if (!terms)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(simple); i++)
		if (simple[i].nvalues)
			terms[n++] = simple[i];
	for (uint32_t i = 0; i < w.nclaims; i++)
		terms[n++] = w.claims[i];
	if (n == 0 && v->n == 0)
		cfg_fail(l, v, "`when` is empty: an entry without it always applies");
	e->terms = terms;
	e->nterms = n;
	return 0;
}

static bool take_values(struct loader *l, const struct yitem *item, struct term_spec *t)
{
	struct yitem one = {.value = item->value};
	const struct yitem *i = item->value->kind == YNODE_LIST ? item->value->items : &one;

	for (; i; i = i->next) {
		if (i->value->kind != YNODE_SCALAR || yaml_is_null(i->value) || !i->value->text.n) {
			cfg_fail(l, i->value, "claim `%s` takes a value or a list of values",
				 cfg_show(l, item->key->text));
			return false;
		}
		t->values[t->nvalues++] = i->value->text;
	}
	if (!t->nvalues)
		cfg_fail(l, item->value, "claim `%s` has no value", cfg_show(l, item->key->text));
	return t->nvalues > 0;
}

int cfg_take_claims(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	struct cfg_when *w = obj;

	if (v->kind != YNODE_MAP || v->n == 0) {
		cfg_fail(l, v, "`claims` is a mapping of names to values, as `{ env: [prod, stage] }`");
		return 0;
	}
	w->claims = cfg_alloc(l, &l->tmp, sizeof(*w->claims), v->n);
	if (!w->claims)
		return -ENOMEM;
	for (const struct yitem *i = v->items; i; i = i->next) {
		struct term_spec *t = &w->claims[w->nclaims];
		uint32_t n = i->value->kind == YNODE_LIST ? i->value->n : 1;

		*t = (struct term_spec){.kind = FACT_CLAIM, .name = i->key->text};
		t->values = cfg_alloc(l, &l->tmp, sizeof(*t->values), n + 1);
		if (!t->values)
			return -ENOMEM;
		if (take_values(l, i, t))
			w->nclaims++;
	}
	return 0;
}
