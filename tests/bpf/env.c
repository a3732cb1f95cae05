/* SPDX-License-Identifier: MIT */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/if.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <mntent.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "env.h"

struct env env = {.listen4 = -1, .listen6 = -1, .server4 = -1, .server6 = -1, .free4 = -1};

static bool write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		close(fd);
	return ok;
}

bool cgroup_make(const char *path)
{
	char full[256];

	snprintf(full, sizeof(full), "%s%s", env.cgroup, path);
	return mkdir(full, 0755) == 0 || errno == EEXIST;
}

bool cgroup_remove(const char *path)
{
	char full[256];

	snprintf(full, sizeof(full), "%s%s", env.cgroup, path);
	for (int i = 0; i < 100; i++) { /* a child that has just ended still counts for a moment */
		if (rmdir(full) == 0 || errno == ENOENT)
			return true;
		usleep(10000);
	}
	return false;
}

bool cgroup_join(const char *path)
{
	char full[256], pid[32];

	snprintf(full, sizeof(full), "%s%s/cgroup.procs", env.cgroup, path);
	snprintf(pid, sizeof(pid), "%d", getpid());
	return write_file(full, pid);
}

static bool add_addr(int family, const char *ip, unsigned int bits)
{
	struct {
		struct nlmsghdr h;
		struct ifaddrmsg a;
		struct rtattr attr;
		uint8_t addr[16];
	} req = {.h = {.nlmsg_type = RTM_NEWADDR,
		       .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE},
		 .a = {.ifa_family = (uint8_t)family,
		       .ifa_prefixlen = (uint8_t)bits,
		       .ifa_index = 1,
		       .ifa_flags = IFA_F_NODAD},
		 .attr = {.rta_type = IFA_LOCAL}};
	size_t len = family == AF_INET ? 4 : 16;
	struct {
		struct nlmsghdr h;
		struct nlmsgerr e;
		char room[256];
	} reply;
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
	bool ok;

	inet_pton(family, ip, req.addr);
	req.attr.rta_len = (uint16_t)(sizeof(req.attr) + len);
	req.h.nlmsg_len = (uint32_t)(sizeof(req.h) + sizeof(req.a) + sizeof(req.attr) + len);
	ok = fd >= 0 && send(fd, &req, req.h.nlmsg_len, 0) == (ssize_t)req.h.nlmsg_len &&
	     recv(fd, &reply, sizeof(reply), 0) > 0 && reply.h.nlmsg_type == NLMSG_ERROR &&
	     reply.e.error == 0;
	if (fd >= 0)
		close(fd);
	return ok;
}

bool env_netns(void)
{
	struct ifreq ifr = {.ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING};
	int fd;
	bool ok;

	if (unshare(CLONE_NEWNET))
		return false;
	fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	ok = fd >= 0 && ioctl(fd, SIOCSIFFLAGS, &ifr) == 0;
	if (fd >= 0)
		close(fd);
	return ok && add_addr(AF_INET, ADDR4, 32) && add_addr(AF_INET6, ADDR6, 128);
}

struct sockaddr_storage addr_of(const char *ip, uint16_t port, socklen_t *len)
{
	struct sockaddr_storage ss = {0};
	struct sockaddr_in *in = (struct sockaddr_in *)&ss;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&ss;

