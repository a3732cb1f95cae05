/* SPDX-License-Identifier: MIT */
#include "kern/kern_watch.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <uthash.h>

#include "kern/kern_priv.h"

enum { LINKS_MAX = 32, PENDING_MAX = 64, PROGS_SHOWN = 64 };

/* A pinned object of ours: the descriptor keeps it alive without its pin. */
struct pin {
	char path[96]; /* below the pin directory: "links/tg_connect4" */
	int fd;
	ino_t ino; /* of the pin: another one is another object */
};

struct link {
	char name[BPF_OBJ_NAME_LEN];
	bool raw_tp;
	enum bpf_attach_type type;
	struct pin pin, prog;
	uint32_t prog_id;
};

/* The filter of this cgroup was attached; id 0: the one of uids. */
struct expected {
	UT_hash_handle hh;
	uint64_t id;
};

struct kern_watch {
	uint64_t root; /* id of the cgroup that we sit on */
	struct link links[LINKS_MAX];
	size_t nlinks;
	struct pin maps[KM_COUNT];
	struct pin egress, egress_uid; /* programs whose links belong to kern_attach */
	uint32_t egress_id, egress_uid_id;
	struct expected *expected;
	struct kern_shadow *shadow;
	struct kern_finding pending[PENDING_MAX];
	size_t npending;
};

static const struct {
	const char *label, *what;
} faults[] = {
#define X(name, label, what) {label, what},
	KERN_FAULTS(X)
#undef X
};

const char *kern_fault_label(enum kern_fault f)
{
	return faults[f].label;
}

const char *kern_fault_what(enum kern_fault f)
{
	return faults[f].what;
}

/* ---------------------------------------------------------- what is found */

/* More than fit in a second are counted by their first ones. */
void kern_watch_add(struct kern_watch *w, int fault, bool repaired, const char *what,
		    const char *fmt, ...)
{
	struct kern_finding *f;
	va_list ap;

	if (!w || w->npending == PENDING_MAX)
		return;
	f = &w->pending[w->npending++];
	*f = (struct kern_finding){
		.fault = (enum kern_fault)fault,
		.repaired = repaired,
		.stays = !repaired && fault != KERN_MAP_CHANGED,
	};
	(void)snprintf(f->what, sizeof(f->what), "%s", what);
	va_start(ap, fmt);
	(void)vsnprintf(f->text, sizeof(f->text), fmt, ap);
	va_end(ap);
}

bool kern_watch_expects(const struct kern_watch *w, uint64_t id)
{
	struct expected *e = NULL;

	if (w)
		HASH_FIND(hh, w->expected, &id, sizeof(id), e);
	return e != NULL;
}

void kern_watch_expect(struct kern_watch *w, uint64_t id, bool on)
{
	struct expected *e;

	if (!w || kern_watch_expects(w, id) == on)
		return;
	if (!on) {
		HASH_FIND(hh, w->expected, &id, sizeof(id), e);
		HASH_DEL(w->expected, e);
		free(e);
		return;
	}
	e = calloc(1, sizeof(*e));
	if (!e)
		return; /* put right all the same, and not told */
	e->id = id;
	HASH_ADD(hh, w->expected, id, sizeof(id), e);
}

uint32_t kern_watch_egress_prog(const struct kern_watch *w, bool uid)
{
	return !w ? 0 : uid ? w->egress_uid_id : w->egress_id;
}

struct kern_shadow *kern_watch_shadow(const struct kern_watch *w)
{
	return w ? w->shadow : NULL;
}

/* ------------------------------------------------------- looking at links */

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
	uint32_t prog;
	uint64_t root;
	int r = kern_cgroup_fd_id(k->cg_fd, &root);

	if (r)
		return kern_say(error, -ENOLINK, "%s: %s", k->cg_root, strerror(-r));
	for (size_t i = 0; !r && (row = kern_attach_row(i)); i++)
		if (!row->optional || pinned_prog(k, row->prog, &prog) != -ENOENT)
			r = guards(k, row->prog, root, error);
	return r;
}

/* ------------------------------------------------------------- starting */

static int pin_open(const struct kern *k, struct pin *p, const char *part, const char *name)
{
	char path[KERN_PATH_MAX];
	struct stat st;
	int r = kern_path(p->path, sizeof(p->path), "%s/%s", part, name);

	p->fd = -1;
	if (!r)
		r = kern_path(path, sizeof(path), "%s/%s", k->dir, p->path);
	if (r)
		return r;
	if (stat(path, &st))
		return -errno;
	p->ino = st.st_ino;
	p->fd = bpf_obj_get(path);
	return p->fd < 0 ? -errno : 0;
}

static int prog_open(const struct kern *k, struct pin *p, const char *name, uint32_t *ret_id)
{
	struct bpf_prog_info info = {0};
	uint32_t len = sizeof(info);
	int r = pin_open(k, p, "progs", name);

	if (!r && bpf_obj_get_info_by_fd(p->fd, &info, &len))
		r = -errno;
	if (!r)
		*ret_id = info.id;
	return r;
}

