/* SPDX-License-Identifier: MIT */
/*
 * Agents' questions: who asks is known from the kernel, what is asked is forwarded, and an
 * answer in which a target's name occurs goes out only when the parent has its addresses in
 * the kernel's map. A question that nobody was steered with is refused.
 */
#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "daemon/address.h"
#include "daemon/named.h"
#include "kern/kern.h"

enum {
	BURST = 64,	     /* datagrams of one round */
	DATAGRAM_MAX = 4096, /* of a question, and of an answer by UDP */
	CONN_IN = 4096,
	CONN_OUT = 256 << 10,
	CONN_QUERIES = 32,
	CONN_IDLE_MS = 10000,
};

struct nsock {
	struct list link;
	struct named *n;
	uv_poll_t poll;
	int fd;
	bool tcp;
	uint64_t netns_cookie;
};

struct conn {
	struct list link;
	struct named *n;
	uv_poll_t poll;
	uv_timer_t idle;
	int fd;
	uint8_t nhandles;
	bool closing, eof;
	bool broken; /* given up, whatever is still to be said */
	uint32_t nqueries;
	struct tg_record rec;
	struct buf in, out;
};

/* One question, from its arrival to its answer. */
struct query {
	struct list link;
	struct named *n;
	struct nsock *sock; /* UDP */
	struct conn *conn;  /* TCP */
	struct sockaddr_in6 from;
	socklen_t from_len;
	struct tg_record rec;
	struct dns_query q;
	struct dns_ask *ask;
	uint64_t since_ns, learn_id; /* 0: is not waiting for the parent */
	struct dns_answer head;
	struct found *found;
	uint8_t *answer;
	size_t nanswer;
};

/* ------------------------------------------------------------- answering */

static void conn_write(struct conn *c);
static void conn_check(struct conn *c);

static void query_free(struct query *q)
{
	list_del(&q->link);
	q->n->nqueries--;
	if (q->conn) {
		q->conn->nqueries--;
		conn_check(q->conn);
	}
	dns_ask_cancel(q->ask);
	free(q->found);
	free(q->answer);
	free(q);
}

static void send_tcp(struct conn *c, const uint8_t *msg, size_t n)
{
	uint8_t len[2];

	store_be16(len, (uint16_t)n);
	/* Who does not read what he asked for is given up. */
	if (buf_append(&c->out, len, 2) || buf_append(&c->out, msg, n))
		c->broken = true;
	conn_write(c);
}

static void send_bytes(struct query *q, const uint8_t *msg, size_t n)
{
	if (q->conn)
		send_tcp(q->conn, msg, n);
	else /* lost if there is no room, as any datagram */
		(void)!sendto(q->sock->fd, msg, n, MSG_DONTWAIT | MSG_NOSIGNAL,
			      (struct sockaddr *)&q->from, q->from_len);
}

static bool record(struct query *q, uint8_t rcode, uint16_t reason)
{
	struct log_entry e = {.rec = &q->rec,
			      .q = &q->q,
			      .found = q->found,
			      .rcode = rcode,
			      .reason = reason,
			      .tcp = q->conn != NULL,
			      .took_ns = clock_boot_ns() - q->since_ns};

	return named_log(q->n, &e);
}

/* An answer of our own, without records. Frees @q. */
static void reply(struct query *q, uint8_t rcode, uint16_t reason)
{
	uint8_t msg[DNS_QUERY_MAX];

	if (reason)
		named_count(q->n, reason);
	if (!record(q, rcode, reason))
		rcode = DNS_SERVFAIL;
	send_bytes(q, msg, dns_reply_write(&q->q, rcode, false, msg));
	query_free(q);
}

/* The server's own answer, under the agent's id. Frees @q. */
static void deliver(struct query *q)
{
	size_t max = q->conn ? DNS_MESSAGE_MAX : q->q.udp_size;
	uint8_t msg[DNS_QUERY_MAX];

	if (!q->conn && max > DATAGRAM_MAX)
		max = DATAGRAM_MAX;
	if (!record(q, q->head.rcode, 0)) {
		send_bytes(q, msg, dns_reply_write(&q->q, DNS_SERVFAIL, false, msg));
	} else if (q->nanswer > max || q->head.truncated) {
		send_bytes(q, msg, dns_reply_write(&q->q, q->head.rcode, true, msg));
	} else {
		store_be16(q->answer, q->q.id);
		send_bytes(q, q->answer, q->nanswer);
	}
	query_free(q);
}

