/* SPDX-License-Identifier: MIT */
#include "record/reader.h"

#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "record/frame.h"

struct reader {
	int fd;
	uint64_t size;
	ZSTD_DCtx *dctx;
	struct hasher hasher;
	uint8_t *stored, *raw;

	/* The frame that is being read. */
	struct tg_rec_frame head;
	uint64_t off;	 /* of the next frame */
	uint64_t seq;	 /* it should have this number */
	uint64_t frame;	 /* number of the one in raw */
	uint32_t pos, n; /* in raw */
	bool chained;	 /* head.hash is that of the frame before `off` */
	struct uuid session;

	/* A record that is being joined. */
	struct buf joined;
	struct reader_record open;
	bool joining;

	struct buf index; /* uint64_t offsets of frames */
	uint64_t indexed; /* the file is in the index up to here */
	uint64_t index_raw_bytes;
	bool finished;
	struct reader_fault fault;
};

static uint64_t index_count(const struct reader *r)
{
	return r->index.n / sizeof(uint64_t);
}

static uint64_t index_at(const struct reader *r, uint64_t i)
{
	uint64_t off;

	memcpy(&off, buf_data(&r->index) + i * sizeof(off), sizeof(off));
	return off;
}

static int fault(struct reader *r, uint64_t frame, uint64_t off, const char *what)
{
	r->fault = (struct reader_fault){.frame = frame, .offset = off, .what = what};
	return -EBADMSG;
}

const struct reader_fault *reader_fault(const struct reader *r)
{
	return &r->fault;
}

