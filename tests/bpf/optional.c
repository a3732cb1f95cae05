/* SPDX-License-Identifier: MIT */
/* A verifier that refuses one of the programs: done without, or not, and said by name. */
#include <errno.h>
#include <unistd.h>

#include "env.h"
#include "kern/kern_accel.h"
#include "kern/kern_priv.h"
#include "kern/kern_watch.h"
#include "kern/kern_ways.h"

static char dir[80];
static struct kern_paths paths;

static int load_without(const char *prog, struct kern **ret, struct buf *error)
{
	int r;

	snprintf(dir, sizeof(dir), "%s-x", env.bpf_dir);
	paths = (struct kern_paths){.bpf_dir = dir, .cgroup_root = env.cgroup};
	kern_refuse_prog = prog;
	r = kern_load(&paths, ret, error);
	kern_refuse_prog = NULL;
	return r;
}

static bool is_pinned(const char *part, const char *name)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/%s/%s/%s", dir, TG_ABI_VERSION, part, name);
	return access(path, F_OK) == 0;
}

static bool left_out(const char *prog, const char *with, bool opens_unix)
{
	struct kern *k = NULL, *other = NULL;
	struct buf error;

	buf_init(&error, 512);
	CHECK_EQ(load_without(prog, &k, &error), 0);
	CHECK(kern_left_out(k) && strstr(kern_left_out(k), prog) && strstr(kern_left_out(k), with));
	CHECK(!strstr(kern_left_out(k), ";")); /* one group */
	CHECK(!is_pinned("progs", prog) && !is_pinned("progs", with));
	CHECK(is_pinned("links", "tg_connect4") && is_pinned("progs", "tg_msg"));
	CHECK(!kern_accel_missing(k));
	CHECK_EQ(kern_way_open(k, KERN_WAY_UNIX), opens_unix);
	CHECK_EQ(kern_guarding(k, &error), 0);
	CHECK_EQ(kern_watch_start(k, &error), 0);
	CHECK_EQ(kern_open(&paths, &other, &error), 0);
	CHECK_EQ(kern_guarding(other, &error), 0);
	kern_close(other);
	kern_close(k);
	/* And with the next kernel it is there again. */
	CHECK_EQ(load_without(NULL, &k, &error), 0);
	CHECK(!kern_left_out(k) && is_pinned("progs", prog) && is_pinned("progs", with));
	kern_close(k);
	CHECK_EQ(kern_unload(&paths, &error), 0);
	buf_done(&error);
	return true;
}

static bool without_one(void)
{
	CHECK(left_out("tg_exec", "tg_cgroup_join", !kern_way_closed(KERN_WAY_UNIX)));
	CHECK(left_out("tg_cgroup_mkdir", "tg_cgroup_mkdir", !kern_way_closed(KERN_WAY_UNIX)));
	if (kern_can_sweep())
		CHECK(left_out("tg_sweep_tcp", "tg_sweep_held", !kern_way_closed(KERN_WAY_UNIX)));
	if (kern_way_closed(KERN_WAY_UNIX))
		CHECK(left_out("tg_sendmsg_unix", "tg_connect_unix", true));
	CHECK(!kern_left_out(env.k));
	return true;
}

static bool needed(void)
{
	static const char *const progs[] = {"tg_connect6", "tg_egress", "tg_recvmsg4"};
	struct kern *k = NULL;
	struct buf error;

	for (size_t i = 0; i < ARRAY_SIZE(progs); i++) {
		buf_init(&error, 1024);
		CHECK(load_without(progs[i], &k, &error) < 0 && !k);
		CHECK(error.n > 0 && error.n < 1024);
		CHECK(memmem(buf_data(&error), error.n, progs[i], strlen(progs[i])));
		CHECK(!is_pinned("links", "tg_connect4") && !is_pinned("maps", "tg_addrs"));
		buf_done(&error);
	}
	CHECK_EQ(rmdir(dir), 0);
	return true;
}

static bool probed(void)
{
	static const char *const found[] = {"\"programs\"", "tg_fork"};
	struct jsonw w;
	struct buf out;

	buf_init(&out, 1 << 20);
	jsonw_init(&w, &out, false);
	kern_refuse_prog = "tg_fork";
	CHECK_EQ(kern_probe(&w), 0);
	kern_refuse_prog = NULL;
	CHECK_EQ(jsonw_end(&w), 0);
	for (size_t i = 0; i < ARRAY_SIZE(found); i++)
		CHECK(memmem(buf_data(&out), out.n, found[i], strlen(found[i])));
	buf_done(&out);
	return true;
}

const struct row optional_rows[] = {
	{"optional: a refused program is left out and named", without_one},
	{"optional: one that is needed is no start, by name", needed},
	{"optional: named by the probe", probed},
	{0},
};
