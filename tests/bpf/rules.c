/* SPDX-License-Identifier: MIT */
/* What an agent may reach besides targets: default deny, AF_UNIX paths, and the sweep. */
#include <errno.h>
#include <poll.h>
#include <stddef.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/clock.h"
#include "env.h"
#include "kern/kern_ways.h"
#include "tidegate_rules.h"

#define NEEDS_UNIX  NEEDS(kern_way_closed(KERN_WAY_UNIX), "no connect_unix before 6.7")
#define NEEDS_SWEEP NEEDS(kern_can_sweep(), "no bpf_sock_destroy before 6.5")

static struct dial to_target = {.ip = ADDR4, .port = PORT_TARGET, .send = 4};
static struct dial to_free = {.ip = ADDR4, .port = PORT_FREE, .send = 4};

static bool rules(const struct kern_agent_rules *r)
{
	CHECK_EQ(kern_agent_rules_set(env.k, AGENT, r), 0);
	return true;
}

static bool deny_but(const struct tg_addr_key *allow, size_t n)
{
	return rules(&(struct kern_agent_rules){.deny = true, .allow = allow, .nallow = n});
}

static bool came(int server, int bytes)
{
	char data[8];
	int c = accept_in(server, 1000);

	CHECK(c >= 0);
	CHECK_EQ(recv(c, data, sizeof(data), 0), bytes);
	close(c);
	return true;
}

/* ---------------------------------------------------------- default deny */

static bool deny_tcp(void)
{
	static const char *const ways[] = {ADDR4, MAPPED4, "127.0.0.1", "0.0.0.0", "::1"};
	struct tg_addr_key one = key_of(ADDR4, PORT_FREE, IPPROTO_TCP, 32);
	struct tg_addr_key net = key_of("10.77.0.0", 0, IPPROTO_TCP, 24);
	struct dial d = {.port = PORT_FREE};

	CHECK(deny_but(NULL, 0));
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++) {
		d.ip = ways[i];
		CHECK_EQ(client("/agents", 0, dial, &d), EPERM);
		CHECK_EQ(counted(TG_K_DENIED_DEFAULT), i + 1);
	}
	CHECK_EQ(client("/agents", 0, dial, &to_target), 0);
	CHECK(came(env.listen4, 4)); /* a target is steered as always, and its packets pass */
	CHECK_EQ(client("/plain", 0, dial, &to_free), 0);
	CHECK(came(env.free4, 4));
	CHECK(deny_but(&one, 1));
	CHECK_EQ(client("/agents", 0, dial, &to_free), 0);
	CHECK(came(env.free4, 4));
	d.ip = "10.77.0.2";
	CHECK_EQ(client("/agents", 0, dial, &d), EPERM);
	CHECK(deny_but(&net, 1)); /* any port of a network; the entry before is gone */
	CHECK_EQ(client("/agents", 0, dial, &to_free), 0);
	CHECK(came(env.free4, 4));
	CHECK_EQ(counted(TG_K_EGRESS_UNLISTED), 0);
	return true;
}

static int send_udp(void *arg)
{
	const struct dial *d = arg;
	struct sockaddr_storage ss;
	socklen_t len;
	int fd;

	ss = addr_of(d->ip, d->port, &len);
	fd = socket(d->family ? d->family : ss.ss_family, SOCK_DGRAM, 0);
	if (fd < 0)
		return errno;
	return sendto(fd, "data", 4, 0, (struct sockaddr *)&ss, len) == 4 ? 0 : errno;
}

