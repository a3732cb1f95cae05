/* SPDX-License-Identifier: MIT */
/*
 * Socket fidelity: the same calls by an agent on a direct connection, on one that is steered through a
 * hop, and on one that is steered and accelerated. The hop is a relay of a few lines: what it is told to
 * inspect is not the question here, what the kernel side does to the sockets is. Prints the
 * differences as a table and knows which may be there.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <arpa/inet.h>

#include "env.h"
#include "kern/kern_accel.h"
#include "kern/kern_rows_priv.h"

enum { DIRECT, STEERED, ACCEL_REQUESTS, ACCEL_BOTH, WAYS, HOP_BYTES = 256 << 10, ROWS = 64 };
#define HUGE (4500ull << 20)

static const char *const way_names[] = {"direct", "steered", "requests accelerated",
					"both accelerated"};

/* What a hop changes by its nature; bpf/README.md says so. */
static const char *const inherent[] = {"getsockname", "connect_refused", "urgent_out", "urgent_in"};

/* What shows only while the daemon has not read, and the hop here reads at once. */
static const char *const hidden[] = {"unread_close"};

/* ------------------------------------------------------------------ the hop */

static void abort_fd(int fd)
{
	struct linger now = {.l_onoff = 1};

	(void)setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	close(fd);
}

static bool write_all(int fd, const char *b, size_t n)
{
	while (n) {
		ssize_t r = send(fd, b, n, MSG_NOSIGNAL);

		if (r < 0)
			return false;
		b += r;
		n -= (size_t)r;
	}
	return true;
}

/* One direction: 1: more, 0: its end, which is passed on; -1: broken. */
static int hop_move(int from, int to)
{
	static char b[HOP_BYTES];
	ssize_t r = recv(from, b, sizeof(b), MSG_DONTWAIT);

	if (r < 0)
		return errno == EAGAIN ? 1 : -1;
	if (r == 0)
		return shutdown(to, SHUT_WR) ? -1 : 0;
	return write_all(to, b, (size_t)r) ? 1 : -1;
}

static void hop_relay(int agent, int server)
{
	struct pollfd p[2] = {{.fd = agent, .events = POLLIN}, {.fd = server, .events = POLLIN}};
	int r = 1;

	while (p[0].fd >= 0 || p[1].fd >= 0) {
		if (poll(p, 2, -1) < 0)
			continue;
		for (int i = 0; i < 2 && r >= 0; i++) {
			if (p[i].fd < 0 || !p[i].revents)
				continue;
			r = hop_move(i ? server : agent, i ? agent : server);
			if (r == 0)
				p[i].fd = -1;
		}
		if (r < 0) { /* a reset is passed on, too */
			abort_fd(agent);
			abort_fd(server);
			_exit(0);
		}
		r = 1;
	}
	_exit(0);
}

static void hop_accepted(int agent)
{
	struct tg_record rec;
	struct sockaddr_in to = {.sin_family = AF_INET};
	int server = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), on = 1;

	if (kern_record_get(kern_record_fd(env.k), agent, &rec))
		_exit(1);
	memcpy(&to.sin_addr, rec.addr + 12, 4);
	to.sin_port = rec.port_be;
	if (server < 0 || connect(server, (struct sockaddr *)&to, sizeof(to))) {
		abort_fd(agent);
		_exit(0);
	}
	(void)setsockopt(agent, IPPROTO_TCP, 1 /* TCP_NODELAY */, &on, sizeof(on));
	(void)setsockopt(server, IPPROTO_TCP, 1, &on, sizeof(on));
	hop_relay(agent, server);
}

/* A process for each connection; all end with the test. */
static pid_t hop_start(void)
{
	pid_t pid = fork();

	if (pid)
		return pid;
	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)signal(SIGCHLD, SIG_IGN);
	close(env.server4);
	for (;;) {
		int fd = accept(env.listen4, NULL, NULL);

		if (fd < 0)
			_exit(1);
		if (fork() == 0) {
			(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
			close(env.listen4);
			hop_accepted(fd);
		}
		close(fd);
	}
}

