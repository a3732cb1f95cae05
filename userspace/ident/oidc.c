/* SPDX-License-Identifier: MIT */
#include "ident/oidc.h"

#include <errno.h>
#include <openssl/crypto.h>
#include <stdarg.h>

#include "base/ident.h"
#include "ident/jws.h"
#include "ident/oidc_bearer.h"

enum { TIMEOUT_DEFAULT_MS = 5000, KEYS_MIN_DEFAULT_MS = 10000 };
enum { CONFIG_BYTES = 64 << 10, ASK_BYTES = 256 << 10 };

static void wipe(void *p, size_t n)
{
	if (p)
		OPENSSL_cleanse(p, n);
}

static void grant_free(struct oidc_grant *g)
{
	list_del(&g->in_oidc);
	list_each(it, &g->waiters)
	{
		list_del(it);
		free(container_of(it, struct oidc_waiter, in_grant));
		g->o->waiting--;
	}
	token_answer_done(&g->answer);
	wipe(g->handle, g->handle ? strlen(g->handle) : 0);
	wipe(g->notify, sizeof(g->notify));
	wipe((void *)g->ask.token.p, g->ask.token.n);
	free(g->handle);
	free(g->proof);
	json_decref(g->said);
	json_decref(g->id_said);
	json_decref(g->named);
	free(g->subject);
	free(g->approver);
	free(g->evidence);
	arena_done(&g->arena);
	free(g);
}

void oidc_decide(struct oidc_grant *g, uint16_t reason, const char *fmt, ...)
{
	struct oidc *o = g->o;
	va_list ap;

	if (g->state == GRANT_DECIDED)
		return;
	va_start(ap, fmt);
	(void)vsnprintf(g->detail, sizeof(g->detail), fmt, ap);
	va_end(ap);
	if (g->transfer)
		curl_loop_cancel(g->transfer);
	g->transfer = NULL;
	/* Otherwise it is kept until it is delivered. */
	if (reason != TG_R_NONE)
		token_answer_done(&g->answer);
	g->state = GRANT_DECIDED;
	g->result.reason = reason;
	g->result.token = reason ? slice_of("", 0) : g->answer.token;
	g->result.scope = g->scope;
	g->result.subject = g->subject ? g->subject : "";
	g->result.approver = g->approver ? g->approver : "";
	g->result.evidence = g->evidence ? g->evidence : "{}";
	g->result.token_digest = g->digest;
	g->result.detail = g->detail;
	if (g->ask.flow == OIDC_OWN_USE)
		; /* nobody's question */
	else if (g->ask.flow == OIDC_RECHECK)
		o->counts.rechecked++;
	else if (reason == TG_R_NONE)
		o->counts.granted++;
	else if (reason == TG_R_IDP_DENIED || reason == TG_R_APPROVAL_DENIED)
		o->counts.denied++;
	else if (reason != TG_R_APPROVAL_CANCELLED && reason != TG_R_APPROVAL_EXPIRED)
		o->counts.failed++;
	oidc_poke(o);
}

void oidc_provider_failed(struct oidc *o, uint16_t reason, uint32_t retry_after_s, bool hard,
			  const char *detail, const char *todo)
{
	uint32_t jitter;

	health_note(&o->health, clock_wall_ns(), detail, todo);
	if (!hard)
		return;
	random_bytes(&jitter, sizeof(jitter));
	if (!health_in_backoff(&o->health, oidc_now_ms()))
		o->health.reason = reason;
	health_bad(&o->health, oidc_now_ms(), clock_wall_ns(), jitter,
		   (uint64_t)retry_after_s * 1000);
}

