/* SPDX-License-Identifier: MIT */
/*
 * What an agent may do besides connecting to targets, and what the sweep tells: shared by
 * the BPF programs and user space, by the rules of tidegate_abi.h.
 */
#ifndef TIDEGATE_RULES_H
#define TIDEGATE_RULES_H

#include "tidegate_abi.h"

enum tg_agent_flag {
	TG_AGENT_DENY = 1, /* reaches targets and what tg_allow lists, nothing else */
	TG_AGENT_UNIX = 2, /* its AF_UNIX connections are judged by tg_unix */
};

struct tg_agent_state {
	tg_u32 flags; /* enum tg_agent_flag */
	tg_u32 generation;
	tg_u32 unix_set; /* whose entries of tg_unix are its; 0: those under its own number */
	tg_u32 pad;
};

/* LPM trie: prefixlen counts 64 bits (agent, protocol, pad, port) + the address prefix. */
struct tg_allow_key {
	tg_u32 prefixlen;
	tg_u32 agent;
	tg_u8 protocol; /* IPPROTO_TCP, IPPROTO_UDP */
	tg_u8 pad;
	tg_u16 port_be; /* 0: any port (looked up second) */
	tg_u8 addr[16];
};

/*
 * LPM trie over {agent or set, path}: the longest rule decides, none lets through. A rule for one path
 * has its NUL in the prefix; one for a folder ends in its slash. An abstract name
 * begins with NUL, a rule for the last part of a relative path with TG_UNIX_LAST.
 */
#define TG_UNIX_PATH 112 /* sun_path and its NUL, in whole words */
#define TG_UNIX_LAST 1
#define TG_UNIX_SET  0x80000000u /* in the number of a set, which several agents can have */
enum tg_unix_verdict { TG_UNIX_REFUSE, TG_UNIX_PASS };
struct tg_unix_key {
	tg_u32 prefixlen; /* 32 (agent) + 8 for each byte */
	tg_u32 agent; /* or set */
	tg_u8 path[TG_UNIX_PATH];
};

/* One element: which of the tables above can hit at all. */
struct tg_options {
	tg_u32 deny_agents; /* how many have TG_AGENT_DENY */
	tg_u32 unix_agents; /* how many have TG_AGENT_UNIX */
	tg_u32 pad[14];
};

/* What the sweep closed: a record of the iterator's output. */
struct tg_swept {
	tg_u8 addr[16];
	tg_u16 port_be;
	tg_u16 pad;
	tg_u32 agent;
	tg_u32 target; /* 0: no target, not listed */
	tg_u32 uid;
};

_Static_assert(sizeof(struct tg_agent_state) == 16, "layout");
_Static_assert(sizeof(struct tg_allow_key) == 28, "layout");
_Static_assert(sizeof(struct tg_unix_key) == 120, "layout");
_Static_assert(sizeof(struct tg_options) == 64, "layout");
_Static_assert(sizeof(struct tg_swept) == 32, "layout");

#endif
