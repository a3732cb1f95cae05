/* SPDX-License-Identifier: MIT */
/*
 * A Landlock domain (landlock(7)) for the sake of one thing: who is in it has no ptrace(2) access to
 * processes outside, also not through /proc/PID/mem, of which a system call filter sees nothing.
 * A process of the same uid that is no agent would be made to connect.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ctl/launch.h"

enum { LANDLOCK_REFER = 2 }; /* the version from which files can be moved between folders */

int launch_domain(void)
{
	/* A domain has to restrict something: these are allowed again, everywhere. */
	const uint64_t rights = LANDLOCK_ACCESS_FS_MAKE_BLOCK | LANDLOCK_ACCESS_FS_REFER;
	struct landlock_ruleset_attr attr = {.handled_access_fs = rights};
	struct landlock_path_beneath_attr all = {.allowed_access = rights, .parent_fd = -1};
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	int fd, rc = 0;

	if (version < LANDLOCK_REFER)
		return 0; /* named in tidegate(8) */
	fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (fd < 0)
		return -errno;
	all.parent_fd = open("/", O_PATH | O_CLOEXEC);
	if (all.parent_fd < 0 ||
	    syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &all, 0) ||
	    syscall(SYS_landlock_restrict_self, fd, 0))
		rc = -errno;
	if (all.parent_fd >= 0)
		close(all.parent_fd);
	close(fd);
	return rc;
}
