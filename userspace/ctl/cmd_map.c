/* SPDX-License-Identifier: MIT */
/* tidegate map: the pinned maps, by the ids that bpftool shows too. */
#include <errno.h>

#include "base/jsonw.h"
#include "ctl/ctl.h"
#include "kern/kern.h"

enum { OUTPUT_MAX = 256 << 20, DUMP_COLS = 12 };

static int parse(struct ctl *c, const struct buf *text, json_t **ret)
{
	json_error_t err;

	*ret = json_loadb((const char *)buf_data(text), text->n, JSON_DECODE_ANY | JSON_ALLOW_NUL,
			  &err);
	return *ret ? 0 : out_error(c, "failed", NULL, "not JSON: %s", err.text);
}

/* What jsonw wrote: as it is with -j, otherwise parsed and laid out by @cols. */
static int print(struct ctl *c, struct jsonw *w, const struct buf *text, const struct out_col *cols,
		 size_t n, const char *none)
{
	json_t *list;
	int rc;

	if (jsonw_end(w))
		return out_error(c, "failed", NULL, "the output is too large");
	if (c->json)
		return out_json_text(c, buf_slice(text));
	rc = parse(c, text, &list);
	if (rc)
		return rc;
	rc = out_list(c, list, cols, n, none);
	json_decref(list);
	return rc;
}

int pins_describe(struct ctl *c, int argc, char **argv, const char *what,
		  const struct out_col *cols, size_t n)
{
	struct buf text;
	struct jsonw w;
	struct kern *k;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 0, 0);

	if (rc == 0)
		rc = pins_open(c, &k);
	if (rc)
		return rc;
	buf_init(&text, OUTPUT_MAX);
	jsonw_init(&w, &text, c->pretty);
	rc = kern_describe(k, &w, what);
	rc = rc ? out_error(c, rc == -EPERM ? "permission" : "failed", NULL, "%ss: %s", what,
			    strerror(-rc))
		: print(c, &w, &text, cols, n, "none");
	buf_done(&text);
	kern_close(k);
	return rc;
}

static const struct out_col map_cols[] = {
	{"ID", "id", OUT_NUM, 0},
	{"NAME", "name", OUT_TEXT, 0},
	{"TYPE", "type", OUT_TEXT, 0},
	{"KEY", "key_size", OUT_NUM, 0},
	{"VALUE", "value_size", OUT_NUM, 0},
	{"MAX", "max_entries", OUT_NUM, 0},
	{"PINNED", "pinned", OUT_TEXT, OUT_SHRINKS | OUT_OPTIONAL},
};

static int map_list(struct ctl *c, int argc, char **argv)
{
	return pins_describe(c, argc, argv, "map", map_cols, ARRAY_SIZE(map_cols));
}

/* The columns are the members of the first entry that has the most. */
static void dump_text(const json_t *entries)
{
	struct out_col cols[DUMP_COLS] = {0};
	const json_t *e, *widest = NULL, *v;
	const char *key;
	size_t i, n = 0;

	json_array_foreach((json_t *)(uintptr_t)entries, i,
			   e) if (json_object_size(e) > json_object_size(widest)) widest = e;
	json_object_foreach((json_t *)(uintptr_t)widest, key, v)
	{
		if (n == DUMP_COLS)
			break;
		cols[n++] = (struct out_col){.title = key,
					     .key = key,
					     .kind = json_is_number(v) ? OUT_NUM : OUT_TEXT,
					     .flags = json_is_string(v) ? OUT_SHRINKS : 0};
	}
	if (n)
		out_table(entries, cols, n);
	(void)printf("%zu entries\n", json_array_size(entries));
}

static int map_dump(struct ctl *c, int argc, char **argv)
{
	json_t *entries;
	struct buf text;
	struct jsonw w;
	struct kern *k;
	int rc = ctl_args(c, &argc, argv, NULL, 0, 1, 1);

	if (rc == 0)
		rc = pins_open(c, &k);
	if (rc)
		return rc;
	buf_init(&text, OUTPUT_MAX);
	jsonw_init(&w, &text, c->pretty);
	rc = kern_map_dump(k, argv[0], &w);
	if (rc == -ENOENT) {
		rc = out_error(c, "not_found", "`tidegate map list` shows them",
			       "there is no map `%s`", argv[0]);
	} else if (rc) {
		rc = out_error(c, rc == -EPERM ? "permission" : "failed", NULL, "%s: %s", argv[0],
			       strerror(-rc));
	} else if (jsonw_end(&w)) {
		rc = out_error(c, "failed", "bpftool map dump can", "the map is too large to show");
	} else if (c->json) {
		rc = out_json_text(c, buf_slice(&text));
	} else {
		rc = parse(c, &text, &entries);
		if (rc == 0) {
			dump_text(entries);
			json_decref(entries);
		}
	}
	buf_done(&text);
	kern_close(k);
	return rc;
}

static const struct ctl_cmd map_cmds[] = {
	{"list", map_list, "", "the pinned maps"},
	{"dump", map_dump, "NAME", "the entries of a map, decoded"},
};

int cmd_map(struct ctl *c, int argc, char **argv)
{
	return ctl_dispatch(c, "map", map_cmds, ARRAY_SIZE(map_cmds), NULL, argc, argv);
}
