/* SPDX-License-Identifier: MIT */
/*
 * The pin directory: <bpf_dir>/v1/{maps,progs,links}. It comes into being whole, by
 * rename, so that nobody ever opens half of it.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "kern/kern_priv.h"

int kern_path(char *dst, size_t cap, const char *fmt, ...)
{
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(dst, cap, fmt, ap);
	va_end(ap);
	return n >= 0 && (size_t)n < cap ? 0 : -ENAMETOOLONG;
}

int kern_say(struct buf *error, int r, const char *fmt, ...)
{
	char text[KERN_PATH_MAX * 2];
	va_list ap;

	va_start(ap, fmt);
	(void)vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (buf_append_slice(error, slice_str(text)))
		return r;
	return r;
}

static bool is_bpffs(const char *path)
{
	struct statfs st;

	return !statfs(path, &st) && (unsigned long)st.f_type == BPF_FS_MAGIC;
}

int kern_pin_parent(const char *bpf_dir, struct buf *error)
{
	char parent[KERN_PATH_MAX], *slash;
	struct stat st;
	int r = kern_path(parent, sizeof(parent), "%s", bpf_dir);

	if (r)
		return r;
	slash = strrchr(parent, '/');
	if (bpf_dir[0] != '/' || !slash || slash == parent)
		return -EINVAL;
	*slash = '\0';
	if (!is_bpffs(parent) &&
	    mount("bpf", parent, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700")) {
		r = -errno;
		return kern_say(error, r,
				"%s is no bpf filesystem and cannot become one (%s): "
				"mount -t bpf bpf %s",
				parent, strerror(-r), parent);
	}
	if (mkdir(bpf_dir, 0700) && errno != EEXIST) {
		r = -errno;
		return kern_say(error, r, "cannot make %s: %s", bpf_dir, strerror(-r));
	}
	/* Whoever may write here can open the gate. */
	if (lstat(bpf_dir, &st) || !S_ISDIR(st.st_mode) || st.st_uid != geteuid()) {
		return kern_say(error, -EPERM, "%s is not a directory of ours: remove it", bpf_dir);
	}
	if ((st.st_mode & 0777) != 0700 && chmod(bpf_dir, 0700))
		return -errno;
	return 0;
}

int kern_pin_lock(const char *dir)
{
	int r, fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);

	if (fd < 0)
		return -errno;
	while (flock(fd, LOCK_EX)) {
		r = -errno;
		if (r == -EINTR)
			continue;
		(void)close(fd);
		return r;
	}
	return fd;
}

static const char *const pin_parts[] = {"links", "progs", "maps"};

int kern_pin_mkdirs(const char *base)
{
	char path[KERN_PATH_MAX];
	int r;

	if (mkdir(base, 0700))
		return -errno;
	for (size_t i = 0; i < ARRAY_SIZE(pin_parts); i++) {
		r = kern_path(path, sizeof(path), "%s/%s", base, pin_parts[i]);
		if (!r && mkdir(path, 0700))
			r = -errno;
		if (r)
			return r;
	}
	return 0;
}

int kern_pin_each(const char *dir, int (*fn)(void *ctx, const char *name), void *ctx)
{
	struct dirent *e;
	DIR *d = opendir(dir);
	int r = 0;

	if (!d)
		return -errno;
	while (!r && (e = readdir(d)))
		if (strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			r = fn(ctx, e->d_name);
	(void)closedir(d);
	return r;
}

static int unlink_one(void *ctx, const char *name)
{
	char path[KERN_PATH_MAX];
	int r = kern_path(path, sizeof(path), "%s/%s", (const char *)ctx, name);

	if (r)
		return r;
	return unlink(path) && errno != ENOENT ? -errno : 0;
}

int kern_pin_remove(const char *base)
{
	char path[KERN_PATH_MAX];
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(pin_parts); i++) {
		r = kern_path(path, sizeof(path), "%s/%s", base, pin_parts[i]);
		if (r)
			return r;
		r = kern_pin_each(path, unlink_one, path);
		if (r && r != -ENOENT)
			return r;
		if (rmdir(path) && errno != ENOENT)
			return -errno;
	}
	return rmdir(base) && errno != ENOENT ? -errno : 0;
}

static int sweep_one(void *ctx, const char *name)
{
	char path[KERN_PATH_MAX];

	if (strncmp(name, "new-", 4) == 0 &&
	    !kern_path(path, sizeof(path), "%s/%s", (const char *)ctx, name))
		(void)kern_pin_remove(path); /* the next load tries again */
	return 0;
}

void kern_pin_sweep(const char *bpf_dir)
{
	char dir[KERN_PATH_MAX];

	if (!kern_path(dir, sizeof(dir), "%s", bpf_dir))
		(void)kern_pin_each(dir, sweep_one, dir); /* nothing there: nothing to sweep */
}

int kern_pin_replace(int fd, const char *path)
{
	char tmp[KERN_PATH_MAX];
	int r = kern_path(tmp, sizeof(tmp), "%s_new", path);

	if (r)
		return r;
	(void)unlink(tmp); /* usually not there */
	if (bpf_obj_pin(fd, tmp))
		return -errno;
	if (rename(tmp, path)) {
		r = -errno;
		(void)unlink(tmp); /* best effort: the next replace removes it too */
		return r;
	}
	return 0;
}
