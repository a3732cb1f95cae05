/* SPDX-License-Identifier: MIT */
/* Proofs of possession (RFC 9449): what they say, that they verify, and the name of their key. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <jansson.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/param_build.h>
#include <string.h>

#include "ident/dpop.h"

/* The @at-th part of the compact form. */
static struct slice part(struct slice t, int at)
{
	for (; at; at--)
		t = slice_from(t, (size_t)((const uint8_t *)memchr(t.p, '.', t.n) - t.p) + 1);
	return slice_of(t.p, memchr(t.p, '.', t.n) ? (size_t)((const uint8_t *)memchr(t.p, '.', t.n) - t.p)
						   : t.n);
}

static json_t *json_of(struct slice t, int at)
{
	uint8_t mem[2048];
	size_t n;

	assert_int_equal(b64_url_decode(part(t, at), mem, sizeof(mem), &n), 0);
	return json_loadb((const char *)mem, n, 0, NULL);
}

static const char *text(const json_t *o, const char *name)
{
	return json_string_value(json_object_get(o, name));
}

static bool verifies(EVP_PKEY *key, struct slice t)
{
	struct slice head = part(t, 0), body = part(t, 1), sig = part(t, 2);
	uint8_t raw[100], der[100], *at = der;
	ECDSA_SIG *s = ECDSA_SIG_new();
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok;
	size_t n;
	int len;

	assert_int_equal(b64_url_decode(sig, raw, sizeof(raw), &n), 0);
	assert_int_equal(n, 64);
	assert_int_equal(ECDSA_SIG_set0(s, BN_bin2bn(raw, 32, NULL), BN_bin2bn(raw + 32, 32, NULL)), 1);
	len = i2d_ECDSA_SIG(s, &at);
	ok = EVP_DigestVerifyInit(ctx, NULL, EVP_sha256(), NULL, key) == 1 &&
	     EVP_DigestVerify(ctx, der, (size_t)len, head.p, head.n + 1 + body.n) == 1;
	ECDSA_SIG_free(s);
	EVP_MD_CTX_free(ctx);
	return ok;
}

static void test_proof(void **state)
{
	static const struct {
		const char *url, *nonce, *htu;
	} rows[] = {
		{"https://idp.example/token", "", "https://idp.example/token"},
		{"https://idp.example/token?a=b", "n-1", "https://idp.example/token"},
		{"https://idp.example:8443/t#f", "~!", "https://idp.example:8443/t"},
	};
	EVP_PKEY *key = dpop_key_new(), *other = dpop_key_new();
	char jti[3][64];

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct dpop_claims c = {.url = rows[i].url, .nonce = rows[i].nonce, .now_s = 1700000000};
		json_t *head, *body;
		struct buf b;

		buf_init(&b, DPOP_PROOF_MAX);
		assert_int_equal(dpop_proof(key, &c, &b), 0);
		assert_true(verifies(key, buf_slice(&b)));
		assert_false(verifies(other, buf_slice(&b)));
		head = json_of(buf_slice(&b), 0);
		body = json_of(buf_slice(&b), 1);
		assert_string_equal(text(head, "typ"), "dpop+jwt");
		assert_string_equal(text(head, "alg"), "ES256");
		/* Four public members, and nothing of the private half. */
		assert_int_equal(json_object_size(json_object_get(head, "jwk")), 4);
		assert_null(json_object_get(json_object_get(head, "jwk"), "d"));
		assert_string_equal(text(body, "htm"), "POST");
		assert_string_equal(text(body, "htu"), rows[i].htu);
		assert_int_equal(json_integer_value(json_object_get(body, "iat")), 1700000000);
		if (rows[i].nonce[0])
			assert_string_equal(text(body, "nonce"), rows[i].nonce);
		else
			assert_null(json_object_get(body, "nonce"));
		(void)snprintf(jti[i], sizeof(jti[i]), "%s", text(body, "jti"));
		assert_int_equal(strlen(jti[i]), 22);
		json_decref(head);
		json_decref(body);
		buf_done(&b);
	}
	assert_string_not_equal(jti[0], jti[1]);
	assert_string_not_equal(jti[1], jti[2]);
	EVP_PKEY_free(key);
	EVP_PKEY_free(other);
}

/* The key of RFC 9449's own examples, whose name is in its section 6.1. */
static void test_thumb(void **state)
{
	static const char x[] = "l8tFrhx-34tV3hRICRDY9zCkDlpBhF42UQUfWVAWBFs",
			  y[] = "9VE4jf_Ok_o64zbTTlcuNJajHmt6v9TDVrU0CdvGRDA";
	OSSL_PARAM_BLD *bld = OSSL_PARAM_BLD_new();
	EVP_PKEY_CTX *ctx = EVP_PKEY_CTX_new_from_name(NULL, "EC", NULL);
	uint8_t point[65] = {4};
	char thumb[DPOP_THUMB];
	EVP_PKEY *key = NULL, *rsa;
	OSSL_PARAM *params;
	size_t n;

	assert_int_equal(b64_url_decode(slice_str(x), point + 1, 32, &n), 0);
	assert_int_equal(b64_url_decode(slice_str(y), point + 33, 32, &n), 0);
	assert_true(OSSL_PARAM_BLD_push_utf8_string(bld, OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0));
	assert_true(OSSL_PARAM_BLD_push_octet_string(bld, OSSL_PKEY_PARAM_PUB_KEY, point, sizeof(point)));
	params = OSSL_PARAM_BLD_to_param(bld);
	assert_int_equal(EVP_PKEY_fromdata_init(ctx), 1);
	assert_int_equal(EVP_PKEY_fromdata(ctx, &key, EVP_PKEY_PUBLIC_KEY, params), 1);
	assert_int_equal(dpop_thumb(key, thumb), 0);
	assert_string_equal(thumb, "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I");
	assert_int_equal(strlen(thumb), DPOP_THUMB_CHARS);
	rsa = EVP_PKEY_Q_keygen(NULL, NULL, "RSA", (size_t)2048);
	assert_int_equal(dpop_thumb(rsa, thumb), -EINVAL);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(key);
	OSSL_PARAM_free(params);
	OSSL_PARAM_BLD_free(bld);
	EVP_PKEY_CTX_free(ctx);
}

static void test_nonces(void **state)
{
	char longest[DPOP_NONCE_MAX], too_long[DPOP_NONCE_MAX + 1];
	static const char *const bad[] = {"", "a b", "a\"b", "a\\b", "a\nb", "\x7f", "\xc3\xa4"};

	memset(longest, 'x', sizeof(longest));
	longest[sizeof(longest) - 1] = '\0';
	memset(too_long, 'x', sizeof(too_long));
	too_long[sizeof(too_long) - 1] = '\0';
	assert_true(dpop_nonce_valid("eyJ7S_zG.eyJH0-Z.HX4w-7v"));
	assert_true(dpop_nonce_valid(longest));
	assert_false(dpop_nonce_valid(too_long));
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_false(dpop_nonce_valid(bad[i]));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_proof),
		cmocka_unit_test(test_thumb),
		cmocka_unit_test(test_nonces),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
