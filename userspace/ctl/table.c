/* SPDX-License-Identifier: MIT */
/* Lists and single objects of JSON, laid out for people. */
#include "ctl/ctl.h"

#include <sys/ioctl.h>
#include <unistd.h>
#include <wchar.h>

#include "base/clock.h"
#include "base/text.h"

enum { CELL_MAX = 4096, GAP = 2, SHRUNK_MIN = 8, COLS_MAX = 16, NEST_MAX = 8 };

void out_duration(uint64_t ms, char *dst, size_t cap)
{
	static const struct {
		uint64_t s;
		char name;
	} units[] = {{86400, 'd'}, {3600, 'h'}, {60, 'm'}, {1, 's'}};
	uint64_t s = ms / 1000;

	for (size_t i = 0; i < ARRAY_SIZE(units); i++) {
		uint64_t rest;

		if (s < units[i].s)
			continue;
		rest = s % units[i].s;
		/* Two units only where the second still says something: 5m30s, but 25m. */
		if (i + 1 < ARRAY_SIZE(units) && s / units[i].s < 10 && rest / units[i + 1].s)
			(void)snprintf(dst, cap, "%llu%c%llu%c",
				       (unsigned long long)(s / units[i].s), units[i].name,
				       (unsigned long long)(rest / units[i + 1].s),
				       units[i + 1].name);
		else
			(void)snprintf(dst, cap, "%llu%c", (unsigned long long)(s / units[i].s),
				       units[i].name);
		return;
	}
	(void)snprintf(dst, cap, "0s");
}

static void format_bytes(uint64_t n, char *dst, size_t cap)
{
	static const char units[] = "BKMGTPE";
	double v = (double)n;
	size_t u = 0;

	while (v >= 1024 && u + 2 < sizeof(units)) {
		v /= 1024;
		u++;
	}
	(void)snprintf(dst, cap, u && v < 10 ? "%.1f%c" : "%.0f%c", v, units[u]);
}

/* The member at "a.b", or NULL. */
static const json_t *at(const json_t *o, const char *key)
{
	const char *dot = strchr(key, '.');
	char head[64];

	if (!dot)
		return json_object_get(o, key);
	if ((size_t)(dot - key) >= sizeof(head))
		return NULL;
	memcpy(head, key, (size_t)(dot - key));
	head[dot - key] = '\0';
	return at(json_object_get(o, head), dot + 1);
}

static size_t put(char *dst, size_t o, struct slice s)
{
	return o + out_escape(s, dst + o, CELL_MAX - o);
}

static size_t plain(const json_t *v, char *dst, size_t o)
{
	char num[32];

	switch (json_typeof(v)) {
	case JSON_STRING:
		return put(dst, o, slice_of(json_string_value(v), json_string_length(v)));
	case JSON_INTEGER:
		(void)snprintf(num, sizeof(num), "%lld", (long long)json_integer_value(v));
		return put(dst, o, slice_str(num));
	case JSON_REAL:
		(void)snprintf(num, sizeof(num), "%g", json_real_value(v));
		return put(dst, o, slice_str(num));
	case JSON_TRUE:
		return put(dst, o, slice_str("yes"));
	case JSON_FALSE:
		return put(dst, o, slice_str("no"));
	case JSON_NULL:
		return put(dst, o, slice_str("-"));
	case JSON_ARRAY:
		for (size_t i = 0; i < json_array_size(v); i++) {
			if (i)
				o = put(dst, o, slice_str(","));
			o = plain(json_array_get(v, i), dst, o);
		}
		return json_array_size(v) ? o : put(dst, o, slice_str("-"));
	case JSON_OBJECT: {
		char *text = json_dumps(v, JSON_COMPACT);

		o = text ? put(dst, o, slice_str(text)) : o;
		free(text);
		return o;
	}
	}
	return o;
}

