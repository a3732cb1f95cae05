/* SPDX-License-Identifier: MIT */
/* `tls` of a target: what it has to be, and that it fits the rest of the target. */
#include <arpa/inet.h>
#include <errno.h>

#include "base/text.h"
#include "config/cfgload.h"
#include "config/cfgtake.h"

int cfg_take_tls(struct loader *l, const struct ynode *v, void *obj, const char *where)
{
	struct cfg_tls *s = cfg_alloc(l, &l->c->arena, sizeof(*s), 1);
	struct cfg_target *t = obj;
	const struct ynode *at;

	if (!s)
		return -ENOMEM;
	*s = (struct cfg_tls){.line = v->line};
	t->tls = s;
	cfg_fill(l, &cfg_tls_section, v, s, cfg_text(l, "`tls` of %s", where));
	if (v->kind != YNODE_MAP)
		return 0;
	at = cfg_place(v, "ca_file");
	s->line = at->line;
	s->column = at->column;
	return 0;
}

static void check_pins(struct loader *l, struct cfg_tls *s, const struct ynode *map)
{
	if (!s->npin)
		return;
	s->pins = cfg_alloc(l, &l->c->arena, sizeof(*s->pins), s->npin);
	for (uint32_t i = 0; s->pins && i < s->npin; i++)
		if (!text_unhex(s->pin[i], s->pins[i], CFG_TLS_PIN))
			cfg_fail(l, cfg_place(map, "pin"), "`pin` takes the SHA-256 of a server's public key "
				 "as 64 hexadecimal digits in lower case, not `%s`",
				 cfg_show(l, slice_str(s->pin[i])));
}

/* A name that a certificate can be for: OpenSSL would take a leading dot for all names below it. */
static bool name_ok(const char *s)
{
	size_t n = strlen(s);

	if (n > 253 || s[0] == '.' || strstr(s, ".."))
		return false;
	for (size_t i = 0; i < n; i++)
		if (!((s[i] >= 'a' && s[i] <= 'z') || (s[i] >= 'A' && s[i] <= 'Z') ||
		      (s[i] >= '0' && s[i] <= '9') || s[i] == '-' || s[i] == '_' || s[i] == '.'))
			return false;
	return true;
}

bool cfg_tls_ip(const char *text, uint8_t ret[16], size_t *ret_n)
{
	if (inet_pton(AF_INET, text, ret) == 1)
		*ret_n = 4;
	else if (inet_pton(AF_INET6, text, ret) == 1)
		*ret_n = 16;
	else
		return false;
	return true;
}

/* One list, ended by NULL; NULL itself where an address counts. */
static void fill_names(struct loader *l, const struct cfg_target *t, struct cfg_tls *s)
{
	const char **names = cfg_alloc(l, &l->c->arena, sizeof(*names), t->naddrs + 2);
	uint8_t ip[16];
	uint32_t n = 0;
	size_t unused;

	if (!names)
		return;
	if (s->server_name) {
		if (!cfg_tls_ip(s->server_name, ip, &unused))
			names[n++] = s->server_name;
	} else {
		for (uint32_t i = 0; i < t->naddrs; i++) {
			const struct cfg_addr *a = &t->addrs[i];

			if (a->literal)
				continue;
			/* "*.x" is any name below x. */
			names[n++] = a->wildcard ? a->host + (a->host[0] == '*') : a->host;
		}
	}
	names[n] = NULL;
	s->names = n ? names : NULL;
}

static void check_verified(struct loader *l, const struct cfg_target *t, struct cfg_tls *s,
			   const struct ynode *map)
{
	uint8_t ip[16];
	size_t unused;

	if (!yaml_get(map, "ca_file"))
		cfg_fail(l, map, "`tls` of target `%s` lacks `ca_file`: whose certificates is the server to "
			 "have? (for a public one /etc/ssl/certs/ca-certificates.crt)", t->name);
	if (t->socket)
		cfg_fail(l, map, "`tls` and `socket` exclude each other: PostgreSQL speaks TLS over TCP only");
	if (s->server_name && !cfg_tls_ip(s->server_name, ip, &unused) && !name_ok(s->server_name))
		cfg_fail(l, cfg_place(map, "server_name"), "`server_name` takes a host's name or an "
			 "address, as the server's certificate has it, not `%s`",
			 cfg_show(l, slice_str(s->server_name)));
	check_pins(l, s, map);
	fill_names(l, t, s);
}

bool cfg_target_verified(const struct cfg_target *t)
{
	return t->tls && t->tls->verified;
}

void cfg_check_tls(struct loader *l, struct cfg_target *t, const struct ynode *map)
{
	const struct ynode *section = yaml_get(map, "tls");

	if (t->tls && section && section->kind == YNODE_MAP && t->tls->verified)
		check_verified(l, t, t->tls, section);
}
