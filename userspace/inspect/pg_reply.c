/* SPDX-License-Identifier: MIT */
/*
 * The queue of replies that are due: a bounded ring of compact entries, one
 * for each message that the server has to answer and one for each
 * denial that waits for its turn.
 */
#include "inspect/pg.h"

#include <stdlib.h>
#include <string.h>

enum { RING_FIRST = 4, RING_KEEP = 64 };

static struct pg_reply *entry(const struct pg_queue *q, uint32_t i)
{
	return &q->ring[(q->head + i) & (q->cap - 1)];
}

static bool grow(struct pg_queue *q)
{
	uint32_t cap = q->cap ? q->cap * 2 : RING_FIRST;
	struct pg_reply *ring = calloc(cap, sizeof(*ring));

	if (!ring)
		return false;
	for (uint32_t i = 0; i < q->n; i++)
		ring[i] = *entry(q, i);
	free(q->ring);
	q->ring = ring;
	q->cap = cap;
	q->head = 0;
	return true;
}

bool pg_can_expect(struct pg *st)
{
	/* A message may need a few entries: what is injected, itself, a denial. */
	if (st->q.n + 4 > PG_REPLIES_MAX)
		return false;
	return st->q.n + 4 <= st->q.cap || grow(&st->q);
}

static bool is_run(const struct pg_reply *r)
{
	return r->kind == PG_R_QUERY || r->kind == PG_R_EXECUTE || r->kind == PG_R_FUNCTION;
}

struct pg_reply *pg_expect(struct pg *st, enum pg_reply_kind kind)
{
	struct pg_reply *r;

	BUG_ON(st->q.n == st->q.cap);
	r = entry(&st->q, st->q.n++);
	*r = (struct pg_reply){.kind = (uint8_t)kind, .batch = st->batch};
	st->flushed = false;
	if (kind != PG_R_LOCAL)
		st->unsynced++;
	if (is_run(r))
		st->running++;
	if (kind == PG_R_EXECUTE)
		st->batch_runs++;
	return r;
}

void pg_end_batch(struct pg *st)
{
	st->batch++;
	st->syncs++;
	st->unsynced = 0;
	st->batch_runs = 0;
}

void pg_flag(struct pg *st, struct pg_reply *r, uint32_t flags)
{
	r->flags |= (uint16_t)flags;
	st->begins += !!(flags & PG_RF_TX_BEGIN);
	st->ends += !!(flags & PG_RF_TX_END);
	if (flags & PG_RF_SHAKY) {
		st->shaky = true;
		st->shaky_batch = st->batch;
	}
	st->ddls += !!(flags & PG_RF_DDL);
	if (flags & PG_RF_FORGET) {
		st->forgets++;
		st->forget_batch = st->batch;
		st->forget_serial = st->q.serial + st->q.n - 1;
	}
}

void pg_change(struct pg *st, struct pg_reply *r, struct pg_slot *slot, struct pg_obj *made)
{
	r->slot = slot;
	r->made = pg_obj_ref(made);
	r->flags |= PG_RF_CHANGE;
	pg_obj_unref(st, slot->cur);
	slot->cur = pg_obj_ref(made);
	slot->pending++;
	slot->batch = st->batch;
	slot->serial = st->q.serial + st->q.n - 1;
}

struct pg_reply *pg_head(const struct pg *st)
{
	return st->q.n ? entry(&st->q, 0) : NULL;
}

static void settle(struct pg *st, struct pg_reply *r, enum pg_outcome how)
{
	struct pg_slot *s = r->slot;

	if (how == PG_DONE_OK || (how == PG_DONE_ERROR && (r->flags & PG_RF_UNNAMED))) {
		pg_obj_unref(st, s->confirmed);
		s->confirmed = how == PG_DONE_OK ? pg_obj_ref(r->made) : NULL;
	}
	if (--s->pending == 0) {
		pg_obj_unref(st, s->cur);
		s->cur = pg_obj_ref(s->confirmed);
	}
	pg_name_done(st, s->portal ? &st->portals : &st->stmts, s);
}

