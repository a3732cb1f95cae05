/* SPDX-License-Identifier: MIT */
/* Loads the programs, or takes over what an earlier daemon left running. */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "kern/kern_priv.h"
#include "tidegate.skel.h"

const char *const kern_map_names[KM_COUNT] = {
#define X(id, name) [KM_##id] = name,
	KERN_MAPS(X)
#undef X
};

/* libbpf says what is wrong only by its print callback, which has no context argument. */
static char last_warning[256];

static int PRINTF(2, 0) keep_warning(enum libbpf_print_level level, const char *fmt, va_list ap)
{
	char line[256];

	if (level != LIBBPF_WARN || vsnprintf(line, sizeof(line), fmt, ap) <= 0)
		return 0;
	/* The first is the cause; a verifier log follows it in one enormous line. */
	if (!last_warning[0] && strncmp(line, "libbpf: ", 8) == 0) {
		line[strcspn(line, "\n")] = '\0';
		(void)snprintf(last_warning, sizeof(last_warning), "%s", line + 8);
	}
	return 0;
}

static struct kern *kern_new(void)
{
	struct kern *k = calloc(1, sizeof(*k));

	if (!k)
		return NULL;
	k->cg_fd = k->record_fd = k->asker_fd = -1;
	for (size_t i = 0; i < KM_COUNT; i++)
		k->map[i] = -1;
	return k;
}

void kern_close(struct kern *k)
{
	if (!k)
		return;
	for (size_t i = 0; i < KM_COUNT; i++)
		if (k->map[i] >= 0)
			(void)close(k->map[i]);
	kern_watch_free(k->watch);
	kern_index_close(k);
	kern_rules_forget(k);
	if (k->record_fd >= 0)
		(void)close(k->record_fd);
	if (k->asker_fd >= 0)
		(void)close(k->asker_fd);
	if (k->cg_fd >= 0)
		(void)close(k->cg_fd);
	free(k);
}

static int open_maps(struct kern *k)
{
	LIBBPF_OPTS(bpf_obj_get_opts, ro, .file_flags = BPF_F_RDONLY);
	char path[KERN_PATH_MAX];
	int r, fd;

	for (size_t i = 0; i < KM_COUNT; i++) {
		r = kern_path(path, sizeof(path), "%s/maps/%s", k->dir, kern_map_names[i]);
		if (r)
			return r;
		k->map[i] = bpf_obj_get(path);
		if (k->map[i] < 0 && errno == ENOENT && i >= KM_ACC_SEND)
			continue; /* not on this kernel */
		if (k->map[i] < 0)
			return -errno;
		if (i != KM_RECORDS && i != KM_ASKERS)
			continue;
		fd = bpf_obj_get_opts(path, &ro);
		if (fd < 0)
			return -errno;
		*(i == KM_RECORDS ? &k->record_fd : &k->asker_fd) = fd;
	}
	return kern_index_open(k);
}

/*
 * A pinned map stays as large as it was made, whatever a newer program would make: only keys and
 * values are its layout.
 */
static int adopt_size(struct bpf_map *m, const char *path)
{
	struct bpf_map_info info = {0};
	uint32_t len = sizeof(info);
	int r, fd = bpf_obj_get(path);

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	r = bpf_obj_get_info_by_fd(fd, &info, &len) ? -errno : 0;
	(void)close(fd);
	if (r || info.type != bpf_map__type(m) || info.max_entries == bpf_map__max_entries(m))
		return r;
	r = bpf_map__set_max_entries(m, info.max_entries);
	return r ? r : bpf_map__set_map_flags(m, info.map_flags);
}

static int set_pin_paths(struct bpf_object *obj, const char *base)
{
	char path[KERN_PATH_MAX];
	struct bpf_map *m;
	int r;

	for (size_t i = 0; i < KM_COUNT; i++) {
		m = bpf_object__find_map_by_name(obj, kern_map_names[i]);
		if (!m)
			return -ENOENT;
		if (!bpf_map__autocreate(m))
			continue;
		r = kern_path(path, sizeof(path), "%s/maps/%s", base, kern_map_names[i]);
		if (!r)
			r = adopt_size(m, path);
		if (!r)
			r = bpf_map__set_pin_path(m, path);
		if (r)
			return r;
	}
	return 0;
}

static void say_load(int r, bool takeover, struct buf *error)
{
	if (r == -EPERM && geteuid() != 0)
		(void)kern_say(error, 0, "loading BPF programs takes root");
	else if (r == -EPERM)
		(void)kern_say(error, 0,
			       "this host does not let us use BPF: CAP_BPF, CAP_NET_ADMIN and "
			       "CAP_PERFMON in the initial user namespace are needed");
	else if (r == -EINVAL && takeover)
		(void)kern_say(error, 0, "what is pinned has another layout: unload it first");
	else
		(void)kern_say(error, 0, "cannot load the BPF programs: %s", strerror(-r));
	if (last_warning[0])
		(void)kern_say(error, 0, " (%s)", last_warning);
}

