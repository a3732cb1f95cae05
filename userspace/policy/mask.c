/* SPDX-License-Identifier: MIT */
/*
 * Values in, values out. Short values are put into one scratch with a zero
 * byte between them, so that a row costs one scan; long ones are scanned where
 * they are. Memory is kept from call to call.
 */
#include "policy/mask.h"

#include <errno.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>

#include "base/text.h"
#include "policy/detect.h"
#include "policy/mask_set.h"

enum {
	SCRATCH_BYTES = 32 * 1024,
	SCRATCH_VALUES = 2048,
	LONG_VALUE = 2048, /* from here on a copy costs more than a scan of its own */
	SHORTEST_HIT = 6,  /* a@b.cc */
	CHUNK_BYTES = 64 * 1024,
	CHUNKS_KEPT = 1 << 20, /* bytes; what a large call needed more is given back */
	LONGEST_LAST4 = 256,
	HASH_TEXT = 18,
};

struct chunk {
	struct chunk *next;
	size_t cap, used;
	uint8_t mem[];
};

struct hits {
	struct detect_hit *v;
	size_t n, cap;
};

struct masker {
	EVP_MAC_CTX *mac;
	struct chunk *chunks; /* the first is the one being filled */
	struct hits found, user, both;
	struct patterns_scratch *scratch;
	uint32_t nbatch;
	size_t used; /* bytes of text[] */
	uint32_t want;
	struct {
		uint32_t value, off;
	} batch[SCRATCH_VALUES];
	uint8_t text[SCRATCH_BYTES];
};

static const uint8_t redacted[] = {'*', '*', '*'};

int masker_new(const uint8_t key[32], struct masker **ret)
{
	char digest[] = "SHA256";
	OSSL_PARAM params[] = {
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};
	struct masker *m = calloc(1, sizeof(*m));
	EVP_MAC *mac = EVP_MAC_fetch(NULL, "HMAC", NULL);

	if (m && mac)
		m->mac = EVP_MAC_CTX_new(mac);
	EVP_MAC_free(mac);
	if (!m || !m->mac || EVP_MAC_init(m->mac, key, 32, params) != 1) {
		masker_free(m);
		return -ENOMEM;
	}
	*ret = m;
	return 0;
}

static void free_chunks(struct chunk *c)
{
	struct chunk *next;

	for (; c; c = next) {
		next = c->next;
		free(c);
	}
}

void masker_free(struct masker *m)
{
	if (!m)
		return;
	EVP_MAC_CTX_free(m->mac);
	free_chunks(m->chunks);
	patterns_scratch_free(m->scratch);
	free(m->found.v);
	free(m->user.v);
	free(m->both.v);
	explicit_bzero(m->text, sizeof(m->text));
	free(m);
}

/* ---------------------------------------------------------------- output */

/* Outputs do not move, so chunks are added, never grown. */
static uint8_t *out_alloc(struct masker *m, size_t n)
{
	struct chunk *c = m->chunks;
	size_t cap = max_size(n, CHUNK_BYTES);

	if (!c || n > c->cap - c->used) {
		c = cap < SIZE_MAX - sizeof(*c) ? malloc(sizeof(*c) + cap) : NULL;
		if (!c)
			return NULL;
		c->cap = cap;
		c->used = 0;
		c->next = m->chunks;
		m->chunks = c;
	}
	c->used += n;
	return c->mem + c->used - n;
}

/* Gives back what the last out_alloc() got too much. */
static void out_trim(struct masker *m, size_t n)
{
	m->chunks->used -= n;
}

/* A call that needed several chunks leaves one that would have been enough. */
static void out_reset(struct masker *m)
{
	size_t used = 0;

	if (!m->chunks)
		return;
	for (struct chunk *c = m->chunks; c; c = c->next)
		used += c->cap;
	if (!m->chunks->next && used <= CHUNKS_KEPT) {
		m->chunks->used = 0;
		return;
	}
	free_chunks(m->chunks);
	m->chunks = NULL;
	if (used <= CHUNKS_KEPT && out_alloc(m, used))
		m->chunks->used = 0;
}

