/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdlib.h>

#include "policy/detect.h"
#include "policy/mask.h"

#define BIT(name) (1u << DETECT_BIT_##name)

static const uint8_t key[32] = {1, 2, 3};
static struct masker *masker;

static const char *mask_one(const struct insp_plan *plan, const struct mask_set *set,
			    const char *in, bool *ret_changed)
{
	static char out[4096];
	struct insp_value v = {.in = slice_str(in), .plan = plan};
	uint32_t n = masker_apply(masker, set, &v, 1);

	assert_int_equal(n, v.changed);
	*ret_changed = v.changed;
	if (!v.changed)
		return in;
	if (!v.out.p)
		return NULL;
	assert_true(v.out.n < sizeof(out));
	memcpy(out, v.out.p, v.out.n);
	out[v.out.n] = 0;
	return out;
}

static const struct {
	enum mask_how how;
	const char *in, *out;
} whole[] = {
	{MASK_REDACT, "secret", "***"},
	{MASK_REDACT, "", "***"},
	{MASK_NULL, "secret", NULL},
	{MASK_LAST4, "123-45-6789", "***-**-6789"},
	{MASK_LAST4, "4111 1111 1111 1111", "**** **** **** 1111"},
	{MASK_LAST4, "abcde", "*bcde"},
	{MASK_LAST4, "abcd", "***"},
	{MASK_LAST4, "1", "***"},
	{MASK_LAST4, "", "***"},
	{MASK_LAST4, "-+-+-+", "***"},
	{MASK_LAST4, "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80yz", "**\xe2\x82\xac\xf0\x9f\x98\x80yz"},
	{MASK_LAST4,
	 "ab\xff"
	 "cde",
	 "**\xff"
	 "cde"},
};

static void test_whole_values(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(whole); i++) {
		struct insp_plan plan = {.how = (uint8_t)whole[i].how, .detectors = BIT(EMAIL)};
		bool changed;
		const char *out = mask_one(&plan, NULL, whole[i].in, &changed);

		assert_true(changed);
		if (whole[i].out)
			assert_string_equal(out, whole[i].out);
		else
			assert_null(out);
	}
}

/* The same value gives the same hash under one key, and no other. */
static void test_hash(void **state)
{
	const uint8_t other_key[32] = {9};
	struct insp_plan plan = {.how = MASK_HASH};
	struct masker *other;
	struct insp_value v[3] = {{.in = SLICE_LIT("alice"), .plan = &plan},
				  {.in = SLICE_LIT("alice"), .plan = &plan},
				  {.in = SLICE_LIT("bob"), .plan = &plan}};
	struct insp_value w = {.in = SLICE_LIT("alice"), .plan = &plan};

	assert_int_equal(masker_new(other_key, &other), 0);
	assert_int_equal(masker_apply(masker, NULL, v, 3), 3);
	assert_int_equal(masker_apply(other, NULL, &w, 1), 1);
	/* HMAC-SHA-256 of "alice" under the key 01 02 03 00..., made with openssl(1). */
	assert_int_equal(v[0].out.n, 18);
	assert_memory_equal(v[0].out.p, "h:40ad28c3ee7c9cad", 18);
	assert_true(slice_eq(v[0].out, v[1].out));
	assert_false(slice_eq(v[0].out, v[2].out));
	assert_false(slice_eq(v[0].out, w.out));
	masker_free(other);
}

static const struct {
	enum mask_how how;
	uint32_t detectors;
	const char *in, *out;
} found[] = {
	{MASK_REDACT, BIT(EMAIL), "to a@b.cc and c@d.ee!", "to *** and ***!"},
	{MASK_REDACT, BIT(CARD), "to a@b.cc", "to a@b.cc"},
	{MASK_LAST4, BIT(CARD), "card 4111-1111-1111-1111.", "card ****-****-****-1111."},
	{MASK_NULL, BIT(EMAIL), "to a@b.cc", NULL},
	{MASK_NONE, BIT(EMAIL), "to a@b.cc", "to ***"},
	{MASK_REDACT, BIT(EMAIL), "a@b.cc", "***"},
	{MASK_REDACT, BIT(EMAIL), "a@b.c", "a@b.c"},
	{MASK_LAST4, BIT(PRIVATE_KEY),
	 "k: -----BEGIN EC PRIVATE KEY-----\nMHcC\n-----END EC PRIVATE KEY-----\n.", "k: ***\n."},
	/* What two detectors see is covered wholly: the date, and what is left of the card. */
	{MASK_REDACT, BIT(CARD) | BIT(DOB), "2024-01-15 4111111111111111", "*** ***"},
};

