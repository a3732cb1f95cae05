/* SPDX-License-Identifier: MIT */
/* Scopes (RFC 6749 section 3.3): words separated by single spaces. */
#ifndef TIDEGATE_IDENT_SCOPE_H
#define TIDEGATE_IDENT_SCOPE_H

#include <jansson.h>

#include "base/compiler.h"
#include "base/slice.h"

/* One to 32 words of the permitted characters, at most 1024 bytes. */
bool scope_valid(const char *scope);

/*
 * True if @granted, a string or (as some providers have it) an array of
 * strings, holds every word of @asked; else *ret_missing is the first that it
 * does not, borrowed from @asked. Whole words only.
 */
bool scope_covers(const json_t *granted, const char *asked, struct slice *ret_missing);

#endif
