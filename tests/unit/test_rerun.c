/* SPDX-License-Identifier: MIT */
/*
 * Recordings of real sessions (tests/golden/record.py) through the inspector again: as they
 * are, with their bytes in other pieces, and with any one record gone or changed.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "ctl/rerun.h"
#include "inspect/sql/sql.h"
#include "base/text.h"

#define FOLDER "tests/golden/recordings"

enum { RECORDS_MAX = 512 };

struct recording {
	char name[64];
	struct reader_record rec[RECORDS_MAX];
	unsigned n;
};

static struct sql *sql;

static void load(const char *file, struct recording *ret)
{
	char path[512];
	struct reader *r;
	int fd;

	(void)snprintf(path, sizeof(path), FOLDER "/%s", file);
	(void)snprintf(ret->name, sizeof(ret->name), "%.60s", file);
	ret->n = 0;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	assert_int_equal(reader_new(fd, &r), 0);
	while (reader_next(r, &ret->rec[ret->n]) == 1) {
		struct slice *p = &ret->rec[ret->n].payload;
		uint8_t *copy = malloc(p->n + 1);

		assert_non_null(copy);
		memcpy(copy, p->p, p->n);
		p->p = copy;
		assert_true(++ret->n < RECORDS_MAX);
	}
	reader_free(r);
}

static void unload(struct recording *x)
{
	for (unsigned i = 0; i < x->n; i++)
		free((void *)(uintptr_t)x->rec[i].payload.p);
}

static bool is_bytes(const struct reader_record *rec)
{
	return rec->type == TG_REC_CLIENT || rec->type == TG_REC_SERVER;
}

/* All records but @without; bytes in pieces of @piece. */
static int run(const struct recording *x, unsigned without, size_t piece, struct rerun_counts *ret,
	       char *why, size_t cap)
{
	struct rerun *r = rerun_new(sql);
	int err = 0;

	assert_non_null(r);
	for (unsigned i = 0; i < x->n && !err; i++) {
		struct reader_record rec = x->rec[i];
		struct slice rest = rec.payload;

		if (i == without)
			continue;
		if (!is_bytes(&rec) || !piece) {
			err = rerun_record(r, &rec);
			continue;
		}
		for (; rest.n && !err; rest = slice_from(rest, rec.payload.n)) {
			rec.payload = slice_of(rest.p, min_size(piece, rest.n));
			err = rerun_record(r, &rec);
		}
	}
	if (!err)
		err = rerun_end(r, ret);
	(void)snprintf(why, cap, "%s", rerun_why(r));
	rerun_free(r);
	return err;
}

typedef void (*each_fn)(struct recording *x);

static void each(each_fn fn)
{
	static struct recording x;
	struct dirent *e;
	unsigned n = 0;
	DIR *d = opendir(FOLDER);

	assert_non_null(d);
	while ((e = readdir(d))) {
		if (e->d_name[0] == '.')
			continue;
		load(e->d_name, &x);
		fn(&x);
		unload(&x);
		n++;
	}
	(void)closedir(d);
	assert_true(n >= 4);
}

static void same(struct recording *x)
{
	static const size_t pieces[] = {0, 1, 3, 7, 64};
	struct rerun_counts want = {0}, got;
	char why[512];

	for (size_t i = 0; i < ARRAY_SIZE(pieces); i++) {
		got = (struct rerun_counts){0};
		if (run(x, x->n, pieces[i], &got, why, sizeof(why))) {
			print_error("%s in pieces of %zu: %s\n", x->name, pieces[i], why);
			fail();
		}
		if (i == 0)
			want = got;
		assert_memory_equal(&want, &got, sizeof(want));
	}
	assert_true(want.ended && want.statements > 3 && want.results > 2 && want.own_bytes > 0);
}

static void test_same(void **state)
{
	(void)state;
	each(same);
}

/*
 * Records that may go: they are for people, or end a session that would not be compared; and
 * statements that nothing came of: their bytes were never taken, or skipped.
 */
static bool may_go(const struct reader_record *rec)
{
	struct slice json = reader_json(rec);
	bool plan = json.n > 8 && (memcmp(json.p, "{\"plan\":", 8) == 0 ||
				   memmem(json.p, json.n, "\"notice\"", 8));

	if (rec->type == TG_REC_CLIENT && rec->payload.n == 5 && rec->payload.p[0] == 'X')
		return true; /* goodbye */
	/* Dropped before it was decided. */
	if (rec->type == TG_REC_EXECUTE && memmem(json.p, json.n, "five", 4))
		return true;
	if (rec->type == TG_REC_COMMAND && memmem(json.p, json.n, "seven", 5))
		return true;
	return rec->type == TG_REC_MASKED || rec->type == TG_REC_DECISION ||
	       rec->type == TG_REC_END || (rec->type == TG_REC_FACT && plan) ||
	       (rec->type == TG_REC_ERROR && memmem(json.p, json.n, "\"tidegate\"", 10)) ||
	       (rec->type == TG_REC_STATE && memmem(json.p, json.n, "\"cancel\"", 8));
}

static void without_one(struct recording *x)
{
	struct rerun_counts n;
	unsigned noticed = 0;
	char why[512];

	for (unsigned i = 0; i < x->n; i++) {
		bool found = run(x, i, 0, &n, why, sizeof(why)) != 0;

		/*
		 * Whole messages of the server's that any number may come of are no contradiction, nor
		 * is a reload among others.
		 */
		if (x->rec[i].type == TG_REC_SERVER || x->rec[i].type == TG_REC_STATE) {
			noticed += found;
			continue;
		}
		if (found != !may_go(&x->rec[i])) {
			print_error("%s without record %u (%s %.*s): %s\n", x->name, i,
				    reader_type_name(x->rec[i].type),
				    (int)min_size(reader_json(&x->rec[i]).n, 120),
				    reader_json(&x->rec[i]).p, found ? why : "not noticed");
			fail();
		}
	}
	assert_true(noticed > 4);
}

