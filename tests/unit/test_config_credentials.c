/* SPDX-License-Identifier: MIT */
/* The section `credentials`, and the targets that name one. */
#include "config_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#define TARGET(x) "targets: {t: {address: \"h:1\", protocol: postgresql" x "}}\n"
#define AT_GRANTS(x) "1:91: `grants`: `" x "` has "
#define CRED(x)	  "credentials: {c: {" x "}}\n" A TARGET(", credential: c") P

#define ROLE(x)                                                                                    \
	"credentials: {adm: {user: a, password_file: /p}, c: {ephemeral_role: {admin: adm, " x "}}}\n" \
	A TARGET(", credential: c") P
#define ROLE_GRANT(x) ROLE("grants: ['" x "']")

static void test_roles(void **state)
{
	struct config *c = config_good(
		ROLE("grants: [pg_read_all_data, 'odd \"name\"; --', "
		     "'GRANT SELECT ON \"a;b\" TO {role}', 'grant connect on database {database} to {role}'], "
		     "connections: 3, max: 5m, sweep: 2s, database: d, owner: o"));
	const struct cfg_role *r = &c->credentials[1].role;

	(void)state;
	assert_ptr_equal(r->login, &c->credentials[0]);
	assert_string_equal(r->grants[1], "odd \"name\"; --");
	assert_string_equal(r->grants[3], "grant connect on database {database} to {role}");
	assert_int_equal(r->connections, 3);
	assert_int_equal(r->max_ms, 300000);
	assert_int_equal(r->sweep_ms, 2000);
	assert_string_equal(r->database, "d");
	assert_string_equal(r->owner, "o");
	assert_true(config_is_admin(c, slice_str("adm")));
	assert_false(config_is_admin(c, slice_str("c")));
	assert_false(config_is_admin(c, slice_str("none")));
	config_free(c);
	c = config_good(ROLE("grants: r"));
	assert_int_equal(c->credentials[1].role.connections, 20);
	assert_int_equal(c->credentials[1].role.max_ms, 3600000);
	assert_false(c->credentials[1].role.drop_owned);
	config_free(c);
}

static void test_bad_roles(void **state)
{
	static const struct config_bad rows[] = {
		{ROLE("connections: 3"),
		 "1:70: `ephemeral_role` of credential `c` lacks the key `grants` (what it may: names of "
		 "roles, or GRANT statements with {role} and, if need be, {database})"},
		{ROLE_GRANT("GRANT SELECT ON a TO {role}; DROP TABLE x"),
		 AT_GRANTS("GRANT SELECT ON a TO {role}; DROP TABLE x") "`;`, `$` or a comment: it is one "
		 "plain statement"},
		{ROLE_GRANT("GRANT SELECT ON a TO {role} -- x"),
		 AT_GRANTS("GRANT SELECT ON a TO {role} -- x") "`;`, `$` or a comment: it is one plain "
		 "statement"},
		{ROLE_GRANT("GRANT SELECT ON a TO {role} WITH GRANT OPTION"),
		 AT_GRANTS("GRANT SELECT ON a TO {role} WITH GRANT OPTION") "WITH ... OPTION: the agent "
		 "could pass on what it was given"},
		{ROLE_GRANT("GRANT SELECT ON a TO PUBLIC"),
		 AT_GRANTS("GRANT SELECT ON a TO PUBLIC") "not `TO {role}` just once"},
		{ROLE_GRANT("GRANT SELECT ON {role} TO x"),
		 AT_GRANTS("GRANT SELECT ON {role} TO x") "not `TO {role}` just once"},
		{ROLE_GRANT("GRANT SELECT ON \"a TO {role}"),
		 AT_GRANTS("GRANT SELECT ON \"a TO {role}") "a quote that does not end"},
		{ROLE_GRANT("GRANT SELECT ON {tabel} TO {role}"),
		 AT_GRANTS("GRANT SELECT ON {tabel} TO {role}") "an unknown name in braces: there are {role} "
		 "and {database}"},
		{ROLE_GRANT("{role}"),
		 AT_GRANTS("{role}") "neither a role's name nor a statement that begins with GRANT"},
		{ROLE("grants: r, owner: o, drop_owned: true"),
		 "1:101: `owner` and `drop_owned` exclude each other"},
		{"credentials: {c: {ephemeral_role: {admin: no, grants: r}}}\n" A
		 TARGET(", credential: c") P,
		 "1:43: no credential is called `no`"},
		{"credentials: {adm: {user: a, password_file: /p}, c: {ephemeral_role: {admin: adm, grants: "
		 "r}}}\n" A TARGET(", credential: adm") P,
		 "3:65: credential `adm` is the `admin` of an `ephemeral_role`: agents are never logged in "
		 "with it"},
	};

	(void)state;
	config_bad(rows, ARRAY_SIZE(rows));
}

#define ONE_OF                                                                                     \
	"1:18: credential `c` takes one of `password_file`, `exec`, `grant_token`, "                \
	"`ephemeral_role` and `key_file`"
