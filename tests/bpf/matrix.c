/* SPDX-License-Identifier: MIT */
/*
 * Whether an attempt got through is seen at the other end: a server that was reached, the
 * daemon's listener with a record, or neither. Each row runs as root in the agent's
 * cgroup, once more under what `tidegate agent run` does to a process, and before both as
 * nobody's agent: what does not get through there proves nothing.
 */
#include "matrix.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attacks.h"
#include "base/jsonw.h"
#include "ctl/launch.h"
#include "daemon/agentrules.h"
#include "env.h"
#include "kern/kern_ways.h"
#include "matrix_rows.h"

static const char *const outcome_words[] = {
	[STEERED] = "steered", [REFUSED] = "refused", [CUT] = "cut",	  [REACHED] = "reached",
	[GAP] = "named gap",   [ABSENT] = "absent",   [BROKEN] = "broken"};

enum { PATIENCE_MS = 5000 };

#define UNIX_SERVERS 10
static const char *const unix_paths[UNIX_SERVERS] = {"/run/postgresql/.s.PGSQL.5432",
						     "/run/docker.sock",
						     "/run/containerd/containerd.sock",
						     "/run/podman/podman.sock",
						     "/run/systemd/private",
						     "/run/dbus/system_bus_socket",
						     "/run/user/4712/bus",
						     "/run/nscd/socket",
						     "/run/systemd/resolve/io.systemd.Resolve",
						     "@/containerd-shim/tgtest"};

struct servers {
	int udp4, udp6, quic, lite, any, unix_fd[UNIX_SERVERS], unix_dgram, accomplice;
};
static struct servers servers;

/* --- set up */

static int unix_on(const char *path, int type)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	socklen_t len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path));
	int fd = socket(AF_UNIX, type | SOCK_CLOEXEC, 0);

	snprintf(un.sun_path, sizeof(un.sun_path), "%s", path);
	if (path[0] == '@')
		un.sun_path[0] = '\0';
	else
		len++;
	for (char *s = un.sun_path + 1; path[0] != '@' && (s = strchr(s, '/')); s++) {
		*s = '\0';
		mkdir(un.sun_path, 0755);
		*s = '/';
	}
	if (fd < 0 || bind(fd, (struct sockaddr *)&un, len) ||
	    (type == SOCK_STREAM && listen(fd, 16)))
		return -1;
	return path[0] == '@' || chmod(path, 0777) == 0 ? fd : -1;
}

static int lite_on(const char *ip, uint16_t port)
{
	socklen_t len;
	struct sockaddr_storage ss = addr_of(ip, port, &len);
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDPLITE);

	if (fd >= 0 && bind(fd, (struct sockaddr *)&ss, len)) {
		close(fd);
		return -1;
	}
	return fd;
}

/* In this network namespace every group may make ICMP sockets. */
static bool ping_for_all(void)
{
	FILE *f = fopen("/proc/sys/net/ipv4/ping_group_range", "w");

	return f && fputs("0 2147483647", f) >= 0 && fclose(f) == 0;
}

/* A /run of our own: the real names, and nothing of the host's. */
static bool set_up(void)
{
	char name[64];

	CHECK(mkdir("/run", 0755) == 0 || errno == EEXIST);
	CHECK(unshare(CLONE_NEWNS) == 0);
	CHECK(mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0 || errno == EINVAL);
	CHECK(mount("tmpfs", "/run", "tmpfs", 0, "mode=0755") == 0);
	for (size_t i = 0; i < UNIX_SERVERS; i++)
		CHECK((servers.unix_fd[i] = unix_on(unix_paths[i], SOCK_STREAM)) >= 0);
	CHECK((servers.unix_dgram = unix_on("/run/docker/dgram", SOCK_DGRAM)) >= 0);
	snprintf(name, sizeof(name), "@tgtest-accomplice-%d", getpid());
	CHECK((servers.accomplice = unix_on(name, SOCK_STREAM)) >= 0);
	CHECK((servers.udp4 = udp_on(ADDR4, PORT_TARGET)) >= 0);
	CHECK((servers.udp6 = udp_on(ADDR6, PORT_TARGET)) >= 0);
	CHECK((servers.quic = udp_on(ADDR4, 443)) >= 0);
	servers.lite = lite_on(ADDR4, PORT_TARGET); /* where there is such a thing */
	CHECK(ping_for_all());
	CHECK((servers.any = listener_on("127.0.0.1", PORT_TARGET)) >= 0);
	return true;
}

