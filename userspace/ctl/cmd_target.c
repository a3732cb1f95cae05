/* SPDX-License-Identifier: MIT */
/*
 * tidegate target: what is guarded, and how. Goes through the daemon; without it
 * through the pinned maps, and the daemon takes over at its start what was done.
 */
#include "base/text.h"
#include "ctl/ctl.h"

static const struct out_col cols[] = {
	{"ID", "id", OUT_NUM, 0},
	{"NAME", "name", OUT_TEXT, OUT_SHRINKS},
	{"PROTOCOL", "protocol", OUT_TEXT, OUT_WIDE},
	{"MODE", "mode", OUT_TEXT, 0},
	{"SESSIONS", "sessions", OUT_NUM, 0},
	{"ADDRESSES", "addresses", OUT_TEXT, OUT_SHRINKS | OUT_WIDE},
	{"BY", "off.by", OUT_TEXT, OUT_OPTIONAL},
	{"SINCE", "off.since", OUT_AGO, OUT_OPTIONAL},
	{"ENDS IN", "off.until", OUT_LEFT, OUT_OPTIONAL},
	{"REASON", "off.reason", OUT_TEXT, OUT_SHRINKS | OUT_OPTIONAL},
};

static const struct out_col fields[] = {
	{"id", "id", OUT_TEXT, 0},
	{"name", "name", OUT_TEXT, 0},
	{"protocol", "protocol", OUT_TEXT, 0},
	{"mode", "mode", OUT_TEXT, 0},
	{"configured", "configured_mode", OUT_TEXT, 0},
	{"addresses", "addresses", OUT_TEXT, 0},
	{"credential", "credential", OUT_TEXT, 0},
	{"tls", "tls", OUT_TEXT, 0},
	{"sessions", "sessions", OUT_TEXT, 0},
	{"switched by", "off.by", OUT_TEXT, 0},
	{"since", "off.since", OUT_TIME, 0},
	{"until", "off.until", OUT_TIME, 0},
	{"because", "off.reason", OUT_TEXT, 0},
};

/* From the daemon or, without one, from the maps. */
static int targets(struct ctl *c, json_t **ret)
{
	int there = client_present(c);

	if (there == 0)
		return pins_targets(c, ret);
	return client_call(c, TG_CTL_TARGET_LIST, NULL, ret);
}

static int do_list(struct ctl *c, int argc, char **argv)
{
	json_t *list;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 0, 0);

	if (rc == 0)
		rc = targets(c, &list);
	if (rc)
		return rc;
	rc = out_list(c, list, cols, ARRAY_SIZE(cols),
		      "no targets: add some under targets: in the configuration");
	json_decref(list);
	return rc;
}

static int do_show(struct ctl *c, int argc, char **argv)
{
	json_t *list;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 1, 1);

	if (rc == 0)
		rc = targets(c, &list);
	if (rc)
		return rc;
	rc = out_named(c, list, "name", argv[0], fields, ARRAY_SIZE(fields), NULL);
	json_decref(list);
	return rc;
}

static const char *text(const json_t *o, const char *key, char *dst, size_t cap)
{
	const json_t *v = json_object_get(o, key);

	(void)out_escape(slice_of(json_string_value(v), json_string_length(v)), dst, cap);
	return dst;
}

static void say_mode(const struct ctl *c, const json_t *t, bool down)
{
	char name[256], mode[32], until[40] = "";
	const json_t *off = json_object_get(t, "off");

	(void)text(t, "name", name, sizeof(name));
	(void)text(t, "mode", mode, sizeof(mode));
	(void)text(off, "until", until, sizeof(until));
	if (strcmp(mode, "off") == 0)
		out_text(c,
			 "%s is off: agents reach it UNGUARDED%s%s; `tidegate target reset %s` "
			 "ends that\n",
			 name, *until ? " until " : "", until, name);
	else
		out_text(c, "%s: %s\n", name, mode);
	if (down)
		out_text(c, "The daemon is down: it takes this over, and records it, when it "
			    "starts.\n");
}

static int set(struct ctl *c, const char *name, const char *mode, const char *reason,
	       uint64_t for_ms)
{
	const struct pins_switch s = {
		.name = name, .mode = mode, .reason = reason, .for_ms = for_ms};
	json_t *args, *target;
	int there = client_present(c), rc;

	if (there == 0) {
		rc = pins_switch(c, &s, &target);
	} else {
		args = json_pack("{s:s, s:s, s:s*}", "name", name, "mode", mode, "reason", reason);
		if (for_ms)
			(void)json_object_set_new(args, "for_ms", json_integer((json_int_t)for_ms));
		rc = client_call(c, TG_CTL_TARGET_SET, args, &target);
	}
	if (rc)
		return rc;
	if (c->json)
		rc = out_json(c, target);
	else if (!json_is_string(json_object_get(target, "mode")))
		rc = out_error(c, "bad_answer", NULL, "the mode that %s has now is not known",
			       name);
	else
		say_mode(c, target, there == 0);
	json_decref(target);
	return rc;
}

