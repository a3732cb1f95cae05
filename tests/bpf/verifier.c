/* SPDX-License-Identifier: MIT */
/*
 * How many instructions the kernel's verifier walks through for each program, against
 * verifier.baseline. A program that nears the limit of a million fails on the next kernel.
 */
#include <dirent.h>
#include <errno.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "env.h"

enum { GROWTH_PERCENT = 25, SLACK = 500, LIMIT_NEW = 250000 };

static FILE *baseline_open(void)
{
	const char *path = getenv("TG_VERIFIER_BASELINE");

	return fopen(path ? path : "tests/bpf/verifier.baseline", "r");
}

/* The kernel's version up to the second number: they differ between kernels. */
static bool kernel_name(char *dst, size_t cap)
{
	unsigned int major, minor;
	struct utsname u;

	if (uname(&u) || sscanf(u.release, "%u.%u", &major, &minor) != 2)
		return false;
	snprintf(dst, cap, "%u.%u", major, minor);
	return true;
}

/* 0: not listed. */
static uint32_t baseline(const char *kernel, const char *prog)
{
	char line[128], on[16], name[32];
	uint32_t insns, found = 0;
	FILE *f = baseline_open();

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "%15s %31s %u", on, name, &insns) == 3 &&
		    strcmp(on, kernel) == 0 && strcmp(name, prog) == 0)
			found = insns;
	if (f)
		fclose(f);
	return found;
}

static int verified(const char *name, uint32_t *ret)
{
	struct bpf_prog_info info = {0};
	uint32_t len = sizeof(info);
	char path[512];
	int fd, r;

	snprintf(path, sizeof(path), "%s/%s/progs/%s", env.bpf_dir, TG_ABI_VERSION, name);
	fd = bpf_obj_get(path);
	r = fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len) ? -errno : 0;
	if (fd >= 0)
		close(fd);
	*ret = info.verified_insns;
	return r;
}

static bool each(bool (*fn)(const char *kernel, const char *prog, uint32_t insns))
{
	char kernel[16], dir[256];
	struct dirent *e;
	uint32_t insns;
	bool ok = true;
	int n = 0;
	DIR *d;

	snprintf(dir, sizeof(dir), "%s/%s/progs", env.bpf_dir, TG_ABI_VERSION);
	d = opendir(dir);
	CHECK(d && kernel_name(kernel, sizeof(kernel)));
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		CHECK_EQ(verified(e->d_name, &insns), 0);
		CHECK(insns > 0);
		ok &= fn(kernel, e->d_name, insns);
		n++;
	}
	closedir(d);
	CHECK(n >= 13);
	return ok;
}

static bool compare(const char *kernel, const char *prog, uint32_t insns)
{
	uint32_t base = baseline(kernel, prog);
	uint32_t most = base ? base + base / 100 * GROWTH_PERCENT + SLACK : LIMIT_NEW;

	printf("          %-18s %7u instructions, baseline %u\n", prog, insns, base);
	if (insns <= most)
		return true;
	printf("          %s may have %u; if that is meant: run.sh -b, into verifier.baseline\n",
	       prog, most);
	return false;
}

static bool instructions(void)
{
	FILE *f = baseline_open();

	CHECK(f);
	fclose(f);
	return each(compare);
}

static bool line(const char *kernel, const char *prog, uint32_t insns)
{
	printf("%s %s %u\n", kernel, prog, insns);
	return true;
}

bool verifier_lines(void)
{
	return each(line);
}

const struct row verifier_rows[] = {
	{"verifier: instructions for each program", instructions},
	{0},
};
