/* SPDX-License-Identifier: MIT */
#include "inspect/sql/gather.h"

#include <stdlib.h>

#include "base/reason.h"
#include "inspect/sql/hash.h"
#include "inspect/sql/sql.h"

enum { FIRST_WORDS = 64, FIRST_ACCESSES = 32, MAX_SECRETS = 64, REFS_CONSTANT = -1 };

struct info_block {
	int refs; /* REFS_CONSTANT: never freed */
	size_t bytes;
	struct sql_info info;
};

void gather_done(struct gather *g)
{
	free(g->words);
	free(g->slots);
	free(g->accesses);
	free(g->seen);
	free(g->secrets);
	free(g->copy_columns);
	*g = (struct gather){0};
}

/* Keeps memory of ordinary size. */
static void trim(struct gather *g)
{
	if (g->cap_words > 16 * FIRST_WORDS || g->cap_access > 16 * FIRST_ACCESSES ||
	    g->cap_copy_columns > 2048)
		gather_done(g);
}

void gather_reset(struct gather *g)
{
	struct gather old;

	trim(g);
	old = *g;
	*g = (struct gather){
		.words = old.words,
		.cap_words = old.cap_words,
		.slots = old.slots,
		.nslots = old.nslots,
		.accesses = old.accesses,
		.cap_access = old.cap_access,
		.seen = old.seen,
		.nseen = old.nseen,
		.secrets = old.secrets,
		.cap_secrets = old.cap_secrets,
		.copy_columns = old.copy_columns,
		.cap_copy_columns = old.cap_copy_columns,
	};
	if (g->slots)
		memset(g->slots, 0, g->nslots * sizeof(*g->slots));
	if (g->seen)
		memset(g->seen, 0, g->nseen * sizeof(*g->seen));
	(void)gather_word(g, (struct slice){0}, 0);
}

/* Doubles an array that is full; false (and failed) without memory. */
static bool room(struct gather *g, void *array, uint32_t n, uint32_t *cap, size_t size,
		 uint32_t first)
{
	uint32_t want = *cap ? *cap * 2 : first;
	void **p = array, *mem;

	if (n < *cap)
		return true;
	mem = reallocarray(*p, want, size);
	if (!mem) {
		g->failed = true;
		return false;
	}
	*p = mem;
	*cap = want;
	return true;
}

static bool grow_slots(struct gather *g)
{
	uint32_t n = g->nslots ? g->nslots * 2 : 2 * FIRST_WORDS;
	uint32_t *slots = calloc(n, sizeof(*slots));

	if (!slots) {
		g->failed = true;
		return false;
	}
	for (uint32_t w = 0; w < g->nwords; w++) {
		uint32_t i = g->words[w].hash & (n - 1);

		while (slots[i])
			i = (i + 1) & (n - 1);
		slots[i] = w + 1;
	}
	free(g->slots);
	g->slots = slots;
	g->nslots = n;
	return true;
}

uint32_t gather_word(struct gather *g, struct slice s, uint32_t bits)
{
	uint32_t hash = sql_hash32(s.p, s.n), i;

	if (!s.n)
		bits = 0; /* word 0: no name */
	if (g->nwords * 2 >= g->nslots && !grow_slots(g))
		return 0;
	for (i = hash & (g->nslots - 1); g->slots[i]; i = (i + 1) & (g->nslots - 1)) {
		struct word *w = &g->words[g->slots[i] - 1];

		if (w->hash == hash && slice_eq(w->s, s)) {
			w->bits |= bits;
			return g->slots[i] - 1;
		}
	}
	if (!room(g, &g->words, g->nwords, &g->cap_words, sizeof(*g->words), FIRST_WORDS))
		return 0;
	g->words[g->nwords] = (struct word){.s = s, .hash = hash, .bits = bits};
	g->slots[i] = ++g->nwords;
	gather_foreign(g, s);
	return g->nwords - 1;
}

