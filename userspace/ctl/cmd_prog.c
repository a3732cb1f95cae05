/* SPDX-License-Identifier: MIT */
/* tidegate prog: the pinned programs, by the ids that bpftool shows too. */
#include "ctl/ctl.h"

static const struct out_col prog_cols[] = {
	{"ID", "id", OUT_NUM, 0},
	{"NAME", "name", OUT_TEXT, 0},
	{"TYPE", "type", OUT_TEXT, 0},
	{"TAG", "tag", OUT_TEXT, OUT_OPTIONAL},
	{"RUNS", "run_cnt", OUT_NUM, OUT_OPTIONAL},
	{"PINNED", "pinned", OUT_TEXT, OUT_SHRINKS | OUT_OPTIONAL},
};

static int prog_list(struct ctl *c, int argc, char **argv)
{
	return pins_describe(c, argc, argv, "prog", prog_cols, ARRAY_SIZE(prog_cols));
}

static const struct ctl_cmd prog_cmds[] = {
	{"list", prog_list, "", "the pinned programs"},
};

int cmd_prog(struct ctl *c, int argc, char **argv)
{
	return ctl_dispatch(c, "prog", prog_cmds, ARRAY_SIZE(prog_cmds), NULL, argc, argv);
}
