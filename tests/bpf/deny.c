/* SPDX-License-Identifier: MIT */
/* Connections, datagrams, sockets and packets that must not get through. */
#include <errno.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "env.h"

static struct dial to_target = {.ip = ADDR4, .port = PORT_TARGET};

static bool nobody_came(void)
{
	CHECK_EQ(accept_in(env.server4, 50), -EAGAIN);
	CHECK_EQ(accept_in(env.server6, 0), -EAGAIN);
	CHECK_EQ(accept_in(env.listen4, 0), -EAGAIN);
	return true;
}

static bool reached(int server)
{
	int c = accept_in(server, 1000);

	CHECK(c >= 0);
	close(c);
	return true;
}

static bool blocked(void)
{
	struct dial d6 = {.ip = ADDR6, .port = PORT_TARGET};

	CHECK(target_mode(TG_MODE_BLOCK, 0));
	CHECK_EQ(client("/agents", 0, dial, &to_target), EPERM);
	CHECK_EQ(client("/agents", 0, dial, &d6), EPERM);
	CHECK_EQ(counted(TG_K_DENIED_BLOCKED), 2);
	return nobody_came();
}

static bool blocked_fails_closed(void)
{
	CHECK(target_mode(TG_MODE_BLOCK, TG_TARGET_FAIL_OPEN));
	env_unlisten();
	CHECK_EQ(client("/agents", 0, dial, &to_target), EPERM);
	return true;
}

static bool no_state(void)
{
	CHECK_EQ(kern_target_delete(env.k, TARGET), 0);
	CHECK_EQ(client("/agents", 0, dial, &to_target), EPERM);
	CHECK_EQ(counted(TG_K_DENIED_BLOCKED), 1);
	return nobody_came();
}

static bool off(void)
{
	CHECK(target_mode(TG_MODE_OFF, 0));
	CHECK_EQ(client("/agents", 0, dial, &to_target), 0);
	CHECK_EQ(counted(TG_K_PASSED_OFF), 1);
	return reached(env.server4);
}

static bool off_expires(void)
{
	struct tg_target_state s = {.mode = TG_MODE_OFF,
				    .off_until_boot_ns = clock_boot_ns() + 300000000u};

	CHECK_EQ(kern_target_set(env.k, TARGET, &s), 0);
	CHECK_EQ(client("/agents", 0, dial, &to_target), 0);
	CHECK(reached(env.server4));
	usleep(350000);
	CHECK_EQ(client("/agents", 0, dial, &to_target), 0);
	CHECK(reached(env.listen4));
	s.mode_after = TG_MODE_BLOCK;
	s.off_until_boot_ns = 1;
	CHECK_EQ(kern_target_set(env.k, TARGET, &s), 0);
	CHECK_EQ(client("/agents", 0, dial, &to_target), EPERM);
	CHECK_EQ(kern_target_get(env.k, TARGET, &s), 0);
	CHECK(s.generation >= 3);
	return true;
}

static bool no_listener(void)
{
	struct dial d6 = {.ip = ADDR6, .port = PORT_TARGET};

	env_unlisten();
	CHECK_EQ(client("/agents", 0, dial, &to_target), ECONNREFUSED);
	CHECK_EQ(client("/agents", 0, dial, &d6), ECONNREFUSED);
	CHECK_EQ(kern_listener_clear(env.k), 0);
	CHECK_EQ(client("/agents", 0, dial, &to_target), ECONNREFUSED);
	CHECK_EQ(counted(TG_K_DENIED_NO_LISTENER), 3);
	return nobody_came();
}

/* Root may have the port, but gets no agent's connection. */
static bool foreign_listener(void)
{
	int fd;

	env_unlisten();
	fd = listener_on("127.0.0.1", env.port);
	CHECK(fd >= 0);
	CHECK_EQ(client("/agents", 0, dial, &to_target), ECONNREFUSED);
	CHECK_EQ(counted(TG_K_DENIED_FOREIGN_LISTENER), 1);
	CHECK_EQ(accept_in(fd, 50), -EAGAIN);
	close(fd);
	return nobody_came();
}

