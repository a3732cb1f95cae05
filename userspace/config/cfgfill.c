/* SPDX-License-Identifier: MIT */
/* Sets objects from mappings by the tables of cfgkeys.h. */
#include <errno.h>
#include <stdarg.h>

#include "base/text.h"
#include "config/cfgheld.h"
#include "config/cfgload.h"

void cfg_fail(struct loader *l, const struct ynode *at, const char *fmt, ...)
{
	char text[512];
	struct cfg_error *e;
	va_list ap;

	if (l->nerrors++ >= CFG_ERRORS_MAX)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	e = &l->errors[l->nerrors - 1];
	e->line = at ? at->line : 1;
	e->column = at ? at->column : 1;
	e->text = arena_strdup(&l->tmp, slice_str(text));
	if (!e->text)
		l->no_memory = true;
}

const char *cfg_text(struct loader *l, const char *fmt, ...)
{
	char text[256];
	const char *copy;
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	copy = arena_strdup(&l->tmp, slice_str(text));
	if (copy)
		return copy;
	l->no_memory = true;
	return "";
}

const char *cfg_show(struct loader *l, struct slice s)
{
	char text[64];

	(void)text_escape(s, text, sizeof(text));
	return cfg_text(l, "%s", text);
}

void *cfg_alloc(struct loader *l, struct arena *a, size_t size, size_t n)
{
	size_t total;
	void *p = __builtin_mul_overflow(size, n, &total) ? NULL : arena_alloc(a, total);

	if (!p)
		l->no_memory = true;
	return p;
}

enum { WORD_MAX = 40 };

/* Edits between two words: insertions, deletions, changes, swapped neighbours. */
static unsigned distance(struct slice a, struct slice b)
{
	uint8_t row[3][WORD_MAX + 1];

	if (a.n > WORD_MAX || b.n > WORD_MAX)
		return WORD_MAX;
	for (size_t j = 0; j <= b.n; j++)
		row[0][j] = (uint8_t)j;
	for (size_t i = 1; i <= a.n; i++) {
		uint8_t *now = row[i % 3], *up = row[(i + 2) % 3], *upup = row[(i + 1) % 3];

		now[0] = (uint8_t)i;
		for (size_t j = 1; j <= b.n; j++) {
			unsigned d = up[j - 1] + (a.p[i - 1] != b.p[j - 1]);

			d = up[j] + 1u < d ? up[j] + 1u : d;
			d = now[j - 1] + 1u < d ? now[j - 1] + 1u : d;
			if (i > 1 && j > 1 && a.p[i - 1] == b.p[j - 2] &&
			    a.p[i - 2] == b.p[j - 1] && upup[j - 2] + 1u < d)
				d = upup[j - 2] + 1u;
			now[j] = (uint8_t)d;
		}
	}
	return row[a.n % 3][b.n];
}

/* Index of the word that @word was probably meant to be; @n if none is near. */
static uint32_t nearest(struct slice word, const char *const *words, uint32_t n)
{
	uint32_t best = n;
	unsigned least = 3;

	for (uint32_t i = 0; i < n; i++) {
		unsigned d = distance(word, slice_str(words[i]));

		/* A short word has nothing in common with one that differs in all of it. */
		if (d < least && d * 2 <= word.n) {
			least = d;
			best = i;
		}
	}
	return best;
}

const char *cfg_nearest(struct loader *l, struct slice word, const char *const *words, uint32_t n)
{
	/* Nobody will read more: spare the comparisons. */
	uint32_t best = l->nerrors < CFG_ERRORS_MAX ? nearest(word, words, n) : n;

	return best < n ? cfg_text(l, "; did you mean `%s`?", words[best]) : "";
}

static const char *list_words(struct loader *l, const char *const *words)
{
	const char *all = "";

	for (uint32_t i = 0; words[i]; i++)
		all = cfg_text(l, "%s%s`%s`", all, i == 0 ? "" : words[i + 1] ? ", " : " or ",
			       words[i]);
	return all;
}

/* ------------------------------------------------------------ one value */

/* The text of a scalar; false and an error if it is none. */
static bool scalar(struct loader *l, const struct cfg_key *k, const struct ynode *v,
		   struct slice *ret)
{
	if (v->kind != YNODE_SCALAR || yaml_is_null(v)) {
		cfg_fail(l, v, "`%s` takes a single value, not %s", k->name,
			 v->kind == YNODE_LIST	? "a list"
			 : v->kind == YNODE_MAP ? "a mapping"
						: "nothing");
		return false;
	}
	if (v->text.n && memchr(v->text.p, 0, v->text.n)) {
		cfg_fail(l, v, "`%s` has a NUL byte", k->name);
		return false;
	}
	*ret = v->text;
	return true;
}

static const char *keep(struct loader *l, struct slice s)
{
	const char *copy = arena_strdup(&l->c->arena, s);

	if (!copy)
		l->no_memory = true;
	return copy;
}

