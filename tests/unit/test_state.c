/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "config/state.h"

static char dir[64];

static int setup(void **state)
{
	(void)snprintf(dir, sizeof(dir), "/tmp/test_state.XXXXXX");
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	char path[128];

	(void)snprintf(path, sizeof(path), "%s/" STATE_TARGETS, dir);
	(void)unlink(path);
	(void)snprintf(path, sizeof(path), "%s/" STATE_TOGGLES, dir);
	(void)unlink(path);
	(void)snprintf(path, sizeof(path), "%s/" STATE_AGENTS, dir);
	(void)unlink(path);
	return rmdir(dir);
}

static void write_file(const char *name, const char *text)
{
	char path[128];
	FILE *f;

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, strlen(text), f), strlen(text));
	assert_int_equal(fclose(f), 0);
}

static const struct {
	const char *text, *back; /* back NULL: the same; "": refused */
	uint32_t prefixlen;
	uint8_t last;		 /* byte of the address */
} addresses[] = {
	{.text = "10.0.0.5:5432", .prefixlen = 160, .last = 5},
	{.text = "10.0.0.5:*", .prefixlen = 160, .last = 5},
	{.text = "10.0.0.255/28:1", .back = "10.0.0.240/28:1", .prefixlen = 156, .last = 240},
	{.text = "0.0.0.0/0:5432", .prefixlen = 128},
	{.text = "[2001:db8::5]:5432", .prefixlen = 160, .last = 5},
	{.text = "[2001:db8::5]/32:65535", .back = "[2001:db8::]/32:65535", .prefixlen = 64},
	{.text = "[::]/0:80", .prefixlen = 32},
	{.text = "[::1]:5432", .prefixlen = 160, .last = 1},
	/* The same socket address, written in two ways, is one key. */
	{.text = "[::ffff:10.0.0.5]:5432", .back = "10.0.0.5:5432", .prefixlen = 160, .last = 5},
	{.text = "", .back = ""},
	{.text = ":", .back = ""},
	{.text = "10.0.0.5", .back = ""},
	{.text = "10.0.0.5:", .back = ""},
	{.text = "10.0.0.5:0", .back = ""},
	{.text = "10.0.0.5:65536", .back = ""},
	{.text = "10.0.0.5:5432 ", .back = ""},
	{.text = "10.0.0:5432", .back = ""},
	{.text = "10.0.0.5/33:5432", .back = ""},
	{.text = "10.0.0.5/:5432", .back = ""},
	{.text = "db.internal:5432", .back = ""},
	{.text = "2001:db8::5:5432", .back = ""},
	{.text = "[2001:db8::5]5432", .back = ""},
	{.text = "[2001:db8::5", .back = ""},
	{.text = "[2001:db8::5]x:5432", .back = ""},
	{.text = "[2001:db8::5]/129:5432", .back = ""},
	{.text = "[10.0.0.5]:5432", .back = ""},
	{.text = "1111111111111111111111111111111111111111111111111111111111111111111:1", .back = ""},
};

static void test_addresses(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
		const char *back = addresses[i].back ? addresses[i].back : addresses[i].text;
		struct tg_addr_key key = {.prefixlen = 7};
		char text[STATE_ADDR_TEXT];
		int rc = state_addr_parse(slice_str(addresses[i].text), &key);

		if (*back == '\0') {
			assert_int_equal(rc, -EINVAL);
			assert_int_equal(key.prefixlen, 7);
			continue;
		}
		assert_int_equal(rc, 0);
		assert_int_equal(key.prefixlen, addresses[i].prefixlen);
		assert_int_equal(key.addr[15], addresses[i].last);
		state_addr_format(&key, text);
		assert_string_equal(text, back);
	}
}

