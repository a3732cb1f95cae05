/* SPDX-License-Identifier: MIT */
#include "record/frame.h"

#include <errno.h>
#include <sys/uio.h>
#include <unistd.h>

/*
 * Of the frame header descriptor (RFC 8878 3.1.1.1.1), but for the size of the
 * content size: single segment, content checksum, no dictionary, spare bits zero.
 */
enum { FRAME_DESCRIPTOR_MASK = 0x3f, FRAME_DESCRIPTOR = 0x24 };

int hasher_init(struct hasher *h)
{
	h->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
	h->ctx = EVP_MD_CTX_new();
	return h->sha256 && h->ctx ? 0 : -ENOMEM;
}

void hasher_done(struct hasher *h)
{
	EVP_MD_CTX_free(h->ctx);
	EVP_MD_free(h->sha256);
	*h = (struct hasher){NULL, NULL};
}

void frame_hash(struct hasher *h, const struct tg_rec_frame *f, const uint8_t *raw,
		uint8_t ret_hash[32])
{
	bool ok = EVP_DigestInit_ex2(h->ctx, h->sha256, NULL) == 1 &&
		  EVP_DigestUpdate(h->ctx, f, offsetof(struct tg_rec_frame, stored_bytes)) == 1 &&
		  EVP_DigestUpdate(h->ctx, f->previous, sizeof(f->previous)) == 1 &&
		  EVP_DigestUpdate(h->ctx, raw, f->raw_bytes) == 1 &&
		  EVP_DigestFinal_ex(h->ctx, ret_hash, NULL) == 1;

	/* A software digest with its context allocated has no way to fail. */
	BUG_ON(!ok);
}

int framer_init(struct framer *f)
{
	*f = (struct framer){.out_cap = ZSTD_compressBound(TG_REC_FRAME_MAX), .level = 1};
	f->cctx = ZSTD_createCCtx();
	f->raw = malloc(TG_REC_FRAME_MAX);
	f->out = malloc(f->out_cap);
	if (hasher_init(&f->hasher) || !f->cctx || !f->raw || !f->out ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(f->cctx, ZSTD_c_compressionLevel, f->level)) ||
	    ZSTD_isError(ZSTD_CCtx_setParameter(f->cctx, ZSTD_c_checksumFlag, 1))) {
		framer_done(f);
		return -ENOMEM;
	}
	return 0;
}

void framer_done(struct framer *f)
{
	hasher_done(&f->hasher);
	(void)ZSTD_freeCCtx(f->cctx);
	free(f->raw);
	free(f->out);
	*f = (struct framer){.level = 0};
}

void framer_level(struct framer *f, int level)
{
	if (f->level == level)
		return;
	/* Cannot fail between frames with a level in range. */
	BUG_ON(ZSTD_isError(ZSTD_CCtx_setParameter(f->cctx, ZSTD_c_compressionLevel, level)));
	f->level = level;
}

static void skip_head(uint8_t *dst, uint32_t magic, uint32_t len)
{
	memcpy(dst, &magic, 4);
	memcpy(dst + 4, &len, 4);
}

/* Continues a short write; @iov is used up. */
static int writev_all(int fd, struct iovec *iov, int n, uint64_t off)
{
	while (n) {
		ssize_t put = pwritev(fd, iov, n, (off_t)off);

		if (put < 0 && errno == EINTR)
			continue;
		if (put <= 0)
			return put < 0 ? -errno : -EIO;
		off += (uint64_t)put;
		while (n && (size_t)put >= iov->iov_len) {
			put -= (ssize_t)iov->iov_len;
			iov++;
			n--;
		}
		if (n) {
			iov->iov_base = (uint8_t *)iov->iov_base + put;
			iov->iov_len -= (size_t)put;
		}
	}
	return 0;
}

int write_all_at(int fd, const void *p, size_t n, uint64_t off)
{
	struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};

	return n ? writev_all(fd, &iov, 1, off) : 0;
}

int read_all_at(int fd, void *p, size_t n, uint64_t off)
{
	uint8_t *dst = p;

	while (n) {
		ssize_t got = pread(fd, dst, n, (off_t)off);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : -ENODATA;
		dst += got;
		n -= (size_t)got;
		off += (uint64_t)got;
	}
	return 0;
}

