/* SPDX-License-Identifier: MIT */
#include "daemon/token_check.h"

#include <errno.h>
#include <jansson.h>

#include "base/list.h"
#include "base/log.h"
#include "daemon/cfgsame.h"

enum { CLAIMS_MAX = 6 << 10, SKEW_MS = 30000 };

/* The issuer of an agent's tokens; agents with the same settings share it. */
struct issuer {
	const struct cfg_token *cfg; /* NULL: the agent has none, or it is the provider's */
	struct oidc *oidc;	     /* NULL: cannot be used */
	bool shared;		     /* of an agent before this one */
};

struct check {
	struct list link;
	struct token_checks *t;
	uint64_t id; /* of the parent */
	char agent[64];
	size_t n;
	struct oidc *busy; /* is verifying it */
	uint8_t token[];
};

struct token_checks {
	uv_loop_t *loop;
	struct ipc *ipc;
	const struct config *cfg;
	struct oidc *idp;
	struct issuer *issuers; /* beside cfg->agents */
	uint32_t nissuers;
	struct list checks;
};

struct token_checks *token_checks_new(uv_loop_t *loop, struct ipc *ipc)
{
	struct token_checks *t = calloc(1, sizeof(*t));

	BUG_ON(!t);
	t->loop = loop;
	t->ipc = ipc;
	list_init(&t->checks);
	return t;
}

/* ---------------------------------------------------------------- claims */

/* Those that say who it is, and those that the policy asks for: nothing else leaves authd. */
static json_t *selected(const struct policy *policy, const char *evidence)
{
	static const char *const always[] = {"iss", "sub", "aud", "jti", "exp", "iat"};
	json_t *all = json_loads(evidence, 0, NULL), *some = json_object(), *v;
	const char *name;

	for (size_t i = 0; all && some && i < ARRAY_SIZE(always); i++) {
		v = json_object_get(all, always[i]);
		if (v && json_object_set(some, always[i], v) != 0)
			json_decref(some), some = NULL;
	}
	json_object_foreach(all, name, v)
	{
		/* Of a nested one, as "kubernetes.io/namespace", all of it is kept. */
		if (some && policy_wants_claim(policy, slice_str(name)) &&
		    json_object_set(some, name, v) != 0)
			json_decref(some), some = NULL;
	}
	json_decref(all);
	return some;
}

/* ---------------------------------------------------------------- answers */

static void check_free(struct check *c)
{
	list_del(&c->link);
	explicit_bzero(c->token, c->n);
	free(c);
}

static void answer(struct check *c, uint16_t reason, const char *detail, const char *digest,
		   const char *claims)
{
	struct ipc *ipc = c->t->ipc;

	ipc_begin(ipc, IPC_TOKEN_CHECK, c->id);
	ipc_put_u32(ipc, reason);
	ipc_put_str(ipc, detail);
	ipc_put_str(ipc, digest);
	ipc_put_str(ipc, claims);
	ipc_send(ipc);
	check_free(c);
}

static void on_verified(void *ctx, uint64_t id, const struct oidc_result *r)
{
	struct check *c = ctx;
	json_t *claims;
	char *text;

	c->busy = NULL;
	if (r->reason) {
		answer(c, r->reason, r->detail, "", "{}");
		return;
	}
	claims = selected(c->t->cfg->policy, r->evidence);
	text = claims ? json_dumps(claims, JSON_COMPACT | JSON_ENSURE_ASCII) : NULL;
	if (!text)
		answer(c, TG_R_NO_MEMORY, "out of memory", "", "{}");
	else if (strlen(text) > CLAIMS_MAX)
		answer(c, TG_R_NO_TOKEN, "the claims that the policy asks for are too long", "", "{}");
	else
		answer(c, TG_R_NONE, "", r->token_digest, text);
	free(text);
	json_decref(claims);
}

static void verify(struct check *c)
{
	struct token_checks *t = c->t;
	const struct cfg_agent *a = config_agent(t->cfg, slice_str(c->agent));
	struct oidc *o = NULL;
	struct oidc_ask ask = {
		.flow = OIDC_VERIFY,
		.agent = c->agent,
		.token = slice_of(c->token, c->n),
	};
	int err = -ENOENT;

	if (a && a->token) {
		ask.audience = a->token->audience;
		o = a->token->issuer ? t->issuers[a - t->cfg->agents].oidc : t->idp;
	}
	if (o)
		err = oidc_request(o, c->id, &ask, on_verified, c);
	if (!err)
		c->busy = o;
	else
		answer(c, err == -EBUSY ? TG_R_OVERLOAD : TG_R_NO_TOKEN,
		       err == -EBUSY ? "too many tokens wait for their issuer's keys"
				     : "the issuer of the agent's tokens cannot be used", "", "{}");
}

