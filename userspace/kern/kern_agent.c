/* SPDX-License-Identifier: MIT */
/*
 * Who is watched. A path is the operator's word; the ids of the cgroups that have had
 * it are bound to the agent by the cgroup_mkdir program, and here as second line.
 */
#include <errno.h>
#include <inttypes.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "kern/kern_priv.h"
#include "kern/kern_watch.h"

enum { DEAD_IDS_MAX = 1024 };

static unsigned int level_of(const char *full)
{
	unsigned int n = 0;

	for (const char *s = full; *s; s++)
		n += *s == '/';
	return n;
}

static const uint32_t config_key;

static int config_get(const struct kern *k, struct tg_config *ret)
{
	return bpf_map_lookup_elem(k->map[KM_CONFIG], &config_key, ret) ? -errno : 0;
}

static int config_set(struct kern *k, const struct tg_config *c)
{
	return kern_put(k, KM_CONFIG, &config_key, c);
}

/* The programs skip levels and look-ups that cannot hit. */
static int config_update(struct kern *k)
{
	struct tg_path path, *at = NULL;
	uint32_t uid, *uid_at = NULL;
	struct tg_config c;
	int r = config_get(k, &c);

	if (r)
		return r;
	c.level_mask &= TG_CONFIG_SERVED;
	c.uid_agents = 0;
	while (!bpf_map_get_next_key(k->map[KM_PATHS], at, &path)) {
		c.level_mask |= 1u << level_of(path.path);
		at = &path;
	}
	while (!bpf_map_get_next_key(k->map[KM_UIDS], uid_at, &uid)) {
		c.uid_agents++;
		uid_at = &uid;
	}
	return config_set(k, &c);
}

/* One more path: ten thousand of them must not be counted anew for each. */
static int level_add(struct kern *k, unsigned int level)
{
	struct tg_config c;
	int r = config_get(k, &c);

	if (r || c.level_mask & 1u << level)
		return r;
	c.level_mask |= 1u << level;
	return config_set(k, &c);
}

/* One uid more, before it is in the map, or one less, after it was. */
static int uids_count(struct kern *k, int change)
{
	struct tg_config c;
	int r = config_get(k, &c);

	if (r)
		return r;
	c.uid_agents += (uint32_t)change;
	return config_set(k, &c);
}

static int set_served(struct kern *k, bool on)
{
	struct tg_config c;
	int r = config_get(k, &c);

	if (r)
		return r;
	c.level_mask &= ~(uint32_t)TG_CONFIG_SERVED;
	if (on)
		c.level_mask |= TG_CONFIG_SERVED;
	return config_set(k, &c);
}

int kern_agent_served(struct kern *k, bool on)
{
	struct tg_config c;
	int lock, r = config_get(k, &c);

	if (r || !!(c.level_mask & TG_CONFIG_SERVED) == on)
		return r;
	lock = kern_pin_lock(k->dir);
	if (lock < 0)
		return lock;
	r = set_served(k, on);
	(void)close(lock);
	return r;
}

static bool is_gone(const struct kern *k, uint64_t id)
{
	char path[KERN_PATH_MAX];

	return kern_cgroup_path(k, id, path, sizeof(path)) == -ENOENT;
}

static const char *path_below(const struct kern *k, const struct tg_path *full)
{
	const char *below = full->path + strlen(k->cg_prefix);

	return *below ? below : "/";
}

/* The programs count a cgroup before it is in the map, and so do we. */
static int id_add(struct kern *k, uint64_t id, uint32_t agent)
{
	int r;

	kern_index_cgroup(k, id, true);
	r = kern_put(k, KM_CGROUPS, &id, &agent);
	if (r)
		kern_index_cgroup(k, id, false);
	return r;
}

static int id_drop(struct kern *k, uint64_t id)
{
	int r = kern_drop(k, KM_CGROUPS, &id);

	if (!r)
		kern_index_cgroup(k, id, false);
	return r == -ENOENT ? 0 : r;
}

/* It is in the map: were it not counted, the programs would not look there. */
static void check_index(struct kern *k, uint64_t id, const char *path)
{
	if (kern_index_has_cgroup(k, id))
		return;
	kern_index_cgroup(k, id, true);
	kern_watch_add(k->watch, KERN_MAP_WEAKENED, true, kern_map_names[KM_INDEX],
		       "cgroup %s was taken out of the index by another program: put back", path);
}

