/* SPDX-License-Identifier: MIT */
/* Messages of the children: what each may say, and where it goes. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/address.h"
#include "daemon/alive.h"
#include "daemon/crew.h"
#include "daemon/listeners.h"
#include "daemon/glogin.h"
#include "daemon/grants.h"
#include "daemon/learned.h"
#include "daemon/netns.h"
#include "daemon/plugin.h"
#include "daemon/receipts.h"
#include "daemon/recheck.h"
#include "daemon/registry.h"
#include "daemon/roles.h"
#include "daemon/whois.h"
#include "daemon/parent.h"
#include "tidegate_rec.h"

/* ------------------------------------------------------------- recordings */

/*
 * A new recording, or one that is written on; never another's. If somebody has
 * deleted it meanwhile, what is left to write begins a new file: nothing is lost
 * silently, and `recording verify` says that the beginning is missing.
 */
static int open_recording(struct parent *p, const char *id, bool create, uint32_t *ret_error)
{
	char name[UUID_TEXT + sizeof(TG_REC_SUFFIX)];
	int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | O_CREAT | (create ? O_EXCL : 0), fd;

	(void)snprintf(name, sizeof(name), "%s%s", id, TG_REC_SUFFIX);
	fd = openat(p->record_dir, name, flags, 0640);
	*ret_error = fd < 0 ? (uint32_t)errno : 0;
	if (fd < 0)
		log_error("recording %s: %s", name, strerror(errno));
	/* A file that is on the disk without its name is lost with the power. */
	else if (create && p->cfg->durability == DURABLE_DISK)
		(void)fsync(p->record_dir);
	return fd;
}

static bool is_finished(const struct parent *p, const struct uuid *u)
{
	char id[UUID_TEXT], name[UUID_TEXT + sizeof(TG_REC_SUFFIX)];

	uuid_format(u, id);
	(void)snprintf(name, sizeof(name), "%s%s", id, TG_REC_SUFFIX);
	return recording_finished(p->record_dir, name);
}

/*
 * A worker writes its own sessions' files, and those that a dead process left
 * unfinished; what is finished nobody touches again, whatever a worker says.
 */
static bool may_write(struct child *c, const struct uuid *u)
{
	const struct psession *s = registry_find(c->p, u);

	return s ? s->worker == c : !is_finished(c->p, u);
}

static void file_need(struct child *c, struct ipc_msg *m)
{
	struct uuid u = ipc_get_uuid(m);
	uint32_t error = EPERM;
	char id[UUID_TEXT];
	int fd = -1;

	if (!ipc_end(m)) {
		m->bad = true;
		return;
	}
	uuid_format(&u, id);
	if (may_write(c, &u))
		fd = open_recording(c->p, id, false, &error);
	ipc_begin(c->ipc, IPC_FILE, 0);
	ipc_put_uuid(c->ipc, &u);
	ipc_put_u32(c->ipc, error);
	if (fd >= 0)
		ipc_put_fd(c->ipc, fd);
	ipc_send(c->ipc);
	if (fd >= 0)
		close(fd);
}

/* --------------------------------------------------------------- sessions */

struct opening {
	struct tg_record rec;
	bool steered, by_owner;
	char peer[ADDRESS_TEXT], local[ADDRESS_TEXT], target[NAME_MAX_LEN];
};

static bool parse_opening(struct ipc_msg *m, struct opening *o)
{
	struct slice rec = ipc_get_bytes(m), peer = ipc_get_str(m), local = ipc_get_str(m), target;

	o->by_owner = ipc_get_u32(m) != 0;
	target = ipc_get_str(m);
	if (!ipc_end(m) || (rec.n && rec.n != sizeof(o->rec)))
		return false;
	o->steered = rec.n != 0;
	if (rec.n)
		memcpy(&o->rec, rec.p, sizeof(o->rec));
	(void)snprintf(o->peer, sizeof(o->peer), "%.*s", (int)peer.n, (const char *)peer.p);
	(void)snprintf(o->local, sizeof(o->local), "%.*s", (int)local.n, (const char *)local.p);
	(void)snprintf(o->target, sizeof(o->target), "%.*s", (int)target.n, (const char *)target.p);
	return true;
}

