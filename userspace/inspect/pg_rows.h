/* SPDX-License-Identifier: MIT */
/* Part of a flow's state: the rows that come from the server now (pg_rows.c, pg_stream.c). */
#ifndef TIDEGATE_INSPECT_PG_ROWS_H
#define TIDEGATE_INSPECT_PG_ROWS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"

struct pg_desc;

struct pg_acol {
	uint8_t act;
	bool binary;
};

/* The rows that come now. */
struct pg_rows {
	struct pg_desc *desc; /* referenced; NULL: rows pass */
	struct pg_acol *col;
	uint32_t cap, last; /* columns from @last on need nothing */
	uint32_t plan;	    /* insp_shape.id, till its result ends */
	uint32_t detectors; /* a row over the cap, value by value */
	uint64_t values, hits, over_cap;
	uint32_t fill_col;
	size_t fill_left;	/* bytes of the value */
	size_t fill_at;		/* offset in the value */
	struct buf hold, plain; /* a value that is scanned whole; bytes of bytea values */
	uint8_t fill_kind, stage;
	bool fill_hex;
	uint8_t part_n, part[4]; /* of a length that was cut */
};

#endif
