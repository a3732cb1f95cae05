/* SPDX-License-Identifier: MIT */
/* Shared by the files of kern/ only. */
#ifndef TIDEGATE_KERN_KERN_PRIV_H
#define TIDEGATE_KERN_KERN_PRIV_H

#include <limits.h>
#include <linux/bpf.h>

#include "kern/kern.h"
#include "tidegate_index.h"

/* Those of the accelerator, which is not there on every kernel. */
#define KERN_ACCEL_MAPS(X)           \
	X(ACC_SEND, "tg_acc_send")   \
	X(ACC_RECV, "tg_acc_recv")   \
	X(ACC_SOCKS, "tg_acc_socks") \
	X(ACC_PAIRS, "tg_acc_pairs")

/* X(ID, name): every pinned map. */
#define KERN_MAPS(X)                 \
	X(ADDRS, "tg_addrs")         \
	X(EXACT, "tg_exact")         \
	X(INDEX, "tg_index")         \
	X(TARGETS, "tg_targets")     \
	X(CGROUPS, "tg_cgroups")     \
	X(PATHS, "tg_paths")         \
	X(UIDS, "tg_uids")           \
	X(CONFIG, "tg_config")       \
	X(LISTENERS, "tg_listeners") \
	X(RESOLVERS, "tg_resolvers") \
	X(DNS, "tg_dns")             \
	X(ASKERS, "tg_askers")       \
	X(SOCKS, "tg_socks")         \
	X(RECORDS, "tg_records")     \
	X(TUPLES, "tg_tuples")       \
	X(NETNS_RING, "tg_netns_ring")   \
	X(NETNS_QUIET, "tg_netns_quiet") \
	X(COUNTERS, "tg_counters")   \
	X(AGENTS, "tg_agents")       \
	X(ALLOW, "tg_allow")         \
	X(UNIX, "tg_unix")           \
	X(OPTIONS, "tg_options")     \
	X(SCRATCH, "tg_scratch")     \
	KERN_ACCEL_MAPS(X)

enum kern_map {
#define X(id, name) KM_##id,
	KERN_MAPS(X)
#undef X
		KM_COUNT
};

extern const char *const kern_map_names[KM_COUNT];

enum { KERN_PATH_MAX = 512, KERN_WHY = 160, KERN_TEXT = 640 };

struct kern {
	char dir[KERN_PATH_MAX];     /* <bpf_dir>/v1 */
	char cg_root[KERN_PATH_MAX]; /* where cgroup v2 is mounted, or the part in use */
	char cg_prefix[TG_PATH_LEN]; /* cg_root seen from the hierarchy's root: "" or "/..." */
	const char *mountinfo;	     /* NULL: /proc/self/mountinfo */
	int cg_fd;
	int map[KM_COUNT];
	int record_fd; /* read-only tg_records */
	char accel_why[KERN_WHY]; /* why the accelerator is not loaded; empty: it is */
	unsigned int refused;	  /* kern_optional.c: groups of programs left out */
	char left_out[KERN_TEXT]; /* the same in words; empty: none */
	struct kern_watch *watch; /* NULL: this process does not own the pins */
	int asker_fd;  /* read-only tg_askers */
	struct tg_index *index;	  /* the map, shared with the programs */
	struct kern_held *held;	  /* NULL: not read yet */
};

/* --- kern_pin.c: the pin directory. All return 0 or -errno. */
int kern_pin_parent(const char *bpf_dir, struct buf *error); /* bpffs is there, or is mounted */
int kern_pin_lock(const char *dir);			     /* descriptor; close() unlocks */
int kern_pin_mkdirs(const char *base);			     /* base/{maps,progs,links} */
int kern_pin_remove(const char *base);			     /* links first */
void kern_pin_sweep(const char *bpf_dir);		     /* what an interrupted load left */
int kern_pin_replace(int fd, const char *path);		     /* pins over an older pin */
/* Calls @fn with each name in @dir; stops at the first error. */
int kern_pin_each(const char *dir, int (*fn)(void *ctx, const char *name), void *ctx);
/* snprintf that refuses to cut: -ENAMETOOLONG. */
int kern_path(char *dst, size_t cap, const char *fmt, ...) PRINTF(3, 4);
/* Adds to an error text (what no longer fits is left out) and hands @r on. */
int kern_say(struct buf *error, int r, const char *fmt, ...) PRINTF(3, 4);

/* --- kern_cgroup.c */
int kern_cgroup_find(struct kern *k, const char *root, struct buf *error);
int kern_cgroup_full(const struct kern *k, const char *path, struct tg_path *ret);
/* Path of this process in the unified hierarchy. */
int kern_cgroup_self(char *dst, size_t cap);
bool kern_cgroup_below(const char *path, const char *ancestor);
int kern_cgroup_open(const struct kern *k, const char *path); /* directory, or -errno */
int kern_cgroup_fd_id(int fd, uint64_t *ret);

/* --- kern_attach.c */
struct bpf_object;
/* Numbers that are newer than the headers (6.7). */
enum { ATTACH_UNIX_CONNECT = 49, ATTACH_UNIX_SENDMSG = 50 };
/* What a loaded kernel may lack: its programs are left out, and `feature probe` says so. */
bool kern_has_connect_unix(void);
bool kern_has_sock_destroy(void);
struct tidegate_bpf;
/* Attaches or updates all programs and pins them below @base. */
/* Descriptors stay those of @obj. */
int kern_progs_of(struct bpf_object *obj, struct kern_progs *ret);
int kern_progs_dup(struct kern_progs *s);
/* -ENOENT: it was not loaded. */
int kern_progs_fd(const struct kern_progs *s, const char *name);
int kern_attach_all(const struct kern *k, const struct kern_progs *progs, const char *base,
		    struct buf *error);
