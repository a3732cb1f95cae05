/* SPDX-License-Identifier: MIT */
/*
 * Captured PostgreSQL sessions (tests/golden/capture.py) through the inspector: what
 * is allowed passes unchanged, and however both streams are cut and interleaved,
 * events and output are the same.
 */
#include "pg_rig.h"

#include <dirent.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <cmocka.h>

#include "base/text.h"

#define FOLDER "tests/golden/postgresql"

enum { CHUNKS_MAX = 256, RANDOM_RUNS = 150 };

struct trace {
	char name[64];
	struct buf bytes;
	struct slice chunk[CHUNKS_MAX];
	enum insp_dir dir[CHUNKS_MAX];
	size_t n;
};

/* The server's answer to SSLRequest is the inspector's own here. */
static bool is_refusal(const struct trace *t, enum insp_dir dir, struct slice s)
{
	return dir == INSP_S2C && s.n == 1 && s.p[0] == 'N' && t->n < 5;
}

static void load(const char *file, struct trace *t)
{
	char path[512];
	struct slice s;
	FILE *f;
	size_t n;

	(void)snprintf(path, sizeof(path), FOLDER "/%s", file);
	(void)snprintf(t->name, sizeof(t->name), "%.60s", file);
	t->n = 0;
	buf_init(&t->bytes, 1 << 20);
	f = fopen(path, "rb");
	assert_non_null(f);
	n = fread(buf_reserve(&t->bytes, 1 << 19), 1, 1 << 19, f);
	(void)fclose(f);
	buf_commit(&t->bytes, n);
	for (s = buf_slice(&t->bytes); s.n > 5; s = slice_from(s, n + 5)) {
		enum insp_dir dir = s.p[0] == 'C' ? INSP_C2S : INSP_S2C;

		n = load_be32(s.p + 1);
		assert_true(n <= s.n - 5 && t->n < CHUNKS_MAX);
		t->chunk[t->n] = slice_of(s.p + 5, n);
		t->dir[t->n] = dir;
		t->n += !is_refusal(t, dir, t->chunk[t->n]);
	}
}

static void finish(struct rig *r, const struct trace *t)
{
	if (r->status == INSP_BAD || r->in[0].n || r->in[1].n) {
		print_error("%s: status %d reason %s, %zu and %zu bytes unused\n%.*s%.*s\n", t->name,
			    r->status, reason_label(r->why), r->in[0].n, r->in[1].n,
			    (int)r->lines[0].n, buf_data(&r->lines[0]), (int)r->lines[1].n,
			    buf_data(&r->lines[1]));
		fail();
	}
}

static void feed_piece(struct rig *r, enum insp_dir dir, struct slice s, size_t piece)
{
	for (size_t at = 0; at < s.n; at += piece)
		rig_feed(r, dir, slice_of(s.p + at, min_size(piece, s.n - at)));
}

/* Chunk @which is cut at @at (others are whole) or all are cut into @piece bytes. */
static void play(struct rig *r, const struct trace *t, size_t which, size_t at, size_t piece)
{
	for (size_t i = 0; i < t->n; i++) {
		struct slice s = t->chunk[i];

		if (i == which && at) {
			rig_feed(r, t->dir[i], slice_of(s.p, at));
			s = slice_from(s, at);
		}
		feed_piece(r, t->dir[i], s, piece);
	}
	finish(r, t);
}

