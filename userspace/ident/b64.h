/* SPDX-License-Identifier: MIT */
/*
 * Base64 (RFC 4648), strict: the one canonical form or nothing. No white
 * space, no missing or surplus padding, no stray bits in the last character,
 * so that two texts never stand for the same bytes.
 */
#ifndef TIDEGATE_IDENT_B64_H
#define TIDEGATE_IDENT_B64_H

#include "base/compiler.h"
#include "base/slice.h"

/* Room for the text of @n bytes with its NUL, in both forms. */
#define B64_TEXT(n) (((size_t)(n) + 2) / 3 * 4 + 1)

/* Section 4, with padding. Returns the length without the NUL. */
size_t b64_encode(struct slice in, char *dst);
/* Section 5, "base64url", without padding as in JOSE. */
size_t b64_url_encode(struct slice in, char *dst);

/* 0 and *ret_n, -EINVAL, or -EMSGSIZE if @cap is too small. */
MUST_CHECK int b64_decode(struct slice in, uint8_t *dst, size_t cap, size_t *ret_n);
MUST_CHECK int b64_url_decode(struct slice in, uint8_t *dst, size_t cap, size_t *ret_n);

#endif
