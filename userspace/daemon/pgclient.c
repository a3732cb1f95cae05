/* SPDX-License-Identifier: MIT */
/* Protocol 3.0 (PostgreSQL 15 documentation, chapter 55), the client's part of it that is needed. */
#include "daemon/pgclient.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/cursor.h"
#include "daemon/worker.h"
#include "ident/b64.h"

enum {
	DEADLINE_MS = 15000,
	MESSAGE_MAX = 1 << 20,
	COLUMNS_MAX = 32,
	NONCE_BYTES = 18,
};

enum auth { /* AuthenticationXxx codes */
	AUTH_OK = 0,
	AUTH_CLEARTEXT = 3,
	AUTH_MD5 = 5,
	AUTH_SASL = 10,
	AUTH_SASL_CONTINUE = 11,
	AUTH_SASL_FINAL = 12,
};

struct pgclient {
	struct worker *w;
	uv_poll_t poll;
	uv_timer_t timer;
	uint8_t nhandles;
	int fd;
	const char *target, *user, *database;
	const struct pgclient_ops *ops;
	void *ctx;
	struct buf in, out;
	bool connected, closing, trusted; /* trusted: the server has proved that it knows the login */
	bool in_query;
	unsigned query;
	uint64_t key_id; /* of the question to keyd, 0: none */
	char first_bare[64];
	char without_proof[256];
	uint8_t server_signature[32];
	bool scram;
	char error[256];
};

static void on_io(uv_poll_t *h, int status, int events);

static void on_handle_closed(uv_handle_t *h)
{
	struct pgclient *c = h->data;

	if (--c->nhandles)
		return;
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
	c->ops->done(c->ctx, error);
}

static void watch(struct pgclient *c)
{
	int events = UV_READABLE;

	if (!c->connected || c->out.n)
		events |= UV_WRITABLE;
	if (!c->closing)
		(void)uv_poll_start(&c->poll, events, on_io);
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
	const char *pairs[] = {"user",	  c->user,    "database",	  c->database,
			       "client_encoding", "UTF8", "application_name", "tidegate catalog"};
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

static void ask_keyd(struct pgclient *c, enum ipc_type type)
{
	c->key_id = ++c->w->next_ask;
	ipc_begin(c->w->ipc, type, c->key_id);
	ipc_put_str(c->w->ipc, c->target);
}

static void start_scram(struct pgclient *c, struct cursor *cur)
{
	uint8_t raw[NONCE_BYTES], msg[128];
	char nonce[B64_TEXT(NONCE_BYTES)];
	bool offered = false;
	size_t n;

	while (!cur->bad && cur_left(cur)) {
		struct slice name = cur_cstr(cur);

		offered |= slice_eq_str(name, "SCRAM-SHA-256");
	}
	if (!offered) {
		finish(c, "the server offers no SASL mechanism that is supported");
		return;
	}
	random_bytes(raw, sizeof(raw));
	(void)b64_encode(slice_of(raw, sizeof(raw)), nonce);
	(void)snprintf(c->first_bare, sizeof(c->first_bare), "n=,r=%s", nonce);
	n = sizeof("SCRAM-SHA-256");
	memcpy(msg, "SCRAM-SHA-256", n);
	store_be32(msg + n, (uint32_t)strlen(c->first_bare) + 3);
	memcpy(msg + n + 4, "n,,", 3);
	memcpy(msg + n + 7, c->first_bare, strlen(c->first_bare));
	put_message(c, 'p', msg, n + 7 + strlen(c->first_bare));
	c->scram = true;
}

static void continue_scram(struct pgclient *c, struct slice server_first)
{
	const uint8_t *comma = memchr(server_first.p, ',', server_first.n);
	size_t ours = strlen(c->first_bare) - 5; /* "n=,r=" */
	size_t theirs = comma ? (size_t)(comma - server_first.p) : 0;

	/* RFC 5802 section 5.1: the server's nonce begins with ours. */
	if (!c->scram || theirs < 2 + ours || theirs > 160 || server_first.p[0] != 'r' ||
	    memcmp(server_first.p + 2, c->first_bare + 5, ours) != 0) {
		finish(c, "the server's SCRAM nonce is not ours");
		return;
	}
	(void)snprintf(c->without_proof, sizeof(c->without_proof), "c=biws,%.*s", (int)theirs,
		       (const char *)server_first.p);
	ask_keyd(c, IPC_KEY_SCRAM);
	ipc_put_bytes(c->w->ipc, slice_str(c->first_bare));
	ipc_put_bytes(c->w->ipc, server_first);
	ipc_put_bytes(c->w->ipc, slice_str(c->without_proof));
	ipc_send(c->w->ipc);
}

static void check_signature(struct pgclient *c, struct slice final)
{
	char want[64] = "v=";

	(void)b64_encode(slice_of(c->server_signature, sizeof(c->server_signature)), want + 2);
	if (!slice_eq_str(final, want))
		finish(c, "the server does not know the password it asked for");
	else
		c->trusted = true;
}

static void on_auth(struct pgclient *c, struct cursor *cur)
{
	uint32_t code = cur_be32(cur);
	struct slice rest = slice_of(cur->p, cur_left(cur));

	switch (code) {
	case AUTH_OK:
		if (c->scram && !c->trusted)
			finish(c, "the server skipped the end of SCRAM");
		return;
	case AUTH_CLEARTEXT:
		ask_keyd(c, IPC_KEY_PASSWORD);
		ipc_send(c->w->ipc);
		return;
	case AUTH_MD5:
		if (rest.n != 4)
			break;
		ask_keyd(c, IPC_KEY_MD5);
		ipc_put_str(c->w->ipc, c->user);
		ipc_put_bytes(c->w->ipc, rest);
		ipc_send(c->w->ipc);
		return;
	case AUTH_SASL:
		start_scram(c, cur);
		return;
	case AUTH_SASL_CONTINUE:
		continue_scram(c, rest);
		return;
	case AUTH_SASL_FINAL:
		check_signature(c, rest);
		return;
	default:
		break;
	}
	finish(c, "the server asks for an authentication that is not supported");
}

bool pgclient_key(struct pgclient *c, struct ipc_msg *m)
{
	uint32_t error;
	struct slice answer, signature;
	char msg[384];
	int n;

	if (!c || !c->key_id || c->key_id != m->id)
		return false;
	c->key_id = 0;
	error = ipc_get_u32(m);
	answer = ipc_get_bytes(m);
	signature = m->type == IPC_KEY_SCRAM ? ipc_get_bytes(m) : slice_of("", 0);
	if (!ipc_end(m) || error) {
		finish(c, "the catalog login's password cannot be used: see the journal of tidegated");
		return true;
	}
	if (m->type != IPC_KEY_SCRAM) {
		n = snprintf(msg, sizeof(msg), "%.*s", (int)min_size(answer.n, 255),
			     (const char *)answer.p);
		put_message(c, 'p', msg, (size_t)n + 1);
	} else if (answer.n == 32 && signature.n == 32) {
		char proof[64];

		memcpy(c->server_signature, signature.p, 32);
		(void)b64_encode(answer, proof);
		n = snprintf(msg, sizeof(msg), "%s,p=%s", c->without_proof, proof);
		put_message(c, 'p', msg, (size_t)n);
	} else {
		finish(c, "keyd's answer has the wrong size");
		return true;
	}
	explicit_bzero(msg, sizeof(msg));
	watch(c);
	return true;
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
		if (field == 'M')
			(void)snprintf(c->error, sizeof(c->error), "%.*s", (int)min_size(text.n, 200),
				       (const char *)text.p);
	}
	finish(c, c->error[0] ? c->error : "the server reported an error");
}

