/* SPDX-License-Identifier: MIT */
/*
 * The keys of the configuration as data: from these tables come the parser,
 * the defaults, the messages and the check that tidegate.yaml(5) describes
 * each of them.
 */
#ifndef TIDEGATE_CONFIG_CFGKEYS_H
#define TIDEGATE_CONFIG_CFGKEYS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct loader;
struct ynode;
struct cfg_section;

enum key_kind {
	KEY_STRING,   /* const char * */
	KEY_PATH,     /* const char *, absolute */
	KEY_BOOL,     /* bool */
	KEY_COUNT,    /* uint32_t in [min, max] */
	KEY_DURATION, /* uint64_t, milliseconds in [min, max] */
	KEY_SIZE,     /* uint64_t, bytes in [min, max] */
	KEY_ENUM,     /* an enum whose values index words[] */
	KEY_FLAG,     /* bool: false and true are words[0] and words[1] */
	KEY_WORD,     /* const char *, one of words[] */
	KEY_SLICE,    /* struct slice */
	KEY_SLICES,   /* struct slice * and, at off_n, uint32_t: one or a list */
	KEY_STRINGS,  /* const char *const * ended by NULL and, at off_n unless 0, uint32_t */
	KEY_SECTION,  /* keys of `section`, in the same object */
	KEY_CUSTOM,   /* take(); `section` only says what keys its objects have */
	KEY_REFUSED,  /* known, but not to be written: help says what to do instead */
};

/* When a daemon that runs takes a new value over. What comes later does the earlier, too. */
enum key_effect {
	AT_RELOAD,
	WITH_WORKERS, /* which a reload replaces */
	AT_UPGRADE,   /* `tidegate daemon upgrade` */
	AT_START,
};

struct cfg_key {
	const char *name;
	const char *also; /* another spelling that is accepted */
	enum key_kind kind;
	enum key_effect effect;
	bool required;
	uint32_t off, off_n;
	uint64_t min, max;
	const char *dflt; /* as one would write it; NULL: none */
	const char *const *words;
	const struct cfg_section *section;
	/* 0, or -ENOMEM; errors in the file are reported to the loader. */
	int (*take)(struct loader *l, const struct ynode *v, void *obj, const char *where);
	const char *help;
};

struct cfg_section {
	const char *title; /* "target", for tidegate.yaml(5) */
	const struct cfg_key *keys;
	uint32_t nkeys;
};

extern const struct cfg_section cfg_root_section;
extern const struct cfg_section cfg_idp_section;
extern const struct cfg_section cfg_agent_section;
extern const struct cfg_section cfg_token_section;
extern const struct cfg_section cfg_when_section;
extern const struct cfg_section cfg_way_section;
extern const struct cfg_section cfg_credential_section;
extern const struct cfg_section cfg_tls_section;
extern const struct cfg_section cfg_target_section;
extern const struct cfg_section cfg_entry_section;
extern const struct cfg_section cfg_rule_section;
extern const struct cfg_section cfg_mask_section;

/* Words of enums, NULL-terminated, in the order of the enum. */
extern const char *const cfg_mode_words[];

#endif
