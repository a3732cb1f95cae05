/* SPDX-License-Identifier: MIT */
/*
 * authd talks to the identity provider: the only process that does, and it
 * holds no key. What it needs to prove who Tidegate is, it asks of keyd
 * through the parent. Questions survive a change of the configuration.
 */
#include <errno.h>
#include <jansson.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/text.h"
#include "config/config.h"
#include "daemon/cfgsame.h"
#include "daemon/childconf.h"
#include "daemon/events.h"
#include "daemon/ipc.h"
#include "daemon/keyask.h"
#include "daemon/recheck_ask.h"
#include "daemon/saml_way.h"
#include "daemon/sandbox.h"
#include "daemon/token_check.h"
#include "daemon/way_token.h"
#include "daemon/ways.h"
#include "ident/authzen.h"
#include "ident/oidc.h"
#include "ident/saml.h"

enum {
	STATE_MAX = 28 << 10, /* of the provider, and of the ways: they share a message */
	QUESTION_BYTES = 512 << 10,
};

struct question {
	struct list link;
	struct authd *a;
	uint64_t id; /* of the parent */
	struct arena arena;
	struct idp_ask ask;
	const struct cfg_way *ways[WAYS_MAX]; /* NULL: `idp`; of the present configuration */
	unsigned nways, at;
	struct oidc *busy;	   /* is being asked, or */
	struct authzen *asked_pdp; /* this is */
	/* What the ways so far have said. */
	json_t *evidence;
	uint64_t ttl_ms;
	char subject[256], approver[256], digest[65];
	struct way_token token;
};

/* What a way needs besides the provider; all NULL: nothing, or it cannot be used. */
struct way_state {
	struct authzen *pdp;
	struct saml_way *saml;
};

struct authd {
	uv_loop_t loop;
	struct ipc *ipc;
	struct config *cfg;
	struct oidc *oidc; /* NULL: no identity provider is configured */
	struct way_state *ways; /* beside cfg->ways */
	struct useonce *used;	/* assertions */
	struct keyask *keys;
	struct list questions;
	struct token_checks *tokens;
	struct events *events; /* NULL: none are taken */
	bool sandboxed;
};

/* ------------------------------------------------------------ questions */

static void question_free(struct question *q)
{
	way_token_drop(&q->token);
	list_del(&q->link);
	arena_done(&q->arena);
	json_decref(q->evidence);
	free(q);
}

/* The last way's answer, or the first no. */
static void answer(struct question *q, const struct oidc_result *r)
{
	struct ipc *ipc = q->a->ipc;
	char *evidence = json_dumps(q->evidence, JSON_COMPACT | JSON_ENSURE_ASCII);

	if (evidence && !r->reason)
		way_token_hand(&q->token, ipc, q->id);
	ipc_begin(ipc, IPC_IDP_ASK, q->id);
	ipc_put_u32(ipc, evidence ? r->reason : TG_R_NO_MEMORY);
	ipc_put_u64(ipc, q->ttl_ms);
	ipc_put_str(ipc, r->scope);
	ipc_put_str(ipc, q->approver[0] ? q->approver : q->subject);
	ipc_put_str(ipc, q->digest);
	ipc_put_str(ipc, r->detail);
	ipc_put_str(ipc, evidence ? evidence : "[]");
	ipc_send(ipc);
	free(evidence);
	question_free(q);
}

static void refuse(struct question *q, enum tg_reason reason, const char *detail)
{
	answer(q, &(struct oidc_result){.reason = (uint16_t)reason, .scope = "", .detail = detail});
}

static void keep(char *dst, size_t cap, const char *text)
{
	if (text[0])
		(void)snprintf(dst, cap, "%s", text);
}

static void ask_way(struct question *q);

/* One way has said yes: what it said is kept, and the next is asked. */
static void go_on(struct question *q, const char *evidence, uint64_t ttl_ms)
{
	const struct cfg_way *w = q->ways[q->at];
	json_t *o = json_loads(evidence, 0, NULL);

	if (!o || json_object_set_new(o, "way", json_string(w ? w->name : "idp")) != 0 ||
	    json_array_append(q->evidence, o) != 0) {
		json_decref(o);
		refuse(q, TG_R_NO_MEMORY, "out of memory");
		return;
	}
	json_decref(o);
	if (ttl_ms < q->ttl_ms)
		q->ttl_ms = ttl_ms;
	if (++q->at < q->nways)
		ask_way(q);
	else
		answer(q, &(struct oidc_result){.reason = TG_R_NONE, .scope = "", .detail = ""});
}