static void set_out(struct insp_value *v, const uint8_t *p, size_t n)
{
	v->out = slice_of(p, n);
	v->changed = true;
}

static void set_redacted(struct insp_value *v)
{
	set_out(v, redacted, sizeof(redacted));
}

/* ---------------------------------------------------------- replacements */

static size_t write_redacted(uint8_t *dst)
{
	memcpy(dst, redacted, sizeof(redacted));
	return sizeof(redacted);
}

static bool is_alnum(uint8_t ch)
{
	return (ch >= '0' && ch <= '9') || ((ch | 0x20) >= 'a' && (ch | 0x20) <= 'z');
}

/* One character from @i on: its bytes, and whether it is one that is hidden. */
static size_t next_char(struct slice s, size_t i, bool *ret_hide)
{
	size_t n = 1;

	if (s.p[i] >= 0x80) {
		n = utf8_length(slice_from(s, i));
		*ret_hide = true;
		return n ? n : 1;
	}
	*ret_hide = is_alnum(s.p[i]);
	return n;
}

/* At most s.n bytes, or three. */
static size_t write_last4(struct slice s, uint8_t *dst)
{
	size_t total = 0, seen = 0, used = 0, n;
	bool hide;

	for (size_t i = 0; i < s.n; i += n) {
		n = next_char(s, i, &hide);
		total += hide;
	}
	if (total <= 4)
		return write_redacted(dst);
	for (size_t i = 0; i < s.n; i += n) {
		n = next_char(s, i, &hide);
		if (hide && seen++ < total - 4) {
			dst[used++] = '*';
			continue;
		}
		memcpy(dst + used, s.p + i, n);
		used += n;
	}
	return used;
}

/* HASH_TEXT bytes; the redaction if OpenSSL fails. */
static size_t write_hash(struct masker *m, struct slice s, uint8_t *dst)
{
	uint8_t mac[32];
	char hex[2 * 8 + 1];
	size_t n = 0;

	if (EVP_MAC_init(m->mac, NULL, 0, NULL) != 1 || EVP_MAC_update(m->mac, s.p, s.n) != 1 ||
	    EVP_MAC_final(m->mac, mac, &n, sizeof(mac)) != 1 || n != sizeof(mac))
		return write_redacted(dst);
	text_hex(mac, 8, hex);
	memcpy(dst, "h:", 2);
	memcpy(dst + 2, hex, 16);
	return HASH_TEXT;
}

static size_t replacement_max(enum mask_how how, size_t n)
{
	switch (how) {
	case MASK_LAST4:
		return max_size(n, sizeof(redacted));
	case MASK_HASH:
		return HASH_TEXT;
	case MASK_NONE:
	case MASK_REDACT:
	case MASK_NULL:
		break;
	}
	return sizeof(redacted);
}

static size_t write_replacement(struct masker *m, enum mask_how how, struct slice s, uint8_t *dst)
{
	switch (how) {
	case MASK_LAST4:
		return write_last4(s, dst);
	case MASK_HASH:
		return write_hash(m, s, dst);
	case MASK_NONE:
	case MASK_REDACT:
	case MASK_NULL:
		break;
	}
	return write_redacted(dst);
}

static void mask_whole(struct masker *m, struct insp_value *v)
{
	enum mask_how how = v->plan->how;
	size_t room = replacement_max(how, v->in.n);
	uint8_t *dst;
	size_t n;

	if (how == MASK_NULL) {
		set_out(v, NULL, 0);
		return;
	}
	if (how == MASK_REDACT || !(dst = out_alloc(m, room))) {
		set_redacted(v);
		return;
	}
	n = write_replacement(m, how, v->in, dst);
	out_trim(m, room - n);
	set_out(v, dst, n);
}

/* ------------------------------------------------------------------ hits */

static enum mask_how how_of(const struct mask_set *set, const struct insp_value *v,
			    const struct detect_hit *h)
{
	enum mask_how how =
		set && set->found_how[h->bit] ? set->found_how[h->bit] : v->plan->found_how;

	if (how == MASK_LAST4 && (h->bit == DETECT_BIT_PRIVATE_KEY || h->n > LONGEST_LAST4))
		return MASK_REDACT;
	return how == MASK_NONE ? MASK_REDACT : how;
}

