/* SPDX-License-Identifier: MIT */
/*
 * Reading a recording, finished or still being written. Records that were
 * split are joined. A file that ends in the middle of a frame is not an error: the
 * session runs, or died and was not recovered yet. Anything else that is not as
 * written is one, and named by frame and offset.
 */
#ifndef TIDEGATE_RECORD_READER_H
#define TIDEGATE_RECORD_READER_H

#include "base/compiler.h"
#include "base/ident.h"
#include "base/slice.h"
#include "tidegate_rec.h"

struct reader;

struct reader_record {
	enum tg_rec_type type;
	uint64_t wall_ns; /* of its first part */
	uint64_t frame;	  /* where it begins */
	struct slice payload;
	bool incomplete; /* the writer died before the rest of it was put */
};

struct reader_info {
	struct uuid session;
	uint64_t size;
	uint64_t frames;
	uint64_t raw_bytes;  /* of records, with their heads */
	uint64_t torn_bytes; /* of an incomplete frame at the end */
	uint64_t first_wall_ns;
	bool finished; /* the seek table is there */
};

/*
 * What is wrong, where: the number that the frame at @offset should have. The text has
 * static lifetime and reads on after "frame N".
 */
struct reader_fault {
	uint64_t frame, offset;
	const char *what;
};

/* Takes over @fd on success. -ENODATA: no whole frame; -EBADMSG: not a recording. */
MUST_CHECK int reader_new(int fd, struct reader **ret);
void reader_free(struct reader *r);

/*
 * The next record, valid until the next call: 1; 0 at the end, which may move if the
 * file grows; -EBADMSG with reader_fault(); or another negative errno. After an error it
 * goes on behind the frame that was wrong.
 */
MUST_CHECK int reader_next(struct reader *r, struct reader_record *ret);
const struct reader_fault *reader_fault(const struct reader *r);

/* By the seek table if there is a good one, else by walking over the heads. */
MUST_CHECK int reader_get_info(struct reader *r, struct reader_info *ret);
/* Goes on with frame @seq; -ERANGE if there is none. */
MUST_CHECK int reader_seek(struct reader *r, uint64_t seq);
/* Goes on with the last frame that begins at or before @wall_ns, else the first. */
MUST_CHECK int reader_seek_time(struct reader *r, uint64_t wall_ns);

/* "command" for TG_REC_COMMAND; "unknown" for what is not in the list. */
const char *reader_type_name(uint32_t type);
/* Is the payload JSON text (after the magic in a header)? */
bool reader_type_is_json(uint32_t type);
/* The JSON text of @rec; empty for the other types and for a header without the magic. */
struct slice reader_json(const struct reader_record *rec);

#endif
