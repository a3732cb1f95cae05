/* SPDX-License-Identifier: MIT */
#include "ident/authzen.h"

#include <errno.h>
#include <jansson.h>

#include "base/clock.h"
#include "base/ident.h"
#include "base/list.h"
#include "base/text.h"
#include "ident/authzen_meta.h"
#include "ident/health.h"
#include "ident/strict_json.h"
#include "net/curl_loop.h"
#include "net/url.h"

enum { ANSWER_MAX = 64 << 10, DETAIL = 400, EVIDENCE_MAX = 8 << 10 };
enum {
	META_REFRESH_MS = 10 * 60 * 1000, /* older: fetched anew, behind the questions' back */
	META_MAX_MS = 60 * 60 * 1000,	  /* older: not used any more */
	META_RETRY_MS = 10 * 1000,	  /* between two fetches behind the back */
};

struct question {
	struct list link;
	struct authzen *z;
	uint64_t id;
	authzen_done_fn *done;
	void *ctx;
	struct http_transfer *transfer; /* NULL: waits for the metadata */
	char *body;
};

struct authzen {
	uv_loop_t *loop;
	struct curl_loop *http;
	char *url; /* NULL: not known yet */
	/* Where the metadata tell that; NULL: they are not asked. */
	char *point, *meta_url;
	struct http_transfer *meta;
	uint64_t meta_ms, meta_tried_ms; /* the last success, the last start */
	bool allow_http;
	bool busy, dead; /* answers are being given; freed by one who got one */
	uint64_t timeout_ms;
	struct list questions;
	unsigned waiting;
	struct health health;
	uint64_t asked, allowed, denied, failed;
};

/* ------------------------------------------------------------------ text */

static json_t *subject(const struct authzen_ask *a)
{
	char ignored[64];
	json_t *p = a->facts && *a->facts
			    ? strict_json_object(slice_str(a->facts), ANSWER_MAX, ignored,
						 sizeof(ignored))
			    : NULL;

	if (!p)
		p = json_object();
	if (!p || (a->user && json_object_set_new(p, "user", json_string(a->user)) != 0)) {
		json_decref(p);
		return NULL;
	}
	return json_pack("{s:s, s:s, s:o}", "type", "agent", "id", a->agent, "properties", p);
}

char *authzen_body(const struct authzen_ask *a)
{
	json_t *o = json_pack(
		"{s:o, s:{s:s}, s:{s:s, s:s, s:{s:s*}}, s:{s:s*, s:s*, s:s*, s:s*}}", "subject",
		subject(a), "action", "name", a->action, "resource", "type", "target", "id",
		a->target, "properties", "database", a->database, "context", "statement", a->text,
		"statement_digest", a->digest, "request", a->request, "session", a->session);
	char *text = o ? json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;

	json_decref(o);
	return text;
}

bool authzen_decision(struct slice body, char **ret_evidence, char *error, size_t error_cap)
{
	json_t *o = strict_json_object(body, ANSWER_MAX, error, error_cap);
	const json_t *decision = json_object_get(o, "decision");
	bool yes = json_is_true(decision);

	*ret_evidence = NULL;
	if (!o)
		return false;
	if (json_is_object(json_object_get(o, "context")))
		*ret_evidence = json_dumps(json_object_get(o, "context"),
					   JSON_COMPACT | JSON_ENSURE_ASCII);
	if (!json_is_boolean(decision))
		(void)snprintf(error, error_cap, "the answer holds no `decision` of true or false");
	else
		error[0] = 0;
	json_decref(o);
	return yes;
}

/* --------------------------------------------------------------- questions */

static void question_free(struct question *q)
{
	list_del(&q->link);
	q->z->waiting--;
	if (q->transfer)
		curl_loop_cancel(q->transfer);
	free(q->body);
	free(q);
}

static uint64_t now_ms(void)
{
	return clock_boot_ns() / 1000000;
}

/* The question is gone before its answer is told: the callee may free everything. */
static void tell(struct question *q, const struct authzen_result *r)
{
	authzen_done_fn *done = q->done;
	void *ctx = q->ctx;
	uint64_t id = q->id;

	question_free(q);
	done(ctx, id, r);
}

