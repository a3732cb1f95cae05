/* SPDX-License-Identifier: MIT */
/* What is asked elsewhere, with the agent's own token where a way is about it. */
#include <openssl/sha.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/decisions.h"
#include "daemon/grants.h"
#include "daemon/idp_ask.h"
#include "daemon/ways.h"
#include "daemon/whois.h"

static void put_idp_ask(struct parent *p, struct approval *a, const struct psession *s,
			struct slice token)
{
	struct buf facts;
	struct idp_ask q = {
		.ways = a->ways,
		.scope = a->scope,
		.agent = a->agent,
		.target = a->target,
		.effect = a->effect,
		.text = a->text ? a->text : "",
		.user = a->user,
		.database = a->database,
		.request = a->id,
		.session = s->id,
		.facts = "",
		.token = token,
		.has_digest = a->statement,
		.max_ms = a->max_ms,
		.hold_ms = (a->until_boot_ns - clock_boot_ns()) / 1000000,
	};

	buf_init(&facts, FACTS_MAX);
	facts_json(s, &facts);
	if (facts.n && buf_append(&facts, "", 1) == 0)
		q.facts = (const char *)buf_data(&facts);
	memcpy(q.digest, a->digest, sizeof(q.digest));
	a->idp_id = ++p->next_id;
	a->authd = &p->authd;
	a->unchecked = false;
	ipc_begin(p->authd.ipc, IPC_IDP_ASK, a->idp_id);
	idp_ask_put(p->authd.ipc, &q);
	ipc_send(p->authd.ipc);
	buf_done(&facts);
}

static void no_token(struct parent *p, struct approval *a, const char *why)
{
	log_warning("approval %s: agent %s: its token is needed: %s", a->id, a->agent, why);
	decide(p, a, &(struct decision){.v = INSP_V_DENY, .reason = TG_R_NO_TOKEN, .by = "tidegate",
					.request = a->id, .detail = why});
}

static void on_token(void *ctx, int error, struct slice bytes)
{
	struct approval *a = ctx;
	struct parent *p = a->p;
	const struct waiter *w = container_of(a->waiters.next, struct waiter, link);
	const struct psession *s = registry_find(p, &w->session);
	const struct pagent *agent = agent_find(p, slice_str(a->agent));
	uint8_t md[SHA256_DIGEST_LENGTH];
	char why[256] = "the configuration has changed";

	a->peek = NULL;
	if (a->signing)
		return; /* decided meanwhile */
	if (error || !s || !p->authd.ipc) {
		if (error && agent && agent->cfg && agent->cfg->token)
			whois_token_words(agent->cfg->token, error, why, sizeof(why));
		no_token(p, a, why);
		return;
	}
	(void)SHA256(bytes.p, bytes.n, md);
	text_hex(md, sizeof(md), a->token);
	put_idp_ask(p, a, s, bytes);
}

void approval_ask(struct parent *p, struct approval *a, const struct psession *s)
{
	const char *why;

	if (!a->needs_token) {
		put_idp_ask(p, a, s, slice_of("", 0));
		return;
	}
	a->p = p;
	a->peek = whois_read_token(p, s, on_token, a, &why);
	if (!a->peek)
		no_token(p, a, why);
}

/* The grants and questions of one token are not those of another. */
void approval_set_ways(struct parent *p, struct approval *a, const struct psession *s,
		       struct slice ways)
{
	(void)snprintf(a->ways, sizeof(a->ways), "%.*s", (int)ways.n, (const char *)ways.p);
	a->needs_token = a->ways[0] && ways_need_token(p->cfg, a->ways);
	if (a->needs_token)
		(void)snprintf(a->token, sizeof(a->token), "%s", s->token_sha256);
}
