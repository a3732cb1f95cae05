/* SPDX-License-Identifier: MIT */
#include "daemon/whois.h"

#include <errno.h>
#include <openssl/sha.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/tokenlife.h"

enum {
	WHOIS_MS = 8000, /* the worker gives up after 10 s */
	DIGESTS_KEPT = 256,
	QUIET_S = 60,
};

struct whois {
	struct psession *s;
	struct parent *p;
	whois_done *done;
	struct peek *peek;
	uint64_t check_id; /* of the question to authd; 0: none */
	struct child *authd; /* that was asked */
	uv_timer_t timer;
	/* The session is open, and its token has ended: is there a newer one? */
	bool again;
	char sha256[65]; /* of the one that was found */
};

/* Digests of programs' files, by what tells one content from another. */
struct exe_digests {
	struct {
		struct exe_stat stat;
		char hex[65];
	} list[DIGESTS_KEPT];
	uint32_t n, next;
};

static bool same_stat(const struct exe_stat *a, const struct exe_stat *b)
{
	return a->dev == b->dev && a->inode == b->inode && a->size == b->size &&
	       a->mtime_ns == b->mtime_ns && a->ctime_ns == b->ctime_ns;
}

static const char *known_digest(const struct parent *p, const struct exe_stat *st)
{
	for (uint32_t i = 0; p->digests && st->inode && i < p->digests->n; i++)
		if (same_stat(&p->digests->list[i].stat, st))
			return p->digests->list[i].hex;
	return NULL;
}

static void keep_digest(struct parent *p, const struct exe_stat *st, const char *hex)
{
	struct exe_digests *d = p->digests;
	uint32_t at;

	if (!d)
		d = p->digests = calloc(1, sizeof(*d));
	if (!d || known_digest(p, st))
		return;
	at = d->next++ % DIGESTS_KEPT;
	if (d->n < DIGESTS_KEPT)
		d->n++;
	d->list[at].stat = *st;
	(void)snprintf(d->list[at].hex, sizeof(d->list[at].hex), "%s", hex);
}

/* ------------------------------------------------------------------ ending */

static void on_closed(uv_handle_t *h)
{
	free(container_of((uv_timer_t *)h, struct whois, timer));
}

static void whois_free(struct whois *w)
{
	w->s->whois = NULL;
	peek_cancel(w->peek);
	uv_close((uv_handle_t *)&w->timer, on_closed);
}

static void finish(struct whois *w)
{
	struct psession *s = w->s;
	struct parent *p = w->p;
	whois_done *done = w->done;

	whois_free(w);
	done(p, s);
}

void whois_drop(struct psession *s)
{
	if (s->whois)
		whois_free(s->whois);
}

static void on_timeout(uv_timer_t *t);

/* ------------------------------------------------------------------- token */

/* The same again says nothing new. */
static void tell_refused(struct pagent *a, const char *session, const char *why)
{
	uint64_t now = clock_boot_ns();

	if (strncmp(a->token_why, why, sizeof(a->token_why) - 1) == 0 &&
	    now - a->token_why_boot_ns < QUIET_S * 1000000000ull)
		return;
	(void)snprintf(a->token_why, sizeof(a->token_why), "%.*s",
		       (int)sizeof(a->token_why) - 1, why);
	a->token_why_boot_ns = now;
	log_warning("agent %s: its token is not taken (session %s): %s", a->name, session, why);
}

static void PRINTF(2, 3) refused(struct psession *s, const char *fmt, ...)
{
	char text[512];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	free(s->token_why);
	s->token_why = strdup(text);
	/* In an open session it may be looked for several times. */
	if (!s->whois || !s->whois->again)
		tell_refused(s->agent, s->id, text);
}

void whois_token_words(const struct cfg_token *t, int error, char *dst, size_t cap)
{
	char shown[160];

	(void)text_escape(slice_str(t->file ? t->file : t->env), shown, sizeof(shown));
	(void)snprintf(dst, cap, "%s%s: %s", t->file ? "" : "environment variable ", shown,
		       peek_words(error));
}

