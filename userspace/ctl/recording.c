/* SPDX-License-Identifier: MIT */
/* tidegate recording: what sessions did. Works on the files, also while they are written. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <unistd.h>

#include "base/text.h"
#include "ctl/ctl.h"
#include "ctl/proofs.h"
#include "ctl/recdir.h"
#include "ctl/replay.h"
#include "ctl/rerun.h"
#include "inspect/sql/sql.h"
#include "record/export.h"
#include "record/verify.h"

enum {
	ROWS = 10, /* of a result, unless --rows says otherwise */
	ROWS_MAX = 10000,
	FAULTS_MAX = 100,      /* that verify lists for one recording */
	OUTPUT_MAX = 64 << 20, /* lines of one record */
	WAIT_MAX_MS = 3000,    /* the longest pause of a replay */
};

#define NAME(name, from)                                                           \
	{                                                                          \
		.title = name, .key = from, .kind = OUT_TEXT, .flags = OUT_SHRINKS \
	}
#define COL(name, from, as)                            \
	{                                              \
		.title = name, .key = from, .kind = as \
	}

static const struct out_col cols[] = {
	COL("ID", "id", OUT_TEXT),
	COL("TIME", "time", OUT_TIME),
	NAME("AGENT", "agent"),
	NAME("TARGET", "target"),
	NAME("USER", "user"),
	COL("LENGTH", "duration_ms", OUT_MS),
	COL("BYTES", "bytes", OUT_BYTES),
	COL("STORED", "stored_bytes", OUT_BYTES),
	COL("STATE", "state", OUT_TEXT),
	COL("ENDED BY", "reason", OUT_TEXT),
};

static const struct out_col fields[] = {
	COL("id", "id", OUT_TEXT),
	COL("file", "file", OUT_TEXT),
	COL("state", "state", OUT_TEXT),
	COL("error", "error", OUT_TEXT),
	COL("time", "time", OUT_TIME),
	COL("ended", "ended", OUT_TIME),
	COL("length", "duration_ms", OUT_MS),
	COL("ended by", "reason", OUT_TEXT),
	COL("agent", "agent", OUT_TEXT),
	COL("target", "target", OUT_TEXT),
	COL("protocol", "protocol", OUT_TEXT),
	COL("user", "user", OUT_TEXT),
	COL("database", "database", OUT_TEXT),
	COL("commands", "commands", OUT_TEXT),
	COL("denied", "denied", OUT_TEXT),
	COL("results", "results", OUT_TEXT),
	COL("rows", "rows", OUT_TEXT),
	COL("masked values", "masked", OUT_TEXT),
	COL("errors", "errors", OUT_TEXT),
	COL("from client", "client_bytes", OUT_BYTES),
	COL("to client", "server_bytes", OUT_BYTES),
	COL("frames", "frames", OUT_TEXT),
	COL("recorded", "bytes", OUT_BYTES),
	COL("stored", "stored_bytes", OUT_BYTES),
	COL("torn", "torn_bytes", OUT_BYTES),
	COL("not written", "missing", OUT_TEXT),
};

static bool same(const json_t *o, const char *key, const char *want)
{
	const char *s = json_string_value(json_object_get(o, key));

	return !want || (s && strcmp(s, want) == 0);
}

/* One line of the list; files that are no recordings are listed with their error. */
static json_t *line_of(const char *dir, const char *name)
{
	struct reader *r = NULL;
	char *path = NULL;
	json_t *o;
	int err, fd;

	if (asprintf(&path, "%s/%s", dir, name) < 0)
		return NULL;
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	err = fd < 0 ? -errno : reader_new(fd, &r);
	if (err && fd >= 0)
		(void)close(fd);
	o = err ? json_pack("{s:s#, s:s, s:s, s:s}", "id", name,
			    (int)(strlen(name) - strlen(TG_REC_SUFFIX)), "state",
			    err == -ENODATA ? "empty" : "unreadable", "error", strerror(-err),
			    "file", path)
		: recdir_summary(r, path);
	reader_free(r);
	free(path);
	return o;
}

