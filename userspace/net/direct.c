/* SPDX-License-Identifier: MIT */
#include "net/direct.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { EVENTS = 128 };

int direct_init(struct direct *d, uv_loop_t *loop)
{
	struct epoll_event ev = {.events = EPOLLIN, .data = {.ptr = NULL}};
	int rc;

	*d = (struct direct){.loop = loop, .fd = epoll_create1(EPOLL_CLOEXEC)};
	if (d->fd < 0)
		return -errno;
	if (epoll_ctl(d->fd, EPOLL_CTL_ADD, uv_backend_fd(loop), &ev) == 0)
		return 0;
	rc = -errno;
	direct_done(d);
	return rc;
}

void direct_done(struct direct *d)
{
	if (d->fd >= 0)
		close(d->fd);
	d->fd = -1;
}

int direct_watch(struct direct *d, struct direct_fd *f, int fd, uint32_t before, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data = {.ptr = f}};
	int op = !events ? EPOLL_CTL_DEL : before ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;

	return epoll_ctl(d->fd, op, fd, &ev) ? -errno : 0;
}

/*
 * libuv tells the kernel what is newly watched when it polls next: until then its descriptor does
 * not become ready for it. What waits is a list whose head begins with a pointer to the first,
 * or to itself, in every release of version 1.
 */
static bool watches_new(const uv_loop_t *loop)
{
	const void *first;

	memcpy(&first, &loop->watcher_queue, sizeof(first));
	return first != &loop->watcher_queue;
}

void direct_round(struct direct *d, bool busy)
{
	struct epoll_event ev[EVENTS];
	int timeout, n;
	bool due;

	uv_update_time(d->loop);
	timeout = uv_backend_timeout(d->loop);
	due = timeout == 0 || watches_new(d->loop);
	n = epoll_wait(d->fd, ev, EVENTS, due || busy ? 0 : timeout);
	if (n == 0 && !busy)
		due = true; /* it waited for a timer */
	for (int i = 0; i < n; i++) {
		struct direct_fd *f = ev[i].data.ptr;

		if (f)
			f->ready(f, ev[i].events);
		else
			due = true;
	}
	if (due)
		(void)uv_run(d->loop, UV_RUN_NOWAIT);
}
