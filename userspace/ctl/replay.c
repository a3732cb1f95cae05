/* SPDX-License-Identifier: MIT */
#include "ctl/replay.h"

#include <errno.h>
#include <jansson.h>

#include "base/reason.h"
#include "base/text.h"
#include "ctl/ctl.h"
#include "ctl/pgview.h"

enum { LINES_MAX = 16 << 20, PLANS_MAX = 4096, RAW_SHOWN = 256 };

/* What stands before the lines that have no time. */
#define INDENT "             "

struct replay {
	struct pgview *view;
	struct buf lines; /* of the view */
	json_t *plans;	  /* facts about masks, by their number */
	uint64_t start_wall_ns;
	uint64_t server_bytes, client_bytes; /* of a protocol that is not understood here */
	bool began, postgresql, ended;
};

struct replay *replay_new(unsigned rows)
{
	struct replay *r = calloc(1, sizeof(*r));

	if (!r)
		return NULL;
	buf_init(&r->lines, LINES_MAX);
	r->view = pgview_new(rows);
	r->plans = json_object();
	if (!r->view || !r->plans) {
		replay_free(r);
		return NULL;
	}
	return r;
}

void replay_free(struct replay *r)
{
	if (!r)
		return;
	pgview_free(r->view);
	json_decref(r->plans);
	buf_done(&r->lines);
	free(r);
}

/* ------------------------------------------------------------ small parts */

static int put_time(struct replay *r, uint64_t wall_ns, struct buf *out)
{
	uint64_t ms = wall_ns > r->start_wall_ns ? (wall_ns - r->start_wall_ns) / 1000000 : 0;

	return buf_printf(out, "%02llu:%02llu:%02llu.%03llu ", (unsigned long long)(ms / 3600000),
			  (unsigned long long)(ms / 60000 % 60),
			  (unsigned long long)(ms / 1000 % 60), (unsigned long long)(ms % 1000));
}

static int put_escaped(struct slice s, struct buf *out)
{
	char *text = malloc(4 * s.n + 1);
	int err;

	if (!text)
		return -ENOMEM;
	(void)out_escape(s, text, 4 * s.n + 1);
	err = buf_append(out, text, strlen(text));
	free(text);
	return err;
}

/* Lines of @s, each after @first or @next; the time was put before. */
static int put_lines(struct slice s, const char *first, const char *next, struct buf *out)
{
	const char *before = first;
	int err = 0;

	do {
		const uint8_t *nl = s.n ? memchr(s.p, '\n', s.n) : NULL;
		struct slice line = slice_of(s.p, nl ? (size_t)(nl - s.p) : s.n);

		err = buf_printf(out, "%s", before);
		if (!err)
			err = put_escaped(line, out);
		if (!err)
			err = buf_append(out, "\n", 1);
		s = slice_from(s, line.n + (nl != NULL));
		before = next;
	} while (!err && s.n);
	return err;
}

