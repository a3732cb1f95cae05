/* SPDX-License-Identifier: MIT */
/*
 * Infos by skeleton, least recently used out first, bounded in entries and in
 * bytes. A key is compared whole: a hash only finds the candidate.
 */
#ifndef TIDEGATE_INSPECT_SQL_CACHE_H
#define TIDEGATE_INSPECT_SQL_CACHE_H

#include "base/compiler.h"
#include "inspect/sql/sqlinfo.h"

struct cache;

MUST_CHECK int cache_new(uint32_t max_entries, size_t max_bytes, struct cache **ret);
void cache_free(struct cache *c);
/* Not referenced for the caller; NULL if it is not there. */
const struct sql_info *cache_get(struct cache *c, uint64_t hash, struct slice key);
/* Takes a reference of its own. Forgets others to make room; returns how many. */
uint32_t cache_put(struct cache *c, uint64_t hash, struct slice key, const struct sql_info *info);

#endif