static bool deny_udp(void)
{
	static struct dial ways[] = {{.ip = ADDR4, .port = PORT_FREE},
				     {.ip = ADDR6, .port = PORT_FREE},
				     {.ip = MAPPED4, .port = PORT_FREE},
				     {.ip = ADDR4, .port = PORT_FREE, .family = AF_INET6},
				     {.ip = "127.0.0.1", .port = 53}};
	struct dial connected = {.ip = ADDR4, .port = PORT_FREE, .type = SOCK_DGRAM};
	struct tg_addr_key tcp = key_of(ADDR4, PORT_FREE, IPPROTO_TCP, 32);
	struct tg_addr_key udp = key_of(ADDR4, PORT_FREE, IPPROTO_UDP, 32);
	int server = udp_on(ADDR4, PORT_FREE);
	struct pollfd p = {.fd = server, .events = POLLIN};

	CHECK(server >= 0);
	CHECK(deny_but(&tcp, 1)); /* says nothing about UDP */
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		CHECK_EQ(client("/agents", 0, send_udp, &ways[i]), EPERM);
	CHECK_EQ(client("/agents", 0, dial, &connected), EPERM);
	CHECK_EQ(counted(TG_K_DENIED_DEFAULT), ARRAY_SIZE(ways) + 1);
	CHECK_EQ(poll(&p, 1, 50), 0);
	CHECK(deny_but(&udp, 1));
	CHECK_EQ(client("/agents", 0, send_udp, &ways[0]), 0);
	CHECK_EQ(poll(&p, 1, 1000), 1);
	close(server);
	return true;
}

/* Runs @fn in a child that has connected by then; the child sends when told to. */
struct older {
	struct dial dial;
	const char *cgroup;
	uid_t uid;
	int pipes[4], conn; /* the server's end */
	pid_t pid;
};

static int older_child(void *arg)
{
	static const struct linger now = {.l_onoff = 1};
	struct older *o = arg;
	struct sockaddr_storage ss;
	socklen_t len;
	char c;
	int fd, r;

	ss = addr_of(o->dial.ip, o->dial.port, &len);
	fd = socket(ss.ss_family, SOCK_STREAM, 0);
	if (fd < 0 || connect(fd, (struct sockaddr *)&ss, len))
		return errno;
	if (write(o->pipes[1], "c", 1) != 1 || read(o->pipes[2], &c, 1) != 1)
		return 240;
	r = send(fd, "data", 4, MSG_NOSIGNAL) == 4 ? 0 : errno;
	usleep(50000);
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	return r;
}

static bool older_begin(struct older *o, int server)
{
	char c;

	CHECK(pipe(o->pipes) == 0 && pipe(o->pipes + 2) == 0);
	fflush(stdout);
	o->pid = fork();
	if (o->pid == 0)
		_exit(client(o->cgroup, o->uid, older_child, o));
	CHECK(o->pid > 0 && read(o->pipes[0], &c, 1) == 1);
	o->conn = accept_in(server, 1000);
	CHECK(o->conn >= 0);
	return true;
}

/* What its send() gave, and what the server got: bytes, 0 for an end, or -errno. */
static bool older_end(struct older *o, int *ret_sent, int *ret_got)
{
	char data[8];
	int status;

	CHECK(write(o->pipes[3], "g", 1) == 1);
	usleep(30000);
	*ret_got = (int)recv(o->conn, data, sizeof(data), MSG_DONTWAIT);
	if (*ret_got < 0)
		*ret_got = -errno;
	CHECK(waitpid(o->pid, &status, 0) == o->pid);
	*ret_sent = WEXITSTATUS(status);
	close(o->conn);
	for (int i = 0; i < 4; i++)
		close(o->pipes[i]);
	return true;
}

static bool deny_backstop_as(const char *cgroup, uid_t uid, uint32_t agent)
{
	struct older o = {.dial = to_free, .cgroup = cgroup, .uid = uid};
	struct kern_agent_rules r = {.deny = true};
	int sent, got;

	CHECK(older_begin(&o, env.free4));
	CHECK_EQ(kern_agent_rules_set(env.k, agent, &r), 0);
	CHECK(older_end(&o, &sent, &got));
	CHECK_EQ(got, -EAGAIN);
	CHECK(counted(TG_K_EGRESS_UNLISTED) >= 1);
	CHECK_EQ(counted(TG_K_EGRESS_DROPPED), 0);
	return true;
}

static bool deny_backstop(void)
{
	return deny_backstop_as("/agents", 0, AGENT);
}

