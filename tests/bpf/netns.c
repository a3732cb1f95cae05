/* SPDX-License-Identifier: MIT */
/* What is told of agents in namespaces without a listener, and what is refused there. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "base/clock.h"
#include "env.h"

enum { SEEN_MAX = 4096, MANY = 2000 };

static struct seen {
	struct tg_netns_event ev[SEEN_MAX];
	unsigned int n;
} seen;

static void take(void *ctx, const struct tg_netns_event *ev)
{
	struct seen *s = ctx;

	if (s->n < SEEN_MAX)
		s->ev[s->n] = *ev;
	s->n++;
}

/* Events since the last call. */
static bool read_events(struct kern_events **e)
{
	if (!*e)
		CHECK_EQ(kern_events_new(env.k, take, &seen, e), 0);
	seen.n = 0;
	CHECK(kern_events_read(*e) >= 0);
	return true;
}

static uint64_t cookie_here(void)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	uint64_t cookie = 0;
	socklen_t n = sizeof(cookie);

	if (fd < 0 || getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &cookie, &n))
		return 0;
	close(fd);
	return cookie;
}

/* --- one child for each event; what it does comes after what makes it quiet is over */

struct step {
	enum tg_netns_how how;
	int pipe[2];
};

static void pause_quiet(void)
{
	usleep(3 * TG_NETNS_AGAIN_NS / 1000);
}

static int does(void *arg)
{
	struct step *s = arg;
	pid_t pid;
	int fd;

	switch (s->how) {
	case TG_NETNS_JOINED: /* done already */
		return 0;
	case TG_NETNS_EXEC:
		(void)execl("/bin/true", "true", (char *)NULL);
		return errno;
	case TG_NETNS_FORK:
		pid = fork();
		if (pid == 0)
			_exit(0);
		return pid > 0 && waitpid(pid, NULL, 0) == pid ? 0 : errno;
	case TG_NETNS_SOCKET:
		fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
		return fd >= 0 ? close(fd) : errno;
	}
	return EINVAL;
}

static int in_new_netns(void *arg)
{
	struct step *s = arg;
	uint64_t cookie;

	if (unshare(CLONE_NEWNET))
		return errno;
	/* Makes a socket, which is an event as well if this is an agent: a quiet one. */
	cookie = cookie_here();
	pause_quiet();
	if (write(s->pipe[1], &cookie, sizeof(cookie)) != sizeof(cookie))
		return 241;
	if (s->how == TG_NETNS_JOINED && !cgroup_join("/agents"))
		return 242;
	return does(s);
}

static bool told(struct kern_events **e, enum tg_netns_how how, const char *cgroup, bool want)
{
	struct step s = {.how = how};
	unsigned int hits = 0;
	uint64_t cookie;

	CHECK(pipe(s.pipe) == 0);
	CHECK(read_events(e));
	CHECK_EQ(client(cgroup, 0, in_new_netns, &s), 0);
	CHECK(read(s.pipe[0], &cookie, sizeof(cookie)) == sizeof(cookie) && cookie);
	CHECK(read_events(e));
	for (unsigned int i = 0; i < seen.n && i < SEEN_MAX; i++) {
		const struct tg_netns_event *ev = &seen.ev[i];

		CHECK_EQ(ev->netns_cookie, cookie);
		CHECK(ev->tgid && ev->tid && ev->started_boot_ns);
		CHECK(ev->started_boot_ns < clock_boot_ns());
		CHECK_EQ(ev->agent, AGENT);
		hits += ev->how == (uint32_t)how;
	}
	if (want)
		CHECK(hits >= 1);
	else
		CHECK_EQ(seen.n, 0);
	close(s.pipe[0]);
	close(s.pipe[1]);
	return true;
}