/* Hits in @v, whose offsets count from @origin. */
static void replace_hits(struct masker *m, const struct mask_set *set, struct insp_value *v,
			 const struct detect_hit *h, size_t n, size_t origin)
{
	size_t room = v->in.n, at = 0, used = 0;
	uint8_t *dst;

	for (size_t i = 0; i < n; i++) {
		enum mask_how how = how_of(set, v, &h[i]);

		v->hits |= 1u << h[i].bit;
		room += replacement_max(how, h[i].n);
		if (how == MASK_NULL)
			set_out(v, NULL, 0);
	}
	if (v->changed)
		return;
	dst = out_alloc(m, room);
	if (!dst) {
		set_redacted(v);
		return;
	}
	for (size_t i = 0; i < n; i++) {
		size_t off = h[i].off - origin;

		memcpy(dst + used, v->in.p + at, off - at);
		used += off - at;
		used += write_replacement(m, how_of(set, v, &h[i]), slice_of(v->in.p + off, h[i].n),
					  dst + used);
		at = off + h[i].n;
	}
	if (v->in.n > at)
		memcpy(dst + used, v->in.p + at, v->in.n - at);
	used += v->in.n - at;
	out_trim(m, room - used);
	set_out(v, dst, used);
}

static bool hits_room(struct hits *h, size_t n)
{
	size_t cap = h->cap ? h->cap : 256;
	struct detect_hit *v;

	if (n <= h->cap)
		return true;
	while (cap < n)
		cap *= 2;
	v = realloc(h->v, cap * sizeof(*v));
	if (!v)
		return false;
	h->v = v;
	h->cap = cap;
	return true;
}

/* All hits in @p[0..n), into m->found. A full array is not trusted but grown, and filled again. */
static bool find_all(struct masker *m, const uint8_t *p, size_t n, uint32_t want)
{
	size_t cap = 256;

	if (n > UINT32_MAX / 2)
		return false;
	for (;; cap *= 4) {
		if (!hits_room(&m->found, cap))
			return false;
		m->found.n = detect_scan(p, n, want, m->found.v, m->found.cap);
		if (m->found.n < m->found.cap)
			return true;
		cap = m->found.cap;
	}
}

/* Overlapping matches become one. Ends ascend, so only the last ones can be touched. */
static bool add_user_hit(void *ctx, uint32_t id, size_t start, size_t end)
{
	struct masker *m = ctx;
	struct hits *u = &m->user;

	while (u->n && u->v[u->n - 1].off + u->v[u->n - 1].n > start) {
		start = min_size(start, u->v[u->n - 1].off);
		u->n--;
	}
	if (!hits_room(u, u->n + 1))
		return false;
	u->v[u->n++] = (struct detect_hit){
		.off = (uint32_t)start, .n = (uint32_t)(end - start), .bit = DETECT_BIT_PATTERN};
	return true;
}

static bool find_user(struct masker *m, const struct mask_set *set, struct slice s)
{
	m->user.n = 0;
	return s.n <= UINT32_MAX / 2 &&
	       patterns_where(set->patterns, &m->scratch, s, add_user_hit, m) == 0;
}

/* Both lists in one, by start; what reaches behind the other keeps the rest. */
static bool merge_hits(struct masker *m, const struct detect_hit *a, size_t na, size_t origin)
{
	const struct detect_hit *b = m->user.v;
	size_t nb = m->user.n, i = 0, k = 0, end = 0;

	m->both.n = 0;
	if (!hits_room(&m->both, na + nb))
		return false;
	while (i < na || k < nb) {
		bool take_a = k == nb || (i < na && a[i].off - origin <= b[k].off);
		struct detect_hit h = take_a ? a[i++] : b[k++];
		size_t off = take_a ? h.off - origin : h.off, stop = off + h.n;

		if (stop <= end)
			continue;
		h.off = (uint32_t)max_size(off, end);
		h.n = (uint32_t)(stop - h.off);
		m->both.v[m->both.n++] = h;
		end = stop;
	}
	return true;
}

static bool has_patterns(const struct mask_set *set, uint32_t want)
{
	return set && set->patterns && (want & 1u << DETECT_BIT_PATTERN);
}