/* ------------------------------------------------------------ further rows */

static int make_pair(void *ctx, size_t early, struct kern_pair *ret)
{
	int c = agent_dial((struct wish){.ip = ADDR4, .port = PORT_TARGET, .early = early}), s;

	s = c < 0 ? -1 : accept_in(env.server4, 2000);
	if (c >= 0 && s >= 0) {
		*ret = (struct kern_pair){c, s};
		return 0;
	}
	if (c >= 0)
		close(c);
	errno = c < 0 ? -c : -s;
	return -1;
}

static void names(const struct kern_row_env *e, char *out, bool own)
{
	struct sockaddr_in in = {0};
	socklen_t len = sizeof(in);
	struct kern_pair p;
	int r;

	if (!row_open(e, &p, out))
		return;
	r = own ? getsockname(p.c, (struct sockaddr *)&in, &len)
		: getpeername(p.c, (struct sockaddr *)&in, &len);
	row_say(out, "%s", r ? "error" : inet_ntoa(in.sin_addr));
	row_close(&p);
}

static void own_name(const struct kern_row_env *e, char *out)
{
	names(e, out, true);
}

static void peer_name(const struct kern_row_env *e, char *out)
{
	names(e, out, false);
}

/* Nobody listens there any more. */
static void refused(const struct kern_row_env *e, char *out)
{
	char text[KERN_ROW_TEXT], b[8];
	int c;

	close(env.server4);
	c = agent_dial((struct wish){.ip = ADDR4, .port = PORT_TARGET});
	if (c == -ECONNRESET) {
		/* It was connected, and reset before connect() had come back. */
		row_say(out, "connected, read ECONNRESET");
	} else if (c < 0) {
		errno = -c;
		row_say(out, "connect %s", row_result(-1, text));
	} else {
		(void)row_poll(c, POLLIN, ROW_WAIT_MS);
		row_say(out, "connected, read %s", row_result(recv(c, b, 1, MSG_DONTWAIT), text));
		close(c);
	}
	env.server4 = listener_on(ADDR4, PORT_TARGET);
}

static const struct kern_row more_rows[] = {
	{"getsockname", "the own address", false, own_name},
	{"getpeername", "the address that was asked for", false, peer_name},
	{"connect_refused", "a target that is down", false, refused},
	{0},
};

/* ------------------------------------------------------------------ columns */

struct table {
	const struct kern_row *row[ROWS];
	char seen[ROWS][WAYS][KERN_ROW_TEXT];
	unsigned n;
};

static struct table table;

static bool way_set(unsigned way)
{
	static const uint8_t flags[] = {
		[ACCEL_REQUESTS] = TG_TARGET_ACCEL_REQUESTS,
		[ACCEL_BOTH] = TG_TARGET_ACCEL_REQUESTS | TG_TARGET_ACCEL_REPLIES};

	return target_mode(way == DIRECT ? TG_MODE_OFF : TG_MODE_STEER, flags[way]);
}

static void run_way(unsigned way)
{
	static const struct kern_row *const tables[] = {kern_rows, kern_rows_close, more_rows};
	struct kern_row_env e = {.pair = make_pair};

	table.n = 0;
	for (size_t t = 0; t < ARRAY_SIZE(tables); t++) {
		for (const struct kern_row *r = tables[t]; r->name; r++) {
			table.row[table.n] = r;
			r->run(&e, table.seen[table.n++][way]);
		}
	}
}

static bool other(unsigned i, unsigned way, unsigned than)
{
	return strcmp(table.seen[i][way], table.seen[i][than]) != 0;
}

static bool among(const char *const *list, size_t n, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], name) == 0)
			return true;
	return false;
}

static bool is_inherent(const char *name)
{
	return among(inherent, ARRAY_SIZE(inherent), name);
}

