/* SPDX-License-Identifier: MIT */
/* What the ways of `approvals:` become for one question. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "daemon/ways.h"

static const struct idp_ask base = {
	.ways = "", .scope = "", .agent = "coder", .target = "orders-db", .effect = "", .text = "",
	.user = "u", .database = "shop", .request = "k7f3q2mx", .session = "", .facts = "",
};

static void test_expand(void **state)
{
	static const struct {
		const char *template, *want, *user; /* user NULL: "u" */
		int err;
	} rows[] = {
		{"", .want = ""},
		{"dba", .want = "dba"},
		{"{agent}", .want = "coder"},
		{"{agent}@{target}/{database}?{user}#{request}", .want = "coder@orders-db/shop?u#k7f3q2mx"},
		{"{nothing} {", .want = "{nothing} {"},
		{"{{agent}}", .want = "{coder}"},
		{"{ agent}", .want = "{ agent}"},
		/* What a value says is not looked into again. */
		{"{user}", .want = "{target}", .user = "{target}"},
		{"{user}@x", .want = NULL, .user = "a\nb", .err = -EILSEQ},
		{"{user}@x", .want = NULL, .user = "a\x7f", .err = -EILSEQ},
		{"{user}@x", .want = NULL, .user = "\x1b[2J", .err = -EILSEQ},
		{"{user}@x", .want = "\"a\\@x", .user = "\"a\\"},
		/* JSON: whatever a value holds, it stays one string. */
		{"{\"sub\":\"{agent}\"}", .want = "{\"sub\":\"coder\"}"},
		{" { \"sub\" : \"{user}@x\", \"n\": 1 }", .want = "{\"sub\":\"u@x\",\"n\":1}"},
		{"{\"sub\":\"{user}\"}", .want = "{\"sub\":\"\\\",\\\"sub\\\":\\\"boss\"}",
		 .user = "\",\"sub\":\"boss"},
		{"{\"sub\":\"{user}\"}", .want = "{\"sub\":\"a\\\\\"}", .user = "a\\"},
		{"{\"sub\":\"{user}\"}", .want = "{\"sub\":\"a\\nb\\u001B\x7f\"}", .user = "a\nb\x1b\x7f"},
		{"{\"sub\":\"{user}\"}", .want = "{\"sub\":\"\\u00E9\"}", .user = "\xc3\xa9"},
		{"{\"sub\":\"{user}\"}", .want = "{\"sub\":\"{agent}\"}", .user = "{agent}"},
		{"{\"sub\":\"{user}\"}", .want = NULL, .user = "\xff", .err = -EILSEQ},
		{"[\"{user}\",{\"a\":[\"{agent}\"]}]", .want = "[\"u\",{\"a\":[\"coder\"]}]"},
		{"\"{user}\"", .want = "\"\\\"\"", .user = "\""},
		/* None of these is accepted in a configuration either. */
		{"{\"sub\":{user}}", .want = NULL, .err = -ENOTSUP},
		{"{\"sub\":\"{user}\"", .want = NULL, .err = -ENOTSUP},
		{"{\"{user}\":1}", .want = NULL, .err = -ENOTSUP},
		{"{\"a\":{\"{user}\":1}}", .want = NULL, .err = -ENOTSUP},
		{"[{\"{user}\":1}]", .want = NULL, .err = -ENOTSUP},
		{"{\"a\":\"{user}\",\"a\":1}", .want = NULL, .err = -ENOTSUP},
		{"[{user}]", .want = NULL, .err = -ENOTSUP},
	};
	char dst[64];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct idp_ask q = base;
		int err;

		if (rows[i].user)
			q.user = rows[i].user;
		err = ways_expand(rows[i].template, &q, dst, sizeof(dst));
		if (err != rows[i].err || (!err && strcmp(dst, rows[i].want) != 0))
			fail_msg("%s: %d %s", rows[i].template, err, err ? "" : dst);
	}
	assert_int_equal(ways_expand("{agent}", &base, dst, 5), -EMSGSIZE);
	assert_int_equal(ways_expand("{agent}", &base, dst, 6), 0);
	assert_int_equal(ways_expand("123456", &base, dst, 6), -EMSGSIZE);
	assert_int_equal(ways_expand("{\"a\":\"{agent}\"}", &base, dst, 13), -EMSGSIZE);
	assert_int_equal(ways_expand("{\"a\":\"{agent}\"}", &base, dst, 14), 0);
}

static void test_binding(void **state)
{
	struct idp_ask q = base;
	char dst[BINDING_MAX + 1], text[1000];

	ways_binding(BINDING_LONG, &q, dst);
	assert_string_equal(dst, "k7f3q2mx: coder wants access to orders-db");
	ways_binding(BINDING_SHORT, &q, dst);
	assert_string_equal(dst, "k7f3q2mx");
	ways_binding(BINDING_NONE, &q, dst);
	assert_string_equal(dst, "");
	q.effect = "ddl";
	/* Nothing that a statement holds can begin a line of its own or hide what was before it. */
	q.text = "  ALTER\n\n\tTABLE\r\x1b[2K t \xe2\x80\xae x\x7f ";
	ways_binding(BINDING_LONG, &q, dst);
	assert_string_equal(dst, "k7f3q2mx: coder wants ddl on orders-db: ALTER TABLE [2K t ??? x");
	memset(text, 'x', sizeof(text));
	text[sizeof(text) - 1] = 0;
	q.text = text;
	ways_binding(BINDING_LONG, &q, dst);
	assert_int_equal(strlen(dst), BINDING_MAX);
	assert_string_equal(dst + BINDING_MAX - 4, "x...");
}