static void set_string(struct loader *l, const struct cfg_key *k, const struct ynode *v, void *at)
{
	struct slice s;

	if (!scalar(l, k, v, &s))
		return;
	if (s.n == 0)
		cfg_fail(l, v, "`%s` is empty", k->name);
	else if (k->kind == KEY_PATH && s.p[0] != '/')
		cfg_fail(l, v, "`%s` takes an absolute path, not `%s`", k->name, cfg_show(l, s));
	else
		*(const char **)at = keep(l, s);
}

static void set_bool(struct loader *l, const struct cfg_key *k, const struct ynode *v, void *at)
{
	struct slice s;

	if (!scalar(l, k, v, &s))
		return;
	if (v->plain && slice_eq_str(s, "true"))
		*(bool *)at = true;
	else if (v->plain && slice_eq_str(s, "false"))
		*(bool *)at = false;
	else
		cfg_fail(l, v, "`%s` takes `true` or `false`, not `%s`", k->name, cfg_show(l, s));
}

static void set_number(struct loader *l, const struct cfg_key *k, const struct ynode *v, void *at)
{
	uint64_t n;
	struct slice s;
	char lo[24], hi[24];

	if (!scalar(l, k, v, &s))
		return;
	if (k->kind == KEY_COUNT) {
		if (text_parse_u64(s, k->min, k->max, &n) == 0)
			*(uint32_t *)at = (uint32_t)n;
		else
			cfg_fail(l, v, "`%s` takes a number from %llu to %llu, not `%s`", k->name,
				 (unsigned long long)k->min, (unsigned long long)k->max,
				 cfg_show(l, s));
		return;
	}
	if (k->kind == KEY_DURATION ? text_parse_duration(s, &n) : text_parse_size(s, &n)) {
		cfg_fail(l, v, "`%s` takes a %s, not `%s`", k->name,
			 k->kind == KEY_DURATION ? "duration as `90s`, `15m` or `2h`"
						 : "size as `64KiB`, `1MiB` or `4096`",
			 cfg_show(l, s));
		return;
	}
	if (n >= k->min && n <= k->max) {
		*(uint64_t *)at = n;
	} else if (k->kind == KEY_DURATION) {
		text_format_duration(k->min, lo, sizeof(lo));
		text_format_duration(k->max, hi, sizeof(hi));
		cfg_fail(l, v, "`%s` is from %s to %s, not `%s`", k->name, lo, hi, cfg_show(l, s));
	} else {
		cfg_fail(l, v, "`%s` is from %llu to %llu bytes, not `%s`", k->name,
			 (unsigned long long)k->min, (unsigned long long)k->max, cfg_show(l, s));
	}
}

static void set_word(struct loader *l, const struct cfg_key *k, const struct ynode *v, void *at)
{
	uint32_t n = 0;
	struct slice s;

	if (!scalar(l, k, v, &s))
		return;
	for (; k->words[n]; n++) {
		if (!slice_eq_str(s, k->words[n]))
			continue;
		if (k->kind == KEY_ENUM)
			*(unsigned *)at = n;
		else if (k->kind == KEY_FLAG)
			*(bool *)at = n == 1;
		else
			*(const char **)at = k->words[n];
		return;
	}
	cfg_fail(l, v, "`%s` takes %s, not `%s`%s", k->name, list_words(l, k->words),
		 cfg_show(l, s), cfg_nearest(l, s, k->words, n));
}

static void set_list(struct loader *l, const struct cfg_key *k, const struct ynode *v, char *obj)
{
	struct yitem one = {.value = (struct ynode *)v};
	const struct yitem *item = v->kind == YNODE_LIST ? v->items : &one;
	uint32_t n = v->kind == YNODE_LIST ? v->n : 1, i = 0;
	struct slice *slices = cfg_alloc(l, &l->c->arena, sizeof(*slices), n + 1);
	const char **strings = cfg_alloc(l, &l->c->arena, sizeof(*strings), n + 1);

	if (!slices || !strings)
		return;
	if (n == 0) {
		cfg_fail(l, v, "`%s` is empty", k->name);
		return;
	}
	for (; item; item = item->next) {
		struct slice s;

		if (!scalar(l, k, item->value, &s))
			return;
		if (s.n == 0) {
			cfg_fail(l, item->value, "`%s` has an empty element", k->name);
			return;
		}
		strings[i] = keep(l, s);
		slices[i] = slice_of(strings[i], s.n);
		i++;
	}
	if (k->kind == KEY_SLICES)
		*(struct slice **)(obj + k->off) = slices;
	else
		*(const char *const **)(obj + k->off) = strings;
	if (k->off_n)
		*(uint32_t *)(obj + k->off_n) = i;
}

static void fill(struct loader *l, const struct cfg_section *s, const struct ynode *map, void *obj,
		 const char *where);

