/* SPDX-License-Identifier: MIT */
/* Targets and agents by name and number, and what the kernel's maps say of them. */
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "config/cfgaddr.h"
#include "config/state.h"
#include "daemon/address.h"
#include "daemon/agentrules.h"
#include "daemon/audit.h"
#include "daemon/children.h"
#include "daemon/doh.h"
#include "daemon/learned.h"
#include "daemon/accel.h"
#include "daemon/parent.h"
#include "daemon/sweep.h"
#include "daemon/upgrade.h"
#include "kern/kern.h"

#define WANTED_MAX 8192
#define TARGET_DOH 0xffffffffu /* no target of the configuration */
#define PORT_HTTPS 443

struct wanted {
	struct tg_addr_key key;
	uint32_t target;
	bool there;
};

struct wanted_list {
	struct wanted w[WANTED_MAX];
	uint32_t n;
};

/* -------------------------------------------------------- names and ids */

struct ptarget *target_find(struct parent *p, struct slice name)
{
	list_each(it, &p->targets) {
		struct ptarget *t = container_of(it, struct ptarget, link);

		if (slice_eq_str(name, t->name))
			return t;
	}
	return NULL;
}

struct ptarget *target_by_id(struct parent *p, uint32_t id)
{
	list_each(it, &p->targets) {
		struct ptarget *t = container_of(it, struct ptarget, link);

		if (t->id == id)
			return t;
	}
	return NULL;
}

struct pagent *agent_find(struct parent *p, struct slice name)
{
	list_each(it, &p->agents) {
		struct pagent *a = container_of(it, struct pagent, link);

		if (slice_eq_str(name, a->name))
			return a;
	}
	return NULL;
}

struct pagent *agent_by_id(struct parent *p, uint32_t id)
{
	list_each(it, &p->agents) {
		struct pagent *a = container_of(it, struct pagent, link);

		if (a->id == id)
			return a;
	}
	return NULL;
}

struct ptarget *target_new(struct parent *p, const char *name, uint32_t id)
{
	struct ptarget *t = calloc(1, sizeof(*t));

	if (!t)
		return NULL;
	(void)snprintf(t->name, sizeof(t->name), "%s", name);
	t->id = id ? id : ++p->next_target;
	if (t->id > p->next_target)
		p->next_target = t->id;
	list_add_tail(&p->targets, &t->link);
	return t;
}

/* Ids of a former process: what is pinned in the kernel goes by them. */
static void take_over_ids(struct parent *p)
{
	struct state_targets st;
	struct buf error;
	int rc;

	buf_init(&error, 4096);
	rc = state_targets_load(p->cfg->state_dir, &st, &error);
	if (rc == 0) {
		for (uint32_t i = 0; i < st.n; i++)
			if (!target_find(p, slice_str(st.t[i].name)))
				(void)!target_new(p, st.t[i].name, st.t[i].id);
	} else if (rc != -ENOENT) {
		log_warning("%.*s", (int)error.n, (const char *)buf_data(&error));
	}
	state_targets_done(&st);
	buf_done(&error);
}

static int bind_names(struct parent *p)
{
	list_each(it, &p->targets)
		container_of(it, struct ptarget, link)->cfg = NULL;
	list_each(it, &p->agents)
		container_of(it, struct pagent, link)->cfg = NULL;
	for (uint32_t i = 0; i < p->cfg->ntargets; i++) {
		const struct cfg_target *c = &p->cfg->targets[i];
		struct ptarget *t = target_find(p, slice_str(c->name));

		if (!t)
			t = target_new(p, c->name, 0);
		if (!t)
			return -ENOMEM;
		t->cfg = c;
		if (!t->toggled)
			t->mode = c->mode;
	}
	for (uint32_t i = 0; i < p->cfg->nagents; i++) {
		const struct cfg_agent *c = &p->cfg->agents[i];
		struct pagent *a = agent_find(p, slice_str(c->name));

		if (!a) {
			a = calloc(1, sizeof(*a));
			if (!a)
				return -ENOMEM;
			(void)snprintf(a->name, sizeof(a->name), "%s", c->name);
			a->id = ++p->next_agent;
			list_add_tail(&p->agents, &a->link);
		}
		a->cfg = c;
	}
	return 0;
}