static void print(void)
{
	for (unsigned i = 0; i < table.n; i++) {
		bool head = false;

		for (unsigned w = STEERED; w < WAYS; w++) {
			if (!other(i, w, DIRECT))
				continue;
			if (!head)
				printf("          %-18s %-22s %s\n", table.row[i]->name, "direct",
				       table.seen[i][DIRECT]);
			head = true;
			printf("          %-18s %-22s %s\n", "", way_names[w], table.seen[i][w]);
		}
	}
	printf("          %u rows, the others are alike\n", table.n);
}

/* Is it among what `status` lists for this way? */
static bool listed(const struct kern_selftest *t, const char *name, unsigned way, bool *ret_now)
{
	enum kern_accel_config c = way == ACCEL_BOTH ? KERN_ACCEL_BOTH : KERN_ACCEL_REQUESTS;

	for (unsigned i = 0; i < t->n; i++) {
		if (strcmp(t->rows[i].row->name, name) != 0)
			continue;
		/* Without what shows only once a direction has fallen back. */
		*ret_now = strcmp(t->rows[i].seen[c], t->rows[i].seen[KERN_ACCEL_PLAIN]) != 0;
		return kern_selftest_differs(t, i, c);
	}
	*ret_now = false;
	return false;
}

static bool judge(const struct kern_selftest *t)
{
	bool now, ok = true;

	for (unsigned i = 0; i < table.n; i++) {
		const char *name = table.row[i]->name;

		if (other(i, STEERED, DIRECT) && !is_inherent(name)) {
			printf("          %s: steering changes it\n", name);
			ok = false;
		}
		for (unsigned w = ACCEL_REQUESTS; w < WAYS; w++) {
			bool lists = listed(t, name, w, &now);

			if (other(i, w, STEERED) && !lists) {
				printf("          %s, %s: not in the list of `status`\n", name,
				       way_names[w]);
				ok = false;
			}
			if (!other(i, w, STEERED) && now && !is_inherent(name) &&
			    !among(hidden, ARRAY_SIZE(hidden), name)) {
				printf("          %s, %s: in the list of `status`, but alike\n", name,
				       way_names[w]);
				ok = false;
			}
		}
	}
	return ok;
}

/* Sequence numbers and 32-bit counters go round. In the full tier. */
static bool huge(unsigned way)
{
	struct row_later l = {.act = ROW_READ_ALL, .n = HUGE};
	struct kern_pair p;

	CHECK(way_set(way));
	CHECK_EQ(make_pair(NULL, 0, &p), 0);
	l.fd = p.s;
	CHECK(row_later(&l));
	CHECK(row_send(p.c, HUGE));
	row_join(&l);
	printf("          %s: %zu bytes %s\n", way_names[way], l.n, l.good ? "in order" : "WRONG");
	CHECK(l.n == HUGE && l.good);
	row_close(&p);
	return true;
}

static bool streams(void)
{
	pid_t hop;
	bool ok;

	if (!getenv("TIDEGATE_FULL"))
		return true;
	limit_begin("fidelity: more than 4 GiB", 900);
	hop = hop_start();
	CHECK(hop > 0);
	ok = huge(STEERED) && huge(ACCEL_REQUESTS) && huge(ACCEL_BOTH);
	(void)kill(hop, SIGKILL);
	(void)waitpid(hop, NULL, 0);
	return ok;
}

static bool fidelity(void)
{
	static struct kern_selftest t;
	pid_t hop = hop_start();

	CHECK(hop > 0);
	for (unsigned w = 0; w < WAYS; w++) {
		if (!way_set(w))
			break;
		run_way(w);
	}
	(void)kill(hop, SIGKILL);
	(void)waitpid(hop, NULL, 0);
	print();
	CHECK(table.n > 36);
	CHECK(counted(TG_K_ACCELERATED) >= 30);
	kern_selftest_run(&t);
	CHECK(!t.why[0]);
	return judge(&t);
}

const struct row fidelity_rows[] = {
	{"fidelity: direct, steered, accelerated", fidelity},
	{"fidelity: more than 4 GiB (full tier)", streams},
	{0},
};
