/* SPDX-License-Identifier: MIT */
#include "daemon/upgrade.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/audit.h"
#include "daemon/children.h"
#include "daemon/downtime.h"
#include "daemon/hand.h"
#include "daemon/ready.h"

enum { CHECK_MS = 60000, SAID_MAX = 4096 };
/* Descriptors of the check: configuration, and the binary, which is closed on execution. */
enum { CHECK_CFG_FD = HANDOVER_CFG_FD, CHECK_BIN_FD = 4 };

static const char *const levels[] = {"error", "warning", "notice", "info", "debug"};

struct upgrade {
	struct parent *p;
	int bin; /* what was checked is what is executed, whatever is at the path by then */
	pid_t pid;
	int out;
	uv_poll_t poll;
	uv_timer_t timer;
	unsigned handles;
	bool ended, late; /* the check is over; it took too long */
	int status;
	bool eof;
	struct buf said;
	struct ready ready; /* what the check has loaded; `said` describes it */
};

/* ------------------------------------------------------------- the end of it */

static void on_handle_closed(uv_handle_t *handle)
{
	struct upgrade *u = handle->data;

	if (--u->handles)
		return;
	close(u->out);
	close(u->bin);
	ready_done(&u->ready);
	buf_done(&u->said);
	free(u);
}

static void upgrade_free(struct upgrade *u)
{
	u->p->upgrade = NULL;
	uv_close((uv_handle_t *)&u->poll, on_handle_closed);
	uv_close((uv_handle_t *)&u->timer, on_handle_closed);
}

static void refuse(struct upgrade *u, const char *why)
{
	struct parent *p = u->p;
	struct ctl_error e = {.code = "failed"};

	(void)snprintf(e.message, sizeof(e.message), "%s cannot take over: %s", p->program, why);
	(void)snprintf(e.hint, sizeof(e.hint), "nothing has changed; see the log of tidegated");
	log_error("no upgrade: %s", e.message);
	(void)audit_write(p, AUDIT_NOTE, "daemon.upgrade_refused", "{s:s, s:s}", "binary", p->program,
			  "why", why);
	control_upgraded(p, NULL, &e);
	upgrade_free(u);
}

/* ----------------------------------------------------------------- execution */