uint16_t oidc_http_reason(const struct http_response *r, const char **ret_todo)
{
	switch (r->error) {
	case HTTP_OK:
		*ret_todo = "see the provider's own log";
		return r->status >= 500 || r->status == 429 ? TG_R_IDP_UNREACHABLE
							    : TG_R_IDP_BAD_ANSWER;
	case HTTP_UNREACHABLE:
		*ret_todo = "check that the provider runs, and its name, route and firewall from "
			    "this host";
		return TG_R_IDP_UNREACHABLE;
	case HTTP_UNTRUSTED:
		*ret_todo = "check the provider's certificate against idp.ca_file";
		return TG_R_IDP_UNREACHABLE;
	case HTTP_TIMEOUT:
		*ret_todo = "check the provider's load, or raise idp.timeout";
		return TG_R_IDP_TIMEOUT;
	case HTTP_UNSIGNED:
		*ret_todo = "see what keyd says in the journal";
		return TG_R_INTERNAL;
	case HTTP_UNPROVEN:
		*ret_todo = "compare idp.client.certificate_file with what the provider has registered";
		return TG_R_IDP_DENIED;
	case HTTP_TOO_LARGE:
	case HTTP_BROKEN:
	case HTTP_NOT_ALLOWED:
		break;
	}
	*ret_todo = "check that idp.issuer is the provider's own address";
	return TG_R_IDP_BAD_ANSWER;
}

/* One callback for each waiter. False: the user has freed us from inside one. */
static bool deliver(struct oidc_grant *g)
{
	struct oidc *o = g->o;

	while (!list_empty(&g->waiters)) {
		struct oidc_waiter *w = container_of(g->waiters.next, struct oidc_waiter, in_grant);
		oidc_done_fn *done = w->done;
		void *ctx = w->ctx;
		uint64_t id = w->id;

		list_del(&w->in_grant);
		free(w);
		o->waiting--;
		done(ctx, id, &g->result);
		if (o->dead)
			return false;
	}
	grant_free(g);
	return true;
}

/* The only place where grants leave the list: every other loop over it is safe. */
static bool deliver_decided(struct oidc *o)
{
	list_each(it, &o->grants)
	{
		struct oidc_grant *g = container_of(it, struct oidc_grant, in_oidc);

		if (g->state == GRANT_DECIDED && !deliver(g))
			return false;
	}
	return true;
}

static void on_timer(uv_timer_t *timer)
{
	oidc_run(timer->data);
}

static void poke_in(struct oidc *o, uint64_t ms)
{
	if (!o->dead)
		(void)uv_timer_start(&o->timer, on_timer, ms, 0);
}

void oidc_poke(struct oidc *o)
{
	/* Inside a run the timer is set at its end. */
	if (o->running)
		o->again = true;
	else
		poke_in(o, 0);
}

/* Wakes at the next deadline; at once if a callback gave us something to do. */
static void arm(struct oidc *o)
{
	uint64_t now = oidc_now_ms(), next = UINT64_MAX;

	list_each(it, &o->grants)
	{
		struct oidc_grant *g = container_of(it, struct oidc_grant, in_oidc);

		if (g->deadline_ms < next)
			next = g->deadline_ms;
		if (g->state == GRANT_WAITING && g->next_ms < next)
			next = g->next_ms;
	}
	if (next == UINT64_MAX)
		(void)uv_timer_stop(&o->timer);
	else
		poke_in(o, next > now && !o->again ? next - now : 0);
	o->again = false;
}

static void timed_out(struct oidc_grant *g)
{
	if (g->phase == PHASE_POLL)
		oidc_decide(g, TG_R_APPROVAL_EXPIRED, "%s", "the person did not decide in time");
	else
		oidc_decide(g, TG_R_IDP_TIMEOUT, "%s",
			    g->state == GRANT_NEEDS_CREDENTIAL
				    ? "the client's credential did not come in time"
				    : "the identity provider did not answer in time");
}

