/* SPDX-License-Identifier: MIT */
/*
 * Programs and their links. A link of cgroup programs is always MULTI and runs after
 * the links of cgroups below, so what is judged is the final address.
 */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "kern/kern_priv.h"
#include "kern/kern_watch.h"

/*
 * The order of updates: readers of a record before its writer, so that new code never
 * writes what old code reads.
 */
static const struct kern_attach_row rows[] = {
	{"tg_sock_ops", BPF_CGROUP_SOCK_OPS, false},
	{"tg_getpeer4", BPF_CGROUP_INET4_GETPEERNAME, false},
	{"tg_getpeer6", BPF_CGROUP_INET6_GETPEERNAME, false},
	{"tg_post_bind4", BPF_CGROUP_INET4_POST_BIND, false},
	{"tg_post_bind6", BPF_CGROUP_INET6_POST_BIND, false},
	{"tg_sock_create", BPF_CGROUP_INET_SOCK_CREATE, false},
	{"tg_sendmsg_unix", (enum bpf_attach_type)ATTACH_UNIX_SENDMSG, true},
	{"tg_connect_unix", (enum bpf_attach_type)ATTACH_UNIX_CONNECT, true},
	{"tg_recvmsg4", BPF_CGROUP_UDP4_RECVMSG, false},
	{"tg_recvmsg6", BPF_CGROUP_UDP6_RECVMSG, false},
	{"tg_sendmsg4", BPF_CGROUP_UDP4_SENDMSG, false},
	{"tg_sendmsg6", BPF_CGROUP_UDP6_SENDMSG, false},
	{"tg_connect4", BPF_CGROUP_INET4_CONNECT, false},
	{"tg_connect6", BPF_CGROUP_INET6_CONNECT, false},
};

const struct raw_tp_row kern_raw_tps[RAW_TPS] = {
	{"tg_cgroup_mkdir", "cgroup_mkdir"},
	{"tg_cgroup_join", NULL},
	{"tg_exec", NULL},
	{"tg_fork", NULL},
};
static const char EGRESS_PROG[] = "tg_egress";
static const char EGRESS_UID_PROG[] = "tg_egress_uid";

const struct kern_attach_row *kern_attach_row(size_t i)
{
	return i < ARRAY_SIZE(rows) ? &rows[i] : NULL;
}

bool kern_prog_name(uint32_t id, char *dst, size_t cap)
{
	struct bpf_prog_info info = {0};
	uint32_t len = sizeof(info);
	int fd = bpf_prog_get_fd_by_id(id);

	if (fd >= 0 && !bpf_obj_get_info_by_fd(fd, &info, &len) && info.name[0])
		(void)snprintf(dst, cap, "%s", info.name);
	else
		(void)snprintf(dst, cap, "?");
	if (fd < 0)
		return errno != ENOENT;
	(void)close(fd);
	return true;
}

/* Someone attached without MULTI here or above: says who. */
static void say_holder(const struct kern *k, const struct kern_attach_row *row, struct buf *error)
{
	uint32_t ids[16] = {0}, n = ARRAY_SIZE(ids), flags = 0;
	char name[BPF_OBJ_NAME_LEN];

	/* ENOSPC: there are more, those of the cgroup itself came first. */
	if (bpf_prog_query(k->cg_fd, row->type, BPF_F_QUERY_EFFECTIVE, &flags, ids, &n) &&
	    errno != ENOSPC)
		return;
	n = n > ARRAY_SIZE(ids) ? ARRAY_SIZE(ids) : n;
	(void)kern_say(error, 0, "; attached there without BPF_F_ALLOW_MULTI:");
	for (uint32_t i = 0; i < n; i++) {
		(void)kern_prog_name(ids[i], name, sizeof(name));
		(void)kern_say(error, 0, " %s (program %u)", name, ids[i]);
	}
	(void)kern_say(error, 0, ": detach it with bpftool cgroup detach");
}

/* Is the pinned link alive and on the cgroup that is wanted? */
static bool link_fits(int link_fd, int cgroup_fd)
{
	struct bpf_link_info info = {0};
	uint32_t len = sizeof(info);
	uint64_t id;

	if (kern_cgroup_fd_id(cgroup_fd, &id) || bpf_obj_get_info_by_fd(link_fd, &info, &len))
		return false;
	return info.type == BPF_LINK_TYPE_CGROUP && info.cgroup.cgroup_id == id;
}

