/* SPDX-License-Identifier: MIT */
/* Whether a server is on this host: only there a token goes without encryption by itself. */
#include "daemon/address.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

static void test_all_local(void **state)
{
	static const struct {
		const char *list;
		bool local;
	} rows[] = {
		{"127.0.0.1:5432", true},
		{"127.8.0.1:1", true},
		{"[::1]:5432", true},
		{"[::ffff:127.0.0.1]:5432", true},
		{"unix:/run/postgresql/.s.PGSQL.5432", true},
		{"unix:/run/with space/10.0.0.1:5432", true},
		{"[::1]:5432 127.0.0.1:5432", true},
		{"", false},
		{" ", false},
		{"10.0.0.1:5432", false},
		{"128.0.0.1:5432", false},
		{"[::2]:5432", false},
		{"[::ffff:10.0.0.1]:5432", false},
		{"127.0.0.1:5432 10.0.0.1:5432", false},
		{"10.0.0.1:5432 127.0.0.1:5432", false},
		{"127.0.0.1:5432  127.0.0.1:5432", false},
		{"127.0.0.1", false},
		{"localhost:5432", false},
		{"127.0.0.1:5432 unix:/x", false},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		if (address_all_local(rows[i].list) != rows[i].local)
			fail_msg("%s", rows[i].list);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_all_local),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
