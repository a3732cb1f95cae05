/* SPDX-License-Identifier: MIT */
/*
 * A streaming JSON writer into a buffer, for data that may hold any bytes:
 * every control character is escaped (RFC 8259 section 7) and invalid UTF-8
 * becomes U+FFFD, so that the output is always valid JSON. The error is
 * sticky; jsonw_end() tells it.
 */
#ifndef TIDEGATE_BASE_JSONW_H
#define TIDEGATE_BASE_JSONW_H

#include "base/buf.h"

enum { JSONW_DEPTH = 16 };

struct jsonw {
	struct buf *out;
	bool pretty;
	bool bad;
	uint8_t depth;
	bool some[JSONW_DEPTH]; /* an element was written at this depth */
	bool named;		/* a name was written, its value is due */
};

void jsonw_init(struct jsonw *w, struct buf *out, bool pretty);
void jsonw_object(struct jsonw *w);
void jsonw_object_end(struct jsonw *w);
void jsonw_array(struct jsonw *w);
void jsonw_array_end(struct jsonw *w);
/* Here and below a @name is one of ours, printable and without quotes: it is not escaped. */
void jsonw_name_n(struct jsonw *w, const char *name, size_t n);
static inline void jsonw_name(struct jsonw *w, const char *name)
{
	jsonw_name_n(w, name, strlen(name));
}
void jsonw_slice(struct jsonw *w, struct slice s);
void jsonw_string(struct jsonw *w, const char *s);
void jsonw_u64(struct jsonw *w, uint64_t v);
void jsonw_i64(struct jsonw *w, int64_t v);
void jsonw_bool(struct jsonw *w, bool v);
void jsonw_null(struct jsonw *w);

/* One or more members of an object, or elements of an array, as this writer has made them. */
void jsonw_members(struct jsonw *w, struct slice s);

/* Name and value at once. Inline, so that the length of a name is known when it is compiled. */
static inline void jsonw_kv_string(struct jsonw *w, const char *name, const char *s)
{
	jsonw_name(w, name);
	jsonw_string(w, s);
}

static inline void jsonw_kv_slice(struct jsonw *w, const char *name, struct slice s)
{
	jsonw_name(w, name);
	jsonw_slice(w, s);
}

static inline void jsonw_kv_u64(struct jsonw *w, const char *name, uint64_t v)
{
	jsonw_name(w, name);
	jsonw_u64(w, v);
}

static inline void jsonw_kv_bool(struct jsonw *w, const char *name, bool v)
{
	jsonw_name(w, name);
	jsonw_bool(w, v);
}

/* 0 if all was written and every object and array is closed; -EMSGSIZE else. */
MUST_CHECK int jsonw_end(struct jsonw *w);

#endif
