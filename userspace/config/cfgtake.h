/* SPDX-License-Identifier: MIT */
/* The values that are more than one word: lists of objects, rules, masks, addresses. */
#ifndef TIDEGATE_CONFIG_CFGTAKE_H
#define TIDEGATE_CONFIG_CFGTAKE_H

#include <stdint.h>

#include "base/slice.h"
#include "policy/policy.h"

struct loader;
struct ynode;

/* `when` while it is read; then it becomes terms. */
struct cfg_when {
	struct slice *exe, *exe_sha256, *container, *image, *uid, *sub;
	uint32_t nexe, nexe_sha256, ncontainer, nimage, nuid, nsub;
	struct term_spec *claims;
	uint32_t nclaims;
};

/* See cfg_key.take. */
int cfg_take_idp(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_agents(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_ways(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_credentials(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_targets(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_policy(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_uids(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_token(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_when(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_claims(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_allow(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_tls(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_addresses(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_approval(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_way(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_commands(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_masks(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_effects(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_detectors(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_how(struct loader *l, const struct ynode *v, void *obj, const char *where);

#endif
