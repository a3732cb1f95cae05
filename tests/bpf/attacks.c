/* SPDX-License-Identifier: MIT */
/* TCP and what leads to it. */
#include "attacks.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/io_uring.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include "env.h"

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
enum { PROTO_SMC = 256, FAMILY_SMC = 43 };

static int dialed(struct dial d)
{
	d.port = d.port ? d.port : PORT_TARGET;
	d.send = d.type == SOCK_DGRAM ? 4 : d.send;
	return dial(&d);
}

int try_tcp4(struct attempt *a)
{
	return dialed((struct dial){.ip = ADDR4});
}

int try_tcp6(struct attempt *a)
{
	return dialed((struct dial){.ip = ADDR6});
}

int try_tcp_mapped(struct attempt *a)
{
	return dialed((struct dial){.ip = MAPPED4});
}

int try_tcp_nonblocking(struct attempt *a)
{
	return dialed((struct dial){.ip = ADDR4, .nonblock = true, .send = 4});
}

int try_tcp_bound(struct attempt *a)
{
	return dialed((struct dial){.ip = ADDR4, .source = ADDR4});
}

int try_loopback_any(struct attempt *a)
{
	return dialed((struct dial){.ip = "0.0.0.0", .peer = "127.0.0.1"});
}

static int connect_fd(int fd, const char *ip, uint16_t port)
{
	socklen_t len;
	struct sockaddr_storage ss = addr_of(ip, port, &len);

	if (fd < 0)
		return errno;
	return connect(fd, (struct sockaddr *)&ss, len) ? errno : 0;
}

int try_tcp_bound_device(struct attempt *a)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, "lo", 3))
		return errno;
	return connect_fd(fd, ADDR4, PORT_TARGET);
}

/* Connects elsewhere, disconnects, and connects once more with the same socket. */
int try_tcp_again(struct attempt *a)
{
	struct sockaddr unspec = {.sa_family = AF_UNSPEC};
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	int r = connect_fd(fd, ADDR4, PORT_FREE);

	if (r || connect(fd, &unspec, sizeof(unspec)))
		return TRY_BROKEN;
	return connect_fd(fd, ADDR4, PORT_TARGET);
}

static void *in_thread(void *arg)
{
	*(int *)arg = try_tcp4(NULL);
	return NULL;
}

int try_tcp_threads(struct attempt *a)
{
	int r = TRY_BROKEN;
	pthread_t t;

	return pthread_create(&t, NULL, in_thread, &r) || pthread_join(t, NULL) ? TRY_BROKEN : r;
}

static int forked(int depth, bool session)
{
	int status;
	pid_t pid;

	if (!depth)
		return try_tcp4(NULL);
	pid = fork();
	if (pid == 0) {
		if (session && setsid() < 0)
			_exit(TRY_BROKEN);
		_exit(forked(depth - 1, session));
	}
	return pid > 0 && waitpid(pid, &status, 0) == pid ? WEXITSTATUS(status) : TRY_BROKEN;
}

int try_tcp_child(struct attempt *a)
{
	return forked(1, false);
}

int try_tcp_setsid(struct attempt *a)
{
	return forked(1, true);
}

/* An IPv4 address as such, on an IPv6 socket, as long as an IPv6 one: no kernel takes it. */
int try_tcp_family(struct attempt *a)
{
	socklen_t len;
	struct sockaddr_storage ss = addr_of(ADDR4, PORT_TARGET, &len);
	int fd = socket(AF_INET6, SOCK_STREAM, 0);

	if (fd < 0)
		return TRY_BROKEN;
	return connect(fd, (struct sockaddr *)&ss, sizeof(struct sockaddr_in6)) ? errno : 0;
}

/* A cgroup of its own, below the one it is in. */
static bool below(char *dst, size_t cap)
{
	const char *root = strrchr(env.cgroup, '/');
	char line[512], *own = NULL;
	FILE *f = fopen("/proc/self/cgroup", "r");

	while (f && !own && fgets(line, sizeof(line), f))
		if (strncmp(line, "0::", 3) == 0)
			own = strstr(line, root);
	if (f)
		fclose(f);
	if (!own)
		return false;
	own[strcspn(own, "\n")] = 0;
	snprintf(dst, cap, "%s/below", own + strlen(root));
	return true;
}

