/* SPDX-License-Identifier: MIT */
/*
 * Introspection with a token of our own in place of client authentication (RFC 7662 section 2.1). It is
 * got by client_credentials, kept until it ends, and got anew once if it is refused.
 */
#ifndef TIDEGATE_IDENT_OIDC_BEARER_H
#define TIDEGATE_IDENT_OIDC_BEARER_H

#include "ident/oidc_impl.h"

/* The introspection endpoint is asked as soon as there is a token to show. */
void bearer_want(struct oidc_grant *g);
/* OIDC_OWN_USE: there is one. */
void bearer_took(struct oidc_grant *g);
/* True: it was not taken, and the grant waits for another one. */
bool bearer_again(struct oidc_grant *g, const struct http_response *r);
/* Wipes. */
void bearer_drop(struct oidc *o);

#endif
