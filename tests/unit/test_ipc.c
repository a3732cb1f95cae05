/* SPDX-License-Identifier: MIT */
/* Waiting for one answer in the middle of something: what else comes in is neither lost nor reordered. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/ipc.h"

struct side {
	uv_loop_t loop;
	struct ipc *ipc;
	uint64_t got[16]; /* ids of what message() was given */
	unsigned n, fds;
	bool closed, bad, stop_on_close;
};

static void on_message(void *ctx, struct ipc *ipc, struct ipc_msg *m)
{
	struct side *s = ctx;
	int fd;

	assert_true(s->n < 16);
	s->got[s->n++] = m->id;
	(void)ipc_get_u32(m);
	if (!ipc_end(m))
		m->bad = true;
	while ((fd = ipc_get_fd(m)) >= 0) {
		s->fds++;
		(void)close(fd);
	}
}

static void on_closed(void *ctx, struct ipc *ipc, bool bad)
{
	struct side *s = ctx;

	s->closed = true;
	s->bad = bad;
	s->ipc = NULL;
}

static const struct ipc_ops ops = {.message = on_message, .closed = on_closed};

static void open_side(struct side *s, int *ret_other)
{
	int fds[2];

	memset(s, 0, sizeof(*s));
	assert_int_equal(ipc_pair(fds), 0);
	assert_int_equal(uv_loop_init(&s->loop), 0);
	assert_int_equal(ipc_new(&s->loop, fds[0], &ops, s, &s->ipc), 0);
	*ret_other = fds[1];
}

static void close_side(struct side *s)
{
	ipc_free(s->ipc);
	(void)uv_run(&s->loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&s->loop), 0);
}

/* Says what is in @ids, answers the question (0), and says the rest. */
struct peer {
	int fd;
	const int *ids; /* -1: the end; -2: with a descriptor; -3: something that is no message */
	useconds_t after_us;
	pthread_t thread;
};

static void say(struct ipc *ipc, enum ipc_type type, uint64_t id, bool with_fd)
{
	int fd = with_fd ? open("/dev/null", O_RDONLY | O_CLOEXEC) : -1;

	ipc_begin(ipc, type, id);
	ipc_put_u32(ipc, 7);
	if (with_fd)
		ipc_put_fd(ipc, fd);
	ipc_send(ipc);
	if (with_fd)
		(void)close(fd);
}

static void *play(void *ctx)
{
	struct peer *p = ctx;
	struct side s = {.n = 0};
	uint8_t question[200];

	assert_int_equal(uv_loop_init(&s.loop), 0);
	assert_true(recv(p->fd, question, sizeof(question), 0) > 0);
	(void)usleep(p->after_us);
	assert_int_equal(ipc_new(&s.loop, p->fd, &ops, &s, &s.ipc), 0);
	for (const int *id = p->ids; *id != -1; id++) {
		if (*id == -3)
			assert_int_equal(send(p->fd, "x", 1, 0), 1);
		else
			say(s.ipc, *id == 0 ? IPC_KEY_TLS : IPC_READY, *id == 0 ? 42 : (uint64_t)*id,
			    *id == -2);
	}
	ipc_free(s.ipc);
	(void)uv_run(&s.loop, UV_RUN_DEFAULT);
	assert_int_equal(uv_loop_close(&s.loop), 0);
	return NULL;
}

static void on_answer(void *ctx, struct ipc_msg *m)
{
	*(uint32_t *)ctx = ipc_get_u32(m);
	assert_true(ipc_end(m));
}

static int call(struct side *s, int ms, uint32_t *ret)
{
	*ret = 0;
	ipc_begin(s->ipc, IPC_KEY_TLS, 42);
	ipc_put_u32(s->ipc, 1);
	return ipc_call(s->ipc, ms, on_answer, ret);
}

