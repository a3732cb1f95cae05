/* SPDX-License-Identifier: MIT */
/*
 * Snapshots of targets' catalogs: one per (configuration, target, database) and
 * worker, loaded through the catalog: login on first need, renewed when old,
 * when a table is met that it does not know, or when DDL went through us.
 */
#include <errno.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "daemon/pgclient.h"
#include "daemon/session.h"
#include "daemon/trust.h"
#include "policy/catalog.h"

enum {
	FRESH_NS_S = 30,  /* seconds after which a snapshot is renewed on use */
	RETRY_NS_S = 5,	  /* seconds between attempts after a failure */
	UNUSED_NS_S = 300,
};

#define SECONDS(n) ((uint64_t)(n) * 1000000000u)

struct catalog_ref {
	struct list link;
	struct worker *w;
	struct wview *view; /* whose masks it was made for */
	struct wconf *conf;
	char *database;
	char *upstream;
	struct catalog *ready;	 /* NULL: none yet, or it cannot be had */
	struct catalog *loading;
	struct pgclient *client;
	bool dirty, failed;
	uint64_t loaded_boot_ns, tried_boot_ns, used_boot_ns;
	uint32_t generation; /* of ready */
	struct list waiters; /* struct session, by catalog_link */
};

static void wake(struct catalog_ref *r)
{
	struct list wake_up;

	/* A woken session may come back and wait again: on a list of its own. */
	list_init(&wake_up);
	while (!list_empty(&r->waiters)) {
		struct list *e = r->waiters.next;

		list_del(e);
		list_add_tail(&wake_up, e);
	}
	while (!list_empty(&wake_up)) {
		struct session *s = container_of(wake_up.next, struct session, catalog_link);

		list_del(&s->catalog_link);
		session_catalog_ready(s);
	}
}

/* What the inspectors were told by the old snapshot is void. */
static void outdate_plans(struct catalog_ref *r)
{
	list_each(it, &r->w->sessions) {
		struct session *s = container_of(it, struct session, link);

		if (s->view == r->view)
			s->env.generation++;
	}
}

static const char *give_query(void *ctx, unsigned i)
{
	struct catalog_ref *r = ctx;

	return i < CATALOG_QUERIES ? catalog_query(policy_masks(r->view->view), i) : NULL;
}

static int take_row(void *ctx, unsigned i, const struct slice *values, unsigned n)
{
	struct catalog_ref *r = ctx;

	return catalog_row(r->loading, i, values, n);
}

static void load_done(void *ctx, const char *error, const char *sqlstate)
{
	struct catalog_ref *r = ctx;

	r->client = NULL;
	if (!error && catalog_seal(r->loading))
		error = "the catalog does not make sense";
	if (error) {
		log_warning("catalog of target %s, database %s: %s", r->view->target->name,
			    r->database, error);
		catalog_free(r->loading);
		/* An old snapshot must not outlive what it describes. */
		catalog_free(r->ready);
		r->ready = NULL;
		r->failed = true;
	} else {
		catalog_free(r->ready);
		r->ready = r->loading;
		r->failed = false;
		r->loaded_boot_ns = clock_boot_ns();
		r->generation++;
		r->w->stats->catalog_loads++;
	}
	r->loading = NULL;
	outdate_plans(r);
	wake(r);
}

static const struct pgclient_ops loader_ops = {
	.query = give_query,
	.row = take_row,
	.done = load_done,
};

static int load(struct catalog_ref *r)
{
	const struct cfg_target *t = r->view->target;
	struct pgclient_env env = {.loop = &r->w->loop,
				   .ipc = r->w->ipc,
				   .next_ask = &r->w->next_ask,
				   .application = "tidegate catalog"};
	const struct pgclient_login login = {
		.target = t->name,
		.user = t->catalog_user,
		.database = t->catalog_database ? t->catalog_database : r->database};
	struct trust_start start;
	const char *why = "";
	int fd = -1, rc;

	r->tried_boot_ns = clock_boot_ns();
	r->dirty = false;
	rc = catalog_new(policy_masks(r->view->view), &r->loading);
	if (rc)
		return rc;
	if (cfg_target_verified(t)) {
		rc = trust_start(r->conf->trust, t, r->upstream, &start, &why);
		if (rc)
			log_warning("catalog of target %s: %s", t->name, why);
		env.tls = &start.tls;
	}
	if (!rc)
		fd = upstream_open(r->upstream, NULL);
	if (!rc)
		rc = fd < 0 ? fd : pgclient_start(&env, fd, &login, &loader_ops, r, &r->client);
	if (rc) {
		if (fd >= 0)
			close(fd);
		catalog_free(r->loading);
		r->loading = NULL;
		r->failed = true;
	}
	return rc;
}

