/* SPDX-License-Identifier: MIT */
/* Agents' name look-ups: every way a question can leave leads to the resolver, or nowhere. */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "env.h"

enum { PORT_DNS = 53 };
#define SERVER4	      "192.0.2.53" /* nobody is there */
#define SERVER4_OTHER "192.0.2.54"
#define SERVER6	      "2001:db8::53"
#define SERVER_MAPPED "::ffff:192.0.2.53"

/* The resolver's sockets: UDP first, then listening TCP. */
static int sockets[4] = {-1, -1, -1, -1};
static uint16_t resolver_port;
static pid_t echo_pid;

static void close_sockets(void)
{
	for (size_t i = 0; i < ARRAY_SIZE(sockets); i++) {
		if (sockets[i] >= 0)
			close(sockets[i]);
		sockets[i] = -1;
	}
}

static void resolver_stop(void)
{
	if (echo_pid) {
		kill(echo_pid, SIGKILL);
		waitpid(echo_pid, NULL, 0);
		echo_pid = 0;
	}
	close_sockets();
}

/* Gives back what it gets, as a resolver would: from the socket that was asked. */
static void echo(void)
{
	struct pollfd p[2] = {{.fd = sockets[0], .events = POLLIN},
			      {.fd = sockets[1], .events = POLLIN}};
	struct sockaddr_storage from;
	char data[512];

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	while (poll(p, 2, -1) > 0) {
		for (int i = 0; i < 2; i++) {
			socklen_t len = sizeof(from);
			ssize_t n = recvfrom(sockets[i], data, sizeof(data), MSG_DONTWAIT,
					     (struct sockaddr *)&from, &len);

			if (n > 0)
				(void)!sendto(sockets[i], data, (size_t)n, 0,
					      (struct sockaddr *)&from, len);
		}
	}
	_exit(0);
}

static bool resolver_start(void)
{
	struct sockaddr_in in;
	socklen_t len = sizeof(in);

	resolver_stop();
	sockets[0] = udp_on("127.0.0.1", 0);
	CHECK(sockets[0] >= 0 && getsockname(sockets[0], (struct sockaddr *)&in, &len) == 0);
	resolver_port = ntohs(in.sin_port);
	sockets[1] = udp_on("::1", resolver_port);
	sockets[2] = listener_on("127.0.0.1", resolver_port);
	sockets[3] = listener_on("::1", resolver_port);
	CHECK(sockets[1] >= 0 && sockets[2] >= 0 && sockets[3] >= 0);
	CHECK_EQ(kern_resolver_set(env.k, sockets, 4, resolver_port), 0);
	CHECK_EQ(kern_dns_set(env.k, TG_DNS_STEER), 0);
	fflush(stdout);
	echo_pid = fork();
	if (echo_pid == 0)
		echo();
	CHECK(echo_pid > 0);
	return true;
}

/* Every row ends with names left alone, as the others expect them. */
static bool resolver_end(bool ok)
{
	resolver_stop();
	return kern_dns_set(env.k, 0) == 0 && ok;
}

struct question {
	const char *ip;
	int family;	  /* of the socket; 0: of the address */
	bool connected;
	bool msg;	  /* sendmsg() and recvmsg() */
	const char *then; /* another server, from the same socket */
	uint16_t port;	  /* 0: 53 */
	int type;	  /* 0: datagrams */
};

static int ask(int fd, const struct question *q, const struct sockaddr *sa, socklen_t len)
{
	char data[16] = "question";
	struct iovec iov = {data, 8};
	struct msghdr mh = {.msg_name = q->connected ? NULL : (void *)(uintptr_t)sa,
			    .msg_namelen = q->connected ? 0 : len,
			    .msg_iov = &iov,
			    .msg_iovlen = 1};
	ssize_t n;

	if (q->msg)
		n = sendmsg(fd, &mh, 0);
	else if (q->connected)
		n = send(fd, data, 8, 0);
	else
		n = sendto(fd, data, 8, 0, sa, len);
	return n == 8 ? 0 : n < 0 ? errno : 241;
}

