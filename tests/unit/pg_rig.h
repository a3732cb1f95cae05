/* SPDX-License-Identifier: MIT */
/*
 * A host for the PostgreSQL inspector without sockets: bytes go in cut as the
 * test says, outputs and a line per event come out. Its policy is fixed:
 *
 *   a text with DENIED is denied, with WAITING waits until rig->release is set (then
 *   allowed, or denied if rig->release < 0), with LATER is asked about at Execute,
 *   with LATER WAITING is held there; database "nobody" is denied
 *   column 2 of table 1000 and COPY columns named "secret" are masked
 *   (rig->how), every column is scanned; a hit is "@" (e-mail) or "4111" (card)
 *   columns without an origin are masked if the statement names "secret" or is unknown
 */
#ifndef TIDEGATE_TESTS_PG_RIG_H
#define TIDEGATE_TESTS_PG_RIG_H

#include "base/buf.h"
#include "inspect/inspect.h"
#include "inspect/sql/sql.h"

struct rig {
	struct insp_env env;
	struct arena arena;
	struct insp_out out[2];
	struct buf scratch;
	void *state;
	struct buf in[2];     /* not used yet */
	struct buf got[2];    /* what was sent, by enum insp_to */
	struct buf lines[2];  /* events, by enum insp_dir of the feed */
	struct buf secrets;
	enum insp_dir now;
	enum insp_status status; /* the last that was not MORE */
	uint16_t why;
	bool eof[2];
	bool exact; /* inputs end at a guard page */
	int release;
	int wait_columns; /* that many columns() calls are answered WAIT first */
	const char *login_as; /* the login is the inspector's */
	int wait_login;	      /* that many of its questions are answered WAIT first */
	bool no_clear_text;
	uint8_t how;
	uint32_t detectors; /* beside the usual */
	const uint32_t *copy_types;
	bool hide_texts;
	uint32_t mask_calls, masked_values, column_calls;
	uint32_t settled;
	bool tainted; /* what columns() was told last */
	size_t peak; /* of unused input */
};

/* @sql is shared by many rigs. */
void rig_init(struct rig *r, struct sql *sql, bool masking);
void rig_done(struct rig *r);
/* For a group of tests: one classifier that all its rigs share. */
extern struct sql *rig_sql;
int rig_setup(void **state);
int rig_teardown(void **state);
/* A rig of rig_sql that has logged in with a password, and a buffer. Events are kept, bytes are not. */
void rig_login(struct rig *r, bool masking, struct buf *b);
void rig_logout(struct rig *r, struct buf *b);
/* rig_feed() of all of @b, which is emptied. */
void rig_send(struct rig *r, enum insp_dir dir, struct buf *b);
/* New bytes of one direction; both are then fed until nothing moves. */
void rig_feed(struct rig *r, enum insp_dir dir, struct slice s);
/* Feeds again what waits. */
void rig_again(struct rig *r);
void rig_close(struct rig *r, enum insp_dir dir);

/* Messages. */
void msg_add(struct buf *b, uint8_t type, struct slice body);
void msg_str(struct buf *b, uint8_t type, const char *s); /* a body of one C string */
void msg_startup(struct buf *b, const char *user, const char *database);
void msg_parse(struct buf *b, const char *name, const char *text);
void msg_bind(struct buf *b, const char *portal, const char *name, const char *value, int format);
void msg_target(struct buf *b, uint8_t type, char kind, const char *name);
void msg_execute(struct buf *b, const char *portal);
void msg_empty(struct buf *b, uint8_t type);
void msg_ready(struct buf *b, char status);
void msg_error(struct buf *b, const char *severity, const char *code, const char *message,
	       const char *detail);
/* "name:table:attnum:type[:b]" for each column. */
void msg_rows(struct buf *b, const char *const *cols);
/* Text values; NULL in the middle is given as "\1". */
void msg_row(struct buf *b, const char *const *values);
/* A row of one value of any bytes. */
void msg_row1(struct buf *b, struct slice v);
/* Everything from the server that ends a login. */
void msg_login_ok(struct buf *b);
/* "Q(SELECT 1) S" and so on: types, and what is readable of the bodies. */
void msg_dump(struct slice s, struct buf *b);

#endif
