/* SPDX-License-Identifier: MIT */
/* Answers of providers and decision points: what counts, and what is said of what does not. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <stdio.h>

#include "guard.h"
#include "ident/authzen.h"
#include "ident/authzen_meta.h"
#include "ident/introspection.h"
#include "ident/start_answer.h"
#include "ident/strict_json.h"

#define LONG_CODE "12345678901234567890123456789012345678901234567890123456789012345"

/* ------------------------------------------------------------ decision point */

static void test_decision(void **state)
{
	static const struct {
		const char *body, *want, *evidence; /* want NULL: yes; "": no, and properly so */
	} rows[] = {
		{"{\"decision\":true}", NULL, NULL},
		{"{\"decision\":false}", "", NULL},
		{"{\"decision\":true,\"context\":{\"reason\":\"r\"}}", NULL, "{\"reason\":\"r\"}"},
		{"{\"decision\":false,\"context\":{\"a\":1}}", "", "{\"a\":1}"},
		{"{\"decision\":true,\"context\":[1]}", NULL, NULL},
		{"{\"decision\":true,\"context\":\"x\"}", NULL, NULL},
		{"{\"decision\":\"true\"}", "no `decision`", NULL},
		{"{\"decision\":1}", "no `decision`", NULL},
		{"{\"decision\":null}", "no `decision`", NULL},
		{"{\"Decision\":true}", "no `decision`", NULL},
		{"{\"x\":{\"decision\":true}}", "no `decision`", NULL},
		{"{}", "no `decision`", NULL},
		{"[{\"decision\":true}]", "no object", NULL},
		{"true", "", NULL},
		{"", "no valid JSON", NULL},
		{"{\"decision\":true", "no valid JSON", NULL},
		{"{\"decision\":true}{}", "no valid JSON", NULL},
		{"{\"decision\":false,\"decision\":true}", "the same name twice", NULL},
		{"{\"decision\":true,\"context\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":"
		 "{\"a\":{\"a\":{\"a\":1}}}}}}}}}}}}}}", "levels", NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *evidence, error[200] = "?";
		void *handle;
		size_t n = strlen(rows[i].body);
		struct slice s = slice_of(guard_copy(slice_of(rows[i].body, n), &handle), n);
		bool yes = authzen_decision(s, &evidence, error, sizeof(error));

		if (yes != !rows[i].want || !strstr(error, rows[i].want ? rows[i].want : ""))
			fail_msg("%s: %d %s", rows[i].body, yes, error);
		if (rows[i].evidence)
			assert_string_equal(evidence, rows[i].evidence);
		else
			assert_null(evidence);
		free(evidence);
		guard_free(handle);
	}
}

static void test_question(void **state)
{
	struct authzen_ask q = {.agent = "bot", .target = "shop", .action = "connect"};
	char *text = authzen_body(&q);

	assert_string_equal(text,
			    "{\"subject\":{\"type\":\"agent\",\"id\":\"bot\",\"properties\":{}},"
			    "\"action\":{\"name\":\"connect\"},\"resource\":{\"type\":\"target\","
			    "\"id\":\"shop\",\"properties\":{}},\"context\":{}}");
	free(text);
	q.user = "u";
	q.database = "d";
	q.action = "ddl";
	q.text = "ALTER \"x\"";
	q.facts = "{\"uid\":7}";
	text = authzen_body(&q);
	assert_non_null(strstr(text, "\"properties\":{\"uid\":7,\"user\":\"u\"}"));
	assert_non_null(strstr(text, "\"properties\":{\"database\":\"d\"}"));
	assert_non_null(strstr(text, "\"statement\":\"ALTER \\\"x\\\"\""));
	free(text);
	/* Facts that are none are left out, not passed on. */
	q.facts = "{\"uid\":7,\"uid\":8}";
	text = authzen_body(&q);
	assert_non_null(strstr(text, "\"properties\":{\"user\":\"u\"}"));
	free(text);
}

static void test_metadata_place(void **state)
{
	static const struct {
		const char *point, *want; /* NULL: refused */
		bool http;
	} rows[] = {
		{"https://pdp.example.com", .want = "https://pdp.example.com/.well-known/authzen-configuration"},
		{"https://pdp.example.com/", .want = "https://pdp.example.com/.well-known/authzen-configuration"},
		{"https://pdp.example.com:8443/t1",
		 .want = "https://pdp.example.com:8443/.well-known/authzen-configuration/t1"},
		{"https://pdp.example.com/t1/x/",
		 .want = "https://pdp.example.com/.well-known/authzen-configuration/t1/x"},
		{"http://127.0.0.1:3592", .want = "http://127.0.0.1:3592/.well-known/authzen-configuration", .http = true},
		{"http://127.0.0.1:3592", .want = NULL},
		{"http://pdp.example.com", .want = NULL, .http = true},
		{"https://pdp.example.com/?t=1", .want = NULL},
		{"https://pdp.example.com/#t", .want = NULL},
		{"https://u@pdp.example.com/", .want = NULL},
		{"pdp.example.com", .want = NULL},
		{"file:///etc/passwd", .want = NULL},
		{"", .want = NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *url = NULL;
		int err = authzen_meta_url(rows[i].point, rows[i].http, &url);

		if (err != (rows[i].want ? 0 : -EINVAL))
			fail_msg("%s: %d", rows[i].point, err);
		if (!err)
			assert_string_equal(url, rows[i].want);
		free(url);
	}
}

/* Believed is what is about the configured decision point, and leads to it. */
static void test_metadata(void **state)
{
#define OF(point, endpoint) "{\"policy_decision_point\":\"" point "\",\"access_evaluation_endpoint\":\"" endpoint "\"}"
	static const char point[] = "https://pdp.example/t1";
	static const struct {
		const char *body, *want, *found; /* want NULL: taken */
	} rows[] = {
		{OF("https://pdp.example/t1", "https://pdp.example/t1/access/v1/evaluation"),
		 .found = "https://pdp.example/t1/access/v1/evaluation"},
		{OF("https://pdp.example/t1", "https://PDP.example:443/e"), .found = "https://PDP.example:443/e"},
		{OF("https://pdp.example/t1/", "https://pdp.example/e"), .want = "of decision point"},
		{OF("https://pdp.example/t2", "https://pdp.example/e"), .want = "`https://pdp.example/t2`, not of"},
		{OF("https://PDP.example/t1", "https://pdp.example/e"), .want = "of decision point"},
		{OF("\\u001b[2J", "https://pdp.example/e"), .want = "`\\x1b[2J`"},
		{"{\"access_evaluation_endpoint\":\"https://pdp.example/e\"}", .want = "of decision point ``"},
		{"{\"policy_decision_point\":[\"https://pdp.example/t1\"],"
		 "\"access_evaluation_endpoint\":\"https://pdp.example/e\"}", .want = "of decision point ``"},
		{OF("https://pdp.example/t1", "https://evil.example/e"), .want = "not on the decision point's own origin"},
		{OF("https://pdp.example/t1", "https://pdp.example:8443/e"), .want = "not on the decision point's own"},
		{OF("https://pdp.example/t1", "https://pdp.example.evil/e"), .want = "not on the decision point's own"},
		{OF("https://pdp.example/t1", "http://pdp.example/e"), .want = "an https URL"},
		{OF("https://pdp.example/t1", "https://u@pdp.example/e"), .want = "an https URL"},
		{OF("https://pdp.example/t1", "/access/v1/evaluation"), .want = "an https URL"},
		{OF("https://pdp.example/t1", "http://127.0.0.1/e"), .want = "an https URL"},
		{"{\"policy_decision_point\":\"https://pdp.example/t1\"}", .want = "no `access_evaluation_endpoint`"},
		{"{\"policy_decision_point\":\"https://pdp.example/t1\",\"policy_decision_point\":"
		 "\"https://pdp.example/t1\",\"access_evaluation_endpoint\":\"https://pdp.example/e\"}", .want = "twice"},
		{"[]", .want = "no object"}, {"", .want = "no valid JSON"}, {"<html>", .want = "no valid JSON"},
	};
#undef OF

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		char *endpoint = NULL, error[400] = "";
		void *handle;
		size_t n = strlen(rows[i].body);
		struct slice s = slice_of(guard_copy(slice_of(rows[i].body, n), &handle), n);
		int err = authzen_meta_parse(s, point, false, &endpoint, error, sizeof(error));

		if (rows[i].want ? err != -EINVAL || !strstr(error, rows[i].want) : err)
			fail_msg("%s: %d %s", rows[i].body, err, error);
		if (!err)
			assert_string_equal(endpoint, rows[i].found);
		free(endpoint);
		guard_free(handle);
	}
}

/* --------------------------------------------------------- a person is asked */

static void test_start(void **state)
{
	static const struct {
		const char *body, *want; /* NULL: taken */
		bool device, http;
		uint64_t interval_ms;
	} rows[] = {
		{"{\"auth_req_id\":\"r\",\"expires_in\":60}", .want = NULL, .interval_ms = 5000},
		{"{\"auth_req_id\":\"r\",\"expires_in\":60,\"interval\":2}", .want = NULL, .interval_ms = 2000},
		{"{\"auth_req_id\":\"r\",\"expires_in\":60,\"interval\":0.5}", .want = NULL, .interval_ms = 500},
		{"{\"auth_req_id\":\"r\",\"expires_in\":60,\"interval\":9999}", .want = NULL, .interval_ms = 60000},
		{"{\"auth_req_id\":\"\",\"expires_in\":60}", .want = "no auth_req_id"},
		{"{\"auth_req_id\":7,\"expires_in\":60}", .want = "no auth_req_id"},
		{"{\"device_code\":\"r\",\"expires_in\":60}", .want = "no auth_req_id"},
		{"{\"auth_req_id\":\"r\"}", .want = "expires_in"},
		{"{\"auth_req_id\":\"r\",\"expires_in\":\"60\"}", .want = "expires_in"},
		{"{\"auth_req_id\":\"r\",\"expires_in\":0}", .want = "expires_in"},
		{"{\"auth_req_id\":\"r\",\"expires_in\":-1}", .want = "expires_in"},
		{"{\"auth_req_id\":\"r\",\"expires_in\":1e99}", .want = "expires_in"},
		{"{\"auth_req_id\":\"r\",\"expires_in\":60,\"interval\":-1}", .want = "interval"},
		{"{\"auth_req_id\":\"r\",\"expires_in\":60,\"interval\":\"5\"}", .want = "interval"},
		{"{\"auth_req_id\":\"r\",\"auth_req_id\":\"s\",\"expires_in\":60}", .want = "twice"},
		{"<html>", .want = "no valid JSON"},
		{"{\"device_code\":\"d\",\"user_code\":\"AB\",\"verification_uri\":\"https://i/d\",\"expires_in\":60}", .want = NULL, .device = true, .interval_ms = 5000},
		{"{\"device_code\":\"d\",\"verification_uri\":\"https://i/d\",\"expires_in\":60}", .want = "user_code", .device = true},
		{"{\"device_code\":\"d\",\"user_code\":\"A\\u001b[2K\",\"verification_uri\":\"https://i/d\",\"expires_in\":60}", .want = "user_code", .device = true},
		{"{\"device_code\":\"d\",\"user_code\":\"" LONG_CODE "\",\"verification_uri\":\"https://i/d\",\"expires_in\":60}", .want = "user_code", .device = true},
		{"{\"device_code\":\"d\",\"user_code\":\"AB\",\"verification_uri\":\"http://i/d\",\"expires_in\":60}", .want = "verification_uri", .device = true, .http = true},
		{"{\"device_code\":\"d\",\"user_code\":\"AB\",\"verification_uri\":\"http://127.0.0.1/d\",\"expires_in\":60}", .want = "verification_uri", .device = true},
		{"{\"device_code\":\"d\",\"user_code\":\"AB\",\"verification_uri\":\"http://127.0.0.1/d\",\"expires_in\":60}", .want = NULL, .device = true, .http = true, .interval_ms = 5000},
		{"{\"device_code\":\"d\",\"user_code\":\"AB\",\"verification_uri\":\"javascript:1\",\"expires_in\":60}", .want = "verification_uri", .device = true},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct start_answer a = {0};
		char error[200] = "";
		void *handle;
		size_t n = strlen(rows[i].body);
		struct slice s = slice_of(guard_copy(slice_of(rows[i].body, n), &handle), n);
		int err = start_answer_parse(s, rows[i].device, rows[i].http, 5000, &a, error, sizeof(error));

		if (rows[i].want ? err != -EINVAL || !strstr(error, rows[i].want) : err)
			fail_msg("%s: %d %s", rows[i].body, err, error);
		if (!err)
			assert_int_equal(a.interval_ms, rows[i].interval_ms);
		start_answer_done(&a);
		guard_free(handle);
	}
}

/* A page with the code in it that could not be shown is left out, the plain one stays. */
static void test_complete_uri(void **state)
{
	static const char body[] = "{\"device_code\":\"d\",\"user_code\":\"AB\",\"verification_uri\":"
				   "\"https://i/d\",\"verification_uri_complete\":\"%s\",\"expires_in\":60}";
	struct start_answer a;
	char text[300], error[200];

	(void)snprintf(text, sizeof(text), body, "https://i/d?c=AB");
	assert_int_equal(start_answer_parse(slice_str(text), true, false, 1, &a, error, sizeof(error)), 0);
	assert_string_equal(a.uri_complete, "https://i/d?c=AB");
	start_answer_done(&a);
	(void)snprintf(text, sizeof(text), body, "http://i/d?c=AB");
	assert_int_equal(start_answer_parse(slice_str(text), true, false, 1, &a, error, sizeof(error)), 0);
	assert_null(a.uri_complete);
	assert_string_equal(a.uri, "https://i/d");
	start_answer_done(&a);
}

/* ------------------------------------------------------------- introspection */

#define EXP ",\"exp\":1700000300"

static void test_introspection(void **state)
{
	static const struct {
		const char *body, *want; /* NULL: good */
		bool denied, named, bound;
	} rows[] = {
		{"{\"active\":true,\"scope\":\"db.read\"" EXP "}", .want = NULL},
		{"{\"active\":true,\"scope\":\"x db.read\",\"iss\":\"https://i\",\"aud\":\"https://d\"" EXP "}", .want = NULL},
		{"{\"active\":true,\"scope\":\"db.read\",\"aud\":[\"x\",\"https://d\"]" EXP "}", .want = NULL, .named = true},
		{"{\"active\":true,\"scope\":\"db.read\",\"cnf\":{}" EXP "}", .want = NULL, .bound = true},
		{"{\"active\":true,\"scope\":\"db.read\",\"nbf\":1700000030" EXP "}", .want = NULL},
		{"{\"active\":false,\"scope\":\"db.read\"" EXP "}", .want = "not active", .denied = true},
		{"{\"active\":\"true\",\"scope\":\"db.read\"" EXP "}", .want = "not active", .denied = true},
		{"{\"active\":1,\"scope\":\"db.read\"" EXP "}", .want = "not active", .denied = true},
		{"{}", .want = "not active", .denied = true},
		{"{\"active\":true,\"scope\":\"db.read\",\"cnf\":{}" EXP "}", .want = "bound to a key", .denied = true},
		{"{\"active\":true,\"scope\":\"db.reads\"" EXP "}", .want = "scope", .denied = true},
		{"{\"active\":true" EXP "}", .want = "scope", .denied = true},
		{"{\"active\":true,\"scope\":\"db.read\",\"iss\":\"https://j\"" EXP "}", .want = "issuer"},
		{"{\"active\":true,\"scope\":\"db.read\",\"iss\":[\"https://i\"]" EXP "}", .want = "issuer"},
		{"{\"active\":true,\"scope\":\"db.read\",\"aud\":\"https://dx\"" EXP "}", .want = "audience"},
		{"{\"active\":true,\"scope\":\"db.read\",\"aud\":[]" EXP "}", .want = "audience"},
		{"{\"active\":true,\"scope\":\"db.read\",\"aud\":{\"https://d\":1}" EXP "}", .want = "audience"},
		{"{\"active\":true,\"scope\":\"db.read\"" EXP "}", .want = "audience", .named = true},
		{"{\"active\":true,\"scope\":\"db.read\",\"nbf\":1700000031" EXP "}", .want = "not valid yet"},
		{"{\"active\":true,\"scope\":\"db.read\"}", .want = "when the token ends"},
		{"{\"active\":true,\"scope\":\"db.read\",\"exp\":\"1700000300\"}", .want = "when the token ends"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		const struct introspection_rules q = {
			.issuer = "https://i", .audience = "https://d", .scope = "db.read",
			.named = rows[i].named, .bound = rows[i].bound, .now_s = 1700000000, .skew_s = 30,
		};
		char error[200];
		json_t *o = strict_json_object(slice_str(rows[i].body), 4096, error, sizeof(error));
		bool denied = false;
		const char *why;

		assert_non_null(o);
		why = introspection_check(o, &q, &denied);
		if (rows[i].want ? !why || !strstr(why, rows[i].want) || denied != rows[i].denied : why != NULL)
			fail_msg("%s: %d %s", rows[i].body, denied, why ? why : "good");
		json_decref(o);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_decision),     cmocka_unit_test(test_question),
		cmocka_unit_test(test_metadata_place), cmocka_unit_test(test_metadata),
		cmocka_unit_test(test_start),	     cmocka_unit_test(test_complete_uri),
		cmocka_unit_test(test_introspection),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
