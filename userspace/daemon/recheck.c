/* SPDX-License-Identifier: MIT */
#include "daemon/recheck.h"

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/idp_ask.h"
#include "daemon/registry.h"

enum {
	AT_ONCE = 32,		  /* questions that are open */
	LOST_MS = 5000,		  /* an answer that is so late will not come */
	AGAIN_MS = 10000,	  /* at most, after a failure */
	KEPT_BYTES_MAX = 64 << 20, /* of tokens: agents bring about how many there are */
};

struct recheck {
	struct list link;
	char way[NAME_MAX_LEN]; /* "idp": without a name */
	uint8_t *token;
	size_t n;
	uint64_t id; /* of the open question; 0: none */
	uint64_t due_boot_ns, asked_boot_ns;
	uint64_t good_wall_ns;			    /* last answer that it is good; 0: none yet */
	uint64_t failing_boot_ns, failing_wall_ns; /* since then; 0: it does not */
	char why[160];
};

/* Of the parent, of which there is one. */
static struct recheck_counts counts;
static size_t kept_bytes;

const struct recheck_counts *recheck_counts(void)
{
	return &counts;
}

/* ------------------------------------------------------------------- tokens */

static void recheck_free(struct recheck *r)
{
	list_del(&r->link);
	explicit_bzero(r->token, r->n);
	kept_bytes -= r->n;
	free(r->token);
	free(r);
}

void rechecks_free(struct list *l)
{
	list_each(it, l) recheck_free(container_of(it, struct recheck, link));
}

void rechecks_move(struct list *from, struct list *to)
{
	list_each(it, from)
	{
		list_del(it);
		list_add_tail(to, it);
	}
}

/* A question that began anew brings another token of the same way. NULL: no room. */
static struct recheck *keep(struct list *l, struct slice way, struct slice token)
{
	struct recheck *r;

	list_each(it, l)
	{
		r = container_of(it, struct recheck, link);
		if (slice_eq_str(way, r->way))
			recheck_free(r);
	}
	r = kept_bytes + token.n > KEPT_BYTES_MAX ? NULL : calloc(1, sizeof(*r));
	if (r)
		r->token = malloc(token.n);
	if (!r || !r->token) {
		free(r);
		return NULL;
	}
	(void)snprintf(r->way, sizeof(r->way), "%.*s", (int)way.n, (const char *)way.p);
	memcpy(r->token, token.p, token.n);
	r->n = token.n;
	kept_bytes += r->n;
	list_add_tail(l, &r->link);
	return r;
}

void recheck_token(struct parent *p, struct ipc_msg *m)
{
	struct slice way = ipc_get_str(m), token = ipc_get_bytes(m);

	if (!ipc_end(m) || !token.n || token.n > RECHECK_TOKEN_MAX || way.n >= NAME_MAX_LEN) {
		m->bad = true;
		return;
	}
	list_each(it, &p->approvals)
	{
		struct approval *a = container_of(it, struct approval, link);

		/* What nobody can ask about again would be good whatever the provider takes back. */
		if (!a->ways[0] || a->signing || a->idp_id != m->id || keep(&a->rechecks, way, token))
			continue;
		a->unchecked = true;
		counts.unkept++;
	}
}

/* ----------------------------------------------------------------- questions */

/* As it is configured now; 0: it is not asked any more. */
static uint64_t interval(const struct config *c, const char *way, uint64_t *ret_tolerance_ms)
{
	const struct cfg_way *w = config_way(c, slice_str(way));

	if (!w && (strcmp(way, "idp") != 0 || !c->idp))
		return 0;
	*ret_tolerance_ms = w ? w->recheck_tolerance_ms : c->idp->recheck_tolerance_ms;
	return w ? w->recheck_ms : c->idp->recheck_ms;
}

/* A tenth earlier or later: what began together does not go on together. */
static uint64_t jittered_ns(uint64_t ms)
{
	uint32_t r;

	random_bytes(&r, sizeof(r));
	return ms * 900000 + ms * 200000 / 1000 * (r % 1000);
}