/* What comes back comes from @sa, as the asker must see it. */
static int answer(int fd, const struct question *q, const struct sockaddr *sa, socklen_t len)
{
	struct sockaddr_storage from = {0};
	char data[16];
	struct iovec iov = {data, sizeof(data)};
	struct msghdr mh = {.msg_name = &from, .msg_namelen = sizeof(from), .msg_iov = &iov, .msg_iovlen = 1};
	struct pollfd p = {.fd = fd, .events = POLLIN};
	socklen_t got = sizeof(from);
	ssize_t n;

	if (poll(&p, 1, 2000) != 1)
		return ETIMEDOUT;
	if (q->msg) {
		n = recvmsg(fd, &mh, 0);
		got = mh.msg_namelen;
	} else {
		n = recvfrom(fd, data, sizeof(data), 0, (struct sockaddr *)&from, &got);
	}
	if (n != 8)
		return n < 0 ? errno : 242;
	if (got != len || memcmp(&from, sa, len) != 0)
		return 243;
	if (!q->connected)
		return 0;
	got = sizeof(from);
	memset(&from, 0, sizeof(from));
	if (getpeername(fd, (struct sockaddr *)&from, &got))
		return errno;
	return got != len || memcmp(&from, sa, len) != 0 ? 244 : 0;
}

static int ask_one(int fd, const struct question *q, const char *ip)
{
	socklen_t len;
	struct sockaddr_storage ss = addr_of(ip, q->port ? q->port : PORT_DNS, &len);
	int r = 0;

	if (q->family == AF_INET6 && ss.ss_family == AF_INET)
		return sendto(fd, "question", 8, 0, (struct sockaddr *)&ss, len) == 8 ? 0 : errno;
	if (q->connected && connect(fd, (struct sockaddr *)&ss, len))
		return errno;
	if (q->type == SOCK_STREAM)
		return 0;
	r = ask(fd, q, (struct sockaddr *)&ss, len);
	return r ? r : answer(fd, q, (struct sockaddr *)&ss, len);
}

static int question(void *arg)
{
	const struct question *q = arg;
	int fd, r, family = q->family ? q->family : strchr(q->ip, ':') ? AF_INET6 : AF_INET;

	close_sockets();
	fd = socket(family, q->type ? q->type : SOCK_DGRAM, 0);
	if (fd < 0)
		return errno;
	r = ask_one(fd, q, q->ip);
	if (!r && q->then)
		r = ask_one(fd, q, q->then);
	close(fd);
	return r;
}

static bool all_forms(void)
{
	static struct question rows[] = {
		{.ip = SERVER4, .connected = true},
		{.ip = SERVER6, .connected = true},
		{.ip = SERVER_MAPPED, .connected = true},
		{.ip = SERVER4},
		{.ip = SERVER6},
		{.ip = SERVER_MAPPED},
		{.ip = SERVER4, .msg = true},
		{.ip = SERVER6, .msg = true},
		{.ip = SERVER_MAPPED, .msg = true},
		{.ip = SERVER4, .connected = true, .msg = true},
		{.ip = SERVER4, .then = SERVER4_OTHER},
		{.ip = SERVER6, .then = SERVER_MAPPED},
		{.ip = SERVER4, .connected = true, .then = SERVER4_OTHER},
		{.ip = "127.0.0.53"},
		{.ip = "127.0.0.53", .connected = true},
	};
	uint64_t n = 0;

	CHECK(resolver_start());
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		int r = client("/agents", 0, question, &rows[i]);

		if (r)
			printf("          form %zu\n", i);
		CHECK_EQ(r, 0);
		n += rows[i].then ? 2 : 1;
	}
	CHECK_EQ(counted(TG_K_DNS_STEERED), n);
	CHECK_EQ(counted(TG_K_EGRESS_DROPPED), 0);
	return true;
}

static bool udp_forms(void)
{
	return resolver_end(all_forms());
}

static int ask_and_keep(void *arg)
{
	struct question q = {.ip = SERVER4, .connected = *(bool *)arg};

	return question(&q);
}

/* Reads the only record there is. */
static bool only_record(struct tg_asker *key, struct tg_record *r)
{
	struct tg_asker next;
	int fd = kern_asker_fd(env.k);

	CHECK_EQ(bpf_map_get_next_key(fd, NULL, key), 0);
	CHECK(bpf_map_get_next_key(fd, key, &next) != 0 && errno == ENOENT);
	CHECK_EQ(kern_asker_get(fd, key, r), 0);
	return true;
}

static bool forget_askers(void)
{
	char path[160];
	struct tg_asker key;
	int fd;

	snprintf(path, sizeof(path), "%s/%s/maps/tg_askers", env.bpf_dir, TG_ABI_VERSION);
	fd = bpf_obj_get(path);
	CHECK(fd >= 0);
	while (bpf_map_get_next_key(fd, NULL, &key) == 0)
		CHECK_EQ(bpf_map_delete_elem(fd, &key), 0);
	close(fd);
	return true;
}

