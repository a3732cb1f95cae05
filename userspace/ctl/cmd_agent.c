/* SPDX-License-Identifier: MIT */
/* tidegate agent: who is watched. */
#include "ctl/ctl.h"

static const struct out_col cols[] = {
	{"ID", "id", OUT_NUM, 0},
	{"NAME", "name", OUT_TEXT, OUT_SHRINKS},
	{"SESSIONS", "sessions", OUT_NUM, 0},
	{"DEFAULT", "default", OUT_TEXT, OUT_OPTIONAL | OUT_WIDE},
	{"LISTED", "allowed", OUT_NUM, OUT_OPTIONAL | OUT_WIDE},
	{"UNIX", "unix", OUT_TEXT, OUT_OPTIONAL | OUT_WIDE},
	{"UIDS", "uids", OUT_TEXT, OUT_SHRINKS},
	{"CGROUPS", "cgroups", OUT_TEXT, OUT_SHRINKS},
};

static int do_list(struct ctl *c, int argc, char **argv)
{
	json_t *list;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 0, 0);

	if (rc == 0)
		rc = client_call(c, TG_CTL_AGENT_LIST, NULL, &list);
	if (rc)
		return rc;
	rc = out_list(c, list, cols, ARRAY_SIZE(cols),
		      "no agents: add some under agents: in the "
		      "configuration");
	json_decref(list);
	return rc;
}

static int do_show(struct ctl *c, int argc, char **argv)
{
	json_t *list;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 1, 1);

	if (rc == 0)
		rc = client_call(c, TG_CTL_AGENT_LIST, NULL, &list);
	if (rc)
		return rc;
	rc = out_named(c, list, "name", argv[0], cols, ARRAY_SIZE(cols), NULL);
	json_decref(list);
	return rc;
}

static const struct ctl_cmd cmds[] = {
	{"list", do_list, "", "all agents and how many sessions they have"},
	{"show", do_show, "NAME", "one agent"},
	{"run", cmd_agent_run, "NAME [OPTIONS] -- COMMAND...", "start a command as this agent"},
};

static const char more[] =
	"Options of run:\n"
	"  --user USER[:GROUP]   as whom (the agent's uid, or who called sudo)\n"
	"  --cgroup PATH         one of the agent's cgroups, or one below\n"
	"  --pass-fd N[,N...]    files and pipes to leave open\n"
	"  --keep-stdio-sockets  stdin, stdout and stderr may be unix sockets\n"
	"  --allow-io-uring, --allow-namespaces, --allow-ptrace\n"
	"                        not refused by the system call filter: see tidegate(8)\n"
	"The command has no capabilities, cannot gain any, and its exit status is the result.\n";

int cmd_agent(struct ctl *c, int argc, char **argv)
{
	return ctl_dispatch(c, "agent", cmds, ARRAY_SIZE(cmds), more, argc, argv);
}
