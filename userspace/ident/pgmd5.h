/* SPDX-License-Identifier: MIT */
/* PostgreSQL's MD5 authentication: weak, but there are servers that ask for it. */
#ifndef TIDEGATE_IDENT_PGMD5_H
#define TIDEGATE_IDENT_PGMD5_H

#include "base/compiler.h"
#include "base/slice.h"

enum { PGMD5_SALT = 4, PGMD5_TEXT = 36 }; /* "md5", 32 digits, NUL */

/* The answer to AuthenticationMD5Password. 0, or -EOPNOTSUPP: OpenSSL has no MD5 here (FIPS). */
MUST_CHECK int pgmd5_response(struct slice password, struct slice user,
			      const uint8_t salt[PGMD5_SALT], char ret[PGMD5_TEXT]);

#endif
