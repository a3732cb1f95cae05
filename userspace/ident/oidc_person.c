/* SPDX-License-Identifier: MIT */
/*
 * Waiting for a person: CIBA in poll mode (CIBA Core 1.0) and the device
 * authorization grant (RFC 8628), which poll alike.
 */
#include <errno.h>

#include "base/text.h"
#include "ident/oidc_impl.h"
#include "ident/strict_json.h"
#include "net/url.h"

enum {
	INTERVAL_DEFAULT_MS = 5000, /* both specifications: if the provider names none */
	INTERVAL_MAX_MS = 60 * 1000,
	SLOWER_MS = 5000, /* RFC 8628 section 3.5 */
	HANDLE_MAX = 4096,
	USER_CODE_MAX = 64,
};

struct start {
	const char *handle, *code, *uri, *uri_complete;
	uint64_t expires_ms, interval_ms;
};

static bool seconds(const json_t *o, const char *name, uint64_t *ret_ms)
{
	const json_t *v = json_object_get(o, name);

	if (!json_is_number(v) || json_number_value(v) < 0 || json_number_value(v) > UINT32_MAX)
		return false;
	*ret_ms = (uint64_t)(json_number_value(v) * 1000);
	return true;
}

/* A page that a person is sent to: https, or a test's on loopback. */
static bool page_ok(const struct oidc *o, const char *uri)
{
	struct url_facts url;

	return uri && url_inspect(uri, &url) == 0 &&
	       (url.https || (o->cfg.allow_http && url.loopback));
}

static const char *read_start(const struct oidc_grant *g, const json_t *o, struct start *s)
{
	bool device = g->ask.flow == OIDC_DEVICE;
	char shown[USER_CODE_MAX * 4];

	*s = (struct start){.interval_ms = g->ask.poll_ms ? g->ask.poll_ms : INTERVAL_DEFAULT_MS};
	s->handle = strict_json_string(o, device ? "device_code" : "auth_req_id");
	if (!s->handle || !*s->handle || strlen(s->handle) > HANDLE_MAX)
		return device ? "the answer holds no device_code" : "the answer holds no auth_req_id";
	if (!seconds(o, "expires_in", &s->expires_ms) || s->expires_ms == 0)
		return "expires_in is no number of seconds";
	if (json_object_get(o, "interval") && !seconds(o, "interval", &s->interval_ms))
		return "interval is no number of seconds";
	if (s->interval_ms > INTERVAL_MAX_MS)
		s->interval_ms = INTERVAL_MAX_MS;
	if (!device)
		return NULL;
	s->code = strict_json_string(o, "user_code");
	s->uri = strict_json_string(o, "verification_uri");
	s->uri_complete = strict_json_string(o, "verification_uri_complete");
	if (!s->code || !*s->code || strlen(s->code) > USER_CODE_MAX ||
	    text_escape(slice_str(s->code), shown, sizeof(shown)) != strlen(s->code))
		return "the answer holds no usable user_code";
	if (!page_ok(g->o, s->uri))
		return "verification_uri is no https URL";
	if (!page_ok(g->o, s->uri_complete))
		s->uri_complete = NULL;
	return NULL;
}

static void tell(struct oidc_grant *g, const struct start *s)
{
	char words[OIDC_DETAIL];

	if (g->ask.flow == OIDC_DEVICE)
		(void)snprintf(words, sizeof(words), "open %s and enter the code %s", s->uri, s->code);
	else
		(void)snprintf(words, sizeof(words), "%s is asked by the identity provider%s%s%s",
			       g->ask.login_hint, g->ask.binding_message ? " (" : "",
			       g->ask.binding_message ? g->ask.binding_message : "",
			       g->ask.binding_message ? ")" : "");
	list_each(it, &g->waiters)
	{
		struct oidc_waiter *w = container_of(it, struct oidc_waiter, in_grant);

		if (g->o->ops.pending)
			g->o->ops.pending(g->o->ctx, w->id, words, s->code ? s->code : "",
					  s->uri_complete ? s->uri_complete : s->uri ? s->uri : "");
	}
}

static void wait_on(struct oidc_grant *g, uint64_t ms)
{
	g->phase = PHASE_POLL;
	g->state = GRANT_WAITING;
	g->next_ms = oidc_now_ms() + ms;
}

void person_started(struct oidc_grant *g, struct slice body)
{
	char why[200];
	json_t *o = strict_json_object(body, TOKEN_BODY_MAX, why, sizeof(why));
	const char *bad = o ? NULL : why;
	struct start s;

	if (o)
		bad = read_start(g, o, &s);
	if (bad) {
		oidc_provider_failed(g->o, TG_R_IDP_BAD_ANSWER, 0, false, bad,
				     "see the provider's own log");
		oidc_decide(g, TG_R_IDP_BAD_ANSWER, "where a person is asked: %s", bad);
		json_decref(o);
		return;
	}
	health_good(&g->o->health, clock_wall_ns());
	g->handle = strdup(s.handle);
	if (!g->handle) {
		oidc_decide(g, TG_R_NO_MEMORY, "out of memory");
	} else {
		uint64_t until = oidc_now_ms() + s.expires_ms;

		if (until < g->deadline_ms)
			g->deadline_ms = until;
		g->interval_ms = s.interval_ms;
		wait_on(g, g->interval_ms);
		tell(g, &s);
	}
	strict_json_wipe(json_object_get(o, g->ask.flow == OIDC_DEVICE ? "device_code"
								       : "auth_req_id"));
	json_decref(o);
}

bool person_waits_on(struct oidc_grant *g, const struct token_error *e)
{
	if (strcmp(e->code, "slow_down") == 0)
		g->interval_ms += SLOWER_MS;
	else if (strcmp(e->code, "authorization_pending") != 0)
		return false;
	health_good(&g->o->health, clock_wall_ns());
	wait_on(g, g->interval_ms);
	return true;
}

/* What the person decides is not lost by a provider that is away for a moment. */
void person_try_later(struct oidc_grant *g)
{
	const struct health *h = &g->o->health;
	uint64_t now = oidc_now_ms(), ms = g->interval_ms;

	if (h->until_ms > now && h->until_ms - now > ms)
		ms = h->until_ms - now;
	wait_on(g, ms);
}