/* authd may have ended, or have been given another provider. */
static bool is_lost(const struct config *c, const struct recheck *r, uint64_t now)
{
	uint64_t ms = LOST_MS + 2 * (c->idp ? c->idp->timeout_ms : 0);

	return r->id && now - r->asked_boot_ns > ms * 1000000;
}

static void set_due(struct recheck *r, uint64_t now, uint64_t every_ms)
{
	if (r->failing_boot_ns && every_ms > AGAIN_MS)
		every_ms = AGAIN_MS;
	r->due_boot_ns = now + jittered_ns(every_ms);
}

static void failed(const struct grant *g, struct recheck *r, uint64_t now, const char *why)
{
	counts.failed++;
	(void)snprintf(r->why, sizeof(r->why), "%s", why);
	if (r->failing_boot_ns)
		return;
	r->failing_boot_ns = now;
	r->failing_wall_ns = clock_wall_ns();
	log_warning("grant %s: the identity provider does not say whether it still holds (%s): %s", g->id,
		    r->way, why);
}

static void ask(struct parent *p, const struct grant *g, struct recheck *r, uint64_t now)
{
	if (!p->authd.ipc || !p->authd.ready) {
		failed(g, r, now, "the process that asks it is not running");
		return;
	}
	r->id = ++p->next_id;
	r->asked_boot_ns = now;
	ipc_begin(p->authd.ipc, IPC_RECHECK, r->id);
	ipc_put_str(p->authd.ipc, r->way);
	ipc_put_str(p->authd.ipc, g->agent);
	ipc_put_str(p->authd.ipc, g->scope);
	ipc_put_bytes(p->authd.ipc, slice_of(r->token, r->n));
	ipc_send(p->authd.ipc);
}

static bool given_up(struct parent *p, struct grant *g, const struct recheck *r, uint64_t now,
		     uint64_t tolerance_ms)
{
	char words[256];

	if (!r->failing_boot_ns || now - r->failing_boot_ns < tolerance_ms * 1000000)
		return false;
	(void)snprintf(words, sizeof(words),
		       "the identity provider could not confirm the grant for %llu s: %.150s",
		       (unsigned long long)((now - r->failing_boot_ns) / 1000000000), r->why);
	(void)grant_end(p, g, TG_R_RECHECK_FAILED, words);
	return true;
}

/* False: the grant has ended. */
static bool look(struct parent *p, struct grant *g, struct recheck *r, uint64_t now, unsigned *open)
{
	uint64_t tolerance_ms = 0, every_ms = interval(p->cfg, r->way, &tolerance_ms);

	if (!every_ms) {
		r->due_boot_ns = r->failing_boot_ns = 0;
		return true;
	}
	if (!r->due_boot_ns)
		set_due(r, now, every_ms);
	if (is_lost(p->cfg, r, now)) {
		r->id = 0;
		failed(g, r, now, "no answer");
	}
	if (given_up(p, g, r, now, tolerance_ms))
		return false;
	if (r->id || now < r->due_boot_ns || *open >= AT_ONCE)
		return true;
	ask(p, g, r, now);
	*open += r->id != 0;
	set_due(r, now, every_ms);
	return !given_up(p, g, r, now, tolerance_ms);
}

void rechecks_tick(struct parent *p, uint64_t now)
{
	unsigned open = 0;

	list_each(it, &p->grants)
	{
		const struct grant *g = container_of(it, struct grant, link);

		list_each(at, &g->rechecks) open += container_of(at, struct recheck, link)->id != 0;
	}
	list_each(it, &p->grants)
	{
		struct grant *g = container_of(it, struct grant, link);

		list_each(at, &g->rechecks)
		{
			if (!look(p, g, container_of(at, struct recheck, link), now, &open))
				break;
		}
	}
}

/* ------------------------------------------------------------------- answers */

