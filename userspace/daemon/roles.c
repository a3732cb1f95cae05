/* SPDX-License-Identifier: MIT */
#include "daemon/roles.h"

#include <errno.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/audit.h"
#include "daemon/hand.h"

enum {
	ROLES_MAX = 20000,
	END_MS = 100,	/* sessions are told first why they end */
	STOP_MS = 6000, /* for all of them, when the daemon stops */
};

static uint64_t in_ms(uint64_t ms)
{
	return clock_boot_ns() + ms * 1000000;
}

uint64_t role_retry_at(uint32_t tries)
{
	return in_ms(tries < 6 ? 1000ull << tries : 60000);
}

/* ------------------------------------------------------------- what is told */

/* What an operator can do about a server's refusal; the words themselves are in the journal. */
static const char *todo_of(enum role_job_error error, const char *sqlstate)
{
	static const struct {
		const char *code, *todo;
	} table[] = {
		{"28", "the server does not accept the administrator's credential"},
		{"42501", "the administrator needs CREATEROLE and, from PostgreSQL 16 on, ADMIN OPTION "
			  "of the roles in `grants`"},
		{"01007", "the administrator may not pass on all of `grants`: it needs them WITH GRANT "
			  "OPTION"},
		{"42704", "a role or object in `grants` is not there"},
		{"42P01", "a table in `grants` is not there"},
		{"3F000", "a schema in `grants` is not there"},
		{"3D000", "the database is not there"},
		{"42601", "a statement in `grants` is not understood by the server"},
		{"25006", "the server is read-only: roles are made on the primary"},
		{"53300", "the server has no connection left for the administrator"},
		{"57P", "the server is starting or stopping"},
		{"55P03", "something in `grants` is locked by somebody else"},
	};

	if (error == ROLE_NO_LOGIN)
		return "the administrator's credential cannot be used";
	if (error == ROLE_NO_SERVER || error == ROLE_UNKNOWN)
		return "the server cannot be reached by the administrator's login";
	for (size_t i = 0; i < ARRAY_SIZE(table); i++)
		if (strncmp(sqlstate, table[i].code, strlen(table[i].code)) == 0)
			return table[i].todo;
	return "see the journal of tidegated for the server's words";
}

void role_members(const struct prole *r, char *dst, size_t cap)
{
	char made[32], until[32];

	text_time(r->made_wall_ns, made, sizeof(made));
	text_time(r->until_wall_ns, until, sizeof(until));
	(void)snprintf(dst, cap, "\"made\":\"%s\",\"until\":\"%s\"", made, until);
}

static void audit_role(struct parent *p, const char *event, const struct prole *r, const char *why)
{
	(void)audit_write(p, AUDIT_NOTE, event, "{s:s, s:s, s:s, s:s, s:s, s:s, s:s?}", "role", r->name,
			  "owner", r->owner, "agent", r->agent, "target", r->target, "database",
			  r->database, "server", r->upstream, "why", why);
}

/* ----------------------------------------------------------- keyd and roled */

static void forget_key(struct parent *p, struct prole *r)
{
	if (r->keyed)
		glogin_forget(p, r->number);
	r->keyed = false;
}

static void drop(struct parent *p, struct prole *r)
{
	forget_key(p, r);
	glogin_role_gone(p, r);
	list_del(&r->link);
	free(r);
}

static void end_at(struct parent *p, struct prole *r, uint64_t due_boot_ns)
{
	forget_key(p, r);
	r->order = 0;
	r->state = PROLE_ENDING;
	r->due_boot_ns = due_boot_ns;
}

/* False: there is no keyd now. */
static bool order_key(struct parent *p, struct prole *r)
{
	struct ipc *ipc = p->keyd.ipc;
	uint64_t now = clock_boot_ns();

	if (!ipc || !p->roled.ready || r->until_boot_ns <= now)
		return false;
	r->number = ++p->next_id;
	r->order = ++p->next_id;
	ipc_begin(ipc, IPC_ROLE_KEY, r->order);
	ipc_put_u64(ipc, r->number);
	ipc_put_str(ipc, r->name);
	ipc_put_u64(ipc, (r->until_boot_ns - now) / 1000000);
	ipc_send(ipc);
	return true;
}

static void comment_of(const struct parent *p, const struct prole *r, char *dst, size_t cap)
{
	char until[32];

	text_time(r->until_wall_ns, until, sizeof(until));
	(void)snprintf(dst, cap, "%s until %s: agent %s, target %s, %s %s", p->roles->mark, until,
		       r->agent, r->target, strlen(r->owner) < HANDLE_TEXT ? "grant" : "session",
		       r->owner);
}

