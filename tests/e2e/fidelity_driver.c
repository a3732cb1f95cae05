/* SPDX-License-Identifier: MIT */
/*
 * Socket fidelity: a server, and a process that connects to it and hands the socket over, in one program,
 * so that both ends of a connection can be asked. What is between them is the caller's choice.
 *
 *   fidelity_driver rows PORT [CGROUP.PROCS]           a line "name<tab>what came of it" each
 *   fidelity_driver stream PORT MIB [CGROUP.PROCS]     so much to the server, then back
 *
 * With CGROUP.PROCS the process that connects is in that cgroup.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kern/kern_rows_priv.h"

enum { ACCEPT_MS = 20000, SOON_MS = 5000, STREAM_MS = 60000, MIB = 1 << 20 };

static struct sockaddr_in address = {.sin_family = AF_INET};
static int listener = -1, dialer = -1;

static void die(const char *what)
{
	(void)fprintf(stderr, "%s: %s\n", what, strerror(errno));
	exit(2);
}

/* --------------------------------------------------------------- connecting */

static void listen_again(void)
{
	int on = 1;

	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	(void)setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(listener, (struct sockaddr *)&address, sizeof(address)) || listen(listener, 64))
		die("listen");
}

/* A message on the wire between the two processes: bytes to send early; or errno, with a socket if 0. */
static void pass_socket(int up, int fd, int error)
{
	char control[CMSG_SPACE(sizeof(int))] = {0};
	struct iovec iov = {&error, sizeof(error)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

	if (!error) {
		struct cmsghdr *c;

		mh.msg_control = control;
		mh.msg_controllen = sizeof(control);
		c = CMSG_FIRSTHDR(&mh);
		*c = (struct cmsghdr){.cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS,
				      .cmsg_len = CMSG_LEN(sizeof(int))};
		memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	}
	if (sendmsg(up, &mh, MSG_NOSIGNAL) < 0)
		die("pass a socket");
}

static void join(const char *procs)
{
	char pid[32];
	int fd = open(procs, O_WRONLY | O_CLOEXEC), n = snprintf(pid, sizeof(pid), "%d", getpid());

	if (fd < 0 || write(fd, pid, (size_t)n) != n)
		die(procs);
	close(fd);
}

static void dialer_main(int up, const char *procs)
{
	uint32_t early;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (procs)
		join(procs);
	while (recv(up, &early, sizeof(early), 0) == sizeof(early)) {
		int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), error = 0;
		char b[256];

		memset(b, 'e', sizeof(b));
		if (early ? sendto(fd, b, early, MSG_FASTOPEN, (struct sockaddr *)&address,
				   sizeof(address)) < 0
			  : connect(fd, (struct sockaddr *)&address, sizeof(address)) < 0)
			error = errno;
		pass_socket(up, fd, error);
		close(fd);
	}
	_exit(0);
}

static void start_dialer(const char *procs)
{
	int pair[2];
	pid_t pid;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair))
		die("socketpair");
	pid = fork();
	if (pid < 0)
		die("fork");
	if (pid == 0) {
		close(pair[0]);
		dialer_main(pair[1], procs);
	}
	close(pair[1]);
	dialer = pair[0];
}

/* The connected socket, or -1 and errno. */
static int dial(uint32_t early)
{
	char control[CMSG_SPACE(sizeof(int))];
	int error, fd = -1;
	struct iovec iov = {&error, sizeof(error)};
	struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control,
			    .msg_controllen = sizeof(control)};

	if (send(dialer, &early, sizeof(early), MSG_NOSIGNAL) < 0 ||
	    recvmsg(dialer, &mh, MSG_CMSG_CLOEXEC) != sizeof(error))
		die("the connecting process");
	if (CMSG_FIRSTHDR(&mh))
		memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&mh)), sizeof(fd));
	errno = error;
	return fd;
}

