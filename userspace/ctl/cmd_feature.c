/* SPDX-License-Identifier: MIT */
/* tidegate feature: what this kernel can do for us, and what its gaps leave open. */
#include <errno.h>

#include "base/jsonw.h"
#include "ctl/ctl.h"
#include "kern/kern.h"

enum { OUTPUT_MAX = 1 << 20 };

static const struct out_col cols[] = {
	{"FEATURE", "feature", OUT_TEXT, 0},
	{"HERE", "present", OUT_TEXT, 0},
	{"USED", "used", OUT_TEXT, OUT_WIDE},
	{"SINCE", "since", OUT_TEXT, 0},
	{"WITHOUT IT", "without", OUT_TEXT, OUT_OPTIONAL},
};

static const struct out_col ways[] = {
	{"WAY ROUND", "way", OUT_TEXT, 0},
	{"CLOSED", "present", OUT_TEXT, 0},
	{"BY, OR WHAT IS OPEN", "words", OUT_TEXT, 0},
};

static bool is_way(const json_t *row)
{
	return strncmp(json_string_value(json_object_get(row, "feature")), "closed_", 7) == 0;
}

/* For people only what is missing is explained; ways round the gate come by themselves. */
static int print(struct ctl *c, json_t *list)
{
	json_t *features = json_array(), *open = json_array(), *row;
	size_t i;

	json_array_foreach(list, i, row)
	{
		bool here = json_is_true(json_object_get(row, "present"));

		if (is_way(row)) {
			(void)json_object_set_new(
				row, "way",
				json_string(json_string_value(json_object_get(row, "feature")) +
					    7));
			(void)json_object_set(row, "words",
					      json_object_get(row, here ? "by" : "without"));
		} else if (here) {
			(void)json_object_del(row, "without");
		}
		(void)json_array_append(is_way(row) ? open : features, row);
	}
	i = (size_t)out_list(c, features, cols, ARRAY_SIZE(cols), "nothing was probed");
	(void)putchar('\n');
	if (i == 0)
		i = (size_t)out_list(c, open, ways, ARRAY_SIZE(ways), "");
	json_decref(features);
	json_decref(open);
	return (int)i;
}

static int do_probe(struct ctl *c, int argc, char **argv)
{
	json_error_t err;
	struct buf text;
	struct jsonw w;
	json_t *list;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 0, 0);

	if (rc)
		return rc;
	buf_init(&text, OUTPUT_MAX);
	jsonw_init(&w, &text, c->pretty);
	rc = kern_probe(&w);
	if (rc || jsonw_end(&w)) {
		rc = out_error(c, rc == -EPERM || rc == -EACCES ? "permission" : "failed",
			       "run this as root", "the kernel cannot be asked: %s",
			       strerror(rc ? -rc : EMSGSIZE));
	} else if (c->json) {
		rc = out_json_text(c, buf_slice(&text));
	} else {
		list = json_loadb((const char *)buf_data(&text), text.n, 0, &err);
		rc = list ? print(c, list) : out_error(c, "failed", NULL, "not JSON: %s", err.text);
		json_decref(list);
	}
	buf_done(&text);
	return rc;
}

static const struct ctl_cmd cmds[] = {
	{"probe", do_probe, "", "what the kernel has and lacks, row by row"},
};

int cmd_feature(struct ctl *c, int argc, char **argv)
{
	return ctl_dispatch(c, "feature", cmds, ARRAY_SIZE(cmds), NULL, argc, argv);
}
