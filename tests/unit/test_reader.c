/* SPDX-License-Identifier: MIT */
/* Reading recordings, whole, growing, cut and changed. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/reason.h"
#include "recfix.h"
#include "record/export.h"
#include "record/frame.h"

struct bytes {
	uint8_t *p;
	size_t n;
};

/* The file of @session in memory. */
static struct bytes load(const struct recfix *f, const struct uuid *session)
{
	struct bytes b = {.n = recfix_size(f, session)};
	int fd = recfix_open(f, session, O_RDONLY);

	b.p = malloc(b.n);
	assert_non_null(b.p);
	assert_int_equal(read_all_at(fd, b.p, b.n, 0), 0);
	(void)close(fd);
	return b;
}

static int memory_file(const void *p, size_t n)
{
	int fd = memfd_create("recording", MFD_CLOEXEC);

	assert_true(fd >= 0);
	assert_int_equal(write_all_at(fd, p, n, 0), 0);
	return fd;
}

static size_t len_six(unsigned n)
{
	return 10 + n * 5;
}

/* A recording of @frames frames with two records each, besides header and end. */
static struct bytes make(unsigned number, unsigned frames)
{
	struct uuid session = recfix_session(number);
	struct recfix f;
	struct bytes b;
	struct rec *r;

	recfix_init(&f, 4);
	r = recfix_begin(&f, number);
	for (unsigned n = 0; n < 2 * frames; n++) {
		assert_int_equal(recfix_put(r, n, len_six(n)), 0);
		if (n % 2 == 0)
			continue;
		journal_idle(f.j, 2 * n, 0);
		journal_idle(f.j, 2 * n + 1, 0);
		recfix_work(&f);
	}
	rec_close(r, 99, TG_R_CLIENT_CLOSED);
	recfix_work(&f);
	b = load(&f, &session);
	recfix_done(&f);
	return b;
}

struct faults {
	unsigned n;
	uint64_t first_frame, first_offset;
	const char *first;
};

static void on_fault(void *ctx, const struct reader_fault *fault)
{
	struct faults *f = ctx;

	assert_true(fault->what && *fault->what);
	if (f->n++)
		return;
	f->first_frame = fault->frame;
	f->first_offset = fault->offset;
	f->first = fault->what;
}

static struct faults verify(const void *p, size_t n, struct verify_result *ret)
{
	struct faults f = {.n = 0};
	int fd = memory_file(p, n);

	assert_int_equal(verify_file(fd, on_fault, &f, ret), 0);
	assert_int_equal(f.n, ret->faults);
	(void)close(fd);
	return f;
}

/* Where frame @seq of @b begins; behind the last one: where the table does. */
static size_t frame_at(struct bytes b, unsigned seq)
{
	int fd = memory_file(b.p, b.n);
	struct tg_rec_frame head;
	uint64_t off = 0, next;

	while (seq--) {
		assert_int_equal(frame_peek(fd, off, b.n, &head, &next), FRAME_RECORDS);
		off = next;
	}
	(void)close(fd);
	return off;
}

/* Each change of a bit of a finished file is found and placed. */
static void test_each_bit(void **state)
{
	struct bytes b = make(1, 2);
	size_t starts[] = {0, frame_at(b, 1), frame_at(b, 2), frame_at(b, 3)};
	struct verify_result res;
	unsigned same = 0;

	assert_int_equal(verify(b.p, b.n, &res).n, 0);
	assert_int_equal(res.frames, 3);
	for (size_t i = 0; i < 8 * b.n; i++) {
		size_t at = i / 8;
		unsigned in = at >= starts[3] ? 3 : at >= starts[2] ? 2 : at >= starts[1] ? 1 : 0;
		struct faults f;

		b.p[at] ^= (uint8_t)(1 << i % 8);
		f = verify(b.p, b.n, &res);
		b.p[at] ^= (uint8_t)(1 << i % 8);
		if (!f.n) {
			/*
			 * Another way to compress the same content (its hash says so): zstd has
			 * two reserved bits in each block, and equal matches at other offsets.
			 */
			assert_true(in < 3 && at > starts[in] + FRAME_HEAD + 6 && res.finished);
			same++;
		} else if (in < 3)
			assert_true(f.first_frame == in && f.first_offset == starts[in]);
		else
			assert_true(f.first_frame == VERIFY_FILE || f.first_frame == 3);
	}
	assert_true(same < 64);
	free(b.p);
}

