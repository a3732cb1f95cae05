/* SPDX-License-Identifier: MIT */
/*
 * What was used once and must not be used again until it ends by itself: digests of assertions.
 * Pure: time is a parameter. It lives as long as its process.
 */
#ifndef TIDEGATE_IDENT_USEONCE_H
#define TIDEGATE_IDENT_USEONCE_H

#include <stdint.h>

#include "base/compiler.h"

enum { USEONCE_MAX = 65536, USEONCE_KEY = 32 };

struct useonce;

/* NULL: no memory. */
struct useonce *useonce_new(void);
void useonce_free(struct useonce *r);
/*
 * @owner may use it again: a question that is asked anew. 0; -EEXIST: used by another;
 * -ENOSPC: too many are remembered, none is forgotten before its end; -ENOMEM.
 */
MUST_CHECK int useonce_use(struct useonce *r, const uint8_t key[USEONCE_KEY], uint64_t owner,
			  uint64_t now_s, uint64_t until_s);
unsigned useonce_count(const struct useonce *r);

#endif
