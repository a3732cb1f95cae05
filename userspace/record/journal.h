/* SPDX-License-Identifier: MIT */
/*
 * Writing recordings. Each worker has one preallocated, file-backed, shared
 * mapping: the journal. It holds the tails of its sessions, uncompressed. An
 * event is in the journal before the bytes that it describes go on, at the
 * price of a memcpy: the page cache keeps it when the process is killed. Full
 * or idle tails become zstd frames in the session's own file.
 *
 * Files are opened by somebody else (the parent): when a tail must go to a
 * file, need_file() asks for it and journal_file() brings it.
 */
#ifndef TIDEGATE_RECORD_JOURNAL_H
#define TIDEGATE_RECORD_JOURNAL_H

#include "base/compiler.h"
#include "base/ident.h"
#include "base/slice.h"
#include "tidegate_rec.h"

struct journal;
struct rec; /* the recording of one session */

struct journal_ops {
	/* The file of @session is wanted; journal_file() is to be called, now or later. */
	void (*need_file)(void *ctx, const struct uuid *session);
	/* Space in the journal is free again after -EAGAIN. */
	void (*writable)(void *ctx);
	/* The recording of @session failed for good (disk full, I/O error). */
	void (*failed)(void *ctx, const struct uuid *session, int error);
};

struct journal_stats {
	uint64_t records, bytes, frames, stored_bytes, syncs, failed;
	uint32_t slots, slots_used, open_files;
};

/*
 * Takes over @fd (read-write, at least one slot long). What a former process
 * left in it is kept until journal_recover().
 */
MUST_CHECK int journal_new(int fd, const struct journal_ops *ops, void *ctx, struct journal **ret);
void journal_free(struct journal *j);
/*
 * Tails that a dead process left: asks for their files, appends them and marks the
 * sessions as ended by @reason. Returns how many sessions, or negative errno.
 */
MUST_CHECK int journal_recover(struct journal *j, uint16_t reason);

/* The file that was asked for, append position anywhere; -1: cannot be had (errno in @error). */
void journal_file(struct journal *j, const struct uuid *session, int fd, int error);

/* Begins a recording; the header record is in the journal when this returns 0. */
MUST_CHECK int rec_new(struct journal *j, const struct uuid *session, struct slice header_json,
		       struct rec **ret);
/*
 * One record: the parts are joined. 0 when it is in the journal; -EAGAIN: all
 * slots wait for the disk, try again at writable() (nothing was written);
 * other errors: the recording is lost and the session must not go on if recording is
 * required. Large records are split over frames and joined by the reader.
 */
MUST_CHECK int rec_put(struct rec *r, enum tg_rec_type type, uint64_t wall_ns,
		       const struct slice *parts, unsigned nparts);
/*
 * As rec_put() with one part of @n bytes that the caller fills before the next
 * call, so that data can be copied and redacted in place. NULL with *ret_error
 * as above. @n <= TG_REC_CHUNK.
 */
MUST_CHECK uint8_t *rec_reserve(struct rec *r, enum tg_rec_type type, uint64_t wall_ns, size_t n,
				int *ret_error);
/* Counts the reserved record in. */
void rec_commit(struct rec *r);
/* Writes the end record with @reason; the rest reaches the file by itself; frees @r. */
void rec_close(struct rec *r, uint64_t wall_ns, uint16_t reason);
/* The tail has been idle: make it a frame. */
void journal_idle(struct journal *j, uint64_t now_boot_ns, uint64_t idle_ns);
/* Compresses and writes at most @frames pending frames; true if more are pending. */
bool journal_work(struct journal *j, unsigned frames);
/* All tails to their files, for a clean exit; files that are missing stay in the journal. */
void journal_drain(struct journal *j);
/* Blocks until all that is in the journal is on the disk (fdatasync); may run in a thread. */
MUST_CHECK int journal_sync(struct journal *j);
void journal_get_stats(const struct journal *j, struct journal_stats *ret);

#endif
