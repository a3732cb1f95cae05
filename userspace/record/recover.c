/* SPDX-License-Identifier: MIT */
/*
 * What a dead process left: slots of the journal, and files that may end in
 * the middle of a frame. Doing this again, or dying in between, changes nothing
 * in the result: frames carry their number, and a slot is freed after its frame is
 * in the file.
 */
#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "record/slot.h"

/*
 * The records at the start of @s that are whole and belong to it. Returns false
 * if some that were committed are not.
 */
static bool slot_measure(struct slot *s)
{
	const uint8_t *from = (const uint8_t *)(s->head + 1);
	uint32_t end = min_size(s->head->committed, SLOT_DATA), off = 0;

	while (end - off >= REC_HEAD) {
		struct slot_rec e;

		memcpy(&e, from + off, sizeof(e));
		if (e.len > end - off - REC_HEAD || !e.type || e.type >= TG_REC_TYPES ||
		    slot_check(s->head, &e, from + off + REC_HEAD) != e.check)
			break;
		off += REC_HEAD + e.len;
	}
	s->len = off;
	return off == s->head->committed;
}

static bool slot_usable(struct journal *j, struct slot *s)
{
	const struct slot_head *h = s->head;

	if (h->magic != SLOT_MAGIC || h->check != slot_head_check(h)) {
		j->stats.lost++;
		return false;
	}
	s->gen = h->gen;
	s->seq = h->seq;
	if (!slot_measure(s))
		j->stats.lost++;
	return s->len > 0;
}

/* Into the session's pending slots, by number. */
static void slot_attach(struct rec *r, struct slot *s)
{
	struct list *at = r->pending.next;

	while (at != &r->pending && container_of(at, struct slot, link)->seq < s->seq)
		at = at->next;
	list_add_tail(at, &s->link);
	r->j->npending++;
}

static struct rec *dead_session(struct journal *j, const struct uuid *session, uint16_t reason)
{
	struct rec *r = journal_add(j, session);

	if (!r)
		return NULL;
	r->dead = true;
	j->ndead++;
	r->closing = true;
	r->end_reason = reason;
	r->end_wall_ns = clock_wall_ns();
	return r;
}

/* Sessions that were open. Those that are known have a tail, or were begun by this process. */
static int recover_directory(struct journal *j, uint16_t reason)
{
	int sessions = 0;

	for (uint32_t i = 0; i < j->ndir; i++) {
		struct dir_entry *e = &j->dir[i];
		struct uuid session;
		struct rec *r;

		if (!e->check)
			continue;
		if (e->check != dir_check(e)) { /* power loss */
			e->check = 0;
			continue;
		}
		memcpy(session.b, e->session, sizeof(session.b));
		r = journal_find(j, &session);
		if (!r) {
			r = dead_session(j, &session, reason);
			if (!r)
				return -ENOMEM;
			sessions++;
			journal_schedule(r);
		}
		if (r->dead)
			r->dir = i;
	}
	return sessions;
}

int journal_recover(struct journal *j, uint16_t reason)
{
	int sessions = 0, more;

	list_each(it, &j->found)
	{
		struct slot *s = container_of(it, struct slot, link);
		struct uuid session;
		struct rec *r;

		memcpy(session.b, s->head->session, sizeof(session.b));
		if (!slot_usable(j, s)) {
			list_del(it);
			slot_release(j, s);
			continue;
		}
		r = journal_find(j, &session);
		if (r && !r->dead)
			return -EEXIST;
		if (!r) {
			r = dead_session(j, &session, reason);
			if (!r)
				return -ENOMEM;
			sessions++;
		}
		list_del(it);
		slot_attach(r, s);
		journal_schedule(r);
	}
	more = recover_directory(j, reason);
	journal_ask(j);
	return more < 0 ? more : sessions + more;
}

int journal_adopt(struct journal *j, const struct uuid *session, uint16_t reason)
{
	struct rec *r;

	if (journal_find(j, session))
		return -EEXIST;
	r = dead_session(j, session, reason);
	if (!r)
		return -ENOMEM;
	journal_schedule(r);
	journal_ask(j);
	return 0;
}

/* ------------------------------------------------------------- the file */

struct scan {
	uint64_t off, last; /* behind the last whole frame; where it begins */
	uint64_t frames, records, bytes;
	struct tg_rec_frame head; /* of the last whole frame */
	bool table;
};

/* What a file system may leave where data did not reach the disk. */
static bool only_zeros(int fd, uint64_t off, uint64_t size)
{
	uint8_t block[4096];

	while (off < size) {
		size_t n = min_size(sizeof(block), size - off);

		if (read_all_at(fd, block, n, off))
			return false;
		for (size_t i = 0; i < n; i++)
			if (block[i])
				return false;
		off += n;
	}
	return true;
}

