/* SPDX-License-Identifier: MIT */
/*
 * The ways of `approvals:` as authd runs them: what a way's texts become for one question.
 * Pure but for memory.
 */
#ifndef TIDEGATE_DAEMON_WAYS_H
#define TIDEGATE_DAEMON_WAYS_H

#include "base/arena.h"
#include "config/config.h"
#include "daemon/idp_ask.h"
#include "ident/oidc.h"

enum { WAYS_MAX = 16, BINDING_MAX = 256, HINT_MAX = 512 };

/*
 * The names in @q->ways with what follows them by `then`, each once, in the order of asking;
 * NULL stands for `idp`, which is no element of `approvals:`. Returns their number; -ENOENT: one
 * is not configured (*ret_missing), -E2BIG.
 */
MUST_CHECK int ways_list(const struct config *c, const struct idp_ask *q,
			 const struct cfg_way *ret[WAYS_MAX], struct slice *ret_missing);

/* True if one of them asks about the agent's own token. @ways as in struct idp_ask. */
bool ways_need_token(const struct config *c, const char *ways);

/*
 * Fills @ret with what points into @w, @q and @a. 0, -ENOMEM; -ENODATA: the agent has no token;
 * or of ways_expand().
 */
MUST_CHECK int ways_oidc(const struct cfg_way *w, const struct idp_ask *q, struct arena *a,
			 struct oidc_ask *ret);

/*
 * `{agent}` and its like replaced, in a JSON template as JSON. 0; -EMSGSIZE: it does not fit; -EILSEQ:
 * the agent's words hold what no name holds; -ENOTSUP: no template; -ENOMEM. For tests, too.
 */
MUST_CHECK int ways_expand(const char *template, const struct idp_ask *q, char *dst, size_t cap);
/* One line of printable text that fits into a message to a person: long or short. */
void ways_binding(enum way_binding kind, const struct idp_ask *q, char dst[BINDING_MAX + 1]);

#endif