static bool fail_open(void)
{
	struct dial d = {.ip = ADDR4, .port = PORT_TARGET, .send = 4};
	char data[8];
	int c;

	CHECK(target_mode(TG_MODE_STEER, TG_TARGET_FAIL_OPEN));
	CHECK_EQ(client("/agents", 0, dial, &d), 0); /* the daemon is there: steered */
	CHECK(reached(env.listen4));
	env_unlisten();
	CHECK_EQ(client("/agents", 0, dial, &d), 0);
	c = accept_in(env.server4, 1000);
	CHECK(c >= 0);
	CHECK_EQ(recv(c, data, sizeof(data), 0), 4); /* the backstop lets it through too */
	CHECK_EQ(counted(TG_K_FAILED_OPEN), 1);
	CHECK_EQ(counted(TG_K_EGRESS_DROPPED), 0);
	close(c);
	return true;
}

static bool daemon_port(void)
{
	static const char *const ways[] = {"127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1",
					   "::1",	"::",	   "::ffff:0.0.0.0"};
	struct dial d = {.port = env.port};

	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		d.ip = ways[i];
		CHECK_EQ(client("/agents", 0, dial, &d), ECONNREFUSED);
		CHECK_EQ(counted(TG_K_DENIED_DAEMON_PORT), i + 1);
	}
	return nobody_came();
}

static int bind_port(void *arg)
{
	int fd = listener_on(arg, env.port);

	return fd < 0 ? -fd : 0;
}

static bool daemon_port_bound(void)
{
	static char ways[][20] = {"127.0.0.1", "0.0.0.0", "::1", "::", "::ffff:127.0.0.1"};

	env_unlisten();
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		CHECK_EQ(client("/agents", 0, bind_port, ways[i]), EADDRINUSE);
		CHECK_EQ(client("/plain", UID_OTHER, bind_port, ways[i]), EADDRINUSE);
		CHECK_EQ(counted(TG_K_DENIED_BIND), 2 * (i + 1));
	}
	CHECK_EQ(client("/plain", 0, bind_port, ways[0]), 0);
	CHECK_EQ(client("/plain", UID_OTHER, bind_port, (char *)ADDR4), 0);
	return true;
}

/* --- UDP */

struct datagram {
	const char *ip;
	uint16_t port;
	int family;
};

static int send_to(void *arg)
{
	const struct datagram *d = arg;
	struct sockaddr_storage ss;
	socklen_t len;
	int r, fd;

	ss = addr_of(d->ip, d->port, &len);
	fd = socket(d->family ? d->family : ss.ss_family, SOCK_DGRAM, 0);
	if (fd < 0)
		return errno;
	r = sendto(fd, "data", 4, 0, (struct sockaddr *)&ss, len) == 4 ? 0 : errno;
	close(fd);
	return r;
}

static bool udp_refused(void)
{
	struct datagram ways[] = {{ADDR4, PORT_TARGET, 0},
				  {ADDR6, PORT_TARGET, 0},
				  {MAPPED4, PORT_TARGET, 0},
				  {ADDR4, PORT_TARGET, AF_INET6}};
	struct datagram other = {.ip = ADDR4, .port = PORT_FREE};
	struct dial connected = {.ip = ADDR4, .port = PORT_TARGET, .type = SOCK_DGRAM};
	int server = udp_on(ADDR4, PORT_TARGET), elsewhere = udp_on(ADDR4, PORT_FREE);
	struct pollfd p = {.fd = server, .events = POLLIN};
	struct pollfd p2 = {.fd = elsewhere, .events = POLLIN};

	CHECK(server >= 0 && elsewhere >= 0);
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		CHECK_EQ(client("/agents", 0, send_to, &ways[i]), ECONNREFUSED);
	CHECK_EQ(client("/agents", 0, dial, &connected), ECONNREFUSED);
	CHECK_EQ(counted(TG_K_DENIED_PROTOCOL), ARRAY_SIZE(ways) + 1);
	CHECK_EQ(poll(&p, 1, 50), 0);
	CHECK_EQ(client("/agents", 0, send_to, &other), 0);
	CHECK_EQ(poll(&p2, 1, 1000), 1);
	CHECK_EQ(client("/plain", 0, send_to, &ways[0]), 0);
	CHECK_EQ(poll(&p, 1, 1000), 1);
	close(server);
	close(elsewhere);
	return true;
}

