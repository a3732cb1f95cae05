/* SPDX-License-Identifier: MIT */
/*
 * The accelerator's self-test: every row of kern_rows over connections on loopback that go
 * through the real hand-over and the real sk_msg program, in a copy with maps of its own.
 * What a row says there is compared with what it says on a connection that is not enrolled,
 * on this very kernel. It is run in a child: a call that hangs hangs there.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "kern/kern_accel.h"
#include "kern/kern_priv.h"
#include "tidegate.skel.h"

enum { WAIT_MS = 10, LIMIT_MS = 20000 };

/* What the child reports, in memory that it shares with us. */
struct report {
	volatile unsigned config, at; /* where it is */
	volatile bool done;
	char why[160];
	char seen[KERN_SELFTEST_ROWS][KERN_ACCEL_CONFIGS][KERN_ROW_TEXT];
};

struct bench {
	struct tidegate_bpf *skel;
	enum kern_accel_config config;
	int listener;
	struct sockaddr_in addr;
};

static const struct kern_row *row_at(unsigned i)
{
	static const struct kern_row *const tables[] = {kern_rows, kern_rows_close};

	for (size_t t = 0; t < ARRAY_SIZE(tables); t++)
		for (const struct kern_row *r = tables[t]; r->name; r++)
			if (i-- == 0)
				return r;
	return NULL;
}

/* ------------------------------------------------------------- connections */

static int start_listener(struct bench *b)
{
	struct tg_listener l = {0};
	socklen_t len = sizeof(b->addr);
	uint64_t netns;

	b->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	b->addr = (struct sockaddr_in){.sin_family = AF_INET,
				       .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	if (b->listener < 0 || bind(b->listener, (struct sockaddr *)&b->addr, len) ||
	    listen(b->listener, 16) ||
	    getsockname(b->listener, (struct sockaddr *)&b->addr, &len))
		return -errno;
	len = sizeof(netns);
	if (getsockopt(b->listener, SOL_SOCKET, SO_NETNS_COOKIE, &netns, &len))
		return -errno;
	l.port_be = b->addr.sin_port;
	return bpf_map_update_elem(bpf_map__fd(b->skel->maps.tg_listeners), &netns, &l, BPF_ANY)
		       ? -errno
		       : 0;
}

/* As connect() in a watched cgroup would have left it. */
static int steered(const struct bench *b, int fd)
{
	struct tg_sock s = {.flags = TG_SOCK_STEERED, .record.target = b->config};

	if (b->config == KERN_ACCEL_PLAIN)
		return 0;
	return bpf_map_update_elem(bpf_map__fd(b->skel->maps.tg_socks), &fd, &s, BPF_ANY);
}

static int enrolled(const struct bench *b, int fd)
{
	struct tg_accel a;
	int map = bpf_map__fd(b->skel->maps.tg_acc_socks);

	if (b->config == KERN_ACCEL_PLAIN)
		return 0;
	if (bpf_map_lookup_elem(map, &fd, &a) || a.flags & TG_ACCEL_PLAIN) {
		errno = EBUSY;
		return -1;
	}
	a.flags |= TG_ACCEL_PLAIN;
	return b->config == KERN_ACCEL_FALLEN ? bpf_map_update_elem(map, &fd, &a, BPF_ANY) : 0;
}

static int dial(const struct bench *b, int fd, size_t early)
{
	const struct sockaddr *to = (const struct sockaddr *)&b->addr;
	char data[256];

	if (!early)
		return connect(fd, to, sizeof(b->addr));
	memset(data, 'e', sizeof(data));
	if (sendto(fd, data, early, MSG_FASTOPEN | MSG_NOSIGNAL, to, sizeof(b->addr)) ==
	    (ssize_t)early)
		return 0;
	/* Fast Open is switched off here: then nothing can be sent early. */
	if (errno != EOPNOTSUPP || connect(fd, to, sizeof(b->addr)))
		return -1;
	return send(fd, data, early, MSG_NOSIGNAL) == (ssize_t)early ? 0 : -1;
}

static int make_pair(void *ctx, size_t early, struct kern_pair *ret)
{
	const struct bench *b = ctx;
	int c = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), s = -1, e;

	if (c >= 0 && early <= 256 && !steered(b, c) && !dial(b, c, early))
		s = accept4(b->listener, NULL, NULL, SOCK_CLOEXEC);
	if (s >= 0 && !enrolled(b, c) && !enrolled(b, s)) {
		*ret = (struct kern_pair){c, s};
		return 0;
	}
	e = errno;
	if (c >= 0)
		close(c);
	if (s >= 0)
		close(s);
	errno = e;
	return -1;
}

