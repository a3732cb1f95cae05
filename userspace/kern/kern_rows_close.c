/* SPDX-License-Identifier: MIT */
/* Rows: sending, and the ways in which a connection ends. */
#include <errno.h>
#include <fcntl.h>
#include <linux/errqueue.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "kern/kern_rows_priv.h"

enum { SLOW_MAX = 64 << 20, BIG = 8 << 20 };

/* ---------------------------------------------------------------- sending */

static void early_data(const struct kern_row_env *env, char *out)
{
	struct kern_pair p = {-1, -1};
	char b[300] = {0};
	size_t n = 0;
	ssize_t r;

	if (env->pair(env->ctx, 100, &p)) {
		row_say(out, "no connection");
		return;
	}
	memset(b, 'l', 100);
	for (int i = 0; i < 2; i++)
		(void)!send(p.c, b, 100, MSG_NOSIGNAL);
	memset(b, 0, sizeof(b));
	while (n < sizeof(b) && row_poll(p.s, POLLIN, ROW_WAIT_MS)) {
		r = recv(p.s, b + n, sizeof(b) - n, MSG_DONTWAIT);
		if (r <= 0)
			break;
		n += (size_t)r;
	}
	row_say(out, "%zu, %s", n,
		n == 300 && !memchr(b, 'l', 100) && !memchr(b + 100, 'e', 200) ? "in order"
									       : "WRONG");
	row_close(&p);
}

static void tiny_writes(const struct kern_row_env *env, char *out)
{
	struct kern_pair p;
	ssize_t last;
	size_t n;
	bool good;

	if (!row_open(env, &p, out))
		return;
	for (size_t i = 0; i < 2000; i++) {
		uint8_t c = row_pattern(i);

		(void)!send(p.c, &c, 1, MSG_NOSIGNAL);
	}
	n = row_read_all(p.s, 2000, &good, &last);
	row_say(out, "%zu %s", n, good ? "in order" : "WRONG");
	row_close(&p);
}

static void big_write(const struct kern_row_env *env, char *out, bool from_server)
{
	struct row_later l = {.act = ROW_READ_ALL, .n = BIG};
	struct kern_pair p;
	bool sent = false;

	if (!row_open(env, &p, out))
		return;
	l.fd = from_server ? p.c : p.s;
	if (row_later(&l)) {
		sent = row_send(from_server ? p.s : p.c, BIG);
		row_join(&l);
	}
	row_say(out, "%s, %zu %s", sent ? "sent" : "refused", l.n, l.good ? "in order" : "WRONG");
	row_close(&p);
}

static void big_out(const struct kern_row_env *env, char *out)
{
	big_write(env, out, false);
}

static void big_in(const struct kern_row_env *env, char *out)
{
	big_write(env, out, true);
}

/* A writer whose reader sleeps is told to wait, and all it has written arrives. */
static void slow(const struct kern_row_env *env, char *out, bool from_server)
{
	struct kern_pair p;
	size_t sent = 0, got;
	int from, to, e = 0;
	uint8_t *b;
	ssize_t last;
	bool good;

	if (!row_open(env, &p, out))
		return;
	from = from_server ? p.s : p.c;
	to = from_server ? p.c : p.s;
	b = malloc(16384);
	while (b && sent < SLOW_MAX) {
		ssize_t r;

		for (size_t i = 0; i < 16384; i++)
			b[i] = row_pattern(sent + i);
		r = send(from, b, 16384, MSG_NOSIGNAL | MSG_DONTWAIT);
		e = r < 0 ? errno : 0;
		/* A hop on the way may still be taking bytes. */
		if (e == EAGAIN && row_poll(from, POLLOUT, 30))
			continue;
		if (r <= 0)
			break;
		sent += (size_t)r;
	}
	free(b);
	got = row_read_all(to, sent, &good, &last);
	row_say(out, "%s, %s", e == EAGAIN ? "told to wait" : "no end",
		got == sent && good ? "all in order" : "LOST OR WRONG");
	row_close(&p);
}

static void slow_reader(const struct kern_row_env *env, char *out)
{
	slow(env, out, false);
}

static void slow_agent(const struct kern_row_env *env, char *out)
{
	slow(env, out, true);
}

