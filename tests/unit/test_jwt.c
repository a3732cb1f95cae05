/* SPDX-License-Identifier: MIT */
/* Every rule of the verifier has a case that passes and one that fails. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>

#include "guard.h"
#include "ident/b64.h"
#include "ident/jwt.h"
#include "ident/scope.h"
#include "ident/strict_json.h"
#include "jose_make.h"

#define ISS   "https://idp.example"
#define AUD   "https://db.example/"
#define NOW   1700000000u
#define KID   "k1"
#define GOOD  "{\"alg\":\"RS256\",\"typ\":\"at+jwt\",\"kid\":\"rsa\"}"
#define BASE  "\"iss\":\"" ISS "\",\"aud\":\"" AUD "\",\"sub\":\"agent\""
#define TIMES ",\"iat\":1700000000,\"exp\":1700000300"
#define FULL  BASE TIMES ",\"scope\":\"db.read db.write\",\"client_id\":\"tidegate\""

static EVP_PKEY *rsa, *rsa2, *p256, *p384, *ed;
static struct jwks *keys;

static struct jwks *key_set(const char *fmt, ...) PRINTF(1, 2);
static struct jwks *key_set(const char *fmt, ...)
{
	struct jwks *set = NULL;
	char *json, error[200];
	va_list ap;

	va_start(ap, fmt);
	assert_true(vasprintf(&json, fmt, ap) > 0);
	va_end(ap);
	assert_int_equal(jwks_parse(slice_str(json), &set, error, sizeof(error)), 0);
	free(json);
	return set;
}

static int make_keys(void **state)
{
	char *jwk[5];

	rsa = jose_key("RSA");
	rsa2 = jose_key("RSA");
	p256 = jose_key("P-256");
	p384 = jose_key("P-384");
	ed = jose_key("Ed25519");
	jwk[0] = jose_jwk(rsa, ",\"kid\":\"rsa\",\"use\":\"sig\"");
	jwk[1] = jose_jwk(rsa2, ",\"kid\":\"only-ps\",\"alg\":\"PS256\"");
	jwk[2] = jose_jwk(p256, ",\"kid\":\"p256\",\"key_ops\":[\"verify\"]");
	jwk[3] = jose_jwk(p384, ",\"kid\":\"p384\"");
	jwk[4] = jose_jwk(ed, ",\"kid\":\"ed\",\"alg\":\"EdDSA\"");
	keys = key_set("{\"keys\":[%s,%s,%s,%s,%s]}", jwk[0], jwk[1], jwk[2], jwk[3], jwk[4]);
	for (size_t i = 0; i < ARRAY_SIZE(jwk); i++)
		free(jwk[i]);
	return jwks_count(keys) == 5 ? 0 : -1;
}

static int drop_keys(void **state)
{
	jwks_free(keys);
	EVP_PKEY_free(rsa);
	EVP_PKEY_free(rsa2);
	EVP_PKEY_free(p256);
	EVP_PKEY_free(p384);
	EVP_PKEY_free(ed);
	return 0;
}

static const char *const allowed[] = {"RS256", "PS256", "ES256", "EdDSA", "ES384", NULL};

static struct jwt_expect expected(void)
{
	return (struct jwt_expect){
		.issuer = ISS,
		.audience = AUD,
		.client_id = "tidegate",
		.algorithms = allowed,
		.now_s = NOW,
		.skew_s = 30,
	};
}

/* The token ends at a guard page. */
static enum jwt_status verify(const char *token, const struct jwt_expect *want, char *error,
			      size_t cap)
{
	json_t *claims = NULL;
	enum jwt_status s;
	void *handle;
	const uint8_t *p = guard_copy(slice_str(token), &handle);

	error[0] = '\0';
	s = jwt_verify(slice_of(p, strlen(token)), keys, want, &claims, error, cap);
	assert_int_equal(s == JWT_OK, claims != NULL);
	if (s != JWT_OK)
		assert_true(error[0] != '\0');
	json_decref(claims);
	guard_free(handle);
	return s;
}

struct row {
	const char *name, *header, *claims; /* NULL: the good ones */
	const char *scope, *const *types;
	enum jwt_status want;
	const char *error; /* a part of the message */
};

