/* SPDX-License-Identifier: MIT */
/*
 * The maps. All are pinned and outlive the daemon; their layouts are those of
 * tidegate_abi.h. Maps that the raw tracepoints' programs write are preallocated:
 * they run under raw spinlocks.
 */
#ifndef TIDEGATE_BPF_MAPS_H
#define TIDEGATE_BPF_MAPS_H

#include "lib/compat.h"
#include "tidegate_dns.h"
#include "tidegate_index.h"
#include "tidegate_rules.h"

/* {protocol, port, address prefix} -> target */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 256 * 1024);
	__type(key, struct tg_addr_key);
	__type(value, __u32);
} tg_addrs SEC(".maps");

/* The same with whole keys: quicker where there are many, for one address of one port. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 256 * 1024);
	__type(key, struct tg_addr_key);
	__type(value, __u32);
} tg_exact SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tg_index);
} tg_index SEC(".maps");

static __always_inline struct tg_index *index_ready(__u32 part)
{
	__u32 zero = 0;
	struct tg_index *x = bpf_map_lookup_elem(&tg_index, &zero);

	return x && x->ready & part ? x : NULL;
}

/* target -> what to do */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 128 * 1024);
	__type(key, __u32);
	__type(value, struct tg_target_state);
} tg_targets SEC(".maps");

/* cgroup id -> agent */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 32 * 1024);
	__type(key, __u64);
	__type(value, __u32);
} tg_cgroups SEC(".maps");

/* cgroup path -> agent, for cgroups that are made later or again */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC); /* user space alone writes it */
	__uint(max_entries, 32 * 1024);
	__type(key, struct tg_path);
	__type(value, __u32);
} tg_paths SEC(".maps");

/* uid -> agent */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 16 * 1024);
	__type(key, __u32);
	__type(value, __u32);
} tg_uids SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tg_config);
} tg_config SEC(".maps");

/* netns cookie -> the daemon's listener there */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct tg_listener);
} tg_listeners SEC(".maps");

/* netns cookie -> the daemon's resolver there */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct tg_resolver);
} tg_resolvers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tg_dns);
} tg_dns SEC(".maps");

/*
 * Who sent a datagram to the resolver. One that evicts: a question without its record
 * is refused, and there is nobody to say when a socket is gone.
 */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 16384);
	__type(key, struct tg_asker);
	__type(value, struct tg_record);
} tg_askers SEC(".maps");

/* Agents' sockets and the daemon's listeners. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct tg_sock);
} tg_socks SEC(".maps");

/* Accepted sockets: what the daemon's workers read by descriptor. */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct tg_record);
} tg_records SEC(".maps");

/*
 * Records on their way from the agent's end to the daemon's. A plain hash: one
 * that evicts would lose or mix up records under load.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct tg_tuple);
	__type(value, struct tg_record);
} tg_tuples SEC(".maps");

/* agent -> what is asked of it besides targets */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 32 * 1024);
	__type(key, __u32);
	__type(value, struct tg_agent_state);
} tg_agents SEC(".maps");

/* {agent, protocol, port or 0, address prefix}: may be reached though it is no target */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 256 * 1024);
	__type(key, struct tg_allow_key);
	__type(value, __u32);
} tg_allow SEC(".maps");

/* {agent, AF_UNIX path} -> enum tg_unix_verdict */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 65536);
	__type(key, struct tg_unix_key);
	__type(value, __u32);
} tg_unix SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tg_options);
} tg_options SEC(".maps");

/* struct tg_netns_event, read by the daemon's parent. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 64 * 1024);
} tg_netns_ring SEC(".maps");

/* netns cookie -> no event before (boot time, ns). What it evicts is told once more. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, __u64);
} tg_netns_quiet SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, TG_COUNTER_MAX);
	__type(key, __u32);
	__type(value, __u64);
} tg_counters SEC(".maps");

/* The accelerator: lib/accel.h. Only the first has a program. */
struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 65536);
	__type(key, struct tg_tuple);
	__type(value, __u64);
} tg_acc_send SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SOCKHASH);
	__uint(max_entries, 65536);
	__type(key, struct tg_tuple);
	__type(value, __u64);
} tg_acc_recv SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct tg_accel);
} tg_acc_socks SEC(".maps");

/* One that is evicted costs its connection the accelerator, nothing else. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 32768);
	__type(key, struct tg_tuple);
	__type(value, struct tg_pair);
} tg_acc_pairs SEC(".maps");

/* A path does not fit on the stack beside the rest. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct tg_path);
} tg_scratch SEC(".maps");

#endif
