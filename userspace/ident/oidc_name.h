/* SPDX-License-Identifier: MIT */
/*
 * Who an approver or an agent is, where the provider's `sub` is only a number: a claim of the
 * token, of userinfo or of introspection (`name_claim`, `name_from`). What another answer says
 * counts only if it is about the same `sub`.
 */
#ifndef TIDEGATE_IDENT_OIDC_NAME_H
#define TIDEGATE_IDENT_OIDC_NAME_H

#include "ident/oidc_impl.h"

enum { OIDC_NAME_BYTES = 255 };

/* Of the ID token, or else of what is known of the access token; NULL: neither says it. */
const json_t *name_claim(const struct oidc_grant *g, const char *claim);
/* True: somebody else has to be asked who that is, which has begun. */
bool name_wanted(struct oidc_grant *g);
/* The token that userinfo is asked with. */
struct slice name_token(const struct oidc_grant *g);
/* What userinfo says. */
void name_told(struct oidc_grant *g, struct slice body);
/* What introspection says of a token whose claims are known already. */
void name_introspected(struct oidc_grant *g, json_t *o);
/* A name is configured for this kind of question: without one there is no approval. */
bool name_needed(const struct oidc_grant *g);
/* NULL: it is not said, or is nothing that can be shown. */
const char *name_of(const struct oidc_grant *g);

#endif