static int refresh_size(struct reader *r)
{
	struct stat st;

	if (fstat(r->fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	r->size = (uint64_t)st.st_size;
	return 0;
}

int reader_new(int fd, struct reader **ret)
{
	struct reader *r = calloc(1, sizeof(*r));
	struct tg_rec_frame head;
	enum frame_kind kind;
	uint64_t next;
	int err = -ENOMEM;

	if (!r)
		return -ENOMEM;
	r->fd = -1;
	buf_init(&r->joined, TG_REC_JOINED_MAX);
	buf_init(&r->index, (size_t)1 << 32);
	r->dctx = ZSTD_createDCtx();
	r->stored = malloc(ZSTD_compressBound(TG_REC_FRAME_MAX));
	r->raw = malloc(TG_REC_FRAME_MAX);
	if (hasher_init(&r->hasher) || !r->dctx || !r->stored || !r->raw)
		goto out;
	r->fd = fd;
	err = refresh_size(r);
	if (err)
		goto out;
	kind = frame_peek(fd, 0, r->size, &head, &next);
	err = kind == FRAME_RECORDS			? 0
	      : kind == FRAME_EOF || kind == FRAME_TORN ? -ENODATA
	      : kind == FRAME_IO			? -EIO
							: -EBADMSG;
	if (err)
		goto out;
	memcpy(r->session.b, head.session, sizeof(r->session.b));
	r->chained = true; /* the first frame follows a hash of zeros */
	*ret = r;
	return 0;
out:
	r->fd = -1; /* the caller's still */
	reader_free(r);
	return err;
}

void reader_free(struct reader *r)
{
	if (!r)
		return;
	if (r->fd >= 0)
		(void)close(r->fd);
	hasher_done(&r->hasher);
	(void)ZSTD_freeDCtx(r->dctx);
	buf_done(&r->joined);
	buf_done(&r->index);
	free(r->stored);
	free(r->raw);
	free(r);
}

/* ------------------------------------------------------------ the frames */

/* Is the frame the one that should be here? NULL, or what is wrong. */
static const char *check_place(struct reader *r, const struct tg_rec_frame *head)
{
	if (head->seq != r->seq)
		return "is missing, or another one stands in its place";
	if (r->chained && memcmp(head->previous, r->head.hash, sizeof(head->previous)) != 0)
		return "does not follow the frame before it";
	return NULL;
}

/* 1: a frame is in raw, 0: end of what is there, or negative errno. */
static int next_frame(struct reader *r)
{
	struct tg_rec_frame head;
	uint64_t off = r->off, next = 0, seq = r->seq;
	const char *what = NULL, *place;
	enum frame_kind kind = frame_peek(r->fd, off, r->size, &head, &next);
	int err;

	if (kind == FRAME_EOF || kind == FRAME_TORN) {
		err = refresh_size(r);
		if (err)
			return err;
		kind = frame_peek(r->fd, off, r->size, &head, &next);
	}
	switch (kind) {
	case FRAME_EOF:
	case FRAME_TORN:
	case FRAME_TABLE:
		return 0;
	case FRAME_IO:
		return -EIO;
	case FRAME_BAD:
		r->off = r->size; /* nobody knows where the next one begins */
		return fault(r, r->seq, off, "is not a frame of a recording");
	case FRAME_RECORDS:
		break;
	}
	if (memcmp(head.session, r->session.b, sizeof(head.session)) != 0) {
		r->off = next;
		r->chained = false;
		return fault(r, seq, off, "belongs to another session");
	}
	place = check_place(r, &head);
	err = frame_load(r->fd, off, &head, r->dctx, &r->hasher, r->stored, r->raw, &what);
	r->head = head;
	r->seq = head.seq + 1;
	r->off = next;
	r->chained = true;
	if (err == -EBADMSG)
		return fault(r, seq, off, what);
	if (err)
		return err;
	r->frame = head.seq;
	r->pos = 0;
	r->n = head.raw_bytes;
	/* What it holds is whole: it comes with the next call. */
	if (place)
		return fault(r, seq, off, place);
	return 1;
}

/* ----------------------------------------------------------- the records */

static int bad_record(struct reader *r, const char *what)
{
	r->pos = r->n = 0;
	r->joining = false;
	return fault(r, r->frame, r->off - FRAME_HEAD - r->head.stored_bytes, what);
}

/* The part at pos, which stays where it is. */
static int peek_part(struct reader *r, struct tg_rec_head *ret)
{
	uint32_t left = r->n - r->pos;

	if (left < sizeof(*ret))
		return bad_record(r, "ends inside of a record's head");
	memcpy(ret, r->raw + r->pos, sizeof(*ret));
	if (ret->len > left - sizeof(*ret))
		return bad_record(r, "ends inside of a record");
	if (!ret->type || ret->type >= TG_REC_TYPES)
		return bad_record(r, "holds a record of unknown type");
	if (ret->flags & ~TG_REC_F_MORE)
		return bad_record(r, "holds a record with unknown flags");
	return 0;
}

/* The record that is being joined, which lacks its rest. */
static int give_incomplete(struct reader *r, struct reader_record *ret)
{
	r->joining = false;
	*ret = r->open;
	ret->payload = buf_slice(&r->joined);
	ret->incomplete = true;
	return 1;
}

static int join(struct reader *r, const struct tg_rec_head *head, struct slice payload,
		struct reader_record *ret)
{
	int err;

	if (!r->joining) {
		r->open = (struct reader_record){
			.type = head->type, .wall_ns = head->wall_ns, .frame = r->frame};
		buf_reset(&r->joined);
		r->joining = true;
	}
	err = buf_append_slice(&r->joined, payload);
	if (err == -EMSGSIZE)
		return bad_record(r, "holds a record that is too long");
	if (err || head->flags & TG_REC_F_MORE)
		return err;
	r->joining = false;
	*ret = r->open;
	ret->payload = buf_slice(&r->joined);
	return 1;
}

int reader_next(struct reader *r, struct reader_record *ret)
{
	for (;;) {
		struct tg_rec_head head;
		struct slice payload;
		int err;

		if (r->pos == r->n) {
			err = next_frame(r);
			if (err == 0 && r->joining)
				return give_incomplete(r, ret);
			if (err < 0)
				r->joining = false;
			if (err <= 0)
				return err;
		}
		err = peek_part(r, &head);
		if (err)
			return err;
		if (r->joining && head.type != r->open.type)
			return give_incomplete(r, ret);
		payload = slice_of(r->raw + r->pos + sizeof(head), head.len);
		r->pos += (uint32_t)sizeof(head) + head.len;
		if (r->joining || head.flags & TG_REC_F_MORE) {
			err = join(r, &head, payload, ret);
			if (err)
				return err;
			continue;
		}
		*ret = (struct reader_record){.type = head.type,
					      .wall_ns = head.wall_ns,
					      .frame = r->frame,
					      .payload = payload};
		return 1;
	}
}

/* ------------------------------------------------------------- the index */

static int index_add(struct reader *r, uint64_t off, uint32_t raw_bytes)
{
	r->index_raw_bytes += raw_bytes;
	return buf_append(&r->index, &off, sizeof(off));
}

static void index_reset(struct reader *r)
{
	buf_reset(&r->index);
	r->indexed = r->index_raw_bytes = 0;
}

/* Entries of @n bytes at @at. 0, or -EBADMSG if they do not lead from @*off to where they should.
 */
static int index_entries(struct reader *r, uint64_t at, uint64_t n, uint64_t end)
{
	uint32_t block[1024];
	uint64_t off = 0;

	while (n) {
		size_t take = min_size(n, sizeof(block));
		int err = read_all_at(r->fd, block, take, at);

		if (err)
			return err;
		for (size_t i = 0; i < take / sizeof(*block); i += 4) {
			if (block[i] != FRAME_HEAD || block[i + 1] || !block[i + 2])
				return -EBADMSG;
			err = index_add(r, off, block[i + 3]);
			if (err)
				return err;
			off += FRAME_HEAD + (uint64_t)block[i + 2];
			if (off > end)
				return -EBADMSG;
		}
		at += take;
		n -= take;
	}
	r->indexed = end;
	return off == end ? 0 : -EBADMSG;
}

/* 0 if the file ends with a good table and the index was made from it. */
static int index_by_table(struct reader *r)
{
	uint8_t footer[FRAME_TABLE_FOOTER];
	struct tg_rec_frame head;
	uint64_t bytes, next, at;
	uint32_t n;

	if (r->size < FRAME_TABLE_FOOTER + FRAME_SKIP_HEAD ||
	    read_all_at(r->fd, footer, sizeof(footer), r->size - sizeof(footer)))
		return -EBADMSG;
	memcpy(&n, footer, 4);
	bytes = FRAME_SKIP_HEAD + (uint64_t)n * FRAME_TABLE_ENTRY + FRAME_TABLE_FOOTER;
	if (n % 2 || bytes > r->size)
		return -EBADMSG;
	at = r->size - bytes;
	if (frame_peek(r->fd, at, r->size, &head, &next) != FRAME_TABLE || next != r->size)
		return -EBADMSG;
	index_reset(r);
	return index_entries(r, at + FRAME_SKIP_HEAD, (uint64_t)n * FRAME_TABLE_ENTRY, at);
}

static int index_by_walk(struct reader *r)
{
	struct tg_rec_frame head;
	enum frame_kind kind;
	uint64_t next;
	int err;

	while ((kind = frame_peek(r->fd, r->indexed, r->size, &head, &next)) == FRAME_RECORDS) {
		err = index_add(r, r->indexed, head.raw_bytes);
		if (err)
			return err;
		r->indexed = next;
	}
	r->finished = kind == FRAME_TABLE;
	return kind == FRAME_IO ? -EIO : 0;
}

static int index_update(struct reader *r)
{
	int err;

	if (r->finished)
		return 0;
	err = refresh_size(r);
	if (err)
		return err;
	err = index_by_table(r);
	if (err == 0) {
		r->finished = true;
		return 0;
	}
	if (err != -EBADMSG)
		return err;
	index_reset(r);
	return index_by_walk(r);
}

int reader_get_info(struct reader *r, struct reader_info *ret)
{
	struct tg_rec_frame head;
	uint64_t next;
	int err = index_update(r);

	if (err)
		return err;
	if (frame_peek(r->fd, 0, r->size, &head, &next) != FRAME_RECORDS)
		return -EBADMSG;
	*ret = (struct reader_info){
		.session = r->session,
		.size = r->size,
		.frames = index_count(r),
		.raw_bytes = r->index_raw_bytes,
		.torn_bytes = r->finished ? 0 : r->size - r->indexed,
		.first_wall_ns = head.first_wall_ns,
		.finished = r->finished,
	};
	return 0;
}

static void go_to(struct reader *r, uint64_t seq)
{
	r->off = index_at(r, seq);
	r->seq = seq;
	r->pos = r->n = 0;
	r->joining = false;
	r->chained = seq == 0; /* what stands before has not been read */
	memset(r->head.hash, 0, sizeof(r->head.hash));
}

int reader_seek(struct reader *r, uint64_t seq)
{
	int err = index_update(r);

	if (err)
		return err;
	if (seq >= index_count(r))
		return -ERANGE;
	go_to(r, seq);
	return 0;
}

int reader_seek_time(struct reader *r, uint64_t wall_ns)
{
	int err = index_update(r);
	uint64_t low = 0, high;

	if (err)
		return err;
	high = index_count(r);
	while (high - low > 1) {
		uint64_t mid = low + (high - low) / 2, next;
		struct tg_rec_frame head;

		if (frame_peek(r->fd, index_at(r, mid), r->size, &head, &next) != FRAME_RECORDS)
			return fault(r, mid, index_at(r, mid), "is not a frame of a recording");
		if (head.first_wall_ns <= wall_ns)
			low = mid;
		else
			high = mid;
	}
	return reader_seek(r, low);
}

/* ------------------------------------------------------------- the types */

static const struct {
	const char *name;
	bool json;
} types[TG_REC_TYPES] = {
	[TG_REC_HEADER] = {"header", true},   [TG_REC_CLIENT] = {"client", false},
	[TG_REC_SERVER] = {"server", false},  [TG_REC_COMMAND] = {"command", true},
	[TG_REC_EXECUTE] = {"execute", true}, [TG_REC_RESULT] = {"result", true},
	[TG_REC_MASKED] = {"masked", true},   [TG_REC_DECISION] = {"decision", true},
	[TG_REC_ERROR] = {"error", true},     [TG_REC_STATE] = {"state", true},
	[TG_REC_FACT] = {"fact", true},	      [TG_REC_END] = {"end", true},
};

const char *reader_type_name(uint32_t type)
{
	return type < TG_REC_TYPES && types[type].name ? types[type].name : "unknown";
}

bool reader_type_is_json(uint32_t type)
{
	return type < TG_REC_TYPES && types[type].json;
}

struct slice reader_json(const struct reader_record *rec)
{
	if (!reader_type_is_json(rec->type))
		return slice_of(NULL, 0);
	if (rec->type != TG_REC_HEADER)
		return rec->payload;
	if (rec->payload.n < TG_REC_MAGIC_BYTES ||
	    memcmp(rec->payload.p, TG_REC_MAGIC, TG_REC_MAGIC_BYTES) != 0)
		return slice_of(NULL, 0);
	return slice_from(rec->payload, TG_REC_MAGIC_BYTES);
}