static void step(struct oidc_grant *g, uint64_t now)
{
	struct oidc *o = g->o;
	int ready;

	if (g->state == GRANT_DECIDED)
		return;
	if (now >= g->deadline_ms) {
		timed_out(g);
		return;
	}
	if (g->state == GRANT_WAITING && now >= g->next_ms)
		grant_want_credential(g);
	if (g->state != GRANT_NEEDS_DOCS)
		return;
	ready = oidc_docs_ready(o);
	if (ready < 0)
		oidc_decide(g, TG_R_INTERNAL, "the request to the provider could not be made: %s",
			    strerror(-ready));
	else if (ready && g->ask.flow == OIDC_VERIFY)
		grant_verify_own(g);
	else if (ready)
		grant_want_credential(g);
}

void oidc_run(struct oidc *o)
{
	uint64_t now = oidc_now_ms();

	if (o->dead)
		return;
	BUG_ON(o->running);
	o->running = true;
	list_each(it, &o->grants)
	{
		step(container_of(it, struct oidc_grant, in_oidc), now);
		if (o->dead)
			return;
	}
	if (!deliver_decided(o))
		return;
	o->running = false;
	arm(o);
}

static enum oidc_phase first_phase(const struct oidc_ask *a)
{
	if (oidc_ask_of_person(a))
		return PHASE_START;
	return a->flow == OIDC_INTROSPECTION || a->flow == OIDC_RECHECK ? PHASE_INTROSPECT
									: PHASE_TOKEN;
}

/* A machine answers within its deadline, a person takes the time that the policy gives. */
static uint64_t deadline(const struct oidc *o, const struct oidc_ask *a)
{
	uint64_t ms = 2 * o->cfg.timeout_ms;

	return oidc_now_ms() + (oidc_ask_of_person(a) && a->hold_ms > ms ? a->hold_ms : ms);
}

static int grant_new(struct oidc *o, const struct oidc_ask *ask, struct oidc_grant **ret)
{
	struct oidc_grant *g = calloc(1, sizeof(*g));
	int err;

	if (!g)
		return -ENOMEM;
	list_init(&g->in_oidc);
	list_init(&g->waiters);
	arena_init(&g->arena, ASK_BYTES);
	g->o = o;
	g->id = ++o->next_id;
	err = oidc_ask_copy(&g->arena, ask, &g->ask);
	if (!err) {
		g->scope = oidc_ask_scope(&g->arena, g->ask.scope);
		err = g->scope ? 0 : -ENOMEM;
	}
	if (err) {
		grant_free(g);
		return err;
	}
	g->phase = first_phase(&g->ask);
	g->deadline_ms = deadline(o, &g->ask);
	list_add_tail(&o->grants, &g->in_oidc);
	*ret = g;
	return 0;
}

/* A person's yes is for one question. */
static struct oidc_grant *find_equal(struct oidc *o, const struct oidc_ask *ask)
{
	if (oidc_ask_of_person(ask))
		return NULL;
	list_each(it, &o->grants)
	{
		struct oidc_grant *g = container_of(it, struct oidc_grant, in_oidc);

		if (g->state != GRANT_DECIDED && oidc_ask_same(&g->ask, ask))
			return g;
	}
	return NULL;
}

/* Nobody waits seconds for a provider that is known to be down. */
static void fail_fast(struct oidc_grant *g)
{
	struct health *h = &g->o->health;
	uint64_t now = oidc_now_ms();

	g->o->counts.fast_failed++;
	oidc_decide(g, h->reason, "not asked, next try in %llu ms; last error: %s",
		    (unsigned long long)(h->until_ms > now ? h->until_ms - now : 0), h->error);
}

int oidc_request(struct oidc *o, uint64_t id, const struct oidc_ask *ask, oidc_done_fn *done,
		 void *ctx)
{
	struct oidc_waiter *w;
	struct oidc_grant *g;
	bool fresh;
	int err = 0;

	if (o->waiting >= OIDC_WAITING_MAX)
		return -EBUSY;
	w = calloc(1, sizeof(*w));
	if (!w)
		return -ENOMEM;
	g = find_equal(o, ask);
	fresh = !g;
	if (!g)
		err = grant_new(o, ask, &g);
	if (err) {
		free(w);
		return err;
	}
	w->id = id;
	w->done = done;
	w->ctx = ctx;
	list_add_tail(&g->waiters, &w->in_grant);
	o->waiting++;
	o->counts.requests += ask->flow != OIDC_OWN_USE;
	o->counts.joined += !fresh;
	if (fresh && health_in_backoff(&o->health, oidc_now_ms()))
		fail_fast(g);
	oidc_poke(o);
	return 0;
}

