/* SPDX-License-Identifier: MIT */
#include "ident/clientauth.h"

#include <errno.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/rsa.h>

#include "base/ident.h"
#include "base/jsonw.h"
#include "ident/b64.h"

enum { SIG_MAX = 1024, ES256_HALF = 32 };

int clientauth_form(struct buf *b, struct slice value)
{
	static const char hex[] = "0123456789ABCDEF";
	uint8_t *dst = value.n < b->max ? buf_reserve(b, value.n * 3) : NULL;
	size_t n = 0;

	if (value.n == 0)
		return 0;
	if (!dst)
		return -EMSGSIZE;
	for (size_t i = 0; i < value.n; i++) {
		uint8_t c = value.p[i];

		if ((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
		    c == '-' || c == '.' || c == '_' || c == '*') {
			dst[n++] = c;
		} else if (c == ' ') {
			dst[n++] = '+';
		} else {
			dst[n++] = '%';
			dst[n++] = (uint8_t)hex[c >> 4];
			dst[n++] = (uint8_t)hex[c & 15];
		}
	}
	buf_commit(b, n);
	return 0;
}

int clientauth_param(struct buf *b, const char *name, struct slice value)
{
	int err = buf_printf(b, "%s%s=", b->n ? "&" : "", name);

	return err ? err : clientauth_form(b, value);
}

int clientauth_basic(struct slice id, struct slice secret, struct buf *ret)
{
	struct buf pair;
	char *text = NULL;
	int err;

	buf_init(&pair, 8192);
	err = clientauth_form(&pair, id);
	if (!err)
		err = buf_append(&pair, ":", 1);
	if (!err)
		err = clientauth_form(&pair, secret);
	if (!err) {
		text = malloc(B64_TEXT(pair.n));
		err = text ? buf_append(ret, "Basic ", 6) : -ENOMEM;
	}
	if (!err) {
		size_t n = b64_encode(buf_slice(&pair), text);

		err = buf_append(ret, text, n);
		explicit_bzero(text, n);
	}
	free(text);
	buf_wipe(&pair);
	return err;
}

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

int clientauth_key_fits(const EVP_PKEY *key, const char *alg, const char **ret_why)
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

static int append_header(struct buf *b, const struct clientauth_claims *c)
{
	struct buf json;
	struct jsonw w;
	int err;

	buf_init(&json, 1024);
	jsonw_init(&w, &json, false);
	jsonw_object(&w);
	jsonw_kv_string(&w, "alg", c->alg);
	if (c->key_id)
		jsonw_kv_string(&w, "kid", c->key_id);
	jsonw_kv_string(&w, "typ", "JWT");
	jsonw_object_end(&w);
	err = jsonw_end(&w);
	if (!err)
		err = append_b64(b, buf_slice(&json));
	buf_done(&json);
	return err;
}

static int append_claims(struct buf *b, const struct clientauth_claims *c)
{
	struct buf json;
	struct jsonw w;
	uint8_t id[16];
	char jti[B64_TEXT(sizeof(id))];
	int err;

	random_bytes(id, sizeof(id));
	(void)b64_url_encode(slice_of(id, sizeof(id)), jti);
	buf_init(&json, CLIENTAUTH_ASSERTION_MAX / 2);
	jsonw_init(&w, &json, false);
	jsonw_object(&w);
	jsonw_kv_string(&w, "iss", c->client_id);
	jsonw_kv_string(&w, "sub", c->client_id);
	jsonw_kv_string(&w, "aud", c->audience);
	jsonw_kv_string(&w, "jti", jti);
	jsonw_kv_u64(&w, "iat", c->now_s);
	jsonw_kv_u64(&w, "exp", c->now_s + CLIENTAUTH_ASSERTION_S);
	jsonw_object_end(&w);
	err = jsonw_end(&w);
	if (!err)
		err = append_b64(b, buf_slice(&json));
	buf_done(&json);
	return err;
}

int clientauth_assert(EVP_PKEY *key, const struct clientauth_claims *c, struct buf *ret)
{
	uint8_t sig[SIG_MAX];
	const char *why;
	struct buf b;
	size_t n;
	int err = clientauth_key_fits(key, c->alg, &why);

	buf_init(&b, CLIENTAUTH_ASSERTION_MAX);
	if (!err)
		err = append_header(&b, c);
	if (!err)
		err = buf_append(&b, ".", 1);
	if (!err)
		err = append_claims(&b, c);
	if (!err)
		err = sign(key, sig_kind(c->alg), buf_slice(&b), sig, &n);
	if (!err)
		err = buf_append(&b, ".", 1);
	if (!err)
		err = append_b64(&b, slice_of(sig, n));
	if (!err)
		err = buf_append_slice(ret, buf_slice(&b));
	buf_wipe(&b);
	return err;
}