/* Both directions in random pieces; the client may run ahead of the server's answers. */
static void play_random(struct rig *r, const struct trace *t, unsigned seed)
{
	size_t next[2] = {0, 0}, off[2] = {0, 0};

	srandom(seed);
	for (;;) {
		enum insp_dir dir = random() & 1 ? INSP_C2S : INSP_S2C;
		size_t i, n;

		for (int k = 0; k < 2; k++)
			while (next[k] < t->n && (t->dir[next[k]] != (enum insp_dir)k ||
						  off[k] == t->chunk[next[k]].n)) {
				next[k]++;
				off[k] = 0;
			}
		if (next[INSP_C2S] == t->n && next[INSP_S2C] == t->n)
			break;
		/* The server answers what was sent, and what was sent has to have arrived. */
		if (next[dir] == t->n ||
		    (dir == INSP_S2C && (next[INSP_C2S] < next[dir] || r->in[INSP_C2S].n)))
			dir = dir == INSP_C2S ? INSP_S2C : INSP_C2S;
		if (next[dir] == t->n)
			dir = dir == INSP_C2S ? INSP_S2C : INSP_C2S;
		if (dir == INSP_S2C && next[INSP_C2S] < next[dir])
			continue;
		i = next[dir];
		n = 1 + (size_t)random() % (random() & 1 ? 7 : 400);
		n = min_size(n, t->chunk[i].n - off[dir]);
		rig_feed(r, dir, slice_of(t->chunk[i].p + off[dir], n));
		off[dir] += n;
	}
	finish(r, t);
}

static void expect_same(const struct buf *a, const struct buf *b, const char *name, const char *what,
			size_t detail)
{
	static char want[65536], got[65536];

	if (slice_eq(buf_slice(a), buf_slice(b)))
		return;
	(void)text_escape(buf_slice(a), want, sizeof(want));
	(void)text_escape(buf_slice(b), got, sizeof(got));
	print_error("%s: %s differ (%zu)\n--- want\n%s\n--- got\n%s\n", name, what, detail, want,
		    got);
	fail();
}

/*
 * A message that has to wait for answers makes the inspector send a Flush first; whether
 * it has to wait depends on when answers come.
 */
static void without_flush(struct buf *b)
{
	struct slice s = buf_slice(b);
	struct buf kept;

	buf_init(&kept, 1 << 20);
	if (s.n >= 4) {
		size_t startup = min_size(load_be32(s.p), s.n);

		assert_int_equal(buf_append(&kept, s.p, startup), 0);
		s = slice_from(s, startup);
	}
	while (s.n >= 5) {
		size_t total = min_size((size_t)load_be32(s.p + 1) + 1, s.n);

		if (s.p[0] != 'H')
			assert_int_equal(buf_append(&kept, s.p, total), 0);
		s = slice_from(s, total);
	}
	buf_done(b);
	*b = kept;
}

static void expect_equal(const struct rig *want, const struct rig *got, const struct trace *t,
			 size_t detail)
{
	expect_same(&want->got[0], &got->got[0], t->name, "bytes to the server", detail);
	expect_same(&want->got[1], &got->got[1], t->name, "bytes to the client", detail);
	expect_same(&want->lines[0], &got->lines[0], t->name, "client's events", detail);
	expect_same(&want->lines[1], &got->lines[1], t->name, "server's events", detail);
	assert_int_equal(want->status, got->status);
}

typedef void (*each_fn)(const struct trace *t, bool masking);

static void each(each_fn fn)
{
	struct dirent *e;
	unsigned n = 0;
	DIR *d = opendir(FOLDER);

	assert_non_null(d);
	while ((e = readdir(d))) {
		struct trace *t;

		if (e->d_name[0] == '.')
			continue;
		t = calloc(1, sizeof(*t));
		assert_non_null(t);
		load(e->d_name, t);
		fn(t, false);
		fn(t, true);
		buf_done(&t->bytes);
		free(t);
		n++;
	}
	(void)closedir(d);
	assert_true(n >= 10);
}

/* ------------------------------------------------------------------- tests */

/* A Sync that a server ignores because COPY has begun does not go on. */
static struct slice without_ignored_sync(struct slice s)
{
	bool copy = memmem(s.p, s.n, "\0COPY accounts FROM STDIN", 25) && s.n > 5 &&
		    s.p[s.n - 5] == 'S';

