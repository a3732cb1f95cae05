/* SPDX-License-Identifier: MIT */
/* Dying at any moment: nothing that was put is lost, and nothing else appears. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/reason.h"
#include "recfix.h"

static size_t len_mixed(unsigned n)
{
	return n % 11 == 10 ? 40000 + n : n % 5 == 4 ? 3000 + n : n * 13 % 150;
}

static void copy_fd(int from, int to)
{
	uint8_t block[65536];
	off_t off = 0;
	ssize_t n;

	assert_int_equal(ftruncate(to, 0), 0);
	while ((n = pread(from, block, sizeof(block), off)) > 0) {
		assert_int_equal(pwrite(to, block, (size_t)n, off), n);
		off += n;
	}
}

/* The journal and the files of @sessions, as a dying process would leave them now. */
static void snapshot(const struct recfix *f, struct recfix *copy, const unsigned *sessions,
		     size_t n)
{
	int from = recfix_journal_fd(f), to;

	recfix_init(copy, 1);
	journal_free(copy->j);
	to = recfix_journal_fd(copy);
	copy_fd(from, to);
	(void)close(from);
	(void)close(to);
	for (size_t i = 0; i < n; i++) {
		struct uuid session = recfix_session(sessions[i]);

		from = recfix_open(f, &session, O_RDONLY);
		if (from < 0)
			continue;
		to = recfix_open(copy, &session, O_RDWR | O_CREAT);
		copy_fd(from, to);
		(void)close(from);
		(void)close(to);
	}
	copy->j = NULL;
	recfix_crash(copy);
}

static void recover(struct recfix *f, int sessions)
{
	assert_int_equal(journal_recover(f->j, TG_R_WORKER_DIED), sessions);
	recfix_work(f);
}

static void expect_all_free(const struct recfix *f)
{
	struct journal_stats stats;

	journal_get_stats(f->j, &stats);
	assert_int_equal(stats.slots_used, 0);
	assert_int_equal(stats.open_files, 0);
	assert_int_equal(stats.lost, 0);
	assert_int_equal(f->failed, 0);
}

/* After each step of a session's life. */
static void test_every_step(void **state)
{
	static const unsigned number = 1;
	struct uuid session = recfix_session(number);
	struct verify_result res;
	struct recfix f, copy;
	struct rec *r;

	recfix_init(&f, 6);
	r = recfix_begin(&f, number);
	for (unsigned n = 0; n < 120; n++) {
		snapshot(&f, &copy, &number, 1);
		recover(&copy, 1);
		recfix_expect(&copy, &session, n, len_mixed, true);
		assert_int_equal(recfix_verify(&copy, &session, &res), 0);
		assert_true(res.finished && res.recovered);
		expect_all_free(&copy);
		/* Once more: nothing is left to do, the file stays as it is. */
		recfix_crash(&copy);
		recover(&copy, 0);
		assert_int_equal(recfix_size(&copy, &session), res.size);
		recfix_done(&copy);

		assert_int_equal(recfix_put(r, n, len_mixed(n)), 0);
		if (n % 17 == 16) {
			journal_idle(f.j, n, 0);
			journal_idle(f.j, n + 1, 0);
		}
		if (n % 7 == 3)
			recfix_work(&f);
	}
	recfix_done(&f);
}

/* Between the steps of closing: the end is written once, the table is there. */
static void test_while_closing(void **state)
{
	static const unsigned number = 2;
	struct uuid session = recfix_session(number);
	struct verify_result res;
	struct recfix f, copy;
	struct rec *r;
	bool more = true;

	recfix_init(&f, 6);
	r = recfix_begin(&f, number);
	for (unsigned n = 0; n < 12; n++)
		assert_int_equal(recfix_put(r, n, len_mixed(n)), 0);
	rec_close(r, 99, TG_R_CLIENT_CLOSED);
	for (unsigned step = 0; more; step++) {
		snapshot(&f, &copy, &number, 1);
		if (journal_recover(copy.j, TG_R_WORKER_DIED) == 0)
			assert_int_equal(journal_adopt(copy.j, &session, TG_R_WORKER_DIED), 0);
		recfix_work(&copy);
		recfix_expect(&copy, &session, 12, len_mixed, true);
		assert_int_equal(recfix_verify(&copy, &session, &res), 0);
		assert_true(res.finished);
		assert_false(res.recovered); /* its own end record was in the journal */
		expect_all_free(&copy);
		recfix_done(&copy);
		more = journal_work(f.j, 1);
		assert_true(step < 20);
	}
	recfix_done(&f);
}