static void on_done(void *ctx, uint64_t id, const struct oidc_result *r)
{
	struct question *q = ctx;

	q->busy = NULL;
	if (r->reason) {
		answer(q, r);
		return;
	}
	keep(q->subject, sizeof(q->subject), r->subject);
	keep(q->approver, sizeof(q->approver), r->approver);
	keep(q->digest, sizeof(q->digest), r->token_digest);
	if (!way_token_keep(&q->token, q->a->cfg, &q->ask, q->ways[q->at], r)) {
		refuse(q, TG_R_NO_MEMORY, "out of memory");
		return;
	}
	if (!recheck_hand(q->a->ipc, q->a->cfg, q->id, &q->ask, q->ways[q->at], r)) {
		refuse(q, TG_R_IDP_BAD_ANSWER, "there is no token, or one that is too long, to `recheck` with");
		return;
	}
	go_on(q, r->evidence, r->ttl_ms);
}

static void on_decision(void *ctx, uint64_t id, const struct authzen_result *r)
{
	struct question *q = ctx;

	q->busy = NULL;
	q->asked_pdp = NULL;
	if (r->reason) {
		refuse(q, r->reason, r->detail);
		return;
	}
	/* Where nobody else has said yes, it is who approved. */
	if (!q->subject[0])
		(void)snprintf(q->subject, sizeof(q->subject), "decision point %s",
			       q->ways[q->at]->name);
	go_on(q, r->evidence, UINT64_MAX);
}

static void on_pending(void *ctx, uint64_t id, const char *words, const char *code, const char *uri)
{
	struct authd *a = ctx;

	ipc_begin(a->ipc, IPC_IDP_PENDING, id);
	ipc_put_str(a->ipc, words);
	ipc_put_str(a->ipc, code);
	ipc_put_str(a->ipc, uri);
	ipc_send(a->ipc);
}

static const char *words_of(int err, enum tg_reason *ret)
{
	switch (err) {
	case -ENOENT:
		*ret = TG_R_IDP_UNREACHABLE;
		return "no identity provider is configured";
	case -EBUSY:
		*ret = TG_R_OVERLOAD;
		return "too many requests wait for the provider";
	case -EINVAL:
		*ret = TG_R_IDP_DENIED;
		return "the scope is no scope";
	case -EILSEQ:
		*ret = TG_R_HINT_UNUSABLE;
		return "`login_hint` takes no control characters";
	case -EMSGSIZE:
		*ret = TG_R_HINT_UNUSABLE;
		return "`login_hint` became too long";
	case -ENOTSUP:
		*ret = TG_R_INTERNAL;
		return "the approval cannot be used: see the journal of tidegated";
	case -ENODATA:
		*ret = TG_R_NO_TOKEN;
		return reason_what(TG_R_NO_TOKEN);
	}
	*ret = TG_R_NO_MEMORY;
	return "out of memory";
}

static int ask_pdp(struct question *q, const struct cfg_way *w)
{
	struct authd *a = q->a;
	struct authzen *z = a->ways[w - a->cfg->ways].pdp;
	char hex[65] = "";
	struct authzen_ask ask = {
		.agent = q->ask.agent,
		.target = q->ask.target,
		.action = q->ask.effect[0] ? q->ask.effect : "connect",
		.user = q->ask.user,
		.database = q->ask.database,
		.text = q->ask.effect[0] ? q->ask.text : NULL,
		.request = q->ask.request,
		.session = q->ask.session,
		.facts = q->ask.facts,
	};

	if (!z)
		return -ENOTSUP;
	if (q->ask.has_digest) {
		text_hex(q->ask.digest, sizeof(q->ask.digest), hex);
		ask.digest = hex;
	}
	q->asked_pdp = z;
	return authzen_request(z, q->id, &ask, on_decision, q);
}

/* Decided at once: the answer, yes or no, is given from here. */
static int ask_saml(struct question *q, const struct cfg_way *w)
{
	struct saml_way *s = q->a->ways[w - q->a->cfg->ways].saml;
	struct oidc_result r;

	if (!s)
		return -ENOTSUP;
	if (!q->ask.token.n)
		return -ENODATA;
	saml_way_ask(s, w, &q->ask, q->a->used, q->id, clock_wall_ns() / 1000000000, &q->arena, &r);
	on_done(q, q->id, &r);
	return 0;
}