/* --------------------------------------------------------------- addresses */

static void add_wanted(struct wanted_list *l, uint32_t target, const uint8_t addr[16],
		       uint8_t prefix, uint16_t port)
{
	struct wanted w = {.target = target};

	w.key.prefixlen = 32u + prefix;
	w.key.protocol = IPPROTO_TCP;
	w.key.port_be = htons(port);
	memcpy(w.key.addr, addr, 16);
	/* Two names may have an address in common. */
	for (uint32_t i = 0; i < l->n; i++)
		if (l->w[i].target == target && memcmp(&l->w[i].key, &w.key, sizeof(w.key)) == 0)
			return;
	if (l->n < WANTED_MAX)
		l->w[l->n++] = w;
}

/*
 * A name that cannot be resolved now, early at boot or while DNS is down: what the
 * target's names were the last time stays guarded.
 */
static uint32_t remembered(struct wanted_list *l, const struct parent *p, const struct ptarget *t)
{
	const struct state_target *old;
	struct state_targets st;
	struct tg_addr_key key;
	uint32_t n = l->n;
	struct buf unused;

	buf_init(&unused, 4096);
	old = state_targets_load(p->cfg->state_dir, &st, &unused) == 0
		      ? state_target_find(&st, t->name)
		      : NULL;
	for (uint32_t i = 0; old && i < old->naddresses; i++)
		if (state_addr_parse(slice_str(old->addresses[i]), &key) == 0)
			add_wanted(l, t->id, key.addr, (uint8_t)(key.prefixlen - 32),
				   ntohs(key.port_be));
	state_targets_done(&st);
	buf_done(&unused);
	return l->n - n;
}

/* Early at boot there is no resolver of ours: what can be resolved is. */
static void resolve_now(struct wanted_list *l, const struct parent *p, const struct ptarget *t,
			const struct cfg_addr *a, struct buf *error)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *list, *it;
	uint8_t addr[16];
	uint32_t known = remembered(l, p, t);
	int rc;

	if (a->wildcard)
		return;
	rc = getaddrinfo(a->host, NULL, &hints, &list);
	if (rc) {
		(void)!buf_printf(error, "target %s: cannot resolve %s: %s; %u addresses of before\n",
				  t->name, a->host, gai_strerror(rc), known);
		return;
	}
	for (it = list; it; it = it->ai_next) {
		address_mapped(it->ai_addr, addr);
		add_wanted(l, t->id, addr, 128, a->port);
	}
	freeaddrinfo(list);
}

static void resolve(struct wanted_list *l, const struct parent *p, const struct ptarget *t,
		    const struct cfg_addr *a, struct buf *error)
{
	uint8_t hosts[16][16];
	size_t n;

	if (a->literal) {
		for (uint32_t i = 0; i < a->naddrs; i++)
			add_wanted(l, t->id, a->addrs[i].s6_addr, a->prefix, a->port);
		return;
	}
	if (!p->learned) {
		resolve_now(l, p, t, a, error);
		return;
	}
	/* named tells the rest. */
	n = learned_hosts(a->host, hosts, ARRAY_SIZE(hosts));
	for (size_t i = 0; i < n; i++)
		add_wanted(l, t->id, hosts[i], 128, a->port);
}

struct want_ctx {
	struct wanted_list *l;
	uint32_t target;
};

static void want_learned(void *ctx, const struct tg_addr_key *key)
{
	struct want_ctx *w = ctx;

	add_wanted(w->l, w->target, key->addr, 128, ntohs(key->port_be));
}

static bool parse_doh(const char *text, struct in6_addr *ret)
{
	const char *why;
	uint8_t prefix;

	/* Else it is a name, which named knows. */
	return cfg_net_parse(slice_str(text), ret, &prefix, &why) == 0 && prefix == 128;
}

/* Known DNS-over-HTTPS services, as a target that nobody reaches; a real target goes before it. */
static void want_doh(struct wanted_list *l, const struct parent *p, const char *text)
{
	struct in6_addr net;

	if (!parse_doh(text, &net))
		return;
	for (uint32_t i = 0; i < l->n; i++)
		if (l->w[i].key.port_be == htons(PORT_HTTPS) &&
		    memcmp(l->w[i].key.addr, &net, sizeof(net)) == 0)
			return;
	add_wanted(l, TARGET_DOH, net.s6_addr, 128, PORT_HTTPS);
}