static int make_pair(void *ctx, size_t early, struct kern_pair *ret)
{
	int c = dial((uint32_t)early), s;

	(void)ctx;
	if (c < 0)
		return -1;
	s = row_poll(listener, POLLIN, ACCEPT_MS) ? accept4(listener, NULL, NULL, SOCK_CLOEXEC) : -1;
	if (s < 0) {
		close(c);
		errno = ETIMEDOUT;
		return -1;
	}
	*ret = (struct kern_pair){c, s};
	return 0;
}

/* ----------------------------------------------------------- rows of our own */

/* "ab" from @from to @to: the connection is one in use. */
static bool exchange(int from, int to)
{
	char b[2];

	return send(from, "ab", 2, MSG_NOSIGNAL) == 2 && recv(to, b, 2, MSG_WAITALL) == 2;
}

static bool in_use(const struct kern_row_env *e, struct kern_pair *p, char *out)
{
	if (!row_open(e, p, out))
		return false;
	if (exchange(p->c, p->s) && exchange(p->s, p->c))
		return true;
	row_say(out, "no exchange");
	row_close(p);
	return false;
}

/* What recv() gives now or soon. */
static const char *read_soon(int fd, char text[KERN_ROW_TEXT])
{
	char b[64];

	(void)row_poll(fd, POLLIN, SOON_MS);
	return row_result(recv(fd, b, sizeof(b), MSG_DONTWAIT), text);
}

static void name_of(const struct kern_row_env *e, char *out, bool own)
{
	struct sockaddr_in in = {0};
	socklen_t len = sizeof(in);
	struct kern_pair p;
	int r;

	if (!row_open(e, &p, out))
		return;
	r = own ? getsockname(p.c, (struct sockaddr *)&in, &len)
		: getpeername(p.c, (struct sockaddr *)&in, &len);
	row_say(out, "%s%s", r ? "error" : inet_ntoa(in.sin_addr),
		own || in.sin_port == address.sin_port ? "" : ", another port");
	row_close(&p);
}

static void own_name(const struct kern_row_env *e, char *out)
{
	name_of(e, out, true);
}

static void peer_name(const struct kern_row_env *e, char *out)
{
	name_of(e, out, false);
}

static void refused(const struct kern_row_env *e, char *out)
{
	char text[KERN_ROW_TEXT];
	int c;

	(void)e;
	close(listener);
	c = dial(0);
	if (c < 0 && errno == ECONNRESET) /* after it was connected, before it came back */
		row_say(out, "connected, read ECONNRESET");
	else if (c < 0)
		row_say(out, "connect %s", row_result(-1, text));
	else
		row_say(out, "connected, read %s", read_soon(c, text));
	close(c);
	listen_again();
}

static void server_first(const struct kern_row_env *e, char *out)
{
	struct kern_pair p;
	char b[16] = "";

	if (!row_open(e, &p, out))
		return;
	(void)!send(p.s, "220 hi", 6, MSG_NOSIGNAL);
	(void)row_poll(p.c, POLLIN, SOON_MS);
	(void)!recv(p.c, b, sizeof(b) - 1, MSG_DONTWAIT);
	row_say(out, "%s", b);
	row_close(&p);
}

static void silent_close(const struct kern_row_env *e, char *out)
{
	char text[KERN_ROW_TEXT];
	struct kern_pair p;

	if (!row_open(e, &p, out))
		return;
	close(p.c);
	p.c = -1;
	row_say(out, "read %s", read_soon(p.s, text));
	row_close(&p);
}

static void silent_reset(const struct kern_row_env *e, char *out)
{
	char text[KERN_ROW_TEXT];
	struct kern_pair p;

	if (!row_open(e, &p, out))
		return;
	row_reset(&p.c);
	row_say(out, "read %s", read_soon(p.s, text));
	row_close(&p);
}

static void client_reset(const struct kern_row_env *e, char *out)
{
	char text[2][KERN_ROW_TEXT];
	struct kern_pair p;

	if (!in_use(e, &p, out))
		return;
	(void)row_send(p.c, 10);
	(void)row_arrived(p.s, 10);
	row_reset(&p.c);
	(void)row_poll(p.s, POLLRDHUP, SOON_MS);
	(void)read_soon(p.s, text[0]);
	row_say(out, "read %s, then %s", text[0], read_soon(p.s, text[1]));
	row_close(&p);
}