static const struct cfg_token *token_of(const struct psession *s)
{
	return s->agent && s->agent->cfg ? s->agent->cfg->token : NULL;
}

struct peek *whois_read_token(struct parent *p, const struct psession *s, peek_done *done,
				void *ctx, const char **ret_why)
{
	const struct cfg_token *t = token_of(s);
	struct peek_job job = {.pid = s->pid, .uid = s->uid, .started_boot_ns = s->started_boot_ns};
	struct peek *r;

	*ret_why = !t	      ? "the agent has no `token` in the configuration"
		   : !s->steered ? "the connection came over a listener, so no process is known"
		   : s->gone  ? "the agent's process has ended, or is another"
			      : NULL;
	if (*ret_why)
		return NULL;
	job.what = t->file ? PEEK_FILE : PEEK_ENV;
	job.agent = s->agent->id;
	(void)snprintf(job.name, sizeof(job.name), "%s", t->file ? t->file : t->env);
	r = peek_start(p, &job, done, ctx);
	if (!r)
		*ret_why = "no process could be started to read it";
	return r;
}

static void on_token(void *ctx, int error, struct slice bytes)
{
	struct whois *w = ctx;
	struct psession *s = w->s;
	const struct cfg_token *t = token_of(s);
	uint8_t md[SHA256_DIGEST_LENGTH];
	char words[256];

	w->peek = NULL;
	if (error && t) {
		whois_token_words(t, error, words, sizeof(words));
		refused(s, "%s", words);
	}
	if (!error) {
		(void)SHA256(bytes.p, bytes.n, md);
		text_hex(md, sizeof(md), w->sha256);
	}
	if (!error && w->again && strcmp(w->sha256, s->token_sha256) == 0) {
		refused(s, "what is in its place is still the same");
		error = -EALREADY;
	} else if (!error && !w->p->authd.ipc) {
		refused(s, "the process that would verify it is not running");
		error = -EAGAIN;
	}
	if (!w->again)
		memcpy(s->token_sha256, w->sha256, sizeof(s->token_sha256));
	if (error) {
		finish(w);
		return;
	}
	w->check_id = ++w->p->next_id;
	w->authd = &w->p->authd;
	ipc_begin(w->p->authd.ipc, IPC_TOKEN_CHECK, w->check_id);
	ipc_put_str(w->p->authd.ipc, s->agent->name);
	ipc_put_bytes(w->p->authd.ipc, bytes);
	ipc_send(w->p->authd.ipc);
}

/* Begins; false: it cannot be read, and that is said. */
static bool read_token(struct whois *w)
{
	const char *why;

	if (!token_of(w->s))
		return false;
	w->peek = whois_read_token(w->p, w->s, on_token, w, &why);
	if (!w->peek)
		refused(w->s, "%s", why);
	return w->peek;
}

static void accepted(struct whois *w, struct slice claims)
{
	struct psession *s = w->s;
	char *copy = strndup((const char *)claims.p, claims.n);

	if (!copy)
		return;
	if (w->again && !tokenlife_same(s->token_claims, copy)) {
		refused(s, "it is another's, or says something else now");
		free(copy);
		return;
	}
	free(s->token_claims);
	s->token_claims = copy;
	memcpy(s->token_sha256, w->sha256, sizeof(s->token_sha256));
	free(s->token_why);
	s->token_why = NULL;
	if (w->again)
		tokenlife_record(s);
	tokenlife_begin(s);
}

void whois_checked(struct parent *p, struct ipc_msg *m)
{
	uint32_t reason = ipc_get_u32(m);
	struct slice detail = ipc_get_str(m), digest = ipc_get_str(m), claims = ipc_get_str(m);
	struct psession *s, *tmp;

	if (!ipc_end(m)) {
		m->bad = true;
		return;
	}
	HASH_ITER(hh, p->sessions, s, tmp)
	{
		if (!s->whois || s->whois->check_id != m->id)
			continue;
		if (reason)
			refused(s, "%.*s", (int)detail.n, (const char *)detail.p);
		else if (slice_eq_str(digest, s->whois->sha256))
			accepted(s->whois, claims);
		finish(s->whois);
		return;
	}
}