static void span(const json_t *v, enum out_kind kind, char *dst)
{
	uint64_t then, now = clock_wall_ns();
	struct slice s = slice_of(json_string_value(v), json_string_length(v));

	if (text_parse_time(s, &then)) {
		(void)plain(v, dst, 0);
		return;
	}
	if (kind == OUT_AGO)
		out_duration(now > then ? (now - then) / 1000000 : 0, dst, CELL_MAX);
	else if (then > now)
		out_duration((then - now) / 1000000, dst, CELL_MAX);
	else
		(void)snprintf(dst, CELL_MAX, "over");
}

/* The cell as text; @dst holds CELL_MAX bytes. */
static void cell(const json_t *o, const struct out_col *col, char *dst)
{
	const json_t *v = at(o, col->key);

	if (!v || json_is_null(v)) {
		(void)snprintf(dst, CELL_MAX, "-");
		return;
	}
	switch (col->kind) {
	case OUT_TIME:
		(void)plain(v, dst, 0);
		if (json_is_string(v) && strlen(dst) == 24 && dst[19] == '.')
			(void)snprintf(dst + 19, 2, "Z");
		return;
	case OUT_AGO:
	case OUT_LEFT:
		if (json_is_string(v)) {
			span(v, col->kind, dst);
			return;
		}
		break;
	case OUT_BYTES:
	case OUT_MS:
		if (json_is_integer(v) && json_integer_value(v) >= 0) {
			uint64_t n = (uint64_t)json_integer_value(v);

			if (col->kind == OUT_BYTES)
				format_bytes(n, dst, CELL_MAX);
			else
				text_format_duration(n, dst, CELL_MAX);
			return;
		}
		break;
	case OUT_TEXT:
	case OUT_LINES:
	case OUT_NUM:
		break;
	}
	if (plain(v, dst, 0) == 0)
		(void)snprintf(dst, CELL_MAX, "-");
}

/* Columns on a terminal of the UTF-8 text up to @n bytes of it. */
static size_t width_of(const char *s, size_t n)
{
	size_t w = 0;

	for (size_t i = 0; i < n;) {
		wchar_t wc = 0;
		mbstate_t st = {0};
		size_t len = mbrtowc(&wc, s + i, n - i, &st);
		int cols;

		if (len == 0 || len > n - i) {
			w++;
			i++;
			continue;
		}
		cols = wcwidth(wc);
		w += cols < 0 ? 1 : (size_t)cols;
		i += len;
	}
	return w;
}

/* Writes @s into @width columns: padded, or cut with an ellipsis. */
static void put_cell(const char *s, size_t width, bool right, bool last)
{
	size_t n = strlen(s), w = width_of(s, n);
	const char *tail = "";

	if (w > width) {
		tail = "...";
		while (n && w + 3 > width) {
			do
				n--;
			while (n && ((uint8_t)s[n] & 0xc0) == 0x80);
			w = width_of(s, n);
		}
		w += 3;
	}
	if (right && w < width)
		(void)printf("%*s", (int)(width - w), "");
	(void)printf("%.*s%s", (int)n, s, tail);
	if (!right && !last && w < width)
		(void)printf("%*s", (int)(width - w), "");
}

/* Columns of the terminal; no limit when the output is no terminal and COLUMNS is not set. */
static size_t terminal_width(void)
{
	const char *env = getenv("COLUMNS");
	struct winsize ws;
	uint64_t n;

	if (env && text_parse_u64(slice_str(env), 20, 10000, &n) == 0)
		return (size_t)n;
	if (isatty(STDOUT_FILENO) && ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col >= 20)
		return ws.ws_col;
	return SIZE_MAX;
}

/* Columns that a row needs if all that may shrink did. */
static size_t least(const size_t *width, const struct out_col *cols, size_t n)
{
	size_t total = n ? (n - 1) * GAP : 0;

	for (size_t i = 0; i < n; i++)
		total += cols[i].flags & OUT_SHRINKS ? min_size(width[i], SHRUNK_MIN) : width[i];
	return total;
}