static void test_found_values(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(found); i++) {
		struct insp_plan plan = {.found_how = (uint8_t)found[i].how,
					 .detectors = found[i].detectors};
		bool changed;
		const char *out = mask_one(&plan, NULL, found[i].in, &changed);

		if (found[i].out)
			assert_string_equal(out, found[i].out);
		else
			assert_null(out);
		assert_int_equal(changed, !found[i].out || strcmp(found[i].in, found[i].out) != 0);
	}
}

/* Neighbours never join: each half of a value alone is nothing. */
static void test_values_do_not_join(void **state)
{
	struct insp_plan plan = {.found_how = MASK_REDACT, .detectors = (1u << DETECTOR_COUNT) - 1};
	struct insp_value v[] = {
		{.in = SLICE_LIT("4111111111"), .plan = &plan},
		{.in = SLICE_LIT("111111"), .plan = &plan},
		{.in = SLICE_LIT("alice@exa"), .plan = &plan},
		{.in = SLICE_LIT("mple.com"), .plan = &plan},
		{.in = SLICE_LIT("4111111111111111"), .plan = &plan},
		{.in = SLICE_LIT("5"), .plan = &plan},
		{.in = {0}, .plan = &plan},
		{.in = SLICE_LIT("x a@b.cc"), .plan = NULL},
	};

	assert_int_equal(masker_apply(masker, NULL, v, ARRAY_SIZE(v)), 1);
	assert_true(v[4].changed);
	assert_int_equal(v[4].hits, BIT(CARD));
}

/* Values of all sizes in one call, more than one scratch holds; outputs stay valid together. */
static void test_many_values(void **state)
{
	enum { N = 5000 };
	static struct insp_value v[N];
	static char in[N][64];
	struct insp_plan plans[3] = {
		{.found_how = MASK_REDACT, .detectors = BIT(EMAIL)},
		{.found_how = MASK_REDACT, .detectors = BIT(EMAIL) | BIT(CARD)},
		{.how = MASK_LAST4},
	};
	size_t big_n = 3 << 20;
	char *big = malloc(big_n);

	assert_non_null(big);
	memset(big, 'x', big_n);
	memcpy(big + 2000000, " a@b.cc ", 8);
	memcpy(big + big_n - 7, " a@b.cc", 7);
	for (unsigned round = 0; round < 3; round++) {
		for (unsigned i = 0; i < N; i++) {
			int n = snprintf(in[i], sizeof(in[i]), "value %u: u%u@example.com", i, i);

			v[i] = (struct insp_value){.in = slice_of(in[i], (size_t)n),
						   .plan = &plans[i / 7 % 3]};
		}
		v[777] = (struct insp_value){.in = slice_of(big, big_n), .plan = &plans[0]};
		assert_int_equal(masker_apply(masker, NULL, v, N), N);
		for (unsigned i = 0; i < N; i++) {
			char want[64];
			int n = snprintf(want, sizeof(want), "value %u: ***", i);

			if (i == 777 || v[i].plan == &plans[2])
				continue;
			assert_int_equal(v[i].out.n, n);
			assert_memory_equal(v[i].out.p, want, n);
		}
		assert_int_equal(v[777].out.n, big_n - 2 * 6 + 2 * 3);
		assert_memory_equal(v[777].out.p + v[777].out.n - 4, " ***", 4);
	}
	free(big);
}

/* More hits than the first array holds. */
static void test_many_hits(void **state)
{
	enum { N = 20000 };
	char *in = malloc(N * 7), *p = in;
	struct insp_plan plan = {.found_how = MASK_REDACT, .detectors = BIT(EMAIL)};
	struct insp_value v;

	assert_non_null(in);
	for (unsigned i = 0; i < N; i++, p += 7)
		memcpy(p, "a@b.cc ", 7);
	v = (struct insp_value){.in = slice_of(in, N * 7), .plan = &plan};
	assert_int_equal(masker_apply(masker, NULL, &v, 1), 1);
	assert_int_equal(v.out.n, N * 4);
	for (unsigned i = 0; i < N; i++)
		assert_memory_equal(v.out.p + i * 4, "*** ", 4);
	free(in);
}

