/* SPDX-License-Identifier: MIT */
/*
 * Descriptors that are ready thousands of times a second, next to a libuv loop: they stand in
 * an epoll set of their own, and so does the loop's descriptor. Events go to their function
 * directly; the loop runs only when something of it is due. What libuv does for each event and in each
 * round (queues, phases, two clocks, four epoll_ctl() for a new descriptor) is saved.
 *
 * What a function may rely on: a descriptor has at most one event in a round, and callbacks of
 * the loop come after all of them, never in between. So memory that is freed by a close callback of
 * the loop outlives the round. uv_now() is the time at which the round's events came, not when it began to
 * wait for them: a timer may be started as anywhere else.
 */
#ifndef TIDEGATE_NET_DIRECT_H
#define TIDEGATE_NET_DIRECT_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <uv.h>

#include "base/compiler.h"

/* Part of what is called back. */
struct direct_fd {
	void (*ready)(struct direct_fd *f, uint32_t events); /* EPOLL*, ERR and HUP unasked */
};

/* When the alarm will ring, by uv_now(); ALARM_RANG: it did, and goes on until it is set anew. */
#define ALARM_NONE (UINT64_MAX - 1)
#define ALARM_RANG UINT64_MAX

struct direct {
	uv_loop_t *loop;
	int fd;
	struct direct_fd alarm; /* a timer, for what the loop has to do next */
	int alarm_fd;
	uint64_t alarm_ms;
};

/* @loop is there as long as @d. */
MUST_CHECK int direct_init(struct direct *d, uv_loop_t *loop);
void direct_done(struct direct *d);
/* Watches @fd, which was watched for @before, for @events (EPOLL*); 0: not. */
MUST_CHECK int direct_watch(struct direct *d, struct direct_fd *f, int fd, uint32_t before,
			    uint32_t events);
/* Waits for events, unless @busy, and calls who has some. */
void direct_round(struct direct *d, bool busy);

#endif