static int read_asker(void *arg)
{
	const struct tg_asker *key = arg;
	struct tg_record r;
	int fd = kern_asker_fd(env.k);

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || kern_asker_get(fd, key, &r))
		return 240;
	return bpf_map_update_elem(fd, key, &r, BPF_ANY) && errno == EPERM ? 0 : 241;
}

static bool who_asked(void)
{
	struct tg_asker key;
	struct tg_record r;
	uint64_t cookie;
	socklen_t len = sizeof(cookie);

	CHECK(resolver_start());
	CHECK(getsockopt(sockets[0], SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &len) == 0);
	for (int connected = 0; connected < 2; connected++) {
		CHECK(forget_askers());
		CHECK_EQ(client("/agents", 0, ask_and_keep, &(bool){connected}), 0);
		CHECK(only_record(&key, &r));
		CHECK_EQ(key.netns_cookie, cookie);
		CHECK(key.port && key.addr[12] == 127);
		CHECK_EQ(r.agent, AGENT);
		CHECK_EQ(r.flags, TG_RECORD_DNS);
		CHECK_EQ(ntohs(r.port_be), PORT_DNS);
		CHECK_EQ(r.addr[12], 192);
		CHECK(strcmp(r.comm, "test_bpf") == 0 && r.tgid > 1);
	}
	CHECK_EQ(client(NULL, UID_OTHER, read_asker, &key), 0);
	CHECK_EQ(kern_agent_uid_set(env.k, UID_AGENT, AGENT_UID), 0);
	CHECK(forget_askers());
	CHECK_EQ(client("/plain", UID_AGENT, ask_and_keep, &(bool){true}), 0);
	CHECK(only_record(&key, &r));
	CHECK_EQ(r.agent, AGENT_UID);
	CHECK_EQ(r.uid, UID_AGENT);
	return true;
}

static bool askers(void)
{
	return resolver_end(who_asked());
}

static bool tcp_rows(void)
{
	static const struct {
		const char *ip;
		int listener;
	} rows[] = {{SERVER4, 2}, {SERVER6, 3}, {SERVER_MAPPED, 2}};
	struct tg_record r;

	CHECK(resolver_start());
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct dial d = {.ip = rows[i].ip, .port = PORT_DNS, .send = 4};
		struct tg_addr_key key = key_of(rows[i].ip, PORT_DNS, IPPROTO_TCP,
						strchr(rows[i].ip, ':') ? 128 : 32);
		int c;

		CHECK_EQ(client("/agents", 0, dial, &d), 0);
		c = accept_in(sockets[rows[i].listener], 1000);
		CHECK(c >= 0);
		CHECK_EQ(kern_record_get(kern_record_fd(env.k), c, &r), 0);
		CHECK_EQ(r.flags, TG_RECORD_DNS);
		CHECK_EQ(r.agent, AGENT);
		CHECK(r.port_be == key.port_be && memcmp(r.addr, key.addr, 16) == 0);
		close(c);
	}
	CHECK_EQ(kern_tuples_sweep(env.k, 0), 0);
	return true;
}

static bool tcp_forms(void)
{
	return resolver_end(tcp_rows());
}

/* Who may reach nothing but targets may still ask for their names, without a rule for it. */
static bool denied_rows(void)
{
	struct dial d = {.ip = SERVER4, .port = PORT_DNS + 1};
	struct question q = {.ip = SERVER4, .port = PORT_DNS + 1};

	CHECK_EQ(kern_agent_rules_set(env.k, AGENT, &(struct kern_agent_rules){.deny = true}), 0);
	CHECK(all_forms() && tcp_rows());
	CHECK_EQ(counted(TG_K_DENIED_DEFAULT), 0);
	CHECK_EQ(counted(TG_K_EGRESS_UNLISTED), 0);
	CHECK_EQ(client("/agents", 0, dial, &d), EPERM);
	CHECK_EQ(client("/agents", 0, question, &q), EPERM);
	CHECK_EQ(counted(TG_K_DENIED_DEFAULT), 2);
	return true;
}

static bool denied_default(void)
{
	return resolver_end(denied_rows());
}

/* The same where a target has all of loopback: what is steered there is no use of that target. */
static bool loopback_rows(void)
{
	struct tg_addr_key key = key_of("127.0.0.1", 0, IPPROTO_TCP, 32);
	bool ok;

	CHECK_EQ(kern_addr_set(env.k, &key, TARGET), 0);
	ok = resolver_start();
	for (size_t i = 0; ok && i < 3; i++) {
		static const char *const ips[] = {SERVER4, SERVER6, SERVER_MAPPED};
		struct question q = {.ip = ips[i]};

		CHECK_EQ(client("/agents", 0, question, &q), 0);
		q.connected = true;
		CHECK_EQ(client("/agents", 0, question, &q), 0);
	}
	return ok;
}