/* Cut anywhere: what is whole can be read, and it is not called finished. */
static void test_each_cut(void **state)
{
	struct bytes b = make(2, 2);
	size_t starts[] = {0, frame_at(b, 1), frame_at(b, 2), frame_at(b, 3)};

	for (size_t n = 0; n < b.n; n++) {
		unsigned whole = n >= starts[3] ? 3 : n >= starts[2] ? 2 : n >= starts[1] ? 1 : 0;
		static const unsigned records[] = {0, 3, 5, 6};
		struct reader_record rec;
		struct reader_info info;
		struct verify_result res;
		struct reader *r;
		unsigned got = 0;
		int fd = memory_file(b.p, n), err = reader_new(fd, &r);

		assert_int_equal(verify(b.p, n, &res).n, 0);
		assert_int_equal(res.frames, whole);
		assert_false(res.finished);
		assert_int_equal(res.torn_bytes, n - starts[whole]);
		if (!whole) {
			assert_int_equal(err, -ENODATA);
			(void)close(fd);
			continue;
		}
		assert_int_equal(err, 0);
		while (reader_next(r, &rec) == 1)
			got++;
		assert_int_equal(got, records[whole]);
		assert_int_equal(reader_get_info(r, &info), 0);
		assert_int_equal(info.frames, whole);
		assert_int_equal(info.torn_bytes, n - starts[whole]);
		assert_false(info.finished);
		reader_free(r);
	}
	free(b.p);
}

/* Frames taken out, doubled, swapped, or from another recording. */
static void test_rearranged(void **state)
{
	struct bytes b = make(3, 4), other = make(4, 4);
	static const struct {
		int frames[6]; /* of b; over 100: of other; -1: end */
		uint64_t fault;
	} rows[] = {
		{.frames = {0, 1, 2, 3, 4, -1}, .fault = UINT64_MAX},
		{.frames = {1, 2, 3, 4, -1}, .fault = 0},
		{.frames = {0, 2, 3, 4, -1}, .fault = 1},
		{.frames = {0, 1, 1, 2, 3, 4}, .fault = 2},
		{.frames = {0, 2, 1, 3, 4, -1}, .fault = 1},
		{.frames = {0, 101, 2, 3, 4, -1}, .fault = 1},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct bytes mix = {.p = malloc(b.n + other.n), .n = 0};
		struct reader_record rec;
		struct verify_result res;
		struct faults f;
		struct reader *r;
		int err;

		assert_non_null(mix.p);
		for (size_t k = 0; k < 6 && rows[i].frames[k] >= 0; k++) {
			bool foreign = rows[i].frames[k] > 100;
			struct bytes from = foreign ? other : b;
			unsigned seq = (unsigned)rows[i].frames[k] % 100;
			size_t at = frame_at(from, seq), n = frame_at(from, seq + 1) - at;

			memcpy(mix.p + mix.n, from.p + at, n);
			mix.n += n;
		}
		f = verify(mix.p, mix.n, &res);
		assert_int_equal(reader_new(memory_file(mix.p, mix.n), &r), 0);
		while ((err = reader_next(r, &rec)) == 1)
			;
		if (rows[i].fault == UINT64_MAX) {
			assert_int_equal(f.n, 0);
			assert_int_equal(err, 0);
		} else {
			assert_true(f.n > 0);
			assert_int_equal(f.first_frame, rows[i].fault);
			assert_int_equal(err, -EBADMSG);
			assert_int_equal(reader_fault(r)->frame, rows[i].fault);
			/* It goes on behind it, down to the end record. */
			while ((err = reader_next(r, &rec)))
				assert_true(err == 1 || err == -EBADMSG);
			assert_int_equal(rec.type, TG_REC_END);
		}
		reader_free(r);
		free(mix.p);
	}
	free(b.p);
	free(other.p);
}

