/* SPDX-License-Identifier: MIT */
/* Events of a provider: what is read of them, and of the request that brings them. */
#include "ident/secevent.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <cmocka.h>

#define ISS	"https://idp.example"
#define CAEP	"https://schemas.openid.net/secevent/caep/event-type/"
#define LOGOUT	"\"events\":{\"http://schemas.openid.net/event/backchannel-logout\":{}}"
#define REVOKED "\"events\":{\"" CAEP "session-revoked\":{}}"
#define ALICE	"{\"format\":\"iss_sub\",\"iss\":\"" ISS "\",\"sub\":\"alice\"}"
#define HEAD	"\"iat\":1000,\"jti\":\"j\","

static void test_read(void **state)
{
	static const struct {
		const char *claims;
		const char *kind, *subject, *session; /* kind NULL: refused */
		const char *words;
	} rows[] = {
		{"{" HEAD "\"sub\":\"alice\",\"sid\":\"s\"," LOGOUT "}", "logout", "alice", "s", NULL},
		{"{" HEAD "\"sid\":\"s\"," LOGOUT "}", "logout", "", "s", NULL},
		{"{" HEAD "\"sub_id\":" ALICE "," REVOKED "}", "session-revoked", "alice", "", NULL},
		{"{" HEAD "\"events\":{\"" CAEP "session-revoked\":{\"subject\":" ALICE "}}}",
		 "session-revoked", "alice", "", NULL},
		{"{" HEAD "\"sub_id\":{\"format\":\"opaque\",\"id\":\"o\"}," REVOKED "}",
		 "session-revoked", "o", "", NULL},
		{"{" HEAD "\"sub_id\":{\"format\":\"complex\",\"user\":" ALICE
		 ",\"session\":{\"format\":\"opaque\",\"id\":\"s\"}}," REVOKED "}",
		 "session-revoked", "alice", "s", NULL},
		{"{" HEAD "\"sub_id\":{\"format\":\"complex\"}," REVOKED "}", NULL, NULL, NULL,
		 "its subject is not understood"},
		{"{" HEAD LOGOUT "}", NULL, NULL, NULL, "it names neither subject nor session"},
		{"{" HEAD "\"sub\":7," LOGOUT "}", NULL, NULL, NULL, "its subject is not understood"},
		{"{" HEAD "\"sub\":\"a\",\"nonce\":1," LOGOUT "}", NULL, NULL, NULL,
		 "it has a nonce: an ID token is no event"},
		{"{\"iat\":600,\"jti\":\"j\",\"sub\":\"a\"," LOGOUT "}", NULL, NULL, NULL,
		 "it is too old (iat)"},
		{"{\"iat\":1031,\"jti\":\"j\",\"sub\":\"a\"," LOGOUT "}", NULL, NULL, NULL,
		 "it has no usable time of issue (iat)"},
		{"{\"iat\":1000,\"sub\":\"a\"," LOGOUT "}", NULL, NULL, NULL,
		 "it has no usable identifier (jti)"},
		{"{" HEAD "\"sub\":\"a\",\"events\":[]}", NULL, NULL, NULL,
		 "it tells no event, or more than one, that is known here"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		json_t *o = json_loads(rows[i].claims, 0, NULL);
		struct secevent_error error = {NULL, NULL};
		struct secevent ev;

		assert_non_null(o);
		assert_int_equal(secevent_read(o, ISS, 1000, 30, &ev, &error), rows[i].kind != NULL);
		if (rows[i].kind) {
			assert_string_equal(ev.kind, rows[i].kind);
			assert_string_equal(ev.subject, rows[i].subject);
			assert_string_equal(ev.session, rows[i].session);
		} else {
			assert_string_equal(error.words, rows[i].words);
		}
		json_decref(o);
	}
}

#define TYPE   "Content-Type: application/secevent+jwt\r\n"
#define JSON   "Content-Type: application/json\r\n"
#define POST   "POST /x HTTP/1.1\r\n"
#define LEN(n) "Content-Length: " #n "\r\n\r\n"

static void test_request(void **state)
{
	static const struct {
		const char *in, *token; /* NULL: not whole */
		int status;		/* 0: more is needed */
	} rows[] = {
		{POST TYPE LEN(3) "abc", "abc", 0},
		{POST TYPE LEN(3) "abcd", "abc", 0},
		{POST TYPE LEN(3) "ab", NULL, 0},
		{POST "Content-Type: application/x-www-form-urlencoded\r\n" LEN(14) "logout_token=a", "a", 0},
		{POST "Content-Type: application/x-www-form-urlencoded\r\n" LEN(3) "x=a", NULL, 400},
		{POST TYPE "\r\n", NULL, 411},
		{POST LEN(3) "abc", NULL, 415},
		{POST "Content-Type: text/plain\r\n" LEN(3) "abc", NULL, 415},
		{POST TYPE TYPE LEN(3) "abc", NULL, 400},
		{POST TYPE "Content-Length: 3\r\n" LEN(3) "abc", NULL, 400},
		{POST TYPE LEN(0), NULL, 400},
		{POST TYPE LEN(-1), NULL, 400},
		{POST TYPE LEN(20481), NULL, 413},
		{POST TYPE "Transfer-Encoding: chunked\r\n\r\n", NULL, 411},
		{POST TYPE "Expect: 100-continue\r\n" LEN(3), NULL, 417},
		{POST "no colon\r\n" TYPE LEN(3) "abc", NULL, 400},
		{POST "A: b\r\n folded: c\r\n" TYPE LEN(3) "abc", NULL, 400},
		{POST JSON LEN(3) "abc", "abc", 0},
		{POST JSON "Authorization: Bearer x\r\n" LEN(3) "abc", "abc", 0},
		{POST JSON "Authorization: a\r\nauthorization: b\r\n" LEN(3) "abc", NULL, 400},
		{POST TYPE JSON LEN(3) "abc", NULL, 400},
		{"POST /x HTTP/1.0\r\n" TYPE LEN(3) "abc", NULL, 400},
		{"GET /xxx HTTP/1.1\r\n\r\n", NULL, 405},
		{"\r\n\r\n", NULL, 400},
		{"", NULL, 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct secevent_request q;
		enum secevent_http got = secevent_request(slice_str(rows[i].in), &q);

		assert_int_equal(got, rows[i].token	 ? SECEVENT_WHOLE
				      : rows[i].status ? SECEVENT_REFUSED
							       : SECEVENT_MORE);
		assert_int_equal(q.status, rows[i].status);
		if (rows[i].token)
			assert_true(slice_eq_str(q.token, rows[i].token));
	}
}

/* Who sends a ping, and about which question. */
static void test_pings(void **state)
{
	static const struct {
		const char *auth, *body, *bearer, *id; /* NULL: none */
	} rows[] = {
		{"Authorization: Bearer abc\r\n", "{\"auth_req_id\":\"q-1\"}", "abc", "q-1"},
		{"authorization:bearer  a b\r\n", "{\"auth_req_id\":\"q\",\"x\":1}", "a b", "q"},
		{"Authorization: Basic abc\r\n", "{\"auth_req_id\":\"q\"}", "", "q"},
		{"Authorization: Bearer\r\n", "{\"auth_req_id\":\"\"}", "", NULL},
		{"", "{\"auth_req_id\":7}", "", NULL},
		{"", "{\"auth_req_id\":\"a\",\"auth_req_id\":\"b\"}", "", NULL},
		{"", "{}", "", NULL},
		{"", "[\"auth_req_id\"]", "", NULL},
		{"", "auth_req_id=q", "", NULL},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct secevent_request q;
		char *in, id[SECEVENT_PING_MAX];

		assert_true(asprintf(&in, POST JSON "%sContent-Length: %zu\r\n\r\n%s", rows[i].auth,
				     strlen(rows[i].body), rows[i].body) > 0);
		assert_int_equal(secevent_request(slice_str(in), &q), SECEVENT_WHOLE);
		assert_true(q.ping && !q.logout && slice_eq_str(q.bearer, rows[i].bearer));
		assert_int_equal(secevent_ping(&q, id), rows[i].id != NULL);
		if (rows[i].id)
			assert_string_equal(id, rows[i].id);
		free(in);
	}
}

static void test_endless_head(void **state)
{
	static char in[SECEVENT_HEAD_MAX + 64] = POST;
	struct secevent_request q;

	memset(in + strlen(POST), 'a', sizeof(in) - strlen(POST));
	assert_int_equal(secevent_request(slice_of(in, SECEVENT_HEAD_MAX), &q), SECEVENT_MORE);
	assert_int_equal(secevent_request(slice_of(in, sizeof(in)), &q), SECEVENT_REFUSED);
	assert_int_equal(q.status, 431);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_read),
		cmocka_unit_test(test_request),
		cmocka_unit_test(test_pings),
		cmocka_unit_test(test_endless_head),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
