/* SPDX-License-Identifier: MIT */
/*
 * What the BPF programs and user space share: map keys and values, counted
 * reasons, names. Fixed width, padding explicit, never packed. A change of layout
 * is a new TG_ABI_VERSION and so a new pin directory.
 */
#ifndef TIDEGATE_ABI_H
#define TIDEGATE_ABI_H

#ifndef __bpf__
#include <stdint.h>
typedef uint8_t tg_u8;
typedef uint16_t tg_u16;
typedef uint32_t tg_u32;
typedef uint64_t tg_u64;
#else
typedef __u8 tg_u8;
typedef __u16 tg_u16;
typedef __u32 tg_u32;
typedef __u64 tg_u64;
#endif

#define TG_ABI_VERSION "v1" /* directory below the pin path */
#define TG_COMM_LEN    16
#define TG_PATH_LEN    256 /* cgroup path from the hierarchy's root, with its NUL */
#define TG_MAX_LEVEL   16  /* deepest cgroup that can be watched; what is below it is covered */
#define TG_DAEMON_UIDS 4
#define TG_COUNTER_MAX 64  /* room in the pinned map, so that new counters keep the layout */

/*
 * LPM trie over {protocol, port, address}. prefixlen counts all bits of what
 * follows it: 32 (protocol, pad, port) + the address prefix in 128 bits.
 */
struct tg_addr_key {
	tg_u32 prefixlen;
	tg_u8 protocol; /* IPPROTO_TCP, IPPROTO_UDP */
	tg_u8 pad;
	tg_u16 port_be; /* 0: any port (looked up second) */
	tg_u8 addr[16]; /* IPv4 as ::ffff:a.b.c.d */
};

enum tg_target_mode { TG_MODE_STEER, TG_MODE_BLOCK, TG_MODE_OBSERVE, TG_MODE_OFF };
enum tg_target_flag {
	TG_TARGET_FAIL_OPEN = 1,      /* no listener: let the connection through */
	TG_TARGET_ACCEL_REQUESTS = 2, /* agent to daemon past the TCP stack */
	TG_TARGET_ACCEL_REPLIES = 4,  /* daemon to agent too; never alone */
};

struct tg_target_state {
	tg_u8 mode; /* enum tg_target_mode */
	tg_u8 flags;
	tg_u8 mode_after; /* what TG_MODE_OFF becomes when its time is over */
	tg_u8 pad;
	tg_u32 generation;	  /* counts changes */
	tg_u64 off_until_boot_ns; /* TG_MODE_OFF ends by itself; 0: never */
};

/* Who connected where, taken in connect() and carried to the accepted socket. */
struct tg_record {
	tg_u8 addr[16]; /* original destination, IPv4 as v4-mapped */
	tg_u16 port_be;
	tg_u8 family; /* of the application's socket: AF_INET, AF_INET6 */
	tg_u8 flags;  /* TG_RECORD_* */
	tg_u32 target;
	tg_u32 agent;
	tg_u32 tgid;
	tg_u32 tid;
	tg_u32 uid;
	tg_u64 cgroup_id; /* of the socket */
	tg_u64 task_cgroup_id;
	tg_u64 netns_cookie;
	tg_u64 boot_ns;
	char comm[TG_COMM_LEN]; /* chosen by the agent: for display only */
};
enum tg_record_flag {
	TG_RECORD_OBSERVE = 1,
	TG_RECORD_DNS = 2, /* a question to the resolver: addr is the server it was meant for */
};

/* What we know about a socket that is not an accepted one: kept in its sk_storage. */
enum tg_sock_flag {
	TG_SOCK_AGENT = 1,	 /* made by an agent: watched and uid are valid */
	TG_SOCK_STEERED = 2,	 /* connected to the daemon: record is valid */
	TG_SOCK_LET_THROUGH = 4, /* the daemon was down and the target fails open */
	TG_SOCK_LISTENER = 8,	 /* the daemon's own listener, marked by the daemon */
	TG_SOCK_DOOMED = 16,	 /* held by an agent, made by nobody's: the sweep closes it */
	TG_SOCK_DNS = 32,	 /* its name look-ups go to the resolver: record is valid */
};

