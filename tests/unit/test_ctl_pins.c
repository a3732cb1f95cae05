/* SPDX-License-Identifier: MIT */
/*
 * Switching targets while the daemon is down, on real pinned maps: programs are
 * attached to an empty cgroup of this test's own. Skipped where BPF is not allowed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "config/config.h"
#include "config/state.h"
#include "ctl/ctl.h"
#include "kern/kern.h"

enum { ORDERS = 3, BILLING = 4 };

static char bpf_dir[64], state_dir[64], cgroup[256];
static struct kern_paths paths = {.bpf_dir = bpf_dir, .cgroup_root = cgroup};
static struct config conf = {.state_dir = state_dir, .bpf_dir = bpf_dir, .cgroup_root = cgroup};
static struct ctl ctl;
static bool ready;
static int out_fd = -1, out_saved = -1;

/* What the command printed with -j; the caller's. */
static json_t *printed(void)
{
	static char text[65536];
	ssize_t n;

	assert_int_equal(fflush(stdout), 0);
	n = pread(out_fd, text, sizeof(text), 0);
	assert_true(n >= 0);
	assert_int_equal(ftruncate(out_fd, 0), 0);
	assert_int_equal(lseek(out_fd, 0, SEEK_SET), 0);
	return json_loadb(text, (size_t)n, 0, NULL);
}

/* Runs `tidegate -j target ...` with stdout going to a file. */
static int target(json_t **ret, ...)
{
	char *argv[16];
	va_list ap;
	int argc = 0, rc;

	va_start(ap, ret);
	while ((argv[argc] = va_arg(ap, char *)) != NULL)
		argc++;
	va_end(ap);
	ctl.json = true;
	(void)fflush(stdout);
	assert_true(dup2(out_fd, STDOUT_FILENO) >= 0);
	rc = cmd_target(&ctl, argc, argv);
	*ret = printed();
	assert_true(dup2(out_saved, STDOUT_FILENO) >= 0);
	assert_non_null(*ret);
	return rc;
}

static const char *text(const json_t *o, const char *object, const char *key)
{
	return json_string_value(json_object_get(object ? json_object_get(o, object) : o, key));
}

static struct tg_target_state state_of(uint32_t id)
{
	struct tg_target_state state = {0};
	struct buf error;
	struct kern *k;

	buf_init(&error, 1024);
	assert_int_equal(kern_open(&paths, &k, &error), 0);
	assert_int_equal(kern_target_get(k, id, &state), 0);
	kern_close(k);
	buf_done(&error);
	return state;
}

/* ----------------------------------------------------------------- set up */

static bool find_cgroup2(char *dst, size_t cap)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	struct mntent *m;
	bool found = false;

	while (f && !found && (m = getmntent(f))) {
		found = strcmp(m->mnt_type, "cgroup2") == 0;
		if (found)
			(void)snprintf(dst, cap, "%s/tgctl.%d", m->mnt_dir, (int)getpid());
	}
	if (f)
		(void)endmntent(f);
	return found;
}

static int fill(struct kern *k)
{
	static const char *const addresses[] = {"10.0.0.5:5432"};
	const struct state_target t[] = {
		{.id = ORDERS,
		 .name = "orders-db",
		 .protocol = "postgresql",
		 .addresses = addresses,
		 .naddresses = 1,
		 .mode = TARGET_OBSERVE},
		{.id = BILLING, .name = "billing", .protocol = "postgresql", .mode = TARGET_STEER},
	};
	const struct tg_target_state steer = {.mode = TG_MODE_STEER},
				     observe = {.mode = TG_MODE_OBSERVE,
						.flags = TG_TARGET_FAIL_OPEN};
	struct tg_addr_key key;

	if (kern_target_set(k, ORDERS, &observe) || kern_target_set(k, BILLING, &steer) ||
	    state_addr_parse(slice_str(addresses[0]), &key) || kern_addr_set(k, &key, ORDERS))
		return -1;
	return state_targets_save(state_dir, t, ARRAY_SIZE(t));
}

