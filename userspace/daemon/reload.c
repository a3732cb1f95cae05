/* SPDX-License-Identifier: MIT */
#include "daemon/reload.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "config/cfgfiles.h"
#include "config/cfgheld.h"
#include "daemon/accel.h"
#include "daemon/adminsock.h"
#include "daemon/audit.h"
#include "daemon/children.h"
#include "daemon/eventsock.h"
#include "daemon/learned.h"
#include "daemon/listeners.h"
#include "daemon/memfd.h"
#include "daemon/netns.h"
#include "daemon/crew.h"
#include "daemon/roles.h"
#include "daemon/trust.h"
#include "daemon/worker.h"

enum { FILES_MAX = 1 << 20 };

/* ------------------------------------------------------------------- reading */

static int read_file(const char *path, struct buf *out)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc = 0;

	if (fd < 0)
		return -errno;
	for (;;) {
		uint8_t *dst = buf_reserve(out, 65536);
		ssize_t n = dst ? read(fd, dst, 65536) : -1;

		if (n <= 0) {
			rc = !dst ? -EFBIG : n < 0 ? -errno : 0;
			break;
		}
		buf_commit(out, (size_t)n);
	}
	close(fd);
	return rc;
}

int reload_read(struct parent *p, struct config **ret, int *ret_fd, struct buf *error)
{
	struct buf text;
	int rc;

	buf_init(&text, 8 << 20);
	rc = read_file(p->config_path, &text);
	if (rc)
		(void)!buf_printf(error, "%s: %s\n", p->config_path, strerror(-rc));
	else
		rc = config_parse(buf_slice(&text), p->config_path, ret, error);
	if (!rc) {
		*ret_fd = memfd_from("tidegate-config", buf_slice(&text));
		if (*ret_fd < 0) {
			rc = *ret_fd;
			config_free(*ret);
		}
	}
	buf_done(&text);
	return rc;
}

int reload_parse(int fd, const char *name, struct config **ret, struct buf *error)
{
	struct slice text;
	int rc = memfd_map(fd, &text);

	if (rc)
		return rc;
	rc = config_parse(text, name, ret, error);
	memfd_unmap(text);
	return rc;
}

int reload_remember(struct parent *p)
{
	p->start_fd = fcntl(p->cfg_fd, F_DUPFD_CLOEXEC, 3);
	return p->start_fd < 0 ? -errno : 0;
}

int reload_take(struct parent *p, struct buf *error)
{
	struct config *cfg, *start;
	int rc = reload_parse(p->cfg_fd, p->config_path, &cfg, error);

	if (rc)
		return rc;
	rc = reload_parse(p->start_fd, p->config_path, &start, error);
	if (!rc) {
		rc = config_hold(cfg, start, AT_START);
		config_free(start);
	}
	if (rc)
		config_free(cfg);
	else
		p->cfg = cfg;
	if (!rc)
		trust_read(p);
	return rc;
}

/* Each session takes two descriptors of its worker. */
void reload_check_limits(const struct parent *p)
{
	struct rlimit r;
	size_t each;

	if (getrlimit(RLIMIT_NOFILE, &r))
		return;
	each = worker_fds(min_size(r.rlim_cur, FILES_MAX)) / 2;
	for (uint32_t i = 0; i < p->cfg->ntargets; i++) {
		const struct cfg_target *t = &p->cfg->targets[i];

		if (t->max_sessions > each * p->cfg->workers)
			log_warning("target %s allows %u sessions, but %llu descriptors a process are "
				    "enough for about %zu in %u workers: raise LimitNOFILE, or lower "
				    "limits.sessions",
				    t->name, t->max_sessions, (unsigned long long)r.rlim_cur,
				    each * p->cfg->workers, p->cfg->workers);
	}
}

/* ---------------------------------------------------------- what is not in effect */

/* Both texts may be long paths; an escape is as good as the rest, so each line has its end. */
static void tell_pending(const struct config *c)
{
	char text[CFG_HELD_TEXT];

	for (uint32_t i = 0; i < c->held->npending; i++) {
		config_pending_text(c, &c->held->pending[i], text, sizeof(text));
		log_warning("not in effect: %s", text);
	}
}

