/* SPDX-License-Identifier: MIT */
/*
 * An OpenSSL provider inside this program: key management and signatures for EC and RSA, of which
 * only the public half is here. Public operations go to the usual provider's key. A private half
 * is never exported, so OpenSSL, having tried its own signature first, takes the one from here.
 */
#include "net/far_key.h"

#include <errno.h>
#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <openssl/sha.h>
#include <strings.h>

#define PROVIDER "tidegate-far"

struct far_key {
	EVP_PKEY *pub;
	far_sign_fn *sign;
	void *ctx;
	uint8_t certificate[SHA256_DIGEST_LENGTH];
};

/* One signature. */
struct far_op {
	struct far_key *key; /* owned by the EVP_PKEY, which outlives this */
	const char *digest;
	bool rsa, pss;
};

/* ------------------------------------------------------------------ keys */

static void *key_new(void *provider)
{
	return calloc(1, sizeof(struct far_key));
}

static void key_free(void *data)
{
	struct far_key *k = data;

	if (k)
		EVP_PKEY_free(k->pub);
	free(k);
}

static int key_has(const void *data, int selection)
{
	const struct far_key *k = data;

	return k && k->pub;
}

/* What far_key_new() says goes through a parameter: nobody else knows its name. */
static int key_import(void *data, int selection, const OSSL_PARAM params[])
{
	const OSSL_PARAM *p = OSSL_PARAM_locate_const(params, PROVIDER);
	const struct far_key *from;
	struct far_key *k = data;

	if (!p || p->data_type != OSSL_PARAM_OCTET_STRING || p->data_size != sizeof(*from) || k->pub)
		return 0;
	from = p->data;
	if (!EVP_PKEY_up_ref(from->pub))
		return 0;
	*k = *from;
	return 1;
}

static const OSSL_PARAM *key_import_types(int selection)
{
	static const OSSL_PARAM types[] = {OSSL_PARAM_octet_string(PROVIDER, NULL, 0), OSSL_PARAM_END};

	return types;
}

/* For comparisons with a certificate, which are made in another provider. */
static int key_export(void *data, int selection, OSSL_CALLBACK *take, void *ctx)
{
	const struct far_key *k = data;

	if (selection & OSSL_KEYMGMT_SELECT_PRIVATE_KEY)
		return 0;
	return EVP_PKEY_export(k->pub, selection, take, ctx);
}

static const OSSL_PARAM *ec_export_types(int selection)
{
	static const OSSL_PARAM types[] = {
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
		OSSL_PARAM_octet_string(OSSL_PKEY_PARAM_PUB_KEY, NULL, 0), OSSL_PARAM_END};

	return types;
}

static const OSSL_PARAM *rsa_export_types(int selection)
{
	static const OSSL_PARAM types[] = {OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_N, NULL, 0),
					   OSSL_PARAM_BN(OSSL_PKEY_PARAM_RSA_E, NULL, 0), OSSL_PARAM_END};

	return types;
}

static int key_get_params(void *data, OSSL_PARAM params[])
{
	const struct far_key *k = data;

	return EVP_PKEY_get_params(k->pub, params);
}

static const OSSL_PARAM *key_gettable(void *provider)
{
	static const OSSL_PARAM params[] = {
		OSSL_PARAM_int(OSSL_PKEY_PARAM_BITS, NULL),
		OSSL_PARAM_int(OSSL_PKEY_PARAM_SECURITY_BITS, NULL),
		OSSL_PARAM_int(OSSL_PKEY_PARAM_MAX_SIZE, NULL),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_DEFAULT_DIGEST, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_PKEY_PARAM_GROUP_NAME, NULL, 0),
		OSSL_PARAM_END};

	return params;
}

static const char *ec_operation(int id)
{
	return id == OSSL_OP_SIGNATURE ? "ECDSA" : NULL;
}

static const char *rsa_operation(int id)
{
	return id == OSSL_OP_SIGNATURE ? "RSA" : NULL;
}

