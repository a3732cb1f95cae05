/* SPDX-License-Identifier: MIT */
/* One order: the connections it takes, and what is said on each. */
#include <errno.h>
#include <unistd.h>

#include "base/ident.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/role_sql.h"
#include "daemon/roled.h"
#include "daemon/session.h"

enum { KEYD_RETRY_MS = 250, KEYD_RETRIES = 40, USER_TEXT = 256, COLLISIONS_MAX = 16 };

#define NOT_GRANTED   "01007" /* privilege_not_granted */
#define NOT_AVAILABLE "55P03" /* lock_not_available */

enum phase {
	PHASE_FIRST,
	PHASE_OTHERS, /* DROP: databases besides the first, one connection each */
	PHASE_LAST,   /* DROP: the first one again */
};

struct task {
	struct list link;
	struct roled *o;
	uint64_t id;  /* the parent's */
	uint64_t ask; /* of keyd; 0: none is open */
	uv_timer_t retry;
	unsigned tries, collisions;
	bool started;
	enum role_job_kind kind;
	char target[64], credential[64], role[ROLE_NAME_TEXT], database[256], verifier[256], mark[512];
	char upstream[512], at[512]; /* all addresses; the one in use */
	const char *next;	     /* addresses that have not been tried */
	uint64_t ttl_ms;
	char user[USER_TEXT], key[USER_TEXT + 80];
	struct pgclient *client;
	enum phase phase;
	bool spoke; /* the server has been asked something: no other address is tried */
	bool doing; /* and that may have had an effect */
	bool absent, foreign, fallback;
	bool no_turn;	/* others take too long: it does not wait for them any more */
	bool mighty;	/* `owner` is */
	char code[128]; /* it has made this, which would run with the next owner's rights */
	bool partly; /* less was granted than was said: the server warns only */
	uint32_t server_version;
	char until[64];
	char (*names)[256]; /* databases, or roles that were left */
	uint32_t nnames, name;
	struct buf sql;
};

static const struct cfg_credential *credential_of(const struct task *t)
{
	const struct cfg_credential *c = config_credential(t->o->cfg, slice_str(t->credential));

	return c && c->role.login ? c : NULL;
}

/* ------------------------------------------------------------------- the end */

static void start_next(struct roled *o);

static void on_timer_closed(uv_handle_t *h)
{
	struct task *t = container_of((uv_timer_t *)h, struct task, retry);

	free(t->names);
	buf_done(&t->sql);
	free(t);
}

static void finish(struct task *t, enum role_job_error error, const char *sqlstate, const char *words)
{
	struct roled *o = t->o;
	char text[256];

	(void)text_escape(slice_str(words), text, sizeof(text));
	ipc_begin(o->ipc, IPC_ROLE_JOB, t->id);
	ipc_put_u32(o->ipc, error);
	ipc_put_str(o->ipc, sqlstate);
	ipc_put_str(o->ipc, text);
	ipc_put_str(o->ipc, t->at);
	ipc_put_u32(o->ipc, t->kind == ROLE_JOB_SWEEP && !error ? t->nnames : 0);
	for (uint32_t i = 0; t->kind == ROLE_JOB_SWEEP && !error && i < t->nnames; i++)
		ipc_put_str(o->ipc, t->names[i]);
	ipc_send(o->ipc);
	list_del(&t->link);
	o->running -= t->started;
	(void)uv_timer_stop(&t->retry);
	uv_close((uv_handle_t *)&t->retry, on_timer_closed);
	start_next(o);
}

/* ------------------------------------------------------------ what is said */

static const char *database_of(const struct task *t)
{
	return t->phase == PHASE_OTHERS ? t->names[t->name] : t->database;
}

static int say_make(struct task *t, unsigned i)
{
	const struct cfg_credential *c = credential_of(t);
	struct role_spec spec = {
		.role = t->role,
		.verifier = t->verifier,
		.comment = t->mark,
		.until = t->until,
		.database = t->database,
		.grants = c ? c->role.grants : NULL,
		.connections = c ? c->role.connections : 0,
		.server_version = t->server_version,
		.in_turn = !t->no_turn,
	};

	if (i == 0)
		return role_sql_clock(&t->sql, t->ttl_ms);
	if (i > 1) {
		t->doing |= !t->partly;
		return i > 2 ? 0 : buf_printf(&t->sql, t->partly ? "ROLLBACK" : "COMMIT");
	}
	return c && t->until[0] ? role_sql_make(&t->sql, &spec) : -ENODATA;
}