/* The file ends anywhere in the last frame, whose slot is still there. */
static void test_torn_file(void **state)
{
	static const unsigned number = 3;
	struct uuid session = recfix_session(number);
	struct recfix f, copy;
	struct rec *r;
	uint64_t before, after;
	int fd, written;

	recfix_init(&f, 6);
	r = recfix_begin(&f, number);
	assert_int_equal(recfix_put(r, 0, len_mixed(0)), 0);
	journal_idle(f.j, 1, 0);
	journal_idle(f.j, 2, 0);
	recfix_work(&f);
	before = recfix_size(&f, &session);
	assert_int_equal(recfix_put(r, 1, len_mixed(1)), 0);
	assert_int_equal(recfix_put(r, 2, len_mixed(2)), 0);
	snapshot(&f, &copy, &number, 1); /* the slot as it was before ... */
	journal_idle(f.j, 3, 0);
	journal_idle(f.j, 4, 0);
	recfix_work(&f);
	after = recfix_size(&f, &session); /* ... and the file as it was after */
	assert_true(after > before);
	written = recfix_open(&f, &session, O_RDONLY);
	for (uint64_t cut = before; cut <= after; cut++) {
		struct recfix again;

		snapshot(&copy, &again, &number, 1);
		fd = recfix_open(&again, &session, O_RDWR);
		copy_fd(written, fd);
		assert_int_equal(ftruncate(fd, (off_t)cut), 0);
		/* A file system may have the length, but not the bytes. */
		if (cut % 2 && cut < after)
			assert_int_equal(ftruncate(fd, (off_t)after), 0);
		(void)close(fd);
		if (cut % 2 && cut < before + 120) { /* a broken head is not a torn file */
			recfix_done(&again);
			continue;
		}
		recover(&again, 1);
		recfix_expect(&again, &session, 3, len_mixed, true);
		assert_int_equal(recfix_verify(&again, &session, NULL), 0);
		expect_all_free(&again);
		recfix_done(&again);
	}
	(void)close(written);
	recfix_done(&copy);
	recfix_done(&f);
}

/* Dying while recovering, after each step of it. */
static void test_during_recovery(void **state)
{
	static const unsigned numbers[] = {4, 5, 6};
	struct verify_result res;
	struct recfix f, dead, copy;
	bool more = true;

	recfix_init(&f, 12);
	for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
		struct rec *r = recfix_begin(&f, numbers[i]);

		for (unsigned n = 0; n < 12; n++)
			assert_int_equal(recfix_put(r, n, len_mixed(n)), 0);
	}
	snapshot(&f, &dead, numbers, ARRAY_SIZE(numbers));
	recfix_done(&f);
	assert_int_equal(journal_recover(dead.j, TG_R_WORKER_DIED), 3);
	for (unsigned step = 0; more; step++) {
		snapshot(&dead, &copy, numbers, ARRAY_SIZE(numbers));
		assert_true(journal_recover(copy.j, TG_R_SHUTDOWN) >= 0);
		for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
			struct uuid session = recfix_session(numbers[i]);
			int err = journal_adopt(copy.j, &session, TG_R_SHUTDOWN);

			assert_true(err == 0 || err == -EEXIST);
		}
		recfix_work(&copy);
		for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
			struct uuid session = recfix_session(numbers[i]);

			recfix_expect(&copy, &session, 12, len_mixed, true);
			assert_int_equal(recfix_verify(&copy, &session, &res), 0);
			assert_true(res.finished && res.recovered);
		}
		expect_all_free(&copy);
		recfix_done(&copy);
		more = journal_work(dead.j, 1);
		assert_true(step < 40);
	}
	recfix_done(&dead);
}