/* Binds the id that the path has now, if it exists, and puts the backstop on it. */
static int bind_path(struct kern *k, const char *path, uint32_t agent)
{
	uint32_t bound;
	uint64_t id;
	int r, fd = kern_cgroup_open(k, path);

	if (fd == -ENOENT)
		return 0; /* bound when it is made */
	if (fd < 0)
		return fd;
	r = kern_cgroup_fd_id(fd, &id);
	if (!r && bpf_map_lookup_elem(k->map[KM_CGROUPS], &id, &bound))
		r = id_add(k, id, agent);
	else if (!r && bound != agent)
		r = kern_put(k, KM_CGROUPS, &id, &agent);
	if (!r)
		check_index(k, id, path);
	if (!r)
		r = kern_attach_egress(k, id, fd);
	(void)close(fd);
	return r && is_gone(k, id) ? 0 : r; /* removed meanwhile */
}

static int set_locked(struct kern *k, const char *path, const struct tg_path *full, uint32_t agent)
{
	int r = kern_put(k, KM_PATHS, full, &agent);

	/* The path is in the map first: a cgroup made meanwhile is bound by the program. */
	if (!r)
		r = level_add(k, level_of(full->path));
	return r ? r : bind_path(k, path, agent);
}

/* The daemon's own connections must never come back to it, also not by the utility's hand. */
static bool watches_daemon(const struct kern *k, const char *full)
{
	char path[KERN_PATH_MAX], daemon[KERN_PATH_MAX];
	struct tg_config c;

	if (config_get(k, &c) || !c.daemon_cgroup ||
	    kern_cgroup_path(k, c.daemon_cgroup, path, sizeof(path)))
		return false;
	return !kern_path(daemon, sizeof(daemon), "%s%s", k->cg_prefix, path) &&
	       kern_cgroup_below(daemon, full);
}

int kern_agent_cgroup_set(struct kern *k, const char *path, uint32_t agent)
{
	struct tg_path full;
	int lock, r = kern_cgroup_full(k, path, &full);

	if (r)
		return r;
	if (!full.path[0])
		return -EINVAL; /* the root of the hierarchy holds the daemon too */
	if (level_of(full.path) > TG_MAX_LEVEL)
		return -E2BIG;
	if (watches_daemon(k, full.path))
		return -EBUSY;
	lock = kern_pin_lock(k->dir);
	if (lock < 0)
		return lock;
	r = set_locked(k, path, &full, agent);
	(void)close(lock);
	return r;
}

/* Calls @fn with each watched id; it may delete that one. */
static int each_id(struct kern *k,
		   int (*fn)(struct kern *k, uint64_t id, uint32_t agent, void *ctx), void *ctx)
{
	uint64_t id, next;
	uint32_t agent;
	bool more = !bpf_map_get_next_key(k->map[KM_CGROUPS], NULL, &next);
	int r = 0;

	while (more && !r) {
		id = next;
		more = !bpf_map_get_next_key(k->map[KM_CGROUPS], &id, &next);
		if (!bpf_map_lookup_elem(k->map[KM_CGROUPS], &id, &agent))
			r = fn(k, id, agent, ctx);
	}
	return r;
}

struct forget {
	uint32_t agent;
	uint64_t live; /* 0: the path does not exist now */
};

static int forget_id(struct kern *k, uint64_t id, uint32_t agent, void *ctx)
{
	const struct forget *f = ctx;

	int r;

	if (id != f->live && (agent != f->agent || !is_gone(k, id)))
		return 0;
	r = id_drop(k, id);
	if (r)
		return r;
	return kern_detach_egress(k, id);
}

static int delete_locked(struct kern *k, const char *path, const struct tg_path *full)
{
	struct forget f = {0};
	int r;

	if (bpf_map_lookup_elem(k->map[KM_PATHS], full, &f.agent))
		return -errno;
	r = kern_drop(k, KM_PATHS, full);
	if (r)
		return r;
	r = kern_cgroup_id(k, path, false, &f.live);
	if (r && r != -ENOENT)
		return r;
	r = each_id(k, forget_id, &f);
	return r ? r : config_update(k);
}