/* @mode NULL: the second word. */
static int change(struct ctl *c, int argc, char **argv, const char *mode)
{
	static const char *const modes[] = {"steer", "block", "observe", "off", "reset"};
	const char *reason = NULL;
	uint64_t for_ms = 0;
	const struct ctl_opt opts[] = {
		{.name = "reason", .value = &reason},
		{.name = "for", .duration_ms = &for_ms},
	};
	int rc = ctl_args(c, &argc, argv, opts, ARRAY_SIZE(opts), mode ? 1 : 2, mode ? 1 : 2);
	bool known = false;

	if (rc)
		return rc;
	if (!mode)
		mode = argv[1];
	for (size_t i = 0; i < ARRAY_SIZE(modes); i++)
		known = known || strcmp(modes[i], mode) == 0;
	if (!known)
		return out_error(c, "usage", "one of steer, block, observe, off, reset",
				 "there is no mode `%s`", mode);
	if (strcmp(mode, "off") == 0 && (!reason || !*reason))
		return out_error(
			c, "usage",
			"tidegate target disable NAME --reason \"incident 4711\" "
			"--for 30m",
			"switching a target off leaves it unguarded and needs --reason TEXT");
	if (strcmp(mode, "off") != 0 && for_ms)
		return out_error(c, "usage", NULL, "--for is for off; `%s` stays until it is reset",
				 mode);
	return set(c, argv[0], mode, reason, for_ms);
}

static int do_set(struct ctl *c, int argc, char **argv)
{
	return change(c, argc, argv, NULL);
}

static int do_enable(struct ctl *c, int argc, char **argv)
{
	return change(c, argc, argv, "steer");
}

static int do_disable(struct ctl *c, int argc, char **argv)
{
	return change(c, argc, argv, "off");
}

static int do_block(struct ctl *c, int argc, char **argv)
{
	return change(c, argc, argv, "block");
}

static int do_observe(struct ctl *c, int argc, char **argv)
{
	return change(c, argc, argv, "observe");
}

static int do_reset(struct ctl *c, int argc, char **argv)
{
	return change(c, argc, argv, "reset");
}

static int address(struct ctl *c, int argc, char **argv, bool add)
{
	char name[256], where[256];
	json_t *result;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 2, 2);

	if (rc == 0)
		rc = pins_address(c, argv[0], argv[1], add);
	if (rc)
		return rc;
	(void)out_escape(slice_str(argv[0]), name, sizeof(name));
	(void)out_escape(slice_str(argv[1]), where, sizeof(where));
	if (add)
		out_text(c, "%s is guarded as %s until the daemon starts again or reloads\n", where,
			 name);
	else
		out_text(c, "%s is no longer guarded as %s\n", where, name);
	if (!c->json)
		return CTL_OK;
	result = json_pack("{s:s, s:s, s:b}", "name", argv[0], "address", argv[1], "guarded", add);
	rc = out_json(c, result);
	json_decref(result);
	return rc;
}

static int do_add(struct ctl *c, int argc, char **argv)
{
	return address(c, argc, argv, true);
}

static int do_delete(struct ctl *c, int argc, char **argv)
{
	return address(c, argc, argv, false);
}

static const struct ctl_cmd cmds[] = {
	{"list", do_list, "", "all targets and how they are guarded"},
	{"show", do_show, "NAME", "one target"},
	{"enable", do_enable, "NAME", "guard it (mode steer)"},
	{"disable", do_disable, "NAME --reason TEXT [--for TIME]",
	 "let agents through UNGUARDED (mode off)"},
	{"block", do_block, "NAME [--reason TEXT]", "refuse all agents"},
	{"observe", do_observe, "NAME [--reason TEXT]", "decide and record, but let through"},
	{"reset", do_reset, "NAME", "back to the configuration"},
	{"set", do_set, "NAME MODE [--reason TEXT] [--for TIME]",
	 "MODE: steer, block, observe, off or reset"},
	{"add", do_add, "NAME ADDRESS:PORT", "guard one more address until a reload"},
	{"delete", do_delete, "NAME ADDRESS:PORT", "undo an `add`"},
};

static const char more[] =
	"A mode is kept over a reload and a restart until it is reset. With the daemon down the\n"
	"pinned maps are changed, and the daemon takes that over when it starts.\n";

int cmd_target(struct ctl *c, int argc, char **argv)
{
	return ctl_dispatch(c, "target", cmds, ARRAY_SIZE(cmds), more, argc, argv);
}
