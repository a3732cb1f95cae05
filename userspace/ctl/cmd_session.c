/* SPDX-License-Identifier: MIT */
/* tidegate session: the connections through the gate. */
#include "ctl/ctl.h"

static const struct out_col cols[] = {
	{"ID", "id", OUT_TEXT, 0},
	{"AGENT", "agent", OUT_TEXT, OUT_SHRINKS},
	{"TARGET", "target", OUT_TEXT, OUT_SHRINKS},
	{"USER", "user", OUT_TEXT, OUT_SHRINKS | OUT_WIDE},
	{"DATABASE", "database", OUT_TEXT, OUT_SHRINKS | OUT_WIDE},
	{"STATE", "state", OUT_TEXT, 0},
	{"PID", "pid", OUT_NUM, OUT_WIDE},
	{"COMM", "comm", OUT_TEXT, OUT_SHRINKS | OUT_WIDE},
	{"AGE", "since", OUT_AGO, 0},
	{"COMMANDS", "commands", OUT_NUM, OUT_WIDE},
	{"IN", "bytes_in", OUT_BYTES, OUT_WIDE},
	{"OUT", "bytes_out", OUT_BYTES, OUT_WIDE},
};

static const struct out_col fields[] = {
	{"id", "id", OUT_TEXT, 0},
	{"agent", "agent", OUT_TEXT, 0},
	{"target", "target", OUT_TEXT, 0},
	{"user", "user", OUT_TEXT, 0},
	{"login as", "login_as", OUT_TEXT, 0},
	{"database", "database", OUT_TEXT, 0},
	{"state", "state", OUT_TEXT, 0},
	{"held", "held", OUT_TEXT, 0},
	{"grant", "grant", OUT_TEXT, 0},
	{"since", "since", OUT_TIME, 0},
	{"pid", "pid", OUT_TEXT, 0},
	{"comm", "comm", OUT_TEXT, 0},
	{"exe", "exe", OUT_TEXT, 0},
	{"exe inode", "exe_inode", OUT_TEXT, 0},
	{"exe hash", "exe_sha256", OUT_TEXT, 0},
	{"token", "token.claims.sub", OUT_TEXT, 0},
	{"issuer", "token.claims.iss", OUT_TEXT, 0},
	{"token id", "token.sha256", OUT_TEXT, 0},
	{"no token", "token.refused", OUT_TEXT, 0},
	{"cgroup", "cgroup", OUT_TEXT, 0},
	{"container", "container", OUT_TEXT, 0},
	{"runtime", "runtime", OUT_TEXT, 0},
	{"pod", "pod", OUT_TEXT, 0},
	{"image", "image", OUT_TEXT, 0},
	{"netns", "netns_cookie", OUT_TEXT, 0},
	{"worker", "worker", OUT_TEXT, 0},
	{"commands", "commands", OUT_TEXT, 0},
	{"bytes in", "bytes_in", OUT_TEXT, 0},
	{"bytes out", "bytes_out", OUT_TEXT, 0},
};

static int do_list(struct ctl *c, int argc, char **argv)
{
	const char *agent = NULL, *target = NULL;
	const struct ctl_opt opts[] = {
		{.name = "agent", .value = &agent},
		{.name = "target", .value = &target},
	};
	json_t *args, *list;
	int rc = ctl_args(c, &argc, argv, opts, ARRAY_SIZE(opts), 0, 0);

	if (rc)
		return rc;
	args = json_pack("{s:s*, s:s*}", "agent", agent, "target", target);
	rc = client_call(c, TG_CTL_SESSION_LIST, args, &list);
	if (rc)
		return rc;
	rc = out_list(c, list, cols, ARRAY_SIZE(cols), "no sessions");
	json_decref(list);
	return rc;
}

static int do_show(struct ctl *c, int argc, char **argv)
{
	json_t *one;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 1, 1);

	if (rc == 0)
		rc = client_call(c, TG_CTL_SESSION_SHOW, json_pack("{s:s}", "id", argv[0]), &one);
	if (rc)
		return rc;
	rc = out_fields(c, one, fields, ARRAY_SIZE(fields));
	json_decref(one);
	return rc;
}

static bool in(const char *const *list, size_t n, const char *key)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(list[i], key) == 0)
			return true;
	return false;
}

/* Quoted as in JSON: what an agent writes cannot look like another field. */
static void print_fields(const json_t *o, const char *const *but, size_t n)
{
	const json_t *v;
	const char *key;

	json_object_foreach((json_t *)(uintptr_t)o, key, v)
	{
		if (json_is_null(v) || in(but, n, key))
			continue;
		(void)putchar(' ');
		out_escaped(slice_str(key));
		(void)putchar('=');
		out_inline(v);
	}
}

/* time session event, then whatever else the event has, as name=value. */
static int print_event(struct ctl *c, const json_t *event)
{
	static const char *const first[] = {"time", "session", "event", "data"};

	if (c->json)
		return out_json(c, event);
	for (size_t i = 0; i < 3; i++) {
		const json_t *v = json_object_get(event, first[i]);

		(void)fputs(i ? " " : "", stdout);
		out_escaped(v ? slice_of(json_string_value(v), json_string_length(v))
			      : SLICE_LIT("-"));
	}
	print_fields(event, first, ARRAY_SIZE(first));
	print_fields(json_object_get(event, "data"), NULL, 0);
	(void)putchar('\n');
	return ferror(stdout) ? CTL_FAILED : CTL_OK;
}

static int do_follow(struct ctl *c, int argc, char **argv)
{
	int rc = ctl_args(c, &argc, argv, NULL, 0, 0, 1);

	if (rc)
		return rc;
	if (c->batch)
		return out_error(c, "usage", NULL, "`session follow` does not end: not in a batch");
	return client_follow(c, TG_CTL_SESSION_FOLLOW,
			     argc ? json_pack("{s:s}", "id", argv[0]) : NULL, print_event);
}

static int do_kill(struct ctl *c, int argc, char **argv)
{
	json_t *result;
	int rc = ctl_call_id(c, TG_CTL_SESSION_KILL, argc, argv, &result);

	if (rc)
		return rc;
	if (c->json)
		rc = out_json(c, result);
	else
		out_text(c, "%lld ended\n",
			 (long long)json_integer_value(json_object_get(result, "killed")));
	json_decref(result);
	return rc;
}

static const struct ctl_cmd cmds[] = {
	{"list", do_list, "[--agent NAME] [--target NAME]", "live sessions"},
	{"show", do_show, "ID", "one session, with what its inspector knows"},
	{"follow", do_follow, "[ID]", "events as they happen, until Ctrl-C"},
	{"kill", do_kill, "ID [--reason TEXT]", "end a session, in its protocol's words"},
};

int cmd_session(struct ctl *c, int argc, char **argv)
{
	return ctl_dispatch(c, "session", cmds, ARRAY_SIZE(cmds), NULL, argc, argv);
}