static void note_failure(struct authzen *z, uint32_t retry_after_s, const char *why, const char *todo)
{
	uint32_t jitter;

	random_bytes(&jitter, sizeof(jitter));
	health_note(&z->health, clock_wall_ns(), why, todo);
	health_bad(&z->health, now_ms(), clock_wall_ns(), jitter, (uint64_t)retry_after_s * 1000);
}

static void failed(struct question *q, uint32_t retry_after_s, const char *why)
{
	q->z->failed++;
	note_failure(q->z, retry_after_s, why, "see the decision point's own log");
	tell(q, &(struct authzen_result){TG_R_PDP_FAILED, "{}", why});
}

static void on_answer(void *ctx, const struct http_response *r)
{
	struct question *q = ctx;
	struct authzen *z = q->z;
	char why[DETAIL] = "", *evidence;
	struct authzen_result result = {.evidence = "{}", .detail = why};

	q->transfer = NULL;
	if (r->error != HTTP_OK || r->status != 200) {
		if (r->error != HTTP_OK)
			(void)snprintf(why, sizeof(why), "the decision point: %s", r->detail);
		else
			(void)snprintf(why, sizeof(why), "the decision point: HTTP %d", r->status);
		failed(q, r->retry_after_s, why);
		return;
	}
	result.reason = authzen_decision(r->body, &evidence, why, sizeof(why)) ? TG_R_NONE
									       : TG_R_PDP_DENIED;
	if (why[0])
		result.reason = TG_R_PDP_FAILED;
	if (evidence && strlen(evidence) <= EVIDENCE_MAX)
		result.evidence = evidence;
	if (why[0]) {
		health_note(&z->health, clock_wall_ns(), why, "check the approval's `url`");
		z->failed++;
	} else {
		health_good(&z->health, clock_wall_ns());
		z->allowed += result.reason == TG_R_NONE;
		z->denied += result.reason != TG_R_NONE;
	}
	tell(q, &result);
	free(evidence);
}

static int start(struct question *q)
{
	static const char *const headers[] = {"Accept: application/json",
					      "Content-Type: application/json", "Expect:", NULL};
	struct slice body = slice_str(q->body);
	struct http_request r = {
		.url = q->z->url,
		.headers = headers,
		.body = &body,
		.timeout_ms = q->z->timeout_ms,
		.max_bytes = ANSWER_MAX,
	};
	int err = curl_loop_start(q->z->http, &r, on_answer, q, &q->transfer);

	free(q->body);
	q->body = NULL;
	return err;
}

/* ---------------------------------------------------------------- metadata */

static bool meta_usable(const struct authzen *z)
{
	return z->url && (!z->point || now_ms() - z->meta_ms < META_MAX_MS);
}

static void release(struct authzen *z)
{
	free(z->url);
	free(z->point);
	free(z->meta_url);
	free(z);
}

static struct question *first_waiting(struct authzen *z)
{
	list_each(it, &z->questions)
	{
		struct question *q = container_of(it, struct question, link);

		if (q->body)
			return q;
	}
	return NULL;
}

/* @why "": they are asked now. */
static void go_on(struct authzen *z, const char *why)
{
	struct question *q;

	z->busy = true;
	while (!z->dead && (q = first_waiting(z))) {
		if (!why[0] && start(q) == 0)
			continue;
		z->failed++;
		tell(q, &(struct authzen_result){why[0] ? TG_R_PDP_FAILED : TG_R_INTERNAL, "{}",
						 why[0] ? why : "the question could not be sent"});
	}
	z->busy = false;
	if (z->dead)
		release(z);
}

static void on_meta(void *ctx, const struct http_response *r)
{
	struct authzen *z = ctx;
	char why[DETAIL] = "", error[DETAIL - 40], *url = NULL;

	z->meta = NULL;
	if (r->error != HTTP_OK)
		(void)snprintf(why, sizeof(why), "the decision point's metadata: %s", r->detail);
	else if (r->status != 200)
		(void)snprintf(why, sizeof(why), "the decision point's metadata: HTTP %d", r->status);
	else if (authzen_meta_parse(r->body, z->point, z->allow_http, &url, error, sizeof(error)) != 0)
		(void)snprintf(why, sizeof(why), "the decision point's metadata: %s", error);
	if (url) {
		free(z->url);
		z->url = url;
		z->meta_ms = now_ms();
	} else {
		note_failure(z, r->retry_after_s, why, "compare the approval's `decision_point` with what its "
						      "metadata call themselves");
	}
	go_on(z, meta_usable(z) ? "" : why);
}