/* Maps that are pinned are used, so that a layout that differs is found; others are made for now. */
static int set_present_paths(struct bpf_object *obj, const char *base)
{
	char path[KERN_PATH_MAX];
	struct bpf_map *m;
	int r = 0;

	for (size_t i = 0; !r && i < KM_COUNT; i++) {
		m = bpf_object__find_map_by_name(obj, kern_map_names[i]);
		r = m ? kern_path(path, sizeof(path), "%s/maps/%s", base, kern_map_names[i]) : -ENOENT;
		if (!r && bpf_map__autocreate(m) && access(path, F_OK) == 0)
			r = bpf_map__set_pin_path(m, path);
	}
	return r;
}

/* @into: what is made is pinned below @base; else only what is there already is used. */
static int open_and_load(struct kern *k, const char *base, bool into, struct tidegate_bpf **ret)
{
	struct tidegate_bpf *skel = tidegate_bpf__open();
	int r = skel ? kern_accel_prepare(k, skel) : -errno;

	if (!r)
		r = into ? set_pin_paths(skel->obj, base) : set_present_paths(skel->obj, base);
	if (!r)
		r = kern_optional_prepare(skel, k->refused);
	if (!r)
		r = tidegate_bpf__load(skel);
	if (r)
		tidegate_bpf__destroy(skel);
	else
		*ret = skel;
	return r;
}

/* Without those programs that the kernel refuses, if they are not needed. */
static int load_what_goes(struct kern *k, const char *base, bool into, struct tidegate_bpf **ret)
{
	int r = open_and_load(k, base, into, ret);

	if (!r || r == -EPERM)
		return r;
	k->refused = kern_optional_refused();
	kern_optional_words(k->refused, k->left_out, sizeof(k->left_out));
	if (!k->refused)
		return r;
	last_warning[0] = '\0'; /* what it says from here on is the cause */
	return open_and_load(k, base, into, ret);
}

/* Opens, loads, attaches and pins below @base; maps that are pinned there are kept. */
static int load_into(struct kern *k, const char *base, bool takeover, struct buf *error)
{
	struct tidegate_bpf *skel = NULL;
	struct kern_progs progs = {0};
	int r = load_what_goes(k, base, true, &skel);

	if (r) {
		say_load(r, takeover, error);
		return r;
	}
	r = kern_accel_attach(k, bpf_program__fd(skel->progs.tg_msg),
			      bpf_map__fd(skel->maps.tg_acc_send));
	if (!r)
		r = kern_index_suspend(bpf_map__fd(skel->maps.tg_index));
	if (!r)
		r = kern_progs_of(skel->obj, &progs);
	if (!r)
		r = kern_attach_all(k, &progs, base, error);
	tidegate_bpf__destroy(skel);
	return r;
}

static int pinned_map(const struct kern *k, enum kern_map map)
{
	char path[KERN_PATH_MAX];
	int r = kern_path(path, sizeof(path), "%s/maps/%s", k->dir, kern_map_names[map]);
	int fd = r ? r : bpf_obj_get(path);

	return fd < 0 && !r ? -errno : fd;
}

/* They were loaded with the maps that are pinned: no verifier, a second or more, stands in between. */
static int attach_ready(struct kern *k, const struct kern_progs *progs, struct buf *error)
{
	int index = pinned_map(k, KM_INDEX), send = -1, r = index < 0 ? index : 0;

	k->refused = progs->refused;
	kern_optional_words(k->refused, k->left_out, sizeof(k->left_out));
	(void)snprintf(k->accel_why, sizeof(k->accel_why), "%s", progs->accel_why);
	if (!r && !k->accel_why[0])
		r = send = pinned_map(k, KM_ACC_SEND);
	if (r >= 0)
		r = kern_accel_attach(k, kern_progs_fd(progs, "tg_msg"), send);
	if (!r)
		r = kern_index_suspend(index);
	if (!r)
		r = kern_attach_all(k, progs, k->dir, error);
	if (index >= 0)
		(void)close(index);
	if (send >= 0)
		(void)close(send);
	return r;
}

static int load_new(struct kern *k, const char *bpf_dir, struct buf *error)
{
	char base[KERN_PATH_MAX];
	int r = kern_path(base, sizeof(base), "%s/new-%ld", bpf_dir, (long)getpid());

	if (!r)
		r = kern_pin_mkdirs(base);
	if (!r)
		r = load_into(k, base, false, error);
	if (!r && rename(base, k->dir))
		r = -errno;
	if (r)
		(void)kern_pin_remove(base); /* the first error is the one to tell */
	return r;
}

static int load_locked(struct kern *k, const char *bpf_dir, const struct kern_progs *ready,
		       struct buf *error)
{
	struct stat st;
	int r;

	kern_pin_sweep(bpf_dir);
	if (ready)
		r = attach_ready(k, ready, error);
	else if (!stat(k->dir, &st))
		r = load_into(k, k->dir, true, error);
	else
		r = load_new(k, bpf_dir, error);
	if (!r)
		r = open_maps(k);
	if (!r)
		r = kern_index_build(k);
	if (!r)
		r = kern_agent_tell_self(k, NULL, 0);
	return r;
}