static void release(struct pg *st, struct pg_reply *r)
{
	pg_obj_unref(st, (struct pg_obj *)r->portal);
	pg_obj_unref(st, (struct pg_obj *)r->stmt);
	pg_obj_unref(st, r->made);
	free(r->local);
}

static void uncount(struct pg *st, const struct pg_reply *r, uint32_t serial)
{
	if (st->await_copy && st->await == serial)
		st->await_copy = false;
	if (is_run(r))
		st->running--;
	st->begins -= !!(r->flags & PG_RF_TX_BEGIN);
	st->ends -= !!(r->flags & PG_RF_TX_END);
	st->ddls -= !!(r->flags & PG_RF_DDL);
	st->forgets -= !!(r->flags & PG_RF_FORGET);
}

void pg_unexpect(struct pg *st)
{
	struct pg_reply *r = entry(&st->q, st->q.n - 1);

	BUG_ON(r->flags & PG_RF_CHANGE);
	uncount(st, r, st->q.serial + st->q.n - 1);
	st->unsynced--;
	if (r->kind == PG_R_EXECUTE)
		st->batch_runs--;
	release(st, r);
	st->q.n--;
}

void pg_pop(struct pg *st, enum pg_outcome how)
{
	struct pg_queue *q = &st->q;
	struct pg_reply *r = entry(q, 0);

	uncount(st, r, q->serial);
	if (r->kind == PG_R_SYNC || r->kind == PG_R_QUERY || r->kind == PG_R_FUNCTION)
		st->syncs--;
	if (r->flags & PG_RF_DDL) {
		st->epoch++;
		st->unsettled = true;
	}
	if ((r->flags & PG_RF_FORGET) && how == PG_DONE_OK)
		pg_names_forget(st, &st->stmts);
	if ((r->flags & PG_RF_CLOSE_ALL) && how == PG_DONE_OK)
		pg_names_forget(st, &st->portals);
	if (r->flags & PG_RF_CHANGE)
		settle(st, r, how);
	release(st, r);
	q->head = (q->head + 1) & (q->cap - 1);
	q->n--;
	q->serial++;
	if (q->n == 0 && q->cap > RING_KEEP) {
		free(q->ring);
		*q = (struct pg_queue){.serial = q->serial};
	}
}

void pg_skip_batch(struct pg *st)
{
	pg_pop(st, PG_DONE_ERROR);
	while (st->q.n) {
		if (entry(&st->q, 0)->kind == PG_R_SYNC)
			return;
		pg_pop(st, PG_DONE_SKIPPED);
	}
	st->skip = true;
	/* A question about a message of this batch has lost its point. */
	st->asked = 0;
}

void pg_send_local(struct pg *st)
{
	struct pg_reply *r;

	while ((r = pg_head(st)) && r->kind == PG_R_LOCAL && pg_client_free(st)) {
		struct insp_out *out = pg_out(st, INSP_TO_CLIENT);

		insp_out_copy(out, slice_of(r->local->bytes, r->local->n));
		if (r->flags & PG_RF_READY) {
			const uint8_t z[] = {PG_B_READY_FOR_QUERY, 0, 0, 0, 5, st->status};

			insp_out_copy(out, slice_of(z, sizeof(z)));
		}
		pg_pop(st, PG_DONE_OK);
	}
}

bool pg_drop_syncs(struct pg *st)
{
	for (uint32_t i = 1; i < st->q.n; i++)
		if (entry(&st->q, i)->kind != PG_R_SYNC)
			return false;
	if (st->q.n > 1) {
		st->syncs -= st->q.n - 1;
		st->q.n = 1;
	}
	return true;
}

bool pg_queue_synced(const struct pg *st)
{
	return st->unsynced == 0;
}

void pg_queue_free(struct pg *st)
{
	for (uint32_t i = 0; i < st->q.n; i++)
		release(st, entry(&st->q, i));
	free(st->q.ring);
	st->q = (struct pg_queue){0};
}