static void test_targets(void **state)
{
	const char *const two[] = {"10.0.0.5:5432", "[::1]:5432"};
	const struct state_target t[] = {
		{.id = 7, .name = "orders-db", .protocol = "postgresql", .addresses = two,
		 .naddresses = 2, .mode = TARGET_OBSERVE, .fail_open = true},
		{.id = UINT32_MAX, .name = "a \"b\"\n", .protocol = "postgresql",
		 .mode = TARGET_OFF},
	};
	struct state_targets s;
	struct buf error;

	buf_init(&error, 1024);
	assert_int_equal(state_targets_load(dir, &s, &error), -ENOENT);
	assert_int_equal(s.n, 0);
	assert_null(state_target_find(&s, "orders-db"));
	state_targets_done(&s);
	assert_int_equal(state_targets_save(dir, t, 2), 0);
	assert_int_equal(state_targets_load(dir, &s, &error), 0);
	assert_int_equal(s.n, 2);
	assert_ptr_equal(state_target_find(&s, "orders-db"), &s.t[0]);
	assert_int_equal(s.t[0].id, 7);
	assert_int_equal(s.t[0].naddresses, 2);
	assert_string_equal(s.t[0].addresses[1], "[::1]:5432");
	assert_int_equal(s.t[0].mode, TARGET_OBSERVE);
	assert_true(s.t[0].fail_open);
	assert_string_equal(s.t[1].name, "a \"b\"\n");
	assert_int_equal(s.t[1].id, UINT32_MAX);
	assert_false(s.t[1].fail_open);
	state_targets_done(&s);
	buf_done(&error);
}

static void test_agents(void **state)
{
	const struct state_agent a[] = {{.id = 3, .name = "coder"}, {.id = 1, .name = "a \"b\"\n"}};
	static const char *const bad[] = {
		"", "{\"version\": 1}", "{\"version\": 1, \"agents\": [{\"id\": 0, \"name\": \"a\"}]}",
		"{\"version\": 1, \"agents\": [{\"id\": 4294967296, \"name\": \"a\"}]}",
		"{\"version\": 1, \"agents\": [{\"id\": 1, \"name\": \"a\"}, {\"id\": 2}]}",
	};
	struct state_agents s;
	struct buf error;

	buf_init(&error, 4096);
	assert_int_equal(state_agents_load(dir, &s, &error), -ENOENT);
	assert_int_equal(s.n, 0);
	state_agents_done(&s);
	assert_int_equal(state_agents_save(dir, a, 2), 0);
	assert_int_equal(state_agents_load(dir, &s, &error), 0);
	assert_int_equal(s.n, 2);
	for (size_t i = 0; i < 2; i++) {
		assert_int_equal(s.a[i].id, a[i].id);
		assert_string_equal(s.a[i].name, a[i].name);
	}
	state_agents_done(&s);
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		write_file(STATE_AGENTS, bad[i]);
		buf_reset(&error);
		assert_int_equal(state_agents_load(dir, &s, &error), -EBADMSG);
		assert_int_equal(s.n, 0);
		assert_true(error.n > 0);
	}
	buf_done(&error);
}

static const char *const bad_targets[] = {
	"",
	"{",
	"[]",
	"{\"version\": 2, \"targets\": []}",
	"{\"version\": 1}",
	"{\"version\": 1, \"targets\": [1]}",
	"{\"version\": 1, \"targets\": [{\"id\": -1, \"name\": \"a\", \"protocol\": \"p\", "
	"\"addresses\": [], \"mode\": \"steer\", \"fail_open\": false}]}",
	"{\"version\": 1, \"targets\": [{\"id\": 1, \"name\": \"a\", \"protocol\": \"p\", "
	"\"addresses\": [1], \"mode\": \"steer\", \"fail_open\": false}]}",
	"{\"version\": 1, \"targets\": [{\"id\": 1, \"name\": \"a\", \"protocol\": \"p\", "
	"\"addresses\": [], \"mode\": \"stear\", \"fail_open\": false}]}",
};

static void test_bad_files(void **state)
{
	struct state_targets s;
	struct state_toggles o;
	struct buf error;

	buf_init(&error, 4096);
	for (size_t i = 0; i < ARRAY_SIZE(bad_targets); i++) {
		write_file(STATE_TARGETS, bad_targets[i]);
		buf_reset(&error);
		assert_int_equal(state_targets_load(dir, &s, &error), -EBADMSG);
		assert_int_equal(s.n, 0);
		assert_true(error.n > 0);
	}
	write_file(STATE_TOGGLES, "{\"version\": 1, \"toggles\": [{\"name\": \"a\", \"mode\": \"off\", "
				  "\"reason\": \"r\", \"by_uid\": 0, \"since\": \"yesterday\", "
				  "\"until\": null, \"recorded\": false}]}");
	assert_int_equal(state_toggles_load(dir, &o, &error), -EBADMSG);
	/* What cannot be read is not overwritten. */
	assert_int_equal(state_toggle_append(dir, &(struct state_toggle){.name = "a", .reason = ""},
					     &error),
			 -EBADMSG);
	buf_done(&error);
}

