/* SPDX-License-Identifier: MIT */
/*
 * The value detectors: one pass over bytes that classifies 64 at a time into
 * bit masks, tests the shapes of all detectors with shifts, and verifies the
 * candidates exactly (Luhn, IBAN mod 97, ranges). AVX2 where the CPU has it,
 * portable code otherwise, same results.
 */
#ifndef TIDEGATE_POLICY_DETECT_H
#define TIDEGATE_POLICY_DETECT_H

#include "base/compiler.h"
#include "base/slice.h"

struct detect_hit {
	uint32_t off, n;
	uint8_t bit; /* enum detector_bit */
};

/* The input is followed by this many readable bytes (any content, not looked at as data). */
enum { DETECT_PAD = 192 };

/*
 * Finds what the detectors in @want (bits) match in @p[0..n), sorted by offset,
 * up to @cap hits; returns the number written. If it equals @cap there may be more:
 * call again from behind the last. n <= UINT32_MAX - DETECT_PAD.
 * Values never reach over a byte < 0x20, so a caller may scan many values at
 * once with such a byte between them.
 */
size_t detect_scan(const uint8_t *p, size_t n, uint32_t want, struct detect_hit *hits, size_t cap);

/* Name of the implementation in use: "avx2" or "portable". */
const char *detect_engine(void);
/* For tests: forces the portable one. */
void detect_force_portable(bool on);

#endif
