/* SPDX-License-Identifier: MIT */
/* Maps with keys and values in words. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#include <bpf/bpf.h>

#include "kern/kern_priv.h"

static void kv_bool_flag(struct jsonw *w, const char *name, unsigned int flags, unsigned int bit)
{
	jsonw_kv_bool(w, name, flags & bit);
}

/* IPv4 is kept as ::ffff:a.b.c.d; @bits of 128, or -1 for an address alone. */
static void kv_addr(struct jsonw *w, const char *name, const uint8_t addr[16], int bits)
{
	char text[INET6_ADDRSTRLEN], out[INET6_ADDRSTRLEN + 8];
	bool v4 = (bits < 0 || bits >= 96) && IN6_IS_ADDR_V4MAPPED((const struct in6_addr *)addr);

	if (!inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? addr + 12 : addr, text, sizeof(text)))
		text[0] = '\0';
	if (bits < 0)
		(void)snprintf(out, sizeof(out), "%s", text);
	else
		(void)snprintf(out, sizeof(out), "%s/%d", text, v4 ? bits - 96 : bits);
	jsonw_kv_string(w, name, out);
}

static void kv_port(struct jsonw *w, const char *name, uint16_t port_be)
{
	jsonw_name(w, name);
	if (port_be)
		jsonw_u64(w, ntohs(port_be));
	else
		jsonw_string(w, "any");
}

static void addr_members(struct jsonw *w, const struct tg_addr_key *key, uint32_t target)
{
	jsonw_kv_string(w, "protocol", key->protocol == IPPROTO_UDP ? "udp" : "tcp");
	kv_addr(w, "address", key->addr, (int)key->prefixlen - 32);
	kv_port(w, "port", key->port_be);
	jsonw_kv_u64(w, "target", target);
}

static int dump_addr(void *ctx, const struct tg_addr_key *key, uint32_t target)
{
	struct jsonw *w = ctx;

	jsonw_object(w);
	addr_members(w, key, target);
	jsonw_object_end(w);
	return 0;
}

static const char *mode_name(uint8_t mode)
{
	static const char *const names[] = {"steer", "block", "observe", "off"};

	return mode < ARRAY_SIZE(names) ? names[mode] : "unknown";
}

static int dump_target(void *ctx, uint32_t id, const struct tg_target_state *s)
{
	struct jsonw *w = ctx;

	jsonw_object(w);
	jsonw_kv_u64(w, "target", id);
	jsonw_kv_string(w, "mode", mode_name(s->mode));
	kv_bool_flag(w, "fail_open", s->flags, TG_TARGET_FAIL_OPEN);
	kv_bool_flag(w, "accelerated", s->flags, TG_TARGET_ACCEL_REQUESTS);
	kv_bool_flag(w, "replies_too", s->flags, TG_TARGET_ACCEL_REPLIES);
	jsonw_kv_u64(w, "generation", s->generation);
	if (s->mode == TG_MODE_OFF) {
		jsonw_kv_u64(w, "off_until_boot_ns", s->off_until_boot_ns);
		jsonw_kv_string(w, "mode_after", mode_name(s->mode_after));
	}
	jsonw_object_end(w);
	return 0;
}

static int dump_path(void *ctx, const char *path, uint32_t agent)
{
	struct jsonw *w = ctx;

	jsonw_object(w);
	jsonw_kv_string(w, "cgroup", path);
	jsonw_kv_u64(w, "agent", agent);
	jsonw_object_end(w);
	return 0;
}

static int dump_uid(void *ctx, uint32_t uid, uint32_t agent)
{
	struct jsonw *w = ctx;

	jsonw_object(w);
	jsonw_kv_u64(w, "uid", uid);
	jsonw_kv_u64(w, "agent", agent);
	jsonw_object_end(w);
	return 0;
}

static void cgroup_json(struct kern *k, struct jsonw *w, const void *key, const void *value)
{
	char path[KERN_PATH_MAX];
	uint64_t id;
	uint32_t agent;

	memcpy(&id, key, sizeof(id));
	memcpy(&agent, value, sizeof(agent));
	jsonw_kv_u64(w, "cgroup_id", id);
	jsonw_name(w, "cgroup");
	if (kern_cgroup_path(k, id, path, sizeof(path)))
		jsonw_null(w); /* removed; a socket may have outlived it */
	else
		jsonw_string(w, path);
	jsonw_kv_u64(w, "agent", agent);
}

