/* SPDX-License-Identifier: MIT */
/* Starting, feeding and restarting the child processes. */
#include "daemon/children.h"

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
#include "daemon/eventsock.h"
#include "daemon/glogin.h"
#include "daemon/hand.h"
#include "daemon/learned.h"
#include "daemon/registry.h"
#include "daemon/roles.h"
#include "daemon/whois.h"
#include "daemon/parent.h"
#include "daemon/plugin.h"
#include "daemon/sandbox.h"
#include "daemon/trust.h"
#include "daemon/crew.h"
#include "daemon/upgrade.h"
#include "kern/kern.h"

enum { RESTART_MS = 200, RESTART_MAX_MS = 10000, STABLE_NS_S = 30 };
/* A child that reads nothing for so long is stuck; a question to keyd takes no longer. */
enum { FLUSH_MS = 1000, KEYD_LATE_S = 5, NAMED_LATE_S = 20 };

static const char *const role_names[] = {
	[ROLE_WORKER] = "worker", [ROLE_KEYD] = "keyd", [ROLE_AUTHD] = "authd", [ROLE_NAMED] = "named",
	[ROLE_ROLED] = "roled"};

enum { ACCOUNT_NAME = 128 };

/*
 * Each role has an account of its own: "tidegate", "tidegate-keyd", "tidegate-authd"; but roled, which
 * is as a worker is.
 */
static const struct passwd *account_of(const struct config *cfg, enum role role,
				       char name[ACCOUNT_NAME])
{
	if (role == ROLE_WORKER || role == ROLE_ROLED)
		(void)snprintf(name, ACCOUNT_NAME, "%s", cfg->user);
	else
		(void)snprintf(name, ACCOUNT_NAME, "%s-%s", cfg->user, role_names[role]);
	return getpwnam(name);
}

int children_accounts(const struct config *cfg, struct buf *error)
{
	char name[ACCOUNT_NAME];

	for (unsigned role = 0; role < ARRAY_SIZE(role_names); role++) {
		if (account_of(cfg, (enum role)role, name))
			continue;
		(void)!buf_printf(error, "there is no user %s (daemon.user is %s)", name, cfg->user);
		return -ENOENT;
	}
	return 0;
}

static int find_account(const struct child *c, uid_t *ret_uid, gid_t *ret_gid)
{
	char name[ACCOUNT_NAME];
	const struct passwd *pw = account_of(c->p->cfg, c->role, name);

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
		    opt_role[] = "--role", opt_name[] = "--name", opt_log[] = "--log", opt_first[] = "--log-first";
	char *envp[3] = {path, NULL, NULL};
	char role[16], name[16], level[16];
	char *argv[] = {program, opt_role, role, opt_name, name,
			log_level_kept() ? opt_log : opt_first, level, NULL};
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
	if (c->role == ROLE_KEYD) /* its configuration may name one that takes a restart */
		ipc_put_str(c->ipc, c->p->cfg->state_dir);
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
	trust_send(c);
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
	c->ready = c->told = false;
	c->started_boot_ns = clock_boot_ns();
	send_init(c, uid, gid);
	if (c->role != ROLE_WORKER)
		child_send_config(c);
	if (c->role == ROLE_AUTHD)
		eventsock_give(c->p);
	return 0;
}

static void on_restart(uv_timer_t *t)
{
	struct child *c = container_of(t, struct child, restart);

	if (c->p->stopping)
		return;
	if (start(c)) {
		log_error("%s cannot be started", c->name);
		(void)uv_timer_start(&c->restart, on_restart, RESTART_MAX_MS, 0);
	}
}

void child_start_late(struct child *c)
{
	on_restart(&c->restart);
}

static void roled_keyd_gone(struct parent *p, const struct child *keyd)
{
	if (keyd != &p->keyd)
		return;
	roles_keyd_gone(p);
	if (!p->roled.ipc)
		return;
	ipc_begin(p->roled.ipc, IPC_KEY_GONE, 0);
	ipc_send(p->roled.ipc);
}