static void ask_way(struct question *q)
{
	const struct cfg_way *w = q->ways[q->at];
	struct authd *a = q->a;
	struct oidc_ask ask;
	enum tg_reason reason;
	const char *words;
	int err;

	if (w && w->kind == WAY_AUTHZEN) {
		err = ask_pdp(q, w);
	} else if (w && w->kind == WAY_SAML) {
		err = ask_saml(q, w);
		if (!err)
			return; /* and @q may be gone */
	} else {
		err = a->oidc ? ways_oidc(w, &q->ask, &q->arena, &ask) : -ENOENT;
		if (!err) {
			ask.bearer = way_token_wanted(a->cfg, &q->ask, w);
			err = oidc_request(a->oidc, q->id, &ask, on_done, q);
		}
		if (!err)
			q->busy = a->oidc;
	}
	if (!err)
		return;
	q->asked_pdp = NULL;
	words = words_of(err, &reason);
	refuse(q, reason, words);
}

/* From its first way on: also after a change of the configuration. */
static void put_question(struct question *q)
{
	struct slice missing = slice_of("", 0);
	char words[128];
	int n = ways_list(q->a->cfg, &q->ask, q->ways, &missing);

	if (q->busy && q->busy == q->a->oidc)
		oidc_cancel(q->busy, q->id);
	if (q->asked_pdp)
		authzen_cancel(q->asked_pdp, q->id);
	way_token_drop(&q->token);
	(void)json_array_clear(q->evidence);
	q->at = 0;
	q->nways = n > 0 ? (unsigned)n : 0;
	q->ttl_ms = q->ask.max_ms ? q->ask.max_ms : UINT64_MAX;
	q->busy = NULL;
	q->asked_pdp = NULL;
	if (n > 0) {
		ask_way(q);
		return;
	}
	(void)snprintf(words, sizeof(words), "no approval is called `%.*s`", (int)missing.n,
		       (const char *)missing.p);
	refuse(q, TG_R_INTERNAL, n == -ENOENT ? words : "too many approvals in a row");
}

static void idp_ask(struct authd *a, struct ipc_msg *m)
{
	struct question *q = calloc(1, sizeof(*q));

	if (!q)
		exit(1); /* the parent denies what waits, and starts anew */
	list_init(&q->link);
	q->a = a;
	q->id = m->id;
	arena_init(&q->arena, QUESTION_BYTES);
	q->evidence = json_array();
	if (!q->evidence || !idp_ask_get(m, &q->arena, &q->ask)) {
		refuse(q, TG_R_NO_MEMORY, "out of memory");
		return;
	}
	if (!ipc_end(m)) {
		question_free(q);
		return;
	}
	list_add_tail(&a->questions, &q->link);
	put_question(q);
}

static void idp_cancel(struct authd *a, struct ipc_msg *m)
{
	if (!ipc_end(m))
		return;
	list_each(it, &a->questions)
	{
		struct question *q = container_of(it, struct question, link);

		if (q->id != m->id)
			continue;
		if (q->busy)
			oidc_cancel(q->busy, q->id);
		if (q->asked_pdp)
			authzen_cancel(q->asked_pdp, q->id);
		question_free(q);
		return;
	}
}

/* Those with something of their own to be up or down. */
static void describe_ways(const struct authd *a, struct jsonw *w)
{
	jsonw_array(w);
	for (uint32_t i = 0; a->cfg && i < a->cfg->nways; i++) {
		const struct cfg_way *way = &a->cfg->ways[i];

		if (way->kind != WAY_AUTHZEN && way->kind != WAY_SAML)
			continue;
		jsonw_object(w);
		jsonw_kv_string(w, "name", way->name);
		jsonw_kv_string(w, "by", way->kind == WAY_SAML ? "saml" : "authzen");
		if (way->kind == WAY_SAML)
			saml_way_describe(a->ways[i].saml, way, w);
		else if (a->ways[i].pdp)
			authzen_describe(a->ways[i].pdp, w);
		jsonw_object_end(w);
	}
	jsonw_array_end(w);
}

