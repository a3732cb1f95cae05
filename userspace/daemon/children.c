/* SPDX-License-Identifier: MIT */
/* Starting, feeding and restarting the child processes. */
#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/memfd.h"
#include "daemon/grants.h"
#include "daemon/learned.h"
#include "daemon/registry.h"
#include "daemon/parent.h"
#include "daemon/plugin.h"
#include "daemon/sandbox.h"
#include "kern/kern.h"

enum { RESTART_MS = 200, RESTART_MAX_MS = 10000, STABLE_NS_S = 30 };

static const char *const role_names[] = {
	[ROLE_WORKER] = "worker", [ROLE_KEYD] = "keyd", [ROLE_AUTHD] = "authd", [ROLE_NAMED] = "named"};

/* Each role has an account of its own: "tidegate", "tidegate-keyd", "tidegate-authd". */
static int find_account(const struct child *c, uid_t *ret_uid, gid_t *ret_gid)
{
	const char *base = c->p->cfg->user;
	char name[128];
	struct passwd *pw;

	if (c->role == ROLE_WORKER)
		(void)snprintf(name, sizeof(name), "%s", base);
	else
		(void)snprintf(name, sizeof(name), "%s-%s", base, role_names[c->role]);
	pw = getpwnam(name);
	if (!pw) {
		log_error("there is no user %s: create it (systemd-sysusers, or `useradd "
			  "--system --no-create-home --shell /usr/sbin/nologin %s`)",
			  name, name);
		return -ENOENT;
	}
	*ret_uid = pw->pw_uid;
	*ret_gid = pw->pw_gid;
	return 0;
}

size_t children_uids(const struct parent *p, uint32_t *uids, size_t cap)
{
	static const char *const tails[] = {"", "-authd", "-keyd", "-named"};
	size_t n = 0;

	for (size_t i = 0; i < ARRAY_SIZE(tails) && n < cap; i++) {
		const struct passwd *pw;
		char name[128];

		(void)snprintf(name, sizeof(name), "%s%s", p->cfg->user, tails[i]);
		pw = getpwnam(name);
		if (pw && pw->pw_uid != 0)
			uids[n++] = pw->pw_uid;
	}
	return n;
}

/* In the forked child: becomes the role. Never returns. */
static NORETURN void become(const struct child *c, int fd, uid_t uid, gid_t gid)
{
	static char path[] = "PATH=/usr/bin:/bin", journal[] = "JOURNAL_STREAM=1",
		    asan[] = "ASAN_OPTIONS=detect_leaks=0", program[] = "tidegated",
		    opt_role[] = "--role", opt_name[] = "--name", opt_log[] = "--log";
	char *envp[3] = {path, NULL, NULL};
	char role[16], name[16], level[16];
	char *argv[] = {program, opt_role, role, opt_name, name, opt_log, level, NULL};
	static const char *const levels[] = {"error", "warning", "notice", "info", "debug"};
	sigset_t none;

	(void)snprintf(role, sizeof(role), "%s", role_names[c->role]);
	(void)snprintf(name, sizeof(name), "%s", c->name);
	(void)snprintf(level, sizeof(level), "%s", levels[log_max()]);
	if (getenv("JOURNAL_STREAM"))
		envp[1] = journal;
	else if (getenv("ASAN_OPTIONS"))
		envp[1] = asan;
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	/* keyd reads its files first and drops by itself. */
	if (c->role != ROLE_KEYD && sandbox_drop(uid, gid))
		_exit(126);
	if (fd == IPC_CHILD_FD) {
		(void)fcntl(fd, F_SETFD, 0);
	} else if (dup2(fd, IPC_CHILD_FD) < 0) {
		_exit(126);
	}
	if (close_range(IPC_CHILD_FD + 1, ~0u, 0))
		_exit(126);
	(void)execve("/proc/self/exe", argv, envp);
	_exit(127);
}

static void send_init(struct child *c, uid_t uid, gid_t gid)
{
	ipc_begin(c->ipc, IPC_INIT, 0);
	ipc_put_u32(c->ipc, c->index);
	ipc_put_str(c->ipc, role_names[c->role]);
	if (c->role == ROLE_WORKER) {
		ipc_put_bytes(c->ipc, slice_of(c->p->mask_key, sizeof(c->p->mask_key)));
		ipc_put_fd(c->ipc, c->stats_fd);
		ipc_put_fd(c->ipc, c->journal_fd);
		if (c->p->kern)
			ipc_put_fd(c->ipc, kern_record_fd(c->p->kern));
	} else {
		ipc_put_u32(c->ipc, uid);
		ipc_put_u32(c->ipc, gid);
	}
	if (c->role == ROLE_NAMED) {
		ipc_put_fd(c->ipc, c->stats_fd);
		if (c->p->kern) {
			ipc_put_fd(c->ipc, kern_record_fd(c->p->kern));
			ipc_put_fd(c->ipc, kern_asker_fd(c->p->kern));
		}
	}
	ipc_send(c->ipc);
}

