/* SPDX-License-Identifier: MIT */
/*
 * A borrowed range of bytes. Never NUL-terminated, never owned: whoever hands
 * one out says until when it is valid.
 */
#ifndef TIDEGATE_BASE_SLICE_H
#define TIDEGATE_BASE_SLICE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct slice {
	const uint8_t *p;
	size_t n;
};

/* For static initialisers and literals: SLICE_LIT("abc"). */
#define SLICE_LIT(s) ((struct slice){.p = (const uint8_t *)("" s), .n = sizeof(s) - 1})

static inline struct slice slice_of(const void *p, size_t n)
{
	return (struct slice){.p = p, .n = n};
}

static inline struct slice slice_str(const char *s)
{
	return (struct slice){.p = (const uint8_t *)s, .n = s ? strlen(s) : 0};
}

static inline bool slice_eq(struct slice a, struct slice b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}

static inline bool slice_eq_str(struct slice a, const char *s)
{
	return slice_eq(a, slice_str(s));
}

/* The part from @off on; empty if @off lies behind the end. */
static inline struct slice slice_from(struct slice s, size_t off)
{
	return off >= s.n ? (struct slice){.p = s.p + s.n, .n = 0} : slice_of(s.p + off, s.n - off);
}

/* Byte order of the wire is big-endian unless a name says otherwise. */
static inline uint16_t load_be16(const uint8_t *p)
{
	return (uint16_t)((uint16_t)p[0] << 8 | p[1]);
}

static inline uint32_t load_be32(const uint8_t *p)
{
	return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static inline void store_be16(uint8_t *p, uint16_t v)
{
	p[0] = (uint8_t)(v >> 8);
	p[1] = (uint8_t)v;
}

static inline void store_be32(uint8_t *p, uint32_t v)
{
	p[0] = (uint8_t)(v >> 24);
	p[1] = (uint8_t)(v >> 16);
	p[2] = (uint8_t)(v >> 8);
	p[3] = (uint8_t)v;
}

#endif
