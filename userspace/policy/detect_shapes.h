/* SPDX-License-Identifier: MIT */
#include "policy/detect_run.h"

#ifdef ENGINE

/*
 * The engine, included by detect_portable.c and detect_avx2.c, which define
 *   ENGINE               its name
 *   TARGET               function attribute, or nothing
 *   classify(p, w, m)    class masks of the 64 bytes at @p into word @w of @m
 *   nonzero_words(x)     bit w set if word w of the vector is not zero
 * Vectors are four 64-bit words; the compiler maps them to what the target has.
 */
typedef uint64_t words __attribute__((vector_size(GROUP_WORDS * 8)));

struct vectors {
	words digit, upper, word, dash, dot, space, anchor;
};

/* Of each vector that is shifted, the previous group's. */
struct carry {
	words digit, digit2, digit4, dash, dash2, dash4, dash5, word;
	words run, run2, run4, run13, upper, upper2, dot, step, step2;
};

/* Word w - 1 beside each word w: where the bits come from that are shifted in. */
#define CARRY(x)                                                           \
	words before_##x = __builtin_shufflevector(old->x, x, 3, 4, 5, 6); \
	old->x = x
/* Bit i of the result is bit i - k of @x. */
#define BACK(x, k) ((x) << (k) | before_##x >> (64 - (k)))

TARGET static inline __attribute__((always_inline)) void
shapes(const struct vectors *m, struct carry *old, words c[SHAPE_COUNT])
{
	words digit = m->digit, dash = m->dash, word = m->word, upper = m->upper, dot = m->dot;
	words digit2, digit4, dash2, dash4, dash5, run, run2, run4, run13, upper2, step, step2;

	CARRY(digit);
	CARRY(dash);
	CARRY(word);
	CARRY(upper);
	CARRY(dot);
	digit2 = digit & BACK(digit, 1);
	CARRY(digit2);
	digit4 = digit2 & BACK(digit2, 2);
	CARRY(digit4);

	c[SHAPE_DATE] = digit2 & BACK(dash, 2) & BACK(digit2, 3) & BACK(dash, 5) & BACK(digit4, 6) &
			~BACK(word, 10);
	c[SHAPE_SSN] = digit4 & BACK(dash, 4) & BACK(digit2, 5) & BACK(dash, 7) & BACK(digit2, 8) &
		       BACK(digit, 10) & ~BACK(word, 11);
	c[SHAPE_UUID] = dash & BACK(dash, 5) & BACK(dash, 10) & BACK(dash, 15) & ~BACK(word, 24);

	/* A separator goes on with a run of digits, a second one in a row ends it. */
	run = digit | ((dash | m->space) & BACK(digit, 1));
	CARRY(run);
	run2 = run & BACK(run, 1);
	CARRY(run2);
	run4 = run2 & BACK(run2, 2);
	CARRY(run4);
	run13 = run4 & BACK(run4, 4) & BACK(run4, 8) & BACK(run, 12);
	CARRY(run13);
	c[SHAPE_CARD] = run13 & ~BACK(run13, 1);

	/* A step is a digit behind a dot behind a digit. */
	step = digit & BACK(dot, 1) & BACK(digit, 2);
	CARRY(step);
	step2 = step & (BACK(step, 2) | BACK(step, 3) | BACK(step, 4));
	CARRY(step2);
	c[SHAPE_IPV4] = step & (BACK(step2, 2) | BACK(step2, 3) | BACK(step2, 4));

	upper2 = upper & BACK(upper, 1);
	CARRY(upper2);
	c[SHAPE_IBAN] = digit2 & BACK(upper2, 2) & ~BACK(word, 4);
	c[SHAPE_AWS] = upper2 & BACK(upper2, 2) & ~BACK(word, 4);

	dash2 = dash & BACK(dash, 1);
	CARRY(dash2);
	dash4 = dash2 & BACK(dash2, 2);
	CARRY(dash4);
	dash5 = dash4 & BACK(dash4, 1);
	CARRY(dash5);
	c[SHAPE_PEM] = upper & BACK(dash5, 1);
	c[SHAPE_ANCHOR] = m->anchor;
}

/* Class masks of up to a group of bytes; what lies behind the end is of no class. */
TARGET static inline __attribute__((always_inline)) void classify_group(const uint8_t *p, size_t n,
									struct vectors *m)
{
	uint8_t last[64] = {0};

	if (likely(n >= GROUP_BYTES)) {
		for (unsigned w = 0; w < GROUP_WORDS; w++)
			classify(p + w * 64, w, m);
		return;
	}
	memset(m, 0, sizeof(*m));
	for (unsigned w = 0; w < n / 64; w++)
		classify(p + w * 64, w, m);
	if (n % 64) {
		memcpy(last, p + n / 64 * 64, n % 64);
		classify(last, (unsigned)(n / 64), m);
	}
}

TARGET void ENGINE(struct detect_run *r)
{
	words wanted[SHAPE_COUNT];
	struct carry old;

	memset(&old, 0, sizeof(old));
	for (unsigned s = 0; s < SHAPE_COUNT; s++) {
		uint64_t all = r->want & detect_shape_wants(s) ? UINT64_MAX : 0;

		wanted[s] = (words){all, all, all, all};
	}
	for (size_t base = 0; base < r->n; base += GROUP_BYTES) {
		words c[SHAPE_COUNT], any = {0};
		struct detect_cands out;
		uint64_t nonzero = 0;
		struct vectors m;

		classify_group(r->p + base, r->n - base, &m);
		shapes(&m, &old, c);
		for (unsigned s = 0; s < SHAPE_COUNT; s++) {
			c[s] &= wanted[s];
			any |= c[s];
		}
		if (!nonzero_words(&any) && r->card_next == SIZE_MAX)
			continue;
		for (unsigned s = 0; s < SHAPE_COUNT; s++) {
			nonzero |= (uint64_t)nonzero_words(&c[s]) << (s * GROUP_WORDS);
			memcpy(out.word[s], &c[s], sizeof(c[s]));
		}
		if (!detect_verify_group(r, base, &out, nonzero))
			return;
	}
}

#endif