	return slice_of(s.p, copy ? s.n - 5 : s.n);
}

static void passes(const struct trace *t, bool masking)
{
	struct buf want[2];
	struct rig r;

	if (masking)
		return;
	buf_init(&want[0], 1 << 20);
	buf_init(&want[1], 1 << 20);
	for (size_t i = 0; i < t->n; i++) {
		bool request = t->dir[i] == INSP_C2S && t->chunk[i].n == 8 &&
			       load_be32(t->chunk[i].p) == 8;

		assert_int_equal(request ? buf_append(&want[INSP_TO_CLIENT], "N", 1) :
				 buf_append_slice(&want[t->dir[i]],
						  without_ignored_sync(t->chunk[i])), 0);
	}
	rig_init(&r, rig_sql, false);
	r.exact = true;
	play(&r, t, 0, 0, SIZE_MAX);
	expect_same(&want[INSP_TO_SERVER], &r.got[INSP_TO_SERVER], t->name, "bytes to server", 0);
	expect_same(&want[INSP_TO_CLIENT], &r.got[INSP_TO_CLIENT], t->name, "bytes to client", 0);
	rig_done(&r);
	buf_done(&want[0]);
	buf_done(&want[1]);
}

static void test_passes(void **state)
{
	(void)state;
	each(passes);
}

static void cuts(const struct trace *t, bool masking)
{
	struct rig whole, r;

	rig_init(&whole, rig_sql, masking);
	play(&whole, t, 0, 0, SIZE_MAX);
	for (size_t piece = 1; piece < 6; piece += 2) {
		rig_init(&r, rig_sql, masking);
		r.exact = piece == 1;
		play(&r, t, 0, 0, piece);
		expect_equal(&whole, &r, t, piece);
		rig_done(&r);
	}
	for (size_t i = 0; i < t->n; i++)
		for (size_t at = 1; at < t->chunk[i].n; at++) {
			rig_init(&r, rig_sql, masking);
			play(&r, t, i, at, SIZE_MAX);
			expect_equal(&whole, &r, t, i * 100000 + at);
			rig_done(&r);
		}
	rig_done(&whole);
}

static void test_cuts(void **state)
{
	(void)state;
	each(cuts);
}

static void interleavings(const struct trace *t, bool masking)
{
	struct rig whole, r;

	rig_init(&whole, rig_sql, masking);
	play(&whole, t, 0, 0, SIZE_MAX);
	without_flush(&whole.got[INSP_TO_SERVER]);
	for (unsigned seed = 1; seed <= RANDOM_RUNS; seed++) {
		rig_init(&r, rig_sql, masking);
		play_random(&r, t, seed);
		without_flush(&r.got[INSP_TO_SERVER]);
		expect_equal(&whole, &r, t, seed);
		rig_done(&r);
	}
	rig_done(&whole);
}

static void test_interleavings(void **state)
{
	(void)state;
	each(interleavings);
}

/* Nothing that a mask covers is in the client's bytes. */
static void masked(const struct trace *t, bool masking)
{
	static const char *const never[] = {"123-45-6789", "987-65-4321", "ann@example.com"};
	struct rig r;

	if (!masking)
		return;
	rig_init(&r, rig_sql, true);
	play(&r, t, 0, 0, SIZE_MAX);
	for (size_t i = 0; i < ARRAY_SIZE(never); i++)
		if (memmem(buf_data(&r.got[1]), r.got[1].n, never[i], strlen(never[i]))) {
			print_error("%s: %s reached the client\n", t->name, never[i]);
			fail();
		}
	rig_done(&r);
}

static void test_masked(void **state)
{
	(void)state;
	each(masked);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_passes),
		cmocka_unit_test(test_masked),
		cmocka_unit_test(test_cuts),
		cmocka_unit_test(test_interleavings),
	};

	return cmocka_run_group_tests_name("pg_golden", tests, rig_setup, rig_teardown);
}