/* Power loss: pages of the slot are missing. What stands before is kept, no more. */
static void test_power_loss(void **state)
{
	static const unsigned number = 7;
	struct uuid session = recfix_session(number);
	struct recfix f, copy;
	struct rec *r;

	recfix_init(&f, 2);
	r = recfix_begin(&f, number);
	for (unsigned n = 0; n < 10; n++)
		assert_int_equal(recfix_put(r, n, 3000), 0);
	for (unsigned page = 0; page < 8; page++) {
		static const uint8_t zeros[4096];
		struct journal_stats stats;
		struct reader_record rec;
		struct reader *reader;
		unsigned got = 0;
		int fd;

		snapshot(&f, &copy, &number, 1);
		fd = recfix_journal_fd(&copy);
		assert_int_equal(pwrite(fd, zeros, 4096, 4096 * page), 4096);
		(void)close(fd);
		recfix_crash(&copy);
		/* Without its first page the slot looks free; the session is known. */
		assert_int_equal(journal_recover(copy.j, TG_R_WORKER_DIED), 1);
		recfix_work(&copy);
		if (page) {
			journal_get_stats(copy.j, &stats);
			assert_int_equal(stats.lost, 1);
			assert_int_equal(recfix_verify(&copy, &session, NULL), 0);
			assert_int_equal(
				reader_new(recfix_open(&copy, &session, O_RDONLY), &reader), 0);
			assert_int_equal(reader_next(reader, &rec), 1);
			while (reader_next(reader, &rec) == 1 && rec.type != TG_REC_END) {
				assert_int_equal(rec.wall_ns, 1000 + got);
				assert_int_equal(rec.payload.n, 3000);
				got++;
			}
			assert_int_equal(rec.type, TG_REC_END);
			assert_true(got < 10 && (got + 1) * 3016 + 174 > page * 4096);
			reader_free(reader);
		}
		recfix_done(&copy);
	}
	recfix_done(&f);
}

/* What an earlier session left in a slot is not taken for this one's. */
static void test_stale_slot(void **state)
{
	static const unsigned number = 9;
	struct uuid session = recfix_session(number);
	uint32_t committed = 60000;
	struct recfix f, copy;
	struct rec *r;
	int fd;

	recfix_init(&f, 1);
	r = recfix_begin(&f, 8);
	for (unsigned n = 0; n < 500; n++)
		assert_int_equal(recfix_put(r, n, 100), 0);
	journal_idle(f.j, 1, 0);
	journal_idle(f.j, 2, 0);
	recfix_work(&f);
	r = recfix_begin(&f, number);
	assert_int_equal(recfix_put(r, 0, len_mixed(0)), 0);
	snapshot(&f, &copy, &number, 1);
	/* The length reached the disk, the records behind record 0 did not. */
	fd = recfix_journal_fd(&copy);
	assert_int_equal(pwrite(fd, &committed, 4, 80), 4);
	(void)close(fd);
	recfix_crash(&copy);
	recover(&copy, 2); /* session 8 was open too; its file is not here */
	recfix_expect(&copy, &session, 1, len_mixed, true);
	recfix_done(&copy);
	recfix_done(&f);
}

/* Sessions that were open without a tail: as many as the journal has names for. */
static void test_directory(void **state)
{
	enum { SESSIONS = 20, NAMES = 16 };
	struct rec *r[SESSIONS];
	struct verify_result res;
	struct recfix f;

	recfix_init(&f, 1);
	for (unsigned i = 0; i < SESSIONS; i++) {
		r[i] = recfix_begin(&f, 100 + i);
		journal_idle(f.j, 2 * i, 0);
		journal_idle(f.j, 2 * i + 1, 0);
		recfix_work(&f);
	}
	/* One ends, and its name is free for another. */
	rec_close(r[3], 1, TG_R_CLIENT_CLOSED);
	recfix_work(&f);
	(void)recfix_begin(&f, 200);
	recfix_crash(&f);
	recover(&f, NAMES);
	for (unsigned i = 0; i < NAMES; i++) {
		struct uuid session = recfix_session(i == 3 ? 200 : 100 + i);

		assert_int_equal(recfix_verify(&f, &session, &res), 0);
		assert_true(res.finished && res.recovered);
		recfix_expect(&f, &session, 0, len_mixed, true);
	}
	expect_all_free(&f);
	recfix_crash(&f);
	recover(&f, 0);
	/* What no name was left for is ended by whoever knows of it. */
	for (unsigned i = NAMES; i < SESSIONS; i++) {
		struct uuid session = recfix_session(100 + i);

		assert_int_equal(recfix_verify(&f, &session, &res), 0);
		assert_false(res.finished);
		assert_int_equal(journal_adopt(f.j, &session, TG_R_WORKER_DIED), 0);
		recfix_work(&f);
		assert_int_equal(recfix_verify(&f, &session, &res), 0);
		assert_true(res.finished && res.recovered);
	}
	recfix_done(&f);
}

