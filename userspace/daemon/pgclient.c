/* SPDX-License-Identifier: MIT */
/* Protocol 3.0 (PostgreSQL 15 documentation, chapter 55), the client's part of it that is needed. */
#include "daemon/pgclient.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cursor.h"
#include "ident/b64.h"
#include "inspect/pg_proof.h"

enum {
	DEADLINE_MS = 15000,
	READ_BYTES = 32768,
	MESSAGE_MAX = 1 << 20,
	COLUMNS_MAX = 32,
	NONCE_BYTES = 18,
};

struct pgclient {
	struct pgclient_env env;
	struct pgclient_login login;
	uv_poll_t poll;
	uv_timer_t timer;
	uint8_t nhandles;
	int fd;
	const struct pgclient_ops *ops;
	void *ctx;
	struct buf in, out;
	bool connected, closing;
	struct tls *tls; /* NULL: in clear */
	bool shaking;	 /* it is not up yet */
	struct insp_channel channel;
	bool wipe; /* `out` holds the password */
	bool in_query;
	unsigned query;
	uint64_t key_id; /* of the question to keyd, 0: none */
	struct pg_proof proof;
	enum insp_need need; /* what keyd is asked for */
	char error[256], sqlstate[6];
};

static void on_io(uv_poll_t *h, int status, int events);

static void on_handle_closed(uv_handle_t *h)
{
	struct pgclient *c = h->data;

	if (--c->nhandles)
		return;
	tls_free(c->tls);
	close(c->fd);
	buf_wipe(&c->in);
	buf_wipe(&c->out);
	free(c);
}

void pgclient_stop(struct pgclient *c)
{
	if (!c || c->closing)
		return;
	c->closing = true;
	c->poll.data = c->timer.data = c;
	uv_close((uv_handle_t *)&c->poll, on_handle_closed);
	uv_close((uv_handle_t *)&c->timer, on_handle_closed);
}

static void finish(struct pgclient *c, const char *error)
{
	if (c->closing)
		return;
	pgclient_stop(c);
	c->ops->done(c->ctx, error, c->sqlstate);
}

static void watch(struct pgclient *c)
{
	uint32_t events = EPOLLIN;

	if (!c->connected || c->out.n)
		events |= EPOLLOUT;
	if (c->tls && c->connected)
		events = c->shaking ? tls_events(c->tls) : tls_watch(c->tls, events);
	if (!c->closing)
		(void)uv_poll_start(&c->poll, (events & EPOLLIN ? UV_READABLE : 0) |
						      (events & EPOLLOUT ? UV_WRITABLE : 0), on_io);
}

/* ---------------------------------------------------------------- messages out */

static void put(struct pgclient *c, const void *p, size_t n)
{
	if (buf_append(&c->out, p, n))
		finish(c, "out of memory");
}

static void put_message(struct pgclient *c, char type, const void *p, size_t n)
{
	uint8_t head[5];

	head[0] = (uint8_t)type;
	store_be32(head + 1, (uint32_t)n + 4);
	put(c, type ? head : head + 1, type ? 5 : 4);
	put(c, p, n);
}

static void send_startup(struct pgclient *c)
{
	uint8_t msg[512] = {0};
	const char *pairs[] = {"user",	  c->login.user,    "database",	  c->login.database,
			       "client_encoding", "UTF8", "application_name", c->env.application};
	size_t n = 4;

	store_be32(msg, 3u << 16);
	for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
		size_t len = strlen(pairs[i]) + 1;

		if (len > sizeof(msg) - n - 1) {
			finish(c, "user or database name too long");
			return;
		}
		memcpy(msg + n, pairs[i], len);
		n += len;
	}
	put_message(c, 0, msg, n + 1);
}

static void next_query(struct pgclient *c)
{
	const char *text = c->ops->query(c->ctx, c->query);

	if (!text) {
		finish(c, NULL);
		return;
	}
	c->in_query = true;
	put_message(c, 'Q', text, strlen(text) + 1);
}

