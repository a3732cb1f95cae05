/* SPDX-License-Identifier: MIT */
/* Attributes and small helpers that every file may use. */
#ifndef TIDEGATE_BASE_COMPILER_H
#define TIDEGATE_BASE_COMPILER_H

#include "base/banned.h"

#define MUST_CHECK     __attribute__((warn_unused_result))
#define PRINTF(f, a)   __attribute__((format(printf, f, a)))
#define UNUSED	       __attribute__((unused))
#define NORETURN       __attribute__((noreturn))
#define COLD	       __attribute__((cold))
#define ARRAY_SIZE(a)  (sizeof(a) / sizeof((a)[0]))
#define likely(x)      __builtin_expect(!!(x), 1)
#define unlikely(x)    __builtin_expect(!!(x), 0)
#define min_size(a, b) ((size_t)(a) < (size_t)(b) ? (size_t)(a) : (size_t)(b))
#define max_size(a, b) ((size_t)(a) > (size_t)(b) ? (size_t)(a) : (size_t)(b))

#define container_of(ptr, type, member) ((type *)((char *)(ptr) - offsetof(type, member)))

/* Our own broken state, never a peer's bytes: says where and aborts. */
#define BUG_ON(cond)                                                                               \
	do {                                                                                       \
		if (unlikely(cond))                                                                \
			bug_abort(__FILE__, __LINE__, #cond);                                      \
	} while (0)

NORETURN COLD void bug_abort(const char *file, int line, const char *cond);

/* A build with AddressSanitizer, whose own calls no sandbox knows. */
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#endif
