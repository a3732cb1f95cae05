/* SPDX-License-Identifier: MIT */
/*
 * Waiting for a person: CIBA in poll mode (CIBA Core 1.0) and the device
 * authorization grant (RFC 8628), which poll alike.
 */
#include <errno.h>

#include "ident/oidc_impl.h"
#include "ident/start_answer.h"

enum {
	INTERVAL_DEFAULT_MS = 5000, /* both specifications: if the provider names none */
	SLOWER_MS = 5000,	    /* RFC 8628 section 3.5 */
};

static void tell(struct oidc_grant *g, const struct start_answer *s)
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
	uint64_t poll_ms = g->ask.poll_ms ? g->ask.poll_ms : INTERVAL_DEFAULT_MS, until;
	struct start_answer s;
	char bad[200];

	if (start_answer_parse(body, g->ask.flow == OIDC_DEVICE, g->o->cfg.allow_http, poll_ms, &s,
			       bad, sizeof(bad)) != 0) {
		oidc_provider_failed(g->o, TG_R_IDP_BAD_ANSWER, 0, false, bad,
				     "see the provider's own log");
		oidc_decide(g, TG_R_IDP_BAD_ANSWER, "where a person is asked: %s", bad);
		return;
	}
	health_good(&g->o->health, clock_wall_ns());
	g->handle = strdup(s.handle);
	if (!g->handle) {
		oidc_decide(g, TG_R_NO_MEMORY, "out of memory");
	} else {
		until = oidc_now_ms() + s.expires_ms;
		if (until < g->deadline_ms)
			g->deadline_ms = until;
		g->interval_ms = s.interval_ms;
		wait_on(g, g->interval_ms);
		tell(g, &s);
	}
	start_answer_done(&s);
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