/* ------------------------------------------------------------- authentication */

static void say(struct pgclient *c, struct slice text, struct slice signature)
{
	const struct insp_challenge challenge = {.need = c->need};
	const struct insp_response answer = {.text = text, .signature = signature};
	uint8_t msg[PG_PROOF_SAY_MAX];
	size_t n = pg_proof_say(&c->proof, &challenge, &answer, msg);

	if (n == 0)
		finish(c, "keyd's answer has the wrong size");
	else
		put(c, msg, n);
	c->wipe = true;
	explicit_bzero(msg, sizeof(msg));
}

static void ask_keyd(struct pgclient *c, enum ipc_type type)
{
	c->key_id = ++*c->env.next_ask;
	ipc_begin(c->env.ipc, type, c->key_id);
	ipc_put_str(c->env.ipc, c->login.target);
}

static void answer(struct pgclient *c, const struct insp_challenge *q)
{
	char nonce[B64_TEXT(NONCE_BYTES)];
	uint8_t raw[NONCE_BYTES];

	c->need = q->need;
	switch (q->need) {
	case INSP_NEED_NONCE:
		random_bytes(raw, sizeof(raw));
		(void)b64_encode(slice_of(raw, sizeof(raw)), nonce);
		say(c, slice_str(nonce), slice_of("", 0));
		return;
	case INSP_NEED_PASSWORD:
		ask_keyd(c, IPC_KEY_PASSWORD);
		break;
	case INSP_NEED_MD5:
		ask_keyd(c, IPC_KEY_MD5);
		ipc_put_str(c->env.ipc, c->login.user);
		ipc_put_bytes(c->env.ipc, q->salt);
		break;
	case INSP_NEED_SCRAM:
		ask_keyd(c, IPC_KEY_SCRAM);
		ipc_put_bytes(c->env.ipc, q->first);
		ipc_put_bytes(c->env.ipc, q->server);
		ipc_put_bytes(c->env.ipc, q->final);
		break;
	}
	ipc_send(c->env.ipc);
}

static void on_auth(struct pgclient *c, struct slice body)
{
	struct insp_challenge q;

	switch (pg_proof_server(&c->proof, body, &q)) {
	case PG_PROOF_IN:
		if (c->env.must_ask && pg_proof_unasked(&c->proof))
			finish(c, "the server lets this user in without asking for a password");
		return;
	case PG_PROOF_NEXT:
		return;
	case PG_PROOF_ASK:
		answer(c, &q);
		return;
	case PG_PROOF_UNSUPPORTED:
		finish(c, "the server asks for an authentication that is not supported");
		return;
	case PG_PROOF_UNPROVED:
		finish(c, "the server does not know the password it asked for");
		return;
	case PG_PROOF_BROKEN:
		finish(c, "the server's authentication breaks the protocol");
		return;
	}
}

bool pgclient_key(struct pgclient *c, struct ipc_msg *m)
{
	char proof[B64_TEXT(32)], signed_text[B64_TEXT(32)];
	uint32_t error;
	struct slice text, signature;

	if (!c || !c->key_id || c->key_id != m->id)
		return false;
	c->key_id = 0;
	error = ipc_get_u32(m);
	text = ipc_get_bytes(m);
	signature = m->type == IPC_KEY_SCRAM ? ipc_get_bytes(m) : slice_of("", 0);
	if (!ipc_end(m) || error) {
		finish(c, "its password cannot be used: see the journal of tidegated");
		return true;
	}
	if (m->type == IPC_KEY_SCRAM && text.n == 32 && signature.n == 32) {
		text = slice_of(proof, b64_encode(text, proof));
		signature = slice_of(signed_text, b64_encode(signature, signed_text));
	} else if (m->type == IPC_KEY_SCRAM) {
		text.n = 0; /* no answer */
	}
	say(c, text, signature);
	watch(c);
	return true;
}