static void learn(struct query *q)
{
	q->learn_id = ++q->n->next_id;
	match_learn(q->n, q->learn_id, q->found);
}

static void on_answer(void *ctx, int error, struct slice answer)
{
	struct query *q = ctx;

	q->ask = NULL;
	if (!error) {
		q->found = malloc(sizeof(*q->found));
		q->answer = malloc(answer.n);
		error = q->found && q->answer ? 0 : -ENOMEM;
	}
	if (!error) {
		memcpy(q->answer, answer.p, answer.n);
		q->nanswer = answer.n;
		q->found->nnames = q->found->naddrs = 0;
		error = match_answer(q->n, answer, &q->q, q->found, &q->head);
	}
	if (error)
		reply(q, DNS_SERVFAIL, TG_R_DNS_UPSTREAM);
	else if (q->found->nnames && q->found->service)
		reply(q, DNS_NOERROR, TG_R_DNS_TYPE);
	else if (q->found->too_many && q->found->nnames)
		reply(q, DNS_SERVFAIL, TG_R_DNS_FULL);
	else if (q->found->nnames && q->found->naddrs)
		learn(q);
	else
		deliver(q);
}

void serve_learned(struct named *n, uint64_t id, uint16_t reason)
{
	list_each(it, &n->queries) {
		struct query *q = container_of(it, struct query, link);

		if (q->learn_id != id)
			continue;
		if (reason)
			reply(q, reason == TG_R_DNS_REBIND ? DNS_REFUSED : DNS_SERVFAIL, reason);
		else
			deliver(q);
		return;
	}
}

/* ---------------------------------------------------------------- asking */

/* What is not forwarded: the answer to it in *ret_rcode. */
static uint16_t judge(const struct named *n, const struct dns_query *q, uint8_t *ret_rcode)
{
	bool target;

	if (match_doh(n, q->name)) {
		*ret_rcode = DNS_NXDOMAIN;
		return TG_R_DNS_DOH;
	}
	if (q->type == DNS_T_AXFR || q->type == DNS_T_IXFR || q->type == DNS_T_OPT) {
		*ret_rcode = DNS_REFUSED;
		return TG_R_DNS_TYPE;
	}
	/* RFC 8482: an answer to ANY is whatever the server likes. */
	if (q->type == DNS_T_ANY) {
		*ret_rcode = DNS_NOTIMP;
		return TG_R_DNS_TYPE;
	}
	target = match_host(n, q->name) != NULL;
	if (target && (q->type == DNS_T_SVCB || q->type == DNS_T_HTTPS)) {
		*ret_rcode = DNS_NOERROR;
		return TG_R_DNS_TYPE;
	}
	return 0;
}

static uint32_t open_of(const struct named *n, uint32_t agent)
{
	uint32_t count = 0;

	list_each(it, &n->queries)
		count += container_of(it, struct query, link)->rec.agent == agent;
	return count;
}

/* @proto: where it came from; copied. */
static void take(struct named *n, const struct query *proto, struct slice msg)
{
	struct query *q = calloc(1, sizeof(*q));
	struct dns_ask_config up = named_upstream(n);
	uint8_t rcode = DNS_SERVFAIL;
	uint16_t reason;
	int rc;

	if (!q)
		return;
	*q = *proto;
	q->n = n;
	q->since_ns = clock_boot_ns();
	rc = dns_query_parse(msg, &q->q, &rcode);
	if (rc == -ENOMSG) {
		named_count(n, TG_R_DNS_MALFORMED);
		free(q);
		return;
	}
	list_add_tail(&n->queries, &q->link);
	n->nqueries++;
	if (q->conn)
		q->conn->nqueries++;
	if (n->stats)
		n->stats->accepted++;
	if (rc) {
		reply(q, rcode, TG_R_DNS_MALFORMED);
		return;
	}
	reason = judge(n, &q->q, &rcode);
	if (reason) {
		reply(q, rcode, reason);
		return;
	}
	if (n->nqueries > NAMED_QUERIES || open_of(n, q->rec.agent) > NAMED_AGENT_QUERIES) {
		reply(q, DNS_SERVFAIL, TG_R_OVERLOAD);
		return;
	}
	if (dns_ask_start(&n->loop, &up, &q->q, on_answer, q, &q->ask)) {
		q->ask = NULL;
		reply(q, DNS_SERVFAIL, TG_R_NO_MEMORY);
	}
}

