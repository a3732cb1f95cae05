/* SPDX-License-Identifier: MIT */
/* The life of a session: accepted, identified, let in, run, ended. */
#include "daemon/session_rec.h"

#include <errno.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/address.h"
#include "daemon/session_end.h"
#include "daemon/session_login.h"
#include "daemon/session_tls.h"

enum {
	LOGIN_MS = 60000,    /* a client has this long to say who it is */
	LINGER_MS = 5000,    /* last bytes to a client that does not read */
	IDENTIFY_MS = 60000, /* the parent's answer, which an upgrade may keep waiting */
	GONE_MS = 5000,	     /* a server that takes nothing of a client that said all it had */
	CONNECT_MIN_MS = 100, /* to one address */
	FLOW_BUDGET = 4 << 20,
	LOGGED_PER_TICK = 5,
};

static const char *const state_names[] = {
	[SESSION_IDENTIFY] = "identify", [SESSION_LOGIN] = "login", [SESSION_CONNECT] = "connect",
	[SESSION_RUN] = "run",		 [SESSION_END] = "end",	    [SESSION_DEAD] = "end",
};

struct session_id session_id(const struct session *s)
{
	struct session_id id;

	uuid_format(&s->uuid, id.text);
	return id;
}

const char *session_state_name(const struct session *s)
{
	if (s->ask.kind == ASK_ACCESS || s->ask.kind == ASK_STATEMENT)
		return "held";
	if (s->grace && s->state < SESSION_END)
		return "ending";
	return state_names[s->state];
}

/* ---------------------------------------------------------------- timers */

static void on_timer(uv_timer_t *t);

/* When a client that has closed its side is given up; UINT64_MAX: its bytes are on their way. */
static uint64_t gone_at(const struct session *s)
{
	if (s->state != SESSION_RUN || !s->fin_boot_ns)
		return UINT64_MAX;
	/* Of an orphan nobody knows whether it was closed for good, or half and is somebody else's. */
	if (!s->orphan && (!s->leg[INSP_S2C].out.n || session_half_closes(s)))
		return UINT64_MAX;
	return s->fin_boot_ns + GONE_MS * 1000000ull;
}

static uint64_t limit_time_at(const struct session *s)
{
	uint64_t ms = s->state == SESSION_RUN ? s->view->target->session_ms : 0;

	return ms ? s->run_boot_ns + ms * 1000000 : UINT64_MAX;
}

/* Who waits for an answer is not idle. */
static uint64_t limit_idle_at(const struct session *s)
{
	uint64_t ms = s->state == SESSION_RUN && s->ask.kind == ASK_NONE ? s->view->target->idle_ms : 0;

	return ms ? s->active_boot_ns + ms * 1000000 : UINT64_MAX;
}

/* The time to connect is shared out among the addresses of a name. */
static uint64_t connect_ms(const struct session *s)
{
	uint64_t ms = s->view->target->connect_timeout_ms / session_candidates(s);

	return ms > CONNECT_MIN_MS ? ms : CONNECT_MIN_MS;
}

/* The next thing that has a deadline. */
static void arm(struct session *s)
{
	uint64_t now = clock_boot_ns(), next = UINT64_MAX;

	if (s->state == SESSION_DEAD)
		return;
	if (s->fatal && s->state < SESSION_END)
		next = now;
	else if (s->state == SESSION_IDENTIFY)
		next = now + IDENTIFY_MS * 1000000ull;
	else if (s->state == SESSION_LOGIN && s->ask.kind == ASK_NONE)
		next = now + LOGIN_MS * 1000000ull;
	else if (s->state == SESSION_CONNECT)
		next = now + connect_ms(s) * 1000000ull;
	else if (s->state == SESSION_END)
		next = now + LINGER_MS * 1000000ull;
	if (s->ask.kind == ASK_STATEMENT && !s->ask.answered && !s->late &&
	    s->ask.until_boot_ns < next)
		next = s->ask.until_boot_ns;
	if (s->state < SESSION_END && s->grant_until_boot_ns && s->grant_until_boot_ns < next)
		next = s->grant_until_boot_ns;
	if (s->state < SESSION_END && s->grace && s->grace->until_boot_ns < next)
		next = s->grace->until_boot_ns;
	if (gone_at(s) < next)
		next = gone_at(s);
	if (limit_time_at(s) < next)
		next = limit_time_at(s);
	if (limit_idle_at(s) < next)
		next = limit_idle_at(s);
	if (slogin_deadline(s) < next)
		next = slogin_deadline(s);
	if (next == UINT64_MAX)
		(void)uv_timer_stop(&s->timer);
	else
		(void)uv_timer_start(&s->timer, on_timer,
				     next > now ? (next - now + 999999) / 1000000 : 0, 0);
}

