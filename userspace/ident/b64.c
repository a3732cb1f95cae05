/* SPDX-License-Identifier: MIT */
#include "ident/b64.h"

#include <errno.h>

static const char std_chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
static const char url_chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

static size_t encode(struct slice in, char *dst, const char *chars, bool pad)
{
	size_t n = 0;

	for (size_t i = 0; i < in.n; i += 3) {
		size_t left = in.n - i;
		uint32_t v = (uint32_t)in.p[i] << 16;

		if (left > 1)
			v |= (uint32_t)in.p[i + 1] << 8;
		if (left > 2)
			v |= in.p[i + 2];
		dst[n++] = chars[v >> 18];
		dst[n++] = chars[v >> 12 & 63];
		if (left > 1)
			dst[n++] = chars[v >> 6 & 63];
		else if (pad)
			dst[n++] = '=';
		if (left > 2)
			dst[n++] = chars[v & 63];
		else if (pad)
			dst[n++] = '=';
	}
	dst[n] = '\0';
	return n;
}

size_t b64_encode(struct slice in, char *dst)
{
	return encode(in, dst, std_chars, true);
}

size_t b64_url_encode(struct slice in, char *dst)
{
	return encode(in, dst, url_chars, false);
}

/* Value of a character, -1 if it is none. */
static int value(uint8_t c, bool url)
{
	if (c >= 'A' && c <= 'Z')
		return c - 'A';
	if (c >= 'a' && c <= 'z')
		return c - 'a' + 26;
	if (c >= '0' && c <= '9')
		return c - '0' + 52;
	if (c == (url ? '-' : '+'))
		return 62;
	if (c == (url ? '_' : '/'))
		return 63;
	return -1;
}

static int decode(struct slice in, bool url, uint8_t *dst, size_t cap, size_t *ret_n)
{
	uint32_t bits = 0;
	unsigned nbits = 0;
	size_t n = 0;

	if (in.n % 4 == 1)
		return -EINVAL;
	for (size_t i = 0; i < in.n; i++) {
		int v = value(in.p[i], url);

		if (v < 0)
			return -EINVAL;
		bits = bits << 6 | (uint32_t)v;
		nbits += 6;
		if (nbits >= 8) {
			nbits -= 8;
			if (n == cap)
				return -EMSGSIZE;
			dst[n++] = (uint8_t)(bits >> nbits);
			bits &= (1u << nbits) - 1;
		}
	}
	if (bits)
		return -EINVAL;
	*ret_n = n;
	return 0;
}

int b64_decode(struct slice in, uint8_t *dst, size_t cap, size_t *ret_n)
{
	if (in.n % 4)
		return -EINVAL;
	for (int i = 0; i < 2 && in.n && in.p[in.n - 1] == '='; i++)
		in.n--;
	return decode(in, false, dst, cap, ret_n);
}

int b64_url_decode(struct slice in, uint8_t *dst, size_t cap, size_t *ret_n)
{
	return decode(in, true, dst, cap, ret_n);
}
