/* SPDX-License-Identifier: MIT */
#include "daemon/peek.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/openat2.h>
#include <openssl/evp.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <grp.h>
#include <unistd.h>

#include "daemon/procfs.h"
#include "daemon/sandbox.h"

enum {
	RUNNING_MAX = 32,
	RUNNING_AGENT = 8,
	FILE_MS = 1000,
	DIGEST_MS = 5000,
	GROUPS_MAX = 256,
	ENV_MAX = 256 << 10,
	ANSWER_MAX = sizeof(int32_t) + PEEK_MAX,
};

struct peek {
	struct list link;
	struct peeks *of;
	struct peek_job job;
	peek_done *done; /* NULL: told, or nobody wants it any more */
	void *ctx;
	bool running;
	int pidfd, nhandles;
	uv_poll_t poll;
	uv_timer_t timer;
	int fd;
	size_t n;
	uint8_t *mem; /* ANSWER_MAX bytes, once it runs */
};

struct peeks {
	uv_loop_t *loop;
	struct list running, waiting;
	uint32_t nrunning;
};

const char *peek_words(int error)
{
	switch (error) {
	case ENOENT:
	case ENOTDIR:
		return "it is not there";
	case EACCES:
	case EPERM:
		return "the agent's own user may not read it";
	case ELOOP:
		return "it is behind a link that is not followed";
	case EINVAL:
		return "it is no regular file";
	case EFBIG:
		return "it is longer than 16 KiB";
	case ENODATA:
		return "it is empty";
	case ESRCH:
		return "the agent's process has ended, or is another";
	case ETIMEDOUT:
		return "it could not be read in time";
	case EOPNOTSUPP:
		return "its file system is one that the agent could make up";
	}
	return strerror(error);
}

/* ------------------------------------------------------------- the child */
/*
 * A copy of the parent with its signal handlers, whose pipe is the parent's too: they go first.
 * Whatever the agent's files and mounts do to it happens to it alone.
 */

static int check_process(const struct peek_job *j, int pidfd)
{
	struct pollfd gone = {.fd = pidfd, .events = POLLIN};
	uint64_t started;

	if (!procfs_started(j->pid, &started) || started != j->started_boot_ns)
		return -ESRCH;
	return poll(&gone, 1, 0) == 0 ? 0 : -ESRCH;
}

/* Of the process: a file may be readable by a group of its only. */
static int read_groups(uint32_t pid, gid_t *ret_gid, gid_t *groups, size_t *ret_n)
{
	static char text[16 << 10];
	const char *line;
	char *at;

	if (procfs_read(pid, "status", text, sizeof(text)) <= 0)
		return -ESRCH;
	line = strstr(text, "\nGid:");
	if (!line || sscanf(line, "\nGid: %u", ret_gid) != 1)
		return -ESRCH;
	line = strstr(text, "\nGroups:");
	if (!line)
		return -ESRCH;
	at = (char *)line + sizeof("\nGroups:") - 1;
	for (*ret_n = 0; *ret_n < GROUPS_MAX; (*ret_n)++) {
		at += strspn(at, " \t");
		if (*at < '0' || *at > '9')
			break;
		groups[*ret_n] = (gid_t)strtoul(at, &at, 10);
	}
	return 0;
}

static int drop_all(const struct peek_job *j)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};
	gid_t gid, groups[GROUPS_MAX];
	size_t n;
	int rc = read_groups(j->pid, &gid, groups, &n);

	if (rc)
		return rc;
	if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    setgroups(n, groups) || setresgid(gid, gid, gid) ||
	    setresuid(j->uid, j->uid, j->uid) || syscall(SYS_capset, &head, none) ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) || prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0))
		return -errno;
	return j->uid != 0 && setresuid((uid_t)-1, 0, (uid_t)-1) == 0 ? -EPERM : 0;
}

/* White space at the end is an editor's. */
static int trimmed(const char *p, size_t n)
{
	while (n && strchr(" \t\r\n", p[n - 1]) && p[n - 1])
		n--;
	if (n > PEEK_MAX)
		return -EFBIG;
	return n ? (int)n : -ENODATA;
}

