/* SPDX-License-Identifier: MIT */
#include "policy/detect_run.h"

#ifdef ENGINE

/*
 * The engine, included by detect_portable.c and detect_avx2.c, which define
 *   ENGINE               its name
 *   TARGET               function attribute, or nothing
 *   classify(p, m)       class masks of the 64 bytes at @p
 *   nonzero_words(x)     bit w set if word w of the vector is not zero
 * Vectors are four 64-bit words; the compiler maps them to what the target has.
 */
typedef uint64_t words __attribute__((vector_size(GROUP_WORDS * 8)));

struct vectors {
	words digit, upper, word, dash, dot, space, anchor;
};

/* Of each vector that is shifted, the previous group's. */
union carry {
	struct {
		words digit, digit2, digit4, dash, dash2, dash4, dash5, word;
		words run, run2, run4, run13, upper, upper2, dot, step, step2;
	};
	words v[17];
};

#define SHAPES group_shapes
#define WORDS  words
#define MASKS  vectors
/* Word w - 1 beside each word w: where the bits come from that are shifted in. */
#define CARRY(x)                                                           \
	words before_##x = __builtin_shufflevector(old->x, x, 3, 4, 5, 6); \
	old->x = x
#define BACK(x, k) ((x) << (k) | before_##x >> (64 - (k)))
#include "policy/detect_shapes.h"

/* A value of less than 64 bytes has nothing before it. */
#define SHAPES	   word_shapes
#define WORDS	   uint64_t
#define MASKS	   detect_masks
#define CARRY(x)   (void)old
#define BACK(x, k) ((x) << (k))
#include "policy/detect_shapes.h"

/*
 * Fewer than 64 bytes. Most values are short, so they are read where they are, with what
 * lies behind them in the same page, whose bits are cleared; elsewhere they are copied.
 */
TARGET static inline __attribute__((always_inline)) void classify_tail(const uint8_t *p, size_t n,
								       struct detect_masks *m)
{
	uint64_t valid = (1ull << n) - 1;
	uint8_t copy[64];

	if (OVERREAD && likely(((uintptr_t)p & 4095) <= 4096 - 64)) {
		classify(p, m);
	} else {
		memset(copy, 0, sizeof(copy));
		memcpy(copy, p, n);
		classify(copy, m);
	}
	m->digit &= valid;
	m->upper &= valid;
	m->word &= valid;
	m->dash &= valid;
	m->dot &= valid;
	m->space &= valid;
	m->anchor &= valid;
}

#define GATHER(class)                                          \
	v->class = (words)                                     \
	{                                                      \
		m[0].class, m[1].class, m[2].class, m[3].class \
	}

TARGET static inline __attribute__((always_inline)) void
gather(const struct detect_masks m[GROUP_WORDS], struct vectors *v)
{
	GATHER(digit);
	GATHER(upper);
	GATHER(word);
	GATHER(dash);
	GATHER(dot);
	GATHER(space);
	GATHER(anchor);
}

/* Class masks of up to a group of bytes; what lies behind the end is of no class. */
TARGET static inline __attribute__((always_inline)) void classify_group(const uint8_t *p, size_t n,
									struct vectors *v)
{
	struct detect_masks m[GROUP_WORDS];

	if (likely(n >= GROUP_BYTES)) {
		for (unsigned w = 0; w < GROUP_WORDS; w++)
			classify(p + w * 64, &m[w]);
	} else {
		unsigned w = 0;

		for (; w < n / 64; w++)
			classify(p + w * 64, &m[w]);
		if (n % 64) {
			classify_tail(p + w * 64, n % 64, &m[w]);
			w++;
		}
		for (; w < GROUP_WORDS; w++)
			m[w] = (struct detect_masks){0};
	}
	gather(m, v);
}

/* Most values are short, and nine shapes of one word are quicker without vectors. */
TARGET static void scan_short(struct detect_run *r)
{
	struct detect_cands out;
	struct detect_masks m;
	uint64_t c[SHAPE_COUNT], nonzero = 0;

	classify_tail(r->p, r->n, &m);
	word_shapes(&m, NULL, c);
	for (unsigned s = 0; s < SHAPE_COUNT; s++) {
		bool some = c[s] && (r->want & detect_shape_wants[s]);

		out.word[s][0] = c[s];
		nonzero |= (uint64_t)some << (s * GROUP_WORDS);
	}
	if (nonzero)
		(void)detect_verify_group(r, 0, &out, nonzero);
}

TARGET void ENGINE(struct detect_run *r)
{
	/* Zero, but no constant: else this is made to be `rep stos`, a third of a short scan. */
	words none = {r->nhits, r->nhits, r->nhits, r->nhits};
	words wanted[SHAPE_COUNT];
	union carry old;

	if (r->n < 64) {
		scan_short(r);
		return;
	}
	for (unsigned i = 0; i < sizeof(old.v) / sizeof(old.v[0]); i++)
		old.v[i] = none;
	for (unsigned s = 0; s < SHAPE_COUNT; s++) {
		uint64_t all = r->want & detect_shape_wants[s] ? UINT64_MAX : 0;

		wanted[s] = (words){all, all, all, all};
	}
	for (size_t base = 0; base < r->n; base += GROUP_BYTES) {
		words c[SHAPE_COUNT], any = {0};
		struct detect_cands out;
		uint64_t nonzero = 0;
		struct vectors m;

		classify_group(r->p + base, r->n - base, &m);
		group_shapes(&m, &old, c);
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
