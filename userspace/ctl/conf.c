/* SPDX-License-Identifier: MIT */
/* The configuration, as far as the utility needs it. */
#include <errno.h>
#include <unistd.h>

#include "config/config.h"
#include "config/state.h"
#include "ctl/ctl.h"

enum { ERRORS_MAX = 65536 };

const char *conf_path(const struct ctl *c)
{
	return c->config_path ? c->config_path : TG_CTL_CONFIG;
}

static int load(struct ctl *c, struct buf *error)
{
	int rc;

	buf_init(error, ERRORS_MAX);
	if (c->config)
		return 0;
	c->config_tried = true;
	rc = config_load(conf_path(c), &c->config, error);
	if (rc)
		c->config = NULL;
	return rc;
}

int conf_load(struct ctl *c, const struct config **ret)
{
	struct buf error;
	int rc = load(c, &error);

	if (rc) {
		const char *code = rc == -EACCES || rc == -EPERM ? "permission" : "config";

		while (error.n && buf_data(&error)[error.n - 1] == '\n')
			error.n--;
		rc = error.n ? out_error(c, code, NULL, "%.*s", (int)error.n, buf_data(&error))
			     : out_error(c, code, NULL, "%s: %s", conf_path(c), strerror(-rc));
	} else {
		*ret = c->config;
	}
	buf_done(&error);
	return rc;
}

const struct config *conf_try(struct ctl *c)
{
	struct buf error;

	if (!c->config && !c->config_tried) {
		(void)!load(c, &error);
		buf_done(&error);
	}
	return c->config;
}

void conf_done(struct ctl *c)
{
	config_free(c->config);
	c->config = NULL;
}

const char *conf_state_dir(struct ctl *c)
{
	const struct config *conf = conf_try(c);

	return conf ? conf->state_dir : STATE_DIR;
}

/*
 * -s, or the run directory of the configuration that -c names; else the usual place, and
 * only if there is nothing the configuration is read: it may be readable by root only.
 */
const char *client_path(struct ctl *c)
{
	static const char usual[] = TG_CTL_RUN_DIR "/" TG_CTL_SOCKET;
	static char path[256];
	const struct config *conf;

	if (c->socket_path)
		return c->socket_path;
	if (!c->config_path && access(usual, F_OK) == 0)
		return usual;
	conf = conf_try(c);
	if (!conf ||
	    snprintf(path, sizeof(path), "%s/" TG_CTL_SOCKET, conf->run_dir) >= (int)sizeof(path))
		return usual;
	return path;
}