static void check_rows(const struct row *rows, size_t n, EVP_PKEY *key, const char *alg)
{
	for (size_t i = 0; i < n; i++) {
		const struct row *r = &rows[i];
		struct jwt_expect want = expected();
		char error[300];
		char *token = jose_token(key, alg, r->header ? r->header : GOOD,
					 r->claims ? r->claims : "{" FULL "}");
		enum jwt_status s;

		want.scope = r->scope;
		want.types = r->types;
		s = verify(token, &want, error, sizeof(error));
		if (s != r->want || (r->error && !strstr(error, r->error)))
			fail_msg("%s: status %d, \"%s\"", r->name, s, error);
		free(token);
	}
}

static void test_header(void **state)
{
	static const char *const only_at[] = {"at+jwt", NULL};
	static const struct row rows[] = {
		{.name = "good", .want = JWT_OK},
		{.name = "typ with prefix and case",
		 .want = JWT_OK,
		 .header = "{\"alg\":\"RS256\",\"typ\":\"application/AT+JWT\",\"kid\":\"rsa\"}"},
		{.name = "typ JWT",
		 .want = JWT_OK,
		 .header = "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"kid\":\"rsa\"}"},
		{.name = "typ JWT where only at+jwt will do",
		 .want = JWT_BAD,
		 .types = only_at,
		 .header = "{\"alg\":\"RS256\",\"typ\":\"JWT\",\"kid\":\"rsa\"}",
		 .error = "type `JWT`"},
		{.name = "typ at+jwt where only that will do", .want = JWT_OK, .types = only_at},
		{.name = "no typ", .want = JWT_OK, .header = "{\"alg\":\"RS256\",\"kid\":\"rsa\"}"},
		{.name = "no typ where one is wanted",
		 .want = JWT_BAD,
		 .types = only_at,
		 .header = "{\"alg\":\"RS256\",\"kid\":\"rsa\"}",
		 .error = "no type"},
		{.name = "typ of another kind of token",
		 .want = JWT_BAD,
		 .header = "{\"alg\":\"RS256\",\"typ\":\"logout+jwt\",\"kid\":\"rsa\"}",
		 .error = "type `logout+jwt`"},
		{.name = "typ no string",
		 .want = JWT_BAD,
		 .header = "{\"alg\":\"RS256\",\"typ\":7,\"kid\":\"rsa\"}"},
		{.name = "crit",
		 .want = JWT_BAD,
		 .error = "critical",
		 .header = "{\"alg\":\"RS256\",\"kid\":\"rsa\",\"crit\":[\"exp\"],\"exp\":1}"},
		{.name = "b64",
		 .want = JWT_BAD,
		 .error = "critical",
		 .header = "{\"alg\":\"RS256\",\"kid\":\"rsa\",\"b64\":false}"},
		{.name = "alg twice",
		 .want = JWT_BAD,
		 .error = "twice",
		 .header = "{\"alg\":\"RS256\",\"alg\":\"none\",\"kid\":\"rsa\"}"},
		{.name = "alg missing",
		 .want = JWT_BAD,
		 .header = "{\"kid\":\"rsa\"}",
		 .error = "no signature algorithm"},
		{.name = "header no object", .want = JWT_BAD, .header = "[1]"},
		{.name = "header no JSON", .want = JWT_BAD, .header = "{\"alg\":"},
		{.name = "header with NUL",
		 .want = JWT_BAD,
		 .header = "{\"alg\":\"RS256\\u0000\",\"kid\":\"rsa\"}"},
		{.name = "header too deep",
		 .want = JWT_BAD,
		 .error = "nested",
		 .header = "{\"alg\":\"RS256\",\"x\":[[[[[[[[[[[[[1]]]]]]]]]]]]]}"},
		{.name = "keys the token brings are ignored",
		 .want = JWT_UNKNOWN_KEY,
		 .header = "{\"alg\":\"RS256\",\"kid\":\"x\",\"jku\":\"http://a/\",\"jwk\":{}}"},
		{.name = "kid no string",
		 .want = JWT_BAD,
		 .header = "{\"alg\":\"RS256\",\"kid\":1}"},
		{.name = "kid unknown",
		 .want = JWT_UNKNOWN_KEY,
		 .error = "not in the provider",
		 .header = "{\"alg\":\"RS256\",\"kid\":\"rsa \"}"},
		{.name = "kid of another key",
		 .want = JWT_BAD,
		 .error = "not for RS256",
		 .header = "{\"alg\":\"RS256\",\"kid\":\"p256\"}"},
		{.name = "kid of a key for PS256 only",
		 .want = JWT_BAD,
		 .error = "not for RS256",
		 .header = "{\"alg\":\"RS256\",\"kid\":\"only-ps\"}"},
		{.name = "no kid", .want = JWT_OK, .header = "{\"alg\":\"RS256\"}"},
		{.name = "RS256 said to be PS256",
		 .want = JWT_BAD,
		 .error = "signature is wrong",
		 .header = "{\"alg\":\"PS256\",\"kid\":\"rsa\"}"},
		{.name = "none",
		 .want = JWT_BAD,
		 .error = "`none`",
		 .header = "{\"alg\":\"none\",\"kid\":\"rsa\"}"},
		{.name = "HS256",
		 .want = JWT_BAD,
		 .error = "`HS256`",
		 .header = "{\"alg\":\"HS256\",\"kid\":\"rsa\"}"},
		{.name = "supported but not allowed",
		 .want = JWT_BAD,
		 .error = "`RS512`",
		 .header = "{\"alg\":\"RS512\",\"kid\":\"rsa\"}"},
		{.name = "alg in another case",
		 .want = JWT_BAD,
		 .header = "{\"alg\":\"rs256\",\"kid\":\"rsa\"}"},
	};

	check_rows(rows, ARRAY_SIZE(rows), rsa, "RS256");
}

