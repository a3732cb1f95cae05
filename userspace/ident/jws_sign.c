/* SPDX-License-Identifier: MIT */
#include "ident/jws_sign.h"

#include <errno.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/rsa.h>

#include "base/ident.h"

enum { SIG_MAX = 1024, ES256_HALF = 32 };

enum sig_kind { SIG_ES256, SIG_PS256, SIG_RS256, SIG_EDDSA, SIG_UNKNOWN };

static enum sig_kind sig_kind(const char *alg)
{
	static const char *const names[] = {"ES256", "PS256", "RS256", "EdDSA"};

	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (strcmp(names[i], alg) == 0)
			return (enum sig_kind)i;
	return SIG_UNKNOWN;
}

static bool is_p256(const EVP_PKEY *key)
{
	char name[64];
	size_t n;

	return EVP_PKEY_get_group_name(key, name, sizeof(name), &n) == 1 &&
	       (strcmp(name, "prime256v1") == 0 || strcmp(name, "P-256") == 0);
}

int jws_sign_key_fits(const EVP_PKEY *key, const char *alg, const char **ret_why)
{
	const char *why = NULL;

	switch (sig_kind(alg)) {
	case SIG_ES256:
		if (!EVP_PKEY_is_a(key, "EC") || !is_p256(key))
			why = "ES256 needs an EC key on P-256";
		break;
	case SIG_PS256:
	case SIG_RS256:
		if (!EVP_PKEY_is_a(key, "RSA"))
			why = "RS256 and PS256 need an RSA key";
		else if (EVP_PKEY_get_bits(key) < 2048 || EVP_PKEY_get_bits(key) > 8192)
			why = "an RSA key must have 2048 to 8192 bits";
		break;
	case SIG_EDDSA:
		if (!EVP_PKEY_is_a(key, "ED25519"))
			why = "EdDSA needs an Ed25519 key";
		break;
	case SIG_UNKNOWN:
		why = "the algorithm must be ES256, PS256, RS256 or EdDSA";
		break;
	}
	if (!why)
		return 0;
	*ret_why = why;
	return -EINVAL;
}

/* JOSE wants r and s side by side (RFC 7518 section 3.4), OpenSSL makes DER. */
static int der_to_raw(const uint8_t *der, size_t n, uint8_t raw[2 * ES256_HALF])
{
	const uint8_t *p = der;
	ECDSA_SIG *sig = d2i_ECDSA_SIG(NULL, &p, (long)n);
	bool ok = sig && BN_bn2binpad(ECDSA_SIG_get0_r(sig), raw, ES256_HALF) == ES256_HALF &&
		  BN_bn2binpad(ECDSA_SIG_get0_s(sig), raw + ES256_HALF, ES256_HALF) == ES256_HALF;

	ECDSA_SIG_free(sig);
	return ok ? 0 : -EINVAL;
}

static int sign(EVP_PKEY *key, enum sig_kind kind, struct slice what, uint8_t *sig, size_t *ret_n)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	const EVP_MD *md = kind == SIG_EDDSA ? NULL : EVP_sha256();
	EVP_PKEY_CTX *pctx = NULL;
	uint8_t der[SIG_MAX];
	size_t n = sizeof(der);
	bool ok = ctx && EVP_DigestSignInit(ctx, &pctx, md, NULL, key) == 1;

	if (ok && kind == SIG_PS256)
		ok = EVP_PKEY_CTX_set_rsa_padding(pctx, RSA_PKCS1_PSS_PADDING) == 1 &&
		     EVP_PKEY_CTX_set_rsa_pss_saltlen(pctx, RSA_PSS_SALTLEN_DIGEST) == 1;
	ok = ok && EVP_DigestSign(ctx, der, &n, what.p, what.n) == 1;
	EVP_MD_CTX_free(ctx);
	if (!ok)
		return -EINVAL;
	if (kind == SIG_ES256) {
		*ret_n = 2 * ES256_HALF;
		return der_to_raw(der, n, sig);
	}
	memcpy(sig, der, n);
	*ret_n = n;
	return 0;
}

static int append_b64(struct buf *b, struct slice s)
{
	uint8_t *dst = buf_reserve(b, B64_TEXT(s.n));

	if (!dst)
		return -EMSGSIZE;
	buf_commit(b, b64_url_encode(s, (char *)dst));
	return 0;
}

int jws_sign(EVP_PKEY *key, const char *alg, struct slice header, struct slice claims, struct buf *ret)
{
	uint8_t sig[SIG_MAX];
	const char *why;
	struct buf b;
	size_t n;
	int err = jws_sign_key_fits(key, alg, &why);

	buf_init(&b, JWS_SIGN_MAX);
	if (!err)
		err = append_b64(&b, header);
	if (!err)
		err = buf_append(&b, ".", 1);
	if (!err)
		err = append_b64(&b, claims);
	if (!err)
		err = sign(key, sig_kind(alg), buf_slice(&b), sig, &n);
	if (!err)
		err = buf_append(&b, ".", 1);
	if (!err)
		err = append_b64(&b, slice_of(sig, n));
	if (!err)
		err = buf_append_slice(ret, buf_slice(&b));
	buf_wipe(&b);
	return err;
}

void jws_random_id(char ret[JWS_ID])
{
	uint8_t id[16];

	random_bytes(id, sizeof(id));
	(void)b64_url_encode(slice_of(id, sizeof(id)), ret);
}
