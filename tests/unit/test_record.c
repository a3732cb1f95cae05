/* SPDX-License-Identifier: MIT */
/* Writing recordings: what is put comes out, whatever the sizes, the disk and the order. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/reason.h"
#include "recfix.h"

static size_t len_small(unsigned n)
{
	return n * 7 % 200;
}

static void test_round_trip(void **state)
{
	struct uuid session = recfix_session(1);
	struct verify_result res;
	struct journal_stats stats;
	struct recfix f;
	struct rec *r;

	recfix_init(&f, 8);
	r = recfix_begin(&f, 1);
	for (unsigned n = 0; n < 5000; n++) {
		assert_int_equal(recfix_put(r, n, len_small(n)), 0);
		(void)journal_work(f.j, 1);
	}
	rec_close(r, 9000, TG_R_CLIENT_CLOSED);
	recfix_work(&f);
	recfix_expect(&f, &session, 5000, len_small, true);
	assert_int_equal(recfix_verify(&f, &session, &res), 0);
	assert_true(res.finished && res.ended && !res.recovered);
	assert_int_equal(res.records, 5002);
	journal_get_stats(f.j, &stats);
	assert_int_equal(stats.slots_used, 0);
	assert_int_equal(stats.open_files, 0);
	assert_int_equal(stats.records, 5001); /* the end record is nobody's */
	assert_int_equal(stats.frames, res.frames);
	assert_int_equal(f.asked, 1); /* the file stayed open while there was work */
	recfix_done(&f);
}

/* Lengths for test_boundaries: record 2 leaves so many bytes in the frame for record 3. */
static size_t fill_len, cut_len;

static size_t len_boundary(unsigned n)
{
	return n < 2 ? 30000 : n == 2 ? fill_len : n == 3 ? cut_len : 3;
}

static void boundary(struct recfix *f, unsigned number, size_t left, size_t len)
{
	/* Heads and the header's payload of 30 bytes come to 16 * 4 + 30. */
	enum { FILL = TG_REC_FRAME_RAW - 64 - 30 - 60000 };
	struct uuid session = recfix_session(number);
	struct rec *r = recfix_begin(f, number);

	fill_len = FILL - left;
	cut_len = len;
	for (unsigned n = 0; n < 5; n++)
		assert_int_equal(recfix_put(r, n, len_boundary(n)), 0);
	rec_close(r, 1, TG_R_CLIENT_CLOSED);
	recfix_work(f);
	recfix_expect(f, &session, 5, len_boundary, true);
	assert_int_equal(recfix_verify(f, &session, NULL), 0);
}

static void test_boundaries(void **state)
{
	static const size_t lens[] = {0,
				      1,
				      15,
				      16,
				      17,
				      1023,
				      1024,
				      1025,
				      2000,
				      TG_REC_CHUNK - 1,
				      TG_REC_CHUNK,
				      TG_REC_CHUNK + 1,
				      65503,
				      65504,
				      65505,
				      65520,
				      100000};
	static const size_t lefts[] = {0,  1,  2,    14,   15,	 16,   17,   18,   31,	 32,
				       33, 34, 1023, 1024, 1039, 1040, 1041, 1056, 2016, 2017};
	struct recfix f;

	recfix_init(&f, 8);
	for (size_t i = 0; i < ARRAY_SIZE(lefts); i++)
		for (size_t k = 0; k < ARRAY_SIZE(lens); k++)
			boundary(&f, (unsigned)(100 * i + k), lefts[i], lens[k]);
	recfix_done(&f);
}

static size_t len_huge(unsigned n)
{
	static const size_t lens[] = {0, 65504, 65505, 1 << 20, 3, 131008, 131009};

	return lens[n];
}

static void test_huge(void **state)
{
	struct uuid session = recfix_session(2);
	struct recfix f;
	struct rec *r;

	recfix_init(&f, 32);
	r = recfix_begin(&f, 2);
	for (unsigned n = 0; n < 7; n++) {
		assert_int_equal(recfix_put(r, n, len_huge(n)), 0);
		recfix_work(&f);
	}
	/* More than the journal can ever hold is said at once, not waited for. */
	assert_int_equal(recfix_put(r, 7, 33 * 65536), -EMSGSIZE);
	rec_close(r, 1, TG_R_CLIENT_CLOSED);
	recfix_work(&f);
	recfix_expect(&f, &session, 7, len_huge, true);
	assert_int_equal(recfix_verify(&f, &session, NULL), 0);
	recfix_done(&f);
}

