/* SPDX-License-Identifier: MIT */
#include "recfix.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/reason.h"

static void path_of(const struct recfix *f, const struct uuid *session, char dst[160])
{
	char name[UUID_TEXT];

	uuid_format(session, name);
	(void)snprintf(dst, 160, "%s/%s" TG_REC_SUFFIX, f->dir, name);
}

int recfix_open(const struct recfix *f, const struct uuid *session, int flags)
{
	char path[160];

	path_of(f, session, path);
	return open(path, flags | O_CLOEXEC, 0600);
}

uint64_t recfix_size(const struct recfix *f, const struct uuid *session)
{
	char path[160];
	struct stat st;

	path_of(f, session, path);
	return stat(path, &st) ? 0 : (uint64_t)st.st_size;
}

void recfix_answer(struct recfix *f, const struct uuid *session)
{
	int fd = f->refuse ? -1 : recfix_open(f, session, O_RDWR | O_CREAT);

	journal_file(f->j, session, fd, f->refuse);
}

static void need_file(void *ctx, const struct uuid *session)
{
	struct recfix *f = ctx;

	f->asked++;
	f->last_asked = *session;
	if (!f->hold)
		recfix_answer(f, session);
}

static void writable(void *ctx)
{
	((struct recfix *)ctx)->writable++;
}

static void failed(void *ctx, const struct uuid *session, int error)
{
	struct recfix *f = ctx;

	f->failed++;
	f->failed_error = error;
}

static const struct journal_ops ops = {
	.need_file = need_file,
	.writable = writable,
	.failed = failed,
};

int recfix_journal_fd(const struct recfix *f)
{
	char path[160];
	int fd;

	(void)snprintf(path, sizeof(path), "%s/journal", f->dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	return fd;
}

void recfix_init(struct recfix *f, unsigned slots)
{
	int fd;

	*f = (struct recfix){.dir = "/tmp/recfix.XXXXXX"};
	assert_non_null(mkdtemp(f->dir));
	fd = recfix_journal_fd(f);
	assert_int_equal(ftruncate(fd, (off_t)slots * JOURNAL_SLOT_BYTES), 0);
	assert_int_equal(journal_new(fd, &ops, f, &f->j), 0);
}

void recfix_crash(struct recfix *f)
{
	journal_free(f->j);
	assert_int_equal(journal_new(recfix_journal_fd(f), &ops, f, &f->j), 0);
}

void recfix_done(struct recfix *f)
{
	DIR *d = opendir(f->dir);
	struct dirent *e;

	journal_free(f->j);
	assert_non_null(d);
	while ((e = readdir(d)))
		if (e->d_name[0] != '.')
			assert_int_equal(unlinkat(dirfd(d), e->d_name, 0), 0);
	(void)closedir(d);
	assert_int_equal(rmdir(f->dir), 0);
}

void recfix_work(struct recfix *f)
{
	while (journal_work(f->j, 8))
		;
}

struct uuid recfix_session(unsigned n)
{
	struct uuid u = {{0x01, 0x9a, 0, 0, 0, 0, 0x70}};

	u.b[8] = 0x80;
	store_be32(u.b + 12, n);
	return u;
}

struct rec *recfix_begin(struct recfix *f, unsigned n)
{
	struct uuid session = recfix_session(n);
	struct rec *r;

	assert_int_equal(rec_new(f->j, &session, SLICE_LIT("{\"v\":1,\"agent\":\"test\"}"), &r), 0);
	return r;
}

static enum tg_rec_type type_of(unsigned n)
{
	return n % 3 ? TG_REC_CLIENT : TG_REC_SERVER;
}

static void fill(uint8_t *p, unsigned n, size_t len)
{
	uint32_t x = n * 2654435761u + 1;

	for (size_t i = 0; i < len; i++) {
		x = x * 1664525u + 1013904223u;
		p[i] = (uint8_t)(i < 16 ? n >> 8 * (i % 4) : x >> 27);
	}
}

int recfix_put(struct rec *r, unsigned n, size_t len)
{
	uint8_t *p = malloc(len + 1);
	struct slice parts[3];
	int err;

	assert_non_null(p);
	fill(p, n, len);
	parts[0] = slice_of(p, len / 3);
	parts[1] = slice_of(NULL, 0);
	parts[2] = slice_of(p + len / 3, len - len / 3);
	err = rec_put(r, type_of(n), 1000 + n, parts, 3);
	free(p);
	return err;
}

void recfix_expect(const struct recfix *f, const struct uuid *session, unsigned count,
		   size_t (*len)(unsigned n), bool ended)
{
	int fd = recfix_open(f, session, O_RDONLY);
	struct reader_record rec;
	struct reader *r;

	assert_true(fd >= 0);
	assert_int_equal(reader_new(fd, &r), 0);
	assert_int_equal(reader_next(r, &rec), 1);
	assert_int_equal(rec.type, TG_REC_HEADER);
	assert_true(slice_eq_str(reader_json(&rec), "{\"v\":1,\"agent\":\"test\"}"));
	for (unsigned n = 0; n < count; n++) {
		uint8_t *want = malloc(len(n) + 1);

		assert_non_null(want);
		fill(want, n, len(n));
		assert_int_equal(reader_next(r, &rec), 1);
		assert_int_equal(rec.type, type_of(n));
		assert_int_equal(rec.wall_ns, 1000 + n);
		assert_false(rec.incomplete);
		assert_int_equal(rec.payload.n, len(n));
		assert_memory_equal(rec.payload.p, want, len(n));
		free(want);
	}
	if (ended) {
		assert_int_equal(reader_next(r, &rec), 1);
		assert_int_equal(rec.type, TG_REC_END);
	}
	assert_int_equal(reader_next(r, &rec), 0);
	reader_free(r);
}

static void on_fault(void *ctx, const struct reader_fault *fault)
{
	if (ctx)
		print_message("frame %llu at %llu %s\n", (unsigned long long)fault->frame,
			      (unsigned long long)fault->offset, fault->what);
}

uint64_t recfix_verify(const struct recfix *f, const struct uuid *session,
		       struct verify_result *ret)
{
	int fd = recfix_open(f, session, O_RDONLY);
	struct verify_result res;

	assert_true(fd >= 0);
	assert_int_equal(verify_file(fd, on_fault, (void *)(uintptr_t)f, &res), 0);
	(void)close(fd);
	if (ret)
		*ret = res;
	return res.faults;
}
