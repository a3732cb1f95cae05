/* SPDX-License-Identifier: MIT */
/* tidegate dns: what the names of targets mean, and who looks after that. */
#include "ctl/ctl.h"

static const struct out_col cols[] = {
	{"NAME", "name", OUT_TEXT, OUT_SHRINKS},
	{"TARGET", "target", OUT_TEXT, OUT_SHRINKS},
	{"ADDRESSES", "addresses", OUT_TEXT, OUT_SHRINKS},
	{"TTL", "ttl_s", OUT_NUM, 0},
	{"SEEN", "seen", OUT_AGO, OUT_WIDE},
	{"GUARDED FOR", "until", OUT_LEFT, 0},
	{"SESSIONS", "sessions", OUT_NUM, 0},
};

static const struct out_col fields[] = {
	{"steering", "steering", OUT_TEXT, 0},	 {"pid", "pid", OUT_NUM, 0},
	{"restarts", "restarts", OUT_NUM, 0},	 {"servers", "servers", OUT_TEXT, 0},
	{"questions", "questions", OUT_NUM, 0},	 {"addresses", "addresses", OUT_NUM, 0},
	{"log", "log", OUT_TEXT, 0},
};

static int do_list(struct ctl *c, int argc, char **argv)
{
	json_t *list;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 0, 0);

	if (rc == 0)
		rc = client_call(c, TG_CTL_DNS_LIST, NULL, &list);
	if (rc)
		return rc;
	rc = out_list(c, list, cols, ARRAY_SIZE(cols), "no name of a target has an address");
	json_decref(list);
	return rc;
}

static int do_show(struct ctl *c, int argc, char **argv)
{
	json_t *state;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 0, 0);

	if (rc == 0)
		rc = client_call(c, TG_CTL_DNS_SHOW, NULL, &state);
	if (rc)
		return rc;
	rc = out_fields(c, state, fields, ARRAY_SIZE(fields));
	json_decref(state);
	return rc;
}

static const struct ctl_cmd cmds[] = {
	{"list", do_list, "", "names of targets, and the addresses that are guarded for them"},
	{"show", do_show, "", "the resolver that answers agents"},
};

int cmd_dns(struct ctl *c, int argc, char **argv)
{
	return ctl_dispatch(c, "dns", cmds, ARRAY_SIZE(cmds), NULL, argc, argv);
}
