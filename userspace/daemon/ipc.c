/* SPDX-License-Identifier: MIT */
#include "daemon/ipc.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/text.h"

/* QUEUE_MAX: of a side that asks and asks, and does not read what it is answered. */
enum { IPC_BUFFER = 1 << 20, QUEUE_MAX = 64 << 20 };

enum field { F_U32 = 1, F_U64, F_STR, F_BYTES, F_UUID };

struct ipc_head {
	uint16_t version, type;
	uint32_t len; /* of the fields */
	uint64_t id;
};

/* A message that waits for the socket. */
struct queued {
	struct list link;
	int fds[IPC_MAX_FDS];
	unsigned nfds;
	size_t n;
	uint8_t mem[];
};

/* A packet that came in while an answer was waited for. */
struct held {
	struct list link;
	struct ipc_msg m; /* its descriptors */
	size_t n;
	bool cut;
	uint8_t mem[IPC_MAX];
};

struct ipc {
	uv_poll_t poll;
	uv_loop_t *loop;
	int fd;
	const struct ipc_ops *ops;
	void *ctx;
	struct list queue, held;
	bool closing, broken, stuffed;
	size_t queued; /* bytes */
	uint32_t known; /* types that the other side has */
	/* The message that is being built, and the one that is being read. */
	size_t out_n;
	int out_fds[IPC_MAX_FDS];
	unsigned out_nfds;
	uint8_t out[IPC_MAX];
	uint8_t in[IPC_MAX];
};

const char *ipc_type_name(enum ipc_type type)
{
	static const char *const names[] = {
#define X(name, fields) [IPC_##name] = #name,
		IPC_TYPES(X)
#undef X
	};

	return (unsigned)type < IPC_TYPE_COUNT ? names[type] : "?";
}

int ipc_pair(int ret_fds[2])
{
	int size = IPC_BUFFER;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ret_fds))
		return -errno;
	for (int i = 0; i < 2; i++) {
		/* Larger than the default so that bursts seldom queue; no harm if refused. */
		(void)setsockopt(ret_fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
		(void)setsockopt(ret_fds[i], SOL_SOCKET, SO_RCVBUF, &size, sizeof(size));
	}
	return 0;
}

static void queued_free(struct ipc *ipc, struct queued *q)
{
	ipc->queued -= q->n;
	for (unsigned i = 0; i < q->nfds; i++)
		close(q->fds[i]);
	list_del(&q->link);
	explicit_bzero(q->mem, q->n);
	free(q);
}

static void on_closed(uv_handle_t *h)
{
	struct ipc *ipc = container_of((uv_poll_t *)h, struct ipc, poll);

	close(ipc->fd);
	free(ipc);
}

static void held_free(struct held *h)
{
	for (unsigned i = h->m.nfds_taken; i < h->m.nfds; i++)
		close(h->m.fds[i]);
	list_del(&h->link);
	explicit_bzero(h->mem, h->n);
	free(h);
}

void ipc_free(struct ipc *ipc)
{
	if (!ipc || ipc->closing)
		return;
	ipc->closing = true;
	list_each(it, &ipc->held) held_free(container_of(it, struct held, link));
	list_each(it, &ipc->queue)
		queued_free(ipc, container_of(it, struct queued, link));
	explicit_bzero(ipc->out, sizeof(ipc->out));
	explicit_bzero(ipc->in, sizeof(ipc->in));
	uv_close((uv_handle_t *)&ipc->poll, on_closed);
}

static void gone(struct ipc *ipc, bool bad)
{
	const struct ipc_ops *ops = ipc->ops;

	if (ipc->closing)
		return;
	if (ops->closed)
		ops->closed(ipc->ctx, ipc, bad);
	ipc_free(ipc);
}

/* ------------------------------------------------------------ receiving */

static unsigned take_fds(struct msghdr *mh, int *fds)
{
	unsigned n = 0;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
		size_t count;

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
			if (n < IPC_MAX_FDS)
				fds[n++] = fd;
			else
				close(fd);
		}
	}
	return n;
}

