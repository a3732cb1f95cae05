/* SPDX-License-Identifier: MIT */
/* The configuration file: what is said when its section `idp` is wrong. */
#include "config_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void test_idp_errors(void **state)
{
	static const struct config_bad rows[] = {
		{"idp: {issuer: \"http://i\", client: {id: c, key_file: /k}}\n" A T P,
		 "1:15: `issuer` is an https URL (http only with `allow_http: true`, on a loopback "
		 "address)"},
		{"idp: {issuer: \"http://i\", allow_http: true, client: {id: c, key: /k}}\n" A T P,
		 "1:15: an http `issuer` is accepted on 127.0.0.1, [::1] or localhost only"},
		{"idp: {issuer: \"http://127.0.0.1.evil/\", allow_http: true, client: {id: c, key: "
		 "/k}}\n" A T P,
		 "1:15: an http `issuer` is accepted on 127.0.0.1, [::1] or localhost only"},
		{"idp: {issuer: login, client: {id: c, key: /k}}\n" A T P,
		 "1:15: `issuer` is an https URL, not `login`"},
		{"idp: {issuer: \"https://u@i\", client: {id: c, key: /k}}\n" A T P,
		 "1:15: `issuer` is a URL without user, query and fragment"},
		{"idp: {issuer: \"https://i\", client: {id: c}}\n" A T P,
		 "1:36: `client` lacks `key_file`, which `auth: private_key_jwt` needs"},
		{"idp: {issuer: \"https://i\", client: {id: c, auth: client_secret_post}}\n" A T P,
		 "1:36: `client` lacks `secret_file`, which this `auth` needs"},
		{"idp: {issuer: \"https://i\", client: {id: c, key: /k, key_file: /k}}\n" A T P,
		 "1:53: `key_file` and `key` are spellings of one key: give it once"},
		{IDP("algorithms: none"),
		 "1:71: `none` is no signature algorithm that tokens may use"},
		{IDP("algorithms: [ES256, HS256]"),
		 "1:71: `HS256` is no signature algorithm that tokens may use; did you mean `ES256`?"},
		{IDP("algorithms: []"), "1:71: `algorithms` is empty"},
		{IDP("events: \"0.0.0.0:8910\""),
		 "1:67: `events` is 127.0.0.1:PORT or [::1]:PORT, not `0.0.0.0:8910`: put a proxy that "
		 "speaks TLS before it"},
		{IDP("events: \"127.0.0.1:0\""),
		 "1:67: `events` is 127.0.0.1:PORT or [::1]:PORT, not `127.0.0.1:0`: put a proxy that "
		 "speaks TLS before it"},
		{IDP("extra_origins: []"), "1:74: `extra_origins` is empty"},
		{IDP("extra_origins: [\"https://k.example/keys\"]"),
		 "1:74: an element of `extra_origins` is https://HOST or https://HOST:PORT and nothing "
		 "behind, not `https://k.example/keys`"},
		{IDP("extra_origins: [\"https://u@k\"]"),
		 "1:74: an element of `extra_origins` is https://HOST or https://HOST:PORT and nothing "
		 "behind, not `https://u@k`"},
		{IDP("extra_origins: [\"https://k\", \"http://127.0.0.1:1\"]"),
		 "1:74: an element of `extra_origins` is an https URL (http only with `allow_http: "
		 "true`, on a loopback address), not `http://127.0.0.1:1`"},
		{"idp: {issuer: \"https://i\", client: {id: c, auth: client_secret_basic, secret_file: "
		 "/s}, assertion_audience: a}\n" A T P,
		 "1:109: `assertion_audience` has a meaning only with `auth: private_key_jwt`"},
		{"idp: {issuer: \"https://i\", client: {id: c, auth: tls_client_auth}}\n" A T P,
		 "1:36: `client` lacks `key_file`, which this `auth` needs"},
		{"idp: {issuer: \"https://i\", client: {id: c, auth: self_signed_tls_client_auth, "
		 "key_file: /k}}\n" A T P,
		 "1:36: `client` lacks `certificate_file`, which this `auth` needs"},
		{"idp: {issuer: \"http://[::1]\", allow_http: true, client: {id: c, auth: tls_client_auth, "
		 "key_file: /k, certificate_file: /c}}\n" A T P,
		 "1:57: this `auth` needs an https `issuer`: a certificate is shown in TLS only"},
		{"idp: {issuer: \"https://i\", client: {id: c, key_file: /k, certificate_file: /c}}\n" A T P,
		 "1:58: `certificate_file` has a meaning only with `auth: tls_client_auth` or "
		 "`self_signed_tls_client_auth`"},
		{IDP("introspection: token"), "1:74: `introspection` takes `client` or `bearer`, not `token`"},
		{IDP("introspection_scope: x"),
		 "1:59: `introspection_scope` has a meaning only with `introspection: bearer`"},
		{IDP("name_from: userinfo"),
		 "1:70: `name_from` needs `name_claim`: what is there to look for?"},
		{IDP("name_from: userinfo, name_claim: n, dpop: on"),
		 "1:70: `name_from: userinfo` goes with tokens that are not bound: not with `dpop: on`"},
		{IDP("timeout: 2m"), "1:68: `timeout` is from 100ms to 1m, not `2m`"},
	};

	config_bad(rows, ARRAY_SIZE(rows));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_idp_errors),
	};

	return cmocka_run_group_tests_name("config_idp", tests, NULL, NULL);
}
