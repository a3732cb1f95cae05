/* SPDX-License-Identifier: MIT */
#include "net/direct.h"

#include <errno.h>
#include <string.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { EVENTS = 128 };

static void on_alarm(struct direct_fd *f, uint32_t events)
{
	struct direct *d = container_of(f, struct direct, alarm);

	(void)events;
	d->alarm_ms = ALARM_RANG;
}

int direct_init(struct direct *d, uv_loop_t *loop)
{
	struct epoll_event ev = {.events = EPOLLIN, .data = {.ptr = NULL}};
	int rc;

	*d = (struct direct){
		.loop = loop,
		.fd = epoll_create1(EPOLL_CLOEXEC),
		.alarm = {.ready = on_alarm},
		.alarm_fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
		.alarm_ms = ALARM_NONE,
	};
	if (d->fd >= 0 && d->alarm_fd >= 0 &&
	    epoll_ctl(d->fd, EPOLL_CTL_ADD, uv_backend_fd(loop), &ev) == 0 &&
	    direct_watch(d, &d->alarm, d->alarm_fd, 0, EPOLLIN) == 0)
		return 0;
	rc = -errno;
	direct_done(d);
	return rc;
}

void direct_done(struct direct *d)
{
	if (d->fd >= 0)
		close(d->fd);
	if (d->alarm_fd >= 0)
		close(d->alarm_fd);
	d->fd = d->alarm_fd = -1;
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

/*
 * What the loop has to do at @ms, by its clock, wakes the next epoll_wait(). A timeout of its own would put a
 * timer of the kernel up and take it down again for each event; the alarm stands until it rings, also
 * if what it was set for is put off: one look at the loop for nothing then, and it is set anew.
 */
static void set_alarm(struct direct *d, uint64_t ms)
{
	/* Behind the last moment of that millisecond: the clock that libuv reads may be coarse. */
	struct itimerspec at = {.it_value = {.tv_sec = (time_t)((ms + 1) / 1000),
					     .tv_nsec = (long)((ms + 1) % 1000) * 1000000 + 1}};

	if (ms >= d->alarm_ms)
		return;
	if (ms == ALARM_NONE) /* it rang: silence it */
		at = (struct itimerspec){.it_value = {.tv_sec = 0}};
	/* Cannot fail: it is a timer, and the time is one. */
	BUG_ON(timerfd_settime(d->alarm_fd, TFD_TIMER_ABSTIME, &at, NULL));
	d->alarm_ms = ms;
}

void direct_round(struct direct *d, bool busy)
{
	struct epoll_event ev[EVENTS];
	int timeout = uv_backend_timeout(d->loop), n;
	bool due = timeout == 0 || watches_new(d->loop);

	if (!due)
		set_alarm(d, timeout < 0 ? ALARM_NONE : uv_now(d->loop) + (uint64_t)timeout);
	n = epoll_wait(d->fd, ev, EVENTS, due || busy ? 0 : -1);
	/* Deadlines that are set from here on count from now, however long it has waited. */
	uv_update_time(d->loop);
	for (int i = 0; i < n; i++) {
		struct direct_fd *f = ev[i].data.ptr;

		if (f)
			f->ready(f, ev[i].events);
		else
			due = true;
	}
	if (due || d->alarm_ms == ALARM_RANG)
		(void)uv_run(d->loop, UV_RUN_NOWAIT);
}
