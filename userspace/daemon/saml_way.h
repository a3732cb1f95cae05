/* SPDX-License-Identifier: MIT */
/*
 * `by: saml` in authd: the agent's own assertion is the approval, if its issuer says what the
 * configuration asks for. Nobody is contacted.
 */
#ifndef TIDEGATE_DAEMON_SAML_WAY_H
#define TIDEGATE_DAEMON_SAML_WAY_H

#include "base/arena.h"
#include "base/jsonw.h"
#include "config/config.h"
#include "daemon/idp_ask.h"
#include "ident/oidc.h"
#include "ident/useonce.h"

struct saml_way;

/* Reads the certificates. 0, or negative errno and words. */
MUST_CHECK int saml_way_new(const struct cfg_way *w, struct saml_way **ret, char *error,
			    size_t error_cap);
void saml_way_free(struct saml_way *s);
/*
 * At @now_s of wall clock; @id: of the question, which may use its assertion again. @ret's texts
 * are @a's.
 */
void saml_way_ask(struct saml_way *s, const struct cfg_way *w, const struct idp_ask *q,
		  struct useonce *used, uint64_t id, uint64_t now_s, struct arena *a,
		  struct oidc_result *ret);
/* Members for `status`, into an open object. */
void saml_way_describe(const struct saml_way *s, const struct cfg_way *w, struct jsonw *out);

#endif
