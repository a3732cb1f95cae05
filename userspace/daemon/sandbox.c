/* SPDX-License-Identifier: MIT */
#include "daemon/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"

/* Rights that Linux 5.13 knows; later ones are asked for by version. */
#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define FS_ALL                                                                                     \
	(FS_READ | LANDLOCK_ACCESS_FS_EXECUTE | LANDLOCK_ACCESS_FS_WRITE_FILE |                    \
	 LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |                          \
	 LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR | LANDLOCK_ACCESS_FS_MAKE_REG | \
	 LANDLOCK_ACCESS_FS_MAKE_SOCK | LANDLOCK_ACCESS_FS_MAKE_FIFO |                             \
	 LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_MAKE_SYM)

/*
 * What no program that is run later could get either. It takes CAP_SETPCAP, which the unit does not
 * leave us: there no_new_privs alone keeps it so.
 */
static void drop_bounding(void)
{
	for (unsigned long cap = 0; prctl(PR_CAPBSET_READ, cap, 0, 0, 0) >= 0; cap++)
		(void)prctl(PR_CAPBSET_DROP, cap, 0, 0, 0);
}

static int drop_capabilities(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	const struct __user_cap_data_struct none[2] = {{0}};

	return syscall(SYS_capset, &head, none) ? -errno : 0;
}

int sandbox_drop(uid_t uid, gid_t gid)
{
	int rc;

	drop_bounding();
	if (setgroups(0, NULL) || setresgid(gid, gid, gid) || setresuid(uid, uid, uid))
		return -errno;
	/* Inherited ones survive a change of the user. */
	rc = drop_capabilities();
	if (rc)
		return rc;
	/* A way back would be a bug of the kernel or of the three lines above. */
	if (uid != 0 && setresuid((uid_t)-1, 0, (uid_t)-1) == 0)
		return -EPERM;
	return 0;
}

static int landlock_version(void)
{
	return (int)syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
}

bool sandbox_has_landlock(void)
{
	return landlock_version() > 0;
}

/* No file but what lies under @readable, which may be read. */
static int restrict_files(const char *const *readable)
{
	struct landlock_ruleset_attr attr = {.handled_access_fs = FS_ALL};
	int fd, rc = 0;

	if (!sandbox_has_landlock())
		return 0; /* named in `tidegate status`; the process owns no file anyway */
	fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (fd < 0)
		return -errno;
	for (; *readable; readable++) {
		struct landlock_path_beneath_attr under = {
			.allowed_access = FS_READ,
			.parent_fd = open(*readable, O_PATH | O_CLOEXEC),
		};
		struct stat st;

		if (under.parent_fd < 0)
			continue; /* not on this host */
		/* A right that only folders have is refused for anything else. */
		if (fstat(under.parent_fd, &st) == 0 && !S_ISDIR(st.st_mode))
			under.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE;
		if (syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &under, 0))
			rc = -errno;
		close(under.parent_fd);
	}
	if (!rc && syscall(SYS_landlock_restrict_self, fd, 0))
		rc = -errno;
	close(fd);
	return rc;
}

static const int calls_common[] = {
	SCMP_SYS(read),		  SCMP_SYS(write),	   SCMP_SYS(readv),
	SCMP_SYS(writev),	  SCMP_SYS(recvmsg),	   SCMP_SYS(sendmsg),
	SCMP_SYS(recvfrom),	  SCMP_SYS(sendto),	   SCMP_SYS(close),
	SCMP_SYS(epoll_wait),	  SCMP_SYS(epoll_pwait),   SCMP_SYS(epoll_ctl),
	SCMP_SYS(epoll_create1),  SCMP_SYS(poll),	   SCMP_SYS(ppoll),
	SCMP_SYS(eventfd2),	  SCMP_SYS(pipe2),	   SCMP_SYS(dup),
	SCMP_SYS(fcntl),	  SCMP_SYS(ioctl),	   SCMP_SYS(mmap),
	SCMP_SYS(munmap),	  SCMP_SYS(mremap),	   SCMP_SYS(mprotect),
	SCMP_SYS(madvise),	  SCMP_SYS(brk),	   SCMP_SYS(futex),
	SCMP_SYS(clock_gettime),  SCMP_SYS(clock_nanosleep), SCMP_SYS(gettimeofday),
	SCMP_SYS(nanosleep),	  SCMP_SYS(getrandom),	   SCMP_SYS(getpid),
	SCMP_SYS(gettid),	  SCMP_SYS(tgkill),	   SCMP_SYS(exit),
	SCMP_SYS(exit_group),	  SCMP_SYS(rt_sigaction),  SCMP_SYS(rt_sigprocmask),
	SCMP_SYS(rt_sigreturn),	  SCMP_SYS(sigaltstack),   SCMP_SYS(restart_syscall),
	SCMP_SYS(set_robust_list), SCMP_SYS(rseq),	   SCMP_SYS(sched_yield),
	SCMP_SYS(sched_getaffinity), SCMP_SYS(membarrier), SCMP_SYS(fstat),
	SCMP_SYS(newfstatat),	  SCMP_SYS(lseek),	   SCMP_SYS(getuid),
	SCMP_SYS(geteuid),	  SCMP_SYS(getgid),	   SCMP_SYS(getegid),
	SCMP_SYS(sysinfo),	  SCMP_SYS(uname),	   SCMP_SYS(prlimit64),
	SCMP_SYS(getcpu),	  SCMP_SYS(timerfd_settime),
};

