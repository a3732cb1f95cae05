/* SPDX-License-Identifier: MIT */
/*
 * A cancel request, over a connection of its own. It holds the key by which anybody could cancel what the
 * session does: where the session's leg is TLS it goes so, too, and the server proves who it is.
 */
#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/session_tls.h"

enum { ERRAND_MS = 10000, ERRAND_BYTES = 32 };

struct errand {
	uv_poll_t poll;
	uv_timer_t timer;
	unsigned nhandles;
	int fd;
	struct tls *tls; /* NULL: in clear */
	bool said; /* waits for the other side to close: a reset could overtake what was said */
	size_t n;
	uint8_t bytes[ERRAND_BYTES];
	char target[64];
};

static void on_closed(uv_handle_t *h)
{
	struct errand *e = h->data;

	if (--e->nhandles)
		return;
	close(e->fd);
	explicit_bzero(e, sizeof(*e));
	free(e);
}

static void finish(struct errand *e)
{
	if (uv_is_closing((uv_handle_t *)&e->poll))
		return;
	tls_free(e->tls);
	e->tls = NULL;
	uv_close((uv_handle_t *)&e->poll, on_closed);
	uv_close((uv_handle_t *)&e->timer, on_closed);
}

static void on_late(uv_timer_t *t)
{
	struct errand *e = container_of(t, struct errand, timer);

	if (!e->said)
		log_warning("a cancel request for target %s could not be sent in time", e->target);
	finish(e);
}

static void say(struct errand *e)
{
	const struct iovec iov = {e->bytes, e->n};

	if (!e->tls) {
		(void)!send(e->fd, e->bytes, e->n, MSG_NOSIGNAL | MSG_DONTWAIT);
		finish(e);
		return;
	}
	/* The first bytes on a connection fit into its buffer. */
	if (tls_send(e->tls, &iov, 1) != (ssize_t)e->n || !tls_finish(e->tls)) {
		finish(e);
		return;
	}
	(void)shutdown(e->fd, SHUT_WR);
	e->said = true;
}

static void drain(struct errand *e)
{
	uint8_t unused[512];
	ssize_t n = recv(e->fd, unused, sizeof(unused), MSG_DONTWAIT);

	if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
		finish(e);
}

static void on_ready(uv_poll_t *h, int status, int events);

static void watch(struct errand *e)
{
	uint32_t events = e->said ? EPOLLIN : e->tls ? tls_events(e->tls) : EPOLLOUT;

	(void)uv_poll_start(&e->poll, (events & EPOLLIN ? UV_READABLE : 0) |
					      (events & EPOLLOUT ? UV_WRITABLE : 0), on_ready);
}

static void on_ready(uv_poll_t *h, int status, int events)
{
	struct errand *e = container_of(h, struct errand, poll);

	if (uv_is_closing((uv_handle_t *)h))
		return;
	if (e->said) {
		drain(e);
		return;
	}
	switch (e->tls ? tls_step(e->tls) : TLS_STEP_UP) {
	case TLS_STEP_WAIT:
		break;
	case TLS_STEP_SIGN: /* it has no certificate to show */
	case TLS_STEP_FAILED:
		log_warning("a cancel request for target %s is not sent: %s", e->target,
			    tls_why(e->tls));
		finish(e);
		return;
	case TLS_STEP_UP:
		say(e);
		break;
	}
	if (!uv_is_closing((uv_handle_t *)h))
		watch(e);
}

void errand_send(struct session *s, int fd, struct slice bytes)
{
	struct errand *e = calloc(1, sizeof(*e));
	struct trust_start start;
	bool tls = stls_wanted(s);
	const char *why;

	if (!e || bytes.n > sizeof(e->bytes) ||
	    (tls && (trust_start(s->conf->trust, s->view->target, s->upstream, &start, &why) ||
		     tls_new(&start.tls, fd, &e->tls))) ||
	    uv_poll_init(&s->w->loop, &e->poll, fd)) {
		if (e)
			tls_free(e->tls);
		free(e);
		close(fd);
		return;
	}
	e->fd = fd;
	e->n = bytes.n;
	memcpy(e->bytes, bytes.p, bytes.n);
	(void)snprintf(e->target, sizeof(e->target), "%s", s->view->target->name);
	e->poll.data = e->timer.data = e;
	e->nhandles = 2;
	(void)uv_timer_init(&s->w->loop, &e->timer);
	(void)uv_timer_start(&e->timer, on_late, ERRAND_MS, 0);
	watch(e);
}
