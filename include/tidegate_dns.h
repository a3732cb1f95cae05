/* SPDX-License-Identifier: MIT */
/* Agents' name look-ups: shared by the BPF programs and user space, as tidegate_abi.h is. */
#ifndef TIDEGATE_DNS_H
#define TIDEGATE_DNS_H

#include "tidegate_abi.h"

/* The daemon's resolver in one network namespace, UDP and TCP; keyed by netns cookie. */
struct tg_resolver {
	tg_u16 port_be;
	tg_u16 pad;
	tg_u32 pad2;
};

/* One element. */
enum tg_dns_flag { TG_DNS_STEER = 1 }; /* agents' look-ups go to the resolver or nowhere */
struct tg_dns {
	tg_u32 flags; /* enum tg_dns_flag */
	tg_u32 pad;
};

/* Where a datagram to the resolver came from; the value is the record of who sent it. */
struct tg_asker {
	tg_u8 addr[16];
	tg_u16 port; /* host order */
	tg_u16 pad;
	tg_u32 pad2;
	tg_u64 netns_cookie;
};

_Static_assert(sizeof(struct tg_resolver) == 8, "layout");
_Static_assert(sizeof(struct tg_dns) == 8, "layout");
_Static_assert(sizeof(struct tg_asker) == 32, "layout");

#endif
