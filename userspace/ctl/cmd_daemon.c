/* SPDX-License-Identifier: MIT */
/* tidegate daemon: the running daemon itself. */
#include "ctl/ctl.h"

/* Both loads of the programs, the one to try and the other, take a while on a small host. */
enum { UPGRADE_MS = 120000 };

static int do_upgrade(struct ctl *c, int argc, char **argv)
{
	json_t *o;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 0, 0);

	if (c->timeout_ms < UPGRADE_MS)
		c->timeout_ms = UPGRADE_MS;
	if (rc == 0)
		rc = client_call(c, TG_CTL_DAEMON_UPGRADE, NULL, &o);
	if (rc)
		return rc;
	if (c->json)
		rc = out_json(c, o);
	else
		out_text(c, "upgraded from %s to %s; %lld sessions go on\n",
			 json_string_value(json_object_get(o, "before")),
			 json_string_value(json_object_get(o, "version")),
			 (long long)json_integer_value(json_object_get(o, "sessions")));
	json_decref(o);
	return rc;
}

static const struct ctl_cmd cmds[] = {
	{"reload", policy_reload, "", "read the configuration again, as `tidegate policy reload`"},
	{"upgrade", do_upgrade, "", "go on with the binary that is installed now; sessions stay"},
};

int cmd_daemon(struct ctl *c, int argc, char **argv)
{
	return ctl_dispatch(c, "daemon", cmds, ARRAY_SIZE(cmds), NULL, argc, argv);
}
