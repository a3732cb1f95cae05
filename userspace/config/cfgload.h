/* SPDX-License-Identifier: MIT */
/* What the parts of the configuration's parser share while a file is read. */
#ifndef TIDEGATE_CONFIG_CFGLOAD_H
#define TIDEGATE_CONFIG_CFGLOAD_H

#include "base/arena.h"
#include "config/cfgkeys.h"
#include "config/config.h"
#include "config/yaml.h"

enum { CFG_ERRORS_MAX = 50 };

struct cfg_error {
	uint32_t line, column;
	const char *text;
};

struct loader {
	struct config *c;
	struct arena tmp; /* the tree, messages, what policy_new() copies */
	const struct ynode *root;
	struct entry_spec *entries;
	uint32_t nentries;
	/* Nodes of c->agents[], c->ways[] and so on, for positions. */
	const struct ynode **agent_nodes, **way_nodes, **credential_nodes, **target_nodes,
		**entry_nodes;
	bool access_given; /* scratch of one entry: `approval` was written */
	struct cfg_error errors[CFG_ERRORS_MAX];
	uint32_t nerrors; /* all, also those over the maximum */
	bool no_memory;
};

/* An error at the place of @at (NULL: of the whole file). Backticks around what is from the file. */
void cfg_fail(struct loader *l, const struct ynode *at, const char *fmt, ...) PRINTF(3, 4);

/* Formats into l->tmp; "" and no_memory when there is none. */
const char *cfg_text(struct loader *l, const char *fmt, ...) PRINTF(2, 3);
/* @s made fit for a message: escaped, cut to 60 bytes. */
const char *cfg_show(struct loader *l, struct slice s);

/* "; did you mean `x`?" for the nearest of @n words, or "". */
const char *cfg_nearest(struct loader *l, struct slice word, const char *const *words, uint32_t n);

/* Sets @obj from the mapping @map by the keys of @s; @where: "target `orders-db`". */
void cfg_fill(struct loader *l, const struct cfg_section *s, const struct ynode *map, void *obj,
	      const char *where);

/* Allocates from @a; NULL and no_memory. */
void *cfg_alloc(struct loader *l, struct arena *a, size_t size, size_t n);

/* Where a key's value stands, or the mapping itself. */
const struct ynode *cfg_place(const struct ynode *map, const char *key);

/* What an issuer's settings must be, wherever in the file they stand; @map for places. */
struct cfg_idp;
void cfg_check_issuer(struct loader *l, const struct cfg_idp *idp, const struct ynode *map);

/* What a target's protocol is, and that nothing is asked of its inspector that it does not do. */
void cfg_check_protocol(struct loader *l, const struct cfg_target *t, const struct ynode *map);
void cfg_check_judged(struct loader *l, const struct entry_spec *e, const struct ynode *map);

/* Checks of one part against the others, after everything is read. */
void cfg_check(struct loader *l);
void cfg_check_tokens(struct loader *l);
void cfg_check_credentials(struct loader *l);
void cfg_check_tls(struct loader *l, struct cfg_target *t, const struct ynode *map);
void cfg_check_login(struct loader *l, struct cfg_target *t, const struct ynode *map);

#endif