/* Nothing but a regular file is ever opened: to open a device may do something. */
static int open_regular(int root, const char *path)
{
	struct open_how how = {.flags = O_PATH | O_CLOEXEC,
			       .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
	int fd = (int)syscall(SYS_openat2, root, path, &how, sizeof(how));
	char self[48];
	struct stat st;

	if (fd < 0)
		return -errno;
	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return -EINVAL;
	if (st.st_size > PEEK_MAX)
		return -EFBIG;
	(void)snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	fd = open(self, O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/* Up to @cap bytes; their number. */
static ssize_t read_all(int fd, char *dst, size_t cap)
{
	size_t n = 0;
	ssize_t got;

	while (n < cap) {
		got = read(fd, dst + n, cap - n);
		if (got < 0)
			return -errno;
		if (got == 0)
			break;
		n += (size_t)got;
	}
	return (ssize_t)n;
}

static int read_file(const struct peek_job *j, int pidfd, char *dst)
{
	static char text[PEEK_MAX + 64];
	char path[48];
	int root, fd, rc;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%u/root", j->pid);
	root = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (root < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	rc = check_process(j, pidfd);
	if (!rc)
		rc = drop_all(j);
	if (rc)
		return rc;
	fd = open_regular(root, j->name);
	if (fd < 0)
		return fd;
	n = read_all(fd, text, sizeof(text));
	rc = n < 0 ? (int)n : trimmed(text, (size_t)n);
	if (rc > 0)
		memcpy(dst, text, (size_t)rc);
	return rc;
}

static int read_env(const struct peek_job *j, int pidfd, char *dst)
{
	static char text[ENV_MAX];
	size_t len = strlen(j->name);
	const char *at = text, *end;
	char path[48];
	int fd, rc;
	ssize_t n;

	(void)snprintf(path, sizeof(path), "/proc/%u/environ", j->pid);
	/* Whose memory it is was settled by opening it. */
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	rc = check_process(j, pidfd);
	if (!rc)
		rc = drop_all(j);
	n = rc ? rc : read_all(fd, text, sizeof(text));
	if (n < 0)
		return (int)n;
	for (end = text + n; at < end; at += strnlen(at, (size_t)(end - at)) + 1) {
		size_t left = strnlen(at, (size_t)(end - at));

		if (left <= len || memcmp(at, j->name, len) != 0 || at[len] != '=')
			continue;
		if (at + left == end && (size_t)n == sizeof(text))
			return -EFBIG; /* cut off */
		rc = trimmed(at + len + 1, left - len - 1);
		if (rc > 0)
			memcpy(dst, at + len + 1, (size_t)rc);
		return rc;
	}
	return -ENOENT;
}

static int hash(int fd, uint8_t ret[32])
{
	static uint8_t part[256 << 10];
	EVP_MD_CTX *md = EVP_MD_CTX_new();
	ssize_t n = 0;
	bool ok = md && EVP_DigestInit_ex(md, EVP_sha256(), NULL) == 1;

	while (ok && (n = read(fd, part, sizeof(part))) > 0)
		ok = EVP_DigestUpdate(md, part, (size_t)n) == 1;
	if (n < 0)
		return -errno;
	return ok && EVP_DigestFinal_ex(md, ret, NULL) == 1 ? 0 : -ENOMEM;
}

static uint64_t ns(const struct timespec *t)
{
	return (uint64_t)t->tv_sec * 1000000000 + (uint64_t)t->tv_nsec;
}

/* A file system in user space shows one thing to who executes and another to who reads. */
static int read_digest(const struct peek_job *j, int pidfd, char *dst)
{
	struct peek_digest d = {0};
	struct statfs fs;
	struct stat st;
	char path[48];
	int fd, rc;

	(void)snprintf(path, sizeof(path), "/proc/%u/exe", j->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0)
		return errno == ENOENT ? -ESRCH : -errno;
	if (fstatfs(fd, &fs) || fstat(fd, &st))
		return -errno;
	if (fs.f_type == FUSE_SUPER_MAGIC)
		return -EOPNOTSUPP;
	rc = check_process(j, pidfd);
	if (!rc)
		rc = drop_all(j);
	if (!rc)
		rc = hash(fd, d.sha256);
	if (rc)
		return rc;
	d.dev = st.st_dev;
	d.inode = st.st_ino;
	d.size = (uint64_t)st.st_size;
	d.mtime_ns = ns(&st.st_mtim);
	d.ctime_ns = ns(&st.st_ctim);
	memcpy(dst, &d, sizeof(d));
	return (int)sizeof(d);
}

static NORETURN void child(const struct peek_job *j, int out)
{
	static uint8_t answer[ANSWER_MAX];
	char *dst = (char *)answer + sizeof(int32_t);
	int32_t rc = -ESRCH;
	sigset_t none;
	int pidfd;

	for (int s = 1; s < NSIG; s++)
		(void)signal(s, SIG_DFL);
	(void)sigemptyset(&none);
	(void)sigprocmask(SIG_SETMASK, &none, NULL);
	if ((out != 3 && dup2(out, 3) < 0) || close_range(4, ~0u, 0))
		_exit(126);
	pidfd = (int)syscall(SYS_pidfd_open, j->pid, 0);
	if (pidfd >= 0 && j->what == PEEK_FILE)
		rc = read_file(j, pidfd, dst);
	else if (pidfd >= 0 && j->what == PEEK_ENV)
		rc = read_env(j, pidfd, dst);
	else if (pidfd >= 0)
		rc = read_digest(j, pidfd, dst);
	memcpy(answer, &rc, sizeof(rc));
	/* It fits into the pipe. */
	_exit(write(3, answer, sizeof(rc) + (rc > 0 ? (size_t)rc : 0)) < 0);
}

/* ------------------------------------------------------------ the parent */

static void run_more(struct peeks *all);

static void on_handle_closed(uv_handle_t *h)
{
	struct peek *r = h->data;

	if (--r->nhandles)
		return;
	explicit_bzero(r->mem, ANSWER_MAX);
	free(r->mem);
	free(r);
}

static void release(struct peek *r)
{
	list_del(&r->link);
	if (!r->running) {
		free(r);
		return;
	}
	r->of->nrunning--;
	close(r->fd);
	close(r->pidfd);
	uv_close((uv_handle_t *)&r->poll, on_handle_closed);
	uv_close((uv_handle_t *)&r->timer, on_handle_closed);
}

static void tell(struct peek *r, int error)
{
	peek_done *done = r->done;
	struct slice s = error ? slice_of("", 0)
			       : slice_of(r->mem + sizeof(int32_t), r->n - sizeof(int32_t));

	r->done = NULL;
	if (done)
		done(r->ctx, error, s);
}

/* Waited for until it is really gone: one that cannot be killed keeps its place. */
static void kill_child(struct peek *r)
{
	(void)syscall(SYS_pidfd_send_signal, r->pidfd, SIGKILL, NULL, 0);
	(void)uv_timer_stop(&r->timer);
}

static void on_timeout(uv_timer_t *t)
{
	struct peek *r = t->data;

	kill_child(r);
	tell(r, ETIMEDOUT);
}

static void ended(struct peek *r)
{
	struct peeks *all = r->of;
	int32_t rc;

	if (r->n < sizeof(rc)) {
		tell(r, EIO);
	} else {
		memcpy(&rc, r->mem, sizeof(rc));
		if (rc > 0 && (size_t)rc != r->n - sizeof(rc))
			rc = -EIO;
		tell(r, rc < 0 ? -rc : 0);
	}
	release(r);
	run_more(all);
}

static void on_readable(uv_poll_t *h, int status, int events)
{
	struct peek *r = h->data;
	ssize_t n = status < 0 ? 0 : read(r->fd, r->mem + r->n, ANSWER_MAX - r->n);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n > 0)
		r->n += (size_t)n;
	else
		ended(r);
}

static int spawn(struct peek *r)
{
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC | O_NONBLOCK))
		return -errno;
	pid = fork();
	if (pid == 0)
		child(&r->job, fds[1]);
	close(fds[1]);
	/* Before the loop runs again nobody can have reaped it. */
	r->pidfd = pid < 0 ? -1 : (int)syscall(SYS_pidfd_open, pid, 0);
	if (r->pidfd < 0) {
		int rc = -errno;

		if (pid > 0)
			(void)kill(pid, SIGKILL);
		close(fds[0]);
		return rc;
	}
	r->fd = fds[0];
	return 0;
}

static int run(struct peek *r)
{
	struct peeks *all = r->of;
	int rc;

	r->mem = malloc(ANSWER_MAX);
	rc = r->mem ? spawn(r) : -ENOMEM;
	if (rc) {
		free(r->mem);
		return rc;
	}
	list_add_tail(&all->running, &r->link);
	all->nrunning++;
	r->running = true;
	r->nhandles = 2;
	BUG_ON(uv_poll_init(all->loop, &r->poll, r->fd));
	(void)uv_timer_init(all->loop, &r->timer);
	r->poll.data = r->timer.data = r;
	(void)uv_poll_start(&r->poll, UV_READABLE, on_readable);
	(void)uv_timer_start(&r->timer, on_timeout,
			     r->job.what == PEEK_DIGEST ? DIGEST_MS : FILE_MS, 0);
	return 0;
}

static bool has_place(const struct peeks *all, const struct peek *r)
{
	uint32_t n = 0;

	if (all->nrunning >= RUNNING_MAX)
		return false;
	list_each(it, &all->running)
		n += container_of(it, struct peek, link)->job.agent == r->job.agent;
	return n < RUNNING_AGENT;
}

static void run_more(struct peeks *all)
{
	list_each(it, &all->waiting)
	{
		struct peek *r = container_of(it, struct peek, link);

		if (all->nrunning >= RUNNING_MAX)
			return;
		if (!has_place(all, r))
			continue;
		list_del(&r->link);
		if (run(r)) {
			tell(r, EAGAIN);
			free(r);
		}
	}
}

struct peek *peek_start(struct parent *p, const struct peek_job *job, peek_done *done,
			    void *ctx)
{
	struct peek *r;

	if (!p->peeks) {
		p->peeks = calloc(1, sizeof(*p->peeks));
		if (!p->peeks)
			return NULL;
		p->peeks->loop = &p->loop;
		list_init(&p->peeks->running);
		list_init(&p->peeks->waiting);
	}
	r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	list_init(&r->link);
	r->of = p->peeks;
	r->job = *job;
	r->done = done;
	r->ctx = ctx;
	if (!has_place(p->peeks, r)) {
		list_add_tail(&p->peeks->waiting, &r->link);
		return r;
	}
	if (run(r) == 0)
		return r;
	free(r);
	return NULL;
}

void peek_cancel(struct peek *r)
{
	if (!r)
		return;
	r->done = NULL;
	if (r->running)
		kill_child(r);
	else
		release(r);
}