static bool deny_backstop_uid(void)
{
	CHECK_EQ(kern_agent_uid_set(env.k, UID_AGENT, AGENT_UID), 0);
	CHECK(deny_backstop_as("/plain", UID_AGENT, AGENT_UID));
	CHECK_EQ(kern_agent_uid_delete(env.k, UID_AGENT), 0);
	return true;
}

/* An agent's server: nobody who is not listed gets an answer, so nothing is let in. */
static int serve_once(void *arg)
{
	int fd = listener_on(ADDR4, 7001), c;

	if (fd < 0 || write(*(int *)arg, "l", 1) != 1)
		return 240;
	c = accept_in(fd, 400);
	return c >= 0 ? 0 : EAGAIN;
}

static int call_in(void *arg)
{
	struct dial d = {.ip = ADDR4, .port = 7001, .nonblock = true};

	return dial(&d);
}

static bool deny_inbound(void)
{
	int ready[2], status;
	pid_t pid;
	char c;

	CHECK(pipe(ready) == 0);
	CHECK(deny_but(NULL, 0));
	fflush(stdout);
	pid = fork();
	if (pid == 0)
		_exit(client("/agents", 0, serve_once, &ready[1]));
	CHECK(pid > 0 && read(ready[0], &c, 1) == 1);
	CHECK(client("/plain", 0, call_in, NULL) != 0);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(WEXITSTATUS(status), EAGAIN);
	CHECK(counted(TG_K_EGRESS_UNLISTED) >= 1);
	close(ready[0]);
	close(ready[1]);
	return true;
}

static bool rules_survive(void)
{
	struct tg_addr_key one = key_of(ADDR4, PORT_FREE, IPPROTO_TCP, 32);
	struct dial d6 = {.ip = ADDR6, .port = PORT_FREE};
	struct buf error;

	CHECK(deny_but(&one, 1));
	kern_close(env.k);
	env.k = NULL;
	CHECK_EQ(client("/agents", 0, dial, &d6), EPERM); /* with no daemon */
	buf_init(&error, 512);
	CHECK_EQ(kern_load(&env.paths, &env.k, &error), 0);
	buf_done(&error);
	CHECK_EQ(client("/agents", 0, dial, &d6), EPERM);
	CHECK_EQ(client("/agents", 0, dial, &to_free), 0);
	CHECK(came(env.free4, 4));
	CHECK(rules(&(struct kern_agent_rules){0}));
	CHECK_EQ(client("/agents", 0, dial, &d6), ECONNREFUSED); /* nobody is there */
	return true;
}

/* --------------------------------------------------------------- AF_UNIX */

struct unix_call {
	const char *path; /* '@': abstract */
	const char *cwd;
	int type;     /* 0: SOCK_STREAM */
	size_t extra; /* bytes behind the path's NUL that count into the length */
};

static socklen_t unix_addr(const char *path, size_t extra, struct sockaddr_un *ret)
{
	size_t n = strlen(path);

	*ret = (struct sockaddr_un){.sun_family = AF_UNIX};
	memset(ret->sun_path, 'x', sizeof(ret->sun_path)); /* never what the kernel may read */
	memcpy(ret->sun_path, path, n);
	if (path[0] == '@')
		ret->sun_path[0] = '\0';
	else if (extra)
		ret->sun_path[n] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + n + extra);
}

static int unix_server(const char *path, int type)
{
	struct sockaddr_un un;
	socklen_t len = unix_addr(path, path[0] == '@' ? 0 : 1, &un);
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&un, len) ||
	    (type != SOCK_DGRAM && listen(fd, 64))) {
		printf("          cannot bind %s: %s\n", path, strerror(errno));
		return -1;
	}
	return fd;
}

