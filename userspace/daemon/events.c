/* SPDX-License-Identifier: MIT */
#include "daemon/events.h"

#include <errno.h>
#include <openssl/sha.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"

enum {
	CONNS_MAX = 16,
	SECONDS_MAX = 5,
	AGAIN_MS = 50,
	SEEN = 4096, /* events within the time that they are fresh */
	SAID_MAX = 5, /* refusals in SAID_S seconds that are told one by one */
	SAID_S = 10,
};

struct conn {
	struct list link; /* the oldest first */
	struct events *e;
	int fd;
	uv_poll_t poll;
	uv_timer_t timer, again;
	unsigned handles;
	bool keys_tried;
	struct buf in;
};

struct events {
	uv_poll_t poll;
	int fd;
	bool dead;
	struct events_ops ops;
	void *ctx;
	struct list conns;
	unsigned nconns;
	/* Digests of the jti of what was told. */
	uint8_t seen[SEEN][16];
	unsigned nseen;
	uint64_t said_until_s;
	unsigned said, unsaid;
};

/* ------------------------------------------------------------------ life time */

static void maybe_gone(struct events *e)
{
	if (e->dead && e->fd < 0 && !e->nconns)
		free(e);
}

static void on_conn_closed(uv_handle_t *h)
{
	struct conn *c = h->data;
	struct events *e = c->e;

	if (--c->handles)
		return;
	(void)close(c->fd);
	buf_done(&c->in);
	free(c);
	e->nconns--;
	maybe_gone(e);
}

static void conn_close(struct conn *c)
{
	if (uv_is_closing((uv_handle_t *)&c->poll))
		return;
	list_del(&c->link);
	list_init(&c->link);
	uv_close((uv_handle_t *)&c->poll, on_conn_closed);
	uv_close((uv_handle_t *)&c->timer, on_conn_closed);
	uv_close((uv_handle_t *)&c->again, on_conn_closed);
}

static void on_closed(uv_handle_t *h)
{
	struct events *e = h->data;

	(void)close(e->fd);
	e->fd = -1;
	maybe_gone(e);
}

void events_free(struct events *e)
{
	if (!e)
		return;
	e->dead = true;
	list_each(it, &e->conns) conn_close(container_of(it, struct conn, link));
	uv_close((uv_handle_t *)&e->poll, on_closed);
}

/* ------------------------------------------------------------------ answers */

static const char *phrase(int status)
{
	return status == 200   ? "OK"
	       : status == 202 ? "Accepted"
	       : status == 204 ? "No Content"
	       : status == 401 ? "Unauthorized"
	       : status == 503 ? "Service Unavailable"
			       : "Bad Request";
}

/* It is small, and nothing was sent before it: what the kernel does not take is not wanted. */
static void say(struct conn *c, int status, const char *code, const char *words)
{
	char body[400] = "", text[700];

	if (code)
		(void)snprintf(body, sizeof(body), "{\"err\":\"%s\",\"description\":\"%s\"}", code, words);
	(void)snprintf(text, sizeof(text),
		       "HTTP/1.1 %d %s\r\nConnection: close\r\nCache-Control: no-store\r\n%s"
		       "Content-Length: %zu\r\n\r\n%s",
		       status, phrase(status), code ? "Content-Type: application/json\r\n" : "",
		       strlen(body), body);
	(void)!send(c->fd, text, strlen(text), MSG_NOSIGNAL | MSG_DONTWAIT);
	(void)shutdown(c->fd, SHUT_WR);
	conn_close(c);
}

/* The words quote values of the token. */
static void plain(char *text)
{
	for (; *text; text++)
		if (*text == '"' || *text == '\\' || (unsigned char)*text < 0x20 ||
		    (unsigned char)*text > 0x7e)
			*text = '\'';
}

/* ------------------------------------------------------------------ requests */

static bool seen_before(struct events *e, const char *jti)
{
	uint8_t md[SHA256_DIGEST_LENGTH];
	unsigned n = e->nseen < SEEN ? e->nseen : SEEN;

	(void)SHA256((const uint8_t *)jti, strlen(jti), md);
	for (unsigned i = 0; i < n; i++)
		if (memcmp(e->seen[i], md, sizeof(e->seen[i])) == 0)
			return true;
	memcpy(e->seen[e->nseen++ % SEEN], md, sizeof(e->seen[0]));
	return false;
}

static void on_again(uv_timer_t *t);