int kern_agent_cgroup_delete(struct kern *k, const char *path)
{
	struct tg_path full;
	int lock, r = kern_cgroup_full(k, path, &full);

	if (r)
		return r;
	lock = kern_pin_lock(k->dir);
	if (lock < 0)
		return lock;
	r = delete_locked(k, path, &full);
	(void)close(lock);
	return r;
}

int kern_agent_cgroup_each(struct kern *k, int (*fn)(void *ctx, const char *path, uint32_t agent),
			   void *ctx)
{
	struct tg_path path, next;
	uint32_t agent;
	bool more = !bpf_map_get_next_key(k->map[KM_PATHS], NULL, &next);
	int r = 0;

	while (more && !r) {
		path = next;
		more = !bpf_map_get_next_key(k->map[KM_PATHS], &path, &next);
		if (!bpf_map_lookup_elem(k->map[KM_PATHS], &path, &agent) &&
		    kern_cgroup_below(path.path, k->cg_prefix[0] ? k->cg_prefix : "/"))
			r = fn(ctx, path_below(k, &path), agent);
	}
	return r;
}

static int uid_change(struct kern *k, uint32_t uid, const uint32_t *agent)
{
	uint32_t any, was;
	bool there;
	int r = 0, lock = kern_pin_lock(k->dir);

	if (lock < 0)
		return lock;
	there = !bpf_map_lookup_elem(k->map[KM_UIDS], &uid, &was);
	/* The backstop is there before the first uid and until after the last. */
	if (agent) {
		r = kern_attach_egress_uid(k, true);
		if (!r && !there)
			r = uids_count(k, 1);
		if (!r)
			r = kern_put(k, KM_UIDS, &uid, agent);
		if (r && !there)
			(void)uids_count(k, -1); /* if that fails: one look-up more for all */
	} else {
		r = kern_drop(k, KM_UIDS, &uid);
		if (!r && there)
			r = uids_count(k, -1);
	}
	if (!r && bpf_map_get_next_key(k->map[KM_UIDS], NULL, &any))
		r = kern_attach_egress_uid(k, false);
	(void)close(lock);
	return r;
}

bool kern_agent_is_daemon(const struct kern *k, uint32_t uid)
{
	struct tg_config c;

	if (config_get(k, &c))
		return true; /* not known: not to be an agent */
	for (size_t i = 0; i < TG_DAEMON_UIDS; i++)
		if (uid == c.daemon_uids[i])
			return true;
	return false;
}

int kern_agent_uid_set(struct kern *k, uint32_t uid, uint32_t agent)
{
	struct tg_config c;
	int r = config_get(k, &c);

	for (size_t i = 0; !r && i < TG_DAEMON_UIDS; i++)
		if (uid == c.daemon_uids[i])
			r = -EBUSY;
	return r ? r : uid_change(k, uid, &agent);
}

int kern_agent_uid_delete(struct kern *k, uint32_t uid)
{
	return uid_change(k, uid, NULL);
}

int kern_agent_uid_each(struct kern *k, int (*fn)(void *ctx, uint32_t uid, uint32_t agent),
			void *ctx)
{
	uint32_t uid, next, agent;
	bool more = !bpf_map_get_next_key(k->map[KM_UIDS], NULL, &next);
	int r = 0;

	while (more && !r) {
		uid = next;
		more = !bpf_map_get_next_key(k->map[KM_UIDS], &uid, &next);
		if (!bpf_map_lookup_elem(k->map[KM_UIDS], &uid, &agent))
			r = fn(ctx, uid, agent);
	}
	return r;
}

struct self_check {
	struct kern *k;
	struct buf *error;
};

static int check_path(void *ctx, const char *path, uint32_t agent)
{
	struct self_check *c = ctx;
	struct tg_path full;
	int r = kern_cgroup_full(c->k, path, &full);

	if (r || !watches_daemon(c->k, full.path))
		return r;
	(void)kern_say(c->error, 0,
		       "the daemon runs in cgroup %s, which is watched for an agent: "
		       "start it outside, or remove that agent",
		       full.path);
	return -EBUSY;
}