static bool udp_own_entry(void)
{
	struct datagram d = {.ip = ADDR4, .port = 53};

	CHECK_EQ(client("/agents", 0, send_to, &d), 0);
	CHECK(protect(ADDR4, 53, IPPROTO_UDP));
	CHECK_EQ(client("/agents", 0, send_to, &d), ECONNREFUSED);
	CHECK(target_mode(TG_MODE_OBSERVE, 0));
	CHECK_EQ(client("/agents", 0, send_to, &d), 0);
	/* At sendmsg and at the backstop, which may see an earlier datagram late on a busy host. */
	CHECK(counted(TG_K_PASSED_OBSERVED) >= 2);
	CHECK(target_mode(TG_MODE_OFF, 0));
	CHECK_EQ(client("/agents", 0, send_to, &d), 0);
	return true;
}

/* --- protocols */

struct make {
	int family, type, protocol;
};

static int make_socket(void *arg)
{
	const struct make *m = arg;
	int r, fd = socket(m->family, m->type, m->protocol);

	r = fd < 0 ? errno : 0;
	if (fd >= 0)
		close(fd);
	return r;
}

static bool protocols(void)
{
	static struct {
		struct make m;
		int want;
	} rows[] = {
		{{AF_INET, SOCK_STREAM, 0}, 0},
		{{AF_INET6, SOCK_STREAM, IPPROTO_TCP}, 0},
		{{AF_INET, SOCK_DGRAM, IPPROTO_UDP}, 0},
		{{AF_INET6, SOCK_DGRAM, 0}, 0},
		{{AF_UNIX, SOCK_STREAM, 0}, 0},
		{{AF_INET, SOCK_STREAM, IPPROTO_MPTCP}, EPROTONOSUPPORT},
		{{AF_INET6, SOCK_STREAM, IPPROTO_MPTCP}, EPROTONOSUPPORT},
		{{AF_INET, SOCK_RAW, IPPROTO_TCP}, EPERM},
		{{AF_INET, SOCK_RAW, IPPROTO_RAW}, EPERM},
		{{AF_INET, SOCK_RAW, IPPROTO_ICMP}, EPERM},
		{{AF_INET6, SOCK_RAW, IPPROTO_UDP}, EPERM},
		{{AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE}, EPROTONOSUPPORT},
	};
	unsigned int denied = 0;

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		CHECK_EQ(client("/agents", 0, make_socket, &rows[i].m), rows[i].want);
		denied += rows[i].want != 0;
		CHECK_EQ(counted(TG_K_DENIED_PROTOCOL), denied);
		CHECK_EQ(client("/plain", 0, make_socket, &rows[i].m), 0);
	}
	return true;
}

static bool ping_socket(void)
{
	struct make m = {AF_INET, SOCK_DGRAM, IPPROTO_ICMP};
	FILE *f = fopen("/proc/sys/net/ipv4/ping_group_range", "w");

	CHECK(f && fputs("0 0", f) >= 0 && fclose(f) == 0);
	CHECK_EQ(client("/plain", 0, make_socket, &m), 0);
	CHECK_EQ(client("/agents", 0, make_socket, &m), EACCES);
	return true;
}

/* --- the backstop */

/* Connects first, is told to send by the parent after the target has been protected. */
static int connect_then_send(void *arg)
{
	static const struct linger now = {.l_onoff = 1};
	int *pipes = arg, fd, r;
	struct sockaddr_storage ss;
	socklen_t len;
	char go;

	ss = addr_of(pipes[4] ? ADDR6 : ADDR4, PORT_TARGET, &len);
	fd = socket(ss.ss_family, SOCK_STREAM, 0);
	r = connect(fd, (struct sockaddr *)&ss, len) ? errno : 0;
	if (write(pipes[1], "c", 1) != 1 || read(pipes[2], &go, 1) != 1)
		return 240;
	if (!r && send(fd, "data", 4, 0) != 4)
		r = errno;
	usleep(100000);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now)); /* retransmit into no other row */
	close(fd);
	return r;
}