static int unix_client(void *arg)
{
	const struct unix_call *c = arg;
	struct sockaddr_un un;
	socklen_t len = unix_addr(c->path, c->extra, &un);
	int fd = socket(AF_UNIX, c->type ? c->type : SOCK_STREAM, 0);

	if (fd < 0 || (c->cwd && chdir(c->cwd)))
		return 240;
	if (c->type == SOCK_DGRAM)
		return sendto(fd, "data", 4, 0, (struct sockaddr *)&un, len) == 4 ? 0 : errno;
	return connect(fd, (struct sockaddr *)&un, len) ? errno : 0;
}

static char unix_dir[64], unix_path[96], unix_deep[96];

static bool unix_begin(void)
{
	snprintf(unix_dir, sizeof(unix_dir), "/run/tgtest-%d", getpid());
	snprintf(unix_path, sizeof(unix_path), "%s/docker.sock", unix_dir);
	snprintf(unix_deep, sizeof(unix_deep), "%s/pg/.s.PGSQL.5432", unix_dir);
	CHECK(mkdir("/run", 0755) == 0 || errno == EEXIST);
	CHECK(mkdir(unix_dir, 0755) == 0 || errno == EEXIST);
	snprintf(unix_deep, sizeof(unix_deep), "%s/pg", unix_dir);
	CHECK(mkdir(unix_deep, 0755) == 0 || errno == EEXIST);
	snprintf(unix_deep, sizeof(unix_deep), "%s/pg/.s.PGSQL.5432", unix_dir);
	return true;
}

static void unix_end(void)
{
	char pg[96];

	snprintf(pg, sizeof(pg), "%s/pg", unix_dir);
	unlink(unix_path);
	unlink(unix_deep);
	rmdir(pg);
	rmdir(unix_dir);
}

static bool unix_is(const struct unix_call *c, int want)
{
	uint64_t before = counted(TG_K_DENIED_UNIX);

	CHECK_EQ(client("/agents", 0, unix_client, (void *)(uintptr_t)c), want);
	CHECK_EQ(counted(TG_K_DENIED_UNIX) - before, want == EPERM);
	CHECK_EQ(client("/plain", 0, unix_client, (void *)(uintptr_t)c), 0);
	return true;
}

static bool unix_guard_ways(void)
{
	char folder[96], odd[4][128], below[96];
	struct kern_unix_rule r[] = {{unix_path, false}, {folder, false}, {"/proc/", false}};
	struct kern_agent_rules guard = {.unix_judged = true, .unix_rules = r, .nunix = 3};
	struct unix_call ways[] = {{.path = unix_path},
				   {.path = unix_path, .extra = 1},
				   {.path = unix_path, .extra = 9},
				   {.path = unix_deep},
				   {.path = odd[0]},
				   {.path = odd[1]},
				   {.path = odd[2]},
				   {.path = odd[3], .extra = 1},
				   {.path = "docker.sock", .cwd = unix_dir},
				   {.path = "./docker.sock", .cwd = unix_dir, .extra = 1},
				   {.path = "pg//../docker.sock", .cwd = unix_dir},
				   {.path = "pg/.././/docker.sock", .cwd = unix_dir},
				   {.path = below, .cwd = "/run"}};

	snprintf(folder, sizeof(folder), "%s/pg/", unix_dir);
	snprintf(odd[0], sizeof(odd[0]), "/%s", unix_path);
	snprintf(odd[1], sizeof(odd[1]), "/run/./%s/./docker.sock", unix_dir + 5);
	snprintf(odd[2], sizeof(odd[2]), "/run/../%s", unix_path);
	snprintf(odd[3], sizeof(odd[3]), "/proc/self/root%s", unix_path);
	snprintf(below, sizeof(below), "%s/docker.sock", unix_dir + 5);
	CHECK(rules(&guard));
	for (size_t i = 0; i < ARRAY_SIZE(ways); i++)
		if (!unix_is(&ways[i], EPERM)) {
			printf("          way %zu: %s\n", i, ways[i].path);
			return false;
		}
	CHECK(rules(&(struct kern_agent_rules){0}));
	CHECK(unix_is(&ways[0], 0));
	return true;
}