static int check_uids(struct kern *k, const struct tg_config *c, struct buf *error)
{
	uint32_t agent;

	for (size_t i = 0; i < TG_DAEMON_UIDS; i++)
		if (!bpf_map_lookup_elem(k->map[KM_UIDS], &c->daemon_uids[i], &agent))
			return kern_say(error, -EBUSY,
					"uid %u of the daemon is watched for an agent: "
					"remove that agent",
					c->daemon_uids[i]);
	return 0;
}

/* Outside the part of the hierarchy that is in use it cannot be watched at all: 0. */
static int own_cgroup(const struct kern *k, uint64_t *ret)
{
	char path[KERN_PATH_MAX];
	const char *below;
	int fd, r = kern_cgroup_self(path, sizeof(path));

	if (r)
		return r;
	*ret = 0;
	if (!kern_cgroup_below(path, k->cg_prefix[0] ? k->cg_prefix : "/"))
		return 0;
	below = path + strlen(k->cg_prefix);
	fd = kern_cgroup_open(k, *below ? below : "/");
	if (fd < 0)
		return fd;
	r = kern_cgroup_fd_id(fd, ret);
	(void)close(fd);
	return r;
}

int kern_agent_tell_self(struct kern *k, const uint32_t *uids, size_t n)
{
	struct tg_config c;
	int r = n <= TG_DAEMON_UIDS ? config_get(k, &c) : -E2BIG;

	if (r)
		return r;
	memset(c.daemon_uids, 0, sizeof(c.daemon_uids));
	for (size_t i = 0; i < n; i++)
		c.daemon_uids[i] = uids[i];
	r = own_cgroup(k, &c.daemon_cgroup);
	return r ? r : config_set(k, &c);
}

int kern_agent_self(struct kern *k, const uint32_t *uids, size_t n, struct buf *error)
{
	struct self_check check = {.k = k, .error = error};
	struct tg_config c;
	int r = kern_agent_tell_self(k, uids, n);

	if (!r)
		r = config_get(k, &c);
	if (!r)
		r = check_uids(k, &c, error);
	return r ? r : kern_agent_cgroup_each(k, check_path, &check);
}

/* --- second line: once a second */

struct refresh {
	struct kern *k;
	int error; /* the first; one bad path must not leave the others unguarded */
};

static int rebind_path(void *ctx, const char *path, uint32_t agent)
{
	struct refresh *f = ctx;
	int r = bind_path(f->k, path, agent);

	if (r && !f->error)
		f->error = r;
	return 0;
}

static int drop_dead_link(void *ctx, const char *name)
{
	struct kern *k = ctx;
	uint64_t id;

	if (sscanf(name, "egress_%16" SCNx64, &id) != 1 || !is_gone(k, id))
		return 0;
	return kern_detach_egress(k, id);
}

struct dead {
	size_t n;
	uint64_t lowest;
};

static int count_dead(struct kern *k, uint64_t id, uint32_t agent, void *ctx)
{
	struct dead *d = ctx;

	if (!is_gone(k, id))
		return 0;
	if (!d->n++ || id < d->lowest)
		d->lowest = id;
	return 0;
}

/*
 * Sockets can outlive their cgroup in the hands of a process that left it, so
 * ids of removed cgroups stay watched, the latest DEAD_IDS_MAX of them: ids only grow.
 */
static int prune(struct kern *k)
{
	struct dead d;
	int r;

	for (;;) {
		d = (struct dead){0};
		r = each_id(k, count_dead, &d);
		if (r || d.n <= DEAD_IDS_MAX)
			return r;
		r = id_drop(k, d.lowest);
		if (r)
			return r;
	}
}

int kern_agents_refresh(struct kern *k)
{
	struct refresh f = {.k = k};
	char links[KERN_PATH_MAX];
	int r, lock = kern_pin_lock(k->dir);

	if (lock < 0)
		return lock;
	r = kern_agent_cgroup_each(k, rebind_path, &f);
	if (!r)
		r = kern_path(links, sizeof(links), "%s/links", k->dir);
	if (!r)
		r = kern_pin_each(links, drop_dead_link, k);
	if (!r)
		r = prune(k);
	(void)close(lock);
	return r ? r : f.error;
}