static bool loopback_target(void)
{
	return resolver_end(loopback_rows());
}

static bool refused_rows(void)
{
	static const uint16_t ports[] = {853, 5353, 5355};
	static const char *const ips[] = {SERVER4, SERVER6, SERVER_MAPPED, "224.0.0.251"};
	struct question q;
	uint64_t n = 0;

	CHECK(resolver_start());
	for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
		for (size_t k = 0; k < ARRAY_SIZE(ips); k++) {
			q = (struct question){.ip = ips[k], .port = ports[i]};
			CHECK_EQ(client("/agents", 0, question, &q), ECONNREFUSED);
			q.connected = true;
			CHECK_EQ(client("/agents", 0, question, &q), ECONNREFUSED);
			q.type = SOCK_STREAM;
			CHECK_EQ(client("/agents", 0, question, &q), ECONNREFUSED);
			n += 3;
		}
	}
	CHECK_EQ(counted(TG_K_DENIED_DNS), n);
	return true;
}

static bool ways_round(void)
{
	return resolver_end(refused_rows());
}

/* The resolver's port is reached by asking a server, never by itself. */
static bool own_port_rows(void)
{
	struct question q;

	CHECK(resolver_start());
	q = (struct question){.ip = "127.0.0.1", .port = resolver_port};
	CHECK_EQ(client("/agents", 0, question, &q), ECONNREFUSED);
	q.connected = true;
	CHECK_EQ(client("/agents", 0, question, &q), ECONNREFUSED);
	q.ip = "::1";
	CHECK_EQ(client("/agents", 0, question, &q), ECONNREFUSED);
	q.type = SOCK_STREAM;
	CHECK_EQ(client("/agents", 0, question, &q), ECONNREFUSED);
	CHECK_EQ(counted(TG_K_DENIED_DAEMON_PORT), 4);
	return true;
}

static bool own_port(void)
{
	return resolver_end(own_port_rows());
}

static int bind_it(void *arg)
{
	int type = *(int *)arg, fd = type == SOCK_STREAM ? listener_on("127.0.0.1", resolver_port)
							 : udp_on("127.0.0.1", resolver_port);

	return fd < 0 ? -fd : 0;
}

static bool down_rows(void)
{
	static int types[] = {SOCK_DGRAM, SOCK_STREAM};
	struct question q = {.ip = SERVER4};
	int foreign;

	CHECK(resolver_start());
	resolver_stop();
	CHECK_EQ(client("/agents", 0, question, &q), ECONNREFUSED);
	q.connected = true;
	CHECK_EQ(client("/agents", 0, question, &q), ECONNREFUSED);
	q.type = SOCK_STREAM;
	CHECK_EQ(client("/agents", 0, question, &q), ECONNREFUSED);
	CHECK_EQ(counted(TG_K_DENIED_NO_LISTENER), 3);
	/* And nobody takes its place. */
	for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
		CHECK_EQ(client("/agents", 0, bind_it, &types[i]), EADDRINUSE);
		CHECK_EQ(client("/plain", UID_OTHER, bind_it, &types[i]), EADDRINUSE);
		CHECK_EQ(client("/plain", 0, bind_it, &types[i]), 0);
	}
	foreign = udp_on("127.0.0.1", resolver_port);
	CHECK(foreign >= 0);
	q.type = 0;
	CHECK_EQ(client("/agents", 0, question, &q), ECONNREFUSED);
	CHECK_EQ(counted(TG_K_DENIED_FOREIGN_LISTENER), 1);
	close(foreign);
	return true;
}

static bool resolver_down(void)
{
	return resolver_end(down_rows());
}

/* A name server that is a target stays one. */
static bool target_rows(void)
{
	struct dial d = {.ip = ADDR4, .port = PORT_DNS};
	struct question q = {.ip = ADDR4};
	struct tg_record r;
	int c;

	CHECK(resolver_start());
	CHECK(protect(ADDR4, PORT_DNS, IPPROTO_TCP));
	CHECK_EQ(client("/agents", 0, dial, &d), 0);
	c = accept_in(env.listen4, 1000);
	CHECK(c >= 0);
	CHECK_EQ(kern_record_get(kern_record_fd(env.k), c, &r), 0);
	CHECK_EQ(r.target, TARGET);
	close(c);
	CHECK_EQ(client("/agents", 0, question, &q), ECONNREFUSED);
	CHECK_EQ(counted(TG_K_DENIED_PROTOCOL), 1);
	return true;
}

