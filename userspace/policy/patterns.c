/* SPDX-License-Identifier: MIT */
#include "policy/patterns.h"

#include <errno.h>
#include <hs.h>
#include <stdatomic.h>

struct patterns {
	hs_database_t *db;
	enum patterns_kind kind;
	uint64_t id; /* never used again, unlike an address */
};

struct patterns_scratch {
	hs_scratch_t *hs;
	uint64_t id; /* of the patterns it was last made fit for */
};

static atomic_uint_fast64_t last_id;

/* Libhs wants terminated strings; a NUL inside would end the pattern early. */
static int copy_patterns(const struct slice *pattern, uint32_t n, char **dst, uint32_t *ret_bad)
{
	for (uint32_t i = 0; i < n; i++) {
		if (memchr(pattern[i].p, 0, pattern[i].n)) {
			*ret_bad = i;
			return -EINVAL;
		}
		dst[i] = strndup((const char *)pattern[i].p, pattern[i].n);
		if (!dst[i])
			return -ENOMEM;
	}
	return 0;
}

static int compile(char **text, uint32_t n, enum patterns_kind kind, hs_database_t **ret_db,
		   uint32_t *ret_bad, char *error, size_t error_cap)
{
	unsigned one = HS_FLAG_DOTALL;
	unsigned *flags = calloc(n, sizeof(*flags)), *ids = calloc(n, sizeof(*ids));
	hs_compile_error_t *why = NULL;
	hs_error_t rc = HS_NOMEM;

	one |= kind == PATTERNS_WHICH ? HS_FLAG_SINGLEMATCH : HS_FLAG_SOM_LEFTMOST;
	for (uint32_t i = 0; flags && ids && i < n; i++) {
		flags[i] = one;
		ids[i] = i;
	}
	if (flags && ids)
		rc = hs_compile_multi((const char *const *)text, flags, ids, n, HS_MODE_BLOCK, NULL,
				      ret_db, &why);
	if (rc == HS_COMPILER_ERROR && why) {
		*ret_bad = why->expression >= 0 ? (uint32_t)why->expression : 0;
		(void)snprintf(error, error_cap, "%s", why->message);
	}
	hs_free_compile_error(why);
	free(flags);
	free(ids);
	return rc == HS_SUCCESS ? 0 : rc == HS_COMPILER_ERROR ? -EINVAL : -ENOMEM;
}

int patterns_new(const struct slice *pattern, uint32_t n, enum patterns_kind kind,
		 struct patterns **ret, uint32_t *ret_bad, char *error, size_t error_cap)
{
	struct patterns *p = calloc(1, sizeof(*p));
	char **text = calloc(n, sizeof(*text));
	int rc = p && text ? 0 : -ENOMEM;

	*ret_bad = 0;
	if (!rc) {
		(void)snprintf(error, error_cap, "contains a zero byte");
		rc = copy_patterns(pattern, n, text, ret_bad);
	}
	if (!rc)
		rc = compile(text, n, kind, &p->db, ret_bad, error, error_cap);
	for (uint32_t i = 0; text && i < n; i++)
		free(text[i]);
	free(text);
	if (rc) {
		free(p);
		return rc;
	}
	p->kind = kind;
	p->id = ++last_id;
	*ret = p;
	return 0;
}

void patterns_free(struct patterns *p)
{
	if (!p)
		return;
	hs_free_database(p->db);
	free(p);
}

/* Libhs grows a scratch where it is too small and otherwise leaves it as it is. */
static int fit_scratch(const struct patterns *p, struct patterns_scratch **scratch)
{
	struct patterns_scratch *s = *scratch ? *scratch : calloc(1, sizeof(*s));

	if (!s)
		return -ENOMEM;
	*scratch = s;
	if (s->id == p->id)
		return 0;
	if (hs_alloc_scratch(p->db, &s->hs) != HS_SUCCESS)
		return -ENOMEM;
	s->id = p->id;
	return 0;
}

void patterns_scratch_free(struct patterns_scratch *s)
{
	if (!s)
		return;
	hs_free_scratch(s->hs);
	free(s);
}

static int which_cb(unsigned id, unsigned long long from, unsigned long long to, unsigned flags,
		    void *ctx)
{
	uint64_t *bits = ctx;

	bits[id / 64] |= 1ull << (id % 64);
	return 0;
}

static int scan(const struct patterns *p, struct patterns_scratch **s, struct slice text,
		match_event_handler cb, void *ctx)
{
	int rc = fit_scratch(p, s);

	if (rc)
		return rc;
	if (text.n > UINT32_MAX)
		return -EMSGSIZE;
	if (hs_scan(p->db, text.n ? (const char *)text.p : "", (unsigned)text.n, 0, (*s)->hs, cb,
		    ctx) != HS_SUCCESS)
		return -EIO;
	return 0;
}

int patterns_which(const struct patterns *p, struct patterns_scratch **s, struct slice text,
		   uint64_t *ret_bits)
{
	BUG_ON(p->kind != PATTERNS_WHICH);
	return scan(p, s, text, which_cb, ret_bits);
}

struct where {
	patterns_cb *cb;
	void *ctx;
};

static int where_cb(unsigned id, unsigned long long from, unsigned long long to, unsigned flags,
		    void *ctx)
{
	struct where *w = ctx;

	return from < to && !w->cb(w->ctx, id, (size_t)from, (size_t)to);
}

int patterns_where(const struct patterns *p, struct patterns_scratch **s, struct slice text,
		   patterns_cb *cb, void *ctx)
{
	struct where w = {.cb = cb, .ctx = ctx};

	BUG_ON(p->kind != PATTERNS_WHERE);
	return scan(p, s, text, where_cb, &w);
}