static bool blocks_doh(const struct parent *p)
{
	return config_steers_dns(p->cfg) && p->cfg->dns.block_doh;
}

static bool is_doh(const struct parent *p, const struct tg_addr_key *key)
{
	struct in6_addr net;
	bool found = false;

	if (!blocks_doh(p) || key->port_be != htons(PORT_HTTPS))
		return false;
	for (const char *const *a = doh_addresses; *a && !found; a++)
		found = parse_doh(*a, &net) && memcmp(key->addr, &net, sizeof(net)) == 0;
	for (uint32_t i = 0; i < p->cfg->dns.ndoh && !found; i++)
		found = parse_doh(p->cfg->dns.doh[i], &net) && memcmp(key->addr, &net, sizeof(net)) == 0;
	return found;
}

int targets_free_addr(struct parent *p, const struct tg_addr_key *key)
{
	return is_doh(p, key) ? kern_addr_set(p->kern, key, TARGET_DOH) : kern_addr_delete(p->kern, key);
}

static void collect(struct wanted_list *l, const struct parent *p, struct buf *error)
{
	list_each(it, &p->targets) {
		const struct ptarget *t = container_of(it, struct ptarget, link);
		struct want_ctx w = {l, t->id};

		for (uint32_t i = 0; t->cfg && i < t->cfg->naddrs; i++)
			resolve(l, p, t, &t->cfg->addrs[i], error);
		if (t->cfg)
			learned_each(p, t, want_learned, &w);
	}
	if (!blocks_doh(p))
		return;
	for (const char *const *a = doh_addresses; *a; a++)
		want_doh(l, p, *a);
	for (uint32_t i = 0; i < p->cfg->dns.ndoh; i++)
		want_doh(l, p, p->cfg->dns.doh[i]);
}

static int keep_or_delete(void *ctx, const struct tg_addr_key *key, uint32_t target)
{
	struct wanted_list *l = ctx;
	int rc = 1;

	for (uint32_t i = 0; i < l->n; i++) {
		if (memcmp(&l->w[i].key, key, sizeof(*key)) != 0)
			continue;
		l->w[i].there |= l->w[i].target == target;
		rc = 0; /* of another target from now on: is overwritten, and never free in between */
	}
	return rc;
}

struct deleter {
	struct kern *k;
	struct wanted_list *l;
};

static int delete_unwanted(void *ctx, const struct tg_addr_key *key, uint32_t target)
{
	struct deleter *d = ctx;

	if (keep_or_delete(d->l, key, target) == 0)
		return 0;
	return kern_addr_delete(d->k, key);
}

static tg_u8 kernel_mode(enum target_mode mode)
{
	switch (mode) {
	case TARGET_STEER:
		return TG_MODE_STEER;
	case TARGET_BLOCK:
		return TG_MODE_BLOCK;
	case TARGET_OBSERVE:
		return TG_MODE_OBSERVE;
	case TARGET_OFF:
		return TG_MODE_OFF;
	}
	return TG_MODE_BLOCK;
}

static int set_state(struct parent *p, const struct ptarget *t)
{
	enum target_mode after = t->cfg && t->cfg->mode != TARGET_OFF ? t->cfg->mode : TARGET_STEER;
	struct tg_target_state st = {
		.mode = kernel_mode(t->mode),
		.mode_after = kernel_mode(after),
		.flags = t->cfg && t->cfg->fail_open ? TG_TARGET_FAIL_OPEN : 0,
		.generation = (uint32_t)p->generation,
	};

	if (t->cfg)
		st.flags |= accel_flags(p, t->cfg);
	if (t->mode == TARGET_OFF && t->until_wall_ns) {
		uint64_t now = clock_wall_ns();

		st.off_until_boot_ns = clock_boot_ns() +
				       (t->until_wall_ns > now ? t->until_wall_ns - now : 1);
	}
	return p->kern ? kern_target_set(p->kern, t->id, &st) : 0;
}

