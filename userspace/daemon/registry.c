/* SPDX-License-Identifier: MIT */
/* The list of all sessions of all workers. */
#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/alive.h"
#include "daemon/hand.h"
#include "daemon/children.h"
#include "daemon/registry.h"
#include "daemon/tokenlife.h"
#include "daemon/roles.h"
#include "daemon/whois.h"
#include "daemon/parent.h"

enum { SESSIONS_MAX = 200000 };

struct psession *registry_open(struct parent *p, struct child *c, const struct uuid *u)
{
	struct psession *s;

	if (registry_find(p, u) || HASH_COUNT(p->sessions) >= SESSIONS_MAX)
		return NULL;
	s = calloc(1, sizeof(*s));
	if (!s)
		return NULL;
	s->uuid = *u;
	uuid_format(u, s->id);
	s->worker = c;
	s->since_wall_ns = clock_wall_ns();
	list_init(&s->in_alive);
	(void)snprintf(s->state, sizeof(s->state), "login");
	HASH_ADD(hh, p->sessions, uuid, sizeof(s->uuid), s);
	return s;
}

struct psession *registry_find(struct parent *p, const struct uuid *u)
{
	struct psession *s;

	HASH_FIND(hh, p->sessions, u, sizeof(*u), s);
	return s;
}

static void tell_end(struct parent *p, const struct psession *s, uint16_t reason)
{
	char json[512], when[32];
	int n;

	if (!p->followers)
		return;
	text_time(clock_wall_ns(), when, sizeof(when));
	n = snprintf(json, sizeof(json),
		     "{\"time\":\"%s\",\"session\":\"%s\",\"agent\":\"%s\",\"target\":\"%s\",\"event\":\"end\","
		     "\"data\":{\"reason\":\"%s\",\"commands\":%llu}}",
		     when, s->id, s->agent ? s->agent->name : "",
		     s->target ? s->target->name : "", reason_label(reason), (unsigned long long)s->commands);
	control_event(p, slice_of(json, (size_t)n));
}

void registry_close(struct parent *p, struct psession *s, uint16_t reason)
{
	tell_end(p, s, reason);
	if (s->open) {
		s->agent->sessions--;
		s->target->sessions--;
	}
	whois_drop(s);
	alive_drop(s);
	roles_end(p, s->id);
	HASH_DEL(p->sessions, s);
	free(s->token_claims);
	free(s->token_why);
	free(s->user);
	free(s->database);
	free(s->application);
	free(s->login_as);
	free(s);
}

void registry_worker_died(struct parent *p, struct child *c)
{
	struct psession *s, *tmp;
	uint32_t n = 0;

	HASH_ITER(hh, p->sessions, s, tmp) {
		if (s->worker != c)
			continue;
		child_add_orphan(c, &s->uuid, TG_R_WORKER_DIED);
		registry_close(p, s, TG_R_WORKER_DIED);
		parent_count(p, TG_R_WORKER_DIED);
		n++;
	}
	if (n)
		log_warning("%u sessions ended with %s", n, c->name);
}

static bool matches(const struct psession *s, const struct uuid *u, const char *agent,
		    const char *target)
{
	if (u)
		return uuid_eq(&s->uuid, u);
	return s->open && (!agent || strcmp(agent, s->agent->name) == 0) &&
	       (!target || strcmp(target, s->target->name) == 0);
}

uint32_t registry_kill(struct parent *p, const struct uuid *u, const char *agent,
		       const char *target, uint16_t reason, const char *words)
{
	struct psession *s, *tmp;
	uint32_t n = 0;

	HASH_ITER(hh, p->sessions, s, tmp) {
		if (!matches(s, u, agent, target) || !s->worker->ipc)
			continue;
		ipc_begin(s->worker->ipc, IPC_SESSION_KILL, 0);
		ipc_put_uuid(s->worker->ipc, &s->uuid);
		ipc_put_u32(s->worker->ipc, reason);
		ipc_put_str(s->worker->ipc, words);
		ipc_send(s->worker->ipc);
		n++;
	}
	return n;
}

static json_t *number(uint64_t n)
{
	return n ? json_integer((json_int_t)n) : json_null();
}

/* What its token says; null: none is looked for. */
static json_t *token_json(const struct psession *s)
{
	json_t *claims = s->token_claims ? json_loads(s->token_claims, 0, NULL) : NULL;

	if (!s->token_claims && !s->token_why)
		return json_null();
	return json_pack("{s:o, s:o, s:o}", "sha256", text_json(s->token_sha256), "claims",
			 claims ? claims : json_null(), "refused", text_json(s->token_why));
}