static void listener_json(struct kern *k, struct jsonw *w, const void *key, const void *value)
{
	struct tg_listener l;
	uint64_t netns;

	memcpy(&netns, key, sizeof(netns));
	memcpy(&l, value, sizeof(l));
	jsonw_kv_u64(w, "netns_cookie", netns);
	kv_port(w, "port", l.port_be);
	jsonw_kv_u64(w, "cookie4", l.cookie4);
	jsonw_kv_u64(w, "cookie6", l.cookie6);
}

static void quiet_json(struct kern *k, struct jsonw *w, const void *key, const void *value)
{
	uint64_t netns, until;

	memcpy(&netns, key, sizeof(netns));
	memcpy(&until, value, sizeof(until));
	jsonw_kv_u64(w, "netns_cookie", netns);
	jsonw_kv_u64(w, "until_boot_ns", until);
}

static void resolver_json(struct kern *k, struct jsonw *w, const void *key, const void *value)
{
	struct tg_resolver d;
	uint64_t netns;

	memcpy(&netns, key, sizeof(netns));
	memcpy(&d, value, sizeof(d));
	jsonw_kv_u64(w, "netns_cookie", netns);
	kv_port(w, "port", d.port_be);
}

static void dns_json(struct kern *k, struct jsonw *w, const void *key, const void *value)
{
	struct tg_dns d;

	memcpy(&d, value, sizeof(d));
	kv_bool_flag(w, "steer", d.flags, TG_DNS_STEER);
}

static void config_json(struct kern *k, struct jsonw *w, const void *key, const void *value)
{
	struct tg_config c;

	memcpy(&c, value, sizeof(c));
	jsonw_kv_u64(w, "level_mask", c.level_mask & ~(uint32_t)TG_CONFIG_SERVED);
	jsonw_kv_bool(w, "has_served", c.level_mask & TG_CONFIG_SERVED);
	jsonw_kv_u64(w, "uid_agents", c.uid_agents);
	jsonw_kv_u64(w, "daemon_cgroup", c.daemon_cgroup);
	jsonw_name(w, "daemon_uids");
	jsonw_array(w);
	for (size_t i = 0; i < TG_DAEMON_UIDS; i++)
		jsonw_u64(w, c.daemon_uids[i]);
	jsonw_array_end(w);
}

/* What both kinds of hand-over carry. */
static void record_json(struct jsonw *w, const struct tg_record *r)
{
	kv_addr(w, "destination", r->addr, -1);
	kv_port(w, "destination_port", r->port_be);
	jsonw_kv_u64(w, "target", r->target);
	jsonw_kv_u64(w, "agent", r->agent);
	jsonw_kv_u64(w, "pid", r->tgid);
	jsonw_kv_u64(w, "uid", r->uid);
	jsonw_kv_u64(w, "cgroup_id", r->cgroup_id);
	jsonw_kv_slice(w, "comm", slice_of(r->comm, strnlen(r->comm, sizeof(r->comm))));
}

static void asker_json(struct kern *k, struct jsonw *w, const void *key, const void *value)
{
	struct tg_record r;
	struct tg_asker a;

	memcpy(&a, key, sizeof(a));
	memcpy(&r, value, sizeof(r));
	kv_addr(w, "address", a.addr, -1);
	jsonw_kv_u64(w, "port", a.port);
	jsonw_kv_u64(w, "netns_cookie", a.netns_cookie);
	record_json(w, &r);
}

static void kv_tuple(struct jsonw *w, const void *key)
{
	struct tg_tuple t;

	memcpy(&t, key, sizeof(t));
	kv_addr(w, "client", t.client, -1);
	jsonw_kv_u64(w, "client_port", t.client_port);
	kv_addr(w, "server", t.server, -1);
	jsonw_kv_u64(w, "server_port", t.server_port);
	jsonw_kv_u64(w, "netns_cookie", t.netns_cookie);
}

static void tuple_json(struct kern *k, struct jsonw *w, const void *key, const void *value)
{
	struct tg_record r;

	memcpy(&r, value, sizeof(r));
	kv_tuple(w, key);
	record_json(w, &r);
}

