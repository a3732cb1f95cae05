/* SPDX-License-Identifier: MIT */
/* Protocols: which there are, and what a configuration may ask of each. */
#include "base/text.h"
#include "config/cfgload.h"

/* A key that has a meaning only where an inspector does something. */
struct asked {
	const char *section; /* of the target, or NULL */
	const char *key;
	uint32_t does;
	const char *remedy;
};

static const struct asked of_target[] = {
	{NULL, "catalog", INSP_MASKS, "nothing is masked there: take it out"},
	{NULL, "credential", INSP_LOGS_IN,
	 "Tidegate logs in nowhere there, agents do so themselves: take it out"},
	{NULL, "tls", INSP_STARTS_TLS, "what agents and server speak there is passed on as it is: take it out"},
	{NULL, "socket_auth", INSP_LOGS_IN, "nobody is seen to log in there: take it out"},
	{"limits", "statement_bytes", INSP_JUDGES, "limits there are `bytes`, `time`, `idle` and `sessions`"},
	{"limits", "value_bytes", INSP_MASKS, "limits there are `bytes`, `time`, `idle` and `sessions`"},
	{"limits", "message_bytes", INSP_JUDGES, "limits there are `bytes`, `time`, `idle` and `sessions`"},
};

static void check_name(struct loader *l, const struct cfg_target *t, const struct ynode *map)
{
	const char *names[16];
	uint32_t n = 0;

	while (n < ARRAY_SIZE(names) && inspectors[n]) {
		names[n] = inspectors[n]->name;
		n++;
	}
	cfg_fail(l, cfg_place(map, "protocol"), "no protocol is called `%s`%s",
		 cfg_show(l, slice_str(t->protocol)),
		 cfg_nearest(l, slice_str(t->protocol), names, n));
}

void cfg_check_protocol(struct loader *l, const struct cfg_target *t, const struct ynode *map)
{
	const struct inspector *insp = t->protocol ? inspector_find(slice_str(t->protocol)) : NULL;

	if (t->protocol && !insp)
		check_name(l, t, map);
	if (!insp)
		return;
	for (size_t i = 0; i < ARRAY_SIZE(of_target); i++) {
		const struct asked *a = &of_target[i];
		const struct ynode *in = a->section ? yaml_get(map, a->section) : map;

		if (!in || in->kind != YNODE_MAP || insp->does & a->does || !yaml_get(in, a->key))
			continue;
		cfg_fail(l, yaml_key(in, a->key), "`%s` has no meaning with `protocol: %s`: %s", a->key,
			 insp->name, a->remedy);
	}
	/* There is no reset on AF_UNIX: an end that we make would be taken for the client's own. */
	if (insp->half_close && t->socket)
		cfg_fail(l, yaml_key(map, "socket"),
			 "`socket` cannot be used with `protocol: %s`: a server cannot be told there that a "
			 "session was cut off; have it listen on an address of this host", insp->name);
}

/* The first target of the entry whose inspector does not do what is asked; NULL: all do. */
static const struct cfg_target *cannot(const struct loader *l, const struct entry_spec *e, uint32_t does)
{
	for (uint32_t i = 0; i < l->c->ntargets; i++) {
		const struct cfg_target *t = &l->c->targets[i];
		const struct inspector *insp =
			t->protocol ? inspector_find(slice_str(t->protocol)) : NULL;

		for (uint32_t k = 0; insp && !(insp->does & does) && k < e->ntargets; k++)
			if (text_glob(e->targets[k], slice_str(t->name)))
				return t;
	}
	return NULL;
}

void cfg_check_judged(struct loader *l, const struct entry_spec *e, const struct ynode *map)
{
	static const struct asked of_entry[] = {
		{NULL, "commands", INSP_JUDGES, "no command is seen there"},
		{NULL, "mask", INSP_MASKS, "no value is seen there"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(of_entry); i++) {
		const struct asked *a = &of_entry[i];
		const struct cfg_target *t = yaml_get(map, a->key) ? cannot(l, e, a->does) : NULL;

		if (t)
			cfg_fail(l, yaml_key(map, a->key), "`%s` cannot be applied to target `%s`, whose protocol "
				 "is %s: %s; name it in an entry of its own that has `access` alone",
				 a->key, t->name, t->protocol, a->remedy);
	}
}