void registry_json(const struct psession *s, json_t *o)
{
	char when[32];

	text_time(s->since_wall_ns, when, sizeof(when));
	(void)json_object_set_new(o, "id", json_string(s->id));
	(void)json_object_set_new(o, "agent", text_json(s->agent ? s->agent->name : NULL));
	(void)json_object_set_new(o, "target", text_json(s->target ? s->target->name : NULL));
	(void)json_object_set_new(o, "user", text_json(s->user));
	(void)json_object_set_new(o, "login_as", text_json(s->login_as));
	(void)json_object_set_new(o, "database", text_json(s->database));
	(void)json_object_set_new(o, "application", text_json(s->application));
	(void)json_object_set_new(o, "state", text_json(s->state));
	(void)json_object_set_new(o, "pid", s->pid ? json_integer(s->pid) : json_null());
	(void)json_object_set_new(o, "uid", json_integer((int)s->uid));
	(void)json_object_set_new(o, "exe", text_json(s->exe));
	(void)json_object_set_new(o, "exe_inode", number(s->exe_stat.inode));
	(void)json_object_set_new(o, "exe_sha256", text_json(s->exe_sha256));
	(void)json_object_set_new(o, "started_boot_ns", number(s->started_boot_ns));
	(void)json_object_set_new(o, "token", token_json(s));
	(void)json_object_set_new(o, "comm", text_json(s->comm));
	(void)json_object_set_new(o, "cgroup", text_json(s->cgroup));
	(void)json_object_set_new(o, "container", text_json(s->container.id));
	(void)json_object_set_new(o, "runtime", text_json(s->container.runtime));
	(void)json_object_set_new(o, "pod", text_json(s->container.pod));
	(void)json_object_set_new(o, "image", text_json(s->container.image));
	(void)json_object_set_new(o, "netns_cookie",
				  s->netns_cookie ? json_integer((json_int_t)s->netns_cookie)
						  : json_null());
	(void)json_object_set_new(o, "peer", text_json(s->peer));
	(void)json_object_set_new(o, "upstream", text_json(s->upstream));
	(void)json_object_set_new(o, "since", json_string(when));
	(void)json_object_set_new(o, "worker", json_integer(s->worker->index));
	(void)json_object_set_new(o, "commands", json_integer((json_int_t)s->commands));
	(void)json_object_set_new(o, "bytes_in", json_integer((json_int_t)s->in));
	(void)json_object_set_new(o, "bytes_out", json_integer((json_int_t)s->out));
	(void)json_object_set_new(o, "masked", json_integer((json_int_t)s->masked));
	(void)json_object_set_new(o, "grant", text_json(s->grant));
}

/* ---------------------------------------------------------------- upgrades */

/* What was found out of its process; one that is not told yet is looked at anew. */
static void save_who(struct hand *h, json_t *o, const struct psession *s)
{
	hand_put_bool(h, o, "steered", s->steered);
	hand_put_bool(h, o, "gone", s->gone);
	hand_put_bool(h, o, "untold", whois_untold(s));
	hand_put_u64(h, o, "started", s->started_boot_ns);
	hand_put_u64(h, o, "exe_inode", s->exe_stat.inode);
	hand_put_str(h, o, "exe_sha256", s->exe_sha256);
	hand_put_str(h, o, "token_sha256", s->token_sha256);
	hand_put_str(h, o, "token_claims", s->token_claims);
	hand_put_str(h, o, "token_why", s->token_why);
}

/* A binary that did not know of it has not left it. */
static void take_who(struct hand *h, const json_t *o, struct psession *s)
{
	if (!hand_has(o, "steered"))
		return;
	s->steered = hand_bool(h, o, "steered");
	s->gone = hand_bool(h, o, "gone");
	s->untold = hand_bool(h, o, "untold");
	s->started_boot_ns = hand_u64(h, o, "started");
	s->exe_stat.inode = hand_u64(h, o, "exe_inode");
	hand_str(h, o, "exe_sha256", s->exe_sha256, sizeof(s->exe_sha256));
	hand_str(h, o, "token_sha256", s->token_sha256, sizeof(s->token_sha256));
	s->token_claims = hand_dup(h, o, "token_claims");
	s->token_why = hand_dup(h, o, "token_why");
	tokenlife_begin(s);
}