void child_send_config(struct child *c)
{
	if (!c->ipc)
		return;
	ipc_begin(c->ipc, IPC_CONFIG, 0);
	ipc_put_u64(c->ipc, c->p->generation);
	ipc_put_fd(c->ipc, c->p->cfg_fd);
	ipc_send(c->ipc);
	if (c->role == ROLE_NAMED)
		learned_tell(c);
}

static int start(struct child *c)
{
	int fds[2], rc;
	uid_t uid;
	gid_t gid;

	rc = find_account(c, &uid, &gid);
	if (rc)
		return rc;
	rc = ipc_pair(fds);
	if (rc)
		return rc;
	c->pid = fork();
	if (c->pid < 0) {
		rc = -errno;
		c->pid = 0;
		close(fds[0]);
		close(fds[1]);
		return rc;
	}
	if (c->pid == 0)
		become(c, fds[1], uid, gid);
	close(fds[1]);
	rc = ipc_new(&c->p->loop, fds[0], &route_ops, c, &c->ipc);
	if (rc) {
		(void)kill(c->pid, SIGKILL);
		close(fds[0]);
		return rc;
	}
	c->ready = false;
	c->started_boot_ns = clock_boot_ns();
	send_init(c, uid, gid);
	if (c->role != ROLE_WORKER)
		child_send_config(c);
	return 0;
}

static void on_restart(uv_timer_t *t)
{
	struct child *c = container_of(t, struct child, restart);

	if (c->p->stopping)
		return;
	if (start(c)) {
		log_error("%s cannot be started again", c->name);
		(void)uv_timer_start(&c->restart, on_restart, RESTART_MAX_MS, 0);
	}
}

/* Some are gone: their sessions are over, and they are started again. */
static void died(struct child *c, int status)
{
	struct parent *p = c->p;
	bool stable = clock_boot_ns() - c->started_boot_ns > STABLE_NS_S * 1000000000ull;
	/* keyd ends by itself when there are secrets to read again. */
	bool renewed = c->role == ROLE_KEYD && WIFEXITED(status) && WEXITSTATUS(status) == 0;

	if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		log_error("%s used a system call that its sandbox forbids", c->name);
	else if (WIFSIGNALED(status))
		log_error("%s died: %s", c->name, strsignal(WTERMSIG(status)));
	else if ((!p->stopping && !renewed) || WEXITSTATUS(status))
		log_error("%s exited with status %d", c->name, WEXITSTATUS(status));
	c->pid = 0;
	c->ready = false;
	ipc_free(c->ipc);
	c->ipc = NULL;
	if (c->role == ROLE_WORKER) {
		grants_worker_died(p, c);
		registry_worker_died(p, c);
	} else if (c->role == ROLE_AUTHD) {
		idp_gone(p);
	} else if (c->role == ROLE_NAMED) {
		learned_gone(p);
	} else if (c->role == ROLE_KEYD) {
		each_worker(p, w)
		{
			ipc_begin(w->ipc, IPC_KEY_GONE, 0);
			ipc_send(w->ipc);
		}
	}
	if (p->stopping)
		return;
	if (renewed) {
		(void)uv_timer_start(&c->restart, on_restart, 0, 0);
		return;
	}
	c->restarts++;
	/* One that dies at once, again and again, is given time. */
	(void)uv_timer_start(&c->restart, on_restart,
			     stable || c->restarts < 5 ? RESTART_MS : RESTART_MAX_MS, 0);
}

static struct child *by_pid(struct parent *p, pid_t pid)
{
	for (uint32_t i = 0; i < p->nworkers; i++)
		if (p->workers[i].pid == pid)
			return &p->workers[i];
	if (p->named.pid == pid)
		return &p->named;
	return p->keyd.pid == pid ? &p->keyd : p->authd.pid == pid ? &p->authd : NULL;
}

void children_reaped(struct parent *p)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		struct child *c = by_pid(p, pid);

		if (c)
			died(c, status);
		else
			plugin_reaped(p, pid, status);
	}
}

void child_add_orphan(struct child *c, const struct uuid *session, uint16_t reason)
{
	struct orphan *list = reallocarray(c->orphans, c->norphans + 1, sizeof(*list));

	if (!list)
		return; /* it stays as it is: complete but for its end */
	list[c->norphans++] = (struct orphan){*session, reason};
	c->orphans = list;
}

static void journal_path(const struct parent *p, uint32_t index, char *dst, size_t cap)
{
	(void)snprintf(dst, cap, "%s/journal-%u", p->cfg->state_dir, index);
}