static int do_list(struct ctl *c, int argc, char **argv)
{
	const char *dir = NULL, *agent = NULL, *target = NULL, *last = NULL;
	const struct ctl_opt opts[] = {{.name = "dir", .value = &dir},
				       {.name = "agent", .value = &agent},
				       {.name = "target", .value = &target},
				       {.name = "last", .value = &last}};
	uint64_t most = UINT64_MAX;
	json_t *list;
	char **names;
	size_t n;
	int rc = ctl_args(c, &argc, argv, opts, ARRAY_SIZE(opts), 0, 0);

	if (rc)
		return rc;
	if (last && text_parse_u64(slice_str(last), 1, UINT64_MAX, &most))
		return out_error(c, "usage", NULL, "--last: not a number: %s", last);
	dir = recdir_path(c, dir);
	rc = recdir_list(c, dir, &names, &n);
	if (rc)
		return rc;
	list = json_array();
	/* Newest first while counting, oldest first in the list. */
	for (size_t i = n; i-- && json_array_size(list) < most;) {
		json_t *o = line_of(dir, names[i]);

		if (o && same(o, "agent", agent) && same(o, "target", target))
			(void)json_array_insert(list, 0, o);
		json_decref(o);
	}
	recdir_list_free(names, n);
	rc = out_list(c, list, cols, ARRAY_SIZE(cols), "no recordings");
	json_decref(list);
	return rc;
}

static int do_show(struct ctl *c, int argc, char **argv)
{
	const char *dir = NULL;
	const struct ctl_opt opts[] = {{.name = "dir", .value = &dir}};
	struct reader *r;
	char *name;
	json_t *o;
	int rc = ctl_args(c, &argc, argv, opts, ARRAY_SIZE(opts), 1, 1);

	if (rc == 0)
		rc = recdir_reader(c, dir, argv[0], &r, &name);
	if (rc)
		return rc;
	o = recdir_details(r, name);
	rc = o ? out_fields(c, o, fields, ARRAY_SIZE(fields))
	       : out_error(c, "failed", NULL, "out of memory");
	json_decref(o);
	reader_free(r);
	free(name);
	return rc;
}

/* ------------------------------------------------------------------ verify */

struct verdict {
	json_t *faults;
	uint64_t n;
};

static void on_fault(void *ctx, const struct reader_fault *fault)
{
	struct verdict *v = ctx;
	json_t *frame =
		fault->frame == VERIFY_FILE ? json_null() : json_integer((json_int_t)fault->frame);

	if (v->n++ >= FAULTS_MAX) {
		json_decref(frame);
		return;
	}
	(void)json_array_append_new(v->faults,
				    json_pack("{s:o, s:I, s:s}", "frame", frame, "offset",
					      (json_int_t)fault->offset, "what", fault->what));
}

static const char *state_of(const struct verify_result *res)
{
	return res->recovered ? "recovered" : res->finished ? "finished" : "unfinished";
}

static void print_verdict(struct ctl *c, const char *name, const json_t *o)
{
	const json_t *faults = json_object_get(o, "faults"), *f;
	size_t i;

	out_text(c, "%s  %s  %lld frames, %lld records, %s\n", name,
		 json_array_size(faults) ? "BAD" : "ok",
		 json_integer_value(json_object_get(o, "frames")),
		 json_integer_value(json_object_get(o, "records")),
		 json_string_value(json_object_get(o, "state")));
	if (json_object_get(o, "torn_bytes"))
		out_text(c, "  the last %lld bytes are no whole frame\n",
			 json_integer_value(json_object_get(o, "torn_bytes")));
	json_array_foreach((json_t *)(uintptr_t)faults, i, f)
	{
		if (json_is_null(json_object_get(f, "frame")))
			out_text(c, "  the file %s (at byte %lld)\n",
				 json_string_value(json_object_get(f, "what")),
				 json_integer_value(json_object_get(f, "offset")));
		else
			out_text(c, "  frame %lld at byte %lld %s\n",
				 json_integer_value(json_object_get(f, "frame")),
				 json_integer_value(json_object_get(f, "offset")),
				 json_string_value(json_object_get(f, "what")));
	}
}

