/* SPDX-License-Identifier: MIT */
#ifndef TIDEGATE_INSPECT_INSP_OUT_H
#define TIDEGATE_INSPECT_INSP_OUT_H

#include "base/buf.h"
#include "base/slice.h"

/*
 * Output of one direction during one call: ranges of the input that pass
 * unchanged and bytes that were made. Short passing ranges behind made bytes
 * are copied, so that a masked result does not become thousands of ranges.
 */
struct insp_seg {
	const uint8_t *p; /* into the input; NULL: made bytes at @off of made */
	size_t off, n;
};

struct insp_out {
	struct insp_seg *seg;
	uint32_t nseg, cap;
	size_t bytes; /* sum of all segments */
	struct buf made;
	bool failed; /* no memory or over made.max: the host ends the flow */
};

void insp_out_init(struct insp_out *o, size_t max_made);
void insp_out_done(struct insp_out *o);
void insp_out_reset(struct insp_out *o);
/* @s lies in the input of the current feed(). */
void insp_out_pass(struct insp_out *o, struct slice s);
void insp_out_copy(struct insp_out *o, struct slice s);
/* Room for @n made bytes, all of which count at once; NULL if failed. */
uint8_t *insp_out_make(struct insp_out *o, size_t n);
/* Takes back the last @n bytes, which were made last. */
void insp_out_trim(struct insp_out *o, size_t n);
/* Where segment @i starts; valid until the next change of @o. */
const uint8_t *insp_out_ptr(const struct insp_out *o, uint32_t i);

#endif