static size_t len_reserved(unsigned n)
{
	return n * 97 % (TG_REC_CHUNK + 1);
}

static void test_reserve(void **state)
{
	struct uuid session = recfix_session(3);
	struct reader_record rec;
	struct reader *reader;
	struct recfix f;
	struct rec *r;
	uint8_t *p;
	int err = 0;

	recfix_init(&f, 8);
	r = recfix_begin(&f, 3);
	for (unsigned n = 0; n < 2000; n++) {
		p = rec_reserve(r, TG_REC_SERVER, n, len_reserved(n), &err);
		assert_non_null(p);
		memset(p, (int)n, len_reserved(n));
		if (n % 7 == 0)
			continue; /* given up */
		rec_commit(r);
		journal_idle(f.j, n, 0);
		recfix_work(&f);
	}
	rec_close(r, 1, TG_R_CLIENT_CLOSED);
	recfix_work(&f);
	assert_int_equal(recfix_verify(&f, &session, NULL), 0);
	assert_int_equal(reader_new(recfix_open(&f, &session, O_RDONLY), &reader), 0);
	assert_int_equal(reader_next(reader, &rec), 1);
	for (unsigned n = 0; n < 2000; n++) {
		if (n % 7 == 0)
			continue;
		assert_int_equal(reader_next(reader, &rec), 1);
		assert_int_equal(rec.wall_ns, n);
		assert_int_equal(rec.payload.n, len_reserved(n));
		for (size_t i = 0; i < rec.payload.n; i += 1000)
			assert_int_equal(rec.payload.p[i], (uint8_t)n);
	}
	assert_int_equal(reader_next(reader, &rec), 1);
	assert_int_equal(rec.type, TG_REC_END);
	reader_free(reader);
	recfix_done(&f);
}

static size_t len_ten(unsigned n)
{
	return 10;
}

static size_t len_half(unsigned n)
{
	return 30000 + n;
}

/* Frames wait in their slots for the file; the order is kept. */
static void test_wait_for_file(void **state)
{
	struct uuid session = recfix_session(4);
	struct journal_stats stats;
	struct recfix f;
	struct rec *r;
	unsigned n = 0;

	recfix_init(&f, 6);
	f.hold = true;
	r = recfix_begin(&f, 4);
	while (recfix_put(r, n, len_half(n)) == 0) {
		assert_false(journal_work(f.j, 8)); /* nothing that could be done now */
		n++;
	}
	assert_int_equal(recfix_put(r, n, len_half(n)), -EAGAIN);
	assert_true(n >= 11);
	assert_int_equal(f.asked, 1);
	assert_int_equal(f.writable, 0);
	journal_get_stats(f.j, &stats);
	assert_int_equal(stats.slots_used, 6);
	assert_int_equal(stats.refused, 2);
	recfix_answer(&f, &session);
	recfix_work(&f);
	assert_true(f.writable > 0);
	assert_int_equal(recfix_put(r, n, len_half(n)), 0);
	rec_close(r, 1, TG_R_CLIENT_CLOSED);
	recfix_work(&f);
	assert_int_equal(f.asked, 1);
	recfix_expect(&f, &session, n + 1, len_half, true);
	assert_int_equal(recfix_verify(&f, &session, NULL), 0);
	recfix_done(&f);
}

/* The end finds no slot: it is made when the file is written. */
static void test_end_without_slot(void **state)
{
	struct uuid session = recfix_session(5);
	struct rec *r, *other;
	struct recfix f;

	recfix_init(&f, 2);
	f.hold = true;
	r = recfix_begin(&f, 5);
	assert_int_equal(recfix_put(r, 0, 30000), 0);
	other = recfix_begin(&f, 6);
	journal_idle(f.j, 1, 0);
	journal_idle(f.j, 2, 0); /* both tails are frames now */
	rec_close(r, 77, TG_R_CLIENT_CLOSED);
	rec_close(other, 77, TG_R_CLIENT_CLOSED);
	f.hold = false;
	(void)journal_work(f.j, 1);
	recfix_answer(&f, &session);
	session = recfix_session(6);
	recfix_answer(&f, &session);
	recfix_work(&f);
	assert_int_equal(recfix_verify(&f, &session, NULL), 0);
	recfix_expect(&f, &session, 0, len_half, true);
	session = recfix_session(5);
	assert_int_equal(recfix_verify(&f, &session, NULL), 0);
	recfix_done(&f);
}

