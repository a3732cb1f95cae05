/* SPDX-License-Identifier: MIT */
#include "record/verify.h"

#include <errno.h>
#include <jansson.h>
#include <sys/stat.h>

#include "record/frame.h"

struct verifier {
	int fd;
	ZSTD_DCtx *dctx;
	struct hasher hasher;
	uint8_t *stored, *raw;
	struct buf entries; /* of the seek table, as they should be */
	verify_fault_fn *on_fault;
	void *ctx;
	struct verify_result res;
	uint64_t off;  /* of the frame that is looked at */
	bool unread;   /* the content of a frame could not be looked at */
	uint16_t more; /* type of a record that goes on, or 0 */
};

static void fault(struct verifier *v, uint64_t frame, const char *what)
{
	struct reader_fault f = {.frame = frame, .offset = v->off, .what = what};

	v->res.faults++;
	v->on_fault(v->ctx, &f);
}

static void check_header(struct verifier *v, struct slice payload)
{
	struct reader_record rec = {.type = TG_REC_HEADER, .payload = payload};

	if (!reader_json(&rec).n)
		fault(v, 0, "has a header without the magic of this version");
}

static uint64_t member(const json_t *o, const char *name)
{
	const json_t *value = json_object_get(o, name);

	return json_is_integer(value) && json_integer_value(value) >= 0
		       ? (uint64_t)json_integer_value(value)
		       : UINT64_MAX;
}

/* The totals cover all that stands before the end record. */
static void check_end(struct verifier *v, struct slice payload, uint64_t records, uint64_t bytes)
{
	json_t *end = json_loadb((const char *)payload.p, payload.n, JSON_REJECT_DUPLICATES, NULL);

	v->res.ended = true;
	if (!json_is_object(end)) {
		fault(v, v->res.frames, "has an end record that is not a JSON object");
	} else {
		if (member(end, "records") != records)
			fault(v, v->res.frames, "ends with another count of records");
		if (member(end, "bytes") != bytes)
			fault(v, v->res.frames, "ends with another count of bytes");
		v->res.missing = member(end, "missing");
		v->res.recovered = json_is_true(json_object_get(end, "recovered"));
	}
	json_decref(end);
}

/* Checks one record by its place. NULL, or what is wrong. */
static const char *check_record(struct verifier *v, const struct tg_rec_head *head)
{
	uint16_t open = v->more;

	v->more = head->flags & TG_REC_F_MORE ? head->type : 0;
	if (!head->type || head->type >= TG_REC_TYPES)
		return "holds a record of unknown type";
	if (head->flags & ~TG_REC_F_MORE)
		return "holds a record with unknown flags";
	if (head->len > TG_REC_CHUNK)
		return "holds a record that is longer than a chunk";
	if (v->res.ended)
		return "holds a record behind the end record";
	if (v->res.records && head->type == TG_REC_HEADER && open != TG_REC_HEADER)
		return "holds a second header";
	if (!v->res.records && head->type != TG_REC_HEADER)
		return "does not begin with a header";
	return NULL;
}

static void check_records(struct verifier *v, const struct tg_rec_frame *f)
{
	uint32_t off = 0, n = 0;

	while (off < f->raw_bytes) {
		struct tg_rec_head head;
		struct slice payload;
		const char *what;

		if (f->raw_bytes - off < sizeof(head))
			goto cut;
		memcpy(&head, v->raw + off, sizeof(head));
		off += (uint32_t)sizeof(head);
		if (head.len > f->raw_bytes - off)
			goto cut;
		payload = slice_of(v->raw + off, head.len);
		off += head.len;
		what = check_record(v, &head);
		if (what)
			fault(v, v->res.frames, what);
		if (!n++ && head.wall_ns != f->first_wall_ns)
			fault(v, v->res.frames, "begins at another time than its head says");
		if (!v->res.records && head.type == TG_REC_HEADER)
			check_header(v, payload);
		if (head.type == TG_REC_END)
			check_end(v, payload, v->res.records, v->res.bytes);
		v->res.records++;
		v->res.bytes += head.len;
	}
	if (n != f->records)
		fault(v, v->res.frames, "holds another number of records than its head says");
	return;
cut:
	fault(v, v->res.frames, "ends inside of a record");
}

