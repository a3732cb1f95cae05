/* SPDX-License-Identifier: MIT */
/* What was used once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <string.h>

#include "ident/useonce.h"

static const uint8_t *key(uint32_t n)
{
	static uint8_t k[USEONCE_KEY];

	memcpy(k, &n, sizeof(n));
	return k;
}

static void test_once(void **state)
{
	struct useonce *u = useonce_new();

	assert_non_null(u);
	assert_int_equal(useonce_use(u, key(1), 7, 100, 200), 0);
	assert_int_equal(useonce_use(u, key(1), 8, 101, 200), -EEXIST);
	/* The same question, asked anew. */
	assert_int_equal(useonce_use(u, key(1), 7, 102, 200), 0);
	assert_int_equal(useonce_use(u, key(2), 8, 102, 150), 0);
	assert_int_equal(useonce_count(u), 2);
	/* Up to its end and not a second less. */
	assert_int_equal(useonce_use(u, key(1), 8, 199, 200), -EEXIST);
	assert_int_equal(useonce_count(u), 1);
	assert_int_equal(useonce_use(u, key(1), 8, 200, 300), 0);
	useonce_free(u);
	useonce_free(NULL);
}

/* Nothing is forgotten to make room: what does not fit is refused. */
static void test_full(void **state)
{
	struct useonce *u = useonce_new();

	for (uint32_t i = 0; i < USEONCE_MAX; i++)
		assert_int_equal(useonce_use(u, key(i), 1, 100, i % 2 ? 150 : 200), 0);
	assert_int_equal(useonce_use(u, key(USEONCE_MAX), 1, 100, 200), -ENOSPC);
	assert_int_equal(useonce_use(u, key(0), 2, 100, 200), -EEXIST);
	assert_int_equal(useonce_use(u, key(USEONCE_MAX), 1, 150, 200), 0);
	assert_int_equal(useonce_count(u), USEONCE_MAX / 2 + 1);
	useonce_free(u);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_once),
		cmocka_unit_test(test_full),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
