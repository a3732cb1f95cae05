/* SPDX-License-Identifier: MIT */
/* Tables of commands: which one is meant, its options and arguments, help. */
#include "ctl/ctl.h"

#include "base/jsonw.h"
#include "base/text.h"

enum { HELP_COLUMN = 40, NAMES_TEXT = 256 };

/* @exact wins; else the only one that @word is a prefix of. NULL: *ret_fits has how many. */
static const struct ctl_cmd *find(const struct ctl_cmd *cmds, size_t n, const char *word,
				  unsigned *ret_fits)
{
	const struct ctl_cmd *found = NULL;
	unsigned fits = 0;

	for (size_t i = 0; i < n; i++) {
		if (strcmp(cmds[i].name, word) == 0)
			return &cmds[i];
		if (strncmp(cmds[i].name, word, strlen(word)) == 0) {
			found = &cmds[i];
			fits++;
		}
	}
	*ret_fits = fits;
	return fits == 1 ? found : NULL;
}

/* Names that @word is a prefix of (all, if none), joined for a message. */
static void names(const struct ctl_cmd *cmds, size_t n, const char *word, char *dst, size_t cap)
{
	size_t o = 0;

	dst[0] = '\0';
	for (size_t i = 0; i < n && o < cap; i++) {
		if (strncmp(cmds[i].name, word, strlen(word)) != 0)
			continue;
		o += (size_t)snprintf(dst + o, cap - o, "%s%s", o ? ", " : "", cmds[i].name);
	}
}

static int help_json(struct ctl *c, const char *object, const struct ctl_cmd *cmds, size_t n)
{
	struct buf out;
	struct jsonw w;
	int rc = CTL_FAILED;

	buf_init(&out, 65536);
	jsonw_init(&w, &out, c->pretty);
	jsonw_object(&w);
	jsonw_kv_string(&w, "object", object);
	jsonw_name(&w, "commands");
	jsonw_array(&w);
	for (size_t i = 0; i < n; i++) {
		jsonw_object(&w);
		jsonw_kv_string(&w, "name", cmds[i].name);
		jsonw_kv_string(&w, "args", cmds[i].args);
		jsonw_kv_string(&w, "help", cmds[i].help);
		jsonw_object_end(&w);
	}
	jsonw_array_end(&w);
	jsonw_object_end(&w);
	if (jsonw_end(&w) == 0)
		rc = out_json_text(c, buf_slice(&out));
	buf_done(&out);
	return rc;
}

static int help(struct ctl *c, const char *object, const struct ctl_cmd *cmds, size_t n,
		const char *more)
{
	if (c->json)
		return help_json(c, object, cmds, n);
	out_text(c, "Usage: tidegate [OPTIONS] %s COMMAND [ARGUMENTS]\n\n", object);
	for (size_t i = 0; i < n; i++) {
		int at = printf("  %s%s%s", cmds[i].name, *cmds[i].args ? " " : "", cmds[i].args);

		if (at >= HELP_COLUMN) {
			(void)putchar('\n');
			at = 0;
		}
		(void)printf("%*s%s\n", HELP_COLUMN - at, "", cmds[i].help);
	}
	if (more)
		out_text(c, "\n%s", more);
	return CTL_OK;
}

static int no_such(struct ctl *c, const char *object, const struct ctl_cmd *cmds, size_t n,
		   const char *word, bool several)
{
	char list[NAMES_TEXT], hint[64];

	names(cmds, n, several ? word : "", list, sizeof(list));
	(void)snprintf(hint, sizeof(hint), "see `tidegate %s%shelp`", object ? object : "",
		       object ? " " : "");
	if (several)
		return out_error(c, "usage", hint, "`%s` could be: %s", word, list);
	if (object)
		return out_error(c, "usage", hint, "%s has no command `%s`; it has: %s", object,
				 word, list);
	return out_error(c, "usage", hint, "there is no object `%s`; there are: %s", word, list);
}

static bool asks_help(int argc, char **argv)
{
	for (int i = 0; i < argc && i < 2; i++)
		if (strcmp(argv[i], "-h") == 0 || strcmp(argv[i], "--help") == 0)
			return true;
	return argc && strcmp(argv[0], "help") == 0;
}

int ctl_dispatch(struct ctl *c, const char *object, const struct ctl_cmd *cmds, size_t n,
		 const char *more, int argc, char **argv)
{
	const struct ctl_cmd *cmd = &cmds[0];
	unsigned fits = 0;

	c->object = object;
	c->cmd = cmd;
	if (object && asks_help(argc, argv))
		return help(c, object, cmds, n, more);
	/* `tidegate session --agent a`: options belong to the first command. */
	if (argc == 0 || (object && argv[0][0] == '-'))
		return cmd->run(c, argc, argv);
	cmd = find(cmds, n, argv[0], &fits);
	if (!cmd)
		return no_such(c, object, cmds, n, argv[0], fits > 1);
	c->cmd = cmd;
	return cmd->run(c, argc - 1, argv + 1);
}

