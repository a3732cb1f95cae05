/* SPDX-License-Identifier: MIT */
/*
 * Prepared statements and portals by name. They come and go for as long as
 * the session lives, so they are counted and freed one by one instead of
 * living in the flow's arena.
 */
#include "inspect/pg.h"

#include <stdlib.h>
#include <string.h>

enum { FIRST_BUCKETS = 64, LOAD = 4 };

/* ---------------------------------------------------------------- objects */

static bool charge(struct pg *st, size_t n)
{
	if (st->objects >= PG_OBJECTS_MAX || n > PG_OBJECTS_BYTES ||
	    st->objects_bytes > PG_OBJECTS_BYTES - n)
		return false;
	st->objects++;
	st->objects_bytes += n;
	return true;
}

struct pg_stmt *pg_stmt_new(struct pg *st, const struct sql_info *info, struct slice text,
			    struct slice types)
{
	size_t n = sizeof(struct pg_stmt) + text.n + types.n;
	struct pg_stmt *s;

	if (!charge(st, n))
		return NULL;
	/* One for each statement: glibc keeps what was freed at hand for malloc(), not for
	 * calloc(). */
	s = malloc(n);
	if (!s) {
		st->objects--;
		st->objects_bytes -= n;
		return NULL;
	}
	*s = (struct pg_stmt){.obj = {.refs = 1, .charge = n}};
	s->info = pg_info_ref(info);
	s->text_n = (uint32_t)text.n;
	s->types_n = (uint32_t)types.n;
	if (text.n)
		memcpy(s->bytes, text.p, text.n);
	if (types.n)
		memcpy(s->bytes + text.n, types.p, types.n);
	return s;
}

struct pg_portal *pg_portal_new(struct pg *st, struct pg_stmt *stmt, uint32_t nformats)
{
	size_t n = sizeof(struct pg_portal) + nformats;
	struct pg_portal *p;

	if (!charge(st, n))
		return NULL;
	p = malloc(n);
	if (!p) {
		st->objects--;
		st->objects_bytes -= n;
		return NULL;
	}
	*p = (struct pg_portal){.obj = {.refs = 1, .charge = n, .portal = true}};
	memset(p->formats, 0, nformats);
	p->stmt = (struct pg_stmt *)pg_obj_ref(&stmt->obj);
	p->nformats = (uint16_t)nformats;
	return p;
}

struct pg_obj *pg_obj_ref(struct pg_obj *o)
{
	if (o)
		o->refs++;
	return o;
}

static void stmt_free(struct pg *st, struct pg_stmt *s)
{
	pg_info_unref(s->info);
	pg_desc_unref(s->desc);
	free(s);
}

void pg_obj_unref(struct pg *st, struct pg_obj *o)
{
	/* What an object refers to goes with it: a portal's statement, a statement's target. */
	while (o && --o->refs == 0) {
		struct pg_obj *next;

		st->objects--;
		st->objects_bytes -= o->charge;
		if (o->portal) {
			next = &((struct pg_portal *)o)->stmt->obj;
			free(((struct pg_portal *)o)->params);
			free(o);
		} else {
			struct pg_stmt *s = (struct pg_stmt *)o;

			next = s->via ? &s->via->obj : NULL;
			stmt_free(st, s);
		}
		o = next;
	}
}

struct pg_desc *pg_desc_ref(struct pg_desc *d)
{
	if (d)
		d->refs++;
	return d;
}

void pg_desc_unref(struct pg_desc *d)
{
	if (d && --d->refs == 0)
		free(d);
}

/* ------------------------------------------------------------------ names */

/* FNV-1a: names are short and an agent that makes them collide slows itself only. */
static uint32_t hash_name(struct slice s)
{
	uint32_t h = 2166136261u;

	for (size_t i = 0; i < s.n; i++)
		h = (h ^ s.p[i]) * 16777619u;
	return h;
}

/* The server looks at this much of a name. */
static struct slice clip(struct slice name)
{
	return slice_of(name.p, min_size(name.n, PG_NAME_MAX));
}

struct pg_slot *pg_name_find(const struct pg_names *t, struct slice name)
{
	uint32_t h;

	name = clip(name);
	if (name.n == 0)
		return t->unnamed;
	if (!t->nbucket)
		return NULL;
	h = hash_name(name);
	for (struct pg_slot *s = t->bucket[h & (t->nbucket - 1)]; s; s = s->next)
		if (s->hash == h && slice_eq(slice_of(s->name, s->name_n), name))
			return s;
	return NULL;
}