static bool unix_guard(void)
{
	int fd[2];
	bool ok;

	NEEDS_UNIX;
	ok = unix_begin();
	fd[0] = unix_server(unix_path, SOCK_STREAM);
	fd[1] = unix_server(unix_deep, SOCK_STREAM);
	ok = ok && fd[0] >= 0 && fd[1] >= 0 && unix_guard_ways();
	close(fd[0]);
	close(fd[1]);
	unix_end();
	return ok;
}

static bool unix_datagram(void)
{
	struct kern_unix_rule r = {unix_path, false};
	struct unix_call c = {.path = unix_path, .type = SOCK_DGRAM};
	bool ok;
	int fd;

	NEEDS_UNIX;
	ok = unix_begin();
	fd = unix_server(unix_path, SOCK_DGRAM);
	ok = ok && fd >= 0 &&
	     rules(&(struct kern_agent_rules){.unix_judged = true, .unix_rules = &r, .nunix = 1}) &&
	     unix_is(&c, EPERM);
	close(fd);
	unix_end();
	return ok;
}

static bool unix_abstract(void)
{
	char name[64], prefix[64], other[64];
	struct kern_unix_rule r[] = {{name, false}, {prefix, false}};
	struct unix_call exact = {.path = name}, longer = {.path = other};
	int fd[2];

	NEEDS_UNIX;
	snprintf(name, sizeof(name), "@tgtest-%d", getpid());
	snprintf(prefix, sizeof(prefix), "@tgtest-%d/shim/*", getpid());
	snprintf(other, sizeof(other), "@tgtest-%d/shim/1", getpid());
	fd[0] = unix_server(name, SOCK_SEQPACKET);
	fd[1] = unix_server(other, SOCK_SEQPACKET);
	exact.type = longer.type = SOCK_SEQPACKET;
	CHECK(fd[0] >= 0 && fd[1] >= 0);
	CHECK(rules(&(struct kern_agent_rules){.unix_judged = true, .unix_rules = r, .nunix = 2}));
	CHECK(unix_is(&exact, EPERM) && unix_is(&longer, EPERM));
	/* An abstract name has no end but its length: a longer one is another. */
	CHECK(rules(&(struct kern_agent_rules){.unix_judged = true, .unix_rules = r, .nunix = 1}));
	CHECK(unix_is(&exact, EPERM) && unix_is(&longer, 0));
	close(fd[0]);
	close(fd[1]);
	return true;
}

/* Only what is listed; an entry that names less than the folder's rule does not open it. */
static bool unix_listed(void)
{
	char folder[96];
	struct kern_unix_rule r[] = {{folder, true}, {unix_deep, false}};
	struct kern_agent_rules listed = {
		.unix_judged = true, .unix_listed = true, .unix_rules = r, .nunix = 2};
	struct unix_call pass = {.path = unix_path}, deep = {.path = unix_deep},
			 relative = {.path = "docker.sock", .cwd = unix_dir};
	bool ok;
	int fd[2];

	NEEDS_UNIX;
	ok = unix_begin();
	snprintf(folder, sizeof(folder), "%s/", unix_dir);
	fd[0] = unix_server(unix_path, SOCK_STREAM);
	fd[1] = unix_server(unix_deep, SOCK_STREAM);
	ok = ok && fd[0] >= 0 && fd[1] >= 0 && rules(&listed) && unix_is(&pass, 0) &&
	     unix_is(&deep, EPERM) && unix_is(&relative, EPERM);
	close(fd[0]);
	close(fd[1]);
	unix_end();
	return ok;
}

static bool rules_malformed(void)
{
	static const char *const bad[] = {"", "*", "relative", "./"};
	char longer[160] = "/";

	for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
		struct kern_unix_rule r = {bad[i], false};
		struct kern_agent_rules set = {.unix_judged = true, .unix_rules = &r, .nunix = 1};

		CHECK_EQ(kern_agent_rules_set(env.k, AGENT, &set), -EINVAL);
	}
	memset(longer + 1, 'a', sizeof(longer) - 2);
	longer[sizeof(longer) - 1] = '\0';
	CHECK_EQ(kern_agent_rules_set(env.k, AGENT,
				      &(struct kern_agent_rules){
					      .unix_judged = true,
					      .unix_rules = &(struct kern_unix_rule){longer, false},
					      .nunix = 1}),
		 -ENAMETOOLONG);
	return true;
}

