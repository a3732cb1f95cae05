/* SPDX-License-Identifier: MIT */
/*
 * What is said to a PostgreSQL server about roles that live as long as a grant. Pure text. Names and
 * texts are quoted here, and nowhere else.
 */
#ifndef TIDEGATE_DAEMON_ROLE_SQL_H
#define TIDEGATE_DAEMON_ROLE_SQL_H

#include "base/buf.h"
#include "base/compiler.h"

enum { ROLE_NAME_TEXT = 64, ROLE_SQL_MAX = 256 << 10, ROLE_RANDOM = 16 };

struct role_spec {
	const char *role, *verifier, *comment;
	const char *until;	    /* a time as the server has told it */
	const char *database;	    /* for {database} */
	const char *const *grants;  /* as configured */
	uint32_t connections;
	uint32_t server_version;    /* server_version_num */
	bool in_turn;		    /* after others who do such things in this database */
};

/* A name that says whose it is to a person, and that nobody can guess. */
void role_name(const char *agent, const uint8_t random[ROLE_RANDOM], char dst[ROLE_NAME_TEXT]);

/* All of them append; buf_printf()'s and buf_append()'s errors. */
MUST_CHECK int role_sql_ident(struct buf *b, const char *name);
MUST_CHECK int role_sql_literal(struct buf *b, const char *text);
/* One row: server_version_num, and the time @ms from now. */
MUST_CHECK int role_sql_clock(struct buf *b, uint64_t ms);
/* Begins a transaction with the role and all that it may; whoever sends it ends that. */
MUST_CHECK int role_sql_make(struct buf *b, const struct role_spec *r);
MUST_CHECK int role_sql_rekey(struct buf *b, const char *role, const char *verifier);
/*
 * One row: server_version_num, the role's name and its comment, NULL if there is none, and whether
 * @owner (may be NULL) is so mighty that nothing of an agent's making may run as it.
 */
MUST_CHECK int role_sql_look(struct buf *b, const char *role, const char *owner);
/* Nobody logs in as it any more. */
MUST_CHECK int role_sql_shut(struct buf *b, const char *role);
/* What it has is the administrator's to dispose of: a superuser needs no such thing. */
MUST_CHECK int role_sql_join(struct buf *b, const char *role, uint32_t server_version);
/* Ends its sessions; @wait: until they are gone. */
MUST_CHECK int role_sql_terminate(struct buf *b, const char *role, bool wait, uint32_t server_version);
/* Rows: databases in which something is the role's, or granted to it. */
MUST_CHECK int role_sql_databases(struct buf *b, const char *role);
/* One row, or none: what of the role's in this database would run with the rights of its next owner. */
MUST_CHECK int role_sql_code(struct buf *b, const char *role);
/* Takes back what GRANT statement @grant has given; nothing if it is a role's name. */
MUST_CHECK int role_sql_revoke(struct buf *b, const char *role, const char *database, const char *grant,
			       bool in_turn);
/* What it has in this database goes to @owner (NULL: who says it), or is dropped. */
MUST_CHECK int role_sql_disown(struct buf *b, const char *role, const char *owner, bool drop,
			       bool in_turn);
MUST_CHECK int role_sql_drop(struct buf *b, const char *role, const char *owner, bool drop, bool in_turn);
/* Rows: roles whose comment begins with @marker. */
MUST_CHECK int role_sql_left(struct buf *b, const char *marker);

#endif
