/* SPDX-License-Identifier: MIT */
/*
 * Putting records into a session's tail: the path that every event takes. No
 * system call, no allocation, no lock.
 */
#include <errno.h>
#include <xxhash.h>

#include "base/clock.h"
#include "base/reason.h"
#include "record/slot.h"

static uint32_t fold(uint64_t h)
{
	return (uint32_t)(h ^ h >> 32);
}

uint32_t slot_check(const struct slot_head *h, const struct slot_rec *e, const uint8_t *payload)
{
	uint64_t sum = XXH3_64bits(payload, e->len);

	sum ^= h->gen * 0x9e3779b97f4a7c15u;
	sum ^= ((uint64_t)e->len | (uint64_t)e->type << 16 | (uint64_t)e->flags << 24) *
	       0xc2b2ae3d27d4eb4fu;
	sum ^= e->wall_ns * 0x165667b19e3779f9u;
	return fold(sum * 0x9fb21c651e98df25u);
}

uint32_t slot_head_check(const struct slot_head *h)
{
	return fold(XXH3_64bits(h, offsetof(struct slot_head, check)));
}

struct slot *slot_claim(struct rec *r)
{
	struct journal *j = r->j;
	struct slot_head *h;
	struct slot *s;

	if (list_empty(&j->free))
		return NULL;
	s = container_of(j->free.next, struct slot, link);
	list_del(&s->link);
	j->nfree--;
	s->gen = ++j->gen;
	s->seq = r->seq++;
	s->len = 0;
	h = s->head;
	h->magic = SLOT_MAGIC;
	h->gen = s->gen;
	memcpy(h->session, r->session.b, sizeof(h->session));
	h->seq = s->seq;
	h->has_previous = list_empty(&r->pending);
	memcpy(h->previous, r->hash, sizeof(h->previous));
	h->check = slot_head_check(h);
	h->committed = 0;
	__atomic_store_n(&h->used, 1, __ATOMIC_RELEASE);
	r->cur = s;
	list_add_tail(&j->tails, &r->tail_link);
	return s;
}

/* The tail is complete: it waits for being written. Not while a record is being filled. */
void rec_seal(struct rec *r)
{
	struct slot *s = r->cur;

	if (!s || r->reserved)
		return;
	r->cur = NULL;
	list_del(&r->tail_link);
	if (!s->len) { /* its only record was reserved and given up */
		r->seq--;
		slot_release(r->j, s);
		return;
	}
	list_add_tail(&r->pending, &s->link);
	if (!r->stuck)
		r->j->npending++;
	journal_schedule(r);
}

static inline uint8_t *slot_place(struct slot *s, enum tg_rec_type type, uint8_t flags,
				  uint64_t wall_ns, size_t n)
{
	uint8_t *at = (uint8_t *)(s->head + 1) + s->len;
	struct slot_rec e = {
		.len = (uint16_t)n,
		.type = (uint8_t)type,
		.flags = flags,
		.wall_ns = wall_ns,
	};

	memcpy(at, &e, sizeof(e));
	return at + sizeof(e);
}

/* The record at @payload becomes part of the journal. */
static inline void slot_publish(struct rec *r, struct slot *s, uint8_t *payload, size_t n)
{
	struct slot_rec e;

	memcpy(&e, payload - REC_HEAD, sizeof(e));
	e.check = slot_check(s->head, &e, payload);
	memcpy(payload - REC_HEAD + offsetof(struct slot_rec, check), &e.check, sizeof(e.check));
	s->len += REC_HEAD + (uint32_t)n;
	__atomic_store_n(&s->head->committed, s->len, __ATOMIC_RELEASE);
	r->touched = true;
	r->j->stats.bytes += n;
	r->bytes += n;
	r->records++;
}

static size_t room(const struct slot *s)
{
	return s && s->len + REC_HEAD < TG_REC_FRAME_RAW ? TG_REC_FRAME_RAW - s->len - REC_HEAD : 0;
}

static int refuse(struct rec *r, int error)
{
	if (error == -EAGAIN) {
		r->j->starved = true;
		r->j->stats.refused++;
	} else {
		r->refused++;
	}
	return error;
}

struct parts {
	const struct slice *p;
	unsigned n;
	size_t off; /* in p[0] */
};

static void parts_copy(struct parts *from, uint8_t *dst, size_t n)
{
	while (n) {
		size_t take = min_size(n, from->p->n - from->off);

		if (take)
			memcpy(dst, from->p->p + from->off, take);
		dst += take;
		n -= take;
		from->off += take;
		if (from->off == from->p->n) {
			from->p++;
			from->n--;
			from->off = 0;
		}
	}
}

/* How much of a long record goes into a slot, in chunks. */
static size_t capacity(const struct slot *s)
{
	size_t left = room(s);

	if (left <= TG_REC_CHUNK)
		return left;
	left -= TG_REC_CHUNK;
	return TG_REC_CHUNK + (left > REC_HEAD ? left - REC_HEAD : 0);
}

/*
 * A record that does not fit into the tail as it is. What is small begins a
 * new frame; what is large fills this one first. Slots are counted before anything is
 * written.
 */