void pgclient_key_gone(struct pgclient *c)
{
	if (c && c->key_id)
		finish(c, "keyd is being started again");
}

/* ----------------------------------------------------------------- messages in */

static void on_row(struct pgclient *c, struct cursor *cur)
{
	struct slice values[COLUMNS_MAX];
	uint16_t n = cur_be16(cur);

	if (n > COLUMNS_MAX) {
		finish(c, "a row with too many columns");
		return;
	}
	for (uint16_t i = 0; i < n; i++) {
		uint32_t len = cur_be32(cur);

		values[i] = len == UINT32_MAX ? (struct slice){.p = NULL, .n = 0} : cur_take(cur, len);
	}
	if (!cur_end(cur))
		finish(c, "a row that breaks the protocol");
	else if (c->ops->row(c->ctx, c->query, values, n))
		finish(c, "a row that was not expected");
}

static void on_error(struct pgclient *c, struct cursor *cur)
{
	while (!cur->bad && cur_left(cur)) {
		uint8_t field = cur_u8(cur);
		struct slice text;

		if (field == 0)
			break;
		text = cur_cstr(cur);
		if (field == 'C' && text.n == sizeof(c->sqlstate) - 1)
			memcpy(c->sqlstate, text.p, text.n);
		else if (field == 'M')
			(void)snprintf(c->error, sizeof(c->error), "%.*s", (int)min_size(text.n, 200),
				       (const char *)text.p);
	}
	if (c->in_query && c->ops->may_fail && c->ops->may_fail(c->ctx, c->query, c->sqlstate)) {
		c->error[0] = c->sqlstate[0] = '\0';
		return;
	}
	finish(c, c->error[0] ? c->error : "the server reported an error");
}

static void on_notice(struct pgclient *c, struct cursor *cur)
{
	while (!cur->bad && cur_left(cur)) {
		uint8_t field = cur_u8(cur);
		struct slice text;

		if (field == 0)
			return;
		text = cur_cstr(cur);
		if (field == 'C' && c->ops->notice && c->in_query)
			c->ops->notice(c->ctx, c->query, text);
	}
}

static void on_message(struct pgclient *c, uint8_t type, struct slice body)
{
	struct cursor cur = cur_of(body);

	switch (type) {
	case 'R':
		on_auth(c, body);
		break;
	case 'D':
		on_row(c, &cur);
		break;
	case 'E':
		on_error(c, &cur);
		break;
	case 'Z':
		if (c->in_query)
			c->query++;
		next_query(c);
		break;
	case 'N':
		on_notice(c, &cur);
		break;
	case 'S': /* ParameterStatus */
	case 'K': /* BackendKeyData */
	case 'T': /* RowDescription: the queries are ours */
	case 'C': /* CommandComplete */
	case 'v': /* NegotiateProtocolVersion */
		break;
	default:
		finish(c, "a message that was not expected");
	}
}

static void on_input(struct pgclient *c)
{
	while (!c->closing && c->in.n >= 5) {
		uint8_t *p = buf_data(&c->in);
		uint32_t len = load_be32(p + 1);

		if (len < 4 || len > MESSAGE_MAX) {
			finish(c, "a message of an impossible length");
			return;
		}
		if (c->in.n < 1 + (size_t)len)
			return;
		on_message(c, p[0], slice_of(p + 5, len - 4));
		buf_consume(&c->in, 1 + (size_t)len);
	}
}

/* Bytes, 0 at the end, or negative errno. */
static ssize_t receive(struct pgclient *c, uint8_t *dst, size_t n)
{
	ssize_t got;

	if (c->tls)
		return tls_recv(c->tls, dst, n);
	got = recv(c->fd, dst, n, MSG_DONTWAIT);
	return got < 0 ? -errno : got;
}