#define FN(id, f) {OSSL_FUNC_##id, (void (*)(void))(f)}
#define KEYMGMT(kind)                                                                              \
	static const OSSL_DISPATCH kind##_keymgmt[] = {                                            \
		FN(KEYMGMT_NEW, key_new),                                                          \
		FN(KEYMGMT_FREE, key_free),                                                        \
		FN(KEYMGMT_HAS, key_has),                                                          \
		FN(KEYMGMT_IMPORT, key_import),                                                    \
		FN(KEYMGMT_IMPORT_TYPES, key_import_types),                                        \
		FN(KEYMGMT_EXPORT, key_export),                                                    \
		FN(KEYMGMT_EXPORT_TYPES, kind##_export_types),                                     \
		FN(KEYMGMT_GET_PARAMS, key_get_params),                                            \
		FN(KEYMGMT_GETTABLE_PARAMS, key_gettable),                                         \
		FN(KEYMGMT_QUERY_OPERATION_NAME, kind##_operation),                                \
		{0, NULL},                                                                         \
	}
KEYMGMT(ec);
KEYMGMT(rsa);

/* ------------------------------------------------------------ signatures */

static void *ec_op_new(void *provider, const char *properties)
{
	return calloc(1, sizeof(struct far_op));
}

static void *rsa_op_new(void *provider, const char *properties)
{
	struct far_op *op = calloc(1, sizeof(*op));

	if (op)
		op->rsa = true;
	return op;
}

static void op_free(void *data)
{
	free(data);
}

static const char *digest_of(const char *name)
{
	static const struct {
		const char *name, *digest;
	} known[] = {{"SHA256", "SHA256"},   {"SHA2-256", "SHA256"}, {"SHA384", "SHA384"},
		     {"SHA2-384", "SHA384"}, {"SHA512", "SHA512"},   {"SHA2-512", "SHA512"}};

	for (size_t i = 0; name && i < ARRAY_SIZE(known); i++)
		if (strcasecmp(name, known[i].name) == 0)
			return known[i].digest;
	return NULL;
}

/* Text or number, by what OpenSSL thought of last. */
static bool says(const OSSL_PARAM *p, const char *text, int number)
{
	char buf[32], *at = buf;
	int n;

	if (p->data_type == OSSL_PARAM_UTF8_STRING)
		return OSSL_PARAM_get_utf8_string(p, &at, sizeof(buf)) && strcmp(buf, text) == 0;
	return OSSL_PARAM_get_int(p, &n) && n == number;
}

/* What would be signed in another way than the caller believes is refused. */
static int op_set_params(void *data, const OSSL_PARAM params[])
{
	struct far_op *op = data;
	char name[32], *at = name;

	for (const OSSL_PARAM *p = params; p && p->key; p++) {
		if (strcmp(p->key, OSSL_SIGNATURE_PARAM_PAD_MODE) == 0) {
			op->pss = says(p, OSSL_PKEY_RSA_PAD_MODE_PSS, RSA_PKCS1_PSS_PADDING);
			if (!op->pss && !says(p, OSSL_PKEY_RSA_PAD_MODE_PKCSV15, RSA_PKCS1_PADDING))
				return 0;
		} else if (strcmp(p->key, OSSL_SIGNATURE_PARAM_PSS_SALTLEN) == 0) {
			if (!says(p, OSSL_PKEY_RSA_PSS_SALT_LEN_DIGEST, RSA_PSS_SALTLEN_DIGEST))
				return 0;
		} else if (strcmp(p->key, OSSL_SIGNATURE_PARAM_MGF1_DIGEST) == 0) {
			if (!OSSL_PARAM_get_utf8_string(p, &at, sizeof(name)) ||
			    digest_of(name) != op->digest)
				return 0;
		} else {
			return 0;
		}
	}
	return 1;
}

static const OSSL_PARAM *op_settable(void *data, void *provider)
{
	static const OSSL_PARAM params[] = {
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PAD_MODE, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_PSS_SALTLEN, NULL, 0),
		OSSL_PARAM_utf8_string(OSSL_SIGNATURE_PARAM_MGF1_DIGEST, NULL, 0), OSSL_PARAM_END};

	return params;
}

static int op_init(void *data, const char *digest, void *key, const OSSL_PARAM params[])
{
	struct far_op *op = data;

	op->key = key;
	op->digest = digest_of(digest);
	return op->key && op->digest && op_set_params(op, params);
}