/* Many more sessions than slots; then all idle. */
static void test_pressure(void **state)
{
	enum { SESSIONS = 300 };
	struct rec *r[SESSIONS];
	struct journal_stats stats;
	struct recfix f;

	recfix_init(&f, 16);
	for (unsigned i = 0; i < SESSIONS; i++) {
		struct uuid session = recfix_session(i);

		while (rec_new(f.j, &session, SLICE_LIT("{\"v\":1,\"agent\":\"test\"}"), &r[i]))
			(void)journal_work(f.j, 2);
	}
	for (unsigned n = 0; n < 20; n++)
		for (unsigned i = 0; i < SESSIONS; i++)
			while (recfix_put(r[i], n, len_small(n)))
				(void)journal_work(f.j, 2);
	journal_idle(f.j, 1, 10);
	journal_idle(f.j, 20, 10);
	recfix_work(&f);
	journal_get_stats(f.j, &stats);
	assert_int_equal(stats.slots_used, 0);
	assert_int_equal(stats.open_files, 0);
	for (unsigned i = 0; i < SESSIONS; i++)
		rec_close(r[i], 1, TG_R_CLIENT_CLOSED);
	recfix_work(&f);
	for (unsigned i = 0; i < SESSIONS; i++) {
		struct uuid session = recfix_session(i);

		assert_int_equal(recfix_verify(&f, &session, NULL), 0);
		recfix_expect(&f, &session, 20, len_small, true);
	}
	recfix_done(&f);
}

static size_t len_short(unsigned n)
{
	return 100 + n;
}

/* All of a short session is one write, with the seek table, and stays in one block of the disk. */
static void test_short_session(void **state)
{
	struct uuid session = recfix_session(1);
	struct verify_result v;
	struct recfix f;
	struct rec *r;

	recfix_init(&f, 8);
	r = recfix_begin(&f, 1);
	for (unsigned n = 0; n < 30; n++)
		assert_int_equal(recfix_put(r, n, len_short(n)), 0);
	rec_close(r, 1, TG_R_CLIENT_CLOSED);
	assert_false(journal_work(f.j, 1));
	assert_true(journal_empty(f.j));
	assert_in_range(recfix_size(&f, &session), 100, 4096);
	recfix_expect(&f, &session, 30, len_short, true);
	assert_int_equal(recfix_verify(&f, &session, &v), 0);
	assert_int_equal(v.frames, 1);
	assert_true(v.finished);
	recfix_done(&f);
}

static void test_idle(void **state)
{
	struct uuid session = recfix_session(7);
	struct verify_result res;
	struct recfix f;
	struct rec *r;

	recfix_init(&f, 4);
	r = recfix_begin(&f, 7);
	journal_idle(f.j, 100, 50); /* touched since the last look */
	recfix_work(&f);
	assert_int_equal(recfix_size(&f, &session), 0);
	journal_idle(f.j, 149, 50);
	recfix_work(&f);
	assert_int_equal(recfix_size(&f, &session), 0);
	journal_idle(f.j, 150, 50);
	recfix_work(&f);
	assert_int_equal(recfix_verify(&f, &session, &res), 0);
	assert_int_equal(res.frames, 1);
	assert_false(res.finished);
	assert_int_equal(recfix_put(r, 0, 0), 0);
	rec_close(r, 1, TG_R_CLIENT_CLOSED);
	recfix_work(&f);
	assert_int_equal(f.asked, 2); /* the file was closed in between */
	recfix_expect(&f, &session, 1, len_small, true);
	recfix_done(&f);
}

/* A file that is there from the start is not asked for. */
static void test_unasked_file(void **state)
{
	struct uuid session = recfix_session(16);
	struct recfix f;
	struct rec *r;

	recfix_init(&f, 4);
	recfix_answer(&f, &session); /* too early: nobody knows the session */
	r = recfix_begin(&f, 16);
	recfix_answer(&f, &session);
	recfix_answer(&f, &session); /* once more: closed again */
	recfix_work(&f);
	assert_int_equal(recfix_put(r, 0, len_small(0)), 0);
	rec_close(r, 1, TG_R_CLIENT_CLOSED);
	recfix_work(&f);
	assert_int_equal(f.asked, 0);
	recfix_expect(&f, &session, 1, len_small, true);
	/* One that cannot be had fails the recording before anything is done. */
	session = recfix_session(17);
	r = recfix_begin(&f, 17);
	f.refuse = EACCES;
	recfix_answer(&f, &session);
	recfix_work(&f);
	assert_int_equal(f.failed, 1);
	assert_int_equal(recfix_put(r, 0, 1), -EACCES);
	rec_close(r, 1, TG_R_RECORD_FAILED);
	recfix_done(&f);
}