#define CLAIMS(...) .claims = "{" __VA_ARGS__ "}"

static void test_claims(void **state)
{
	static const struct row rows[] = {
		{.name = "issuer with slash",
		 .want = JWT_BAD,
		 .error = "issuer",
		 CLAIMS("\"iss\":\"" ISS "/\",\"aud\":\"" AUD "\",\"sub\":\"a\"" TIMES)},
		{.name = "no issuer",
		 .want = JWT_BAD,
		 .error = "issuer",
		 CLAIMS("\"aud\":\"" AUD "\",\"sub\":\"a\"" TIMES)},
		{.name = "issuer no string",
		 .want = JWT_BAD,
		 .error = "issuer",
		 CLAIMS("\"iss\":[\"" ISS "\"],\"aud\":\"" AUD "\",\"sub\":\"a\"" TIMES)},
		{.name = "audience in a list",
		 .want = JWT_OK,
		 CLAIMS("\"iss\":\"" ISS "\",\"aud\":[\"x\",\"" AUD "\"],\"sub\":\"a\"" TIMES)},
		{.name = "audience not in the list",
		 .want = JWT_BAD,
		 .error = "audience",
		 CLAIMS("\"iss\":\"" ISS "\",\"aud\":[\"x\"],\"sub\":\"a\"" TIMES)},
		{.name = "list with something else",
		 .want = JWT_BAD,
		 .error = "audience",
		 CLAIMS("\"iss\":\"" ISS "\",\"aud\":[\"" AUD "\",1],\"sub\":\"a\"" TIMES)},
		{.name = "other audience",
		 .want = JWT_BAD,
		 .error = "audience (https://db.example)",
		 CLAIMS("\"iss\":\"" ISS "\",\"aud\":\"https://db.example\",\"sub\":\"a\"" TIMES)},
		{.name = "no audience",
		 .want = JWT_BAD,
		 .error = "missing",
		 CLAIMS("\"iss\":\"" ISS "\",\"sub\":\"a\"" TIMES)},
		{.name = "no subject",
		 .want = JWT_BAD,
		 .error = "subject",
		 CLAIMS("\"iss\":\"" ISS "\",\"aud\":\"" AUD "\"" TIMES)},
		{.name = "empty subject",
		 .want = JWT_BAD,
		 .error = "subject",
		 CLAIMS("\"iss\":\"" ISS "\",\"aud\":\"" AUD "\",\"sub\":\"\"" TIMES)},
		{.name = "other client_id",
		 .want = JWT_BAD,
		 .error = "another client",
		 CLAIMS(BASE TIMES ",\"client_id\":\"other\"")},
		{.name = "other azp",
		 .want = JWT_BAD,
		 .error = "azp `other`",
		 CLAIMS(BASE TIMES ",\"azp\":\"other\"")},
		{.name = "azp no string", .want = JWT_BAD, CLAIMS(BASE TIMES ",\"azp\":{}")},
		{.name = "our azp", .want = JWT_OK, CLAIMS(BASE TIMES ",\"azp\":\"tidegate\"")},
		{.name = "neither client claim", .want = JWT_OK, CLAIMS(BASE TIMES)},
		{.name = "no exp", .want = JWT_BAD, .error = "exp", CLAIMS(BASE)},
		{.name = "exp a string", .want = JWT_BAD, CLAIMS(BASE ",\"exp\":\"1700000300\"")},
		{.name = "exp negative", .want = JWT_BAD, CLAIMS(BASE ",\"exp\":-1")},
		{.name = "exp in the skew", .want = JWT_OK, CLAIMS(BASE ",\"exp\":1699999971")},
		{.name = "exp at the skew's end",
		 .want = JWT_BAD,
		 .error = "expired 30 s ago",
		 CLAIMS(BASE ",\"exp\":1699999970")},
		{.name = "exp with a fraction",
		 .want = JWT_OK,
		 CLAIMS(BASE ",\"exp\":1700000300.5")},
		{.name = "exp huge", .want = JWT_BAD, CLAIMS(BASE ",\"exp\":1e300")},
		{.name = "exp in milliseconds",
		 .want = JWT_BAD,
		 .error = "milliseconds",
		 CLAIMS(BASE ",\"exp\":1700000300000")},
		{.name = "nbf in the skew",
		 .want = JWT_OK,
		 CLAIMS(BASE TIMES ",\"nbf\":1700000030")},
		{.name = "nbf after it",
		 .want = JWT_BAD,
		 .error = "valid only in 31 s",
		 CLAIMS(BASE TIMES ",\"nbf\":1700000031")},
		{.name = "nbf no number", .want = JWT_BAD, CLAIMS(BASE TIMES ",\"nbf\":null")},
		{.name = "iat in the skew",
		 .want = JWT_OK,
		 CLAIMS(BASE ",\"exp\":1700000300,\"iat\":1700000030")},
		{.name = "iat after it",
		 .want = JWT_BAD,
		 .error = "issued 31 s in the future",
		 CLAIMS(BASE ",\"exp\":1700000300,\"iat\":1700000031")},
		{.name = "iat no number",
		 .want = JWT_BAD,
		 CLAIMS(BASE ",\"exp\":1700000300,\"iat\":\"x\"")},
		{.name = "claim twice",
		 .want = JWT_BAD,
		 .error = "twice",
		 CLAIMS(FULL ",\"aud\":\"x\"")},
		{.name = "claims no object", .want = JWT_BAD, .claims = "\"x\""},
		{.name = "claims with rubbish behind", .want = JWT_BAD, .claims = "{" FULL "} x"},
		{.name = "claims too deep",
		 .want = JWT_BAD,
		 .error = "nested",
		 CLAIMS(FULL ",\"x\":[[[[[[[[[[[[]]]]]]]]]]]]")},
		{.name = "brackets in a string",
		 .want = JWT_OK,
		 CLAIMS(FULL ",\"x\":\"\\\"[[[[[[[[[[[[[[[[[[[\"")},
	};

	check_rows(rows, ARRAY_SIZE(rows), rsa, "RS256");
}