static json_t *save_session(struct hand *h, const struct psession *s)
{
	json_t *o = json_object();

	hand_put_slice(h, o, "uuid", slice_of(s->uuid.b, sizeof(s->uuid.b)));
	hand_put_u64(h, o, "slot", s->worker->index);
	hand_put_u64(h, o, "agent", s->agent ? s->agent->id : 0);
	hand_put_u64(h, o, "target", s->target ? s->target->id : 0);
	hand_put_str(h, o, "user", s->user);
	hand_put_str(h, o, "database", s->database);
	hand_put_str(h, o, "application", s->application);
	hand_put_str(h, o, "login_as", s->login_as);
	hand_put_str(h, o, "exe", s->exe);
	hand_put_str(h, o, "cgroup", s->cgroup);
	hand_put_str(h, o, "comm", s->comm);
	hand_put_str(h, o, "container", s->container.id);
	hand_put_str(h, o, "runtime", s->container.runtime);
	hand_put_str(h, o, "pod", s->container.pod);
	hand_put_str(h, o, "image", s->container.image);
	hand_put_bool(h, o, "in_netns", s->in_netns);
	hand_put_u64(h, o, "netns", s->netns_cookie);
	hand_put_str(h, o, "peer", s->peer);
	hand_put_str(h, o, "upstream", s->upstream);
	hand_put_str(h, o, "state", s->state);
	hand_put_u64(h, o, "pid", s->pid);
	hand_put_u64(h, o, "uid", s->uid);
	hand_put_u64(h, o, "backend_pid", s->backend_pid);
	hand_put_u64(h, o, "backend_key", s->backend_key);
	hand_put_bool(h, o, "open", s->open);
	hand_put_u64(h, o, "since", s->since_wall_ns);
	hand_put_u64(h, o, "commands", s->commands);
	hand_put_u64(h, o, "in", s->in);
	hand_put_u64(h, o, "out", s->out);
	hand_put_u64(h, o, "masked", s->masked);
	hand_put_str(h, o, "grant", s->grant);
	save_who(h, o, s);
	return o;
}

void registry_save(struct parent *p, struct hand *h, json_t *root)
{
	json_t *list = json_array();
	struct psession *s, *tmp;

	HASH_ITER(hh, p->sessions, s, tmp)
		(void)json_array_append_new(list, save_session(h, s));
	hand_put(h, root, "sessions", list);
}

static void take_texts(struct hand *h, const json_t *o, struct psession *s)
{
	s->user = hand_dup(h, o, "user");
	s->database = hand_dup(h, o, "database");
	s->application = hand_dup(h, o, "application");
	s->login_as = hand_dup(h, o, "login_as");
	hand_str(h, o, "exe", s->exe, sizeof(s->exe));
	hand_str(h, o, "cgroup", s->cgroup, sizeof(s->cgroup));
	hand_str(h, o, "comm", s->comm, sizeof(s->comm));
	hand_str(h, o, "container", s->container.id, sizeof(s->container.id));
	hand_str(h, o, "runtime", s->container.runtime, sizeof(s->container.runtime));
	hand_str(h, o, "pod", s->container.pod, sizeof(s->container.pod));
	hand_str(h, o, "image", s->container.image, sizeof(s->container.image));
	hand_str(h, o, "peer", s->peer, sizeof(s->peer));
	hand_str(h, o, "upstream", s->upstream, sizeof(s->upstream));
	hand_str(h, o, "state", s->state, sizeof(s->state));
	hand_str(h, o, "grant", s->grant, sizeof(s->grant));
}

static void take_session(struct parent *p, struct hand *h, const json_t *o)
{
	struct psession *s;
	struct child *c = child_by_slot(p, h, hand_u64(h, o, "slot"));
	struct uuid u = {{0}};

	hand_bytes(h, o, "uuid", u.b, sizeof(u.b));
	s = c ? registry_open(p, c, &u) : NULL;
	if (!s) {
		hand_fail(h, "session");
		return;
	}
	s->agent = agent_by_id(p, (uint32_t)hand_u64(h, o, "agent"));
	s->target = target_by_id(p, (uint32_t)hand_u64(h, o, "target"));
	take_texts(h, o, s);
	take_who(h, o, s);
	s->in_netns = hand_bool(h, o, "in_netns");
	s->netns_cookie = hand_u64(h, o, "netns");
	s->pid = (uint32_t)hand_u64(h, o, "pid");
	s->uid = (uint32_t)hand_u64(h, o, "uid");
	s->backend_pid = (uint32_t)hand_u64(h, o, "backend_pid");
	s->backend_key = (uint32_t)hand_u64(h, o, "backend_key");
	s->open = hand_bool(h, o, "open");
	s->since_wall_ns = hand_u64(h, o, "since");
	s->commands = hand_u64(h, o, "commands");
	s->in = hand_u64(h, o, "in");
	s->out = hand_u64(h, o, "out");
	s->masked = hand_u64(h, o, "masked");
	if (s->open && (!s->agent || !s->target)) {
		hand_fail(h, "session");
		s->open = false;
	}
	if (s->open) {
		s->agent->sessions++;
		s->target->sessions++;
	}
	if (s->steered)
		alive_take(s);
}

void registry_take(struct parent *p, struct hand *h, const json_t *root)
{
	json_t *o;
	size_t i;

	json_array_foreach(hand_list(h, root, "sessions"), i, o)
		take_session(p, h, o);
}
