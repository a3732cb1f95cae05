/* SPDX-License-Identifier: MIT */
/*
 * The way of a text: skeleton, cache, and on a miss the parser. What the lexer
 * does not follow to the end, or whose meaning depends on its constants, is
 * found again only if the whole text is the same.
 */
#include "inspect/sql/sql.h"

#include <errno.h>
#include <stdlib.h>

#include "base/reason.h"
#include "inspect/sql/cache.h"
#include "inspect/sql/gather.h"
#include "inspect/sql/hash.h"
#include "inspect/sql/lexer.h"
#include "inspect/sql/tree.h"

enum {
	DEFAULT_TEXT = 1024 * 1024,
	DEFAULT_CACHE = 8 * 1024 * 1024,
	DEFAULT_SHAPES = 4096,
	DEFAULT_DEPTH = 512,
	DEFAULT_NODES = 1024 * 1024,
	/* In units of sql_skeleton.cost: keeps the parser under 24 MiB and 20 ms. */
	MAX_COST = 400 * 1000,
	/* A longer text whose meaning depends on its constants is not kept. */
	KEPT_TEXT = 2048,
	KEPT_BUFFER = 64 * 1024,
	WHOLE_TEXT = 0x80, /* no bit of enum sql_lexer */
};

struct sql {
	struct sql_limits limits;
	struct cache *cache;
	struct tree *tree;
	struct gather gather;
	struct sql_stats stats;
	uint8_t *buf; /* skeleton, then the text with a zero byte */
	size_t cap;
};

static void defaults(struct sql_limits *l)
{
	if (!l->text_bytes)
		l->text_bytes = DEFAULT_TEXT;
	if (!l->cache_bytes)
		l->cache_bytes = DEFAULT_CACHE;
	if (!l->cache_shapes)
		l->cache_shapes = DEFAULT_SHAPES;
	if (!l->depth)
		l->depth = DEFAULT_DEPTH;
	if (!l->nodes)
		l->nodes = DEFAULT_NODES;
}

int sql_new(const struct sql_limits *limits, struct sql **ret)
{
	struct sql *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return -ENOMEM;
	if (limits)
		s->limits = *limits;
	defaults(&s->limits);
	r = cache_new(s->limits.cache_shapes, s->limits.cache_bytes, &s->cache);
	if (r == 0)
		r = tree_new(s->limits.depth, s->limits.nodes, &s->tree);
	if (r < 0) {
		sql_free(s);
		return r;
	}
	*ret = s;
	return 0;
}

void sql_free(struct sql *s)
{
	if (!s)
		return;
	cache_free(s->cache);
	tree_free(s->tree);
	gather_done(&s->gather);
	free(s->buf);
	free(s);
}

/* Room for the skeleton and for the text with its zero byte. */
static bool make_room(struct sql *s, size_t n)
{
	size_t need = 2 * n + 2 + sizeof(uint32_t);
	uint8_t *buf;

	if (need <= s->cap && !(s->cap > KEPT_BUFFER && need <= KEPT_BUFFER))
		return true;
	need = max_size(need, 4096);
	buf = malloc(need);
	if (!buf)
		return false;
	free(s->buf);
	s->buf = buf;
	s->cap = need;
	return true;
}

static const struct sql_info *parse(struct sql *s, struct slice text, uint8_t *z, uint64_t shape,
				    bool comments, bool foreign)
{
	const struct sql_info *info;

	memcpy(z, text.p, text.n);
	z[text.n] = 0;
	if (comments)
		sql_blank_comments(text, z);
	gather_reset(&s->gather);
	s->gather.shape = shape;
	s->gather.foreign = foreign;
	info = tree_classify(s->tree, text, (const char *)z, &s->gather);
	if (info)
		return info;
	/* No memory, or more objects than an info can list. */
	return sql_info_refusal(s->gather.failed ? TG_R_NO_MEMORY : TG_R_SQL_TOO_LONG);
}

/* Not for the parser. A byte of a character must not be taken for a quote, nor a backslash for
 * itself. */
static bool is_unsafe(const struct sql_skeleton *k, uint32_t lexer)
{
	return k->nul || k->long_operator || (lexer & SQL_LEX_UNSAFE && k->high) ||
	       (lexer & SQL_LEX_BACKSLASH && k->backslash);
}

/* The same for all texts with this skeleton. An error may be one of a constant's value. */
static bool is_shape(const struct sql_info *info)
{
	return !(info->flags & SQL_F_LITERALS) && !info->error.n && info->shape;
}

/*
 * The key of a text that stands only for itself: the text, and what no
 * skeleton ends with. It is made where the parser's copy of the text goes.
 */
static struct slice whole_key(struct sql *s, struct slice text, size_t at, uint32_t lexer)
{
	memcpy(s->buf + at, text.p, text.n);
	s->buf[at + text.n] = (uint8_t)(lexer | WHOLE_TEXT);
	return slice_of(s->buf + at, text.n + 1);
}

const struct sql_info *sql_classify(struct sql *s, struct slice text, uint32_t lexer)
{
	const struct sql_info *info;
	struct sql_skeleton k;
	struct slice key, whole = {0};
	uint64_t hash, shape;

	if (text.n > s->limits.text_bytes || text.n > UINT32_MAX / 4)
		return sql_info_refusal(TG_R_SQL_TOO_LONG);
	if (!make_room(s, text.n))
		return sql_info_refusal(TG_R_NO_MEMORY);
	sql_skeleton(text, s->buf, &k);
	if (is_unsafe(&k, lexer))
		return sql_info_refusal(TG_R_SQL_UNPARSED);
	if (k.cost > MAX_COST)
		return sql_info_refusal(TG_R_SQL_TOO_LONG);
	if (!k.high)
		lexer &= ~(uint32_t)SQL_LEX_FOREIGN;
	s->buf[k.n] = (uint8_t)lexer;
	key = slice_of(s->buf, k.n + 1);
	shape = hash = sql_hash64(key.p, key.n);
	info = k.exact ? cache_get(s->cache, hash, key) : NULL;
	if (!info && text.n <= KEPT_TEXT) {
		whole = whole_key(s, text, k.n + 1, lexer);
		hash = sql_hash64(whole.p, whole.n);
		info = cache_get(s->cache, hash, whole);
	}
	if (info) {
		s->stats.hits++;
		return sql_info_ref(info);
	}
	info = parse(s, text, s->buf + k.n + 1, shape, k.comments, lexer & SQL_LEX_FOREIGN);
	if (k.exact && is_shape(info)) {
		s->stats.misses++;
		s->stats.evicted += cache_put(s->cache, shape, key, info);
	} else if (text.n <= KEPT_TEXT && !info->nsecrets && info->shape) {
		s->stats.misses++;
		whole = whole_key(s, text, k.n + 1, lexer);
		s->stats.evicted += cache_put(s->cache, hash, whole, info);
	} else {
		s->stats.uncached++;
	}
	return info;
}

void sql_get_stats(const struct sql *s, struct sql_stats *ret)
{
	*ret = s->stats;
}

int sql_grammar_major(void)
{
	return tree_grammar_major();
}
