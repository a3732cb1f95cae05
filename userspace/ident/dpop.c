/* SPDX-License-Identifier: MIT */
#include "ident/dpop.h"

#include <errno.h>
#include <openssl/core_names.h>

#include "base/jsonw.h"
#include "ident/jws_sign.h"

enum { COORDINATE = 32 };

struct point {
	char x[B64_TEXT(COORDINATE)], y[B64_TEXT(COORDINATE)];
};

EVP_PKEY *dpop_key_new(void)
{
	return EVP_PKEY_Q_keygen(NULL, NULL, "EC", "P-256");
}

/* Uncompressed: 04 x y. Whatever the key was made as, this is what is asked for here. */
static int point_of(const EVP_PKEY *key, struct point *ret)
{
	static const char *const names[] = {OSSL_PKEY_PARAM_EC_PUB_X, OSSL_PKEY_PARAM_EC_PUB_Y};
	char *const texts[] = {ret->x, ret->y};

	for (int i = 0; i < 2; i++) {
		uint8_t mem[COORDINATE];
		BIGNUM *n = NULL;
		bool ok = EVP_PKEY_get_bn_param(key, names[i], &n) == 1 &&
			  BN_bn2binpad(n, mem, COORDINATE) == COORDINATE;

		BN_free(n);
		if (!ok)
			return -EINVAL;
		(void)b64_url_encode(slice_of(mem, sizeof(mem)), texts[i]);
	}
	return 0;
}

static int header(const EVP_PKEY *key, struct buf *ret)
{
	struct point at;
	struct jsonw w;

	if (point_of(key, &at) != 0)
		return -EINVAL;
	jsonw_init(&w, ret, false);
	jsonw_object(&w);
	jsonw_kv_string(&w, "typ", "dpop+jwt");
	jsonw_kv_string(&w, "alg", "ES256");
	jsonw_name(&w, "jwk");
	jsonw_object(&w);
	jsonw_kv_string(&w, "kty", "EC");
	jsonw_kv_string(&w, "crv", "P-256");
	jsonw_kv_string(&w, "x", at.x);
	jsonw_kv_string(&w, "y", at.y);
	jsonw_object_end(&w);
	jsonw_object_end(&w);
	return jsonw_end(&w);
}

static int claims(const struct dpop_claims *c, struct buf *ret)
{
	struct jsonw w;
	char jti[JWS_ID];

	jws_random_id(jti);
	jsonw_init(&w, ret, false);
	jsonw_object(&w);
	jsonw_kv_string(&w, "jti", jti);
	jsonw_kv_string(&w, "htm", "POST");
	jsonw_kv_slice(&w, "htu", slice_of(c->url, strcspn(c->url, "?#")));
	jsonw_kv_u64(&w, "iat", c->now_s);
	if (c->nonce[0])
		jsonw_kv_string(&w, "nonce", c->nonce);
	jsonw_object_end(&w);
	return jsonw_end(&w);
}

int dpop_proof(EVP_PKEY *key, const struct dpop_claims *c, struct buf *ret)
{
	struct buf head, body;
	int err;

	buf_init(&head, 1024);
	buf_init(&body, DPOP_PROOF_MAX);
	err = header(key, &head);
	if (!err)
		err = claims(c, &body);
	if (!err)
		err = jws_sign(key, "ES256", buf_slice(&head), buf_slice(&body), ret);
	buf_done(&head);
	buf_done(&body);
	return err;
}

int dpop_thumb(const EVP_PKEY *key, char ret[DPOP_THUMB])
{
	uint8_t md[SHA256_DIGEST_LENGTH];
	struct point at;
	char text[200];
	int n;

	if (point_of(key, &at) != 0)
		return -EINVAL;
	/* The required members in their order, without white space. */
	n = snprintf(text, sizeof(text), "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}", at.x,
		     at.y);
	(void)SHA256((const uint8_t *)text, (size_t)n, md);
	(void)b64_url_encode(slice_of(md, sizeof(md)), ret);
	return 0;
}

bool dpop_nonce_valid(const char *nonce)
{
	size_t n = 0;

	for (; nonce[n]; n++) {
		unsigned char c = (unsigned char)nonce[n];

		if (c <= 0x20 || c == '"' || c == '\\' || c > 0x7e || n == DPOP_NONCE_MAX - 1)
			return false;
	}
	return n > 0;
}
