/* SPDX-License-Identifier: MIT */
/*
 * `tidegate batch FILE`: a command a line, as one would type it behind
 * `tidegate`. Stops at the first that fails. With -j the output is one array
 * of {"command": [...], "output": ...}.
 */
#include "ctl/ctl.h"

#include <errno.h>

#include "base/jsonw.h"

enum { WORDS_MAX = 64 };

/*
 * Splits @line in place into words: blanks separate, '...' and "..." hold together, a
 * backslash takes the next character as it is, `#` at the start of a word ends the
 * line. The number of words, or -1: a quote is open, -2: too many.
 */
static int split(char *line, char **words)
{
	char *in = line, *out = line;
	int n = 0;

	for (;;) {
		char quote = 0;

		while (*in == ' ' || *in == '\t' || *in == '\n' || *in == '\r')
			in++;
		if (*in == '\0' || *in == '#')
			return n;
		if (n == WORDS_MAX)
			return -2;
		words[n++] = out;
		for (; *in && (quote || !strchr(" \t\r\n", *in)); in++) {
			if (quote ? *in == quote : *in == '\'' || *in == '"') {
				quote = quote ? 0 : *in;
				continue;
			}
			if (*in == '\\' && quote != '\'' && in[1])
				in++;
			*out++ = *in;
		}
		if (quote)
			return -1;
		/* The end of the word may be the blank itself: step over it first. */
		if (*in)
			in++;
		*out++ = '\0';
	}
}

static void json_head(struct ctl *c, char **words, int n, bool first)
{
	json_t *command = json_array();
	char *text;

	for (int i = 0; i < n; i++)
		(void)json_array_append_new(command, json_string(words[i]));
	text = json_dumps(command, JSON_COMPACT);
	(void)printf("%s{\"command\":%s,\"output\":", first ? "" : ",\n", text ? text : "[]");
	free(text);
	json_decref(command);
	c->documents = 0;
}

static int run_line(struct ctl *c, const char *file, unsigned lineno, char *line, unsigned *done)
{
	const bool json = c->json, pretty = c->pretty;
	char *words[WORDS_MAX];
	int n = split(line, words), rc;

	if (n == 0)
		return CTL_OK;
	if (json)
		json_head(c, words, n > 0 ? n : 0, *done == 0);
	if (n < 0)
		rc = out_error(c, "usage", NULL, "%s:%u: %s", file, lineno,
			       n == -1 ? "a quote is not closed" : "too many words");
	else if (strcmp(words[0], "batch") == 0)
		rc = out_error(c, "usage", NULL, "%s:%u: a batch cannot start another", file,
			       lineno);
	else
		rc = ctl_run(c, n, words);
	/* A -j in one line is not for the next. */
	c->json = json;
	c->pretty = pretty;
	if (json)
		(void)printf("%s}", c->documents ? "" : "null");
	++*done;
	if (rc && !json)
		(void)fprintf(stderr, "%s:%u: failed; the lines behind it were not run\n", file,
			      lineno);
	return rc;
}

int cmd_batch(struct ctl *c, int argc, char **argv)
{
	static const struct ctl_cmd cmd = {"FILE", NULL, "", "runs the commands in FILE"};
	unsigned lineno = 0, done = 0;
	char *line = NULL;
	size_t cap = 0;
	FILE *f;
	int rc;

	c->object = "batch";
	c->cmd = &cmd;
	rc = ctl_args(c, &argc, argv, NULL, 0, 1, 1);
	if (rc)
		return rc;
	f = strcmp(argv[0], "-") == 0 ? stdin : fopen(argv[0], "re");
	if (!f)
		return out_error(c, "failed", NULL, "cannot open %s: %s", argv[0], strerror(errno));
	c->batch = true;
	c->batch_array = c->json;
	if (c->json)
		(void)putchar('[');
	while (rc == CTL_OK && getline(&line, &cap, f) >= 0)
		rc = run_line(c, argv[0], ++lineno, line, &done);
	if (c->json)
		(void)puts("]");
	else if (rc == CTL_OK)
		out_text(c, "%u commands done\n", done);
	free(line);
	if (f != stdin)
		(void)fclose(f);
	c->batch = c->batch_array = false;
	return rc;
}
