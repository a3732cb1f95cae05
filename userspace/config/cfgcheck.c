/* SPDX-License-Identifier: MIT */
/* What no single key can tell: names that must exist, addresses that must differ. */
#include <errno.h>
#include <strings.h>

#include "base/text.h"
#include "config/cfgaddr.h"
#include "config/cfghint.h"
#include "config/cfgload.h"

const struct ynode *cfg_place(const struct ynode *map, const char *key)
{
	const struct ynode *v = yaml_get(map, key);

	return v ? v : map;
}

/* ------------------------------------------------------------------ idp */

static bool starts(const char *s, const char *with)
{
	return strncasecmp(s, with, strlen(with)) == 0;
}

/* The host of an http URL is a loopback literal or `localhost`. */
static bool loopback_url(const char *url)
{
	static const char *const hosts[] = {"http://127.0.0.1", "http://localhost", "http://[::1]"};

	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++) {
		size_t n = strlen(hosts[i]);

		if (starts(url, hosts[i]) && (url[n] == '\0' || url[n] == ':' || url[n] == '/') &&
		    !strchr(url, '@'))
			return true;
	}
	return false;
}

static bool endpoint_url(const char *url)
{
	return !strpbrk(url, "@# \t\n") &&
	       ((starts(url, "https://") && url[8] && url[8] != '/') || loopback_url(url));
}

static void check_issuer(struct loader *l, const struct cfg_idp *idp, const struct ynode *map)
{
	const struct ynode *at = cfg_place(map, "issuer");

	if (!idp->issuer)
		return;
	if (strpbrk(idp->issuer, "?# \t\n") || strchr(idp->issuer, '@'))
		cfg_fail(l, at, "`issuer` is a URL without user, query and fragment");
	else if (starts(idp->issuer, "https://") && idp->issuer[8] && idp->issuer[8] != '/')
		return;
	else if (!starts(idp->issuer, "http://"))
		cfg_fail(l, at, "`issuer` is an https URL, not `%s`",
			 cfg_show(l, slice_str(idp->issuer)));
	else if (!idp->allow_http)
		cfg_fail(l, at, "`issuer` is an https URL (http only with `allow_http: true`, on a "
			 "loopback address)");
	else if (!loopback_url(idp->issuer))
		cfg_fail(l, at, "an http `issuer` is accepted on 127.0.0.1, [::1] or localhost only");
}

static void check_algorithms(struct loader *l, const struct cfg_idp *idp, const struct ynode *map)
{
	static const char *const known[] = {"ES256", "ES384", "ES512", "PS256", "PS384",
					    "PS512", "RS256", "RS384", "RS512", "EdDSA"};
	const struct ynode *at = cfg_place(map, "algorithms");

	for (const char *const *a = idp->algorithms; a && *a; a++) {
		struct slice s = slice_str(*a);
		size_t i = 0;

		while (i < ARRAY_SIZE(known) && !slice_eq_str(s, known[i]))
			i++;
		if (i == ARRAY_SIZE(known))
			cfg_fail(l, at, "`%s` is no signature algorithm that tokens may use%s",
				 cfg_show(l, s), cfg_nearest(l, s, known, ARRAY_SIZE(known)));
	}
}

/* "https://host" or "https://host:443": what comes behind would not be compared. */
static bool is_origin(const char *url, size_t scheme)
{
	const char *host = url + scheme;
	size_t n = strcspn(host, "/?#@ \t\n");

	return n && host[0] != ':' && !host[n];
}

static void check_origins(struct loader *l, const struct cfg_idp *idp, const struct ynode *map)
{
	const struct ynode *at = cfg_place(map, "extra_origins");

	for (const char *const *o = idp->extra_origins; o && *o; o++) {
		const char *shown = cfg_show(l, slice_str(*o));

		if (starts(*o, "https://") && is_origin(*o, strlen("https://")))
			continue;
		if (!starts(*o, "http://"))
			cfg_fail(l, at, "an element of `extra_origins` is https://HOST or "
				 "https://HOST:PORT and nothing behind, not `%s`", shown);
		else if (!idp->allow_http || !loopback_url(*o) || !is_origin(*o, strlen("http://")))
			cfg_fail(l, at, "an element of `extra_origins` is an https URL (http only with "
				 "`allow_http: true`, on a loopback address), not `%s`", shown);
	}
}

