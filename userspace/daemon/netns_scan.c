/* SPDX-License-Identifier: MIT */
#include "daemon/netns_scan.h"

#include <dirent.h>
#include <errno.h>
#include <fts.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "daemon/procfs.h"
#include "kern/kern.h"

typedef void scan_fn(void *ctx, const struct pagent *a, uint32_t pid);

int netns_id_of(int fd, struct netns_id *ret)
{
	struct stat st;

	if (fstat(fd, &st))
		return -errno;
	*ret = (struct netns_id){.dev = st.st_dev, .ino = st.st_ino};
	return 0;
}

int netns_id_at(const char *path, struct netns_id *ret)
{
	struct stat st;

	if (stat(path, &st))
		return -errno;
	*ret = (struct netns_id){.dev = st.st_dev, .ino = st.st_ino};
	return 0;
}

static bool has_uid(const struct cfg_agent *a, uint32_t uid)
{
	for (uint32_t i = 0; i < a->nuids; i++)
		if (a->uids[i] == uid)
			return true;
	return false;
}

struct pagent *netns_scan_agent(struct parent *p, uint32_t pid)
{
	struct pagent *by_cgroup = NULL, *by_uid = NULL;
	uint32_t uid = (uint32_t)-1;
	char cgroup[4096];
	size_t longest = 0;

	if (!procfs_cgroup(pid, cgroup, sizeof(cgroup)) || !procfs_uid(pid, &uid))
		return NULL;
	list_each(it, &p->agents) {
		struct pagent *a = container_of(it, struct pagent, link);

		if (!a->cfg)
			continue;
		for (uint32_t i = 0; i < a->cfg->ncgroups; i++) {
			size_t n = strlen(a->cfg->cgroups[i]);

			if (n > longest && kern_cgroup_holds(p->kern, a->cfg->cgroups[i], cgroup)) {
				longest = n;
				by_cgroup = a;
			}
		}
		if (has_uid(a->cfg, uid))
			by_uid = a;
	}
	return by_cgroup ? by_cgroup : by_uid;
}

static void scan_procs(const char *dir, const struct pagent *a, scan_fn *fn, void *ctx)
{
	char path[4096];
	unsigned int pid;
	FILE *f;

	if ((size_t)snprintf(path, sizeof(path), "%s/cgroup.procs", dir) >= sizeof(path))
		return;
	f = fopen(path, "re");
	if (!f)
		return; /* removed, or a threaded cgroup, whose processes are listed above it */
	while (fscanf(f, "%u", &pid) == 1)
		if (pid)
			fn(ctx, a, pid);
	(void)fclose(f); /* was only read */
}

static void scan_cgroup(struct parent *p, const char *path, const struct pagent *a, scan_fn *fn,
			void *ctx)
{
	char full[4096];
	char *const roots[] = {full, NULL};
	FTSENT *e;
	FTS *fts;

	if ((size_t)snprintf(full, sizeof(full), "%s%s", kern_cgroup_root(p->kern), path) >=
	    sizeof(full))
		return;
	fts = fts_open(roots, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
	while (fts && (e = fts_read(fts)))
		if (e->fts_info == FTS_D)
			scan_procs(e->fts_path, a, fn, ctx);
	if (fts)
		(void)fts_close(fts);
}

static void scan_all(struct parent *p, scan_fn *fn, void *ctx)
{
	DIR *d = opendir("/proc");
	struct dirent *e;

	while (d && (e = readdir(d))) {
		uint32_t pid = (uint32_t)strtoul(e->d_name, NULL, 10);
		const struct pagent *a = pid ? netns_scan_agent(p, pid) : NULL;

		if (a)
			fn(ctx, a, pid);
	}
	if (d)
		(void)closedir(d);
}

void netns_scan(struct parent *p, scan_fn *fn, void *ctx)
{
	bool uids = false;

	list_each(it, &p->agents) {
		const struct pagent *a = container_of(it, struct pagent, link);

		uids |= a->cfg && a->cfg->nuids;
	}
	if (uids) { /* those are listed nowhere */
		scan_all(p, fn, ctx);
		return;
	}
	list_each(it, &p->agents) {
		const struct pagent *a = container_of(it, struct pagent, link);

		for (uint32_t i = 0; a->cfg && i < a->cfg->ncgroups; i++)
			scan_cgroup(p, a->cfg->cgroups[i], a, fn, ctx);
	}
}