/*
 * What was sent is not read at once, and the kernel takes more in large steps: as long as the
 * peers take any of it the session carries something.
 */
static bool still_carries(struct session *s)
{
	uint32_t unread = 0;

	for (int side = 0; side < 2; side++) {
		int n = 0;

		if (s->leg[side].fd >= 0 && ioctl(s->leg[side].fd, SIOCOUTQ, &n) == 0)
			unread += (uint32_t)n;
	}
	if (unread == s->idle_unread)
		return false;
	s->idle_unread = unread;
	s->active_boot_ns = clock_boot_ns();
	return true;
}

static void hold_is_over(struct session *s)
{
	session_refuse_held(s, s->ask.in_transaction ? TG_R_HELD_IN_TRANSACTION
						     : TG_R_APPROVAL_EXPIRED);
}

static void on_timer(uv_timer_t *t)
{
	struct session *s = container_of(t, struct session, timer);
	uint64_t now = clock_boot_ns();

	if (s->fatal && s->state < SESSION_END) {
		session_end(s, s->fatal, NULL);
		return;
	}
	switch (s->state) {
	case SESSION_IDENTIFY:
		session_end(s, TG_R_INTERNAL, NULL);
		return;
	case SESSION_CONNECT:
		if (s->tls && tls_to_sign(s->tls) && now >= slogin_deadline(s))
			slogin_due(s); /* keyd is asked again */
		else if (!session_connect_next(s))
			session_end(s, TG_R_UPSTREAM_TIMEOUT, "the target did not answer in time");
		return;
	case SESSION_END:
		if (s->doomed) {
			s->doomed = false;
			session_flush(s, INSP_TO_CLIENT);
			arm(s);
		} else {
			buf_reset(&s->leg[INSP_C2S].out);
		}
		session_after_end(s);
		return;
	case SESSION_DEAD:
		return;
	case SESSION_LOGIN:
	case SESSION_RUN:
		break;
	}
	if (s->grant_until_boot_ns && now >= s->grant_until_boot_ns)
		session_expire(s, TG_R_GRANT_EXPIRED, "the granted time is over");
	else if (s->grace && now >= s->grace->until_boot_ns)
		session_end(s, s->grace->reason, s->grace->words);
	else if (s->ask.kind == ASK_STATEMENT && !s->ask.answered && !s->late &&
		 now >= s->ask.until_boot_ns)
		hold_is_over(s);
	else if (s->state == SESSION_LOGIN && s->ask.kind == ASK_NONE)
		session_end(s, TG_R_CLIENT_CLOSED, "login took too long");
	else if (now >= slogin_deadline(s))
		slogin_due(s);
	else if (now >= limit_time_at(s))
		session_end(s, TG_R_SESSION_TIME, NULL);
	else if (now >= limit_idle_at(s) && !still_carries(s))
		session_end(s, TG_R_SESSION_IDLE, NULL);
	else if (now >= gone_at(s) && s->orphan)
		session_end(s, TG_R_PROCESS_GONE, NULL);
	else if (now >= gone_at(s))
		session_end(s, TG_R_CLIENT_CLOSED, "the target does not take what was sent");
	else
		arm(s);
}

void session_arm(struct session *s)
{
	arm(s);
}

void session_fin(struct session *s)
{
	s->fin_boot_ns = clock_boot_ns();
	arm(s);
}

/* -------------------------------------------------------------- beginning */

/* After the round: none of its events can come any more. */
static void on_timer_closed(uv_handle_t *h)
{
	struct session *s = container_of((uv_timer_t *)h, struct session, timer);

	for (int i = 0; i < 2; i++) {
		buf_done(&s->leg[i].in);
		buf_wipe(&s->leg[i].out);
	}
	free(s->ask.answer);
	free(s->ask.asked);
	free(s->ask.texts);
	srec_facts_free(s);
	free(s->late);
	free(s->grace);
	free(s->facts);
	free(s->upstream);
	free(s->record);
	for (int i = 0; i < 2; i++)
		if (s->upstream_fd[i] >= 0)
			close(s->upstream_fd[i]);
	arena_done(&s->arena);
	free(s);
}