/* Some are gone: their sessions are over, and they are started again. */
static void died(struct child *c, int status)
{
	struct parent *p = c->p;
	bool stable = clock_boot_ns() - c->started_boot_ns > STABLE_NS_S * 1000000000ull;
	/* keyd ends by itself when there are secrets to read again. */
	bool renewed = c->role == ROLE_KEYD && WIFEXITED(status) && WEXITSTATUS(status) == 0;
	bool clean = c->retired && (c->role != ROLE_WORKER || (WIFEXITED(status) && WEXITSTATUS(status) == 0));

	if (clean)
		log_info("%s of before has ended", c->name);
	else if (WIFSIGNALED(status) && WTERMSIG(status) == SIGSYS)
		log_error("%s used a system call that its sandbox forbids", c->name);
	else if (WIFSIGNALED(status))
		log_error("%s died: %s", c->name, strsignal(WTERMSIG(status)));
	else if ((!p->stopping && !renewed) || WEXITSTATUS(status))
		log_error("%s exited with status %d", c->name, WEXITSTATUS(status));
	c->pid = 0;
	/*
	 * Its end may be known before its last words are read: sessions that it has closed, say.
	 * One that is not known to have begun is not begun with any more.
	 */
	if (c->ipc && c->ready)
		ipc_finish(c->ipc);
	c->ready = false;
	ipc_free(c->ipc);
	c->ipc = NULL;
	if (c->role == ROLE_WORKER) {
		grants_worker_died(p, c);
		glogin_worker_died(p, c);
		registry_worker_died(p, c);
	} else if (c->role == ROLE_AUTHD) {
		idp_gone(p, c);
		whois_authd_gone(p, c);
	} else if (c->role == ROLE_NAMED && !c->retired) {
		learned_gone(p);
	} else if (c->role == ROLE_ROLED) {
		roles_roled_gone(p);
	} else if (c->role == ROLE_KEYD) {
		glogin_keyd_gone(p, c);
		roled_keyd_gone(p, c);
		each_worker(p, w)
		{
			if (c->retired && !w->retired)
				continue; /* has asked the new one */
			ipc_begin(w->ipc, IPC_KEY_GONE, 0);
			ipc_send(w->ipc);
		}
	}
	if (c->retired && c->role != ROLE_WORKER) {
		c->retired = false;
		return;
	}
	if (clean && !c->norphans) {
		crew_release(c);
		return;
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
	if (p->roled.pid == pid)
		return &p->roled;
	for (size_t i = 0; i < OLD_MAX; i++)
		if (p->old[i].pid == pid)
			return &p->old[i];
	return p->keyd.pid == pid ? &p->keyd : p->authd.pid == pid ? &p->authd : NULL;
}

static void other_reaped(struct parent *p, pid_t pid, int status)
{
	plugin_reaped(p, pid, status);
	upgrade_reaped(p, pid, status);
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
			other_reaped(p, pid, status);
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

int child_map_stats(struct child *c)
{
	c->stats = mmap(NULL, STATS_BYTES, PROT_READ, MAP_SHARED, c->stats_fd, 0);
	return c->stats == MAP_FAILED ? -errno : 0;
}

static int open_stats(struct child *c)
{
	c->stats_fd = memfd_shared("tidegate-stats", STATS_BYTES);
	return c->stats_fd < 0 ? c->stats_fd : child_map_stats(c);
}

void child_init(struct parent *p, struct child *c, enum role role, uint32_t index)
{
	*c = (struct child){.p = p,
			    .role = role,
			    .index = index,
			    .stats_fd = -1,
			    .journal_fd = -1,
			    .route = c == &p->authd   ? ROUTE_AUTHD
				     : c == &p->roled ? ROUTE_ROLED
						      : (uint8_t)index};
	if (role == ROLE_WORKER)
		(void)snprintf(c->name, sizeof(c->name), "worker %u", index & 0xffff);
	else
		(void)snprintf(c->name, sizeof(c->name), "%s", role_names[role]);
	(void)uv_timer_init(&p->loop, &c->restart);
}

int child_prepare(struct parent *p, struct child *c, enum role role, uint32_t index)
{
	child_init(p, c, role, index);
	return role == ROLE_WORKER || role == ROLE_NAMED ? open_stats(c) : 0;
}

/* Something is to be asked of, or verified by the keys of, somebody elsewhere. */
static bool wants_authd(const struct config *c)
{
	bool wants = c->idp || c->nways;

	for (uint32_t i = 0; i < c->nagents; i++)
		wants |= c->agents[i].token != NULL;
	return wants;
}

int children_start(struct parent *p)
{
	int rc = child_prepare(p, &p->keyd, ROLE_KEYD, 0);

	if (!rc)
		rc = child_prepare(p, &p->authd, ROLE_AUTHD, 0);
	if (!rc)
		rc = child_prepare(p, &p->named, ROLE_NAMED, 0);
	if (!rc)
		rc = child_prepare(p, &p->roled, ROLE_ROLED, 0);
	if (!rc)
		rc = crew_open(p);
	return rc ? rc : children_start_new(p);
}

void children_config(struct parent *p)
{
	for (uint32_t i = 0; i < p->nworkers; i++)
		if (p->workers[i].ready)
			child_send_config(&p->workers[i]);
	for (size_t i = 0; i < OLD_MAX; i++)
		if (p->old[i].role != ROLE_NAMED) /* is asked nothing any more */
			child_send_config(&p->old[i]);
	child_send_config(&p->keyd);
	if (p->authd.ipc)
		child_send_config(&p->authd);
	else if (wants_authd(p->cfg) && !p->authd.pid && start(&p->authd))
		log_error("authd cannot be started");
	if (p->named.ipc)
		child_send_config(&p->named);
	else if (learned_needed(p) && !p->named.pid && start(&p->named))
		log_error("named cannot be started");
	if (p->roled.ipc)
		child_send_config(&p->roled);
	else if (roles_wanted(p->cfg) && !p->roled.pid && start(&p->roled))
		log_error("roled cannot be started");
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

bool children_flushed(struct parent *p)
{
	bool all = true;

	for (uint32_t i = 0; i < p->nworkers; i++)
		all &= !p->workers[i].ipc || ipc_flushed(p->workers[i].ipc, FLUSH_MS);
	for (size_t i = 0; i < OLD_MAX; i++)
		all &= !p->old[i].ipc || ipc_flushed(p->old[i].ipc, FLUSH_MS);
	all &= !p->keyd.ipc || ipc_flushed(p->keyd.ipc, FLUSH_MS);
	all &= !p->authd.ipc || ipc_flushed(p->authd.ipc, FLUSH_MS);
	all &= !p->named.ipc || ipc_flushed(p->named.ipc, FLUSH_MS);
	return all;
}

int children_start_new(struct parent *p)
{
	int rc = start(&p->keyd);

	if (!rc && wants_authd(p->cfg))
		rc = start(&p->authd);
	if (!rc && learned_needed(p))
		rc = start(&p->named);
	if (!rc && roles_wanted(p->cfg))
		rc = start(&p->roled);
	for (uint32_t i = 0; !rc && i < p->nworkers; i++) {
		struct child *c = &p->workers[i];

		c->next = false;
		if (!c->pid && c->journal_fd >= 0)
			rc = start(c);
	}
	return rc;
}

static void retire(struct child *c)
{
	ipc_begin(c->ipc, IPC_RETIRE, 0);
	ipc_send(c->ipc);
	c->told = true;
}

void children_retire(struct parent *p)
{
	for (uint32_t i = 0; i < p->nworkers; i++) {
		const struct child *c = &p->workers[i];

		if (!c->retired && c->journal_fd >= 0 && !c->ready)
			return;
	}
	each_worker(p, c)
		if (c->retired && !c->told)
			retire(c);
}

void children_retire_old(struct parent *p, enum role role)
{
	for (size_t i = 0; i < OLD_MAX; i++)
		if (p->old[i].ipc && p->old[i].role == role)
			retire(&p->old[i]);
}

uint32_t children_retired(const struct parent *p)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < p->nworkers; i++)
		n += p->workers[i].retired;
	return n;
}

static bool still_needed(struct parent *p, const struct child *c, uint64_t age_ns)
{
	switch (c->role) {
	case ROLE_AUTHD:
		return grants_wait_for(p, c);
	case ROLE_NAMED: /* as long as the new one is not up */
		return age_ns < NAMED_LATE_S * 1000000000ull || (learned_needed(p) && !p->named.ready);
	case ROLE_KEYD:
	case ROLE_WORKER:
	case ROLE_ROLED: /* it has ended with the binary before */
		break;
	}
	return age_ns < KEYD_LATE_S * 1000000000ull;
}

void children_tick(struct parent *p)
{
	uint64_t age = clock_boot_ns() - p->taken_boot_ns;

	for (size_t i = 0; i < OLD_MAX; i++) {
		struct child *c = &p->old[i];

		if (c->pid && !still_needed(p, c, age))
			(void)kill(c->pid, SIGTERM);
	}
}
