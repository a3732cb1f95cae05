/* SPDX-License-Identifier: MIT */
/*
 * What is in the maps of agents' rules, by agent: so that a change of one agent takes no walk through
 * those of all. AF_UNIX rules that several agents have in common are there once, as a set.
 * Read from the maps, and again when somebody else has changed an agent.
 */
#ifndef TIDEGATE_KERN_KERN_HELD_H
#define TIDEGATE_KERN_KERN_HELD_H

#include <uthash.h>

#include "kern/kern_priv.h"
#include "tidegate_rules.h"

struct unix_entry {
	struct tg_unix_key key; /* agent: 0 until it is known for whom */
	uint32_t verdict;
};

/* More entries than rules: a path may be written in more than one way. */
struct unix_list {
	struct unix_entry *e;
	size_t n;
};

/* Entries of tg_unix under one id, in order; @refs agents have them. */
struct held_set {
	UT_hash_handle hh, hh_text;
	uint32_t id;
	uint32_t refs;
	struct unix_list list;
};

struct held_agent {
	UT_hash_handle hh;
	uint32_t agent;
	uint32_t generation; /* 0: it has no state */
	struct tg_allow_key *allow;
	size_t nallow;
	struct held_set *set; /* NULL: none */
};

struct kern_held {
	struct held_agent *agents;
	struct held_set *sets, *by_text; /* by id; by entries, without those of earlier versions */
	uint32_t last_set;
};

int held_new(struct kern *k, struct kern_held **ret);
void held_free(struct kern_held *h);
struct held_agent *held_agent(struct kern_held *h, uint32_t agent);
struct held_agent *held_agent_get(struct kern_held *h, uint32_t agent); /* made; NULL: no memory */
void held_agent_drop(struct kern_held *h, struct held_agent *a);
/* The set with these entries, put into the map if there is none. It takes over @list's memory. */
int held_set_get(struct kern *k, struct kern_held *h, struct unix_list *list, struct held_set **ret);
/* One agent less; the last one's entries leave the map. */
int held_set_unref(struct kern *k, struct kern_held *h, struct held_set *s);

#endif