/* @uid 0: an agent by its cgroup. */
static bool backstop_for(int v6, const char *cgroup, uid_t uid)
{
	struct tg_addr_key key =
		key_of(v6 ? ADDR6 : ADDR4, PORT_TARGET, IPPROTO_TCP, v6 ? 128 : 32);
	int pipes[5], c, r;
	char data[8];
	pid_t pid;

	pipes[4] = v6;
	CHECK(pipe(pipes) == 0 && pipe(pipes + 2) == 0);
	CHECK_EQ(kern_addr_delete(env.k, &key), 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(client(cgroup, uid, connect_then_send, pipes));
	CHECK(pid > 0 && read(pipes[0], data, 1) == 1);
	c = accept_in(v6 ? env.server6 : env.server4, 1000);
	CHECK(c >= 0);
	CHECK_EQ(kern_addr_set(env.k, &key, TARGET), 0);
	CHECK(write(pipes[3], "g", 1) == 1);
	usleep(150000);
	r = (int)recv(c, data, sizeof(data), MSG_DONTWAIT);
	CHECK(r < 0 && errno == EAGAIN);
	CHECK(counted(TG_K_EGRESS_DROPPED) >= 1);
	close(c);
	for (int i = 0; i < 4; i++)
		close(pipes[i]);
	CHECK(waitpid(pid, NULL, 0) == pid); /* what it still sends would count in the next row */
	return true;
}

static bool backstop4(void)
{
	return backstop_for(0, "/agents", 0);
}

static bool backstop6(void)
{
	return backstop_for(1, "/agents", 0);
}

static bool backstop_uid(void)
{
	CHECK_EQ(kern_agent_uid_set(env.k, UID_AGENT, AGENT_UID), 0);
	CHECK(backstop_for(0, "/plain", UID_AGENT));
	CHECK_EQ(kern_agent_uid_delete(env.k, UID_AGENT), 0);
	return true;
}

/* A raw socket that is older than the agent forges a TCP packet, whole or as a fragment. */
static int forge(void *arg)
{
	struct {
		struct iphdr ip;
		struct tcphdr tcp;
	} p = {.ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_TCP},
	       .tcp = {.dest = htons(PORT_TARGET), .source = htons(999), .doff = 5, .syn = 1}};
	int fd = socket(AF_INET, SOCK_RAW, IPPROTO_RAW);
	struct sockaddr_storage ss;
	socklen_t len;

	ss = addr_of(ADDR4, 0, &len);
	p.ip.daddr = ((struct sockaddr_in *)&ss)->sin_addr.s_addr;
	p.ip.saddr = p.ip.daddr;
	if (fd < 0)
		return errno;
	/* Only the socket stays behind: whoever is inside cannot watch itself. */
	if (!cgroup_join("/daemon") || kern_agent_cgroup_set(env.k, "/plain", AGENT))
		return 240;
	if (sendto(fd, &p, sizeof(p), 0, (struct sockaddr *)&ss, len) > 0)
		return 241;
	p.ip.frag_off = htons(1);
	if (sendto(fd, &p, sizeof(p), 0, (struct sockaddr *)&ss, len) > 0)
		return 242;
	close(fd);
	return 0;
}

static bool backstop_raw(void)
{
	CHECK_EQ(client("/plain", 0, forge, NULL), 0);
	/* Each send failed; more are late ends of connections to a target that was off. */
	CHECK(counted(TG_K_EGRESS_DROPPED) >= 2);
	return true;
}

enum { FRAGMENT = 44, DSTOPTS = 60 };

