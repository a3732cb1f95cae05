/* SPDX-License-Identifier: MIT */
/* Descriptors beside a libuv loop: both get their turn, and in the order that is promised. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "net/direct.h"

/* A socket pair whose near end is watched. */
struct end {
	struct direct_fd f;
	struct rig *r;
	int fd, far;
	unsigned calls;
	uint32_t last;
};

struct rig {
	uv_loop_t loop;
	struct direct d;
	struct end end[2];
	uv_timer_t timer;
	uv_poll_t poll;
	unsigned ticks, polled, closed;
	bool start_poll, close_timer;
};

static void on_tick(uv_timer_t *t)
{
	struct rig *r = t->data;

	r->ticks++;
}

static void on_closed(uv_handle_t *h)
{
	struct rig *r = h->data;

	/* Never before the other events of its round. */
	r->closed = r->end[0].calls + r->end[1].calls;
}

static void on_poll(uv_poll_t *p, int status, int events)
{
	struct rig *r = p->data;

	(void)status;
	r->polled++;
	(void)events;
	(void)uv_poll_stop(p);
}

static void on_end(struct direct_fd *f, uint32_t events)
{
	struct end *e = container_of(f, struct end, f);
	struct rig *r = e->r;

	e->calls++;
	e->last = events;
	if (r->start_poll) {
		r->start_poll = false;
		assert_int_equal(uv_poll_start(&r->poll, UV_WRITABLE, on_poll), 0);
	}
	if (r->close_timer) {
		r->close_timer = false;
		uv_close((uv_handle_t *)&r->timer, on_closed);
	}
}

static int set_up(void **state)
{
	struct rig *r = calloc(1, sizeof(*r));

	if (!r || uv_loop_init(&r->loop) || direct_init(&r->d, &r->loop))
		return -1;
	for (int i = 0; i < 2; i++) {
		int fds[2];

		if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fds))
			return -1;
		r->end[i] = (struct end){.f.ready = on_end, .r = r, .fd = fds[0], .far = fds[1]};
	}
	(void)uv_timer_init(&r->loop, &r->timer);
	r->timer.data = r;
	if (uv_poll_init(&r->loop, &r->poll, r->end[1].far))
		return -1;
	r->poll.data = r;
	*state = r;
	return 0;
}

static int tear_down(void **state)
{
	struct rig *r = *state;

	uv_close((uv_handle_t *)&r->poll, NULL);
	if (!uv_is_closing((uv_handle_t *)&r->timer))
		uv_close((uv_handle_t *)&r->timer, NULL);
	while (uv_run(&r->loop, UV_RUN_NOWAIT))
		;
	for (int i = 0; i < 2; i++) {
		close(r->end[i].fd);
		close(r->end[i].far);
	}
	direct_done(&r->d);
	if (uv_loop_close(&r->loop))
		return -1;
	free(r);
	return 0;
}

static void fill(struct end *e)
{
	assert_int_equal(write(e->far, "x", 1), 1);
}

/* Watched, watched for something else, and not any more. */
static void test_watch(void **state)
{
	struct rig *r = *state;
	struct end *e = &r->end[0];

	assert_int_equal(direct_watch(&r->d, &e->f, e->fd, 0, EPOLLIN), 0);
	direct_round(&r->d, true);
	assert_int_equal(e->calls, 0);
	fill(e);
	direct_round(&r->d, false);
	assert_int_equal(e->calls, 1);
	assert_int_equal(e->last, EPOLLIN);
	assert_int_equal(direct_watch(&r->d, &e->f, e->fd, EPOLLIN, EPOLLOUT), 0);
	direct_round(&r->d, false);
	assert_int_equal(e->last, EPOLLOUT);
	assert_int_equal(direct_watch(&r->d, &e->f, e->fd, EPOLLOUT, 0), 0);
	direct_round(&r->d, true);
	assert_int_equal(e->calls, 2);
	assert_int_equal(direct_watch(&r->d, &e->f, -1, 0, EPOLLIN), -EBADF);
}

/* A descriptor that is always ready does not keep a timer from its turn. */
static void test_timer_beside_events(void **state)
{
	struct rig *r = *state;
	struct end *e = &r->end[0];

	assert_int_equal(direct_watch(&r->d, &e->f, e->fd, 0, EPOLLIN), 0);
	fill(e);
	(void)uv_timer_start(&r->timer, on_tick, 20, 0);
	for (unsigned i = 0; !r->ticks && i < 10000000; i++)
		direct_round(&r->d, false);
	assert_int_equal(r->ticks, 1);
	assert_true(e->calls > 1);
}

/* Without events the round lasts until the timer is due. */
static void test_timer_alone(void **state)
{
	struct rig *r = *state;
	unsigned rounds = 0;

	(void)uv_timer_start(&r->timer, on_tick, 30, 0);
	for (; !r->ticks && rounds < 1000; rounds++)
		direct_round(&r->d, false);
	assert_int_equal(r->ticks, 1);
	assert_true(rounds < 10);
}