/* Sessions that cannot be written do not keep others from being written. */
static void test_stuck_slots(void **state)
{
	struct rec *r[9];
	struct recfix f;
	unsigned n = 0;

	recfix_init(&f, 16);
	f.refuse = EACCES; /* theirs alone: not a full disk */
	for (unsigned i = 0; i < 8; i++) {
		r[i] = recfix_begin(&f, 30 + i);
		assert_int_equal(recfix_put(r[i], 0, 10), 0);
	}
	journal_idle(f.j, 1, 0);
	journal_idle(f.j, 2, 0);
	recfix_work(&f);
	assert_int_equal(f.failed, 8);
	f.refuse = 0;
	r[8] = recfix_begin(&f, 38);
	for (; n < 200; n++)
		while (recfix_put(r[8], n, len_half(n)))
			(void)journal_work(f.j, 1);
	rec_close(r[8], 1, TG_R_CLIENT_CLOSED);
	recfix_work(&f);
	journal_idle(f.j, 3, 0);
	journal_idle(f.j, 6000000000, 0);
	for (unsigned i = 0; i < 8; i++)
		rec_close(r[i], 1, TG_R_RECORD_FAILED);
	recfix_work(&f);
	for (unsigned i = 30; i < 39; i++) {
		struct uuid session = recfix_session(i);

		recfix_expect(&f, &session, i == 38 ? 200 : 1, i == 38 ? len_half : len_ten, true);
		assert_int_equal(recfix_verify(&f, &session, NULL), 0);
	}
	recfix_done(&f);
}

static void test_refusals(void **state)
{
	struct uuid session = recfix_session(8);
	struct journal *j;
	struct recfix f;
	struct rec *r, *again;
	int fd, pipes[2];

	recfix_init(&f, 4);
	r = recfix_begin(&f, 8);
	assert_int_equal(rec_new(f.j, &session, SLICE_LIT("{}"), &again), -EEXIST);
	assert_int_equal(journal_adopt(f.j, &session, TG_R_WORKER_DIED), -EEXIST);
	rec_close(r, 1, TG_R_CLIENT_CLOSED);
	fd = recfix_open(&f, &session, O_RDWR | O_CREAT);
	assert_int_equal(ftruncate(fd, JOURNAL_SLOT_BYTES - 1), 0);
	assert_int_equal(journal_new(fd, NULL, NULL, &j), -EINVAL);
	assert_int_equal(pipe(pipes), 0);
	assert_int_equal(journal_new(pipes[0], NULL, NULL, &j), -EINVAL);
	(void)close(pipes[0]);
	(void)close(pipes[1]);
	(void)close(fd);
	recfix_done(&f);
}

/* --------------------------------------------------------------- failures */

static void test_no_file(void **state)
{
	struct uuid session = recfix_session(9), second = recfix_session(10);
	struct verify_result res;
	struct journal_stats stats;
	struct recfix f;
	struct rec *r, *other;

	recfix_init(&f, 8);
	f.refuse = ENOSPC;
	r = recfix_begin(&f, 9);
	assert_int_equal(recfix_put(r, 0, len_small(0)), 0);
	journal_idle(f.j, 1, 0);
	journal_idle(f.j, 2, 0);
	recfix_work(&f);
	assert_int_equal(f.failed, 1);
	assert_int_equal(f.failed_error, -ENOSPC);
	assert_int_equal(recfix_put(r, 1, 10), -ENOSPC);
	assert_int_equal(rec_new(f.j, &second, SLICE_LIT("{}"), &other), -ENOSPC);
	/* Tried again, but not at each turn, and without a second call. */
	journal_idle(f.j, 3, 0);
	recfix_work(&f);
	journal_idle(f.j, 6000000000, 0);
	recfix_work(&f);
	assert_int_equal(f.asked, 2);
	assert_int_equal(f.failed, 1);
	rec_close(r, 5, TG_R_RECORD_FAILED);
	recfix_work(&f);
	journal_get_stats(f.j, &stats);
	assert_int_equal(stats.stuck, 1);
	/* There is space again: what was put before is not lost. */
	f.refuse = 0;
	journal_idle(f.j, 12000000000, 0);
	journal_idle(f.j, 18000000000, 0);
	recfix_work(&f);
	recfix_expect(&f, &session, 1, len_small, true);
	assert_int_equal(recfix_verify(&f, &session, &res), 0);
	assert_int_equal(res.missing, 1);
	journal_get_stats(f.j, &stats);
	assert_int_equal(stats.stuck, 0);
	assert_int_equal(stats.failed, 1);
	assert_int_equal(rec_new(f.j, &second, SLICE_LIT("{}"), &other), 0);
	recfix_done(&f);
}