/* Of workers that could not be replaced it is not known which key was changed; both may have been. */
static void put_workers(const struct parent *p, json_t *list)
{
	char place[512];

	config_key_place(p->cfg, "daemon", "workers", place, sizeof(place));
	(void)json_array_append_new(
		list, json_pack("{s:s, s:o, s:s}", "key", "daemon.workers", "text",
				json_sprintf("daemon.workers, recording.journal: %s: the workers of "
					     "before go on: %s; then reload again",
					     place, p->workers_why),
				"takes", "reload"));
}

json_t *reload_pending_json(const struct parent *p)
{
	const struct cfg_held *h = p->cfg->held;
	json_t *list = json_array();
	char text[CFG_HELD_TEXT];

	for (uint32_t i = 0; i < h->npending; i++) {
		config_pending_text(p->cfg, &h->pending[i], text, sizeof(text));
		(void)json_array_append_new(
			list, json_pack("{s:s, s:s, s:s}", "key", h->pending[i].key, "text", text, "takes",
					h->pending[i].takes == AT_START ? "restart" : "upgrade"));
	}
	if (p->workers_why[0])
		put_workers(p, list);
	return list;
}

/* ------------------------------------------------------------------- in force */

/* Everything that can fail: with an error, all is as it was. */
static int put_into_force(struct parent *p, struct config *fresh, struct buf *error)
{
	struct config *old = p->cfg;
	struct buf unused;
	int rc = config_hold(fresh, old, AT_UPGRADE);

	if (!rc)
		rc = adminsock_prepare(p, fresh, error);
	if (rc)
		return rc;
	rc = listeners_prepare(p, fresh, error);
	if (rc) {
		adminsock_abort(p, fresh);
		return rc;
	}
	p->cfg = fresh;
	rc = targets_apply(p, error);
	if (!rc)
		return 0;
	/* The old one was in effect a moment ago: it goes back as it was. */
	buf_init(&unused, 4096);
	p->cfg = old;
	(void)!targets_apply(p, &unused);
	buf_done(&unused);
	listeners_abort(p);
	adminsock_abort(p, fresh);
	return rc;
}

/* What cannot fail any more, or is tried again. */
static void follow_up(struct parent *p, const struct config *old)
{
	log_configure(p->cfg->log_level);
	reload_check_limits(p);
	adminsock_finish(p, old);
	listeners_close_old(p);
	if (learned_apply(p))
		log_error("look-ups of agents cannot be steered: they are as before");
	role_places_update(p);
	children_config(p);
	eventsock_open(p);
	listeners_open_new(p);
	crew_replace(p);
	netns_reload(p);
}

int parent_reload(struct parent *p, struct buf *error, bool *ret_changed)
{
	struct config *fresh, *old = p->cfg;
	int fd, rc;

	if (p->stopping) {
		(void)!buf_printf(error, "the daemon is stopping\n");
		return -ESHUTDOWN;
	}
	rc = reload_read(p, &fresh, &fd, error);
	if (rc)
		return rc;
	rc = config_check_files(fresh, error);
	if (!rc)
		rc = put_into_force(p, fresh, error);
	if (rc) {
		config_free(fresh);
		close(fd);
		return rc;
	}
	*ret_changed = strcmp(policy_digest(fresh->policy), policy_digest(old->policy)) != 0;
	p->generation++;
	close(p->cfg_fd);
	p->cfg_fd = fd;
	p->loaded_wall_ns = clock_wall_ns();
	trust_read(p);
	follow_up(p, old);
	config_free(old);
	accel_start(p);
	log_notice("configuration reloaded: policy %.16s%s", policy_digest(fresh->policy),
		   *ret_changed ? "" : " (unchanged)");
	tell_pending(fresh);
	(void)audit_write(p, AUDIT_SYNC, "policy.reload", "{s:s, s:s, s:b, s:o}", "file",
			  p->config_path, "digest", policy_digest(fresh->policy), "changed",
			  *ret_changed, "pending", reload_pending_json(p));
	return 0;
}

void reload_by_signal(struct parent *p)
{
	struct buf error;
	bool changed;

	buf_init(&error, 65536);
	if (parent_reload(p, &error, &changed)) {
		log_error("the configuration is not reloaded, the old one stays in force:");
		for (struct slice s = buf_slice(&error); s.n;) {
			const uint8_t *nl = memchr(s.p, '\n', s.n);
			size_t n = nl ? (size_t)(nl - s.p) : s.n;

			log_error("%.*s", (int)n, (const char *)s.p);
			s = slice_from(s, n + 1);
		}
	}
	buf_done(&error);
}
