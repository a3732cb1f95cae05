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
 *
 * What was put is never dropped: when a file cannot be written, its tails stay
 * in their slots and are tried again from journal_idle() and after a restart.
 *
 * Callbacks come only from journal_work(), journal_drain(), journal_recover(),
 * journal_adopt() and journal_idle(), never from inside rec_*() or journal_file();
 * they may call any function of this file except journal_free(), journal_work() and
 * journal_drain(). Everything but journal_sync() belongs to one thread.
 */
#ifndef TIDEGATE_RECORD_JOURNAL_H
#define TIDEGATE_RECORD_JOURNAL_H

#include "base/compiler.h"
#include "base/ident.h"
#include "base/slice.h"
#include "tidegate_rec.h"

struct journal;
struct rec; /* the recording of one session */

/* Room in the journal for one tail, and for the names of 16 sessions without one. */
enum { JOURNAL_SLOT_BYTES = 17 * 4096 + 512 };

struct journal_ops {
	/* The file of @session is wanted; journal_file() is to be called, now or later. */
	void (*need_file)(void *ctx, const struct uuid *session);
	/* Space in the journal is free again after -EAGAIN. */
	void (*writable)(void *ctx);
	/*
	 * The recording of @session failed for good (disk full, I/O error): once per
	 * session, @error is a negative errno. rec_put() returns it from now on;
	 * rec_close() is still due.
	 */
	void (*failed)(void *ctx, const struct uuid *session, int error);
};

struct journal_stats {
	uint64_t records, bytes, frames, stored_bytes, syncs, failed;
	uint64_t refused;   /* records that rec_put() refused with -EAGAIN */
	uint64_t recovered; /* sessions of a dead process that were completed */
	uint64_t lost;	    /* slots or slot ends that power loss had damaged */
	uint32_t slots, slots_used, open_files;
	uint32_t stuck; /* sessions whose file cannot be written now */
	uint32_t dead;	/* sessions of a dead process that are not complete yet */
};

/*
 * Takes over @fd (read-write, at least one slot long, not append-only), on
 * success only. Allocates the file's blocks, so that writing to the mapping cannot fail
 * later: -ENOSPC if that is impossible. What a former process left in it is kept until
 * journal_recover(). -EINVAL: not a regular file, or too short.
 */
MUST_CHECK int journal_new(int fd, const struct journal_ops *ops, void *ctx, struct journal **ret);
void journal_free(struct journal *j);
/*
 * For durability `disk`: a slot is used again only when its frame is on the disk, not
 * merely in the page cache, so that what journal_sync() promised stays true.
 * Someone must call journal_sync() regularly then. Default: off.
 */
void journal_set_durable(struct journal *j, bool on);
/*
 * Sessions that a dead process left: asks for their files, appends the tails that are in
 * the journal and marks them as ended by @reason, also those that had no tail. Returns
 * how many sessions, or negative errno.
 */
MUST_CHECK int journal_recover(struct journal *j, uint16_t reason);
/*
 * The same for a session whose journal is lost. -EEXIST if it is known here. A file that
 * is finished already is left as it is.
 */
MUST_CHECK int journal_adopt(struct journal *j, const struct uuid *session, uint16_t reason);

/*
 * The file that was asked for (read-write, not O_APPEND, position anywhere), which the
 * journal owns from now on; -1: cannot be had (errno in @error). May also be given unasked
 * once rec_new() has returned, which saves the question.
 */
void journal_file(struct journal *j, const struct uuid *session, int fd, int error);

/*
 * Begins a recording; the header record is in the journal when this returns 0.
 * -EAGAIN as for rec_put(); -ENOSPC and the like while the disk is known to be full;
 * -EEXIST: the session has a recording here.
 */
MUST_CHECK int rec_new(struct journal *j, const struct uuid *session, struct slice header_json,
		       struct rec **ret);
/*
 * One record: the parts are joined. 0 when it is in the journal; -EAGAIN: all
 * slots wait for the disk, try again at writable() (nothing was written);
 * -EMSGSIZE: larger than TG_REC_JOINED_MAX or the whole journal; other errors: the recording is
 * lost and the session must not go on if recording is required. Large records are split over frames
 * and joined by the reader. TG_REC_HEADER and TG_REC_END are not put by hand.
 */
MUST_CHECK int rec_put(struct rec *r, enum tg_rec_type type, uint64_t wall_ns,
		       const struct slice *parts, unsigned nparts);
/*
 * As rec_put() with one part of @n bytes that the caller fills before rec_commit(),
 * so that data can be copied and redacted in place. Without a rec_commit() the next
 * call for @r gives the record up. NULL with *ret_error as above. @n <= TG_REC_CHUNK.
 */
MUST_CHECK uint8_t *rec_reserve(struct rec *r, enum tg_rec_type type, uint64_t wall_ns, size_t n,
				int *ret_error);
/* Counts the reserved record in. */
void rec_commit(struct rec *r);
/* Writes the end record with @reason; the rest reaches the file by itself; frees @r. */
void rec_close(struct rec *r, uint64_t wall_ns, uint16_t reason);

/* To be called every second or so: tails that were idle for @idle_ns become frames. */
void journal_idle(struct journal *j, uint64_t now_boot_ns, uint64_t idle_ns);
/*
 * Compresses and writes at most @frames pending frames; true if more could be written
 * now. To be called once per turn of the event loop, when it costs nothing if there is
 * nothing to do.
 */
bool journal_work(struct journal *j, unsigned frames);
/* All tails to their files, for a clean exit; those whose file is missing stay. */
void journal_drain(struct journal *j);
/*
 * Many slots wait for journal_sync(), see journal_set_durable(): when they run out,
 * journal_work() calls it itself, and blocks.
 */
bool journal_wants_sync(const struct journal *j);
/* Blocks until all that is in the journal is on the disk (fdatasync); may run in a thread. */
MUST_CHECK int journal_sync(struct journal *j);
void journal_get_stats(const struct journal *j, struct journal_stats *ret);
/* Every recording is whole in its file: the process may end, and nobody has to go on. */
bool journal_empty(const struct journal *j);
/* Slots that are free now. */
uint32_t journal_room(const struct journal *j);

#endif