static void set(struct loader *l, const struct cfg_key *k, const struct ynode *v, void *obj,
		const char *where)
{
	char *at = (char *)obj + k->off;
	struct slice s;

	switch (k->kind) {
	case KEY_STRING:
	case KEY_PATH:
		set_string(l, k, v, at);
		return;
	case KEY_BOOL:
		set_bool(l, k, v, at);
		return;
	case KEY_COUNT:
	case KEY_DURATION:
	case KEY_SIZE:
		set_number(l, k, v, at);
		return;
	case KEY_ENUM:
	case KEY_FLAG:
	case KEY_WORD:
		set_word(l, k, v, at);
		return;
	case KEY_SLICE:
		if (!scalar(l, k, v, &s))
			return;
		if (s.n == 0)
			cfg_fail(l, v, "`%s` is empty", k->name);
		else
			*(struct slice *)at = s;
		return;
	case KEY_SLICES:
	case KEY_STRINGS:
		set_list(l, k, v, obj);
		return;
	case KEY_SECTION:
		/* Its defaults were set with those of the object. */
		fill(l, k->section, v, obj, cfg_text(l, "`%s` of %s", k->name, where));
		return;
	case KEY_CUSTOM:
		if (k->take(l, v, obj, where))
			l->no_memory = true;
		return;
	case KEY_REFUSED:
		return;
	}
}

/* ------------------------------------------------------------- a mapping */

static const struct cfg_key *find_key(const struct cfg_section *s, struct slice name)
{
	for (uint32_t i = 0; i < s->nkeys; i++)
		if (slice_eq_str(name, s->keys[i].name) ||
		    (s->keys[i].also && slice_eq_str(name, s->keys[i].also)))
			return &s->keys[i];
	return NULL;
}

/* Returns the key that was probably meant, so that it is not called missing too. */
static const struct cfg_key *unknown_key(struct loader *l, const struct cfg_section *s,
					 const struct ynode *key, const char *where)
{
	const char *names[64] = {NULL};
	const struct cfg_key *meant[64];
	uint32_t n = 0, best;

	for (uint32_t i = 0; i < s->nkeys && n < ARRAY_SIZE(names); i++) {
		if (s->keys[i].kind == KEY_REFUSED)
			continue;
		meant[n] = &s->keys[i];
		names[n++] = s->keys[i].name;
	}
	best = nearest(key->text, names, n);
	cfg_fail(l, key, "unknown key `%s` in %s%s", cfg_show(l, key->text), where,
		 cfg_nearest(l, key->text, names, n));
	return best < n ? meant[best] : NULL;
}

static void set_defaults(struct loader *l, const struct cfg_section *s, void *obj,
			 const char *where)
{
	for (uint32_t i = 0; i < s->nkeys; i++) {
		const struct cfg_key *k = &s->keys[i];
		struct ynode v = {.kind = YNODE_SCALAR, .plain = true, .text = slice_str(k->dflt)};

		if (k->kind == KEY_SECTION)
			set_defaults(l, k->section, obj, where);
		else if (k->dflt)
			set(l, k, &v, obj, where);
	}
}

/* Where it is written is of use when it differs from what a running daemon has. */
static void note_place(struct cfg_held *h, const struct cfg_key *k, const struct ynode *v)
{
	if (k->effect == AT_RELOAD || h->nplaces == CFG_HELD_MAX)
		return;
	h->places[h->nplaces].key = k;
	h->places[h->nplaces].line = v->line;
	h->places[h->nplaces++].column = v->column;
}

static void fill(struct loader *l, const struct cfg_section *s, const struct ynode *map, void *obj,
		 const char *where)
{
	uint64_t seen = 0;

	if (map->kind != YNODE_MAP) {
		cfg_fail(l, map, "%s is a mapping of keys to values, not %s", where,
			 map->kind == YNODE_LIST ? "a list"
			 : yaml_is_null(map)	 ? "nothing"
						 : "a single value");
		return;
	}
	for (const struct yitem *i = map->items; i; i = i->next) {
		const struct cfg_key *k = find_key(s, i->key->text);

		if (!k) {
			k = unknown_key(l, s, i->key, where);
			seen |= k ? 1ull << (k - s->keys) : 0;
			continue;
		}
		if (k->kind == KEY_REFUSED)
			cfg_fail(l, i->key, "`%s` is not written in %s: %s", k->name, where, k->help);
		else if (seen & 1ull << (k - s->keys))
			cfg_fail(l, i->key, "`%s` and `%s` are spellings of one key: give it once",
				 k->name, k->also);
		else
			set(l, k, i->value, obj, where);
		note_place(l->c->held, k, i->value);
		seen |= 1ull << (k - s->keys);
	}
	for (uint32_t i = 0; i < s->nkeys; i++)
		if (s->keys[i].required && !(seen & 1ull << i))
			cfg_fail(l, map, "%s lacks the key `%s` (%s)", where, s->keys[i].name,
				 s->keys[i].help);
}

void cfg_fill(struct loader *l, const struct cfg_section *s, const struct ynode *map, void *obj,
	      const char *where)
{
	set_defaults(l, s, obj, where);
	fill(l, s, map, obj, where);
}