static bool grow_seen(struct gather *g)
{
	uint32_t n = g->nseen ? g->nseen * 2 : 2 * FIRST_ACCESSES;
	uint64_t *seen = calloc(n, sizeof(*seen));

	if (!seen) {
		g->failed = true;
		return false;
	}
	for (uint32_t j = 0; j < g->nseen; j++) {
		uint32_t i = (uint32_t)sql_mix64(g->seen[j]) & (n - 1);

		if (!g->seen[j])
			continue;
		while (seen[i])
			i = (i + 1) & (n - 1);
		seen[i] = g->seen[j];
	}
	free(g->seen);
	g->seen = seen;
	g->nseen = n;
	return true;
}

void gather_access(struct gather *g, uint32_t effect, enum sql_object_kind kind,
		   struct slice schema, struct slice name)
{
	uint32_t sw = gather_word(g, schema, 0), nw = gather_word(g, name, 0), i;
	/* Words are fewer than 2^28: a text has no more tokens than that. */
	uint64_t key = (uint64_t)__builtin_ctz(effect) << 60 | (uint64_t)kind << 58 |
		       (uint64_t)sw << 29 | (uint64_t)nw << 1 | 1;

	g->effects |= effect;
	if (g->naccess * 2 >= g->nseen && !grow_seen(g))
		return;
	for (i = (uint32_t)sql_mix64(key) & (g->nseen - 1); g->seen[i];
	     i = (i + 1) & (g->nseen - 1))
		if (g->seen[i] == key)
			return;
	if (!room(g, &g->accesses, g->naccess, &g->cap_access, sizeof(*g->accesses),
		  FIRST_ACCESSES))
		return;
	g->seen[i] = key;
	g->accesses[g->naccess++] =
		(struct gathered_access){.effect = effect, .kind = kind, .schema = sw, .name = nw};
}

void gather_unknown(struct gather *g, uint16_t why)
{
	if (!(g->effects & SQL_UNKNOWN))
		g->why = why;
	g->effects |= SQL_UNKNOWN;
}

void gather_foreign(struct gather *g, struct slice name)
{
	uint8_t any = 0;

	for (size_t i = 0; g->foreign && i < name.n; i++)
		any |= name.p[i];
	if (any & 0x80)
		gather_unknown(g, TG_R_SQL_UNPARSED);
}

void gather_secret(struct gather *g, size_t off, size_t n)
{
	size_t end = off + n;

	for (uint32_t i = 0; i < g->nsecrets; i++)
		if (g->secrets[i].off <= off && end <= g->secrets[i].off + g->secrets[i].n)
			return;
	if (g->nsecrets == MAX_SECRETS) {
		struct sql_secret *last = &g->secrets[MAX_SECRETS - 1];

		/* So many are no accident: hide everything from the last one on. */
		end = max_size(end, last->off + last->n);
		off = min_size(off, last->off);
		*last = (struct sql_secret){.off = (uint32_t)off, .n = (uint32_t)(end - off)};
		return;
	}
	if (!room(g, &g->secrets, g->nsecrets, &g->cap_secrets, sizeof(*g->secrets), 4))
		return;
	g->secrets[g->nsecrets++] = (struct sql_secret){.off = (uint32_t)off, .n = (uint32_t)n};
}

void gather_copy_column(struct gather *g, struct slice name)
{
	if (g->copy.ncolumns == UINT16_MAX) {
		gather_unknown(g, TG_R_SQL_TOO_LONG);
		return;
	}
	if (!room(g, &g->copy_columns, g->copy.ncolumns, &g->cap_copy_columns,
		  sizeof(*g->copy_columns), 32))
		return;
	g->copy_columns[g->copy.ncolumns++] = name;
}

/* ---------------------------------------------------------------- packing */

struct packer {
	uint8_t *p;
};

static void *take(struct packer *k, size_t n)
{
	void *p = k->p;

	k->p += (n + 7) & ~(size_t)7;
	return p;
}

