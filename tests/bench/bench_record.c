/* SPDX-License-Identifier: MIT */
/*
 * What recording costs: a small record into the journal, bulk into the journal,
 * frames to a file. One JSON object per line. Usage: bench_record [DIR]
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/reason.h"
#include "record/journal.h"

enum { SLOTS = 256, SESSIONS = 64, ROUNDS = 7 };

struct bench {
	struct journal *j;
	int dir;
	uint8_t data[1 << 20];
};

static void need_file(void *ctx, const struct uuid *session)
{
	struct bench *b = ctx;
	char name[UUID_TEXT];
	int fd;

	uuid_format(session, name);
	fd = openat(b->dir, name, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	journal_file(b->j, session, fd, errno);
}

static void writable(void *ctx)
{
}

static void failed(void *ctx, const struct uuid *session, int error)
{
	(void)fprintf(stderr, "recording failed: %s\n", strerror(-error));
	exit(1);
}

static const struct journal_ops ops = {
	.need_file = need_file, .writable = writable, .failed = failed};

static struct rec *begin(struct bench *b, struct uuid *session)
{
	struct rec *r;

	uuid_new(clock_wall_ns(), session);
	if (rec_new(b->j, session, SLICE_LIT("{\"v\":1}"), &r))
		exit(1);
	return r;
}

static void end(struct bench *b, struct rec *r, const struct uuid *session)
{
	char name[UUID_TEXT];

	rec_close(r, clock_wall_ns(), TG_R_CLIENT_CLOSED);
	while (journal_work(b->j, 64))
		;
	uuid_format(session, name);
	(void)unlinkat(b->dir, name, 0);
}

static int compare(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static double median(double v[ROUNDS])
{
	qsort(v, ROUNDS, sizeof(*v), compare);
	return v[ROUNDS / 2];
}

/* Only the puts are timed; frames are made in between. */
static double put_ns(struct bench *b, size_t len, bool reserve)
{
	uint64_t total = 0, n = 0, start;
	struct uuid session;
	struct rec *r = begin(b, &session);
	unsigned batch = (unsigned)max_size(1, 1000000 / (len + 16));
	int err = 0;

	while (n < 40 * (uint64_t)batch) {
		start = clock_ns(CLOCK_MONOTONIC);
		for (unsigned i = 0; i < batch && !err; i++) {
			struct slice part = slice_of(b->data + (n + i) % 4096, len);

			if (reserve) {
				uint8_t *p = rec_reserve(r, TG_REC_SERVER, n, len, &err);

				if (!p)
					break;
				memcpy(p, part.p, len);
				rec_commit(r);
			} else {
				err = rec_put(r, TG_REC_CLIENT, n, &part, 1);
			}
		}
		total += clock_ns(CLOCK_MONOTONIC) - start;
		if (err)
			exit(1);
		n += batch;
		while (journal_work(b->j, 64))
			;
	}
	end(b, r, &session);
	return (double)total / (double)n;
}

/* All of it: puts, hash, compression, write. MB of payload a second, frames a second. */
static double whole(struct bench *b, size_t len, double *ret_frames_s, double *ret_ratio)
{
	struct journal_stats before, after;
	struct uuid session;
	struct rec *r = begin(b, &session);
	uint64_t start = clock_ns(CLOCK_MONOTONIC), bytes = 0;
	double seconds;

	journal_get_stats(b->j, &before);
	for (size_t off = 0; bytes < 48u << 20; bytes += len, off += len) {
		struct slice part = slice_of(b->data + off % (sizeof(b->data) - len), len);

		while (rec_put(r, TG_REC_SERVER, bytes, &part, 1))
			(void)journal_work(b->j, 4);
		(void)journal_work(b->j, 1);
	}
	while (journal_work(b->j, 64))
		;
	seconds = (double)(clock_ns(CLOCK_MONOTONIC) - start) / 1e9;
	journal_get_stats(b->j, &after);
	*ret_frames_s = (double)(after.frames - before.frames) / seconds;
	*ret_ratio = (double)bytes / (double)(after.stored_bytes - before.stored_bytes);
	end(b, r, &session);
	return (double)bytes / 1e6 / seconds;
}

/* Rows as PostgreSQL sends them: ten columns of words and numbers. */
static void fill(struct bench *b)
{
	static const char *const words[] = {"amsterdam", "pending",  "shipped",	 "invoice",
					    "green",	 "customer", "returned", "open",
					    "large",	 "berlin"};
	uint32_t x = 12345;
	size_t at = 0;

	while (at + 64 < sizeof(b->data)) {
		x = x * 1664525u + 1013904223u;
		at += (size_t)snprintf((char *)b->data + at, 64, "%c%c%c%c%s%u", 0, 0, 0, 12,
				       words[x >> 8 & 7], x >> 16);
	}
}

static void bench_puts(struct bench *b)
{
	static const struct {
		size_t len;
		bool reserve;
	} rows[] = {{60, false}, {200, false}, {200, true}, {4096, false}, {32752, true}};

	for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
		double ns[ROUNDS];

		for (unsigned k = 0; k < ROUNDS; k++)
			ns[k] = put_ns(b, rows[i].len, rows[i].reserve);
		printf("{\"bench\":\"record\",\"what\":\"%s\",\"bytes\":%zu,\"ns\":%.1f,\"mb_s\":%."
		       "0f}\n",
		       rows[i].reserve ? "reserve" : "put", rows[i].len, median(ns),
		       (double)rows[i].len * 1000 / median(ns));
	}
}

static void bench_whole(struct bench *b)
{
	static const size_t lens[] = {60, 1000, 32752, 262144};

	for (size_t i = 0; i < ARRAY_SIZE(lens); i++) {
		double mb[ROUNDS], frames = 0, ratio = 0;

		for (unsigned k = 0; k < ROUNDS; k++)
			mb[k] = whole(b, lens[i], &frames, &ratio);
		printf("{\"bench\":\"record\",\"what\":\"whole\",\"bytes\":%zu,\"mb_s\":%.0f,"
		       "\"frames_s\":%.0f,\"ratio\":%.2f}\n",
		       lens[i], median(mb), frames, ratio);
	}
}

int main(int argc, char **argv)
{
	char dir[] = "/tmp/bench_record.XXXXXX";
	static struct bench b;
	int fd;

	if (argc < 2 && !mkdtemp(dir))
		return 1;
	b.dir = open(argc < 2 ? dir : argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = openat(b.dir, "journal", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	if (fd < 0 || ftruncate(fd, (off_t)SLOTS * JOURNAL_SLOT_BYTES) ||
	    journal_new(fd, &ops, &b, &b.j))
		return 1;
	fill(&b);
	bench_puts(&b);
	bench_whole(&b);
	journal_free(b.j);
	(void)unlinkat(b.dir, "journal", 0);
	if (argc < 2)
		(void)rmdir(dir);
	return 0;
}