/* False: it is found out by name, and the answer comes later. */
static bool choose_upstream(struct psession *s, const struct opening *o, struct learned_ask *ask)
{
	const struct cfg_target *t = s->target->cfg;
	uint16_t port = (uint16_t)(o->rec.port_be << 8 | o->rec.port_be >> 8);

	if (t->socket) {
		(void)snprintf(s->upstream, sizeof(s->upstream), "unix:%s", t->socket);
		return true;
	}
	/* What the host's name servers say is not what an address is there. */
	if (o->steered && t->netns_agent) {
		address_format_mapped(o->rec.addr, port, s->upstream);
		return true;
	}
	if (o->steered)
		return learned_upstream(s->worker->p, s->target, o->rec.addr, port, s->upstream, ask);
	return learned_upstream_first(s->target->cfg, s->upstream, ask);
}

/* Who it is and where it goes; a reason if it may not be. */
static uint16_t identify(struct parent *p, struct psession *s, const struct opening *o,
			 struct learned_ask *ask)
{
	uint32_t uid = (uint32_t)-1;

	(void)snprintf(s->peer, sizeof(s->peer), "%s", o->peer);
	if (o->steered) {
		s->agent = agent_by_id(p, o->rec.agent);
		s->target = target_by_id(p, o->rec.target);
		switch (facts_read(s, &o->rec)) {
		case 0:
			break;
		case -ESRCH:
			return TG_R_UNKNOWN_AGENT;
		default:
			return TG_R_OVERLOAD;
		}
	} else {
		s->target = target_find(p, slice_str(o->target));
		s->agent = facts_gateway_agent(p, o->peer, o->local, o->by_owner, &uid);
		s->uid = uid;
	}
	if (!s->agent || !s->agent->cfg)
		return TG_R_UNKNOWN_AGENT;
	if (!s->target || !s->target->cfg)
		return TG_R_UNKNOWN_TARGET;
	if (s->target->mode == TARGET_BLOCK)
		return TG_R_TARGET_BLOCKED;
	if (s->target->sessions >= s->target->cfg->max_sessions)
		return TG_R_OVERLOAD;
	ask->wanted = !choose_upstream(s, o, ask);
	return ask->wanted || s->upstream[0] ? TG_R_NONE : TG_R_UPSTREAM_REFUSED;
}

/* @upstream is a literal: "[v6]:port" or "v4:port". */
static uint16_t upstream_socket(struct parent *p, const struct psession *s, int *ret_fd)
{
	return netns_socket(p, s->netns_cookie, s->upstream[0] == '[' ? AF_INET6 : AF_INET, ret_fd);
}

/* One for the session and one for a cancel request; none, and why. */
static uint32_t upstream_sockets(struct parent *p, struct psession *s, int fds[2],
				 uint16_t *ret_why)
{
	uint32_t n = 0;

	*ret_why = 0;
	while (s->in_netns && n < 2 && !*ret_why) {
		*ret_why = upstream_socket(p, s, &fds[n]);
		n += !*ret_why;
	}
	return n;
}

static void socket_ask(struct parent *p, struct child *c, struct ipc_msg *m)
{
	struct uuid u = ipc_get_uuid(m);
	struct psession *s = registry_find(p, &u);
	int fd = -1;

	if (!ipc_end(m)) {
		m->bad = true;
		return;
	}
	if (!s || s->worker != c || !s->in_netns || upstream_socket(p, s, &fd))
		return;
	ipc_begin(c->ipc, IPC_SOCKET, 0);
	ipc_put_uuid(c->ipc, &u);
	ipc_put_fd(c->ipc, fd);
	ipc_send(c->ipc);
	close(fd);
}

/*
 * Of an agent that was refused there is a recording that says so. Who is no agent leaves none, he
 * could fill the disk; and of an agent's flood a few stand for all, which are counted.
 */
static bool refusal_is_recorded(const struct psession *s)
{
	enum { EACH_SECOND = 20 };
	static struct pagent nobody; /* steered, and of an agent that is none any more */
	struct pagent *a = s->agent ? s->agent : &nobody;
	uint64_t now = clock_boot_ns() / 1000000000;

	if (!s->netns_cookie && !s->agent)
		return false;
	if (now != a->refused_second)
		a->refused_recorded = 0;
	a->refused_second = now;
	return a->refused_recorded++ < EACH_SECOND;
}