/* @h: what the detectors found in the value. */
static void finish_value(struct masker *m, const struct mask_set *set, struct insp_value *v,
			 const struct detect_hit *h, size_t n, size_t origin)
{
	if (has_patterns(set, v->plan->detectors)) {
		if (!find_user(m, set, v->in) || !merge_hits(m, h, n, origin)) {
			set_redacted(v);
			return;
		}
		h = m->both.v;
		n = m->both.n;
		origin = 0;
	}
	if (n)
		replace_hits(m, set, v, h, n, origin);
}

static void scan_long(struct masker *m, const struct mask_set *set, struct insp_value *v)
{
	if (find_all(m, v->in.p, v->in.n, v->plan->detectors))
		finish_value(m, set, v, m->found.v, m->found.n, 0);
	else
		set_redacted(v);
}

/* Scans the batch and gives each value its part of the hits. */
static void flush(struct masker *m, const struct mask_set *set, struct insp_value *v)
{
	bool scanned = m->nbatch && find_all(m, m->text, m->used, m->want);
	size_t k = 0;

	for (uint32_t i = 0; i < m->nbatch; i++) {
		struct insp_value *one = &v[m->batch[i].value];
		size_t off = m->batch[i].off, from = k;

		if (!scanned) {
			set_redacted(one);
			continue;
		}
		while (k < m->found.n && m->found.v[k].off < off + one->in.n)
			k++;
		if (k > from || m->want & 1u << DETECT_BIT_PATTERN)
			finish_value(m, set, one, m->found.v + from, k - from, off);
	}
	m->nbatch = 0;
	m->used = 0;
}

static void scan_value(struct masker *m, const struct mask_set *set, struct insp_value *v,
		       uint32_t i)
{
	struct slice in = v[i].in;
	uint32_t want = v[i].plan->detectors;

	if (in.n < SHORTEST_HIT && !has_patterns(set, want))
		return;
	if (in.n >= LONG_VALUE) {
		scan_long(m, set, &v[i]);
		return;
	}
	if (m->nbatch == SCRATCH_VALUES || in.n + 1 > SCRATCH_BYTES - m->used ||
	    (m->nbatch && want != m->want))
		flush(m, set, v);
	m->want = want;
	m->batch[m->nbatch].value = i;
	m->batch[m->nbatch++].off = (uint32_t)m->used;
	memcpy(m->text + m->used, in.p, in.n);
	m->used += in.n;
	m->text[m->used++] = 0;
}

uint32_t masker_apply(struct masker *m, const struct mask_set *set, struct insp_value *v,
		      uint32_t n)
{
	uint32_t changed = 0;

	out_reset(m);
	for (uint32_t i = 0; i < n; i++) {
		v[i].out = (struct slice){0};
		v[i].changed = false;
		v[i].hits = 0;
		if (!v[i].in.p || !v[i].plan)
			continue;
		if (v[i].plan->how != MASK_NONE)
			mask_whole(m, &v[i]);
		else if (v[i].plan->detectors)
			scan_value(m, set, v, i);
	}
	flush(m, set, v);
	for (uint32_t i = 0; i < n; i++)
		changed += v[i].changed;
	return changed;
}

enum { SECRET_MIN = 20 }; /* bytes of the shortest, an AWS key */

static const uint32_t secrets = 1u << DETECT_BIT_AWS_KEY | 1u << DETECT_BIT_GITHUB_TOKEN |
				1u << DETECT_BIT_JWT | 1u << DETECT_BIT_PRIVATE_KEY;

uint32_t masker_hide_secrets(struct masker *m, uint8_t *p, size_t n)
{
	if (n < SECRET_MIN)
		return 0;
	if (!find_all(m, p, n, secrets)) {
		memset(p, '*', n);
		return 1;
	}
	for (size_t i = 0; i < m->found.n; i++)
		memset(p + m->found.v[i].off, '*', m->found.v[i].n);
	return (uint32_t)m->found.n;
}

bool masker_has_secrets(struct masker *m, struct slice text)
{
	return text.n >= SECRET_MIN && (!find_all(m, text.p, text.n, secrets) || m->found.n);
}