static const char *str(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

/* " title value", or nothing if there is none. Arrays are joined by commas. */
static int put_value(const char *title, const json_t *v, struct buf *out)
{
	int err;

	if (!v || json_is_null(v) || (json_is_string(v) && !json_string_length(v)) ||
	    (json_is_array(v) && !json_array_size(v)))
		return 0;
	err = *title ? buf_printf(out, "  %s ", title) : 0;
	if (err)
		return err;
	if (json_is_string(v))
		return put_escaped(slice_of(json_string_value(v), json_string_length(v)), out);
	if (json_is_integer(v))
		return buf_printf(out, "%lld", (long long)json_integer_value(v));
	if (json_is_boolean(v))
		return buf_printf(out, "%s", json_is_true(v) ? "yes" : "no");
	for (size_t i = 0; i < json_array_size(v) && !err; i++) {
		err = i ? buf_append(out, ",", 1) : 0;
		if (!err && !json_is_array(json_array_get(v, i)))
			err = put_value("", json_array_get(v, i), out);
	}
	return err;
}

static int put_member(const json_t *o, const char *key, struct buf *out)
{
	return put_value(key, json_object_get(o, key), out);
}

static int put_members(const json_t *o, const char *const *keys, struct buf *out)
{
	int err = 0;

	for (; *keys && !err; keys++)
		err = put_member(o, *keys, out);
	return err ? err : buf_append(out, "\n", 1);
}

/* ------------------------------------------------------------ the records */

static int on_header(struct replay *r, const json_t *o, struct buf *out)
{
	static const char *const who[] = {"agent", "target", "protocol", "user", "database", NULL};
	static const char *const what[] = {"destination", "upstream", "pid", "comm", "uid", NULL};
	char when[32];
	int err;

	r->postgresql = strcmp(str(o, "protocol"), "postgresql") == 0;
	text_time(r->start_wall_ns, when, sizeof(when));
	err = buf_printf(out, "%s  session %s\n", when, "");
	if (err)
		return err;
	out->n--; /* the session's name goes on the same line */
	err = put_escaped(slice_str(str(o, "session")), out);
	if (!err)
		err = buf_append(out, "\n" INDENT, sizeof("\n" INDENT) - 1);
	if (!err)
		err = put_members(o, who, out);
	if (!err)
		err = buf_append(out, INDENT, sizeof(INDENT) - 1);
	return err ? err : put_members(o, what, out);
}

static bool plainly_allowed(const json_t *o)
{
	return strcmp(str(o, "decision"), "allow") == 0;
}

static int on_command(const json_t *o, struct buf *out)
{
	static const char *const keys[] = {"effects", "objects", "rule", "reason", NULL};
	const json_t *text = json_object_get(o, "text");
	int err;

	err = put_lines(slice_of(json_string_value(text), json_string_length(text)), "> ",
			INDENT "  ", out);
	if (!err)
		err = buf_printf(out, INDENT "= ");
	if (!err)
		err = put_escaped(slice_str(str(o, "decision")), out);
	return err ? err : put_members(o, keys, out);
}

static int on_execute(const json_t *o, struct buf *out)
{
	static const char *const keys[] = {"decision", "rule", "reason", NULL};
	int err = buf_printf(out, "> execute");

	if (!err)
		err = put_member(o, "statement", out);
	if (!err && plainly_allowed(o))
		return buf_append(out, "\n", 1);
	return err ? err : put_members(o, keys, out);
}

static int on_decision(const json_t *o, struct buf *out)
{
	static const char *const keys[] = {"by",     "request", "grant", "reason",
					   "detail", "until",	NULL};
	int err = buf_printf(out, "* ");

	if (!err)
		err = put_escaped(slice_str(str(o, "what")), out);
	if (!err)
		err = buf_append(out, " ", 1);
	if (!err)
		err = put_escaped(slice_str(str(o, "decision")), out);
	return err ? err : put_members(o, keys, out);
}

/* Name and value of all members: for records whose shape is not known here. */
static int on_other(const char *title, const json_t *o, struct buf *out)
{
	const char *key;
	json_t *v;
	int err = buf_printf(out, "* %s", title);

	json_object_foreach((json_t *)(uintptr_t)o, key, v)
	{
		char name[64];

		(void)out_escape(slice_str(key), name, sizeof(name));
		if (!err && !json_is_object(v))
			err = put_value(name, v, out);
	}
	return err ? err : buf_append(out, "\n", 1);
}

static int keep_plan(struct replay *r, json_t *o)
{
	char key[24];

	if (!json_is_integer(json_object_get(o, "plan")) || json_object_size(r->plans) >= PLANS_MAX)
		return 0;
	(void)snprintf(key, sizeof(key), "%lld",
		       json_integer_value(json_object_get(o, "plan")));
	return json_object_set(r->plans, key, o) ? -ENOMEM : 0;
}

/* "card as redact by RULE", a line each of @list; only those that @names has, if it is there. */
static int put_rules(const json_t *list, const json_t *names, struct buf *out)
{
	json_t *o, *name;
	size_t i, k;
	int err = 0;

	json_array_foreach((json_t *)(uintptr_t)list, i, o)
	{
		bool wanted = !names;

		json_array_foreach((json_t *)(uintptr_t)names, k, name)
			wanted |= json_equal(name, json_object_get(o, "name"));
		if (!wanted || err)
			continue;
		err = buf_printf(out, INDENT " ");
		if (!err)
			err = put_value(names ? "detector" : "column", json_object_get(o, "name"), out);
		if (!err)
			err = put_member(o, "as", out);
		if (!err)
			err = put_value("by", json_object_get(o, "rule"), out);
		if (!err && json_is_true(json_object_get(o, "unresolved")))
			err = buf_printf(out, "  (its origin is not known)");
		if (!err)
			err = buf_append(out, "\n", 1);
	}
	return err;
}

static int on_other(const char *title, const json_t *o, struct buf *out);

/* What masks did to a result, and which rules made them. */
static int on_masked(struct replay *r, const json_t *o, struct buf *out)
{
	const json_t *found = json_object_get(o, "detectors"), *plan, *group;
	char key[24];
	size_t i;
	int err;

	(void)snprintf(key, sizeof(key), "%lld",
		       json_integer_value(json_object_get(o, "plan")));
	plan = json_object_get(r->plans, key);
	err = on_other("masked", o, out);
	if (!err)
		err = put_rules(json_object_get(plan, "masked"), NULL, out);
	if (!err && json_array_size(found))
		json_array_foreach(json_object_get(plan, "scanned"), i, group)
			if (!err)
				err = put_rules(json_object_get(group, "detectors"), found, out);
	return err;
}

static int on_end(struct replay *r, const json_t *o, struct buf *out)
{
	json_int_t code = json_integer_value(json_object_get(o, "code"));
	json_int_t missing = json_integer_value(json_object_get(o, "missing"));
	int err;

	r->ended = true;
	err = buf_printf(out, "# ended: %s%s\n",
			 code >= 0 && code < TG_R_COUNT ? reason_what((uint16_t)code) : "unknown",
			 json_is_true(json_object_get(o, "recovered"))
				 ? " (completed from the journal)"
				 : "");
	if (!err && missing)
		err = buf_printf(out, INDENT "# %lld records could not be written\n",
				 (long long)missing);
	return err;
}

static int on_json(struct replay *r, const struct reader_record *rec, const json_t *o,
		   struct buf *out)
{
	static const char *const error_keys[] = {"from", "code", "message", NULL};
	int err;

	if (rec->type == TG_REC_HEADER)
		return on_header(r, o, out);
	if (rec->type == TG_REC_FACT)
		return keep_plan(r, (json_t *)(uintptr_t)o);
	/* What the server said is shown as it was sent. */
	if (rec->type == TG_REC_RESULT ||
	    (rec->type == TG_REC_ERROR && r->postgresql && strcmp(str(o, "from"), "server") == 0))
		return 0;
	err = put_time(r, rec->wall_ns, out);
	if (err)
		return err;
	if (rec->type == TG_REC_COMMAND)
		return on_command(o, out);
	if (rec->type == TG_REC_EXECUTE)
		return on_execute(o, out);
	if (rec->type == TG_REC_DECISION)
		return on_decision(o, out);
	if (rec->type == TG_REC_MASKED)
		return on_masked(r, o, out);
	if (rec->type == TG_REC_END)
		return on_end(r, o, out);
	if (rec->type == TG_REC_ERROR) {
		err = buf_printf(out, "! error");
		return err ? err : put_members(o, error_keys, out);
	}
	return on_other(reader_type_name(rec->type), o, out);
}

static int put_view(struct replay *r, struct buf *out)
{
	struct slice s = buf_slice(&r->lines);
	int err = 0;

	while (s.n && !err) {
		const uint8_t *nl = memchr(s.p, '\n', s.n);
		size_t n = nl ? (size_t)(nl - s.p) + 1 : s.n;

		err = buf_append(out, INDENT, sizeof(INDENT) - 1);
		if (!err)
			err = buf_append(out, s.p, n);
		s = slice_from(s, n);
	}
	buf_reset(&r->lines);
	return err;
}

/* Of a protocol that is not shown in its own words: who said it, and how it begins. */
static int put_raw(struct replay *r, const struct reader_record *rec, struct buf *out)
{
	struct slice head = slice_of(rec->payload.p, min_size(rec->payload.n, RAW_SHOWN));
	size_t more = rec->payload.n - head.n;
	int err = put_time(r, rec->wall_ns, out);

	if (!err)
		err = buf_printf(out, "%s ", rec->type == TG_REC_CLIENT ? ">" : "<");
	if (!err)
		err = put_escaped(head, out);
	if (!err && more)
		err = buf_printf(out, "  (and %zu bytes more)", more);
	return err ? err : buf_append(out, "\n", 1);
}

static int on_bytes(struct replay *r, const struct reader_record *rec, struct buf *out)
{
	int err;

	if (rec->type == TG_REC_CLIENT)
		r->client_bytes += rec->payload.n;
	else
		r->server_bytes += rec->payload.n;
	if (!r->postgresql)
		return put_raw(r, rec, out);
	if (rec->type != TG_REC_SERVER)
		return 0;
	err = pgview_feed(r->view, rec->payload, &r->lines);
	return err ? err : put_view(r, out);
}

int replay_record(struct replay *r, const struct reader_record *rec, struct buf *out)
{
	struct slice json = reader_json(rec);
	json_t *o;
	int err;

	if (!r->began)
		r->start_wall_ns = rec->wall_ns;
	r->began = true;
	if (!reader_type_is_json(rec->type))
		return on_bytes(r, rec, out);
	o = json_loadb((const char *)json.p, json.n, JSON_ALLOW_NUL, NULL);
	if (json_is_object(o)) {
		err = on_json(r, rec, o, out);
	} else {
		err = put_time(r, rec->wall_ns, out);
		if (!err)
			err = buf_printf(out, "! a record of type %s that is not JSON\n",
					 reader_type_name(rec->type));
	}
	json_decref(o);
	return err;
}

int replay_end(struct replay *r, struct buf *out)
{
	int err = pgview_end(r->view, &r->lines);

	if (!err)
		err = put_view(r, out);
	if (!err && !r->postgresql && (r->client_bytes || r->server_bytes))
		err = buf_printf(out, INDENT "# %llu bytes from the client, %llu from the server\n",
				 (unsigned long long)r->client_bytes,
				 (unsigned long long)r->server_bytes);
	if (!err && !r->ended)
		err = buf_printf(out, INDENT "# not ended: the session runs, or was cut off\n");
	return err;
}