static void idp_state(struct authd *a, struct ipc_msg *m)
{
	struct buf out;
	struct jsonw w;
	int err;

	if (!ipc_end(m))
		return;
	ipc_begin(a->ipc, IPC_IDP_STATE, m->id);
	buf_init(&out, STATE_MAX);
	jsonw_init(&w, &out, false);
	if (a->oidc)
		oidc_describe(a->oidc, &w);
	else
		jsonw_null(&w);
	err = jsonw_end(&w);
	ipc_put_slice(a->ipc, err ? slice_str("null") : buf_slice(&out));
	buf_reset(&out);
	jsonw_init(&w, &out, false);
	describe_ways(a, &w);
	err = jsonw_end(&w);
	ipc_put_slice(a->ipc, err ? slice_str("[]") : buf_slice(&out));
	ipc_send(a->ipc);
	buf_done(&out);
}

static void issuer_state(struct authd *a, struct ipc_msg *m)
{
	struct buf out;
	struct jsonw w;

	if (!ipc_end(m))
		return;
	buf_init(&out, 2 * STATE_MAX - 8192);
	jsonw_init(&w, &out, false);
	token_checks_describe(a->tokens, &w);
	ipc_begin(a->ipc, IPC_ISSUER_STATE, m->id);
	ipc_put_slice(a->ipc, jsonw_end(&w) ? slice_str("[]") : buf_slice(&out));
	ipc_send(a->ipc);
	buf_done(&out);
}

/* ------------------------------------------------------------ configuration */

static void need_credential(void *ctx, uint64_t id, const char *audience)
{
	struct authd *a = ctx;

	keyask_credential(a->keys, id, audience);
}

static void need_proof(void *ctx, uint64_t id, const char *url, const char *nonce)
{
	struct authd *a = ctx;

	keyask_proof(a->keys, id, url, nonce);
}

static int sign(void *ctx, const struct far_ask *q, uint8_t sig[FAR_SIG_MAX], size_t *ret_n)
{
	struct authd *a = ctx;

	return keyask_sign(a->keys, q, sig, ret_n);
}

static int open_provider(struct authd *a, const struct cfg_idp *idp, struct oidc **ret)
{
	static const struct oidc_ops ops = {
		.need_credential = need_credential, .need_proof = need_proof, .sign = sign,
		.pending = on_pending};
	struct oidc_config c = {
		.issuer = idp->issuer,
		.client_id = idp->client_id,
		/* The client's own id is expected without being asked for. */
		.audience = cfgsame_text(idp->audience, idp->client_id) ? NULL : idp->audience,
		.resource = idp->resource,
		.details_type = idp->details_type,
		.ca_file = idp->ca_file,
		.algorithms = idp->algorithms,
		.extra_origins = idp->extra_origins,
		.assertion_audience = idp->assertion_audience,
		.introspect_bearer = idp->introspect_bearer,
		.introspect_scope = idp->introspect_scope,
		.name_claim = idp->name_claim,
		.name_from = idp->name_from == IDP_NAME_USERINFO	? OIDC_NAME_USERINFO
			     : idp->name_from == IDP_NAME_INTROSPECTION ? OIDC_NAME_INTROSPECTION
									: OIDC_NAME_TOKEN,
		.secret_post = idp->auth == IDP_AUTH_SECRET_POST,
		.private_key_jwt = idp->auth == IDP_AUTH_PRIVATE_KEY_JWT,
		.tls_auth = idp_auth_is_tls(idp->auth),
		.dpop = idp->dpop == IDP_DPOP_ON    ? OIDC_DPOP_ON
			: idp->dpop == IDP_DPOP_OFF ? OIDC_DPOP_OFF
						    : OIDC_DPOP_AUTO,
		.allow_http = idp->allow_http,
		.timeout_ms = idp->timeout_ms,
		.skew_ms = idp->skew_ms,
	};

	return oidc_new(&a->loop, &c, &ops, a, ret);
}

static void use_provider(struct authd *a, const struct cfg_idp *idp)
{
	struct oidc *old = a->oidc;
	int err;

	a->oidc = NULL;
	if (idp) {
		err = open_provider(a, idp, &a->oidc);
		/* Once sandboxed, ca_file may be out of reach: a new process can read it. */
		if (err) {
			log_error("identity provider %s cannot be used: %s%s%s", idp->issuer,
				  strerror(-err), idp->ca_file ? ", ca_file " : "",
				  idp->ca_file ? idp->ca_file : "");
			if (a->sandboxed)
				exit(1);
		}
	}
	keyask_for(a->keys, a->oidc);
	oidc_free(old);
}