static bool zerocopy_done(int fd)
{
	char control[256];
	struct msghdr mh = {.msg_control = control, .msg_controllen = sizeof(control)};

	if (!(row_poll(fd, 0, 40) & POLLERR))
		return false;
	return recvmsg(fd, &mh, MSG_ERRQUEUE | MSG_DONTWAIT) >= 0 && CMSG_FIRSTHDR(&mh);
}

static void send_zerocopy(const struct kern_row_env *env, char *out)
{
	struct kern_pair p;
	char b[1000] = {0}, text[KERN_ROW_TEXT];
	int on = 1;
	ssize_t r;

	if (!row_open(env, &p, out))
		return;
	(void)setsockopt(p.c, SOL_SOCKET, SO_ZEROCOPY, &on, sizeof(on));
	r = send(p.c, b, sizeof(b), MSG_ZEROCOPY | MSG_NOSIGNAL);
	(void)row_result(r, text);
	(void)row_arrived(p.s, 1000);
	row_say(out, "%s, %s", text, zerocopy_done(p.c) ? "completed" : "never completed");
	row_close(&p);
}

/* 64 KiB by a call that moves them inside the kernel. */
static void from_file(const struct kern_row_env *env, char *out, bool by_pipe)
{
	int fd = memfd_create("tidegate-row", MFD_CLOEXEC), pipes[2] = {-1, -1};
	struct kern_pair p = {-1, -1};
	uint8_t b[65536];
	char text[KERN_ROW_TEXT];
	ssize_t r = -1, last;
	size_t n;
	bool good;

	if (fd < 0 || pipe2(pipes, O_CLOEXEC) || !row_open(env, &p, out))
		goto out;
	for (size_t i = 0; i < sizeof(b); i++)
		b[i] = row_pattern(i);
	if (write(fd, b, sizeof(b)) != sizeof(b) || lseek(fd, 0, SEEK_SET))
		goto out;
	if (!by_pipe)
		r = sendfile(p.c, fd, NULL, sizeof(b));
	else if (splice(fd, NULL, pipes[1], NULL, 32768, 0) > 0)
		r = splice(pipes[0], NULL, p.c, NULL, 32768, 0);
	(void)row_result(r, text);
	n = r > 0 ? row_read_all(p.s, (size_t)r, &good, &last) : 0;
	row_say(out, "%s, %zu %s", text, n, r > 0 && good ? "in order" : "WRONG");
out:
	if (fd >= 0)
		close(fd);
	if (pipes[0] >= 0) {
		close(pipes[0]);
		close(pipes[1]);
	}
	row_close(&p);
}

static void send_file(const struct kern_row_env *env, char *out)
{
	from_file(env, out, false);
}

static void splice_out(const struct kern_row_env *env, char *out)
{
	from_file(env, out, true);
}

static void cork(const struct kern_row_env *env, char *out)
{
	struct kern_pair p;
	int on = 1, off = 0;
	bool early;

	if (!row_open(env, &p, out))
		return;
	(void)setsockopt(p.c, IPPROTO_TCP, TCP_CORK, &on, sizeof(on));
	(void)row_send(p.c, 10);
	early = row_poll(p.s, POLLIN, 20);
	(void)setsockopt(p.c, IPPROTO_TCP, TCP_CORK, &off, sizeof(off));
	row_say(out, "%s while corked, %s after", early ? "arrives" : "held",
		row_arrived(p.s, 10) ? "arrives" : "lost");
	row_close(&p);
}

/* Reads what @fd has, as text. */
static void letters(int fd, size_t want, char *dst, size_t cap)
{
	size_t n = 0;

	dst[0] = '\0';
	while (n < want && row_poll(fd, POLLIN, 50)) {
		ssize_t r = recv(fd, dst + n, cap - n - 1, MSG_DONTWAIT);

		if (r <= 0)
			break;
		n += (size_t)r;
		dst[n] = '\0';
	}
}

static void urgent(char *out, int from, int to)
{
	char c = '-', rest[16], text[KERN_ROW_TEXT];
	ssize_t r;

	(void)!send(from, "ab", 2, MSG_NOSIGNAL);
	(void)row_arrived(to, 2);
	(void)row_result(send(from, "!", 1, MSG_OOB | MSG_NOSIGNAL), text);
	(void)row_poll(to, POLLPRI, 100);
	r = recv(to, &c, 1, MSG_OOB | MSG_DONTWAIT);
	letters(to, 2, rest, sizeof(rest));
	row_say(out, "sent %s, urgent %c, rest %s", text, r == 1 ? c : '-', rest);
}