static void agent_json(struct kern *k, struct jsonw *w, const void *key, const void *value)
{
	struct tg_agent_state a;
	uint32_t agent;

	memcpy(&agent, key, sizeof(agent));
	memcpy(&a, value, sizeof(a));
	jsonw_kv_u64(w, "agent", agent);
	kv_bool_flag(w, "deny", a.flags, TG_AGENT_DENY);
	kv_bool_flag(w, "unix", a.flags, TG_AGENT_UNIX);
	jsonw_kv_u64(w, "set", a.unix_set & ~TG_UNIX_SET);
	jsonw_kv_u64(w, "generation", a.generation);
}

static void allow_json(struct kern *k, struct jsonw *w, const void *key, const void *value)
{
	struct tg_allow_key a;

	memcpy(&a, key, sizeof(a));
	jsonw_kv_u64(w, "agent", a.agent);
	jsonw_kv_string(w, "protocol", a.protocol == IPPROTO_UDP ? "udp" : "tcp");
	kv_addr(w, "address", a.addr, (int)a.prefixlen - 64);
	kv_port(w, "port", a.port_be);
}

/* As the rule was written; one that ends in '*' stands for longer paths too. */
static void unix_json(struct kern *k, struct jsonw *w, const void *key, const void *value)
{
	char text[TG_UNIX_PATH + 4];
	struct tg_unix_key u;
	uint32_t verdict;
	size_t n, at;

	memcpy(&u, key, sizeof(u));
	memcpy(&verdict, value, sizeof(verdict));
	n = (u.prefixlen - 32) / 8;
	jsonw_kv_u64(w, u.agent & TG_UNIX_SET ? "set" : "agent", u.agent & ~TG_UNIX_SET);
	at = n && u.path[0] <= TG_UNIX_LAST;
	(void)snprintf(text, sizeof(text), "%s%.*s%s",
		       !at	   ? ""
		       : u.path[0] ? "./"
				   : "@",
		       (int)(n - at), (const char *)u.path + at,
		       n == 0 || u.path[n - 1] ? "*" : "");
	jsonw_kv_slice(w, "path", slice_str(text));
	jsonw_kv_string(w, "verdict", verdict == TG_UNIX_PASS ? "pass" : "refuse");
}

static void options_json(struct kern *k, struct jsonw *w, const void *key, const void *value)
{
	struct tg_options o;

	memcpy(&o, value, sizeof(o));
	jsonw_kv_u64(w, "deny_agents", o.deny_agents);
	jsonw_kv_u64(w, "unix_agents", o.unix_agents);
}

/* A socket in the accelerator; the kernel tells its cookie. */
static void enrolled_json(struct kern *k, struct jsonw *w, const void *key, const void *value)
{
	struct tg_tuple t;
	uint64_t cookie;

	memcpy(&t, key, sizeof(t));
	memcpy(&cookie, value, sizeof(cookie));
	kv_tuple(w, key);
	jsonw_kv_string(w, "end", t.end == TG_END_DAEMON ? "daemon" : "agent");
	jsonw_kv_u64(w, "cookie", cookie);
}

static void pair_json(struct kern *k, struct jsonw *w, const void *key, const void *value)
{
	struct tg_pair p;

	memcpy(&p, value, sizeof(p));
	kv_tuple(w, key);
	jsonw_kv_bool(w, "complete", p.sock[0] && p.sock[1]);
	jsonw_kv_u64(w, "request_run", p.run[TG_END_AGENT]);
	jsonw_kv_u64(w, "reply_run", p.run[TG_END_DAEMON]);
}

/* Room for the largest key and value that are dumped this way. */
enum { KEY_ROOM = sizeof(struct tg_unix_key), VALUE_ROOM = sizeof(struct tg_record) };

static int dump_plain(struct kern *k, enum kern_map map, struct jsonw *w,
		      void (*json)(struct kern *, struct jsonw *, const void *, const void *))
{
	uint8_t key[KEY_ROOM], next[KEY_ROOM], value[VALUE_ROOM];
	bool more = !bpf_map_get_next_key(k->map[map], NULL, next);

	while (more) {
		memcpy(key, next, sizeof(key));
		more = !bpf_map_get_next_key(k->map[map], key, next);
		if (bpf_map_lookup_elem(k->map[map], key, value))
			continue; /* went away meanwhile */
		jsonw_object(w);
		json(k, w, key, value);
		jsonw_object_end(w);
	}
	return 0;
}

