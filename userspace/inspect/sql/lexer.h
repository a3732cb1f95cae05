/* SPDX-License-Identifier: MIT */
/*
 * The literal-free text ("skeleton") of a statement, by PostgreSQL's own
 * lexical rules (scan.l of PostgreSQL 15): comments and runs of white space
 * become one space, unquoted identifiers are lower-cased, and each constant
 * becomes one byte that no text contains. Two exact skeletons that are equal
 * have the same tokens but for the values of their constants.
 */
#ifndef TIDEGATE_INSPECT_SQL_LEXER_H
#define TIDEGATE_INSPECT_SQL_LEXER_H

#include "base/compiler.h"
#include "base/slice.h"

/* What stands for a constant. The grammar tells these kinds apart, nothing finer. */
enum sql_mark {
	SQL_MARK_INT = 1,   /* fits int32: ICONST */
	SQL_MARK_FLOAT = 2, /* FCONST */
	SQL_MARK_STRING = 3, /* SCONST: '', E'', $$ */
	SQL_MARK_BITS = 4,  /* BCONST */
	SQL_MARK_HEX = 5,   /* XCONST */
};

struct sql_skeleton {
	size_t n;	 /* bytes written, at most those of the text */
	/*
	 * What the parser will take for it, an upper estimate from the kinds
	 * of tokens: below 60 bytes of memory and 50 ns for each.
	 */
	uint32_t cost;
	/*
	 * False: the text has something that these rules do not follow to
	 * the end (U& forms, escapes that may be invalid, characters outside the grammar, an
	 * open quote). It must be parsed; its skeleton is no key.
	 */
	bool exact;
	bool nul;	/* has a zero byte */
	bool high;	/* has a byte >= 0x80 */
	bool backslash; /* has a backslash inside '' (not E'') */
	bool comments;
	bool long_operator; /* more operator characters in a row than an operator may have */
};

/* @dst holds at least text.n bytes. */
void sql_skeleton(struct slice text, uint8_t *dst, struct sql_skeleton *ret);

/*
 * Overwrites the comments in @copy, which has the bytes of @text, with spaces: the parser's lexer
 * takes quadratic time for a row of them. Positions stay.
 */
void sql_blank_comments(struct slice text, uint8_t *copy);

/* Goes from one string constant of a text to the next. */
struct sql_strings {
	struct slice text;
	size_t at;	  /* start of a token; afterwards behind the constant */
	const char *word; /* or NULL */
	size_t off, n;	  /* the bytes between its quotes, continuations included */
	bool follows; /* it stands behind a word that ends with @word, or is assigned to it */
};

bool sql_strings_next(struct sql_strings *it);

#endif