/* An agent on another host must not find it, and what comes over a wire needs TLS before it. */
static void check_events(struct loader *l, const struct cfg_idp *idp, const struct ynode *map)
{
	static const char *const hosts[] = {"127.0.0.1:", "[::1]:"};
	uint64_t port;

	if (!idp->events)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(hosts); i++)
		if (starts(idp->events, hosts[i]) &&
		    text_parse_u64(slice_str(idp->events + strlen(hosts[i])), 1, 65535, &port) == 0)
			return;
	cfg_fail(l, cfg_place(map, "events"),
		 "`events` is 127.0.0.1:PORT or [::1]:PORT, not `%s`: put a proxy that speaks TLS "
		 "before it", cfg_show(l, slice_str(idp->events)));
}

void cfg_check_issuer(struct loader *l, const struct cfg_idp *idp, const struct ynode *map)
{
	check_issuer(l, idp, map);
	check_algorithms(l, idp, map);
	check_origins(l, idp, map);
}

static void check_client(struct loader *l, const struct cfg_idp *idp, const struct ynode *client)
{
	bool tls = idp_auth_is_tls(idp->auth);

	if (idp->auth == IDP_AUTH_PRIVATE_KEY_JWT && !idp->key_file)
		cfg_fail(l, client, "`client` lacks `key_file`, which `auth: private_key_jwt` needs");
	else if (tls && (!idp->key_file || !idp->certificate_file))
		cfg_fail(l, client, "`client` lacks `%s`, which this `auth` needs",
			 idp->key_file ? "certificate_file" : "key_file");
	else if (!tls && idp->auth != IDP_AUTH_PRIVATE_KEY_JWT && !idp->secret_file)
		cfg_fail(l, client, "`client` lacks `secret_file`, which this `auth` needs");
	if (!tls && idp->certificate_file)
		cfg_fail(l, yaml_key(client, "certificate_file"),
			 "`certificate_file` has a meaning only with `auth: tls_client_auth` or "
			 "`self_signed_tls_client_auth`");
	if (tls && idp->issuer && !starts(idp->issuer, "https://"))
		cfg_fail(l, client, "this `auth` needs an https `issuer`: a certificate is shown in TLS only");
}

static void check_who(struct loader *l, const struct cfg_idp *idp, const struct ynode *map)
{
	if (idp->introspect_scope && !idp->introspect_bearer)
		cfg_fail(l, yaml_key(map, "introspection_scope"),
			 "`introspection_scope` has a meaning only with `introspection: bearer`");
	if (idp->name_from != IDP_NAME_TOKEN && !idp->name_claim)
		cfg_fail(l, cfg_place(map, "name_from"),
			 "`name_from` needs `name_claim`: what is there to look for?");
	if (idp->name_from == IDP_NAME_USERINFO && idp->dpop == IDP_DPOP_ON)
		cfg_fail(l, cfg_place(map, "name_from"),
			 "`name_from: userinfo` goes with tokens that are not bound: not with `dpop: on`");
}

static void check_idp(struct loader *l)
{
	const struct ynode *map = yaml_get(l->root, "idp");
	const struct cfg_idp *idp = l->c->idp;
	const struct ynode *client;

	if (!idp || map->kind != YNODE_MAP)
		return;
	cfg_check_issuer(l, idp, map);
	check_events(l, idp, map);
	check_who(l, idp, map);
	if (idp->assertion_audience && idp->auth != IDP_AUTH_PRIVATE_KEY_JWT)
		cfg_fail(l, cfg_place(map, "assertion_audience"),
			 "`assertion_audience` has a meaning only with `auth: private_key_jwt`");
	client = yaml_get(map, "client");
	if (client && client->kind == YNODE_MAP)
		check_client(l, idp, client);
}

/* --------------------------------------------------------------- agents */