static void test_changed_file(void **state)
{
	struct uuid session = recfix_session(11);
	struct recfix f;
	struct rec *r;
	int fd;

	recfix_init(&f, 8);
	r = recfix_begin(&f, 11);
	journal_idle(f.j, 1, 0);
	journal_idle(f.j, 2, 0);
	recfix_work(&f);
	fd = recfix_open(&f, &session, O_RDWR);
	assert_int_equal(ftruncate(fd, 10), 0);
	(void)close(fd);
	assert_int_equal(recfix_put(r, 0, 1), 0);
	rec_close(r, 1, TG_R_CLIENT_CLOSED);
	recfix_work(&f);
	assert_int_equal(f.failed, 1);
	assert_int_equal(f.failed_error, -ESTALE);
	recfix_done(&f);
}

/* A write that stops in the middle of a frame: the file ends with the frame before. */
static void test_short_write(void **state)
{
	struct uuid session = recfix_session(12);
	struct rlimit old, limit;
	struct verify_result res;
	struct recfix f;
	struct rec *r;
	unsigned n = 0;

	recfix_init(&f, 4);
	r = recfix_begin(&f, 12);
	assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
	limit = (struct rlimit){.rlim_cur = 100000, .rlim_max = old.rlim_max};
	(void)signal(SIGXFSZ, SIG_IGN);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
	while (!f.failed) {
		if (recfix_put(r, n, len_half(n)) == 0)
			n++;
		(void)journal_work(f.j, 1);
	}
	assert_int_equal(f.failed_error, -EFBIG);
	assert_int_equal(recfix_verify(&f, &session, &res), 0);
	assert_int_equal(res.torn_bytes, 0);
	assert_true(res.frames > 0 && recfix_size(&f, &session) < 100000);
	rec_close(r, 5, TG_R_RECORD_FAILED);
	assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
	journal_idle(f.j, 1, 0);
	journal_idle(f.j, 6000000000, 0);
	recfix_work(&f);
	recfix_expect(&f, &session, n, len_half, true);
	assert_int_equal(recfix_verify(&f, &session, NULL), 0);
	assert_int_equal(f.failed, 1);
	recfix_done(&f);
}

static bool write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	bool ok = fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text);

	if (fd >= 0)
		(void)close(fd);
	return ok;
}

/* A mount namespace of our own, with or without being root. */
static bool own_mounts(void)
{
	char map[32];

	(void)snprintf(map, sizeof(map), "0 %u 1", (unsigned)geteuid());
	if (geteuid() == 0)
		return unshare(CLONE_NEWNS) == 0 &&
		       mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) == 0;
	return unshare(CLONE_NEWUSER | CLONE_NEWNS) == 0 && write_text("/proc/self/uid_map", map);
}

/* In a child; 77: not possible here. */
static int full_disk(void)
{
	struct recfix f;
	struct journal *j;
	struct rec *r;
	unsigned n = 0;
	char dir[] = "/tmp/recfull.XXXXXX";
	int fd;

	recfix_init(&f, 4);
	if (!mkdtemp(dir) || !own_mounts() || mount("none", dir, "tmpfs", 0, "size=600k")) {
		recfix_done(&f);
		(void)rmdir(dir);
		return 77;
	}
	/* A journal that the disk cannot hold whole is refused at the start. */
	if (chdir(dir))
		return 1;
	fd = open("journal", O_RDWR | O_CREAT, 0600);
	if (ftruncate(fd, 100 * JOURNAL_SLOT_BYTES) || journal_new(fd, NULL, NULL, &j) != -ENOSPC ||
	    ftruncate(fd, 0))
		return 2;
	f.hold = true;
	r = recfix_begin(&f, 13);
	while (!f.failed) {
		struct uuid session = recfix_session(13);
		int err = recfix_put(r, n, 30000);

		if (err == 0)
			n++;
		if (err == -EAGAIN && f.asked == 1)
			journal_file(f.j, &session, open("file", O_RDWR | O_CREAT, 0600), 0);
		(void)journal_work(f.j, 1);
	}
	if (f.failed_error != -ENOSPC || recfix_put(r, n, 1) != -ENOSPC)
		return 3;
	rec_close(r, 1, TG_R_RECORD_FAILED);
	f.hold = false;
	recfix_done(&f);
	(void)umount2(dir, MNT_DETACH);
	(void)rmdir(dir);
	return 0;
}