/*
 * Puts @prog_fd on the cgroup: by updating the pinned link if it still fits, by a new
 * link else (the pin is defunct when its cgroup was removed: ENOLINK).
 */
static int attach_cgroup(int prog_fd, int cgroup_fd, enum bpf_attach_type type, const char *pin)
{
	int r, link = bpf_obj_get(pin);

	if (link >= 0) {
		r = -ENOLINK;
		if (link_fits(link, cgroup_fd))
			r = bpf_link_update(link, prog_fd, NULL) ? -errno : 0;
		(void)close(link);
		if (r != -ENOLINK)
			return r;
	}
	link = bpf_link_create(prog_fd, cgroup_fd, type, NULL);
	if (link < 0)
		return -errno;
	r = kern_pin_replace(link, pin);
	(void)close(link);
	return r;
}

/* A raw tracepoint's link cannot be updated: the old one goes when its pin is replaced. */
static int attach_raw_tp(int prog_fd, const char *tracepoint, const char *pin)
{
	/* NULL: the program was loaded for one. */
	int r, link = bpf_raw_tracepoint_open(tracepoint, prog_fd);

	if (link < 0)
		return -errno;
	r = kern_pin_replace(link, pin);
	(void)close(link);
	return r;
}

bool kern_has_raw_tp(void)
{
	static const struct bpf_insn ret0[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 0},
		{.code = BPF_JMP | BPF_EXIT},
	};
	int link, fd = bpf_prog_load(BPF_PROG_TYPE_RAW_TRACEPOINT, "tg_probe", "GPL", ret0,
				     ARRAY_SIZE(ret0), NULL);

	if (fd < 0)
		return false;
	link = bpf_raw_tracepoint_open("cgroup_mkdir", fd);
	(void)close(fd);
	if (link < 0)
		return false;
	(void)close(link);
	return true;
}

static int attach_row(const struct kern *k, const struct kern_progs *progs, const char *base,
		      const struct kern_attach_row *row, struct buf *error)
{
	char pin[KERN_PATH_MAX];
	int fd, r = kern_path(pin, sizeof(pin), "%s/links/%s", base, row->prog);

	if (r)
		return r;
	fd = kern_progs_fd(progs, row->prog);
	if (fd < 0)
		return row->optional ? 0 : fd;
	r = attach_cgroup(fd, k->cg_fd, row->type, pin);
	if (r) {
		(void)kern_say(error, 0, "cannot attach %s to %s: %s", row->prog, k->cg_root,
			       strerror(-r));
		if (r == -EPERM)
			say_holder(k, row, error);
	}
	return r;
}

static int pin_progs(const struct kern_progs *progs, const char *base)
{
	char path[KERN_PATH_MAX];
	int r = 0;

	for (size_t i = 0; !r && i < progs->n; i++) {
		r = kern_path(path, sizeof(path), "%s/progs/%s", base, progs->p[i].name);
		if (!r)
			r = kern_pin_replace(progs->p[i].fd, path);
	}
	return r;
}

struct egress_update {
	const char *base;
	int fd;	    /* tg_egress */
	int uid_fd; /* tg_egress_uid */
};

static int update_egress(void *ctx, const char *name)
{
	struct egress_update *u = ctx;
	char pin[KERN_PATH_MAX];
	int link, fd, r;

	if (strcmp(name, EGRESS_UID_PROG) == 0)
		fd = u->uid_fd;
	else if (strncmp(name, "egress_", 7) == 0)
		fd = u->fd;
	else
		return 0;
	r = kern_path(pin, sizeof(pin), "%s/links/%s", u->base, name);
	if (r)
		return r;
	link = bpf_obj_get(pin);
	if (link < 0)
		return -errno;
	r = bpf_link_update(link, fd, NULL) ? -errno : 0;
	(void)close(link);
	if (r == -ENOLINK) { /* its cgroup is gone */
		(void)unlink(pin);
		r = 0;
	}
	return r;
}