static bool cgroup_ok(const char *path)
{
	size_t n = strlen(path);

	return path[0] == '/' && (n == 1 || path[n - 1] != '/') && !strstr(path, "//") &&
	       !strstr(path, "/./") && !strstr(path, "/../") &&
	       !(n >= 3 && strcmp(path + n - 3, "/..") == 0) && n < 4096;
}

/* As kern_agent_rules_set takes it: an absolute path, "@name" or "./last"; "/" or "*" at its end. */
static bool unix_ok(const char *s)
{
	size_t n = strlen(s), wild = n && s[n - 1] == '*';

	if (n - wild > 107 || strstr(s, "/../") || strstr(s, "/./") || strstr(s, "//"))
		return false;
	if (s[0] == '@' || s[0] == '/')
		return n - wild > 0;
	return s[0] == '.' && s[1] == '/' && n - wild > 2 && !strchr(s + 2, '/');
}

static void check_unix(struct loader *l, const struct ynode *at, const char *key,
		       const char *const *paths, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		if (!unix_ok(paths[i]))
			cfg_fail(l, at, "`%s` takes `/run/x.sock`, `/run/folder/`, `/tmp/begin*`, "
				 "`@abstract` or `./last-part`, not `%s`", key,
				 cfg_show(l, slice_str(paths[i])));
}

static void check_rules(struct loader *l, const struct cfg_agent *a, const struct ynode *map)
{
	check_unix(l, cfg_place(map, "unix_allow"), "unix_allow", a->unix_allow, a->nunix_allow);
	check_unix(l, cfg_place(map, "unix_refuse"), "unix_refuse", a->unix_refuse, a->nunix_refuse);
	if (a->nallow && !a->deny)
		cfg_fail(l, cfg_place(map, "allow"), "`allow` means nothing to an agent that reaches "
			 "everything: write `default: deny`, too");
	if (a->unix_mode == UNIX_OPEN && (a->nunix_allow || a->nunix_refuse))
		cfg_fail(l, cfg_place(map, "unix"), "`unix: open` leaves nothing to list");
}

/* The first earlier agent that has the same cgroup, uid or network. */
static void check_twice(struct loader *l, uint32_t mine, uint32_t other)
{
	const struct cfg_agent *a = &l->c->agents[mine], *b = &l->c->agents[other];
	const struct ynode *map = l->agent_nodes[mine];

	for (uint32_t i = 0; i < a->ncgroups; i++)
		for (uint32_t j = 0; j < b->ncgroups; j++)
			if (strcmp(a->cgroups[i], b->cgroups[j]) == 0)
				cfg_fail(l, cfg_place(map, "cgroup"), "cgroup `%s` is agent `%s` already",
					 cfg_show(l, slice_str(a->cgroups[i])), b->name);
	for (uint32_t i = 0; i < a->nuids; i++)
		for (uint32_t j = 0; j < b->nuids; j++)
			if (a->uids[i] == b->uids[j])
				cfg_fail(l, cfg_place(map, "uid"), "uid %u is agent `%s` already",
					 (unsigned)a->uids[i], b->name);
	for (uint32_t i = 0; i < a->nsources; i++)
		for (uint32_t j = 0; j < b->nsources; j++)
			if (strcmp(a->sources[i], b->sources[j]) == 0)
				cfg_fail(l, cfg_place(map, "source"), "source `%s` is agent `%s` already",
					 cfg_show(l, slice_str(a->sources[i])), b->name);
}

static void check_agents(struct loader *l)
{
	for (uint32_t i = 0; i < l->c->nagents; i++) {
		const struct cfg_agent *a = &l->c->agents[i];
		const struct ynode *map = l->agent_nodes[i];
		struct in6_addr net;
		const char *why;
		uint8_t prefix;

		for (uint32_t k = 0; k < a->ncgroups; k++)
			if (!cgroup_ok(a->cgroups[k]))
				cfg_fail(l, cfg_place(map, "cgroup"),
					 "`cgroup` takes a path below the cgroup root, as "
					 "`/agents.slice`, not `%s`", cfg_show(l, slice_str(a->cgroups[k])));
		for (uint32_t k = 0; k < a->nsources; k++)
			if (cfg_net_parse(slice_str(a->sources[k]), &net, &prefix, &why))
				cfg_fail(l, cfg_place(map, "source"), "source `%s`: %s",
					 cfg_show(l, slice_str(a->sources[k])), why);
		check_rules(l, a, map);
		for (uint32_t k = 0; k < i && l->nerrors < CFG_ERRORS_MAX; k++)
			check_twice(l, i, k);
	}
}