static int op_sign(void *data, uint8_t *sig, size_t *n, size_t cap, const uint8_t *text, size_t len)
{
	struct far_op *op = data;
	struct far_ask q = {
		.scheme = !op->rsa ? FAR_ECDSA : op->pss ? FAR_RSA_PSS : FAR_RSA_PKCS1,
		.digest = op->digest,
		.text = slice_of(text, len),
		.certificate = slice_of(op->key->certificate, sizeof(op->key->certificate)),
	};
	uint8_t mem[FAR_SIG_MAX];
	size_t made = 0;

	if (!sig) {
		*n = (size_t)EVP_PKEY_get_size(op->key->pub);
		return *n > 0 && *n <= sizeof(mem);
	}
	if (op->key->sign(op->key->ctx, &q, mem, &made) || made > cap || made > sizeof(mem))
		return 0;
	memcpy(sig, mem, made);
	*n = made;
	return 1;
}

#define SIGNATURE(kind)                                                                            \
	static const OSSL_DISPATCH kind##_signature[] = {                                          \
		FN(SIGNATURE_NEWCTX, kind##_op_new),                                               \
		FN(SIGNATURE_FREECTX, op_free),                                                    \
		FN(SIGNATURE_DIGEST_SIGN_INIT, op_init),                                           \
		FN(SIGNATURE_DIGEST_SIGN, op_sign),                                                \
		FN(SIGNATURE_SET_CTX_PARAMS, op_set_params),                                       \
		FN(SIGNATURE_SETTABLE_CTX_PARAMS, op_settable),                                    \
		{0, NULL},                                                                         \
	}
SIGNATURE(ec);
SIGNATURE(rsa);

/* -------------------------------------------------------------- provider */

static const OSSL_ALGORITHM *query(void *provider, int id, int *no_cache)
{
	static const char properties[] = "provider=" PROVIDER;
	static const OSSL_ALGORITHM keymgmts[] = {
		{"EC:id-ecPublicKey:1.2.840.10045.2.1", properties, ec_keymgmt, PROVIDER},
		{"RSA:rsaEncryption:1.2.840.113549.1.1.1", properties, rsa_keymgmt, PROVIDER},
		{NULL, NULL, NULL, NULL}};
	static const OSSL_ALGORITHM signatures[] = {
		{"ECDSA", properties, ec_signature, PROVIDER},
		{"RSA:rsaEncryption:1.2.840.113549.1.1.1", properties, rsa_signature, PROVIDER},
		{NULL, NULL, NULL, NULL}};

	*no_cache = 0;
	return id == OSSL_OP_KEYMGMT ? keymgmts : id == OSSL_OP_SIGNATURE ? signatures : NULL;
}

static int init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in, const OSSL_DISPATCH **out,
		void **provider)
{
	static const OSSL_DISPATCH functions[] = {FN(PROVIDER_QUERY_OPERATION, query), {0, NULL}};

	*out = functions;
	*provider = (void *)(uintptr_t)handle;
	return 1;
}

static OSSL_PROVIDER *loaded;

void far_key_done(void)
{
	(void)OSSL_PROVIDER_unload(loaded);
	loaded = NULL;
}

int far_key_init(void)
{
	/* The usual one first: with equal names and no properties asked for, the first is taken. */
	if (OSSL_PROVIDER_available(NULL, "default") != 1 ||
	    OSSL_PROVIDER_add_builtin(NULL, PROVIDER, init) != 1)
		return -EOPNOTSUPP;
	loaded = OSSL_PROVIDER_try_load(NULL, PROVIDER, 1);
	return loaded ? 0 : -EOPNOTSUPP;
}

EVP_PKEY *far_key_new(X509 *certificate, far_sign_fn *sign, void *ctx)
{
	struct far_key from = {.pub = X509_get0_pubkey(certificate), .sign = sign, .ctx = ctx};
	const char *kind = !from.pub			      ? NULL
			   : EVP_PKEY_is_a(from.pub, "EC")  ? "EC"
			   : EVP_PKEY_is_a(from.pub, "RSA") ? "RSA"
							    : NULL;
	EVP_PKEY_CTX *c = kind ? EVP_PKEY_CTX_new_from_name(NULL, kind, "provider=" PROVIDER) : NULL;
	OSSL_PARAM params[] = {OSSL_PARAM_octet_string(PROVIDER, &from, sizeof(from)), OSSL_PARAM_END};
	EVP_PKEY *key = NULL;

	if (X509_digest(certificate, EVP_sha256(), from.certificate, NULL) != 1) {
		EVP_PKEY_CTX_free(c);
		return NULL;
	}
	if (c && EVP_PKEY_fromdata_init(c) == 1)
		(void)EVP_PKEY_fromdata(c, &key, EVP_PKEY_KEYPAIR, params);
	EVP_PKEY_CTX_free(c);
	return key;
}