static bool rules(bool deny)
{
	struct kern_agent_rules r = {.unix_judged = true, .deny = deny};

	r.unix_rules = agentrules_guarded(&r.nunix);
	CHECK_EQ(kern_agent_rules_set(env.k, AGENT, &r), 0);
	CHECK(protect(ADDR4, 443, IPPROTO_TCP));
	CHECK(protect(ADDR4, MATRIX_PORT, IPPROTO_TCP));
	CHECK(protect("127.0.0.1", PORT_TARGET, IPPROTO_TCP));
	return true;
}

/* --- what came of it */

static bool waits(int fd)
{
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char data[64];
	int c;

	if (fd < 0 || poll(&p, 1, 0) != 1)
		return false;
	c = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	if (c >= 0)
		close(c);
	else
		(void)!recv(fd, data, sizeof(data), MSG_DONTWAIT);
	return true;
}

static bool reached(void)
{
	int all[] = {env.server4,  env.server6,	 servers.udp4, servers.udp6,
		     servers.quic, servers.lite, servers.any,  servers.unix_dgram};
	bool any = false;

	for (size_t i = 0; i < ARRAY_SIZE(all); i++)
		any |= waits(all[i]);
	for (size_t i = 0; i < UNIX_SERVERS; i++)
		any |= waits(servers.unix_fd[i]);
	return any;
}

static bool steered(void)
{
	int fds[] = {env.listen4, env.listen6}, c;
	bool any = false;
	struct tg_record r;

	for (size_t i = 0; i < ARRAY_SIZE(fds); i++) {
		c = fds[i] >= 0 ? accept_in(fds[i], 0) : -EAGAIN;
		if (c < 0)
			continue;
		any |= !kern_record_get(kern_record_fd(env.k), c, &r) && r.agent == AGENT;
		close(c);
	}
	return any;
}

/* --- one attempt */

enum mode { CONTROL, PLAIN, LAUNCHED, MODES };

/* A row that this kernel cannot close is a gap, if it is a named one. */
static enum outcome wanted(const struct matrix_row *row, enum mode mode)
{
	enum outcome want = mode == PLAIN ? row->plain : row->launched;

	if (mode == CONTROL)
		return row->no_control ? ABSENT : REACHED;
	if (want == REFUSED && !kern_way_closed(row->way) &&
	    strcmp(kern_way_words[row->way].since, "-") != 0)
		return GAP;
	return want == CUT && row->sweep && row->how != OLDER && !kern_can_sweep() ? GAP : want;
}

struct run {
	const struct matrix_row *row;
	struct attempt a;
	enum mode mode;
	int conn;     /* the target's end of a connection that was there before */
	int pipes[4]; /* the child tells by [1], hears by [2] */
	bool got;     /* something came through conn, or into the agent's server */
};

static int as_agent(struct run *r)
{
	struct launch l = {.cgroup = "/agents", .uid = UID_OTHER, .gid = UID_OTHER};
	char path[256];
	struct buf error;
	int null, rc;

	env_unlisten();
	if (r->mode != LAUNCHED)
		return cgroup_join(r->mode == PLAIN ? "/agents" : "/plain") ? r->row->fn(&r->a)
									    : TRY_BROKEN;
	snprintf(path, sizeof(path), "%s/agents", env.cgroup);
	l.cgroup_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	null = open("/dev/null", O_RDWR);
	for (int i = 0; i < 3; i++)
		dup2(null, i);
	l.pass_fds[l.npass_fds++] = r->a.tell;
	l.pass_fds[l.npass_fds++] = r->a.hear;
	buf_init(&error, 512);
	rc = launch_enter(&l, &error);
	return rc ? TRY_BROKEN : r->row->fn(&r->a);
}

/* False as soon as the child is gone. */
static bool heard(const struct run *r)
{
	struct pollfd p = {.fd = r->pipes[0], .events = POLLIN};
	char c;

	return poll(&p, 1, PATIENCE_MS) == 1 && read(r->pipes[0], &c, 1) == 1;
}

/* What ought to come through may take its time; what ought not has had it soon. */
static void look(struct run *r)
{
	enum outcome want = wanted(r->row, r->mode);
	struct pollfd p = {.fd = r->conn, .events = POLLIN};
	char data[8];

	if (write(r->pipes[3], "g", 1) != 1 ||
	    poll(&p, 1, want == REACHED || want == GAP ? PATIENCE_MS : 100) < 0)
		return;
	r->got = recv(r->conn, data, sizeof(data), MSG_DONTWAIT) > 0;
}