	if (inet_pton(AF_INET, ip, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons(port);
		*len = sizeof(*in);
	} else if (inet_pton(AF_INET6, ip, &in6->sin6_addr) == 1) {
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons(port);
		*len = sizeof(*in6);
	} else {
		fprintf(stderr, "bad address %s\n", ip);
		abort();
	}
	return ss;
}

static int socket_on(const char *ip, uint16_t port, int type)
{
	socklen_t len;
	struct sockaddr_storage ss = addr_of(ip, port, &len);
	int r, on = 1, fd = socket(ss.ss_family, type | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -errno;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&ss, len) || (type == SOCK_STREAM && listen(fd, 1024))) {
		r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

int listener_on(const char *ip, uint16_t port)
{
	return socket_on(ip, port, SOCK_STREAM);
}

int udp_on(const char *ip, uint16_t port)
{
	return socket_on(ip, port, SOCK_DGRAM);
}

static void drop_fd(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

void env_unlisten(void)
{
	drop_fd(&env.listen4);
	drop_fd(&env.listen6);
}

bool env_listen(void)
{
	struct sockaddr_in in;
	socklen_t len = sizeof(in);

	env_unlisten();
	env.listen4 = listener_on("127.0.0.1", env.port);
	CHECK(env.listen4 >= 0);
	CHECK(getsockname(env.listen4, (struct sockaddr *)&in, &len) == 0);
	env.port = ntohs(in.sin_port);
	env.listen6 = listener_on("::1", env.port);
	CHECK(env.listen6 >= 0);
	CHECK_EQ(kern_listener_set(env.k, env.listen4, env.listen6, env.port), 0);
	return true;
}

struct tg_addr_key key_of(const char *ip, uint16_t port, int protocol, unsigned int bits)
{
	struct tg_addr_key key = {.protocol = (uint8_t)protocol, .port_be = htons(port)};
	socklen_t len;
	struct sockaddr_storage ss = addr_of(ip, port, &len);

	if (ss.ss_family == AF_INET) {
		key.addr[10] = key.addr[11] = 0xff;
		memcpy(key.addr + 12, &((struct sockaddr_in *)&ss)->sin_addr, 4);
		key.prefixlen = 32 + 96 + bits;
	} else {
		memcpy(key.addr, &((struct sockaddr_in6 *)&ss)->sin6_addr, 16);
		key.prefixlen = 32 + bits;
	}
	return key;
}

bool protect(const char *ip, uint16_t port, int protocol)
{
	struct tg_addr_key key = key_of(ip, port, protocol, strchr(ip, ':') ? 128 : 32);

	CHECK_EQ(kern_addr_set(env.k, &key, TARGET), 0);
	return true;
}

bool target_mode(enum tg_target_mode mode, uint8_t flags)
{
	struct tg_target_state s = {.mode = (uint8_t)mode, .flags = flags};

	CHECK_EQ(kern_target_set(env.k, TARGET, &s), 0);
	return true;
}

uint64_t counted(enum tg_kernel_counter c)
{
	uint64_t now[TG_K_COUNT];

	return kern_counters(env.k, now) ? UINT64_MAX : now[c] - env.counters[c];
}

int accept_in(int fd, int ms)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	int c;

	if (poll(&p, 1, ms) != 1)
		return -EAGAIN;
	c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	return c < 0 ? -errno : c;
}

static int drop_addr(void *ctx, const struct tg_addr_key *key, uint32_t target)
{
	return kern_addr_delete(env.k, key);
}

static int drop_cgroup(void *ctx, const char *path, uint32_t agent)
{
	return kern_agent_cgroup_delete(env.k, path);
}

static int drop_uid(void *ctx, uint32_t uid, uint32_t agent)
{
	return kern_agent_uid_delete(env.k, uid);
}

static int drop_target(void *ctx, uint32_t id, const struct tg_target_state *s)
{
	return kern_target_delete(env.k, id);
}

static bool keep_none(void *ctx, uint32_t agent)
{
	return false;
}

static void drain(int fd)
{
	int c;

	while ((c = accept_in(fd, 0)) >= 0)
		close(c);
}

bool env_reset(void)
{
	CHECK_EQ(kern_addr_each(env.k, drop_addr, NULL), 0);
	CHECK_EQ(kern_agent_cgroup_each(env.k, drop_cgroup, NULL), 0);
	CHECK_EQ(kern_agent_uid_each(env.k, drop_uid, NULL), 0);
	CHECK_EQ(kern_target_each(env.k, drop_target, NULL), 0);
	CHECK_EQ(kern_agent_rules_prune(env.k, keep_none, NULL), 0);
	CHECK(cgroup_make("/agents") && cgroup_make("/plain"));
	CHECK_EQ(kern_agent_cgroup_set(env.k, "/agents", AGENT), 0);
	CHECK(target_mode(TG_MODE_STEER, 0));
	CHECK(protect(ADDR4, PORT_TARGET, IPPROTO_TCP));
	CHECK(protect(ADDR6, PORT_TARGET, IPPROTO_TCP));
	CHECK(env_listen());
	drain(env.server4);
	drain(env.server6);
	drain(env.free4);
	CHECK_EQ(kern_counters(env.k, env.counters), 0);
	return true;
}

bool env_init(void)
{
	FILE *f = setmntent("/proc/self/mounts", "r");
	char root[128] = "", error_text[512];
	struct mntent *m;
	struct buf error;
	int r;

	while (f && !root[0] && (m = getmntent(f)))
		if (strcmp(m->mnt_type, "cgroup2") == 0)
			snprintf(root, sizeof(root), "%s", m->mnt_dir);
	if (f)
		endmntent(f);
	if (!root[0]) {
		printf("no cgroup v2 mount\n");
		return false;
	}
	snprintf(env.cgroup, sizeof(env.cgroup), "%s/tgtest-%d", root, getpid());
	snprintf(env.bpf_dir, sizeof(env.bpf_dir), "/sys/fs/bpf/tgtest-%d", getpid());
	if (mkdir(env.cgroup, 0755) || !cgroup_make("/daemon") || !cgroup_join("/daemon")) {
		printf("cannot make %s: %s\n", env.cgroup, strerror(errno));
		return false;
	}
	if (!env_netns()) {
		printf("cannot make a network namespace: %s\n", strerror(errno));
		return false;
	}
	env.paths = (struct kern_paths){.bpf_dir = env.bpf_dir, .cgroup_root = env.cgroup};
	buf_init(&error, sizeof(error_text));
	r = kern_load(&env.paths, &env.k, &error);
	if (r)
		printf("%.*s\n", (int)error.n, (const char *)buf_data(&error));
	buf_done(&error);
	if (r)
		return false;
	env.server4 = listener_on(ADDR4, PORT_TARGET);
	env.server6 = listener_on(ADDR6, PORT_TARGET);
	env.free4 = listener_on(ADDR4, PORT_FREE);
	return env.server4 >= 0 && env.server6 >= 0 && env.free4 >= 0;
}

void env_done(void)
{
	char procs[256], pid[32];
	struct buf error;

	kern_close(env.k);
	env.k = NULL;
	buf_init(&error, 512);
	if (env.paths.bpf_dir && kern_unload(&env.paths, &error))
		printf("unload: %.*s\n", (int)error.n, (const char *)buf_data(&error));
	buf_done(&error);
	snprintf(procs, sizeof(procs), "%s/../cgroup.procs", env.cgroup);
	snprintf(pid, sizeof(pid), "%d", getpid());
	write_file(procs, pid);
	cgroup_remove("/agents");
	cgroup_remove("/plain");
	cgroup_remove("/daemon");
	cgroup_remove("");
}

int client(const char *cgroup, uid_t uid, int (*fn)(void *), void *arg)
{
	pid_t pid;
	int status;

	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		env_unlisten(); /* the kernel must not find it through us */
		if (cgroup && !cgroup_join(cgroup))
			_exit(250);
		if (uid &&
		    (setgroups(0, NULL) || setresgid(uid, uid, uid) || setresuid(uid, uid, uid)))
			_exit(251);
		_exit(fn(arg));
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 252;
}

static int check_peer(int fd, const struct dial *d)
{
	struct sockaddr_storage want, got = {0};
	socklen_t want_len, len = sizeof(got);

	want = addr_of(d->peer ? d->peer : d->ip, d->port, &want_len);
	if (getpeername(fd, (struct sockaddr *)&got, &len))
		return errno;
	if (len != want_len || memcmp(&want, &got, len) != 0)
		return 240; /* the agent must not see the daemon's address */
	return 0;
}

static int finish_nonblocking(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLOUT};
	int err = 0;
	socklen_t len = sizeof(err);

	if (poll(&p, 1, 2000) != 1)
		return ETIMEDOUT;
	return getsockopt(fd, SOL_SOCKET, SO_ERROR, &err, &len) ? errno : err;
}

static int dial_fd(int fd, const struct dial *d, const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_storage from;
	char data[64] = "data";
	socklen_t from_len;
	int r = 0;

	if (d->source) {
		from = addr_of(d->source, 0, &from_len);
		if (bind(fd, (struct sockaddr *)&from, from_len))
			return errno;
	}
	if (d->fastopen) {
		if (sendto(fd, data, (size_t)d->send, MSG_FASTOPEN, sa, len) != d->send)
			return errno;
		return check_peer(fd, d);
	}
	if (connect(fd, sa, len))
		r = errno;
	if (r == EINPROGRESS && d->nonblock)
		r = finish_nonblocking(fd);
	if (!r && d->type != SOCK_DGRAM)
		r = check_peer(fd, d);
	if (!r && d->send && send(fd, data, (size_t)d->send, MSG_NOSIGNAL) != d->send)
		r = errno;
	return r;
}

int dial(void *arg)
{
	const struct dial *d = arg;
	struct dial inner = *d;
	socklen_t len;
	struct sockaddr_storage ss = addr_of(d->ip, d->port, &len);
	int fd, r;

	if (d->from_child) {
		inner.from_child = 0;
		return client(NULL, 0, dial, &inner);
	}
	fd = socket(d->family ? d->family : ss.ss_family,
		    (d->type ? d->type : SOCK_STREAM) | (d->nonblock ? SOCK_NONBLOCK : 0), 0);
	if (fd < 0)
		return errno;
	r = dial_fd(fd, d, (struct sockaddr *)&ss, len);
	close(fd);
	return r;
}