static void expect_at(struct reader *r, unsigned n)
{
	struct reader_record rec;

	assert_int_equal(reader_next(r, &rec), 1);
	assert_int_equal(rec.wall_ns, 1000 + n);
	assert_int_equal(rec.frame, n / 2);
}

static void test_seek(void **state)
{
	struct bytes b = make(5, 50);
	size_t table = frame_at(b, 51);

	/* With the table, and without it. */
	for (unsigned i = 0; i < 2; i++) {
		struct reader_info info;
		struct reader_record rec;
		struct reader *r;

		assert_int_equal(reader_new(memory_file(b.p, i ? table : b.n), &r), 0);
		assert_int_equal(reader_get_info(r, &info), 0);
		assert_int_equal(info.finished, !i);
		assert_int_equal(info.frames, 51);
		for (unsigned seq = 49; seq > 0; seq -= 7) {
			assert_int_equal(reader_seek(r, seq), 0);
			expect_at(r, 2 * seq);
			expect_at(r, 2 * seq + 1);
		}
		assert_int_equal(reader_seek(r, 51), -ERANGE);
		for (unsigned n = 5; n < 100; n += 11) {
			assert_int_equal(reader_seek_time(r, 1000 + n), 0);
			expect_at(r, n / 2 * 2);
		}
		assert_int_equal(reader_seek(r, 50), 0);
		assert_int_equal(reader_next(r, &rec), 1);
		assert_int_equal(rec.type, TG_REC_END);
		assert_int_equal(reader_next(r, &rec), 0);
		assert_int_equal(reader_seek_time(r, 0), 0);
		assert_int_equal(reader_next(r, &rec), 1);
		assert_int_equal(rec.type, TG_REC_HEADER);
		reader_free(r);
	}
	/* A table that lies is not used. */
	for (unsigned bit = 0; bit < 16; bit++) {
		struct reader *r;

		b.p[table + 8 + 16 * 20 + bit] ^= 1;
		assert_int_equal(reader_new(memory_file(b.p, b.n), &r), 0);
		assert_int_equal(reader_seek(r, 33), 0);
		expect_at(r, 66);
		reader_free(r);
		b.p[table + 8 + 16 * 20 + bit] ^= 1;
	}
	free(b.p);
}

static size_t len_follow(unsigned n)
{
	return 40000 + n;
}

/* A reader that is ahead of the writer waits, and then goes on. */
static void test_follow(void **state)
{
	struct uuid session = recfix_session(6);
	struct reader_record rec;
	struct reader *r;
	struct recfix f;
	struct rec *w;

	recfix_init(&f, 4);
	w = recfix_begin(&f, 6);
	journal_idle(f.j, 1, 0);
	journal_idle(f.j, 2, 0);
	recfix_work(&f);
	assert_int_equal(reader_new(recfix_open(&f, &session, O_RDONLY), &r), 0);
	assert_int_equal(reader_next(r, &rec), 1);
	for (unsigned n = 0; n < 10; n++) {
		assert_int_equal(reader_next(r, &rec), 0);
		assert_int_equal(recfix_put(w, n, len_follow(n)), 0);
		journal_idle(f.j, 10 * n + 10, 0);
		journal_idle(f.j, 10 * n + 11, 0);
		recfix_work(&f);
		assert_int_equal(reader_next(r, &rec), 1);
		assert_int_equal(rec.payload.n, len_follow(n));
		assert_false(rec.incomplete);
	}
	rec_close(w, 1, TG_R_CLIENT_CLOSED);
	recfix_work(&f);
	assert_int_equal(reader_next(r, &rec), 1);
	assert_int_equal(rec.type, TG_REC_END);
	assert_int_equal(reader_next(r, &rec), 0);
	reader_free(r);
	recfix_done(&f);
}

