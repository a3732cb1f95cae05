/* SPDX-License-Identifier: MIT */
/*
 * Cgroup v2: where it is mounted, and ids to paths and back. An id is the 64-bit handle
 * that kernfs gives the directory; it is never used again.
 */
#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "kern/kern_priv.h"

enum { FILEID_KERNFS_TYPE = 0xfe };

/* Mount table fields have \040 and the like for blanks. */
static void unescape(char *s)
{
	char *to = s;

	while (*s) {
		if (s[0] == '\\' && isdigit((unsigned char)s[1]) && isdigit((unsigned char)s[2]) &&
		    isdigit((unsigned char)s[3])) {
			*to++ = (char)((s[1] - '0') * 64 + (s[2] - '0') * 8 + (s[3] - '0'));
			s += 4;
		} else {
			*to++ = *s++;
		}
	}
	*to = '\0';
}

bool kern_cgroup_below(const char *path, const char *ancestor)
{
	size_t n = strlen(ancestor);

	if (n == 1 && ancestor[0] == '/')
		return path[0] == '/';
	return strncmp(path, ancestor, n) == 0 && (path[n] == '\0' || path[n] == '/');
}

/*
 * One line of mountinfo (proc(5)): the mount point of a whole cgroup v2 hierarchy
 * that holds @want, if there is a wish.
 */
static int parse_mount(char *line, const char *want, char *dst, size_t cap)
{
	char *save = NULL, *field, *root = NULL, *point = NULL;
	bool v2 = false;

	for (int i = 0; (field = strtok_r(i ? NULL : line, " \n", &save)); i++) {
		if (i == 3)
			root = field;
		else if (i == 4)
			point = field;
		else if (strcmp(field, "-") == 0) {
			field = strtok_r(NULL, " \n", &save);
			v2 = field && strcmp(field, "cgroup2") == 0;
			break;
		}
	}
	if (!v2 || !root || !point || strcmp(root, "/") != 0)
		return -ENOENT;
	unescape(point);
	if (want && !kern_cgroup_below(want, point))
		return -ENOENT;
	return kern_path(dst, cap, "%s", point);
}

/* *ret_v1: some v1 hierarchy is mounted. */
static int find_mount(const char *table, const char *want, char *dst, size_t cap, bool *ret_v1)
{
	char *line = NULL;
	size_t room = 0;
	int r = -ENOENT;
	FILE *f = fopen(table ? table : "/proc/self/mountinfo", "re");

	if (!f)
		return -errno;
	while (r == -ENOENT && getline(&line, &room, f) > 0) {
		*ret_v1 |= strstr(line, " - cgroup ") != NULL;
		r = parse_mount(line, want, dst, cap);
	}
	free(line);
	(void)fclose(f); /* was only read */
	return r;
}