static struct recheck *find(struct parent *p, uint64_t id, struct grant **ret_grant)
{
	list_each(it, &p->grants)
	{
		struct grant *g = container_of(it, struct grant, link);

		list_each(at, &g->rechecks)
		{
			struct recheck *r = container_of(at, struct recheck, link);

			*ret_grant = g;
			if (r->id == id)
				return r;
		}
	}
	return NULL;
}

/* The provider may have shortened it. */
static void good(struct grant *g, struct recheck *r, uint64_t now, uint64_t ttl_ms)
{
	counts.active++;
	if (r->failing_boot_ns)
		log_notice("grant %s: the identity provider says that it holds (%s)", g->id, r->way);
	r->good_wall_ns = clock_wall_ns();
	r->failing_boot_ns = r->failing_wall_ns = 0;
	r->why[0] = 0;
	if (ttl_ms < (UINT64_MAX - now) / 1000000 && now + ttl_ms * 1000000 < g->until_boot_ns) {
		g->until_boot_ns = now + ttl_ms * 1000000;
		g->until_wall_ns = r->good_wall_ns + ttl_ms * 1000000;
	}
}

void recheck_answer(struct parent *p, struct ipc_msg *m)
{
	uint32_t reason = ipc_get_u32(m);
	uint64_t ttl_ms = ipc_get_u64(m), now = clock_boot_ns(), tolerance_ms = 0, every_ms;
	struct slice words = ipc_get_str(m);
	struct grant *g = NULL;
	struct recheck *r = find(p, m->id, &g);
	char text[256];

	if (!ipc_end(m)) {
		m->bad = true;
		return;
	}
	if (!r)
		return;
	r->id = 0;
	(void)snprintf(text, sizeof(text), "%.*s", (int)words.n, (const char *)words.p);
	if (reason == TG_R_IDP_REVOKED) {
		counts.ended++;
		(void)snprintf(text, sizeof(text), "the identity provider has taken the grant back: %.*s",
			       (int)words.n, (const char *)words.p);
		(void)grant_end(p, g, TG_R_IDP_REVOKED, text);
		return;
	}
	if (reason)
		failed(g, r, now, text);
	else
		good(g, r, now, ttl_ms);
	every_ms = interval(p->cfg, r->way, &tolerance_ms);
	if (!every_ms)
		return;
	set_due(r, now, every_ms);
	(void)given_up(p, g, r, now, tolerance_ms);
}

/* ------------------------------------------------------- told, and handed on */

json_t *rechecks_json(const struct list *l)
{
	json_t *list = json_array();

	list_each(it, l)
	{
		const struct recheck *r = container_of(it, struct recheck, link);

		(void)json_array_append_new(
			list, json_pack("{s:s, s:o, s:o, s:o}", "way", r->way, "good",
					time_json(r->good_wall_ns), "failing_since", time_json(r->failing_wall_ns),
					"why", text_json(r->why)));
	}
	return list;
}

static void add(json_t *o, const char *name, json_int_t n)
{
	(void)json_object_set_new(o, name, json_integer(json_integer_value(json_object_get(o, name)) + n));
}

/* The entry of @way, made if there is none; what it tells of times is that of the oldest failure. */
static json_t *failing_entry(struct parent *p, json_t *list, const struct recheck *r)
{
	uint64_t tolerance_ms = 0, ends;
	json_t *o;
	size_t i;

	json_array_foreach(list, i, o)
	{
		if (strcmp(json_string_value(json_object_get(o, "way")), r->way) == 0)
			return o;
	}
	(void)interval(p->cfg, r->way, &tolerance_ms);
	ends = r->failing_wall_ns + tolerance_ms * 1000000;
	o = json_pack("{s:s, s:s?, s:o, s:o, s:i, s:i, s:o, s:s}", "way", r->way, "issuer",
		      p->cfg->idp ? p->cfg->idp->issuer : NULL, "since", time_json(r->failing_wall_ns),
		      "ends", time_json(ends), "grants", 0, "sessions", 0, "why", text_json(r->why), "todo",
		      "see `idp` above; grants go on for `recheck_tolerance`; `tidegate grant create` gives "
		      "access without the provider");
	(void)json_array_append_new(list, o);
	return o;
}

