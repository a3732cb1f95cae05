/* SPDX-License-Identifier: MIT */
/*
 * A JSON Web Key Set (RFC 7517) as verification keys. Whatever is no usable
 * public signature key is skipped: symmetric keys, encryption keys, short RSA
 * keys, unknown curves. Private members are never looked at.
 */
#include <errno.h>

#include "ident/b64.h"
#include "ident/jws.h"
#include "ident/jwt.h"
#include "ident/strict_json.h"

static const struct jws_alg algs[] = {
	{"RS256", JWS_RSA, 0},	    {"RS384", JWS_RSA, 0},	  {"RS512", JWS_RSA, 0},
	{"PS256", JWS_RSA, 0},	    {"PS384", JWS_RSA, 0},	  {"PS512", JWS_RSA, 0},
	{"ES256", JWS_P256, 64},    {"ES384", JWS_P384, 96},	  {"ES512", JWS_P521, 132},
	{"EdDSA", JWS_ED25519, 64}, {"Ed25519", JWS_ED25519, 64},
};

const struct jws_alg *jws_alg_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_SIZE(algs); i++)
		if (strcmp(algs[i].name, name) == 0)
			return &algs[i];
	return NULL;
}

bool jws_key_fits(const struct jws_key *k, const struct jws_alg *alg)
{
	if (k->kind != alg->kind)
		return false;
	/* "EdDSA" and "Ed25519" (RFC 9864) are two names for the same. */
	return !k->alg || k->alg == alg || alg->kind == JWS_ED25519;
}

/* RSA and EC keys: cjose gets the public members only. */
static cjose_jwk_t *import_public(const json_t *j, const char *kty, const char *const *names)
{
	cjose_err why;
	cjose_jwk_t *k;
	json_t *pub = json_object();
	bool ok = pub && json_object_set_new(pub, "kty", json_string(kty)) == 0;

	for (; ok && *names; names++) {
		json_t *v = json_object_get(j, *names);

		ok = json_is_string(v) && json_object_set(pub, *names, v) == 0;
	}
	k = ok ? cjose_jwk_import_json(pub, &why) : NULL;
	json_decref(pub);
	return k;
}

/* 2048 to 8192 bits; the exponent is odd and small, so that a check costs little. */
static bool rsa_usable(const json_t *j)
{
	uint8_t n[JWS_SIG_MAX], e[8];
	size_t nn, en;

	if (b64_url_decode(slice_str(strict_json_string(j, "n")), n, sizeof(n), &nn) ||
	    b64_url_decode(slice_str(strict_json_string(j, "e")), e, sizeof(e), &en))
		return false;
	if (nn < 256 || n[0] < 0x80 || !(n[nn - 1] & 1))
		return false;
	return en > 0 && en <= 4 && e[0] && (e[en - 1] & 1) && !(en == 1 && e[0] < 3);
}

/* Coordinates have the full length of the field (RFC 7518 section 6.2.1.2). */
static bool ec_usable(const json_t *j, size_t bytes)
{
	uint8_t v[66];
	size_t xn, yn;

	return b64_url_decode(slice_str(strict_json_string(j, "x")), v, sizeof(v), &xn) == 0 &&
	       b64_url_decode(slice_str(strict_json_string(j, "y")), v, sizeof(v), &yn) == 0 &&
	       xn == bytes && yn == bytes;
}

static bool load_rsa(const json_t *j, struct jws_key *k)
{
	static const char *const names[] = {"n", "e", NULL};

	k->kind = JWS_RSA;
	k->jwk = rsa_usable(j) ? import_public(j, "RSA", names) : NULL;
	return k->jwk;
}

static bool load_ec(const json_t *j, struct jws_key *k)
{
	static const char *const names[] = {"crv", "x", "y", NULL};
	static const struct {
		const char *crv;
		enum jws_kind kind;
		size_t bytes;
	} curves[] = {{"P-256", JWS_P256, 32}, {"P-384", JWS_P384, 48}, {"P-521", JWS_P521, 66}};
	const char *crv = strict_json_string(j, "crv");

	for (size_t i = 0; crv && i < ARRAY_SIZE(curves); i++) {
		if (strcmp(crv, curves[i].crv) != 0)
			continue;
		k->kind = curves[i].kind;
		k->jwk = ec_usable(j, curves[i].bytes) ? import_public(j, "EC", names) : NULL;
	}
	return k->jwk;
}

static bool load_okp(const json_t *j, struct jws_key *k)
{
	const char *crv = strict_json_string(j, "crv");
	uint8_t x[32];
	size_t n;

	if (!crv || strcmp(crv, "Ed25519") != 0 ||
	    b64_url_decode(slice_str(strict_json_string(j, "x")), x, sizeof(x), &n) || n != 32)
		return false;
	k->kind = JWS_ED25519;
	k->ed = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, x, n);
	return k->ed;
}

