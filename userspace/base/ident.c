/* SPDX-License-Identifier: MIT */
#include "base/ident.h"

#include <errno.h>
#include <sys/random.h>

#include "base/text.h"

void random_bytes(void *dst, size_t n)
{
	uint8_t *p = dst;

	while (n) {
		ssize_t got = getrandom(p, n, 0);

		BUG_ON(got < 0 && errno != EINTR);
		if (got > 0) {
			p += got;
			n -= (size_t)got;
		}
	}
}

void uuid_new(uint64_t wall_ns, struct uuid *ret)
{
	uint64_t ms = wall_ns / 1000000;

	random_bytes(ret->b, sizeof(ret->b));
	store_be16(ret->b, (uint16_t)(ms >> 32));
	store_be32(ret->b + 2, (uint32_t)ms);
	ret->b[6] = (uint8_t)((ret->b[6] & 0x0f) | 0x70); /* version 7 */
	ret->b[8] = (uint8_t)((ret->b[8] & 0x3f) | 0x80); /* variant */
}

uint64_t uuid_wall_ns(const struct uuid *u)
{
	return ((uint64_t)load_be16(u->b) << 32 | load_be32(u->b + 2)) * 1000000;
}

void uuid_format(const struct uuid *u, char dst[UUID_TEXT])
{
	static const uint8_t groups[] = {4, 2, 2, 2, 6};
	const uint8_t *p = u->b;

	for (size_t g = 0; g < sizeof(groups); g++) {
		text_hex(p, groups[g], dst);
		p += groups[g];
		dst += 2 * groups[g];
		*dst++ = g + 1 < sizeof(groups) ? '-' : '\0';
	}
}

static int hex_digit(uint8_t c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

int uuid_parse(struct slice s, struct uuid *ret)
{
	struct uuid u = {{0}};
	size_t nibble = 0;

	if (s.n != UUID_TEXT - 1)
		return -EINVAL;
	for (size_t i = 0; i < s.n; i++) {
		int v = hex_digit(s.p[i]);

		if (i == 8 || i == 13 || i == 18 || i == 23) {
			if (s.p[i] != '-')
				return -EINVAL;
			continue;
		}
		if (v < 0)
			return -EINVAL;
		u.b[nibble / 2] = (uint8_t)(u.b[nibble / 2] << 4 | v);
		nibble++;
	}
	*ret = u;
	return 0;
}

void handle_new(char dst[HANDLE_TEXT])
{
	static const char alphabet[] = "abcdefghijkmnpqrstuvwxyz23456789"; /* 32: no bias */
	uint8_t raw[HANDLE_TEXT - 1];

	random_bytes(raw, sizeof(raw));
	for (size_t i = 0; i < sizeof(raw); i++)
		dst[i] = alphabet[raw[i] & 31];
	dst[HANDLE_TEXT - 1] = '\0';
}