/* The file's name says which session it should be. */
static void check_name(const char *path, struct verify_result *res, struct verdict *v)
{
	const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path;
	struct reader_fault fault = {.frame = VERIFY_FILE,
				     .what = "is named after another session"};
	struct uuid u;

	if (strlen(base) == UUID_TEXT - 1 + strlen(TG_REC_SUFFIX) && res->frames &&
	    uuid_parse(slice_of(base, UUID_TEXT - 1), &u) == 0 && !uuid_eq(&u, &res->session))
		on_fault(v, &fault);
}

/* All of @r through the inspector; what it counts is in @ret. */
static int rerun_all(struct reader *r, struct rerun *run, struct rerun_counts *ret)
{
	struct reader_record rec;
	int err;

	while ((err = reader_next(r, &rec)) == 1) {
		err = rerun_record(run, &rec);
		if (err)
			return err;
	}
	return err ? err : rerun_end(run, ret);
}

/* Takes over @fd. An object that says whether the inspector does the same again. */
static json_t *rerun_one(int fd, struct sql *sql)
{
	struct rerun *run = rerun_new(sql);
	struct rerun_counts n = {0};
	struct reader *r = NULL;
	json_t *o;
	int err = reader_new(fd, &r);

	if (err)
		(void)close(fd);
	if (!err)
		err = run ? rerun_all(r, run, &n) : -ENOMEM;
	if (err)
		o = json_pack("{s:b, s:s}", "ok", 0, "why",
			      run && *rerun_why(run) ? rerun_why(run) :
			      err == -ENOTSUP	     ? "cannot be run again: its protocol, or the "
						       "version that wrote it, is not known" :
			      err == -EBADMSG	     ? "not as it was written" :
						       strerror(-err));
	else
		o = json_pack("{s:b, s:I, s:I, s:I, s:I, s:I, s:I}", "ok", 1, "statements",
			      (json_int_t)n.statements, "results", (json_int_t)n.results, "errors",
			      (json_int_t)n.errors, "client_bytes", (json_int_t)n.client_bytes,
			      "server_bytes", (json_int_t)n.server_bytes, "own_bytes",
			      (json_int_t)n.own_bytes);
	reader_free(r);
	rerun_free(run);
	return o;
}

static void print_rerun(struct ctl *c, const json_t *o)
{
	if (!json_is_true(json_object_get(o, "ok")))
		out_text(c, "  not the same again: %s\n",
			 json_string_value(json_object_get(o, "why")));
	else
		out_text(c, "  the same again: %lld statements, %lld results, %lld errors\n",
			 json_integer_value(json_object_get(o, "statements")),
			 json_integer_value(json_object_get(o, "results")),
			 json_integer_value(json_object_get(o, "errors")));
}

static int check_all(struct reader *r, struct proofs *p, struct verdict *v)
{
	struct reader_record rec;
	int err;

	while ((err = reader_next(r, &rec)) == 1 || err == -EBADMSG) {
		const char *why = err == 1 ? proofs_record(p, &rec) : NULL;
		char *text;

		if (!why || asprintf(&text, "holds a receipt that %s", why) < 0)
			continue;
		on_fault(v, &(struct reader_fault){.frame = rec.frame, .what = text});
		free(text);
	}
	return err;
}

/* Takes over @fd. What the receipts are worth; NULL: there is none, or none could be looked at. */
static json_t *check_receipts(int fd, const char *name, const char *key_file, struct verdict *v)
{
	struct proofs_counts n = {0};
	struct proofs *p = NULL;
	struct reader *r = NULL;
	int err = reader_new(fd, &r);

	if (err)
		(void)close(fd);
	else
		err = proofs_new(key_file, name, &p);
	if (!err) {
		err = check_all(r, p, v);
		n = proofs_counts(p);
	}
	reader_free(r);
	json_t *o = n.good + n.bad + n.none
			    ? json_pack("{s:I, s:I, s:I, s:s?}", "good", (json_int_t)n.good, "bad",
					(json_int_t)n.bad, "none", (json_int_t)n.none, "key", n.key)
			    : NULL;
	proofs_free(p);
	/* What is no recording has been said. */
	if (err && err != -ENODATA && err != -EBADMSG)
		on_fault(v, &(struct reader_fault){.frame = VERIFY_FILE,
						   .what = "has receipts that cannot be looked at"});
	return o;
}

