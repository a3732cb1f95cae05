/* SPDX-License-Identifier: MIT */
/*
 * The detectors' engine for CPUs with AVX2. Only functions marked TARGET may
 * use it: the rest of the program runs on any x86-64.
 */
#include "policy/detect_run.h"

#if defined(__x86_64__)
#include <immintrin.h>

/* A sanitizer would object to the bytes behind a short value. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define OVERREAD 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(memory_sanitizer)
#define OVERREAD 0
#endif
#endif
#ifndef OVERREAD
#define OVERREAD 1
#endif

#define TARGET	      __attribute__((target("avx2")))
#define ENGINE	      detect_engine_avx2
#define classify      avx2_classify
#define nonzero_words avx2_nonzero_words

struct half {
	uint32_t digit, upper, word, dash, dot, space, anchor;
};

/* True for bytes in [lo, hi], by one wrapping addition and a signed comparison. */
#define IN_RANGE(v, lo, hi)                                                 \
	_mm256_cmpgt_epi8(_mm256_set1_epi8((char)(-128 + (hi) - (lo) + 1)), \
			  _mm256_add_epi8(v, _mm256_set1_epi8((char)(-128 - (lo)))))
#define EQUALS(v, ch) _mm256_cmpeq_epi8(v, _mm256_set1_epi8(ch))
#define MASK(v)	      ((uint32_t)_mm256_movemask_epi8(v))

TARGET static inline __attribute__((always_inline)) void classify_half(const uint8_t *p,
								       struct half *h)
{
	__m256i v = _mm256_loadu_si256((const __m256i *)(const void *)p);
	__m256i digit = IN_RANGE(v, '0', '9');
	__m256i letter = IN_RANGE(_mm256_or_si256(v, _mm256_set1_epi8(0x20)), 'a', 'z');
	__m256i under = EQUALS(v, '_');
	__m256i anchor = _mm256_or_si256(_mm256_or_si256(EQUALS(v, '@'), EQUALS(v, '+')),
					 _mm256_or_si256(under, EQUALS(v, 'J')));

	h->digit = MASK(digit);
	h->word = MASK(_mm256_or_si256(_mm256_or_si256(digit, letter), under));
	/* Upper case is a letter whose bit 5 is clear: shifted to where movemask looks. */
	h->upper = MASK(letter) & ~MASK(_mm256_slli_epi16(v, 2));
	h->dash = MASK(EQUALS(v, '-'));
	h->dot = MASK(EQUALS(v, '.'));
	h->space = MASK(EQUALS(v, ' '));
	h->anchor = MASK(anchor);
}

TARGET static inline __attribute__((always_inline)) unsigned avx2_nonzero_words(const void *x)
{
	__m256i v = _mm256_load_si256(x);

	v = _mm256_cmpeq_epi64(v, _mm256_setzero_si256());
	return ~(unsigned)_mm256_movemask_pd(_mm256_castsi256_pd(v)) & 0xf;
}

#define JOIN(class) m->class = lo.class | (uint64_t)hi.class << 32

TARGET static inline __attribute__((always_inline)) void avx2_classify(const uint8_t *p,
								       struct detect_masks *m)
{
	struct half lo, hi;

	classify_half(p, &lo);
	classify_half(p + 32, &hi);
	JOIN(digit);
	JOIN(upper);
	JOIN(word);
	JOIN(dash);
	JOIN(dot);
	JOIN(space);
	JOIN(anchor);
}

#include "policy/detect_engine.h"

#endif
