/* SPDX-License-Identifier: MIT */
/*
 * tidegate audit: what operators did, what happened while the daemon was down, what somebody
 * else changed. From the files, so also without a daemon.
 */
#include <errno.h>

#include "base/text.h"
#include "ctl/ctl.h"

enum { LAST_USUAL = 50, LAST_MAX = 1000000, FILES_MAX = 1001, PATH_ROOM = 512 };

/* The last @cap events that fit, oldest at @next. */
struct ring {
	json_t **line;
	size_t cap, n, next;
	const char *event; /* "target.set", or "target" for all of these; NULL: any */
	uint64_t bad;	   /* lines that could not be read */
};

static bool fits(const struct ring *r, const json_t *o)
{
	const char *event = json_string_value(json_object_get(o, "event"));
	size_t n = r->event ? strlen(r->event) : 0;

	if (!r->event)
		return true;
	return event && strncmp(event, r->event, n) == 0 && (event[n] == '\0' || event[n] == '.');
}

static void take(struct ring *r, const char *text, size_t n)
{
	json_t *o = json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL);

	if (!json_is_object(o)) {
		r->bad++;
		json_decref(o);
		return;
	}
	if (!fits(r, o)) {
		json_decref(o);
		return;
	}
	json_decref(r->line[r->next]);
	r->line[r->next] = o;
	r->next = (r->next + 1) % r->cap;
	r->n += r->n < r->cap;
}

/* 0, or negative errno. */
static int read_file(struct ring *r, const char *path)
{
	FILE *f = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;
	ssize_t n;
	int rc;

	if (!f)
		return -errno;
	while ((n = getline(&line, &room, f)) > 0)
		if (n > 1)
			take(r, line, (size_t)n);
	rc = ferror(f) ? -EIO : 0;
	free(line);
	(void)fclose(f); /* was only read */
	return rc;
}

/* The events of one file go in front of those of the newer ones in @all. */
static int prepend(json_t *all, struct ring *r)
{
	int rc = 0;

	for (size_t i = 0; i < r->n; i++) {
		size_t at = (r->next + r->cap - r->n + i) % r->cap;

		rc |= json_array_insert_new(all, i, r->line[at]);
		r->line[at] = NULL;
	}
	return rc ? -ENOMEM : 0;
}

static int read_all(const char *dir, struct ring *r, size_t last, json_t *all)
{
	char path[PATH_ROOM];
	int rc = 0;

	r->line = calloc(last, sizeof(*r->line));
	if (!r->line)
		return -ENOMEM;
	for (unsigned int i = 0; !rc && i < FILES_MAX && json_array_size(all) < last; i++) {
		r->cap = last - json_array_size(all);
		r->n = r->next = 0;
		(void)snprintf(path, sizeof(path), i ? "%s/" TG_AUDIT_FILE ".%u" : "%s/" TG_AUDIT_FILE,
			       dir, i);
		rc = read_file(r, path);
		if (rc == -ENOENT && i > 0) {
			rc = 0; /* that was the oldest */
			break;
		}
		if (!rc)
			rc = prepend(all, r);
	}
	free(r->line);
	return rc;
}

static void print_event(const json_t *o)
{
	const json_t *v;
	const char *key;

	json_object_foreach((json_t *)(uintptr_t)o, key, v)
	{
		if (strcmp(key, "time") == 0 || strcmp(key, "event") == 0) {
			if (*key == 'e')
				(void)putchar(' ');
			out_escaped(slice_of(json_string_value(v), json_string_length(v)));
			continue;
		}
		if (json_is_null(v))
			continue;
		(void)putchar(' ');
		out_escaped(slice_str(key));
		(void)putchar('=');
		out_inline(v);
	}
	(void)putchar('\n');
}

static int print_all(struct ctl *c, const json_t *all, uint64_t bad)
{
	const json_t *o;
	size_t i;

	if (c->json)
		return out_json(c, all);
	json_array_foreach((json_t *)(uintptr_t)all, i, o)
		print_event(o);
	if (json_array_size(all) == 0)
		out_text(c, "nothing is on record\n");
	if (bad)
		(void)fprintf(stderr, "Note: %llu lines are cut short or damaged and not shown\n",
			      (unsigned long long)bad);
	return CTL_OK;
}

static int do_show(struct ctl *c, int argc, char **argv)
{
	const char *last = NULL, *dir = NULL;
	struct ring r = {0};
	uint64_t n = LAST_USUAL;
	const struct ctl_opt opts[] = {
		{.name = "last", .value = &last},
		{.name = "event", .value = &r.event},
	};
	int rc = ctl_args(c, &argc, argv, opts, ARRAY_SIZE(opts), 0, 0);
	json_t *all;

	if (rc)
		return rc;
	if (last && text_parse_u64(slice_str(last), 1, LAST_MAX, &n))
		return out_error(c, "usage", NULL, "--last takes a number from 1 to %d", LAST_MAX);
	dir = conf_state_dir(c);
	all = json_array();
	rc = read_all(dir, &r, n, all);
	if (rc)
		rc = out_error(c,
			       rc == -ENOENT   ? "not_found"
			       : rc == -EACCES ? "permission"
					       : "failed",
			       rc == -ENOENT   ? "tidegated writes it when it starts; -c names the "
						 "configuration that says where"
			       : rc == -EACCES ? "run this as root"
					       : NULL,
			       "%s/" TG_AUDIT_FILE ": %s", dir, strerror(-rc));
	else
		rc = print_all(c, all, r.bad);
	json_decref(all);
	return rc;
}

static const struct ctl_cmd cmds[] = {
	{"show", do_show, "[--last N] [--event EVENT]", "the last 50 events, or N"},
};

int cmd_audit(struct ctl *c, int argc, char **argv)
{
	return ctl_dispatch(c, "audit", cmds, ARRAY_SIZE(cmds), NULL, argc, argv);
}