static ssize_t transmit(struct pgclient *c)
{
	struct iovec iov = {buf_data(&c->out), c->out.n};
	ssize_t n;

	if (c->tls)
		return tls_send(c->tls, &iov, 1);
	n = send(c->fd, iov.iov_base, iov.iov_len, MSG_NOSIGNAL | MSG_DONTWAIT);
	return n < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : n < 0 ? -errno : n;
}

static void read_some(struct pgclient *c)
{
	uint8_t *dst = buf_reserve(&c->in, READ_BYTES);
	ssize_t n = dst ? receive(c, dst, READ_BYTES) : 0;

	if (n == -EAGAIN || n == -EINTR)
		return;
	if (n <= 0) {
		finish(c, c->tls && tls_reason(c->tls) ? tls_why(c->tls)
			  : n			       ? strerror((int)-n)
						       : "the server closed the connection");
		return;
	}
	buf_commit(&c->in, (size_t)n);
	on_input(c);
}

/* What TLS has in memory is announced by no event. */
static void do_read(struct pgclient *c)
{
	do
		read_some(c);
	while (!c->closing && c->tls && tls_has_more(c->tls));
}

static void shake(struct pgclient *c)
{
	switch (tls_step(c->tls)) {
	case TLS_STEP_WAIT:
		return;
	case TLS_STEP_SIGN: /* it has no certificate to show */
	case TLS_STEP_FAILED:
		finish(c, tls_why(c->tls));
		return;
	case TLS_STEP_UP:
		break;
	}
	c->shaking = false;
	c->channel.end_point = tls_binding(c->tls);
	c->proof.channel = &c->channel;
}

static void do_write(struct pgclient *c)
{
	ssize_t n;

	if (!c->connected) {
		socklen_t len = sizeof(int);
		int e = 0;

		if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &e, &len) || e) {
			finish(c, strerror(e ? e : errno));
			return;
		}
		c->connected = true;
	}
	if (c->shaking)
		shake(c);
	if (c->shaking || c->closing || !c->out.n)
		return;
	n = transmit(c);
	if (n < 0)
		finish(c, strerror((int)-n));
	else if (n > 0)
		buf_consume(&c->out, (size_t)n);
	if (!c->out.n && c->wipe) {
		buf_wipe(&c->out);
		c->wipe = false;
	}
}

static void on_io(uv_poll_t *h, int status, int events)
{
	struct pgclient *c = container_of(h, struct pgclient, poll);

	bool readable = events & UV_READABLE, writable = events & UV_WRITABLE;

	/* A handshake, and what stands in the way of a record, may wait for either. */
	if (!c->closing && (status < 0 || writable || (c->tls && c->out.n)))
		do_write(c);
	if (!c->closing && !c->shaking && (status < 0 || readable || c->tls))
		do_read(c);
	watch(c);
}

static void on_deadline(uv_timer_t *t)
{
	finish(container_of(t, struct pgclient, timer), "the server did not answer in time");
}

int pgclient_start(const struct pgclient_env *env, int fd, const struct pgclient_login *login,
		   const struct pgclient_ops *ops, void *ctx, struct pgclient **ret)
{
	struct pgclient *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	rc = env->tls ? tls_new(env->tls, fd, &c->tls) : 0;
	if (!rc)
		rc = uv_poll_init(env->loop, &c->poll, fd);
	if (rc) {
		tls_free(c->tls);
		free(c);
		return rc;
	}
	c->shaking = c->tls != NULL;
	c->env = *env;
	c->login = *login;
	c->fd = fd;
	c->ops = ops;
	c->ctx = ctx;
	c->nhandles = 2;
	buf_init(&c->in, MESSAGE_MAX + 65536);
	buf_init(&c->out, MESSAGE_MAX);
	(void)uv_timer_init(env->loop, &c->timer);
	(void)uv_timer_start(&c->timer, on_deadline, DEADLINE_MS, 0);
	send_startup(c);
	watch(c);
	*ret = c;
	return 0;
}