bool ipc_parse(struct slice packet, struct ipc_msg *m)
{
	struct ipc_head head;

	if (packet.n < sizeof(head))
		return false;
	memcpy(&head, packet.p, sizeof(head));
	if (head.version != IPC_VERSION || head.type >= IPC_TYPE_COUNT ||
	    head.len != packet.n - sizeof(head))
		return false;
	m->type = (enum ipc_type)head.type;
	m->id = head.id;
	m->raw = slice_from(packet, sizeof(head));
	m->p = m->raw.p;
	m->end = m->p + m->raw.n;
	return true;
}

/* One packet into @dst, which holds IPC_MAX; its length, 0 at the end, or a negative errno. */
static ssize_t read_packet(struct ipc *ipc, uint8_t *dst, struct ipc_msg *m, bool *cut)
{
	union {
		char mem[CMSG_SPACE(sizeof(int) * IPC_MAX_FDS)];
		struct cmsghdr align;
	} control;
	struct iovec iov = {.iov_base = dst, .iov_len = IPC_MAX};
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = control.mem,
			    .msg_controllen = sizeof(control.mem)};
	ssize_t n = recvmsg(ipc->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);

	/* It ended without having read all: said once, and behind it is all that it had sent. */
	if (n < 0 && errno == ECONNRESET)
		n = recvmsg(ipc->fd, &mh, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	if (n <= 0)
		return n < 0 ? -errno : 0;
	m->nfds = take_fds(&mh, m->fds);
	/* MSG_CTRUNC: out of descriptors here; the message says so by having fewer. */
	*cut = mh.msg_flags & MSG_TRUNC;
	return n;
}

/* False: the connection is over. */
static bool deliver(struct ipc *ipc, uint8_t *p, size_t n, bool cut, struct ipc_msg *m)
{
	if (cut || !ipc_parse(slice_of(p, n), m))
		m->bad = true;
	else
		ipc->ops->message(ipc->ctx, ipc, m);
	/* Passwords and tokens pass through here: nothing of them stays in the buffers. */
	explicit_bzero(p, n);
	for (unsigned i = m->nfds_taken; i < m->nfds; i++)
		close(m->fds[i]);
	m->nfds = 0;
	if (m->bad && !ipc->closing)
		gone(ipc, true);
	return !ipc->closing;
}

/* One message; false: nothing there, or the connection is over. */
static bool receive(struct ipc *ipc)
{
	struct ipc_msg m = {0};
	bool cut = false, more;
	ssize_t n;

	if (!list_empty(&ipc->held)) {
		struct held *h = container_of(ipc->held.next, struct held, link);

		list_del(&h->link);
		more = deliver(ipc, h->mem, h->n, h->cut, &h->m);
		held_free(h);
		return more;
	}
	n = read_packet(ipc, ipc->in, &m, &cut);
	if (n == -EAGAIN || n == -EINTR)
		return false;
	if (n <= 0) {
		gone(ipc, ipc->stuffed);
		return false;
	}
	return deliver(ipc, ipc->in, (size_t)n, cut, &m);
}

static bool want(struct ipc_msg *m, enum field f, size_t n)
{
	if (m->bad || (size_t)(m->end - m->p) < 1 + n || m->p[0] != f) {
		m->bad = true;
		return false;
	}
	m->p++;
	return true;
}

uint32_t ipc_get_u32(struct ipc_msg *m)
{
	uint32_t v;

	if (!want(m, F_U32, sizeof(v)))
		return 0;
	memcpy(&v, m->p, sizeof(v));
	m->p += sizeof(v);
	return v;
}

uint64_t ipc_get_u64(struct ipc_msg *m)
{
	uint64_t v;

	if (!want(m, F_U64, sizeof(v)))
		return 0;
	memcpy(&v, m->p, sizeof(v));
	m->p += sizeof(v);
	return v;
}

static struct slice get_var(struct ipc_msg *m, enum field f)
{
	struct slice s = {.p = m->end, .n = 0};
	uint32_t n;

	if (!want(m, f, sizeof(n)))
		return s;
	memcpy(&n, m->p, sizeof(n));
	m->p += sizeof(n);
	if (n > (size_t)(m->end - m->p)) {
		m->bad = true;
		return s;
	}
	s = slice_of(m->p, n);
	m->p += n;
	return s;
}

struct slice ipc_get_str(struct ipc_msg *m)
{
	struct slice s = get_var(m, F_STR);