static struct authzen *open_pdp(struct authd *a, const struct config *cfg, const struct cfg_way *w)
{
	struct authzen_config c = {
		.url = w->url,
		.point = w->decision_point,
		.ca_file = w->ca_file,
		.allow_http = true, /* on loopback addresses only */
		.timeout_ms = w->timeout_ms,
	};
	struct authzen *z = NULL;
	int err = authzen_new(&a->loop, &c, &z);

	if (!err)
		return z;
	log_error("approval %s: %s cannot be used: %s%s%s", w->name,
		  w->url ? w->url : w->decision_point, strerror(-err),
		  w->ca_file ? ", ca_file " : "", w->ca_file ? w->ca_file : "");
	/* Once sandboxed, ca_file may be out of reach: a new process can read it. */
	if (a->sandboxed)
		exit(1);
	return NULL;
}

static struct saml_way *open_saml(struct authd *a, const struct cfg_way *w)
{
	struct saml_way *s = NULL;
	char why[200];
	int err = saml_way_new(w, &s, why, sizeof(why));

	if (!err)
		return s;
	log_error("approval %s: certificate_file %s cannot be used: %s", w->name,
		  w->saml.certificate_file, why);
	/* As with ca_file. A broken file is no better in a new process. */
	if (a->sandboxed && err == -EACCES)
		exit(1);
	return NULL;
}

static void use_ways(struct authd *a, const struct config *old, const struct config *cfg)
{
	struct way_state *ways = calloc(cfg->nways + 1, sizeof(*ways));

	if (!ways)
		exit(1);
	for (uint32_t i = 0; i < cfg->nways; i++) {
		if (cfg->ways[i].kind == WAY_AUTHZEN)
			ways[i].pdp = open_pdp(a, cfg, &cfg->ways[i]);
		else if (cfg->ways[i].kind == WAY_SAML)
			ways[i].saml = open_saml(a, &cfg->ways[i]);
	}
	list_each(it, &a->questions) container_of(it, struct question, link)->asked_pdp = NULL;
	for (uint32_t i = 0; old && i < old->nways; i++) {
		authzen_free(a->ways[i].pdp);
		saml_way_free(a->ways[i].saml);
	}
	free(a->ways);
	a->ways = ways;
}

/* A reload is how an issuer's new certificate comes in: the file's name stays. */
static void renew_certificates(struct authd *a, const struct config *cfg)
{
	for (uint32_t i = 0; i < cfg->nways; i++) {
		struct saml_way *s = NULL;
		char why[200];

		if (cfg->ways[i].kind != WAY_SAML)
			continue;
		if (saml_way_new(&cfg->ways[i], &s, why, sizeof(why)) != 0) {
			log_error("approval %s: certificate_file %s cannot be read again: %s; what it "
				  "held before stays in force", cfg->ways[i].name,
				  cfg->ways[i].saml.certificate_file, why);
			continue;
		}
		saml_way_free(a->ways[i].saml);
		a->ways[i].saml = s;
	}
}

/* What waits goes on where it is if it is asked as before, and begins anew if not. */
static void go_on_with(struct authd *a, const struct config *old, const struct config *cfg,
		       bool as_before)
{
	list_each(it, &a->questions)
	{
		struct question *q = container_of(it, struct question, link);

		if (!as_before) {
			put_question(q);
			continue;
		}
		for (unsigned i = 0; i < q->nways; i++)
			if (q->ways[i])
				q->ways[i] = &cfg->ways[q->ways[i] - old->ways];
	}
}

static void take_config(struct authd *a, struct ipc_msg *m)
{
	struct config *cfg, *old = a->cfg;
	bool as_before;
	int fd, err;

	(void)ipc_get_u64(m); /* the generation */
	fd = ipc_get_fd(m);
	if (!ipc_end(m) || fd < 0) {
		m->bad = true;
		return;
	}
	cfg = childconf_take(fd);
	a->cfg = cfg;
	token_checks_hold(a->tokens);
	as_before = old && cfgsame_idp(old->idp, cfg->idp) && cfgsame_ways(old, cfg);
	if (!old || !cfgsame_idp(old->idp, cfg->idp))
		use_provider(a, cfg->idp);
	if (!old || !cfgsame_ways(old, cfg))
		use_ways(a, old, cfg);
	else
		renew_certificates(a, cfg);
	go_on_with(a, old, cfg, as_before);
	/* Once sandboxed, a ca_file may be out of reach: a new process can read it. */
	if (!token_checks_config(a->tokens, cfg, a->oidc) && a->sandboxed)
		exit(1);
	config_free(old);
	if (a->sandboxed)
		return;
	err = sandbox_authd();
	if (err) {
		log_error("sandbox: %s", strerror(-err));
		exit(1);
	}
	a->sandboxed = true;
	ipc_begin(a->ipc, IPC_READY, 0);
	ipc_send(a->ipc);
}