static void test_scope(void **state)
{
	static const struct row rows[] = {
		{.name = "one word", .scope = "db.read", .want = JWT_OK},
		{.name = "both, other order", .scope = "db.write db.read", .want = JWT_OK},
		{.name = "part of a word",
		 .scope = "db.rea",
		 .want = JWT_NARROW,
		 .error = "`db.rea`"},
		{.name = "longer word", .scope = "db.reads", .want = JWT_NARROW},
		{.name = "one of two missing",
		 .scope = "db.read db.ddl",
		 .want = JWT_NARROW,
		 .error = "`db.ddl`"},
		{.name = "token without scope",
		 .scope = "db.read",
		 .want = JWT_NARROW,
		 CLAIMS(BASE TIMES)},
		{.name = "scp as a list",
		 .scope = "db.read",
		 .want = JWT_OK,
		 CLAIMS(BASE TIMES ",\"scp\":[\"x\",\"db.read\"]")},
		{.name = "scp list holds words, not texts",
		 .scope = "db.read",
		 .want = JWT_NARROW,
		 CLAIMS(BASE TIMES ",\"scp\":[\"x db.read\"]")},
		{.name = "scope goes before scp",
		 .scope = "db.read",
		 .want = JWT_NARROW,
		 CLAIMS(BASE TIMES ",\"scope\":\"\",\"scp\":\"db.read\"")},
		{.name = "scope a number",
		 .scope = "db.read",
		 .want = JWT_NARROW,
		 CLAIMS(BASE TIMES ",\"scope\":1")},
		{.name = "a narrow token that is also expired is just bad",
		 .scope = "db.ddl",
		 .want = JWT_BAD,
		 CLAIMS(BASE ",\"exp\":1,\"scope\":\"db.read\"")},
	};

	check_rows(rows, ARRAY_SIZE(rows), rsa, "RS256");
}