/* Whoever reaches the socket can bring it about: a few say that it happens, and how often. */
static void refused(struct events *e, const char *what, const char *why)
{
	uint64_t now_s = clock_boot_ns() / 1000000000;

	if (now_s >= e->said_until_s) {
		if (e->unsaid)
			log_warning("%u more events or pings were refused before", e->unsaid);
		e->said_until_s = now_s + SAID_S;
		e->said = e->unsaid = 0;
	}
	if (e->said++ < SAID_MAX)
		log_warning("%s was refused: %s", what, why);
	else
		e->unsaid++;
}

/* Which of id and token was wrong is nobody's business who has to guess. */
static void pinged(struct conn *c, const struct secevent_request *q)
{
	char id[SECEVENT_PING_MAX];
	bool ok = secevent_ping(q, id) && c->e->ops.ping(c->e->ctx, id, q->bearer);

	if (!ok)
		refused(c->e, "a ping", "no question has this id and this token, or it was pinged before");
	say(c, ok ? 204 : 401, NULL, NULL);
}

static void judge(struct conn *c, const struct secevent_request *q)
{
	struct oidc_event_error why = {"invalid_request", ""};
	struct secevent ev;
	int err = c->e->ops.check(c->e->ctx, q->token, &c->keys_tried, &ev, &why);

	if (err == -EAGAIN) {
		(void)uv_poll_stop(&c->poll);
		(void)uv_timer_start(&c->again, on_again, AGAIN_MS, 0);
		return;
	}
	if (err) {
		plain(why.words);
		refused(c->e, "an event", why.words);
		say(c, 400, why.code, why.words);
		return;
	}
	/* One that comes twice was not acknowledged the first time: the same answer, once the work. */
	if (!seen_before(c->e, ev.jti))
		c->e->ops.event(c->e->ctx, &ev);
	say(c, q->logout ? 200 : 202, NULL, NULL);
}

static void look(struct conn *c)
{
	struct secevent_request q;

	switch (secevent_request(buf_slice(&c->in), &q)) {
	case SECEVENT_MORE:
		break;
	case SECEVENT_WHOLE:
		if (q.ping)
			pinged(c, &q);
		else
			judge(c, &q);
		break;
	case SECEVENT_REFUSED:
		say(c, q.status, "invalid_request", "one POST of an event is taken here");
		break;
	}
}

static void on_again(uv_timer_t *t)
{
	look(t->data);
}

static void on_readable(uv_poll_t *p, int status, int events)
{
	struct conn *c = p->data;
	uint8_t *dst = buf_reserve(&c->in, 4096);
	ssize_t n = dst ? recv(c->fd, dst, 4096, MSG_DONTWAIT) : 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n <= 0 || status) {
		conn_close(c);
		return;
	}
	buf_commit(&c->in, (size_t)n);
	look(c);
}

static void on_late(uv_timer_t *t)
{
	say(t->data, 503, "access_denied", "not in time: try again");
}

static void on_connection(uv_poll_t *p, int status, int events)
{
	struct events *e = p->data;
	struct conn *c;
	int fd = accept4(e->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return;
	if (e->nconns >= CONNS_MAX && !list_empty(&e->conns))
		conn_close(container_of(e->conns.next, struct conn, link));
	c = e->nconns < 2 * CONNS_MAX ? calloc(1, sizeof(*c)) : NULL;
	if (!c || uv_poll_init(e->poll.loop, &c->poll, fd)) {
		free(c);
		(void)close(fd);
		return;
	}
	c->e = e;
	c->fd = fd;
	c->handles = 3;
	c->poll.data = c->timer.data = c->again.data = c;
	buf_init(&c->in, SECEVENT_HEAD_MAX + SECEVENT_BODY_MAX + 8192);
	(void)uv_timer_init(e->poll.loop, &c->timer);
	(void)uv_timer_init(e->poll.loop, &c->again);
	e->nconns++;
	list_add_tail(&e->conns, &c->link);
	(void)uv_timer_start(&c->timer, on_late, SECONDS_MAX * 1000, 0);
	(void)uv_poll_start(&c->poll, UV_READABLE, on_readable);
}

struct events *events_new(uv_loop_t *loop, int fd, const struct events_ops *ops, void *ctx)
{
	struct events *e = calloc(1, sizeof(*e));

	if (!e || uv_poll_init(loop, &e->poll, fd)) {
		free(e);
		(void)close(fd);
		return NULL;
	}
	e->fd = fd;
	e->ops = *ops;
	e->ctx = ctx;
	e->poll.data = e;
	list_init(&e->conns);
	(void)uv_poll_start(&e->poll, UV_READABLE, on_connection);
	return e;
}