static int scan_file(struct rec *r, uint64_t size, struct scan *ret)
{
	struct scan s = {.off = 0};

	for (;;) {
		struct tg_rec_frame f;
		uint64_t next;
		enum frame_kind kind = frame_peek(r->fd, s.off, size, &f, &next);

		if (kind == FRAME_IO)
			return -EIO;
		if (kind == FRAME_TABLE) {
			s.table = true;
			break;
		}
		if (kind == FRAME_BAD && !only_zeros(r->fd, s.off, size))
			return -EBADMSG; /* corrupted, not torn: kept for `verify` */
		if (kind != FRAME_RECORDS)
			break;
		if (memcmp(f.session, r->session.b, sizeof(f.session)) != 0)
			return -EBADMSG; /* another session's file: not to be touched */
		s.last = s.off;
		s.off = next;
		s.head = f;
		s.frames++;
		s.records += f.records;
		s.bytes += f.raw_bytes - (uint64_t)f.records * sizeof(struct tg_rec_head);
	}
	*ret = s;
	return 0;
}

/* Is the last frame whole, and does it hold the end record? 1, 0, -EBADMSG or another errno. */
static int check_last(struct rec *r, const struct scan *s)
{
	struct framer *f = &r->j->framer;
	ZSTD_DCtx *dctx = ZSTD_createDCtx();
	struct tg_rec_head head = {.type = 0};
	const char *what;
	uint32_t off = 0;
	int err;

	if (!dctx)
		return -ENOMEM;
	err = frame_load(r->fd, s->last, &s->head, dctx, &f->hasher, f->out, f->raw, &what);
	(void)ZSTD_freeDCtx(dctx);
	if (err)
		return err;
	while (s->head.raw_bytes - off >= sizeof(head)) {
		memcpy(&head, f->raw + off, sizeof(head));
		if (head.len > s->head.raw_bytes - off - sizeof(head))
			return -EBADMSG;
		off += (uint32_t)sizeof(head) + head.len;
	}
	return head.type == TG_REC_END;
}

static void drop_written(struct rec *r, uint64_t next_seq)
{
	list_each(it, &r->pending)
	{
		struct slot *s = container_of(it, struct slot, link);

		if (s->seq >= next_seq)
			break;
		list_del(it);
		r->j->npending--;
		slot_release(r->j, s);
	}
}

/* The last record of the last slot is the end record: it was closed before the process died. */
static bool slots_ended(const struct rec *r)
{
	const struct slot *s = container_of(r->pending.prev, struct slot, link);
	const uint8_t *from = (const uint8_t *)(s->head + 1);
	struct slot_rec e = {.type = 0};

	if (list_empty(&r->pending))
		return false;
	for (uint32_t off = 0; off < s->len; off += REC_HEAD + e.len)
		memcpy(&e, from + off, sizeof(e));
	return e.type == TG_REC_END;
}

static void count_slots(struct rec *r)
{
	list_each(it, &r->pending)
	{
		struct slot *s = container_of(it, struct slot, link);
		struct slot_rec e;

		for (uint32_t off = 0; off < s->len; off += REC_HEAD + e.len) {
			memcpy(&e, (const uint8_t *)(s->head + 1) + off, sizeof(e));
			r->records++;
			r->bytes += e.len;
		}
		r->seq = s->seq + 1;
	}
}

/* The state of a dead session from its file of @size bytes, which loses its torn end. */
int recover_file(struct rec *r, uint64_t size)
{
	struct scan s;
	int err, end = 0;

	do {
		err = scan_file(r, size, &s);
		if (err)
			return err;
		if (!s.frames)
			break;
		if (s.table) {
			end = 1;
			break; /* finished: whether it is right is not asked here */
		}
		end = check_last(r, &s);
		if (end < 0 && end != -EBADMSG && end != -ENODATA)
			return end;
		if (end < 0)
			size = s.last; /* power loss: its head came to the disk, it did not */
	} while (end < 0);
	r->seq = s.frames ? s.head.seq + 1 : 0;
	memcpy(r->hash, s.head.hash, sizeof(r->hash));
	drop_written(r, r->seq);
	r->ended = end == 1;
	/* A file without a frame, and nothing to put into it: there is nothing to end. */
	r->complete = (s.table || !s.frames) && list_empty(&r->pending);
	if (s.table && !r->complete)
		return -EBADMSG; /* frames that belong behind the end */
	r->scanned = true;
	r->off = s.off;
	if (r->complete)
		return 0;
	r->records = s.records;
	r->bytes = s.bytes;
	count_slots(r);
	if (!r->ended)
		r->ended = slots_ended(r);
	return ftruncate(r->fd, (off_t)s.off) ? -errno : 0;
}
