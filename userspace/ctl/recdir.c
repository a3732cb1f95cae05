/* SPDX-License-Identifier: MIT */
#include "ctl/recdir.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <strings.h>
#include <unistd.h>

#include "base/text.h"
#include "config/config.h"
#include "ctl/ctl.h"
#include "tidegate_rec.h"

#define USUAL_DIR "/var/lib/tidegate/recordings"
enum { SUFFIX = sizeof(TG_REC_SUFFIX) - 1 };

const char *recdir_path(struct ctl *c, const char *dir)
{
	const struct config *conf = dir ? NULL : conf_try(c);

	if (dir)
		return dir;
	return conf ? conf->record_dir : USUAL_DIR;
}

static int cannot(struct ctl *c, const char *path, int error)
{
	bool denied = error == EACCES || error == EPERM;

	return out_error(c,
			 denied		   ? "permission"
			 : error == ENOENT ? "not_found"
					   : "failed",
			 denied ? "recordings are readable by root only" : NULL, "%s: %s", path,
			 strerror(error));
}

/* -------------------------------------------------------------- the folder */

static bool is_recording(const char *name)
{
	size_t n = strlen(name);

	return n > SUFFIX && strcmp(name + n - SUFFIX, TG_REC_SUFFIX) == 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

void recdir_list_free(char **names, size_t n)
{
	for (size_t i = 0; i < n; i++)
		free(names[i]);
	free(names);
}

static int add_name(char ***names, size_t *n, const char *name)
{
	char **more = *n & (*n + 1) ? *names : realloc(*names, (2 * *n + 2) * sizeof(**names));

	if (!more)
		return -ENOMEM;
	*names = more;
	more[*n] = strdup(name);
	if (!more[*n])
		return -ENOMEM;
	(*n)++;
	return 0;
}

int recdir_list(struct ctl *c, const char *dir, char ***ret_names, size_t *ret_n)
{
	DIR *d = opendir(dir);
	char **names = NULL;
	struct dirent *e;
	size_t n = 0;
	int err = 0;

	if (!d)
		return cannot(c, dir, errno);
	while (!err && (e = readdir(d)))
		if (is_recording(e->d_name))
			err = add_name(&names, &n, e->d_name);
	(void)closedir(d);
	if (err) {
		recdir_list_free(names, n);
		return out_error(c, "failed", NULL, "out of memory");
	}
	/* Version 7 identifiers sort by the time they were made. */
	if (n)
		qsort(names, n, sizeof(*names), by_name);
	*ret_names = names;
	*ret_n = n;
	return 0;
}

/* Does @word name the session of file @name: wholly, or its beginning or end? */
static bool fits(const char *name, const char *word)
{
	size_t n = strlen(name) - SUFFIX, w = strlen(word);

	return w && w <= n &&
	       (strncasecmp(name, word, w) == 0 || strncasecmp(name + n - w, word, w) == 0);
}

static int find(struct ctl *c, const char *dir, const char *word, char **ret_path)
{
	char **names, *path = NULL;
	const char *found = NULL;
	size_t n, matches = 0;
	int rc = recdir_list(c, dir, &names, &n);

	if (rc)
		return rc;
	for (size_t i = 0; i < n; i++)
		if (fits(names[i], word)) {
			found = names[i];
			matches++;
		}
	if (matches == 1 && asprintf(&path, "%s/%s", dir, found) < 0)
		path = NULL;
	recdir_list_free(names, n);
	if (matches == 0)
		return out_error(c, "not_found", "see `tidegate recording list`",
				 "no recording `%s` in %s", word, dir);
	if (matches > 1)
		return out_error(c, "ambiguous", "give more of the identifier",
				 "`%s` fits %zu recordings", word, matches);
	if (!path)
		return out_error(c, "failed", NULL, "out of memory");
	*ret_path = path;
	return 0;
}

int recdir_open(struct ctl *c, const char *dir, const char *word, int *ret_fd, char **ret_name)
{
	char *path = NULL;
	int fd, rc = 0;

	if (strchr(word, '/') || is_recording(word)) {
		path = strdup(word);
		if (!path)
			return out_error(c, "failed", NULL, "out of memory");
	} else {
		rc = find(c, recdir_path(c, dir), word, &path);
	}
	if (rc)
		return rc;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0) {
		rc = cannot(c, path, errno);
		free(path);
		return rc;
	}
	*ret_fd = fd;
	*ret_name = path;
	return 0;
}