static void print_receipts(struct ctl *c, const json_t *o)
{
	json_int_t good = json_integer_value(json_object_get(o, "good"));
	json_int_t none = json_integer_value(json_object_get(o, "none"));

	if (good)
		out_text(c, "  receipts: %lld, signed with %s\n", good,
			 json_string_value(json_object_get(o, "key")));
	if (none)
		out_text(c, "  decisions without a receipt: %lld\n", none);
}

/* What is asked of each recording. */
struct verify_how {
	const char *dir, *key_file;
	struct sql *sql; /* NULL: not run again */
};

/* 0 if it is as it was written. Appends to @list. */
static int verify_one(struct ctl *c, const struct verify_how *how, const char *word, json_t *list)
{
	bool same_again = true;
	struct verdict v = {.faults = json_array()};
	struct verify_result res;
	char *name, id[UUID_TEXT], hash[65];
	json_t *o, *receipts;
	int fd, err, again_fd = -1, rc = recdir_open(c, how->dir, word, &fd, &name);

	if (rc) {
		json_decref(v.faults);
		return rc;
	}
	err = verify_file(fd, on_fault, &v, &res);
	if (!err && how->sql)
		again_fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (err)
		(void)close(fd);
	if (err) {
		rc = out_error(c, "failed", NULL, "%s: %s", name, strerror(-err));
		json_decref(v.faults);
		free(name);
		return rc;
	}
	check_name(name, &res, &v);
	receipts = check_receipts(fd, name, how->key_file, &v);
	uuid_format(&res.session, id);
	text_hex(res.hash, sizeof(res.hash), hash);
	o = json_pack("{s:s, s:s, s:b, s:s, s:I, s:I, s:I, s:s, s:I, s:o}", "id", id, "file", name,
		      "ok", v.n == 0, "state", state_of(&res), "frames", (json_int_t)res.frames,
		      "records", (json_int_t)res.records, "bytes", (json_int_t)res.bytes, "hash",
		      hash, "fault_count", (json_int_t)v.n, "faults", v.faults);
	if (res.torn_bytes)
		(void)json_object_set_new(o, "torn_bytes",
					  json_integer((json_int_t)res.torn_bytes));
	print_verdict(c, res.frames ? id : name, o);
	if (receipts) {
		print_receipts(c, receipts);
		(void)json_object_set_new(o, "receipts", receipts);
	}
	if (how->sql) {
		json_t *again = rerun_one(again_fd, how->sql);

		print_rerun(c, again);
		same_again = json_is_true(json_object_get(again, "ok"));
		(void)json_object_set_new(o, "rerun", again);
	}
	(void)json_array_append_new(list, o);
	free(name);
	return v.n || !same_again ? CTL_FAILED : CTL_OK;
}

static int check_key(struct ctl *c, const char *key_file)
{
	struct proofs *p = NULL;
	int err = key_file ? proofs_new(key_file, "", &p) : 0;

	proofs_free(p);
	return !err ? 0
		    : out_error(c, "failed", NULL, "%s: %s", key_file,
				err == -EINVAL ? "it is no Ed25519 public key in PEM form"
					       : strerror(-err));
}

static int do_verify(struct ctl *c, int argc, char **argv)
{
	struct verify_how how = {0};
	bool rerun = false;
	const struct ctl_opt opts[] = {{.name = "dir", .value = &how.dir},
				       {.name = "key", .value = &how.key_file},
				       {.name = "rerun", .flag = &rerun}};
	json_t *list;
	char **names = NULL;
	size_t n = 0;
	int rc = ctl_args(c, &argc, argv, opts, ARRAY_SIZE(opts), 0, -1), worst = 0;

	if (rc)
		return rc;
	rc = check_key(c, how.key_file);
	if (rc)
		return rc;
	if (argc == 0) {
		rc = recdir_list(c, recdir_path(c, how.dir), &names, &n);
		if (rc)
			return rc;
	}
	if (rerun && sql_new(NULL, &how.sql)) {
		recdir_list_free(names, n);
		return out_error(c, "failed", NULL, "out of memory");
	}
	list = json_array();
	for (int i = 0; i < argc; i++) {
		rc = verify_one(c, &how, argv[i], list);
		worst = rc ? rc : worst;
	}
	for (size_t i = 0; i < n; i++) {
		char *path = NULL;

		if (asprintf(&path, "%s/%s", recdir_path(c, how.dir), names[i]) < 0)
			break;
		rc = verify_one(c, &how, path, list);
		worst = rc ? rc : worst;
		free(path);
	}
	recdir_list_free(names, n);
	sql_free(how.sql);
	if (c->json && (json_array_size(list) || !worst))
		rc = out_json(c, list);
	else if (!json_array_size(list) && !worst)
		out_text(c, "no recordings\n");
	json_decref(list);
	return worst;
}