static void test_algorithms(void **state)
{
	const struct {
		const char *name, *alg, *kid;
		EVP_PKEY *key, *wrong;
	} rows[] = {
		{"RS256", "RS256", "rsa", rsa, rsa2},
		{"PS256", "PS256", "rsa", rsa, rsa2},
		{"ES256", "ES256", "p256", p256, NULL},
		{"EdDSA", "EdDSA", "ed", ed, NULL},
		{"ES384", "ES384", "p384", p384, NULL},
		{"PS256 key", "PS256", "only-ps", rsa2, rsa},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct jwt_expect want = expected();
		EVP_PKEY *other = rows[i].wrong ? rows[i].wrong : NULL;
		char header[100], error[300];
		char *token;

		(void)snprintf(header, sizeof(header), "{\"alg\":\"%s\",\"kid\":\"%s\"}",
			       rows[i].alg, rows[i].kid);
		token = jose_token(rows[i].key, rows[i].alg, header, "{" FULL "}");
		if (verify(token, &want, error, sizeof(error)) != JWT_OK)
			fail_msg("%s: %s", rows[i].name, error);
		free(token);
		if (!other)
			other = strcmp(rows[i].alg, "EdDSA") == 0
					? jose_key("Ed25519")
					: jose_key(rows[i].alg[2] == '2' ? "P-256" : "P-384");
		token = jose_token(other, rows[i].alg, header, "{" FULL "}");
		if (verify(token, &want, error, sizeof(error)) != JWT_BAD)
			fail_msg("%s by another key: %s", rows[i].name, error);
		free(token);
		if (!rows[i].wrong)
			EVP_PKEY_free(other);
	}
}

/* One byte changed anywhere, or cut off anywhere, and the token is no good. */
static void test_tampering(void **state)
{
	const char *algs[] = {"RS256", "ES256", "EdDSA"};
	EVP_PKEY *by[] = {rsa, p256, ed};

	for (size_t a = 0; a < ARRAY_SIZE(algs); a++) {
		struct jwt_expect want = expected();
		char header[60], error[300];
		char *token;

		(void)snprintf(header, sizeof(header), "{\"alg\":\"%s\"}", algs[a]);
		token = jose_token(by[a], algs[a], header, "{" FULL "}");
		assert_int_equal(verify(token, &want, error, sizeof(error)), JWT_OK);
		for (size_t i = 0, n = strlen(token); i < n; i += 3) {
			char was = token[i];

			token[i] = was == 'A' ? 'B' : 'A';
			if (verify(token, &want, error, sizeof(error)) == JWT_OK)
				fail_msg("%s changed at %zu", algs[a], i);
			token[i] = '\0';
			if (verify(token, &want, error, sizeof(error)) == JWT_OK)
				fail_msg("%s cut at %zu", algs[a], i);
			token[i] = was;
		}
		free(token);
	}
}

static void test_shape(void **state)
{
	struct jwt_expect want = expected();
	char *good = jose_token(rsa, "RS256", GOOD, "{" FULL "}"), *s, error[300];
	char *none = jose_b64("{\"alg\":\"none\"}", 14), *big = malloc(JWT_BYTES_MAX + 2);
	static const char *const bad[] = {
		"", ".", "..", "...", "a.b", "a.b.c", "a.b.c.d.e", "opaque-token", "a..c", ".b.c",
	};

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(verify(bad[i], &want, error, sizeof(error)), JWT_BAD);
	assert_true(jwt_shaped(slice_str("a.b.c")) && jwt_shaped(slice_str("a.b.")));
	assert_false(jwt_shaped(slice_str("opaque")) || jwt_shaped(slice_str("a.b.c.d")));

	/* Padding, white space and a stray bit are no base64url. */
	assert_true(asprintf(&s, "%s=", good) > 0);
	assert_int_equal(verify(s, &want, error, sizeof(error)), JWT_BAD);
	free(s);
	assert_true(asprintf(&s, " %s", good) > 0);
	assert_int_equal(verify(s, &want, error, sizeof(error)), JWT_BAD);
	free(s);

	/* Unsigned, with the claims of a good one. */
	s = strchr(good, '.');
	*strrchr(good, '.') = '\0';
	{
		char *unsigned_token;

		assert_true(asprintf(&unsigned_token, "%s%s.", none, s) > 0);
		assert_int_equal(verify(unsigned_token, &want, error, sizeof(error)), JWT_BAD);
		free(unsigned_token);
	}
	assert_non_null(big);
	memset(big, 'a', JWT_BYTES_MAX + 1);
	big[JWT_BYTES_MAX + 1] = '\0';
	big[10] = big[20] = '.';
	assert_int_equal(verify(big, &want, error, sizeof(error)), JWT_BAD);
	assert_non_null(strstr(error, "at most"));
	free(big);
	free(none);
	free(good);
}