static int group_setup(void **state)
{
	struct buf error;
	struct kern *k;
	int rc;

	(void)snprintf(bpf_dir, sizeof(bpf_dir), "/sys/fs/bpf/tgctl-%d", (int)getpid());
	(void)snprintf(state_dir, sizeof(state_dir), "/tmp/tgctl.XXXXXX");
	if (geteuid() != 0 || !find_cgroup2(cgroup, sizeof(cgroup)) || mkdir(cgroup, 0755))
		return 0;
	buf_init(&error, 4096);
	rc = kern_load(&paths, &k, &error);
	if (rc == 0) {
		rc = mkdtemp(state_dir) ? fill(k) : -1;
		kern_close(k);
		ready = rc == 0;
	} else {
		print_message("no BPF here: %.*s\n", (int)error.n, (char *)buf_data(&error));
		rc = 0;
	}
	buf_done(&error);
	ctl = (struct ctl){
		.socket_path = "/nonexistent/control.sock", .timeout_ms = 1000, .config = &conf};
	out_saved = dup(STDOUT_FILENO);
	out_fd = open("/tmp", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	return rc || out_fd < 0 ? -1 : 0;
}

static int group_teardown(void **state)
{
	char path[128];
	struct buf error;

	buf_init(&error, 4096);
	if (ready && kern_unload(&paths, &error))
		print_message("%.*s\n", (int)error.n, (char *)buf_data(&error));
	buf_done(&error);
	(void)rmdir(cgroup);
	(void)snprintf(path, sizeof(path), "%s/" STATE_TARGETS, state_dir);
	(void)unlink(path);
	(void)snprintf(path, sizeof(path), "%s/" STATE_TOGGLES, state_dir);
	(void)unlink(path);
	(void)rmdir(state_dir);
	return 0;
}

#define NEEDS_BPF()             \
	do {                    \
		if (!ready)     \
			skip(); \
	} while (0)

/* ------------------------------------------------------------------ tests */

static void test_list(void **state)
{
	json_t *list;

	NEEDS_BPF();
	assert_int_equal(target(&list, "list", NULL), CTL_OK);
	assert_int_equal(json_array_size(list), 2);
	assert_string_equal(text(json_array_get(list, 0), NULL, "name"), "orders-db");
	assert_string_equal(text(json_array_get(list, 0), NULL, "mode"), "observe");
	assert_string_equal(text(json_array_get(list, 1), NULL, "mode"), "steer");
	assert_true(json_is_null(json_object_get(json_array_get(list, 0), "off")));
	json_decref(list);
}

static void test_off_and_reset(void **state)
{
	struct tg_target_state s;
	struct state_toggles toggles;
	struct buf error;
	json_t *o;

	NEEDS_BPF();
	assert_int_equal(target(&o, "disable", "orders-db", "--reason", "incident 4711", "--for",
				"30m", NULL),
			 CTL_OK);
	assert_string_equal(text(o, NULL, "mode"), "off");
	assert_string_equal(text(o, "off", "reason"), "incident 4711");
	assert_non_null(text(o, "off", "until"));
	json_decref(o);
	s = state_of(ORDERS);
	assert_int_equal(s.mode, TG_MODE_OFF);
	assert_int_equal(s.mode_after, TG_MODE_OBSERVE);
	assert_int_equal(s.flags, TG_TARGET_FAIL_OPEN);
	assert_true(s.off_until_boot_ns > clock_boot_ns() + 29 * 60000000000ull);
	assert_true(s.off_until_boot_ns <= clock_boot_ns() + 30 * 60000000000ull);
	assert_int_equal(state_of(BILLING).mode, TG_MODE_STEER);

	assert_int_equal(target(&o, "reset", "orders-db", NULL), CTL_OK);
	assert_string_equal(text(o, NULL, "mode"), "observe");
	assert_true(json_is_null(json_object_get(o, "off")));
	json_decref(o);
	s = state_of(ORDERS);
	assert_int_equal(s.mode, TG_MODE_OBSERVE);
	assert_int_equal(s.off_until_boot_ns, 0);

	/* Both are there for the daemon to record, in their order. */
	buf_init(&error, 1024);
	assert_int_equal(state_toggles_load(state_dir, &toggles, &error), 0);
	assert_int_equal(toggles.n, 2);
	assert_int_equal(toggles.t[0].mode, TARGET_OFF);
	assert_false(toggles.t[0].reset);
	assert_string_equal(toggles.t[0].reason, "incident 4711");
	assert_true(toggles.t[1].reset);
	assert_false(toggles.t[0].recorded || toggles.t[1].recorded);
	state_toggles_done(&toggles);
	buf_done(&error);
}

static void test_block_and_steer(void **state)
{
	json_t *o;

	NEEDS_BPF();
	assert_int_equal(target(&o, "block", "billing", "--reason", "leak", NULL), CTL_OK);
	assert_string_equal(text(o, NULL, "mode"), "block");
	assert_string_equal(text(o, "off", "reason"), "leak");
	json_decref(o);
	assert_int_equal(state_of(BILLING).mode, TG_MODE_BLOCK);
	assert_int_equal(target(&o, "enable", "billing", NULL), CTL_OK);
	json_decref(o);
	assert_int_equal(state_of(BILLING).mode, TG_MODE_STEER);
	assert_int_equal(target(&o, "block", "nothing", NULL), CTL_FAILED);
	assert_string_equal(text(o, "error", "code"), "not_found");
	json_decref(o);
}

/* A file that cannot be written must leave the map as it was: nothing unrecorded happens. */
static void test_no_record_no_switch(void **state)
{
	char path[128];
	json_t *o;

	NEEDS_BPF();
	(void)snprintf(path, sizeof(path), "%s/" STATE_TOGGLES, state_dir);
	(void)unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_int_equal(target(&o, "disable", "billing", "--reason", "x", NULL), CTL_FAILED);
	assert_non_null(json_object_get(o, "error"));
	json_decref(o);
	assert_int_equal(state_of(BILLING).mode, TG_MODE_STEER);
	assert_int_equal(rmdir(path), 0);
}

static void test_addresses(void **state)
{
	static const struct {
		const char *verb, *name, *address;
		int exit;
		const char *code;
	} rows[] = {
		{"add", "orders-db", "[2001:db8::5]:5432", CTL_OK, NULL},
		{"add", "orders-db", "[2001:db8::5]:5432", CTL_FAILED, "conflict"},
		{"add", "billing", "[2001:db8::5]:5432", CTL_FAILED, "conflict"},
		{"add", "nothing", "10.0.0.9:5432", CTL_FAILED, "not_found"},
		{"delete", "billing", "[2001:db8::5]:5432", CTL_FAILED, "not_found"},
		{"delete", "orders-db", "[2001:db8::5]:5432", CTL_OK, NULL},
		{"delete", "orders-db", "[2001:db8::5]:5432", CTL_FAILED, "not_found"},
		/* By the configuration: only `disable` leaves it unguarded, on record. */
		{"delete", "orders-db", "10.0.0.5:5432", CTL_FAILED, "conflict"},
	};

	NEEDS_BPF();
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		json_t *o;

		assert_int_equal(target(&o, rows[i].verb, rows[i].name, rows[i].address, NULL),
				 rows[i].exit);
		if (rows[i].code)
			assert_string_equal(text(o, "error", "code"), rows[i].code);
		json_decref(o);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_off_and_reset),
		cmocka_unit_test(test_block_and_steer),
		cmocka_unit_test(test_no_record_no_switch),
		cmocka_unit_test(test_addresses),
	};

	return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
