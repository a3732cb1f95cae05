/* SPDX-License-Identifier: MIT */
/* The loop of a worker: listeners, the parent's messages, and what is done once a round. */
#include "daemon/worker.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <poll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/address.h"
#include "daemon/childconf.h"
#include "daemon/grants_known.h"
#include "daemon/sandbox.h"
#include "daemon/session.h"
#include "daemon/session_end.h"
#include "daemon/session_login.h"
#include "daemon/session_rec.h"
#include "daemon/trust.h"
#include "inspect/sql/sql.h"
#include "kern/kern.h"

enum {
	ACCEPT_BUDGET = 64, /* connections of one turn */
	FRAMES_PER_ROUND = 4,
	TICK_MS = 1000,
	FLUSH_MS = 1000,
	SETTLE_NS_S = 1, /* for who waits for access, of a person it may be, */
	BEGIN_NS_S = 5,	 /* and for others that have only begun */
	IDLE_NS_S = 2, /* seconds after which an idle tail becomes a frame */
};

/* ----------------------------------------------------------- configuration */

static void take_trust(struct worker *w, struct ipc_msg *m)
{
	int fd = ipc_get_fd(m);

	BUG_ON(!ipc_end(m) || fd < 0);
	trust_free(w->trust);
	w->trust = trust_take(fd);
}

static void take_config(struct worker *w, struct ipc_msg *m)
{
	uint64_t generation = ipc_get_u64(m);
	int fd = ipc_get_fd(m);
	struct wconf *c = calloc(1, sizeof(*c));

	BUG_ON(!ipc_end(m) || fd < 0 || !c);
	c->cfg = childconf_take(fd);
	c->generation = generation;
	c->refs = 1;
	list_init(&c->views);
	c->trust = w->trust;
	w->trust = NULL;
	wconf_unref(w->conf);
	w->conf = c;
	journal_set_durable(w->journal, c->cfg->durability == DURABLE_DISK);
	list_each(it, &w->sessions)
		session_recheck(container_of(it, struct session, link), c);
}

/* --------------------------------------------------------------- listeners */

struct listener {
	struct list link;
	struct worker *w;
	struct direct_fd poll;
	uint32_t events; /* that are watched; 0: none */
	int fd;
	enum ipc_listener_kind kind;
	uint64_t netns; /* cookie of a namespace that can go away; 0: the daemon's own */
	bool paused;  /* out of descriptors: looked at again at the next tick */
	char *target; /* of a gateway listener */
};