/* What is in front of a seek table's entries and behind them. */
struct table_ends {
	uint8_t head[FRAME_SKIP_HEAD], footer[FRAME_TABLE_FOOTER];
};

static void table_ends(struct table_ends *t, size_t bytes, uint32_t n)
{
	uint32_t magic = TG_REC_TABLE_MAGIC;

	*t = (struct table_ends){{0}, {0}};
	skip_head(t->head, TG_REC_TABLE, (uint32_t)(bytes + sizeof(t->footer)));
	memcpy(t->footer, &n, 4);
	memcpy(t->footer + 5, &magic, 4); /* the byte between says: no checksums */
}

int framer_write(struct framer *f, int fd, uint64_t off, struct tg_rec_frame *head, bool only,
		 uint64_t *ret_bytes)
{
	uint8_t skip[FRAME_SKIP_HEAD];
	uint32_t pair[4] = {FRAME_HEAD, 0, 0, head->raw_bytes};
	struct table_ends table;
	struct iovec iov[6];
	size_t stored;
	int r;

	stored = ZSTD_compress2(f->cctx, f->out, f->out_cap, f->raw, head->raw_bytes);
	if (ZSTD_isError(stored))
		return -ENOMEM; /* the buffer is large enough: nothing else is left */
	head->stored_bytes = (uint32_t)stored;
	head->reserved = 0;
	frame_hash(&f->hasher, head, f->raw, head->hash);
	skip_head(skip, TG_REC_SKIPPABLE, sizeof(*head));
	iov[0] = (struct iovec){.iov_base = skip, .iov_len = sizeof(skip)};
	iov[1] = (struct iovec){.iov_base = head, .iov_len = sizeof(*head)};
	iov[2] = (struct iovec){.iov_base = f->out, .iov_len = stored};
	pair[2] = head->stored_bytes;
	table_ends(&table, sizeof(pair), 2);
	iov[3] = (struct iovec){.iov_base = table.head, .iov_len = sizeof(table.head)};
	iov[4] = (struct iovec){.iov_base = pair, .iov_len = sizeof(pair)};
	iov[5] = (struct iovec){.iov_base = table.footer, .iov_len = sizeof(table.footer)};
	r = writev_all(fd, iov, only ? 6 : 3, off);
	if (r) {
		/* If even this fails, recovery and readers know a torn frame. */
		if (ftruncate(fd, (off_t)off))
			return r;
		return r;
	}
	*ret_bytes = FRAME_HEAD + stored;
	if (only)
		*ret_bytes += sizeof(table.head) + sizeof(pair) + sizeof(table.footer);
	return 0;
}

static bool head_sane(const struct tg_rec_frame *f)
{
	return f->raw_bytes >= sizeof(struct tg_rec_head) && f->raw_bytes <= TG_REC_FRAME_MAX &&
	       f->records && f->records <= f->raw_bytes / sizeof(struct tg_rec_head) &&
	       f->stored_bytes && f->stored_bytes <= ZSTD_compressBound(TG_REC_FRAME_MAX) &&
	       f->reserved == 0;
}

static enum frame_kind peek_table(int fd, uint64_t off, uint64_t size, uint32_t len,
				  uint64_t *ret_next)
{
	uint32_t magic;

	if (len > size - off - FRAME_SKIP_HEAD)
		return FRAME_TORN;
	if (len < FRAME_TABLE_FOOTER)
		return FRAME_BAD;
	if (read_all_at(fd, &magic, 4, off + FRAME_SKIP_HEAD + len - 4))
		return FRAME_IO;
	if (magic != TG_REC_TABLE_MAGIC)
		return FRAME_BAD;
	*ret_next = off + FRAME_SKIP_HEAD + len;
	return FRAME_TABLE;
}

