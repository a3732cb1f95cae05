/* SPDX-License-Identifier: MIT */
#include "policy/detect_run.h"

#ifdef SHAPES

/*
 * The shapes, as one function, included by detect_engine.h once for vectors of four
 * words and once for a single word, with
 *   SHAPES     its name
 *   WORDS      the type of a mask
 *   MASKS      the struct of class masks
 *   CARRY(x)   must come before the first BACK() of a mask
 *   BACK(x,k)  bit i of the result is bit i - k of @x
 */
TARGET static inline __attribute__((always_inline)) void
SHAPES(const struct MASKS *m, union carry *old, WORDS c[SHAPE_COUNT])
{
	WORDS digit = m->digit, dash = m->dash, word = m->word, upper = m->upper, dot = m->dot;
	WORDS digit2, digit4, dash2, dash4, dash5, run, run2, run4, run13, upper2, step, step2;

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

#undef SHAPES
#undef WORDS
#undef MASKS
#undef CARRY
#undef BACK
#endif
