/* SPDX-License-Identifier: MIT */
/* tidegate policy: the configuration and what it decides. */
#include <errno.h>

#include "base/jsonw.h"
#include "config/cfgfiles.h"
#include "config/config.h"
#include "ctl/ctl.h"
#include "ctl/judge.h"
#include "policy/policy.h"

enum { ERRORS_MAX = 65536 };

/* The lines of @error as an array of strings. */
static json_t *lines(const struct buf *error)
{
	struct slice s = buf_slice(error);
	json_t *list = json_array();

	while (s.n) {
		const uint8_t *nl = memchr(s.p, '\n', s.n);
		size_t n = nl ? (size_t)(nl - s.p) : s.n;
		json_t *line = json_stringn((const char *)s.p, n);

		if (n)
			(void)json_array_append_new(list, line ? line : json_string("not UTF-8"));
		s = slice_from(s, n + (nl != NULL));
	}
	return list;
}

static int say_valid(struct ctl *c, const char *path, const struct config *conf)
{
	json_t *o;
	int rc;

	if (!c->json) {
		out_text(c, "%s: valid; %u agents, %u targets\npolicy %s\n", path, conf->nagents,
			 conf->ntargets, policy_digest(conf->policy));
		return CTL_OK;
	}
	o = json_pack("{s:s, s:b, s:s, s:i, s:i}", "file", path, "valid", 1, "digest",
		      policy_digest(conf->policy), "agents", (int)conf->nagents, "targets",
		      (int)conf->ntargets);
	rc = out_json(c, o);
	json_decref(o);
	return rc;
}

/* A wrong file is a result of the check, not an error of the program; exit status 1. */
static int say_invalid(struct ctl *c, const char *path, int err, const struct buf *error)
{
	json_t *list = lines(error), *v, *o;
	size_t i;

	if (json_array_size(list) == 0)
		(void)json_array_append_new(list, json_sprintf("%s: %s", path, strerror(-err)));
	if (c->json) {
		o = json_pack("{s:s, s:b, s:o}", "file", path, "valid", 0, "errors", list);
		(void)out_json(c, o);
		json_decref(o);
		return CTL_FAILED;
	}
	json_array_foreach(list, i, v)
	{
		char text[1024];

		(void)out_escape(slice_str(json_string_value(v)), text, sizeof(text));
		(void)fprintf(stderr, "%s\n", text);
	}
	(void)fprintf(stderr, "Error: %zu found in %s\n", i, path);
	json_decref(list);
	return CTL_FAILED;
}

static int do_check(struct ctl *c, int argc, char **argv)
{
	struct config *conf = NULL;
	const char *path;
	struct buf error;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 0, 1);

	if (rc)
		return rc;
	path = argc ? argv[0] : conf_path(c);
	buf_init(&error, ERRORS_MAX);
	rc = config_load(path, &conf, &error);
	if (!rc && config_check_files(conf, &error)) {
		config_free(conf);
		rc = -EINVAL;
	}
	rc = rc ? say_invalid(c, path, rc, &error) : say_valid(c, path, conf);
	config_free(rc ? NULL : conf);
	buf_done(&error);
	return rc;
}

/* Is what the daemon has loaded also what its file says now? */
static const char *on_disk(const json_t *loaded)
{
	const char *digest = json_string_value(json_object_get(loaded, "digest"));
	const char *file = json_string_value(json_object_get(loaded, "file"));
	const char *state = "cannot be read, or is not valid: see `tidegate policy check`";
	struct config *conf = NULL;
	struct buf error;

	buf_init(&error, ERRORS_MAX);
	if (file && digest && config_load(file, &conf, &error) == 0) {
		state = strcmp(policy_digest(conf->policy), digest) == 0
				? "the same"
				: "changed: see `tidegate policy reload`";
		config_free(conf);
	}
	buf_done(&error);
	return state;
}

