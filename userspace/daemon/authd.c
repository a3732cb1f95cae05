/* SPDX-License-Identifier: MIT */
/*
 * authd talks to the identity provider: the only process that does, and it
 * holds no key. What it needs to prove who Tidegate is, it asks of keyd
 * through the parent. Questions survive a change of the configuration.
 */
#include <errno.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "config/config.h"
#include "daemon/ipc.h"
#include "daemon/memfd.h"
#include "daemon/sandbox.h"
#include "ident/oidc.h"

enum {
	KEYD_RETRY_MS = 250,
	KEYD_RETRIES = 40, /* longer than any question lives by default */
	STATE_MAX = 16 << 10,
	ERRNO_MAX = 4095,
};

struct question {
	struct list link;
	struct authd *a;
	uint64_t id; /* of the parent */
	char *agent, *scope;
};

/* A credential that was asked of keyd; asked again if keyd is just being started. */
struct credential {
	struct list link;
	struct authd *a;
	uint64_t id; /* ours, towards the parent */
	uint64_t oidc_id;
	unsigned provider; /* whose question it is: that may be gone by now */
	char *audience;	   /* NULL: the secret */
	unsigned tries;
	uv_timer_t retry;
};

struct authd {
	uv_loop_t loop;
	struct ipc *ipc;
	struct config *cfg;
	struct oidc *oidc; /* NULL: no identity provider is configured */
	unsigned provider; /* counts the changes of that */
	struct list questions, credentials;
	uint64_t next_credential;
	bool sandboxed;
};

/* ------------------------------------------------------------ credentials */

static void on_retry(uv_timer_t *t);

/* The answer may be lost with the keyd that should have given it: then it is asked anew. */
static void ask_keyd(struct credential *c)
{
	ipc_begin(c->a->ipc, IPC_KEY_CLIENT, c->id);
	ipc_put_str(c->a->ipc, c->audience ? c->audience : "");
	ipc_send(c->a->ipc);
	(void)uv_timer_start(&c->retry, on_retry, KEYD_RETRY_MS, 0);
}

static void on_credential_closed(uv_handle_t *h)
{
	struct credential *c = container_of((uv_timer_t *)h, struct credential, retry);

	free(c->audience);
	free(c);
}

static void credential_free(struct credential *c)
{
	list_del(&c->link);
	uv_close((uv_handle_t *)&c->retry, on_credential_closed);
}

static void on_retry(uv_timer_t *t)
{
	struct credential *c = container_of(t, struct credential, retry);

	/* Of a configuration that is gone: the new one has asked anew. */
	if (c->provider != c->a->provider || ++c->tries == KEYD_RETRIES)
		credential_free(c);
	else
		ask_keyd(c);
}

static void need_credential(void *ctx, uint64_t id, const char *audience)
{
	struct authd *a = ctx;
	struct credential *c = calloc(1, sizeof(*c));

	if (c && audience)
		c->audience = strdup(audience);
	if (!c || (audience && !c->audience)) {
		free(c);
		oidc_credential(a->oidc, id, slice_of("", 0), -ENOMEM);
		return;
	}
	c->a = a;
	c->id = ++a->next_credential;
	c->oidc_id = id;
	c->provider = a->provider;
	(void)uv_timer_init(&a->loop, &c->retry);
	list_add_tail(&a->credentials, &c->link);
	ask_keyd(c);
}

static void key_answer(struct authd *a, struct ipc_msg *m)
{
	uint32_t error = ipc_get_u32(m);
	struct slice bytes = ipc_get_bytes(m);

	if (!ipc_end(m))
		return;
	if (error > ERRNO_MAX)
		error = EPROTO;
	list_each(it, &a->credentials)
	{
		struct credential *c = container_of(it, struct credential, link);

		if (c->id != m->id)
			continue;
		if (error == ENOTCONN)
			return; /* being started */
		if (c->provider == a->provider)
			oidc_credential(a->oidc, c->oidc_id, bytes, -(int)error);
		credential_free(c);
		return;
	}
}

