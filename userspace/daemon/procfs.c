/* SPDX-License-Identifier: MIT */
#include "daemon/procfs.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

ssize_t procfs_read(uint32_t pid, const char *name, char *dst, size_t cap)
{
	char path[64];
	ssize_t n;
	int fd;

	(void)snprintf(path, sizeof(path), "/proc/%u/%s", pid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, dst, cap - 1);
	if (n < 0)
		n = -errno;
	else
		dst[n] = '\0';
	close(fd);
	return n;
}

uint64_t procfs_tick_ns(void)
{
	return 1000000000ull / (uint64_t)sysconf(_SC_CLK_TCK);
}

/* Field 22 of /proc/PID/stat: start in clock ticks after boot; comm may hold anything. */
bool procfs_started(uint32_t pid, uint64_t *ret_boot_ns)
{
	unsigned long long ticks;
	char stat[1024], *p;

	if (procfs_read(pid, "stat", stat, sizeof(stat)) <= 0)
		return false;
	p = strrchr(stat, ')');
	for (int field = 2; p && field < 22; field++)
		p = strchr(p + 1, ' ');
	if (!p || sscanf(p, " %llu", &ticks) != 1)
		return false;
	*ret_boot_ns = ticks * procfs_tick_ns();
	return true;
}

/* The cgroup v2 line: "0::/path". */
bool procfs_cgroup(uint32_t pid, char *dst, size_t cap)
{
	char text[4096], *p, *end;

	if (procfs_read(pid, "cgroup", text, sizeof(text)) <= 0)
		return false;
	p = strncmp(text, "0::", 3) == 0 ? text : strstr(text, "\n0::");
	if (!p)
		return false;
	p = strstr(p, "0::") + 3;
	end = strchr(p, '\n');
	(void)snprintf(dst, cap, "%.*s", end ? (int)(end - p) : (int)strlen(p), p);
	return true;
}

bool procfs_uid(uint32_t pid, uint32_t *ret)
{
	char text[4096];
	const char *p;

	if (procfs_read(pid, "status", text, sizeof(text)) <= 0)
		return false;
	p = strstr(text, "\nUid:");
	return p && sscanf(p, "\nUid: %u", ret) == 1;
}