static int do_show(struct ctl *c, int argc, char **argv)
{
	static const struct out_col cols[] = {
		{"file", "file", OUT_TEXT, 0},
		{"digest", "digest", OUT_TEXT, 0},
		{"loaded", "loaded", OUT_TIME, 0},
		{"on disk", "on_disk", OUT_TEXT, 0},
	};
	json_t *o;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 0, 0);

	if (rc == 0)
		rc = client_call(c, TG_CTL_POLICY_SHOW, NULL, &o);
	if (rc)
		return rc;
	if (json_is_object(o))
		(void)json_object_set_new(o, "on_disk", json_string(on_disk(o)));
	rc = out_fields(c, o, cols, ARRAY_SIZE(cols));
	json_decref(o);
	return rc;
}

/* What of the file is not in effect, a line each. */
static void print_pending(const json_t *list)
{
	const json_t *e;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)list, i, e)
	{
		const char *text = json_string_value(json_object_get(e, "text"));

		(void)fputs("not in effect: ", stdout);
		out_escaped(slice_str(text));
		(void)putchar('\n');
	}
}

int policy_reload(struct ctl *c, int argc, char **argv)
{
	const char *digest;
	json_t *o;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 0, 0);

	if (rc == 0)
		rc = client_call(c, TG_CTL_POLICY_RELOAD, NULL, &o);
	if (rc)
		return rc;
	digest = json_string_value(json_object_get(o, "digest"));
	if (c->json)
		rc = out_json(c, o);
	else
		out_text(c, "%s; policy %s\n",
			 json_is_true(json_object_get(o, "changed")) ? "reloaded"
								     : "nothing changed",
			 digest ? digest : "-");
	if (!c->json)
		print_pending(json_object_get(o, "pending"));
	json_decref(o);
	return rc;
}

/* Of --fact and --claim. */
static int take_facts(struct ctl *c, const struct ctl_words *w, bool claims, struct known *k)
{
	for (size_t i = 0; i < w->n; i++) {
		const char *eq = strchr(w->list[i], '=');
		const char *why = eq ? known_add(k, claims,
						 slice_of(w->list[i], (size_t)(eq - w->list[i])),
						 slice_str(eq + 1))
				     : "write NAME=VALUE";

		if (why)
			return out_error(c, "usage", NULL, "--%s %s: %s", claims ? "claim" : "fact",
					 w->list[i], why);
	}
	return CTL_OK;
}

static int args_with_facts(struct ctl *c, int *argc, char **argv, int n, struct known *ret)
{
	struct ctl_words facts = {.n = 0}, claims = {.n = 0};
	const struct ctl_opt opts[] = {
		{.name = "fact", .words = &facts},
		{.name = "claim", .words = &claims},
	};
	int rc = ctl_args(c, argc, argv, opts, ARRAY_SIZE(opts), n, n);

	*ret = (struct known){.n = 0};
	if (rc == 0)
		rc = take_facts(c, &facts, false, ret);
	return rc ? rc : take_facts(c, &claims, true, ret);
}

static int do_test(struct ctl *c, int argc, char **argv)
{
	struct known known;
	int rc = args_with_facts(c, &argc, argv, 1, &known);

	return rc ? rc : judge_cases(c, argv[0], &known);
}

static int do_explain(struct ctl *c, int argc, char **argv)
{
	struct known known;
	int rc = args_with_facts(c, &argc, argv, 3, &known);

	return rc ? rc : judge_explain(c, argv[0], argv[1], argv[2], &known);
}

static const struct ctl_cmd cmds[] = {
	{"show", do_show, "", "the policy the daemon has loaded"},
	{"check", do_check, "[FILE]", "is the configuration valid? prints all errors"},
	{"explain", do_explain, "[--fact K=V] [--claim K=V] AGENT TARGET SQL", "what would be decided, and by which rule"},
	{"test", do_test, "[--fact K=V] [--claim K=V] FILE", "run a file of cases, see tidegate(8)"},
	{"reload", policy_reload, "", "make the daemon read its configuration again"},
};

int cmd_policy(struct ctl *c, int argc, char **argv)
{
	return ctl_dispatch(c, "policy", cmds, ARRAY_SIZE(cmds), NULL, argc, argv);
}
