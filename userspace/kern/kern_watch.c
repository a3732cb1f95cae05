/* SPDX-License-Identifier: MIT */
#include "kern/kern_watch.h"

#include <errno.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "kern/kern_priv.h"

int kern_link_state(const char *pin, uint64_t cgroup_id, uint32_t *ret_prog)
{
	struct bpf_link_info info = {0};
	uint32_t len = sizeof(info);
	int r, fd = bpf_obj_get(pin);

	if (fd < 0)
		return -errno;
	r = bpf_obj_get_info_by_fd(fd, &info, &len) ? -errno : 0;
	(void)close(fd);
	if (r)
		return r;
	if (info.type == BPF_LINK_TYPE_CGROUP && info.cgroup.cgroup_id != cgroup_id)
		return -ENOLINK; /* 0: detached, or its cgroup was removed */
	*ret_prog = info.prog_id;
	return 0;
}

static int pinned_prog(const struct kern *k, const char *name, uint32_t *ret)
{
	struct bpf_prog_info info = {0};
	uint32_t len = sizeof(info);
	char pin[KERN_PATH_MAX];
	int fd, r = kern_path(pin, sizeof(pin), "%s/progs/%s", k->dir, name);

	if (r)
		return r;
	fd = bpf_obj_get(pin);
	if (fd < 0)
		return -errno;
	r = bpf_obj_get_info_by_fd(fd, &info, &len) ? -errno : 0;
	(void)close(fd);
	if (!r)
		*ret = info.id;
	return r;
}

static int guards(const struct kern *k, const char *name, uint64_t root, struct buf *error)
{
	char pin[KERN_PATH_MAX];
	uint32_t in_link = 0, prog = 0;
	int r = kern_path(pin, sizeof(pin), "%s/links/%s", k->dir, name);

	if (!r)
		r = kern_link_state(pin, root, &in_link);
	if (r)
		return kern_say(error, -ENOLINK, "%s is not attached to %s", name, k->cg_root);
	r = pinned_prog(k, name, &prog);
	if (r || prog != in_link)
		return kern_say(error, -ENOLINK, "another program is attached instead of %s", name);
	return 0;
}

int kern_guarding(struct kern *k, struct buf *error)
{
	const struct kern_attach_row *row;
	uint64_t root;
	int r = kern_cgroup_fd_id(k->cg_fd, &root);

	if (r)
		return kern_say(error, -ENOLINK, "%s: %s", k->cg_root, strerror(-r));
	for (size_t i = 0; !r && (row = kern_attach_row(i)); i++)
		if (!row->optional || kern_has_connect_unix())
			r = guards(k, row->prog, root, error);
	return r;
}
