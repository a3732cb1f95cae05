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
	uint32_t tokens; /* operators count by character */
	/*
	 * False: the text has something that these rules do not follow to
	 * the end (U& forms, escapes that may be invalid, characters outside the grammar, an
	 * open quote). It must be parsed; its skeleton is no key.
	 */
	bool exact;
	bool nul;	/* has a zero byte */
	bool high;	/* has a byte >= 0x80 */
	bool backslash; /* has a backslash inside '' (not E'') */
};

/* @dst holds at least text.n bytes. */
void sql_skeleton(struct slice text, uint8_t *dst, struct sql_skeleton *ret);

/*
 * The first string constant that starts at or behind @from, which must be the start
 * of a token: the bytes between its quotes, continuations included.
 */
bool sql_lex_string(struct slice text, size_t from, size_t *ret_off, size_t *ret_n);

/*
 * Calls @fn for each string constant that directly follows the word @word.
 */
typedef void sql_lex_fn(void *ctx, size_t off, size_t n);
void sql_lex_after_word(struct slice text, const char *word, sql_lex_fn *fn, void *ctx);

#endif