static int say_last(struct task *t)
{
	const struct cfg_credential *c = credential_of(t);

	return c ? role_sql_drop(&t->sql, t->role, c->role.owner, c->role.drop_owned, !t->no_turn) : -ENODATA;
}

static unsigned count_grants(const struct cfg_credential *c)
{
	unsigned n = 0;

	while (c->role.grants && c->role.grants[n])
		n++;
	return n;
}

/* Query @i of what takes back the rights in one database; false: those are all. */
static bool say_revoke(struct task *t, const struct cfg_credential *c, unsigned i, int *rc)
{
	if (i >= count_grants(c))
		return false;
	*rc = role_sql_revoke(&t->sql, t->role, database_of(t), c->role.grants[i],
			      !t->no_turn);
	if (!*rc && !t->sql.n) /* a role's name */
		*rc = buf_printf(&t->sql, "SELECT");
	return true;
}

enum { DROP_LOOK, DROP_SHUT, DROP_JOIN, DROP_END, DROP_WAIT, DROP_DATABASES, DROP_CODE, DROP_REVOKE };

/* Whose rights it gets without a word of the configuration: nobody could want that. */
static int say_code(struct task *t, const struct cfg_credential *c)
{
	if (c->role.drop_owned || (c->role.owner && !t->mighty))
		return buf_printf(&t->sql, "SELECT");
	return role_sql_code(&t->sql, t->role);
}

static int say_first(struct task *t, const struct cfg_credential *c, unsigned i)
{
	int rc = 0;

	switch (i) {
	case DROP_LOOK:
		return role_sql_look(&t->sql, t->role, c->role.owner);
	case DROP_SHUT:
		return role_sql_shut(&t->sql, t->role);
	case DROP_JOIN:
		return role_sql_join(&t->sql, t->role, t->server_version);
	case DROP_END:
		return role_sql_terminate(&t->sql, t->role, false, t->server_version);
	case DROP_WAIT:
		return role_sql_terminate(&t->sql, t->role, true, t->server_version);
	case DROP_DATABASES:
		return role_sql_databases(&t->sql, t->role);
	case DROP_CODE:
		return say_code(t, c);
	}
	if (say_revoke(t, c, i - DROP_REVOKE, &rc))
		return rc;
	/* All at once, where there is just one database. */
	return i > DROP_REVOKE + count_grants(c) || t->nnames ? 0 : say_last(t);
}

static int say_drop(struct task *t, unsigned i)
{
	const struct cfg_credential *c = credential_of(t);
	int rc = 0;

	if (!c)
		return -ENODATA;
	if (t->code[0])
		return 0;
	switch (t->phase) {
	case PHASE_FIRST:
		return i && (t->absent || t->foreign) ? 0 : say_first(t, c, i);
	case PHASE_OTHERS:
		if (i == 0)
			return say_code(t, c);
		if (say_revoke(t, c, --i, &rc))
			return rc;
		return i > count_grants(c)
			       ? 0
			       : role_sql_disown(&t->sql, t->role, c->role.owner, c->role.drop_owned,
						 !t->no_turn);
	case PHASE_LAST:
		break;
	}
	return i ? 0 : say_last(t);
}

/* A superuser need not join, and what is not there cannot be taken back: the last one tells. */
static bool may_fail(void *ctx, unsigned i, const char *sqlstate)
{
	const struct task *t = ctx;
	const struct cfg_credential *c = credential_of(t);

	if (strcmp(sqlstate, NOT_AVAILABLE) == 0 && !t->no_turn)
		return false;
	if (t->kind != ROLE_JOB_DROP || !c)
		return false;
	if (t->phase == PHASE_FIRST)
		return i == DROP_JOIN || (i >= DROP_REVOKE && i < DROP_REVOKE + count_grants(c));
	return t->phase == PHASE_OTHERS && i && i <= count_grants(c);
}

static void on_notice(void *ctx, unsigned i, struct slice sqlstate)
{
	struct task *t = ctx;

	t->partly |= t->kind == ROLE_JOB_MAKE && slice_eq_str(sqlstate, NOT_GRANTED);
}

static const char *give_query(void *ctx, unsigned i)
{
	struct task *t = ctx;
	int rc = 0;

	t->spoke = true;
	buf_reset(&t->sql);
	switch (t->kind) {
	case ROLE_JOB_MAKE:
		rc = say_make(t, i);
		break;
	case ROLE_JOB_REKEY:
		rc = i ? 0 : role_sql_rekey(&t->sql, t->role, t->verifier);
		break;
	case ROLE_JOB_DROP:
		rc = say_drop(t, i);
		break;
	case ROLE_JOB_SWEEP:
		rc = i ? 0 : role_sql_left(&t->sql, t->mark);
		break;
	}
	if (rc || !t->sql.n || buf_append(&t->sql, "", 1))
		return rc ? "SELECT what_is_to_be_said_is_not_known" : NULL;
	return (const char *)buf_data(&t->sql);
}

