/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "daemon/audit_limit.h"

#define SECOND 1000000000ull

struct told {
	unsigned int lines;
	uint64_t n, sum;
	size_t nkinds;
	char agent[32], last_event[32];
	uint64_t denied;
};

static void told(void *ctx, const struct audit_left *left)
{
	struct told *t = ctx;

	t->lines++;
	t->n += left->n;
	t->nkinds = left->nkinds;
	(void)snprintf(t->agent, sizeof(t->agent), "%s", left->agent);
	for (size_t i = 0; i < left->nkinds; i++) {
		t->sum += left->kinds[i].n;
		if (strcmp(left->kinds[i].outcome, "denied") == 0)
			t->denied += left->kinds[i].n;
		(void)snprintf(t->last_event, sizeof(t->last_event), "%s", left->kinds[i].event);
	}
}

static unsigned int loop(struct audit_limit *l, const char *agent, const char *outcome,
			 unsigned int times, uint64_t at)
{
	unsigned int written = 0;

	for (unsigned int i = 0; i < times; i++)
		written += audit_limit_take(l, agent, "approval.decided", outcome, 5, at + i);
	return written;
}

/* Whatever an agent does and whenever it is asked: lines and counts are all of it. */
static void nothing_uncounted(void **state)
{
	struct audit_limit *l = audit_limit_new();
	struct told t = {0};
	uint64_t at = SECOND, written = 0;

	assert_non_null(l);
	for (unsigned int i = 0; i < 400; i++) {
		written += loop(l, "coder", i % 3 ? "denied" : "approved", 10, at);
		at += 7 * SECOND + i * 1000003;
		if (i % 2)
			audit_limit_due(l, at, told, &t);
	}
	audit_limit_due(l, UINT64_MAX, told, &t);
	assert_int_equal(written + t.n, 4000);
	assert_int_equal(t.sum, t.n);
	/* 2,800 s and more: no minute has more than five, nor two lines that sum up. */
	assert_in_range(written, 5 * 30, 5 * 50);
	assert_in_range(t.lines, 30, 50);
	audit_limit_free(l);
}

static void others_are_not_cut(void **state)
{
	struct audit_limit *l = audit_limit_new();
	struct told t = {0};

	assert_int_equal(loop(l, "coder", "denied", 100, SECOND), 5);
	assert_int_equal(loop(l, "other", "denied", 5, SECOND), 5);
	audit_limit_due(l, 30 * SECOND, told, &t);
	assert_int_equal(t.lines, 0); /* its minute is not over */
	audit_limit_due(l, 61 * SECOND, told, &t);
	assert_int_equal(t.lines, 1);
	assert_int_equal(t.n, 95);
	assert_int_equal(t.denied, 95);
	assert_string_equal(t.agent, "coder");
	audit_limit_due(l, 62 * SECOND, told, &t);
	assert_int_equal(t.lines, 1); /* once */
	assert_int_equal(loop(l, "coder", "denied", 6, 63 * SECOND), 5);
	audit_limit_free(l);
}

/* A minute that is over and was not told yet stays one, and what comes late is counted in it. */
static void late_tick(void **state)
{
	struct audit_limit *l = audit_limit_new();
	struct told t = {0};

	assert_int_equal(loop(l, "coder", "denied", 6, SECOND), 5);
	assert_int_equal(loop(l, "coder", "denied", 1, 100 * SECOND), 0);
	audit_limit_due(l, 100 * SECOND, told, &t);
	assert_int_equal(t.n, 2);
	audit_limit_free(l);
}

static void quiet_minutes_begin_anew(void **state)
{
	struct audit_limit *l = audit_limit_new();
	struct told t = {0};

	for (unsigned int i = 0; i < 10; i++)
		assert_int_equal(loop(l, "coder", "approved", 5, (1 + i * 60) * SECOND), 5);
	audit_limit_due(l, UINT64_MAX, told, &t);
	assert_int_equal(t.lines, 0);
	audit_limit_free(l);
}

static void many_kinds(void **state)
{
	struct audit_limit *l = audit_limit_new();
	struct told t = {0};
	char outcome[32];

	for (unsigned int i = 0; i < 100; i++) {
		(void)snprintf(outcome, sizeof(outcome), "reason_%u", i);
		assert_false(audit_limit_take(l, "coder", "grant.end", outcome, 0, SECOND));
	}
	audit_limit_due(l, UINT64_MAX, told, &t);
	assert_int_equal(t.n, 100);
	assert_int_equal(t.sum, 100);
	assert_int_equal(t.nkinds, AUDIT_KINDS);
	assert_string_equal(t.last_event, "other");
	audit_limit_free(l);
	audit_limit_free(NULL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(nothing_uncounted), cmocka_unit_test(others_are_not_cut),
		cmocka_unit_test(late_tick),	     cmocka_unit_test(quiet_minutes_begin_anew),
		cmocka_unit_test(many_kinds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
