/* SPDX-License-Identifier: MIT */
/*
 * The input is a key set, a NUL byte and a token. What the verifier accepts
 * must survive being looked at, and nothing is ever accepted that a second,
 * narrower look refuses. A token may name a key of the set whose private half
 * is below (corpus/jwt), so that the fuzzer gets past the signature, too:
 * with the first byte 'T' the signature is made here.
 */
#include <openssl/evp.h>
#include <openssl/pem.h>

#include "base/compiler.h"
#include "ident/b64.h"
#include "ident/jwt.h"
#include "ident/scope.h"

static const char *const algs[] = {"RS256", "PS256", "ES256", "EdDSA", "ES384", NULL};

/* RFC 8037 appendix A.1; its public half is in the corpus. */
static const uint8_t ed_private[32] = {
	0x9d, 0x61, 0xb1, 0x9d, 0xef, 0xfd, 0x5a, 0x60, 0xba, 0x84, 0x4a,
	0xf4, 0x92, 0xec, 0x2c, 0xc4, 0x44, 0x49, 0xc5, 0x69, 0x7b, 0x32,
	0x69, 0x19, 0x70, 0x3b, 0xac, 0x03, 0x1c, 0xae, 0x7f, 0x60,
};
static const char ed_set[] = "{\"keys\":[{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":"
			     "\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void verify(struct slice token, const struct jwks *keys, const char *scope)
{
	struct jwt_expect want = {
		.issuer = "https://idp.example",
		.audience = "https://db.example/",
		.client_id = "tidegate",
		.scope = scope,
		.algorithms = algs,
		.now_s = 1700000000,
		.skew_s = 30,
	};
	json_t *claims = NULL;
	char error[200] = "";
	enum jwt_status s = jwt_verify(token, keys, &want, &claims, error, sizeof(error));
	struct slice missing;

	BUG_ON((s == JWT_OK) != (claims != NULL));
	BUG_ON(s != JWT_OK && !error[0]);
	BUG_ON(strlen(error) >= sizeof(error));
	if (s != JWT_OK)
		return;
	BUG_ON(!jwt_shaped(token));
	BUG_ON(!json_is_string(json_object_get(claims, "sub")));
	BUG_ON(json_number_value(json_object_get(claims, "exp")) + 30 <= 1700000000.0);
	if (scope && json_object_get(claims, "scope"))
		BUG_ON(!scope_covers(json_object_get(claims, "scope"), scope, &missing));
	json_decref(claims);
}

/* "header.claims" as texts, separated by a newline, signed for real. */
static void verify_signed(struct slice text, const struct jwks *keys)
{
	const uint8_t *nl = memchr(text.p, '\n', text.n);
	size_t hn = nl ? (size_t)(nl - text.p) : text.n;
	struct slice header = slice_of(text.p, hn), claims = slice_from(text, hn + 1);
	char *token = malloc(B64_TEXT(header.n) + B64_TEXT(claims.n) + 100);
	EVP_PKEY *key = EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, NULL, ed_private, 32);
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t sig[64];
	size_t n, sn = sizeof(sig);

	BUG_ON(!token || !key || !ctx);
	n = b64_url_encode(header, token);
	token[n++] = '.';
	n += b64_url_encode(claims, token + n);
	BUG_ON(EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) != 1 ||
	       EVP_DigestSign(ctx, sig, &sn, (const uint8_t *)token, n) != 1);
	token[n++] = '.';
	n += b64_url_encode(slice_of(sig, sn), token + n);
	verify(slice_of(token, n), keys, NULL);
	verify(slice_of(token, n), keys, "db.read");
	EVP_MD_CTX_free(ctx);
	EVP_PKEY_free(key);
	free(token);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct jwks *ours;
	struct slice in = slice_of(data, size);
	const uint8_t *nul;
	struct jwks *keys;
	char error[200];

	if (size == 0)
		return 0;
	if (!ours)
		BUG_ON(jwks_parse(slice_str(ed_set), &ours, error, sizeof(error)) != 0);
	if (data[0] == 'T') {
		verify_signed(slice_from(in, 1), ours);
		return 0;
	}
	nul = memchr(data, 0, size);
	if (jwks_parse(slice_of(data, nul ? (size_t)(nul - data) : size), &keys, error,
		       sizeof(error)) != 0)
		return 0;
	if (nul)
		verify(slice_from(in, (size_t)(nul - data) + 1), keys, "db.read");
	jwks_free(keys);
	return 0;
}