/* Closes with a reset: nothing is to be learned by half-closing a stranger. */
static void reset_connection(int fd)
{
	struct linger now = {.l_onoff = 1, .l_linger = 0};

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

static void accepted(struct listener *l, int fd, const struct sockaddr_storage *peer)
{
	struct sockaddr_storage own;
	socklen_t len = sizeof(own);
	struct tg_record rec;
	char text[ADDRESS_TEXT], local[ADDRESS_TEXT] = "";

	address_format((const struct sockaddr *)peer, text);
	/* Steered ones are known by their record, not by their addresses. */
	if (l->kind == IPC_LISTEN_GATEWAY && getsockname(fd, (struct sockaddr *)&own, &len) == 0)
		address_format((const struct sockaddr *)&own, local);
	if (l->w->conf == NULL || l->w->draining) {
		reset_connection(fd);
		return;
	}
	if (l->kind == IPC_LISTEN_GATEWAY) {
		session_accept(l->w, fd, NULL, l->target, text, local);
		return;
	}
	if (kern_record_get(l->w->record_map, fd, &rec)) {
		count_reason(l->w, TG_R_NOT_STEERED);
		reset_connection(fd);
		return;
	}
	session_accept(l->w, fd, &rec, NULL, text, local);
}

/*
 * Each connection wakes one worker of those that wait for events, the one that has been watching for
 * the longest time: who has got one goes to the end of the line. False: no memory.
 */
static bool watch_listener(struct listener *l, bool on)
{
	uint32_t events = on ? EPOLLIN | EPOLLEXCLUSIVE : 0;

	if (l->events && direct_watch(&l->w->direct, &l->poll, l->fd, l->events, 0) == 0)
		l->events = 0;
	if (events && direct_watch(&l->w->direct, &l->poll, l->fd, 0, events) == 0)
		l->events = events;
	return l->events == events;
}

/* What is in the backlog stays there, and its event would come again at once, for ever. */
static void pause_listener(struct listener *l)
{
	count_reason(l->w, TG_R_OVERLOAD);
	l->paused = true;
	(void)watch_listener(l, false);
}

/* @n at most. True: there may be more of them. */
static bool accept_some(struct listener *l, int n)
{
	for (int i = 0; i < n; i++) {
		struct sockaddr_storage peer;
		socklen_t len = sizeof(peer);
		int fd = accept4(l->fd, (struct sockaddr *)&peer, &len,
				 SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd < 0) {
			if (errno == EMFILE || errno == ENFILE || errno == ENOMEM)
				pause_listener(l);
			return false;
		}
		if (!worker_may_use(l->w, fd)) {
			reset_connection(fd);
			pause_listener(l);
			return false;
		}
		accepted(l, fd, &peer);
		if (!worker_may_use(l->w, fd + 2)) {
			pause_listener(l);
			return false;
		}
	}
	return true;
}

static void on_listener(struct direct_fd *f, uint32_t events)
{
	struct listener *l = container_of(f, struct listener, poll);

	/* To find that there is no other costs more than to be told that there is one. */
	(void)accept_some(l, 1);
	if (!l->paused && !watch_listener(l, true))
		pause_listener(l);
}

/* A session takes two descriptors; the lowest free one tells how many are left. */
static bool has_descriptors(const struct worker *w, int any)
{
	int fd = fcntl(any, F_DUPFD_CLOEXEC, 0);

	if (fd >= 0)
		close(fd);
	return fd >= 0 && worker_may_use(w, fd + 1);
}

static void take_listener(struct worker *w, struct ipc_msg *m)
{
	enum ipc_listener_kind kind = (enum ipc_listener_kind)ipc_get_u32(m);
	struct slice target = ipc_get_str(m);
	uint64_t netns = ipc_get_u64(m);
	int fd = ipc_get_fd(m);
	struct listener *l = calloc(1, sizeof(*l));

	BUG_ON(!ipc_end(m) || fd < 0 || !l);
	if (w->draining || w->retired) {
		close(fd);
		free(l);
		return;
	}
	l->w = w;
	l->fd = fd;
	l->kind = kind;
	l->netns = netns;
	l->target = target.n ? strndup((const char *)target.p, target.n) : NULL;
	leg_options(fd);
	l->poll.ready = on_listener;
	BUG_ON(!watch_listener(l, true));
	list_add_tail(&w->listeners, &l->link);
}

static bool is_waited_at(const struct listener *l)
{
	struct pollfd p = {.fd = l->fd, .events = POLLIN};

	return poll(&p, 1, 0) == 1;
}

/* Those that wait in vain: here for descriptors, or for a worker that was woken and could not. */
static void resume_listeners(struct worker *w)
{
	list_each(it, &w->listeners) {
		struct listener *l = container_of(it, struct listener, link);

		if (!l->paused && is_waited_at(l))
			(void)accept_some(l, ACCEPT_BUDGET);
		else if (l->paused && has_descriptors(w, l->fd))
			l->paused = !watch_listener(l, true);
	}
}

/* From the loop's callbacks only: no event that was fetched already is for it then. */
static void listener_close(struct listener *l)
{
	list_del(&l->link);
	(void)watch_listener(l, false);
	close(l->fd);
	free(l->target);
	free(l);
}

/* @netns 0: all. An open listener would keep its namespace alive. */
static void close_listeners(struct worker *w, uint64_t netns)
{
	list_each(it, &w->listeners) {
		struct listener *l = container_of(it, struct listener, link);

		if (!netns || l->netns == netns)
			listener_close(l);
	}
}

static void drop_listener(struct worker *w, struct ipc_msg *m)
{
	struct slice target = ipc_get_str(m);

	list_each(it, &w->listeners) {
		struct listener *l = container_of(it, struct listener, link);

		if (l->kind != IPC_LISTEN_GATEWAY || !l->target || !slice_eq_str(target, l->target))
			continue;
		/* Who is connected already, and waits to be accepted, is served. */
		while (!l->paused && accept_some(l, ACCEPT_BUDGET))
			;
		listener_close(l);
	}
}

/* ----------------------------------------------------------------- journal */

static void need_file(void *ctx, const struct uuid *session)
{
	struct worker *w = ctx;

	ipc_begin(w->ipc, IPC_FILE_NEED, 0);
	ipc_put_uuid(w->ipc, session);
	ipc_send(w->ipc);
}

/* Those that waited for room, or have work that no event announces. */
static void resume_all(struct worker *w, bool room)
{
	bool again = w->again;

	w->again = false;
	w->waiting_room = w->waiting_room && !room;
	list_each(it, &w->sessions) {
		struct session *s = container_of(it, struct session, link);

		if (s->journal_wait && room)
			s->journal_wait = false;
		else if (!again || !(s->retry[0] || s->retry[1] || (s->tls && tls_has_more(s->tls))))
			continue;
		s->yielded = false;
		session_resume(s);
	}
}

void worker_again(struct worker *w)
{
	w->again = true;
}

static void journal_writable(void *ctx)
{
	(void)ctx; /* looked at once a round, when nobody is inside a session */
}

static void record_failed(void *ctx, const struct uuid *session, int error)
{
	struct worker *w = ctx;
	struct session *s = session_find(w, session);

	log_error("a recording failed: %s", strerror(error < 0 ? -error : error));
	if (!s || !s->conf || !s->conf->cfg->record_required) {
		count_reason(w, TG_R_RECORD_FAILED);
		return;
	}
	s->fatal = TG_R_RECORD_FAILED;
	if (!s->in_turn)
		session_end(s, TG_R_RECORD_FAILED, NULL);
}

static const struct journal_ops journal_ops = {
	.need_file = need_file,
	.writable = journal_writable,
	.failed = record_failed,
};

bool worker_has_room(struct worker *w)
{
	return journal_room(w->journal) >= WORKER_JOURNAL_ROOM;
}

static void flush_synced(struct worker *w)
{
	list_each(it, &w->sessions) {
		struct session *s = container_of(it, struct session, link);

		if (s->leg[INSP_S2C].out.n) {
			session_flush(s, INSP_TO_SERVER);
			session_resume(s);
		}
	}
}

/* What was promised to be on the disk cannot be: nobody goes on who relies on it. */
static void end_unsynced(struct worker *w)
{
	list_each(it, &w->sessions) {
		struct session *s = container_of(it, struct session, link);

		if (s->sync > w->sync_done)
			session_end(s, TG_R_RECORD_FAILED, NULL);
	}
}

static void sync_work(uv_work_t *work)
{
	struct worker *w = container_of(work, struct worker, sync);

	work->data = (void *)(intptr_t)journal_sync(w->journal);
}

static void start_sync(struct worker *w);

static void sync_done(uv_work_t *work, int status)
{
	struct worker *w = container_of(work, struct worker, sync);

	w->sync_running = false;
	w->stats->syncs++;
	if (status == 0 && (intptr_t)work->data == 0) {
		w->sync_done = w->sync_started;
		flush_synced(w);
	} else {
		log_error("the journal cannot be written to the disk: %s",
			  strerror(-(int)(intptr_t)work->data));
		end_unsynced(w);
	}
	if (w->sync_wanted)
		start_sync(w);
}

static void start_sync(struct worker *w)
{
	w->sync_running = true;
	w->sync_wanted = false;
	w->sync_started++;
	if (uv_queue_work(&w->loop, &w->sync, sync_work, sync_done))
		w->sync_running = false;
}

uint64_t worker_want_sync(struct worker *w)
{
	/* What comes in while one runs is in the next, together (group commit). */
	w->sync_wanted = true;
	return w->sync_started + 1;
}

/* Once a round, after all events: frames, and a finished drain. */
static void after_round(struct worker *w)
{
	if (!w->journal)
		return;
	w->busy = journal_work(w->journal, FRAMES_PER_ROUND);
	if (w->again || w->waiting_room)
		resume_all(w, worker_has_room(w));
	if (journal_wants_sync(w->journal))
		(void)worker_want_sync(w);
	if (w->sync_wanted && !w->sync_running)
		start_sync(w);
	w->busy |= w->again;
	if ((w->draining || w->retired) && w->nsessions == 0) {
		journal_drain(w->journal);
		journal_get_stats(w->journal, &w->stats->journal);
		/* No next start of this worker will soon complete what waits for its file. */
		if (w->draining || journal_empty(w->journal))
			w->stopped = true;
	}
}

/* ---------------------------------------------------------------- the tick */

static void report(struct worker *w, struct session *s)
{
	if (!s->dirty)
		return;
	s->dirty = false;
	session_tell_login(s);
	ipc_begin(w->ipc, IPC_SESSION_STATS, 0);
	ipc_put_uuid(w->ipc, &s->uuid);
	ipc_put_str(w->ipc, session_state_name(s));
	ipc_put_u64(w->ipc, s->commands);
	ipc_put_u64(w->ipc, s->bytes[INSP_C2S]);
	ipc_put_u64(w->ipc, s->bytes[INSP_S2C]);
	ipc_put_u64(w->ipc, s->masked);
	ipc_send(w->ipc);
}

/* What does not run yet has nothing to lose. */
static void end_unsettled(struct worker *w, bool all)
{
	list_each(it, &w->sessions) {
		struct session *s = container_of(it, struct session, link);

		if (s->state < SESSION_RUN && (all || s->ask.kind == ASK_ACCESS))
			session_end(s, TG_R_SHUTDOWN, NULL);
	}
}

static void on_tick(uv_timer_t *t)
{
	struct worker *w = container_of(t, struct worker, tick);
	uint64_t now = clock_boot_ns();
	struct sql_stats sql;

	if (!w->journal)
		return;
	memset(w->logged, 0, sizeof(w->logged));
	list_each(it, &w->sessions) {
		struct session *s = container_of(it, struct session, link);

		report(w, s);
		if (s->rec_old)
			session_drop_file(s);
		s->rec_old = s->rec_fd >= 0;
		/* A host that slept: its monotonic timers are late, the grant is not. */
		if (s->grant_until_boot_ns && now >= s->grant_until_boot_ns)
			session_expire(s, TG_R_GRANT_EXPIRED, "the granted time is over");
		else if (s->grace && now >= s->grace->until_boot_ns)
			session_end(s, s->grace->reason, s->grace->words);
	}
	if (w->draining && now >= w->drain_boot_ns + SETTLE_NS_S * 1000000000ull)
		end_unsettled(w, now >= w->drain_boot_ns + BEGIN_NS_S * 1000000000ull);
	journal_idle(w->journal, now, IDLE_NS_S * 1000000000ull);
	journal_get_stats(w->journal, &w->stats->journal);
	sql_get_stats(w->sql, &sql);
	w->stats->sql_hits = sql.hits;
	w->stats->sql_misses = sql.misses;
	catalogs_tick(w);
	resume_listeners(w);
}

/* -------------------------------------------------------------- the parent */

static int fd_limit(void)
{
	struct rlimit r;

	BUG_ON(getrlimit(RLIMIT_NOFILE, &r));
	return (int)worker_fds(min_size(r.rlim_cur, INT32_MAX));
}

static void init(struct worker *w, struct ipc_msg *m)
{
	struct masker *masker;
	uint8_t key[32];
	struct slice k;
	int stats_fd, journal_fd, rc;

	w->index = ipc_get_u32(m);
	(void)ipc_get_str(m);
	k = ipc_get_bytes(m);
	stats_fd = ipc_get_fd(m);
	journal_fd = ipc_get_fd(m);
	w->record_map = ipc_get_fd(m);
	BUG_ON(!ipc_end(m) || k.n != sizeof(key) || stats_fd < 0 || journal_fd < 0);
	memcpy(key, k.p, sizeof(key));
	w->fd_limit = fd_limit();
	w->stats = mmap(NULL, sizeof(*w->stats), PROT_READ | PROT_WRITE, MAP_SHARED, stats_fd, 0);
	BUG_ON(w->stats == MAP_FAILED);
	close(stats_fd);
	rc = masker_new(key, &masker);
	explicit_bzero(key, sizeof(key));
	BUG_ON(rc);
	w->masker = masker;
	BUG_ON(sql_new(&(struct sql_limits){0}, &w->sql));
	rc = journal_new(journal_fd, &journal_ops, w, &w->journal);
	if (rc) {
		log_error("the journal cannot be used: %s", strerror(-rc));
		exit(1);
	}
	/* The sessions' facts are JSON; its tables are seeded from a file, which is out of reach soon. */
	json_object_seed(0);
	rc = tls_init();
	if (rc)
		log_error("OpenSSL cannot be used for TLS with targets: those are refused");
	rc = sandbox_worker();
	if (rc) {
		log_error("the sandbox cannot be set up: %s", strerror(-rc));
		exit(1);
	}
	rc = journal_recover(w->journal, TG_R_WORKER_DIED);
	if (rc > 0)
		log_notice("%d recordings of a former process are completed", rc);
	/* From now on the parent may have others complete what is not in a journal. */
	journal_get_stats(w->journal, &w->stats->journal);
	ipc_begin(w->ipc, IPC_READY, 0);
	ipc_send(w->ipc);
}

/* With the time that was granted over, what runs may finish where the policy lets it. */
static void end_granted(struct session *s, uint16_t reason, const char *words)
{
	if (reason == TG_R_GRANT_EXPIRED || reason == TG_R_TOKEN_EXPIRED)
		session_expire(s, reason, words);
	else
		session_end(s, reason, words);
}

static void grant_end(struct worker *w, struct ipc_msg *m)
{
	struct slice grant = ipc_get_str(m);
	uint32_t reason = ipc_get_u32(m);
	struct slice words = ipc_get_str(m);
	char text[256];

	(void)snprintf(text, sizeof(text), "%.*s", (int)words.n, (const char *)words.p);
	grants_known_forget(w, grant);
	list_each(it, &w->sessions) {
		struct session *s = container_of(it, struct session, link);

		/* Also of one that has still to be let in by it. */
		if (slice_eq_str(grant, s->grant) || (s->late && slice_eq_str(grant, s->late->grant)))
			end_granted(s, (uint16_t)reason, text);
	}
}

static void kill_session(struct session *s, struct ipc_msg *m)
{
	uint32_t reason = ipc_get_u32(m);
	struct slice words = ipc_get_str(m);
	char text[256];

	(void)snprintf(text, sizeof(text), "%.*s", (int)words.n, (const char *)words.p);
	end_granted(s, (uint16_t)reason, text);
}

static void show_session(struct worker *w, struct session *s, uint64_t id)
{
	struct jsonw j;

	buf_reset(&w->json);
	jsonw_init(&j, &w->json, false);
	session_describe(s, &j);
	ipc_begin(w->ipc, IPC_SESSION_SHOW, id);
	ipc_put_slice(w->ipc, buf_slice(&w->json));
	ipc_send(w->ipc);
}

static void target_mode(struct worker *w, struct ipc_msg *m)
{
	struct slice target = ipc_get_str(m);
	uint32_t mode = ipc_get_u32(m);

	list_each(it, &w->sessions) {
		struct session *s = container_of(it, struct session, link);

		if (!s->view || !slice_eq_str(target, s->view->target->name))
			continue;
		s->observe = mode == TARGET_OBSERVE;
		if (mode == TARGET_BLOCK)
			session_end(s, TG_R_TARGET_BLOCKED, NULL);
	}
}

/* Those that have begun may come to run, and running ones may finish. */
static void drain(struct worker *w)
{
	w->draining = true;
	w->drain_boot_ns = clock_boot_ns();
	close_listeners(w, 0);
}

static void retire(struct worker *w)
{
	w->retired = true;
	close_listeners(w, 0);
}

static void got_file(struct worker *w, struct ipc_msg *m, const struct uuid *u)
{
	uint32_t error = ipc_get_u32(m);
	int fd = ipc_get_fd(m);

	journal_file(w->journal, u, fd, error ? (int)error : EMFILE);
}

/* Messages that concern one session; it may be over already. */
static void session_message(struct worker *w, struct ipc_msg *m)
{
	struct uuid u = ipc_get_uuid(m);
	struct session *s = session_find(w, &u);

	if (m->type == IPC_FILE) {
		got_file(w, m, &u);
		return;
	}
	if (m->type == IPC_ADOPT) {
		(void)!journal_adopt(w->journal, &u, (uint16_t)ipc_get_u32(m));
		return;
	}
	if (!s)
		return;
	switch (m->type) {
	case IPC_SESSION_FACTS:
		session_facts(s, m);
		break;
	case IPC_SESSION_KILL:
		kill_session(s, m);
		break;
	case IPC_SESSION_ORPHAN:
		session_orphaned(s);
		break;
	case IPC_SESSION_TOKEN:
		if (!srec_json(s, TG_REC_STATE, ipc_get_bytes(m)))
			session_end(s, TG_R_RECORD_FAILED, NULL);
		break;
	case IPC_SESSION_SHOW:
		show_session(w, s, m->id);
		break;
	case IPC_ANSWER:
		session_answer(s, m);
		break;
	case IPC_PENDING: {
		struct slice request = ipc_get_str(m), words = ipc_get_str(m);

		session_pending(s, request, words);
		break;
	}
	case IPC_SOCKET:
		session_socket(s, m);
		break;
	case IPC_GRANT_LOGIN:
		slogin_grant_answer(s, m);
		break;
	case IPC_CANCEL_DO:
		session_cancel(s);
		break;
	default:
		m->bad = true;
	}
}

static void on_message(void *ctx, struct ipc *ipc, struct ipc_msg *m)
{
	struct worker *w = ctx;

	switch (m->type) {
	case IPC_INIT:
		init(w, m);
		break;
	case IPC_TRUST:
		take_trust(w, m);
		break;
	case IPC_CONFIG:
		take_config(w, m);
		break;
	case IPC_LISTENER_GONE:
		close_listeners(w, ipc_get_u64(m));
		break;
	case IPC_LISTENER:
		take_listener(w, m);
		break;
	case IPC_LISTENER_CLOSE:
		drop_listener(w, m);
		break;
	case IPC_DRAIN:
		drain(w);
		break;
	case IPC_RETIRE:
		retire(w);
		break;
	case IPC_FOLLOW:
		w->follow = ipc_get_u32(m) != 0;
		break;
	case IPC_GRANT_END:
		grant_end(w, m);
		break;
	case IPC_TARGET_MODE:
		target_mode(w, m);
		break;
	case IPC_KEY_PASSWORD:
	case IPC_KEY_MD5:
	case IPC_KEY_SCRAM:
	case IPC_KEY_LOGIN:
	case IPC_KEY_CERTIFICATE:
	case IPC_KEY_PROVE:
		if (!slogin_key_answer(w, m))
			(void)catalog_key_answer(w, m);
		break;
	case IPC_KEY_GONE:
		slogins_keyd_gone(w);
		break;
	default:
		session_message(w, m);
	}
}

/* Without a parent nothing may be decided: the end. */
int worker_main(void)
{
	static const struct ipc_ops ops = {.message = on_message, .closed = ipc_parent_gone};
	static struct worker w = {.record_map = -1};

	list_init(&w.listeners);
	list_init(&w.sessions);
	list_init(&w.catalogs);
	list_init(&w.logins);
	insp_out_init(&w.out[0], WORKER_MADE);
	insp_out_init(&w.out[1], WORKER_MADE);
	buf_init(&w.scratch, WORKER_MADE);
	buf_init(&w.json, 8 << 20);
	w.rbuf = malloc(WORKER_READ + 256);
	BUG_ON(!w.rbuf || uv_loop_init(&w.loop));
	BUG_ON(direct_init(&w.direct, &w.loop));
	BUG_ON(ipc_new(&w.loop, IPC_CHILD_FD, &ops, &w, &w.ipc));
	(void)uv_timer_init(&w.loop, &w.tick);
	(void)uv_timer_start(&w.tick, on_tick, TICK_MS, TICK_MS);
	while (!w.stopped) {
		direct_round(&w.direct, w.busy);
		after_round(&w);
	}
	/* How sessions ended is to be known, if the parent reads at all. */
	(void)!ipc_flushed(w.ipc, FLUSH_MS);
	/* The mapping is the parent's to recover if tails are left. */
	return 0;
}