static int put_split(struct rec *r, enum tg_rec_type type, uint64_t wall_ns, struct parts from,
		     size_t n)
{
	enum { SMALL = 1024, PER_SLOT = 2 * TG_REC_CHUNK };
	size_t first = capacity(r->cur), need;

	if (n <= SMALL || first < SMALL)
		first = 0;
	need = n > first ? (n - first + PER_SLOT - 1) / PER_SLOT : !first;
	if (need > r->j->nslots || n > TG_REC_JOINED_MAX)
		return refuse(r, -EMSGSIZE);
	if (need > r->j->nfree)
		return refuse(r, -EAGAIN);
	if (!first)
		rec_seal(r);
	do {
		size_t take;
		uint8_t *at;

		if (!room(r->cur)) {
			rec_seal(r);
			BUG_ON(!slot_claim(r)); /* counted above */
		}
		take = min_size(min_size(n, room(r->cur)), TG_REC_CHUNK);
		n -= take;
		at = slot_place(r->cur, type, n ? TG_REC_F_MORE : 0, wall_ns, take);
		parts_copy(&from, at, take);
		slot_publish(r, r->cur, at, take);
	} while (n);
	r->j->stats.records++;
	return 0;
}

int rec_put(struct rec *r, enum tg_rec_type type, uint64_t wall_ns, const struct slice *parts,
	    unsigned nparts)
{
	uint8_t *at, *to;
	size_t n = 0;

	if (unlikely(r->error))
		return refuse(r, r->error);
	r->reserved = 0;
	for (unsigned i = 0; i < nparts; i++)
		n += parts[i].n;
	if (unlikely(!r->cur || n > TG_REC_CHUNK || n > room(r->cur) || !room(r->cur)))
		return put_split(r, type, wall_ns, (struct parts){.p = parts, .n = nparts}, n);
	at = to = slot_place(r->cur, type, 0, wall_ns, n);
	for (unsigned i = 0; i < nparts; i++) {
		if (parts[i].n)
			memcpy(to, parts[i].p, parts[i].n);
		to += parts[i].n;
	}
	slot_publish(r, r->cur, at, n);
	r->j->stats.records++;
	return 0;
}

uint8_t *rec_reserve(struct rec *r, enum tg_rec_type type, uint64_t wall_ns, size_t n,
		     int *ret_error)
{
	BUG_ON(n > TG_REC_CHUNK);
	r->reserved = 0;
	if (unlikely(r->error)) {
		*ret_error = refuse(r, r->error);
		return NULL;
	}
	if (unlikely(!r->cur || n > room(r->cur) || !room(r->cur))) {
		if (!r->j->nfree) {
			*ret_error = refuse(r, -EAGAIN);
			return NULL;
		}
		rec_seal(r);
		BUG_ON(!slot_claim(r));
	}
	r->reserved = (uint32_t)n + 1;
	return slot_place(r->cur, type, 0, wall_ns, n);
}

void rec_commit(struct rec *r)
{
	uint8_t *payload = (uint8_t *)(r->cur->head + 1) + r->cur->len + REC_HEAD;

	BUG_ON(!r->reserved);
	slot_publish(r, r->cur, payload, r->reserved - 1);
	r->reserved = 0;
	r->j->stats.records++;
}

/* ------------------------------------------------------- begin and end */

int rec_new(struct journal *j, const struct uuid *session, struct slice header_json,
	    struct rec **ret)
{
	struct slice parts[2] = {slice_of(TG_REC_MAGIC, TG_REC_MAGIC_BYTES), header_json};
	struct rec *r;
	int err;

	if (j->disk_error)
		return j->disk_error;
	if (journal_find(j, session))
		return -EEXIST;
	r = journal_add(j, session);
	if (!r)
		return -ENOMEM;
	err = rec_put(r, TG_REC_HEADER, clock_wall_ns(), parts, 2);
	if (err) {
		journal_remove(r);
		return err;
	}
	dir_enter(r);
	*ret = r;
	return 0;
}

size_t rec_end_record(const struct rec *r, uint8_t *dst)
{
	struct tg_rec_head head = {.type = TG_REC_END, .wall_ns = r->end_wall_ns};
	char *text = (char *)dst + sizeof(head);
	int n;

	n = snprintf(
		text, REC_END_MAX - sizeof(head),
		"{\"reason\":\"%s\",\"code\":%u,\"records\":%llu,\"bytes\":%llu,\"missing\":%llu,"
		"\"recovered\":%s}",
		reason_label(r->end_reason), r->end_reason, (unsigned long long)r->records,
		(unsigned long long)r->bytes, (unsigned long long)r->refused,
		r->dead ? "true" : "false");
	BUG_ON(n < 0 || (size_t)n >= REC_END_MAX - sizeof(head));
	head.len = (uint32_t)n;
	memcpy(dst, &head, sizeof(head));
	return sizeof(head) + (size_t)n;
}

void rec_close(struct rec *r, uint64_t wall_ns, uint16_t reason)
{
	uint8_t end[REC_END_MAX], *at;
	size_t n;

	BUG_ON(r->closing);
	r->reserved = 0;
	r->closing = true;
	r->end_wall_ns = wall_ns;
	r->end_reason = reason;
	/*
	 * Every slot has room for the end record over TG_REC_FRAME_RAW. Without
	 * a slot it is made when the file is written.
	 */
	if (r->cur || slot_claim(r)) {
		n = rec_end_record(r, end) - REC_HEAD;
		at = slot_place(r->cur, TG_REC_END, 0, wall_ns, n);
		memcpy(at, end + REC_HEAD, n);
		slot_publish(r, r->cur, at, n);
		r->ended = true;
		rec_seal(r);
	}
	journal_schedule(r);
}