int try_cgroup_below(struct attempt *a)
{
	char path[256];
	int status;
	pid_t pid;

	if (!below(path, sizeof(path)))
		return TRY_BROKEN;
	if (!cgroup_make(path))
		return errno;
	pid = fork();
	if (pid == 0)
		_exit(cgroup_join(path) ? try_tcp4(NULL) : TRY_BROKEN);
	if (pid < 0 || waitpid(pid, &status, 0) != pid || !cgroup_remove(path))
		return TRY_BROKEN;
	return WEXITSTATUS(status);
}

/* The one in between is gone: its child belongs to somebody else. */
int try_tcp_double_fork(struct attempt *a)
{
	int out[2], r = TRY_BROKEN;
	pid_t pid, between;

	if (pipe(out))
		return TRY_BROKEN;
	pid = fork();
	if (pid == 0) {
		between = getpid();
		if (fork())
			_exit(0);
		while (getppid() == between)
			usleep(1000);
		r = try_tcp4(NULL);
		_exit(write(out[1], &r, sizeof(r)) != sizeof(r));
	}
	waitpid(pid, NULL, 0);
	return read(out[0], &r, sizeof(r)) == sizeof(r) ? r : TRY_BROKEN;
}

/* --- TCP fast open, MPTCP, SMC */

int try_tfo_send(struct attempt *a)
{
	return dialed((struct dial){.ip = ADDR4, .fastopen = true, .send = 4});
}

int try_tfo_connect(struct attempt *a)
{
	int on = 1, r, fd = socket(AF_INET, SOCK_STREAM, 0);

	if (fd < 0 || setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &on, sizeof(on)))
		return TRY_BROKEN;
	r = connect_fd(fd, ADDR4, PORT_TARGET);
	if (r)
		return r;
	return send(fd, "data", 4, MSG_NOSIGNAL) == 4 ? 0 : errno;
}

int try_mptcp(struct attempt *a)
{
	return connect_fd(socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP), ADDR4, PORT_TARGET);
}

int try_smc(struct attempt *a)
{
	int fd = socket(FAMILY_SMC, SOCK_STREAM, 0);

	if (fd < 0)
		fd = socket(AF_INET, SOCK_STREAM, PROTO_SMC);
	return connect_fd(fd, ADDR4, PORT_TARGET);
}

/* --- io_uring, by its system calls */

struct ring {
	int fd;
	uint8_t *sq, *cq;
	struct io_uring_sqe *sqes;
	struct io_uring_params p;
};

static int ring_open(struct ring *r, unsigned int flags)
{
	r->p = (struct io_uring_params){.flags = flags, .sq_thread_idle = 1000};
	r->fd = (int)syscall(SYS_io_uring_setup, 4, &r->p);
	if (r->fd < 0)
		return errno;
	r->sq = mmap(NULL, r->p.sq_off.array + r->p.sq_entries * sizeof(unsigned int),
		     PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
	r->cq = mmap(NULL, r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe),
		     PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_CQ_RING);
	r->sqes = mmap(NULL, r->p.sq_entries * sizeof(*r->sqes), PROT_READ | PROT_WRITE, MAP_SHARED,
		       r->fd, IORING_OFF_SQES);
	return r->sq == MAP_FAILED || r->cq == MAP_FAILED || r->sqes == MAP_FAILED ? TRY_BROKEN : 0;
}

