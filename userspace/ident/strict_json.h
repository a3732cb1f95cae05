/* SPDX-License-Identifier: MIT */
/*
 * JSON from an identity provider: one object, nothing after it, no name twice
 * (parsers disagree on which one counts), bounded depth.
 */
#ifndef TIDEGATE_IDENT_STRICT_JSON_H
#define TIDEGATE_IDENT_STRICT_JSON_H

#include <jansson.h>

#include "base/compiler.h"
#include "base/slice.h"

enum { STRICT_JSON_DEPTH = 12 };

/* The caller's reference, or NULL with a message. */
MUST_CHECK json_t *strict_json_object(struct slice s, size_t max_bytes, char *error,
				      size_t error_cap);

/* The value of a string member, NULL if it is missing or something else. */
const char *strict_json_string(const json_t *object, const char *name);

/* Overwrites a string value in place: for secrets, before the last reference goes. */
void strict_json_wipe(json_t *string);

#endif
