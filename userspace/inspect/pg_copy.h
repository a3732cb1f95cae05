/* SPDX-License-Identifier: MIT */
/* State of a COPY TO STDOUT under masks; shared by pg_copy.c and pg_copy_fill.c only. */
#ifndef TIDEGATE_INSPECT_PG_COPY_H
#define TIDEGATE_INSPECT_PG_COPY_H

#include "inspect/pg.h"

struct pg_copy_field {
	struct slice raw; /* as in the stream; binary NULL: no pointer */
	uint32_t value;	  /* its place among the values for the host */
	uint32_t conv;	  /* from 1: its room in conv */
	uint8_t act;
	bool new, over;
};

/* Where a stream of rows over the cap stands. */
struct pg_fill {
	uint32_t col;
	uint32_t left; /* binary: bytes of the value */
	uint8_t stage, part_n;
	uint8_t part[4];
	bool escaped, quoted, inside, counted;
};

struct pg_copy {
	struct pg_desc *desc;
	bool known; /* the layout of the stream */
	bool binary, csv, header;
	bool past_head; /* the header line, or the binary head */
	bool fill;	/* in the middle of a row that was too long */
	uint8_t delim, quote, escape, null_n;
	uint8_t null_text[64];
	struct buf part;  /* start of a row */
	struct buf work;  /* rows as they go on */
	struct buf plain; /* values without quotes and escapes */
	struct pg_copy_field *field;
	struct insp_value *value;
	char *conv; /* texts of values that have to be rendered */
	bool bytea; /* some are decoded */
	struct pg_fill at;
};

/* A CopyData message of ours. */
void pg_copy_put(struct pg *st, struct slice payload);
/* A message that is, with what is waiting, longer than a row may be. */
enum pg_step pg_copy_fill(struct pg *st, const struct pg_msg *m);

#endif