static int fetch_meta(struct authzen *z)
{
	static const char *const headers[] = {"Accept: application/json", NULL};
	struct http_request r = {
		.url = z->meta_url,
		.headers = headers,
		.timeout_ms = z->timeout_ms,
		.max_bytes = AUTHZEN_META_MAX,
	};

	if (z->meta)
		return 0;
	z->meta_tried_ms = now_ms();
	return curl_loop_start(z->http, &r, on_meta, z, &z->meta);
}

/* It waits for them, or is asked; they are renewed before they are too old. */
static int ask_or_wait(struct question *q)
{
	struct authzen *z = q->z;
	uint64_t now = now_ms();

	if (!meta_usable(z))
		return fetch_meta(z);
	if (z->point && now - z->meta_ms >= META_REFRESH_MS && now - z->meta_tried_ms >= META_RETRY_MS)
		(void)fetch_meta(z); /* whether it succeeds is nobody's business now */
	return start(q);
}

int authzen_request(struct authzen *z, uint64_t id, const struct authzen_ask *ask,
		    authzen_done_fn *done, void *ctx)
{
	struct question *q;
	int err;

	if (z->waiting >= AUTHZEN_WAITING_MAX)
		return -EBUSY;
	q = calloc(1, sizeof(*q));
	if (!q)
		return -ENOMEM;
	*q = (struct question){.z = z, .id = id, .done = done, .ctx = ctx, .body = authzen_body(ask)};
	list_add_tail(&z->questions, &q->link);
	z->waiting++;
	z->asked++;
	err = q->body ? ask_or_wait(q) : -ENOMEM;
	if (err)
		question_free(q);
	return err;
}

void authzen_cancel(struct authzen *z, uint64_t id)
{
	list_each(it, &z->questions)
	{
		struct question *q = container_of(it, struct question, link);

		if (q->id != id)
			continue;
		question_free(q);
		return;
	}
}

/* -------------------------------------------------------------------- life */

int authzen_new(uv_loop_t *loop, const struct authzen_config *cfg, struct authzen **ret)
{
	struct authzen *z = calloc(1, sizeof(*z));
	struct url_facts url;
	int err = 0;

	if (!z)
		return -ENOMEM;
	z->loop = loop;
	z->timeout_ms = cfg->timeout_ms;
	z->allow_http = cfg->allow_http;
	list_init(&z->questions);
	if (cfg->point)
		err = authzen_meta_url(cfg->point, cfg->allow_http, &z->meta_url);
	else if (!cfg->url || url_inspect(cfg->url, &url) != 0 ||
		 (!url.https && !(cfg->allow_http && url.loopback)))
		err = -EINVAL;
	if (!err) {
		z->point = cfg->point ? strdup(cfg->point) : NULL;
		z->url = cfg->point ? NULL : strdup(cfg->url);
		err = z->point || z->url ? 0 : -ENOMEM;
	}
	if (!err)
		err = curl_loop_new(loop, cfg->ca_file, cfg->allow_http, &z->http);
	if (err) {
		release(z);
		return err;
	}
	*ret = z;
	return 0;
}

void authzen_free(struct authzen *z)
{
	if (!z)
		return;
	list_each(it, &z->questions)
	{
		struct question *q = container_of(it, struct question, link);

		q->transfer = NULL; /* ends with the loop */
		question_free(q);
	}
	curl_loop_free(z->http);
	z->dead = true;
	if (!z->busy)
		release(z);
}

void authzen_describe(const struct authzen *z, struct jsonw *w)
{
	if (z->point)
		jsonw_kv_string(w, "decision_point", z->point);
	if (z->url)
		jsonw_kv_string(w, "url", z->url);
	health_describe(&z->health, now_ms(), w);
	jsonw_kv_u64(w, "waiting", z->waiting);
	jsonw_kv_u64(w, "asked", z->asked);
	jsonw_kv_u64(w, "allowed", z->allowed);
	jsonw_kv_u64(w, "denied", z->denied);
	jsonw_kv_u64(w, "failed", z->failed);
}