static struct session **bucket(struct worker *w, const struct uuid *u)
{
	uint32_t h;

	/* The last bytes of a version 7 UUID are random. */
	memcpy(&h, u->b + 12, sizeof(h));
	return &w->by_uuid[h % WORKER_BUCKETS];
}

static void unhash(struct worker *w, const struct session *s)
{
	struct session **at = bucket(w, &s->uuid);

	while (*at != s)
		at = &(*at)->hash_next;
	*at = s->hash_next;
}

static struct session *session_alloc(struct worker *w)
{
	struct session *s = calloc(1, sizeof(*s));

	if (!s)
		return NULL;
	s->w = w;
	s->rec_fd = s->upstream_fd[0] = s->upstream_fd[1] = -1;
	s->conf = wconf_ref(w->conf);
	uuid_new(clock_wall_ns(), &s->uuid);
	leg_init(&s->leg[0]);
	leg_init(&s->leg[1]);
	arena_init(&s->arena, FLOW_BUDGET);
	(void)uv_timer_init(&w->loop, &s->timer);
	s->timer.data = s;
	list_init(&s->catalog_link);
	list_add_tail(&w->sessions, &s->link);
	s->hash_next = *bucket(w, &s->uuid);
	*bucket(w, &s->uuid) = s;
	w->nsessions++;
	w->stats->accepted++;
	w->stats->sessions = w->nsessions;
	return s;
}

static bool by_owner(const struct worker *w, const char *target)
{
	const struct cfg_target *t =
		target ? config_target(w->conf->cfg, slice_str(target)) : NULL;

	return t && t->listen_by_owner;
}

void session_accept(struct worker *w, int fd, const struct tg_record *rec, const char *target,
		    const char *peer, const char *local)
{
	struct session *s = session_alloc(w);

	if (!s || leg_open(s, INSP_C2S, fd, true)) {
		count_reason(w, TG_R_NO_MEMORY);
		close(fd);
		if (s)
			session_end(s, TG_R_NO_MEMORY, NULL);
		return;
	}
	if (rec) {
		s->record = malloc(sizeof(*rec));
		if (s->record)
			*s->record = *rec;
		s->steered = true;
		s->observe = rec->flags & TG_RECORD_OBSERVE;
	}
	ipc_begin(w->ipc, IPC_SESSION_OPEN, 0);
	ipc_put_uuid(w->ipc, &s->uuid);
	ipc_put_bytes(w->ipc, rec ? slice_of(rec, sizeof(*rec)) : slice_of("", 0));
	ipc_put_str(w->ipc, peer);
	ipc_put_str(w->ipc, local);
	ipc_put_u32(w->ipc, by_owner(w, target));
	ipc_put_str(w->ipc, target ? target : "");
	ipc_send(w->ipc);
	arm(s);
}

struct session *session_find(struct worker *w, const struct uuid *u)
{
	struct session *s = *bucket(w, u);

	while (s && !uuid_eq(&s->uuid, u))
		s = s->hash_next;
	return s;
}

static int open_inspector(struct session *s)
{
	struct worker *w = s->w;
	const struct cfg_target *t = s->view->target;
	int rc;

	s->insp = inspector_find(slice_str(t->protocol));
	if (!s->insp)
		return -EPROTONOSUPPORT;
	s->env = (struct insp_env){
		.host = &session_host,
		.ctx = s,
		.arena = &s->arena,
		.sql = w->sql,
		.scratch = &w->scratch,
		.out = {&w->out[0], &w->out[1]},
		.limits = {.message_bytes = t->message_bytes, .value_bytes = t->value_bytes,
			   .turn_events = WORKER_TURN_EVENTS},
		.masking = !mask_set_empty(policy_masks(s->view->view)),
		.server_socket = t->socket != NULL,
		.socket_trust = t->socket_trust,
	};
	s->st = arena_alloc(&s->arena, s->insp->state_size);
	if (!s->st)
		return -ENOMEM;
	rc = s->insp->open(s->st, &s->env);
	if (rc)
		s->st = NULL;
	return rc;
}

/*
 * The recording's file is there before there is anything to write: whoever says nothing leaves none. Most
 * say something at once, and need not ask for it again; of many that do not only so many keep it.
 */
static void keep_file(struct session *s, int fd)
{
	enum { HELD_MAX = 64 };
	struct worker *w = s->w;

	if (!s->head || w->nheld == HELD_MAX || !worker_may_use(w, fd)) {
		close(fd);
		return;
	}
	s->rec_fd = fd;
	w->nheld++;
}