static void order_job(struct parent *p, struct prole *r, enum role_job_kind kind, struct slice verifier)
{
	char comment[400];
	struct role_job j = {
		.kind = kind,
		.target = slice_str(r->target),
		.credential = slice_str(r->credential),
		.upstream = slice_str(r->upstream),
		.database = slice_str(r->database),
		.role = slice_str(r->name),
		.verifier = verifier,
		.mark = slice_str(p->roles->mark),
	};

	if (kind == ROLE_JOB_MAKE) {
		uint64_t now = clock_boot_ns();

		comment_of(p, r, comment, sizeof(comment));
		j.mark = slice_str(comment);
		j.ttl_ms = r->until_boot_ns > now ? (r->until_boot_ns - now) / 1000000 : 0;
	}
	r->order = ++p->next_id;
	ipc_begin(p->roled.ipc, IPC_ROLE_JOB, r->order);
	role_job_put(p->roled.ipc, &j);
	ipc_send(p->roled.ipc);
}

static struct prole *by_order(struct parent *p, uint64_t order)
{
	list_each(it, &p->roles->all) {
		struct prole *r = container_of(it, struct prole, link);

		if (r->order && r->order == order)
			return r;
	}
	return NULL;
}

/* Whoever waits for it is refused. */
static void make_failed(struct parent *p, struct prole *r, const char *todo, bool maybe_made)
{
	p->roles->failed++;
	glogin_role_done(p, r, todo);
	audit_role(p, "role.failed", r, todo);
	if (maybe_made)
		end_at(p, r, in_ms(END_MS));
	else
		drop(p, r);
}

void roles_keyed(struct parent *p, struct ipc_msg *m)
{
	struct prole *r = by_order(p, m->id);
	uint32_t error = ipc_get_u32(m);
	struct slice verifier = ipc_get_bytes(m);

	if (!ipc_end(m)) {
		m->bad = true;
		return;
	}
	if (!r || (r->state != PROLE_KEYING && r->state != PROLE_REKEYING))
		return;
	r->keyed = !error;
	if (error || !p->roled.ready) {
		make_failed(p, r, "see the journal of tidegated: keyd or roled has failed",
			    r->state == PROLE_REKEYING);
		return;
	}
	order_job(p, r, r->state == PROLE_KEYING ? ROLE_JOB_MAKE : ROLE_JOB_REKEY, verifier);
	if (r->state == PROLE_KEYING)
		r->state = PROLE_MAKING;
}

static void made(struct parent *p, struct prole *r, struct slice upstream)
{
	bool fresh = r->state == PROLE_MAKING;

	(void)snprintf(r->upstream, sizeof(r->upstream), "%.*s", (int)upstream.n,
		       (const char *)upstream.p);
	r->state = PROLE_READY;
	if (fresh) {
		p->roles->made++;
		r->made_wall_ns = clock_wall_ns();
		role_place_seen(p, r);
		log_notice("role %s is made on target %s (%s) for agent %s, %s %s", r->name, r->target,
			   r->upstream, r->agent,
			   strlen(r->owner) < HANDLE_TEXT ? "grant" : "session", r->owner);
		audit_role(p, "role.made", r, NULL);
	}
	if (r->over)
		end_at(p, r, in_ms(END_MS));
	else
		glogin_role_done(p, r, NULL);
}

static void not_made(struct parent *p, struct prole *r, enum role_job_error error,
		     const char *sqlstate, const char *words)
{
	log_error("role for agent %s on target %s cannot be made: %s%s%s%s: %s", r->agent, r->target,
		  words, *sqlstate ? " (" : "", sqlstate, *sqlstate ? ")" : "",
		  todo_of(error, sqlstate));
	make_failed(p, r, todo_of(error, sqlstate), error == ROLE_UNKNOWN || r->state == PROLE_REKEYING);
}

/* Said once for each cause; the status has it all the time. */
static void not_dropped(struct parent *p, struct prole *r, enum role_job_error error,
			const char *sqlstate, const char *words)
{
	char why[sizeof(r->why)];

	(void)snprintf(why, sizeof(why), "%.200s%s%s%s", words, *sqlstate ? " (" : "", sqlstate,
		       *sqlstate ? ")" : "");
	if (strcmp(why, r->why) != 0)
		log_error("role %s on target %s (%s) is not dropped, and will be tried again: %s",
			  r->name, r->target, r->upstream, why);
	parent_count(p, TG_R_ROLE_LEFT);
	(void)snprintf(r->why, sizeof(r->why), "%s", why);
	if (error == ROLE_NOT_OURS) {
		audit_role(p, "role.kept", r, r->why);
		drop(p, r);
		return;
	}
	end_at(p, r, role_retry_at(r->tries++));
}