static struct config *chain(struct cfg_way *ways, uint32_t n)
{
	static struct config c;

	c = (struct config){.ways = ways, .nways = n};
	return &c;
}

static void test_list(void **state)
{
	struct cfg_way ways[] = {
		{.name = "a", .then = "b"}, {.name = "b"}, {.name = "c", .then = "a"}};
	static const struct {
		const char *ways, *want;
	} rows[] = {
		{"a", "ab"}, {"b", "b"}, {"c", "cab"}, {"b a", "ba"}, {"a idp", "ab-"}, {"idp", "-"},
	};
	const struct cfg_way *list[WAYS_MAX];
	struct slice missing;
	struct idp_ask q = base;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int n;

		q.ways = rows[i].ways;
		n = ways_list(chain(ways, 3), &q, list, &missing);
		assert_int_equal(n, strlen(rows[i].want));
		for (int k = 0; k < n; k++)
			assert_int_equal(list[k] ? list[k]->name[0] : '-', rows[i].want[k]);
	}
	q.ways = "a gone";
	assert_int_equal(ways_list(chain(ways, 3), &q, list, &missing), -ENOENT);
	assert_true(slice_eq_str(missing, "gone"));
	q.ways = "idp idp idp idp idp idp idp idp idp idp idp idp idp idp idp idp idp";
	assert_int_equal(ways_list(chain(ways, 3), &q, list, &missing), -E2BIG);
}

static void test_question(void **state)
{
	struct cfg_way w = {.name = "w", .kind = WAY_CIBA, .scope = "openid x", .login_hint = "{user}",
			    .details = true, .poll_ms = 1000};
	struct idp_ask q = base;
	struct oidc_ask o;
	struct arena a;

	arena_init(&a, 65536);
	q.max_ms = 5000;
	assert_int_equal(ways_oidc(&w, &q, &a, &o), 0);
	assert_int_equal(o.flow, OIDC_CIBA);
	assert_string_equal(o.scope, "openid x");
	assert_string_equal(o.login_hint, "u");
	assert_string_equal(o.action, "connect");
	assert_null(o.digest);
	assert_int_equal(o.duration_ms, 5000);
	/* A statement: its digest, and no duration, for it is good once. */
	q.effect = "ddl";
	q.scope = "y";
	q.has_digest = true;
	memset(q.digest, 0xab, sizeof(q.digest));
	assert_int_equal(ways_oidc(&w, &q, &a, &o), 0);
	assert_string_equal(o.scope, "y");
	assert_string_equal(o.action, "ddl");
	assert_int_equal(strlen(o.digest), 64);
	assert_int_equal(o.duration_ms, 0);
	w.kind = WAY_TOKEN_EXCHANGE;
	w.login_hint = NULL;
	assert_int_equal(ways_oidc(&w, &q, &a, &o), -ENODATA);
	q.token = slice_str("t");
	assert_int_equal(ways_oidc(&w, &q, &a, &o), 0);
	assert_true(slice_eq_str(o.token, "t"));
	/* An assertion goes as base64url, whatever form the agent has it in. */
	w.kind = WAY_SAML_BEARER;
	for (size_t i = 0; i < 3; i++) {
		static const char *const forms[] = {"<a?>\n", "PGE/Pg==", "PGE_Pg"};

		q.token = slice_str(forms[i]);
		assert_int_equal(ways_oidc(&w, &q, &a, &o), 0);
		assert_int_equal(o.flow, OIDC_SAML_BEARER);
		assert_true(slice_eq_str(o.token, "PGE_Pg"));
	}
	q.token = slice_str("no!assertion");
	assert_int_equal(ways_oidc(&w, &q, &a, &o), 0);
	assert_true(slice_eq_str(o.token, "no!assertion"));
	q.token = slice_of("", 0);
	assert_int_equal(ways_oidc(&w, &q, &a, &o), -ENODATA);
	/* The agent's token in the place of a hint. */
	w.kind = WAY_CIBA;
	w.hint_token = true;
	assert_int_equal(ways_oidc(&w, &q, &a, &o), -ENODATA);
	q.token = slice_str("t");
	assert_int_equal(ways_oidc(&w, &q, &a, &o), 0);
	assert_true(o.hint_token && slice_eq_str(o.token, "t"));
	assert_true(ways_need_token(chain(&w, 1), "w"));
	w.hint_token = false;
	assert_false(ways_need_token(chain(&w, 1), "w"));
	/* `idp`: the policy's scope, by client_credentials. */
	assert_int_equal(ways_oidc(NULL, &q, &a, &o), 0);
	assert_int_equal(o.flow, OIDC_CLIENT_CREDENTIALS);
	arena_done(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_expand),
		cmocka_unit_test(test_binding),
		cmocka_unit_test(test_list),
		cmocka_unit_test(test_question),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