static int save_state(struct parent *p, const struct wanted_list *l)
{
	struct state_target *st = calloc(p->cfg->ntargets + 1, sizeof(*st));
	const char **addrs = calloc(WANTED_MAX, sizeof(*addrs));
	char(*text)[STATE_ADDR_TEXT] = calloc(WANTED_MAX, sizeof(*text));
	uint32_t n = 0, used = 0;
	int rc = -ENOMEM;

	if (st && addrs && text) {
		list_each(it, &p->targets) {
			const struct ptarget *t = container_of(it, struct ptarget, link);

			if (!t->cfg || n == p->cfg->ntargets)
				continue;
			st[n] = (struct state_target){.id = t->id,
						      .name = t->name,
						      .protocol = t->cfg->protocol,
						      .addresses = addrs + used,
						      .mode = t->cfg->mode,
						      .fail_open = t->cfg->fail_open};
			for (uint32_t i = 0; i < l->n; i++) {
				if (l->w[i].target != t->id)
					continue;
				state_addr_format(&l->w[i].key, text[used]);
				addrs[used] = text[used];
				used++;
				st[n].naddresses++;
			}
			n++;
		}
		rc = state_targets_save(p->cfg->state_dir, st, n);
	}
	free(st);
	free(addrs);
	free(text);
	return rc;
}

static bool has_cgroup(const struct pagent *a, const char *path)
{
	for (uint32_t i = 0; a && a->cfg && i < a->cfg->ncgroups; i++)
		if (strcmp(a->cfg->cgroups[i], path) == 0)
			return true;
	return false;
}

static bool has_uid(const struct pagent *a, uint32_t uid)
{
	for (uint32_t i = 0; a && a->cfg && i < a->cfg->nuids; i++)
		if (a->cfg->uids[i] == uid)
			return true;
	return false;
}

/* What an earlier configuration, or an earlier process, watched: its ids mean others now. */
static int drop_cgroup(void *ctx, const char *path, uint32_t agent)
{
	struct parent *p = ctx;

	if (has_cgroup(agent_by_id(p, agent), path))
		return 0;
	return kern_agent_cgroup_delete(p->kern, path);
}

static int drop_uid(void *ctx, uint32_t uid, uint32_t agent)
{
	struct parent *p = ctx;

	if (has_uid(agent_by_id(p, agent), uid))
		return 0;
	return kern_agent_uid_delete(p->kern, uid);
}

static int apply_agents(struct parent *p)
{
	int rc = kern_agent_cgroup_each(p->kern, drop_cgroup, p);

	if (!rc)
		rc = kern_agent_uid_each(p->kern, drop_uid, p);
	list_each(it, &p->agents) {
		const struct pagent *a = container_of(it, struct pagent, link);

		if (!rc && a->cfg)
			rc = agentrules_apply(p, a);
		for (uint32_t i = 0; !rc && a->cfg && i < a->cfg->ncgroups; i++) {
			rc = kern_agent_cgroup_set(p->kern, a->cfg->cgroups[i], a->id);
			if (rc)
				log_error("agent %s: cgroup %s cannot be watched: %s%s", a->name,
					  a->cfg->cgroups[i], strerror(-rc),
					  rc == -EBUSY ? " (the daemon itself is in it)" : "");
		}
		for (uint32_t i = 0; !rc && a->cfg && i < a->cfg->nuids; i++) {
			rc = kern_agent_uid_set(p->kern, a->cfg->uids[i], a->id);
			if (rc)
				log_error("agent %s: uid %u cannot be watched: %s", a->name,
					  a->cfg->uids[i], strerror(-rc));
		}
	}
	return rc ? rc : agentrules_prune(p);
}

/* Off is no entry at all, which blocks just the same while an address is left. */
static int set_doh(struct parent *p)
{
	struct tg_target_state st = {.mode = TG_MODE_BLOCK, .mode_after = TG_MODE_BLOCK};
	int rc = blocks_doh(p) ? kern_target_set(p->kern, TARGET_DOH, &st)
			       : kern_target_delete(p->kern, TARGET_DOH);

	return rc == -ENOENT ? 0 : rc;
}

