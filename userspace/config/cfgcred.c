/* SPDX-License-Identifier: MIT */
/* What must be true of credentials, and of the targets that name them. */
#include <strings.h>

#include "config/cfgload.h"

/* The file of the one without the other's is of no use; who else tells a secret tells no key. */
static void check_certificate(struct loader *l, const struct cfg_credential *c,
			      const struct ynode *map)
{
	if (!c->certificate_file && !c->key_file)
		return;
	if (!c->certificate_file || !c->key_file)
		cfg_fail(l, map, "credential `%s` lacks `%s`, which `%s` needs", c->name,
			 c->key_file ? "certificate_file" : "key_file",
			 c->key_file ? "key_file" : "certificate_file");
	if (c->exec || c->grant_token || c->role.admin)
		cfg_fail(l, cfg_place(map, "certificate_file"),
			 "a certificate has a meaning alone or beside `password_file`");
}

static const struct cfg_credential *find(struct loader *l, const struct ynode *at, const char *name)
{
	const struct cfg_credential *c = config_credential(l->c, slice_str(name));
	const char **names = cfg_alloc(l, &l->tmp, sizeof(*names), l->c->ncredentials + 1);

	if (c || !names)
		return c;
	for (uint32_t i = 0; i < l->c->ncredentials; i++)
		names[i] = l->c->credentials[i].name;
	cfg_fail(l, at, "no credential is called `%s`%s", cfg_show(l, slice_str(name)),
		 cfg_nearest(l, slice_str(name), names, l->c->ncredentials));
	return NULL;
}

static void check_exec(struct loader *l, const struct cfg_credential *c, const struct ynode *map)
{
	static const char *const keys[] = {"run_as", "timeout", "keep"};

	if (!c->exec) {
		for (size_t i = 0; !yaml_get(map, "exec") && i < ARRAY_SIZE(keys); i++)
			if (yaml_get(map, keys[i]))
				cfg_fail(l, yaml_key(map, keys[i]), "`%s` has a meaning only with `exec`",
					 keys[i]);
		return;
	}
	if (c->exec[0][0] != '/')
		cfg_fail(l, cfg_place(map, "exec"), "`exec` begins with the program's absolute path, not "
			 "`%s`", cfg_show(l, slice_str(c->exec[0])));
	if (!c->run_as)
		cfg_fail(l, map, "credential `%s` lacks `run_as`: under which account is its program to "
			 "run?", c->name);
	else if (strcmp(c->run_as, "root") == 0)
		cfg_fail(l, cfg_place(map, "run_as"), "`run_as` is an account for this program alone, "
			 "not root's");
}

/* Whether a way ends with an access token of the provider's that is meant for the target. */
static bool brings_token(enum way_kind kind)
{
	switch (kind) {
	case WAY_CLIENT_CREDENTIALS:
	case WAY_TOKEN_EXCHANGE:
	case WAY_CIBA:
	case WAY_DEVICE:
	case WAY_SAML_BEARER:
		return true;
	case WAY_INTROSPECTION: /* the agent's own, which it must not be able to use there */
	case WAY_AUTHZEN:
	case WAY_SAML:
		break;
	}
	return false;
}

static void check_grant_token(struct loader *l, const struct cfg_credential *c,
			      const struct ynode *map)
{
	const struct ynode *at = cfg_place(map, "grant_token");
	const struct cfg_way *w = config_way(l->c, slice_str(c->grant_token));

	if (!w && strcmp(c->grant_token, "idp") != 0)
		cfg_fail(l, at, "no approval is called `%s`",
			 cfg_show(l, slice_str(c->grant_token)));
	else if (w && !brings_token(w->kind))
		cfg_fail(l, at, "approval `%s` brings no access token: `by` has to be "
			 "client_credentials, token_exchange, ciba, device or saml_bearer", w->name);
	else if (!w && !l->c->idp)
		cfg_fail(l, at, "`idp` is not configured");
}

/* ------------------------------------------------------------ ephemeral roles */

/* Behind a quoted text or name that begins at @p; NULL: it has no end. */
static const char *skip_quoted(const char *p)
{
	const char quote = *p++;

	while (*p && !(*p == quote && p[1] != quote))
		p += 1 + (*p == quote);
	return *p ? p + 1 : NULL;
}

static bool word_is(const char *text, const char *p, size_t n, const char *word)
{
	return (p == text || p[-1] == ' ') && n == strlen(word) && strncasecmp(p, word, n) == 0;
}

/* "TO" is what comes before it. */
static bool is_granted_to(const char *text, const char *p)
{
	while (p > text && p[-1] == ' ')
		p--;
	return p - text > 9 && strncasecmp(p - 3, " to", 3) == 0;
}

/*
 * NULL, or why it is no GRANT of rights to the role and nothing else. The server's own parser has the
 * last word; this finds what it would take and nobody means.
 */