static bool each_event(void)
{
	struct kern_events *e = NULL;

	CHECK(told(&e, TG_NETNS_EXEC, "/agents", true));
	CHECK(told(&e, TG_NETNS_FORK, "/agents", true));
	CHECK(told(&e, TG_NETNS_SOCKET, "/agents", true));
	CHECK(told(&e, TG_NETNS_JOINED, "/plain", true));
	kern_events_free(e);
	return true;
}

static bool others_are_not_told(void)
{
	struct kern_events *e = NULL;

	CHECK(told(&e, TG_NETNS_EXEC, "/plain", false));
	CHECK(told(&e, TG_NETNS_FORK, "/plain", false));
	CHECK(told(&e, TG_NETNS_SOCKET, "/plain", false));
	/* An agent where the daemon listens is no news either. */
	CHECK(read_events(&e));
	CHECK_EQ(client("/agents", 0, does, &(struct step){.how = TG_NETNS_FORK}), 0);
	CHECK(read_events(&e));
	CHECK_EQ(seen.n, 0);
	kern_events_free(e);
	return true;
}

/* --- a namespace of one's own, to be watched from outside */

static int told_often(void *arg)
{
	int *pipes = arg;
	uint64_t cookie;
	char c;

	if (unshare(CLONE_NEWNET))
		return errno;
	cookie = cookie_here();
	if (write(pipes[1], &cookie, sizeof(cookie)) != sizeof(cookie) ||
	    read(pipes[2], &c, 1) != 1)
		return 241;
	pause_quiet();
	for (int i = 0; i < 50; i++)
		if (does(&(struct step){.how = TG_NETNS_FORK}))
			return 242;
	return 0;
}

/* A namespace that nothing can be done for makes no noise. */
static bool quiet(void)
{
	struct kern_events *e = NULL;
	int pipes[4];
	uint64_t cookie, mine = 0;
	pid_t pid;
	int status;

	CHECK(pipe(pipes) == 0 && pipe(pipes + 2) == 0);
	CHECK(read_events(&e));
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		env_unlisten();
		_exit(cgroup_join("/agents") ? told_often(pipes) : 250);
	}
	CHECK(pid > 0 && read(pipes[0], &cookie, sizeof(cookie)) == sizeof(cookie));
	CHECK_EQ(kern_events_quiet(env.k, cookie, clock_boot_ns() + 60000000000ull), 0);
	CHECK(read_events(&e));
	CHECK(write(pipes[3], "g", 1) == 1);
	CHECK(waitpid(pid, &status, 0) == pid);
	CHECK_EQ(WEXITSTATUS(status), 0);
	CHECK(read_events(&e));
	for (unsigned int i = 0; i < seen.n && i < SEEN_MAX; i++)
		mine += seen.ev[i].netns_cookie == cookie;
	CHECK_EQ(mine, 0);
	for (int i = 0; i < 4; i++)
		close(pipes[i]);
	kern_events_free(e);
	return true;
}

static int many(void *arg)
{
	char path[160];
	uint64_t cookie;
	int quiet_fd;

	snprintf(path, sizeof(path), "%s/%s/maps/tg_netns_quiet", env.bpf_dir, TG_ABI_VERSION);
	quiet_fd = bpf_obj_get(path);
	if (quiet_fd < 0 || unshare(CLONE_NEWNET))
		return errno;
	cookie = cookie_here(); /* the first one */
	for (int i = 1; i < MANY; i++)
		if (bpf_map_delete_elem(quiet_fd, &cookie) ||
		    does(&(struct step){.how = TG_NETNS_SOCKET}))
			return 241;
	return 0;
}

/* Nobody reads: what no longer fits is counted. */
static bool lost(void)
{
	struct kern_events *e = NULL;
	uint64_t before, after;

	CHECK(read_events(&e));
	CHECK_EQ(kern_events_lost(env.k, &before), 0);
	CHECK_EQ(client("/agents", 0, many, NULL), 0);
	CHECK_EQ(kern_events_lost(env.k, &after), 0);
	CHECK(after > before);
	CHECK(read_events(&e));
	CHECK_EQ(seen.n + (after - before), MANY);
	kern_events_free(e);
	return true;
}