void whois_authd_gone(struct parent *p, const struct child *authd)
{
	struct psession *s, *tmp;

	HASH_ITER(hh, p->sessions, s, tmp)
	{
		if (!s->whois || !s->whois->check_id || s->whois->authd != authd)
			continue;
		refused(s, "the process that verifies it ended");
		finish(s->whois);
	}
}

/* ------------------------------------------------------------------ digest */

static void on_digest(void *ctx, int error, struct slice bytes)
{
	struct whois *w = ctx;
	struct psession *s = w->s;
	struct peek_digest d;
	struct exe_stat st;

	w->peek = NULL;
	if (!error && bytes.n == sizeof(d)) {
		memcpy(&d, bytes.p, sizeof(d));
		st = (struct exe_stat){.dev = d.dev, .inode = d.inode, .size = d.size,
				       .mtime_ns = d.mtime_ns, .ctime_ns = d.ctime_ns};
		/* Else the process has become another program meanwhile. */
		if (same_stat(&st, &s->exe_stat)) {
			text_hex(d.sha256, sizeof(d.sha256), s->exe_sha256);
			keep_digest(w->p, &st, s->exe_sha256);
		}
	}
	if (!s->exe_sha256[0])
		log_info("agent %s, session %s: no digest of its program %s: %s", s->agent->name, s->id,
			 s->exe, error ? peek_words(error) : "it runs another one by now");
	if (!read_token(w))
		finish(w);
}

static bool read_digest(struct whois *w)
{
	const struct psession *s = w->s;
	struct peek_job job = {.what = PEEK_DIGEST, .agent = s->agent->id, .pid = s->pid,
				 .uid = s->uid, .started_boot_ns = s->started_boot_ns};

	w->peek = peek_start(w->p, &job, on_digest, w);
	return w->peek;
}

/* ------------------------------------------------------------------- start */

static void on_timeout(uv_timer_t *t)
{
	struct whois *w = container_of(t, struct whois, timer);

	if (w->check_id)
		refused(w->s, "its issuer's keys did not come in time");
	else if (token_of(w->s))
		refused(w->s, "it could not be read in time");
	finish(w);
}

/* True if a rule looks at the digest and it is not known yet. */
static bool wants_digest(struct parent *p, struct psession *s)
{
	uint32_t kinds = policy_terms(p->cfg->policy, slice_str(s->agent->name),
				      slice_str(s->target->name));
	const char *known = known_digest(p, &s->exe_stat);

	if (!s->steered || s->gone || !(kinds & 1u << FACT_EXE_SHA256))
		return false;
	if (known)
		(void)snprintf(s->exe_sha256, sizeof(s->exe_sha256), "%s", known);
	return !known;
}

static struct whois *whois_new(struct parent *p, struct psession *s, whois_done *done)
{
	struct whois *w = calloc(1, sizeof(*w));

	if (!w)
		return NULL;
	w->p = p;
	w->s = s;
	w->done = done;
	s->whois = w;
	(void)uv_timer_init(&p->loop, &w->timer);
	return w;
}

bool whois_again(struct parent *p, struct psession *s, whois_done *done)
{
	struct whois *w = s->whois ? NULL : whois_new(p, s, done);

	if (!w)
		return false;
	w->again = true;
	if (read_token(w)) {
		(void)uv_timer_start(&w->timer, on_timeout, WHOIS_MS, 0);
		return true;
	}
	whois_free(w);
	return false;
}

bool whois_untold(const struct psession *s)
{
	return s->whois && !s->whois->again;
}

bool whois_start(struct parent *p, struct psession *s, whois_done *done)
{
	bool digest = wants_digest(p, s);
	struct whois *w = digest || token_of(s) ? whois_new(p, s, done) : NULL;

	if (!w)
		return false;
	if ((digest && read_digest(w)) || read_token(w)) {
		(void)uv_timer_start(&w->timer, on_timeout, WHOIS_MS, 0);
		return true;
	}
	whois_free(w);
	return false;
}