static struct slice put(struct packer *k, struct slice s)
{
	struct slice ret = {.p = k->p, .n = s.n};

	if (!s.n)
		return (struct slice){0};
	memcpy(k->p, s.p, s.n);
	k->p += s.n;
	return ret;
}

static int by_text(const void *a, const void *b)
{
	const struct slice *x = a, *y = b;
	int c = memcmp(x->p, y->p, min_size(x->n, y->n));

	return c ? c : (x->n > y->n) - (x->n < y->n);
}

static size_t need(const struct gather *g, uint32_t *ret_names)
{
	size_t n = sizeof(struct info_block) + 64;

	/* Of names, and dropped ones behind them. */
	*ret_names = 0;
	for (uint32_t i = 0; i < g->nwords; i++) {
		n += g->words[i].s.n;
		*ret_names += (g->words[i].bits & WORD_NAME) != 0;
		*ret_names += (g->words[i].bits & WORD_DROPPED) != 0;
	}
	n += *ret_names * sizeof(struct slice);
	n += g->naccess * sizeof(struct sql_access);
	n += g->nsecrets * sizeof(struct sql_secret);
	n += g->handle.n + g->error.n;
	if (g->has_copy) {
		n += sizeof(struct sql_copy) + g->copy.ncolumns * sizeof(struct slice);
		n += g->copy.null_text.n + g->copy.schema.n + g->copy.relation.n;
		for (uint32_t i = 0; i < g->copy.ncolumns; i++)
			n += g->copy_columns[i].n;
	}
	return n;
}

/* Strings go behind all arrays, so that the arrays stay aligned. */
static void pack_copy(const struct gather *g, struct packer *k, struct sql_copy *c,
		      struct slice *columns)
{
	*c = g->copy;
	c->null_text = put(k, c->null_text);
	c->schema = put(k, c->schema);
	c->relation = put(k, c->relation);
	c->columns = columns;
	for (uint32_t i = 0; i < c->ncolumns; i++)
		columns[i] = put(k, g->copy_columns[i]);
}

/* What only the whole text can tell. */
static void finish(struct gather *g)
{
	uint32_t have = 0;

	/* A name that stands alone and is also that of a row source means the whole row. */
	for (uint32_t i = 0; i < g->nwords; i++)
		if ((g->words[i].bits & (WORD_RANGE | WORD_SINGLE)) == (WORD_RANGE | WORD_SINGLE))
			g->flags |= SQL_F_STAR;
	if (g->effects & SQL_UNKNOWN)
		g->flags |= SQL_F_STAR | SQL_F_CARRIES | SQL_F_USER_FUNCTION;
	/* Every effect is judged, also one without an object. */
	for (uint32_t i = 0; i < g->naccess; i++)
		have |= g->accesses[i].effect;
	for (uint32_t left = g->effects & ~have; left; left &= left - 1)
		gather_access(g, left & -left, SQL_OBJ_NONE, (struct slice){0}, (struct slice){0});
}

