/* SPDX-License-Identifier: MIT */
#include "daemon/tokenlife.h"

#include "base/clock.h"
#include "base/log.h"
#include "daemon/whois.h"

enum {
	SKEW_MS = 30000, /* as authd tolerates where no provider is configured */
	EARLY_MS = 1000, /* before its end a newer token is looked for */
	LOOK_MS = 2000,	 /* between two looks */
};

/* The first time that any session has something due: most ticks need look at none. */
static uint64_t next_boot_ns = UINT64_MAX;

static json_t *without_times(const char *claims)
{
	static const char *const names[] = {"exp", "iat", "nbf", "jti"};
	json_t *o = claims ? json_loads(claims, 0, NULL) : NULL;

	for (size_t i = 0; o && i < ARRAY_SIZE(names); i++)
		(void)json_object_del(o, names[i]);
	return o;
}

bool tokenlife_same(const char *claims, const char *others)
{
	json_t *a = without_times(claims), *b = without_times(others);
	bool same = a && b && json_equal(a, b);

	json_decref(a);
	json_decref(b);
	return same;
}

static uint64_t later(uint64_t boot_ns, uint64_t ms)
{
	return boot_ns + ms * 1000000;
}

static void due(uint64_t boot_ns)
{
	if (boot_ns < next_boot_ns)
		next_boot_ns = boot_ns;
}

void tokenlife_begin(struct psession *s)
{
	const struct config *cfg = s->worker->p->cfg;
	json_t *o = s->token_claims ? json_loads(s->token_claims, 0, NULL) : NULL;
	double exp = json_number_value(json_object_get(o, "exp"));
	uint64_t now_ms = clock_wall_ns() / 1000000, skew_ms = cfg->idp ? cfg->idp->skew_ms : SKEW_MS;
	uint64_t now = clock_boot_ns(), exp_ms;

	json_decref(o);
	if (exp <= 0 || exp > 1e12)
		return;
	exp_ms = (uint64_t)(exp * 1000);
	s->token_try_boot_ns = later(now, exp_ms > now_ms + EARLY_MS ? exp_ms - now_ms - EARLY_MS : 0);
	s->token_end_boot_ns = later(now, exp_ms + skew_ms > now_ms ? exp_ms + skew_ms - now_ms : 0);
	due(s->token_try_boot_ns);
}

/* As the facts of the header tell the first one. */
void tokenlife_record(const struct psession *s)
{
	json_t *claims = s->token_claims ? json_loads(s->token_claims, 0, NULL) : NULL;
	json_t *o = json_pack("{s:s, s:{s:s, s:o}}", "what", "token", "token", "sha256", s->token_sha256,
			      "claims", claims);
	char *text = o ? json_dumps(o, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;

	/* Without the text the worker ends the session: a recording that lacks it would be wrong. */
	if (s->worker->ipc) {
		ipc_begin(s->worker->ipc, IPC_SESSION_TOKEN, 0);
		ipc_put_uuid(s->worker->ipc, &s->uuid);
		ipc_put_bytes(s->worker->ipc, slice_str(text ? text : ""));
		ipc_send(s->worker->ipc);
	}
	free(text);
	json_decref(o);
}

/* What was let in, or allowed, because of the token. */
static bool counts(struct parent *p, const struct psession *s)
{
	return s->open && policy_terms(p->cfg->policy, slice_str(s->agent->name),
				       slice_str(s->target->name)) & FACTS_OF_TOKEN;
}

static void end(struct parent *p, struct psession *s)
{
	char words[256];

	(void)snprintf(words, sizeof(words), "the agent's token has ended, and there is no newer one: %s",
		       s->token_why ? s->token_why : "its issuer did not answer in time");
	s->token_try_boot_ns = s->token_end_boot_ns = 0;
	(void)registry_kill(p, &s->uuid, NULL, NULL, TG_R_TOKEN_EXPIRED, words);
}

static void looked(struct parent *p, struct psession *s)
{
	(void)p;
	if (s->token_try_boot_ns)
		due(s->token_try_boot_ns);
}

static void look(struct parent *p, struct psession *s, uint64_t now)
{
	if (now >= s->token_end_boot_ns) {
		end(p, s);
		return;
	}
	s->token_try_boot_ns = later(now, LOOK_MS);
	if (s->token_try_boot_ns > s->token_end_boot_ns)
		s->token_try_boot_ns = s->token_end_boot_ns;
	(void)whois_again(p, s, looked);
}

void tokenlife_tick(struct parent *p)
{
	uint64_t now = clock_boot_ns();
	struct psession *s, *tmp;

	if (now < next_boot_ns)
		return;
	next_boot_ns = UINT64_MAX;
	HASH_ITER(hh, p->sessions, s, tmp)
	{
		if (!s->token_try_boot_ns)
			continue;
		if (now >= s->token_try_boot_ns && !counts(p, s))
			s->token_try_boot_ns = later(now, LOOK_MS); /* a reload may change that */
		else if (now >= s->token_try_boot_ns)
			look(p, s, now);
		if (s->token_try_boot_ns)
			due(s->token_try_boot_ns);
	}
}