/* Leaves out, from the right, what a narrow terminal can do without. The number left. */
static size_t drop_wide(size_t *width, struct out_col *cols, size_t n, size_t limit)
{
	for (size_t i = n; i > 0 && least(width, cols, n) > limit; i--) {
		if (!(cols[i - 1].flags & OUT_WIDE))
			continue;
		memmove(&cols[i - 1], &cols[i], (n - i) * sizeof(*cols));
		memmove(&width[i - 1], &width[i], (n - i) * sizeof(*width));
		n--;
	}
	return n;
}

/* Takes columns from the widest that may shrink until the row fits or nothing is left to take. */
static void shrink(size_t *width, const struct out_col *cols, size_t n, size_t limit)
{
	size_t total = (n - 1) * GAP;

	for (size_t i = 0; i < n; i++)
		total += width[i];
	while (total > limit) {
		size_t widest = n;

		for (size_t i = 0; i < n; i++)
			if ((cols[i].flags & OUT_SHRINKS) && width[i] > SHRUNK_MIN &&
			    (widest == n || width[i] > width[widest]))
				widest = i;
		if (widest == n)
			return;
		width[widest]--;
		total--;
	}
}

static bool right_aligned(enum out_kind kind)
{
	return kind == OUT_NUM || kind == OUT_BYTES;
}

static bool all_empty(const json_t *array, const struct out_col *col)
{
	char text[CELL_MAX];
	const json_t *o;
	size_t row;

	json_array_foreach((json_t *)(uintptr_t)array, row, o)
	{
		cell(o, col, text);
		if (strcmp(text, "-") != 0)
			return false;
	}
	return true;
}

void out_table(const json_t *array, const struct out_col *all, size_t n_all)
{
	struct out_col cols[COLS_MAX];
	size_t width[COLS_MAX], n = 0, row, limit = terminal_width();
	char text[CELL_MAX];
	const json_t *o;

	for (size_t i = 0; i < n_all; i++)
		if (!(all[i].flags & OUT_OPTIONAL) || !all_empty(array, &all[i]))
			cols[n++] = all[i];
	for (size_t i = 0; i < n; i++)
		width[i] = width_of(cols[i].title, strlen(cols[i].title));
	json_array_foreach((json_t *)(uintptr_t)array, row, o)
	{
		for (size_t i = 0; i < n; i++) {
			cell(o, &cols[i], text);
			width[i] = max_size(width[i], width_of(text, strlen(text)));
		}
	}
	n = drop_wide(width, cols, n, limit);
	shrink(width, cols, n, limit);
	for (size_t i = 0; i < n; i++) {
		put_cell(cols[i].title, width[i], right_aligned(cols[i].kind), i + 1 == n);
		(void)fputs(i + 1 == n ? "\n" : "  ", stdout);
	}
	json_array_foreach((json_t *)(uintptr_t)array, row, o)
	{
		for (size_t i = 0; i < n; i++) {
			cell(o, &cols[i], text);
			put_cell(text, width[i], right_aligned(cols[i].kind), i + 1 == n);
			(void)fputs(i + 1 == n ? "\n" : "  ", stdout);
		}
	}
}

int out_list(struct ctl *c, const json_t *array, const struct out_col *cols, size_t n,
	     const char *none)
{
	BUG_ON(n == 0 || n > COLS_MAX);
	if (!json_is_array(array))
		return out_error(c, "bad_answer", NULL, "the daemon's answer is not a list");
	if (c->json)
		return out_json(c, array);
	if (json_array_size(array) == 0)
		out_text(c, "%s\n", none);
	else
		out_table(array, cols, n);
	return ferror(stdout) ? CTL_FAILED : CTL_OK;
}

static bool named(const char *key, const struct out_col *cols, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		size_t len = strcspn(cols[i].key, ".");

		if (strlen(key) == len && memcmp(key, cols[i].key, len) == 0)
			return true;
	}
	return false;
}

