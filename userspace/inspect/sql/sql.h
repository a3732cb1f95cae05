/* SPDX-License-Identifier: MIT */
/*
 * Classification of PostgreSQL statements: PostgreSQL's own raw parser
 * (libpg_query) behind a cache keyed by the literal-free text. One classifier
 * per worker, one thread.
 */
#ifndef TIDEGATE_INSPECT_SQL_H
#define TIDEGATE_INSPECT_SQL_H

#include "base/compiler.h"
#include "inspect/sql/sqlinfo.h"

struct sql;

struct sql_limits {
	size_t text_bytes;    /* longer text is TG_R_SQL_TOO_LONG; 0: 1 MiB */
	size_t cache_bytes;   /* 0: 8 MiB */
	uint32_t cache_shapes; /* 0: 4096 */
	uint32_t depth;	      /* nesting of the tree; 0: 512 */
	uint32_t nodes;	      /* nodes of the tree; 0: 1 Mi */
};

/* What the server said about how it reads text (ParameterStatus). */
enum sql_lexer {
	SQL_LEX_STANDARD = 0,
	SQL_LEX_BACKSLASH = 1u << 0, /* standard_conforming_strings = off */
	SQL_LEX_UNSAFE = 1u << 1,    /* a client encoding in which a byte < 0x80 may be part of a
					character (SJIS, BIG5, GBK, GB18030, UHC, JOHAB ...) */
	SQL_LEX_FOREIGN = 1u << 2,   /* a name with a byte >= 0x80 may be another one to the server:
					not UTF-8 on both sides */
};

struct sql_stats {
	uint64_t hits, misses, uncached, evicted;
};

MUST_CHECK int sql_new(const struct sql_limits *limits, struct sql **ret);
void sql_free(struct sql *s);

/*
 * Never fails: what cannot be understood is an info with SQL_UNKNOWN and a
 * reason. The result is referenced for the caller, who gives it back with
 * sql_info_unref(); it survives eviction.
 */
const struct sql_info *sql_classify(struct sql *s, struct slice text, uint32_t lexer);
const struct sql_info *sql_info_ref(const struct sql_info *info);
void sql_info_unref(const struct sql_info *info);
void sql_get_stats(const struct sql *s, struct sql_stats *ret);

/* The grammar this build understands, e.g. 15. */
int sql_grammar_major(void);

#endif
