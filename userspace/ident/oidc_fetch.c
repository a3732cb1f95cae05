/* SPDX-License-Identifier: MIT */
/*
 * The provider's documents. Each is fetched once for all who wait for it,
 * renewed behind the requests' back before it gets old, and not used any more
 * when it is too old: a key that was withdrawn stops working.
 */
#include "ident/oidc_impl.h"

static bool usable(const struct oidc_doc *d, uint64_t now)
{
	return d->have && now - d->at_ms < OIDC_DOC_MAX_MS;
}

static bool wants_renewal(const struct oidc_doc *d, uint64_t now)
{
	return now - d->at_ms >= OIDC_DOC_REFRESH_MS && now - d->tried_ms >= OIDC_DOC_RETRY_MS;
}

static void doc_failed(struct oidc *o, struct oidc_doc *d, const char *what, uint16_t reason,
		       uint32_t retry_after_s, const char *why, const char *todo)
{
	bool hard = !usable(d, oidc_now_ms());
	char detail[OIDC_DETAIL];

	(void)snprintf(detail, sizeof(detail), "%s: %s", what, why);
	oidc_provider_failed(o, reason, retry_after_s, hard, detail, todo);
	list_each(it, &o->grants)
	{
		struct oidc_grant *g = container_of(it, struct oidc_grant, in_oidc);

		if ((g->state == GRANT_NEEDS_DOCS && hard) ||
		    (g->state == GRANT_NEEDS_KEYS && d == &o->keys_doc))
			oidc_decide(g, reason, "%s", detail);
	}
	oidc_run(o);
}

/* True if there is a body to read; else the failure has been dealt with. */
static bool check_status(struct oidc *o, struct oidc_doc *d, const char *what,
			 const struct http_response *r)
{
	const char *todo;
	char why[160];
	uint16_t reason = oidc_http_reason(r, &todo);

	if (r->error == HTTP_OK && r->status == 200)
		return true;
	if (r->error != HTTP_OK)
		(void)snprintf(why, sizeof(why), "%s", r->detail);
	else if (r->status >= 300 && r->status < 400)
		(void)snprintf(why, sizeof(why), "a redirect (HTTP %d), which is not followed",
			       r->status);
	else
		(void)snprintf(why, sizeof(why), "HTTP %d", r->status);
	if (r->error == HTTP_OK && r->status < 500 && r->status != 429)
		todo = "check that idp.issuer is the provider's issuer to the letter";
	doc_failed(o, d, what, reason, r->retry_after_s, why, todo);
	return false;
}

static void doc_arrived(struct oidc_doc *d)
{
	d->have = true;
	d->at_ms = oidc_now_ms();
}

static int fetch_keys(struct oidc *o);

/* Keys from another place are other keys, also those that are on their way. */
static void keys_moved(struct oidc *o)
{
	o->keys_doc.have = false;
	if (!o->keys_doc.transfer)
		return;
	curl_loop_cancel(o->keys_doc.transfer);
	o->keys_doc.transfer = NULL;
	(void)fetch_keys(o); /* if that fails, who waits runs into the deadline */
}

static void on_discovery(void *ctx, const struct http_response *r)
{
	static const char what[] = "the discovery document";
	struct oidc *o = ctx;
	struct discovery d;
	char why[OIDC_DETAIL];
	bool moved;

	o->discovery_doc.transfer = NULL;
	if (!check_status(o, &o->discovery_doc, what, r))
		return;
	if (discovery_parse(r->body, &o->rules, &d, why, sizeof(why)) != 0) {
		doc_failed(o, &o->discovery_doc, what, TG_R_IDP_BAD_ANSWER, 0, why,
			   "check that idp.issuer is the provider's issuer to the letter");
		return;
	}
	moved = o->discovery_doc.have && strcmp(d.jwks_uri, o->discovery.jwks_uri) != 0;
	discovery_done(&o->discovery);
	o->discovery = d;
	doc_arrived(&o->discovery_doc);
	if (moved)
		keys_moved(o);
	oidc_run(o);
}

static void on_keys(void *ctx, const struct http_response *r)
{
	static const char what[] = "the provider's keys";
	struct oidc *o = ctx;
	struct jwks *keys;
	char why[160];

	o->keys_doc.transfer = NULL;
	if (!check_status(o, &o->keys_doc, what, r))
		return;
	if (jwks_parse(r->body, &keys, why, sizeof(why)) != 0) {
		doc_failed(o, &o->keys_doc, what, TG_R_IDP_BAD_ANSWER, 0, why,
			   "see the provider's jwks_uri");
		return;
	}
	jwks_free(o->keys);
	o->keys = keys;
	doc_arrived(&o->keys_doc);
	/* Of a provider that is asked for more its answers say whether it works. */
	if (o->cfg.keys_only)
		health_good(&o->health, clock_wall_ns());
	list_each(it, &o->grants)
	{
		struct oidc_grant *g = container_of(it, struct oidc_grant, in_oidc);

		if (g->state == GRANT_NEEDS_KEYS)
			grant_verify(g);
	}
	oidc_run(o);
}

static int fetch(struct oidc *o, struct oidc_doc *d, const char *url, size_t max_bytes,
		 http_done_fn *done)
{
	static const char *const headers[] = {"Accept: application/json", NULL};
	struct http_request q = {
		.url = url,
		.headers = headers,
		.timeout_ms = o->cfg.timeout_ms,
		.max_bytes = max_bytes,
	};

	if (d->transfer)
		return 0;
	d->tried_ms = oidc_now_ms();
	return curl_loop_start(o->http, &q, done, o, &d->transfer);
}

static int fetch_discovery(struct oidc *o)
{
	o->counts.discovery_calls += !o->discovery_doc.transfer;
	return fetch(o, &o->discovery_doc, o->discovery_at, DISCOVERY_MAX, on_discovery);
}

static int fetch_keys(struct oidc *o)
{
	o->counts.keys_calls += !o->keys_doc.transfer;
	return fetch(o, &o->keys_doc, o->discovery.jwks_uri, DISCOVERY_MAX, on_keys);
}

int oidc_docs_ready(struct oidc *o)
{
	uint64_t now = oidc_now_ms();

	if (!usable(&o->discovery_doc, now))
		return fetch_discovery(o);
	if (!usable(&o->keys_doc, now))
		return fetch_keys(o);
	/* Whether these succeed is nobody's business now. */
	if (wants_renewal(&o->discovery_doc, now))
		(void)fetch_discovery(o);
	if (wants_renewal(&o->keys_doc, now))
		(void)fetch_keys(o);
	return 1;
}

const char *oidc_keys_again(struct oidc *o)
{
	uint64_t now = oidc_now_ms();

	if (o->keys_doc.transfer)
		return NULL;
	if (o->keys_forced_ms && now - o->keys_forced_ms < o->cfg.keys_min_ms)
		return "the keys were fetched anew just before";
	o->keys_forced_ms = now;
	return fetch_keys(o) == 0 ? NULL : "the keys could not be fetched anew";
}