/* A program that sits on the root by a pinned link of its name. */
struct kern_attach_row {
	const char *prog;
	enum bpf_attach_type type;
	bool optional; /* left out where the kernel has no such hook */
};
/* Row @i, or NULL behind the last. */
const struct kern_attach_row *kern_attach_row(size_t i);
/* Attaches what is missing; 0 also if it is there. */
int kern_attach_egress(const struct kern *k, uint64_t id, int cgroup_fd);
int kern_detach_egress(const struct kern *k, uint64_t id);
int kern_attach_egress_uid(const struct kern *k, bool on);
/* "?": cannot be told; false: it is gone. */
bool kern_prog_name(uint32_t id, char *dst, size_t cap);
/* Can a program sit on a raw tracepoint? */
bool kern_has_raw_tp(void);
/* The programs that do. */
struct raw_tp_row {
	const char *prog, *tracepoint;
};
enum { RAW_TPS = 4 };
extern const struct raw_tp_row kern_raw_tps[RAW_TPS];

/* --- kern_watch.c */
/* Program in a pinned link; -ENOENT: no pin; -ENOLINK: detached, or on another cgroup. */
int kern_link_state(const char *pin, uint64_t cgroup_id, uint32_t *ret_prog);
struct kern_finding;
/* Keeps one for the next kern_watch_tick(); nothing without a watch. */
void kern_watch_add(struct kern_watch *w, int fault, bool repaired, const char *what,
		    const char *fmt, ...) PRINTF(5, 6);
/*
 * The filter of a cgroup (id 0: of uids) is to be there from here on, or no more. kern_attach
 * asks before it puts one right whether that is news.
 */
bool kern_watch_expects(const struct kern_watch *w, uint64_t id);
void kern_watch_expect(struct kern_watch *w, uint64_t id, bool on);
uint32_t kern_watch_egress_prog(const struct kern_watch *w, bool uid); /* 0: not known */
void kern_watch_free(struct kern_watch *w);

/* --- kern_shadow.c: every write of a map goes through these two. 0 or -errno. */
int kern_put(struct kern *k, enum kern_map map, const void *key, const void *value);
int kern_drop(struct kern *k, enum kern_map map, const void *key);
struct kern_shadow;
int kern_shadow_new(struct kern *k, struct kern_shadow **ret);
void kern_shadow_check(struct kern *k, struct kern_shadow *all);
void kern_shadow_free(struct kern_shadow *all);
/* For tests: how often the maps were looked at, and not passed over because there is much. */
unsigned int kern_shadow_looks(const struct kern *k);
struct kern_shadow *kern_watch_shadow(const struct kern_watch *w);

/* --- kern_index.c: 0 or -errno */
int kern_index_open(struct kern *k);
void kern_index_close(struct kern *k);
/* Until kern_index_build() the programs look everything up: others may have written meanwhile. */
int kern_index_suspend(int map_fd);
int kern_index_build(struct kern *k);
/* Sets or, without @target, deletes an address: in the index and both maps. */
int kern_index_addr(struct kern *k, const struct tg_addr_key *key, const uint32_t *target);
/* The same for what somebody has changed in tg_addrs: the rest follows. */
int kern_index_mirror(struct kern *k, const struct tg_addr_key *key, const uint32_t *target);
bool kern_index_has(const struct kern *k, const struct tg_addr_key *key);
void kern_index_flag(struct kern *k, const struct tg_addr_key *key);
/* Before an id is put into tg_cgroups, and after it was dropped. */
void kern_index_cgroup(struct kern *k, uint64_t id, bool on);
bool kern_index_has_cgroup(const struct kern *k, uint64_t id);

/* --- kern_rules.c: reads the maps again when it needs them next. */
void kern_rules_forget(struct kern *k);

/* --- kern_optional.c */
/* What this kernel has no hook for is not loaded, nor are the groups of @refused (bits). */
int kern_optional_prepare(struct tidegate_bpf *skel, unsigned int refused);
/* Which groups the verifier refuses, by trying each: takes part of a second. */
unsigned int kern_optional_refused(void);
/* Their names, and what is open without. */
void kern_optional_words(unsigned int refused, char *dst, size_t cap);
/* A copy of the programs named that nobody else sees, loaded and not attached. 0 or -errno. */
int kern_copy_load(const char *const *progs, size_t n, struct tidegate_bpf **ret);
/* For tests: acts as a verifier that refuses this one. */
extern const char *kern_refuse_prog;

/* --- kern_accel.c */
/*
 * A copy of the accelerator that nobody else sees: hand-over, sk_msg program and their
 * maps, loaded and not attached. NULL and why: this kernel does not take it.
 */
struct tidegate_bpf *kern_accel_copy(char why[KERN_WHY]);
/* For tests: acts as a kernel that refuses them. */
extern bool kern_accel_refused;
/* Leaves the accelerator out of @skel where a copy could not be loaded; says so in @k. */
int kern_accel_prepare(struct kern *k, struct tidegate_bpf *skel);
/* The program for what is enrolled from here on. */
int kern_accel_attach(const struct kern *k, int msg_fd, int map_fd);

/* --- kern_agent.c: kern_agent_self without the check. */
int kern_agent_tell_self(struct kern *k, const uint32_t *uids, size_t n);
/* A daemon has listened: from now on a namespace without a listener is a new one. */
int kern_agent_served(struct kern *k, bool on);

#endif