static void so_error(const struct kern_row_env *e, char *out)
{
	struct kern_pair p;
	socklen_t len = sizeof(int);
	int error = -1;
	const char *name;

	if (!in_use(e, &p, out))
		return;
	row_reset(&p.s);
	(void)row_poll(p.c, POLLIN, SOON_MS);
	(void)getsockopt(p.c, SOL_SOCKET, SO_ERROR, &error, &len);
	name = error > 0 ? strerrorname_np(error) : NULL;
	row_say(out, "%s", name ? name : "none");
	row_close(&p);
}

/* The server is gone for good; what the client still says meets nobody. */
static void gone_server(const struct kern_row_env *e, char *out)
{
	char text[3][KERN_ROW_TEXT];
	struct kern_pair p;

	if (!in_use(e, &p, out))
		return;
	close(p.s);
	p.s = -1;
	(void)read_soon(p.c, text[0]);
	(void)row_result(send(p.c, "x", 1, MSG_NOSIGNAL), text[1]);
	(void)row_poll(p.c, 0, SOON_MS); /* POLLERR or POLLHUP */
	(void)row_result(send(p.c, "x", 1, MSG_NOSIGNAL), text[2]);
	row_say(out, "read %s, send %s, then %s", text[0], text[1], text[2]);
	row_close(&p);
}

static void both_ends(const struct kern_row_env *e, char *out)
{
	struct kern_pair p;
	int events;

	if (!in_use(e, &p, out))
		return;
	(void)shutdown(p.c, SHUT_WR);
	(void)row_poll(p.s, POLLRDHUP, SOON_MS);
	close(p.s);
	p.s = -1;
	events = row_poll(p.c, POLLRDHUP, SOON_MS);
	for (int i = 0; i < SOON_MS && !(events & POLLHUP); i++) {
		(void)poll(NULL, 0, 1);
		events = row_poll(p.c, POLLRDHUP | POLLIN, 0);
	}
	row_say(out, "%s%s", events & POLLRDHUP ? "RDHUP" : "-", events & POLLHUP ? "+HUP" : "");
	row_close(&p);
}

/* All is said before anybody reads, and the answer is as long. */
static void half_close_big(const struct kern_row_env *e, char *out)
{
	struct row_later l = {.act = ROW_READ_ALL, .n = 4 * MIB}, back;
	ssize_t last = -1;
	struct kern_pair p;
	bool good = false;
	size_t n = 0;

	if (!in_use(e, &p, out))
		return;
	l.fd = p.s;
	if (row_later(&l)) {
		(void)row_send(p.c, 4 * MIB);
		(void)shutdown(p.c, SHUT_WR);
		row_join(&l);
		back = (struct row_later){.act = ROW_READ_ALL, .n = 4 * MIB, .fd = p.c};
		if (row_later(&back)) {
			(void)row_send(p.s, 4 * MIB);
			close(p.s);
			p.s = -1;
			row_join(&back);
			n = back.n;
			good = back.good;
			(void)row_read_all(p.c, 1, &l.good, &last);
		}
	}
	row_say(out, "%zu, answer %zu %s, %s", l.n, n, good ? "in order" : "WRONG",
		last == 0 ? "end" : "no end");
	row_close(&p);
}

/* A server that does not read: what the client has written, and its end, wait for it. */
static void full_pipe(const struct kern_row_env *e, char *out)
{
	struct timeval tv = {.tv_usec = 200000};
	size_t sent = 0, n;
	struct kern_pair p;
	ssize_t r, last;
	char b[65536], text[KERN_ROW_TEXT];
	bool good;

	if (!in_use(e, &p, out))
		return;
	(void)setsockopt(p.c, SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv));
	do {
		for (size_t i = 0; i < sizeof(b); i++)
			b[i] = (char)row_pattern(sent + i);
		r = send(p.c, b, sizeof(b), MSG_NOSIGNAL);
		sent += r > 0 ? (size_t)r : 0;
	} while (r > 0 && sent < 256u * MIB);
	(void)row_result(r, text);
	close(p.c);
	p.c = -1;
	(void)poll(NULL, 0, 6500); /* longer than somebody's patience */
	n = row_read_all(p.s, 256u * MIB, &good, &last);
	row_say(out, "send %s, then all %s, %s", text, n == sent && good ? "in order" : "LOST OR WRONG",
		last == 0 ? "end" : "no end");
	row_close(&p);
}