static void urgent_out(const struct kern_row_env *env, char *out)
{
	struct kern_pair p;

	if (!row_open(env, &p, out))
		return;
	urgent(out, p.c, p.s);
	row_close(&p);
}

static void urgent_in(const struct kern_row_env *env, char *out)
{
	struct kern_pair p;

	if (!row_open(env, &p, out))
		return;
	urgent(out, p.s, p.c);
	row_close(&p);
}

/* ----------------------------------------------------------------- ending */

/* A word each way first: what ends is a connection in use. */
static bool in_use(const struct kern_row_env *env, struct kern_pair *p, char *out)
{
	char b[8];

	if (!row_open(env, p, out))
		return false;
	if (row_send(p->c, 4) && row_arrived(p->s, 4) && recv(p->s, b, 4, 0) == 4 &&
	    row_send(p->s, 4) && row_arrived(p->c, 4) && recv(p->c, b, 4, 0) == 4)
		return true;
	row_say(out, "no exchange");
	row_close(p);
	return false;
}

static void half_close(const struct kern_row_env *env, char *out)
{
	struct kern_pair p;
	ssize_t last, end;
	size_t n, m;
	bool good;

	if (!in_use(env, &p, out))
		return;
	(void)row_send(p.c, 100);
	(void)shutdown(p.c, SHUT_WR);
	n = row_read_all(p.s, 1000, &good, &last);
	end = last;
	(void)row_send(p.s, 50);
	close(p.s);
	p.s = -1;
	m = row_read_all(p.c, 1000, &good, &last);
	row_say(out, "%zu, %s, answer %zu, %s", n, end == 0 ? "end" : "no end", m,
		last == 0 ? "end" : "no end");
	row_close(&p);
}

static void half_close_server(const struct kern_row_env *env, char *out)
{
	struct kern_pair p;
	ssize_t last, end;
	size_t n, m;
	bool good;

	if (!in_use(env, &p, out))
		return;
	(void)row_send(p.s, 100);
	(void)shutdown(p.s, SHUT_WR);
	n = row_read_all(p.c, 1000, &good, &last);
	end = last;
	(void)row_send(p.c, 50);
	(void)shutdown(p.c, SHUT_WR);
	m = row_read_all(p.s, 1000, &good, &last);
	row_say(out, "%zu, %s, answer %zu, %s", n, end == 0 ? "end" : "no end", m,
		last == 0 ? "end" : "no end");
	row_close(&p);
}

static void hang_up(const struct kern_row_env *env, char *out)
{
	struct kern_pair p;
	int before, after;

	if (!in_use(env, &p, out))
		return;
	before = row_poll(p.c, POLLIN | POLLRDHUP, 5);
	close(p.s);
	p.s = -1;
	after = row_poll(p.c, POLLRDHUP, ROW_WAIT_MS);
	row_say(out, "%s, then %s%s", before ? "events" : "quiet", after & POLLRDHUP ? "RDHUP" : "-",
		after & POLLHUP ? "+HUP" : "");
	row_close(&p);
}

static void reset(const struct kern_row_env *env, char *out)
{
	struct kern_pair p;
	ssize_t last;
	char text[KERN_ROW_TEXT];
	size_t n;
	bool good;

	if (!in_use(env, &p, out))
		return;
	(void)row_send(p.s, 100);
	(void)row_arrived(p.c, 100);
	row_reset(&p.s);
	(void)row_poll(p.c, POLLRDHUP, ROW_WAIT_MS);
	n = row_read_all(p.c, 1000, &good, &last);
	row_say(out, "%zu, then %s", n, last == 0 ? "end" : row_result(last, text));
	row_close(&p);
}

/* Who is inside recv() when the peer resets. */
static void reset_reader(const struct kern_row_env *env, char *out)
{
	struct row_later l = {.act = ROW_RESET};
	struct kern_pair p;
	char b[100];

	if (!in_use(env, &p, out))
		return;
	l.fd = p.s;
	p.s = -1;
	if (row_later(&l)) {
		(void)row_result(recv(p.c, b, sizeof(b), 0), out);
		row_join(&l);
	}
	row_close(&p);
}