static struct catalog_ref *find(struct session *s)
{
	const char *database = s->database && *s->database ? s->database : s->user;
	struct catalog_ref *r = s->catalog;

	/* The view is what a new configuration changes; the rest is the session's for good. */
	if (r && r->view == s->view)
		return r;
	list_each(it, &s->w->catalogs) {
		r = container_of(it, struct catalog_ref, link);
		if (r->view == s->view && strcmp(r->database, database) == 0 &&
		    strcmp(r->upstream, s->upstream) == 0)
			return s->catalog = r;
	}
	r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->database = strdup(database);
	r->upstream = strdup(s->upstream);
	if (!r->database || !r->upstream) {
		free(r->database);
		free(r->upstream);
		free(r);
		return NULL;
	}
	r->w = s->w;
	r->view = s->view;
	r->conf = wconf_ref(s->conf);
	list_init(&r->waiters);
	list_add_tail(&s->w->catalogs, &r->link);
	return s->catalog = r;
}

static enum catalog_status wait_here(struct session *s, struct catalog_ref *r)
{
	list_del(&s->catalog_link);
	list_add_tail(&r->waiters, &s->catalog_link);
	return CATALOG_LOADING;
}

enum catalog_status catalog_want(struct session *s, bool fresh, const struct catalog **ret)
{
	struct catalog_ref *r;
	uint64_t now;

	*ret = NULL;
	if (!s->view->target->catalog_user)
		return CATALOG_NONE;
	r = find(s);
	if (!r)
		return CATALOG_NONE;
	now = r->used_boot_ns = clock_boot_ns();
	if (r->client)
		return wait_here(s, r);
	/* Each session may ask once for one that is newer than what it has seen. */
	if (fresh && r->ready && s->catalog_generation == r->generation) {
		*ret = r->ready;
		return CATALOG_READY;
	}
	if (r->ready && !r->dirty && !fresh && now - r->loaded_boot_ns < SECONDS(FRESH_NS_S)) {
		*ret = r->ready;
		return CATALOG_READY;
	}
	if (r->failed && now - r->tried_boot_ns < SECONDS(RETRY_NS_S))
		return CATALOG_NONE;
	if (load(r))
		return CATALOG_NONE;
	if (fresh)
		s->catalog_generation = r->generation + 1;
	return wait_here(s, r);
}

enum catalog_status catalog_since(struct session *s, uint64_t boot_ns, const struct catalog **ret)
{
	struct catalog_ref *r = s->view->target->catalog_user ? find(s) : NULL;

	if (r && r->tried_boot_ns < boot_ns)
		r->dirty = true;
	return catalog_want(s, false, ret);
}

void catalog_changed(struct session *s)
{
	list_each(it, &s->w->catalogs) {
		struct catalog_ref *r = container_of(it, struct catalog_ref, link);

		if (strcmp(r->upstream, s->upstream) != 0)
			continue;
		r->dirty = true;
		outdate_plans(r);
	}
}

void catalog_drop_session(struct session *s)
{
	list_del(&s->catalog_link);
}

static void ref_free(struct catalog_ref *r)
{
	list_each(it, &r->w->sessions) {
		struct session *s = container_of(it, struct session, link);

		if (s->catalog == r)
			s->catalog = NULL;
	}
	pgclient_stop(r->client);
	catalog_free(r->loading);
	catalog_free(r->ready);
	list_del(&r->link);
	wconf_unref(r->conf);
	free(r->database);
	free(r->upstream);
	free(r);
}

void catalogs_tick(struct worker *w)
{
	uint64_t now = clock_boot_ns();

	list_each(it, &w->catalogs) {
		struct catalog_ref *r = container_of(it, struct catalog_ref, link);

		/* Also who only executes what it has prepared asks again, and gets a newer one. */
		if (r->ready && !r->client && now - r->loaded_boot_ns >= SECONDS(FRESH_NS_S))
			outdate_plans(r);
		if (!r->client && list_empty(&r->waiters) &&
		    now - r->used_boot_ns > SECONDS(UNUSED_NS_S))
			ref_free(r);
	}
}

bool catalog_key_answer(struct worker *w, struct ipc_msg *m)
{
	list_each(it, &w->catalogs)
		if (pgclient_key(container_of(it, struct catalog_ref, link)->client, m))
			return true;
	return false;
}