/* Runs one request to its end; *ret_res is what it gave. */
static int ring_run(struct ring *r, const struct io_uring_sqe *sqe, int *ret_res)
{
	unsigned int *tail = (unsigned int *)(r->sq + r->p.sq_off.tail);
	unsigned int *array = (unsigned int *)(r->sq + r->p.sq_off.array);
	unsigned int *head = (unsigned int *)(r->cq + r->p.cq_off.head);
	unsigned int *done = (unsigned int *)(r->cq + r->p.cq_off.tail);
	unsigned int mask = *(unsigned int *)(r->cq + r->p.cq_off.ring_mask), at = *head;
	unsigned int flags =
		r->p.flags & IORING_SETUP_SQPOLL ? IORING_ENTER_SQ_WAKEUP : IORING_ENTER_GETEVENTS;

	r->sqes[0] = *sqe;
	array[*tail & (r->p.sq_entries - 1)] = 0;
	__atomic_store_n(tail, *tail + 1, __ATOMIC_RELEASE);
	if (syscall(SYS_io_uring_enter, r->fd, 1, flags & IORING_ENTER_GETEVENTS, flags, NULL, 0) <
	    0)
		return errno;
	for (int i = 0; i < 1000 && __atomic_load_n(done, __ATOMIC_ACQUIRE) == at; i++)
		usleep(1000);
	if (*done == at)
		return TRY_BROKEN;
	*ret_res = ((struct io_uring_cqe *)(r->cq + r->p.cq_off.cqes))[at & mask].res;
	__atomic_store_n(head, at + 1, __ATOMIC_RELEASE);
	return 0;
}

static int ring_connect(unsigned int flags)
{
	socklen_t len;
	struct sockaddr_storage ss = addr_of(ADDR4, PORT_TARGET, &len);
	struct io_uring_sqe sqe = {.opcode = IORING_OP_CONNECT,
				   .fd = socket(AF_INET, SOCK_STREAM, 0),
				   .addr = (uint64_t)(uintptr_t)&ss,
				   .off = len};
	struct ring ring;
	int res = 0, r = ring_open(&ring, flags);

	if (!r)
		r = ring_run(&ring, &sqe, &res);
	return r ? r : -res;
}

int try_uring(struct attempt *a)
{
	return ring_connect(0);
}

int try_uring_sqpoll(struct attempt *a)
{
	return ring_connect(IORING_SETUP_SQPOLL);
}

/* A raw socket, which socket(2) refuses. */
int try_uring_socket(struct attempt *a)
{
	struct io_uring_sqe sqe = {.opcode = 45 /* IORING_OP_SOCKET, 5.19 */,
				   .fd = AF_INET,
				   .off = SOCK_RAW,
				   .len = IPPROTO_RAW};
	struct ring ring;
	int res = 0, r = ring_open(&ring, 0);

	if (!r)
		r = ring_run(&ring, &sqe, &res);
	return r ? r : res < 0 ? -res : 0;
}

/* A datagram by IORING_OP_SENDMSG. */
int try_udp_uring(struct attempt *a)
{
	socklen_t len;
	struct sockaddr_storage ss = addr_of(ADDR4, PORT_TARGET, &len);
	struct iovec iov = {(char *)(uintptr_t) "data", 4};
	struct msghdr m = {.msg_name = &ss, .msg_namelen = len, .msg_iov = &iov, .msg_iovlen = 1};
	struct io_uring_sqe sqe = {.opcode = IORING_OP_SENDMSG,
				   .fd = socket(AF_INET, SOCK_DGRAM, 0),
				   .addr = (uint64_t)(uintptr_t)&m,
				   .len = 1};
	struct ring ring;
	int res = 0, r = ring_open(&ring, 0);

	if (!r)
		r = ring_run(&ring, &sqe, &res);
	return r ? r : res < 0 ? -res : 0;
}

/* --- the daemon's own port */

int try_daemon_port(struct attempt *a)
{
	return connect_fd(socket(AF_INET, SOCK_STREAM, 0), "127.0.0.1", a->daemon_port);
}

int try_daemon_port6(struct attempt *a)
{
	return connect_fd(socket(AF_INET6, SOCK_STREAM, 0), "::1", a->daemon_port);
}

/* While it is down: whoever listens there next collects what other agents send. */
int try_bind_daemon_port(struct attempt *a)
{
	int fd = listener_on("127.0.0.1", a->daemon_port);

	return fd < 0 ? -fd : 0;
}