/* The classic: a public key used as the secret of an HMAC; and DER instead of r and s. */
static void test_confusion(void **state)
{
	static const char *const with_hs[] = {"HS256", "RS256", "none", "ES256", NULL};
	struct jwt_expect want = expected();
	char error[300], *hs = jose_token(rsa, "RS256", "{\"alg\":\"HS256\"}", "{" FULL "}");
	char *token = jose_token(p256, "ES256", "{\"alg\":\"ES256\"}", "{" FULL "}"), *dot, *longer;
	uint8_t raw[66] = {0};
	size_t n;

	/* Not even an allow-list that names it lets it in. */
	want.algorithms = with_hs;
	assert_int_equal(verify(hs, &want, error, sizeof(error)), JWT_BAD);
	assert_non_null(strstr(error, "HS256"));

	/* The same r and s, each a byte longer: another text for the same signature. */
	dot = strrchr(token, '.');
	assert_int_equal(b64_url_decode(slice_str(dot + 1), raw + 1, 64, &n), 0);
	memmove(raw + 34, raw + 33, 32);
	raw[33] = 0;
	longer = jose_b64(raw, sizeof(raw));
	*dot = '\0';
	{
		char *other;

		assert_true(asprintf(&other, "%s.%s", token, longer) > 0);
		assert_int_not_equal(verify(other, &want, error, sizeof(error)), JWT_OK);
		free(other);
	}
	free(longer);
	free(token);
	free(hs);
}

static void test_key_sets(void **state)
{
	static const struct {
		const char *name, *json;
		int err;
		unsigned count, skipped;
	} rows[] = {
		{.name = "empty", .json = "{\"keys\":[]}"},
		{.name = "no keys", .json = "{}", .err = -EINVAL},
		{.name = "keys no array", .json = "{\"keys\":{}}", .err = -EINVAL},
		{.name = "an array", .json = "[]", .err = -EINVAL},
		{.name = "keys twice", .json = "{\"keys\":[],\"keys\":[]}", .err = -EINVAL},
		{.name = "HTML", .json = "<html>", .err = -EINVAL},
		{.name = "no objects", .json = "{\"keys\":[1,null,\"x\",[]]}", .skipped = 4},
		{.name = "symmetric",
		 .skipped = 1,
		 .json = "{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\",\"kid\":\"x\"}]}"},
		{.name = "unknown curve",
		 .skipped = 1,
		 .json = "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"secp256k1\",\"x\":\"AA\",\"y\":"
			 "\"AA\"}]}"},
		{.name = "not on the curve",
		 .skipped = 1,
		 .json = "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\","
			 "\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\","
			 "\"y\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}]}"},
		{.name = "short coordinate",
		 .skipped = 1,
		 .json = "{\"keys\":[{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"AA\",\"y\":\"AA\"}]"
			 "}"},
		{.name = "X25519",
		 .skipped = 1,
		 .json = "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"X25519\","
			 "\"x\":\"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA\"}]}"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct jwks *set = NULL;
		char error[200] = "";
		int err = jwks_parse(slice_str(rows[i].json), &set, error, sizeof(error));

		if (err != rows[i].err)
			fail_msg("%s: %d %s", rows[i].name, err, error);
		if (!err &&
		    (jwks_count(set) != rows[i].count || jwks_skipped(set) != rows[i].skipped))
			fail_msg("%s: %u, %u skipped", rows[i].name, jwks_count(set),
				 jwks_skipped(set));
		jwks_free(set);
	}
}

/* A key that says it is for something else is not used. */
static void test_key_use(void **state)
{
	static const struct {
		const char *more;
		unsigned count;
	} rows[] = {
		{"", 1},
		{",\"use\":\"sig\"", 1},
		{",\"use\":\"enc\"", 0},
		{",\"use\":7", 0},
		{",\"key_ops\":[\"verify\"]", 1},
		{",\"key_ops\":[\"sign\"]", 0},
		{",\"key_ops\":[]", 0},
		{",\"alg\":\"RS256\"", 1},
		{",\"alg\":\"ES256\"", 0},
		{",\"alg\":\"HS256\"", 0},
		{",\"alg\":\"RSA-OAEP\"", 0},
		{",\"kid\":\"x\"", 1},
		{",\"kid\":5", 0},
		{",\"x5c\":[\"ignored\"],\"d\":\"ignored\"", 1},
	};
	EVP_PKEY *weak = jose_key("RSA1024");
	char *jwk = jose_jwk(weak, "");
	struct jwks *set = key_set("{\"keys\":[%s]}", jwk);

	assert_int_equal(jwks_count(set), 0);
	jwks_free(set);
	free(jwk);
	EVP_PKEY_free(weak);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		jwk = jose_jwk(rsa, rows[i].more);
		set = key_set("{\"keys\":[%s]}", jwk);
		if (jwks_count(set) != rows[i].count)
			fail_msg("%s: %u keys", rows[i].more, jwks_count(set));
		jwks_free(set);
		free(jwk);
	}
}

