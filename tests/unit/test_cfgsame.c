/* SPDX-License-Identifier: MIT */
/* A change anywhere that authd looks is seen, so that a reload puts it into force. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "config_rig.h"
#include "daemon/cfgsame.h"

#define SAML(more) "saml: {issuer: i, certificate_file: /c, audience: a, recipient: r" more "}"
static const char base[] =
	"idp: {issuer: \"https://i\", audience: a, resource: r, details_type: t, ca_file: /ca, "
	"algorithms: [ES256, RS256], timeout: 5s, clock_skew: 30s, assertion_audience: s, "
	"extra_origins: [\"https://o\"], client: {id: c, key_file: /k}}\n"
	"approvals: {w: {by: ciba, scope: openid x, login_hint: h, audience: wa, resource: wr, "
	"groups: [g], approvers: [p], acr: [c], max_age: 1h, poll: 5s, then: v}, "
	"v: {by: authzen, url: \"https://u\", ca_file: /d, timeout: 5s}, "
	"s: {by: saml, " SAML("") "}}\n" A T P;

static char *changed(const char *from, const char *to)
{
	const char *at = strstr(base, from);
	char *out;

	assert_non_null(at);
	assert_true(asprintf(&out, "%.*s%s%s", (int)(at - base), base, to, at + strlen(from)) > 0);
	return out;
}

static void test_changes(void **state)
{
	static const struct {
		const char *from, *to;
		bool idp, ways; /* the same */
	} rows[] = {
		{"key_file: /k", "key_file: /other", true, true}, /* keyd's business */
		{"\"https://i\"", "\"https://j\"", false, true},
		{"audience: a,", "audience: b,", false, true},
		{"resource: r,", "resource: s,", false, true},
		{"details_type: t", "details_type: u", false, true},
		{"ca_file: /ca", "ca_file: /cb", false, true},
		{"[ES256, RS256]", "[ES256]", false, true},
		{"timeout: 5s, clock", "timeout: 6s, clock", false, true},
		{"clock_skew: 30s", "clock_skew: 31s", false, true},
		{"assertion_audience: s", "assertion_audience: t", false, true},
		{"assertion_audience: s", "dpop: on, assertion_audience: s", false, true},
		{"assertion_audience: s", "dpop: auto, assertion_audience: s", true, true},
		{"assertion_audience: s", "introspection: bearer, assertion_audience: s", false, true},
		{"assertion_audience: s",
		 "introspection: bearer, introspection_scope: x, assertion_audience: s", false, true},
		{"assertion_audience: s", "name_claim: n, assertion_audience: s", false, true},
		{"assertion_audience: s", "name_claim: n, name_from: userinfo, assertion_audience: s", false, true},
		{"assertion_audience: s", "name_from: token, assertion_audience: s", true, true},
		{"\"https://o\"", "\"https://p\"", false, true},
		{"id: c", "id: d", false, true},
		{"openid x", "openid y", true, false},
		{"login_hint: h", "login_hint: g", true, false},
		{"login_hint: h", "login_hint_token: true", true, false},
		{"audience: wa", "audience: wb", true, false},
		{"resource: wr", "resource: ws", true, false},
		{"[g]", "[g, h]", true, false},
		{"[p]", "[q]", true, false},
		{"[c]", "[d]", true, false},
		{"max_age: 1h", "max_age: 2h", true, false},
		{"poll: 5s", "poll: 6s", true, false},
		{", then: v", "", true, false},
		{"\"https://u\"", "\"https://w\"", true, false},
		{"url: \"https://u\"", "decision_point: \"https://u\"", true, false},
		{"ca_file: /d", "ca_file: /e", true, false},
		{"timeout: 5s}", "timeout: 6s}", true, false},
		{SAML(""), SAML(", once: false"), true, false},
		{SAML(""), SAML(", form: response"), true, false},
		{SAML(""), SAML(", lifetime: 2h"), true, false},
		{SAML(""), SAML(", clock_skew: 1s"), true, false},
		{"certificate_file: /c", "certificate_file: /e", true, false},
		{"recipient: r", "recipient: s", true, false},
	};
	struct config *old = config_good(base);

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *text = changed(rows[i].from, rows[i].to);
		struct config *c = config_good(text);

		if (cfgsame_idp(old->idp, c->idp) != rows[i].idp || cfgsame_ways(old, c) != rows[i].ways)
			fail_msg("%s -> %s", rows[i].from, rows[i].to);
		config_free(c);
		free(text);
	}
	assert_true(cfgsame_idp(NULL, NULL));
	assert_false(cfgsame_idp(old->idp, NULL));
	config_free(old);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
