/* SPDX-License-Identifier: MIT */
#include "net/dns_ask.h"

#include <ares.h>
#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/list.h"

enum { TRIES = 2 };

struct dns_ask {
	uv_loop_t *loop;
	ares_channel channel;
	uv_timer_t timer;
	struct list watches;
	uint64_t deadline_ns;
	unsigned nhandles;
	dns_ask_done *done;
	void *ctx;
	bool told, closing;
	int error;
	uint8_t *answer; /* kept from c-ares' callback until the loop is out of c-ares */
	size_t nanswer;
};

struct watch {
	struct list link;
	uv_poll_t poll;
	struct dns_ask *a;
	ares_socket_t fd;
};

int dns_ask_init(void)
{
	return ares_library_init(ARES_LIB_INIT_ALL) == ARES_SUCCESS ? 0 : -ENOMEM;
}

/* ----------------------------------------------------------------- ending */

static void unref(struct dns_ask *a)
{
	if (--a->nhandles)
		return;
	free(a->answer);
	free(a);
}

static void on_watch_closed(uv_handle_t *h)
{
	struct watch *w = container_of((uv_poll_t *)h, struct watch, poll);

	unref(w->a);
	free(w);
}

static void watch_free(struct watch *w)
{
	list_del(&w->link);
	(void)uv_poll_stop(&w->poll);
	uv_close((uv_handle_t *)&w->poll, on_watch_closed);
}

static void on_timer_closed(uv_handle_t *h)
{
	unref(container_of((uv_timer_t *)h, struct dns_ask, timer));
}

/* Never from inside c-ares. */
static void finish(struct dns_ask *a)
{
	if (a->closing)
		return;
	a->closing = true;
	a->told = true;
	ares_destroy(a->channel);
	list_each(it, &a->watches)
		watch_free(container_of(it, struct watch, link));
	uv_close((uv_handle_t *)&a->timer, on_timer_closed);
}

static void tell(struct dns_ask *a)
{
	struct slice answer = slice_of(a->answer, a->nanswer);
	dns_ask_done *done = a->done;
	void *ctx = a->ctx;
	int error = a->error;

	finish(a);
	done(ctx, error, answer);
}

/* ------------------------------------------------------------------ loop */

static void arm(struct dns_ask *a);

/* After each call into c-ares: it may have come to an end in there. */
static void after(struct dns_ask *a)
{
	if (a->closing)
		return;
	if (a->told)
		tell(a);
	else
		arm(a);
}