struct tg_sock {
	tg_u32 flags; /* enum tg_sock_flag */
	tg_u32 uid;
	tg_u64 watched; /* id of the watched cgroup; 0: watched by uid */
	struct tg_record record;
};

/* The daemon's listener in one network namespace; the map is keyed by netns cookie. */
struct tg_listener {
	tg_u16 port_be;
	tg_u16 pad;
	tg_u32 pad2;
	tg_u64 cookie4; /* SO_COOKIE, for people: the programs look at TG_SOCK_LISTENER */
	tg_u64 cookie6; /* 0: no IPv6 */
};

/* An agent's task is in a network namespace where the daemon has no listener. */
struct tg_netns_event {
	tg_u64 netns_cookie;
	tg_u64 started_boot_ns; /* of the process */
	tg_u64 watched;		/* id of the cgroup that makes it an agent; 0: the uid */
	tg_u32 tgid;
	tg_u32 tid;
	tg_u32 agent;
	tg_u32 how; /* enum tg_netns_how */
};
enum tg_netns_how { TG_NETNS_JOINED, TG_NETNS_EXEC, TG_NETNS_FORK, TG_NETNS_SOCKET };

/* The next event of a namespace comes no sooner: one task makes several of them. */
#define TG_NETNS_AGAIN_NS 2000000

/* A connection between its two ends, from ACTIVE to PASSIVE_ESTABLISHED. */
struct tg_tuple {
	tg_u8 client[16];
	tg_u8 server[16];
	tg_u16 client_port; /* host order */
	tg_u16 server_port;
	tg_u32 end; /* enum tg_accel_end where the key is one socket's, 0 else */
	tg_u64 netns_cookie;
};

/*
 * The accelerator. Both ends of a connection are in a sockhash, by tuple and end: in
 * tg_acc_send those whose sends may be redirected, in tg_acc_recv those that only receive.
 */
enum tg_accel_end { TG_END_AGENT, TG_END_DAEMON };
enum tg_accel_flag {
	TG_ACCEL_SENDS = 1,	 /* what this end sends may be redirected */
	TG_ACCEL_PEER_SENDS = 2, /* what the other end sends too: it is in tg_acc_send */
	TG_ACCEL_STARTED = 4,	 /* something was redirected */
	TG_ACCEL_PLAIN = 8,	 /* TCP from here on, for good */
};
enum {
	TG_ACCEL_CAP = 256 << 10, /* unread bytes of the receiver, then plain TCP */
	TG_ACCEL_RUN = 64 << 10,  /* bytes without a word of the other end: a stream, TCP is faster */
};

/* Kept with each enrolled socket. */
struct tg_accel {
	tg_u32 flags;		/* enum tg_accel_flag */
	tg_u32 end;		/* enum tg_accel_end */
	struct tg_tuple conn;	/* key of the pair, end 0 */
	struct tg_tuple peer;	/* key of the other end's socket */
};

/* Kept with each connection, by tuple. */
struct tg_pair {
	tg_u64 sock[2]; /* the kernel's sockets by end: read, never followed; 0: not enrolled */
	tg_u32 run[2];	/* bytes that an end has sent since the other one did */
};

/* A watched cgroup's path from the root of the hierarchy, NUL-padded. */
struct tg_path {
	char path[TG_PATH_LEN];
};

/*
 * One element: lets the programs skip look-ups that cannot hit, and tells the admin
 * utility what must never be watched.
 */
enum { TG_CONFIG_SERVED = 1 }; /* bit 0 of level_mask: a daemon has listened since the load */
struct tg_config {
	tg_u32 level_mask;    /* bit n: a cgroup of level n is watched; TG_CONFIG_SERVED */
	tg_u32 uid_agents;    /* how many uids are watched */
	tg_u64 daemon_cgroup; /* where the daemon runs; 0: none has run */
	tg_u32 daemon_uids[TG_DAEMON_UIDS]; /* of its processes; unused ones are 0, so root */
};

