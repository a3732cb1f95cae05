/* SPDX-License-Identifier: MIT */
/* Applies plans to values: the implementation of insp_host.mask, one per worker. */
#ifndef TIDEGATE_POLICY_MASK_H
#define TIDEGATE_POLICY_MASK_H

#include "base/compiler.h"
#include "inspect/inspect.h"
#include "policy/policy.h"

struct masker;

/* @key: 32 random bytes for MASK_HASH, the same in all workers of a daemon. */
MUST_CHECK int masker_new(const uint8_t key[32], struct masker **ret);
void masker_free(struct masker *m);

/*
 * The implementation of insp_host.mask; @set: of the session, for its patterns and for
 * what replaces a hit (NULL: what the plan says).
 *
 *   redact  `***`
 *   last4   letters and digits become `*`, all but the last four; other characters
 *	     stay: "***-**-6789". Of up to four, and of private keys, `***`
 *   hash    `h:` and 16 digits of HMAC-SHA-256: equal values look equal
 *   null    changed, out.p == NULL
 *
 * A detector's hit is replaced inside the value, except by null, which takes all of it.
 * NULL values (in.p == NULL) stay. Outputs are valid till the next call. The masker
 * knows no types: what a column that is not text gets, its protocol decides.
 */
uint32_t masker_apply(struct masker *m, const struct mask_set *set, struct insp_value *v,
		      uint32_t n);

/*
 * Secrets in text that is to be recorded (AWS keys, GitHub tokens, JWTs,
 * private keys): overwrites them with '*' in place, same length; returns how many.
 */
uint32_t masker_hide_secrets(struct masker *m, uint8_t *p, size_t n);
/* It would overwrite something. */
bool masker_has_secrets(struct masker *m, struct slice text);

#endif
