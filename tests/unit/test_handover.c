/* SPDX-License-Identifier: MIT */
/* The state on its way from one binary to the next, and who may take it. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/reason.h"
#include "base/text.h"
#include "daemon/hand.h"
#include "daemon/ipc.h"
#include "daemon/upgrade.h"

/* Over its text, as it travels. */
static json_t *travel(json_t *o)
{
	char *text = json_dumps(o, JSON_COMPACT);
	json_t *back = json_loads(text, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);

	free(text);
	json_decref(o);
	assert_non_null(back);
	return back;
}

static void test_bytes(void **state)
{
	struct hand h = {0};
	uint8_t all[256], got[256];
	json_t *o = json_object();
	struct buf b;

	for (size_t i = 0; i < sizeof(all); i++)
		all[i] = (uint8_t)i;
	hand_put_slice(&h, o, "all", slice_of(all, sizeof(all)));
	hand_put_str(&h, o, "cut", "caf\xc3");
	hand_put_str(&h, o, "none", NULL);
	hand_put_u64(&h, o, "big", UINT64_MAX);
	o = travel(o);
	hand_bytes(&h, o, "all", got, sizeof(got));
	assert_memory_equal(all, got, sizeof(all));
	buf_init(&b, 512);
	hand_buf(&h, o, "all", &b);
	assert_int_equal(b.n, sizeof(all));
	assert_memory_equal(buf_data(&b), all, sizeof(all));
	buf_done(&b);
	hand_str(&h, o, "cut", (char *)got, 5);
	assert_string_equal((char *)got, "caf\xc3");
	assert_null(hand_dup(&h, o, "none"));
	assert_true(hand_u64(&h, o, "big") == UINT64_MAX);
	assert_string_equal(h.why, "");
	json_decref(o);
	hand_done(&h);
}

/* What is missing, of another type or too long is remembered; the first is told. */
static void test_failures(void **state)
{
	json_t *o = json_pack("{s:s, s:i, s:s}", "text", "12345", "number", 7, "nul", "a");
	struct hand h;
	char dst[8];

	(void)json_object_set_new(o, "nul", json_stringn("a\0b", 3));
#define FAILS(call)                                                                                \
	do {                                                                                       \
		h = (struct hand){0};                                                              \
		(void)call;                                                                        \
		assert_true(h.why[0] != '\0');                                                     \
	} while (0)
	FAILS(hand_u64(&h, o, "text"));
	FAILS(hand_u64(&h, o, "missing"));
	FAILS(hand_bool(&h, o, "number"));
	FAILS((hand_str(&h, o, "number", dst, sizeof(dst)), 0));
	FAILS((hand_str(&h, o, "text", dst, 5), 0));
	FAILS((hand_str(&h, o, "nul", dst, sizeof(dst)), 0));
	FAILS((hand_bytes(&h, o, "text", dst, 4), 0));
	FAILS(hand_list(&h, o, "number"));
	FAILS(hand_fd(&h, o, "text"));
	(void)json_object_set_new(o, "fd", json_integer(1 << 30));
	FAILS(hand_fd(&h, o, "fd"));
	h = (struct hand){0};
	hand_fail(&h, "first");
	hand_fail(&h, "second");
	assert_string_equal(h.why, "first");
	json_decref(o);
}

static void test_descriptors(void **state)
{
	struct hand h = {0};
	json_t *o = json_object();
	int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

	hand_put_fd(&h, o, "fd", fd);
	hand_put_fd(&h, o, "none", -1);
	assert_int_equal(h.nfds, 1);
	hand_keep_fds(&h, true);
	assert_int_equal(fcntl(fd, F_GETFD), 0);
	hand_keep_fds(&h, false);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	hand_keep_fds(&h, true);
	o = travel(o);
	assert_int_equal(hand_fd(&h, o, "fd"), fd);
	assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
	assert_int_equal(hand_fd(&h, o, "none"), -1);
	assert_string_equal(h.why, "");
	close(fd);
	json_decref(o);
	hand_done(&h);
}

static uint64_t reasons(uint32_t n)
{
	uint64_t hash = 0;

	for (uint32_t i = 0; i < n; i++)
		hash = text_hash(hash, reason_label((uint16_t)i));
	return hash;
}

/* Of a release that had fewer messages and reasons: yes. Of one that had other ones: no. */
static void test_versions(void **state)
{
	static const struct {
		int version, types, types_off, reasons, reasons_off;
		bool ok;
	} rows[] = {
		{HANDOVER_VERSION, 0, 0, 0, 0, true},
		{HANDOVER_VERSION, -3, 0, 0, 0, true},
		{HANDOVER_VERSION, 0, 0, -5, 0, true},
		{HANDOVER_VERSION, 0, 1, 0, 0, false},
		{HANDOVER_VERSION, -3, 1, 0, 0, false},
		{HANDOVER_VERSION, 0, 0, 0, 1, false},
		{HANDOVER_VERSION, 1, 0, 0, 0, false},
		{HANDOVER_VERSION, 0, 0, 1, 0, false},
		{HANDOVER_VERSION + 1, 0, 0, 0, 0, false},
		{HANDOVER_VERSION - 1, 0, 0, 0, 0, false},
	};
	char spec[256], why[256];

	handover_spec(spec, sizeof(spec));
	assert_true(handover_accepts(spec, why, sizeof(why)));
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint32_t types = (uint32_t)(IPC_TYPE_COUNT + rows[i].types);
		uint32_t nreasons = (uint32_t)(TG_R_COUNT + rows[i].reasons);
		uint32_t known = nreasons < TG_R_COUNT ? nreasons : TG_R_COUNT;

		(void)snprintf(spec, sizeof(spec), "%d %u:%llx %u:%llx 8:8 0.0.9", rows[i].version, types,
			       (unsigned long long)ipc_types_hash(types) + (unsigned)rows[i].types_off,
			       nreasons,
			       (unsigned long long)reasons(known) + (unsigned)rows[i].reasons_off);
		why[0] = '\0';
		if (handover_accepts(spec, why, sizeof(why)) != rows[i].ok)
			fail_msg("row %zu: %s: %s", i, spec, why);
		assert_int_equal(why[0] == '\0', rows[i].ok);
	}
	(void)snprintf(spec, sizeof(spec), "%d %u:%llx %u:%llx 9999:8 x", HANDOVER_VERSION,
		       (unsigned)IPC_TYPE_COUNT, (unsigned long long)ipc_types_hash(IPC_TYPE_COUNT),
		       (unsigned)TG_R_COUNT, (unsigned long long)reasons(TG_R_COUNT));
	assert_false(handover_accepts(spec, why, sizeof(why)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_failures),
		cmocka_unit_test(test_descriptors),
		cmocka_unit_test(test_versions),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