/* A program that this kernel cannot have is pinned nowhere and not missed. */
static int link_open(const struct kern *k, struct kern_watch *w, const char *name, int type)
{
	struct link *l = &w->links[w->nlinks];
	int r;

	if (w->nlinks == LINKS_MAX)
		return -E2BIG;
	*l = (struct link){.raw_tp = type < 0, .type = (enum bpf_attach_type)type, .pin.fd = -1};
	(void)snprintf(l->name, sizeof(l->name), "%s", name);
	r = prog_open(k, &l->prog, name, &l->prog_id);
	if (r == -ENOENT)
		return 0;
	if (!r)
		r = pin_open(k, &l->pin, "links", name);
	w->nlinks++;
	return r;
}

/* The filters that are attached now are to stay. */
static int expect_filter(void *ctx, const char *name)
{
	uint64_t id;

	if (strcmp(name, "tg_egress_uid") == 0)
		kern_watch_expect(ctx, 0, true);
	else if (sscanf(name, "egress_%16" SCNx64, &id) == 1)
		kern_watch_expect(ctx, id, true);
	return 0;
}

static int watch_open(struct kern *k, struct kern_watch *w)
{
	char links[KERN_PATH_MAX];
	const struct kern_attach_row *row;
	int r = kern_cgroup_fd_id(k->cg_fd, &w->root);

	for (size_t i = 0; !r && (row = kern_attach_row(i)); i++)
		r = link_open(k, w, row->prog, (int)row->type);
	for (size_t i = 0; !r && i < RAW_TPS; i++)
		r = link_open(k, w, kern_raw_tps[i].prog, -1);
	if (!r)
		r = prog_open(k, &w->egress, "tg_egress", &w->egress_id);
	if (!r)
		r = prog_open(k, &w->egress_uid, "tg_egress_uid", &w->egress_uid_id);
	for (size_t i = 0; !r && i < KM_COUNT; i++)
		if (k->map[i] >= 0) /* not those of what this kernel lacks */
			r = pin_open(k, &w->maps[i], "maps", kern_map_names[i]);
	if (!r)
		r = kern_path(links, sizeof(links), "%s/links", k->dir);
	if (!r)
		r = kern_pin_each(links, expect_filter, w);
	return r ? r : kern_shadow_new(k, &w->shadow);
}

static void pin_close(const struct pin *p)
{
	if (p->fd >= 0)
		(void)close(p->fd);
}

void kern_watch_free(struct kern_watch *w)
{
	struct expected *e, *tmp;

	if (!w)
		return;
	for (size_t i = 0; i < w->nlinks; i++) {
		pin_close(&w->links[i].pin);
		pin_close(&w->links[i].prog);
	}
	for (size_t i = 0; i < KM_COUNT; i++)
		pin_close(&w->maps[i]);
	pin_close(&w->egress);
	pin_close(&w->egress_uid);
	HASH_ITER(hh, w->expected, e, tmp) {
		HASH_DEL(w->expected, e);
		free(e);
	}
	kern_shadow_free(w->shadow);
	free(w);
}

int kern_watch_start(struct kern *k, struct buf *error)
{
	struct kern_watch *w = calloc(1, sizeof(*w));
	int r = w ? kern_guarding(k, error) : -ENOMEM;

	if (r) {
		free(w);
		return r;
	}
	w->egress.fd = w->egress_uid.fd = -1;
	for (size_t i = 0; i < KM_COUNT; i++)
		w->maps[i].fd = -1;
	r = watch_open(k, w);
	if (r) {
		kern_watch_free(w);
		return kern_say(error, r, "what is pinned cannot be watched: %s", strerror(-r));
	}
	k->watch = w;
	return 0;
}

/* -------------------------------------------------------------- each second */

static void check_dirs(const struct kern *k)
{
	static const char *const parts[] = {"", "/links", "/progs", "/maps"};
	char path[KERN_PATH_MAX], *slash;
	int made = 0;

	if (!kern_path(path, sizeof(path), "%s", k->dir) && (slash = strrchr(path, '/'))) {
		*slash = '\0';
		made += !mkdir(path, 0700);
	}
	for (size_t i = 0; i < ARRAY_SIZE(parts); i++)
		if (!kern_path(path, sizeof(path), "%s%s", k->dir, parts[i]))
			made += !mkdir(path, 0700);
	if (made)
		kern_watch_add(k->watch, KERN_PINS_GONE, true, "pins",
			       "the pin directory was removed: made again");
}