/* ------------------------------------------------------------ many agents */

enum { MANY = 10000, FIRST = 100000, MANY_RULES = 50 };
#define SLOW_NS 3000000000ull

static uint64_t entries_of(const char *map)
{
	uint8_t key[sizeof(struct tg_unix_key)], *at = NULL;
	char path[160];
	uint64_t n = 0;
	int fd;

	snprintf(path, sizeof(path), "%s/%s/maps/%s", env.bpf_dir, TG_ABI_VERSION, map);
	fd = bpf_obj_get(path);
	for (; fd >= 0 && !bpf_map_get_next_key(fd, at, key); at = key)
		n++;
	if (fd >= 0)
		close(fd);
	return n;
}

/* The rules of agents @from to @to; with @own one more of its own for each. How long, in ns. */
static bool set_many(uint32_t from, uint32_t to, bool own, uint64_t *ret_ns)
{
	struct tg_addr_key allow = key_of("10.77.0.9", PORT_FREE, IPPROTO_TCP, 32);
	struct kern_unix_rule paths[MANY_RULES + 1];
	char text[MANY_RULES + 1][40];
	uint64_t begin = clock_boot_ns();
	struct kern_agent_rules r = {.deny = true,
				     .allow = &allow,
				     .nallow = 1,
				     .unix_judged = true,
				     .unix_rules = paths,
				     .nunix = MANY_RULES + own};

	for (int i = 0; i < MANY_RULES; i++) {
		snprintf(text[i], sizeof(text[i]), "/run/many/%d/", i);
		paths[i] = (struct kern_unix_rule){text[i], false};
	}
	for (uint32_t i = from; i < to; i++) {
		snprintf(text[MANY_RULES], sizeof(text[MANY_RULES]), "/srv/of/%u", i);
		paths[MANY_RULES] = (struct kern_unix_rule){text[MANY_RULES], true};
		CHECK_EQ(kern_agent_rules_set(env.k, FIRST + i, &r), 0);
		CHECK_EQ(kern_agent_uid_set(env.k, FIRST + i, FIRST + i), 0);
	}
	*ret_ns = clock_boot_ns() - begin;
	return true;
}

static bool keep_none(void *ctx, uint32_t agent)
{
	return false;
}

static bool keep_few(void *ctx, uint32_t agent)
{
	return agent < FIRST + 10;
}

/* The last thousand takes no longer than the first, and what all have in common is there once. */
static bool many_agents(void)
{
	uint64_t first, rest, last, again, once;
	uint32_t all = MANY;

	CHECK(set_many(0, MANY / 10, false, &first));
	if (first > SLOW_NS) /* a machine that is emulated */
		all = MANY / 5;
	once = entries_of("tg_unix");
	CHECK(once >= MANY_RULES);
	CHECK(set_many(MANY / 10, all - MANY / 10, false, &rest));
	CHECK(set_many(all - MANY / 10, all, false, &last));
	CHECK_EQ(entries_of("tg_unix"), once);
	CHECK_EQ(entries_of("tg_allow"), all);
	CHECK(set_many(0, MANY / 10, false, &again));
	CHECK_EQ(entries_of("tg_allow"), all);
	printf("          %u agents: the first thousand %llu ms, the last %llu ms, again %llu ms\n",
	       all, (unsigned long long)first / 1000000, (unsigned long long)last / 1000000,
	       (unsigned long long)again / 1000000);
	CHECK(last < 5 * first + 1000000000 && again < 5 * first + 1000000000);
	CHECK_EQ(kern_agent_rules_prune(env.k, keep_few, NULL), 0);
	CHECK_EQ(entries_of("tg_allow"), 10);
	CHECK_EQ(entries_of("tg_unix"), once);
	/* Each with a set of its own. */
	CHECK(set_many(0, 10, true, &again));
	CHECK_EQ(entries_of("tg_unix"), 10 * (once + 1));
	CHECK_EQ(kern_agent_rules_prune(env.k, keep_none, NULL), 0);
	CHECK_EQ(entries_of("tg_unix") + entries_of("tg_allow"), 0);
	return true;
}