/* -------------------------------------------------------------- targets */

struct addr_ref {
	const struct cfg_addr *addr;
	uint32_t target, order;
};

/* Equal addresses become neighbours, the first in the file first. */
static int compare_refs(const void *x, const void *y)
{
	const struct addr_ref *a = x, *b = y;
	int d = (int)a->addr->literal - (int)b->addr->literal;

	if (d == 0)
		d = (int)a->addr->port - (int)b->addr->port;
	if (d == 0 && a->addr->literal)
		d = (int)a->addr->prefix - (int)b->addr->prefix;
	if (d == 0)
		d = a->addr->literal ? memcmp(a->addr->addrs, b->addr->addrs, sizeof(*a->addr->addrs))
				     : strcasecmp(a->addr->host, b->addr->host);
	return d ? d : a->order < b->order ? -1 : a->order > b->order;
}

static void check_addresses(struct loader *l)
{
	struct addr_ref *refs;
	uint32_t n = 0, k = 0;

	for (uint32_t i = 0; i < l->c->ntargets; i++)
		n += l->c->targets[i].naddrs;
	refs = cfg_alloc(l, &l->tmp, sizeof(*refs), n + 1);
	if (!refs)
		return;
	for (uint32_t i = 0; i < l->c->ntargets; i++)
		for (uint32_t j = 0; j < l->c->targets[i].naddrs; j++, k++)
			refs[k] = (struct addr_ref){.addr = &l->c->targets[i].addrs[j],
						    .target = i, .order = k};
	qsort(refs, n, sizeof(*refs), compare_refs);
	for (k = 1; k < n; k++) {
		const struct addr_ref *a = &refs[k - 1], *b = &refs[k];
		const struct ynode *at = cfg_place(l->target_nodes[b->target], "address");

		if (!cfg_addr_same(a->addr, b->addr))
			continue;
		if (a->target == b->target)
			cfg_fail(l, at, "address `%s` port %u is listed twice", b->addr->host,
				 b->addr->port);
		else
			cfg_fail(l, at, "address `%s` port %u overlaps: it belongs to target `%s` "
				 "already", b->addr->host, b->addr->port,
				 l->c->targets[a->target].name);
	}
}

/* A literal address:port of this host. */
static bool parse_listen(struct loader *l, const char *text, const struct ynode *at,
			 const char *key, struct cfg_addr *ret)
{
	const char *why;
	int rc = cfg_addr_parse(&l->tmp, slice_str(text), ret, &why);

	if (rc == -ENOMEM) {
		l->no_memory = true;
	} else if (rc) {
		cfg_fail(l, at, "%s `%s`: %s", key, cfg_show(l, slice_str(text)), why);
	} else if (!ret->literal || ret->prefix != 128 || ret->port == 0) {
		rc = -EINVAL;
		cfg_fail(l, at, "`%s` takes an address and a port of this host, as "
			 "`127.0.0.1:6432`, not `%s`", key, cfg_show(l, slice_str(text)));
	}
	return rc == 0;
}

/* Somebody else must not be let in only because he reaches the listener. */
static void check_listen(struct loader *l, struct cfg_target *t, const struct ynode *map,
			 const struct cfg_addr *listen)
{
	const struct ynode *at = cfg_place(map, "listen");
	bool loopback = cfg_addr_is_loopback(listen), sources = false;

	for (uint32_t i = 0; i < l->c->nagents; i++)
		sources = sources || l->c->agents[i].nsources > 0;
	if (!yaml_get(map, "listen_by_owner"))
		t->listen_by_owner = loopback;
	if (t->listen_by_owner && !loopback)
		cfg_fail(l, cfg_place(map, "listen_by_owner"), "`listen_by_owner` is possible on a "
			 "loopback address only: the owner of a socket elsewhere is not known here");
	else if (!t->listen_by_owner && !sources)
		cfg_fail(l, at, "nothing tells the agents on this listener apart: give them a `source`%s",
			 loopback ? ", or set `listen_by_owner: true`" : "");
	for (uint32_t i = 0; i < l->c->ntargets; i++)
		for (uint32_t k = 0; k < l->c->targets[i].naddrs; k++)
			if (cfg_addr_covers(&l->c->targets[i].addrs[k], listen) &&
			    l->c->targets[i].addrs[k].prefix == 128)
				cfg_fail(l, at, "`listen` is the address of target `%s`: Tidegate would "
					 "connect to itself", l->c->targets[i].name);
}