void session_drop_file(struct session *s)
{
	if (s->rec_fd < 0)
		return;
	close(s->rec_fd);
	s->rec_fd = -1;
	s->w->nheld--;
}

/* The parent knows who this is: what it may reach is decided from here on. */
static void identified(struct session *s, struct slice agent, struct slice target, int fd,
		       int file_error)
{
	const struct cfg_target *t = config_target(s->conf->cfg, target);
	struct worker *w = s->w;
	const struct uuid u = s->uuid;
	bool recording = false;

	s->view = t ? wconf_view(s->conf, agent, t, s->facts, false) : NULL;
	if (s->view && s->upstream)
		recording = srec_open(s);
	if (fd >= 0)
		keep_file(s, fd);
	/* Who it is stands in the recording now; idle sessions are many. */
	if (!s->view || !s->view->by_facts) {
		free(s->facts);
		s->facts = NULL;
	}
	free(s->record);
	s->record = NULL;
	if (!s->view || !recording) {
		session_end(s, s->view ? TG_R_RECORD_FAILED : t ? TG_R_NO_MEMORY : TG_R_UNKNOWN_TARGET,
			    NULL);
	} else {
		s->state = SESSION_LOGIN;
		if (open_inspector(s)) {
			session_end(s, TG_R_INTERNAL, NULL);
		} else {
			arm(s);
			s->retry[INSP_C2S] = true; /* its first call, before anything is read */
			session_resume(s);
		}
	}
	if (file_error)
		journal_file(w->journal, &u, -1, file_error);
}

/* The parent refuses it, and @fd is a file for who that was. */
static void refused(struct session *s, struct slice agent, struct slice target, int fd,
		    uint16_t reason)
{
	if (fd >= 0 && !srec_refused(s, agent, target, reason))
		reason = TG_R_RECORD_FAILED;
	if (fd >= 0)
		journal_file(s->w->journal, &s->uuid, fd, 0);
	session_end(s, reason, NULL);
}

void session_facts(struct session *s, struct ipc_msg *m)
{
	uint32_t reason = ipc_get_u32(m), file_error, nsockets, no_socket;
	struct slice agent = ipc_get_str(m), target = ipc_get_str(m);
	struct slice upstream = ipc_get_str(m), facts = ipc_get_str(m);
	int fd;

	file_error = ipc_get_u32(m);
	nsockets = ipc_get_u32(m);
	no_socket = ipc_get_u32(m);
	if (!ipc_end(m) || s->state != SESSION_IDENTIFY)
		return;
	fd = file_error || (reason && !m->nfds) ? -1 : ipc_get_fd(m);
	for (uint32_t i = 0; i < nsockets && i < 2; i++)
		s->upstream_fd[i] = ipc_get_fd(m);
	s->in_netns = nsockets || no_socket;
	s->no_upstream = (uint16_t)no_socket;
	s->facts = strndup((const char *)facts.p, facts.n);
	s->upstream = strndup((const char *)upstream.p, upstream.n);
	if (reason) {
		refused(s, agent, target, fd, (uint16_t)reason);
		return;
	}
	identified(s, agent, target, fd, (int)file_error);
}

void session_socket(struct session *s, struct ipc_msg *m)
{
	int fd = ipc_get_fd(m);

	if (fd >= 0 && s->in_netns && s->upstream_fd[1] < 0)
		s->upstream_fd[1] = fd;
	else if (fd >= 0)
		close(fd);
}

/* ----------------------------------------------------------------- ending */

/*
 * Nobody said that this is the end, and no words can: who reads an end of stream now would take
 * a part for the whole.
 */
static bool ends_by_reset(const struct session *s)
{
	for (int i = 0; i < 2; i++)
		if (!s->leg[i].eof || !s->leg[i].shut)
			return !s->insp || s->insp->half_close;
	return false;
}