static const int calls_network[] = {
	SCMP_SYS(socket),      SCMP_SYS(connect),     SCMP_SYS(accept4),
	SCMP_SYS(setsockopt),  SCMP_SYS(getsockopt),  SCMP_SYS(getsockname),
	SCMP_SYS(getpeername), SCMP_SYS(shutdown),    SCMP_SYS(socketpair),  SCMP_SYS(dup3),
};

/* Recordings: files that came as descriptors. */
static const int calls_files[] = {
	SCMP_SYS(pread64),  SCMP_SYS(pwrite64),	 SCMP_SYS(preadv),	 SCMP_SYS(pwritev),
	SCMP_SYS(ftruncate), SCMP_SYS(fdatasync), SCMP_SYS(fsync),	 SCMP_SYS(msync),
	SCMP_SYS(fallocate), SCMP_SYS(flock),	 SCMP_SYS(sync_file_range),
};

/* authd: the resolver, certificates. Landlock says which files. */
static const int calls_resolve[] = {
	SCMP_SYS(openat),   SCMP_SYS(open),	 SCMP_SYS(stat),     SCMP_SYS(access),
	SCMP_SYS(faccessat), SCMP_SYS(faccessat2), SCMP_SYS(readlink), SCMP_SYS(getdents64),
	SCMP_SYS(sendmmsg), SCMP_SYS(bind),	 SCMP_SYS(statx),    SCMP_SYS(pread64),
	SCMP_SYS(lstat),    SCMP_SYS(getcwd),	 SCMP_SYS(readlinkat), SCMP_SYS(prctl),
};

static int allow_all(scmp_filter_ctx f, const int *calls, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int rc = seccomp_rule_add(f, SCMP_ACT_ALLOW, calls[i], 0);

		/* A call that this architecture does not have needs no rule. */
		if (rc && rc != -EDOM && rc != -EINVAL)
			return rc;
	}
	return 0;
}

/* Threads (libuv's pool), not processes; glibc falls back from clone3 to clone. */
static int allow_threads(scmp_filter_ctx f)
{
	int rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);

	return rc ? rc
		  : seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				     SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
}

static int load(scmp_filter_ctx f, int rc)
{
	if (!rc)
		rc = allow_all(f, calls_common, ARRAY_SIZE(calls_common));
	if (!rc)
		rc = allow_threads(f);
	if (!rc)
		rc = seccomp_load(f);
	seccomp_release(f);
	return rc;
}

static int begin(const char *const *readable, scmp_filter_ctx *ret)
{
	int rc;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return -errno;
	rc = restrict_files(readable);
	if (rc)
		return rc;
	*ret = seccomp_init(SANITIZED ? SCMP_ACT_ALLOW : SCMP_ACT_KILL_PROCESS);
	return *ret ? 0 : -ENOMEM;
}

static const char *const no_files[] = {NULL};

/* Look-ups in maps whose descriptor we were given, nothing else of bpf(). */
static int allow_lookup(scmp_filter_ctx f)
{
	return seccomp_rule_add(f, SCMP_ACT_ALLOW, SCMP_SYS(bpf), 1,
				SCMP_A0(SCMP_CMP_EQ, BPF_MAP_LOOKUP_ELEM, 0));
}

int sandbox_worker(void)
{
	scmp_filter_ctx f;
	int rc = SANITIZED ? 0 : begin(no_files, &f);

	if (SANITIZED || rc)
		return rc;
	rc = allow_all(f, calls_network, ARRAY_SIZE(calls_network));
	if (!rc)
		rc = allow_all(f, calls_files, ARRAY_SIZE(calls_files));
	if (!rc)
		rc = allow_lookup(f);
	return load(f, rc);
}

int sandbox_named(void)
{
	/* c-ares seeds itself from it. */
	static const char *const readable[] = {"/dev/urandom", NULL};
	scmp_filter_ctx f;
	int rc = SANITIZED ? 0 : begin(readable, &f);

	if (SANITIZED || rc)
		return rc;
	rc = allow_all(f, calls_network, ARRAY_SIZE(calls_network));
	if (!rc)
		rc = allow_all(f, calls_resolve, ARRAY_SIZE(calls_resolve));
	if (!rc)
		rc = allow_lookup(f);
	return load(f, rc);
}

int sandbox_roled(void)
{
	scmp_filter_ctx f;
	int rc = SANITIZED ? 0 : begin(no_files, &f);

	return SANITIZED || rc ? rc : load(f, allow_all(f, calls_network, ARRAY_SIZE(calls_network)));
}

int sandbox_keyd(void)
{
	scmp_filter_ctx f;
	int rc = SANITIZED ? 0 : begin(no_files, &f);

	return SANITIZED || rc ? rc : load(f, 0);
}

int sandbox_authd(void)
{
	static const char *const readable[] = {"/etc", "/usr/lib", "/usr/share", "/lib", "/run/systemd/resolve",
					       "/dev/urandom", "/proc/sys", NULL};
	scmp_filter_ctx f;
	int rc = SANITIZED ? 0 : begin(readable, &f);

	if (SANITIZED || rc)
		return rc;
	rc = allow_all(f, calls_network, ARRAY_SIZE(calls_network));
	if (!rc)
		rc = allow_all(f, calls_resolve, ARRAY_SIZE(calls_resolve));
	return load(f, rc);
}