static int usage(struct ctl *c, const char *what, const char *word)
{
	char hint[256];

	(void)snprintf(hint, sizeof(hint), "tidegate %s%s%s%s%s", c->object,
		       *c->cmd->name ? " " : "", c->cmd->name, *c->cmd->args ? " " : "",
		       c->cmd->args);
	return out_error(c, "usage", hint, "%s%s%s", what, word ? ": " : "", word ? word : "");
}

static bool global_flag(struct ctl *c, const char *word)
{
	if (strcmp(word, "-j") == 0 || strcmp(word, "--json") == 0) {
		c->json = true;
	} else if (strcmp(word, "-p") == 0 || strcmp(word, "--pretty") == 0) {
		c->json = c->pretty = true;
	} else if (strcmp(word, "-jp") == 0 || strcmp(word, "-pj") == 0) {
		c->json = c->pretty = true;
	} else {
		return false;
	}
	return true;
}

static const struct ctl_opt *option(const struct ctl_opt *opts, size_t n, const char *word,
				    size_t len)
{
	for (size_t i = 0; i < n; i++)
		if (strlen(opts[i].name) == len && memcmp(opts[i].name, word, len) == 0)
			return &opts[i];
	return NULL;
}

/* One option at argv[*i]; moves *i over its value. 0 or CTL_USAGE. */
static int take(struct ctl *c, const struct ctl_opt *opts, size_t nopts, int argc, char **argv,
		int *i)
{
	const char *word = argv[*i], *eq = strchr(word, '='), *value;
	size_t len = eq ? (size_t)(eq - word) : strlen(word);
	const struct ctl_opt *o = NULL;

	if (len > 2 && word[1] == '-')
		o = option(opts, nopts, word + 2, len - 2);
	if (!o)
		return usage(c, "unknown option", word);
	if (o->flag) {
		if (eq)
			return usage(c, "takes no value", word);
		*o->flag = true;
		return 0;
	}
	if (!eq && *i + 1 >= argc)
		return usage(c, "a value is missing", word);
	value = eq ? eq + 1 : argv[++*i];
	if (o->words && o->words->n == ARRAY_SIZE(o->words->list))
		return usage(c, "given too often", word);
	if (o->words)
		o->words->list[o->words->n++] = value;
	else if (o->value)
		*o->value = value;
	else if (text_parse_duration(slice_str(value), o->duration_ms) || *o->duration_ms == 0)
		return usage(c, "not a duration such as 90s, 30m, 8h or 1d", value);
	return 0;
}

static bool is_utf8(const char *word)
{
	struct slice s = slice_str(word);

	while (s.n) {
		size_t n = utf8_length(s);

		if (n == 0)
			return false;
		s = slice_from(s, n);
	}
	return true;
}

int ctl_args(struct ctl *c, int *argc, char **argv, const struct ctl_opt *opts, size_t nopts,
	     int min, int max)
{
	bool options = true;
	int left = 0;

	for (int i = 0; i < *argc; i++) {
		int rc;

		/* JSON could not carry it, and must not silently go without. */
		if (!is_utf8(argv[i]))
			return usage(c, "not valid UTF-8", argv[i]);
		if (options && strcmp(argv[i], "--") == 0) {
			options = false;
			continue;
		}
		if (!options || argv[i][0] != '-' || argv[i][1] == '\0') {
			argv[left++] = argv[i];
			continue;
		}
		if (global_flag(c, argv[i]))
			continue;
		rc = take(c, opts, nopts, *argc, argv, &i);
		if (rc)
			return rc;
	}
	*argc = left;
	if (left < min)
		return usage(c, "an argument is missing", NULL);
	if (max >= 0 && left > max)
		return usage(c, "too many arguments", argv[max]);
	return 0;
}

int ctl_call_id(struct ctl *c, enum tg_ctl_op op, int argc, char **argv, json_t **ret)
{
	const char *reason = NULL;
	const struct ctl_opt opts[] = {{.name = "reason", .value = &reason}};
	int rc = ctl_args(c, &argc, argv, opts, ARRAY_SIZE(opts), 1, 1);

	if (rc)
		return rc;
	return client_call(c, op, json_pack("{s:s, s:s*}", "id", argv[0], "reason", reason), ret);
}