/* libbpf's own word for it is a number. */
static int check_btf(const char *path, struct buf *error)
{
	struct btf *btf = path ? btf__parse(path, NULL) : btf__load_vmlinux_btf();

	if (!btf)
		return kern_say(
			error, -ENOTSUP,
			"this kernel does not describe its types (BTF), so the programs cannot "
			"be fitted to it: boot one with CONFIG_DEBUG_INFO_BTF=y, or use "
			"`listen:` addresses with `bpf: off`");
	btf__free(btf);
	return 0;
}

int kern_load(const struct kern_paths *paths, struct kern **ret, struct buf *error)
{
	const struct kern_progs *ready = paths->progs && paths->progs->n ? paths->progs : NULL;
	struct kern *k = kern_new();
	libbpf_print_fn_t print;
	int r, lock;

	if (!k)
		return -ENOMEM;
	last_warning[0] = '\0';
	print = libbpf_set_print(keep_warning);
	k->mountinfo = paths->mountinfo;
	r = kern_path(k->dir, sizeof(k->dir), "%s/%s", paths->bpf_dir, TG_ABI_VERSION);
	if (!r)
		r = kern_cgroup_find(k, paths->cgroup_root, error);
	if (!r && !ready)
		r = check_btf(paths->btf, error);
	if (!r)
		r = kern_pin_parent(paths->bpf_dir, error);
	if (!r) {
		r = lock = kern_pin_lock(paths->bpf_dir);
		if (lock >= 0) {
			r = load_locked(k, paths->bpf_dir, ready, error);
			(void)close(lock);
		}
	}
	(void)libbpf_set_print(print);
	if (r) {
		if (error->n == 0)
			(void)kern_say(error, 0, "loading BPF below %s: %s", paths->bpf_dir,
				       strerror(-r));
		kern_close(k);
		return r;
	}
	*ret = k;
	return 0;
}

/* A map that was made for now is nobody's afterwards: its programs would look at another one. */
static bool all_pinned(const struct kern *k, struct bpf_object *obj)
{
	for (size_t i = 0; i < KM_COUNT; i++) {
		const struct bpf_map *m = bpf_object__find_map_by_name(obj, kern_map_names[i]);

		if (!m || (bpf_map__autocreate(m) && !bpf_map__is_pinned(m)))
			return false;
	}
	return true;
}

static int try_load(struct kern *k, struct kern_progs *ret, struct buf *error)
{
	struct tidegate_bpf *skel = NULL;
	int r = load_what_goes(k, k->dir, false, &skel);

	if (r) {
		say_load(r, true, error);
		return r;
	}
	if (all_pinned(k, skel->obj) && kern_progs_of(skel->obj, ret) == 0) {
		ret->refused = k->refused;
		(void)snprintf(ret->accel_why, sizeof(ret->accel_why), "%s", k->accel_why);
		r = kern_progs_dup(ret);
	}
	tidegate_bpf__destroy(skel);
	return r;
}

int kern_try(const struct kern_paths *paths, struct kern_progs *ret, struct buf *error)
{
	struct kern *k = kern_new();
	libbpf_print_fn_t print;
	int r;

	ret->n = 0;
	if (!k)
		return -ENOMEM;
	last_warning[0] = '\0';
	print = libbpf_set_print(keep_warning);
	k->mountinfo = paths->mountinfo;
	r = kern_path(k->dir, sizeof(k->dir), "%s/%s", paths->bpf_dir, TG_ABI_VERSION);
	if (!r && access(k->dir, F_OK))
		r = -ENOENT;
	if (!r)
		r = check_btf(paths->btf, error);
	if (!r)
		r = try_load(k, ret, error);
	(void)libbpf_set_print(print);
	kern_close(k);
	return r;
}

int kern_open(const struct kern_paths *paths, struct kern **ret, struct buf *error)
{
	struct kern *k = kern_new();
	int r;

	if (!k)
		return -ENOMEM;
	r = kern_path(k->dir, sizeof(k->dir), "%s/%s", paths->bpf_dir, TG_ABI_VERSION);
	if (!r)
		r = open_maps(k);
	if (r)
		(void)kern_say(error, 0, "%s: %s", k->dir,
			       r == -ENOENT ? "nothing is pinned here" : strerror(-r));
	else
		r = kern_cgroup_find(k, paths->cgroup_root, error);
	if (r) {
		kern_close(k);
		return r;
	}
	*ret = k;
	return 0;
}

int kern_unload(const struct kern_paths *paths, struct buf *error)
{
	char dir[KERN_PATH_MAX];
	int r, lock = kern_pin_lock(paths->bpf_dir);

	if (lock < 0) {
		(void)kern_say(error, 0, "%s: %s", paths->bpf_dir, strerror(-lock));
		return lock;
	}
	kern_pin_sweep(paths->bpf_dir);
	r = kern_path(dir, sizeof(dir), "%s/%s", paths->bpf_dir, TG_ABI_VERSION);
	if (!r)
		r = kern_pin_remove(dir);
	if (!r && rmdir(paths->bpf_dir))
		r = -errno;
	if (r)
		(void)kern_say(error, 0, "cannot remove %s: %s", dir, strerror(-r));
	(void)close(lock);
	return r;
}
