/* SPDX-License-Identifier: MIT */
/* Whether what a provider says of a token (RFC 7662 section 2.2) makes it good for us. Pure. */
#ifndef TIDEGATE_IDENT_INTROSPECTION_H
#define TIDEGATE_IDENT_INTROSPECTION_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

struct introspection_rules {
	const char *issuer, *audience; /* needed */
	const char *scope;	       /* words that it must hold; "": none */
	bool named;   /* the audience must be said: a provider may keep it to itself otherwise */
	bool bound;   /* a token that is bound to a key is fine: it was issued to us */
	uint64_t now_s, skew_s;
};

/* NULL, or why not; *ret_denied: the token is no good, else the answer is not. */
const char *introspection_check(const json_t *answer, const struct introspection_rules *rules,
				bool *ret_denied);

#endif