const struct sql_info *gather_pack(struct gather *g)
{
	uint32_t nnames, ndropped;
	size_t bytes;
	struct info_block *b;
	struct sql_access *access;
	struct sql_secret *secrets;
	struct sql_copy *copy = NULL;
	struct slice *names, *columns = NULL;
	struct packer k;

	finish(g);
	if (g->failed || g->naccess > UINT16_MAX)
		return NULL;
	bytes = need(g, &nnames);
	b = malloc(bytes);
	if (!b)
		return NULL;
	k.p = (uint8_t *)(b + 1);
	access = take(&k, g->naccess * sizeof(*access));
	names = take(&k, nnames * sizeof(*names));
	secrets = take(&k, g->nsecrets * sizeof(*secrets));
	if (g->has_copy) {
		copy = take(&k, sizeof(*copy));
		columns = take(&k, g->copy.ncolumns * sizeof(*columns));
	}
	for (uint32_t i = 0; i < g->nwords; i++)
		g->words[i].s = put(&k, g->words[i].s);
	nnames = 0;
	for (uint32_t i = 0; i < g->nwords; i++)
		if (g->words[i].bits & WORD_NAME)
			names[nnames++] = g->words[i].s;
	qsort(names, nnames, sizeof(*names), by_text);
	ndropped = 0;
	for (uint32_t i = 0; i < g->nwords; i++)
		if (g->words[i].bits & WORD_DROPPED)
			names[nnames + ndropped++] = g->words[i].s;
	for (uint32_t i = 0; i < g->naccess; i++)
		access[i] = (struct sql_access){
			.effect = (uint16_t)g->accesses[i].effect,
			.kind = (uint8_t)g->accesses[i].kind,
			.schema = g->words[g->accesses[i].schema].s,
			.name = g->words[g->accesses[i].name].s,
		};
	if (g->nsecrets)
		memcpy(secrets, g->secrets, g->nsecrets * sizeof(*secrets));
	if (copy)
		pack_copy(g, &k, copy, columns);
	b->refs = 1;
	b->bytes = bytes;
	b->info = (struct sql_info){
		.effects = g->effects,
		.flags = g->flags,
		.why = g->why,
		.naccess = (uint16_t)g->naccess,
		.nstatements = g->nstatements,
		.nnames = nnames,
		.access = access,
		.names = names,
		.dropped = names + nnames,
		.ndropped = ndropped,
		.handle = put(&k, g->handle),
		.copy = copy,
		.error = put(&k, g->error),
		.error_pos = g->error_pos,
		.secrets = secrets,
		.nsecrets = (uint16_t)g->nsecrets,
		.shape = g->shape,
	};
	BUG_ON(k.p > (uint8_t *)b + bytes);
	return &b->info;
}

/* -------------------------------------------------------------- references */

static struct info_block *block_of(const struct sql_info *info)
{
	return (struct info_block *)((uintptr_t)info - offsetof(struct info_block, info));
}

const struct sql_info *sql_info_ref(const struct sql_info *info)
{
	struct info_block *b = block_of(info);

	if (b->refs != REFS_CONSTANT)
		b->refs++;
	return info;
}

void sql_info_unref(const struct sql_info *info)
{
	struct info_block *b;

	if (!info)
		return;
	b = block_of(info);
	if (b->refs == REFS_CONSTANT)
		return;
	BUG_ON(b->refs < 1);
	if (--b->refs == 0)
		free(b);
}

size_t sql_info_bytes(const struct sql_info *info)
{
	return block_of(info)->bytes;
}

const struct sql_info *sql_info_refusal(uint16_t why)
{
	static const struct sql_access unknown = {.effect = SQL_UNKNOWN};
#define REFUSAL(reason)                                                              \
	{                                                                            \
		.refs = REFS_CONSTANT, .bytes = sizeof(struct info_block), .info = { \
			.effects = SQL_UNKNOWN,                                      \
			.flags = SQL_F_STAR | SQL_F_CARRIES | SQL_F_USER_FUNCTION,   \
			.why = (reason),                                             \
			.naccess = 1,                                                \
			.nstatements = 1,                                            \
			.access = &unknown                                           \
		}                                                                    \
	}
	static const struct info_block refusals[] = {
		REFUSAL(TG_R_NO_MEMORY), /* first: also stands for a reason that is not listed */
		REFUSAL(TG_R_SQL_UNPARSED),
		REFUSAL(TG_R_SQL_TOO_LONG),
		REFUSAL(TG_R_SQL_TOO_DEEP),
	};
#undef REFUSAL

	for (size_t i = 0; i < ARRAY_SIZE(refusals); i++)
		if (refusals[i].info.why == why)
			return &refusals[i].info;
	return &refusals[0].info;
}