/* False: not one of this grant's. */
static bool cancel_in(struct oidc_grant *g, uint64_t id)
{
	list_each(it, &g->waiters)
	{
		struct oidc_waiter *w = container_of(it, struct oidc_waiter, in_grant);

		if (w->id != id)
			continue;
		list_del(&w->in_grant);
		free(w);
		g->o->waiting--;
		if (list_empty(&g->waiters))
			oidc_decide(g, TG_R_APPROVAL_CANCELLED, "%s", "cancelled");
		return true;
	}
	return false;
}

void oidc_cancel(struct oidc *o, uint64_t id)
{
	list_each(it, &o->grants) if (cancel_in(container_of(it, struct oidc_grant, in_oidc),
						id)) return;
}

void oidc_credential(struct oidc *o, uint64_t id, struct slice credential, int error)
{
	list_each(it, &o->grants)
	{
		struct oidc_grant *g = container_of(it, struct oidc_grant, in_oidc);

		if (g->id != id || g->state != GRANT_NEEDS_CREDENTIAL)
			continue;
		if (error)
			oidc_decide(g, TG_R_INTERNAL, "the client's credential: %s",
				    strerror(error < 0 ? -error : error));
		else
			grant_ask(g, credential);
		return;
	}
	/* Too late: the request is over. */
}

void oidc_describe(const struct oidc *o, struct jsonw *w)
{
	jsonw_object(w);
	oidc_describe_into(o, w);
	jsonw_object_end(w);
}

void oidc_describe_into(const struct oidc *o, struct jsonw *w)
{
	uint64_t now = oidc_now_ms();

	jsonw_kv_string(w, "issuer", o->cfg.issuer);
	health_describe(&o->health, now, w);
	if (o->discovery_doc.have && !o->cfg.keys_only)
		jsonw_kv_string(w, "token_endpoint", o->discovery.token_endpoint);
	if (o->keys_doc.have) {
		jsonw_kv_u64(w, "keys", jwks_count(o->keys));
		jsonw_kv_u64(w, "keys_skipped", jwks_skipped(o->keys));
		jsonw_kv_u64(w, "keys_age_ms", now - o->keys_doc.at_ms);
	}
	jsonw_kv_u64(w, "waiting", o->waiting);
	jsonw_kv_u64(w, "requests", o->counts.requests);
	jsonw_kv_u64(w, "joined", o->counts.joined);
	jsonw_kv_u64(w, "granted", o->counts.granted);
	jsonw_kv_u64(w, "denied", o->counts.denied);
	jsonw_kv_u64(w, "failed", o->counts.failed);
	jsonw_kv_u64(w, "fast_failed", o->counts.fast_failed);
	jsonw_kv_u64(w, "discovery_calls", o->counts.discovery_calls);
	jsonw_kv_u64(w, "keys_calls", o->counts.keys_calls);
	jsonw_kv_u64(w, "token_calls", o->counts.token_calls);
	jsonw_kv_u64(w, "person_calls", o->counts.start_calls);
	jsonw_kv_u64(w, "pings", o->counts.pings);
	jsonw_kv_u64(w, "introspection_calls", o->counts.introspection_calls);
	jsonw_kv_u64(w, "userinfo_calls", o->counts.userinfo_calls);
	jsonw_kv_u64(w, "rechecked", o->counts.rechecked);
}

static bool copy_text(struct arena *a, const char **text)
{
	if (*text)
		*text = arena_strdup(a, slice_str(*text));
	else
		return true;
	return *text;
}