static void test_order(void **state)
{
	static const int ids[] = {1, 2, -2, 0, 3, 4, -1};
	static const uint64_t order[] = {1, 2, (uint64_t)-2, 3, 4};
	struct peer p = {.ids = ids};
	struct side s;
	uint32_t answer;

	open_side(&s, &p.fd);
	assert_int_equal(pthread_create(&p.thread, NULL, play, &p), 0);
	assert_int_equal(call(&s, 5000, &answer), 0);
	assert_int_equal(answer, 7);
	assert_int_equal(s.n, 0); /* nothing was called in the middle */
	(void)pthread_join(p.thread, NULL);
	while (!s.closed)
		(void)uv_run(&s.loop, UV_RUN_ONCE);
	assert_int_equal(s.n, 5);
	assert_memory_equal(s.got, order, sizeof(order));
	assert_int_equal(s.fds, 1);
	assert_false(s.bad);
	close_side(&s);
}

/* What was held is not lost when there is an end behind it, and a lie stays a lie. */
static void test_bad(void **state)
{
	static const int ids[] = {1, -3, 2, 0, -1};
	struct peer p = {.ids = ids};
	struct side s;
	uint32_t answer;

	open_side(&s, &p.fd);
	assert_int_equal(pthread_create(&p.thread, NULL, play, &p), 0);
	assert_int_equal(call(&s, 5000, &answer), 0);
	(void)pthread_join(p.thread, NULL);
	while (!s.closed)
		(void)uv_run(&s.loop, UV_RUN_ONCE);
	assert_true(s.bad);
	assert_int_equal(s.n, 1);
	close_side(&s);
}

static void test_no_answer(void **state)
{
	static const int early[] = {1, -1}, late[] = {0, -1};
	struct peer p = {.ids = early};
	struct side s;
	uint32_t answer;
	uint64_t began;

	open_side(&s, &p.fd);
	assert_int_equal(pthread_create(&p.thread, NULL, play, &p), 0);
	assert_int_equal(call(&s, 5000, &answer), -EPIPE);
	(void)pthread_join(p.thread, NULL);
	while (!s.closed)
		(void)uv_run(&s.loop, UV_RUN_ONCE);
	assert_int_equal(s.n, 1);
	close_side(&s);

	p = (struct peer){.ids = late, .after_us = 300000};
	open_side(&s, &p.fd);
	assert_int_equal(pthread_create(&p.thread, NULL, play, &p), 0);
	began = clock_boot_ns();
	assert_int_equal(call(&s, 50, &answer), -ETIMEDOUT);
	assert_true(clock_boot_ns() - began < 250 * 1000000ull);
	(void)pthread_join(p.thread, NULL);
	while (!s.closed)
		(void)uv_run(&s.loop, UV_RUN_ONCE);
	assert_int_equal(s.got[0], 42); /* an answer that nobody waits for is an ordinary message */
	close_side(&s);
}

/* Held while the ipc is closed: freed with its descriptor (the sanitizer looks). */
static void test_closed_while_held(void **state)
{
	static const int ids[] = {1, -2, 0, -1};
	struct peer p = {.ids = ids};
	struct side s;
	uint32_t answer;

	open_side(&s, &p.fd);
	assert_int_equal(pthread_create(&p.thread, NULL, play, &p), 0);
	assert_int_equal(call(&s, 5000, &answer), 0);
	(void)pthread_join(p.thread, NULL);
	close_side(&s);
	assert_int_equal(s.n, 0);
}

/* Who asks and does not read the answers fills his own queue, not the memory. */
static void test_stuffed(void **state)
{
	static uint8_t mem[50000];
	size_t sent = 0;
	struct side s;
	int other;

	open_side(&s, &other);
	while (!s.closed && sent < 256u << 20) {
		ipc_begin(s.ipc, IPC_EVENT, 1);
		ipc_put_bytes(s.ipc, slice_of(mem, sizeof(mem)));
		ipc_send(s.ipc);
		sent += sizeof(mem);
		(void)uv_run(&s.loop, UV_RUN_NOWAIT);
	}
	assert_true(s.closed && s.bad);
	assert_in_range(sent, 64u << 20, 80u << 20);
	(void)close(other);
	close_side(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order),
		cmocka_unit_test(test_bad),
		cmocka_unit_test(test_no_answer),
		cmocka_unit_test(test_closed_while_held),
		cmocka_unit_test(test_stuffed),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