/* Of the names of what put_rest() will print, at least @width. */
static size_t rest_width(const json_t *object, const struct out_col *cols, size_t n, size_t width)
{
	const json_t *v;
	const char *key;

	json_object_foreach((json_t *)(uintptr_t)object, key,
			    v) if (!json_is_null(v) && !json_is_object(v) && !named(key, cols, n))
		width = max_size(width, min_size(strlen(key), SHRUNK_MIN * 3));
	return width;
}

/* Nothing is cut: an approver must see all of what is asked. */
static void put_lines(const char *title, size_t width, struct slice s)
{
	for (bool first = true; first || s.n; first = false) {
		const uint8_t *nl = s.n ? memchr(s.p, '\n', s.n) : NULL;
		size_t n = nl ? (size_t)(nl - s.p) : s.n;

		(void)printf("%-*s  ", (int)width, first ? title : "");
		out_escaped(slice_of(s.p, n));
		(void)putchar('\n');
		s = slice_from(s, n + (nl != NULL));
	}
}

/* Members that @cols does not name; objects below their name, a step further in. */
static void put_rest(const json_t *object, const struct out_col *cols, size_t n, size_t width,
		     int in)
{
	char name[64], text[CELL_MAX];
	const json_t *v;
	const char *key;

	json_object_foreach((json_t *)(uintptr_t)object, key, v)
	{
		if (json_is_null(v) || named(key, cols, n))
			continue;
		(void)out_escape(slice_str(key), name, sizeof(name));
		if (json_is_object(v) && in < 2 * NEST_MAX) {
			(void)printf("%*s%s\n", in, "", name);
			put_rest(v, NULL, 0, rest_width(v, NULL, 0, 0), in + 2);
			continue;
		}
		text[0] = '\0';
		(void)plain(v, text, 0);
		(void)printf("%*s%-*s  %s\n", in, "", (int)width, name, text);
	}
}

int out_fields(struct ctl *c, const json_t *object, const struct out_col *cols, size_t n)
{
	char text[CELL_MAX];
	size_t width = 0;

	if (!json_is_object(object))
		return out_error(c, "bad_answer", NULL, "the daemon's answer is not an object");
	if (c->json)
		return out_json(c, object);
	for (size_t i = 0; i < n; i++)
		width = max_size(width, strlen(cols[i].title));
	width = rest_width(object, cols, n, width);
	for (size_t i = 0; i < n; i++) {
		const json_t *member = at(object, cols[i].key);

		if (!member || json_is_null(member))
			continue;
		if (cols[i].kind == OUT_LINES && json_is_string(member)) {
			put_lines(cols[i].title, width,
				  slice_of(json_string_value(member), json_string_length(member)));
			continue;
		}
		cell(object, &cols[i], text);
		(void)printf("%-*s  %s\n", (int)width, cols[i].title, text);
	}
	put_rest(object, cols, n, width, 0);
	return ferror(stdout) ? CTL_FAILED : CTL_OK;
}

const json_t *ctl_named(const json_t *array, const char *key, const char *name)
{
	const json_t *o;
	size_t i;

	json_array_foreach((json_t *)(uintptr_t)array, i, o)
	{
		const json_t *v = json_object_get(o, key);

		if (json_is_string(v) &&
		    slice_eq_str(slice_of(json_string_value(v), json_string_length(v)), name))
			return o;
	}
	return NULL;
}

int out_named(struct ctl *c, const json_t *array, const char *key, const char *name,
	      const struct out_col *cols, size_t n, const char *hint)
{
	const json_t *one = ctl_named(array, key, name);
	char usual[64];

	if (one)
		return out_fields(c, one, cols, n);
	(void)snprintf(usual, sizeof(usual), "`tidegate %s list` shows them", c->object);
	return out_error(c, "not_found", hint ? hint : usual, "there is no %s `%s`", c->object, name);
}
