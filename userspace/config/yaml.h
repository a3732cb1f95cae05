/* SPDX-License-Identifier: MIT */
/*
 * A YAML document as a tree in which every node knows its line and column.
 * libfyaml reads the text; this keeps what a configuration needs of it, with
 * limits on size, depth and on what aliases can multiply.
 */
#ifndef TIDEGATE_CONFIG_YAML_H
#define TIDEGATE_CONFIG_YAML_H

#include "base/arena.h"
#include "base/compiler.h"

enum {
	YAML_TEXT_MAX = 1 << 20,
	YAML_DEPTH_MAX = 16,
	YAML_ENTRIES_MAX = 4096,     /* of one mapping or list */
	YAML_EXPANDED_MAX = 100000,  /* nodes of the document, each alias counted as what it names */
	YAML_ANCHORS_MAX = 256,
};

enum ynode_kind { YNODE_SCALAR, YNODE_LIST, YNODE_MAP };

struct yitem {
	struct yitem *next;
	struct ynode *key; /* NULL in a list */
	struct ynode *value;
};

struct ynode {
	enum ynode_kind kind;
	bool plain;	       /* a scalar without quotes */
	uint32_t line, column; /* from 1 */
	uint32_t n;	       /* entries */
	uint32_t expanded;     /* nodes below and with this one */
	struct slice text;     /* of a scalar */
	struct yitem *items;   /* in the order of the text */
	struct yitem **tail;
};

struct yaml_error {
	uint32_t line, column;
	char text[160];
};

/*
 * 0 and the root, in @arena; -EINVAL and *ret_error; -ENOMEM. An empty
 * document is an error. Merge keys (`<<`) are resolved.
 */
MUST_CHECK int yaml_parse(struct arena *arena, struct slice text, struct ynode **ret_root,
			  struct yaml_error *ret_error);

/* Value of a key of a mapping; NULL if there is none. */
struct ynode *yaml_get(const struct ynode *map, const char *key);
/* The node of the key itself, for its position; NULL if there is none. */
struct ynode *yaml_key(const struct ynode *map, const char *key);

/* A scalar that stands for nothing: empty, `~` or `null` without quotes. */
bool yaml_is_null(const struct ynode *n);

#endif
