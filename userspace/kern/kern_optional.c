/* SPDX-License-Identifier: MIT */
/*
 * Programs that we can do without, in a sense that is told: where a kernel lacks their hook they
 * are left out, and where its verifier refuses one the rest is loaded all the same. Which one it
 * was is found out on copies, one group at a time.
 */
#include <errno.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "kern/kern_priv.h"
#include "kern/kern_ways.h"
#include "tidegate.skel.h"

enum { COPY_ENTRIES = 256, GROUP_MAX = 4 };

static const struct group {
	const char *progs[GROUP_MAX]; /* all or none; ends with NULL */
	bool (*hook)(void);
	const char *without;
} groups[] = {
	{{"tg_connect_unix", "tg_sendmsg_unix"},
	 kern_has_connect_unix,
	 "agents reach AF_UNIX services of this host"},
	{{"tg_sweep_held", "tg_sweep_tcp"},
	 kern_has_sock_destroy,
	 "connections older than their agent or target are cut by dropping packets, not closed"},
	{{"tg_cgroup_mkdir"},
	 kern_has_raw_tp,
	 "a watched cgroup that is made again is unguarded until the daemon notices, up to a second"},
	{{"tg_cgroup_join", "tg_exec", "tg_fork"},
	 kern_has_raw_tp,
	 "an agent's first connection in a new network namespace is refused"},
};
enum { GROUP_UNIX }; /* index of those whose hook libbpf may not know by name */

const char *kern_refuse_prog;

/* Acts as a verifier that refuses it: of this type the program may do nothing that it does. */
static int refuse(struct bpf_object *obj)
{
	struct bpf_program *p =
		kern_refuse_prog ? bpf_object__find_program_by_name(obj, kern_refuse_prog) : NULL;

	return p ? bpf_program__set_type(p, BPF_PROG_TYPE_SOCKET_FILTER) : 0;
}

static int set_unix_type(struct bpf_program *p, unsigned int attach)
{
	int r = bpf_program__set_type(p, BPF_PROG_TYPE_CGROUP_SOCK_ADDR);

	return r ? r : bpf_program__set_expected_attach_type(p, (enum bpf_attach_type)attach);
}

static int leave_out(struct bpf_object *obj, const struct group *g)
{
	int r = 0;

	for (size_t i = 0; !r && i < GROUP_MAX && g->progs[i]; i++)
		r = bpf_program__set_autoload(bpf_object__find_program_by_name(obj, g->progs[i]),
					      false);
	return r;
}

int kern_optional_prepare(struct tidegate_bpf *skel, unsigned int refused)
{
	int r = set_unix_type(skel->progs.tg_connect_unix, ATTACH_UNIX_CONNECT);

	if (!r)
		r = set_unix_type(skel->progs.tg_sendmsg_unix, ATTACH_UNIX_SENDMSG);
	for (size_t i = 0; !r && i < ARRAY_SIZE(groups); i++)
		if (refused & 1u << i || !groups[i].hook())
			r = leave_out(skel->obj, &groups[i]);
	return r ? r : refuse(skel->obj);
}

static bool among(const char *const *names, size_t n, const char *name)
{
	for (size_t i = 0; i < n && names[i]; i++)
		if (strcmp(names[i], name) == 0)
			return true;
	return false;
}

/* All maps, but small: a list of those that are needed would be one more thing to keep right. */
static int shrink(struct tidegate_bpf *skel, const char *const *progs, size_t n)
{
	struct bpf_program *p;
	struct bpf_map *m;
	int r = 0;

	bpf_object__for_each_program(p, skel->obj)
	{
		if (!r && !among(progs, n, bpf_program__name(p)))
			r = bpf_program__set_autoload(p, false);
	}
	bpf_object__for_each_map(m, skel->obj)
	{
		if (!r && !bpf_map__is_internal(m) &&
		    bpf_map__type(m) != BPF_MAP_TYPE_RINGBUF && /* in whole pages */
		    bpf_map__max_entries(m) > COPY_ENTRIES)
			r = bpf_map__set_max_entries(m, COPY_ENTRIES);
	}
	return r;
}

int kern_copy_load(const char *const *progs, size_t n, struct tidegate_bpf **ret)
{
	struct tidegate_bpf *skel = tidegate_bpf__open();
	int r = skel ? kern_optional_prepare(skel, 0) : -errno;

	if (!r)
		r = shrink(skel, progs, n);
	if (!r)
		r = tidegate_bpf__load(skel);
	if (r)
		tidegate_bpf__destroy(skel);
	else
		*ret = skel;
	return r;
}

unsigned int kern_optional_refused(void)
{
	struct tidegate_bpf *copy;
	unsigned int refused = 0;

	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		if (!groups[i].hook())
			continue;
		if (kern_copy_load(groups[i].progs, GROUP_MAX, &copy))
			refused |= 1u << i;
		else
			tidegate_bpf__destroy(copy);
	}
	return refused;
}

void kern_optional_words(unsigned int refused, char *dst, size_t cap)
{
	size_t n = 0;

	dst[0] = '\0';
	for (size_t i = 0; i < ARRAY_SIZE(groups); i++) {
		const struct group *g = &groups[i];

		if (!(refused & 1u << i))
			continue;
		for (size_t p = 0; p < GROUP_MAX && g->progs[p] && n < cap; p++)
			n += (size_t)snprintf(dst + n, cap - n, "%s%s",
					      p ? ", " : n ? "; " : "", g->progs[p]);
		if (n < cap)
			n += (size_t)snprintf(dst + n, cap - n, ": %s", g->without);
	}
}

const char *kern_left_out(const struct kern *k)
{
	return k->left_out[0] ? k->left_out : NULL;
}

bool kern_way_open(const struct kern *k, enum kern_way way)
{
	return !kern_way_closed(way) || (way == KERN_WAY_UNIX && k->refused & 1u << GROUP_UNIX);
}
