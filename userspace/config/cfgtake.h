/* SPDX-License-Identifier: MIT */
/* The values that are more than one word: lists of objects, rules, masks, addresses. */
#ifndef TIDEGATE_CONFIG_CFGTAKE_H
#define TIDEGATE_CONFIG_CFGTAKE_H

struct loader;
struct ynode;

/* See cfg_key.take. */
int cfg_take_idp(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_agents(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_ways(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_credentials(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_targets(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_policy(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_uids(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_allow(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_addresses(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_approval(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_way(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_commands(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_masks(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_effects(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_detectors(struct loader *l, const struct ynode *v, void *obj, const char *where);
int cfg_take_how(struct loader *l, const struct ynode *v, void *obj, const char *where);

#endif