/* Counted reasons of the kernel side. X(NAME, "label", "meaning") */
#define TG_KERNEL_COUNTERS(X)                                                                      \
	X(STEERED, "steered", "connections steered to the daemon")                                 \
	X(PASSED_OFF, "passed_off", "connections to a target that is off")                         \
	X(FAILED_OPEN, "failed_open", "connections let through because the daemon is down")        \
	X(DENIED_BLOCKED, "denied_blocked", "connections to a blocked target")                     \
	X(DENIED_NO_LISTENER, "denied_no_listener", "refused because the daemon is down")          \
	X(DENIED_FOREIGN_LISTENER, "denied_foreign_listener",                                      \
	  "refused because another program holds the daemon's port")                               \
	X(DENIED_DAEMON_PORT, "denied_daemon_port", "agents that connected to the daemon's port")  \
	X(DENIED_PROTOCOL, "denied_protocol", "agents that used a protocol that cannot be steered") \
	X(DENIED_BIND, "denied_bind", "refused to bind the daemon's port")                         \
	X(PASSED_OBSERVED, "passed_observed",                                                      \
	  "let through in observe mode, refused else: not TCP, or not steered")                    \
	X(EGRESS_DROPPED, "egress_dropped", "packets to a target that were not steered")           \
	X(HANDED_OVER, "handed_over", "records moved to the accepted socket")                      \
	X(HANDOVER_MISS, "handover_miss", "accepted sockets without a record")                     \
	X(TUPLE_FULL, "tuple_full", "refused: table of open handshakes is full")                   \
	X(STORAGE_FAILED, "storage_failed", "refused: no socket storage")                          \
	X(HELPER_FAILED, "helper_failed", "a kernel helper failed")                                \
	X(CGROUP_REMADE, "cgroup_remade", "watched cgroups that were made again")                  \
	X(DENIED_DEFAULT, "denied_default",                                                        \
	  "refused: neither a target nor listed, and the agent's default is deny")                 \
	X(EGRESS_UNLISTED, "egress_unlisted",                                                      \
	  "packets to what is neither a target nor listed, dropped: the agent's default is deny")  \
	X(DENIED_UNIX, "denied_unix", "agents that connected to a guarded AF_UNIX socket")         \
	X(SWEPT, "swept", "agents' connections that were not steered, closed")                      \
	X(NETNS_TOLD, "netns_told", "agents seen in a network namespace without a listener")       \
	X(NETNS_LOST, "netns_lost", "the same, but the daemon could not be told: it looks for itself")   \
	X(ACCELERATED, "accelerated", "connections past the TCP stack")                            \
	X(ACCEL_REFUSED, "accel_refused",                                                          \
	  "connections of accelerated targets that stayed on TCP from the start")                  \
	X(ACCEL_RATCHETED, "accel_ratcheted",                                                      \
	  "directions that went back to TCP: a stream, or a slow reader") \
	X(DNS_STEERED, "dns_steered", "name look-ups steered to the resolver")                     \
	X(DENIED_DNS, "denied_dns", "look-ups round the resolver refused: DoT, DoQ, mDNS, LLMNR")

enum tg_kernel_counter {
#define X(name, label, what) TG_K_##name,
	TG_KERNEL_COUNTERS(X)
#undef X
	TG_K_COUNT
};

_Static_assert(sizeof(struct tg_addr_key) == 24, "layout");
_Static_assert(sizeof(struct tg_target_state) == 16, "layout");
_Static_assert(sizeof(struct tg_record) == 88, "layout");
_Static_assert(sizeof(struct tg_sock) == 104, "layout");
_Static_assert(sizeof(struct tg_listener) == 24, "layout");
_Static_assert(sizeof(struct tg_tuple) == 48, "layout");
_Static_assert(sizeof(struct tg_netns_event) == 40, "layout");
_Static_assert(sizeof(struct tg_accel) == 104, "layout");
_Static_assert(sizeof(struct tg_pair) == 24, "layout");
_Static_assert(sizeof(struct tg_path) == TG_PATH_LEN, "layout");
_Static_assert(sizeof(struct tg_config) == 32, "layout");
_Static_assert(TG_K_COUNT <= TG_COUNTER_MAX, "room");

#endif