/* A file that is corrupted, not torn, is left alone and said to have failed. */
static void test_corrupted_file(void **state)
{
	static const unsigned number = 10;
	struct uuid session = recfix_session(number);
	struct recfix f, copy;
	struct rec *r;
	uint64_t size;
	int fd;

	recfix_init(&f, 4);
	r = recfix_begin(&f, number);
	journal_idle(f.j, 1, 0);
	journal_idle(f.j, 2, 0);
	recfix_work(&f);
	assert_int_equal(recfix_put(r, 0, 10), 0);
	size = recfix_size(&f, &session);
	snapshot(&f, &copy, &number, 1);
	fd = recfix_open(&copy, &session, O_RDWR);
	assert_int_equal(pwrite(fd, "x", 1, 1), 1);
	(void)close(fd);
	recover(&copy, 1);
	assert_int_equal(copy.failed, 1);
	assert_int_equal(copy.failed_error, -EBADMSG);
	assert_int_equal(recfix_size(&copy, &session), size);
	recfix_done(&copy);
	recfix_done(&f);
}

/* ------------------------------------------------------------------- kill */

/* Writes as fast as it can and tells after each record that it is in. */
static void writer(struct recfix *f, int out)
{
	struct rec *r[2] = {recfix_begin(f, 20), recfix_begin(f, 21)};

	for (uint32_t n = 0;; n++) {
		uint32_t told = n + 1;

		for (unsigned i = 0; i < 2; i++)
			while (recfix_put(r[i], n, len_mixed(n)))
				(void)journal_work(f->j, 1);
		if (write(out, &told, sizeof(told)) != sizeof(told))
			_exit(1);
		if (n % 5 == 0)
			(void)journal_work(f->j, 1);
	}
}

static void kill_once(unsigned after_us)
{
	uint32_t told = 0, last = 0;
	struct recfix f;
	int pipes[2], status;
	pid_t pid;

	recfix_init(&f, 16);
	assert_int_equal(pipe(pipes), 0);
	pid = fork();
	if (pid == 0)
		writer(&f, pipes[1]);
	assert_true(pid > 0);
	(void)close(pipes[1]);
	/* Not before it has begun. */
	assert_int_equal(read(pipes[0], &last, sizeof(last)), sizeof(last));
	(void)usleep(after_us);
	assert_int_equal(kill(pid, SIGKILL), 0);
	while (read(pipes[0], &told, sizeof(told)) == sizeof(told))
		last = told;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFSIGNALED(status));
	(void)close(pipes[0]);
	recfix_crash(&f);
	recover(&f, 2);
	for (unsigned i = 20; i < 22; i++) {
		struct uuid session = recfix_session(i);
		struct reader_record rec;
		struct reader *reader;
		uint32_t got = 0;

		assert_int_equal(recfix_verify(&f, &session, NULL), 0);
		assert_int_equal(reader_new(recfix_open(&f, &session, O_RDONLY), &reader), 0);
		assert_int_equal(reader_next(reader, &rec), 1);
		while (reader_next(reader, &rec) == 1 && rec.type != TG_REC_END)
			if (!rec.incomplete) {
				assert_int_equal(rec.wall_ns, 1000 + got);
				assert_int_equal(rec.payload.n, len_mixed(got));
				got++;
			}
		reader_free(reader);
		assert_true(got >= last && got <= last + 1);
	}
	expect_all_free(&f);
	recfix_done(&f);
}

static void test_kill(void **state)
{
	for (unsigned i = 0; i < 40; i++)
		kill_once(i * i * 17 % 20000);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_step), cmocka_unit_test(test_while_closing),
		cmocka_unit_test(test_torn_file),  cmocka_unit_test(test_during_recovery),
		cmocka_unit_test(test_power_loss), cmocka_unit_test(test_stale_slot),
		cmocka_unit_test(test_directory),  cmocka_unit_test(test_corrupted_file),
		cmocka_unit_test(test_kill),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
