/* SPDX-License-Identifier: MIT */
/*
 * A worker: one thread, one loop, its sessions, and what they share. It has no
 * privilege and holds no long-lived key; what it may not do itself it asks of the parent.
 */
#ifndef TIDEGATE_DAEMON_WORKER_H
#define TIDEGATE_DAEMON_WORKER_H

#include <uv.h>

#include "base/buf.h"
#include "base/list.h"
#include "config/config.h"
#include "daemon/ipc.h"
#include "daemon/stats.h"
#include "inspect/inspect.h"
#include "net/direct.h"
#include "policy/mask.h"
#include "record/journal.h"

struct known_grant;
struct session;
struct sql;
struct trust;

enum {
	WORKER_READ = 256 * 1024,    /* bytes of one read */
	/*
	 * What a session may ask and tell in a turn. Bytes that only pass are bounded well enough by
	 * the read; statements are judged and recorded one by one, and a read may have 20,000 of them.
	 */
	WORKER_TURN_EVENTS = 512,
	WORKER_MADE = 64 << 20,	     /* made output of one call */
	WORKER_JOURNAL_ROOM = 24,    /* free slots that a turn may need */
	WORKER_FD_RESERVE = 320,     /* descriptors for the journal's files and the parent's */
	WORKER_BUCKETS = 4096,	     /* of the table of sessions */
};

/* Of @limit descriptors, those that sessions may take. */
static inline size_t worker_fds(size_t limit)
{
	return limit - min_size(limit / 2, WORKER_FD_RESERVE);
}

/* A configuration in use: freed when the last session that began under it is over. */
struct wconf {
	struct config *cfg;
	uint64_t generation;
	uint32_t refs;
	struct list views; /* struct wview */
	struct trust *trust; /* trust.h; NULL: no target needs it */
};

/* The policy of one agent on one target, shared by its sessions. */
struct wview {
	struct list link;
	struct wconf *conf;
	const struct cfg_target *target;
	struct policy_view *view;
	char *agent;
	bool by_facts; /* of some sessions only */
};

struct worker {
	uv_loop_t loop;
	struct direct direct; /* the sessions' legs */
	struct ipc *ipc;
	uint32_t index;
	struct wconf *conf; /* for new sessions */
	struct trust *trust; /* of the configuration that comes next */
	int record_map; /* sk_storage map, read-only; -1: gateway mode only */
	struct list listeners;
	struct list sessions;
	struct session *by_uuid[WORKER_BUCKETS]; /* chains by hash_next */
	struct list catalogs;
	struct list logins; /* struct slogin, in session_login.c */
	struct known_grant *known; /* grants_known.h, by what was asked */
	uint64_t next_ask; /* id of the next question to the parent */
	bool draining, retired, follow;
	uint64_t drain_boot_ns;
	uint32_t nsessions;
	uint32_t nheld; /* files of recordings that have not begun */
	int fd_limit; /* descriptors from here on are not for sessions */

	struct sql *sql;
	struct masker *masker;
	struct journal *journal;
	struct worker_stats *stats; /* shared with the parent */

	/* Shared by the sessions during a turn. */
	uint8_t *rbuf;
	struct insp_out out[2];
	struct buf scratch, json;
	struct info_text *info_texts; /* session_rec.c: of records, by shape */
	struct slice turn_in;  /* input of the running call */
	struct slice clean;    /* of it: looked through, it has no secret */
	uint64_t turn_wall_ns; /* when it began: the time of what it records */
	struct secret_range {
		size_t off, n;
	} secret[32]; /* of the input of the running call */
	uint8_t nsecret;
	bool wipe;	 /* the outputs hold a secret: overwritten once they are sent */
	bool all_secret; /* more ranges than fit: all of it is kept out */

	bool busy;    /* frames are pending, or sessions: no waiting for events */
	bool stopped; /* drained */
	uv_timer_t tick;
	uint32_t logged[TG_R_COUNT]; /* ends that were logged since the last tick */
	bool waiting_room; /* sessions wait for room in the journal */
	bool again; /* sessions are to be resumed in the next round */
	/* Durability disk: syncs are numbered, one runs at a time. */
	bool sync_running, sync_wanted;
	uint64_t sync_started, sync_done;
	uv_work_t sync;
};

static inline void count_reason(struct worker *w, uint16_t reason)
{
	if (reason < TG_R_COUNT)
		w->stats->reason[reason]++;
}

struct wconf *wconf_ref(struct wconf *c);
void wconf_unref(struct wconf *c);
/*
 * The view of @agent on @target under @c, made on first use; NULL: no memory. @facts: the
 * session's, JSON or NULL; @older: found out under another policy, which may have asked for less.
 */
struct wview *wconf_view(struct wconf *c, struct slice agent, const struct cfg_target *target,
			 const char *facts, bool older);

/*
 * @fd, which was opened last, may be used for a session: the rest is for what the parent
 * sends (configurations, listeners, recordings), which would be lost without a descriptor.
 */
static inline bool worker_may_use(const struct worker *w, int fd)
{
	return fd < w->fd_limit;
}
/* Journal has room for what one turn can produce. */
bool worker_has_room(struct worker *w);
/* Some session has work that no event will announce: a round is made for it. */
void worker_again(struct worker *w);
/*
 * What is in the journal now is to reach the disk: the number of the sync after
 * which it has (compare with sync_done).
 */
uint64_t worker_want_sync(struct worker *w);

#endif