static bool keep(struct slice s, char *dst, size_t cap)
{
	return s.p && s.n && s.n < cap && !memchr(s.p, 0, s.n) &&
	       snprintf(dst, cap, "%.*s", (int)s.n, (const char *)s.p) > 0;
}

static int take_version(struct task *t, struct slice s)
{
	uint64_t v;

	if (!s.p || text_parse_u64(s, 1, 10000000, &v))
		return -EBADMSG;
	t->server_version = (uint32_t)v;
	return 0;
}

static int take_name(struct task *t, struct slice s)
{
	if (!t->names)
		t->names = calloc(ROLED_NAMES_MAX, sizeof(*t->names));
	if (!t->names || t->nnames == ROLED_NAMES_MAX)
		return -ENOMEM;
	if (!keep(s, t->names[t->nnames], sizeof(*t->names)))
		return -EBADMSG;
	t->nnames++;
	return 0;
}

static int take_look(struct task *t, const struct slice *v, unsigned n)
{
	struct slice mark = slice_str(t->mark);

	if (n != 4 || take_version(t, v[0]))
		return -EBADMSG;
	t->mighty = slice_eq_str(v[3], "t");
	t->absent = !v[1].p;
	t->foreign = !t->absent && (!v[2].p || v[2].n < mark.n ||
				    !slice_eq(slice_of(v[2].p, mark.n), mark));
	return 0;
}

/* The name is the agent's choice. */
static int take_code(struct task *t, const struct slice *v, unsigned n)
{
	if (n > 1)
		return -EBADMSG;
	if (n && v[0].p && text_escape(v[0], t->code, sizeof(t->code)) == 0)
		(void)snprintf(t->code, sizeof(t->code), "something");
	return 0;
}

static int take_row(void *ctx, unsigned i, const struct slice *v, unsigned n)
{
	struct task *t = ctx;

	if (t->kind == ROLE_JOB_MAKE && i == 0)
		return n == 2 && !take_version(t, v[0]) && keep(v[1], t->until, sizeof(t->until))
			       ? 0
			       : -EBADMSG;
	if (t->kind == ROLE_JOB_SWEEP)
		return n == 1 ? take_name(t, v[0]) : -EBADMSG;
	if (t->kind == ROLE_JOB_DROP && t->phase == PHASE_FIRST && i == DROP_LOOK)
		return take_look(t, v, n);
	if (t->kind == ROLE_JOB_DROP && (t->phase == PHASE_FIRST ? i == DROP_CODE
								     : t->phase == PHASE_OTHERS && !i))
		return take_code(t, v, n);
	if (t->kind == ROLE_JOB_DROP && t->phase == PHASE_FIRST && i == DROP_DATABASES)
		return n == 1 ? take_name(t, v[0]) : -EBADMSG;
	return 0; /* of functions that are called for what they do */
}

/* -------------------------------------------------------------- connections */

static void connect_first(struct task *t, const char *database);

/* False: there is no other one. */
static bool take_address(struct task *t)
{
	size_t n;

	if (!t->next || !*t->next)
		return false;
	n = strncmp(t->next, "unix:", 5) == 0 ? strlen(t->next) : strcspn(t->next, " ");
	(void)snprintf(t->at, sizeof(t->at), "%.*s", (int)n, t->next);
	t->next += n + (t->next[n] == ' ');
	return true;
}

/* Somebody else changed the same at the same time: nothing of it has been done. */
static bool is_collision(const char *sqlstate)
{
	return strcmp(sqlstate, "XX000") == 0 || strcmp(sqlstate, "40P01") == 0 ||
	       strcmp(sqlstate, "40001") == 0;
}

static void on_again(uv_timer_t *h)
{
	struct task *t = container_of(h, struct task, retry);

	connect_first(t, database_of(t));
}

/* From its beginning; what a drop has done already does no harm twice. */
static void again(struct task *t)
{
	uint8_t random;

	t->collisions++;
	t->phase = PHASE_FIRST;
	t->doing = t->partly = false;
	t->nnames = t->name = 0;
	t->code[0] = '\0';
	random_bytes(&random, sizeof(random));
	(void)uv_timer_start(&t->retry, on_again, 20 + random, 0);
}

