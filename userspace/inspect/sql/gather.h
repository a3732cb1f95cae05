/* SPDX-License-Identifier: MIT */
/*
 * Collects what the walk over a parse tree finds, then packs it into one
 * block that becomes the sql_info. Strings are borrowed until gather_pack().
 * One gather per classifier, used again for each text.
 */
#ifndef TIDEGATE_INSPECT_SQL_GATHER_H
#define TIDEGATE_INSPECT_SQL_GATHER_H

#include "base/compiler.h"
#include "inspect/sql/sqlinfo.h"

/* What a word is used as in the text. */
enum word_bit {
	WORD_NAME = 1u << 0,   /* goes into info.names */
	WORD_RANGE = 1u << 1,  /* names a row source: an alias, a relation, a WITH query */
	WORD_SINGLE = 1u << 2, /* stands alone as an expression */
	WORD_DROPPED = 1u << 3, /* goes into info.dropped */
};

struct word {
	struct slice s;
	uint32_t hash;
	uint32_t bits;
};

struct gathered_access {
	uint32_t effect; /* one bit */
	uint32_t kind;
	uint32_t schema, name; /* words */
};

struct gather {
	uint32_t effects, flags;
	uint16_t why;
	uint16_t nstatements;
	bool failed; /* no memory */
	bool foreign; /* names with a byte >= 0x80 cannot be told: SQL_LEX_FOREIGN */
	struct slice handle, error;
	uint32_t error_pos;
	uint64_t shape;

	struct word *words; /* word 0 is the empty one */
	uint32_t nwords, cap_words;
	uint32_t *slots; /* open addressing, word + 1; 0: free */
	uint32_t nslots;

	struct gathered_access *accesses;
	uint32_t naccess, cap_access;
	uint64_t *seen; /* open addressing over accesses; 0: free */
	uint32_t nseen;

	struct sql_secret *secrets;
	uint32_t nsecrets, cap_secrets;

	bool has_copy;
	struct sql_copy copy;
	struct slice *copy_columns;
	uint32_t cap_copy_columns;
};

void gather_done(struct gather *g);
void gather_reset(struct gather *g);

/* The number of a word; its bits are ORed in. */
uint32_t gather_word(struct gather *g, struct slice s, uint32_t bits);
/* Also ORs the effect into the statement's. */
void gather_access(struct gather *g, uint32_t effect, enum sql_object_kind kind,
		   struct slice schema, struct slice name);
/* The text cannot be understood; the first reason stays. */
void gather_unknown(struct gather *g, uint16_t why);
/* So it is if @name may be another one to the server. Words are looked at by gather_word(). */
void gather_foreign(struct gather *g, struct slice name);
void gather_secret(struct gather *g, size_t off, size_t n);
void gather_copy_column(struct gather *g, struct slice name);

/* An info with one reference, or NULL without memory. */
MUST_CHECK const struct sql_info *gather_pack(struct gather *g);
/* Bytes of memory that @info takes. */
size_t sql_info_bytes(const struct sql_info *info);
/* A constant info for a text that is not looked into. */
const struct sql_info *sql_info_refusal(uint16_t why);

#endif
