/* SPDX-License-Identifier: MIT */
/*
 * What a child of the daemon may do once it is in its sandbox: each attempt in a process of its
 * own, which is let, is told an error, or is killed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/compiler.h"
#include "daemon/sandbox.h"

enum { WORKER, KEYD, ROLED, NAMED, AUTHD, ROLES };

static const struct {
	const char *name;
	int (*enter)(void);
} roles[ROLES] = {
	[WORKER] = {"worker", sandbox_worker}, [KEYD] = {"keyd", sandbox_keyd},
	[ROLED] = {"roled", sandbox_roled},    [NAMED] = {"named", sandbox_named},
	[AUTHD] = {"authd", sandbox_authd},
};

/* --------------------------------------------------------- attempts: 0 or an errno */

static int told(long rc)
{
	return rc < 0 ? errno : 0;
}

static int do_nothing(void)
{
	return told(write(STDERR_FILENO, "", 0));
}

static int read_etc(void)
{
	return told(openat(AT_FDCWD, "/etc/passwd", O_RDONLY));
}

static int write_etc(void)
{
	return told(openat(AT_FDCWD, "/etc/passwd", O_WRONLY));
}

static int read_root(void)
{
	return told(openat(AT_FDCWD, "/", O_RDONLY | O_DIRECTORY));
}

static int read_memory(void)
{
	return told(openat(AT_FDCWD, "/proc/1/maps", O_RDONLY));
}

static int delete_file(void)
{
	return told(unlink("/nowhere/at-all"));
}

static int open_socket(void)
{
	return told(socket(AF_INET, SOCK_STREAM, 0));
}

static int do_bpf(int cmd)
{
	uint64_t key = 0, value = 0;
	union bpf_attr attr = {.map_fd = (uint32_t)-1,
			       .key = (uint64_t)(uintptr_t)&key,
			       .value = (uint64_t)(uintptr_t)&value};

	return told(syscall(SYS_bpf, cmd, &attr, sizeof(attr)));
}

static int look_up(void)
{
	return do_bpf(BPF_MAP_LOOKUP_ELEM);
}

static int update(void)
{
	return do_bpf(BPF_MAP_UPDATE_ELEM);
}

static int delete_elem(void)
{
	return do_bpf(BPF_MAP_DELETE_ELEM);
}

static int load_prog(void)
{
	return do_bpf(BPF_PROG_LOAD);
}

static int run_program(void)
{
	static char name[] = "true";
	static char *const argv[] = {name, NULL}, *const envp[] = {NULL};

	return told(execve("/bin/true", argv, envp));
}

static int trace(void)
{
	return told(ptrace(PTRACE_ATTACH, getpid(), NULL, NULL));
}

static int read_other(void)
{
	return told(syscall(SYS_process_vm_readv, getpid(), NULL, 0ul, NULL, 0ul, 0ul));
}

static int make_process(void)
{
	long pid = syscall(SYS_clone, (long)SIGCHLD, NULL, NULL, NULL, NULL);

	if (pid == 0)
		_exit(0);
	return told(pid);
}

static int make_process3(void)
{
	return told(syscall(SYS_clone3, NULL, 0ul));
}

static int send_signal(void)
{
	return told(kill(getpid(), 0));
}

static int become_root(void)
{
	return told(syscall(SYS_setuid, 0));
}

static int leave(void)
{
	return told(unshare(CLONE_NEWUSER));
}

static int make_uring(void)
{
	return told(syscall(SYS_io_uring_setup, 1, NULL));
}

static int set_dumpable(void)
{
	return told(prctl(PR_SET_DUMPABLE, 1, 0, 0, 0));
}

/* ---------------------------------------------------------------------- the table */

enum { OK = 0, KILLED = -1 };