static void reset_legs(struct session *s)
{
	struct linger now = {.l_onoff = 1};

	for (int i = 0; i < 2; i++)
		if (s->leg[i].fd >= 0)
			(void)setsockopt(s->leg[i].fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
}

static void destroy(struct session *s)
{
	struct worker *w = s->w;

	if (ends_by_reset(s))
		reset_legs(s);

	s->state = SESSION_DEAD;
	catalog_drop_session(s);
	if (s->ddl)
		catalog_changed(s);
	slogin_free(s);
	if (s->st)
		s->insp->close(s->st);
	s->st = NULL;
	srec_close(s);
	session_drop_file(s);
	ipc_begin(w->ipc, IPC_SESSION_CLOSE, 0);
	ipc_put_uuid(w->ipc, &s->uuid);
	ipc_put_u32(w->ipc, s->end_reason);
	ipc_put_u64(w->ipc, s->commands);
	ipc_put_u64(w->ipc, s->bytes[INSP_C2S]);
	ipc_put_u64(w->ipc, s->bytes[INSP_S2C]);
	ipc_put_u64(w->ipc, s->masked);
	ipc_put_u32(w->ipc, s->recorded);
	ipc_send(w->ipc);
	unhash(w, s);
	list_del(&s->link);
	w->nsessions--;
	w->stats->sessions = w->nsessions;
	w->stats->sessions_ended++;
	wconf_unref(s->conf);
	s->conf = NULL;
	tls_free(s->tls);
	s->tls = NULL;
	/* Closed, they are not watched any more. */
	for (int i = 0; i < 2; i++) {
		if (s->leg[i].fd >= 0)
			close(s->leg[i].fd);
		s->leg[i].fd = -1;
	}
	uv_close((uv_handle_t *)&s->timer, on_timer_closed);
}

void session_after_end(struct session *s)
{
	struct leg *client = &s->leg[INSP_C2S];

	if (s->state != SESSION_END || s->in_turn)
		return;
	if (client->out.n && !s->client_dead) {
		leg_update(s);
		return;
	}
	destroy(s);
}

void session_drop_ask(struct session *s)
{
	if ((s->ask.kind == ASK_ACCESS || s->ask.kind == ASK_STATEMENT) && !s->ask.answered) {
		ipc_begin(s->w->ipc, IPC_ASK_CANCEL, s->ask.id);
		ipc_put_uuid(s->w->ipc, &s->uuid);
		ipc_send(s->w->ipc);
	}
	s->ask.kind = ASK_NONE;
	free(s->late);
	s->late = NULL;
	for (int dir = 0; dir < 2; dir++) {
		s->retry[dir] |= s->waiting[dir];
		s->waiting[dir] = false;
	}
}

static void say_goodbye(struct session *s, uint16_t reason, const char *words)
{
	bool in_turn = s->in_turn;
	char detail[96];
	struct insp_words w = {
		.reason = reason,
		.message = slice_str(words && *words ? words : reason_what(reason)),
		.hint = slice_str(reason_todo(reason)),
	};

	(void)snprintf(detail, sizeof(detail), "Tidegate session %s", session_id(s).text);
	w.detail = slice_str(detail);
	insp_out_reset(&s->w->out[0]);
	insp_out_reset(&s->w->out[1]);
	if (srec_has(s))
		(void)srec_said(s, "end", &w);
	s->insp->end(s->st, &w);
	s->in_turn = true; /* the legs are in use: nothing is freed below here */
	session_send_outputs(s);
	s->in_turn = in_turn;
}

static bool is_ordinary(uint16_t reason)
{
	return reason == TG_R_CLIENT_CLOSED || reason == TG_R_UPSTREAM_CLOSED;
}

/* A flood of the same says nothing new: a few a second of each reason; all are counted. */
static void log_end(struct session *s, uint16_t reason, const char *words)
{
	uint32_t n = reason < TG_R_COUNT ? ++s->w->logged[reason] : 1;

	if (n <= LOGGED_PER_TICK)
		log_info("session %s%s%s%s%s ends: %s%s%s%s", session_id(s).text,
			 s->view ? " of " : "", s->view ? s->view->agent : "",
			 s->view ? " on " : "", s->view ? s->view->target->name : "",
			 reason_what(reason), words && *words ? ": " : "", words ? words : "",
			 n == LOGGED_PER_TICK ? " (more of these are only counted)" : "");
}

void session_end(struct session *s, uint16_t reason, const char *words)
{
	bool in_turn = s->in_turn;

	if (s->state >= SESSION_END)
		return;
	s->end_reason = reason;
	count_reason(s->w, reason);
	if (!is_ordinary(reason))
		log_end(s, reason, words);
	/* What the server still does for a session that is taken away, it should stop. */
	if (s->state == SESSION_RUN && !is_ordinary(reason))
		session_cancel_upstream(s);
	session_drop_ask(s);
	s->state = SESSION_END;
	if (s->st && !s->client_dead && !s->journal_wait &&
	    (!is_ordinary(reason) || (words && *words)))
		say_goodbye(s, reason, words);
	if (srec_has(s) && !is_ordinary(reason))
		(void)srec_error(s, "tidegate", slice_str(reason_label(reason)),
				 slice_str(words && *words ? words : reason_what(reason)), 0);
	if (ends_by_reset(s))
		buf_reset(&s->leg[INSP_C2S].out);
	if (in_turn) {
		/* The caller is in the middle of the legs: acted on when it is out of them. */
		s->doomed = true;
		(void)uv_timer_start(&s->timer, on_timer, 0, 0);
		return;
	}
	session_flush(s, INSP_TO_CLIENT);
	arm(s);
	session_after_end(s);
}

static bool same_login(const struct cfg_target *a, const struct cfg_target *b)
{
	if (!a->login || !b->login)
		return a->login == b->login;
	return strcmp(a->credential, b->credential) == 0;
}

/*
 * Whether what let the session in still does. One that came in freely where approval is now asked
 * for may ask again; so may one that others than those who are asked now have approved.
 */
static bool still_let_in(const struct session *s, const struct access_decision *d)
{
	struct access_decision was;

	if (!d->allowed)
		return false;
	if (s->state != SESSION_RUN || d->via == ACCESS_NONE || d->observe || s->observe)
		return true;
	if (!s->grant[0])
		return false;
	policy_access(s->view->view, &was);
	return was.via == d->via && strcmp(was.ways, d->ways) == 0 &&
	       strcmp(was.scope, d->scope) == 0;
}

void session_recheck(struct session *s, struct wconf *conf)
{
	struct access_decision d;
	const struct cfg_target *t;
	struct wview *v;

	if (s->state >= SESSION_END)
		return;
	if (!s->view) { /* not identified yet: begins under the new one */
		wconf_ref(conf);
		wconf_unref(s->conf);
		s->conf = conf;
		return;
	}
	t = config_target(conf->cfg, slice_str(s->view->target->name));
	v = t ? wconf_view(conf, slice_str(s->view->agent), t, s->facts, true) : NULL;
	if (!v) {
		session_end(s, TG_R_POLICY_CHANGED, NULL);
		return;
	}
	/* It has logged in, or is about to, as somebody whom it is no longer to be; or it is looked
	 * into otherwise than it would be now. */
	if (!same_login(s->view->target, t) ||
	    (cfg_target_verified(t) && !cfg_target_verified(s->view->target)) || strcmp(s->view->target->protocol, t->protocol) != 0) {
		session_end(s, TG_R_POLICY_CHANGED, NULL);
		return;
	}
	policy_access(v->view, &d);
	if (!still_let_in(s, &d)) {
		session_end(s, TG_R_POLICY_CHANGED, NULL);
		return;
	}
	/* Rules and masks of the new policy apply from the next statement on. */
	wconf_ref(conf);
	wconf_unref(s->conf);
	s->conf = conf;
	s->view = v;
	s->env.masking = !mask_set_empty(policy_masks(v->view));
	s->env.generation++;
	s->env.rules++;
	if (!srec_policy(s))
		s->fatal = TG_R_RECORD_FAILED;
	catalog_drop_session(s);
	if (s->state == SESSION_RUN)
		arm(s);
}

void session_describe(struct session *s, struct jsonw *j)
{
	jsonw_object(j);
	jsonw_kv_string(j, "id", session_id(s).text);
	jsonw_kv_string(j, "state", session_state_name(s));
	jsonw_kv_string(j, "upstream", s->upstream);
	if (s->login_as) {
		jsonw_kv_string(j, "credential", s->view->target->credential);
		jsonw_kv_string(j, "login_as", s->login_as);
	}
	if (s->tls && s->leg[INSP_S2C].connected) {
		jsonw_name(j, "tls");
		jsonw_object(j);
		stls_describe(s, j);
		jsonw_object_end(j);
	}
	jsonw_kv_u64(j, "commands", s->commands);
	jsonw_kv_u64(j, "bytes_in", s->bytes[INSP_C2S]);
	jsonw_kv_u64(j, "bytes_out", s->bytes[INSP_S2C]);
	jsonw_kv_u64(j, "masked", s->masked);
	jsonw_kv_u64(j, "pending_to_client", s->leg[INSP_C2S].out.n);
	jsonw_kv_u64(j, "pending_to_server", s->leg[INSP_S2C].out.n);
	if (s->st) {
		jsonw_name(j, "inspector");
		s->insp->describe(s->st, j);
	}
	jsonw_object_end(j);
}
