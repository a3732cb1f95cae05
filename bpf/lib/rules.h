/* SPDX-License-Identifier: MIT */
/* Agents whose default is deny: they reach targets, what is listed, and nothing else. */
#ifndef TIDEGATE_BPF_RULES_H
#define TIDEGATE_BPF_RULES_H

#include "lib/identity.h"
#include "lib/target.h"

static __always_inline struct tg_options *options(void)
{
	__u32 zero = 0;

	return bpf_map_lookup_elem(&tg_options, &zero);
}

/* Spares everybody the look-ups while no agent is like that. */
static __always_inline bool rules_in_use(void)
{
	struct tg_options *o = options();

	return o && o->deny_agents;
}

static __always_inline bool rules_list(__u32 agent, const struct tg_addr_key *key)
{
	struct tg_allow_key k = {.prefixlen = 64 + 128,
				 .agent = agent,
				 .protocol = key->protocol,
				 .port_be = key->port_be};

	memcpy(k.addr, key->addr, sizeof(k.addr));
	if (bpf_map_lookup_elem(&tg_allow, &k))
		return true;
	k.port_be = 0;
	return bpf_map_lookup_elem(&tg_allow, &k);
}

/* @key is no target's. Loopback is not special: it takes an entry, as any address. */
static __always_inline bool rules_refuse(__u32 agent, const struct tg_addr_key *key)
{
	struct tg_agent_state *a = bpf_map_lookup_elem(&tg_agents, &agent);

	return a && a->flags & TG_AGENT_DENY && !rules_list(agent, key);
}

#endif