static void failed(struct task *t, const char *error, const char *sqlstate)
{
	/* What it was made in may be gone; it itself is not. */
	if (strcmp(sqlstate, "3D000") == 0 && t->kind >= ROLE_JOB_DROP && t->phase == PHASE_FIRST &&
	    !t->fallback) {
		t->fallback = true;
		(void)snprintf(t->database, sizeof(t->database), "postgres");
		connect_first(t, t->database);
	} else if (strcmp(sqlstate, NOT_AVAILABLE) == 0 && !t->no_turn) {
		t->no_turn = true;
		again(t);
	} else if (is_collision(sqlstate) && t->collisions < COLLISIONS_MAX) {
		again(t);
	} else if (sqlstate[0]) {
		finish(t, ROLE_REFUSED, sqlstate, error);
	} else if (t->doing) {
		finish(t, ROLE_UNKNOWN, "", error);
	} else if (!t->spoke && take_address(t)) {
		connect_first(t, database_of(t));
	} else {
		finish(t, ROLE_NO_SERVER, "", error);
	}
}

static void finish_code(struct task *t)
{
	const struct cfg_credential *c = credential_of(t);
	char words[256];

	(void)snprintf(words, sizeof(words), "%.60s in database %.30s would run with the rights of %.30s: "
		       "set `owner` to a role that may do nothing, or `drop_owned`", t->code, database_of(t),
		       c && c->role.owner ? c->role.owner : "the administrator");
	finish(t, ROLE_REFUSED, "", words);
}

static void done(void *ctx, const char *error, const char *sqlstate)
{
	struct task *t = ctx;

	t->client = NULL;
	if (error) {
		failed(t, error, sqlstate);
		return;
	}
	if (t->partly) {
		finish(t, ROLE_REFUSED, NOT_GRANTED, "the administrator may not grant all of `grants`");
		return;
	}
	if (t->foreign) {
		finish(t, ROLE_NOT_OURS, "", "a role of that name is there, and has not our mark");
		return;
	}
	if (t->code[0]) {
		finish_code(t);
		return;
	}
	if (t->kind == ROLE_JOB_DROP && t->phase == PHASE_FIRST && !t->absent && t->nnames) {
		t->phase = PHASE_OTHERS;
	} else if (t->phase == PHASE_OTHERS && ++t->name == t->nnames) {
		t->phase = PHASE_LAST;
	} else if (t->phase != PHASE_OTHERS) {
		finish(t, ROLE_OK, "", "");
		return;
	}
	connect_first(t, database_of(t));
}

/* The administrator's login goes to nobody else than to the agents' logins. */
static bool is_verified(const struct task *t, const struct cfg_target *target)
{
	const struct config *c = t->o->cfg;

	if (target)
		return cfg_target_verified(target);
	for (uint32_t i = 0; i < c->ntargets; i++)
		if (c->targets[i].credential && strcmp(c->targets[i].credential, t->credential) == 0 &&
		    cfg_target_verified(&c->targets[i]))
			return true;
	return false;
}

static int start_tls(const struct task *t, struct trust_start *start, const struct tls_start **ret,
		     const char **ret_why)
{
	const struct cfg_target *target = config_target(t->o->cfg, slice_str(t->target));

	*ret = NULL;
	*ret_why = "";
	if (!is_verified(t, target))
		return 0;
	*ret = &start->tls;
	*ret_why = "the target is not configured any more, so it is not known who its server must be";
	return target ? trust_start(t->o->trust, target, t->at, start, ret_why) : -ENOENT;
}

/* To t->at. */
static void connect_first(struct task *t, const char *database)
{
	static const struct pgclient_ops ops = {
		.query = give_query, .may_fail = may_fail, .notice = on_notice, .row = take_row,
		.done = done};
	struct trust_start start;
	struct pgclient_env env = {
		.loop = &t->o->loop,
		.ipc = t->o->ipc,
		.next_ask = &t->o->next_ask,
		.application = "tidegate roles",
		/* Over a socket the server may know the account that it runs under. */
		.must_ask = strncmp(t->at, "unix:", 5) != 0,
	};
	const struct pgclient_login login = {
		.target = t->key, .user = t->user, .database = database};
	const char *why = "";
	int fd, rc;

	do {
		fd = -1;
		rc = start_tls(t, &start, &env.tls, &why);
		if (!rc)
			fd = upstream_open(t->at, NULL);
		rc = rc ? rc : fd < 0 ? fd : pgclient_start(&env, fd, &login, &ops, t, &t->client);
		if (rc && fd >= 0)
			close(fd);
	} while (rc && !t->spoke && take_address(t));
	if (rc)
		finish(t, t->doing ? ROLE_UNKNOWN : ROLE_NO_SERVER, "", *why ? why : strerror(-rc));
}

