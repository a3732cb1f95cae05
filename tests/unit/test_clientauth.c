/* SPDX-License-Identifier: MIT */
/* How the client proves itself: encodings and signed assertions; and the token request. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "ident/b64.h"
#include "ident/clientauth.h"
#include "ident/jws_sign.h"
#include "ident/health.h"
#include "ident/jwt.h"
#include "ident/token.h"
#include "jose_make.h"

static void test_form(void **state)
{
	static const struct {
		const char *in, *out;
	} rows[] = {
		{"", ""},
		{"abcXYZ019-._*", "abcXYZ019-._*"},
		{"a b", "a+b"},
		{"a+b", "a%2Bb"},
		{"p@ss:w/ rd+%&=~", "p%40ss%3Aw%2F+rd%2B%25%26%3D%7E"},
		{"\xc3\xa4\n\x7f", "%C3%A4%0A%7F"},
		{"x\r\nHost: evil", "x%0D%0AHost%3A+evil"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct buf b;

		buf_init(&b, 100);
		assert_int_equal(clientauth_form(&b, slice_str(rows[i].in)), 0);
		assert_true(slice_eq_str(buf_slice(&b), rows[i].out));
		buf_done(&b);
	}
	{
		struct buf small;

		buf_init(&small, 8);
		assert_int_equal(clientauth_form(&small, SLICE_LIT("123456789")), -EMSGSIZE);
		buf_done(&small);
	}
}

/* RFC 6749 section 2.3.1: encoded, joined, and only then base64. */
static void test_basic(void **state)
{
	static const struct {
		const char *id, *secret, *joined;
	} rows[] = {
		{"s6BhdRkqt3", "7Fjfp0ZBr1KtDRbnfVdmIw", "s6BhdRkqt3:7Fjfp0ZBr1KtDRbnfVdmIw"},
		{"a:b", "c d", "a%3Ab:c+d"},
		{"odd", "p@ss:w/ rd+%&=~", "odd:p%40ss%3Aw%2F+rd%2B%25%26%3D%7E"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		uint8_t mem[200];
		struct buf b;
		size_t n;

		buf_init(&b, 1000);
		assert_int_equal(
			clientauth_basic(slice_str(rows[i].id), slice_str(rows[i].secret), &b), 0);
		assert_memory_equal(buf_data(&b), "Basic ", 6);
		assert_int_equal(b64_decode(slice_from(buf_slice(&b), 6), mem, sizeof(mem), &n), 0);
		assert_true(slice_eq_str(slice_of(mem, n), rows[i].joined));
		buf_done(&b);
	}
}

static void test_request(void **state)
{
	struct token_param params[] = {
		{"grant_type", SLICE_LIT("client_credentials")},
		{"scope", SLICE_LIT("db:orders:read x")},
		{"resource", {0}},
		{"audience", {0}},
	};
	struct token_request q = {
		.client_id = "tide gate",
		.params = params,
		.nparams = ARRAY_SIZE(params),
		.auth = TOKEN_AUTH_BASIC,
		.credential = SLICE_LIT("s3cret"),
	};
	static const struct {
		const char *resource, *audience;
		enum token_auth auth;
		const char *body;
	} rows[] = {
		{NULL, NULL, TOKEN_AUTH_BASIC,
		 "grant_type=client_credentials&scope=db%3Aorders%3Aread+x"},
		{"https://db/", "aud", TOKEN_AUTH_POST,
		 "grant_type=client_credentials&scope=db%3Aorders%3Aread+x&resource=https%3A%2F%"
		 "2Fdb%2F"
		 "&audience=aud&client_id=tide+gate&client_secret=s3cret"},
		{NULL, NULL, TOKEN_AUTH_ASSERTION,
		 "grant_type=client_credentials&scope=db%3Aorders%3Aread+x&client_id=tide+gate"
		 "&client_assertion_type="
		 "urn%3Aietf%3Aparams%3Aoauth%3Aclient-assertion-type%3Ajwt-bearer"
		 "&client_assertion=s3cret"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct buf body, header;

		buf_init(&body, TOKEN_REQUEST_MAX);
		buf_init(&header, TOKEN_REQUEST_MAX);
		params[2].value = slice_str(rows[i].resource);
		params[3].value = slice_str(rows[i].audience);
		q.auth = rows[i].auth;
		assert_int_equal(token_request_build(&q, &body, &header), 0);
		if (!slice_eq_str(buf_slice(&body), rows[i].body))
			fail_msg("row %zu: %.*s", i, (int)body.n, (char *)buf_data(&body));
		assert_int_equal(header.n > 0, rows[i].auth == TOKEN_AUTH_BASIC);
		if (header.n)
			assert_string_equal((char *)buf_data(&header),
					    "Authorization: Basic dGlkZStnYXRlOnMzY3JldA==");
		buf_done(&body);
		buf_done(&header);
	}
}

/* In place of the client; what could be another header is none. */
static void test_bearer(void **state)
{
	static const struct {
		const char *token, *header; /* NULL: refused */
	} rows[] = {
		{"abc.d-e_f~+/=", "Authorization: Bearer abc.d-e_f~+/="},
		{"a b", NULL}, {"a\r\nX-Evil: 1", NULL}, {"a\n", NULL}, {"\x7f", NULL}, {"\xc3\xa9", NULL},
		{"", NULL},
	};
	struct token_param params[] = {{"token", SLICE_LIT("t")}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct token_request q = {.client_id = "c", .params = params, .nparams = 1,
					  .auth = TOKEN_AUTH_BEARER, .credential = slice_str(rows[i].token)};
		struct buf body, header;

		buf_init(&body, TOKEN_REQUEST_MAX);
		buf_init(&header, TOKEN_REQUEST_MAX);
		assert_int_equal(token_request_build(&q, &body, &header), rows[i].header ? 0 : -EINVAL);
		assert_true(slice_eq_str(buf_slice(&body), "token=t"));
		if (rows[i].header)
			assert_string_equal((char *)buf_data(&header), rows[i].header);
		buf_done(&body);
		buf_done(&header);
	}
}

/* What is signed here is believed by our own verifier, and says what it must. */
static void check_assertion(const char *kind, const char *alg)
{
	static const char *const algs[] = {"ES256", "PS256", "RS256", "EdDSA", NULL};
	EVP_PKEY *key = jose_key(kind);
	struct clientauth_claims c = {
		.client_id = "tidegate \"1\"",
		.audience = "https://idp.example/token",
		.key_id = "key-1",
		.alg = alg,
		.now_s = 1700000000,
	};
	struct jwt_expect want = {
		.issuer = c.client_id,
		.audience = c.audience,
		.algorithms = algs,
		.now_s = c.now_s + CLIENTAUTH_ASSERTION_S - 1,
	};
	char *jwk = jose_jwk(key, ",\"kid\":\"key-1\""), *set, error[200] = "", last[64] = "";
	struct jwks *keys;

	assert_true(asprintf(&set, "{\"keys\":[%s]}", jwk) > 0);
	assert_int_equal(jwks_parse(slice_str(set), &keys, error, sizeof(error)), 0);
	for (int i = 0; i < 20; i++) {
		json_t *claims = NULL;
		const char *jti;
		struct buf b;

		buf_init(&b, CLIENTAUTH_ASSERTION_MAX);
		assert_int_equal(clientauth_assert(key, &c, &b), 0);
		if (jwt_verify(buf_slice(&b), keys, &want, &claims, error, sizeof(error)) != JWT_OK)
			fail_msg("%s: %s", alg, error);
		assert_string_equal(json_string_value(json_object_get(claims, "sub")), c.client_id);
		assert_int_equal(json_integer_value(json_object_get(claims, "exp")),
				 c.now_s + CLIENTAUTH_ASSERTION_S);
		jti = json_string_value(json_object_get(claims, "jti"));
		assert_int_equal(strlen(jti), 22);
		assert_string_not_equal(jti, last);
		(void)snprintf(last, sizeof(last), "%s", jti);
		json_decref(claims);
		buf_done(&b);
	}
	jwks_free(keys);
	free(set);
	free(jwk);
	EVP_PKEY_free(key);
}

static void test_assertions(void **state)
{
	check_assertion("P-256", "ES256");
	check_assertion("RSA", "PS256");
	check_assertion("RSA", "RS256");
	check_assertion("Ed25519", "EdDSA");
}

static void test_unfit_keys(void **state)
{
	static const struct {
		const char *kind, *alg;
		int err;
	} rows[] = {
		{"P-256", "ES256", 0},	       {"P-384", "ES256", -EINVAL},
		{"RSA", "ES256", -EINVAL},     {"P-256", "RS256", -EINVAL},
		{"RSA1024", "RS256", -EINVAL}, {"RSA1024", "PS256", -EINVAL},
		{"P-256", "EdDSA", -EINVAL},   {"RSA", "HS256", -EINVAL},
		{"RSA", "none", -EINVAL},      {"Ed25519", "EdDSA", 0},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		EVP_PKEY *key = jose_key(rows[i].kind);
		struct clientauth_claims c = {
			.client_id = "c", .audience = "a", .alg = rows[i].alg, .now_s = 1};
		const char *why = NULL;
		struct buf b;

		buf_init(&b, CLIENTAUTH_ASSERTION_MAX);
		if (jws_sign_key_fits(key, rows[i].alg, &why) != rows[i].err ||
		    clientauth_assert(key, &c, &b) != rows[i].err)
			fail_msg("%s with %s", rows[i].kind, rows[i].alg);
		assert_int_equal(rows[i].err == 0, why == NULL);
		assert_int_equal(rows[i].err == 0, b.n > 0);
		buf_done(&b);
		EVP_PKEY_free(key);
	}
}

/* 1, 2, 4 ... 60 s, at most a quarter more; one step for each back-off, not for each failure. */
static void test_health(void **state)
{
	struct health h = {.up = false};
	uint64_t now = 1000, wait = HEALTH_BACKOFF_MIN_MS;

	assert_false(health_in_backoff(&h, now));
	for (int i = 0; i < 10; i++) {
		uint64_t left;

		health_bad(&h, now, 5, 0xfffffff, 0);
		left = h.until_ms - now;
		assert_true(left >= wait && left < wait + wait / 4);
		health_bad(&h, now + 1, 6, 0, 0);
		assert_int_equal(h.until_ms - now, left);
		assert_int_equal(h.failures, i + 1);
		assert_true(health_in_backoff(&h, h.until_ms - 1));
		assert_false(health_in_backoff(&h, h.until_ms));
		now = h.until_ms;
		wait = wait * 2 < HEALTH_BACKOFF_MAX_MS ? wait * 2 : HEALTH_BACKOFF_MAX_MS;
	}
	assert_int_equal(h.since_wall_ns, 5);
	health_good(&h, 9);
	assert_int_equal(h.since_wall_ns, 9);
	assert_false(health_in_backoff(&h, now));
	/* The provider's own word counts if it is longer. */
	health_bad(&h, now, 10, 0, 7000);
	assert_int_equal(h.until_ms, now + 7000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_form),	   cmocka_unit_test(test_basic),
		cmocka_unit_test(test_bearer),
		cmocka_unit_test(test_request),	   cmocka_unit_test(test_assertions),
		cmocka_unit_test(test_unfit_keys), cmocka_unit_test(test_health),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