/* The parent's part, while the child runs. */
static void meet(struct run *r)
{
	struct tg_addr_key key = key_of(ADDR4, PORT_TARGET, IPPROTO_TCP, 32);

	switch (r->row->how) {
	case ALONE:
		return;
	case OLDER:
		if (!heard(r))
			return;
		r->conn = accept_in(env.server4, PATIENCE_MS);
		(void)!kern_addr_set(env.k, &key, TARGET);
		break;
	case HANDED:
		matrix_hand_over(servers.accomplice, r->a.carried);
		if (!heard(r))
			return;
		break;
	case CALLED:
		if (heard(r))
			r->got = matrix_call_in(r->row->from_port, r->pipes[3]);
		return;
	case HOLDING:
		if (!heard(r))
			return;
		break;
	}
	if (r->row->sweep)
		(void)!kern_sweep(env.k, NULL, NULL); /* told by what comes through */
	look(r);
}

static bool prepare(struct run *r)
{
	struct tg_addr_key key = key_of(ADDR4, PORT_TARGET, IPPROTO_TCP, 32);
	const struct matrix_row *row = r->row;
	struct sockaddr_storage ss;
	socklen_t len;
	int type = row->carried;

	CHECK(env_reset() && rules(row->deny));
	(void)!reached();
	CHECK(pipe(r->pipes) == 0 && pipe(r->pipes + 2) == 0);
	r->conn = -1;
	r->a = (struct attempt){.path = row->path,
				.cwd = row->cwd,
				.tell = r->pipes[1],
				.hear = r->pipes[2],
				.carried = -1,
				.daemon_port = env.port,
				.other = getpid()};
	snprintf(r->a.outer, sizeof(r->a.outer), "@tgtest-accomplice-%d", getpid());
	if (row->down)
		env_unlisten();
	if (row->how == OLDER)
		CHECK_EQ(kern_addr_delete(env.k, &key), 0);
	if (row->remake)
		CHECK(cgroup_remove("/agents") && cgroup_make("/agents"));
	if (!type)
		return true;
	r->a.carried = socket(AF_INET, type, 0);
	CHECK(r->a.carried >= 0);
	ss = addr_of(ADDR4, PORT_TARGET, &len);
	if (row->how == HANDED || row->how == HOLDING) {
		CHECK(connect(r->a.carried, (struct sockaddr *)&ss, len) == 0);
		r->conn = accept_in(env.server4, PATIENCE_MS);
		CHECK(r->conn >= 0);
	}
	return true;
}

static enum outcome judge(const struct run *r, int code)
{
	bool target = reached(), daemon = steered();

	if (code == TRY_BROKEN || code > 231)
		return BROKEN;
	if (target || r->got)
		return REACHED;
	if (daemon)
		return STEERED;
	if (r->row->how != ALONE)
		return r->conn >= 0 || r->row->how == CALLED ? CUT : REFUSED;
	if (!code && r->row->made)
		return REACHED;		/* the socket alone is the way */
	return code ? REFUSED : UNSEEN; /* it said it got somewhere, and nobody saw it */
}

static enum outcome attempt(const struct matrix_row *row, enum mode mode, int *ret_code)
{
	struct run r = {.row = row, .mode = mode};
	enum outcome o = BROKEN;
	int status;
	pid_t pid;

	*ret_code = 0;
	if (!prepare(&r))
		return BROKEN;
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		close(r.pipes[0]);
		close(r.pipes[3]);
		_exit(as_agent(&r));
	}
	close(r.pipes[1]);
	close(r.pipes[2]);
	meet(&r);
	close(r.pipes[3]); /* a child that still waits ends */
	if (waitpid(pid, &status, 0) == pid && WIFEXITED(status)) {
		*ret_code = WEXITSTATUS(status);
		usleep(5000);
		o = judge(&r, *ret_code);
		/* It got somewhere: on a busy machine the other end is told late. */
		for (int i = 0; o == UNSEEN && i < PATIENCE_MS / 10; i++) {
			usleep(10000);
			o = judge(&r, *ret_code);
		}
		o = o == UNSEEN ? BROKEN : o;
	}
	close(r.pipes[0]);
	if (r.conn >= 0)
		close(r.conn);
	if (r.a.carried >= 0)
		close(r.a.carried);
	return o;
}

/* --- rows */

struct result {
	enum outcome got[MODES];
	int code[MODES];
	bool ok;
};

static bool as_wanted(enum outcome *got, const struct matrix_row *row, enum mode mode)
{
	enum outcome want = wanted(row, mode);
	enum outcome best = mode == PLAIN ? row->plain : row->launched;

	/* Where this kernel lacks something the launcher may still do it. */
	if (mode != CONTROL && want == GAP && best != GAP && *got == best)
		return true;
	if (*got != REACHED || want != GAP || !kern_way_words[row->way].gap[0])
		return *got == want;
	*got = GAP;
	return true;
}

