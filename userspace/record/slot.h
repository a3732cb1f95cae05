/* SPDX-License-Identifier: MIT */
/*
 * Inside the journal: the layout of a slot in the mapping, and the state that
 * journal.c, tail.c and recover.c share. Nobody else includes this.
 *
 * A slot holds one frame in the making. Its records are in journal form: heads
 * carry a check over head, payload and the slot's generation, so that after
 * a power loss (pages reach the disk in any order) nothing that is torn, and
 * nothing that an earlier user of the slot left, can pass for a record.
 * After SIGKILL the page cache is whole and `committed` alone tells the end.
 */
#ifndef TIDEGATE_RECORD_SLOT_H
#define TIDEGATE_RECORD_SLOT_H

#include <pthread.h>

#include "base/list.h"
#include "record/frame.h"
#include "record/journal.h"

#define SLOT_MAGIC 0x0100544f4c534754u /* "TGSLOT\0\1" */

struct slot_head {
	uint64_t magic;
	uint64_t gen; /* new for each use of the slot */
	uint8_t session[16];
	uint64_t seq;	      /* of the frame */
	uint8_t previous[32]; /* hash of the frame before, if known when the slot was taken */
	uint32_t has_previous;
	uint32_t check;	    /* of all the above */
	uint32_t committed; /* bytes of records; release store */
	uint32_t used;	    /* 1: belongs to session; stored last */
	uint8_t pad[40];
};
_Static_assert(sizeof(struct slot_head) == 128, "layout");

/* A record's head in a slot, as long as struct tg_rec_head. */
struct slot_rec {
	uint16_t len;
	uint8_t type;
	uint8_t flags;
	uint32_t check;
	uint64_t wall_ns;
};
_Static_assert(sizeof(struct slot_rec) == sizeof(struct tg_rec_head), "same length");

/*
 * Behind the slots: the sessions that are open, so that those without a tail are ended
 * too when the process has died. Best effort: more sessions than entries do without.
 */
struct dir_entry {
	uint8_t session[16];
	uint64_t check; /* of session, never 0; 0: free. Stored last */
	uint8_t pad[8];
};
_Static_assert(sizeof(struct dir_entry) == 32, "layout");
#define DIR_NONE UINT32_MAX

enum {
	SLOT_BYTES = 17 * 4096,
	DIR_PER_SLOT = (JOURNAL_SLOT_BYTES - SLOT_BYTES) / (int)sizeof(struct dir_entry),
	SLOT_DATA = SLOT_BYTES - (int)sizeof(struct slot_head),
	REC_HEAD = sizeof(struct slot_rec),
};
_Static_assert((int)SLOT_DATA <= (int)TG_REC_FRAME_MAX, "a slot is a frame");

struct slot {
	struct list link; /* free, a session's pending, or limbo */
	struct slot_head *head;
	uint64_t gen;
	uint64_t seq;
	uint32_t len; /* == head->committed */
};

struct rec {
	struct list link;      /* ready, wanted, asked or stuck; or alone */
	struct list file_link; /* of open files, least recently used first */
	struct list tail_link; /* of tails, oldest first */
	struct list pending;   /* slots that are full, in order */
	struct rec *hash_next;
	struct journal *j;
	struct slot *cur; /* the tail */
	struct frame_table *table;
	struct uuid session;
	uint64_t seq;	/* of the next slot to be taken */
	uint64_t off;	/* length of the file */
	uint64_t stamp; /* boot time when the tail was last seen touched */
	uint64_t records, bytes, refused;
	uint64_t end_wall_ns;
	uint8_t hash[32];  /* of the last frame written */
	uint32_t reserved; /* payload bytes of the record that is being filled, + 1 */
	uint32_t dir;	   /* entry in the journal, or DIR_NONE */
	int fd;
	int error; /* what rec_put() returns */
	uint16_t end_reason;
	bool touched;  /* something was put since the last journal_idle() */
	bool quiet;    /* idle: close the file when the frame is written */
	bool asked;    /* for a file */
	bool stuck;    /* waits for the next try */
	bool told;     /* failed() was called */
	bool closing;  /* rec_close() was called */
	bool ended;    /* the end record is written */
	bool dead;     /* of a former process */
	bool scanned;  /* the former process's file was looked at */
	bool complete; /* the file is finished: by the former process, or by its only frame */
	int bad_file;  /* what journal_file() brought; reported by journal_work() */
};

enum { REC_BUCKETS = 4096 };

struct journal {
	const struct journal_ops *ops;
	void *ctx;
	int fd;
	uint8_t *map;
	size_t map_bytes;
	struct slot *slots;
	struct dir_entry *dir;
	uint32_t nslots, nfree;
	uint32_t ndir, dir_hint; /* where to look for a free entry first */
	struct list free;	 /* used like a stack: warm pages first */
	struct list found;	 /* slots that a former process left */
	struct list tails, files;
	struct list ready;  /* sessions with something to write and an open file */
	struct list wanted; /* ... without a file, not asked for yet */
	struct list asked, stuck;
	struct rec *buckets[REC_BUCKETS];
	struct framer framer;
	uint64_t gen;
	uint64_t retry_ns; /* boot time of the next try of what is stuck */
	uint32_t npending; /* full tails, but for those of sessions that are stuck */
	uint32_t nfiles, nstuck, nlimbo, ndead;
	int disk_error; /* ENOSPC and the like, until a frame is written again */
	bool starved;	/* -EAGAIN was returned */
	bool durable;
	struct journal_stats stats;

	/* Shared with the thread in journal_sync(). */
	pthread_mutex_t sync_mutex;
	struct list limbo;    /* struct limbo: frame written, not yet on the disk */
	struct list released; /* the same, now on the disk */
	uint64_t syncs;
};

/* journal.c: */
struct rec *journal_find(struct journal *j, const struct uuid *session);
struct rec *journal_add(struct journal *j, const struct uuid *session); /* NULL: no memory */
void journal_remove(struct rec *r);
void journal_schedule(struct rec *r);
void journal_ask(struct journal *j);
void slot_release(struct journal *j, struct slot *s);
void dir_enter(struct rec *r);
uint64_t dir_check(const struct dir_entry *e);
/* tail.c: */
struct slot *slot_claim(struct rec *r);
uint32_t slot_check(const struct slot_head *h, const struct slot_rec *e, const uint8_t *payload);
uint32_t slot_head_check(const struct slot_head *h);
void rec_seal(struct rec *r);
/* The end record into @dst (REC_END_MAX bytes), in file form; returns its length. */
enum { REC_END_MAX = 512 };
size_t rec_end_record(const struct rec *r, uint8_t *dst);
/* recover.c: */
int recover_file(struct rec *r, uint64_t size);

#endif