/* The worker is told who it is; @why: that it may not be. */
static void tell_facts(struct parent *p, struct psession *s, uint16_t why)
{
	struct ipc *ipc = s->worker->ipc;
	uint32_t error = 0, n = 0;
	uint16_t no_socket = 0;
	int fd = -1, sockets[2];
	struct buf facts;

	if (!ipc)
		return;
	buf_init(&facts, FACTS_MAX);
	facts_json(s, &facts);
	if (!why || refusal_is_recorded(s))
		fd = open_recording(p, s->id, true, &error);
	if (!why) {
		n = upstream_sockets(p, s, sockets, &no_socket);
	}
	ipc_begin(ipc, IPC_SESSION_FACTS, 0);
	ipc_put_uuid(ipc, &s->uuid);
	ipc_put_u32(ipc, why);
	ipc_put_str(ipc, s->agent ? s->agent->name : "");
	ipc_put_str(ipc, s->target ? s->target->name : "");
	ipc_put_str(ipc, s->upstream);
	ipc_put_slice(ipc, facts.n ? buf_slice(&facts) : slice_str("{}"));
	ipc_put_u32(ipc, error);
	ipc_put_u32(ipc, n);
	ipc_put_u32(ipc, no_socket);
	if (fd >= 0)
		ipc_put_fd(ipc, fd);
	for (uint32_t i = 0; i < n; i++)
		ipc_put_fd(ipc, sockets[i]);
	ipc_send(ipc);
	buf_done(&facts);
	if (fd >= 0)
		close(fd);
	for (uint32_t i = 0; i < n; i++)
		close(sockets[i]);
	if (s->gone && !why)
		alive_tell(s);
}

static void known(struct parent *p, struct psession *s)
{
	tell_facts(p, s, TG_R_NONE);
}

void sessions_tell_again(struct parent *p)
{
	struct psession *s, *tmp;

	HASH_ITER(hh, p->sessions, s, tmp)
	{
		if (!s->untold)
			continue;
		s->untold = false;
		if (!s->open || !whois_start(p, s, known))
			tell_facts(p, s, s->open ? TG_R_NONE : TG_R_UNKNOWN_AGENT);
	}
}

/* Where it goes is settled; who it is may take a while longer. */
static void settled(struct parent *p, struct psession *s, uint16_t why)
{
	if (why) {
		tell_facts(p, s, why);
		return;
	}
	s->open = true;
	s->agent->sessions++;
	s->target->sessions++;
	s->in_netns = s->netns_cookie && s->target->cfg->netns_agent;
	if (!whois_start(p, s, known))
		tell_facts(p, s, TG_R_NONE);
}

void session_resolved(struct parent *p, const struct uuid *u, const char *upstream)
{
	struct psession *s = registry_find(p, u);
	uint16_t why = 0;

	if (!s || s->open || !s->worker->ipc)
		return; /* it did not wait so long */
	if (!s->agent->cfg || !s->target->cfg) /* the configuration has changed meanwhile */
		why = s->agent->cfg ? TG_R_UNKNOWN_TARGET : TG_R_UNKNOWN_AGENT;
	else if (!upstream[0])
		why = TG_R_UPSTREAM_NAME;
	(void)snprintf(s->upstream, sizeof(s->upstream), "%s", upstream);
	settled(p, s, why);
}

static void session_open(struct parent *p, struct child *c, struct ipc_msg *m)
{
	struct uuid u = ipc_get_uuid(m);
	struct learned_ask ask = {0};
	struct opening o = {0};
	struct psession *s;
	uint16_t why;

	if (!parse_opening(m, &o)) {
		m->bad = true;
		return;
	}
	s = registry_open(p, c, &u);
	if (!s)
		return; /* the worker's own deadline ends it */
	why = identify(p, s, &o, &ask);
	if (!why && ask.wanted && learned_resolve(p, &ask, &u) == 0)
		return; /* session_resolved() */
	if (!why && ask.wanted)
		why = TG_R_UPSTREAM_NAME;
	settled(p, s, why);
}