#define PROVIDER                                                                                   \
	"idp: {issuer: \"https://i.example\", client: {id: x, auth: client_secret_basic, secret_file: /s}}\n"                  \
	"approvals: {machine: {by: client_credentials, scope: s}, own: {by: introspection}}\n"

static void test_tokens(void **state)
{
	struct config *c = config_good(
		PROVIDER "credentials: {a: {grant_token: machine, user: u}, b: {grant_token: idp}}\n" A
		TARGET(", credential: b") P);

	(void)state;
	assert_string_equal(c->credentials[0].grant_token, "machine");
	assert_string_equal(c->credentials[0].user, "u");
	assert_string_equal(c->targets[0].login->grant_token, "idp");
	config_free(c);
}

static void test_good(void **state)
{
	struct config *c = config_good(
		"credentials: {file: {user: u, password_file: /p, clear_text: true}, "
		"told: {exec: [/bin/tell, -n], run_as: teller, timeout: 2s, keep: 0s}}\n" A
		"targets: {t: {address: \"h:1\", protocol: postgresql, credential: told}, "
		"f: {address: \"h:2\", protocol: postgresql, credential: file}, "
		"n: {address: \"h:3\", protocol: postgresql}}\n" P);

	(void)state;
	assert_int_equal(c->ncredentials, 2);
	assert_string_equal(c->credentials[0].user, "u");
	assert_true(c->credentials[0].clear_text);
	assert_false(c->credentials[1].clear_text);
	assert_null(c->credentials[1].user);
	assert_string_equal(c->credentials[1].exec[1], "-n");
	assert_null(c->credentials[1].exec[2]);
	assert_int_equal(c->credentials[1].timeout_ms, 2000);
	assert_int_equal(c->credentials[1].keep_ms, 0);
	assert_int_equal(c->credentials[0].keep_ms, 300000);
	assert_ptr_equal(c->targets[0].login, &c->credentials[1]);
	assert_ptr_equal(c->targets[1].login, &c->credentials[0]);
	assert_null(c->targets[2].login);
	config_free(c);
}

static void test_bad(void **state)
{
	static const struct config_bad rows[] = {
		{CRED("user: u"), ONE_OF},
		{CRED("user: u, password_file: /p, exec: /x, run_as: r"), ONE_OF},
		{CRED("user: u, password_file: /p, grant_token: idp"), ONE_OF},
		{CRED("user: u, grant_token: idp"), "1:41: `idp` is not configured"},
		{PROVIDER CRED("grant_token: machin"), "3:32: no approval is called `machin`"},
		{PROVIDER CRED("grant_token: own"),
		 "3:32: approval `own` brings no access token: `by` has to be client_credentials, "
		 "token_exchange, ciba, device or saml_bearer"},
		{PROVIDER CRED("grant_token: machine, keep: 1m"),
		 "3:41: `keep` has a meaning only with `exec`"},
		{CRED("password_file: /p"), "1:18: credential `c` lacks `user`"},
		{CRED("user: u, password_file: p"),
		 "1:43: `password_file` takes an absolute path, not `p`"},
		{CRED("exec: tell, run_as: r"),
		 "1:25: `exec` begins with the program's absolute path, not `tell`"},
		{CRED("exec: /tell"), "1:18: credential `c` lacks `run_as`: under which account is its "
				      "program to run?"},
		{CRED("exec: /tell, run_as: root"),
		 "1:40: `run_as` is an account for this program alone, not root's"},
		{CRED("exec: [], run_as: r"), "1:25: `exec` is empty"},
		{CRED("user: u, password_file: /p, keep: 1m"),
		 "1:47: `keep` has a meaning only with `exec`"},
		{CRED("exec: /t, run_as: r, timeout: 2m"), "1:49: `timeout` is from 100ms to 1m, not `2m`"},
		{"credentials: []\n" A TARGET("") P,
		 "1:14: `credentials` is a mapping of names, as `orders-ro: { user: orders_ro, "
		 "password_file: /etc/tidegate/orders-ro }`"},
		{"credentials: {A: {user: u, password_file: /p}}\n" A TARGET("") P,
		 "1:15: `A` cannot name a credential: names are made of a-z, 0-9, `-`, `_` and `.`, begin "
		 "with a letter or digit and have at most 63 characters"},
		{"credentials: {shop: {user: u, password_file: /p}}\n" A TARGET(", credential: shp") P,
		 "3:65: no credential is called `shp`; did you mean `shop`?"},
		{A TARGET(", credential: c") P, "2:65: no credential is called `c`"},
		{"credentials: {c: {user: u, password_file: /p}}\n" A
		 TARGET(", credential: c, netns: agent") P,
		 "3:65: `netns: agent` and `credential` exclude each other without `tls`: a server in an "
		 "agent's namespace can be a fake that collects the password"},
	};

	(void)state;
	config_bad(rows, ARRAY_SIZE(rows));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_good),
		cmocka_unit_test(test_tokens),
		cmocka_unit_test(test_roles),
		cmocka_unit_test(test_bad_roles),
		cmocka_unit_test(test_bad),
	};

	return cmocka_run_group_tests_name("config_credentials", tests, NULL, NULL);
}