/* A frame made by hand. */
static int craft(const struct tg_rec_head *heads, size_t n)
{
	int fd = memfd_create("recording", MFD_CLOEXEC);
	struct tg_rec_frame frame = {.records = (uint32_t)n, .first_wall_ns = heads[0].wall_ns};
	struct framer f;
	uint64_t bytes;

	assert_true(fd >= 0);
	assert_int_equal(framer_init(&f), 0);
	for (size_t i = 0; i < n; i++) {
		memcpy(f.raw + frame.raw_bytes, &heads[i], sizeof(heads[i]));
		frame.raw_bytes += sizeof(heads[i]);
		memset(f.raw + frame.raw_bytes, 'a' + (int)i, min_size(heads[i].len, 100));
		frame.raw_bytes += (uint32_t)min_size(heads[i].len, 100);
	}
	assert_int_equal(framer_write(&f, fd, 0, &frame, false, &bytes), 0);
	framer_done(&f);
	return fd;
}

/* Frames whose hash is right, but whose content is not. */
static void test_crafted(void **state)
{
	static const struct {
		struct tg_rec_head heads[3];
		size_t n;
		const char *what;
	} rows[] = {
		{.heads = {{.len = 30, .type = TG_REC_CLIENT}}, .n = 1, .what = "header"},
		{.heads = {{.len = 30, .type = TG_REC_HEADER}}, .n = 1, .what = "magic"},
		{.heads = {{.len = 101, .type = TG_REC_CLIENT}},
		 .n = 1,
		 .what = "inside of a record"},
		{.heads = {{.len = UINT32_MAX, .type = 2}}, .n = 1, .what = "inside of a record"},
		{.heads = {{.len = 3, .type = 13}}, .n = 1, .what = "unknown type"},
		{.heads = {{.len = 3, .type = 0}}, .n = 1, .what = "unknown type"},
		{.heads = {{.len = 3, .type = 2, .flags = 2}}, .n = 1, .what = "unknown flags"},
	};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		struct verify_result res;
		struct reader_record rec;
		struct faults f = {.n = 0};
		struct reader *r;
		int fd = craft(rows[i].heads, rows[i].n), err;

		assert_int_equal(verify_file(fd, on_fault, &f, &res), 0);
		assert_true(f.n > 0);
		assert_int_equal(f.first_frame, 0);
		assert_non_null(strstr(f.first, rows[i].what));
		assert_int_equal(reader_new(fd, &r), 0);
		err = reader_next(r, &rec);
		assert_true(i < 2 ? err == 1 : err == -EBADMSG);
		reader_free(r);
	}
}

/* A split record whose rest never came. */
static void test_incomplete(void **state)
{
	static const struct tg_rec_head heads[] = {
		{.len = 10, .type = TG_REC_SERVER, .flags = TG_REC_F_MORE},
		{.len = 20, .type = TG_REC_SERVER, .flags = TG_REC_F_MORE},
		{.len = 5, .type = TG_REC_END},
	};
	struct reader_record rec;
	struct reader *r;

	for (size_t n = 2; n < 4; n++) {
		assert_int_equal(reader_new(craft(heads, n), &r), 0);
		assert_int_equal(reader_next(r, &rec), 1);
		assert_true(rec.incomplete);
		assert_int_equal(rec.payload.n, 30);
		assert_int_equal(rec.payload.p[10], 'b');
		assert_int_equal(reader_next(r, &rec), n == 3);
		reader_free(r);
	}
}

