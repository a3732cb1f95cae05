/* SPDX-License-Identifier: MIT */
/*
 * Waiting for a person: CIBA in poll and ping mode (CIBA Core 1.0) and the device
 * authorization grant (RFC 8628), which poll alike.
 */
#include <errno.h>
#include <openssl/crypto.h>

#include "base/ident.h"
#include "ident/oidc_impl.h"
#include "ident/start_answer.h"

enum {
	INTERVAL_DEFAULT_MS = 5000, /* both specifications: if the provider names none */
	SLOWER_MS = 5000,	    /* RFC 8628 section 3.5 */
	/* Where the provider pings: in case that a ping is lost. The first time it is asked as ever: an
	 * answer may be there before the question's id is. */
	PING_POLL_MS = 30000,
};

static void tell(struct oidc_grant *g, const struct start_answer *s)
{
	char words[OIDC_DETAIL];

	if (g->ask.flow == OIDC_DEVICE)
		(void)snprintf(words, sizeof(words), "open %s and enter the code %s", s->uri, s->code);
	else
		(void)snprintf(words, sizeof(words), "%s is asked by the identity provider%s%s%s",
			       g->ask.hint_token ? "whom the agent's token names" : g->ask.login_hint,
			       g->ask.binding_message ? " (" : "",
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
	/* A ping that came while it was asked: the answer may have crossed it. */
	g->next_ms = oidc_now_ms() + (g->pinged ? 0 : ms);
	g->pinged = false;
}

const char *person_notify_token(struct oidc_grant *g)
{
	uint8_t mem[32];

	random_bytes(mem, sizeof(mem));
	(void)b64_url_encode(slice_of(mem, sizeof(mem)), g->notify);
	OPENSSL_cleanse(mem, sizeof(mem));
	return g->notify;
}

/* All that wait are looked at; the token, not the id, is what nobody may guess by time. */
bool oidc_ping(struct oidc *o, const char *auth_req_id, struct slice token)
{
	list_each(it, &o->grants)
	{
		struct oidc_grant *g = container_of(it, struct oidc_grant, in_oidc);

		if (g->state == GRANT_DECIDED || g->phase != PHASE_POLL || !g->notify[0] ||
		    strcmp(g->handle, auth_req_id) != 0)
			continue;
		if (token.n != strlen(g->notify) || CRYPTO_memcmp(token.p, g->notify, token.n) != 0)
			return false;
		OPENSSL_cleanse(g->notify, sizeof(g->notify));
		o->counts.pings++;
		if (g->state == GRANT_WAITING)
			g->next_ms = oidc_now_ms();
		else
			g->pinged = true;
		oidc_poke(o);
		return true;
	}
	return false;
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
	wait_on(g, g->notify[0] && g->interval_ms < PING_POLL_MS ? PING_POLL_MS : g->interval_ms);
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

/* A used handle is answered as `invalid_grant`, and by some providers as if somebody had said no. */
uint16_t person_reason(const struct oidc_grant *g, const char *code, const char **ret_but)
{
	*ret_but = "";
	if (strcmp(code, "expired_token") == 0)
		return TG_R_APPROVAL_EXPIRED;
	if (g->answer_lost) {
		*ret_but = "but an answer before this one was lost, which may have been the yes, so this need "
			   "be no person's no: ask again";
		return TG_R_IDP_DENIED;
	}
	return strcmp(code, "access_denied") == 0 ? TG_R_APPROVAL_DENIED : TG_R_IDP_DENIED;
}
