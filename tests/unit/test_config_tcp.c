/* SPDX-License-Identifier: MIT */
/* What may not be asked of a target that is not looked into, and the limits that all have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config_rig.h"

#define O(x) "targets: {t: {address: \"h:1\", protocol: tcp" x "}}\n"

static void test_refused(void **state)
{
	static const struct config_bad rows[] = {
		{A O(", catalog: {user: u, password_file: /p}") P,
		 "2:46: `catalog` has no meaning with `protocol: tcp`: nothing is masked there: take it out"},
		{"credentials: {c: {user: u, password_file: /p}}\n" A O(", credential: c") P,
		 "3:46: `credential` has no meaning with `protocol: tcp`: Tidegate logs in nowhere there, "
		 "agents do so themselves: take it out"},
		{A O(", limits: {statement_bytes: 2MiB}") P,
		 "2:55: `statement_bytes` has no meaning with `protocol: tcp`: limits there are `bytes`, "
		 "`time`, `idle` and `sessions`"},
		{A O(", limits: {value_bytes: 2MiB}") P,
		 "2:55: `value_bytes` has no meaning with `protocol: tcp`: limits there are `bytes`, "
		 "`time`, `idle` and `sessions`"},
		{A O(", limits: {message_bytes: 2MiB}") P,
		 "2:55: `message_bytes` has no meaning with `protocol: tcp`: limits there are `bytes`, "
		 "`time`, `idle` and `sessions`"},
		{A O(", socket: /s") P,
		 "2:46: `socket` cannot be used with `protocol: tcp`: a server cannot be told there that a "
		 "session was cut off; have it listen on an address of this host"},
		{A O("") CM("effect: any, do: allow"),
		 "3:60: `commands` cannot be applied to target `t`, whose protocol is tcp: no command is seen "
		 "there; name it in an entry of its own that has `access` alone"},
		{A O("") PP("commands: []"),
		 "3:60: `commands` cannot be applied to target `t`, whose protocol is tcp: no command is seen "
		 "there; name it in an entry of its own that has `access` alone"},
		{A O("") MA("detect: card, as: redact"),
		 "3:60: `mask` cannot be applied to target `t`, whose protocol is tcp: no value is seen there; "
		 "name it in an entry of its own that has `access` alone"},
		{A O("") MA("column: a.b, as: redact"),
		 "3:60: `mask` cannot be applied to target `t`, whose protocol is tcp: no value is seen there; "
		 "name it in an entry of its own that has `access` alone"},
		{A O(", limits: {time: 0s}") P, "2:61: `time` is from 1s to 30d, not `0s`"},
		{A O(", limits: {bytes: 0}") P,
		 "2:62: `bytes` is from 1 to 1125899906842624 bytes, not `0`"},
		{A "targets: {t: {address: \"h:1\", protocol: tpc}}\n" P,
		 "2:41: no protocol is called `tpc`; did you mean `tcp`?"},
	};

	config_bad(rows, ARRAY_SIZE(rows));
}

/* A pattern that names such a target among others. */
static void test_among_others(void **state)
{
	static const struct config_bad rows[] = {
		{A "targets: {db: {address: \"h:1\", protocol: postgresql}, ssh: {address: \"h:2\", protocol: tcp}}\n"
		   "policy: [{agents: a, targets: \"*\", access: {approval: none}, commands: [{effect: any, "
		   "do: allow}]}]\n",
		 "3:62: `commands` cannot be applied to target `ssh`, whose protocol is tcp: no command is seen "
		 "there; name it in an entry of its own that has `access` alone"},
	};

	config_bad(rows, ARRAY_SIZE(rows));
}

static void test_good(void **state)
{
	struct config *c;

	(void)state;
	c = config_good(A O(", accelerate: on, netns: agent, limits: {bytes: 1GiB, time: 8h, idle: 10m, sessions: 5}") P);
	assert_int_equal(c->targets[0].session_bytes, 1 << 30);
	assert_int_equal(c->targets[0].session_ms, 8 * 3600 * 1000);
	assert_int_equal(c->targets[0].idle_ms, 600 * 1000);
	config_free(c);
	/* Of any protocol; without them there is no limit. */
	c = config_good(A TT("limits: {time: 1h}") P);
	assert_int_equal(c->targets[0].session_ms, 3600 * 1000);
	assert_int_equal(c->targets[0].session_bytes, 0);
	assert_int_equal(c->targets[0].idle_ms, 0);
	config_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused),
		cmocka_unit_test(test_among_others),
		cmocka_unit_test(test_good),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
