/* SPDX-License-Identifier: MIT */
/*
 * The kernel side, seen from user space: load, attach, pin, and typed access to the
 * maps. Used by the daemon's parent and by the admin utility, which works on
 * the pinned maps while the daemon is down.
 */
#ifndef TIDEGATE_KERN_KERN_H
#define TIDEGATE_KERN_KERN_H

#include "base/buf.h"
#include "base/compiler.h"
#include "base/jsonw.h"
#include "tidegate_abi.h"
#include "tidegate_dns.h"
#include "tidegate_rules.h"

struct kern;

/* Programs that are loaded and not attached: of kern_try() for the kern_load() to come. */
enum { KERN_PROGS_MAX = 64, KERN_PROG_NAME = 32 };

struct kern_progs {
	size_t n; /* 0: none, they are loaded as usual */
	struct {
		char name[KERN_PROG_NAME];
		int fd;
	} p[KERN_PROGS_MAX];
	unsigned int refused; /* groups that were left out */
	char accel_why[160];  /* why there is no accelerator; empty: there is */
};

void kern_progs_close(struct kern_progs *s);

struct kern_paths {
	const char *bpf_dir;	 /* "/sys/fs/bpf/tidegate" */
	const char *cgroup_root; /* NULL: found in the mount table */
	/* For tests; NULL: where the kernel has them. */
	const char *mountinfo, *btf;
	/* Loaded before, with the maps that are pinned; NULL, or n 0: none. Still the caller's. */
	const struct kern_progs *progs;
};

/*
 * Loads, attaches and pins, or takes over what is pinned already: map contents are kept,
 * programs are replaced by link update. Root. On error *error says what is missing and
 * what to do, in a line. -EPERM: this host does not let us use BPF.
 */
MUST_CHECK int kern_load(const struct kern_paths *paths, struct kern **ret, struct buf *error);
/*
 * Would kern_load() work, with what is pinned? Changes nothing. -ENOENT: nothing is pinned. What it
 * has loaded is in *ret, to be closed, if it is just what kern_load() would attach.
 */
MUST_CHECK int kern_try(const struct kern_paths *paths, struct kern_progs *ret, struct buf *error);
/* Opens the pinned maps only (admin utility). -ENOENT: nothing is pinned. */
MUST_CHECK int kern_open(const struct kern_paths *paths, struct kern **ret, struct buf *error);
void kern_close(struct kern *k);
/*
 * Programs that this kernel's verifier refused and that the load did without, and what that
 * leaves open; NULL: none. One that is needed fails the load by name.
 */
const char *kern_left_out(const struct kern *k);
/* Detaches and unpins everything (uninstall, tests). */
MUST_CHECK int kern_unload(const struct kern_paths *paths, struct buf *error);

/* The cgroup v2 mount point in use. */
const char *kern_cgroup_root(const struct kern *k);
/* Cgroup id of a path below the root ("/agents.slice"), made if @create. */
MUST_CHECK int kern_cgroup_id(const struct kern *k, const char *path, bool create, uint64_t *ret);
/* Path below the root of a cgroup id; -ENOENT. */
MUST_CHECK int kern_cgroup_path(const struct kern *k, uint64_t id, char *dst, size_t cap);

/* --- targets: addresses -> id -> state */
/* The generation is counted here; what @state says of it is ignored. */
MUST_CHECK int kern_target_set(struct kern *k, uint32_t id, const struct tg_target_state *state);
MUST_CHECK int kern_target_get(struct kern *k, uint32_t id, struct tg_target_state *ret);
MUST_CHECK int kern_target_delete(struct kern *k, uint32_t id);
/* The *_each functions stop at the first error of @fn, which may delete what it is shown. */
MUST_CHECK int kern_target_each(struct kern *k,
				int (*fn)(void *ctx, uint32_t id, const struct tg_target_state *s),
				void *ctx);
MUST_CHECK int kern_addr_set(struct kern *k, const struct tg_addr_key *key, uint32_t target);
MUST_CHECK int kern_addr_delete(struct kern *k, const struct tg_addr_key *key);
MUST_CHECK int kern_addr_each(struct kern *k,
			      int (*fn)(void *ctx, const struct tg_addr_key *key, uint32_t target),
			      void *ctx);

