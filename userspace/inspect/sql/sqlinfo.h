/* SPDX-License-Identifier: MIT */
/*
 * What a text of SQL does, as far as its text tells: effects, the objects it
 * names, and what the masks need to know of it. Plain data, made by
 * inspect/sql, read by inspectors and policy.
 *
 * Only the server knows the rest: views and rules behind a relation, triggers, a
 * user's function or cast with the name of a built-in one (found first by search_path or
 * by a better match of types), and `row.f`, which calls f(row) if there is no
 * column f. All names are in `names`, so that a catalog can be asked.
 */
#ifndef TIDEGATE_INSPECT_SQLINFO_H
#define TIDEGATE_INSPECT_SQLINFO_H

#include "base/slice.h"

/* X(NAME, "name in the configuration", "what it covers") */
#define SQL_EFFECTS(X)                                                                             \
	X(READ, "read", "rows are read")                                                           \
	X(WRITE, "write", "rows are inserted, changed, deleted or locked")                         \
	X(DDL, "ddl", "objects are created, changed or dropped")                                   \
	X(PRIVILEGE, "privilege", "roles or rights are changed or taken on, or the server is administered")                       \
	X(TRANSACTION, "transaction", "a transaction begins, ends or is marked")                   \
	X(SESSION, "session", "settings of the session: SET, SHOW, DISCARD, LISTEN")               \
	X(FILE, "file", "files of the server are read or written")                                 \
	X(PROGRAM, "program", "programs or code of the server are run: COPY PROGRAM, DO, LOAD")    \
	X(PROCEDURE, "procedure", "a procedure or user-defined function is called")                \
	X(UNKNOWN, "unknown", "could not be understood")

enum sql_effect_bit {
#define X(name, text, what) SQL_BIT_##name,
	SQL_EFFECTS(X)
#undef X
	SQL_EFFECT_COUNT
};

enum sql_effect {
#define X(name, text, what) SQL_##name = 1u << SQL_BIT_##name,
	SQL_EFFECTS(X)
#undef X
};

enum sql_object_kind {
	SQL_OBJ_NONE, /* an effect without an object: BEGIN */
	SQL_OBJ_RELATION,
	SQL_OBJ_FUNCTION,
	SQL_OBJ_OTHER, /* schema, role, database, type, ...: only named */
};

/* One effect on one object. Slices are valid as long as the sql_info. */
struct sql_access {
	uint16_t effect; /* one bit of enum sql_effect */
	uint8_t kind;	 /* enum sql_object_kind */
	struct slice schema; /* empty if the text does not say */
	struct slice name;
};

enum sql_flag {
	SQL_F_ROWS = 1u << 0,	      /* may return rows */
	SQL_F_STAR = 1u << 1,	      /* has `*`, `t.*`, a whole row, or TABLE t */
	SQL_F_CARRIES = 1u << 2,      /* may copy what it reads where no mask follows: CREATE TABLE AS,
					 INSERT ... SELECT, UPDATE from columns, set_config, pg_notify; or
					 changes which column a name means: RENAME, INHERIT */
	SQL_F_COPY_OUT = 1u << 3,     /* COPY ... TO STDOUT */
	SQL_F_COPY_IN = 1u << 4,      /* COPY ... FROM STDIN */
	SQL_F_PREPARE = 1u << 5,      /* PREPARE handle AS ...; accesses are those of the body */
	SQL_F_EXECUTE = 1u << 6,      /* EXECUTE handle: its effect is only session; what runs is in the
					 info of the handle's PREPARE (or Parse) */
	SQL_F_DECLARE = 1u << 7,      /* DECLARE handle CURSOR ... */
	SQL_F_FETCH = 1u << 8,	      /* FETCH handle: its effect is only read; see the DECLARE */
	SQL_F_DEALLOCATE = 1u << 9,   /* DEALLOCATE handle (empty: all), DISCARD ALL */
	SQL_F_USER_FUNCTION = 1u << 10, /* calls a function or operator that is not known to be built in */
	SQL_F_LITERALS = 1u << 11,    /* the meaning depends on literals: holds for this very text, not
					 for all texts of its shape */
	SQL_F_MULTI = 1u << 12,	      /* more than one statement */
	SQL_F_TX_BEGIN = 1u << 13,
	SQL_F_TX_END = 1u << 14,
	SQL_F_EMPTY = 1u << 15,	      /* no statement at all */
	SQL_F_EXPLAIN = 1u << 16,     /* EXPLAIN: what the body would write is read; with ANALYZE, or if
					 that cannot be told, the accesses are those of the body */
	SQL_F_LEXER = 1u << 17,	      /* changes how later text is read (standard_conforming_strings ...) */
	SQL_F_CLOSE = 1u << 19,	      /* CLOSE handle (empty: all) */
	SQL_F_CODE = 1u << 18,	      /* defines code that later statements run unseen, or another way to
					 data: functions, triggers, rules, checked domains, foreign tables */
};

/* A literal of the text that must not be stored, e.g. after PASSWORD. */
struct sql_secret {
	uint32_t off, n; /* bytes in the text, inside the quotes */
};

/* COPY: what the columns of the stream are. */
struct sql_copy {
	bool query;	     /* COPY (query) TO: relation is empty */
	bool binary, csv, header;
	uint8_t delim, quote, escape;
	struct slice null_text;
	struct slice schema, relation;
	struct slice *columns; /* as listed; none: all of the relation, in its order */
	uint16_t ncolumns;
};

struct sql_info {
	uint32_t effects; /* OR of enum sql_effect */
	uint32_t flags;	  /* OR of enum sql_flag */
	uint16_t why;	  /* enum tg_reason if effects has SQL_UNKNOWN */
	uint16_t naccess;
	uint16_t nstatements;
	uint32_t nnames;
	const struct sql_access *access;
	/*
	 * Last part of every column reference, every relation and function
	 * name (lower-cased as the lexer does), sorted, unique: what the
	 * masks look up.
	 */
	const struct slice *names;
	/* Columns of DROP COLUMN: a child may keep one, under a name that is nobody's then. */
	const struct slice *dropped;
	uint32_t ndropped;
	struct slice handle;	    /* of PREPARE, EXECUTE, DECLARE, FETCH, DEALLOCATE */
	const struct sql_copy *copy; /* NULL if not COPY TO STDOUT / FROM STDIN */
	struct slice error;	    /* parser's message if it did not parse */
	uint32_t error_pos;	    /* 1-based byte in the text, 0 if unknown */
	const struct sql_secret *secrets;
	uint16_t nsecrets;
	uint64_t shape; /* hash of the literal-free text; 0: not of one text alone */
};

/* "read", or NULL for a bit out of range. */
const char *sql_effect_name(enum sql_effect_bit bit);
/* The bit for a configuration name ("ddl"), or -1. `any` is not in here. */
int sql_effect_parse(struct slice name);

#endif