static void test_base64(void **state)
{
	static const struct {
		const char *text, *url;
	} rows[] = {
		{"", ""},	    {"f", "Zg"},	  {"fo", "Zm8"},       {"foo", "Zm9v"},
		{"foob", "Zm9vYg"}, {"fooba", "Zm9vYmE"}, {"\xff\xef", "_-8"}, {"\xfb\xff", "-_8"},
	};
	static const char *const bad[] = {
		"Z", "Zh", "Zm9", "Zg==", "Zm 8", "Zm+v", "Zm/v", "Zm9v\n"};
	uint8_t mem[16];
	char text[32];
	size_t n;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		(void)b64_url_encode(slice_str(rows[i].text), text);
		assert_string_equal(text, rows[i].url);
		assert_int_equal(b64_url_decode(slice_str(text), mem, sizeof(mem), &n), 0);
		assert_true(slice_eq_str(slice_of(mem, n), rows[i].text));
		(void)b64_encode(slice_str(rows[i].text), text);
		assert_int_equal(strlen(text) % 4, 0);
		assert_int_equal(b64_decode(slice_str(text), mem, sizeof(mem), &n), 0);
		assert_true(slice_eq_str(slice_of(mem, n), rows[i].text));
	}
	for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
		if (b64_url_decode(slice_str(bad[i]), mem, sizeof(mem), &n) != -EINVAL)
			fail_msg("\"%s\" was decoded", bad[i]);
	assert_int_equal(b64_decode(slice_str("Zg="), mem, sizeof(mem), &n), -EINVAL);
	assert_int_equal(b64_decode(slice_str("Zg"), mem, sizeof(mem), &n), -EINVAL);
	assert_int_equal(b64_decode(slice_str("===="), mem, sizeof(mem), &n), -EINVAL);
	assert_int_equal(b64_url_decode(slice_str("Zm9v"), mem, 2, &n), -EMSGSIZE);
}

static void test_scope_words(void **state)
{
	static const struct {
		const char *scope;
		bool valid;
	} rows[] = {
		{"a", true},	 {"db:orders:read b", true},
		{"", false},	 {"  ", false},
		{"a\"b", false}, {"a\\b", false},
		{"a\tb", false}, {"\xc3\xa4", false},
		{"a\nb", false},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++)
		assert_int_equal(scope_valid(rows[i].scope), rows[i].valid);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_header),	    cmocka_unit_test(test_claims),
		cmocka_unit_test(test_scope),	    cmocka_unit_test(test_algorithms),
		cmocka_unit_test(test_tampering),   cmocka_unit_test(test_shape),
		cmocka_unit_test(test_confusion),   cmocka_unit_test(test_key_sets),
		cmocka_unit_test(test_key_use),	    cmocka_unit_test(test_base64),
		cmocka_unit_test(test_scope_words),
	};

	return cmocka_run_group_tests(tests, make_keys, drop_keys);
}
