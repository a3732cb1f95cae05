/* SPDX-License-Identifier: MIT */
#include "ctl/launch.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <linux/securebits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { MEM_MAJOR = 1 }; /* /dev/null and its like */

static int say(struct buf *error, int rc, const char *what)
{
	(void)!buf_printf(error, "%s: %s", what, strerror(-rc));
	return rc;
}

/* ---------------------------------------------------------- descriptors */

/*
 * A socket that was made outside belongs to another cgroup for good, so nothing here judges
 * what goes through it. A unix socket ends at a process of this host.
 */
static int check_stdio(const struct launch *l, int fd, struct buf *error)
{
	static const char *const names[] = {"standard input", "standard output", "standard error"};
	int domain = -1;
	socklen_t n = sizeof(domain);
	struct stat st;

	if (fstat(fd, &st))
		return 0; /* closed */
	if (S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode) ||
	    (S_ISCHR(st.st_mode) && (isatty(fd) || major(st.st_rdev) == MEM_MAJOR)))
		return 0;
	if (!S_ISSOCK(st.st_mode)) {
		(void)!buf_printf(error,
				  "%s is neither a file, a pipe nor a terminal: it would go along",
				  names[fd]);
		return -EPERM;
	}
	if (!getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) && domain == AF_UNIX) {
		if (l->stdio_sockets)
			return 0;
		(void)!buf_printf(error,
				  "%s is a unix socket: use a pipe, or --keep-stdio-sockets if it is "
				  "a service manager's",
				  names[fd]);
		return -EPERM;
	}
	(void)!buf_printf(error, "%s is a network socket, which would lead around the gate",
			  names[fd]);
	return -EPERM;
}

/* Files and pipes only: a device, a socket or an io_uring would be a way out. */
static int check_passed(int fd, struct buf *error)
{
	struct stat st;

	if (fd <= STDERR_FILENO || fstat(fd, &st)) {
		(void)!buf_printf(error, "--pass-fd %d: there is no such descriptor", fd);
		return -EBADF;
	}
	if (S_ISREG(st.st_mode) || S_ISFIFO(st.st_mode))
		return 0;
	(void)!buf_printf(error, "--pass-fd %d: only files and pipes are passed, %s", fd,
			  S_ISSOCK(st.st_mode) ? "sockets never" : "not this");
	return -EPERM;
}

int launch_check_fds(const struct launch *l, struct buf *error)
{
	int rc = 0;

	for (int fd = STDIN_FILENO; !rc && fd <= STDERR_FILENO; fd++)
		rc = check_stdio(l, fd, error);
	for (size_t i = 0; !rc && i < l->npass_fds; i++)
		rc = check_passed(l->pass_fds[i], error);
	return rc;
}

static int by_number(const void *a, const void *b)
{
	return *(const int *)a - *(const int *)b;
}

static int close_all_but(const struct launch *l)
{
	unsigned int from = STDERR_FILENO + 1;
	int keep[LAUNCH_FDS_MAX];

	memcpy(keep, l->pass_fds, sizeof(keep));
	qsort(keep, l->npass_fds, sizeof(keep[0]), by_number);
	for (size_t i = 0; i < l->npass_fds; i++) {
		unsigned int fd = (unsigned int)keep[i];

		if (fd > from && syscall(SYS_close_range, from, fd - 1, 0))
			return -errno;
		if (fcntl(keep[i], F_SETFD, 0))
			return -errno;
		from = fd + 1;
	}
	return syscall(SYS_close_range, from, ~0u, 0) ? -errno : 0;
}

/* --------------------------------------------------------- membership */

static int join(const struct launch *l)
{
	int fd = openat(l->cgroup_fd, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	int rc;

	if (fd < 0)
		return -errno;
	rc = write(fd, "0", 1) == 1 ? 0 : -errno;
	close(fd);
	return rc;
}

/* ---------------------------------------------------------- privileges */

static int drop_bounding_set(void)
{
	for (unsigned long cap = 0;; cap++) {
		int there = prctl(PR_CAPBSET_READ, cap, 0, 0, 0);

		if (there < 0)
			return errno == EINVAL && cap > CAP_CHOWN ? 0 : -errno;
		if (there && prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			return -errno;
	}
}

/* Uid 0 and files with capabilities give none any more; nobody can undo that. */
static int lock_securebits(void)
{
	return prctl(PR_SET_SECUREBITS,
		     (SECURE_ALL_BITS & ~issecure_mask(SECURE_KEEP_CAPS)) | SECURE_ALL_LOCKS, 0, 0, 0)
		       ? -errno
		       : 0;
}

static int drop_sets(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};

	if (prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
		return -errno;
	return syscall(SYS_capset, &head, none) ? -errno : 0;
}

static int become_user(const struct launch *l)
{
	if (l->user ? initgroups(l->user, l->gid) : setgroups(0, NULL))
		return -errno;
	if (setresgid(l->gid, l->gid, l->gid) || setresuid(l->uid, l->uid, l->uid))
		return -errno;
	return 0;
}

/* What was done is looked at once more: from here on somebody else's code runs. */
static int verify(const struct launch *l)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct now[2];
	uid_t r, e, s;

	if (getresuid(&r, &e, &s) || r != l->uid || e != l->uid || s != l->uid ||
	    syscall(SYS_capget, &head, now))
		return -EPERM;
	for (size_t i = 0; i < ARRAY_SIZE(now); i++)
		if (now[i].effective || now[i].permitted || now[i].inheritable)
			return -EPERM;
	for (unsigned long cap = CAP_CHOWN; cap <= CAP_LAST_CAP; cap++)
		if (prctl(PR_CAPBSET_READ, cap, 0, 0, 0) > 0)
			return -EPERM;
	if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 1 || prctl(PR_GET_SECCOMP, 0, 0, 0, 0) != 2)
		return -EPERM;
	return 0;
}

int launch_enter(const struct launch *l, struct buf *error)
{
	int rc = launch_check_fds(l, error);

	if (rc)
		return rc;
	/* First: whatever this process still makes belongs to the agent already. */
	rc = l->cgroup_fd >= 0 ? join(l) : 0;
	if (rc == -EBUSY) {
		(void)!buf_printf(error,
				  "cgroup %s has controllers for its children and takes no processes "
				  "itself: name one below it, --cgroup %s/NAME",
				  l->cgroup, l->cgroup);
		return rc;
	}
	if (rc)
		return say(error, rc, "the agent's cgroup cannot be joined");
	rc = close_all_but(l);
	if (rc)
		return say(error, rc, "descriptors cannot be closed");
	rc = drop_bounding_set();
	if (!rc)
		rc = lock_securebits();
	if (rc)
		return say(error, rc, "capabilities cannot be dropped");
	rc = become_user(l);
	if (rc)
		return say(error, rc, "the agent's user cannot be taken");
	rc = drop_sets();
	if (rc)
		return say(error, rc, "capabilities cannot be dropped");
	rc = launch_filter(&l->allow);
	if (rc)
		return say(error, rc, "the system call filter cannot be set");
	/* In a domain no namespace mounts anything, and its processes are not debugged from another. */
	rc = l->allow.ptrace || l->allow.namespaces ? 0 : launch_domain();
	if (rc)
		return say(error, rc, "other processes' memory cannot be put out of reach");
	rc = verify(l);
	return rc ? say(error, rc, "something did not take effect") : 0;
}
