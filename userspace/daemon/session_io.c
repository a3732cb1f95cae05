/* SPDX-License-Identifier: MIT */
/* The two legs of a session: reading, feeding the inspector, sending. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/session_end.h"
#include "daemon/session_rec.h"
#include "daemon/session_tls.h"

enum {
	LEG_IN_MAX = 64 << 20,	 /* a message that is held whole; the inspector's limits are lower */
	LEG_OUT_MAX = 256 << 20, /* pending output; reading stops long before */
	LEG_OUT_HIGH = 1 << 20,	 /* answers of our own that a client does not read */
	BIG_CARRY = 64 << 10,	 /* unread bytes that are grown in place, not copied around */
	SEND_IOV = 64,
};

void leg_init(struct leg *l)
{
	l->fd = -1;
	buf_init(&l->in, LEG_IN_MAX);
	buf_init(&l->out, LEG_OUT_MAX);
}

/* ---------------------------------------------------- what may go on */

static bool may_read(const struct session *s, enum insp_dir dir)
{
	const struct leg *from = &s->leg[dir], *to = &s->leg[1 - dir];

	if (from->fd < 0 || from->eof || !from->connected || s->waiting[dir] || s->stalled[dir] ||
	    s->retry[dir] || s->journal_wait)
		return false;
	if (to->out.n || to->lost || from->out.n > LEG_OUT_HIGH)
		return false;
	if (dir == INSP_S2C)
		return s->state == SESSION_RUN;
	return s->state == SESSION_LOGIN || s->state == SESSION_RUN;
}

/* Durability disk: what is for the server may not go on yet. */
static bool waits_for_disk(const struct session *s)
{
	return s->sync > s->w->sync_done;
}

static void on_leg(struct session *s, enum insp_dir side, uint32_t events);

static void on_client(struct direct_fd *f, uint32_t events)
{
	on_leg(container_of(f, struct session, leg[INSP_C2S].poll), INSP_C2S, events);
}

static void on_server(struct direct_fd *f, uint32_t events)
{
	on_leg(container_of(f, struct session, leg[INSP_S2C].poll), INSP_S2C, events);
}

static bool held(const struct session *s)
{
	return s->ask.kind == ASK_ACCESS || s->ask.kind == ASK_STATEMENT;
}

/*
 * A side that goes away while nothing is read from it is noticed without reading its bytes. Where ends
 * are passed on only a reset is news; it is told as an error, whatever is asked for.
 */
static uint16_t look_for_end(const struct session *s, enum insp_dir side)
{
	const struct leg *l = &s->leg[side];

	if (s->state == SESSION_IDENTIFY || s->state >= SESSION_END)
		return 0;
	if (session_half_closes(s))
		return l->urgent ? 0 : EPOLLPRI;
	if (side == INSP_S2C || l->eof)
		return 0;
	return held(s) || !s->fin_boot_ns ? EPOLLRDHUP : 0;
}

/* In a handshake what that waits for; afterwards what stands in the way of reading or writing. */
static uint32_t tls_wants(const struct session *s, uint32_t events)
{
	if (!s->leg[INSP_S2C].connected)
		return tls_events(s->tls);
	return tls_watch(s->tls, events);
}

static void leg_watch(struct session *s, enum insp_dir side)
{
	struct leg *l = &s->leg[side];
	uint16_t events = 0;

	if (l->fd < 0 || s->state == SESSION_DEAD)
		return;
	if (may_read(s, side))
		events |= EPOLLIN;
	else
		events |= look_for_end(s, side);
	if (!l->connected || (l->out.n && (side == INSP_C2S || !waits_for_disk(s))))
		events |= EPOLLOUT;
	if (unlikely(s->tls) && side == INSP_S2C)
		events = (uint16_t)tls_wants(s, events);
	if (events == l->events)
		return;
	l->poll.ready = side == INSP_C2S ? on_client : on_server;
	if (direct_watch(&s->w->direct, &l->poll, l->fd, l->events, events)) {
		s->fatal = TG_R_NO_MEMORY; /* nothing else would make it go on */
		session_arm(s);
		return;
	}
	l->events = events;
}