static int apply_kernel(struct parent *p, struct wanted_list *l, struct buf *error)
{
	struct deleter d = {p->kern, l};
	uint32_t uids[4];
	int rc;

	/* States first: an address must never point to a target that has none. */
	list_each(it, &p->targets) {
		rc = set_state(p, container_of(it, struct ptarget, link));
		if (rc)
			return rc;
	}
	rc = set_doh(p);
	if (!rc)
		rc = kern_addr_each(p->kern, delete_unwanted, &d);
	for (uint32_t i = 0; !rc && i < l->n; i++)
		if (!l->w[i].there)
			rc = kern_addr_set(p->kern, &l->w[i].key, l->w[i].target);
	if (!rc)
		rc = apply_agents(p);
	if (!rc)
		rc = kern_agent_self(p->kern, uids, children_uids(p, uids, ARRAY_SIZE(uids)), error);
	if (!rc)
		sweep_now(p);
	if (!rc)
		agentrules_tell(p);
	return rc;
}

/* --------------------------------------------------------------- toggles */

static void take_toggle(struct ptarget *t, const struct state_toggle *g)
{
	t->toggled = true;
	t->mode = g->mode;
	t->by_uid = g->by_uid;
	t->since_wall_ns = g->since_wall_ns;
	t->until_wall_ns = g->until_wall_ns;
	(void)snprintf(t->reason, sizeof(t->reason), "%s", g->reason);
	log_warning("target %s is %s since its toggle by uid %u: %s", t->name,
		    target_mode_name(t->mode), t->by_uid, t->reason);
}

static void record_past(struct parent *p, const struct state_toggle *t)
{
	const char *mode = t->reset ? "reset" : target_mode_name(t->mode);
	char since[32];

	text_time(t->since_wall_ns, since, sizeof(since));
	log_warning("while the daemon was down: uid %u set target %s to %s: %s", t->by_uid, t->name,
		    t->reset ? "its configuration" : mode, t->reason);
	(void)audit_write(p, AUDIT_SYNC, "target.set", "{s:s, s:s, s:I, s:s, s:s, s:o, s:b}",
			  "target", t->name, "mode", mode, "uid", (json_int_t)t->by_uid, "reason",
			  t->reason, "since", since, "until", time_json(t->until_wall_ns),
			  "while_down", 1);
}

static void load_toggles(struct parent *p)
{
	uint64_t now = clock_wall_ns();
	struct state_toggles st;
	struct buf error;
	int lock = state_lock(p->cfg->state_dir), rc;

	buf_init(&error, 4096);
	rc = state_toggles_load(p->cfg->state_dir, &st, &error);
	if (rc == 0) {
		for (uint32_t i = 0; i < st.n; i++)
			if (!st.t[i].recorded)
				record_past(p, &st.t[i]);
		list_each(it, &p->targets) {
			struct ptarget *t = container_of(it, struct ptarget, link);
			const struct state_toggle *g = state_toggle_last(&st, t->name);

			if (state_toggle_active(g, now))
				take_toggle(t, g);
		}
		state_toggles_compact(&st, now);
		if (state_toggles_save(p->cfg->state_dir, st.t, st.n))
			log_error("the list of toggles cannot be written back");
	} else if (rc != -ENOENT) {
		log_error("%.*s", (int)error.n, (const char *)buf_data(&error));
	}
	state_toggles_done(&st);
	buf_done(&error);
	if (lock >= 0)
		state_unlock(lock);
}

