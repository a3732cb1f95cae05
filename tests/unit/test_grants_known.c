/* SPDX-License-Identifier: MIT */
/* Grants that hold for whoever asks the same: what the same is, and until when. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "daemon/grants_known.h"

enum { MINUTE = 60 };

/* A session as far as it is asked about. */
struct asker {
	struct session s;
	struct wview view;
	struct cfg_target target;
	struct access_decision d;
};

struct who {
	const char *agent, *target, *ways, *scope, *user, *database;
};

static const struct who bot = {"bot", "shop", "sso", "db.read", "ann", "sales"};

static void asker_init(struct asker *a, struct worker *w, const struct who *who)
{
	*a = (struct asker){.target = {.name = (char *)(uintptr_t)who->target},
			    .view = {.agent = (char *)(uintptr_t)who->agent},
			    .d = {.via = *who->ways ? ACCESS_IDP : ACCESS_BUILTIN,
				  .ways = who->ways, .scope = who->scope}};
	a->view.target = &a->target;
	a->s.w = w;
	a->s.view = &a->view;
	a->s.user = who->user;
	a->s.database = who->database;
}

static struct verdict grant_of(const char *id, int64_t seconds)
{
	struct verdict v = {.verdict = INSP_V_ALLOW, .by = "uid 0", .receipt = slice_str("{}")};

	(void)snprintf(v.grant, sizeof(v.grant), "%s", id);
	v.until_boot_ns = clock_boot_ns() + (uint64_t)(seconds * 1000000000);
	return v;
}

static void keep(struct worker *w, const struct who *who, const char *id, int64_t seconds)
{
	struct verdict v = grant_of(id, seconds);
	struct asker a;
	char *asked;

	asker_init(&a, w, who);
	asked = grants_known_asked(&a.s, &a.d);
	assert_non_null(asked);
	grants_known_keep(w, asked, &v);
	free(asked);
}

static const char *found(struct worker *w, const struct who *who)
{
	static struct verdict v;
	struct asker a;

	asker_init(&a, w, who);
	return grants_known_find(&a.s, &a.d, &v) ? v.grant : NULL;
}

static void test_only_the_same_question(void **state)
{
	static const struct who others[] = {
		{"bo", "tshop", "sso", "db.read", "ann", "sales"},
		{"bot2", "shop", "sso", "db.read", "ann", "sales"},
		{"bot", "shop2", "sso", "db.read", "ann", "sales"},
		{"bot", "shop", "sso pdp", "db.read", "ann", "sales"},
		{"bot", "shop", "", "db.read", "ann", "sales"},
		{"bot", "shop", "sso", "db.write", "ann", "sales"},
		{"bot", "shop", "sso", "db.read", "bob", "sales"},
		{"bot", "shop", "sso", "db.read", "anns", "ales"},
		{"bot", "shop", "sso", "db.read", "ann", "postgres"},
		{"bot", "shop", "sso", "db.read", NULL, NULL},
	};
	struct worker w = {0};

	(void)state;
	assert_null(found(&w, &bot));
	keep(&w, &bot, "g1", MINUTE);
	assert_string_equal(found(&w, &bot), "g1");
	for (size_t i = 0; i < ARRAY_SIZE(others); i++)
		assert_null(found(&w, &others[i]));
	grants_known_done(&w);
}

/* Entries with other conditions may want other people to say yes, more of them, or for a shorter time. */
static void test_other_terms(void **state)
{
	static const char *const boss[] = {"boss"}, *const dba[] = {"dba"};
	const struct access_decision rows[] = {
		{.min_approvals = 1, .max_ms = 1000},
		{.min_approvals = 2, .max_ms = 1000},
		{.min_approvals = 1, .max_ms = 2000},
		{.min_approvals = 1, .max_ms = 1000, .approvers = boss, .napprovers = 1},
		{.min_approvals = 1, .max_ms = 1000, .approvers = dba, .napprovers = 1},
	};
	struct verdict v = grant_of("g1", MINUTE), other;

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct worker w = {0};
		struct asker a;
		char *asked;

		asker_init(&a, &w, &bot);
		asked = grants_known_asked(&a.s, &rows[i]);
		assert_non_null(asked);
		grants_known_keep(&w, asked, &v);
		free(asked);
		for (size_t k = 0; k < ARRAY_SIZE(rows); k++)
			assert_int_equal(grants_known_find(&a.s, &rows[k], &other), k == i);
		grants_known_done(&w);
	}
}

static void test_the_answer_is_whole(void **state)
{
	struct worker w = {0};
	struct verdict v;
	struct asker a;

	(void)state;
	keep(&w, &bot, "g1", MINUTE);
	asker_init(&a, &w, &bot);
	assert_true(grants_known_find(&a.s, &a.d, &v));
	assert_int_equal(v.verdict, INSP_V_ALLOW);
	assert_string_equal(v.by, "uid 0");
	assert_true(slice_eq_str(v.receipt, "{}"));
	assert_true(v.until_boot_ns > clock_boot_ns());
	grants_known_done(&w);
}

static void test_ends(void **state)
{
	struct worker w = {0};

	(void)state;
	keep(&w, &bot, "late", -1);
	assert_null(found(&w, &bot));
	keep(&w, &bot, "g1", MINUTE);
	grants_known_forget(&w, slice_str("g"));
	assert_string_equal(found(&w, &bot), "g1");
	keep(&w, &bot, "g2", MINUTE);
	grants_known_forget(&w, slice_str("g1"));
	assert_string_equal(found(&w, &bot), "g2");
	grants_known_forget(&w, slice_str("g2"));
	assert_null(found(&w, &bot));
	assert_null(w.known);
}

static void test_bounded(void **state)
{
	struct worker w = {0};
	char user[32];
	struct who who = bot;

	(void)state;
	who.user = user;
	for (unsigned i = 0; i <= GRANTS_KNOWN_MAX; i++) {
		(void)snprintf(user, sizeof(user), "%u", i);
		keep(&w, &who, "g1", MINUTE);
	}
	assert_string_equal(found(&w, &who), "g1");
	(void)snprintf(user, sizeof(user), "0");
	assert_null(found(&w, &who)); /* the oldest gave way */
	(void)snprintf(user, sizeof(user), "1");
	assert_non_null(found(&w, &who));
	grants_known_done(&w);
}

static void test_too_long_is_asked_each_time(void **state)
{
	char user[5000];
	struct who who = bot;
	struct worker w = {0};
	struct asker a;

	(void)state;
	memset(user, 'u', sizeof(user));
	user[sizeof(user) - 1] = 0;
	who.user = user;
	keep(&w, &bot, "g1", MINUTE);
	asker_init(&a, &w, &who);
	assert_null(grants_known_asked(&a.s, &a.d));
	assert_null(found(&w, &who));
	grants_known_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_only_the_same_question),
		cmocka_unit_test(test_other_terms),
		cmocka_unit_test(test_the_answer_is_whole),
		cmocka_unit_test(test_ends),
		cmocka_unit_test(test_bounded),
		cmocka_unit_test(test_too_long_is_asked_each_time),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
