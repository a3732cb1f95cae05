/* SPDX-License-Identifier: MIT */
#include "daemon/granted.h"

#include <errno.h>

#include "base/clock.h"
#include "base/ident.h"
#include "base/text.h"

enum { KEY_BYTES = 16, KEY_TEXT = 2 + 2 * KEY_BYTES };

struct granted {
	struct list link;
	uint64_t owner, until_boot_ns;
	char *subject;
	struct list secret; /* just one */
	struct secret *s;
	char shut[KEY_TEXT], open[KEY_TEXT]; /* by this one the text itself is told */
};

void granted_init(struct granted_set *set)
{
	list_init(&set->all);
	set->n = 0;
}

static void drop(struct granted_set *set, struct granted *g)
{
	list_del(&g->link);
	set->n--;
	vault_free(&g->secret);
	free(g->subject);
	explicit_bzero(g, sizeof(*g));
	free(g);
}

void granted_done(struct granted_set *set)
{
	list_each(it, &set->all)
		drop(set, container_of(it, struct granted, link));
}

static struct granted *of(const struct granted_set *set, uint64_t owner)
{
	list_each(it, &set->all) {
		struct granted *g = container_of(it, struct granted, link);

		if (g->owner == owner)
			return g;
	}
	return NULL;
}

void granted_forget(struct granted_set *set, uint64_t owner)
{
	struct granted *g = of(set, owner);

	if (g)
		drop(set, g);
}

/* The parent says when a grant ends; this is for one that it has forgotten. */
static void drop_old(struct granted_set *set)
{
	uint64_t now = clock_boot_ns();

	list_each(it, &set->all) {
		struct granted *g = container_of(it, struct granted, link);

		if (now >= g->until_boot_ns)
			drop(set, g);
	}
}

static void make_key(char dst[KEY_TEXT])
{
	uint8_t raw[KEY_BYTES];

	random_bytes(raw, sizeof(raw));
	dst[0] = '$';
	text_hex(raw, sizeof(raw), dst + 1);
}

static const char *check(struct slice text)
{
	if (text.n == 0 || text.n > GRANTED_TEXT_MAX)
		return "its length";
	for (size_t i = 0; i < text.n; i++)
		if (text.p[i] <= ' ' || text.p[i] > '~')
			return "what it is made of";
	return NULL;
}

int granted_put(struct granted_set *set, uint64_t owner, struct slice user, struct slice text,
		uint64_t ttl_ms)
{
	struct granted *g;

	if (check(text) || memchr(user.n ? user.p : (const uint8_t *)"", 0, user.n))
		return -EINVAL;
	granted_forget(set, owner);
	drop_old(set);
	if (set->n >= GRANTED_MAX)
		return -EMFILE;
	g = calloc(1, sizeof(*g));
	if (!g)
		return -ENOMEM;
	list_init(&g->link);
	list_init(&g->secret);
	list_add_tail(&set->all, &g->link);
	set->n++;
	g->owner = owner;
	g->until_boot_ns = clock_boot_ns() + ttl_ms * 1000000;
	make_key(g->shut);
	make_key(g->open);
	g->subject = strndup(user.n ? (const char *)user.p : "", user.n);
	g->s = vault_add(&g->secret, "", "", "grant");
	if (g->s)
		buf_init(&g->s->text, text.n);
	if (!g->subject || !g->s || buf_append_slice(&g->s->text, text)) {
		drop(set, g);
		return -ENOMEM;
	}
	return 0;
}

int granted_open(struct granted_set *set, uint64_t owner, const char *user, bool clear,
		 const char **ret_user, const char **ret_key)
{
	struct granted *g = of(set, owner);
	char *copy;

	if (!g || clock_boot_ns() >= g->until_boot_ns || (!user && !g->subject[0]))
		return -ENOKEY;
	copy = strdup(user ? user : g->subject);
	if (!copy)
		return -ENOMEM;
	free(g->s->user);
	g->s->user = copy;
	*ret_user = copy;
	*ret_key = clear ? g->open : g->shut;
	return 0;
}

struct secret *granted_find(const struct granted_set *set, struct slice key, bool *ret_clear)
{
	if (!key.n || key.p[0] != '$')
		return NULL;
	list_each(it, &set->all) {
		const struct granted *g = container_of(it, struct granted, link);

		*ret_clear = slice_eq_str(key, g->open);
		if (*ret_clear || slice_eq_str(key, g->shut))
			return g->s;
	}
	return NULL;
}