/* ---------------------------------------------------------- replay, export */

static int corrupted(struct ctl *c, const char *name, struct reader *r, int err)
{
	const struct reader_fault *f = reader_fault(r);

	if (err != -EBADMSG)
		return out_error(c, "failed", NULL, "%s: %s", name, strerror(-err));
	return out_error(c, "corrupted", "see `tidegate recording verify`",
			 "%s: frame %llu at byte %llu %s", name, (unsigned long long)f->frame,
			 (unsigned long long)f->offset, f->what);
}

/* All records as JSON lines, or as the elements of one array. */
static int export_all(struct ctl *c, struct reader *r, const char *name, bool array)
{
	struct reader_record rec;
	uint64_t n = 0;
	struct buf out;
	bool some = false; /* an element is in the array */
	int err, rc = CTL_OK;

	buf_init(&out, OUTPUT_MAX);
	/* In a batch each command's output is one document. */
	array = array || c->batch_array;
	if (array)
		(void)putchar('[');
	while ((err = reader_next(r, &rec)) && !ferror(stdout)) {
		if (err == 1) {
			buf_reset(&out);
			err = export_jsonl(&rec, n, &out);
			if (array && some)
				(void)putchar(',');
			(void)fwrite(buf_slice(&out).p, 1, out.n, stdout);
			some = true;
			n++;
		}
		/* What stands behind a bad frame is still worth having. */
		if (err < 0) {
			if (array && some)
				(void)putchar(',');
			rc = corrupted(c, name, r, err);
			some = true;
			if (err != -EBADMSG)
				break;
		}
	}
	if (array) {
		(void)printf("]\n");
		c->documents++;
	}
	buf_done(&out);
	return ferror(stdout) ? CTL_FAILED : rc;
}

static int do_export(struct ctl *c, int argc, char **argv)
{
	const char *dir = NULL, *format = "jsonl";
	const struct ctl_opt opts[] = {{.name = "dir", .value = &dir},
				       {.name = "format", .value = &format}};
	struct reader *r;
	char *name;
	int rc = ctl_args(c, &argc, argv, opts, ARRAY_SIZE(opts), 1, 1);

	if (rc)
		return rc;
	if (strcmp(format, "jsonl") != 0)
		return out_error(c, "usage", NULL, "unknown format `%s`; there is: jsonl", format);
	rc = recdir_reader(c, dir, argv[0], &r, &name);
	if (rc)
		return rc;
	rc = export_all(c, r, name, false);
	reader_free(r);
	free(name);
	return rc;
}

struct pace {
	double speed; /* 0: no delay */
	uint64_t last_wall_ns;
};

static void wait_for(struct pace *p, uint64_t wall_ns)
{
	uint64_t gap = wall_ns > p->last_wall_ns ? wall_ns - p->last_wall_ns : 0;
	double ns;
	struct timespec ts;

	p->last_wall_ns = wall_ns;
	if (p->speed == 0 || gap == wall_ns)
		return;
	ns = (double)gap / p->speed;
	if (ns > WAIT_MAX_MS * 1e6)
		ns = WAIT_MAX_MS * 1e6;
	if (ns < 1e6)
		return;
	(void)fflush(stdout);
	ts = (struct timespec){.tv_sec = (time_t)(ns / 1e9), .tv_nsec = (long)fmod(ns, 1e9)};
	(void)nanosleep(&ts, NULL);
}