/* Until the new binary has its handlers, what comes waits: by default these would end it. */
static void hold_signals(bool on)
{
	sigset_t set;

	(void)sigfillset(&set);
	(void)sigprocmask(on ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

/* Returns only if it failed. */
static int execute(struct upgrade *u, const struct hand *h, int state)
{
	static char opt_config[] = "-c", opt_log[] = "-l", opt_first[] = "--log-first", opt_hand[] = "--handover";
	char number[16], path[4096], level[16], program[sizeof(u->p->program)];
	char *argv[] = {program, opt_config, path, log_level_kept() ? opt_log : opt_first,
			level, opt_hand, number, NULL};
	int rc;

	(void)snprintf(program, sizeof(program), "%s", u->p->program);
	(void)snprintf(path, sizeof(path), "%s", u->p->config_path);
	(void)snprintf(level, sizeof(level), "%s", levels[log_max()]);
	(void)snprintf(number, sizeof(number), "%d", state);
	hold_signals(true);
	hand_keep_fds(h, true);
	(void)execveat(u->bin, "", argv, environ, AT_EMPTY_PATH);
	rc = -errno;
	hand_keep_fds(h, false);
	hold_signals(false);
	return rc;
}

static void go(struct upgrade *u)
{
	struct parent *p = u->p;
	struct hand h = {0};
	struct buf error;
	char why[512];
	int rc, state = -1;

	buf_init(&error, 512);
	rc = children_flushed(p) ? children_reserve(p, &error) : -EBUSY;
	if (!rc) {
		downtime_tick(p);
		audit_tick(p, true);
		state = handover_save(p, &h, &u->ready, buf_slice(&u->said));
		rc = state < 0 ? state : execute(u, &h, state);
		children_unreserve(p);
	}
	(void)snprintf(why, sizeof(why), "%.*s", (int)error.n, (const char *)buf_data(&error));
	if (!error.n)
		(void)snprintf(why, sizeof(why), "%s",
			       h.why[0]	      ? "the state cannot be written down"
			       : rc == -EBUSY ? "a process of the daemon does not read its messages"
					      : strerror(-rc));
	buf_done(&error);
	hand_done(&h);
	if (state >= 0)
		close(state);
	refuse(u, why);
}

/* -------------------------------------------------------------------- check */

/* The last line of what it said is the reason. */
static void judge(struct upgrade *u)
{
	char why[512];
	const char *at;
	size_t n = u->said.n;

	if (WIFEXITED(u->status) && WEXITSTATUS(u->status) == 0) {
		go(u);
		return;
	}
	at = n ? (const char *)buf_data(&u->said) : "";
	while (n && (at[n - 1] == '\n' || at[n - 1] == ' '))
		n--;
	for (size_t i = n; i > 0; i--) {
		if (at[i - 1] != '\n')
			continue;
		at += i;
		n -= i;
		break;
	}
	if (u->late)
		(void)snprintf(why, sizeof(why), "it has not answered for %d s", CHECK_MS / 1000);
	else if (n)
		(void)snprintf(why, sizeof(why), "%.*s", (int)min_size(n, 400), at);
	else if (WIFSIGNALED(u->status))
		(void)snprintf(why, sizeof(why), "it died: %s", strsignal(WTERMSIG(u->status)));
	else
		(void)snprintf(why, sizeof(why), "it exited with status %d", WEXITSTATUS(u->status));
	refuse(u, why);
}

static void on_said(uv_poll_t *handle, int status, int events)
{
	struct upgrade *u = handle->data;
	char part[512];
	ssize_t n = ready_receive(u->out, &u->ready, part, sizeof(part));

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0) {
		/* What is too long loses its end; whether it may go on, the exit status says. */
		(void)!buf_append(&u->said, part, (size_t)n);
		return;
	}
	(void)uv_poll_stop(&u->poll);
	u->eof = true;
	if (u->ended)
		judge(u);
}

void upgrade_reaped(struct parent *p, pid_t pid, int status)
{
	struct upgrade *u = p->upgrade;

	if (!u || u->pid != pid)
		return;
	u->ended = true;
	u->status = status;
	if (u->eof || u->late)
		judge(u);
}

static void on_late(uv_timer_t *timer)
{
	struct upgrade *u = timer->data;

	u->late = true;
	(void)kill(u->pid, SIGKILL);
	if (u->ended) /* somebody else holds its output */
		judge(u);
}

/* In the forked child. Never returns. */
static NORETURN void run_check(const struct upgrade *u, int out)
{
	static char opt_check[] = "--handover-check", opt_config[] = "-c";
	char spec[256], program[sizeof(u->p->program)], path[4096];
	char *argv[] = {program, opt_check, spec, opt_config, path, NULL};
	int cfg, bin, first, null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	sigset_t none;

	(void)prctl(PR_SET_PDEATHSIG, SIGKILL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	(void)snprintf(program, sizeof(program), "%s", u->p->program);
	(void)snprintf(path, sizeof(path), "%s", u->p->config_path);
	handover_spec(spec, sizeof(spec));
	/* Out of the way of the numbers that they are to have. */
	cfg = fcntl(u->p->cfg_fd, F_DUPFD_CLOEXEC, 16);
	bin = fcntl(u->bin, F_DUPFD_CLOEXEC, 16);
	first = fcntl(u->p->start_fd, F_DUPFD_CLOEXEC, 16);
	out = fcntl(out, F_DUPFD_CLOEXEC, 16);
	if (null < 0 || cfg < 0 || bin < 0 || first < 0 || out < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 ||
	    dup2(out, 2) < 0 || dup2(cfg, CHECK_CFG_FD) < 0 ||
	    dup3(bin, CHECK_BIN_FD, O_CLOEXEC) < 0 || dup2(first, HANDOVER_START_FD) < 0 ||
	    close_range(HANDOVER_START_FD + 1, ~0u, 0))
		_exit(126);
	(void)execveat(CHECK_BIN_FD, "", argv, environ, AT_EMPTY_PATH);
	dprintf(2, "%s\n", errno == ENOENT ? "it is a script, or its loader is missing" : strerror(errno));
	_exit(127);
}

static int start_check(struct upgrade *u)
{
	int fds[2], rc;

	/* A socket: with its word comes what it has loaded. */
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds))
		return -errno;
	u->out = fds[0];
	u->pid = fork();
	if (u->pid == 0)
		run_check(u, fds[1]);
	rc = u->pid < 0 ? -errno : 0;
	close(fds[1]);
	if (rc) {
		close(fds[0]);
		return rc;
	}
	u->poll.data = u->timer.data = u;
	BUG_ON(uv_timer_init(&u->p->loop, &u->timer));
	BUG_ON(uv_poll_init(&u->p->loop, &u->poll, u->out));
	u->handles = 2;
	(void)uv_poll_start(&u->poll, UV_READABLE, on_said);
	(void)uv_timer_start(&u->timer, on_late, CHECK_MS, 0);
	return 0;
}

int upgrade_begin(struct parent *p, struct buf *error)
{
	struct upgrade *u;
	int rc;

	if (p->stopping || p->upgrade) {
		(void)!buf_printf(error, p->stopping ? "the daemon is stopping"
						     : "an upgrade is being prepared already");
		return p->stopping ? -ESHUTDOWN : -EALREADY;
	}
	u = calloc(1, sizeof(*u));
	if (!u)
		return -ENOMEM;
	u->p = p;
	buf_init(&u->said, SAID_MAX);
	u->bin = open(p->program, O_RDONLY | O_CLOEXEC);
	rc = u->bin < 0 ? -errno : start_check(u);
	if (rc) {
		(void)!buf_printf(error, "%s: %s", p->program, strerror(-rc));
		if (u->bin >= 0)
			close(u->bin);
		free(u);
		return rc;
	}
	p->upgrade = u;
	log_notice("upgrade: %s is asked whether it can take over", p->program);
	return 0;
}
