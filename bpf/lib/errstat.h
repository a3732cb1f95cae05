/* SPDX-License-Identifier: MIT */
/* Every refusal and every failing helper is counted by reason. */
#ifndef TIDEGATE_BPF_ERRSTAT_H
#define TIDEGATE_BPF_ERRSTAT_H

#include "lib/maps.h"

/* Atomic: a softirq on the same CPU may run another program in between. */
static __always_inline void count(__u32 reason)
{
	__u64 *n = bpf_map_lookup_elem(&tg_counters, &reason);

	if (n)
		__sync_fetch_and_add(n, 1);
}

/* Counts and hands @err on: return deny(TG_K_..., -E_...). */
static __always_inline int deny(__u32 reason, int err)
{
	count(reason);
	return err;
}

#endif