static bool listens_conflict(const struct cfg_addr *a, const struct cfg_addr *b)
{
	return a->port == b->port &&
	       (cfg_addr_is_any(a) || cfg_addr_is_any(b) || cfg_addr_same(a, b));
}

static void check_listeners(struct loader *l)
{
	struct config *c = l->c;
	struct cfg_addr *all = cfg_alloc(l, &l->tmp, sizeof(*all), c->ntargets + 1);
	const char **names = cfg_alloc(l, &l->tmp, sizeof(*names), c->ntargets + 1);
	uint32_t n = 0;

	if (!all || !names)
		return;
	for (uint32_t i = 0; i < c->ntargets; i++) {
		struct cfg_target *t = &c->targets[i];
		const struct ynode *at = cfg_place(l->target_nodes[i], "listen");

		if (!t->listen && yaml_get(l->target_nodes[i], "listen_by_owner"))
			cfg_fail(l, cfg_place(l->target_nodes[i], "listen_by_owner"),
				 "`listen_by_owner` has a meaning only with `listen`");
		if (!t->listen || !parse_listen(l, t->listen, at, "listen", &all[n]))
			continue;
		check_listen(l, t, l->target_nodes[i], &all[n]);
		for (uint32_t k = 0; k < n; k++)
			if (listens_conflict(&all[k], &all[n]))
				cfg_fail(l, at, "`listen` conflicts with that of target `%s`", names[k]);
		names[n++] = t->name;
	}
	if (c->metrics_listen) {
		const struct ynode *at = cfg_place(yaml_get(l->root, "daemon"), "metrics_listen");

		if (!parse_listen(l, c->metrics_listen, at, "metrics_listen", &all[n]))
			return;
		if (!cfg_addr_is_loopback(&all[n]))
			cfg_fail(l, at, "`metrics_listen` is a loopback address: metrics name agents "
				 "and targets");
		for (uint32_t k = 0; k < n; k++)
			if (listens_conflict(&all[k], &all[n]))
				cfg_fail(l, at, "`metrics_listen` conflicts with `listen` of target `%s`",
					 names[k]);
	}
}

/*
 * In an agent's network namespace a server can be the agent's own: it must not be given
 * anything that the agent does not have.
 */
static void check_netns(struct loader *l, const struct cfg_target *t, const struct ynode *map)
{
	const struct ynode *at = cfg_place(map, "netns");

	if (!t->netns_agent)
		return;
	if (t->catalog_user)
		cfg_fail(l, at, "`netns: agent` and `catalog` exclude each other: Tidegate's own look-ups "
			 "are made from the daemon's namespace");
	if (t->socket)
		cfg_fail(l, at, "`netns: agent` and `socket` exclude each other: an AF_UNIX socket is "
			 "in no network namespace");
	if (t->listen)
		cfg_fail(l, at, "`netns: agent` and `listen` exclude each other: whose namespace it "
			 "is, is known of steered connections only");
}

