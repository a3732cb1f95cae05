/* SPDX-License-Identifier: MIT */
/*
 * A time limit for each row. When it is over the row's children are killed and what the row waits
 * for is interrupted, so that it fails and the next one is run; one that goes on all the same
 * ends the whole run.
 */
#include <errno.h>
#include <signal.h>
#include <sys/time.h>
#include <unistd.h>

#include "env.h"

enum { SECONDS = 120, TRIES = 10 };

static pid_t runner;
static volatile sig_atomic_t fired;
static const char *what;

static void say(const char *text)
{
	(void)!write(STDOUT_FILENO, text, strlen(text));
}

static void overdue(int sig)
{
	(void)sig;
	if (getpid() != runner)
		_exit(253);
	if (fired++ == 0) {
		say("          no end in sight: ");
		say(what);
		say("\n");
	}
	if (fired > TRIES) {
		say("bpf: 0 passed, 1 failed, 0 skipped\n");
		_exit(1);
	}
	(void)kill(0, SIGUSR2);
}

/* Children get here; those that have executed something end by the signal itself. */
static void end_child(int sig)
{
	(void)sig;
	if (getpid() != runner)
		_exit(253);
}

bool limit_init(void)
{
	struct sigaction alarm = {.sa_handler = overdue}, child = {.sa_handler = end_child};

	runner = getpid();
	/* A group of our own: signals to it reach the rows' children and nobody else. */
	CHECK(getpgrp() == runner || setpgid(0, 0) == 0);
	CHECK(sigaction(SIGALRM, &alarm, NULL) == 0 && sigaction(SIGUSR2, &child, NULL) == 0);
	return true;
}

static void arm(time_t seconds)
{
	struct itimerval t = {.it_value.tv_sec = seconds, .it_interval.tv_sec = seconds ? 1 : 0};

	(void)setitimer(ITIMER_REAL, &t, NULL);
}

void limit_begin(const char *row, unsigned int seconds)
{
	const char *longer = getenv("TG_ROW_SECONDS"); /* on an emulated machine */
	long usual = longer ? strtol(longer, NULL, 10) : SECONDS;

	fired = 0;
	what = row;
	arm(seconds ? (time_t)seconds : (time_t)usual);
}

bool limit_kept(void)
{
	arm(0);
	return !fired;
}

static int sleep_long(void *arg)
{
	(void)arg;
	(void)sleep(1000);
	return 0;
}

static int read_nothing(void)
{
	int p[2];
	char c;

	return pipe(p) == 0 && read(p[0], &c, 1) == 1 ? 0 : errno;
}

/* This row is late itself, twice: waiting for a child, and in a call of its own. */
static bool late(void)
{
	limit_begin("a child that sleeps, on purpose", 1);
	CHECK(client("/agents", 0, sleep_long, NULL) != 0);
	CHECK(!limit_kept());
	limit_begin("a read of nothing, on purpose", 1);
	CHECK_EQ(read_nothing(), EINTR);
	CHECK(!limit_kept());
	limit_begin("limit", 0);
	return true;
}

const struct row limit_rows[] = {
	{"limit: a row without end is ended", late},
	{0},
};