void token_checks_ask(struct token_checks *t, struct ipc_msg *m)
{
	struct slice agent = ipc_get_str(m), token = ipc_get_bytes(m);
	struct check *c;

	if (!ipc_end(m)) {
		m->bad = true;
		return;
	}
	c = calloc(1, sizeof(*c) + token.n);
	BUG_ON(!c);
	c->t = t;
	c->id = m->id;
	(void)snprintf(c->agent, sizeof(c->agent), "%.*s", (int)agent.n, (const char *)agent.p);
	c->n = token.n;
	if (token.n)
		memcpy(c->token, token.p, token.n);
	list_add_tail(&t->checks, &c->link);
	verify(c);
}

/* ---------------------------------------------------------- configuration */

void token_checks_hold(struct token_checks *t)
{
	list_each(it, &t->checks)
	{
		struct check *c = container_of(it, struct check, link);

		if (c->busy)
			oidc_cancel(c->busy, c->id);
		c->busy = NULL;
	}
}

/* Audiences may differ: they are checked by token. */
static bool same_issuer(const struct cfg_token *a, const struct cfg_token *b)
{
	return cfgsame_text(a->issuer, b->issuer) && cfgsame_text(a->ca_file, b->ca_file) &&
	       cfgsame_list(a->algorithms, b->algorithms) &&
	       cfgsame_list(a->extra_origins, b->extra_origins) && a->allow_http == b->allow_http;
}

static bool open_issuer(struct token_checks *t, const struct config *cfg, const char *agent,
			const struct cfg_token *token, struct oidc **ret)
{
	static const struct oidc_ops ops = {.need_credential = NULL};
	struct oidc_config c = {
		.issuer = token->issuer,
		.client_id = "tidegate", /* never sent: there is an audience always */
		.ca_file = token->ca_file,
		.algorithms = token->algorithms,
		.extra_origins = token->extra_origins,
		.keys_only = true,
		.allow_http = token->allow_http,
		.skew_ms = cfg->idp ? cfg->idp->skew_ms : SKEW_MS,
	};
	int err = oidc_new(t->loop, &c, &ops, t, ret);

	if (err)
		log_error("token of agent %s: issuer %s cannot be used: %s%s%s", agent, token->issuer,
			  strerror(-err), token->ca_file ? ", ca_file " : "",
			  token->ca_file ? token->ca_file : "");
	return !err;
}

/* One with the same settings that is open already keeps its keys. */
static struct issuer *find(struct issuer *list, uint32_t n, const struct cfg_token *token)
{
	for (uint32_t i = 0; i < n; i++)
		if (list[i].cfg && list[i].oidc && !list[i].shared && same_issuer(list[i].cfg, token))
			return &list[i];
	return NULL;
}

bool token_checks_config(struct token_checks *t, const struct config *cfg, struct oidc *idp)
{
	struct issuer *fresh = calloc(cfg->nagents + 1, sizeof(*fresh));
	bool ok = true;

	BUG_ON(!fresh);
	for (uint32_t i = 0; i < cfg->nagents; i++) {
		const struct cfg_token *token = cfg->agents[i].token;
		struct issuer *same, *old;

		if (!token || !token->issuer)
			continue;
		same = find(fresh, i, token);
		old = same ? NULL : find(t->issuers, t->nissuers, token);
		fresh[i] = (struct issuer){.cfg = token, .shared = same != NULL};
		if (same || old)
			fresh[i].oidc = same ? same->oidc : old->oidc;
		else
			ok &= open_issuer(t, cfg, cfg->agents[i].name, token, &fresh[i].oidc);
		if (old)
			old->oidc = NULL;
	}
	for (uint32_t i = 0; i < t->nissuers; i++)
		if (!t->issuers[i].shared)
			oidc_free(t->issuers[i].oidc);
	free(t->issuers);
	t->issuers = fresh;
	t->nissuers = cfg->nagents;
	t->cfg = cfg;
	t->idp = idp;
	list_each(it, &t->checks) verify(container_of(it, struct check, link));
	return ok;
}

/* ---------------------------------------------------------------- status */

static void describe(const struct token_checks *t, uint32_t i, struct jsonw *w)
{
	const struct issuer *one = &t->issuers[i];

	jsonw_object(w);
	jsonw_name(w, "agents");
	jsonw_array(w);
	for (uint32_t k = i; k < t->nissuers; k++)
		if (k == i || (t->issuers[k].shared && t->issuers[k].oidc == one->oidc))
			jsonw_string(w, t->cfg->agents[k].name);
	jsonw_array_end(w);
	if (one->oidc) {
		oidc_describe_into(one->oidc, w);
	} else {
		jsonw_kv_string(w, "issuer", one->cfg->issuer);
		jsonw_kv_string(w, "state", "down");
		jsonw_kv_string(w, "last_error", "it cannot be used");
		jsonw_kv_string(w, "todo", "see the journal of tidegated");
	}
	jsonw_object_end(w);
}

void token_checks_describe(const struct token_checks *t, struct jsonw *w)
{
	jsonw_array(w);
	for (uint32_t i = 0; i < t->nissuers; i++)
		if (t->issuers[i].cfg && !t->issuers[i].shared)
			describe(t, i, w);
	jsonw_array_end(w);
}
