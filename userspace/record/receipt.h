/* SPDX-License-Identifier: MIT */
/*
 * Receipts: signed statements of what was decided, inside recordings. A receipt is a JSON object
 * { "body": text of a JSON object, "key": name, "sig": hex }: Ed25519 (RFC 8032) over exactly
 * the bytes of the body. The key signs nothing else.
 */
#ifndef TIDEGATE_RECORD_RECEIPT_H
#define TIDEGATE_RECORD_RECEIPT_H

#include <jansson.h>
#include <openssl/evp.h>

#include "base/compiler.h"
#include "base/slice.h"

enum {
	RECEIPT_SIG = 64,
	RECEIPT_KEY_NAME = 33,	       /* with the NUL */
	RECEIPT_BODY_MAX = 16 << 10,   /* bytes of JSON that are signed */
	RECEIPT_KEY_FILE_MAX = 4 << 10,
};

/* The public key of each name lies beside the recordings: receipts-NAME.pub. */
#define RECEIPT_KEY_PREFIX "receipts-"
#define RECEIPT_KEY_SUFFIX ".pub"

/* The first half of the SHA-256 of the 32 bytes of the public key. -EINVAL: it is not Ed25519. */
MUST_CHECK int receipt_key_name(const EVP_PKEY *key, char ret[RECEIPT_KEY_NAME]);
/* A public key in PEM form; NULL: there is none in it that is of the right kind. */
EVP_PKEY *receipt_key_parse(struct slice pem);

MUST_CHECK int receipt_sign(EVP_PKEY *key, struct slice body, uint8_t ret_sig[RECEIPT_SIG]);
/* The receipt as text (free()); NULL: out of memory, or @body is no UTF-8. */
char *receipt_text(struct slice body, const char *key_name, const uint8_t sig[RECEIPT_SIG]);

/*
 * Opens @receipt, the JSON value of a record, with the keys that @find knows by name (NULL:
 * unknown). The body as an object (a new reference), or NULL and why, for "a receipt that ...".
 */
typedef EVP_PKEY *receipt_find_fn(void *ctx, const char *key_name);
json_t *receipt_open(const json_t *receipt, receipt_find_fn *find, void *ctx, const char **ret_why);

#endif
