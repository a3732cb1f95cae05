/* SPDX-License-Identifier: MIT */
/* Agents' rules in the kernel: default deny, AF_UNIX paths, and closing what they forbid. */
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
/*
 * Closes connections that nothing has judged, and logs them. In this network namespace. After
 * each change, and every few seconds for what is passed to agents meanwhile. Also logs how
 * often the kernel has refused by the rules since.
 */
void agentrules_sweep(struct parent *p);

#endif