/* --- fail-open means: while the daemon is down; not: faster than the daemon in a new place */

static struct dial to_target = {.ip = ADDR4, .port = PORT_TARGET};

static int dial_in_new_netns(void *arg)
{
	return unshare(CLONE_NEWNET) || !env_netns() ? 240 : dial(arg);
}

static bool fail_open(void)
{
	CHECK(target_mode(TG_MODE_STEER, TG_TARGET_FAIL_OPEN));
	CHECK_EQ(client("/agents", 0, dial_in_new_netns, &to_target), ECONNREFUSED);
	CHECK_EQ(counted(TG_K_DENIED_NO_LISTENER), 1);
	CHECK_EQ(counted(TG_K_FAILED_OPEN), 0);
	/* No daemon has been there at all: open everywhere. Nobody listens behind it here. */
	env_unlisten();
	CHECK_EQ(kern_listener_clear(env.k), 0);
	CHECK_EQ(client("/agents", 0, dial_in_new_netns, &to_target), ECONNREFUSED);
	CHECK_EQ(counted(TG_K_FAILED_OPEN), 1);
	CHECK_EQ(counted(TG_K_DENIED_NO_LISTENER), 1);
	return true;
}

/* Agents that come and go do not undo it. */
static bool served_is_kept(void)
{
	CHECK(cgroup_make("/other"));
	CHECK_EQ(kern_agent_cgroup_set(env.k, "/other", AGENT), 0);
	CHECK_EQ(kern_agent_cgroup_delete(env.k, "/other"), 0);
	CHECK(cgroup_remove("/other"));
	return fail_open();
}

static int find_own(void *ctx, uint64_t netns)
{
	const uint64_t *own = ctx;

	return netns == *own;
}

static bool one_by_one(void)
{
	uint64_t own = cookie_here();

	CHECK_EQ(kern_listener_each(env.k, find_own, &own), 1);
	CHECK_EQ(client("/agents", 0, dial, &to_target), 0);
	CHECK(accept_in(env.listen4, 1000) >= 0);
	CHECK_EQ(kern_listener_delete(env.k, own), 0);
	CHECK_EQ(kern_listener_delete(env.k, own), -ENOENT);
	CHECK_EQ(kern_listener_each(env.k, find_own, &own), 0);
	CHECK_EQ(client("/agents", 0, dial, &to_target), ECONNREFUSED);
	return true;
}

static int setuid_in_new_netns(void *arg)
{
	if (unshare(CLONE_NEWNET) || setresuid(UID_AGENT, UID_AGENT, UID_AGENT))
		return errno;
	return does(&(struct step){.how = TG_NETNS_FORK});
}

static bool by_uid(void)
{
	struct kern_events *e = NULL;

	CHECK_EQ(kern_agent_uid_set(env.k, UID_AGENT, AGENT_UID), 0);
	CHECK(read_events(&e));
	CHECK_EQ(client("/plain", 0, setuid_in_new_netns, NULL), 0);
	CHECK(read_events(&e));
	CHECK_EQ(seen.n, 1);
	CHECK_EQ(seen.ev[0].agent, AGENT_UID);
	CHECK_EQ(seen.ev[0].watched, 0);
	kern_events_free(e);
	return true;
}

const struct row netns_rows[] = {
	{"netns: exec, fork, socket and joining are told", each_event},
	{"netns: nobody else is", others_are_not_told},
	{"netns: quiet where nothing can be done", quiet},
	{"netns: agents by uid are told", by_uid},
	{"netns: what is lost is counted", lost},
	{"netns: fail-open is not for new namespaces", fail_open},
	{"netns: changes of agents keep that", served_is_kept},
	{"netns: listeners forgotten one by one", one_by_one},
	{NULL, NULL},
};