/* --- agents */
/*
 * Tells which cgroup (the caller's) and which uids (root is always one; at most
 * TG_DAEMON_UIDS) are the daemon's, so that nobody can watch them: what it connects to must
 * never be steered back to it. kern_load tells the cgroup; the daemon calls this when it has
 * brought the agents in line with its configuration, with its workers' uids. -EBUSY and why in
 * *error: one of them is watched all the same, from an earlier run.
 */
MUST_CHECK int kern_agent_self(struct kern *k, const uint32_t *uids, size_t n, struct buf *error);
/*
 * Watches a cgroup by path: also when it is made later, or removed and made again.
 * -EBUSY: the daemon runs in it. -E2BIG: deeper than TG_MAX_LEVEL. -EINVAL: no path, or the root.
 */
MUST_CHECK int kern_agent_cgroup_set(struct kern *k, const char *path, uint32_t agent);
MUST_CHECK int kern_agent_cgroup_delete(struct kern *k, const char *path);
MUST_CHECK int kern_agent_cgroup_each(struct kern *k,
				      int (*fn)(void *ctx, const char *path, uint32_t agent),
				      void *ctx);
/* -EBUSY: a uid of the daemon. */
MUST_CHECK int kern_agent_uid_set(struct kern *k, uint32_t uid, uint32_t agent);
MUST_CHECK int kern_agent_uid_delete(struct kern *k, uint32_t uid);
MUST_CHECK int kern_agent_uid_each(struct kern *k,
				   int (*fn)(void *ctx, uint32_t uid, uint32_t agent), void *ctx);
/* A uid that the daemon runs as. */
bool kern_agent_is_daemon(const struct kern *k, uint32_t uid);
/*
 * What an agent may do besides connecting to targets; replaces what was set before. An entry
 * of @allow is as one of kern_addr_set. The longest rule that fits an AF_UNIX path decides.
 */
struct kern_unix_rule {
	const char *path; /* "/run/x.sock", "/run/dir/", "@abstract", "@prefix*", "./last" */
	bool pass;
};
struct kern_agent_rules {
	bool deny; /* only targets and @allow */
	const struct tg_addr_key *allow;
	size_t nallow;
	bool unix_judged; /* by @unix_rules; else all AF_UNIX is open */
	bool unix_listed; /* what no rule names is refused */
	const struct kern_unix_rule *unix_rules;
	size_t nunix;
};
MUST_CHECK int kern_agent_rules_set(struct kern *k, uint32_t agent,
				    const struct kern_agent_rules *rules);
/* Forgets the rules of every agent that @keep does not want. */
MUST_CHECK int kern_agent_rules_prune(struct kern *k, bool (*keep)(void *ctx, uint32_t agent),
				      void *ctx);
/*
 * Closes agents' TCP connections that were never judged, in the network namespace of the
 * caller: older than agent or target, made outside and carried in or passed on. Calls @fn
 * with each. How many, or -EOPNOTSUPP: before 6.5 the backstop alone cuts them.
 */
MUST_CHECK int kern_sweep(struct kern *k, void (*fn)(void *ctx, const struct tg_swept *s),
			  void *ctx);
/*
 * Its two halves: marks what agents hold, in all namespaces, then closes what is marked or an
 * agent's own, in the namespace of the calling thread. Both only read @k.
 */
MUST_CHECK int kern_sweep_held(struct kern *k);
MUST_CHECK int kern_sweep_tcp(struct kern *k, void (*fn)(void *ctx, const struct tg_swept *s),
			      void *ctx);
/* Called about once a second and after inotify on the cgroup root: rebinds remade cgroups. */
MUST_CHECK int kern_agents_refresh(struct kern *k);

/* --- listeners */
/*
 * The daemon's listening sockets on 127.0.0.1 and ::1 (-1: none) in one network namespace,
 * which is taken from the socket: only these receive steered connections. Called once
 * for each socket of a SO_REUSEPORT group, and for each namespace. Port in host order.
 */