static void check_targets(struct loader *l)
{
	for (uint32_t i = 0; i < l->c->ntargets; i++) {
		struct cfg_target *t = &l->c->targets[i];
		const struct ynode *map = l->target_nodes[i];

		cfg_check_protocol(l, t, map);
		check_netns(l, t, map);
		if (t->listen && !t->socket && t->naddrs && t->addrs[0].wildcard)
			cfg_fail(l, cfg_place(map, "listen"),
				 "`listen` needs an address that one can connect to first in the list, "
				 "not `%s`", t->addrs[0].host);
		cfg_check_tls(l, t, map);
		cfg_check_login(l, t, map);
		if (t->socket_trust && !t->socket)
			cfg_fail(l, cfg_place(map, "socket_auth"),
				 "`socket_auth` has a meaning only with `socket`");
		/* sun_path holds 108 bytes with the NUL. */
		if (t->socket && strlen(t->socket) > 107)
			cfg_fail(l, cfg_place(map, "socket"), "`socket` is longer than 107 bytes");
	}
	check_addresses(l);
	check_listeners(l);
}

/* --------------------------------------------------------------- policy */

/* @at: the value that @names were read from, one scalar or a list. */
static void check_names(struct loader *l, const struct ynode *at, const struct slice *names,
			uint32_t n, const char *const *known, uint32_t nknown, const char *what)
{
	const struct yitem *item = at->kind == YNODE_LIST ? at->items : NULL;

	for (uint32_t i = 0; i < n; i++, item = item ? item->next : NULL) {
		uint32_t k = 0;

		while (k < nknown && !text_glob(names[i], slice_str(known[k])))
			k++;
		if (k == nknown)
			cfg_fail(l, item ? item->value : at, "no %s is called `%s`%s", what, cfg_show(l, names[i]),
				 cfg_nearest(l, names[i], known, nknown));
	}
}

static void check_access(struct loader *l, const struct entry_spec *e, const struct ynode *map)
{
	const struct ynode *access = yaml_get(map, "access");

	if (!access || access->kind != YNODE_MAP)
		return;
	if (e->via == ACCESS_IDP && !e->way.n && !yaml_get(l->root, "idp"))
		cfg_fail(l, cfg_place(access, "approval"), "`approval: idp` needs the section `idp`");
	if (e->via == ACCESS_IDP && !e->way.n && !yaml_get(access, "scope"))
		cfg_fail(l, access, "`access` lacks `scope`, which the identity provider is asked for");
	if (e->via != ACCESS_IDP && yaml_get(access, "scope"))
		cfg_fail(l, yaml_key(access, "scope"), "`scope` has a meaning only where a provider is asked");
	if (e->via == ACCESS_BUILTIN)
		return;
	if (yaml_get(access, "approvers"))
		cfg_fail(l, yaml_key(access, "approvers"),
			 "`approvers` has a meaning only with `approval: builtin`");
	if (yaml_get(access, "min_approvals"))
		cfg_fail(l, yaml_key(access, "min_approvals"),
			 "`min_approvals` has a meaning only with `approval: builtin`");
}

static bool has_scope(const char *list, const char *word)
{
	size_t n = strlen(word);

	for (const char *at = list; at && (at = strstr(at, word)); at += n)
		if ((at == list || at[-1] == ' ') && (at[n] == 0 || at[n] == ' '))
			return true;
	return false;
}

static void check_hint(struct loader *l, const struct cfg_way *w, const struct ynode *map)
{
	json_t *ignored = NULL;

	if (w->login_hint && cfghint_read(w->login_hint, &ignored) == CFGHINT_BROKEN)
		cfg_fail(l, cfg_place(map, "login_hint"), "`login_hint` begins as JSON, but is none, or has "
			 "`{...}` in a name or outside of quotes, where an agent could add to it");
	else
		json_decref(ignored);
}