static char *dup_slice(struct slice s)
{
	return strndup((const char *)s.p, min_size(s.n, 256));
}

static void session_key(struct psession *s, struct ipc_msg *m)
{
	s->backend_pid = ipc_get_u32(m);
	s->backend_key = ipc_get_u32(m);
}

static void session_login(struct psession *s, struct ipc_msg *m)
{
	struct slice user = ipc_get_str(m), db = ipc_get_str(m), app = ipc_get_str(m);
	struct slice as = ipc_get_str(m);

	free(s->user);
	free(s->database);
	free(s->application);
	free(s->login_as);
	s->login_as = dup_slice(as);
	s->user = dup_slice(user);
	s->database = dup_slice(db);
	s->application = dup_slice(app);
	session_key(s, m);
}

static void session_stats(struct psession *s, struct ipc_msg *m)
{
	struct slice state = ipc_get_str(m);

	(void)snprintf(s->state, sizeof(s->state), "%.*s", (int)state.n, (const char *)state.p);
	s->commands = ipc_get_u64(m);
	s->in = ipc_get_u64(m);
	s->out = ipc_get_u64(m);
	s->masked = ipc_get_u64(m);
}

static void cancel_ask(struct parent *p, struct ipc_msg *m)
{
	uint32_t pid = ipc_get_u32(m), key = ipc_get_u32(m);
	struct slice agent = ipc_get_str(m);
	struct psession *s, *tmp;

	HASH_ITER(hh, p->sessions, s, tmp) {
		if (s->backend_pid != pid || s->backend_key != key || !pid || !s->agent ||
		    !slice_eq_str(agent, s->agent->name) || !s->worker->ipc)
			continue;
		ipc_begin(s->worker->ipc, IPC_CANCEL_DO, 0);
		ipc_put_uuid(s->worker->ipc, &s->uuid);
		ipc_send(s->worker->ipc);
		return;
	}
	parent_count(p, TG_R_CANCEL_UNKNOWN);
}

static void worker_ready(struct parent *p, struct child *c)
{
	c->ready = true;
	child_send_config(c);
	for (size_t i = 0; i < c->norphans; i++)
		crew_add_orphan(p, &c->orphans[i]);
	free(c->orphans);
	c->orphans = NULL;
	c->norphans = 0;
	if (p->stopping) { /* it was not there to be told with the others */
		ipc_begin(c->ipc, IPC_DRAIN, 0);
		ipc_send(c->ipc);
		return;
	}
	if (!c->retired)
		listeners_give(p, c);
	children_retire(p);
	if (p->followers) {
		ipc_begin(c->ipc, IPC_FOLLOW, 0);
		ipc_put_u32(c->ipc, 1);
		ipc_send(c->ipc);
	}
}

/* Messages that concern a session of this worker. */
static void session_message(struct parent *p, struct child *c, struct ipc_msg *m)
{
	struct uuid u = ipc_get_uuid(m);
	struct psession *s = registry_find(p, &u);

	if (!s || s->worker != c)
		return;
	switch (m->type) {
	case IPC_SESSION_LOGIN:
		session_login(s, m);
		break;
	case IPC_SESSION_KEY:
		session_key(s, m);
		break;
	case IPC_GRANT_USED:
		grant_used(p, s, m);
		break;
	case IPC_SESSION_STATS:
		session_stats(s, m);
		break;
	case IPC_SESSION_CLOSE: {
		uint32_t reason = ipc_get_u32(m);
		bool recorded;

		s->commands = ipc_get_u64(m);
		s->in = ipc_get_u64(m);
		s->out = ipc_get_u64(m);
		s->masked = ipc_get_u64(m);
		/* A worker of a binary from before this was said has one for each. */
		recorded = m->p == m->end || ipc_get_u32(m);
		if (!ipc_end(m))
			break;
		if (!recorded)
			(void)crew_drop_empty(p, &s->uuid);
		registry_close(p, s, (uint16_t)reason);
		break;
	}
	default:
		m->bad = true;
	}
	if (!ipc_end(m))
		m->bad = true;
}

/* A question for keyd travels under an id that says whose it is. */
static uint64_t key_id(const struct child *c, uint64_t id)
{
	return (uint64_t)c->route << 56 | (id & 0xffffffffffffffull);
}

