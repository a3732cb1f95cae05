/* SPDX-License-Identifier: MIT */
/* What is pinned, as JSON. Ids are the kernel's, so the same as in bpftool. */
#include <errno.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/clock.h"
#include "base/text.h"
#include "kern/kern_priv.h"

struct describe {
	const struct kern *k;
	struct jsonw *w;
	const char *part; /* "maps", "progs", "links" */
};

static const char *or_unknown(const char *name)
{
	return name ? name : "unknown";
}

static void map_json(struct jsonw *w, int fd)
{
	struct bpf_map_info info = {0};
	uint32_t len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		return;
	jsonw_kv_u64(w, "id", info.id);
	jsonw_kv_string(w, "type", or_unknown(libbpf_bpf_map_type_str(info.type)));
	jsonw_kv_u64(w, "key_size", info.key_size);
	jsonw_kv_u64(w, "value_size", info.value_size);
	jsonw_kv_u64(w, "max_entries", info.max_entries);
	jsonw_kv_u64(w, "flags", info.map_flags);
	jsonw_kv_u64(w, "btf_id", info.btf_id);
}

static void prog_json(struct jsonw *w, int fd)
{
	uint32_t map_ids[16], len = sizeof(struct bpf_prog_info);
	struct bpf_prog_info info = {.nr_map_ids = ARRAY_SIZE(map_ids),
				     .map_ids = (uint64_t)(uintptr_t)map_ids};
	char tag[2 * BPF_TAG_SIZE + 1], when[32];

	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		return;
	text_hex(info.tag, BPF_TAG_SIZE, tag);
	text_time(clock_wall_ns() - (clock_boot_ns() - info.load_time), when, sizeof(when));
	jsonw_kv_u64(w, "id", info.id);
	jsonw_kv_string(w, "type", or_unknown(libbpf_bpf_prog_type_str(info.type)));
	jsonw_kv_string(w, "tag", tag);
	jsonw_kv_string(w, "loaded_at", when);
	jsonw_kv_u64(w, "bytes_xlated", info.xlated_prog_len);
	jsonw_kv_u64(w, "run_cnt", info.run_cnt);
	jsonw_kv_u64(w, "run_time_ns", info.run_time_ns);
	jsonw_name(w, "map_ids");
	jsonw_array(w);
	for (uint32_t i = 0; i < info.nr_map_ids && i < ARRAY_SIZE(map_ids); i++)
		jsonw_u64(w, map_ids[i]);
	jsonw_array_end(w);
}

/* libbpf before 1.3 has no name for the last two. */
static const char *attach_name(uint32_t type)
{
	if (type == ATTACH_UNIX_CONNECT)
		return "cgroup_unix_connect";
	if (type == ATTACH_UNIX_SENDMSG)
		return "cgroup_unix_sendmsg";
	return or_unknown(libbpf_bpf_attach_type_str(type));
}

static void link_json(const struct kern *k, struct jsonw *w, int fd)
{
	char path[KERN_PATH_MAX], tp[64] = "";
	struct bpf_link_info info = {0};
	uint32_t len = sizeof(info);

	if (bpf_obj_get_info_by_fd(fd, &info, &len))
		return;
	if (info.type == BPF_LINK_TYPE_RAW_TRACEPOINT) {
		memset(&info, 0, sizeof(info)); /* asked again, with room for the name */
		info.raw_tracepoint.tp_name = (uint64_t)(uintptr_t)tp;
		info.raw_tracepoint.tp_name_len = sizeof(tp);
		if (bpf_obj_get_info_by_fd(fd, &info, &len))
			return;
	}
	jsonw_kv_u64(w, "id", info.id);
	jsonw_kv_string(w, "type", or_unknown(libbpf_bpf_link_type_str(info.type)));
	jsonw_kv_u64(w, "prog_id", info.prog_id);
	if (info.type == BPF_LINK_TYPE_RAW_TRACEPOINT)
		jsonw_kv_string(w, "tracepoint", tp);
	if (info.type != BPF_LINK_TYPE_CGROUP)
		return;
	jsonw_kv_string(w, "attach_type", attach_name(info.cgroup.attach_type));
	jsonw_kv_u64(w, "cgroup_id", info.cgroup.cgroup_id);
	jsonw_name(w, "cgroup");
	if (kern_cgroup_path(k, info.cgroup.cgroup_id, path, sizeof(path)))
		jsonw_null(w); /* removed: the link is defunct */
	else
		jsonw_string(w, path);
}

static int describe_one(void *ctx, const char *name)
{
	struct describe *d = ctx;
	char path[KERN_PATH_MAX];
	int fd, r = kern_path(path, sizeof(path), "%s/%s/%s", d->k->dir, d->part, name);

	if (r)
		return r;
	fd = bpf_obj_get(path);
	if (fd < 0)
		return errno == ENOENT ? 0 : -errno; /* unpinned meanwhile */
	jsonw_object(d->w);
	jsonw_kv_string(d->w, "name", name);
	if (d->part[0] == 'm')
		map_json(d->w, fd);
	else if (d->part[0] == 'p')
		prog_json(d->w, fd);
	else
		link_json(d->k, d->w, fd);
	jsonw_kv_string(d->w, "pinned", path);
	jsonw_object_end(d->w);
	(void)close(fd);
	return 0;
}

int kern_describe(struct kern *k, struct jsonw *w, const char *what)
{
	static const char *const parts[][2] = {
		{"map", "maps"}, {"prog", "progs"}, {"link", "links"}};
	struct describe d = {.k = k, .w = w};
	char dir[KERN_PATH_MAX];
	int r;

	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (strcmp(what, parts[i][0]) == 0)
			d.part = parts[i][1];
	if (!d.part)
		return -EINVAL;
	r = kern_path(dir, sizeof(dir), "%s/%s", k->dir, d.part);
	if (r)
		return r;
	jsonw_array(w);
	r = kern_pin_each(dir, describe_one, &d);
	jsonw_array_end(w);
	return r;
}