	/* Strings become C strings on the way: a NUL inside is a lie. */
	if (s.n && memchr(s.p, 0, s.n)) {
		m->bad = true;
		s.n = 0;
	}
	return s;
}

struct slice ipc_get_bytes(struct ipc_msg *m)
{
	return get_var(m, F_BYTES);
}

struct uuid ipc_get_uuid(struct ipc_msg *m)
{
	struct uuid u = {{0}};

	if (want(m, F_UUID, sizeof(u.b))) {
		memcpy(u.b, m->p, sizeof(u.b));
		m->p += sizeof(u.b);
	}
	return u;
}

int ipc_get_fd(struct ipc_msg *m)
{
	return m->nfds_taken < m->nfds ? m->fds[m->nfds_taken++] : -1;
}

bool ipc_end(const struct ipc_msg *m)
{
	return !m->bad && m->p == m->end;
}

/* -------------------------------------------------------------- sending */

void ipc_begin(struct ipc *ipc, enum ipc_type type, uint64_t id)
{
	struct ipc_head head = {.version = IPC_VERSION, .type = (uint16_t)type, .id = id};

	memcpy(ipc->out, &head, sizeof(head));
	ipc->out_n = sizeof(head);
	ipc->out_nfds = 0;
}

static uint8_t *put(struct ipc *ipc, enum field f, size_t n)
{
	uint8_t *p = ipc->out + ipc->out_n;

	BUG_ON(n + 1 > sizeof(ipc->out) - ipc->out_n);
	*p = (uint8_t)f;
	ipc->out_n += 1 + n;
	return p + 1;
}

void ipc_put_u32(struct ipc *ipc, uint32_t v)
{
	memcpy(put(ipc, F_U32, sizeof(v)), &v, sizeof(v));
}

void ipc_put_u64(struct ipc *ipc, uint64_t v)
{
	memcpy(put(ipc, F_U64, sizeof(v)), &v, sizeof(v));
}

static void put_var(struct ipc *ipc, enum field f, struct slice s)
{
	uint32_t n = (uint32_t)s.n;
	uint8_t *p = put(ipc, f, sizeof(n) + s.n);

	memcpy(p, &n, sizeof(n));
	if (s.n)
		memcpy(p + sizeof(n), s.p, s.n);
}

/* Room that later fields of any message may need: names, numbers, a digest. */
enum { IPC_RESERVE = 8192 };

void ipc_put_slice(struct ipc *ipc, struct slice s)
{
	size_t left = sizeof(ipc->out) - ipc->out_n;
	size_t room = left > IPC_RESERVE ? left - IPC_RESERVE : 512;
	const uint8_t *nul = s.n ? memchr(s.p, 0, s.n) : NULL;

	if (nul)
		s.n = (size_t)(nul - s.p);
	if (s.n > room) {
		s.n = room;
		while (s.n && (s.p[s.n] & 0xc0) == 0x80)
			s.n--;
	}
	put_var(ipc, F_STR, s);
}

void ipc_put_str(struct ipc *ipc, const char *s)
{
	ipc_put_slice(ipc, slice_str(s ? s : ""));
}

void ipc_put_bytes(struct ipc *ipc, struct slice s)
{
	put_var(ipc, F_BYTES, s);
}

void ipc_put_uuid(struct ipc *ipc, const struct uuid *u)
{
	memcpy(put(ipc, F_UUID, sizeof(u->b)), u->b, sizeof(u->b));
}

void ipc_put_fd(struct ipc *ipc, int fd)
{
	BUG_ON(ipc->out_nfds == IPC_MAX_FDS);
	ipc->out_fds[ipc->out_nfds++] = fd;
}