static const struct mask_set *masks_of(struct policy **ret_p, struct policy_view **ret_v,
				       const struct mask_spec *masks, uint32_t n)
{
	static struct slice all[] = {SLICE_LIT("*")};
	struct entry_spec e = {.agents = all,
			       .nagents = 1,
			       .targets = all,
			       .ntargets = 1,
			       .masks = masks,
			       .nmasks = n,
			       .line = 1};
	char why[512];

	assert_int_equal(policy_new(&e, 1, "t.yaml", ret_p, why, sizeof(why)), 0);
	assert_int_equal(policy_view_new(*ret_p, SLICE_LIT("a"), SLICE_LIT("t"), ret_v), 0);
	return policy_masks(*ret_v);
}

static void test_user_patterns(void **state)
{
	struct slice pats[] = {SLICE_LIT("EMP-[0-9]+"), SLICE_LIT("(?i)project \\w+")};
	struct mask_spec masks[] = {
		{.patterns = pats, .npatterns = 2, .detectors = BIT(PATTERN), .how = MASK_REDACT},
		{.detectors = BIT(EMAIL), .how = MASK_LAST4},
	};
	struct policy *p;
	struct policy_view *view;
	const struct mask_set *set = masks_of(&p, &view, masks, 2);
	struct insp_plan plan = {.detectors = BIT(EMAIL) | BIT(PATTERN)};
	bool changed;

	assert_string_equal(mask_one(&plan, set, "EMP-1, EMP-123456 of PROJECT Tide", &changed),
			    "***, *** of ***");
	/* One rule hides, the other keeps four; a match that reaches into a hit adds its rest. */
	assert_string_equal(mask_one(&plan, set, "EMP-7 alice@example.com", &changed),
			    "*** *****@******e.com");
	assert_string_equal(mask_one(&plan, set, "project alice@example.com", &changed),
			    "***@******e.com");
	assert_string_equal(mask_one(&plan, set, "EMP-", &changed), "EMP-");
	policy_view_free(view);
	policy_unref(p);
}

/* A pattern's match stays in its value, and ^ and $ are its ends. */
static void test_user_patterns_do_not_join(void **state)
{
	struct slice pats[] = {SLICE_LIT("^ab.*z$")};
	struct mask_spec masks[] = {{.patterns = pats, .npatterns = 1, .how = MASK_NULL}};
	struct policy *p;
	struct policy_view *view;
	const struct mask_set *set = masks_of(&p, &view, masks, 1);
	struct insp_plan plan = {.detectors = BIT(PATTERN)};
	struct insp_value v[] = {{.in = SLICE_LIT("abc"), .plan = &plan},
				 {.in = SLICE_LIT("xyz"), .plan = &plan},
				 {.in = SLICE_LIT("ab\nz"), .plan = &plan}};

	assert_int_equal(masker_apply(masker, set, v, 3), 1);
	assert_true(v[2].changed && !v[2].out.p);
	assert_int_equal(v[2].hits, BIT(PATTERN));
	policy_view_free(view);
	policy_unref(p);
}

static void test_hide_secrets(void **state)
{
	char text[] = "x=AKIAIOSFODNN7EXAMPLE a@b.cc ghp_0123456789abcdefghijABCDEFGHIJ012345 "
		      "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM";
	const char want[] = "x=******************** a@b.cc ****************************************"
			    " ************************************";

	assert_true(masker_has_secrets(masker, slice_str(text)));
	assert_int_equal(masker_hide_secrets(masker, (uint8_t *)text, strlen(text)), 3);
	assert_string_equal(text, want);
	assert_int_equal(masker_hide_secrets(masker, (uint8_t *)text, 0), 0);
	assert_false(masker_has_secrets(masker, slice_str(text)));
}

/* The shortest of all, alone: nothing is too short to be looked at. */
static void test_shortest_secret(void **state)
{
	char text[] = "AKIAIOSFODNN7EXAMPLE";

	assert_false(masker_has_secrets(masker, slice_of(text, strlen(text) - 1)));
	assert_true(masker_has_secrets(masker, slice_str(text)));
	assert_int_equal(masker_hide_secrets(masker, (uint8_t *)text, strlen(text)), 1);
	assert_string_equal(text, "********************");
}

static int open_masker(void **state)
{
	return masker_new(key, &masker);
}

static int close_masker(void **state)
{
	masker_free(masker);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_whole_values),
		cmocka_unit_test(test_hash),
		cmocka_unit_test(test_found_values),
		cmocka_unit_test(test_values_do_not_join),
		cmocka_unit_test(test_many_values),
		cmocka_unit_test(test_many_hits),
		cmocka_unit_test(test_user_patterns),
		cmocka_unit_test(test_user_patterns_do_not_join),
		cmocka_unit_test(test_hide_secrets),
		cmocka_unit_test(test_shortest_secret),
	};

	return cmocka_run_group_tests(tests, open_masker, close_masker);
}