/* Oldest first, so that the first of a way is the one that tells. */
static const struct recheck *oldest_failing(const struct grant *g)
{
	const struct recheck *oldest = NULL;

	list_each(it, &g->rechecks)
	{
		const struct recheck *r = container_of(it, struct recheck, link);

		if (r->failing_boot_ns && (!oldest || r->failing_boot_ns < oldest->failing_boot_ns))
			oldest = r;
	}
	return oldest;
}

static int by_age(const void *a, const void *b)
{
	const struct recheck *x = oldest_failing(*(const struct grant *const *)a);
	const struct recheck *y = oldest_failing(*(const struct grant *const *)b);

	return x->failing_boot_ns < y->failing_boot_ns ? -1 : x->failing_boot_ns > y->failing_boot_ns;
}

static size_t failing_grants(struct parent *p, const struct grant ***ret)
{
	size_t n = 0;

	list_each(it, &p->grants) n += oldest_failing(container_of(it, struct grant, link)) != NULL;
	*ret = calloc(n + 1, sizeof(**ret));
	n = 0;
	list_each(it, &p->grants)
	{
		const struct grant *g = container_of(it, struct grant, link);

		if (*ret && oldest_failing(g))
			(*ret)[n++] = g;
	}
	if (n)
		qsort(*ret, n, sizeof(**ret), by_age);
	return n;
}

json_t *rechecks_failing_json(struct parent *p)
{
	json_t *list = json_array(), *of = json_object(), *o;
	const struct grant **grants;
	size_t n = failing_grants(p, &grants);
	struct psession *s, *tmp;

	for (size_t i = 0; i < n; i++) {
		o = failing_entry(p, list, oldest_failing(grants[i]));
		add(o, "grants", 1);
		(void)json_object_set(of, grants[i]->id, o);
	}
	HASH_ITER(hh, p->sessions, s, tmp)
	{
		o = n ? json_object_get(of, s->grant) : NULL;
		if (o)
			add(o, "sessions", 1);
	}
	json_decref(of);
	free(grants);
	return list;
}

void rechecks_save(struct hand *h, json_t *o, const struct list *l)
{
	json_t *list = json_array();

	list_each(it, l)
	{
		const struct recheck *r = container_of(it, struct recheck, link);
		json_t *one = json_object();

		hand_put_str(h, one, "way", r->way);
		hand_put_slice(h, one, "token", slice_of(r->token, r->n));
		hand_put_u64(h, one, "good", r->good_wall_ns);
		hand_put_u64(h, one, "failing", r->failing_wall_ns);
		hand_put_u64(h, one, "failing_boot", r->failing_boot_ns);
		hand_put_u64(h, one, "due", r->due_boot_ns);
		hand_put_str(h, one, "why", r->why);
		(void)json_array_append_new(list, one);
	}
	hand_put(h, o, "rechecks", list);
}

static void take_one(struct hand *h, const json_t *o, struct list *l)
{
	char way[NAME_MAX_LEN] = "";
	struct recheck *r = NULL;
	struct buf token;

	buf_init(&token, 64 << 10);
	hand_str(h, o, "way", way, sizeof(way));
	hand_buf(h, o, "token", &token);
	if (token.n)
		r = keep(l, slice_str(way), buf_slice(&token));
	buf_wipe(&token);
	if (!r) {
		hand_fail(h, "recheck");
		return;
	}
	r->good_wall_ns = hand_u64(h, o, "good");
	r->failing_wall_ns = hand_u64(h, o, "failing");
	r->failing_boot_ns = hand_u64(h, o, "failing_boot");
	r->due_boot_ns = hand_u64(h, o, "due");
	hand_str(h, o, "why", r->why, sizeof(r->why));
}

void rechecks_take(struct hand *h, const json_t *o, struct list *l)
{
	json_t *one;
	size_t i;

	if (!hand_has(o, "rechecks"))
		return;
	json_array_foreach(hand_list(h, o, "rechecks"), i, one)
		take_one(h, one, l);
}