static void check_way_person(struct loader *l, const struct cfg_way *w, const struct ynode *map)
{
	bool person = w->kind == WAY_CIBA || w->kind == WAY_DEVICE;
	static const char *const keys[] = {"poll", "approvers", "groups", "acr", "max_age"};
	/* An assertion names somebody, too, but nobody is waited for. */
	size_t n = w->kind == WAY_SAML ? 1 : ARRAY_SIZE(keys);

	if (w->kind == WAY_CIBA && !w->login_hint && !w->hint_token)
		cfg_fail(l, map, "approval `%s` lacks `login_hint`: whom is the provider to ask?", w->name);
	if (w->kind == WAY_CIBA && !has_scope(w->scope, "openid"))
		cfg_fail(l, cfg_place(map, "scope"), "approval `%s`: the scope of `by: ciba` must hold "
			 "`openid` (CIBA Core section 7.1)", w->name);
	check_hint(l, w, map);
	if (w->hint_token && (w->kind != WAY_CIBA || w->login_hint))
		cfg_fail(l, yaml_key(map, "login_hint_token"),
			 "`login_hint_token` goes with `by: ciba`, in the place of `login_hint`");
	if (w->kind != WAY_CIBA && w->login_hint)
		cfg_fail(l, yaml_key(map, "login_hint"), "`login_hint` has a meaning only with `by: ciba`");
	if (w->kind != WAY_CIBA && yaml_get(map, "delivery"))
		cfg_fail(l, yaml_key(map, "delivery"), "`delivery` has a meaning only with `by: ciba`");
	else if (w->delivery == DELIVERY_PING && l->c->idp && !l->c->idp->events)
		cfg_fail(l, cfg_place(map, "delivery"), "`delivery: ping` needs `events` in the section `idp`: "
			 "where is the provider to ping?");
	for (size_t i = 0; !person && i < n; i++)
		if (yaml_get(map, keys[i]))
			cfg_fail(l, yaml_key(map, keys[i]), "`%s` has a meaning only where a person is "
				 "asked (`by: ciba` or `device`)", keys[i]);
}

static void check_way_saml(struct loader *l, const struct cfg_way *w, const struct ynode *map)
{
	static const char *const not_here[] = {"scope", "audience", "resource", "details"};

	if (w->kind != WAY_SAML) {
		if (yaml_get(map, "saml"))
			cfg_fail(l, yaml_key(map, "saml"), "`saml` has a meaning only with `by: saml`");
		return;
	}
	if (!yaml_get(map, "saml"))
		cfg_fail(l, map, "approval `%s` lacks `saml`: whose assertions, for whom?", w->name);
	for (size_t i = 0; i < ARRAY_SIZE(not_here); i++)
		if (yaml_get(map, not_here[i]))
			cfg_fail(l, yaml_key(map, not_here[i]), "`%s` has no meaning with `by: saml`",
				 not_here[i]);
}

static void check_way_pdp(struct loader *l, const struct cfg_way *w, const struct ynode *map)
{
	static const char *const keys[] = {"url", "decision_point"};
	const char *const urls[] = {w->url, w->decision_point};
	bool pdp = w->kind == WAY_AUTHZEN;

	if (pdp && !w->url && !w->decision_point)
		cfg_fail(l, map, "approval `%s` lacks `url`, the evaluation endpoint", w->name);
	if (pdp && w->url && w->decision_point)
		cfg_fail(l, yaml_key(map, "decision_point"),
			 "`decision_point` tells what `url` says already: leave out one of them");
	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		if (!urls[i])
			continue;
		if (!pdp)
			cfg_fail(l, yaml_key(map, keys[i]), "`%s` has a meaning only with `by: authzen`", keys[i]);
		else if (!endpoint_url(urls[i]) || (i && strchr(urls[i], '?')))
			cfg_fail(l, cfg_place(map, keys[i]),
				 "`%s` is an https URL (http on a loopback address only)", keys[i]);
	}
}

static void check_way(struct loader *l, const struct cfg_way *w, const struct ynode *map)
{
	static const char *const recheck[] = {"recheck", "recheck_tolerance"};
	bool pdp = w->kind == WAY_AUTHZEN, oauth = !pdp && w->kind != WAY_SAML;

	if (map->kind != YNODE_MAP || !yaml_get(map, "by"))
		return;
	if (oauth && !l->c->idp)
		cfg_fail(l, map, "approval `%s` asks the identity provider: it needs the section `idp`",
			 w->name);
	check_way_pdp(l, w, map);
	if (oauth && !w->scope && w->kind != WAY_INTROSPECTION)
		cfg_fail(l, map, "approval `%s` lacks `scope`", w->name);
	for (size_t i = 0; !oauth && i < ARRAY_SIZE(recheck); i++)
		if (yaml_get(map, recheck[i]))
			cfg_fail(l, yaml_key(map, recheck[i]), "`%s` has a meaning only where the identity "
				 "provider gives a token, or looks at one", recheck[i]);
	if (pdp && w->scope)
		cfg_fail(l, yaml_key(map, "scope"), "`scope` has no meaning with `by: authzen`");
	check_way_person(l, w, map);
	check_way_saml(l, w, map);
	if (w->then && !config_way(l->c, slice_str(w->then)))
		cfg_fail(l, cfg_place(map, "then"), "no approval is called `%s`",
			 cfg_show(l, slice_str(w->then)));
}