static const char *check_statement(const char *text)
{
	unsigned roles = 0;

	for (const char *p = text; *p;) {
		size_t n = strcspn(p, " \"';$-/{");

		if (*p == '"' || *p == '\'') {
			p = skip_quoted(p);
			if (!p)
				return "a quote that does not end";
		} else if (*p == ';' || *p == '$' || (*p == '-' && p[1] == '-') ||
			   (*p == '/' && p[1] == '*')) {
			return "`;`, `$` or a comment: it is one plain statement";
		} else if (strncmp(p, "{role}", 6) == 0) {
			roles += is_granted_to(text, p);
			p += 6;
		} else if (*p == '{' && strncmp(p, "{database}", 10) != 0) {
			return "an unknown name in braces: there are {role} and {database}";
		} else if (word_is(text, p, n, "option")) {
			return "WITH ... OPTION: the agent could pass on what it was given";
		} else {
			p += n ? n : 1;
		}
	}
	return roles == 1 ? NULL : "not `TO {role}` just once";
}

static void check_grants(struct loader *l, const struct cfg_role *r, const struct ynode *section)
{
	const struct ynode *at = cfg_place(section, "grants");

	for (uint32_t i = 0; r->grants && r->grants[i]; i++) {
		const char *text = r->grants[i], *why = NULL;

		if (strncasecmp(text, "grant ", 6) == 0)
			why = check_statement(text);
		else if (!*text || strlen(text) > 63 || strpbrk(text, "{}"))
			why = "neither a role's name nor a statement that begins with GRANT";
		if (why)
			cfg_fail(l, at, "`grants`: `%s` has %s", cfg_show(l, slice_str(text)), why);
	}
}

static bool is_admin(const struct config *c, const struct cfg_credential *login)
{
	for (uint32_t i = 0; i < c->ncredentials; i++)
		if (c->credentials[i].role.admin &&
		    strcmp(c->credentials[i].role.admin, login->name) == 0)
			return true;
	return false;
}

static void check_role(struct loader *l, struct cfg_credential *c, const struct ynode *map)
{
	const struct ynode *section = cfg_place(map, "ephemeral_role");
	const struct ynode *at = cfg_place(section, "admin");
	struct cfg_role *r = &c->role;

	r->login = find(l, at, r->admin);
	if (r->login && (cfg_credential_granted(r->login) || r->login->key_file))
		cfg_fail(l, at, "credential `%s` is no administrator's: it takes `password_file` or "
			 "`exec`", r->login->name);
	if (c->user)
		cfg_fail(l, cfg_place(map, "user"), "`user` has no meaning with `ephemeral_role`, which "
			 "makes one");
	if (r->drop_owned && r->owner)
		cfg_fail(l, cfg_place(section, "owner"), "`owner` and `drop_owned` exclude each other");
	check_grants(l, r, section);
}

bool config_is_admin(const struct config *c, struct slice name)
{
	const struct cfg_credential *login = config_credential(c, name);

	return login && is_admin(c, login);
}

void cfg_check_credentials(struct loader *l)
{
	/* A certificate comes alone, or beside a password. */
	static const char *const kinds[] = {"password_file", "exec", "grant_token", "ephemeral_role"};

	for (uint32_t i = 0; i < l->c->ncredentials; i++) {
		const struct cfg_credential *c = &l->c->credentials[i];
		const struct ynode *map = l->credential_nodes[i];
		unsigned n = 0;

		if (map->kind != YNODE_MAP)
			continue;
		for (size_t k = 0; k < ARRAY_SIZE(kinds); k++)
			n += yaml_get(map, kinds[k]) != NULL;
		if (n != 1 && !(n == 0 && c->key_file))
			cfg_fail(l, map, "credential `%s` takes one of `password_file`, `exec`, "
				 "`grant_token`, `ephemeral_role` and `key_file`", c->name);
		else if ((n == 0 || yaml_get(map, "password_file")) && !c->user)
			cfg_fail(l, map, "credential `%s` lacks `user`", c->name);
		else if (c->grant_token)
			check_grant_token(l, c, map);
		else if (c->role.admin)
			check_role(l, &l->c->credentials[i], map);
		check_exec(l, c, map);
		check_certificate(l, c, map);
	}
}

void cfg_check_login(struct loader *l, struct cfg_target *t, const struct ynode *map)
{
	const struct ynode *at = cfg_place(map, "credential");

	if (!t->credential)
		return;
	t->login = find(l, at, t->credential);
	if (t->login && is_admin(l->c, t->login))
		cfg_fail(l, at, "credential `%s` is the `admin` of an `ephemeral_role`: agents are never "
			 "logged in with it", t->login->name);
	if (t->login && t->login->key_file && !cfg_target_verified(t))
		cfg_fail(l, at, "credential `%s` has a certificate, which is shown in TLS only: give target "
			 "`%s` `tls: { ca_file: ... }`", t->login->name, t->name);
	if (t->netns_agent && !cfg_target_verified(t))
		cfg_fail(l, at, "`netns: agent` and `credential` exclude each other without `tls`: a server "
			 "in an agent's namespace can be a fake that collects the password");
	if (t->netns_agent && t->login && t->login->role.admin)
		cfg_fail(l, at, "`netns: agent` and `ephemeral_role` exclude each other: roles are made from "
			 "the daemon's namespace");
}
