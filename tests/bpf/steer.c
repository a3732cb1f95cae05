/* SPDX-License-Identifier: MIT */
/* Connections that reach the daemon, and what it learns of them. */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <netinet/tcp.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "env.h"

/* Takes the connection that waits at the daemon and its record. */
static bool take(int listener, struct tg_record *r)
{
	int c = accept_in(listener, 1000);

	CHECK(c >= 0);
	CHECK_EQ(kern_record_get(kern_record_fd(env.k), c, r), 0);
	close(c);
	return true;
}

static bool steered(struct dial d, int listener, struct tg_record *r)
{
	CHECK_EQ(client("/agents", 0, dial, &d), 0);
	CHECK(take(listener, r));
	CHECK_EQ(counted(TG_K_STEERED), 1);
	CHECK_EQ(counted(TG_K_HANDED_OVER), 1);
	CHECK_EQ(accept_in(env.server4, 0), -EAGAIN);
	CHECK_EQ(accept_in(env.server6, 0), -EAGAIN);
	return true;
}

static bool is_addr(const struct tg_record *r, const char *ip)
{
	struct tg_addr_key key = key_of(ip, PORT_TARGET, IPPROTO_TCP, strchr(ip, ':') ? 128 : 32);

	return memcmp(key.addr, r->addr, sizeof(key.addr)) == 0 && r->port_be == key.port_be;
}

static bool v4(void)
{
	struct tg_record r;
	uint64_t cgroup, cookie;
	socklen_t len = sizeof(cookie);

	CHECK(steered((struct dial){.ip = ADDR4, .port = PORT_TARGET}, env.listen4, &r));
	CHECK(is_addr(&r, ADDR4));
	CHECK_EQ(r.family, AF_INET);
	CHECK_EQ(r.target, TARGET);
	CHECK_EQ(r.agent, AGENT);
	CHECK_EQ(r.flags, 0);
	CHECK_EQ(r.uid, 0);
	CHECK(r.tgid > 1 && r.tid == r.tgid && r.boot_ns > 0);
	CHECK(strcmp(r.comm, "test_bpf") == 0);
	CHECK_EQ(kern_cgroup_id(env.k, "/agents", false, &cgroup), 0);
	CHECK_EQ(r.cgroup_id, cgroup);
	CHECK_EQ(r.task_cgroup_id, cgroup);
	CHECK(getsockopt(env.listen4, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) == 0);
	CHECK_EQ(r.netns_cookie, cookie);
	return true;
}

static bool v6(void)
{
	struct tg_record r;

	CHECK(steered((struct dial){.ip = ADDR6, .port = PORT_TARGET}, env.listen6, &r));
	CHECK(is_addr(&r, ADDR6));
	CHECK_EQ(r.family, AF_INET6);
	return true;
}

static bool v4_mapped(void)
{
	struct tg_record r;

	CHECK(steered((struct dial){.ip = MAPPED4, .port = PORT_TARGET}, env.listen4, &r));
	CHECK(is_addr(&r, ADDR4));
	CHECK_EQ(r.family, AF_INET6);
	return true;
}

static bool nonblocking(void)
{
	struct tg_record r;
	struct dial d = {.ip = ADDR4, .port = PORT_TARGET, .nonblock = true, .send = 4};

	CHECK(steered(d, env.listen4, &r));
	return true;
}

static bool bound_source(void)
{
	struct tg_record r;
	struct dial d = {.ip = ADDR4, .port = PORT_TARGET, .source = ADDR4};

	CHECK(steered(d, env.listen4, &r));
	d = (struct dial){.ip = ADDR6, .port = PORT_TARGET, .source = ADDR6};
	CHECK_EQ(client("/agents", 0, dial, &d), 0);
	CHECK(take(env.listen6, &r));
	return true;
}

static bool fast_open(void)
{
	struct tg_record r;
	struct dial d = {.ip = ADDR4, .port = PORT_TARGET, .fastopen = true, .send = 4};

	CHECK(steered(d, env.listen4, &r));
	return true;
}

static bool child_process(void)
{
	struct tg_record r;
	struct dial d = {.ip = ADDR4, .port = PORT_TARGET, .from_child = 1};

	CHECK(steered(d, env.listen4, &r));
	CHECK_EQ(r.agent, AGENT);
	return true;
}

static bool unspecified_is_loopback(void)
{
	struct tg_record r;
	struct dial d = {.ip = "0.0.0.0", .port = PORT_TARGET, .peer = "127.0.0.1"};

	CHECK(protect("127.0.0.1", PORT_TARGET, IPPROTO_TCP));
	CHECK(protect("::1", PORT_TARGET, IPPROTO_TCP));
	CHECK(steered(d, env.listen4, &r));
	CHECK(is_addr(&r, "127.0.0.1"));
	d = (struct dial){.ip = "::", .port = PORT_TARGET, .peer = "::1"};
	CHECK_EQ(client("/agents", 0, dial, &d), 0);
	CHECK(take(env.listen6, &r));
	CHECK(is_addr(&r, "::1"));
	return true;
}

static bool prefix_and_any_port(void)
{
	struct tg_addr_key net = key_of("10.77.0.0", 0, IPPROTO_TCP, 24);
	struct tg_addr_key old = key_of(ADDR4, PORT_TARGET, IPPROTO_TCP, 32);
	struct dial d = {.ip = ADDR4, .port = PORT_FREE};
	struct tg_record r;

	CHECK_EQ(kern_addr_delete(env.k, &old), 0);
	CHECK_EQ(kern_addr_set(env.k, &net, TARGET), 0);
	CHECK_EQ(client("/agents", 0, dial, &d), 0);
	CHECK(take(env.listen4, &r));
	CHECK_EQ(r.port_be, htons(PORT_FREE));
	CHECK_EQ(accept_in(env.free4, 0), -EAGAIN);
	return true;
}

