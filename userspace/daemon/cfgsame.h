/* SPDX-License-Identifier: MIT */
/* Whether a new configuration says the same where authd looks. */
#ifndef TIDEGATE_DAEMON_CFGSAME_H
#define TIDEGATE_DAEMON_CFGSAME_H

#include "config/config.h"

bool cfgsame_text(const char *a, const char *b);
bool cfgsame_list(const char *const *a, const char *const *b);
/* What authd uses of it; a change of the secret is keyd's business. */
bool cfgsame_idp(const struct cfg_idp *a, const struct cfg_idp *b);
bool cfgsame_ways(const struct config *a, const struct config *b);

#endif