/* --------------------------------------------------------------- the child */

static int set_targets(const struct bench *b)
{
	struct tg_target_state st = {.mode = TG_MODE_STEER, .flags = TG_TARGET_ACCEL_REQUESTS};
	int map = bpf_map__fd(b->skel->maps.tg_targets);

	for (uint32_t id = KERN_ACCEL_REQUESTS; id < KERN_ACCEL_CONFIGS; id++) {
		if (bpf_map_update_elem(map, &id, &st, BPF_ANY))
			return -errno;
		st.flags |= TG_TARGET_ACCEL_REPLIES;
	}
	return 0;
}

static void reset_signals(void)
{
	static const int signals[] = {SIGHUP, SIGTERM, SIGINT, SIGCHLD, SIGUSR1, SIGIO};
	sigset_t none;

	for (size_t i = 0; i < ARRAY_SIZE(signals); i++)
		(void)signal(signals[i], SIG_DFL);
	(void)signal(SIGPIPE, SIG_IGN);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static void child_main(struct tidegate_bpf *skel, struct report *rep)
{
	struct bench b = {.skel = skel, .listener = -1};
	struct kern_row_env env = {.pair = make_pair, .ctx = &b};
	const struct kern_row *row;
	int r = set_targets(&b);

	if (!r)
		r = start_listener(&b);
	if (r) {
		(void)snprintf(rep->why, sizeof(rep->why), "private connections: %s", strerror(-r));
		return;
	}
	for (unsigned c = 0; c < KERN_ACCEL_CONFIGS; c++) {
		b.config = c;
		rep->config = c;
		for (unsigned i = 0; (row = row_at(i)); i++) {
			rep->at = i;
			row->run(&env, rep->seen[i][c]);
		}
	}
	rep->done = true;
}

/* -------------------------------------------------------------- the parent */

static volatile sig_atomic_t cancelled;

void kern_selftest_cancel(void)
{
	cancelled = 1;
}

static bool ended(pid_t pid)
{
	struct timespec ts = {.tv_nsec = WAIT_MS * 1000000L};

	errno = 0;
	for (int ms = 0; ms < LIMIT_MS && !cancelled; ms += WAIT_MS) {
		/* Somebody else in this process may reap all children. */
		if (waitpid(pid, NULL, WNOHANG) == pid || errno == ECHILD)
			return true;
		(void)nanosleep(&ts, NULL);
	}
	(void)kill(pid, SIGKILL);
	(void)waitpid(pid, NULL, 0);
	return false;
}

static int attach_here(const struct tidegate_bpf *skel)
{
	struct kern k = {.cg_fd = -1};
	char path[KERN_PATH_MAX];
	struct buf unused;
	int link, fd, r;

	buf_init(&unused, 1024);
	r = kern_cgroup_find(&k, NULL, &unused);
	buf_done(&unused);
	if (!r)
		r = kern_cgroup_self(path, sizeof(path));
	if (r)
		return r;
	fd = kern_cgroup_open(&k, path);
	link = fd < 0 ? fd
		      : bpf_link_create(bpf_program__fd(skel->progs.tg_sock_ops), fd,
					BPF_CGROUP_SOCK_OPS, NULL);
	r = link < 0 && fd >= 0 ? -errno : link;
	if (fd >= 0)
		(void)close(fd);
	(void)close(k.cg_fd);
	return r;
}

static void run_child(struct tidegate_bpf *skel, struct report *rep)
{
	pid_t parent = getpid(), pid = fork();
	const struct kern_row *at;

	if (pid == 0) {
		(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
		reset_signals();
		child_main(skel, rep);
		_exit(0);
	}
	if (pid < 0) {
		(void)snprintf(rep->why, sizeof(rep->why), "fork: %s", strerror(errno));
		return;
	}
	if ((!ended(pid) || !rep->done) && !rep->why[0]) {
		at = row_at(rep->at);
		(void)snprintf(rep->why, sizeof(rep->why), "it did not get past row %s",
			       at ? at->name : "?");
	}
}

static void take(struct kern_selftest *ret, const struct report *rep)
{
	(void)snprintf(ret->why, sizeof(ret->why), "%s", rep->why);
	for (unsigned i = 0; !ret->why[0] && row_at(i); i++) {
		ret->rows[i].row = row_at(i);
		memcpy(ret->rows[i].seen, rep->seen[i], sizeof(rep->seen[i]));
		ret->n = i + 1;
	}
}

void kern_selftest_run(struct kern_selftest *ret)
{
	struct report *rep = mmap(NULL, sizeof(*rep), PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct tidegate_bpf *skel;
	int link = -1, r;

	memset(ret, 0, sizeof(*ret));
	skel = rep == MAP_FAILED ? NULL : kern_accel_copy(ret->why);
	if (!skel) {
		if (!ret->why[0])
			(void)snprintf(ret->why, sizeof(ret->why), "no memory");
	} else {
		r = bpf_prog_attach(bpf_program__fd(skel->progs.tg_msg),
				    bpf_map__fd(skel->maps.tg_acc_send), BPF_SK_MSG_VERDICT, 0);
		if (!r)
			r = link = attach_here(skel);
		if (r < 0)
			(void)snprintf(rep->why, sizeof(rep->why),
				       "the programs cannot be attached: %s", strerror(-r));
		else
			run_child(skel, rep);
		take(ret, rep);
	}
	if (link >= 0)
		(void)close(link);
	tidegate_bpf__destroy(skel);
	if (rep != MAP_FAILED)
		(void)munmap(rep, sizeof(*rep));
}

/* ----------------------------------------------------------------- answers */

bool kern_selftest_differs(const struct kern_selftest *t, unsigned i, enum kern_accel_config c)
{
	const char *plain = t->rows[i].seen[KERN_ACCEL_PLAIN];

	/* One direction may have fallen back and the other not. */
	return strcmp(t->rows[i].seen[c], plain) != 0 ||
	       strcmp(t->rows[i].seen[KERN_ACCEL_FALLEN], plain) != 0 ||
	       (c == KERN_ACCEL_BOTH && strcmp(t->rows[i].seen[KERN_ACCEL_REQUESTS], plain) != 0);
}

unsigned kern_selftest_count(const struct kern_selftest *t, enum kern_accel_config c, bool integrity)
{
	unsigned n = 0;

	for (unsigned i = 0; i < t->n; i++)
		n += (!integrity || t->rows[i].row->integrity) && kern_selftest_differs(t, i, c);
	return n;
}

void kern_selftest_names(const struct kern_selftest *t, enum kern_accel_config c, bool integrity,
			 char *dst, size_t cap)
{
	size_t n = 0;

	dst[0] = '\0';
	for (unsigned i = 0; i < t->n; i++) {
		const char *name = t->rows[i].row->name;

		if ((integrity && !t->rows[i].row->integrity) || !kern_selftest_differs(t, i, c))
			continue;
		if (n + strlen(name) + 8 > cap) {
			(void)snprintf(dst + n, cap - n, ", ...");
			return;
		}
		n += (size_t)snprintf(dst + n, cap - n, "%s%s", n ? ", " : "", name);
	}
}