/* ------------------------------------------------------------ events */

static int check_event(void *ctx, struct slice token, bool *keys_tried, struct secevent *ret,
		       struct oidc_event_error *ret_error)
{
	struct authd *a = ctx;
	const struct cfg_idp *idp = a->cfg->idp;

	/* One that cannot be used now may come back: the sender tries again. */
	return idp && a->oidc ? oidc_event(a->oidc, token,
					   idp->events_audience ? idp->events_audience
								: idp->client_id,
					   keys_tried, ret, ret_error)
			      : -EAGAIN;
}

static bool take_ping(void *ctx, const char *auth_req_id, struct slice bearer)
{
	struct authd *a = ctx;

	return a->oidc && oidc_ping(a->oidc, auth_req_id, bearer);
}

static void tell_event(void *ctx, const struct secevent *ev)
{
	struct authd *a = ctx;

	if (!ev->ends)
		return;
	ipc_begin(a->ipc, IPC_IDP_EVENT, 0);
	ipc_put_str(a->ipc, ev->kind);
	ipc_put_str(a->ipc, a->cfg->idp->issuer);
	ipc_put_str(a->ipc, ev->subject);
	ipc_put_str(a->ipc, ev->session);
	ipc_send(a->ipc);
}

static void take_events(struct authd *a, struct ipc_msg *m)
{
	static const struct events_ops ops = {
		.check = check_event, .ping = take_ping, .event = tell_event};
	int fd = ipc_get_fd(m);

	if (!ipc_end(m) || !a->cfg) {
		if (fd >= 0)
			(void)close(fd);
		m->bad = true;
		return;
	}
	events_free(a->events);
	a->events = fd >= 0 ? events_new(&a->loop, fd, &ops, a) : NULL;
}

/* ------------------------------------------------------------ process */

static void on_message(void *ctx, struct ipc *ipc, struct ipc_msg *m)
{
	struct authd *a = ctx;

	if (m->type == IPC_INIT || m->type == IPC_DRAIN)
		return; /* nothing in them for authd; it ends with the parent */
	if (m->type == IPC_KEY_TLS)
		return; /* an answer that came too late */
	if (m->type == IPC_CONFIG)
		take_config(a, m);
	else if (m->type == IPC_IDP_ASK)
		idp_ask(a, m);
	else if (m->type == IPC_IDP_CANCEL)
		idp_cancel(a, m);
	else if (m->type == IPC_IDP_STATE)
		idp_state(a, m);
	else if (m->type == IPC_ISSUER_STATE)
		issuer_state(a, m);
	else if (m->type == IPC_EVENTS)
		take_events(a, m);
	else if (m->type == IPC_KEY_CLIENT || m->type == IPC_KEY_DPOP)
		keyask_answer(a->keys, m);
	else if (m->type == IPC_RECHECK)
		recheck_ask(ipc, a->cfg, a->oidc, m);
	else if (m->type == IPC_TOKEN_CHECK)
		token_checks_ask(a->tokens, m);
	else
		m->bad = true;
}

int authd_main(void)
{
	static const struct ipc_ops ops = {.message = on_message, .closed = ipc_parent_gone};
	static struct authd a;

	list_init(&a.questions);
	/* The libraries are made ready here: later there is a sandbox. */
	if (far_key_init())
		log_error("this OpenSSL takes no keys from elsewhere: client certificates cannot be used");
	a.used = saml_init() == 0 ? useonce_new() : NULL;
	BUG_ON(!a.used);
	BUG_ON(uv_loop_init(&a.loop));
	BUG_ON(ipc_new(&a.loop, IPC_CHILD_FD, &ops, &a, &a.ipc));
	a.keys = keyask_new(&a.loop, a.ipc);
	a.tokens = token_checks_new(&a.loop, a.ipc);
	(void)uv_run(&a.loop, UV_RUN_DEFAULT);
	return 0;
}
