/* SPDX-License-Identifier: MIT */
/* Rows: reading, waiting, and what the socket tells of itself. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <linux/tcp.h>
#include <time.h>
#include <unistd.h>

#include "kern/kern_rows_priv.h"

/* ---------------------------------------------------------------- helpers */

static void pause_ms(unsigned ms)
{
	struct timespec ts = {.tv_sec = ms / 1000, .tv_nsec = (long)(ms % 1000) * 1000000};

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

void row_say(char out[KERN_ROW_TEXT], const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(out, KERN_ROW_TEXT, fmt, ap);
	va_end(ap);
}

const char *row_result(ssize_t r, char text[KERN_ROW_TEXT])
{
	const char *name = r < 0 ? strerrorname_np(errno) : NULL;

	if (name)
		row_say(text, "%s", name);
	else
		row_say(text, "%zd", r);
	return text;
}

bool row_open(const struct kern_row_env *env, struct kern_pair *p, char *out)
{
	char text[KERN_ROW_TEXT];

	*p = (struct kern_pair){-1, -1};
	if (env->pair(env->ctx, 0, p) == 0)
		return true;
	row_say(out, "no connection: %s", row_result(-1, text));
	return false;
}

void row_close(struct kern_pair *p)
{
	if (p->c >= 0)
		close(p->c);
	if (p->s >= 0)
		close(p->s);
}

void row_reset(int *fd)
{
	struct linger now = {.l_onoff = 1};

	(void)setsockopt(*fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(*fd);
	*fd = -1;
}

int row_poll(int fd, short events, int ms)
{
	struct pollfd pfd = {.fd = fd, .events = events};
	int r = poll(&pfd, 1, ms);

	return r == 1 ? pfd.revents : 0;
}

bool row_arrived(int fd, size_t n)
{
	char b[8192];

	for (int i = 0; i < ROW_WAIT_MS; i++) {
		ssize_t r = recv(fd, b, n < sizeof(b) ? n : sizeof(b), MSG_PEEK | MSG_DONTWAIT);

		if (r >= 0 && (size_t)r >= n)
			return true;
		pause_ms(1);
	}
	return false;
}

uint8_t row_pattern(size_t offset)
{
	return (uint8_t)(offset * 2654435761u >> 13);
}

bool row_send(int fd, size_t n)
{
	uint8_t b[65536];
	size_t done = 0;

	while (done < n) {
		size_t part = n - done < sizeof(b) ? n - done : sizeof(b);
		ssize_t r;

		for (size_t i = 0; i < part; i++)
			b[i] = row_pattern(done + i);
		r = send(fd, b, part, MSG_NOSIGNAL);
		if (r <= 0)
			return false;
		done += (size_t)r;
	}
	return true;
}

size_t row_read_all(int fd, size_t max, bool *ret_good, ssize_t *ret_last)
{
	uint8_t b[65536];
	size_t done = 0;
	ssize_t r = 1;

	*ret_good = true;
	while (done < max && row_poll(fd, POLLIN, ROW_WAIT_MS)) {
		r = recv(fd, b, max - done < sizeof(b) ? max - done : sizeof(b), MSG_DONTWAIT);
		if (r <= 0)
			break;
		for (ssize_t i = 0; i < r; i++)
			*ret_good &= b[i] == row_pattern(done + (size_t)i);
		done += (size_t)r;
	}
	*ret_last = r;
	return done;
}

/* How often the thread has gone to sleep by itself; *ret_asleep: it does now. */
static unsigned long sleeps(pid_t thread, bool *ret_asleep)
{
	unsigned long n = 0;
	char path[64], line[128];
	FILE *f;

	*ret_asleep = false;
	(void)snprintf(path, sizeof(path), "/proc/self/task/%d/status", (int)thread);
	f = fopen(path, "re");
	while (f && fgets(line, sizeof(line), f)) {
		if (strncmp(line, "State:\tS", 8) == 0)
			*ret_asleep = true;
		else if (sscanf(line, "voluntary_ctxt_switches: %lu", &n) == 1)
			break;
	}
	if (f)
		(void)fclose(f); /* was only read */
	return n;
}

/* It sleeps, for at least 2 ms. */
static unsigned long wait_asleep(pid_t thread)
{
	unsigned long n = 0, before = ULONG_MAX;
	bool asleep = false;

	for (int i = 0; i < ROW_WAIT_MS && !(asleep && n == before); i++) {
		before = asleep ? n : ULONG_MAX;
		pause_ms(2);
		n = sleeps(thread, &asleep);
	}
	return n;
}

/* It woke up, and sleeps again: in the same call, or in one behind it. */
static void wait_again(pid_t thread, unsigned long before)
{
	bool asleep;

	for (int i = 0; i < ROW_WAIT_MS / 10 && sleeps(thread, &asleep) == before; i++)
		pause_ms(1);
	(void)wait_asleep(thread);
}

static void *later_main(void *arg)
{
	struct row_later *l = arg;
	unsigned long n = l->act == ROW_READ_ALL ? 0 : wait_asleep(l->main_id);
	ssize_t last;

	switch (l->act) {
	case ROW_SEND:
		l->good = row_send(l->fd, l->n);
		break;
	case ROW_SIGNAL:
	case ROW_SHUT_WR:
		l->good = l->act == ROW_SIGNAL ? pthread_kill(l->main, SIGUSR1) == 0
					       : shutdown(l->fd, SHUT_WR) == 0;
		wait_again(l->main_id, n);
		l->good &= row_send(l->then_fd, 10);
		break;
	case ROW_RESET:
		row_reset(&l->fd);
		break;
	case ROW_READ_ALL:
		l->n = row_read_all(l->fd, l->n, &l->good, &last);
		break;
	}
	return NULL;
}

bool row_later(struct row_later *l)
{
	l->main = pthread_self();
	l->main_id = gettid();
	l->good = false;
	return pthread_create(&l->thread, NULL, later_main, l) == 0;
}

void row_join(struct row_later *l)
{
	(void)pthread_join(l->thread, NULL);
}

/* ---------------------------------------------------------------- reading */

static void fionread(const struct kern_row_env *env, char *out)
{
	struct kern_pair p;
	int n = -1;

	if (!row_open(env, &p, out))
		return;
	if (row_send(p.s, 1000) && row_arrived(p.c, 1000) && !ioctl(p.c, FIONREAD, &n))
		row_say(out, "%d of 1000", n);
	else
		row_say(out, "nothing came");
	row_close(&p);
}

static void peek(const struct kern_row_env *env, char *out)
{
	struct kern_pair p;
	char b[200], c[200];
	ssize_t one, two;

	if (!row_open(env, &p, out))
		return;
	(void)row_send(p.s, 100);
	(void)row_arrived(p.c, 100);
	one = recv(p.c, b, sizeof(b), MSG_PEEK | MSG_DONTWAIT);
	two = recv(p.c, c, sizeof(c), MSG_DONTWAIT);
	row_say(out, "%zd, then %zd, %s", one, two,
		one == two && one > 0 && memcmp(b, c, (size_t)one) == 0 ? "equal" : "other");
	row_close(&p);
}

static void waitall(const struct kern_row_env *env, char *out)
{
	struct row_later l = {.act = ROW_SEND, .n = 100};
	struct kern_pair p;
	char b[200], text[KERN_ROW_TEXT];

	if (!row_open(env, &p, out))
		return;
	l.fd = p.s;
	(void)row_send(p.s, 100);
	(void)row_arrived(p.c, 100);
	if (row_later(&l)) {
		row_say(out, "%s of 200", row_result(recv(p.c, b, sizeof(b), MSG_WAITALL), text));
		row_join(&l);
	}
	row_close(&p);
}

static void splice_in(const struct kern_row_env *env, char *out)
{
	struct kern_pair p;
	int pipes[2];

	if (!row_open(env, &p, out))
		return;
	(void)row_send(p.s, 1000);
	(void)row_arrived(p.c, 1000);
	/* The flag of splice() alone does not keep it from sleeping. */
	(void)fcntl(p.c, F_SETFL, fcntl(p.c, F_GETFL) | O_NONBLOCK);
	if (pipe2(pipes, O_CLOEXEC) == 0) {
		(void)row_result(splice(p.c, NULL, pipes[1], NULL, 1000, SPLICE_F_NONBLOCK), out);
		close(pipes[0]);
		close(pipes[1]);
	}
	row_close(&p);
}

static void truncate_read(const struct kern_row_env *env, char *out)
{
	struct kern_pair p;

	if (!row_open(env, &p, out))
		return;
	(void)row_send(p.s, 1000);
	(void)row_arrived(p.c, 1000);
	(void)row_result(recv(p.c, NULL, 1000, MSG_TRUNC | MSG_DONTWAIT), out);
	row_close(&p);
}

static void zero_copy_read(const struct kern_row_env *env, char *out)
{
	struct tcp_zerocopy_receive zc = {.length = 65536};
	socklen_t len = sizeof(zc);
	struct kern_pair p;
	char text[KERN_ROW_TEXT];
	void *at;
	int r;

	if (!row_open(env, &p, out))
		return;
	(void)row_send(p.s, 1000);
	(void)row_arrived(p.c, 1000);
	at = mmap(NULL, zc.length, PROT_READ, MAP_SHARED, p.c, 0);
	if (at == MAP_FAILED) {
		row_say(out, "mmap: %s", row_result(-1, text));
	} else {
		zc.address = (uint64_t)(uintptr_t)at;
		r = getsockopt(p.c, IPPROTO_TCP, TCP_ZEROCOPY_RECEIVE, &zc, &len);
		row_say(out, "%s, %u mapped, %u to read", row_result(r, text), zc.length,
			zc.recv_skip_hint);
		(void)munmap(at, 65536);
	}
	row_close(&p);
}

static void late_reader(const struct kern_row_env *env, char *out)
{
	struct kern_pair p;
	ssize_t last;
	size_t n;
	bool good;

	if (!row_open(env, &p, out))
		return;
	(void)row_send(p.s, 65536);
	close(p.s);
	p.s = -1;
	pause_ms(10);
	n = row_read_all(p.c, 1 << 20, &good, &last);
	row_say(out, "%zu %s, then %s", n, good ? "in order" : "WRONG", last == 0 ? "end" : "no end");
	row_close(&p);
}

/* ---------------------------------------------------------------- waiting */

static void rcvlowat(const struct kern_row_env *env, char *out)
{
	struct kern_pair p;
	int low = 500;
	bool early;

	if (!row_open(env, &p, out))
		return;
	(void)setsockopt(p.c, SOL_SOCKET, SO_RCVLOWAT, &low, sizeof(low));
	(void)row_send(p.s, 10);
	(void)row_arrived(p.c, 10);
	early = row_poll(p.c, POLLIN, 5);
	(void)row_send(p.s, 500);
	row_say(out, "%s at 10, %s at 510 of 500", early ? "ready" : "waits",
		row_poll(p.c, POLLIN, ROW_WAIT_MS) ? "ready" : "waits");
	row_close(&p);
}

static void no_op(int signum)
{
	(void)signum;
}

static void signal_restart(const struct kern_row_env *env, char *out)
{
	struct sigaction sa = {.sa_handler = no_op, .sa_flags = SA_RESTART}, old;
	struct row_later l = {.act = ROW_SIGNAL};
	struct kern_pair p;
	char b[100];

	if (!row_open(env, &p, out))
		return;
	l.then_fd = p.s;
	(void)sigaction(SIGUSR1, &sa, &old);
	if (row_later(&l)) {
		(void)row_result(recv(p.c, b, sizeof(b), 0), out);
		row_join(&l);
	}
	(void)sigaction(SIGUSR1, &old, NULL);
	row_close(&p);
}

static void rcvtimeo(const struct kern_row_env *env, char *out)
{
	struct timeval tv = {.tv_usec = 15000};
	struct kern_pair p;
	char b[10];

	if (!row_open(env, &p, out))
		return;
	(void)setsockopt(p.c, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	(void)row_result(recv(p.c, b, sizeof(b), 0), out);
	row_close(&p);
}

/* The wake-up when the peer's acknowledgement of our end arrives. */
static void half_close_wait(const struct kern_row_env *env, char *out)
{
	struct row_later l = {.act = ROW_SHUT_WR};
	struct kern_pair p;
	char b[100];

	if (!row_open(env, &p, out))
		return;
	l.fd = p.c;
	l.then_fd = p.s;
	if (row_later(&l)) {
		(void)row_result(recv(p.c, b, sizeof(b), 0), out);
		row_join(&l);
	}
	row_close(&p);
}

static void epoll_row(const struct kern_row_env *env, char *out, uint32_t flags)
{
	struct epoll_event ev = {.events = EPOLLIN | flags}, got;
	int n[4] = {0}, ep = epoll_create1(EPOLL_CLOEXEC);
	struct kern_pair p;
	char b[100];

	if (ep < 0 || !row_open(env, &p, out)) {
		close(ep);
		return;
	}
	(void)epoll_ctl(ep, EPOLL_CTL_ADD, p.c, &ev);
	n[0] = epoll_wait(ep, &got, 1, 0);
	(void)row_send(p.s, 10);
	(void)row_arrived(p.c, 10);
	n[1] = epoll_wait(ep, &got, 1, ROW_WAIT_MS);
	n[2] = epoll_wait(ep, &got, 1, 0);
	(void)recv(p.c, b, sizeof(b), MSG_DONTWAIT);
	(void)row_send(p.s, 10);
	n[3] = epoll_wait(ep, &got, 1, ROW_WAIT_MS);
	row_say(out, "empty %d, data %d, again %d, more %d", n[0], n[1], n[2], n[3]);
	close(ep);
	row_close(&p);
}

static void epoll_level(const struct kern_row_env *env, char *out)
{
	epoll_row(env, out, 0);
}

static void epoll_edge(const struct kern_row_env *env, char *out)
{
	epoll_row(env, out, EPOLLET);
}

static volatile sig_atomic_t got_sigio;

static void on_sigio(int signum)
{
	(void)signum;
	got_sigio = 1;
}

static void sigio(const struct kern_row_env *env, char *out)
{
	struct sigaction sa = {.sa_handler = on_sigio}, old;
	struct kern_pair p;

	if (!row_open(env, &p, out))
		return;
	(void)sigaction(SIGIO, &sa, &old);
	(void)fcntl(p.c, F_SETOWN, getpid());
	(void)fcntl(p.c, F_SETFL, fcntl(p.c, F_GETFL) | O_ASYNC);
	got_sigio = 0;
	(void)row_send(p.s, 10);
	(void)row_arrived(p.c, 10);
	for (int i = 0; i < 100 && !got_sigio; i++)
		pause_ms(1);
	row_say(out, got_sigio ? "sent" : "none");
	(void)fcntl(p.c, F_SETFL, fcntl(p.c, F_GETFL) & ~O_ASYNC);
	(void)sigaction(SIGIO, &old, NULL);
	row_close(&p);
}

/* ------------------------------------------------ what the socket tells */

static void tcp_info(const struct kern_row_env *env, char *out)
{
	struct tcp_info ti = {0};
	socklen_t len = sizeof(ti);
	struct kern_pair p;
	ssize_t last;
	bool good;

	if (!row_open(env, &p, out))
		return;
	(void)row_send(p.c, 5000);
	(void)row_read_all(p.s, 5000, &good, &last);
	(void)row_send(p.s, 3000);
	(void)row_read_all(p.c, 3000, &good, &last);
	for (int i = 0; i < 100; i++) {
		len = sizeof(ti);
		(void)getsockopt(p.c, IPPROTO_TCP, TCP_INFO, &ti, &len);
		if (ti.tcpi_bytes_acked >= 5000)
			break;
		pause_ms(1);
	}
	row_say(out, "%llu acked, %llu received", (unsigned long long)ti.tcpi_bytes_acked,
		(unsigned long long)ti.tcpi_bytes_received);
	row_close(&p);
}

static void outq(const struct kern_row_env *env, char *out)
{
	struct kern_pair p;
	int n = -1;

	if (!row_open(env, &p, out))
		return;
	(void)row_send(p.c, 1000);
	(void)row_arrived(p.s, 1000);
	for (int i = 0; i < 100 && n; i++) {
		(void)ioctl(p.c, SIOCOUTQ, &n);
		pause_ms(1);
	}
	row_say(out, "%d left", n);
	row_close(&p);
}

static void ulp(const struct kern_row_env *env, char *out)
{
	struct kern_pair p;

	if (!row_open(env, &p, out))
		return;
	(void)row_result(setsockopt(p.c, IPPROTO_TCP, TCP_ULP, "tls", 4), out);
	row_close(&p);
}

const struct kern_row kern_rows[] = {
	{"fionread", "ioctl(FIONREAD) counts the bytes that can be read", false, fionread},
	{"peek", "MSG_PEEK leaves the bytes where they are", false, peek},
	{"waitall", "MSG_WAITALL waits for all of a read", false, waitall},
	{"splice_in", "splice() from the socket to a pipe", false, splice_in},
	{"read_trunc", "MSG_TRUNC without a buffer discards", false, truncate_read},
	{"read_zerocopy", "TCP_ZEROCOPY_RECEIVE", false, zero_copy_read},
	{"late_reader", "bytes of a peer that has closed", true, late_reader},
	{"rcvlowat", "SO_RCVLOWAT and poll()", false, rcvlowat},
	{"signal_restart", "a read that a signal with SA_RESTART interrupts goes on", false,
	 signal_restart},
	{"rcvtimeo", "SO_RCVTIMEO", false, rcvtimeo},
	{"half_close_wait", "a read that waits while the own side is shut down goes on", false,
	 half_close_wait},
	{"epoll_level", "epoll, level-triggered", false, epoll_level},
	{"epoll_edge", "epoll, edge-triggered", false, epoll_edge},
	{"sigio", "SIGIO when bytes arrive", false, sigio},
	{"tcp_info", "TCP_INFO counts bytes", false, tcp_info},
	{"outq", "SIOCOUTQ falls to zero", false, outq},
	{"ulp", "TLS in the kernel can be asked for", false, ulp},
	{0},
};