/* The administrator's login: roled's, who never sees an agent's byte, and nobody else's. */
static bool is_not_for(const struct parent *p, const struct child *c, const struct ipc_msg *m)
{
	struct ipc_msg first = *m;
	struct slice name;

	if (c->role != ROLE_WORKER)
		return false;
	name = ipc_get_str(&first);
	if (m->type != IPC_KEY_LOGIN && name.n && name.p[0] == '@') { /* "@NAME:USER" */
		const uint8_t *colon = memchr(name.p, ':', name.n);

		name = colon ? slice_of(name.p + 1, (size_t)(colon - name.p) - 1) : name;
	}
	return config_is_admin(p->cfg, name);
}

static void to_keyd(struct parent *p, struct child *c, struct ipc_msg *m)
{
	bool refused = is_not_for(p, c, m);

	if (p->keyd.ipc && !refused) {
		ipc_forward(p->keyd.ipc, m, key_id(c, m->id));
		return;
	}
	if (refused)
		log_error("%s asks for an administrator's login, which it does not get", c->name);
	ipc_begin(c->ipc, m->type, m->id);
	ipc_put_u32(c->ipc, refused ? EPERM : ENOTCONN);
	ipc_put_bytes(c->ipc, slice_of("", 0));
	if (m->type == IPC_KEY_SCRAM || m->type == IPC_KEY_DPOP)
		ipc_put_bytes(c->ipc, slice_of("", 0));
	ipc_send(c->ipc);
}

static void from_worker(struct parent *p, struct child *c, struct ipc_msg *m)
{
	switch (m->type) {
	case IPC_READY:
		worker_ready(p, c);
		break;
	case IPC_SESSION_OPEN:
		session_open(p, c, m);
		break;
	case IPC_ACCESS_ASK:
		access_ask(p, c, m);
		break;
	case IPC_STATEMENT_ASK:
		statement_ask(p, c, m);
		break;
	case IPC_ASK_CANCEL:
		ask_cancel(p, c, m);
		break;
	case IPC_SOCKET_ASK:
		socket_ask(p, c, m);
		break;
	case IPC_CANCEL_ASK:
		cancel_ask(p, m);
		break;
	case IPC_FILE_NEED:
		file_need(c, m);
		break;
	case IPC_EVENT:
		control_event(p, ipc_get_str(m));
		break;
	case IPC_SESSION_SHOW:
		control_session_shown(p, m->id, ipc_get_str(m));
		break;
	case IPC_KEY_PASSWORD:
	case IPC_KEY_MD5:
	case IPC_KEY_SCRAM:
	case IPC_KEY_LOGIN:
	case IPC_KEY_CERTIFICATE:
	case IPC_KEY_PROVE:
		to_keyd(p, c, m);
		break;
	case IPC_GRANT_LOGIN:
		glogin_ask(p, c, m);
		break;
	case IPC_GRANT_STALE:
		glogin_stale(p, c, m);
		break;
	case IPC_KEY_STALE:
		if (p->keyd.ipc)
			ipc_forward(p->keyd.ipc, m, 0);
		break;
	default:
		session_message(p, c, m);
	}
}

static bool is_keys(enum ipc_type type)
{
	return (type >= IPC_KEY_PASSWORD && type <= IPC_KEY_CLIENT) || type == IPC_KEY_TLS ||
	       type == IPC_KEY_DPOP || type == IPC_KEY_CERTIFICATE || type == IPC_KEY_PROVE;
}