static bool copy_list(struct arena *a, const char *const **list)
{
	const char **copy;
	size_t n = 0;

	if (!*list)
		return true;
	while ((*list)[n])
		n++;
	copy = arena_alloc(a, (n + 1) * sizeof(*copy));
	for (size_t i = 0; copy && i < n; i++) {
		copy[i] = (*list)[i];
		if (!copy_text(a, &copy[i]))
			return false;
	}
	*list = copy;
	return copy;
}

static int take_config(struct oidc *o, const struct oidc_config *cfg)
{
	static const char *const usual[] = {"RS256", "PS256", "ES256", "EdDSA", NULL};
	struct oidc_config *c = &o->cfg;

	if (!cfg->issuer || !cfg->client_id || !*cfg->client_id)
		return -EINVAL;
	*c = *cfg;
	if (!c->algorithms)
		c->algorithms = usual;
	if (!c->timeout_ms)
		c->timeout_ms = TIMEOUT_DEFAULT_MS;
	if (!c->keys_min_ms)
		c->keys_min_ms = KEYS_MIN_DEFAULT_MS;
	for (size_t i = 0; c->algorithms[i]; i++)
		if (!jws_alg_find(c->algorithms[i]))
			return -EINVAL;
	if (!copy_text(&o->arena, &c->issuer) || !copy_text(&o->arena, &c->client_id) ||
	    !copy_text(&o->arena, &c->audience) || !copy_text(&o->arena, &c->resource) ||
	    !copy_text(&o->arena, &c->ca_file) || !copy_text(&o->arena, &c->assertion_audience) ||
	    !copy_text(&o->arena, &c->name_claim) || !copy_text(&o->arena, &c->introspect_scope) ||
	    !copy_text(&o->arena, &c->details_type) || !copy_list(&o->arena, &c->algorithms) ||
	    !copy_list(&o->arena, &c->extra_origins))
		return -ENOMEM;
	o->rules = (struct discovery_rules){
		.issuer = c->issuer,
		.extra_origins = c->extra_origins,
		.allow_http = c->allow_http,
		.keys_only = c->keys_only,
		.mtls = c->tls_auth,
	};
	return discovery_url(&o->rules, &o->discovery_at);
}

static void release(struct oidc *o)
{
	list_each(it, &o->grants) grant_free(container_of(it, struct oidc_grant, in_oidc));
	discovery_done(&o->discovery);
	bearer_drop(o);
	free(o->discovery_at);
	jwks_free(o->keys);
	arena_done(&o->arena);
	free(o);
}

int oidc_new(uv_loop_t *loop, const struct oidc_config *cfg, const struct oidc_ops *ops, void *ctx,
	     struct oidc **ret)
{
	struct oidc *o = calloc(1, sizeof(*o));
	int err;

	if (!o)
		return -ENOMEM;
	o->loop = loop;
	o->ops = *ops;
	o->ctx = ctx;
	list_init(&o->grants);
	arena_init(&o->arena, CONFIG_BYTES);
	err = take_config(o, cfg);
	if (!err)
		err = curl_loop_new(loop, o->cfg.ca_file, o->cfg.allow_http, &o->http);
	if (!err && uv_timer_init(loop, &o->timer) != 0) {
		curl_loop_free(o->http);
		err = -ENOMEM;
	}
	if (err) {
		release(o);
		return err;
	}
	o->timer.data = o;
	*ret = o;
	return 0;
}

static void on_closed(uv_handle_t *h)
{
	release(h->data);
}

void oidc_free(struct oidc *o)
{
	if (!o || o->dead)
		return;
	o->dead = true;
	list_each(it, &o->grants)
	{
		struct oidc_grant *g = container_of(it, struct oidc_grant, in_oidc);

		/* It may be on a loop that was retired. */
		if (g->transfer)
			curl_loop_cancel(g->transfer);
		g->transfer = NULL;
	}
	curl_loop_free(o->tls);
	curl_loop_free(o->http);
	uv_close((uv_handle_t *)&o->timer, on_closed);
}
