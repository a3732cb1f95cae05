/* SPDX-License-Identifier: MIT */
/* Agents' rules in the kernel: default deny, AF_UNIX paths. */
#ifndef TIDEGATE_DAEMON_AGENTRULES_H
#define TIDEGATE_DAEMON_AGENTRULES_H

#include "daemon/parent.h"

struct kern_unix_rule;
/* What `unix: guard` knows. */
const struct kern_unix_rule *agentrules_guarded(size_t *ret_n);
/* Before the agent is watched. Logged if it fails. */
MUST_CHECK int agentrules_apply(struct parent *p, const struct pagent *a);
/* Forgets those of agents that are not configured any more. */
MUST_CHECK int agentrules_prune(struct parent *p);
/* Logs how often the kernel has refused by the rules since the last time. */
void agentrules_tell(struct parent *p);

#endif
