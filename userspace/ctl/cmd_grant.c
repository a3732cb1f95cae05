/* SPDX-License-Identifier: MIT */
/* tidegate grant: approved access, and the break-glass way to it. */
#include "ctl/ctl.h"

static const struct out_col cols[] = {
	{"ID", "id", OUT_TEXT, 0},
	{"AGENT", "agent", OUT_TEXT, OUT_SHRINKS},
	{"TARGET", "target", OUT_TEXT, OUT_SHRINKS},
	{"SCOPE", "scope", OUT_TEXT, OUT_SHRINKS | OUT_OPTIONAL},
	{"VIA", "via", OUT_TEXT, 0},
	{"BY", "by", OUT_TEXT, OUT_SHRINKS},
	{"ENDS IN", "until", OUT_LEFT, 0},
	{"SESSIONS", "sessions", OUT_NUM, 0},
	{"ROLE", "role", OUT_TEXT, OUT_OPTIONAL | OUT_WIDE},
	{"REASON", "reason", OUT_TEXT, OUT_SHRINKS | OUT_OPTIONAL},
};

static const struct out_col fields[] = {
	{"id", "id", OUT_TEXT, 0},	   {"agent", "agent", OUT_TEXT, 0},
	{"target", "target", OUT_TEXT, 0}, {"scope", "scope", OUT_TEXT, 0},
	{"via", "via", OUT_TEXT, 0},	   {"by", "by", OUT_TEXT, 0},
	{"since", "since", OUT_TIME, 0},   {"until", "until", OUT_TIME, 0},
	{"role", "role", OUT_TEXT, OUT_OPTIONAL},
};

static int do_list(struct ctl *c, int argc, char **argv)
{
	json_t *list;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 0, 0);

	if (rc == 0)
		rc = client_call(c, TG_CTL_GRANT_LIST, NULL, &list);
	if (rc)
		return rc;
	rc = out_list(c, list, cols, ARRAY_SIZE(cols), "no grants");
	json_decref(list);
	return rc;
}

static int do_show(struct ctl *c, int argc, char **argv)
{
	json_t *list;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 1, 1);

	if (rc == 0)
		rc = client_call(c, TG_CTL_GRANT_LIST, NULL, &list);
	if (rc)
		return rc;
	rc = out_named(c, list, "id", argv[0], fields, ARRAY_SIZE(fields), NULL);
	json_decref(list);
	return rc;
}

static int do_create(struct ctl *c, int argc, char **argv)
{
	const char *reason = NULL;
	uint64_t for_ms = 0;
	const struct ctl_opt opts[] = {
		{.name = "reason", .value = &reason},
		{.name = "for", .duration_ms = &for_ms},
	};
	json_t *grant;
	int rc = ctl_args(c, &argc, argv, opts, ARRAY_SIZE(opts), 2, 2);

	if (rc)
		return rc;
	if (for_ms == 0 || !reason || !*reason)
		return out_error(
			c, "usage",
			"tidegate grant create AGENT TARGET --for 30m --reason "
			"\"incident 4711\"",
			"a grant needs %s: it goes round the approver, and that is recorded",
			for_ms == 0 ? "--for TIME" : "--reason TEXT");
	rc = client_call(c, TG_CTL_GRANT_CREATE,
			 json_pack("{s:s, s:s, s:I, s:s}", "agent", argv[0], "target", argv[1],
				   "for_ms", (json_int_t)for_ms, "reason", reason),
			 &grant);
	if (rc)
		return rc;
	rc = out_fields(c, grant, fields, ARRAY_SIZE(fields));
	json_decref(grant);
	return rc;
}

static int do_revoke(struct ctl *c, int argc, char **argv)
{
	json_t *result;
	int rc = ctl_call_id(c, TG_CTL_GRANT_REVOKE, argc, argv, &result);

	if (rc)
		return rc;
	if (c->json)
		rc = out_json(c, result);
	else
		out_text(c, "revoked; %lld sessions ended\n",
			 (long long)json_integer_value(json_object_get(result, "sessions")));
	json_decref(result);
	return rc;
}

static const struct ctl_cmd cmds[] = {
	{"list", do_list, "", "grants that have not ended"},
	{"show", do_show, "ID", "one grant"},
	{"create", do_create, "AGENT TARGET --for TIME --reason TEXT",
	 "break glass: access without the approver (root)"},
	{"revoke", do_revoke, "ID [--reason TEXT]", "end a grant and its sessions, now"},
};

int cmd_grant(struct ctl *c, int argc, char **argv)
{
	return ctl_dispatch(c, "grant", cmds, ARRAY_SIZE(cmds), NULL, argc, argv);
}
