/* SPDX-License-Identifier: MIT */
/* What a process says at its end is heard, whenever its end is noticed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "daemon/ipc.h"

enum { WORDS = 300 }; /* more than one round of the loop reads */

struct heard {
	uint32_t messages, closed;
	bool bad;
};

static void on_message(void *ctx, struct ipc *ipc, struct ipc_msg *m)
{
	struct heard *h = ctx;

	assert_int_equal(m->type, IPC_PENDING);
	assert_int_equal(ipc_get_u32(m), h->messages);
	assert_true(ipc_end(m));
	assert_int_equal(h->closed, 0);
	h->messages++;
}

static void on_closed(void *ctx, struct ipc *ipc, bool bad)
{
	struct heard *h = ctx;

	h->closed++;
	h->bad = bad;
}

static const struct ipc_ops ops = {.message = on_message, .closed = on_closed};

/* In the child: speaks without a loop, as a worker does that is about to end. */
static void speak(int fd)
{
	struct ipc *ipc;
	uv_loop_t loop;

	if (uv_loop_init(&loop) || ipc_new(&loop, fd, &ops, NULL, &ipc))
		_exit(1);
	for (uint32_t i = 0; i < WORDS; i++) {
		ipc_begin(ipc, IPC_PENDING, 0);
		ipc_put_u32(ipc, i);
		ipc_send(ipc);
	}
	_exit(ipc_flushed(ipc, 1000) ? 0 : 2);
}

/* A process that has spoken and ended; @unread: with something of ours that it did not read. */
static void last_words(struct heard *h, uv_loop_t *loop, bool unread, struct ipc **ret)
{
	int fds[2], status;
	pid_t pid;

	assert_int_equal(ipc_pair(fds), 0);
	assert_true(!unread || send(fds[0], "x", 1, 0) == 1);
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		(void)close(fds[0]);
		speak(fds[1]);
	}
	(void)close(fds[1]);
	assert_int_equal(uv_loop_init(loop), 0);
	assert_int_equal(ipc_new(loop, fds[0], &ops, h, ret), 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	assert_int_equal(h->messages, 0);
}

static void all_heard(const struct heard *h, uv_loop_t *loop)
{
	assert_int_equal(uv_run(loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(h->messages, WORDS);
	assert_int_equal(h->closed, 1);
	assert_false(h->bad);
	assert_int_equal(uv_loop_close(loop), 0);
}

static void test_last_words(void **state)
{
	for (int unread = 0; unread < 2; unread++) {
		struct heard h = {0};
		struct ipc *ipc;
		uv_loop_t loop;

		last_words(&h, &loop, unread, &ipc);
		ipc_finish(ipc);
		assert_int_equal(h.messages, WORDS);
		all_heard(&h, &loop);
	}
}

/* The same when the loop finds out first. */
static void test_last_words_in_the_loop(void **state)
{
	for (int unread = 0; unread < 2; unread++) {
		struct heard h = {0};
		struct ipc *ipc;
		uv_loop_t loop;

		last_words(&h, &loop, unread, &ipc);
		all_heard(&h, &loop);
	}
}

/* Nothing to hear, and nobody gone: there is no end to wait for. */
static void test_nothing_said(void **state)
{
	struct heard h = {0};
	struct ipc *ipc;
	uv_loop_t loop;
	int fds[2];

	assert_int_equal(ipc_pair(fds), 0);
	assert_int_equal(uv_loop_init(&loop), 0);
	assert_int_equal(ipc_new(&loop, fds[0], &ops, &h, &ipc), 0);
	ipc_finish(ipc);
	assert_int_equal(h.messages + h.closed, 0);
	ipc_free(ipc);
	(void)close(fds[1]);
	assert_int_equal(uv_run(&loop, UV_RUN_DEFAULT), 0);
	assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_last_words),
		cmocka_unit_test(test_last_words_in_the_loop),
		cmocka_unit_test(test_nothing_said),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