int recdir_reader(struct ctl *c, const char *dir, const char *word, struct reader **ret,
		  char **ret_name)
{
	int fd, err, rc = recdir_open(c, dir, word, &fd, ret_name);

	if (rc)
		return rc;
	err = reader_new(fd, ret);
	if (err == 0)
		return 0;
	(void)close(fd);
	rc = out_error(c, err == -EBADMSG ? "corrupted" : "failed", NULL, "%s: %s", *ret_name,
		       err == -EBADMSG	 ? "not a recording"
		       : err == -ENODATA ? "nothing is written yet"
					 : strerror(-err));
	free(*ret_name);
	return rc;
}

/* -------------------------------------------------------------- summing up */

static json_t *json_of(const struct reader_record *rec)
{
	struct slice s = reader_json(rec);
	json_t *o = json_loadb((const char *)s.p, s.n, JSON_ALLOW_NUL, NULL);

	if (json_is_object(o))
		return o;
	json_decref(o);
	return NULL;
}

/* Members of @from that are not in @o yet. */
static void merge(json_t *o, json_t *from)
{
	(void)json_object_update_missing(o, from);
	json_decref(from);
}

static void put_time(json_t *o, const char *key, uint64_t wall_ns)
{
	char when[32];

	text_time(wall_ns, when, sizeof(when));
	(void)json_object_set_new(o, key, json_string(when));
}

static void put_fault(struct reader *r, json_t *o, int err)
{
	const struct reader_fault *f = reader_fault(r);
	char text[160];

	if (json_object_get(o, "error"))
		return;
	if (err == -EBADMSG && f->what)
		(void)snprintf(text, sizeof(text), "frame %llu at %llu %s",
			       (unsigned long long)f->frame, (unsigned long long)f->offset,
			       f->what);
	else
		(void)snprintf(text, sizeof(text), "%s", strerror(-err));
	(void)json_object_set_new(o, "error", json_string(text));
	(void)json_object_set_new(o, "state", json_string("damaged"));
}

static void put_end(json_t *o, const struct reader_record *rec)
{
	json_t *end = json_of(rec);
	bool recovered = json_is_true(json_object_get(end, "recovered"));
	const char *start = json_string_value(json_object_get(o, "time"));
	uint64_t then;

	put_time(o, "ended", rec->wall_ns);
	if (json_integer_value(json_object_get(end, "missing")) > 0)
		(void)json_object_set(o, "missing", json_object_get(end, "missing"));
	(void)json_object_set(o, "reason", json_object_get(end, "reason"));
	if (!json_object_get(o, "error"))
		(void)json_object_set_new(o, "state",
					  json_string(recovered ? "recovered" : "finished"));
	if (start && text_parse_time(slice_str(start), &then) == 0 && rec->wall_ns >= then)
		(void)json_object_set_new(
			o, "duration_ms",
			json_integer((json_int_t)((rec->wall_ns - then) / 1000000)));
	json_decref(end);
}

static void put_info(struct reader *r, json_t *o, const char *name)
{
	struct reader_info info;
	char id[UUID_TEXT];
	int err = reader_get_info(r, &info);

	if (err) {
		put_fault(r, o, err);
		return;
	}
	uuid_format(&info.session, id);
	(void)json_object_set_new(o, "id", json_string(id));
	put_time(o, "time", info.first_wall_ns);
	(void)json_object_set_new(o, "state", json_string("unfinished"));
	(void)json_object_set_new(o, "frames", json_integer((json_int_t)info.frames));
	(void)json_object_set_new(o, "bytes", json_integer((json_int_t)info.raw_bytes));
	(void)json_object_set_new(o, "stored_bytes", json_integer((json_int_t)info.size));
	if (info.torn_bytes)
		(void)json_object_set_new(o, "torn_bytes",
					  json_integer((json_int_t)info.torn_bytes));
	(void)json_object_set_new(o, "file", json_string(name));
}