static int send_now(struct ipc *ipc, const void *p, size_t n, const int *fds, unsigned nfds)
{
	union {
		char mem[CMSG_SPACE(sizeof(int) * IPC_MAX_FDS)];
		struct cmsghdr align;
	} control = {{0}};
	struct iovec iov = {.iov_base = (void *)(uintptr_t)p, .iov_len = n};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	if (nfds) {
		struct cmsghdr *c;

		mh.msg_control = control.mem;
		mh.msg_controllen = CMSG_SPACE(sizeof(int) * nfds);
		c = CMSG_FIRSTHDR(&mh);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN(sizeof(int) * nfds);
		memcpy(CMSG_DATA(c), fds, sizeof(int) * nfds);
	}
	for (;;) {
		if (sendmsg(ipc->fd, &mh, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0)
			return 0;
		if (errno != EINTR)
			return -errno;
	}
}

static void on_poll(uv_poll_t *h, int status, int events);

static void update_poll(struct ipc *ipc)
{
	/* What is held has been read already: room to write is there soon, and wakes the loop. */
	bool wake = !list_empty(&ipc->queue) || !list_empty(&ipc->held);
	int events = UV_READABLE | (wake ? UV_WRITABLE : 0);

	(void)uv_poll_start(&ipc->poll, events, on_poll);
}

static int enqueue(struct ipc *ipc)
{
	struct queued *q;

	if (ipc->queued > QUEUE_MAX)
		return -ENOBUFS;
	q = malloc(sizeof(*q) + ipc->out_n);
	if (!q)
		return -ENOMEM;
	q->n = ipc->out_n;
	ipc->queued += q->n;
	memcpy(q->mem, ipc->out, q->n);
	for (q->nfds = 0; q->nfds < ipc->out_nfds; q->nfds++) {
		q->fds[q->nfds] = dup(ipc->out_fds[q->nfds]);
		if (q->fds[q->nfds] < 0) {
			list_init(&q->link);
			queued_free(ipc, q);
			return -EMFILE;
		}
	}
	list_add_tail(&ipc->queue, &q->link);
	update_poll(ipc);
	return 0;
}

void ipc_send(struct ipc *ipc)
{
	struct ipc_head head;
	int rc = -EAGAIN;

	if (ipc->closing || ipc->broken)
		return;
	memcpy(&head, ipc->out, sizeof(head));
	if (head.type >= ipc->known)
		return;
	head.len = (uint32_t)(ipc->out_n - sizeof(head));
	memcpy(ipc->out, &head, sizeof(head));
	if (list_empty(&ipc->queue))
		rc = send_now(ipc, ipc->out, ipc->out_n, ipc->out_fds, ipc->out_nfds);
	if (rc == -EAGAIN)
		rc = enqueue(ipc);
	explicit_bzero(ipc->out, ipc->out_n);
	/* The reading side finds out too, and tells; here the caller may be deep in its state. */
	if (!rc)
		return;
	ipc->broken = true;
	/* Where it is this side that cannot go on, it is made to. */
	ipc->stuffed = rc == -ENOBUFS || rc == -ENOMEM || rc == -EMFILE;
	if (ipc->stuffed)
		(void)shutdown(ipc->fd, SHUT_RDWR);
}

void ipc_forward(struct ipc *ipc, const struct ipc_msg *m, uint64_t id)
{
	ipc_begin(ipc, m->type, id);
	BUG_ON(m->raw.n > sizeof(ipc->out) - ipc->out_n);
	if (m->raw.n)
		memcpy(ipc->out + ipc->out_n, m->raw.p, m->raw.n);
	ipc->out_n += m->raw.n;
	ipc_send(ipc);
}

static void flush(struct ipc *ipc)
{
	while (!list_empty(&ipc->queue)) {
		struct queued *q = container_of(ipc->queue.next, struct queued, link);
		int rc = send_now(ipc, q->mem, q->n, q->fds, q->nfds);

		if (rc == -EAGAIN)
			return;
		queued_free(ipc, q);
		if (rc) {
			gone(ipc, false);
			return;
		}
	}
	update_poll(ipc);
}

static void on_poll(uv_poll_t *h, int status, int events)
{
	struct ipc *ipc = container_of(h, struct ipc, poll);

	/* libuv does not go on watching: all that is there is read now. */
	if (status < 0) {
		ipc_finish(ipc);
		gone(ipc, false);
		return;
	}
	/* A bounded number, so that a chatty peer does not starve the loop. */
	if ((events & UV_READABLE) || !list_empty(&ipc->held))
		for (int i = 0; i < 64 && !ipc->closing && receive(ipc); i++)
			;
	if ((events & UV_WRITABLE) && !ipc->closing)
		flush(ipc);
}

/* ---------------------------------------------------------------- waiting */

/* True: it was the one. Every other one is kept, in its order. */
static bool is_answer(struct ipc *ipc, struct held *h, const struct ipc_head *want, ipc_take_fn *take,
		      void *ctx)
{
	struct ipc_msg m = {0};

	if (h->cut || !ipc_parse(slice_of(h->mem, h->n), &m) || m.type != want->type ||
	    m.id != want->id) {
		list_add_tail(&ipc->held, &h->link);
		return false;
	}
	take(ctx, &m);
	held_free(h);
	return true;
}

/* 0: the answer was taken; -EAGAIN: nothing is there now. */
static int read_one(struct ipc *ipc, const struct ipc_head *want, ipc_take_fn *take, void *ctx)
{
	struct held *h = calloc(1, sizeof(*h));
	ssize_t n;

	if (!h)
		return -ENOMEM;
	list_init(&h->link);
	n = read_packet(ipc, h->mem, &h->m, &h->cut);
	if (n <= 0) {
		held_free(h);
		return n == 0 ? -EPIPE : (int)n;
	}
	h->n = (size_t)n;
	return is_answer(ipc, h, want, take, ctx) ? 0 : -EINTR;
}

int ipc_call(struct ipc *ipc, int ms, ipc_take_fn *take, void *ctx)
{
	uint64_t end = clock_boot_ns() / 1000000 + (uint64_t)ms, now;
	struct ipc_head want;
	int rc;

	memcpy(&want, ipc->out, sizeof(want));
	ipc_send(ipc);
	if (ipc->closing || ipc->broken || !ipc_flushed(ipc, ms))
		return -EPIPE;
	do {
		struct pollfd in = {.fd = ipc->fd, .events = POLLIN};

		rc = read_one(ipc, &want, take, ctx);
		now = clock_boot_ns() / 1000000;
		if (rc == -EAGAIN && now < end)
			(void)poll(&in, 1, (int)(end - now));
	} while ((rc == -EAGAIN || rc == -EINTR) && now < end);
	update_poll(ipc);
	return rc == -EAGAIN || rc == -EINTR ? -ETIMEDOUT : rc;
}

void ipc_parent_gone(void *ctx, struct ipc *ipc, bool bad)
{
	if (bad)
		log_error("a message of the parent could not be read");
	_exit(bad ? 1 : 0);
}

void ipc_finish(struct ipc *ipc)
{
	while (!ipc->closing && receive(ipc))
		;
}

int ipc_fd(const struct ipc *ipc)
{
	return ipc->fd;
}

bool ipc_flushed(struct ipc *ipc, int ms)
{
	while (!list_empty(&ipc->queue)) {
		struct queued *q = container_of(ipc->queue.next, struct queued, link);
		struct pollfd room = {.fd = ipc->fd, .events = POLLOUT};
		int rc = send_now(ipc, q->mem, q->n, q->fds, q->nfds);

		if (rc == -EAGAIN && poll(&room, 1, ms) == 1)
			continue;
		if (rc)
			return false;
		queued_free(ipc, q);
	}
	return true;
}

void ipc_limit(struct ipc *ipc, uint32_t n)
{
	ipc->known = n < IPC_TYPE_COUNT ? n : IPC_TYPE_COUNT;
}

uint32_t ipc_known(const struct ipc *ipc)
{
	return ipc->known;
}

uint64_t ipc_types_hash(uint32_t n)
{
	static const char *const texts[] = {
#define X(name, fields) #name ": " fields,
		IPC_TYPES(X)
#undef X
	};
	uint64_t hash = IPC_VERSION;

	for (uint32_t i = 0; i < n && i < IPC_TYPE_COUNT; i++)
		hash = text_hash(hash, texts[i]);
	return hash;
}

int ipc_new(uv_loop_t *loop, int fd, const struct ipc_ops *ops, void *ctx, struct ipc **ret)
{
	struct ipc *ipc = calloc(1, sizeof(*ipc));
	int rc;

	if (!ipc)
		return -ENOMEM;
	ipc->fd = fd;
	ipc->loop = loop;
	ipc->ops = ops;
	ipc->ctx = ctx;
	ipc->known = IPC_TYPE_COUNT;
	list_init(&ipc->queue);
	list_init(&ipc->held);
	rc = uv_poll_init(loop, &ipc->poll, fd);
	if (rc) {
		free(ipc);
		return rc;
	}
	update_poll(ipc);
	*ret = ipc;
	return 0;
}
