/* SPDX-License-Identifier: MIT */
/* `token` of an agent and `when` of an entry: what is said when they are wrong, and what they become. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "config_rig.h"

#define AT(x)  "agents: {a: {uid: 1, token: " x "}}\n" T P
#define OWN    "issuer: \"https://t\", audience: u"
#define AG     "agents: {a: {uid: 1, token: {file: /f, " OWN "}}}\n"
#define W(x)   AG T PP("when: " x)
#define SHA64  "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

static void test_token_errors(void **state)
{
	static const struct config_bad rows[] = {
		{AT("run/token"), "1:29: `token` takes an absolute path or a mapping, not `run/token`\n"
				  "1:29: `token` of agent `a` lacks `issuer`: there is no section `idp` "
				  "whose issuer it could be"},
		{AT("{" OWN "}"), "1:29: `token` of agent `a` names either a `file` or an `env`"},
		{AT("{file: /f, env: E, " OWN "}"),
		 "1:29: `token` of agent `a` names either a `file` or an `env`"},
		{AT("{file: f, " OWN "}"), "1:36: `file` takes an absolute path, not `f`"},
		{AT("{env: A=B, " OWN "}"), "1:35: `env` is the name of an environment variable"},
		{AT("{file: /f, issuer: \"https://t\"}"),
		 "1:29: `token` of agent `a` lacks `audience`: a token that was made for somebody else "
		 "must not be taken"},
		{AT("{file: /f, issuer: \"http://t\", audience: u}"),
		 "1:48: `issuer` is an https URL (http only with `allow_http: true`, on a loopback "
		 "address)"},
		{AT("{file: /f, " OWN ", algorithms: [HS256]}"),
		 "1:86: `HS256` is no signature algorithm that tokens may use; did you mean `ES256`?"},
		{"idp: {issuer: \"https://i\", client: {id: c, key_file: /k}}\n"
		 "agents: {a: {uid: 1, token: {file: /f, ca_file: /c}}}\n" T P,
		 "2:40: `ca_file` has a meaning only with an `issuer` of the token's own"},
	};

	config_bad(rows, ARRAY_SIZE(rows));
}

static void test_when_errors(void **state)
{
	static const struct config_bad rows[] = {
		{A T PP("when: {token: {sub: s}}"),
		 "3:74: none of the agents of this entry has a `token`"},
		{W("{}"), "3:66: `when` is empty: an entry without it always applies"},
		{W("{exe_sha256: abc}"), "3:79: `exe_sha256` takes 64 digits of 0-9 and a-f, as `sha256sum` "
					 "prints them, not `abc`"},
		{W("{uid: bob}"), "3:72: `uid` takes numbers, not `bob`"},
		{W("{uid: 007}"), "3:72: `uid` takes numbers, not `007`"},
		{W("{token: {claims: {}}}"), "3:83: `claims` is a mapping of names to values, as `{ env: "
					     "[prod, stage] }`"},
		{W("{token: {claims: {e: []}}}"), "3:87: claim `e` has no value"},
		{W("{token: {claims: {e: {f: g}}}}"),
		 "3:87: claim `e` takes a value or a list of values"},
		{W("{token: {subject: s}}"), "3:75: unknown key `subject` in `token` of `when` of policy[0]"},
	};

	config_bad(rows, ARRAY_SIZE(rows));
}

static void test_token(void **state)
{
	struct config *c = config_good(AT("{env: E, " OWN ", extra_origins: [\"https://k\"]}"));
	const struct cfg_token *t = c->agents[0].token;

	assert_null(t->file);
	assert_string_equal(t->env, "E");
	assert_string_equal(t->issuer, "https://t");
	assert_string_equal(t->audience, "u");
	assert_string_equal(t->extra_origins[0], "https://k");
	config_free(c);
	c = config_good("idp: {issuer: \"https://i\", client: {id: c, key_file: /k}}\n"
			"agents: {a: {uid: 1, token: /f}}\n" T P);
	assert_string_equal(c->agents[0].token->file, "/f");
	assert_null(c->agents[0].token->issuer);
	config_free(c);
}

static void test_when(void **state)
{
	struct config *c = config_good(
		W("{exe: [/a, /b], exe_sha256: \"" SHA64 "\", container: c*, image: i, uid: [0, 12], "
		  "token: {sub: [s, \"t*\"], claims: {env: [p, q], \"k/ns\": x}}}"));
	static const struct policy_fact list[] = {
		{FACT_EXE, {0}, SLICE_LIT("/b")},	{FACT_EXE_SHA256, {0}, SLICE_LIT(SHA64)},
		{FACT_CONTAINER, {0}, SLICE_LIT("c1")}, {FACT_IMAGE, {0}, SLICE_LIT("i")},
		{FACT_UID, {0}, SLICE_LIT("12")},	{FACT_SUB, {0}, SLICE_LIT("tt")},
		{FACT_CLAIM, SLICE_LIT("env"), SLICE_LIT("q")},
		{FACT_CLAIM, SLICE_LIT("k/ns"), SLICE_LIT("x")},
	};
	struct policy_facts facts = {.known = (1u << FACT_KINDS) - 1, .list = list};
	struct access_decision d;
	struct policy_view *v;

	/* All of them hold; with one fact fewer the entry does not apply. */
	for (facts.n = ARRAY_SIZE(list); facts.n > 0; facts.n--) {
		assert_int_equal(policy_view_for(c->policy, SLICE_LIT("a"), SLICE_LIT("t"), &facts, &v),
				 0);
		policy_access(v, &d);
		assert_int_equal(d.allowed, facts.n == ARRAY_SIZE(list));
		policy_view_free(v);
	}
	config_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_token_errors),
		cmocka_unit_test(test_when_errors),
		cmocka_unit_test(test_token),
		cmocka_unit_test(test_when),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
