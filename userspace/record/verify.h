/* SPDX-License-Identifier: MIT */
/*
 * Is a recording as it was written? Every frame's hash, its place in the
 * chain, the records in it, the totals at the end and the seek table.
 */
#ifndef TIDEGATE_RECORD_VERIFY_H
#define TIDEGATE_RECORD_VERIFY_H

#include "base/compiler.h"
#include "base/ident.h"
#include "record/reader.h"

struct verify_result {
	struct uuid session;
	uint64_t size;
	uint64_t frames;
	uint64_t records; /* parts of split records count one by one, as in the end record */
	uint64_t bytes;	  /* of payload */
	uint64_t raw_bytes;
	uint64_t missing; /* records that the writer had to refuse, by the end record */
	uint64_t faults;
	uint64_t torn_bytes; /* of an incomplete frame at the end */
	uint8_t hash[32];    /* of the last frame: names the whole content */
	bool ended;	     /* the end record is there */
	bool finished;	     /* ... and the seek table */
	bool recovered;	     /* the end was written after the writer had died */
};

/*
 * Called for each fault; a fault of the file as a whole has @frame VERIFY_FILE.
 * The text reads on after "frame N" or "the file".
 */
#define VERIFY_FILE UINT64_MAX
typedef void verify_fault_fn(void *ctx, const struct reader_fault *fault);

/*
 * A file without a whole frame has no fault: its session may just have begun.
 * @fd stays the caller's. 0: all was looked at (result and faults tell the rest), or
 * negative errno if that was not possible.
 */
MUST_CHECK int verify_file(int fd, verify_fault_fn *on_fault, void *ctx, struct verify_result *ret);

#endif