static bool server_is_target(void)
{
	return resolver_end(target_rows());
}

static int send_late(void *arg)
{
	int *pipes = arg;
	socklen_t len;
	struct sockaddr_storage ss = addr_of(ADDR4, PORT_DNS, &len);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);
	char c;

	if (fd < 0 || connect(fd, (struct sockaddr *)&ss, len))
		return errno;
	/* From here on the kernel sees no connect any more. */
	if (write(pipes[1], "c", 1) != 1 || read(pipes[2], &c, 1) != 1)
		return 240;
	(void)!send(fd, "question", 8, 0);
	return 0;
}

static bool older_rows(int server)
{
	struct pollfd p = {.fd = server, .events = POLLIN};
	int to[2], from[2], status;
	char c;
	pid_t pid;

	CHECK(server >= 0 && pipe(to) == 0 && pipe(from) == 0);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		int pipes[3] = {0, from[1], to[0]};

		_exit(client("/agents", 0, send_late, pipes));
	}
	CHECK_EQ(read(from[0], &c, 1), 1);
	CHECK(resolver_start());
	CHECK_EQ(write(to[1], "c", 1), 1);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status));
	CHECK_EQ(WEXITSTATUS(status), 0);
	CHECK_EQ(poll(&p, 1, 100), 0);
	/* By each filter that the cgroup has: one that was replaced goes a little later. */
	CHECK(counted(TG_K_EGRESS_DROPPED) >= 1);
	for (int i = 0; i < 2; i++) {
		close(to[i]);
		close(from[i]);
	}
	return true;
}

static bool older_socket(void)
{
	int server = udp_on(ADDR4, PORT_DNS);
	bool ok = resolver_end(older_rows(server));

	if (server >= 0)
		close(server);
	return ok;
}

static bool left_alone_rows(int server)
{
	struct pollfd p = {.fd = server, .events = POLLIN};
	struct dial d = {.ip = ADDR4, .port = PORT_DNS, .type = SOCK_DGRAM, .send = 4};
	char data[8];

	CHECK(server >= 0 && resolver_start());
	/* No agent: to the server that it asks. */
	CHECK_EQ(client("/plain", 0, dial, &d), 0);
	CHECK_EQ(poll(&p, 1, 1000), 1);
	CHECK_EQ(recv(server, data, sizeof(data), 0), 4);
	/* Nor an agent, where names are left alone. */
	CHECK_EQ(kern_dns_set(env.k, 0), 0);
	CHECK_EQ(client("/agents", 0, dial, &d), 0);
	CHECK_EQ(poll(&p, 1, 1000), 1);
	CHECK_EQ(counted(TG_K_DNS_STEERED), 0);
	return true;
}

static bool left_alone(void)
{
	int server = udp_on(ADDR4, PORT_DNS);
	bool ok = resolver_end(left_alone_rows(server));

	if (server >= 0)
		close(server);
	return ok;
}

static int reconnect(void *arg)
{
	struct sockaddr_storage ss, got = {0};
	socklen_t len, got_len = sizeof(got);
	int fd = socket(AF_INET, SOCK_DGRAM, 0);

	ss = addr_of(SERVER4, PORT_DNS, &len);
	if (connect(fd, (struct sockaddr *)&ss, len))
		return errno;
	ss = addr_of(ADDR4, PORT_FREE, &len);
	if (connect(fd, (struct sockaddr *)&ss, len) ||
	    getpeername(fd, (struct sockaddr *)&got, &got_len))
		return errno;
	return memcmp(&ss, &got, sizeof(struct sockaddr_in)) ? 240 : 0;
}

static bool second_rows(void)
{
	CHECK(resolver_start());
	CHECK_EQ(client("/agents", 0, reconnect, NULL), 0);
	return true;
}

static bool second_connect(void)
{
	return resolver_end(second_rows());
}

const struct row name_rows[] = {
	{"names: UDP in all forms, and the source restored", udp_forms},
	{"names: who asked by UDP", askers},
	{"names: TCP, and who asked", tcp_forms},
	{"names: default deny, all the same", denied_default},
	{"names: a target that has all of loopback", loopback_target},
	{"names: DoT, DoQ, mDNS and LLMNR refused", ways_round},
	{"names: the resolver's own port refused", own_port},
	{"names: resolver down, or another in its place", resolver_down},
	{"names: a server that is a target", server_is_target},
	{"names: socket older than the steering", older_socket},
	{"names: not an agent, or off: left alone", left_alone},
	{"names: second connect of a socket", second_connect},
	{0},
};
