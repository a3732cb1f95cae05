/* SPDX-License-Identifier: MIT */
/*
 * Connects as fast as it can, as an agent does, and the server for it: just enough of the
 * PostgreSQL protocol that a session comes to its first ReadyForQuery and ends.
 *   connect_load server [PORT]    prints its port, then every second its counts
 *   connect_load agent PORT N     N processes, until stdin ends; prints their sums
 * CONNECT_LOAD_LATE_S: how long an agent waits for a byte, instead of 30 s.
 * Agents bind 127.0.0.2, so a connection that was not steered has that address at the server: Tidegate's
 * own come from 127.0.0.1.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CLIENTS = 65536, READ = 4096, LATE_S = 30, AGENTS_MAX = 64 };

static const unsigned char welcome[] = {'R', 0, 0, 0, 8, 0, 0, 0, 0, 'S', 0, 0, 0, 22, 's', 'e', 'r',
					'v', 'e', 'r', '_', 'v', 'e', 'r', 's', 'i', 'o', 'n', 0,
					'1', '5', 0, 'Z', 0, 0, 0, 5, 'I'};
static const unsigned char hello[] = {0, 0, 0, 34, 0, 3, 0, 0, 'u', 's', 'e', 'r', 0, 'a', 'g', 'e', 'n',
				      't', 0, 'd', 'a', 't', 'a', 'b', 'a', 's', 'e', 0, 's', 'h', 'o', 'p',
				      0, 0};
static const unsigned char bye[] = {'X', 0, 0, 0, 4};

static double now(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

/* ------------------------------------------------------------------ server */

static bool greeted[CLIENTS];
static unsigned long steered, unsteered, ended;

static void take(int ep, int listen_fd)
{
	struct sockaddr_in peer;
	socklen_t n = sizeof(peer);
	int fd = accept4(listen_fd, (struct sockaddr *)&peer, &n, SOCK_NONBLOCK);
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	if (fd < 0 || fd >= CLIENTS) {
		if (fd >= 0)
			close(fd);
		return;
	}
	if (peer.sin_addr.s_addr == htonl(INADDR_LOOPBACK))
		steered++;
	else
		unsteered++;
	greeted[fd] = false;
	if (epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev))
		close(fd);
}

static void serve(int fd)
{
	unsigned char in[READ];
	ssize_t n = read(fd, in, sizeof(in));

	if (n < 0 && errno == EAGAIN)
		return;
	if (n > 0 && !greeted[fd]) {
		greeted[fd] = true;
		if (write(fd, welcome, sizeof(welcome)) == sizeof(welcome))
			return;
	}
	/* What comes next is the end of the session. */
	ended++;
	close(fd);
}

static int server(uint16_t port)
{
	struct sockaddr_in sin = {.sin_family = AF_INET,
				  .sin_port = htons(port),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), ep = epoll_create1(0);
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd}, got[64];
	socklen_t len = sizeof(sin);
	double told = now();

	if (bind(fd, (struct sockaddr *)&sin, sizeof(sin)) || listen(fd, 4096) ||
	    getsockname(fd, (struct sockaddr *)&sin, &len) || epoll_ctl(ep, EPOLL_CTL_ADD, fd, &ev))
		return 1;
	printf("%u\n", ntohs(sin.sin_port));
	(void)fflush(stdout);
	for (;;) {
		int n = epoll_wait(ep, got, 64, 100);

		for (int i = 0; i < n; i++) {
			if (got[i].data.fd == fd)
				take(ep, fd);
			else
				serve(got[i].data.fd);
		}
		if (now() - told < 0.25)
			continue;
		told = now();
		printf("%lu %lu %lu\n", steered, unsteered, ended);
		(void)fflush(stdout);
	}
}

/* ------------------------------------------------------------------- agents */

struct sums {
	unsigned long ok, failed;
	double longest;
	char why[128]; /* of the first failure */
};

static struct sums *sums; /* one an agent, shared */

static const char *one(uint16_t port)
{
	struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1)};
	struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(port),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	const char *longer = getenv("CONNECT_LOAD_LATE_S");
	struct timeval late = {.tv_sec = longer ? atoi(longer) : LATE_S};
	unsigned char in[READ];
	size_t got = 0;
	int fd = socket(AF_INET, SOCK_STREAM, 0), on = 1;
	const char *why = "socket";

	if (fd < 0)
		return why;
	(void)setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &late, sizeof(late));
	(void)setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &late, sizeof(late));
	(void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
	why = bind(fd, (struct sockaddr *)&from, sizeof(from)) ? "bind" : NULL;
	if (!why && connect(fd, (struct sockaddr *)&to, sizeof(to)))
		why = "connect";
	if (!why && send(fd, hello, hello[3], MSG_NOSIGNAL) != hello[3])
		why = "send";
	while (!why && (got < 6 || in[got - 6] != 'Z')) {
		ssize_t n = recv(fd, in + got, sizeof(in) - got, 0);

		if (n <= 0)
			why = n ? "recv" : "closed";
		got += n > 0 ? (size_t)n : 0;
	}
	if (!why && send(fd, bye, sizeof(bye), MSG_NOSIGNAL) != sizeof(bye))
		why = "send of the end";
	/* Its own end is acknowledged by the server's: nothing may be lost on the way. */
	while (!why) {
		ssize_t n = recv(fd, in, sizeof(in), 0);

		if (n <= 0) {
			why = n ? "recv of the end" : NULL;
			break;
		}
	}
	if (why && errno)
		perror(why);
	close(fd);
	return why;
}

static void loop(uint16_t port, struct sums *s, const volatile sig_atomic_t *stop)
{
	while (!*stop) {
		double begin = now(), took;
		const char *why;

		errno = 0;
		why = one(port);
		took = now() - begin;
		s->longest = took > s->longest ? took : s->longest;
		if (!why) {
			s->ok++;
			continue;
		}
		if (!s->failed++)
			(void)snprintf(s->why, sizeof(s->why), "%s: %s", why, strerror(errno));
	}
}

static volatile sig_atomic_t *stop;

static int agents(uint16_t port, int n)
{
	double begin = now(), longest = 0;
	unsigned long ok = 0, failed = 0;
	const char *why = "";
	char c;

	sums = mmap(NULL, AGENTS_MAX * sizeof(*sums) + sizeof(*stop), PROT_READ | PROT_WRITE,
		    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (sums == MAP_FAILED || n < 1 || n > AGENTS_MAX)
		return 1;
	stop = (volatile sig_atomic_t *)(sums + AGENTS_MAX);
	for (int i = 0; i < n; i++) {
		if (fork() == 0) {
			loop(port, &sums[i], stop);
			_exit(0);
		}
	}
	while (read(0, &c, 1) > 0)
		;
	*stop = 1;
	while (wait(NULL) > 0)
		;
	for (int i = 0; i < n; i++) {
		ok += sums[i].ok;
		failed += sums[i].failed;
		longest = sums[i].longest > longest ? sums[i].longest : longest;
		why = sums[i].failed ? sums[i].why : why;
	}
	printf("{\"ok\": %lu, \"failed\": %lu, \"seconds\": %.3f, \"longest\": %.3f, \"why\": \"%s\"}\n", ok,
	       failed, now() - begin, longest, why);
	return 0;
}

int main(int argc, char **argv)
{
	if ((argc == 2 || argc == 3) && strcmp(argv[1], "server") == 0)
		return server(argc == 3 ? (uint16_t)atoi(argv[2]) : 0);
	if (argc == 4 && strcmp(argv[1], "agent") == 0)
		return agents((uint16_t)atoi(argv[2]), atoi(argv[3]));
	return 2;
}