static void dropped(struct parent *p, struct prole *r)
{
	p->roles->dropped++;
	log_notice("role %s on target %s is dropped", r->name, r->target);
	audit_role(p, "role.dropped", r, NULL);
	drop(p, r);
}

static struct role_place *place_by_order(struct parent *p, uint64_t order)
{
	list_each(it, &p->roles->places) {
		struct role_place *place = container_of(it, struct role_place, link);

		if (place->order && place->order == order)
			return place;
	}
	return NULL;
}

void roles_job_done(struct parent *p, struct ipc_msg *m)
{
	struct prole *r = by_order(p, m->id);
	struct role_place *place = r ? NULL : place_by_order(p, m->id);
	enum role_job_error error = (enum role_job_error)ipc_get_u32(m);
	struct slice code = ipc_get_str(m), text = ipc_get_str(m), upstream = ipc_get_str(m);
	uint32_t n = ipc_get_u32(m);
	char sqlstate[6], words[256];

	(void)snprintf(sqlstate, sizeof(sqlstate), "%.*s", (int)code.n, (const char *)code.p);
	(void)snprintf(words, sizeof(words), "%.*s", (int)text.n, (const char *)text.p);
	if (place) {
		role_place_done(p, place, error, words, m, n);
		return;
	}
	if (!ipc_end(m) || n) {
		m->bad = true;
		return;
	}
	if (!r)
		return;
	r->order = 0;
	if (r->state == PROLE_DROPPING && error)
		not_dropped(p, r, error, sqlstate, words);
	else if (r->state == PROLE_DROPPING)
		dropped(p, r);
	else if (error)
		not_made(p, r, error, sqlstate, words);
	else
		made(p, r, upstream);
}

/* -------------------------------------------------------------- who wants one */

const struct prole *roles_of(const struct parent *p, const char *owner)
{
	list_each(it, &p->roles->all) {
		const struct prole *r = container_of(it, struct prole, link);

		if (*owner && r->state < PROLE_ENDING && strcmp(r->owner, owner) == 0)
			return r;
	}
	return NULL;
}

static const char *database_of(const struct psession *s, const struct cfg_credential *c)
{
	if (c->role.database)
		return c->role.database;
	return s->database && *s->database ? s->database : s->user ? s->user : "";
}

static struct prole *find(struct parent *p, const char *owner, const char *database,
			  const struct psession *s, const struct cfg_credential *c)
{
	list_each(it, &p->roles->all) {
		struct prole *r = container_of(it, struct prole, link);

		if (r->state < PROLE_ENDING && !r->over && strcmp(r->owner, owner) == 0 &&
		    strcmp(r->database, database) == 0 && strcmp(r->credential, c->name) == 0 &&
		    strcmp(r->target, s->target->name) == 0)
			return r;
	}
	return NULL;
}

static struct prole *begin(struct parent *p, const char *owner, const char *database,
			   const struct psession *s, const struct cfg_credential *c)
{
	struct prole *r = calloc(1, sizeof(*r));
	uint8_t random[ROLE_RANDOM];

	if (!r)
		return NULL;
	random_bytes(random, sizeof(random));
	role_name(s->agent->name, random, r->name);
	(void)snprintf(r->owner, sizeof(r->owner), "%s", owner);
	(void)snprintf(r->agent, sizeof(r->agent), "%s", s->agent->name);
	(void)snprintf(r->target, sizeof(r->target), "%s", s->target->name);
	(void)snprintf(r->credential, sizeof(r->credential), "%s", c->name);
	(void)snprintf(r->database, sizeof(r->database), "%s", database);
	(void)snprintf(r->upstream, sizeof(r->upstream), "%s", s->upstream);
	list_init(&r->link);
	return r;
}

struct prole *roles_want(struct parent *p, const struct psession *s, const struct grant *g,
			 const struct cfg_credential *c)
{
	const char *owner = g ? g->id : s->id, *database = database_of(s, c);
	struct prole *r = find(p, owner, database, s, c);
	uint32_t n = 0;

	if (r && r->state == PROLE_READY && !r->keyed) {
		if (!order_key(p, r))
			return NULL;
		r->state = PROLE_REKEYING;
	}
	if (r)
		return r;
	list_each(it, &p->roles->all) n++;
	r = n < ROLES_MAX && !p->roles->stopping ? begin(p, owner, database, s, c) : NULL;
	if (!r)
		return NULL;
	r->until_boot_ns = g ? g->until_boot_ns : in_ms(c->role.max_ms);
	r->until_wall_ns = g ? g->until_wall_ns : clock_wall_ns() + c->role.max_ms * 1000000;
	if (!order_key(p, r)) {
		free(r);
		return NULL;
	}
	list_add_tail(&p->roles->all, &r->link);
	return r;
}

