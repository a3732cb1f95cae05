/* SPDX-License-Identifier: MIT */
#include "daemon/adminsock.h"

#include <errno.h>
#include <grp.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/cfgsame.h"
#include "daemon/listeners.h"
#include "daemon/upgrade.h"
#include "tidegate_ctl.h"

/* Open beside those in use while a configuration is put into force; -1: does not move. */
static struct {
	int control, metrics, tcp;
} next = {-1, -1, -1};

static void remove_socket(const char *dir, const char *name)
{
	char path[512];

	(void)snprintf(path, sizeof(path), "%s/%s", dir, name);
	(void)unlink(path);
}

static void close_next(int *fd)
{
	if (*fd >= 0)
		close(*fd);
	*fd = -1;
}

static int open_run_dir(const struct config *c)
{
	if (parent_make_dir(c->run_dir, 0755))
		return -EPERM;
	next.control = control_listen(c->run_dir, TG_CTL_SOCKET, control_mode(c), c->admin_group);
	if (next.control < 0)
		return next.control;
	next.metrics = control_listen(c->run_dir, TG_CTL_METRICS, 0660, c->admin_group);
	return next.metrics < 0 ? next.metrics : 0;
}

int adminsock_prepare(struct parent *p, const struct config *fresh, struct buf *error)
{
	int rc = 0;

	if (!cfgsame_text(fresh->run_dir, p->cfg->run_dir)) {
		rc = open_run_dir(fresh);
		if (rc)
			(void)!buf_printf(error, "daemon.run_dir: cannot listen in %s: %s\n",
					  fresh->run_dir, strerror(-rc));
	}
	if (!rc && fresh->metrics_listen &&
	    !cfgsame_text(fresh->metrics_listen, p->cfg->metrics_listen)) {
		next.tcp = listener_open(fresh->metrics_listen);
		rc = next.tcp < 0 ? next.tcp : 0;
		if (rc)
			(void)!buf_printf(error, "daemon.metrics_listen: cannot listen on %s: %s\n",
					  fresh->metrics_listen, strerror(-rc));
	}
	if (rc)
		adminsock_abort(p, fresh);
	return rc;
}

void adminsock_abort(struct parent *p, const struct config *fresh)
{
	if (next.control >= 0)
		remove_socket(fresh->run_dir, TG_CTL_SOCKET);
	if (next.metrics >= 0)
		remove_socket(fresh->run_dir, TG_CTL_METRICS);
	close_next(&next.control);
	close_next(&next.metrics);
	close_next(&next.tcp);
}

static void set_group(const struct config *c, const char *name, mode_t mode)
{
	const struct group *g = c->admin_group ? getgrnam(c->admin_group) : NULL;
	char path[512];

	(void)snprintf(path, sizeof(path), "%s/%s", c->run_dir, name);
	/* First what takes rights away. */
	if (chmod(path, 0600) || chown(path, 0, g ? g->gr_gid : 0) || chmod(path, mode))
		log_error("%s: %s: who may open it is not as configured", path, strerror(errno));
}

void adminsock_finish(struct parent *p, const struct config *old)
{
	const struct config *c = p->cfg;

	if (next.control >= 0) {
		remove_socket(old->run_dir, TG_CTL_SOCKET);
		remove_socket(old->run_dir, TG_CTL_METRICS);
		control_use(p, next.control);
		metrics_use(p, next.metrics);
		next.control = next.metrics = -1;
	} else if (!cfgsame_text(c->admin_group, old->admin_group)) {
		set_group(c, TG_CTL_SOCKET, control_mode(c));
		set_group(c, TG_CTL_METRICS, 0660);
	}
	if (!cfgsame_text(c->admin_group, old->admin_group))
		control_recheck(p);
	if (!cfgsame_text(c->metrics_listen, old->metrics_listen))
		metrics_use_tcp(p, next.tcp);
	next.tcp = -1;
}