int kern_cgroup_find(struct kern *k, const char *root, struct buf *error)
{
	char point[KERN_PATH_MAX];
	bool v1 = false;
	int r = find_mount(k->mountinfo, root, point, sizeof(point), &v1);

	if (r && v1 && !root) {
		(void)kern_say(error, 0,
			       "only cgroup v1 is mounted, and BPF programs sit on v2: boot with "
			       "systemd.unified_cgroup_hierarchy=1, or "
			       "mount -t cgroup2 none /sys/fs/cgroup/unified");
		return r;
	}
	if (r) {
		(void)kern_say(
			error, 0,
			"no cgroup v2 mount%s%s: mount -t cgroup2 none /sys/fs/cgroup/unified",
			root ? " holds " : "", root ? root : "");
		return r;
	}
	r = kern_path(k->cg_root, sizeof(k->cg_root), "%s", root ? root : point);
	if (!r)
		r = kern_path(k->cg_prefix, sizeof(k->cg_prefix), "%s",
			      root ? root + strlen(point) : "");
	if (r)
		return r;
	k->cg_fd = open(k->cg_root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (k->cg_fd < 0) {
		r = -errno;
		(void)kern_say(error, 0, "cannot open %s: %s", k->cg_root, strerror(-r));
		return r;
	}
	return 0;
}

const char *kern_cgroup_root(const struct kern *k)
{
	return k->cg_root;
}

/* Absolute, no empty, "." or ".." component, no slash at the end; "/" is the root itself. */
static bool path_ok(const char *path)
{
	if (path[0] != '/')
		return false;
	if (path[1] == '\0')
		return true;
	for (const char *s = path; *s; s += strcspn(s, "/")) {
		s++;
		if (*s == '/' || *s == '\0')
			return false;
		if (s[0] == '.' && (s[1] == '/' || s[1] == '\0'))
			return false;
		if (s[0] == '.' && s[1] == '.' && (s[2] == '/' || s[2] == '\0'))
			return false;
	}
	return true;
}

int kern_cgroup_full(const struct kern *k, const char *path, struct tg_path *ret)
{
	struct tg_path full = {0};
	int r;

	if (!path_ok(path))
		return -EINVAL;
	r = kern_path(full.path, sizeof(full.path), "%s%s", k->cg_prefix, path[1] ? path : "");
	if (r)
		return r;
	*ret = full;
	return 0;
}

bool kern_cgroup_holds(const struct kern *k, const char *agent_path, const char *proc_path)
{
	struct tg_path full;

	return !kern_cgroup_full(k, agent_path, &full) && full.path[0] &&
	       kern_cgroup_below(proc_path, full.path);
}

int kern_cgroup_self(char *dst, size_t cap)
{
	char *line = NULL;
	size_t room = 0;
	int r = -ENOENT;
	FILE *f = fopen("/proc/self/cgroup", "re");

	if (!f)
		return -errno;
	while (r == -ENOENT && getline(&line, &room, f) > 0) {
		line[strcspn(line, "\n")] = '\0';
		if (strncmp(line, "0::", 3) == 0)
			r = kern_path(dst, cap, "%s", line + 3);
	}
	free(line);
	(void)fclose(f); /* was only read */
	return r;
}

int kern_cgroup_open(const struct kern *k, const char *path)
{
	int fd;

	if (!path_ok(path))
		return -EINVAL;
	fd = openat(k->cg_fd, path[1] ? path + 1 : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

union kernfs_handle {
	struct file_handle h;
	char room[sizeof(struct file_handle) + sizeof(uint64_t)];
};

int kern_cgroup_fd_id(int fd, uint64_t *ret)
{
	union kernfs_handle u = {.h = {.handle_bytes = sizeof(uint64_t)}};
	int mount_id;

	if (name_to_handle_at(fd, "", &u.h, &mount_id, AT_EMPTY_PATH))
		return -errno;
	if (u.h.handle_bytes != sizeof(uint64_t))
		return -EINVAL;
	memcpy(ret, u.h.f_handle, sizeof(uint64_t));
	return 0;
}

static int make_path(const struct kern *k, const char *path)
{
	char part[TG_PATH_LEN];
	int r = kern_path(part, sizeof(part), "%s", path);

	if (r)
		return r;
	for (char *s = part + 1; *s; s++) {
		if (*s != '/')
			continue;
		*s = '\0';
		if (mkdirat(k->cg_fd, part + 1, 0755) && errno != EEXIST)
			return -errno;
		*s = '/';
	}
	return mkdirat(k->cg_fd, part + 1, 0755) && errno != EEXIST ? -errno : 0;
}

int kern_cgroup_id(const struct kern *k, const char *path, bool create, uint64_t *ret)
{
	int r, fd = kern_cgroup_open(k, path);

	if (fd == -ENOENT && create) {
		r = make_path(k, path);
		if (r)
			return r;
		fd = kern_cgroup_open(k, path);
	}
	if (fd < 0)
		return fd;
	r = kern_cgroup_fd_id(fd, ret);
	(void)close(fd);
	return r;
}

int kern_cgroup_path(const struct kern *k, uint64_t id, char *dst, size_t cap)
{
	union kernfs_handle u = {
		.h = {.handle_bytes = sizeof(id), .handle_type = FILEID_KERNFS_TYPE}};
	char link[64], path[KERN_PATH_MAX];
	size_t root = strlen(k->cg_root);
	ssize_t n;
	int fd, r;

	memcpy(u.h.f_handle, &id, sizeof(id));
	fd = open_by_handle_at(k->cg_fd, &u.h, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return errno == ESTALE ? -ENOENT : -errno;
	r = kern_path(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = r ? -1 : readlink(link, path, sizeof(path) - 1);
	(void)close(fd);
	if (n < 0)
		return r ? r : -errno;
	path[n] = '\0';
	/* A removed directory reads "... (deleted)". */
	if (!kern_cgroup_below(path, k->cg_root) || access(path, F_OK))
		return -ENOENT;
	return kern_path(dst, cap, "%s", path[root] ? path + root : "/");
}