static void test_full_disk(void **state)
{
	pid_t pid = fork();
	int status;

	if (pid == 0)
		_exit(full_disk());
	assert_true(pid > 0);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));
	if (WEXITSTATUS(status) == 77)
		skip();
	assert_int_equal(WEXITSTATUS(status), 0);
}

/* ------------------------------------------------------------- durability */

struct syncer {
	struct journal *j;
	bool stop;
	int err;
};

static void *sync_loop(void *arg)
{
	struct syncer *s = arg;

	while (!__atomic_load_n(&s->stop, __ATOMIC_ACQUIRE)) {
		int err = journal_sync(s->j);

		if (err)
			s->err = err;
	}
	return NULL;
}

static void test_sync(void **state)
{
	struct uuid session = recfix_session(14);
	struct syncer s = {.stop = false};
	struct journal_stats stats;
	pthread_t thread;
	struct recfix f;
	struct rec *r;

	recfix_init(&f, 6);
	journal_set_durable(f.j, true);
	s.j = f.j;
	assert_int_equal(pthread_create(&thread, NULL, sync_loop, &s), 0);
	r = recfix_begin(&f, 14);
	for (unsigned n = 0; n < 100; n++)
		while (recfix_put(r, n, len_half(n)))
			(void)journal_work(f.j, 1);
	rec_close(r, 1, TG_R_CLIENT_CLOSED);
	recfix_work(&f);
	__atomic_store_n(&s.stop, true, __ATOMIC_RELEASE);
	assert_int_equal(pthread_join(thread, NULL), 0);
	assert_int_equal(s.err, 0);
	assert_int_equal(journal_sync(f.j), 0);
	recfix_work(&f);
	journal_get_stats(f.j, &stats);
	assert_int_equal(stats.slots_used, 0);
	assert_true(stats.syncs > 0);
	recfix_expect(&f, &session, 100, len_half, true);
	recfix_done(&f);
}

/* A slot is not used again before its frame is on the disk. */
static void test_limbo(void **state)
{
	struct uuid session = recfix_session(15);
	struct journal_stats stats;
	struct recfix f;
	struct rec *r;

	recfix_init(&f, 4);
	journal_set_durable(f.j, true);
	r = recfix_begin(&f, 15);
	journal_idle(f.j, 1, 0);
	journal_idle(f.j, 2, 0);
	recfix_work(&f);
	journal_get_stats(f.j, &stats);
	assert_int_equal(stats.frames, 1);
	assert_int_equal(stats.slots_used, 1);
	assert_int_equal(recfix_put(r, 0, len_half(0)), 0);
	/* Nobody syncs: when all slots are taken, the journal does it itself. */
	for (unsigned n = 1; n < 20; n++)
		while (recfix_put(r, n, len_half(n)))
			(void)journal_work(f.j, 4);
	rec_close(r, 1, TG_R_CLIENT_CLOSED);
	recfix_work(&f);
	recfix_expect(&f, &session, 20, len_half, true);
	/* Those still in limbo are known by their number, and not written twice. */
	recfix_crash(&f);
	assert_int_equal(journal_recover(f.j, TG_R_WORKER_DIED), 1);
	recfix_work(&f);
	recfix_expect(&f, &session, 20, len_half, true);
	assert_int_equal(recfix_verify(&f, &session, NULL), 0);
	recfix_done(&f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),    cmocka_unit_test(test_boundaries),
		cmocka_unit_test(test_huge),	      cmocka_unit_test(test_reserve),
		cmocka_unit_test(test_wait_for_file), cmocka_unit_test(test_end_without_slot),
		cmocka_unit_test(test_pressure),      cmocka_unit_test(test_idle),
		cmocka_unit_test(test_refusals),      cmocka_unit_test(test_unasked_file),
		cmocka_unit_test(test_stuck_slots),   cmocka_unit_test(test_no_file),
		cmocka_unit_test(test_changed_file),  cmocka_unit_test(test_short_write),
		cmocka_unit_test(test_full_disk),     cmocka_unit_test(test_sync),
		cmocka_unit_test(test_limbo),	      cmocka_unit_test(test_short_session),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
