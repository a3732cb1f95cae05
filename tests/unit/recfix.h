/* SPDX-License-Identifier: MIT */
/* For tests of recordings: a journal in a temporary folder, and what comes out of it. */
#ifndef TIDEGATE_TESTS_RECFIX_H
#define TIDEGATE_TESTS_RECFIX_H

#include "record/journal.h"
#include "record/reader.h"
#include "record/verify.h"

struct recfix {
	char dir[64];
	struct journal *j;
	bool hold;  /* need_file() only counts */
	int refuse; /* journal_file() gets this errno */
	unsigned asked, writable, failed;
	int failed_error;
	struct uuid last_asked;
};

/* A journal of @slots slots in a new folder. */
void recfix_init(struct recfix *f, unsigned slots);
void recfix_done(struct recfix *f);
/* The journal's descriptor again, as another process would get it. */
int recfix_journal_fd(const struct recfix *f);
/* Drops the journal as a dying process does and opens it again (nothing recovered yet). */
void recfix_crash(struct recfix *f);
void recfix_work(struct recfix *f);
/* The session's file; -1 if there is none. */
int recfix_open(const struct recfix *f, const struct uuid *session, int flags);
void recfix_answer(struct recfix *f, const struct uuid *session);
uint64_t recfix_size(const struct recfix *f, const struct uuid *session);

/* A session with a name that is easy to see in a dump. */
struct uuid recfix_session(unsigned n);
struct rec *recfix_begin(struct recfix *f, unsigned n);
/* Record number @n has content that tells its number and length. */
int recfix_put(struct rec *r, unsigned n, size_t len);

/*
 * Reads the file and checks that it is: the header, records first..first+count-1 as
 * recfix_put() made them (lengths from @len(n)), and the end if @ended. Asserts.
 */
void recfix_expect(const struct recfix *f, const struct uuid *session, unsigned count,
		   size_t (*len)(unsigned n), bool ended);
/* verify_file() on it: the number of faults. */
uint64_t recfix_verify(const struct recfix *f, const struct uuid *session,
		       struct verify_result *ret);

#endif