/* ------------------------------------------------------------ questions */

static void question_free(struct question *q)
{
	list_del(&q->link);
	free(q->agent);
	free(q->scope);
	free(q);
}

static void answer(struct authd *a, uint64_t id, const struct oidc_result *r)
{
	ipc_begin(a->ipc, IPC_IDP_ASK, id);
	ipc_put_u32(a->ipc, r->reason);
	ipc_put_u64(a->ipc, r->ttl_ms);
	ipc_put_str(a->ipc, r->scope);
	ipc_put_str(a->ipc, r->subject);
	ipc_put_str(a->ipc, r->token_digest);
	ipc_put_str(a->ipc, r->detail);
	ipc_send(a->ipc);
}

static void refuse(struct authd *a, uint64_t id, enum tg_reason reason, const char *detail)
{
	answer(a, id,
	       &(struct oidc_result){.reason = (uint16_t)reason,
				     .scope = "",
				     .subject = "",
				     .token_digest = "",
				     .detail = detail});
}

static void on_done(void *ctx, uint64_t id, const struct oidc_result *r)
{
	struct question *q = ctx;

	answer(q->a, q->id, r);
	question_free(q);
}

static void put_question(struct question *q)
{
	struct authd *a = q->a;
	int err = -ENOENT;

	if (a->oidc)
		err = oidc_request(a->oidc, q->id, q->agent, q->scope, on_done, q);
	if (!err)
		return;
	if (err == -ENOENT)
		refuse(a, q->id, TG_R_IDP_UNREACHABLE, "no identity provider is configured");
	else if (err == -EBUSY)
		refuse(a, q->id, TG_R_OVERLOAD, "too many requests wait for the provider");
	else if (err == -EINVAL)
		refuse(a, q->id, TG_R_IDP_DENIED, "the policy's scope is no scope");
	else
		refuse(a, q->id, TG_R_NO_MEMORY, "out of memory");
	question_free(q);
}

static void idp_ask(struct authd *a, struct ipc_msg *m)
{
	struct slice agent = ipc_get_str(m), scope = ipc_get_str(m);
	struct question *q;

	if (!ipc_end(m))
		return;
	q = calloc(1, sizeof(*q));
	if (q) {
		list_init(&q->link);
		q->a = a;
		q->id = m->id;
		q->agent = strndup((const char *)agent.p, agent.n);
		q->scope = strndup((const char *)scope.p, scope.n);
	}
	if (!q || !q->agent || !q->scope) {
		refuse(a, m->id, TG_R_NO_MEMORY, "out of memory");
		if (q)
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
		if (a->oidc)
			oidc_cancel(a->oidc, q->id);
		question_free(q);
		return;
	}
}

static void idp_state(struct authd *a, struct ipc_msg *m)
{
	struct buf out;
	struct jsonw w;
	int err;

	if (!ipc_end(m))
		return;
	buf_init(&out, STATE_MAX);
	jsonw_init(&w, &out, false);
	if (a->oidc)
		oidc_describe(a->oidc, &w);
	else
		jsonw_null(&w);
	err = jsonw_end(&w);
	ipc_begin(a->ipc, IPC_IDP_STATE, m->id);
	ipc_put_slice(a->ipc, err ? slice_str("null") : buf_slice(&out));
	ipc_send(a->ipc);
	buf_done(&out);
}

/* ------------------------------------------------------------ configuration */