static void test_without_one(void **state)
{
	(void)state;
	each(without_one);
}

/* Every byte of the server's that is ours, and every verdict, matters. */
static void changed(struct recording *x)
{
	struct rerun_counts n;
	char why[512];
	unsigned tried = 0;

	for (unsigned i = 0; i < x->n; i++) {
		struct slice s = x->rec[i].payload;
		uint8_t *p = (uint8_t *)(uintptr_t)s.p;
		static const char *const words[] = {"rows\":", "tag\":\"", "message\":\"", "text\":\"",
						    "\"seq\":"};

		for (size_t k = 0; k < ARRAY_SIZE(words); k++) {
			uint8_t *at = memmem(p, s.n, words[k], strlen(words[k]));

			if (!at || is_bytes(&x->rec[i]) || may_go(&x->rec[i]))
				continue;
			at += strlen(words[k]);
			/* Empty texts and the secrets' stars have nothing to change. */
			if (*at == '"' || *at == '*')
				continue;
			*at ^= 1;
			tried++;
			if (!run(x, x->n, 0, &n, why, sizeof(why))) {
				print_error("%s record %u, changed %s of %.*s\n", x->name, i, words[k],
					    (int)min_size(s.n, 200), p);
				fail();
			}
			*at ^= 1;
		}
	}
	assert_true(tried > 8);
}

static void test_changed(void **state)
{
	(void)state;
	each(changed);
}

/* A recording of another protocol, or of a version without the inspector's limits. */
static void test_not_known(void **state)
{
	static const char *const headers[] = {
		TG_REC_MAGIC "{\"protocol\":\"postgresql\"}",
		TG_REC_MAGIC "{\"protocol\":\"other\",\"inspector\":{}}",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(headers); i++) {
		struct rerun *r = rerun_new(sql);
		struct reader_record rec = {
			.type = TG_REC_HEADER,
			.payload = slice_of(headers[i], strlen(headers[i] + 8) + 8),
		};

		assert_non_null(r);
		assert_int_equal(rerun_record(r, &rec), -ENOTSUP);
		rerun_free(r);
	}
}

/* What is not looked into: a question that may have been refused, and bytes. */
static void test_opaque(void **state)
{
	enum { H = TG_REC_HEADER, S = TG_REC_STATE, F = TG_REC_FACT, E = TG_REC_END,
	       CLIENT = TG_REC_CLIENT, SERVER = TG_REC_SERVER };
	static const char *const header = "{\"protocol\":\"tcp\",\"inspector\":{}}",
				 *const login = "{\"what\":\"login\"}",
				 *const denied = "{\"answer\":1,\"verdict\":\"deny\",\"code\":1}",
				 *const end = "{\"reason\":\"client_closed\"}";
	static const struct {
		struct {
			unsigned type;
			const char *text;
		} rec[8];
		const char *why; /* NULL: the same again */
	} rows[] = {
		{{{H, header}, {S, login}, {SERVER, "hello"}, {CLIENT, "x"}, {E, end}}, NULL},
		{{{H, header}, {S, login}, {E, end}}, NULL},
		{{{H, header}, {E, end}}, NULL},
		{{{H, header}, {S, login}, {F, denied}, {E, end}}, NULL},
		{{{H, header}, {S, login}, {F, denied}, {CLIENT, "x"}, {E, end}}, "bytes behind the end"},
		{{{H, header}, {S, login}, {F, denied}, {SERVER, "x"}, {E, end}}, "bytes behind the end"},
		{{{H, header}, {CLIENT, "x"}, {E, end}}, "recorded nothing"},
		{{{H, header}, {S, login}, {CLIENT, "x"}, {S, login}, {E, end}}, NULL},
		{{{H, header}, {S, login}, {TG_REC_COMMAND, "{\"seq\":3}"}, {E, end}}, "does not happen now"},
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct rerun *r = rerun_new(sql);
		struct rerun_counts n;
		int err = 0;

		assert_non_null(r);
		for (size_t k = 0; rows[i].rec[k].text && !err; k++) {
			char text[256];
			bool head = rows[i].rec[k].type == TG_REC_HEADER;
			size_t len = (size_t)snprintf(text, sizeof(text), "%s%s",
						      head ? "########" : "", rows[i].rec[k].text);

			if (head)
				memcpy(text, TG_REC_MAGIC, 8);
			err = rerun_record(r, &(struct reader_record){
						      .type = (enum tg_rec_type)rows[i].rec[k].type,
						      .payload = slice_of(text, len)});
		}
		if (!err)
			err = rerun_end(r, &n);
		if (rows[i].why ? !strstr(rerun_why(r), rows[i].why) : err)
			fail_msg("row %zu: %d %s", i, err, rerun_why(r));
		rerun_free(r);
	}
}

static int setup(void **state)
{
	(void)state;
	return sql_new(NULL, &sql);
}

static int teardown(void **state)
{
	(void)state;
	sql_free(sql);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_same),
		cmocka_unit_test(test_without_one),
		cmocka_unit_test(test_changed),
		cmocka_unit_test(test_not_known),
		cmocka_unit_test(test_opaque),
	};

	return cmocka_run_group_tests_name("rerun", tests, setup, teardown);
}
