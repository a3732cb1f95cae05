/* SPDX-License-Identifier: MIT */
/* Keys about network namespaces, and what `netns: agent` must not stand beside. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "config/config.h"

#define FILE_WITH(target, more)                                              \
	"agents: {a: {cgroup: /a}}\n"                                        \
	"targets: {t: {address: \"10.0.0.1:5432\", protocol: postgresql" target \
	"}}\n"                                                               \
	"policy: [{agents: a, targets: t, access: {approval: none}}]\n" more

static void test_keys(void **state)
{
	static const struct {
		const char *text, *says; /* NULL: is good */
		bool agent, raise;
		uint32_t max;
	} rows[] = {
		{FILE_WITH("", ""), .max = 256},
		{FILE_WITH(", netns: daemon", "namespaces: {}\n"), .max = 256},
		{FILE_WITH(", netns: agent", "namespaces: {max: 4000, lo: up}\n"), .agent = true, .raise = true, .max = 4000},
		{FILE_WITH("", "namespaces: {max: 1, lo: leave}\n"), .max = 1},
		{FILE_WITH(", netns: agent, catalog: {user: u, password_file: /p}", ""),
		 .says = "`netns: agent` and `catalog` exclude each other: Tidegate's own look-ups are made "
		 "from the daemon's namespace"},
		{FILE_WITH(", netns: agent, socket: /s", ""),
		 .says = "`netns: agent` and `socket` exclude each other: an AF_UNIX socket is in no network "
		 "namespace"},
		{FILE_WITH(", netns: agent, listen: \"127.0.0.1:6432\"", ""),
		 .says = "`netns: agent` and `listen` exclude each other: whose namespace it is, is known of "
		 "steered connections only"},
		{FILE_WITH(", netns: daemon, socket: /s", ""), .max = 256},
		{FILE_WITH(", netns: host", ""), .says = "`netns` takes `daemon` or `agent`, not `host`"},
		{FILE_WITH("", "namespaces: {max: 0}\n"), .says = "`max` takes a number from 1 to 4000"},
		{FILE_WITH("", "namespaces: {max: 4001}\n"), .says = "`max` takes a number from 1 to 4000"},
		{FILE_WITH("", "namespaces: {lo: down}\n"), .says = "`lo` takes `leave` or `up`, not `down`"},
		{FILE_WITH("", "namespaces: {min: 1}\n"), .says = "unknown key `min` in `namespaces`"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct config *c = NULL;
		struct buf error;
		char said[1024];
		int rc;

		buf_init(&error, sizeof(said) - 1);
		rc = config_parse(slice_str(rows[i].text), "t.yaml", &c, &error);
		(void)snprintf(said, sizeof(said), "%.*s", (int)error.n,
			       error.n ? (const char *)buf_data(&error) : "");
		buf_done(&error);
		if (rows[i].says) {
			assert_int_equal(rc, -EINVAL);
			if (!strstr(said, rows[i].says))
				fail_msg("row %zu: %s", i, said);
			continue;
		}
		if (rc)
			fail_msg("row %zu: %s", i, said);
		assert_int_equal(c->targets[0].netns_agent, rows[i].agent);
		assert_int_equal(c->netns_raise_lo, rows[i].raise);
		assert_int_equal(c->netns_max, rows[i].max);
		config_free(c);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(test_keys)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
