/* SPDX-License-Identifier: MIT */
/*
 * The value detectors: one pass over bytes that classifies 64 at a time into
 * bit masks, tests the shapes of all detectors with shifts, and verifies the
 * candidates exactly (Luhn, IBAN mod 97, ranges). AVX2 where the CPU has it,
 * portable code otherwise, same results.
 *
 * What each finds is what the usual regular expression for it finds (the
 * table in tests/unit/detect_ref.h), each match verified and, for a card or an IBAN,
 * every start and end tried until one verifies. Social security numbers are
 * not checked against the ranges that were never issued: tax numbers
 * (9xx-xx-xxxx) have the same form, and hiding too much is the lesser error.
 */
#ifndef TIDEGATE_POLICY_DETECT_H
#define TIDEGATE_POLICY_DETECT_H

#include "base/compiler.h"
#include "base/slice.h"

struct detect_hit {
	uint32_t off, n;
	uint8_t bit; /* enum detector_bit */
};

/*
 * Finds what the detectors in @want (bits) match in @p[0..n), sorted by offset
 * and without overlap, up to @cap hits; returns the number written. If it
 * equals @cap there may be more: call again from behind the last. @n <= UINT32_MAX / 2.
 * Behind @p[0..n) no other page is read, and what is read there does not matter.
 *
 * Where hits overlap the leftmost keeps its range (then the longest, then the
 * first in DETECTORS), and one that reaches further keeps the rest, so that
 * all bytes of all hits are covered.
 *
 * No hit reaches over a zero byte, so many values may be scanned at
 * once with one between them. Only a private key reaches over other bytes < 0x20,
 * its line ends.
 */
size_t detect_scan(const uint8_t *p, size_t n, uint32_t want, struct detect_hit *hits, size_t cap);

/* A value of @n bytes can hold no more hits than this. */
static inline size_t detect_max_hits(size_t n)
{
	return n / 2 + 1;
}

/* Name of the implementation in use: "avx2" or "portable". */
const char *detect_engine(void);
/* For tests: forces the portable one. */
void detect_force_portable(bool on);

#endif
