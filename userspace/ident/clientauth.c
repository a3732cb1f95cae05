/* SPDX-License-Identifier: MIT */
#include "ident/clientauth.h"

#include <errno.h>

#include "base/jsonw.h"
#include "ident/b64.h"
#include "ident/jws_sign.h"

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

static int header(const struct clientauth_claims *c, struct buf *ret)
{
	struct jsonw w;

	jsonw_init(&w, ret, false);
	jsonw_object(&w);
	jsonw_kv_string(&w, "alg", c->alg);
	if (c->key_id)
		jsonw_kv_string(&w, "kid", c->key_id);
	jsonw_kv_string(&w, "typ", "JWT");
	jsonw_object_end(&w);
	return jsonw_end(&w);
}

static int claims(const struct clientauth_claims *c, struct buf *ret)
{
	struct jsonw w;
	char jti[JWS_ID];

	jws_random_id(jti);
	jsonw_init(&w, ret, false);
	jsonw_object(&w);
	jsonw_kv_string(&w, "iss", c->client_id);
	jsonw_kv_string(&w, "sub", c->client_id);
	jsonw_kv_string(&w, "aud", c->audience);
	jsonw_kv_string(&w, "jti", jti);
	jsonw_kv_u64(&w, "iat", c->now_s);
	jsonw_kv_u64(&w, "exp", c->now_s + CLIENTAUTH_ASSERTION_S);
	jsonw_object_end(&w);
	return jsonw_end(&w);
}

int clientauth_assert(EVP_PKEY *key, const struct clientauth_claims *c, struct buf *ret)
{
	struct buf head, body;
	const char *why;
	int err = jws_sign_key_fits(key, c->alg, &why);

	buf_init(&head, 1024);
	buf_init(&body, CLIENTAUTH_ASSERTION_MAX / 2);
	if (!err)
		err = header(c, &head);
	if (!err)
		err = claims(c, &body);
	if (!err)
		err = jws_sign(key, c->alg, buf_slice(&head), buf_slice(&body), ret);
	buf_done(&head);
	buf_done(&body);
	return err;
}