#define T(s) ((uint64_t)(1700000000u + (s)) * 1000000000u)

static void append(const char *name, enum target_mode mode, bool reset, uint64_t since,
		   uint64_t until)
{
	struct state_toggle t = {.name = name, .mode = mode, .reset = reset, .reason = "why",
				 .by_uid = 1000, .since_wall_ns = since, .until_wall_ns = until};
	struct buf error;

	buf_init(&error, 1024);
	assert_int_equal(state_toggle_append(dir, &t, &error), 0);
	assert_int_equal(error.n, 0);
	buf_done(&error);
}

static void test_toggles(void **state)
{
	struct state_toggles s;
	struct buf error;

	buf_init(&error, 1024);
	append("a", TARGET_OFF, false, T(0), T(60));
	append("b", TARGET_BLOCK, false, T(1), 0);
	append("a", TARGET_STEER, true, T(2), 0);
	assert_int_equal(state_toggles_load(dir, &s, &error), 0);
	/* The off of `a` is over, but nobody has recorded it yet. */
	assert_int_equal(s.n, 3);
	assert_int_equal(s.t[0].until_wall_ns, T(60));
	assert_int_equal(s.t[0].by_uid, 1000);
	assert_true(state_toggle_last(&s, "a")->reset);
	assert_false(state_toggle_active(state_toggle_last(&s, "a"), T(3)));
	assert_true(state_toggle_active(state_toggle_last(&s, "b"), T(3)));
	assert_null(state_toggle_last(&s, "c"));
	assert_false(state_toggle_active(NULL, T(3)));
	state_toggles_compact(&s, T(3));
	assert_int_equal(s.n, 1);
	assert_string_equal(s.t[0].name, "b");
	assert_true(s.t[0].recorded);
	assert_int_equal(state_toggles_save(dir, s.t, s.n), 0);
	state_toggles_done(&s);

	/* Recorded and replaced: the old entry of `b` goes, its successor is last. */
	append("b", TARGET_OBSERVE, false, T(4), T(10));
	assert_int_equal(state_toggles_load(dir, &s, &error), 0);
	assert_int_equal(s.n, 1);
	assert_int_equal(s.t[0].mode, TARGET_OBSERVE);
	assert_true(state_toggle_active(&s.t[0], T(9)));
	assert_false(state_toggle_active(&s.t[0], T(10)));
	state_toggles_compact(&s, T(11));
	assert_int_equal(s.n, 0);
	state_toggles_done(&s);
	buf_done(&error);
}

static void test_lock(void **state)
{
	int one = state_lock(dir), two;

	assert_true(one >= 0);
	two = state_lock(dir);
	assert_int_equal(two, -EAGAIN);
	state_unlock(one);
	two = state_lock(dir);
	assert_true(two >= 0);
	state_unlock(two);
	assert_int_equal(state_lock("/nonexistent"), -ENOENT);
}

/* A child that was forked while the lock was held has its descriptor, but not the lock. */
static void test_lock_and_fork(void **state)
{
	int lock = state_lock(dir), again;
	pid_t child;

	assert_true(lock >= 0);
	child = fork();
	if (child == 0) {
		(void)pause();
		_exit(0);
	}
	assert_true(child > 0);
	state_unlock(lock);
	again = state_lock(dir);
	(void)kill(child, SIGKILL);
	assert_int_equal(waitpid(child, NULL, 0), child);
	assert_true(again >= 0);
	state_unlock(again);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_addresses),
		cmocka_unit_test_setup_teardown(test_targets, setup, teardown),
		cmocka_unit_test_setup_teardown(test_agents, setup, teardown),
		cmocka_unit_test_setup_teardown(test_bad_files, setup, teardown),
		cmocka_unit_test_setup_teardown(test_toggles, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lock, setup, teardown),
		cmocka_unit_test_setup_teardown(test_lock_and_fork, setup, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
