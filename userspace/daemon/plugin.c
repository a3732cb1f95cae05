/* SPDX-License-Identifier: MIT */
#include "daemon/plugin.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/children.h"
#include "daemon/parent.h"
#include "daemon/sandbox.h"

struct plugin {
	struct plugin *next;
	struct parent *p;
	char name[NAME_MAX_LEN]; /* of the credential */
	pid_t pid;
	int fd; /* what it has printed, from here */
	bool late;
	uv_timer_t timer;
};

static void tell(struct parent *p, struct slice name, int err, int fd)
{
	if (!p->keyd.ipc)
		return; /* the next one asks again */
	ipc_begin(p->keyd.ipc, IPC_PLUGIN_DONE, 0);
	ipc_put_slice(p->keyd.ipc, name);
	ipc_put_u32(p->keyd.ipc, (uint32_t)-err);
	if (!err)
		ipc_put_fd(p->keyd.ipc, fd);
	ipc_send(p->keyd.ipc);
}

/* ---------------------------------------------------------------- the child */

static NORETURN void become(const struct cfg_credential *c, int out, uid_t uid, gid_t gid)
{
	static char path[] = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
	static const struct rlimit none = {0, 0};
	char name[32 + NAME_MAX_LEN];
	char *envp[] = {path, name, NULL};
	int null = open("/dev/null", O_RDWR);
	sigset_t empty;

	(void)snprintf(name, sizeof(name), "TIDEGATE_CREDENTIAL=%s", c->name);
	(void)sigemptyset(&empty);
	(void)sigprocmask(SIG_SETMASK, &empty, NULL);
	/* What is ignored stays so in a new program. */
	(void)signal(SIGPIPE, SIG_DFL);
	(void)umask(077);
	if (null < 0 || setsid() < 0 || chdir("/") || setrlimit(RLIMIT_CORE, &none))
		_exit(126);
	/* What it says besides may hold the secret: nobody is told. */
	if (dup2(null, STDIN_FILENO) < 0 || dup2(out, STDOUT_FILENO) < 0 ||
	    dup2(null, STDERR_FILENO) < 0 || close_range(STDERR_FILENO + 1, ~0u, 0))
		_exit(126);
	if (sandbox_drop(uid, gid) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
		_exit(126);
	(void)execve(c->exec[0], (char **)(uintptr_t)c->exec, envp);
	_exit(127);
}

/* NULL, or why it must not be run. */
static const char *check_program(const char *path, uid_t uid)
{
	struct stat st;

	if (stat(path, &st))
		return strerror(errno);
	if (!S_ISREG(st.st_mode))
		return "it is no regular file";
	if (st.st_uid != 0 && st.st_uid != uid)
		return "it must belong to root or to the account of `run_as`";
	return st.st_mode & 022 ? "its group or others may change it: chmod go-w" : NULL;
}

static const char *check_account(const struct parent *p, const struct cfg_credential *c,
				 uid_t *ret_uid, gid_t *ret_gid)
{
	const struct passwd *pw = getpwnam(c->run_as);
	uint32_t ours[8];
	size_t n;

	if (!pw)
		return "there is no such user";
	*ret_uid = pw->pw_uid;
	*ret_gid = pw->pw_gid;
	n = children_uids(p, ours, ARRAY_SIZE(ours));
	for (size_t i = 0; i < n; i++)
		if (ours[i] == *ret_uid)
			return "it is an account of Tidegate itself, which could watch the program";
	return *ret_uid == 0 ? "it is root's" : NULL;
}

/* ------------------------------------------------------------------- running */

static void on_late(uv_timer_t *t)
{
	struct plugin *g = container_of(t, struct plugin, timer);

	g->late = true;
	(void)kill(-g->pid, SIGKILL);
	(void)kill(g->pid, SIGKILL);
}

/* The reading end does not block: whoever reads it does so when the program has ended. */
static int make_pipe(int fds[2])
{
	if (pipe2(fds, O_CLOEXEC))
		return -errno;
	return fcntl(fds[0], F_SETFL, O_NONBLOCK) ? -errno : 0;
}

static int start(struct parent *p, const struct cfg_credential *c, uid_t uid, gid_t gid)
{
	struct plugin *g = calloc(1, sizeof(*g));
	int fds[2], err = g ? make_pipe(fds) : -ENOMEM;

	if (!err) {
		g->pid = fork();
		if (g->pid == 0)
			become(c, fds[1], uid, gid);
		err = g->pid < 0 ? -errno : 0;
		(void)close(fds[1]);
		if (err)
			(void)close(fds[0]);
	}
	if (err) {
		free(g);
		return err;
	}
	g->p = p;
	g->fd = fds[0];
	(void)snprintf(g->name, sizeof(g->name), "%s", c->name);
	(void)uv_timer_init(&p->loop, &g->timer);
	(void)uv_timer_start(&g->timer, on_late, c->timeout_ms, 0);
	g->next = p->plugins;
	p->plugins = g;
	return 0;
}

void plugin_run(struct parent *p, struct slice credential)
{
	const struct cfg_credential *c = config_credential(p->cfg, credential);
	const char *why;
	uid_t uid = 0;
	gid_t gid = 0;
	int err;

	for (const struct plugin *g = p->plugins; g; g = g->next)
		if (slice_eq_str(credential, g->name))
			return; /* keyd was started anew meanwhile: it gets what comes */
	if (!c || !c->exec || p->stopping) {
		tell(p, credential, -ENOENT, -1);
		return;
	}
	why = check_account(p, c, &uid, &gid);
	if (why) {
		log_error("credential %s: run_as %s: %s", c->name, c->run_as, why);
		tell(p, credential, -EPERM, -1);
		return;
	}
	why = check_program(c->exec[0], uid);
	if (why) {
		log_error("credential %s: %s is not run: %s", c->name, c->exec[0], why);
		tell(p, credential, -EPERM, -1);
		return;
	}
	err = start(p, c, uid, gid);
	if (err) {
		log_error("credential %s: %s: %s", c->name, c->exec[0], strerror(-err));
		tell(p, credential, err, -1);
	}
}

static void on_timer_closed(uv_handle_t *h)
{
	free(container_of((uv_timer_t *)h, struct plugin, timer));
}

static int judge(const struct plugin *g, int status)
{
	if (g->late)
		log_error("credential %s: its program did not end in time, and was killed", g->name);
	else if (WIFSIGNALED(status))
		log_error("credential %s: its program died: %s", g->name,
			  strsignal(WTERMSIG(status)));
	else if (WEXITSTATUS(status) == 127)
		log_error("credential %s: its program could not be run under its account", g->name);
	else if (WEXITSTATUS(status))
		log_error("credential %s: its program exited with status %d: run it by hand under its "
			  "account to see why", g->name, WEXITSTATUS(status));
	else
		return 0;
	return g->late ? -ETIMEDOUT : -ECHILD;
}

void plugin_reaped(struct parent *p, pid_t pid, int status)
{
	for (struct plugin **at = &p->plugins; *at; at = &(*at)->next) {
		struct plugin *g = *at;

		if (g->pid != pid)
			continue;
		*at = g->next;
		(void)kill(-pid, SIGKILL); /* what it has left behind */
		tell(p, slice_str(g->name), judge(g, status), g->fd);
		(void)close(g->fd);
		uv_close((uv_handle_t *)&g->timer, on_timer_closed);
		return;
	}
}