/* What the control was told where neither kernel nor host has such a thing. */
static bool lacks(int code)
{
	return code == EAFNOSUPPORT || code == EPROTONOSUPPORT || code == ESOCKTNOSUPPORT ||
	       code == ENOSYS || code == EINVAL;
}

static struct result run_row(const struct matrix_row *row)
{
	struct result r = {.ok = true, .got = {ABSENT, ABSENT, ABSENT}};

	if (!row->no_control) {
		r.got[CONTROL] = attempt(row, CONTROL, &r.code[CONTROL]);
		if (r.got[CONTROL] == REFUSED && lacks(r.code[CONTROL])) {
			r.got[CONTROL] = ABSENT;
			return r;
		}
	}
	for (enum mode m = CONTROL; m < MODES; m++) {
		if (m != CONTROL)
			r.got[m] = attempt(row, m, &r.code[m]);
		r.ok = as_wanted(&r.got[m], row, m) && r.ok;
	}
	return r;
}

static void row_json(struct jsonw *w, const struct matrix_row *row, const struct result *r)
{
	static const char *const names[][2] = {{"control", "control_errno"},
					       {"plain", "plain_errno"},
					       {"launched", "launched_errno"}};

	jsonw_object(w);
	jsonw_kv_string(w, "class", kern_way_words[row->way].label);
	jsonw_kv_string(w, "attempt", row->name);
	jsonw_kv_string(w, "hook", row->hook);
	for (enum mode m = CONTROL; m < MODES; m++) {
		jsonw_kv_string(w, names[m][0], outcome_words[r->got[m]]);
		jsonw_kv_u64(w, names[m][1], (uint64_t)r->code[m]);
	}
	jsonw_kv_bool(w, "ok", r->ok);
	if (r->got[PLAIN] == GAP || r->got[LAUNCHED] == GAP)
		jsonw_kv_string(w, "gap", kern_way_words[row->way].gap);
	jsonw_object_end(w);
}

static void row_text(enum matrix_form form, const struct matrix_row *row, const struct result *r)
{
	const char *plain = outcome_words[r->got[PLAIN]];
	const char *launched = outcome_words[r->got[LAUNCHED]];

	if (form == MATRIX_TEST)
		printf("  %-7s matrix: %s: %s; launched: %s\n", r->ok ? "ok" : "FAIL", row->name,
		       plain, launched);
	else
		printf("%-10s %-50s %-20s %-10s %-10s %-10s%s\n", kern_way_words[row->way].label,
		       row->name, row->hook, row->no_control ? "-" : outcome_words[r->got[CONTROL]],
		       plain, launched, r->ok ? "" : "  UNEXPLAINED");
	for (enum mode m = CONTROL; !r->ok && m < MODES; m++)
		printf("          wanted %s, got %s, errno %d\n", outcome_words[wanted(row, m)],
		       outcome_words[r->got[m]], r->code[m]);
	fflush(stdout);
}

static void gaps_text(void)
{
	printf("\nNamed gaps:\n");
	for (size_t i = 0; i < KERN_WAY_COUNT; i++)
		if (!kern_way_closed(i))
			printf("%-10s %s\n", kern_way_words[i].label, kern_way_words[i].gap);
}

bool matrix_run(enum matrix_form form, const char *only, int *passed, int *failed)
{
	struct jsonw w;
	struct buf out;

	if (!set_up())
		return false;
	buf_init(&out, 1 << 20);
	jsonw_init(&w, &out, true);
	jsonw_array(&w);
	if (form == MATRIX_TABLE)
		printf("%-10s %-50s %-20s %-10s %-10s %-10s\n", "CLASS", "ATTEMPT", "STOPPED BY",
		       "NO AGENT", "AGENT", "LAUNCHED");
	for (const struct matrix_row *row = matrix_rows; row->name; row++) {
		struct result r;

		if (only && !strstr(row->name, only) && !strstr("matrix", only))
			continue;
		limit_begin(row->name, 0);
		r = run_row(row);
		r.ok = limit_kept() && r.ok;
		*(r.ok ? passed : failed) += 1;
		if (form == MATRIX_JSON)
			row_json(&w, row, &r);
		else
			row_text(form, row, &r);
	}
	jsonw_array_end(&w);
	if (form == MATRIX_JSON && !jsonw_end(&w))
		printf("%.*s\n", (int)out.n, (const char *)buf_data(&out));
	if (form == MATRIX_TABLE)
		gaps_text();
	buf_done(&out);
	return true;
}
