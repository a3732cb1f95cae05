/* SPDX-License-Identifier: MIT */
/* Identifiers of sessions, grants and requests. */
#ifndef TIDEGATE_BASE_IDENT_H
#define TIDEGATE_BASE_IDENT_H

#include "base/compiler.h"
#include "base/slice.h"

/* UUID version 7 (RFC 9562): sorts by the time it was made. */
struct uuid {
	uint8_t b[16];
};

enum { UUID_TEXT = 37 }; /* with the NUL */

void uuid_new(uint64_t wall_ns, struct uuid *ret);
/* When it was made, to the millisecond. */
uint64_t uuid_wall_ns(const struct uuid *u);
void uuid_format(const struct uuid *u, char dst[UUID_TEXT]);
/* 0 or -EINVAL; accepts lower and upper case. */
MUST_CHECK int uuid_parse(struct slice s, struct uuid *ret);
static inline bool uuid_eq(const struct uuid *a, const struct uuid *b)
{
	return memcmp(a->b, b->b, sizeof(a->b)) == 0;
}

/*
 * A short handle that a person can read out on the phone: eight characters of
 * [a-z2-9] without look-alikes, for approvals and grants.
 */
enum { HANDLE_TEXT = 9 };
void handle_new(char dst[HANDLE_TEXT]);

/* Random bytes from the kernel; aborts if there are none (never seen after boot). */
void random_bytes(void *dst, size_t n);

#endif
