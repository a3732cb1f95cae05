/* SPDX-License-Identifier: MIT */
/*
 * A policy decision point's own description (AuthZEN Authorization API 1.0, section 9). It is
 * believed only as a provider's is (discovery.h): it has to be of the configured decision point to
 * the letter, and to lead nowhere else than there. Pure.
 */
#ifndef TIDEGATE_IDENT_AUTHZEN_META_H
#define TIDEGATE_IDENT_AUTHZEN_META_H

#include "base/compiler.h"
#include "base/slice.h"

enum { AUTHZEN_META_MAX = 64 << 10 };

/* Where it is: allocated. 0, -ENOMEM, or -EINVAL if the decision point is no URL that may be used. */
MUST_CHECK int authzen_meta_url(const char *point, bool allow_http, char **ret);
/* The evaluation endpoint: allocated; 0, or -EINVAL with a message. */
MUST_CHECK int authzen_meta_parse(struct slice json, const char *point, bool allow_http, char **ret,
				  char *error, size_t error_cap);

#endif