static void reset_writer(const struct kern_row_env *env, char *out)
{
	char b[10], text[3][KERN_ROW_TEXT];
	struct kern_pair p;

	if (!in_use(env, &p, out))
		return;
	row_reset(&p.s);
	(void)row_poll(p.c, POLLIN | POLLRDHUP, ROW_WAIT_MS);
	for (int i = 0; i < 2; i++)
		(void)row_result(send(p.c, "x", 1, MSG_NOSIGNAL | MSG_DONTWAIT), text[i]);
	(void)row_result(recv(p.c, b, sizeof(b), MSG_DONTWAIT), text[2]);
	row_say(out, "send %s, %s, read %s", text[0], text[1], text[2]);
	row_close(&p);
}

/* The peer closes without having read. */
static void unread_close(const struct kern_row_env *env, char *out)
{
	char b[100], text[3][KERN_ROW_TEXT];
	struct kern_pair p;

	if (!in_use(env, &p, out))
		return;
	(void)row_send(p.c, 1000);
	(void)row_arrived(p.s, 1000);
	close(p.s);
	p.s = -1;
	(void)row_poll(p.c, POLLIN | POLLRDHUP, ROW_WAIT_MS);
	(void)row_result(recv(p.c, b, sizeof(b), MSG_DONTWAIT), text[0]);
	(void)row_result(send(p.c, b, 10, MSG_NOSIGNAL | MSG_DONTWAIT), text[1]);
	(void)row_poll(p.c, POLLERR, 20);
	(void)row_result(send(p.c, b, 10, MSG_NOSIGNAL | MSG_DONTWAIT), text[2]);
	row_say(out, "read %s, send %s, %s", text[0], text[1], text[2]);
	row_close(&p);
}

static void linger(const struct kern_row_env *env, char *out)
{
	struct linger wait = {.l_onoff = 1, .l_linger = 1};
	struct kern_pair p;
	ssize_t last;
	size_t n;
	bool good;
	int r;

	if (!in_use(env, &p, out))
		return;
	(void)setsockopt(p.c, SOL_SOCKET, SO_LINGER, &wait, sizeof(wait));
	(void)row_send(p.c, 50000);
	r = close(p.c);
	p.c = -1;
	n = row_read_all(p.s, 1 << 20, &good, &last);
	row_say(out, "close %d, %zu %s, %s", r, n, good ? "in order" : "WRONG",
		last == 0 ? "end" : "no end");
	row_close(&p);
}

static void shut_read(const struct kern_row_env *env, char *out)
{
	char b[10], text[KERN_ROW_TEXT];
	struct kern_pair p;

	if (!in_use(env, &p, out))
		return;
	(void)shutdown(p.c, SHUT_RD);
	(void)row_result(recv(p.c, b, sizeof(b), MSG_DONTWAIT), text);
	row_say(out, "read %s, other way %s", text,
		row_send(p.c, 10) && row_arrived(p.s, 10) ? "open" : "closed");
	row_close(&p);
}

const struct kern_row kern_rows_close[] = {
	{"early_data", "data sent with the SYN comes first", true, early_data},
	{"tiny_writes", "2000 writes of a byte", true, tiny_writes},
	{"big_out", "8 MiB from the agent", true, big_out},
	{"big_in", "8 MiB to the agent", true, big_in},
	{"slow_reader", "a server that does not read slows the agent down", true, slow_reader},
	{"slow_agent", "an agent that does not read slows the server down", true, slow_agent},
	{"send_zerocopy", "MSG_ZEROCOPY completes", false, send_zerocopy},
	{"sendfile", "sendfile() to the socket", true, send_file},
	{"splice_out", "splice() from a pipe to the socket", true, splice_out},
	{"cork", "TCP_CORK holds what is written", false, cork},
	{"urgent_out", "MSG_OOB from the agent", false, urgent_out},
	{"urgent_in", "MSG_OOB to the agent", false, urgent_in},
	{"half_close", "the agent ends first, the answer still comes", true, half_close},
	{"half_close_server", "the server ends first, the agent may still send", false,
	 half_close_server},
	{"hang_up", "POLLRDHUP when the server closes", false, hang_up},
	{"reset", "data, then a reset", false, reset},
	{"reset_reader", "a reset while a read waits", false, reset_reader},
	{"reset_writer", "writes after a reset", false, reset_writer},
	{"unread_close", "a server that closes without having read", false, unread_close},
	{"linger", "SO_LINGER, all arrives", true, linger},
	{"shut_read", "shutdown(SHUT_RD)", false, shut_read},
	{0},
};