static void on_message(struct pgclient *c, uint8_t type, struct slice body)
{
	struct cursor cur = cur_of(body);

	switch (type) {
	case 'R':
		on_auth(c, &cur);
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
	case 'S': /* ParameterStatus */
	case 'K': /* BackendKeyData */
	case 'N': /* NoticeResponse */
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

static void do_read(struct pgclient *c)
{
	uint8_t *dst = buf_reserve(&c->in, 32768);
	ssize_t n = dst ? recv(c->fd, dst, 32768, MSG_DONTWAIT) : 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0) {
		finish(c, n ? strerror(errno) : "the server closed the connection");
		return;
	}
	buf_commit(&c->in, (size_t)n);
	on_input(c);
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
	if (!c->out.n)
		return;
	n = send(c->fd, buf_data(&c->out), c->out.n, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (n < 0 && errno != EAGAIN && errno != EINTR)
		finish(c, strerror(errno));
	else if (n > 0)
		buf_consume(&c->out, (size_t)n);
}

static void on_io(uv_poll_t *h, int status, int events)
{
	struct pgclient *c = container_of(h, struct pgclient, poll);

	if (!c->closing && (status < 0 || (events & UV_WRITABLE)))
		do_write(c);
	if (!c->closing && (status < 0 || (events & UV_READABLE)))
		do_read(c);
	watch(c);
}

static void on_deadline(uv_timer_t *t)
{
	finish(container_of(t, struct pgclient, timer), "the server did not answer in time");
}

int pgclient_start(struct worker *w, int fd, const char *target, const char *user,
		   const char *database, const struct pgclient_ops *ops, void *ctx,
		   struct pgclient **ret)
{
	struct pgclient *c = calloc(1, sizeof(*c));
	int rc;

	if (!c)
		return -ENOMEM;
	rc = uv_poll_init(&w->loop, &c->poll, fd);
	if (rc) {
		free(c);
		return rc;
	}
	c->w = w;
	c->fd = fd;
	c->target = target;
	c->user = user;
	c->database = database;
	c->ops = ops;
	c->ctx = ctx;
	c->nhandles = 2;
	buf_init(&c->in, MESSAGE_MAX + 65536);
	buf_init(&c->out, MESSAGE_MAX);
	(void)uv_timer_init(&w->loop, &c->timer);
	(void)uv_timer_start(&c->timer, on_deadline, DEADLINE_MS, 0);
	send_startup(c);
	watch(c);
	*ret = c;
	return 0;
}
