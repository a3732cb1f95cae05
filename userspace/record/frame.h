/* SPDX-License-Identifier: MIT */
/*
 * Frames on disk: made, hashed, written, found again. Both the writer and the
 * reader use this, so that there is one place that knows how a file is laid out.
 */
#ifndef TIDEGATE_RECORD_FRAME_H
#define TIDEGATE_RECORD_FRAME_H

#include <openssl/evp.h>
#include <zstd.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "tidegate_rec.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the format is little-endian");

enum {
	FRAME_SKIP_HEAD = 8, /* magic and length of a skippable frame */
	FRAME_HEAD = FRAME_SKIP_HEAD + (int)sizeof(struct tg_rec_frame),
};

/* SHA-256 contexts are costly to look up: one per writer or reader. */
struct hasher {
	EVP_MD *sha256;
	EVP_MD_CTX *ctx;
};
MUST_CHECK int hasher_init(struct hasher *h);
void hasher_done(struct hasher *h);
/* The hash of a frame whose other fields are set. */
void frame_hash(struct hasher *h, const struct tg_rec_frame *f, const uint8_t *raw,
		uint8_t ret_hash[32]);

struct framer {
	struct hasher hasher;
	ZSTD_CCtx *cctx;
	uint8_t *raw; /* TG_REC_FRAME_MAX bytes, filled by the caller */
	uint8_t *out;
	size_t out_cap;
	int level;
};
MUST_CHECK int framer_init(struct framer *f);
void framer_done(struct framer *f);
/* zstd's level for the frames that follow. */
void framer_level(struct framer *f, int level);
/*
 * Compresses f->raw and writes it at @off. @head has session, seq, raw_bytes,
 * records, first_wall_ns and previous set; the rest is filled in. Returns 0 and the bytes
 * written, or negative errno, when the file is as long as it was. @only: the frame is all of the
 * file, and its seek table is written along with it.
 */
MUST_CHECK int framer_write(struct framer *f, int fd, uint64_t off, struct tg_rec_frame *head,
			    bool only, uint64_t *ret_bytes);

/* All of it, whatever the kernel takes at once; 0 or negative errno. */
MUST_CHECK int write_all_at(int fd, const void *p, size_t n, uint64_t off);
/* Exactly @n bytes; -ENODATA if the file is shorter. */
MUST_CHECK int read_all_at(int fd, void *p, size_t n, uint64_t off);

enum frame_kind {
	FRAME_RECORDS, /* head is valid, the zstd frame is inside the file */
	FRAME_TABLE,   /* the seek table, whole */
	FRAME_EOF,     /* nothing more */
	FRAME_TORN,    /* the file ends inside of this frame */
	FRAME_BAD,     /* something else */
	FRAME_IO,      /* cannot be read: errno */
};
/* What stands at @off of a file of @size bytes, by its head alone; *ret_next is what follows. */
enum frame_kind frame_peek(int fd, uint64_t off, uint64_t size, struct tg_rec_frame *ret,
			   uint64_t *ret_next);
/*
 * Reads, decompresses and checks the frame at @off. @stored has room for
 * ZSTD_compressBound(TG_REC_FRAME_MAX) bytes, @raw for TG_REC_FRAME_MAX. 0, -EBADMSG
 * with what is wrong in *ret_what, or another errno.
 */
MUST_CHECK int frame_load(int fd, uint64_t off, const struct tg_rec_frame *head, ZSTD_DCtx *dctx,
			  struct hasher *h, uint8_t *stored, uint8_t *raw, const char **ret_what);

/* The seek table in the making. */
struct frame_table {
	struct buf entries;
	uint64_t off; /* up to here the file is in entries */
	uint32_t n;
};
enum { FRAME_TABLE_ENTRY = 8, FRAME_TABLE_FOOTER = 9 };
struct frame_table *frame_table_new(void);
void frame_table_free(struct frame_table *t);
/* At most @frames more frames; 1: all of the file is in, 0: not yet, or negative errno. */
MUST_CHECK int frame_table_scan(struct frame_table *t, int fd, uint64_t size, unsigned frames);
MUST_CHECK int frame_table_write(const struct frame_table *t, int fd, uint64_t *ret_bytes);

#endif