/* A chain of `then` that comes back would ask for ever. */
static void check_ways(struct loader *l)
{
	const struct config *c = l->c;

	for (uint32_t i = 0; i < c->nways; i++) {
		const struct cfg_way *w = &c->ways[i];
		uint32_t n = 0;

		check_way(l, w, l->way_nodes[i]);
		while (w && w->then && n++ <= c->nways)
			w = config_way(c, slice_str(w->then));
		if (n > c->nways)
			cfg_fail(l, cfg_place(l->way_nodes[i], "then"),
				 "approval `%s` comes back to itself through `then`", c->ways[i].name);
	}
}

static void check_policy(struct loader *l)
{
	struct config *c = l->c;
	const char **agents = cfg_alloc(l, &l->tmp, sizeof(*agents), c->nagents + 1);
	const char **targets = cfg_alloc(l, &l->tmp, sizeof(*targets), c->ntargets + 1);

	if (!agents || !targets)
		return;
	for (uint32_t i = 0; i < c->nagents; i++)
		agents[i] = c->agents[i].name;
	for (uint32_t i = 0; i < c->ntargets; i++)
		targets[i] = c->targets[i].name;
	for (uint32_t i = 0; i < l->nentries && l->nerrors < CFG_ERRORS_MAX; i++) {
		const struct entry_spec *e = &l->entries[i];
		const struct ynode *map = l->entry_nodes[i];

		check_names(l, cfg_place(map, "agents"), e->agents, e->nagents, agents, c->nagents,
			    "agent");
		check_names(l, cfg_place(map, "targets"), e->targets, e->ntargets, targets,
			    c->ntargets, "target");
		check_access(l, e, map);
		cfg_check_judged(l, e, map);
	}
}

/* ------------------------------------------------------------------ dns */

/* An address, with a port or without. */
static bool server_ok(struct loader *l, const char *text)
{
	struct cfg_addr addr;
	struct in6_addr net;
	const char *why;
	uint8_t prefix;

	if (cfg_net_parse(slice_str(text), &net, &prefix, &why) == 0)
		return prefix == 128;
	return cfg_addr_parse(&l->tmp, slice_str(text), &addr, &why) == 0 && addr.literal &&
	       addr.prefix == 128 && addr.port;
}

static void check_dns(struct loader *l)
{
	const struct ynode *map = yaml_get(l->root, "dns");
	const struct cfg_dns *d = &l->c->dns;
	struct in6_addr net;
	const char *why;
	uint8_t prefix;

	if (!map || map->kind != YNODE_MAP)
		return;
	for (uint32_t i = 0; i < d->nservers; i++)
		if (!server_ok(l, d->servers[i]))
			cfg_fail(l, cfg_place(map, "servers"),
				 "`servers` takes addresses, as `10.0.0.53` or `[2001:db8::53]:53`, "
				 "not `%s`", cfg_show(l, slice_str(d->servers[i])));
	for (uint32_t i = 0; i < d->nspecial; i++)
		if (cfg_net_parse(slice_str(d->special[i]), &net, &prefix, &why))
			cfg_fail(l, cfg_place(map, "allow_special"), "network `%s`: %s",
				 cfg_show(l, slice_str(d->special[i])), why);
	if (d->steer == DNS_STEER_ON && l->c->bpf == BPF_OFF)
		cfg_fail(l, cfg_place(map, "steer"), "`steer: on` needs BPF, which `bpf: off` forbids");
}

void cfg_check(struct loader *l)
{
	check_dns(l);
	check_idp(l);
	check_ways(l);
	check_agents(l);
	cfg_check_credentials(l);
	check_targets(l);
	check_policy(l);
	cfg_check_tokens(l);
}