/* `use` and `key_ops` (RFC 7517 sections 4.2, 4.3) must not speak against it. */
static bool may_verify(const json_t *j)
{
	const json_t *use = json_object_get(j, "use"), *ops = json_object_get(j, "key_ops");

	if (use && (!json_is_string(use) || strcmp(json_string_value(use), "sig") != 0))
		return false;
	if (!ops)
		return true;
	for (size_t i = 0; i < json_array_size(ops); i++) {
		const char *op = json_string_value(json_array_get(ops, i));

		if (op && strcmp(op, "verify") == 0)
			return true;
	}
	return false;
}

static void key_done(struct jws_key *k)
{
	free(k->kid);
	if (k->jwk)
		(void)cjose_jwk_release(k->jwk);
	EVP_PKEY_free(k->ed);
	memset(k, 0, sizeof(*k));
}

static bool key_load(const json_t *j, struct jws_key *k)
{
	const json_t *kid = json_object_get(j, "kid"), *alg = json_object_get(j, "alg");
	const char *kty = strict_json_string(j, "kty");
	bool ok = false;

	if (!kty || !may_verify(j) || (kid && !json_is_string(kid)))
		return false;
	if (kid && json_string_length(kid) > JWS_KID_MAX)
		return false;
	if (alg) {
		k->alg = json_is_string(alg) ? jws_alg_find(json_string_value(alg)) : NULL;
		if (!k->alg)
			return false;
	}
	if (strcmp(kty, "RSA") == 0)
		ok = load_rsa(j, k);
	else if (strcmp(kty, "EC") == 0)
		ok = load_ec(j, k);
	else if (strcmp(kty, "OKP") == 0)
		ok = load_okp(j, k);
	if (!ok || (k->alg && k->alg->kind != k->kind))
		return false;
	if (kid) {
		k->kid = strdup(json_string_value(kid));
		return k->kid;
	}
	return true;
}

int jwks_parse(struct slice json, struct jwks **ret, char *error, size_t error_cap)
{
	json_t *j = strict_json_object(json, JWS_SET_MAX, error, error_cap), *keys;
	struct jwks *set;

	if (!j)
		return -EINVAL;
	keys = json_object_get(j, "keys");
	set = calloc(1, sizeof(*set));
	if (!json_is_array(keys) || !set) {
		(void)snprintf(error, error_cap,
			       set ? "the key set has no array `keys`" : "out of memory");
		free(set);
		json_decref(j);
		return -EINVAL;
	}
	for (size_t i = 0; i < json_array_size(keys); i++) {
		struct jws_key *k = &set->keys[set->count];

		if (set->count < JWS_KEYS_MAX && key_load(json_array_get(keys, i), k)) {
			set->count++;
			continue;
		}
		set->skipped++;
		if (set->count < JWS_KEYS_MAX)
			key_done(k);
	}
	json_decref(j);
	*ret = set;
	return 0;
}

void jwks_free(struct jwks *k)
{
	if (!k)
		return;
	for (unsigned i = 0; i < k->count; i++)
		key_done(&k->keys[i]);
	free(k);
}

unsigned jwks_count(const struct jwks *k)
{
	return k->count;
}

unsigned jwks_skipped(const struct jwks *k)
{
	return k->skipped;
}

static bool verify_ed25519(const struct jws_key *k, struct slice signed_part, struct slice sig)
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, k->ed) == 1 &&
		  EVP_DigestVerify(ctx, sig.p, sig.n, signed_part.p, signed_part.n) == 1;

	EVP_MD_CTX_free(ctx);
	return ok;
}

/* RFC 7515 section 7.1: base64url without padding, and dots; cjose aborts on some of the rest. */
static bool is_compact(struct slice token)
{
	size_t part = 0;

	for (size_t i = 0; i < token.n; i++, part++) {
		uint8_t c = token.p[i];

		if (c == '.') {
			/* No number of bytes has a text of this length. */
			if (part % 4 == 1)
				return false;
			part = SIZE_MAX; /* the loop makes it 0 */
			continue;
		}
		if (!((c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') ||
		      c == '-' || c == '_'))
			return false;
	}
	return part % 4 != 1;
}

bool jws_verify(const struct jws_key *k, const struct jws_alg *alg, struct slice token,
		struct slice signed_part, struct slice sig)
{
	cjose_jws_t *jws;
	cjose_err why;
	bool ok;

	/* cjose cuts an EC signature in two halves of whatever length it has. */
	if (!jws_key_fits(k, alg) || (alg->sig_bytes && sig.n != alg->sig_bytes))
		return false;
	if (k->kind == JWS_ED25519)
		return verify_ed25519(k, signed_part, sig);
	if (!is_compact(token))
		return false;
	jws = cjose_jws_import((const char *)token.p, token.n, &why);
	ok = jws && cjose_jws_verify(jws, k->jwk, &why);
	cjose_jws_release(jws);
	return ok;
}
