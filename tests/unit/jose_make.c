/* SPDX-License-Identifier: MIT */
#include "jose_make.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/rsa.h>

#include "base/compiler.h"
#include "ident/b64.h"

EVP_PKEY *jose_key(const char *kind)
{
	EVP_PKEY *k = NULL;

	if (strcmp(kind, "RSA") == 0)
		k = EVP_RSA_gen(2048);
	else if (strcmp(kind, "RSA1024") == 0)
		k = EVP_RSA_gen(1024);
	else if (strcmp(kind, "Ed25519") == 0)
		k = EVP_PKEY_Q_keygen(NULL, NULL, "ED25519");
	else
		k = EVP_EC_gen(kind);
	BUG_ON(!k);
	return k;
}

char *jose_b64(const void *p, size_t n)
{
	char *s = malloc(B64_TEXT(n));

	BUG_ON(!s);
	(void)b64_url_encode(slice_of(p, n), s);
	return s;
}

static char *bn_b64(EVP_PKEY *key, const char *name, size_t pad)
{
	uint8_t mem[1024];
	BIGNUM *bn = NULL;
	int n;

	BUG_ON(EVP_PKEY_get_bn_param(key, name, &bn) != 1);
	n = pad ? BN_bn2binpad(bn, mem, (int)pad) : BN_bn2bin(bn, mem);
	BUG_ON(n <= 0);
	BN_free(bn);
	return jose_b64(mem, (size_t)n);
}

char *jose_jwk(EVP_PKEY *key, const char *more)
{
	char *a, *b = NULL, *s;
	uint8_t raw[32];
	size_t n = sizeof(raw);
	int len;

	if (EVP_PKEY_is_a(key, "RSA")) {
		a = bn_b64(key, OSSL_PKEY_PARAM_RSA_N, 0);
		b = bn_b64(key, OSSL_PKEY_PARAM_RSA_E, 0);
		len = asprintf(&s, "{\"kty\":\"RSA\",\"n\":\"%s\",\"e\":\"%s\"%s}", a, b, more);
	} else if (EVP_PKEY_is_a(key, "EC")) {
		size_t bytes = (size_t)(EVP_PKEY_get_bits(key) + 7) / 8;

		a = bn_b64(key, OSSL_PKEY_PARAM_EC_PUB_X, bytes);
		b = bn_b64(key, OSSL_PKEY_PARAM_EC_PUB_Y, bytes);
		len = asprintf(&s, "{\"kty\":\"EC\",\"crv\":\"P-%d\",\"x\":\"%s\",\"y\":\"%s\"%s}",
			       EVP_PKEY_get_bits(key), a, b, more);
	} else {
		BUG_ON(EVP_PKEY_get_raw_public_key(key, raw, &n) != 1);
		a = jose_b64(raw, n);
		len = asprintf(&s, "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"%s\"%s}", a, more);
	}
	BUG_ON(len < 0);
	free(a);
	free(b);
	return s;
}

/* DER to the two halves of JOSE. */
static size_t flatten(const uint8_t *der, size_t n, size_t half, uint8_t *dst)
{
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &der, (long)n);

	BUG_ON(!sig || BN_bn2binpad(ECDSA_SIG_get0_r(sig), dst, (int)half) < 0 ||
	       BN_bn2binpad(ECDSA_SIG_get0_s(sig), dst + half, (int)half) < 0);
	ECDSA_SIG_free(sig);
	return 2 * half;
}

static char *sign(EVP_PKEY *key, const char *alg, const char *text)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	EVP_PKEY_CTX *pctx = NULL;
	const EVP_MD *md = strcmp(alg, "EdDSA") == 0   ? NULL
			   : strcmp(alg, "ES384") == 0 ? EVP_sha384()
						       : EVP_sha256();
	uint8_t sig[1024], raw[1024];
	size_t n = sizeof(sig);

	BUG_ON(!ctx || EVP_DigestSignInit(ctx, &pctx, md, NULL, key) != 1);
	if (strcmp(alg, "PS256") == 0)
		BUG_ON(EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) != 1 ||
		       EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST) != 1);
	BUG_ON(EVP_DigestSign(ctx, sig, &n, (const uint8_t *)text, strlen(text)) != 1);
	EVP_MD_CTX_free(ctx);
	if (strncmp(alg, "ES", 2) == 0) {
		n = flatten(sig, n, (size_t)(EVP_PKEY_get_bits(key) + 7) / 8, raw);
		return jose_b64(raw, n);
	}
	return jose_b64(sig, n);
}

char *jose_token(EVP_PKEY *key, const char *alg, const char *header, const char *claims)
{
	char *h = jose_b64(header, strlen(header)), *c = jose_b64(claims, strlen(claims));
	char *text, *sig, *token;

	BUG_ON(asprintf(&text, "%s.%s", h, c) < 0);
	sig = sign(key, alg, text);
	BUG_ON(asprintf(&token, "%s.%s", text, sig) < 0);
	free(h);
	free(c);
	free(text);
	free(sig);
	return token;
}
