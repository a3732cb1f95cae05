/* SPDX-License-Identifier: MIT */
/* xxHash compiled in: libpg_query exports an older copy of the same symbols. */
#ifndef TIDEGATE_INSPECT_SQL_HASH_H
#define TIDEGATE_INSPECT_SQL_HASH_H

#include <stddef.h>
#include <stdint.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static inline uint64_t sql_hash64(const void *p, size_t n)
{
	return XXH3_64bits(p, n);
}

static inline uint32_t sql_hash32(const void *p, size_t n)
{
	return (uint32_t)XXH3_64bits(p, n);
}

/* Spreads a key of which only some bits vary. */
static inline uint64_t sql_mix64(uint64_t v)
{
	v ^= v >> 31;
	v *= 0x9fb21c651e98df25u;
	return v ^ v >> 28;
}

#endif
