/* SPDX-License-Identifier: MIT */
/*
 * A recording through the inspector again: the client's bytes, the server's as the client got
 * them, and the answers that stand in the recording. The inspector must take both streams, ask
 * the same questions in the same order, report the same results and errors, and put the
 * same bytes of its own in the same places. What masks did cannot happen twice, so it is
 * not asked for: plans and counts in the recording explain it. tidegate-recording(5), REPLAY.
 */
#ifndef TIDEGATE_CTL_RERUN_H
#define TIDEGATE_CTL_RERUN_H

#include "base/compiler.h"
#include "record/reader.h"

struct sql; /* inspect/sql/sql.h */
struct rerun;

struct rerun_counts {
	uint64_t statements, results, errors;
	uint64_t client_bytes, server_bytes;
	uint64_t own_bytes; /* of the server's: made by the inspector, in the server's place */
	bool ended;	    /* the end record was there */
};

/* @sql must outlive it. NULL: no memory. */
struct rerun *rerun_new(struct sql *sql);
void rerun_free(struct rerun *r);
/*
 * The next record. 0; -EBADMSG: what the inspector does is not what is recorded, see
 * rerun_why(); -ENOTSUP: a protocol or a version that cannot be run again; -ENOMEM.
 */
MUST_CHECK int rerun_record(struct rerun *r, const struct reader_record *rec);
/* Behind the last record: nothing that was recorded may be missing. As above. */
MUST_CHECK int rerun_end(struct rerun *r, struct rerun_counts *ret);
const char *rerun_why(const struct rerun *r);

#endif
