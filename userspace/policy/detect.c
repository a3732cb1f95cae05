/* SPDX-License-Identifier: MIT */
/* Choice of the engine, and the order in which verified hits leave. */
#include "policy/detect.h"

#include "policy/detect_run.h"

static bool force_portable;

void detect_force_portable(bool on)
{
	force_portable = on;
}

static bool use_avx2(void)
{
#if defined(__x86_64__)
	return !force_portable && __builtin_cpu_supports("avx2");
#else
	return false;
#endif
}

const char *detect_engine(void)
{
	return use_avx2() ? "avx2" : "portable";
}

/* Leftmost first, then the longest, then by detector. */
static bool goes_before(const struct detect_hit *a, const struct detect_hit *b)
{
	if (a->off != b->off)
		return a->off < b->off;
	if (a->n != b->n)
		return a->n > b->n;
	return a->bit < b->bit;
}

static void sort_pending(struct detect_run *r)
{
	for (uint32_t i = 1; i < r->npending; i++) {
		struct detect_hit h = r->pending[i];
		uint32_t k = i;

		for (; k > 0 && goes_before(&h, &r->pending[k - 1]); k--)
			r->pending[k] = r->pending[k - 1];
		r->pending[k] = h;
	}
}

/* Emits the pending hits that start before @limit: none can come before them any more. */
static bool emit_before(struct detect_run *r, size_t limit)
{
	uint32_t i;

	sort_pending(r);
	for (i = 0; i < r->npending && r->pending[i].off < limit; i++) {
		struct detect_hit h = r->pending[i];
		size_t end = (size_t)h.off + h.n;

		if (end <= r->emitted_end)
			continue;
		if (r->nhits == r->cap)
			return false;
		if (h.off < r->emitted_end)
			h.off = (uint32_t)r->emitted_end;
		h.n = (uint32_t)(end - h.off);
		r->hits[r->nhits++] = h;
		r->emitted_end = end;
	}
	memmove(r->pending, r->pending + i, (r->npending - i) * sizeof(r->pending[0]));
	r->npending -= i;
	return true;
}

bool detect_verify_group(struct detect_run *r, size_t base, const struct detect_cands *c,
			 uint64_t nonzero)
{
	r->group_end = base + GROUP_BYTES;
	if (r->npending && !emit_before(r, base > DETECT_REACH ? base - DETECT_REACH : 0))
		return false;
	/*
	 * Cannot be: what is kept starts within DETECT_REACH bytes, and the hits of one
	 * detector do not overlap. Were it so, order would be kept and ranges trimmed.
	 */
	if (unlikely(r->npending > DETECT_PENDING / 4) && !emit_before(r, SIZE_MAX))
		return false;
	if (r->card_next != SIZE_MAX)
		detect_verify_card_run(r, r->card_next);
	while (nonzero) {
		unsigned i = (unsigned)__builtin_ctzll(nonzero);
		uint64_t bits = c->word[i / GROUP_WORDS][i % GROUP_WORDS];

		for (; bits; bits &= bits - 1)
			detect_verify(r, i / GROUP_WORDS,
				      base + i % GROUP_WORDS * 64 + (size_t)__builtin_ctzll(bits));
		nonzero &= nonzero - 1;
	}
	return true;
}

size_t detect_scan(const uint8_t *p, size_t n, uint32_t want, struct detect_hit *hits, size_t cap)
{
	struct detect_run r;

	if (n == 0 || want == 0 || cap == 0)
		return 0;
	r.p = p;
	r.n = n;
	r.want = want;
	r.hits = hits;
	r.cap = cap;
	r.nhits = 0;
	r.emitted_end = 0;
	r.card_next = SIZE_MAX;
	r.jwt_run_end = r.jwt_end = 0;
	memset(r.last_end, 0, sizeof(r.last_end));
	r.npending = 0; /* pending[] itself is not cleared: it is large */
#if defined(__x86_64__)
	if (use_avx2())
		detect_engine_avx2(&r);
	else
#endif
		detect_engine_portable(&r);
	(void)emit_before(&r, SIZE_MAX); /* false: hits[] is full, as the caller sees */
	return r.nhits;
}
