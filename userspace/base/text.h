/* SPDX-License-Identifier: MIT */
/* Foreign bytes made fit for people: escaping, names, sizes, durations. */
#ifndef TIDEGATE_BASE_TEXT_H
#define TIDEGATE_BASE_TEXT_H

#include "base/compiler.h"
#include "base/slice.h"

/*
 * Length of the valid UTF-8 sequence at the start of @s (1-4), 0 if there is
 * none (RFC 3629: no overlong forms, no surrogates, nothing over U+10FFFF).
 */
size_t utf8_length(struct slice s);

/*
 * Writes @s with control bytes, backslash, invalid UTF-8 and what text_hides() as \xNN (and \n,
 * \t, \r, \\), at most @cap - 1 bytes and a NUL; never cuts an escape or a
 * sequence. Returns the bytes written without the NUL.
 */
size_t text_escape(struct slice s, char *dst, size_t cap);
/* @s begins with a character that nobody sees, or that reorders others: its bytes, or 0. */
size_t text_hides(struct slice s, uint32_t *ret);

/* "15m", "30s", "2h", "500ms", "1d"; 0 and milliseconds, or -EINVAL / -ERANGE. */
MUST_CHECK int text_parse_duration(struct slice s, uint64_t *ret_ms);

/* "64KiB", "1MiB", "2GiB", "4096"; 0 and bytes, or -EINVAL / -ERANGE. */
MUST_CHECK int text_parse_size(struct slice s, uint64_t *ret_bytes);

/* The largest unit that divides: "15m", "90s". @cap of 24 is enough. */
void text_format_duration(uint64_t ms, char *dst, size_t cap);

/* Whole string is a decimal number in [min, max]: 0, else -EINVAL. */
MUST_CHECK int text_parse_u64(struct slice s, uint64_t min, uint64_t max, uint64_t *ret);

/* Shell-like glob with `*` and `?` only, over bytes. */
bool text_glob(struct slice pattern, struct slice s);

/* Lower-case hex; @dst holds 2 * n + 1 bytes. */
void text_hex(const uint8_t *p, size_t n, char *dst);
/* False unless @s (may be NULL) is just that: 2 * @n digits, lower-case. */
MUST_CHECK bool text_unhex(const char *s, uint8_t *dst, size_t n);

/* FNV-1a over @s and its end, going on from @hash: for telling texts apart, not for security. */
#define TEXT_HASH_START 0xcbf29ce484222325u
uint64_t text_hash(uint64_t hash, const char *s);

/* RFC 3339 in UTC with milliseconds, "2026-01-31T12:00:00.000Z"; @cap >= 25. */
void text_time(uint64_t wall_ns, char *dst, size_t cap);
/* The same form back, with or without milliseconds; 0 or -EINVAL. */
MUST_CHECK int text_parse_time(struct slice s, uint64_t *ret_wall_ns);

#endif
