/* SPDX-License-Identifier: MIT */
/* tidegate link: where the programs are attached. */
#include "ctl/ctl.h"

static const struct out_col link_cols[] = {
	{"ID", "id", OUT_NUM, 0},
	{"NAME", "name", OUT_TEXT, OUT_OPTIONAL},
	{"TYPE", "type", OUT_TEXT, 0},
	{"PROG", "prog_id", OUT_NUM, 0},
	{"ATTACHED", "attach_type", OUT_TEXT, OUT_OPTIONAL},
	{"CGROUP", "cgroup", OUT_TEXT, OUT_SHRINKS | OUT_OPTIONAL},
	{"PINNED", "pinned", OUT_TEXT, OUT_SHRINKS | OUT_OPTIONAL},
};

static int link_list(struct ctl *c, int argc, char **argv)
{
	return pins_describe(c, argc, argv, "link", link_cols, ARRAY_SIZE(link_cols));
}

static const struct ctl_cmd link_cmds[] = {
	{"list", link_list, "", "where the programs are attached"},
};

int cmd_link(struct ctl *c, int argc, char **argv)
{
	return ctl_dispatch(c, "link", link_cmds, ARRAY_SIZE(link_cmds), NULL, argc, argv);
}