static void from_keyd(struct parent *p, struct child *c, struct ipc_msg *m)
{
	uint64_t who = m->id >> 56;
	struct child *to;

	if (m->type == IPC_READY) {
		c->ready = true;
		receipts_keyd_ready(p);
		return;
	}
	if (m->type == IPC_RECEIPT_KEY) {
		receipts_key(p, m);
		return;
	}
	if (m->type == IPC_RECEIPT_SIGN) {
		receipts_signed(p, m);
		return;
	}
	if (m->type == IPC_GRANT_KEY) {
		glogin_key(p, m);
		return;
	}
	if (m->type == IPC_ROLE_KEY) {
		roles_keyed(p, m);
		return;
	}
	if (m->type == IPC_PLUGIN_ASK) {
		struct slice name = ipc_get_str(m);

		/* The workers ask anew when this keyd is gone. */
		if (ipc_end(m) && c->retired)
			return;
		if (ipc_end(m))
			plugin_run(p, name);
		else
			m->bad = true;
		return;
	}
	/* authd asks anew what it got no answer to: its numbers of before mean others now. */
	if (c->retired && who >= ROUTE_OLD)
		return;
	to = who == ROUTE_AUTHD			 ? &p->authd
	     : who == ROUTE_ROLED		 ? &p->roled
	     : who >= ROUTE_OLD && who - ROUTE_OLD < OLD_MAX ? &p->old[who - ROUTE_OLD]
	     : who < p->nworkers		 ? &p->workers[who]
						 : NULL;
	if (!is_keys(m->type) || !to)
		m->bad = true;
	else if (to->ipc)
		ipc_forward(to->ipc, m, m->id & 0xffffffffffffffull);
}

static void from_authd(struct parent *p, struct child *c, struct ipc_msg *m)
{
	switch (m->type) {
	case IPC_READY:
		c->ready = true;
		break;
	case IPC_KEY_CLIENT:
	case IPC_KEY_TLS:
	case IPC_KEY_DPOP:
		to_keyd(p, c, m);
		break;
	case IPC_IDP_ASK:
		idp_answer(p, m);
		break;
	case IPC_GRANT_TOKEN:
		glogin_token(p, c, m);
		break;
	case IPC_IDP_EVENT:
		idp_event(p, m);
		break;
	case IPC_IDP_PENDING:
		idp_pending(p, m);
		break;
	case IPC_RECHECK_TOKEN:
		recheck_token(p, m);
		break;
	case IPC_RECHECK:
		recheck_answer(p, m);
		break;
	case IPC_TOKEN_CHECK:
		whois_checked(p, m);
		break;
	case IPC_IDP_STATE: {
		struct slice json = ipc_get_str(m), ways = ipc_get_str(m);

		if (c->retired || !ipc_end(m))
			break;
		free(p->idp_state);
		free(p->ways_state);
		p->idp_state = strndup((const char *)json.p, json.n);
		p->ways_state = strndup((const char *)ways.p, ways.n);
		break;
	}
	case IPC_ISSUER_STATE: {
		struct slice json = ipc_get_str(m);

		if (c->retired || !ipc_end(m))
			break;
		free(p->issuers_state);
		p->issuers_state = strndup((const char *)json.p, json.n);
		break;
	}
	default:
		m->bad = true;
	}
}

static void from_roled(struct parent *p, struct child *c, struct ipc_msg *m)
{
	switch (m->type) {
	case IPC_READY:
		c->ready = true;
		break;
	case IPC_ROLE_JOB:
		roles_job_done(p, m);
		break;
	case IPC_KEY_LOGIN:
	case IPC_KEY_PASSWORD:
	case IPC_KEY_MD5:
	case IPC_KEY_SCRAM:
		to_keyd(p, c, m);
		break;
	default:
		m->bad = true;
	}
}

static void on_message(void *ctx, struct ipc *ipc, struct ipc_msg *m)
{
	struct child *c = ctx;

	if (c->role == ROLE_WORKER)
		from_worker(c->p, c, m);
	else if (c->role == ROLE_NAMED)
		learned_message(c->p, c, m);
	else if (c->role == ROLE_KEYD)
		from_keyd(c->p, c, m);
	else if (c->role == ROLE_ROLED)
		from_roled(c->p, c, m);
	else
		from_authd(c->p, c, m);
	if (m->bad)
		log_error("%s sent a bad %s", c->name, ipc_type_name(m->type));
}

static void on_closed(void *ctx, struct ipc *ipc, bool bad)
{
	struct child *c = ctx;

	c->ipc = NULL;
	/* What it says cannot be trusted any more, or it is about to be gone anyway. */
	if (c->pid)
		(void)kill(c->pid, bad ? SIGKILL : SIGTERM);
}

const struct ipc_ops route_ops = {.message = on_message, .closed = on_closed};