static void check_pin(const struct kern *k, struct pin *p)
{
	char path[KERN_PATH_MAX];
	struct stat st;
	int r;

	if (p->fd < 0 || kern_path(path, sizeof(path), "%s/%s", k->dir, p->path))
		return;
	if (!stat(path, &st) && st.st_ino == p->ino)
		return;
	r = kern_pin_replace(p->fd, path);
	if (!r && !stat(path, &st))
		p->ino = st.st_ino;
	kern_watch_add(k->watch, KERN_LINK_UNPINNED, r == 0, strchr(p->path, '/') + 1,
		       "the pin %s was removed or replaced%s", p->path,
		       r ? " and cannot be put back" : ": put back");
}

static void attach_again(const struct kern *k, struct link *l)
{
	int fd = bpf_link_create(l->prog.fd, k->cg_fd, l->type, NULL);
	char path[KERN_PATH_MAX];
	struct stat st;

	if (fd >= 0) {
		(void)close(l->pin.fd);
		l->pin.fd = fd;
		if (!kern_path(path, sizeof(path), "%s/%s", k->dir, l->pin.path) &&
		    !kern_pin_replace(fd, path) && !stat(path, &st))
			l->pin.ino = st.st_ino;
	}
	kern_watch_add(k->watch, KERN_LINK_DETACHED, fd >= 0, l->name, "%s was detached from %s%s",
		       l->name, k->cg_root, fd < 0 ? " and cannot be attached" : ": attached again");
}

static void check_link(const struct kern *k, struct link *l)
{
	struct bpf_link_info info = {0};
	uint32_t len = sizeof(info);
	int r;

	if (bpf_obj_get_info_by_fd(l->pin.fd, &info, &len))
		return;
	if (!l->raw_tp && info.cgroup.cgroup_id != k->watch->root) {
		attach_again(k, l);
	} else if (info.prog_id != l->prog_id && !l->raw_tp) {
		r = bpf_link_update(l->pin.fd, l->prog.fd, NULL) ? -errno : 0;
		kern_watch_add(k->watch, KERN_LINK_CHANGED, r == 0, l->name,
			       "another program was put in the place of %s%s", l->name,
			       r ? " and stays there" : ": put back");
	}
	check_pin(k, &l->pin);
	check_pin(k, &l->prog);
}

/* Where the last program's word counts: it could send agents elsewhere, or read along. */
static bool last_word(enum bpf_attach_type type)
{
	return type != BPF_CGROUP_INET_SOCK_CREATE && type != BPF_CGROUP_INET4_POST_BIND &&
	       type != BPF_CGROUP_INET6_POST_BIND;
}

static void check_order(const struct kern *k, const struct link *l)
{
	uint32_t ids[PROGS_SHOWN] = {0}, n = ARRAY_SIZE(ids), flags = 0, i = 0;
	char name[BPF_OBJ_NAME_LEN];

	if (l->raw_tp || !last_word(l->type) ||
	    bpf_prog_query(k->cg_fd, l->type, BPF_F_QUERY_EFFECTIVE, &flags, ids, &n))
		return;
	while (i < n && ids[i] != l->prog_id)
		i++;
	for (i++; i < n; i++) {
		if (!kern_prog_name(ids[i], name, sizeof(name)) || strcmp(name, l->name) == 0)
			continue; /* went away meanwhile, or of another Tidegate, with its own pins */
		kern_watch_add(k->watch, KERN_PROG_AFTER, false, l->name,
			       "program %s (%u) runs after %s and can undo what it decides: detach it "
			       "with bpftool cgroup detach",
			       name, ids[i], l->name);
	}
}

/* A load in another process, of `tidegated --pin` or an upgrade, is not looked at half-way. */
static int lock(const struct kern *k)
{
	char path[KERN_PATH_MAX], *slash;
	int fd, r = kern_path(path, sizeof(path), "%s", k->dir);

	slash = r ? NULL : strrchr(path, '/');
	if (!slash)
		return -EINVAL;
	*slash = '\0';
	fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		(void)close(fd);
		return -EBUSY;
	}
	return fd;
}

int kern_watch_tick(struct kern *k, kern_finding_fn fn, void *ctx)
{
	struct kern_watch *w = k->watch;
	int fd = w ? lock(k) : -EBUSY;

	if (fd == -EBUSY)
		return fd;
	check_dirs(k);
	for (size_t i = 0; i < w->nlinks; i++) {
		check_link(k, &w->links[i]);
		check_order(k, &w->links[i]);
	}
	for (size_t i = 0; i < KM_COUNT; i++)
		check_pin(k, &w->maps[i]);
	check_pin(k, &w->egress);
	check_pin(k, &w->egress_uid);
	if (kern_watch_expects(w, 0))
		(void)!kern_attach_egress_uid(k, true); /* what it finds is added */
	kern_shadow_check(k, w->shadow);
	if (fd >= 0)
		(void)close(fd);
	for (size_t i = 0; i < w->npending; i++)
		fn(ctx, &w->pending[i]);
	w->npending = 0;
	return 0;
}
