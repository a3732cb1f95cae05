/* SPDX-License-Identifier: MIT */
/*
 * What spares most sockets of the host every look-up: which ports targets have, and which
 * cgroups may be watched. Says "nothing here" or "look it up", and what it says first is true:
 * it may be behind with removals, never with additions. One element, mapped into user
 * space; shared by the BPF programs and user space, as tidegate_abi.h is.
 */
#ifndef TIDEGATE_INDEX_H
#define TIDEGATE_INDEX_H

#include "tidegate_abi.h"

#define TG_PORT_SLOTS	4096  /* a port's low bits */
#define TG_CGROUP_SLOTS 65536 /* the top bits of a cgroup's id, multiplied */
#define TG_CGROUP_MULT	0x9e3779b97f4a7c15ull
#define TG_CGROUP_SHIFT 48

/* Kinds of entries of tg_addrs; the "any port" ones are in tg_index.any. */
enum tg_port_kind { TG_PORT_TCP_ONE, TG_PORT_TCP_NET, TG_PORT_UDP_ONE, TG_PORT_UDP_NET, TG_PORT_KINDS };
#define TG_PORT_TCP (1 << TG_PORT_TCP_ONE | 1 << TG_PORT_TCP_NET)
#define TG_PORT_UDP (1 << TG_PORT_UDP_ONE | 1 << TG_PORT_UDP_NET)

enum tg_index_ready { TG_INDEX_PORTS = 1, TG_INDEX_CGROUPS = 2 };

struct tg_index {
	tg_u32 ready; /* which parts count: enum tg_index_ready */
	tg_u8 any;    /* kinds that are there for any port */
	tg_u8 pad[3];
	tg_u8 port[TG_PORT_SLOTS]; /* kinds that are there for these ports */
	/* How many cgroups that tg_cgroups has; tg_cgroup_mkdir counts as well. */
	tg_u32 cgroup[TG_CGROUP_SLOTS];
	/* How many entries of each kind, the last for any port: user space's alone. */
	tg_u32 uses[TG_PORT_SLOTS + 1][TG_PORT_KINDS];
};

static inline tg_u32 tg_index_cgroup_slot(tg_u64 id)
{
	return (tg_u32)(id * TG_CGROUP_MULT >> TG_CGROUP_SHIFT);
}

_Static_assert(sizeof(struct tg_index) == 8 + 4096 + 4 * 65536 + 16 * 4097, "layout");
_Static_assert(TG_CGROUP_SLOTS == 1 << (64 - TG_CGROUP_SHIFT), "slots");

#endif
