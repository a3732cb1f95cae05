/* SPDX-License-Identifier: MIT */
#include "daemon/grants_known.h"

#include <uthash.h>

#include "base/clock.h"
#include "base/text.h"

struct known_grant {
	UT_hash_handle hh;
	uint64_t until_boot_ns;
	char by[128], grant[HANDLE_TEXT];
	struct slice receipt; /* behind the key */
	char key[];	      /* what was asked: texts, each with its NUL */
};

enum { ASKED = 7, KEY_MAX = 2048, TERMS_TEXT = 64 };

/* Who has to say yes, how many of them, and for how long: in the configuration's words, as a number. */
static void terms_of(const struct access_decision *d, char dst[TERMS_TEXT])
{
	uint64_t h = TEXT_HASH_START;

	for (uint32_t i = 0; i < d->napprovers; i++)
		h = text_hash(h, d->approvers[i]);
	(void)snprintf(dst, TERMS_TEXT, "%u %llu %016llx", d->min_approvals, (unsigned long long)d->max_ms,
		       (unsigned long long)h);
}

/* Everything by which the parent tells one question from another: grant_for() in grants.c. */
static void texts_of(const struct session *s, const struct access_decision *d,
		     char terms[TERMS_TEXT], const char *texts[ASKED])
{
	texts[0] = s->view->agent;
	texts[1] = s->view->target->name;
	texts[2] = d->via == ACCESS_IDP ? d->ways : "";
	texts[3] = d->via == ACCESS_IDP ? d->scope : "";
	texts[4] = s->user ? s->user : "";
	texts[5] = s->database ? s->database : "";
	terms_of(d, terms);
	texts[6] = terms;
}

/* 0: too long. */
static size_t key_of(const struct session *s, const struct access_decision *d, char key[KEY_MAX])
{
	char terms[TERMS_TEXT];
	const char *texts[ASKED];
	size_t n = 0;

	texts_of(s, d, terms, texts);
	for (size_t i = 0; i < ASKED; i++) {
		size_t len = strlen(texts[i]) + 1;

		if (len > KEY_MAX - n)
			return 0;
		memcpy(key + n, texts[i], len);
		n += len;
	}
	return n;
}

char *grants_known_asked(const struct session *s, const struct access_decision *d)
{
	char key[KEY_MAX];
	size_t n = key_of(s, d, key);
	char *asked = n ? malloc(n) : NULL;

	return asked ? memcpy(asked, key, n) : NULL;
}

static size_t length(const char *key)
{
	const char *p = key;

	for (size_t i = 0; i < ASKED; i++)
		p += strlen(p) + 1;
	return (size_t)(p - key);
}

static void drop(struct worker *w, struct known_grant *k)
{
	HASH_DEL(w->known, k);
	free(k);
}

static struct known_grant *find(struct worker *w, const char *key, size_t n)
{
	struct known_grant *k = NULL;

	if (n)
		HASH_FIND(hh, w->known, key, n, k);
	return k;
}

void grants_known_keep(struct worker *w, const char *asked, const struct verdict *v)
{
	size_t n = length(asked);
	struct known_grant *k = find(w, asked, n);

	if (k)
		drop(w, k);
	else if (HASH_COUNT(w->known) >= GRANTS_KNOWN_MAX)
		drop(w, w->known); /* the oldest */
	k = calloc(1, sizeof(*k) + n + v->receipt.n);
	if (!k)
		return;
	k->until_boot_ns = v->until_boot_ns;
	memcpy(k->by, v->by, sizeof(k->by));
	memcpy(k->grant, v->grant, sizeof(k->grant));
	memcpy(k->key, asked, n);
	memcpy(k->key + n, v->receipt.p, v->receipt.n);
	k->receipt = slice_of(k->key + n, v->receipt.n);
	HASH_ADD_KEYPTR(hh, w->known, k->key, n, k);
}

bool grants_known_find(const struct session *s, const struct access_decision *d,
		       struct verdict *ret)
{
	char key[KEY_MAX];
	const struct known_grant *k;

	if (!s->w->known)
		return false;
	k = find(s->w, key, key_of(s, d, key));
	if (!k || clock_boot_ns() >= k->until_boot_ns)
		return false;
	*ret = (struct verdict){.verdict = INSP_V_ALLOW,
				.until_boot_ns = k->until_boot_ns,
				.receipt = k->receipt};
	memcpy(ret->by, k->by, sizeof(ret->by));
	memcpy(ret->grant, k->grant, sizeof(ret->grant));
	return true;
}

void grants_known_forget(struct worker *w, struct slice grant)
{
	struct known_grant *k, *tmp;

	HASH_ITER(hh, w->known, k, tmp)
	{
		if (slice_eq_str(grant, k->grant))
			drop(w, k);
	}
}

void grants_known_done(struct worker *w)
{
	while (w->known)
		drop(w, w->known);
}