int target_switch(struct parent *p, struct ptarget *t, int mode, const char *reason,
		  uint64_t for_ms, uint32_t uid, struct buf *error)
{
	uint64_t now = clock_wall_ns();
	struct state_toggle g = {
		.name = t->name,
		.reset = mode < 0,
		.mode = mode < 0 ? (t->cfg ? t->cfg->mode : TARGET_STEER) : (enum target_mode)mode,
		.reason = reason ? reason : "",
		.by_uid = uid,
		.since_wall_ns = now,
		.until_wall_ns = for_ms ? now + for_ms * 1000000 : 0,
		.recorded = true,
	};
	int rc = audit_write(p, AUDIT_SYNC, "target.set", "{s:s, s:s, s:I, s:s, s:o}", "target",
			     t->name, "mode", g.reset ? "reset" : target_mode_name(g.mode), "uid",
			     (json_int_t)uid, "reason", g.reason, "until",
			     time_json(g.until_wall_ns));

	if (rc && g.mode == TARGET_OFF && !g.reset) {
		(void)!buf_printf(error, "it would not be on record: the audit log cannot be written");
		return rc;
	}
	rc = state_toggle_append(p->cfg->state_dir, &g, error);
	if (rc)
		return rc;
	t->toggled = mode >= 0;
	t->mode = g.mode;
	t->by_uid = uid;
	t->since_wall_ns = now;
	t->until_wall_ns = g.until_wall_ns;
	(void)snprintf(t->reason, sizeof(t->reason), "%s", g.reason);
	rc = set_state(p, t);
	if (rc)
		(void)!buf_printf(error, "the kernel's map refused it: %s", strerror(-rc));
	log_warning("target %s is now %s (uid %u): %s", t->name, target_mode_name(t->mode), uid,
		    t->reason);
	each_worker(p, c)
	{
		ipc_begin(c->ipc, IPC_TARGET_MODE, 0);
		ipc_put_str(c->ipc, t->name);
		ipc_put_u32(c->ipc, t->mode);
		ipc_send(c->ipc);
	}
	return rc;
}

void targets_tick(struct parent *p)
{
	uint64_t now = clock_wall_ns();

	list_each(it, &p->targets) {
		struct ptarget *t = container_of(it, struct ptarget, link);
		struct buf error;

		if (!t->toggled || !t->until_wall_ns || now < t->until_wall_ns)
			continue;
		buf_init(&error, 1024);
		if (target_switch(p, t, -1, "its time is over", 0, 0, &error))
			log_error("target %s: %.*s", t->name, (int)error.n,
				  (const char *)buf_data(&error));
		buf_done(&error);
	}
}

void targets_accelerate(struct parent *p)
{
	list_each(it, &p->targets) {
		const struct ptarget *t = container_of(it, struct ptarget, link);

		if (t->cfg && set_state(p, t))
			log_error("target %s: the kernel's map refused its state", t->name);
	}
}

/* ------------------------------------------------------------------ apply */

static int adopt_one(void *ctx, const struct tg_addr_key *key, uint32_t target)
{
	struct parent *p = ctx;
	const struct ptarget *t = target_by_id(p, target);

	if (t && t->cfg)
		learned_adopt(p, t, key);
	return 0;
}

/* What an earlier daemon had learned stays guarded: from the maps, or after a reboot the file. */
static int adopt_learned(struct parent *p)
{
	struct wanted_list *l;
	int rc = p->learned && p->kern ? kern_addr_each(p->kern, adopt_one, p) : 0;

	if (rc || !p->learned)
		return rc;
	l = calloc(1, sizeof(*l));
	if (!l)
		return -ENOMEM;
	list_each(it, &p->targets) {
		const struct ptarget *t = container_of(it, struct ptarget, link);

		if (t->cfg)
			(void)remembered(l, p, t);
	}
	for (uint32_t i = 0; i < l->n; i++)
		(void)adopt_one(p, &l->w[i].key, l->w[i].target);
	free(l);
	return 0;
}

int targets_save(struct parent *p)
{
	struct wanted_list *l = calloc(1, sizeof(*l));
	struct buf unused;
	int rc;

	if (!l)
		return -ENOMEM;
	buf_init(&unused, 4096);
	collect(l, p, &unused);
	rc = save_state(p, l);
	buf_done(&unused);
	free(l);
	return rc;
}

int targets_apply(struct parent *p, struct buf *error)
{
	struct wanted_list *l = calloc(1, sizeof(*l));
	bool first = list_empty(&p->targets);
	int rc;

	if (!l)
		return -ENOMEM;
	if (first) {
		take_over_ids(p);
		agents_take_ids(p);
		targets_ids_apart(p);
	}
	rc = bind_names(p);
	if (!rc && first)
		load_toggles(p);
	if (!rc && first)
		rc = adopt_learned(p);
	if (!rc) {
		learned_prune(p);
		collect(l, p, error);
	}
	if (!rc && p->kern)
		rc = apply_kernel(p, l, error);
	if (!rc)
		rc = save_state(p, l);
	if (!rc)
		rc = agents_save_ids(p);
	if (rc)
		(void)!buf_printf(error, "targets cannot be put into effect: %s\n", strerror(-rc));
	free(l);
	return rc;
}
