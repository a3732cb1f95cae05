/* SPDX-License-Identifier: MIT */
/*
 * Small files in the state directory, by which the daemon and the admin utility know of each
 * other while the daemon is down.
 *
 * targets.json, written by the daemon when it has put its targets into the maps:
 * which name has which id. Addresses are the resolved ones.
 *   {"version": 1, "targets": [{"id": 1, "name": "orders-db", "protocol": "postgresql",
 *    "addresses": ["10.0.0.5:5432", "[2001:db8::5]:5432"], "mode": "steer", "fail_open": false}]}
 *
 * agents.json, written and read by the daemon: which name has which id, because connections
 * that a daemon has not taken any more carry the id to the next one.
 *   {"version": 1, "agents": [{"id": 1, "name": "coder"}]}
 *
 * toggles.json, written by whoever switches a target: the daemon, or the
 * utility while the daemon is down. A list in the order of time; the last entry
 * of a name is in effect. The daemon reads it at start, logs and records the entries that are
 * not `recorded`, applies the last of each name, and writes it back compacted.
 *   {"version": 1, "toggles": [{"name": "orders-db", "mode": "off", "reason": "incident 4711",
 *    "by_uid": 0, "since": "2026-01-31T12:00:00.000Z", "until": null, "recorded": false}]}
 * `mode` may also be "reset": back to what the configuration says.
 *
 * Files are replaced by rename and synced; readers never see half of one. Every
 * change of toggles.json is made under state_lock().
 */
#ifndef TIDEGATE_CONFIG_STATE_H
#define TIDEGATE_CONFIG_STATE_H

#include "base/arena.h"
#include "base/buf.h"
#include "base/compiler.h"
#include "config/config.h"
#include "tidegate_abi.h"

#define STATE_TARGETS "targets.json"
#define STATE_AGENTS  "agents.json"
#define STATE_TOGGLES "toggles.json"
#define STATE_DIR     "/var/lib/tidegate" /* when the configuration cannot be asked */

struct state_target {
	uint32_t id;
	const char *name, *protocol;
	const char *const *addresses; /* state_addr_format() */
	uint32_t naddresses;
	enum target_mode mode; /* as configured */
	bool fail_open;
};

struct state_agent {
	uint32_t id;
	const char *name;
};

struct state_toggle {
	const char *name;
	bool reset; /* back to the configuration; mode does not count */
	enum target_mode mode;
	const char *reason; /* never NULL */
	uint32_t by_uid;
	uint64_t since_wall_ns;
	uint64_t until_wall_ns; /* 0: until it is reset */
	bool recorded;		/* the daemon has logged and recorded it */
};

/* What was read; strings live in the arena. Done with the _done() functions. */
struct state_targets {
	struct arena arena;
	struct state_target *t;
	uint32_t n;
};

struct state_agents {
	struct arena arena;
	struct state_agent *a;
	uint32_t n;
};

struct state_toggles {
	struct arena arena;
	struct state_toggle *t;
	uint32_t n;
};

/*
 * Loading: 0; -ENOENT: there is no file (*ret is empty and may be used); -EBADMSG: it
 * is not in the format; or the errno of reading it. @error says it for a person.
 */
MUST_CHECK int state_targets_load(const char *dir, struct state_targets *ret, struct buf *error);
MUST_CHECK int state_agents_load(const char *dir, struct state_agents *ret, struct buf *error);
MUST_CHECK int state_toggles_load(const char *dir, struct state_toggles *ret, struct buf *error);
void state_targets_done(struct state_targets *s);
void state_agents_done(struct state_agents *s);
void state_toggles_done(struct state_toggles *s);

MUST_CHECK int state_targets_save(const char *dir, const struct state_target *t, uint32_t n);
MUST_CHECK int state_agents_save(const char *dir, const struct state_agent *a, uint32_t n);
MUST_CHECK int state_toggles_save(const char *dir, const struct state_toggle *t, uint32_t n);

/* NULL if there is none. */
const struct state_target *state_target_find(const struct state_targets *s, const char *name);
const struct state_toggle *state_toggle_last(const struct state_toggles *s, const char *name);
/* In effect at @wall_ns: not a reset and not over. NULL is not. */
bool state_toggle_active(const struct state_toggle *t, uint64_t wall_ns);

/*
 * A descriptor that holds the lock of the directory until state_unlock(), or negative errno
 * (waits at most a second: -EAGAIN). One process locks once.
 */
MUST_CHECK int state_lock(const char *dir);
/* Closes @fd; a child that another thread has forked meanwhile does not keep the lock. */
void state_unlock(int fd);

/*
 * Under a lock taken inside: reads toggles.json, drops what is recorded and no longer
 * in effect for anyone, appends @t and writes it. Old entries of @t's name that
 * are not recorded yet stay in front of it.
 */
MUST_CHECK int state_toggle_append(const char *dir, const struct state_toggle *t,
				   struct buf *error);
/* In place: marks all as recorded and keeps the last of each name that is in effect. */
void state_toggles_compact(struct state_toggles *s, uint64_t wall_ns);

/* "10.0.0.5:5432", "[2001:db8::5]:5432", with "/24" behind the address of a net; port 0 is `*`. */
enum { STATE_ADDR_TEXT = 64 };
void state_addr_format(const struct tg_addr_key *key, char dst[STATE_ADDR_TEXT]);
/* The same back into a key for TCP; 0 or -EINVAL. */
MUST_CHECK int state_addr_parse(struct slice s, struct tg_addr_key *ret);

#endif