static bool grow(struct pg_names *t)
{
	uint32_t n = t->nbucket ? t->nbucket * LOAD : FIRST_BUCKETS;
	struct pg_slot **bucket = calloc(n, sizeof(struct pg_slot *));

	if (!bucket)
		return false;
	for (uint32_t i = 0; i < t->nbucket; i++)
		for (struct pg_slot *s = t->bucket[i], *next; s; s = next) {
			next = s->next;
			s->next = bucket[s->hash & (n - 1)];
			bucket[s->hash & (n - 1)] = s;
		}
	free(t->bucket);
	t->bucket = bucket;
	t->nbucket = n;
	return true;
}

struct pg_slot *pg_name_get(struct pg *st, struct pg_names *t, struct slice name)
{
	struct pg_slot *s = pg_name_find(t, name);

	if (s)
		return s;
	name = clip(name);
	if (name.n && t->n >= t->nbucket * LOAD && !grow(t))
		return NULL;
	if (!charge(st, sizeof(*s) + name.n))
		return NULL;
	s = calloc(1, sizeof(*s) + name.n);
	if (!s) {
		st->objects--;
		st->objects_bytes -= sizeof(*s) + name.n;
		return NULL;
	}
	s->name_n = (uint32_t)name.n;
	s->portal = t == &st->portals;
	if (name.n == 0) {
		t->unnamed = s;
		return s;
	}
	memcpy(s->name, name.p, name.n);
	s->hash = hash_name(name);
	s->next = t->bucket[s->hash & (t->nbucket - 1)];
	t->bucket[s->hash & (t->nbucket - 1)] = s;
	t->n++;
	return s;
}

bool pg_name_unsure(const struct pg *st, const struct pg_names *t, const struct pg_slot *s)
{
	if (t == &st->stmts && st->forgets && st->forget_batch != st->batch &&
	    !(s && s->batch == st->batch && s->pending))
		return true;
	return s && s->pending && s->batch != st->batch;
}

struct pg_obj *pg_name_cur(const struct pg *st, const struct pg_names *t, const struct pg_slot *s)
{
	if (!s)
		return NULL;
	/* DEALLOCATE ALL in this batch: only what was made after it counts. */
	if (t == &st->stmts && st->forgets &&
	    !(s->pending && (int32_t)(s->serial - st->forget_serial) > 0))
		return NULL;
	return s->cur;
}

static void slot_free(struct pg *st, struct pg_slot *s)
{
	st->objects--;
	st->objects_bytes -= sizeof(*s) + s->name_n;
	pg_obj_unref(st, s->cur);
	pg_obj_unref(st, s->confirmed);
	free(s);
}

/* The slot goes if it means nothing any more. The unnamed one stays. */
void pg_name_done(struct pg *st, struct pg_names *t, struct pg_slot *s)
{
	struct pg_slot **at;

	if (s->pending || s->cur || s->confirmed || s->name_n == 0)
		return;
	for (at = &t->bucket[s->hash & (t->nbucket - 1)]; *at != s; at = &(*at)->next)
		;
	*at = s->next;
	t->n--;
	slot_free(st, s);
}

static void slot_forget(struct pg *st, struct pg_slot *s)
{
	pg_obj_unref(st, s->confirmed);
	s->confirmed = NULL;
	if (s->pending)
		return;
	pg_obj_unref(st, s->cur);
	s->cur = NULL;
}

/* The server has dropped all of them, except what is still on its way. */
void pg_names_forget(struct pg *st, struct pg_names *t)
{
	if (t->unnamed)
		slot_forget(st, t->unnamed);
	if (!t->n)
		return;
	for (uint32_t i = 0; i < t->nbucket; i++)
		for (struct pg_slot *s = t->bucket[i], *next; s; s = next) {
			next = s->next;
			slot_forget(st, s);
			pg_name_done(st, t, s);
		}
}

void pg_names_free(struct pg *st, struct pg_names *t)
{
	for (uint32_t i = 0; i < t->nbucket; i++)
		for (struct pg_slot *s = t->bucket[i], *next; s; s = next) {
			next = s->next;
			slot_free(st, s);
		}
	if (t->unnamed)
		slot_free(st, t->unnamed);
	free(t->bucket);
	*t = (struct pg_names){0};
}