static const struct kern_row more_rows[] = {
	{"getsockname", "the own address", false, own_name},
	{"getpeername", "the address that was asked for", false, peer_name},
	{"connect_refused", "a target that is down", false, refused},
	{"server_first", "a server that speaks first", true, server_first},
	{"silent_close", "a client that says nothing and closes", false, silent_close},
	{"silent_reset", "a client that says nothing and resets", false, silent_reset},
	{"client_reset", "data, then a reset, to the server", false, client_reset},
	{"so_error", "SO_ERROR after a reset", false, so_error},
	{"gone_server", "writing to who has closed", false, gone_server},
	{"both_ends", "POLLHUP when both sides have ended", false, both_ends},
	{"half_close_big", "4 MiB each way around an end", true, half_close_big},
	{"full_pipe", "a server that reads long after the client's end, all buffers full", true, full_pipe},
	{0},
};

static int rows(void)
{
	static const struct kern_row *const tables[] = {kern_rows, kern_rows_close, more_rows};
	struct kern_row_env e = {.pair = make_pair};

	for (size_t t = 0; t < ARRAY_SIZE(tables); t++) {
		for (const struct kern_row *r = tables[t]; r->name; r++) {
			char out[KERN_ROW_TEXT] = "";

			r->run(&e, out);
			printf("%s\t%s\n", r->name, out);
			(void)fflush(stdout);
		}
	}
	return 0;
}

/* -------------------------------------------------------------- long streams */

struct reader {
	pthread_t thread;
	int fd;
	uint64_t n, want;
	bool good, end;
};

static void *read_main(void *arg)
{
	struct reader *r = arg;
	static uint8_t b[MIB];
	ssize_t got = 1;

	r->good = true;
	while (got > 0 && row_poll(r->fd, POLLIN, STREAM_MS)) {
		got = recv(r->fd, b, sizeof(b), MSG_DONTWAIT);
		for (ssize_t i = 0; i < got; i++)
			r->good &= b[i] == row_pattern((size_t)(r->n + (uint64_t)i));
		r->n += got > 0 ? (uint64_t)got : 0;
	}
	r->end = got == 0;
	return NULL;
}

/* @n bytes and an end; another thread reads. */
static bool one_way(int from, int to, uint64_t n)
{
	struct reader r = {.fd = to, .want = n};
	bool sent;

	if (pthread_create(&r.thread, NULL, read_main, &r))
		die("thread");
	sent = row_send(from, n) && shutdown(from, SHUT_WR) == 0;
	(void)pthread_join(r.thread, NULL);
	printf("%s\t%llu bytes, %s, %s\n", sent ? "sent" : "refused", (unsigned long long)r.n,
	       r.good ? "in order" : "WRONG", r.end ? "end" : "no end");
	(void)fflush(stdout);
	return sent && r.good && r.end && r.n == n;
}

static int stream(uint64_t mib)
{
	struct kern_pair p;

	if (make_pair(NULL, 0, &p))
		die("connect");
	return one_way(p.c, p.s, mib * MIB) && one_way(p.s, p.c, mib * MIB) ? 0 : 1;
}

int main(int argc, char **argv)
{
	bool is_stream = argc > 3 && strcmp(argv[1], "stream") == 0;
	int at = is_stream ? 4 : 3;

	if (argc < 3 || (!is_stream && strcmp(argv[1], "rows") != 0)) {
		errno = EINVAL;
		die("rows PORT [CGROUP.PROCS] or stream PORT MIB [CGROUP.PROCS]");
	}
	address.sin_port = htons((uint16_t)strtoul(argv[2], NULL, 10));
	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	start_dialer(argc > at ? argv[at] : NULL);
	listen_again();
	return is_stream ? stream(strtoul(argv[3], NULL, 10)) : rows();
}