static int open_journal(struct child *c)
{
	const struct config *cfg = c->p->cfg;
	char path[512];
	struct stat st;
	int fd, rc;

	journal_path(c->p, c->index, path, sizeof(path));
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fstat(fd, &st)) {
		rc = -errno;
		log_error("%s: %s", path, strerror(-rc));
		return rc;
	}
	/* A journal that holds tails keeps its size. */
	if (st.st_size == 0) {
		rc = posix_fallocate(fd, 0, (off_t)cfg->journal_bytes);
		if (rc) {
			log_error("%s: cannot reserve %llu bytes: %s", path,
				  (unsigned long long)cfg->journal_bytes, strerror(rc));
			(void)unlink(path);
			close(fd);
			return -rc;
		}
	}
	c->journal_fd = fd;
	return 0;
}

static int prepare_stats(struct child *c)
{
	c->stats_fd = memfd_shared("tidegate-stats", sizeof(*c->stats));
	if (c->stats_fd < 0)
		return c->stats_fd;
	c->stats = mmap(NULL, sizeof(*c->stats), PROT_READ, MAP_SHARED, c->stats_fd, 0);
	return c->stats == MAP_FAILED ? -errno : 0;
}

static int prepare_worker(struct child *c)
{
	int rc = open_journal(c);

	return rc ? rc : prepare_stats(c);
}

static int prepare(struct parent *p, struct child *c, enum role role, uint32_t index)
{
	*c = (struct child){.p = p, .role = role, .index = index, .stats_fd = -1, .journal_fd = -1};
	if (role == ROLE_WORKER)
		(void)snprintf(c->name, sizeof(c->name), "worker %u", index & 0xffff);
	else
		(void)snprintf(c->name, sizeof(c->name), "%s", role_names[role]);
	(void)uv_timer_init(&p->loop, &c->restart);
	if (role == ROLE_NAMED)
		return prepare_stats(c);
	return role == ROLE_WORKER ? prepare_worker(c) : 0;
}

/* As many as are wanted, and one for each journal that an earlier, larger number left. */
static uint32_t count_workers(const struct parent *p)
{
	uint32_t n = p->cfg->workers < WORKERS_MAX ? p->cfg->workers : WORKERS_MAX;
	char path[512];

	for (uint32_t i = n; i < WORKERS_MAX; i++) {
		journal_path(p, i, path, sizeof(path));
		if (access(path, F_OK) == 0)
			n = i + 1;
	}
	return n;
}

/* After a clean stop: journals that were only kept for their tails, and have none. */
void children_tidy(const struct parent *p)
{
	char path[512];

	for (uint32_t i = p->cfg->workers; i < p->nworkers; i++) {
		journal_path(p, i, path, sizeof(path));
		if (p->workers[i].stats->journal.slots_used == 0)
			(void)unlink(path);
	}
}

/* Decision points and assertions need no provider. */
static bool wants_authd(const struct parent *p)
{
	return p->cfg->idp || p->cfg->nways;
}

int children_start(struct parent *p)
{
	int rc = prepare(p, &p->keyd, ROLE_KEYD, 0);

	p->nworkers = count_workers(p);
	if (!rc)
		rc = prepare(p, &p->authd, ROLE_AUTHD, 0);
	if (!rc)
		rc = prepare(p, &p->named, ROLE_NAMED, 0);
	for (uint32_t i = 0; !rc && i < p->nworkers; i++)
		rc = prepare(p, &p->workers[i], ROLE_WORKER, i);
	if (!rc)
		rc = start(&p->keyd);
	if (!rc && wants_authd(p))
		rc = start(&p->authd);
	if (!rc && learned_needed(p))
		rc = start(&p->named);
	for (uint32_t i = 0; !rc && i < p->nworkers; i++)
		rc = start(&p->workers[i]);
	return rc;
}

void children_config(struct parent *p)
{
	for (uint32_t i = 0; i < p->nworkers; i++)
		if (p->workers[i].ready)
			child_send_config(&p->workers[i]);
	child_send_config(&p->keyd);
	if (p->authd.ipc)
		child_send_config(&p->authd);
	else if (wants_authd(p) && !p->authd.pid && start(&p->authd))
		log_error("authd cannot be started");
	if (p->named.ipc)
		child_send_config(&p->named);
	else if (learned_needed(p) && !p->named.pid && start(&p->named))
		log_error("named cannot be started");
}

void children_stop(struct parent *p)
{
	each_worker(p, c)
	{
		ipc_begin(c->ipc, IPC_DRAIN, 0);
		ipc_send(c->ipc);
	}
}

bool children_gone(const struct parent *p)
{
	for (uint32_t i = 0; i < p->nworkers; i++)
		if (p->workers[i].pid)
			return false;
	return true;
}