static int dump_counters(struct kern *k, struct jsonw *w)
{
	static const char *const labels[] = {
#define X(name, label, what) label,
		TG_KERNEL_COUNTERS(X)
#undef X
	};
	static const char *const what[] = {
#define X(name, label, what) what,
		TG_KERNEL_COUNTERS(X)
#undef X
	};
	uint64_t n[TG_K_COUNT];
	int r = kern_counters(k, n);

	for (size_t i = 0; !r && i < TG_K_COUNT; i++) {
		jsonw_object(w);
		jsonw_kv_string(w, "counter", labels[i]);
		jsonw_kv_u64(w, "value", n[i]);
		jsonw_kv_string(w, "meaning", what[i]);
		jsonw_object_end(w);
	}
	return r;
}

static void exact_json(struct kern *k, struct jsonw *w, const void *key, const void *value)
{
	struct tg_addr_key a;
	uint32_t target;

	memcpy(&a, key, sizeof(a));
	memcpy(&target, value, sizeof(target));
	addr_members(w, &a, target);
}

/* How full it is: what is in it is in tg_addrs and tg_cgroups. */
static int dump_index(struct kern *k, struct jsonw *w)
{
	const struct tg_index *x = k->index;
	size_t ports = 0, cgroups = 0;

	for (size_t i = 0; i < TG_PORT_SLOTS; i++)
		ports += x->port[i] ? 1 : 0;
	for (size_t i = 0; i < TG_CGROUP_SLOTS; i++)
		cgroups += x->cgroup[i] ? 1 : 0;
	jsonw_object(w);
	kv_bool_flag(w, "ports_ready", x->ready, TG_INDEX_PORTS);
	kv_bool_flag(w, "cgroups_ready", x->ready, TG_INDEX_CGROUPS);
	jsonw_kv_bool(w, "any_port", x->any);
	jsonw_kv_u64(w, "port_slots", ports);
	jsonw_kv_u64(w, "cgroup_slots", cgroups);
	jsonw_object_end(w);
	return 0;
}

static int dump_map(struct kern *k, enum kern_map map, struct jsonw *w)
{
	switch (map) {
	case KM_ADDRS:
		return kern_addr_each(k, dump_addr, w);
	case KM_EXACT:
		return dump_plain(k, map, w, exact_json);
	case KM_INDEX:
		return dump_index(k, w);
	case KM_TARGETS:
		return kern_target_each(k, dump_target, w);
	case KM_PATHS:
		return kern_agent_cgroup_each(k, dump_path, w);
	case KM_UIDS:
		return kern_agent_uid_each(k, dump_uid, w);
	case KM_CGROUPS:
		return dump_plain(k, map, w, cgroup_json);
	case KM_CONFIG:
		return dump_plain(k, map, w, config_json);
	case KM_LISTENERS:
		return dump_plain(k, map, w, listener_json);
	case KM_RESOLVERS:
		return dump_plain(k, map, w, resolver_json);
	case KM_DNS:
		return dump_plain(k, map, w, dns_json);
	case KM_ASKERS:
		return dump_plain(k, map, w, asker_json);
	case KM_TUPLES:
		return dump_plain(k, map, w, tuple_json);
	case KM_NETNS_QUIET:
		return dump_plain(k, map, w, quiet_json);
	case KM_COUNTERS:
		return dump_counters(k, w);
	case KM_AGENTS:
		return dump_plain(k, map, w, agent_json);
	case KM_ALLOW:
		return dump_plain(k, map, w, allow_json);
	case KM_UNIX:
		return dump_plain(k, map, w, unix_json);
	case KM_OPTIONS:
		return dump_plain(k, map, w, options_json);
	case KM_ACC_SEND:
	case KM_ACC_RECV:
		return dump_plain(k, map, w, enrolled_json);
	case KM_ACC_PAIRS:
		return dump_plain(k, map, w, pair_json);
	case KM_ACC_SOCKS:
	case KM_SOCKS:
	case KM_RECORDS: /* the kernel lets nobody walk a socket storage */
	case KM_SCRATCH:
	case KM_NETNS_RING:
	case KM_COUNT:
		break;
	}
	return -EOPNOTSUPP;
}

int kern_map_dump(struct kern *k, const char *map, struct jsonw *w)
{
	int r = -ENOENT;

	for (size_t i = 0; i < KM_COUNT; i++) {
		if (strcmp(map, kern_map_names[i]) != 0)
			continue;
		jsonw_array(w);
		r = dump_map(k, i, w);
		jsonw_array_end(w);
	}
	return r;
}