static const struct {
	const char *name;
	int (*try)(void);
	bool landlock;	   /* what holds it back */
	int expect[ROLES]; /* in the order of the enum */
} attempts[] = {
	{"write to an open file", do_nothing, false, {OK, OK, OK, OK, OK}},
	{"read /etc/passwd", read_etc, true, {KILLED, KILLED, KILLED, EACCES, OK}},
	{"write /etc/passwd", write_etc, true, {KILLED, KILLED, KILLED, EACCES, EACCES}},
	{"read /", read_root, true, {KILLED, KILLED, KILLED, EACCES, EACCES}},
	{"read /proc/1/maps", read_memory, true, {KILLED, KILLED, KILLED, EACCES, EACCES}},
	{"unlink", delete_file, false, {KILLED, KILLED, KILLED, KILLED, KILLED}},
	{"socket", open_socket, false, {OK, KILLED, OK, OK, OK}},
	{"bpf: look-up", look_up, false, {EBADF, KILLED, KILLED, EBADF, KILLED}},
	{"bpf: update", update, false, {KILLED, KILLED, KILLED, KILLED, KILLED}},
	{"bpf: delete", delete_elem, false, {KILLED, KILLED, KILLED, KILLED, KILLED}},
	{"bpf: load", load_prog, false, {KILLED, KILLED, KILLED, KILLED, KILLED}},
	{"execve", run_program, false, {KILLED, KILLED, KILLED, KILLED, KILLED}},
	{"ptrace", trace, false, {KILLED, KILLED, KILLED, KILLED, KILLED}},
	{"process_vm_readv", read_other, false, {KILLED, KILLED, KILLED, KILLED, KILLED}},
	{"clone", make_process, false, {KILLED, KILLED, KILLED, KILLED, KILLED}},
	{"clone3", make_process3, false, {ENOSYS, ENOSYS, ENOSYS, ENOSYS, ENOSYS}},
	{"kill", send_signal, false, {KILLED, KILLED, KILLED, KILLED, KILLED}},
	{"setuid", become_root, false, {KILLED, KILLED, KILLED, KILLED, KILLED}},
	{"unshare", leave, false, {KILLED, KILLED, KILLED, KILLED, KILLED}},
	{"io_uring_setup", make_uring, false, {KILLED, KILLED, KILLED, KILLED, KILLED}},
	{"prctl", set_dumpable, false, {KILLED, KILLED, KILLED, OK, OK}},
};

enum { NOT_ENTERED = 255 };

/* In a process of its own: 0, an errno, KILLED, or NOT_ENTERED. */
static int outcome(int role, int (*try)(void))
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0)
		_exit(roles[role].enter() ? NOT_ENTERED : try());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFSIGNALED(status)) {
		assert_int_equal(WTERMSIG(status), SIGSYS);
		return KILLED;
	}
	return WEXITSTATUS(status);
}

static void test_attempts(void **state)
{
	if (SANITIZED)
		skip();
	for (size_t i = 0; i < ARRAY_SIZE(attempts); i++) {
		for (int r = 0; r < ROLES; r++) {
			int expect = attempts[i].expect[r], got = outcome(r, attempts[i].try);

			if (attempts[i].landlock && expect == EACCES && !sandbox_has_landlock())
				continue;
			if (got != expect)
				fail_msg("%s: %s: %d instead of %d", roles[r].name,
					 attempts[i].name, got, expect);
		}
	}
}

/* ------------------------------------------------------------------ giving up root */

enum { NOBODY = 65534 };

static bool has_line(const char *text, const char *line)
{
	const char *at = strstr(text, line);

	return at && at > text && at[-1] == '\n' && at[strlen(line)] == '\n';
}

/* 0, or the number of what is not as it must be. */
static int drop_and_look(void)
{
	static const char *const lines[] = {
		"Uid:\t65534\t65534\t65534\t65534",
		"Gid:\t65534\t65534\t65534\t65534",
		"Groups:\t ",
		"CapInh:\t0000000000000000",
		"CapPrm:\t0000000000000000",
		"CapEff:\t0000000000000000",
		"CapAmb:\t0000000000000000",
		"CapBnd:\t0000000000000000",
	};
	/* Without that one, the last of them stays as it is. */
	bool may_bound = prctl(PR_CAPBSET_READ, CAP_SETPCAP, 0, 0, 0) == 1;
	char text[8192];
	ssize_t n;
	int fd;

	if (sandbox_drop(NOBODY, NOBODY))
		return 100;
	fd = open("/proc/self/status", O_RDONLY);
	n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
	if (n <= 0)
		return 101;
	text[n] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(lines) - !may_bound; i++)
		if (!has_line(text, lines[i]))
			return (int)i + 1;
	return setresuid((uid_t)-1, 0, (uid_t)-1) && errno == EPERM ? 0 : 102;
}

static void test_drop(void **state)
{
	int status;
	pid_t pid;

	if (geteuid() != 0)
		skip();
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		_exit(drop_and_look());
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	assert_int_equal(WEXITSTATUS(status), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_attempts),
		cmocka_unit_test(test_drop),
	};

	return cmocka_run_group_tests_name("sandbox", tests, NULL, NULL);
}
