/* SPDX-License-Identifier: MIT */
#include "daemon/keyask.h"

#include <errno.h>

#include "base/list.h"
#include "base/log.h"

enum {
	RETRY_MS = 250,
	RETRIES = 40, /* longer than any question lives by default */
	ERRNO_MAX = 4095,
	SIGNED_MAX = 48 << 10, /* of TLS 1.2 it is the whole handshake, with the server's certificates */
	SIGN_MS = 1000,	       /* nothing else is done meanwhile */
};

/* A credential or a proof that was asked for; asked again if keyd is just being started. */
struct credential {
	struct list link;
	struct keyask *k;
	uint64_t id; /* ours, towards the parent */
	uint64_t oidc_id;
	unsigned provider; /* whose question it is: that may be gone by now */
	char *audience;	   /* NULL: the secret; of a proof it is the URL */
	char *nonce;	   /* of a proof (DPoP); NULL: it is a credential */
	unsigned tries;
	uv_timer_t retry;
};

struct keyask {
	uv_loop_t *loop;
	struct ipc *ipc;
	struct oidc *oidc;
	unsigned provider; /* counts the changes of that */
	struct list credentials;
	uint64_t next_id;
};

struct keyask *keyask_new(uv_loop_t *loop, struct ipc *ipc)
{
	struct keyask *k = calloc(1, sizeof(*k));

	BUG_ON(!k);
	k->loop = loop;
	k->ipc = ipc;
	list_init(&k->credentials);
	return k;
}

void keyask_for(struct keyask *k, struct oidc *o)
{
	k->oidc = o;
	k->provider++;
}

/* ------------------------------------------------------------ credentials */

static void on_retry(uv_timer_t *t);

/* The answer may be lost with the keyd that should have given it: then it is asked anew. */
static void ask(struct credential *c)
{
	ipc_begin(c->k->ipc, c->nonce ? IPC_KEY_DPOP : IPC_KEY_CLIENT, c->id);
	ipc_put_str(c->k->ipc, c->audience ? c->audience : "");
	if (c->nonce)
		ipc_put_str(c->k->ipc, c->nonce);
	ipc_send(c->k->ipc);
	(void)uv_timer_start(&c->retry, on_retry, RETRY_MS, 0);
}

static void on_credential_closed(uv_handle_t *h)
{
	struct credential *c = container_of((uv_timer_t *)h, struct credential, retry);

	free(c->audience);
	free(c->nonce);
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
	if (c->provider != c->k->provider || ++c->tries == RETRIES)
		credential_free(c);
	else
		ask(c);
}

/* False: no memory. */
static bool begin(struct keyask *k, uint64_t id, const char *audience, const char *nonce)
{
	struct credential *c = calloc(1, sizeof(*c));

	if (!c)
		return false;
	c->audience = audience ? strdup(audience) : NULL;
	c->nonce = nonce ? strdup(nonce) : NULL;
	if ((audience && !c->audience) || (nonce && !c->nonce)) {
		free(c->audience);
		free(c->nonce);
		free(c);
		return false;
	}
	c->k = k;
	c->id = ++k->next_id;
	c->oidc_id = id;
	c->provider = k->provider;
	(void)uv_timer_init(k->loop, &c->retry);
	list_add_tail(&k->credentials, &c->link);
	ask(c);
	return true;
}

void keyask_credential(struct keyask *k, uint64_t id, const char *audience)
{
	if (!begin(k, id, audience, NULL))
		oidc_credential(k->oidc, id, slice_of("", 0), -ENOMEM);
}

void keyask_proof(struct keyask *k, uint64_t id, const char *url, const char *nonce)
{
	if (!begin(k, id, url, nonce))
		oidc_proof(k->oidc, id, slice_of("", 0), slice_of("", 0), -ENOMEM);
}

static void give(const struct credential *c, struct slice bytes, struct slice thumb, int error)
{
	struct oidc *o = c->k->oidc;

	if (c->provider != c->k->provider)
		return;
	if (c->nonce)
		oidc_proof(o, c->oidc_id, bytes, thumb, error);
	else
		oidc_credential(o, c->oidc_id, bytes, error);
}

void keyask_answer(struct keyask *k, struct ipc_msg *m)
{
	uint32_t error = ipc_get_u32(m);
	struct slice bytes = ipc_get_bytes(m);
	struct slice thumb = m->type == IPC_KEY_DPOP ? ipc_get_bytes(m) : slice_of("", 0);

	if (!ipc_end(m))
		return;
	if (error > ERRNO_MAX)
		error = EPROTO;
	list_each(it, &k->credentials)
	{
		struct credential *c = container_of(it, struct credential, link);

		if (c->id != m->id || (m->type == IPC_KEY_DPOP) != (c->nonce != NULL))
			continue;
		if (error == ENOTCONN)
			return; /* being started */
		give(c, bytes, thumb, -(int)error);
		credential_free(c);
		return;
	}
}

/* ------------------------------------------------------------ handshakes */

/* OpenSSL cannot be made to wait in the middle of one: a round trip on this host. */
struct signature {
	uint8_t *bytes;
	size_t n;
	int error;
};

static void take_signature(void *ctx, struct ipc_msg *m)
{
	struct signature *s = ctx;
	uint32_t error = ipc_get_u32(m);
	struct slice bytes = ipc_get_bytes(m);

	s->error = !ipc_end(m) || error > ERRNO_MAX || bytes.n > FAR_SIG_MAX ? -EPROTO : -(int)error;
	if (s->error)
		return;
	memcpy(s->bytes, bytes.p, bytes.n);
	s->n = bytes.n;
}

int keyask_sign(struct keyask *k, const struct far_ask *q, uint8_t sig[FAR_SIG_MAX], size_t *ret_n)
{
	struct signature s = {.bytes = sig};
	int err;

	if (q->text.n > SIGNED_MAX)
		return -EMSGSIZE;
	ipc_begin(k->ipc, IPC_KEY_TLS, ++k->next_id);
	ipc_put_u32(k->ipc, q->scheme);
	ipc_put_str(k->ipc, q->digest);
	ipc_put_bytes(k->ipc, q->certificate);
	ipc_put_bytes(k->ipc, q->text);
	err = ipc_call(k->ipc, SIGN_MS, take_signature, &s);
	if (!err)
		err = s.error;
	if (err)
		log_warning("keyd did not sign for the client certificate: %s", strerror(-err));
	*ret_n = s.n;
	return err;
}