MUST_CHECK int kern_listener_set(struct kern *k, int fd4, int fd6, uint16_t port);
/* These very sockets were set, by whichever process, and nothing since then. @fd6 -1: none. */
bool kern_listener_is(struct kern *k, int fd4, int fd6, uint16_t port);
/*
 * Forgets them in all namespaces: steered targets are refused from here on. Not for a daemon
 * that ends: its closed socket refuses as well, and while the port is remembered nobody else can
 * bind it.
 */
MUST_CHECK int kern_listener_clear(struct kern *k);
/* Forgets those of one namespace. */
MUST_CHECK int kern_listener_delete(struct kern *k, uint64_t netns_cookie);
MUST_CHECK int kern_listener_each(struct kern *k, int (*fn)(void *ctx, uint64_t netns_cookie),
				  void *ctx);

/* --- events: agents in network namespaces without a listener (kern_events.c) */
struct kern_events;
MUST_CHECK int kern_events_new(struct kern *k,
			       void (*fn)(void *ctx, const struct tg_netns_event *ev), void *ctx,
			       struct kern_events **ret);
void kern_events_free(struct kern_events *e);
/* Readable when there are some: poll() it. */
int kern_events_fd(const struct kern_events *e);
/* Calls fn with each; returns how many, or negative errno. */
int kern_events_read(struct kern_events *e);
/* How many could not be put into the buffer since it was made: then look yourself. */
MUST_CHECK int kern_events_lost(struct kern *k, uint64_t *ret);
/* No event of that namespace before @boot_ns: nothing can be done for it now. */
MUST_CHECK int kern_events_quiet(struct kern *k, uint64_t netns_cookie, uint64_t boot_ns);
/* A path of /proc/PID/cgroup is in an agent's cgroup ("/agents.slice"). */
bool kern_cgroup_holds(const struct kern *k, const char *agent_path, const char *proc_path);

/* --- names */
/* Agents' look-ups go to the resolver or nowhere (TG_DNS_STEER), or are left alone (0). */
MUST_CHECK int kern_dns_set(struct kern *k, uint32_t flags);
/*
 * The resolver's sockets of one network namespace, which is taken from the first: UDP and
 * listening TCP, on 127.0.0.1 and ::1, all on one port (host order). Those that are
 * missing are -1. Only these receive agents' questions.
 */
MUST_CHECK int kern_resolver_set(struct kern *k, const int *fds, size_t n, uint16_t port);
/* As kern_listener_is(). */
bool kern_resolver_is(struct kern *k, const int *fds, size_t n, uint16_t port);
/* Descriptor of the map of askers, read-only, for the resolver. */
int kern_asker_fd(const struct kern *k);
/* Who sent the datagram that came from @asker; -ENOENT: nobody that was steered. */
MUST_CHECK int kern_asker_get(int map_fd, const struct tg_asker *asker, struct tg_record *ret);

/* --- connections */
/* Descriptor of the sk_storage map, read-only, for workers. */
int kern_record_fd(const struct kern *k);
/*
 * The record of an accepted connection, or -ENOENT: it was not steered. In
 * workers: @map_fd is a copy of kern_record_fd(). Takes no capability and only one system
 * call, bpf(BPF_MAP_LOOKUP_ELEM), also where kernel.unprivileged_bpf_disabled is set.
 */
MUST_CHECK int kern_record_get(int map_fd, int sock_fd, struct tg_record *ret);
/* Tuples of handshakes that never completed, older than @age_ns: removed; returns how many. */
MUST_CHECK int kern_tuples_sweep(struct kern *k, uint64_t age_ns);

/* --- what happened */
/* Sums the per-CPU counters. */
MUST_CHECK int kern_counters(struct kern *k, uint64_t ret[TG_K_COUNT]);
/* Objects for `tidegate map|prog|link list`: ids as bpftool shows them. */
MUST_CHECK int kern_describe(struct kern *k, struct jsonw *w, const char *what);
/* Dumps a map by name ("tg_targets") as JSON with decoded keys and values. */
MUST_CHECK int kern_map_dump(struct kern *k, const char *map, struct jsonw *w);
/* What this kernel has and lacks, row by row, with what a missing row leaves open. */
MUST_CHECK int kern_probe(struct jsonw *w);

#endif