/* ------------------------------------------------------------------- UDP */

/* Nobody that was steered: it is told so, in the words of the protocol, and not forwarded. */
static void refuse_unknown(struct nsock *s, struct query *from, struct slice msg)
{
	uint8_t out[DNS_QUERY_MAX], rcode;

	named_count(s->n, TG_R_DNS_UNKNOWN);
	if (dns_query_parse(msg, &from->q, &rcode) == -ENOMSG)
		return;
	(void)!sendto(s->fd, out, dns_reply_write(&from->q, DNS_REFUSED, false, out),
		      MSG_DONTWAIT | MSG_NOSIGNAL, (struct sockaddr *)&from->from, from->from_len);
}

static bool receive(struct nsock *s)
{
	struct query from = {.sock = s, .from_len = sizeof(from.from)};
	struct tg_asker asker = {.netns_cookie = s->netns_cookie};
	uint8_t data[DATAGRAM_MAX];
	ssize_t len = recvfrom(s->fd, data, sizeof(data), MSG_DONTWAIT, (struct sockaddr *)&from.from,
			       &from.from_len);

	if (len < 0)
		return errno == EINTR || errno == ECONNREFUSED;
	address_mapped((struct sockaddr *)&from.from, asker.addr);
	/* Both families have the port in the same place. */
	asker.port = ntohs(from.from.sin6_port);
	if (kern_asker_get(s->n->asker_map, &asker, &from.rec) || !(from.rec.flags & TG_RECORD_DNS))
		refuse_unknown(s, &from, slice_of(data, (size_t)len));
	else
		take(s->n, &from, slice_of(data, (size_t)len));
	return true;
}

/* ------------------------------------------------------------------- TCP */

static void on_conn_closed(uv_handle_t *h)
{
	struct conn *c = h->data;

	if (--c->nhandles)
		return;
	close(c->fd);
	buf_done(&c->in);
	buf_done(&c->out);
	free(c);
}

static void conn_close(struct conn *c)
{
	if (c->closing)
		return;
	c->closing = true;
	list_each(it, &c->n->queries) {
		struct query *q = container_of(it, struct query, link);

		if (q->conn == c)
			query_free(q);
	}
	list_del(&c->link);
	c->n->nconns--;
	c->poll.data = c->idle.data = c;
	uv_close((uv_handle_t *)&c->poll, on_conn_closed);
	uv_close((uv_handle_t *)&c->idle, on_conn_closed);
}

static void on_conn(uv_poll_t *h, int status, int events);

static void on_idle(uv_timer_t *t)
{
	struct conn *c = container_of(t, struct conn, idle);

	/* A slow name server is not the client's fault. */
	if (c->nqueries && !c->broken)
		(void)uv_timer_start(&c->idle, on_idle, CONN_IDLE_MS, 0);
	else
		conn_close(c);
}

/* Closes from the loop: the caller may be in the middle of a question of this connection. */
static void conn_check(struct conn *c)
{
	if (!c->closing && (c->broken || (c->eof && !c->out.n && !c->nqueries)))
		(void)uv_timer_start(&c->idle, on_idle, 0, 0);
}

static void conn_update(struct conn *c)
{
	int events = (c->out.n ? UV_WRITABLE : 0) | (c->eof ? 0 : UV_READABLE);

	if (c->closing)
		return;
	if (events)
		(void)uv_poll_start(&c->poll, events, on_conn);
	else
		(void)uv_poll_stop(&c->poll);
}

static void conn_write(struct conn *c)
{
	while (c->out.n && !c->closing && !c->broken) {
		ssize_t n = send(c->fd, buf_data(&c->out), c->out.n, MSG_NOSIGNAL | MSG_DONTWAIT);

		if (n <= 0) {
			if (errno != EAGAIN && errno != EINTR) {
				c->broken = true;
			}
			break;
		}
		buf_consume(&c->out, (size_t)n);
	}
	conn_update(c);
	conn_check(c);
}