void leg_stop(struct session *s, enum insp_dir side)
{
	struct leg *l = &s->leg[side];

	/* Cannot fail: it is watched. */
	if (l->events)
		(void)!direct_watch(&s->w->direct, &l->poll, l->fd, l->events, 0);
	l->events = 0;
}

void leg_update(struct session *s)
{
	leg_watch(s, INSP_C2S);
	leg_watch(s, INSP_S2C);
}

void leg_options(int fd)
{
	static const int idle_s = 60, between_s = 15, times = 4;
	int one = 1;

	/* Refused on AF_UNIX: nothing to switch off there. */
	if (setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)))
		return;
	/*
	 * A session may be held, or idle, for hours: what lies between has to be reminded of it, and
	 * a side that is gone without a word is noticed within two minutes.
	 */
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle_s, sizeof(idle_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &between_s, sizeof(between_s));
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &times, sizeof(times));
}

int leg_open(struct session *s, enum insp_dir side, int fd, bool connected)
{
	struct leg *l = &s->leg[side];

	if (side == INSP_S2C)
		leg_options(fd);
	l->fd = fd;
	l->connected = connected;
	l->events = 0;
	return 0;
}

/* --------------------------------------------------------------- sending */

/* Bytes the kernel took, or negative errno. One range is the usual case, and cheaper. */
static ssize_t send_iov(int fd, struct iovec *iov, size_t n)
{
	struct msghdr mh = {.msg_iov = iov, .msg_iovlen = n};
	ssize_t sent;

	do
		sent = n == 1 ? send(fd, iov->iov_base, iov->iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
			      : sendmsg(fd, &mh, MSG_NOSIGNAL | MSG_DONTWAIT);
	while (sent < 0 && errno == EINTR);
	if (sent < 0)
		return errno == EAGAIN ? 0 : -errno;
	return sent;
}

/* The same to the client or server of @s, as it is reached. */
static ssize_t leg_send(struct session *s, enum insp_to to, struct iovec *iov, size_t n)
{
	if (unlikely(s->tls) && to == INSP_TO_SERVER)
		return tls_send(s->tls, iov, n);
	return send_iov(s->leg[1 - to].fd, iov, n);
}

static void leg_broken(struct session *s, enum insp_dir side)
{
	struct leg *l = &s->leg[side];

	buf_reset(&l->out);
	l->eof = l->shut = true;
	if (side == INSP_C2S)
		s->client_dead = true;
	session_end(s, side == INSP_C2S ? TG_R_CLIENT_CLOSED : TG_R_UPSTREAM_CLOSED, NULL);
}

/*
 * The peer takes nothing any more. Where ends are passed on, the other side still gets what the peer
 * had said before, as it would have without us, and then a reset, too.
 */
static void leg_lost(struct session *s, enum insp_dir side)
{
	struct leg *l = &s->leg[side];

	if (!session_half_closes(s)) {
		leg_broken(s, side);
		return;
	}
	buf_reset(&l->out);
	l->shut = l->lost = true;
}

/* It has said nothing more, or the other side does not take it. */
static void give_up_lost(struct session *s)
{
	for (int side = 0; side < 2; side++) {
		const struct leg *l = &s->leg[side], *other = &s->leg[1 - side];

		if (l->lost && (l->eof || other->lost || other->out.n))
			leg_broken(s, (enum insp_dir)side);
	}
}

/* Waits for the disk before anything goes to the server. */
static bool must_sync(const struct session *s, enum insp_to to)
{
	return to == INSP_TO_SERVER && s->conf && s->conf->cfg->durability == DURABLE_DISK;
}

/* The rest of @o from byte @skip on waits in the leg's buffer. */
static bool keep_rest(struct leg *l, const struct insp_out *o, size_t skip)
{
	for (uint32_t i = 0; i < o->nseg; i++) {
		size_t n = o->seg[i].n;

		if (skip >= n) {
			skip -= n;
			continue;
		}
		if (buf_append(&l->out, insp_out_ptr(o, i) + skip, n - skip))
			return false;
		skip = 0;
	}
	return true;
}

static void send_output(struct session *s, enum insp_to to)
{
	struct insp_out *o = &s->w->out[to];
	struct leg *l = &s->leg[1 - to];
	struct iovec iov[SEND_IOV];
	size_t sent = 0;
	uint32_t i = 0;

	if (o->bytes == 0 || l->shut)
		return;
	if (l->fd < 0 || !l->connected || l->out.n || must_sync(s, to)) {
		if (!keep_rest(l, o, 0))
			session_end(s, TG_R_NO_MEMORY, NULL);
		if (must_sync(s, to))
			s->sync = worker_want_sync(s->w);
		return;
	}
	while (i < o->nseg) {
		size_t want = 0;
		unsigned n = 0;
		ssize_t got;

		for (; n < SEND_IOV && i + n < o->nseg; n++) {
			iov[n] = (struct iovec){(void *)(uintptr_t)insp_out_ptr(o, i + n),
						o->seg[i + n].n};
			want += iov[n].iov_len;
		}
		got = leg_send(s, to, iov, n);
		if (got < 0) {
			leg_lost(s, 1 - (enum insp_dir)to);
			return;
		}
		sent += (size_t)got;
		if ((size_t)got < want)
			break;
		i += n;
	}
	if (sent < o->bytes && !keep_rest(l, o, sent))
		session_end(s, TG_R_NO_MEMORY, NULL);
}

/* What the agent sees is in the recording before it is sent. */
static bool record_output(struct session *s)
{
	const struct insp_out *o = &s->w->out[INSP_TO_CLIENT];

	for (uint32_t i = 0; i < o->nseg; i++)
		if (!srec_bytes(s, INSP_S2C, insp_out_ptr(o, i), o->seg[i].n))
			return false;
	s->bytes[INSP_S2C] += o->bytes;
	return true;
}

void session_send_outputs(struct session *s)
{
	struct worker *w = s->w;

	if (w->out[0].failed || w->out[1].failed) {
		insp_out_reset(&w->out[0]);
		insp_out_reset(&w->out[1]);
		session_end(s, TG_R_NO_MEMORY, NULL);
		return;
	}
	if (!record_output(s)) {
		insp_out_reset(&w->out[0]);
		insp_out_reset(&w->out[1]);
		session_end(s, TG_R_RECORD_FAILED, NULL);
		return;
	}
	send_output(s, INSP_TO_CLIENT);
	send_output(s, INSP_TO_SERVER);
}

static void shutdown_leg(struct session *s, struct leg *l)
{
	/* Through TLS it is said; where that does not go out now, again at the next event. */
	if (unlikely(s->tls) && l == &s->leg[INSP_S2C] && !l->shut && !tls_finish(s->tls))
		return;
	if (l->fd >= 0 && !l->shut)
		(void)shutdown(l->fd, SHUT_WR);
	l->shut = true;
}

/* End of one side travels to the other once all bytes are out; with both it is over. */
static void pass_eof(struct session *s)
{
	const struct leg *client = &s->leg[INSP_C2S], *server = &s->leg[INSP_S2C];

	for (int dir = 0; dir < 2 && s->state == SESSION_RUN; dir++) {
		struct leg *to = &s->leg[1 - dir];

		if (s->leg[dir].eof && !s->leg[dir].in.n && !to->out.n && to->connected &&
		    !s->waiting[dir])
			shutdown_leg(s, to);
	}
	if (s->state == SESSION_RUN && client->eof && server->eof && client->shut && server->shut)
		session_end(s, s->server_first ? TG_R_UPSTREAM_CLOSED : TG_R_CLIENT_CLOSED, NULL);
}

void session_flush(struct session *s, enum insp_to to)
{
	struct leg *l = &s->leg[1 - to];

	if (to == INSP_TO_SERVER && waits_for_disk(s))
		return;
	while (l->out.n && l->fd >= 0 && l->connected && !l->shut) {
		struct iovec iov = {buf_data(&l->out), min_size(l->out.n, 1 << 20)};
		ssize_t got = leg_send(s, to, &iov, 1);

		if (got < 0) {
			leg_lost(s, 1 - (enum insp_dir)to);
			return;
		}
		buf_consume(&l->out, (size_t)got);
		if (got && s->fin_boot_ns && to == INSP_TO_SERVER)
			s->fin_boot_ns = clock_boot_ns();
		if ((size_t)got < iov.iov_len)
			break;
	}
	if (l->out.n)
		return;
	if (l->wipe)
		buf_wipe(&l->out);
	else
		buf_done(&l->out);
	l->wipe = false;
}

/* --------------------------------------------------------------- reading */

static ssize_t leg_recv(int fd, void *dst, size_t n)
{
	ssize_t got;

	do
		got = recv(fd, dst, n, MSG_DONTWAIT);
	while (got < 0 && errno == EINTR);
	return got < 0 ? -errno : got;
}

/*
 * The unread bytes of @dir with what the socket has behind them. Short
 * left-overs are copied in front of the shared buffer; long ones grow in place.
 */
static ssize_t read_more(struct session *s, enum insp_dir dir, struct slice *ret_in, bool *ret_own)
{
	struct leg *l = &s->leg[dir];
	size_t carry = l->in.n, room = WORKER_READ;
	uint8_t *dst;
	ssize_t n;

	*ret_own = carry > BIG_CARRY;
	if (*ret_own) {
		dst = buf_reserve(&l->in, room);
		if (!dst)
			return -ENOMEM;
	} else {
		if (carry)
			memcpy(s->w->rbuf, buf_data(&l->in), carry);
		dst = s->w->rbuf + carry;
		room -= carry;
	}
	if (unlikely(s->tls) && dir == INSP_S2C)
		n = tls_recv(s->tls, dst, room);
	else
		n = leg_recv(l->fd, dst, room);
	if (n < 0)
		return n;
	if (*ret_own) {
		buf_commit(&l->in, (size_t)n);
		*ret_in = buf_slice(&l->in);
	} else {
		*ret_in = slice_of(s->w->rbuf, carry + (size_t)n);
	}
	return n;
}

/* What the inspector did not use is kept for the next call. */
static bool keep_input(struct leg *l, struct slice in, bool own, size_t used)
{
	if (own) {
		buf_consume(&l->in, used);
		return true;
	}
	buf_reset(&l->in);
	if (used == in.n) {
		if (l->in.cap > 4096)
			buf_done(&l->in);
		return true;
	}
	return buf_append(&l->in, in.p + used, in.n - used) == 0;
}

static void after_status(struct session *s, enum insp_dir dir, enum insp_status status,
			 uint16_t why)
{
	switch (status) {
	case INSP_MORE:
		break;
	case INSP_YIELD:
		s->retry[dir] = s->yielded = true;
		break;
	case INSP_WAIT:
		s->waiting[dir] = true;
		break;
	case INSP_STALL:
		s->stalled[dir] = true;
		break;
	case INSP_END:
		session_end(s, why ? why : TG_R_CLIENT_CLOSED, NULL);
		break;
	case INSP_BAD:
		session_end(s, why ? why : TG_R_PROTO_BAD, "");
		break;
	}
}

/* What went to the server had a secret in it: no trace stays in what all sessions share. */
static void wipe_output(struct session *s)
{
	struct buf *made = &s->w->out[INSP_TO_SERVER].made;
	struct leg *l = &s->leg[INSP_S2C];

	if (made->mem)
		explicit_bzero(made->mem, made->cap);
	l->wipe |= l->out.n != 0;
	s->w->wipe = false;
}

/* Gives @in to the inspector and sends what comes of it. */
static void feed(struct session *s, enum insp_dir dir, struct slice in, bool own)
{
	struct worker *w = s->w;
	struct leg *l = &s->leg[dir];
	enum insp_status status;
	bool held = dir == INSP_S2C && s->insp->holding(s->st);
	size_t used = 0;
	uint16_t why = 0;

	insp_out_reset(&w->out[0]);
	insp_out_reset(&w->out[1]);
	w->nsecret = 0;
	w->all_secret = false;
	w->clean = (struct slice){0};
	w->turn_in = in;
	w->turn_wall_ns = clock_wall_ns();
	if (s->view->target->idle_ms)
		s->active_boot_ns = clock_boot_ns();
	s->in_turn = true;
	status = s->insp->feed(s->st, dir, in, l->eof, &used, &why);
	BUG_ON(used > in.n);
	/* The server failed the batch that a held statement is in: nobody need decide any more. */
	if (held && !s->insp->holding(s->st)) {
		if (!srec_dropped(s, s->ask.open_seq))
			s->fatal = TG_R_RECORD_FAILED;
		if (s->waiting[INSP_C2S] && s->ask.kind == ASK_STATEMENT && !s->ask.answered)
			session_drop_ask(s);
	}
	if (used && s->stalled[1 - dir]) {
		s->stalled[1 - dir] = false;
		s->retry[1 - dir] = true;
	}
	if (dir == INSP_C2S && used) {
		s->bytes[INSP_C2S] += used;
		if (!srec_bytes(s, INSP_C2S, in.p, used)) {
			w->turn_in = (struct slice){0};
			s->in_turn = false;
			session_end(s, TG_R_RECORD_FAILED, NULL);
			return;
		}
	}
	session_send_outputs(s);
	if (w->wipe)
		wipe_output(s);
	w->turn_in = (struct slice){0};
	s->dirty = true;
	if (!keep_input(l, in, own, used))
		session_end(s, TG_R_NO_MEMORY, NULL);
	s->in_turn = false;
	if (s->fatal)
		session_end(s, s->fatal, NULL);
	if (s->state < SESSION_END)
		after_status(s, dir, status, why);
}

/*
 * Takes from @in, of which @n bytes are new, what is over the target's limit: true if any. What
 * the inspector holds of either side counts, though it has not gone on.
 */
static bool cut_to_limit(const struct session *s, enum insp_dir dir, size_t n, struct slice *in)
{
	uint64_t max = s->view ? s->view->target->session_bytes : 0;
	uint64_t held = in->n - n + (s->leg[1 - dir].fd >= 0 ? s->leg[1 - dir].in.n : 0);
	uint64_t used = s->bytes[INSP_C2S] + s->bytes[INSP_S2C] + held;
	uint64_t left = used < max ? max - used : 0;

	if (!max || n <= left)
		return false;
	in->n -= n - (size_t)left;
	return true;
}

/* Reads, feeds and sends what can go on in @dir. */
static void pump(struct session *s, enum insp_dir dir)
{
	struct leg *l = &s->leg[dir];
	struct slice in;
	bool own, over;
	ssize_t n;

	if (!may_read(s, dir))
		return;
	if (!worker_has_room(s->w)) {
		s->journal_wait = s->w->waiting_room = true;
		return;
	}
	n = read_more(s, dir, &in, &own);
	if (n == -EAGAIN)
		return;
	if (unlikely(n < 0) && s->tls && dir == INSP_S2C && tls_reason(s->tls)) {
		stls_broken(s);
		return;
	}
	if (n < 0 || (n == 0 && l->lost)) {
		leg_broken(s, dir);
		return;
	}
	if (n == 0) {
		l->eof = true;
		s->server_first |= dir == INSP_S2C && !s->leg[INSP_C2S].eof;
	}
	over = cut_to_limit(s, dir, (size_t)n, &in);
	feed(s, dir, in, own);
	if (over)
		session_end(s, TG_R_SESSION_BYTES, NULL);
	if (n == 0 && dir == INSP_C2S && s->state < SESSION_END)
		session_fin(s);
}

/* Unread bytes can go on now: whatever else keeps them waiting is told when it is over. */
static bool may_retry(const struct session *s, enum insp_dir dir)
{
	if (!s->retry[dir] || s->waiting[dir] || s->stalled[dir] || s->journal_wait ||
	    s->leg[1 - dir].out.n)
		return false;
	return s->state == SESSION_RUN || (dir == INSP_C2S && s->state == SESSION_LOGIN);
}

/* Unread bytes are given to the inspector again, without reading. */
static bool pump_kept(struct session *s, enum insp_dir dir)
{
	struct leg *l = &s->leg[dir];

	if (s->yielded || !may_retry(s, dir))
		return false;
	if (!worker_has_room(s->w)) {
		s->journal_wait = s->w->waiting_room = true;
		return false;
	}
	s->retry[dir] = false;
	feed(s, dir, buf_slice(&l->in), true);
	return true;
}

static bool tls_waits(const struct session *s)
{
	return unlikely(s->tls) && tls_has_more(s->tls) && may_read(s, INSP_S2C);
}

void session_resume(struct session *s)
{
	if (s->late && !s->journal_wait) {
		session_late(s); /* comes back here when it has acted */
		return;
	}
	if (s->state == SESSION_DEAD)
		return;
	/* One direction's progress may free the other: at most a few times in a row. */
	for (int i = 0; i < 16 && (pump_kept(s, INSP_C2S) || pump_kept(s, INSP_S2C)); i++)
		;
	/* What TLS has in memory is announced by no event. */
	if (tls_waits(s))
		pump(s, INSP_S2C);
	pass_eof(s);
	give_up_lost(s);
	if (s->grace && s->state == SESSION_RUN && s->insp->idle(s->st))
		session_end(s, s->grace->reason, s->grace->words);
	leg_update(s);
	if (may_retry(s, INSP_C2S) || may_retry(s, INSP_S2C) || tls_waits(s))
		worker_again(s->w);
}

/* ---------------------------------------------------------------- events */

/*
 * The peer reset the connection while nothing can be read from it. Nobody is
 * there to answer a client; what a server has sent before is still in the
 * socket, and is read when the client has room for it.
 */
static void leg_reset(struct session *s, enum insp_dir side)
{
	struct leg *l = &s->leg[side];

	if (side == INSP_C2S || session_half_closes(s)) {
		leg_broken(s, side);
		return;
	}
	buf_reset(&l->out);
	l->shut = true;
}

/* Who waits for a person and hangs up does not want it any more; others may only have said all. */
static void client_closed(struct session *s)
{
	if (held(s))
		leg_broken(s, INSP_C2S);
	else
		session_fin(s);
}

static void on_leg(struct session *s, enum insp_dir side, uint32_t events)
{
	struct leg *l = &s->leg[side];
	bool failed = events & EPOLLERR;

	if (s->state == SESSION_DEAD)
		return;
	if (failed) /* it would come again at once: who wants more of it says so */
		leg_stop(s, side);
	else if (events == EPOLLHUP)
		events = l->events;
	if (side == INSP_S2C && !l->connected) {
		session_connected(s);
	} else if (failed && s->state == SESSION_END) {
		leg_broken(s, side);
	} else if (failed && !may_read(s, side)) {
		leg_reset(s, side);
	} else {
		if (unlikely(s->tls) && side == INSP_S2C)
			events = tls_means(s->tls, events);
		if (!failed && (events & EPOLLOUT) && l->out.n)
			session_flush(s, side == INSP_C2S ? INSP_TO_CLIENT : INSP_TO_SERVER);
		if ((events & EPOLLIN) || failed)
			pump(s, side);
		else if (events & EPOLLRDHUP)
			client_closed(s);
		/* Its urgent byte is not carried, and would be told again and again. */
		l->urgent |= !!(events & EPOLLPRI);
	}
	if (s->state < SESSION_END)
		session_resume(s);
	else if (s->state != SESSION_DEAD)
		session_after_end(s);
}
