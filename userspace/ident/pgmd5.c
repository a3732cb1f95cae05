/* SPDX-License-Identifier: MIT */
#include "ident/pgmd5.h"

#include <errno.h>
#include <openssl/evp.h>

#include "base/text.h"

enum { MD5_BYTES = 16 };

/* Hex of the digest of @a and @b together. */
static bool md5_hex(struct slice a, struct slice b, char ret[2 * MD5_BYTES + 1])
{
	EVP_MD_CTX *ctx = EVP_MD_CTX_new();
	uint8_t md[MD5_BYTES];
	bool ok = ctx && EVP_DigestInit_ex(ctx, EVP_md5(), NULL) == 1 &&
		  EVP_DigestUpdate(ctx, a.p, a.n) == 1 && EVP_DigestUpdate(ctx, b.p, b.n) == 1 &&
		  EVP_DigestFinal_ex(ctx, md, NULL) == 1;

	EVP_MD_CTX_free(ctx);
	if (ok)
		text_hex(md, sizeof(md), ret);
	return ok;
}

int pgmd5_response(struct slice password, struct slice user, const uint8_t salt[PGMD5_SALT],
		   char ret[PGMD5_TEXT])
{
	char inner[2 * MD5_BYTES + 1];
	bool ok;

	memcpy(ret, "md5", 3);
	ok = md5_hex(password, user, inner) &&
	     md5_hex(slice_str(inner), slice_of(salt, PGMD5_SALT), ret + 3);
	explicit_bzero(inner, sizeof(inner));
	return ok ? 0 : -EOPNOTSUPP;
}