static void wait_ms(unsigned ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	assert_int_equal(nanosleep(&t, NULL), 0);
}

static uint64_t now_ms(void)
{
	struct timespec t;

	assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &t), 0);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void start_timer(struct direct_fd *f, uint32_t events)
{
	struct end *e = container_of(f, struct end, f);

	(void)events;
	(void)uv_timer_start(&e->r->timer, on_tick, 100, 0);
	assert_int_equal(direct_watch(&e->r->d, f, e->fd, EPOLLIN, 0), 0);
}

/* However long a round has waited for an event, what that starts a timer for is not due earlier. */
static void test_timer_from_inside(void **state)
{
	struct rig *r = *state;
	struct end *e = &r->end[0];
	uint64_t began;
	pid_t pid;

	e->f.ready = start_timer;
	(void)uv_poll_start(&r->poll, UV_READABLE, on_poll); /* something that keeps the loop alive */
	assert_int_equal(direct_watch(&r->d, &e->f, e->fd, 0, EPOLLIN), 0);
	direct_round(&r->d, true);
	pid = fork();
	if (pid == 0) {
		wait_ms(150);
		fill(e);
		_exit(0);
	}
	direct_round(&r->d, false);
	began = now_ms();
	while (!r->ticks)
		direct_round(&r->d, false);
	assert_in_range(now_ms() - began, 98, 10000);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
}

/* An alarm may stand for what is put off, brought forward or called off. */
static void test_timer_moved(void **state)
{
	struct rig *r = *state;
	struct end *e = &r->end[0];
	unsigned rounds = 0;
	uint64_t began = now_ms();

	(void)uv_timer_start(&r->timer, on_tick, 60000, 0);
	direct_round(&r->d, true);
	(void)uv_timer_start(&r->timer, on_tick, 20, 0); /* forward */
	direct_round(&r->d, true);
	(void)uv_timer_start(&r->timer, on_tick, 60, 0); /* put off */
	while (!r->ticks && rounds++ < 100)
		direct_round(&r->d, false);
	assert_int_equal(r->ticks, 1);
	assert_in_range(now_ms() - began, 58, 20000);
	assert_true(rounds < 20);

	/* It rings for nothing once, and is silent: the next round waits for the event. */
	(void)uv_timer_start(&r->timer, on_tick, 10, 0);
	direct_round(&r->d, true);
	(void)uv_timer_stop(&r->timer);
	wait_ms(20);
	(void)uv_poll_start(&r->poll, UV_READABLE, on_poll); /* something that keeps the loop alive */
	direct_round(&r->d, true);
	direct_round(&r->d, true);
	assert_int_equal(direct_watch(&r->d, &e->f, e->fd, 0, EPOLLIN), 0);
	if (fork() == 0) {
		wait_ms(60);
		fill(e);
		_exit(0);
	}
	began = now_ms();
	for (rounds = 0; !e->calls && rounds < 1000000; rounds++)
		direct_round(&r->d, false);
	assert_int_equal(r->ticks, 1);
	assert_true(rounds <= 2);
	assert_in_range(now_ms() - began, 40, 20000);
	assert_true(wait(NULL) > 0);
}

/* What a function lets libuv watch is watched from the next round on, without any other event. */
static void test_poll_from_inside(void **state)
{
	struct rig *r = *state;
	struct end *e = &r->end[0];

	assert_int_equal(direct_watch(&r->d, &e->f, e->fd, 0, EPOLLIN), 0);
	fill(e);
	r->start_poll = true;
	direct_round(&r->d, false);
	assert_int_equal(e->calls, 1);
	assert_int_equal(direct_watch(&r->d, &e->f, e->fd, EPOLLIN, 0), 0);
	direct_round(&r->d, false);
	direct_round(&r->d, true);
	assert_int_equal(r->polled, 1);
}

/* A close callback comes when all events of the round are through. */
static void test_close_after_events(void **state)
{
	struct rig *r = *state;

	for (int i = 0; i < 2; i++) {
		assert_int_equal(direct_watch(&r->d, &r->end[i].f, r->end[i].fd, 0, EPOLLIN), 0);
		fill(&r->end[i]);
	}
	r->close_timer = true;
	direct_round(&r->d, false);
	for (int i = 0; !r->closed && i < 4; i++)
		direct_round(&r->d, true);
	assert_true(r->end[0].calls && r->end[1].calls);
	assert_true(r->closed >= 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_watch, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_timer_beside_events, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_timer_alone, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_timer_from_inside, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_timer_moved, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_poll_from_inside, set_up, tear_down),
		cmocka_unit_test_setup_teardown(test_close_after_events, set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
