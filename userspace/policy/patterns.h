/* SPDX-License-Identifier: MIT */
/*
 * Patterns that users write, compiled together by vectorscan: its syntax is
 * PCRE's without what needs backtracking. Bytes, not characters; `.` matches line ends
 * too; `^` and `$` are the ends of the value.
 */
#ifndef TIDEGATE_POLICY_PATTERNS_H
#define TIDEGATE_POLICY_PATTERNS_H

#include "base/compiler.h"
#include "base/slice.h"

struct patterns;

enum patterns_kind {
	PATTERNS_WHICH, /* which of them match at all */
	PATTERNS_WHERE, /* where each matches, start and end */
};

/* 0, -ENOMEM, or -EINVAL: *ret_bad is the pattern and @error says why. */
MUST_CHECK int patterns_new(const struct slice *pattern, uint32_t n, enum patterns_kind kind,
			    struct patterns **ret, uint32_t *ret_bad, char *error,
			    size_t error_cap);
void patterns_free(struct patterns *p);

/* What one thread needs to scan, for any number of sets of patterns; starts as NULL. */
struct patterns_scratch;
void patterns_scratch_free(struct patterns_scratch *s);

/* Sets bit i of @ret_bits if pattern i matches; @ret_bits has room for all of them. */
MUST_CHECK int patterns_which(const struct patterns *p, struct patterns_scratch **s,
			      struct slice text, uint64_t *ret_bits);

/*
 * Calls back for each match, ends ascending; an empty match is left out. Negative errno
 * if the text was not scanned to its end.
 */
typedef bool patterns_cb(void *ctx, uint32_t id, size_t start, size_t end);
MUST_CHECK int patterns_where(const struct patterns *p, struct patterns_scratch **s,
			      struct slice text, patterns_cb *cb, void *ctx);

#endif
