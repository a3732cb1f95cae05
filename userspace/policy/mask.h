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

/* @set: patterns of the user; see insp_host.mask. */
uint32_t masker_apply(struct masker *m, const struct mask_set *set, struct insp_value *v,
		      uint32_t n);

/*
 * Secrets in text that is to be recorded (AWS keys, GitHub tokens, JWTs,
 * private keys): overwrites them with '*' in place, same length; returns how many.
 */
uint32_t masker_hide_secrets(struct masker *m, uint8_t *p, size_t n);

#endif