static void put_header(json_t *o, const struct reader_record *rec)
{
	static const char *const keys[] = {"agent", "target", "protocol", "user", "database"};
	json_t *head = json_of(rec);

	for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
		json_t *v = json_object_get(head, keys[i]);

		if (v && !json_object_get(o, keys[i]))
			(void)json_object_set(o, keys[i], v);
	}
	json_decref(head);
}

json_t *recdir_summary(struct reader *r, const char *name)
{
	json_t *o = json_object();
	struct reader_record rec;
	uint64_t frames;
	int err;

	if (!o)
		return NULL;
	put_info(r, o, name);
	/* The header, and who logged in, are in the first frame. */
	while ((err = reader_next(r, &rec)) == 1 && rec.frame == 0)
		if (rec.type == TG_REC_HEADER || rec.type == TG_REC_STATE)
			put_header(o, &rec);
	if (err < 0)
		put_fault(r, o, err);
	frames = (uint64_t)json_integer_value(json_object_get(o, "frames"));
	if (frames && reader_seek(r, frames - 1) == 0) {
		while ((err = reader_next(r, &rec)) == 1)
			if (rec.type == TG_REC_END)
				put_end(o, &rec);
		if (err < 0)
			put_fault(r, o, err);
	}
	return o;
}

struct counts {
	json_int_t commands, denied, masked, errors, results, rows, client, server;
};

static void count(struct counts *n, const struct reader_record *rec)
{
	json_t *o = json_of(rec);
	const char *decision = json_string_value(json_object_get(o, "decision"));

	if (rec->type == TG_REC_CLIENT)
		n->client += (json_int_t)rec->payload.n;
	else if (rec->type == TG_REC_SERVER)
		n->server += (json_int_t)rec->payload.n;
	else if (rec->type == TG_REC_COMMAND)
		n->commands++;
	else if (rec->type == TG_REC_ERROR)
		n->errors++;
	else if (rec->type == TG_REC_MASKED)
		n->masked += json_integer_value(json_object_get(o, "values"));
	if (rec->type == TG_REC_RESULT) {
		n->results++;
		n->rows += json_integer_value(json_object_get(o, "rows"));
	}
	if (decision && strcmp(decision, "deny") == 0 &&
	    (rec->type == TG_REC_COMMAND || rec->type == TG_REC_EXECUTE))
		n->denied++;
	json_decref(o);
}

/* The parent's facts about the agent are JSON kept as text. */
static void unpack_facts(json_t *o)
{
	const char *text = json_string_value(json_object_get(o, "facts"));
	json_t *facts = text ? json_loads(text, 0, NULL) : NULL;

	if (!json_is_object(facts)) {
		json_decref(facts);
		return;
	}
	(void)json_object_del(o, "facts");
	merge(o, facts);
}

json_t *recdir_details(struct reader *r, const char *name)
{
	json_t *o = json_object(), *seen;
	struct counts n = {.commands = 0};
	struct reader_record rec;
	int err;

	if (!o)
		return NULL;
	put_info(r, o, name);
	while ((err = reader_next(r, &rec))) {
		if (err == -EBADMSG)
			put_fault(r, o, err);
		else if (err < 0)
			break;
		else if (rec.type == TG_REC_HEADER && (seen = json_of(&rec)))
			merge(o, seen);
		else if (rec.type == TG_REC_STATE)
			put_header(o, &rec);
		else if (rec.type == TG_REC_END)
			put_end(o, &rec);
		else
			count(&n, &rec);
	}
	if (err < 0)
		put_fault(r, o, err);
	unpack_facts(o);
	(void)json_object_set_new(o, "commands", json_integer(n.commands));
	(void)json_object_set_new(o, "denied", json_integer(n.denied));
	(void)json_object_set_new(o, "masked", json_integer(n.masked));
	(void)json_object_set_new(o, "errors", json_integer(n.errors));
	(void)json_object_set_new(o, "results", json_integer(n.results));
	(void)json_object_set_new(o, "rows", json_integer(n.rows));
	(void)json_object_set_new(o, "client_bytes", json_integer(n.client));
	(void)json_object_set_new(o, "server_bytes", json_integer(n.server));
	return o;
}