/* Another process has changed an agent: what we knew of it does not count. */
static bool changed_elsewhere(void)
{
	struct tg_addr_key a = key_of(ADDR4, PORT_FREE, IPPROTO_TCP, 32);
	struct tg_addr_key b = key_of("10.77.0.9", PORT_FREE, IPPROTO_TCP, 32);
	struct buf error;
	struct kern *mine = env.k, *other;
	int r;

	CHECK(deny_but(&a, 1));
	buf_init(&error, 512);
	r = kern_open(&env.paths, &other, &error);
	buf_done(&error);
	CHECK_EQ(r, 0);
	env.k = other;
	CHECK(deny_but(&b, 1));
	env.k = mine;
	kern_close(other);
	CHECK_EQ(entries_of("tg_allow"), 1);
	CHECK(deny_but(&a, 1));
	CHECK_EQ(entries_of("tg_allow"), 1);
	CHECK_EQ(client("/agents", 0, dial, &to_free), 0);
	return came(env.free4, 4);
}

/* -------------------------------------------------------------- the sweep */

static void note(void *ctx, const struct tg_swept *s)
{
	*(struct tg_swept *)ctx = *s;
}

/* The target's entry is younger than the connection: it is closed, both ends know. */
static bool sweep_of(const char *cgroup, uid_t uid, uint32_t agent, const char *ip, int server)
{
	struct tg_addr_key key = key_of(ip, PORT_TARGET, IPPROTO_TCP, strchr(ip, ':') ? 128 : 32);
	struct older o = {.dial = {.ip = ip, .port = PORT_TARGET}, .cgroup = cgroup, .uid = uid};
	struct tg_swept s = {0};
	int sent, got;

	CHECK_EQ(kern_addr_delete(env.k, &key), 0);
	CHECK(older_begin(&o, server));
	CHECK_EQ(kern_sweep(env.k, note, &s), 0);
	CHECK_EQ(kern_addr_set(env.k, &key, TARGET), 0);
	CHECK_EQ(kern_sweep(env.k, note, &s), 1);
	CHECK_EQ(s.target, TARGET);
	CHECK_EQ(s.agent, agent);
	CHECK_EQ(s.uid, uid);
	CHECK(memcmp(s.addr, key.addr, sizeof(s.addr)) == 0 && s.port_be == key.port_be);
	CHECK(older_end(&o, &sent, &got));
	CHECK(sent == ECONNABORTED || sent == EPIPE || sent == ECONNRESET);
	CHECK(got <= 0);
	CHECK_EQ(counted(TG_K_SWEPT), 1);
	return true;
}

static bool sweep_older(void)
{
	NEEDS_SWEEP;
	return sweep_of("/agents", 0, AGENT, ADDR4, env.server4);
}

static bool sweep_older6(void)
{
	NEEDS_SWEEP;
	return sweep_of("/agents", 0, AGENT, ADDR6, env.server6);
}

static bool sweep_uid(void)
{
	NEEDS_SWEEP;
	CHECK_EQ(kern_agent_uid_set(env.k, UID_AGENT, AGENT_UID), 0);
	CHECK(sweep_of("/plain", UID_AGENT, AGENT_UID, ADDR4, env.server4));
	CHECK_EQ(kern_agent_uid_delete(env.k, UID_AGENT), 0);
	return true;
}

