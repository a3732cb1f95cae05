/* SPDX-License-Identifier: MIT */
#include "record/receipt.h"

#include <errno.h>
#include <openssl/pem.h>
#include <openssl/sha.h>

#include "base/text.h"

int receipt_key_name(const EVP_PKEY *key, char ret[RECEIPT_KEY_NAME])
{
	uint8_t raw[32], md[SHA256_DIGEST_LENGTH];
	size_t n = sizeof(raw);

	if (EVP_PKEY_id(key) != EVP_PKEY_ED25519 ||
	    EVP_PKEY_get_raw_public_key(key, raw, &n) != 1 || n != sizeof(raw))
		return -EINVAL;
	(void)SHA256(raw, sizeof(raw), md);
	text_hex(md, (RECEIPT_KEY_NAME - 1) / 2, ret);
	return 0;
}

EVP_PKEY *receipt_key_parse(struct slice pem)
{
	BIO *bio = pem.n && pem.n <= RECEIPT_KEY_FILE_MAX ? BIO_new_mem_buf(pem.p, (int)pem.n) : NULL;
	EVP_PKEY *key = bio ? PEM_read_bio_PUBKEY(bio, NULL, NULL, NULL) : NULL;

	BIO_free(bio);
	if (key && EVP_PKEY_id(key) == EVP_PKEY_ED25519)
		return key;
	EVP_PKEY_free(key);
	return NULL;
}

int receipt_sign(EVP_PKEY *key, struct slice body, uint8_t ret_sig[RECEIPT_SIG])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	size_t n = RECEIPT_SIG;
	int err = -EIO;

	if (!ctx)
		return -ENOMEM;
	if (EVP_DigestSignInit(ctx, NULL, NULL, NULL, key) == 1 &&
	    EVP_DigestSign(ctx, ret_sig, &n, body.p, body.n) == 1 && n == RECEIPT_SIG)
		err = 0;
	EVP_MD_CTX_free(ctx);
	return err;
}

static bool is_signed(EVP_PKEY *key, struct slice body, const uint8_t sig[RECEIPT_SIG])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	bool ok = ctx && EVP_DigestVerifyInit(ctx, NULL, NULL, NULL, key) == 1 &&
		  EVP_DigestVerify(ctx, sig, RECEIPT_SIG, body.p, body.n) == 1;

	EVP_MD_CTX_free(ctx);
	return ok;
}

char *receipt_text(struct slice body, const char *key_name, const uint8_t sig[RECEIPT_SIG])
{
	char hex[2 * RECEIPT_SIG + 1], *text;
	json_t *o;

	text_hex(sig, RECEIPT_SIG, hex);
	o = json_pack("{s:s%, s:s, s:s}", "body", (const char *)body.p, body.n, "key", key_name,
		      "sig", hex);
	text = o ? json_dumps(o, JSON_COMPACT) : NULL;
	json_decref(o);
	return text;
}

json_t *receipt_open(const json_t *receipt, receipt_find_fn *find, void *ctx, const char **ret_why)
{
	const json_t *body = json_object_get(receipt, "body");
	const char *name = json_string_value(json_object_get(receipt, "key"));
	uint8_t sig[RECEIPT_SIG];
	struct slice text;
	EVP_PKEY *key;
	json_t *o;

	if (!json_is_string(body) || !name ||
	    !text_unhex(json_string_value(json_object_get(receipt, "sig")), sig, RECEIPT_SIG)) {
		*ret_why = "is none: body, key and sig are missing or of no use";
		return NULL;
	}
	key = find(ctx, name);
	if (!key) {
		*ret_why = "is signed with another key";
		return NULL;
	}
	text = slice_of(json_string_value(body), json_string_length(body));
	if (!is_signed(key, text, sig)) {
		*ret_why = "is not what was signed";
		return NULL;
	}
	o = json_loadb((const char *)text.p, text.n, JSON_REJECT_DUPLICATES, NULL);
	if (!json_is_object(o)) {
		json_decref(o);
		*ret_why = "says nothing that can be read";
		return NULL;
	}
	return o;
}
