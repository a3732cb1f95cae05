/* SPDX-License-Identifier: MIT */
/* The section `approvals`: what is said when it is wrong, and what it becomes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "config_rig.h"

#define WAY(x) "idp: {issuer: \"https://i\", client: {id: c, key_file: /k}}\napprovals: " x "\n" A T P

#define SAML "issuer: i, certificate_file: /c, audience: a, recipient: r"

static void test_way_errors(void **state)
{
	static const struct config_bad rows[] = {
		{"approvals: {w: {by: device, scope: s}}\n" A T P,
		 "1:16: approval `w` asks the identity provider: it needs the section `idp`"},
		{WAY("{w: {scope: s}}"), "2:16: approval `w` lacks the key `by` (how is asked: "
					   "client_credentials, token_exchange, ciba, device, "
					   "introspection, authzen, saml_bearer or saml)"},
		{WAY("{w: {by: phone, scope: s}}"), "2:21: `by` takes `client_credentials`, `token_exchange`, "
					  "`ciba`, `device`, `introspection`, `authzen`, `saml_bearer` "
					  "or `saml`, not `phone`"},
		{WAY("{idp: {by: device, scope: s}}"),
		 "2:13: `idp` has a meaning of its own: choose another name"},
		{WAY("{w: {by: ciba, scope: openid}}"),
		 "2:16: approval `w` lacks `login_hint`: whom is the provider to ask?"},
		{WAY("{w: {by: ciba, scope: openidx s, login_hint: h}}"),
		 "2:34: approval `w`: the scope of `by: ciba` must hold `openid` (CIBA Core section "
		 "7.1)"},
		{WAY("{w: {by: ciba, scope: openid, login_hint: '{\"sub\":{user}}'}}"),
		 "2:54: `login_hint` begins as JSON, but is none, or has `{...}` in a name or outside of "
		 "quotes, where an agent could add to it"},
		{WAY("{w: {by: ciba, scope: openid, login_hint: h, login_hint_token: true}}"),
		 "2:57: `login_hint_token` goes with `by: ciba`, in the place of `login_hint`"},
		{WAY("{w: {by: device, scope: s, login_hint_token: true}}"),
		 "2:39: `login_hint_token` goes with `by: ciba`, in the place of `login_hint`"},
		{WAY("{w: {by: device}}"), "2:16: approval `w` lacks `scope`"},
		{WAY("{w: {by: device, scope: s, login_hint: h}}"),
		 "2:39: `login_hint` has a meaning only with `by: ciba`"},
		{WAY("{w: {by: device, scope: s, delivery: ping}}"),
		 "2:39: `delivery` has a meaning only with `by: ciba`"},
		{WAY("{w: {by: ciba, scope: openid, login_hint: h, delivery: ping}}"),
		 "2:67: `delivery: ping` needs `events` in the section `idp`: where is the provider to ping?"},
		{WAY("{w: {by: client_credentials, scope: s, groups: g}}"),
		 "2:51: `groups` has a meaning only where a person is asked (`by: ciba` or `device`)"},
		{WAY("{w: {by: authzen}}"), "2:16: approval `w` lacks `url`, the evaluation endpoint"},
		{WAY("{w: {by: authzen, url: \"http://pdp\"}}"),
		 "2:35: `url` is an https URL (http on a loopback address only)"},
		{WAY("{w: {by: authzen, decision_point: \"http://pdp\"}}"),
		 "2:46: `decision_point` is an https URL (http on a loopback address only)"},
		{WAY("{w: {by: authzen, decision_point: \"https://pdp?a\"}}"),
		 "2:46: `decision_point` is an https URL (http on a loopback address only)"},
		{WAY("{w: {by: authzen, url: \"https://u\", decision_point: \"https://u\"}}"),
		 "2:48: `decision_point` tells what `url` says already: leave out one of them"},
		{WAY("{w: {by: device, scope: s, decision_point: \"https://u\"}}"),
		 "2:39: `decision_point` has a meaning only with `by: authzen`"},
		{WAY("{w: {by: device, scope: s, url: \"https://u\"}}"),
		 "2:39: `url` has a meaning only with `by: authzen`"},
		{WAY("{w: {by: authzen, url: \"https://u\", scope: s}}"),
		 "2:48: `scope` has no meaning with `by: authzen`"},
		{WAY("{w: {by: saml_bearer}}"), "2:16: approval `w` lacks `scope`"},
		{WAY("{w: {by: device, scope: s, saml: {" SAML "}}}"),
		 "2:39: `saml` has a meaning only with `by: saml`"},
		{WAY("{w: {by: saml}}"), "2:16: approval `w` lacks `saml`: whose assertions, for whom?"},
		{WAY("{w: {by: saml, saml: {issuer: i}}}"),
		 "2:33: `saml` of approval `w` lacks the key `certificate_file` (PEM file with the issuer's "
		 "certificates; their keys verify, what an assertion says of its key is not read)\n"
		 "2:33: `saml` of approval `w` lacks the key `audience` (what the assertion's "
		 "AudienceRestriction has to name)\n"
		 "2:33: `saml` of approval `w` lacks the key `recipient` (what the Recipient of "
		 "its bearer confirmation has to be)"},
		{WAY("{w: {by: saml, scope: s, saml: {" SAML "}}}"),
		 "2:27: `scope` has no meaning with `by: saml`"},
		{WAY("{w: {by: saml, audience: s, saml: {" SAML "}}}"),
		 "2:27: `audience` has no meaning with `by: saml`"},
		{WAY("{w: {by: saml, poll: 5s, saml: {" SAML "}}}"),
		 "2:27: `poll` has a meaning only where a person is asked (`by: ciba` or `device`)"},
		{WAY("{w: {by: device, scope: s, then: v}}"), "2:45: no approval is called `v`"},
		{WAY("{w: {by: device, scope: s, then: w}}"),
		 "2:45: approval `w` comes back to itself through `then`"},
	};

	config_bad(rows, ARRAY_SIZE(rows));
}

static void test_ways(void **state)
{
	struct config *c = config_good(
		WAY("{oncall: {by: ciba, scope: openid db, login_hint: \"{user}\", groups: [g, h], "
		    "max_age: 1h, then: pdp}, pdp: {by: authzen, url: \"http://localhost:1/x\"}}"));
	const struct cfg_way *w = config_way(c, SLICE_LIT("oncall"));

	assert_int_equal(c->nways, 2);
	assert_int_equal(w->kind, WAY_CIBA);
	assert_string_equal(w->groups[1], "h");
	assert_null(w->groups[2]);
	assert_string_equal(w->groups_claim, "groups");
	assert_int_equal(w->max_age_ms, 3600000);
	assert_int_equal(w->poll_ms, 5000);
	assert_true(w->details);
	assert_string_equal(w->then, "pdp");
	assert_null(config_way(c, SLICE_LIT("idp")));
	config_free(c);
}

/* Assertions need no provider. */
static void test_saml(void **state)
{
	struct config *c = config_good("approvals: {w: {by: saml, groups: g, acr: x, max_age: 1h, saml: "
				       "{" SAML "}}, v: {by: saml, saml: {" SAML ", form: response, "
				       "once: false, lifetime: 5m, clock_skew: 0s}}}\n" A T P);
	const struct cfg_way *w = config_way(c, SLICE_LIT("w")), *v = config_way(c, SLICE_LIT("v"));

	assert_null(c->idp);
	assert_int_equal(w->kind, WAY_SAML);
	assert_string_equal(w->saml.issuer, "i");
	assert_string_equal(w->saml.certificate_file, "/c");
	assert_string_equal(w->saml.audience, "a");
	assert_string_equal(w->saml.recipient, "r");
	assert_true(w->saml.once);
	assert_false(w->saml.response);
	assert_int_equal(w->saml.lifetime_ms, 3600000);
	assert_int_equal(w->saml.skew_ms, 30000);
	assert_false(v->saml.once);
	assert_true(v->saml.response);
	assert_int_equal(v->saml.lifetime_ms, 300000);
	assert_int_equal(v->saml.skew_ms, 0);
	config_free(c);
}

/* Who is asked is a name of `approvals`, wherever in the file that section stands. */
static void test_named(void **state)
{
	struct config *c = config_good(
		"policy: [{agents: a, targets: t, access: {approval: w}, commands: [{effect: any, do: "
		"approve, approval: w}]}]\n" A T "approvals: {w: {by: authzen, url: \"https://u\"}}\n");
	struct access_decision a;
	struct policy_view *v;

	assert_int_equal(policy_view_new(c->policy, SLICE_LIT("a"), SLICE_LIT("t"), &v), 0);
	policy_access(v, &a);
	assert_int_equal(a.via, ACCESS_IDP);
	assert_string_equal(a.ways, "w");
	policy_view_free(v);
	config_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_way_errors),
		cmocka_unit_test(test_ways),
		cmocka_unit_test(test_saml),
		cmocka_unit_test(test_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
