/* SPDX-License-Identifier: MIT */
#include "config/cfgheld.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static const void *at(const struct config *c, const struct cfg_key *k)
{
	return (const char *)c + k->off;
}

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same(const struct cfg_key *k, const struct config *a, const struct config *b)
{
	switch (k->kind) {
	case KEY_STRING:
	case KEY_PATH:
	case KEY_WORD:
		return same_text(*(const char *const *)at(a, k), *(const char *const *)at(b, k));
	case KEY_COUNT:
	case KEY_ENUM:
		return *(const uint32_t *)at(a, k) == *(const uint32_t *)at(b, k);
	case KEY_DURATION:
	case KEY_SIZE:
		return *(const uint64_t *)at(a, k) == *(const uint64_t *)at(b, k);
	case KEY_BOOL:
	case KEY_FLAG:
	case KEY_SLICE:
	case KEY_SLICES:
	case KEY_STRINGS:
	case KEY_SECTION:
	case KEY_CUSTOM:
	case KEY_REFUSED:
		break;
	}
	BUG_ON(true); /* no key of this kind is held */
	return true;
}

/* As one would write it, in @a. */
static const char *words(struct arena *a, const struct cfg_key *k, const struct config *c)
{
	const char *text = "none";
	char number[24] = "";

	if (k->kind == KEY_COUNT) {
		(void)snprintf(number, sizeof(number), "%u", *(const uint32_t *)at(c, k));
		text = number;
	} else if (k->kind == KEY_SIZE) {
		(void)snprintf(number, sizeof(number), "%llu",
			       (unsigned long long)*(const uint64_t *)at(c, k));
		text = number;
	} else if (k->kind == KEY_ENUM) {
		text = k->words[*(const uint32_t *)at(c, k)];
	} else if (*(const char *const *)at(c, k)) {
		text = *(const char *const *)at(c, k);
	}
	return arena_strdup(a, slice_str(text));
}

static bool copy(struct config *to, const struct cfg_key *k, const struct config *from)
{
	void *dst = (char *)to + k->off;

	if (k->kind == KEY_COUNT || k->kind == KEY_ENUM) {
		memcpy(dst, at(from, k), sizeof(uint32_t));
	} else if (k->kind == KEY_SIZE || k->kind == KEY_DURATION) {
		memcpy(dst, at(from, k), sizeof(uint64_t));
	} else {
		const char *text = *(const char *const *)at(from, k);

		if (text)
			text = arena_strdup(&to->arena, slice_str(text));
		if (!text && *(const char *const *)at(from, k))
			return false;
		*(const char **)dst = text;
	}
	return true;
}

static int hold(struct config *fresh, const struct config *running, const char *section,
		const struct cfg_key *k)
{
	struct cfg_held *h = fresh->held;
	struct cfg_pending *e = &h->pending[h->npending];
	char name[64];

	BUG_ON(h->npending == CFG_HELD_MAX);
	(void)snprintf(name, sizeof(name), "%s.%s", section, k->name);
	*e = (struct cfg_pending){
		.key = arena_strdup(&fresh->arena, slice_str(name)),
		.running = words(&fresh->arena, k, running),
		.wanted = words(&fresh->arena, k, fresh),
		.takes = k->effect,
	};
	for (uint32_t i = 0; i < h->nplaces; i++) {
		if (h->places[i].key != k)
			continue;
		e->line = h->places[i].line;
		e->column = h->places[i].column;
	}
	if (!e->key || !e->running || !e->wanted || !copy(fresh, k, running))
		return -ENOMEM;
	h->npending++;
	return 0;
}

int config_hold(struct config *fresh, const struct config *running, enum key_effect least)
{
	const struct cfg_section *root = &cfg_root_section;
	int rc = 0;

	for (uint32_t i = 0; i < root->nkeys; i++) {
		const struct cfg_section *s = root->keys[i].section;

		if (root->keys[i].kind != KEY_SECTION)
			continue;
		for (uint32_t n = 0; !rc && n < s->nkeys; n++) {
			const struct cfg_key *k = &s->keys[n];

			if (k->effect >= least && k->effect && !same(k, fresh, running))
				rc = hold(fresh, running, root->keys[i].name, k);
		}
	}
	return rc;
}

void config_pending_text(const struct config *c, const struct cfg_pending *e, char *dst, size_t cap)
{
	char place[32] = "";

	if (e->line)
		(void)snprintf(place, sizeof(place), ":%u:%u", e->line, e->column);
	(void)snprintf(dst, cap, "%s: %s%s: %s -> %s%s takes %s", e->key, c->file, place, e->running,
		       e->wanted, e->line ? "" : " (the default)",
		       e->takes == AT_START ? "a restart: `systemctl restart tidegated`"
					    : "an upgrade in place: `tidegate daemon upgrade`");
}

void config_key_place(const struct config *c, const char *section, const char *key, char *dst,
		      size_t cap)
{
	const struct cfg_held *h = c->held;

	(void)snprintf(dst, cap, "%s", c->file);
	for (uint32_t i = 0; i < cfg_root_section.nkeys; i++) {
		const struct cfg_key *s = &cfg_root_section.keys[i];

		for (uint32_t n = 0; strcmp(s->name, section) == 0 && n < h->nplaces; n++) {
			const struct cfg_key *k = h->places[n].key;

			if (k >= s->section->keys && k < s->section->keys + s->section->nkeys &&
			    strcmp(k->name, key) == 0)
				(void)snprintf(dst, cap, "%s:%u:%u", c->file, h->places[n].line,
					       h->places[n].column);
		}
	}
}