static int replay_all(struct ctl *c, struct reader *r, const char *name, struct pace *pace,
		      unsigned rows)
{
	struct replay *p = replay_new(rows);
	struct reader_record rec;
	struct buf out;
	int err, rc = CTL_OK;

	if (!p)
		return out_error(c, "failed", NULL, "out of memory");
	buf_init(&out, OUTPUT_MAX);
	while ((err = reader_next(r, &rec)) && !ferror(stdout)) {
		if (err < 0) {
			(void)fflush(stdout);
			rc = corrupted(c, name, r, err);
			if (err != -EBADMSG)
				break;
			continue;
		}
		wait_for(pace, rec.wall_ns);
		buf_reset(&out);
		err = replay_record(p, &rec, &out);
		(void)fwrite(buf_slice(&out).p, 1, out.n, stdout);
		if (err)
			out_text(c, "(a record in frame %llu cannot be shown: %s)\n",
				 (unsigned long long)rec.frame, strerror(-err));
	}
	buf_reset(&out);
	if (replay_end(p, &out) == 0)
		(void)fwrite(buf_slice(&out).p, 1, out.n, stdout);
	buf_done(&out);
	replay_free(p);
	return ferror(stdout) ? CTL_FAILED : rc;
}

static int parse_speed(struct ctl *c, const char *text, double *ret)
{
	char *end;
	double v;

	errno = 0;
	v = strtod(text, &end);
	if (errno || end == text || *end || !(v >= 0.01 && v <= 10000))
		return out_error(c, "usage", NULL, "--speed: not a number from 0.01 to 10000: %s",
				 text);
	*ret = v;
	return 0;
}

static int do_replay(struct ctl *c, int argc, char **argv)
{
	const char *dir = NULL, *speed = NULL, *rows_text = NULL;
	bool no_delay = false;
	const struct ctl_opt opts[] = {{.name = "dir", .value = &dir},
				       {.name = "speed", .value = &speed},
				       {.name = "rows", .value = &rows_text},
				       {.name = "no-delay", .flag = &no_delay}};
	/* Into a file or a pager nobody wants to wait. */
	struct pace pace = {.speed = isatty(STDOUT_FILENO) ? 1 : 0};
	uint64_t rows = ROWS;
	struct reader *r;
	char *name;
	int rc = ctl_args(c, &argc, argv, opts, ARRAY_SIZE(opts), 1, 1);

	if (rc == 0 && speed)
		rc = parse_speed(c, speed, &pace.speed);
	if (rc)
		return rc;
	if (rows_text && text_parse_u64(slice_str(rows_text), 0, ROWS_MAX, &rows))
		return out_error(c, "usage", NULL, "--rows: not a number from 0 to %d: %s",
				 ROWS_MAX, rows_text);
	if (no_delay)
		pace.speed = 0;
	rc = recdir_reader(c, dir, argv[0], &r, &name);
	if (rc)
		return rc;
	rc = c->json ? export_all(c, r, name, true) : replay_all(c, r, name, &pace, (unsigned)rows);
	reader_free(r);
	free(name);
	return rc;
}

static const struct ctl_cmd cmds[] = {
	{"list", do_list, "[--agent A] [--target T] [--last N]", "recordings, oldest first"},
	{"show", do_show, "RECORDING", "who, what, how it ended, totals"},
	{"replay", do_replay, "RECORDING [--speed N | --no-delay] [--rows N]",
	 "the session again, as the client saw it"},
	{"verify", do_verify, "[RECORDING...] [--key FILE] [--rerun]", "is it as it was written? (all, if none is named)"},
	{"export", do_export, "RECORDING [--format jsonl]", "its records, a JSON object a line"},
};

static const char more[] =
	"RECORDING is a file, or the identifier of a session or enough of its beginning or end.\n"
	"All commands take -d DIR (--dir): where the recordings are. They do not need the "
	"daemon.\n";

int cmd_recording(struct ctl *c, int argc, char **argv)
{
	static char dir[] = "--dir";

	for (int i = 0; i < argc && strcmp(argv[i], "--") != 0; i++)
		if (strcmp(argv[i], "-d") == 0)
			argv[i] = dir;
	return ctl_dispatch(c, "recording", cmds, ARRAY_SIZE(cmds), more, argc, argv);
}
