/* SPDX-License-Identifier: MIT */
/*
 * What the names of targets mean: addresses that named has learned, guarded in the kernel's map
 * before an agent hears of them, and for long after. And the parent's end of named: its
 * sockets, what it is told, and the questions it is asked.
 */
#ifndef TIDEGATE_DAEMON_LEARNED_H
#define TIDEGATE_DAEMON_LEARNED_H

#include "daemon/parent.h"

enum { LEARNED_MAX = 3072, LEARNED_TARGET_MAX = 1024 };

/* An address of a target's name. */
struct learned {
	UT_hash_handle hh;
	struct tg_addr_key key;
	uint32_t target, ttl_s;
	char name[256]; /* as it was asked for; "": from an earlier run, of a wildcard */
	char host[256]; /* as in the configuration */
	uint64_t until_boot_ns, since_wall_ns, seen_wall_ns, until_wall_ns, hits;
};

struct learned_state {
	struct learned *table; /* uthash, by key */
	bool dirty, round;
	struct list asks; /* sessions whose target is being resolved */
	char *resolv_conf;
	struct timespec resolv_time;
	off_t resolv_size;
	int log_fd; /* -1: none */
	uint32_t logged; /* refusals since the last tick */
};

/* One process of named serves all of this host; without names and steering there is none. */
bool learned_needed(const struct parent *p);
MUST_CHECK int learned_init(struct parent *p);
/*
 * The resolver's sockets in the calling thread's network namespace: UDP on 127.0.0.1 and ::1
 * (-1: no IPv6), then listening TCP on both, all on one free port. 0 or negative errno.
 */
MUST_CHECK int resolver_sockets(int ret_fds[RESOLVER_SOCKETS], uint16_t *ret_port);
void resolver_close(int fds[RESOLVER_SOCKETS]);
/* Waits for the first look-ups, at most a few seconds: so that targets are guarded from the start. */
void learned_wait(struct parent *p);
/* The configuration is in effect: steering of look-ups is switched to what it says. */
MUST_CHECK int learned_apply(struct parent *p);
struct hand;
void learned_save(struct parent *p, struct hand *h, json_t *root);
/* After learned_init(). Who waits for an address is answered by the named of before. */
void learned_take(struct parent *p, struct hand *h, const json_t *root);
/* Once a second: what is too old is forgotten; resolv.conf, the log's size. */
void learned_tick(struct parent *p);

/* --- with targets.c: the addresses of @t, and those to guard besides */
void learned_each(const struct parent *p, const struct ptarget *t,
		  void (*fn)(void *ctx, const struct tg_addr_key *key), void *ctx);
/* From an earlier run. @key is not looked at again until it is too old. */
void learned_adopt(struct parent *p, const struct ptarget *t, const struct tg_addr_key *key);
/* Of targets or hosts that are not configured any more, or that are now another target's. */
void learned_prune(struct parent *p);
/* In targets.c: the kernel need not guard @key for a target any more. */
MUST_CHECK int targets_free_addr(struct parent *p, const struct tg_addr_key *key);

/* --- with route.c: where a session goes */
struct learned_ask {
	bool wanted;
	char name[256], host[256];
	uint16_t port;
	uint8_t first[16]; /* what the agent wanted, tried first if the name still means it */
	bool has_first;
};
/* True: @dst is it, maybe empty. False: *ask is to be resolved. */
bool learned_upstream(struct parent *p, const struct ptarget *t, const uint8_t addr[16],
		      uint16_t port, char *dst, struct learned_ask *ask);
bool learned_upstream_first(const struct cfg_target *t, char *dst, struct learned_ask *ask);
/* session_resolved() is called later; or negative errno. */
MUST_CHECK int learned_resolve(struct parent *p, const struct learned_ask *ask,
			       const struct uuid *session);
void session_resolved(struct parent *p, const struct uuid *u, const char *upstream);

/* --- between learned.c and resolver.c */
/* The sockets and files that named works with. */
void learned_give(struct child *c);
void learned_forget_old(struct parent *p);

/* --- with children.c */
void learned_tell(struct child *c);
void learned_gone(struct parent *p);
void learned_message(struct parent *p, struct child *c, struct ipc_msg *m);

/* Addresses of @name in the host's /etc/hosts, at most @cap; how many. */
size_t learned_hosts(const char *name, uint8_t (*ret)[16], size_t cap);
/* For `dns.list` and `dns.show`. */
json_t *learned_list_json(struct parent *p);
json_t *learned_state_json(const struct parent *p);

#endif
