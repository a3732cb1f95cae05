/* SPDX-License-Identifier: MIT */
/* tidegate approval: requests of agents that wait for a person. */
#include "ctl/ctl.h"

#include <errno.h>
#include <unistd.h>

static const struct out_col cols[] = {
	{"ID", "id", OUT_TEXT, 0},
	{"KIND", "kind", OUT_TEXT, 0},
	{"AGENT", "agent", OUT_TEXT, OUT_SHRINKS},
	{"TARGET", "target", OUT_TEXT, OUT_SHRINKS},
	{"WAITS", "since", OUT_AGO, 0},
	{"LEFT", "until", OUT_LEFT, 0},
	{"IN TX", "in_transaction", OUT_TEXT, 0},
	{"APPROVERS", "approvers", OUT_TEXT, OUT_SHRINKS | OUT_OPTIONAL | OUT_WIDE},
	{"TEXT", "text", OUT_TEXT, OUT_SHRINKS | OUT_OPTIONAL},
};

static const struct out_col fields[] = {
	{"id", "id", OUT_TEXT, 0},
	{"kind", "kind", OUT_TEXT, 0},
	{"agent", "agent", OUT_TEXT, 0},
	{"target", "target", OUT_TEXT, 0},
	{"user", "user", OUT_TEXT, 0},
	{"session", "session", OUT_TEXT, 0},
	{"effect", "effect", OUT_TEXT, 0},
	{"rule", "rule", OUT_TEXT, 0},
	{"approvers", "approvers", OUT_TEXT, 0},
	{"approved by", "approved_by", OUT_TEXT, 0},
	{"needed", "min_approvals", OUT_TEXT, 0},
	{"since", "since", OUT_TIME, 0},
	{"until", "until", OUT_TIME, 0},
	{"in transaction", "in_transaction", OUT_TEXT, 0},
	{"digest", "digest", OUT_TEXT, 0},
	{"text", "text", OUT_LINES, 0},
};

enum { WATCH_SECONDS = 1 };

static int print_list(struct ctl *c, const json_t *list)
{
	return out_list(c, list, cols, ARRAY_SIZE(cols), "nothing waits for approval");
}

/* Asks every second; a terminal is redrawn, anything else gets what changed. */
static int watch(struct ctl *c)
{
	const bool terminal = !c->json && isatty(STDOUT_FILENO);
	json_t *last = NULL;
	int rc;

	for (;;) {
		json_t *list;

		rc = client_call(c, TG_CTL_APPROVAL_LIST, NULL, &list);
		if (rc)
			break;
		if (terminal)
			(void)fputs("\033[H\033[2J", stdout);
		if (terminal || !last || !json_equal(list, last))
			rc = print_list(c, list);
		if (!rc && terminal)
			out_text(c, "\ntidegate approval approve ID | deny ID [--reason TEXT]; "
				    "Ctrl-C ends\n");
		json_decref(last);
		last = list;
		if (rc || fflush(stdout) || ferror(stdout)) {
			rc = rc ? rc : CTL_FAILED;
			break;
		}
		(void)sleep(WATCH_SECONDS);
	}
	json_decref(last);
	return rc;
}

static int do_list(struct ctl *c, int argc, char **argv)
{
	bool watching = false;
	const struct ctl_opt opts[] = {{.name = "watch", .flag = &watching}};
	json_t *list;
	int rc = ctl_args(c, &argc, argv, opts, ARRAY_SIZE(opts), 0, 0);

	if (rc)
		return rc;
	if (watching && c->batch)
		return out_error(c, "usage", NULL, "`--watch` does not end: not in a batch");
	if (watching)
		return watch(c);
	rc = client_call(c, TG_CTL_APPROVAL_LIST, NULL, &list);
	if (rc)
		return rc;
	rc = print_list(c, list);
	json_decref(list);
	return rc;
}

static int do_show(struct ctl *c, int argc, char **argv)
{
	json_t *list;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 1, 1);

	if (rc == 0)
		rc = client_call(c, TG_CTL_APPROVAL_LIST, NULL, &list);
	if (rc)
		return rc;
	rc = out_named(c, list, "id", argv[0], fields, ARRAY_SIZE(fields),
		       "it may have been decided or be over; `tidegate approval list` shows "
		       "what waits");
	json_decref(list);
	return rc;
}

/* It may still wait for others. */
static void say_approved(const struct ctl *c, const json_t *a)
{
	size_t have = json_array_size(json_object_get(a, "approved_by"));
	json_int_t need = json_integer_value(json_object_get(a, "min_approvals"));

	if (json_is_false(json_object_get(a, "decided")))
		out_text(c, "counted; %zu of %lld approvals\n", have, (long long)need);
	else
		out_text(c, "approved\n");
}

static int do_approve(struct ctl *c, int argc, char **argv)
{
	const char *reason = NULL;
	uint64_t for_ms = 0;
	const struct ctl_opt opts[] = {
		{.name = "reason", .value = &reason},
		{.name = "for", .duration_ms = &for_ms},
	};
	json_t *args, *result;
	int rc = ctl_args(c, &argc, argv, opts, ARRAY_SIZE(opts), 1, 1);

	if (rc)
		return rc;
	args = json_pack("{s:s, s:s*}", "id", argv[0], "reason", reason);
	if (for_ms)
		(void)json_object_set_new(args, "for_ms", json_integer((json_int_t)for_ms));
	rc = client_call(c, TG_CTL_APPROVAL_APPROVE, args, &result);
	if (rc)
		return rc;
	if (c->json)
		rc = out_json(c, result);
	else
		say_approved(c, result);
	json_decref(result);
	return rc;
}

static int do_deny(struct ctl *c, int argc, char **argv)
{
	json_t *result;
	int rc = ctl_call_id(c, TG_CTL_APPROVAL_DENY, argc, argv, &result);

	if (rc)
		return rc;
	if (c->json)
		rc = out_json(c, result);
	else
		out_text(c, "denied\n");
	json_decref(result);
	return rc;
}

static const struct ctl_cmd cmds[] = {
	{"list", do_list, "[--watch]", "what waits; --watch: until Ctrl-C"},
	{"show", do_show, "ID", "one request, with the whole statement"},
	{"approve", do_approve, "ID [--for TIME] [--reason TEXT]",
	 "let it go on; --for shortens a grant"},
	{"deny", do_deny, "ID [--reason TEXT]", "refuse it; the agent is told the reason"},
};

int cmd_approval(struct ctl *c, int argc, char **argv)
{
	return ctl_dispatch(c, "approval", cmds, ARRAY_SIZE(cmds), NULL, argc, argv);
}