/* ------------------------------------------------------------------ the end */

static void end(struct parent *p, struct prole *r)
{
	switch (r->state) {
	case PROLE_KEYING:
		glogin_role_done(p, r, "the grant has ended");
		glogin_forget(p, r->number);
		drop(p, r);
		return;
	case PROLE_MAKING: /* when it is there */
		glogin_role_done(p, r, "the grant has ended");
		r->over = true;
		return;
	case PROLE_REKEYING:
		glogin_role_done(p, r, "the grant has ended");
		glogin_forget(p, r->number);
		end_at(p, r, in_ms(END_MS));
		return;
	case PROLE_READY:
		end_at(p, r, in_ms(END_MS));
		return;
	case PROLE_ENDING:
	case PROLE_DROPPING:
		return;
	}
}

void roles_end(struct parent *p, const char *owner)
{
	list_each(it, &p->roles->all) {
		struct prole *r = container_of(it, struct prole, link);

		if (*owner && strcmp(r->owner, owner) == 0)
			end(p, r);
	}
}

void roles_stale(struct parent *p, const char *owner)
{
	list_each(it, &p->roles->all) {
		struct prole *r = container_of(it, struct prole, link);

		if (*owner && strcmp(r->owner, owner) == 0 && r->state == PROLE_READY)
			end(p, r);
	}
}

void role_left(struct parent *p, const struct role_place *place, struct slice name)
{
	struct prole *r;

	list_each(it, &p->roles->all)
		if (slice_eq_str(name, container_of(it, struct prole, link)->name))
			return;
	r = calloc(1, sizeof(*r));
	if (!r || name.n >= sizeof(r->name)) {
		free(r);
		return;
	}
	list_init(&r->link);
	memcpy(r->name, name.p, name.n);
	(void)snprintf(r->target, sizeof(r->target), "%s", place->target);
	(void)snprintf(r->credential, sizeof(r->credential), "%s", place->credential);
	(void)snprintf(r->upstream, sizeof(r->upstream), "%s", place->upstream);
	(void)snprintf(r->database, sizeof(r->database), "postgres");
	list_add_tail(&p->roles->all, &r->link);
	p->roles->left++;
	log_warning("role %s was left behind on target %s (%s): it is dropped", r->name, r->target,
		    r->upstream);
	audit_role(p, "role.found", r, "left behind by a daemon that was killed");
	end_at(p, r, 0);
}

static void order_drops(struct parent *p)
{
	uint64_t now = clock_boot_ns();

	list_each(it, &p->roles->all) {
		struct prole *r = container_of(it, struct prole, link);

		if (r->state != PROLE_ENDING || now < r->due_boot_ns)
			continue;
		r->state = PROLE_DROPPING;
		order_job(p, r, ROLE_JOB_DROP, slice_of("", 0));
	}
}

void roles_tick(struct parent *p)
{
	if (!p->roled.ready)
		return;
	order_drops(p);
	if (!p->stopping)
		role_places_tick(p);
}

bool roles_stopped(struct parent *p)
{
	struct roles *rs = p->roles;

	if (!rs->stopping) {
		rs->stopping = true;
		rs->stop_boot_ns = in_ms(STOP_MS);
		list_each(it, &rs->all)
			end(p, container_of(it, struct prole, link));
	}
	if (list_empty(&rs->all))
		return true;
	if (p->roled.ready && clock_boot_ns() < rs->stop_boot_ns)
		return false;
	list_each(it, &rs->all) {
		const struct prole *r = container_of(it, struct prole, link);

		log_warning("role %s on target %s is not dropped: the next start does it", r->name,
			    r->target);
	}
	return true;
}

/* ------------------------------------------------------------ who has died */

/* The passwords are gone; who waits has been told to ask again. */
void roles_keyd_gone(struct parent *p)
{
	list_each(it, &p->roles->all) {
		struct prole *r = container_of(it, struct prole, link);

		r->keyed = false;
		if (r->state == PROLE_KEYING) {
			drop(p, r);
		} else if (r->state == PROLE_REKEYING) {
			r->state = PROLE_READY;
			r->order = 0;
		}
	}
}

void roles_roled_gone(struct parent *p)
{
	list_each(it, &p->roles->all) {
		struct prole *r = container_of(it, struct prole, link);

		if (r->state == PROLE_MAKING)
			make_failed(p, r, "see the journal of tidegated: roled has died", true);
		else if (r->state == PROLE_REKEYING)
			make_failed(p, r, "see the journal of tidegated: roled has died", true);
		else if (r->state == PROLE_DROPPING)
			end_at(p, r, role_retry_at(0));
	}
	list_each(it, &p->roles->places)
		container_of(it, struct role_place, link)->order = 0;
}