static void on_timer(uv_timer_t *t)
{
	struct dns_ask *a = container_of(t, struct dns_ask, timer);

	if (!a->told && clock_boot_ns() >= a->deadline_ns) {
		a->error = -ETIMEDOUT;
		a->told = true;
	}
	if (!a->told)
		ares_process_fd(a->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	after(a);
}

static void arm(struct dns_ask *a)
{
	struct timeval tv, *left = ares_timeout(a->channel, NULL, &tv);
	uint64_t now = clock_boot_ns(), ms = 0;

	if (a->deadline_ns > now)
		ms = (a->deadline_ns - now) / 1000000 + 1;
	if (left) {
		uint64_t theirs = (uint64_t)left->tv_sec * 1000 + (uint64_t)left->tv_usec / 1000 + 1;

		ms = theirs < ms ? theirs : ms;
	}
	(void)uv_timer_start(&a->timer, on_timer, ms, 0);
}

static void on_poll(uv_poll_t *h, int status, int events)
{
	struct watch *w = container_of(h, struct watch, poll);
	struct dns_ask *a = w->a;
	bool both = status < 0;

	ares_process_fd(a->channel, both || (events & UV_READABLE) ? w->fd : ARES_SOCKET_BAD,
			both || (events & UV_WRITABLE) ? w->fd : ARES_SOCKET_BAD);
	after(a);
}

static struct watch *watch_of(struct dns_ask *a, ares_socket_t fd)
{
	list_each(it, &a->watches) {
		struct watch *w = container_of(it, struct watch, link);

		if (w->fd == fd)
			return w;
	}
	return NULL;
}

static struct watch *watch_new(struct dns_ask *a, ares_socket_t fd)
{
	struct watch *w = calloc(1, sizeof(*w));

	if (!w || uv_poll_init(a->loop, &w->poll, fd)) {
		free(w);
		return NULL;
	}
	w->a = a;
	w->fd = fd;
	a->nhandles++;
	list_add_tail(&a->watches, &w->link);
	return w;
}

/* Neither: c-ares is about to close it. One that cannot be watched ends by the timeout. */
static void on_socket(void *ctx, ares_socket_t fd, int readable, int writable)
{
	struct dns_ask *a = ctx;
	struct watch *w = watch_of(a, fd);

	if (!readable && !writable) {
		if (w)
			watch_free(w);
		return;
	}
	if (!w)
		w = watch_new(a, fd);
	if (w)
		(void)uv_poll_start(&w->poll, (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0),
				    on_poll);
}

/* ---------------------------------------------------------------- asking */

static int error_of(int status)
{
	switch (status) {
	case ARES_SUCCESS:
		return 0;
	case ARES_ETIMEOUT:
		return -ETIMEDOUT;
	case ARES_ECONNREFUSED:
		return -ECONNREFUSED;
	case ARES_ENOMEM:
		return -ENOMEM;
	default:
		return -EHOSTUNREACH;
	}
}

static void on_answer(void *ctx, int status, int timeouts, unsigned char *msg, int n)
{
	struct dns_ask *a = ctx;

	if (a->told)
		return;
	a->told = true;
	a->error = error_of(status);
	if (!a->error && msg && n > 0) {
		a->answer = malloc((size_t)n);
		if (a->answer)
			memcpy(a->answer, msg, (size_t)n);
		a->nanswer = a->answer ? (size_t)n : 0;
	}
	if (!a->error && !a->answer)
		a->error = -EHOSTUNREACH;
}

static int open_channel(struct dns_ask *a, const struct dns_ask_config *c, bool edns)
{
	char lookups[] = "b";
	struct ares_options o = {
		.flags = ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | (edns ? ARES_FLAG_EDNS : 0),
		.timeout = (int)c->timeout_ms,
		.tries = TRIES,
		.ndots = 1,
		.lookups = lookups,
		.sock_state_cb = on_socket,
		.sock_state_cb_data = a,
		.ednspsz = DNS_UDP_OURS,
	};
	/* All that it would otherwise look up in files is given. */
	int mask = ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_NDOTS |
		   ARES_OPT_SERVERS | ARES_OPT_DOMAINS | ARES_OPT_LOOKUPS | ARES_OPT_SORTLIST |
		   ARES_OPT_SOCK_STATE_CB | ARES_OPT_EDNSPSZ | ARES_OPT_NOROTATE;

	if (ares_init_options(&a->channel, &o, mask) != ARES_SUCCESS)
		return -ENOMEM;
	if (ares_set_servers_ports_csv(a->channel, c->servers) == ARES_SUCCESS)
		return 0;
	ares_destroy(a->channel);
	return -EINVAL;
}

int dns_ask_start(uv_loop_t *loop, const struct dns_ask_config *c, const struct dns_query *q,
		  dns_ask_done *done, void *ctx, struct dns_ask **ret)
{
	struct dns_ask *a = calloc(1, sizeof(*a));
	struct dns_query mine = *q;
	uint8_t msg[DNS_QUERY_MAX];
	int rc;

	if (!a)
		return -ENOMEM;
	a->loop = loop;
	a->done = done;
	a->ctx = ctx;
	a->deadline_ns = clock_boot_ns() + DNS_ASK_MS * 1000000ull;
	list_init(&a->watches);
	rc = getrandom(&mine.id, sizeof(mine.id), 0) == sizeof(mine.id) ? 0 : -EIO;
	if (!rc)
		rc = open_channel(a, c, q->edns);
	if (rc) {
		free(a);
		return rc;
	}
	(void)uv_timer_init(loop, &a->timer);
	a->nhandles = 1;
	if (c->servers[0])
		ares_send(a->channel, msg, (int)dns_query_write(&mine, msg), on_answer, a);
	else
		on_answer(a, ARES_ESERVFAIL, 0, NULL, 0);
	/* What failed at once is told from the loop. */
	if (a->told)
		(void)uv_timer_start(&a->timer, on_timer, 0, 0);
	else
		arm(a);
	*ret = a;
	return 0;
}

void dns_ask_cancel(struct dns_ask *a)
{
	if (a)
		finish(a);
}
