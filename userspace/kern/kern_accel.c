/* SPDX-License-Identifier: MIT */
/*
 * Loading the accelerator where the kernel takes it. Whether it does is tried on a copy: if
 * the programs with it were refused, nothing would be steered at all.
 */
#include <errno.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "kern/kern_accel.h"
#include "kern/kern_priv.h"
#include "tidegate.skel.h"

bool kern_accel_refused;

struct tidegate_bpf *kern_accel_copy(char why[KERN_WHY])
{
	static const char *const progs[] = {"tg_msg", "tg_sock_ops"};
	struct tidegate_bpf *skel = NULL;
	int r = kern_accel_refused ? -EOPNOTSUPP
				   : kern_copy_load(progs, ARRAY_SIZE(progs), &skel);

	if (r)
		(void)snprintf(why, KERN_WHY, "the kernel refuses the programs: %s", strerror(-r));
	return skel;
}

int kern_accel_prepare(struct kern *k, struct tidegate_bpf *skel)
{
	struct tidegate_bpf *copy = kern_accel_copy(k->accel_why);
	int r;

	if (copy) {
		tidegate_bpf__destroy(copy);
		return 0;
	}
	skel->rodata->tg_accel_built = false;
	r = bpf_program__set_autoload(skel->progs.tg_msg, false);
#define X(id, name)                                                                               \
	if (!r)                                                                                   \
		r = bpf_map__set_autocreate(bpf_object__find_map_by_name(skel->obj, name), false);
	KERN_ACCEL_MAPS(X)
#undef X
	return r;
}

int kern_accel_attach(const struct kern *k, int msg_fd, int map_fd)
{
	if (k->accel_why[0])
		return 0;
	return bpf_prog_attach(msg_fd, map_fd, BPF_SK_MSG_VERDICT, 0);
}

const char *kern_accel_missing(const struct kern *k)
{
	return k->accel_why[0] ? k->accel_why : NULL;
}