/* ----------------------------------------------------------------- the login */

static void ask_login(struct task *t)
{
	const struct cfg_credential *c = credential_of(t);

	if (!c) {
		finish(t, ROLE_NO_LOGIN, "", "the credential is not configured any more");
		return;
	}
	t->ask = ++t->o->next_ask;
	ipc_begin(t->o->ipc, IPC_KEY_LOGIN, t->ask);
	ipc_put_str(t->o->ipc, c->role.admin);
	ipc_send(t->o->ipc);
}

static void on_retry(uv_timer_t *h)
{
	ask_login(container_of(h, struct task, retry));
}

static void login_told(struct task *t, uint32_t error, struct slice user)
{
	const struct cfg_credential *c = credential_of(t);

	t->ask = 0;
	if (error == ENOTCONN && ++t->tries < KEYD_RETRIES) { /* keyd is being started */
		(void)uv_timer_start(&t->retry, on_retry, KEYD_RETRY_MS, 0);
		return;
	}
	if (error || !c || !keep(user, t->user, sizeof(t->user))) {
		finish(t, ROLE_NO_LOGIN, "", "the administrator's credential cannot be used");
		return;
	}
	(void)snprintf(t->key, sizeof(t->key), "@%s:%s", c->role.admin, t->user);
	if (take_address(t))
		connect_first(t, t->database);
	else
		finish(t, ROLE_NO_SERVER, "", "the target has no address");
}

void roled_key(struct roled *o, struct ipc_msg *m)
{
	list_each(it, &o->jobs) {
		struct task *t = container_of(it, struct task, link);

		if (m->type == IPC_KEY_LOGIN && t->ask == m->id) {
			uint32_t error = ipc_get_u32(m);
			struct slice user = ipc_get_bytes(m);

			login_told(t, ipc_end(m) ? error : EPROTO, user);
			return;
		}
		if (pgclient_key(t->client, m))
			return;
	}
}

void roled_key_gone(struct roled *o)
{
	list_each(it, &o->jobs) {
		struct task *t = container_of(it, struct task, link);

		if (t->ask)
			login_told(t, ENOTCONN, slice_of("", 0));
		else
			pgclient_key_gone(t->client);
	}
}

/* ------------------------------------------------------------------- orders */

/* A server that does not answer holds up no more than these. */
static void start_next(struct roled *o)
{
	list_each(it, &o->jobs) {
		struct task *t = container_of(it, struct task, link);

		if (o->running == ROLED_JOBS_MAX)
			return;
		if (t->started)
			continue;
		t->started = true;
		o->running++;
		/* From the loop: tasks end only there, so no list is changed by who goes through it. */
		(void)uv_timer_start(&t->retry, on_retry, 0, 0);
	}
}

void roled_take(struct roled *o, struct ipc_msg *m)
{
	struct task *t = calloc(1, sizeof(*t));
	struct role_job j;

	if (!t)
		exit(1); /* the parent takes it for unknown what became of the others */
	if (!role_job_get(m, &j)) {
		free(t);
		m->bad = true;
		return;
	}
	t->o = o;
	t->id = m->id;
	t->kind = j.kind;
	t->ttl_ms = j.ttl_ms;
	list_init(&t->link);
	buf_init(&t->sql, ROLE_SQL_MAX);
	(void)uv_timer_init(&o->loop, &t->retry);
	list_add_tail(&o->jobs, &t->link);
	t->next = t->upstream;
	if (!keep(j.target, t->target, sizeof(t->target)) ||
	    !keep(j.credential, t->credential, sizeof(t->credential)) ||
	    !keep(j.upstream, t->upstream, sizeof(t->upstream)) ||
	    !keep(j.database, t->database, sizeof(t->database)) ||
	    !keep(j.mark, t->mark, sizeof(t->mark)) ||
	    (j.kind != ROLE_JOB_SWEEP && !keep(j.role, t->role, sizeof(t->role))) ||
	    (j.kind <= ROLE_JOB_REKEY && !keep(j.verifier, t->verifier, sizeof(t->verifier)))) {
		finish(t, ROLE_NO_SERVER, "", "a name is too long, or has a NUL byte");
		return;
	}
	start_next(o);
}
