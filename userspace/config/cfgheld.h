/* SPDX-License-Identifier: MIT */
/*
 * Values that a running daemon does not take over from a new file: they are held as they
 * are, and each is named with what it takes. Which these are is in the table of keys.
 */
#ifndef TIDEGATE_CONFIG_CFGHELD_H
#define TIDEGATE_CONFIG_CFGHELD_H

#include "config/cfgkeys.h"
#include "config/config.h"

enum { CFG_HELD_MAX = 16, CFG_HELD_TEXT = 1024 };

struct cfg_pending {
	const char *key;	      /* "recording.dir" */
	uint32_t line, column;	      /* of the value that waits; 0: it is the default */
	const char *running, *wanted; /* as one would write them */
	enum key_effect takes;
};

/* Of one configuration, in its arena. */
struct cfg_held {
	struct {
		const struct cfg_key *key;
		uint32_t line, column;
	} places[CFG_HELD_MAX]; /* of keys that a reload alone does not put into effect */
	struct cfg_pending pending[CFG_HELD_MAX];
	uint32_t nplaces, npending;
};

/*
 * What of @fresh takes @least or more gets its value from @running, and is put on the list of
 * @fresh if it is another. 0, or -ENOMEM: then @fresh is of no use.
 */
MUST_CHECK int config_hold(struct config *fresh, const struct config *running,
			   enum key_effect least);

/* "recording.dir: /etc/tidegate/tidegate.yaml:3:8: /a -> /b takes a restart: `...`". */
void config_pending_text(const struct config *c, const struct cfg_pending *e, char *dst, size_t cap);

/* Where a key's value is written: "FILE:3:8", or "FILE" if it is not. */
void config_key_place(const struct config *c, const char *section, const char *key, char *dst,
		      size_t cap);

#endif