/* Connected outside, then carried into the watched cgroup: found by who holds it. */
static bool sweep_carried(void)
{
	struct older o = {.dial = to_target, .cgroup = "/plain"};
	struct tg_swept s = {0};
	char procs[256], pid[32];
	int sent, got, child = 0;
	FILE *f;

	NEEDS_SWEEP;
	CHECK(older_begin(&o, env.server4));
	CHECK_EQ(kern_sweep(env.k, note, &s), 0); /* not an agent's: left alone */
	snprintf(procs, sizeof(procs), "%s/plain/cgroup.procs", env.cgroup);
	f = fopen(procs, "r");
	CHECK(f && fscanf(f, "%d", &child) == 1);
	fclose(f);
	snprintf(procs, sizeof(procs), "%s/agents/cgroup.procs", env.cgroup);
	snprintf(pid, sizeof(pid), "%d", child);
	f = fopen(procs, "w");
	CHECK(f && fputs(pid, f) >= 0 && fclose(f) == 0);
	CHECK_EQ(kern_sweep(env.k, note, &s), 1);
	CHECK_EQ(s.agent, AGENT);
	CHECK_EQ(s.target, TARGET);
	CHECK(older_end(&o, &sent, &got));
	CHECK(sent != 0);
	CHECK(got <= 0);
	return true;
}

static bool sweep_spares(void)
{
	struct older o = {.dial = to_target, .cgroup = "/agents"};
	int sent, got;

	NEEDS_SWEEP;
	CHECK(older_begin(&o, env.listen4)); /* steered */
	CHECK(deny_but(NULL, 0));
	CHECK_EQ(kern_sweep(env.k, NULL, NULL), 0);
	CHECK(older_end(&o, &sent, &got));
	CHECK_EQ(sent, 0);
	CHECK_EQ(got, 4);
	CHECK(target_mode(TG_MODE_OFF, 0));
	CHECK(older_begin(&o, env.server4)); /* the target is off */
	CHECK_EQ(kern_sweep(env.k, NULL, NULL), 0);
	CHECK(target_mode(TG_MODE_STEER, 0)); /* and on again */
	CHECK_EQ(kern_sweep(env.k, NULL, NULL), 1);
	CHECK(older_end(&o, &sent, &got));
	CHECK(sent != 0);
	return true;
}

static bool sweep_unlisted(void)
{
	struct tg_addr_key one = key_of(ADDR4, PORT_FREE, IPPROTO_TCP, 32);
	struct older o = {.dial = to_free, .cgroup = "/agents"};
	struct tg_swept s = {.target = 1};
	int sent, got;

	NEEDS_SWEEP;
	CHECK(older_begin(&o, env.free4));
	CHECK(deny_but(&one, 1));
	CHECK_EQ(kern_sweep(env.k, note, &s), 0);
	CHECK(deny_but(NULL, 0));
	CHECK_EQ(kern_sweep(env.k, note, &s), 1);
	CHECK_EQ(s.target, 0);
	CHECK(older_end(&o, &sent, &got));
	CHECK(sent != 0);
	return true;
}

const struct row rules_rows[] = {
	{"rules: default deny, TCP", deny_tcp},
	{"rules: default deny, UDP", deny_udp},
	{"rules: default deny, older connections", deny_backstop},
	{"rules: default deny, agent by uid", deny_backstop_uid},
	{"rules: default deny, nobody gets in", deny_inbound},
	{"rules: kept without a daemon and over a restart", rules_survive},
	{"rules: AF_UNIX, every way to write a path", unix_guard},
	{"rules: AF_UNIX, datagrams", unix_datagram},
	{"rules: AF_UNIX, abstract names", unix_abstract},
	{"rules: AF_UNIX, only what is listed", unix_listed},
	{"rules: ten thousand agents", many_agents},
	{"rules: set by another process meanwhile", changed_elsewhere},
	{"rules: malformed", rules_malformed},
	{"sweep: connection older than the target", sweep_older},
	{"sweep: the same over IPv6", sweep_older6},
	{"sweep: agent by uid", sweep_uid},
	{"sweep: connection carried into the cgroup", sweep_carried},
	{"sweep: spares steered ones and targets that are off", sweep_spares},
	{"sweep: default deny, unlisted", sweep_unlisted},
	{0},
};