static bool same_text(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

static bool same_list(const char *const *a, const char *const *b)
{
	while (*a && *b && strcmp(*a, *b) == 0) {
		a++;
		b++;
	}
	return !*a && !*b;
}

/* What authd uses of it; a change of the secret is keyd's business. */
static bool same_idp(const struct cfg_idp *a, const struct cfg_idp *b)
{
	if (!a || !b)
		return a == b;
	return same_text(a->issuer, b->issuer) && same_text(a->client_id, b->client_id) &&
	       a->auth == b->auth && same_text(a->audience, b->audience) &&
	       same_text(a->resource, b->resource) && same_text(a->details_type, b->details_type) &&
	       same_text(a->ca_file, b->ca_file) && same_list(a->algorithms, b->algorithms) &&
	       a->timeout_ms == b->timeout_ms && a->skew_ms == b->skew_ms &&
	       a->allow_http == b->allow_http;
}

static int open_provider(struct authd *a, const struct cfg_idp *idp, struct oidc **ret)
{
	static const struct oidc_ops ops = {.need_credential = need_credential};
	struct oidc_config c = {
		.issuer = idp->issuer,
		.client_id = idp->client_id,
		/* The client's own id is expected without being asked for. */
		.audience = same_text(idp->audience, idp->client_id) ? NULL : idp->audience,
		.resource = idp->resource,
		.details_type = idp->details_type,
		.ca_file = idp->ca_file,
		.algorithms = idp->algorithms,
		.extra_origins = idp->extra_origins,
		.assertion_audience = idp->assertion_audience,
		.secret_post = idp->auth == IDP_AUTH_SECRET_POST,
		.private_key_jwt = idp->auth == IDP_AUTH_PRIVATE_KEY_JWT,
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
	a->provider++;
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
	oidc_free(old);
	list_each(it, &a->questions) put_question(container_of(it, struct question, link));
}

static struct config *parse_config(int fd)
{
	struct config *cfg = NULL;
	struct slice text;
	struct buf error;
	int err = memfd_map(fd, &text);

	buf_init(&error, 65536);
	if (!err) {
		err = config_parse(text, "tidegate.yaml", &cfg, &error);
		memfd_unmap(text);
	}
	if (err) {
		log_error("the parent's configuration is not accepted: %.*s", (int)error.n,
			  error.n ? (const char *)buf_data(&error) : strerror(-err));
		exit(1);
	}
	buf_done(&error);
	return cfg;
}

static void take_config(struct authd *a, struct ipc_msg *m)
{
	struct config *cfg, *old = a->cfg;
	int fd, err;

	(void)ipc_get_u64(m); /* the generation */
	fd = ipc_get_fd(m);
	if (!ipc_end(m) || fd < 0) {
		m->bad = true;
		return;
	}
	cfg = parse_config(fd);
	(void)close(fd);
	a->cfg = cfg;
	if (!old || !same_idp(old->idp, cfg->idp))
		use_provider(a, cfg->idp);
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

/* ------------------------------------------------------------ process */

static void on_message(void *ctx, struct ipc *ipc, struct ipc_msg *m)
{
	struct authd *a = ctx;

	if (m->type == IPC_INIT || m->type == IPC_DRAIN)
		return; /* nothing in them for authd; it ends with the parent */
	if (m->type == IPC_CONFIG)
		take_config(a, m);
	else if (m->type == IPC_IDP_ASK)
		idp_ask(a, m);
	else if (m->type == IPC_IDP_CANCEL)
		idp_cancel(a, m);
	else if (m->type == IPC_IDP_STATE)
		idp_state(a, m);
	else if (m->type == IPC_KEY_CLIENT)
		key_answer(a, m);
	else
		m->bad = true;
}

/* Without a parent nobody wants an answer. */
static void on_parent_gone(void *ctx, struct ipc *ipc, bool bad)
{
	if (bad)
		log_error("a message of the parent could not be read");
	_exit(bad ? 1 : 0);
}

int authd_main(void)
{
	static const struct ipc_ops ops = {.message = on_message, .closed = on_parent_gone};
	static struct authd a;

	list_init(&a.questions);
	list_init(&a.credentials);
	BUG_ON(uv_loop_init(&a.loop));
	BUG_ON(ipc_new(&a.loop, IPC_CHILD_FD, &ops, &a, &a.ipc));
	(void)uv_run(&a.loop, UV_RUN_DEFAULT);
	return 0;
}