static void conn_read(struct conn *c)
{
	uint8_t *dst = buf_reserve(&c->in, CONN_IN - c->in.n);
	ssize_t got = dst ? recv(c->fd, dst, CONN_IN - c->in.n, MSG_DONTWAIT) : 0;

	if (got < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (got <= 0) {
		c->eof = true;
		return;
	}
	buf_commit(&c->in, (size_t)got);
	(void)uv_timer_start(&c->idle, on_idle, CONN_IDLE_MS, 0);
	while (c->in.n >= 2 && !c->broken) {
		struct query from = {.conn = c, .rec = c->rec};
		size_t n = load_be16(buf_data(&c->in));
		uint8_t msg[CONN_IN];

		if (n > CONN_IN - 2 || c->nqueries == CONN_QUERIES) {
			named_count(c->n, n > CONN_IN - 2 ? TG_R_DNS_MALFORMED : TG_R_OVERLOAD);
			c->broken = true;
			return;
		}
		if (c->in.n - 2 < n)
			return;
		memcpy(msg, buf_data(&c->in) + 2, n);
		buf_consume(&c->in, n + 2);
		take(c->n, &from, slice_of(msg, n));
	}
}

static void on_conn(uv_poll_t *h, int status, int events)
{
	struct conn *c = container_of(h, struct conn, poll);

	if (status < 0) {
		conn_close(c);
		return;
	}
	if (events & UV_READABLE)
		conn_read(c);
	conn_write(c);
}

static uint32_t conns_of(const struct named *n, uint32_t agent)
{
	uint32_t count = 0;

	list_each(it, &n->conns)
		count += container_of(it, struct conn, link)->rec.agent == agent;
	return count;
}

static bool accept_one(struct nsock *s)
{
	struct named *n = s->n;
	struct tg_record rec;
	struct conn *c;
	int fd = accept4(s->fd, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);

	if (fd < 0)
		return errno == EINTR || errno == ECONNABORTED;
	if (kern_record_get(n->record_map, fd, &rec) || !(rec.flags & TG_RECORD_DNS)) {
		named_count(n, TG_R_DNS_UNKNOWN);
		close(fd);
		return true;
	}
	c = n->nconns < NAMED_CONNS && conns_of(n, rec.agent) < NAMED_AGENT_CONNS ?
		    calloc(1, sizeof(*c)) :
		    NULL;
	if (!c || uv_poll_init(&n->loop, &c->poll, fd)) {
		named_count(n, TG_R_OVERLOAD);
		free(c);
		close(fd);
		return true;
	}
	c->n = n;
	c->fd = fd;
	c->rec = rec;
	c->nhandles = 2;
	buf_init(&c->in, 2 * CONN_IN);
	buf_init(&c->out, CONN_OUT);
	list_add_tail(&n->conns, &c->link);
	n->nconns++;
	(void)uv_timer_init(&n->loop, &c->idle);
	(void)uv_timer_start(&c->idle, on_idle, CONN_IDLE_MS, 0);
	conn_update(c);
	return true;
}

/* --------------------------------------------------------------- sockets */

static void on_socket(uv_poll_t *h, int status, int events)
{
	struct nsock *s = container_of(h, struct nsock, poll);

	for (int i = 0; i < BURST; i++)
		if (!(s->tcp ? accept_one(s) : receive(s)))
			return;
}

int serve_socket(struct named *n, int fd, bool tcp)
{
	struct nsock *s = calloc(1, sizeof(*s));
	socklen_t len = sizeof(s->netns_cookie);
	int rc = s ? 0 : -ENOMEM;

	if (!rc && getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &s->netns_cookie, &len))
		rc = -errno;
	if (!rc)
		rc = uv_poll_init(&n->loop, &s->poll, fd);
	if (rc) {
		free(s);
		return rc;
	}
	s->n = n;
	s->fd = fd;
	s->tcp = tcp;
	list_add_tail(&n->sockets, &s->link);
	return uv_poll_start(&s->poll, UV_READABLE, on_socket);
}

static void on_nsock_closed(uv_handle_t *h)
{
	struct nsock *s = container_of((uv_poll_t *)h, struct nsock, poll);

	close(s->fd);
	free(s);
}

void serve_gone(struct named *n, uint64_t netns_cookie)
{
	list_each(it, &n->queries) {
		struct query *q = container_of(it, struct query, link);

		if (q->sock && q->sock->netns_cookie == netns_cookie)
			query_free(q);
	}
	list_each(it, &n->sockets) {
		struct nsock *s = container_of(it, struct nsock, link);

		if (s->netns_cookie != netns_cookie)
			continue;
		list_del(&s->link);
		uv_close((uv_handle_t *)&s->poll, on_nsock_closed);
	}
}

/* The sockets stay: by them the answers go. */
void serve_retire(struct named *n)
{
	list_each(it, &n->sockets)
		(void)uv_poll_stop(&container_of(it, struct nsock, link)->poll);
}
