/* SPDX-License-Identifier: MIT */
#include <errno.h>
#include <netinet/tcp.h>
#include <spawn.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "../../bpf/env.h"
#include "kern_ops.h"

enum { CHUNK = 64 << 10, SMALL = 64 };

extern char **environ;

struct kern_op_times kern_op_times;
bool kern_ops_steered;

static int free6 = -1, loopback4 = -1, unix_server = -1;
static struct sockaddr_un unix_addr = {.sun_family = AF_UNIX};
static socklen_t unix_len;

double kern_op_now(clockid_t clock)
{
	struct timespec t;

	(void)clock_gettime(clock, &t);
	return (double)t.tv_sec * 1e9 + (double)t.tv_nsec;
}

/* Closed by a reset: no port is held by a connection that is over. */
static int connect_once(const char *ip, uint16_t port, int listener, int i)
{
	struct linger hard = {.l_onoff = 1};
	double t0, t1, t2;
	socklen_t len;
	struct sockaddr_storage to = addr_of(ip, port, &len);
	int c, fd;

	t0 = kern_op_now(CLOCK_MONOTONIC);
	fd = socket(to.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
	t1 = kern_op_now(CLOCK_MONOTONIC);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, len))
		return errno;
	t2 = kern_op_now(CLOCK_MONOTONIC);
	kern_op_times.socket[i] = t1 - t0;
	kern_op_times.connect[i] = t2 - t1;
	c = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
	if (c < 0 || setsockopt(fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard)))
		return errno;
	(void)close(fd);
	(void)close(c);
	return 0;
}

static int do_connect(int n)
{
	int err = 0;

	for (int i = 0; i < n && !err; i++)
		err = connect_once(ADDR4, PORT_FREE, env.free4, i);
	return err;
}

/* To where steered connections go, not steered: what that way alone costs. */
static int do_loopback(int n)
{
	int err = 0;

	for (int i = 0; i < n && !err; i++)
		err = connect_once("127.0.0.1", PORT_FREE, loopback4, i);
	return err;
}

static int do_connect6(int n)
{
	int err = 0;

	for (int i = 0; i < n && !err; i++)
		err = connect_once(ADDR6, PORT_FREE, free6, i);
	return err;
}

static int do_target(int n)
{
	int err = 0;

	for (int i = 0; i < n && !err; i++)
		err = connect_once(ADDR4, PORT_TARGET, kern_ops_steered ? env.listen4 : env.server4,
				   i);
	return err;
}

static int do_target6(int n)
{
	int err = 0;

	for (int i = 0; i < n && !err; i++)
		err = connect_once(ADDR6, PORT_TARGET, kern_ops_steered ? env.listen6 : env.server6,
				   i);
	return err;
}

static int do_udp(int n)
{
	int a = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), b = udp_on(ADDR4, 0);
	struct sockaddr_in to, from;
	socklen_t len = sizeof(to);
	char byte = 'x';
	int err = 0;

	if (a < 0 || b < 0 || getsockname(b, (struct sockaddr *)&to, &len))
		return errno;
	for (int i = 0; i < n && !err; i++) {
		socklen_t flen = sizeof(from);

		if (sendto(a, &byte, 1, 0, (struct sockaddr *)&to, sizeof(to)) != 1 ||
		    recvfrom(b, &byte, 1, 0, (struct sockaddr *)&from, &flen) != 1)
			err = errno;
	}
	(void)close(a);
	(void)close(b);
	return err;
}

static int do_bind(int n)
{
	int err = 0;

	for (int i = 0; i < n && !err; i++) {
		int fd = udp_on("127.0.0.1", 0);

		err = fd < 0 ? -fd : 0;
		if (fd >= 0)
			(void)close(fd);
	}
	return err;
}

static int do_unix(int n)
{
	int err = 0;

	for (int i = 0; i < n && !err; i++) {
		int c, fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

		if (fd < 0 || connect(fd, (struct sockaddr *)&unix_addr, unix_len))
			return errno;
		c = accept4(unix_server, NULL, NULL, SOCK_CLOEXEC);
		if (c < 0)
			return errno;
		(void)close(fd);
		(void)close(c);
	}
	return err;
}

static int do_fork(int n)
{
	for (int i = 0; i < n; i++) {
		pid_t pid = fork();

		if (!pid)
			_exit(0);
		if (pid < 0 || waitpid(pid, NULL, 0) != pid)
			return errno;
	}
	return 0;
}

static int do_exec(int n)
{
	char name[] = "true", *argv[] = {name, NULL};
	pid_t pid;

	for (int i = 0; i < n; i++) {
		int err = posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ);

		if (err || waitpid(pid, NULL, 0) != pid)
			return err ? err : errno;
	}
	return 0;
}

/* A connection over which @size bytes go at a time, one call each. */
static int stream(int n, size_t size)
{
	static char data[CHUNK];
	struct sockaddr_storage to;
	int fd, c, one = 1, err = 0;
	socklen_t len;

	to = addr_of(ADDR4, PORT_FREE, &len);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&to, len))
		return errno;
	c = accept4(env.free4, NULL, NULL, SOCK_CLOEXEC);
	if (c < 0 || setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)))
		return errno;
	for (int i = 0; i < n && !err; i++)
		if (send(fd, data, size, 0) != (ssize_t)size ||
		    recv(c, data, size, MSG_WAITALL) != (ssize_t)size)
			err = errno;
	(void)close(fd);
	(void)close(c);
	return err;
}

static int do_bulk(int n)
{
	return stream(n, CHUNK);
}

static int do_small(int n)
{
	return stream(n, SMALL);
}

const struct kern_op kern_ops[KERN_OPS] = {
	[OP_CONNECT] = {"connect", do_connect, true, 1},
	[OP_CONNECT6] = {"connect6", do_connect6, true, 1},
	[OP_LOOPBACK] = {"loopback", do_loopback, true, 1},
	[OP_TARGET4] = {"target", do_target, true, 1},
	[OP_TARGET6] = {"target6", do_target6, true, 1},
	[OP_UDP] = {"udp", do_udp, false, 1},
	[OP_BIND] = {"bind", do_bind, false, 1},
	[OP_UNIX] = {"unix", do_unix, false, 1},
	[OP_FORK] = {"fork", do_fork, false, 20},
	[OP_EXEC] = {"exec", do_exec, false, 40},
	[OP_BULK] = {"bulk", do_bulk, false, 1},
	[OP_SMALL] = {"small", do_small, false, 1},
};

bool kern_ops_init(void)
{
	unix_len =
		(socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 +
			    (size_t)snprintf(unix_addr.sun_path + 1, sizeof(unix_addr.sun_path) - 1,
					     "tgbench-%d", getpid()));
	unix_server = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	CHECK(unix_server >= 0);
	CHECK(bind(unix_server, (struct sockaddr *)&unix_addr, unix_len) == 0);
	CHECK(listen(unix_server, 16) == 0);
	free6 = listener_on(ADDR6, PORT_FREE);
	loopback4 = listener_on("127.0.0.1", PORT_FREE);
	CHECK(free6 >= 0 && loopback4 >= 0);
	return true;
}
