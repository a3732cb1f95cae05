/* SPDX-License-Identifier: MIT */
/*
 * The recording format, version 1; the man page tidegate-recording(5) is its
 * full description. Integers are little-endian.
 *
 * A file is a valid zstd file: `zstdcat` prints the records. Frames of records are
 * ordinary zstd frames; each is preceded by a skippable frame that holds a struct
 * tg_rec_frame; the last skippable frame of a finished file is the seek table, in
 * zstd's own seekable format.
 */
#ifndef TIDEGATE_REC_H
#define TIDEGATE_REC_H

#include <stdint.h>

#define TG_REC_MAGIC	   "TGREC\0\0\1" /* starts the payload of the header, with the version */
#define TG_REC_SKIPPABLE   0x184d2a55u	 /* zstd skippable frame magic we use */
#define TG_REC_TABLE	   0x184d2a5eu	 /* skippable magic of the seek table */
#define TG_REC_TABLE_MAGIC 0x8f92eab1u	 /* last four bytes of a finished file */
#define TG_REC_SUFFIX	   ".tgrec.zst"
enum { TG_REC_MAGIC_BYTES = 8 };
enum { TG_REC_FRAME_RAW = 65536 };     /* bytes of records in a full frame */
enum { TG_REC_FRAME_MAX = 69632 };     /* no frame is larger (the end record may go over) */
enum { TG_REC_JOINED_MAX = 16 << 20 }; /* largest payload joined from parts */
enum { TG_REC_CHUNK = 32752 };	       /* largest payload of one record: two fill a frame */

enum tg_rec_type {
	TG_REC_HEADER = 1,   /* magic, then JSON: who, what, which grant, which policy */
	TG_REC_CLIENT = 2,   /* bytes from the client, secrets overwritten */
	TG_REC_SERVER = 3,   /* bytes to the client, as it saw them (masked) */
	TG_REC_COMMAND = 4,  /* JSON: text, effects, decision, rule */
	TG_REC_EXECUTE = 5,  /* JSON: seq of the command, decision */
	TG_REC_RESULT = 6,   /* JSON: tag, rows, bytes, masks */
	TG_REC_MASKED = 7,   /* JSON: counts */
	TG_REC_DECISION = 8, /* JSON: access or approval, by whom, until when */
	TG_REC_ERROR = 9,    /* JSON: an error, ours or the server's */
	TG_REC_STATE = 10,   /* JSON: login, target switched, policy reloaded */
	TG_REC_FACT = 11,    /* JSON: what the inspector was told: plans, refusals, words */
	TG_REC_END = 12,     /* JSON: reason, totals */
	TG_REC_TYPES,
};

/* Head of each record; the payload follows. */
struct tg_rec_head {
	uint32_t len;	/* of the payload */
	uint16_t type;	/* enum tg_rec_type */
	uint16_t flags; /* TG_REC_F_* */
	uint64_t wall_ns;
};
enum { TG_REC_F_MORE = 1 }; /* the next record of this type continues it */

/* Payload of the skippable frame before each frame of records. */
struct tg_rec_frame {
	uint8_t session[16];
	uint64_t seq;	    /* of the frame, from 0 */
	uint32_t raw_bytes; /* of the frame, uncompressed */
	uint32_t records;
	uint64_t first_wall_ns;
	uint32_t stored_bytes; /* of the zstd frame that follows */
	uint32_t reserved;     /* zero */
	uint8_t previous[32];  /* hash of the frame before; zero for the first */
	/*
	 * SHA-256 over session, seq, raw_bytes, records, first_wall_ns (the 40 bytes
	 * above), previous, and the uncompressed content: compressing again changes
	 * no hash.
	 */
	uint8_t hash[32];
};

_Static_assert(sizeof(struct tg_rec_head) == 16, "layout");
_Static_assert(sizeof(struct tg_rec_frame) == 112, "layout");

#endif