/* Those that this kernel could load. */
static int attach_raw_tps(const struct kern_progs *progs, const char *base, struct buf *error)
{
	char pin[KERN_PATH_MAX];
	int r = 0;

	for (size_t i = 0; !r && i < RAW_TPS; i++) {
		const struct raw_tp_row *row = &kern_raw_tps[i];
		int fd = kern_progs_fd(progs, row->prog);

		if (fd < 0)
			continue;
		r = kern_path(pin, sizeof(pin), "%s/links/%s", base, row->prog);
		if (!r)
			r = attach_raw_tp(fd, row->tracepoint, pin);
		if (r)
			(void)kern_say(error, 0, "cannot attach %s: %s", row->prog, strerror(-r));
	}
	return r;
}

int kern_attach_all(const struct kern *k, const struct kern_progs *progs, const char *base,
		    struct buf *error)
{
	struct egress_update u = {.base = base,
				  .fd = kern_progs_fd(progs, EGRESS_PROG),
				  .uid_fd = kern_progs_fd(progs, EGRESS_UID_PROG)};
	char path[KERN_PATH_MAX];
	int r = attach_raw_tps(progs, base, error);

	for (size_t i = 0; !r && i < ARRAY_SIZE(rows); i++)
		r = attach_row(k, progs, base, &rows[i], error);
	if (!r)
		r = kern_path(path, sizeof(path), "%s/links", base);
	if (!r)
		r = kern_pin_each(path, update_egress, &u);
	if (!r)
		r = pin_progs(progs, base);
	return r;
}

static int egress_pin(const struct kern *k, uint64_t id, char *dst, size_t cap)
{
	return kern_path(dst, cap, "%s/links/egress_%016" PRIx64, k->dir, id);
}

static int attach_pinned(const struct kern *k, const char *prog, int cgroup_fd, const char *pin)
{
	char path[KERN_PATH_MAX];
	int fd, r = kern_path(path, sizeof(path), "%s/progs/%s", k->dir, prog);

	if (r)
		return r;
	fd = bpf_obj_get(path);
	if (fd < 0)
		return -errno;
	r = attach_cgroup(fd, cgroup_fd, BPF_CGROUP_INET_EGRESS, pin);
	(void)close(fd);
	return r;
}

/* Once a second for each watched cgroup, so a filter that somebody took away comes back. */
static int ensure(const struct kern *k, const char *prog, uint64_t id, int cgroup_fd, bool by_uid,
		  const char *pin)
{
	uint32_t in_link = 0, want = kern_watch_egress_prog(k->watch, by_uid);
	uint64_t key = by_uid ? 0 : id;
	int r, state = kern_link_state(pin, id, &in_link);

	if (state == 0 && want && in_link != want)
		state = -ESTALE;
	if (state == 0) {
		kern_watch_expect(k->watch, key, true);
		return 0;
	}
	r = attach_pinned(k, prog, cgroup_fd, pin);
	if (kern_watch_expects(k->watch, key))
		kern_watch_add(k->watch,
			       state == -ENOENT	   ? KERN_LINK_UNPINNED
			       : state == -ENOLINK ? KERN_LINK_DETACHED
						   : KERN_LINK_CHANGED,
			       r == 0, prog, "the packet filter of cgroup %" PRIu64 " was taken away%s",
			       id, r ? " and cannot be put back" : "");
	else if (!r)
		kern_watch_expect(k->watch, key, true);
	return r;
}

int kern_attach_egress(const struct kern *k, uint64_t id, int cgroup_fd)
{
	char pin[KERN_PATH_MAX];
	int r = egress_pin(k, id, pin, sizeof(pin));

	return r ? r : ensure(k, EGRESS_PROG, id, cgroup_fd, false, pin);
}

int kern_detach_egress(const struct kern *k, uint64_t id)
{
	char pin[KERN_PATH_MAX];
	int r = egress_pin(k, id, pin, sizeof(pin));

	if (r)
		return r;
	kern_watch_expect(k->watch, id, false);
	return unlink(pin) && errno != ENOENT ? -errno : 0;
}

int kern_attach_egress_uid(const struct kern *k, bool on)
{
	char pin[KERN_PATH_MAX];
	uint64_t root;
	int r = kern_path(pin, sizeof(pin), "%s/links/%s", k->dir, EGRESS_UID_PROG);

	if (!r)
		r = kern_cgroup_fd_id(k->cg_fd, &root);
	if (r)
		return r;
	if (on)
		return ensure(k, EGRESS_UID_PROG, root, k->cg_fd, true, pin);
	kern_watch_expect(k->watch, 0, false);
	return unlink(pin) && errno != ENOENT ? -errno : 0;
}