/* The same over IPv6, with extension headers in front (RFC 8200 section 4). */
static int forge6(void *arg)
{
	struct {
		struct ip6_hdr ip;
		uint8_t ext[3][8]; /* next header, length in 8 bytes less one, ... */
		struct tcphdr tcp;
	} p = {.ip = {.ip6_flow = htonl(6u << 28), .ip6_hlim = 64, .ip6_nxt = DSTOPTS},
	       .ext = {{DSTOPTS, 0, 1, 4}, {FRAGMENT, 0, 1, 4}, {IPPROTO_TCP}},
	       .tcp = {.dest = htons(PORT_TARGET), .source = htons(999), .doff = 5, .syn = 1}};
	int fd = socket(AF_INET6, SOCK_RAW, IPPROTO_RAW);
	struct sockaddr_storage ss;
	socklen_t len;

	ss = addr_of(ADDR6, 0, &len);
	p.ip.ip6_dst = p.ip.ip6_src = ((struct sockaddr_in6 *)&ss)->sin6_addr;
	p.ip.ip6_plen = htons(sizeof(p) - sizeof(p.ip));
	if (fd < 0)
		return errno;
	if (!cgroup_join("/daemon") || kern_agent_cgroup_set(env.k, "/plain", AGENT))
		return 240;
	if (sendto(fd, &p, sizeof(p), 0, (struct sockaddr *)&ss, len) > 0)
		return 241;
	p.tcp.dest = htons(PORT_FREE); /* the port is what made the difference */
	if (sendto(fd, &p, sizeof(p), 0, (struct sockaddr *)&ss, len) != sizeof(p))
		return 242;
	p.ext[2][3] = 8; /* a later fragment: no port to be seen */
	if (sendto(fd, &p, sizeof(p), 0, (struct sockaddr *)&ss, len) > 0)
		return 243;
	close(fd);
	return 0;
}

static bool backstop_raw6(void)
{
	CHECK_EQ(client("/plain", 0, forge6, NULL), 0);
	/* Each send failed; more are late ends of connections to a target that was off. */
	CHECK(counted(TG_K_EGRESS_DROPPED) >= 2);
	return true;
}

/* "Any port of loopback" covers the daemon's own port: steered packets still flow. */
static bool backstop_spares_steered(void)
{
	struct tg_addr_key key = key_of("127.0.0.0", 0, IPPROTO_TCP, 8);
	struct dial d = {.ip = "127.0.0.1", .port = 80, .send = 4};
	char data[8];
	int c;

	CHECK_EQ(kern_addr_set(env.k, &key, TARGET), 0);
	CHECK_EQ(client("/agents", 0, dial, &d), 0);
	c = accept_in(env.listen4, 1000);
	CHECK(c >= 0);
	CHECK_EQ(recv(c, data, sizeof(data), 0), 4);
	CHECK_EQ(counted(TG_K_EGRESS_DROPPED), 0);
	close(c);
	return true;
}

const struct row deny_rows[] = {
	{"deny: blocked target", blocked},
	{"deny: blocked target ignores fail-open", blocked_fails_closed},
	{"deny: address whose target has no state", no_state},
	{"deny: off passes", off},
	{"deny: off with expiry, and what comes after", off_expires},
	{"deny: no listener", no_listener},
	{"deny: foreign listener on the daemon's port", foreign_listener},
	{"deny: fail-open without a daemon", fail_open},
	{"deny: agent on the daemon's port", daemon_port},
	{"deny: bind of the daemon's port", daemon_port_bound},
	{"deny: UDP to a TCP target", udp_refused},
	{"deny: UDP entry; observe and off pass", udp_own_entry},
	{"deny: MPTCP, raw and other protocols", protocols},
	{"deny: ICMP socket", ping_socket},
	{"backstop: IPv4 connection older than the target", backstop4},
	{"backstop: IPv6 connection older than the target", backstop6},
	{"backstop: agent by uid", backstop_uid},
	{"backstop: raw socket older than the agent", backstop_raw},
	{"backstop: the same over IPv6, extension headers", backstop_raw6},
	{"backstop: spares steered packets", backstop_spares_steered},
	{0},
};
