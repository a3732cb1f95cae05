/* SPDX-License-Identifier: MIT */
/* The detectors' engine for any CPU: eight bytes at a time in one register. */
#include "policy/detect_run.h"

enum { CLASS_DIGIT, CLASS_UPPER, CLASS_WORD, CLASS_DASH, CLASS_DOT, CLASS_SPACE, CLASS_ANCHOR };

#define DIGIT_	     (1 << CLASS_DIGIT | 1 << CLASS_WORD)
#define UPPER_	     (1 << CLASS_UPPER | 1 << CLASS_WORD)
#define LOWER_	     (1 << CLASS_WORD)
#define TWO(from, v) [(from)] = (v), [(from) + 1] = (v)
#define SIX(from, v) TWO(from, v), TWO((from) + 2, v), TWO((from) + 4, v)

/* Bit per class. */
static const uint8_t class_of[256] = {
	SIX('0', DIGIT_),
	TWO('6', DIGIT_),
	TWO('8', DIGIT_),
	SIX('A', UPPER_),
	TWO('G', UPPER_),
	['I'] = UPPER_,
	['J'] = UPPER_ | 1 << CLASS_ANCHOR,
	TWO('K', UPPER_),
	SIX('M', UPPER_),
	SIX('S', UPPER_),
	TWO('Y', UPPER_),
	SIX('a', LOWER_),
	SIX('g', LOWER_),
	SIX('m', LOWER_),
	SIX('s', LOWER_),
	TWO('y', LOWER_),
	['_'] = 1 << CLASS_WORD | 1 << CLASS_ANCHOR,
	['-'] = 1 << CLASS_DASH,
	['.'] = 1 << CLASS_DOT,
	[' '] = 1 << CLASS_SPACE,
	['@'] = 1 << CLASS_ANCHOR,
	['+'] = 1 << CLASS_ANCHOR,
};

/* Byte i of @x holds the classes of byte i; afterwards byte c holds class c of all eight. */
static inline uint64_t transpose8(uint64_t x)
{
	uint64_t t;

	t = (x ^ x >> 7) & 0x00aa00aa00aa00aaull;
	x ^= t ^ t << 7;
	t = (x ^ x >> 14) & 0x0000cccc0000ccccull;
	x ^= t ^ t << 14;
	t = (x ^ x >> 28) & 0x00000000f0f0f0f0ull;
	return x ^ t ^ t << 28;
}

#define TARGET
#define OVERREAD      0
#define ENGINE	      detect_engine_portable
#define classify      portable_classify
#define nonzero_words portable_nonzero_words
static inline unsigned portable_nonzero_words(const void *v)
{
	uint64_t x[GROUP_WORDS];

	memcpy(x, v, sizeof(x));
	return (x[0] != 0) | (x[1] != 0) << 1 | (x[2] != 0) << 2 | (x[3] != 0) << 3;
}

static void portable_classify(const uint8_t *p, struct detect_masks *m)
{
	uint64_t c[8] = {0};

	for (unsigned i = 0; i < 8; i++) {
		uint64_t x = 0;

		for (unsigned k = 0; k < 8; k++)
			x |= (uint64_t)class_of[p[i * 8 + k]] << (k * 8);
		x = transpose8(x);
		for (unsigned k = 0; k < 8; k++)
			c[k] |= (x >> (k * 8) & 0xff) << (i * 8);
	}
	m->digit = c[CLASS_DIGIT];
	m->upper = c[CLASS_UPPER];
	m->word = c[CLASS_WORD];
	m->dash = c[CLASS_DASH];
	m->dot = c[CLASS_DOT];
	m->space = c[CLASS_SPACE];
	m->anchor = c[CLASS_ANCHOR];
}

#include "policy/detect_engine.h"