static int check_frame(struct verifier *v, const struct tg_rec_frame *f)
{
	uint32_t pair[4] = {FRAME_HEAD, 0, f->stored_bytes, f->raw_bytes};
	const char *what = NULL;
	int err;

	if (!v->res.frames)
		memcpy(v->res.session.b, f->session, sizeof(f->session));
	err = frame_load(v->fd, v->off, f, v->dctx, &v->hasher, v->stored, v->raw, &what);
	v->unread |= err == -EBADMSG;
	if (err == -EBADMSG)
		fault(v, v->res.frames, what);
	else if (err)
		return err;
	else
		check_records(v, f);
	if (memcmp(f->session, v->res.session.b, sizeof(f->session)) != 0)
		fault(v, v->res.frames, "belongs to another session");
	if (f->seq != v->res.frames)
		fault(v, v->res.frames, "is missing, or another one stands in its place");
	else if (memcmp(f->previous, v->res.hash, sizeof(f->previous)) != 0)
		fault(v, v->res.frames, "does not follow the frame before it");
	memcpy(v->res.hash, f->hash, sizeof(f->hash));
	/* After a gap, the frames that follow are not faults once more. */
	v->res.frames = f->seq >= v->res.frames ? f->seq + 1 : v->res.frames + 1;
	v->res.raw_bytes += f->raw_bytes;
	return buf_append(&v->entries, pair, sizeof(pair));
}

/* The table has as many entries as there are frames, and each is right. */
static int check_table(struct verifier *v, uint64_t end)
{
	uint64_t bytes = end - v->off - FRAME_SKIP_HEAD - FRAME_TABLE_FOOTER, done = 0;
	uint32_t n = (uint32_t)(v->entries.n / FRAME_TABLE_ENTRY), got;
	uint8_t footer[FRAME_TABLE_FOOTER], block[4096];
	int err = read_all_at(v->fd, footer, sizeof(footer), end - sizeof(footer));

	if (err)
		return err;
	v->res.finished = true;
	memcpy(&got, footer, sizeof(got));
	if (got != n || bytes != v->entries.n || footer[4]) {
		fault(v, VERIFY_FILE, "has a seek table for another number of frames");
		return 0;
	}
	while (done < bytes) {
		size_t take = min_size(bytes - done, sizeof(block));

		err = read_all_at(v->fd, block, take, v->off + FRAME_SKIP_HEAD + done);
		if (err)
			return err;
		if (memcmp(block, buf_data(&v->entries) + done, take) != 0) {
			fault(v, VERIFY_FILE, "has a seek table that names other frames");
			return 0;
		}
		done += take;
	}
	return 0;
}

static void check_rest(struct verifier *v, enum frame_kind kind)
{
	uint32_t magic;

	if (kind == FRAME_BAD)
		fault(v, v->res.frames, "is not a frame of a recording");
	if (kind == FRAME_TORN) {
		v->res.torn_bytes = v->res.size - v->off;
		/* A file that was finished cannot be torn. */
		if (read_all_at(v->fd, &magic, sizeof(magic), v->res.size - sizeof(magic)) == 0 &&
		    magic == TG_REC_TABLE_MAGIC)
			fault(v, v->res.frames, "is longer than the finished file leaves room for");
	}
	if (v->res.finished && !v->res.ended && !v->unread)
		fault(v, VERIFY_FILE, "is finished, but has no end record");
	if (v->res.ended && v->more)
		fault(v, VERIFY_FILE, "ends inside of a record");
}

static int walk(struct verifier *v)
{
	struct tg_rec_frame f;
	enum frame_kind kind;
	uint64_t next;
	int err = 0;

	while ((kind = frame_peek(v->fd, v->off, v->res.size, &f, &next)) == FRAME_RECORDS) {
		err = check_frame(v, &f);
		if (err)
			return err;
		v->off = next;
	}
	if (kind == FRAME_IO)
		return -EIO;
	if (kind == FRAME_TABLE) {
		err = check_table(v, next);
		if (err)
			return err;
		v->off = next;
		if (next != v->res.size)
			fault(v, VERIFY_FILE, "goes on behind the seek table");
	}
	check_rest(v, kind);
	return 0;
}

int verify_file(int fd, verify_fault_fn *on_fault, void *ctx, struct verify_result *ret)
{
	struct verifier v = {.fd = fd, .on_fault = on_fault, .ctx = ctx};
	struct stat st;
	int err;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	v.res.size = (uint64_t)st.st_size;
	buf_init(&v.entries, (size_t)1 << 32);
	v.dctx = ZSTD_createDCtx();
	v.stored = malloc(ZSTD_compressBound(TG_REC_FRAME_MAX));
	v.raw = malloc(TG_REC_FRAME_MAX);
	err = hasher_init(&v.hasher);
	if (!err)
		err = v.dctx && v.stored && v.raw ? walk(&v) : -ENOMEM;
	if (!err)
		*ret = v.res;
	buf_done(&v.entries);
	hasher_done(&v.hasher);
	(void)ZSTD_freeDCtx(v.dctx);
	free(v.stored);
	free(v.raw);
	return err;
}