static void test_export(void **state)
{
	static const struct {
		struct reader_record rec;
		const char *want;
	} rows[] = {
		{.rec = {.type = TG_REC_COMMAND,
			 .payload = SLICE_LIT("{\"text\": \"a\\u0000b\\n\"}")},
		 .want = "{\"text\":\"a\\u0000b\\n\"}"},
		{.rec = {.type = TG_REC_HEADER, .payload = SLICE_LIT(TG_REC_MAGIC "{ \"v\" : 1 }")},
		 .want = "{\"v\":1}"},
		{.rec = {.type = TG_REC_HEADER, .payload = SLICE_LIT("TGREC\0\0\2{}")},
		 .want = NULL},
		{.rec = {.type = TG_REC_COMMAND, .payload = SLICE_LIT("{\"text\":")}, .want = NULL},
		{.rec = {.type = TG_REC_CLIENT, .payload = SLICE_LIT("Q\0\0\0\5")}, .want = NULL},
		{.rec = {.type = TG_REC_SERVER, .payload = SLICE_LIT("")}, .want = NULL},
	};
	struct buf out;

	buf_init(&out, 4096);
	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		json_t *line, *data;

		buf_reset(&out);
		assert_int_equal(export_jsonl(&rows[i].rec, i, &out), 0);
		assert_ptr_equal(memchr(buf_data(&out), '\n', out.n), buf_data(&out) + out.n - 1);
		line = json_loadb((const char *)buf_data(&out), out.n, JSON_ALLOW_NUL, NULL);
		assert_non_null(line);
		assert_int_equal(json_integer_value(json_object_get(line, "n")), i);
		assert_string_equal(json_string_value(json_object_get(line, "type")),
				    reader_type_name(rows[i].rec.type));
		data = json_object_get(line, "data");
		if (rows[i].want) {
			char *text = json_dumps(data, JSON_COMPACT);

			assert_string_equal(text, rows[i].want);
			free(text);
		} else {
			assert_null(data);
			assert_int_equal(json_integer_value(json_object_get(line, "bytes")),
					 rows[i].rec.payload.n);
			assert_non_null(json_object_get(line, "base64"));
		}
		json_decref(line);
	}
	buf_done(&out);
	/* What does not fit leaves nothing behind. */
	buf_init(&out, 60);
	assert_int_equal(export_jsonl(&rows[0].rec, 1, &out), -EMSGSIZE);
	assert_int_equal(out.n, 0);
	buf_done(&out);
}

static void test_not_a_recording(void **state)
{
	static const uint8_t zeros[200];
	struct reader *r;
	int fd = memory_file(zeros, sizeof(zeros));

	assert_int_equal(reader_new(fd, &r), -EBADMSG);
	(void)close(fd);
	fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	assert_int_equal(reader_new(fd, &r), -EINVAL);
	(void)close(fd);
}

/* zstd's own tool reads it, and prints the records. */
static void test_zstd_tool(void **state)
{
	struct bytes b = make(7, 3);
	char command[200], path[] = "/tmp/rectool.XXXXXX";
	int fd = mkstemp(path);
	uint8_t out[4096];
	size_t n, records = 0;
	FILE *p;

	assert_true(fd >= 0);
	assert_int_equal(write_all_at(fd, b.p, b.n, 0), 0);
	(void)close(fd);
	if (system("zstd --version >/dev/null 2>&1")) {
		(void)unlink(path);
		free(b.p);
		skip();
	}
	(void)snprintf(command, sizeof(command), "zstd -q -t %s", path);
	assert_int_equal(system(command), 0);
	(void)snprintf(command, sizeof(command), "zstdcat %s", path);
	p = popen(command, "r");
	assert_non_null(p);
	n = fread(out, 1, sizeof(out), p);
	assert_int_equal(pclose(p), 0);
	(void)unlink(path);
	for (size_t off = 0; off < n; records++) {
		struct tg_rec_head head;

		assert_true(n - off >= sizeof(head));
		memcpy(&head, out + off, sizeof(head));
		off += sizeof(head) + head.len;
		assert_true(off <= n);
		assert_int_equal(head.type == TG_REC_END, off == n);
	}
	assert_int_equal(records, 8);
	free(b.p);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_each_bit),	cmocka_unit_test(test_each_cut),
		cmocka_unit_test(test_rearranged),	cmocka_unit_test(test_seek),
		cmocka_unit_test(test_follow),		cmocka_unit_test(test_crafted),
		cmocka_unit_test(test_incomplete),	cmocka_unit_test(test_export),
		cmocka_unit_test(test_not_a_recording), cmocka_unit_test(test_zstd_tool),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