enum frame_kind frame_peek(int fd, uint64_t off, uint64_t size, struct tg_rec_frame *ret,
			   uint64_t *ret_next)
{
	uint64_t left = size - off;
	uint8_t raw[FRAME_HEAD];
	uint32_t magic, len;
	size_t n = min_size(sizeof(raw), left);

	if (off >= size)
		return FRAME_EOF;
	if (read_all_at(fd, raw, n, off))
		return FRAME_IO;
	if (n < FRAME_SKIP_HEAD)
		return FRAME_TORN;
	memcpy(&magic, raw, 4);
	memcpy(&len, raw + 4, 4);
	if (magic == TG_REC_TABLE)
		return peek_table(fd, off, size, len, ret_next);
	if (magic != TG_REC_SKIPPABLE || len != sizeof(*ret))
		return FRAME_BAD;
	if (n < FRAME_HEAD)
		return FRAME_TORN;
	memcpy(ret, raw + FRAME_SKIP_HEAD, sizeof(*ret));
	if (!head_sane(ret))
		return FRAME_BAD;
	if (ret->stored_bytes > left - FRAME_HEAD)
		return FRAME_TORN;
	*ret_next = off + FRAME_HEAD + ret->stored_bytes;
	return FRAME_RECORDS;
}

int frame_load(int fd, uint64_t off, const struct tg_rec_frame *head, ZSTD_DCtx *dctx,
	       struct hasher *h, uint8_t *stored, uint8_t *raw, const char **ret_what)
{
	uint8_t hash[32];
	uint32_t magic = 0;
	size_t n;
	int r;

	r = read_all_at(fd, stored, head->stored_bytes, off + FRAME_HEAD);
	if (r)
		return r;
	/* One frame, all of the stored bytes: nothing can hide behind it. */
	n = ZSTD_findFrameCompressedSize(stored, head->stored_bytes);
	if (!ZSTD_isError(n) && n >= sizeof(magic))
		memcpy(&magic, stored, sizeof(magic));
	if (magic != ZSTD_MAGICNUMBER || n != head->stored_bytes ||
	    (stored[4] & FRAME_DESCRIPTOR_MASK) != FRAME_DESCRIPTOR) {
		*ret_what = "is not one whole zstd frame as it should be";
		return -EBADMSG;
	}
	n = ZSTD_decompressDCtx(dctx, raw, TG_REC_FRAME_MAX, stored, head->stored_bytes);
	if (ZSTD_isError(n)) {
		*ret_what = "cannot be decompressed";
		return -EBADMSG;
	}
	if (n != head->raw_bytes) {
		*ret_what = "has another length than its head says";
		return -EBADMSG;
	}
	frame_hash(h, head, raw, hash);
	if (memcmp(hash, head->hash, sizeof(hash)) != 0) {
		*ret_what = "does not have the hash in its head";
		return -EBADMSG;
	}
	return 0;
}

/* ------------------------------------------------------------ seek table */

struct frame_table *frame_table_new(void)
{
	struct frame_table *t = calloc(1, sizeof(*t));

	/* As many entries as the format's 32-bit length can hold. */
	if (t)
		buf_init(&t->entries, UINT32_MAX - FRAME_TABLE_FOOTER);
	return t;
}

void frame_table_free(struct frame_table *t)
{
	if (t)
		buf_done(&t->entries);
	free(t);
}

int frame_table_scan(struct frame_table *t, int fd, uint64_t size, unsigned frames)
{
	struct tg_rec_frame f;
	uint64_t next;

	for (; frames; frames--) {
		enum frame_kind kind = frame_peek(fd, t->off, size, &f, &next);
		uint32_t pair[4] = {FRAME_HEAD, 0, f.stored_bytes, f.raw_bytes};
		int r;

		if (kind == FRAME_EOF)
			return 1;
		if (kind != FRAME_RECORDS)
			return -EIO;
		r = buf_append(&t->entries, pair, sizeof(pair));
		if (r)
			return r;
		t->off = next;
		t->n += 2;
	}
	return t->off == size;
}

int frame_table_write(const struct frame_table *t, int fd, uint64_t *ret_bytes)
{
	struct table_ends ends;
	struct iovec iov[3];
	int r;

	table_ends(&ends, t->entries.n, t->n);
	iov[0] = (struct iovec){.iov_base = ends.head, .iov_len = sizeof(ends.head)};
	iov[1] = (struct iovec){.iov_base = buf_data(&t->entries), .iov_len = t->entries.n};
	iov[2] = (struct iovec){.iov_base = ends.footer, .iov_len = sizeof(ends.footer)};
	r = writev_all(fd, iov, 3, t->off);
	if (r) {
		if (ftruncate(fd, (off_t)t->off))
			return r;
		return r;
	}
	*ret_bytes = sizeof(ends.head) + t->entries.n + sizeof(ends.footer);
	return 0;
}