static bool observe(void)
{
	struct tg_record r;

	CHECK(target_mode(TG_MODE_OBSERVE, 0));
	CHECK(steered((struct dial){.ip = ADDR4, .port = PORT_TARGET}, env.listen4, &r));
	CHECK_EQ(r.flags, TG_RECORD_OBSERVE);
	return true;
}

/* A socket's second connect() must not show the first one's peer. */
static int reconnect(void *arg)
{
	struct sockaddr unspec = {.sa_family = AF_UNSPEC};
	struct sockaddr_storage ss, got;
	socklen_t len, got_len = sizeof(got);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	ss = addr_of(ADDR4, PORT_TARGET, &len);
	if (connect(fd, (struct sockaddr *)&ss, len) || connect(fd, &unspec, sizeof(unspec)))
		return errno;
	ss = addr_of(ADDR4, PORT_FREE, &len);
	if (connect(fd, (struct sockaddr *)&ss, len) ||
	    getpeername(fd, (struct sockaddr *)&got, &got_len))
		return errno;
	return memcmp(&ss, &got, sizeof(struct sockaddr_in)) ? 240 : 0;
}

static bool second_connect(void)
{
	int c;

	CHECK_EQ(client("/agents", 0, reconnect, NULL), 0);
	c = accept_in(env.free4, 1000);
	CHECK(c >= 0);
	close(c);
	return true;
}

static bool many_connections(void)
{
	struct dial d = {.ip = ADDR4, .port = PORT_TARGET, .send = 4};
	struct tg_record r;
	char data[8];
	int c;

	for (int i = 0; i < 300; i++) {
		d.ip = i % 3 == 0 ? ADDR6 : i % 3 == 1 ? MAPPED4 : ADDR4;
		CHECK_EQ(client("/agents", 0, dial, &d), 0);
		c = accept_in(i % 3 == 0 ? env.listen6 : env.listen4, 1000);
		CHECK(c >= 0);
		CHECK_EQ(kern_record_get(kern_record_fd(env.k), c, &r), 0);
		CHECK(is_addr(&r, i % 3 == 0 ? ADDR6 : ADDR4));
		CHECK_EQ(recv(c, data, sizeof(data), 0), 4);
		close(c);
	}
	CHECK_EQ(counted(TG_K_HANDED_OVER), 300);
	CHECK_EQ(counted(TG_K_HANDOVER_MISS), 0);
	CHECK_EQ(kern_tuples_sweep(env.k, 0), 0); /* nothing left behind */
	return true;
}

/* What a worker is: no uid 0, no capability, no_new_privs, one read-only descriptor. */
static int worker(void *arg)
{
	int c = *(int *)arg, fd = kern_record_fd(env.k), r;
	struct tg_record rec;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return errno;
	r = kern_record_get(fd, c, &rec);
	if (r || rec.target != TARGET || rec.agent != AGENT)
		return r ? -r : 240;
	if (!bpf_map_update_elem(fd, &c, &rec, BPF_ANY) || errno != EPERM)
		return 241;
	if (!bpf_map_delete_elem(fd, &c) || errno != EPERM)
		return 242;
	return 0;
}

static bool unprivileged_worker(void)
{
	struct dial d = {.ip = ADDR4, .port = PORT_TARGET};
	int c;

	CHECK_EQ(client("/agents", 0, dial, &d), 0);
	c = accept_in(env.listen4, 1000);
	CHECK(c >= 0);
	CHECK_EQ(client(NULL, UID_OTHER, worker, &c), 0);
	close(c);
	return true;
}

static bool non_agent_untouched(void)
{
	struct dial d = {.ip = ADDR4, .port = PORT_TARGET};
	int c;

	CHECK_EQ(client("/plain", 0, dial, &d), 0);
	c = accept_in(env.server4, 1000);
	CHECK(c >= 0);
	close(c);
	d.ip = ADDR6;
	CHECK_EQ(client(NULL, 0, dial, &d), 0); /* the daemon's own cgroup */
	c = accept_in(env.server6, 1000);
	CHECK(c >= 0);
	close(c);
	for (int i = 0; i < TG_K_COUNT; i++)
		CHECK_EQ(counted(i), 0);
	return true;
}

static bool non_agent_on_daemon_port(void)
{
	struct dial d = {.ip = "127.0.0.1", .port = env.port};
	struct tg_record r;
	int c;

	CHECK_EQ(client("/plain", 0, dial, &d), 0);
	c = accept_in(env.listen4, 1000);
	CHECK(c >= 0);
	CHECK_EQ(kern_record_get(kern_record_fd(env.k), c, &r), -ENOENT);
	CHECK_EQ(counted(TG_K_HANDOVER_MISS), 1);
	close(c);
	return true;
}

const struct row steer_rows[] = {
	{"steer: IPv4, and the whole record", v4},
	{"steer: IPv6", v6},
	{"steer: IPv4-mapped IPv6", v4_mapped},
	{"steer: non-blocking connect", nonblocking},
	{"steer: bound source address", bound_source},
	{"steer: MSG_FASTOPEN", fast_open},
	{"steer: child process", child_process},
	{"steer: 0.0.0.0 and :: are loopback", unspecified_is_loopback},
	{"steer: prefix with any port", prefix_and_any_port},
	{"steer: observe", observe},
	{"steer: second connect of a socket", second_connect},
	{"steer: 300 connections, no tuple left", many_connections},
	{"steer: record read by an unprivileged worker", unprivileged_worker},
	{"steer: not an agent, untouched", non_agent_untouched},
	{"steer: not an agent, daemon's port: no record", non_agent_on_daemon_port},
	{0},
};
