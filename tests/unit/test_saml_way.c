/* SPDX-License-Identifier: MIT */
/* A genuine assertion against what the configuration wants of it, at a fixed time. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/saml_way.h"
#include "ident/saml.h"

/* tests/unit/saml was made at 1700000000; the assertion is good for 300 s. */
enum { MADE = 1700000000 };

#define WORDS(...) ((const char *const[]){__VA_ARGS__, NULL})
#define CONTEXT "urn:oasis:names:tc:SAML:2.0:ac:classes:TimeSyncToken"

static char xml[16384];
static struct saml_way *saml;
static struct cfg_way usual = {
	.name = "own",
	.kind = WAY_SAML,
	.groups_claim = "groups",
	.saml = {.issuer = "https://idp.example/saml", .audience = "https://db.example/guard",
		 .recipient = "https://db.example/guard/acs",
		 .certificate_file = "tests/unit/saml/idp.crt.pem", .lifetime_ms = 3600000,
		 .skew_ms = 30000},
};

static int start(void **state)
{
	FILE *f = fopen("tests/unit/saml/good.xml", "r");
	char why[200];

	assert_non_null(f);
	assert_true(fread(xml, 1, sizeof(xml) - 1, f) > 0);
	(void)fclose(f);
	assert_int_equal(saml_init(), 0);
	assert_int_equal(saml_way_new(&usual, &saml, why, sizeof(why)), 0);
	return 0;
}

static int end(void **state)
{
	saml_way_free(saml);
	saml_way_free(NULL);
	return 0;
}

static void ask(const struct cfg_way *w, struct useonce *used, uint64_t id, uint64_t now_s,
		struct arena *a, struct oidc_result *ret)
{
	struct idp_ask q = {.token = slice_str(xml)};

	saml_way_ask(saml, w, &q, used, id, now_s, a, ret);
}

static void test_rules(void **state)
{
	const struct {
		const char *name;
		const char *const *approvers, *const *groups, *const *acr;
		const char *claim;
		uint64_t max_age_ms, after_s;
		enum tg_reason want;
		const char *approver;
	} rows[] = {
		{"anybody", .want = TG_R_NONE, .approver = ""},
		{"by name", .approvers = WORDS("x", "dba-alice"), .want = TG_R_NONE, .approver = "dba-alice"},
		{"by group", .groups = WORDS("approvers"), .want = TG_R_NONE, .approver = "dba-alice"},
		{"name or group", .approvers = WORDS("x"), .groups = WORDS("dba"), .want = TG_R_NONE, .approver = "dba-alice"},
		{"another", .approvers = WORDS("dba-alic", "dba-alicee"), .want = TG_R_IDP_DENIED},
		{"another group", .groups = WORDS("db", "DBA"), .want = TG_R_IDP_DENIED},
		{"another attribute", .groups = WORDS("dba"), .claim = "role", .want = TG_R_IDP_DENIED},
		{"context", .acr = WORDS(CONTEXT), .want = TG_R_NONE, .approver = ""},
		{"another context", .acr = WORDS("urn:x"), .want = TG_R_IDP_DENIED},
		{"fresh", .max_age_ms = 60000, .after_s = 90, .want = TG_R_NONE, .approver = ""},
		{"not fresh", .max_age_ms = 60000, .after_s = 91, .want = TG_R_IDP_DENIED},
		{"last second", .after_s = 299, .want = TG_R_NONE, .approver = ""},
		{"over, within the skew", .after_s = 300, .want = TG_R_IDP_DENIED},
		{"over", .after_s = 330, .want = TG_R_IDP_BAD_ANSWER},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct cfg_way w = usual;
		struct oidc_result r;
		struct arena a;

		arena_init(&a, 65536);
		w.approvers = rows[i].approvers;
		w.groups = rows[i].groups;
		w.acr = rows[i].acr;
		w.groups_claim = rows[i].claim ? rows[i].claim : "groups";
		w.max_age_ms = rows[i].max_age_ms;
		ask(&w, NULL, 1, MADE + rows[i].after_s, &a, &r);
		if (r.reason != rows[i].want)
			fail_msg("%s: %s %s", rows[i].name, reason_label(r.reason), r.detail);
		if (r.reason) {
			assert_true(r.detail[0]);
		} else {
			assert_string_equal(r.subject, "dba-alice");
			assert_string_equal(r.approver, rows[i].approver);
			assert_int_equal(r.ttl_ms, (300 - rows[i].after_s) * 1000);
			assert_int_equal(strlen(r.token_digest), 64);
			assert_non_null(strstr(r.evidence, "\"groups\":[\"dba\",\"approvers\"]"));
		}
		arena_done(&a);
	}
}

static void test_once(void **state)
{
	struct useonce *used = useonce_new();
	struct cfg_way w = usual, elsewhere = usual;
	struct oidc_result r;
	struct arena a;

	arena_init(&a, 65536);
	w.saml.once = true;
	ask(&w, used, 1, MADE, &a, &r);
	assert_int_equal(r.reason, TG_R_NONE);
	ask(&w, used, 1, MADE, &a, &r);
	assert_int_equal(r.reason, TG_R_NONE);
	ask(&w, used, 2, MADE + 1, &a, &r);
	assert_int_equal(r.reason, TG_R_IDP_DENIED);
	assert_non_null(strstr(r.detail, "has been used"));
	/* A refusal uses nothing up. */
	elsewhere.saml.once = true;
	elsewhere.approvers = WORDS("nobody");
	useonce_free(used);
	used = useonce_new();
	ask(&elsewhere, used, 3, MADE + 1, &a, &r);
	assert_int_equal(r.reason, TG_R_IDP_DENIED);
	assert_int_equal(useonce_count(used), 0);
	useonce_free(used);
	arena_done(&a);
}

static void test_certificates(void **state)
{
	static const struct {
		const char *file, *want;
	} rows[] = {
		{"tests/unit/saml/none.pem", "No such file"},
		{"tests/unit/saml/good.xml", "no certificate"},
		{"/dev/zero", "too large"},
		{"tests/unit", "Is a directory"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct cfg_way w = usual;
		struct saml_way *s;
		char why[200];

		w.saml.certificate_file = rows[i].file;
		assert_true(saml_way_new(&w, &s, why, sizeof(why)) < 0);
		if (!strstr(why, rows[i].want))
			fail_msg("%s: %s", rows[i].file, why);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rules),
		cmocka_unit_test(test_once),
		cmocka_unit_test(test_certificates),
	};

	return cmocka_run_group_tests(tests, start, end);
}
