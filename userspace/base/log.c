/* SPDX-License-Identifier: MIT */
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/text.h"

/* A log and the counters are the two modules that may own globals. */
static struct {
	const char *who;
	enum log_level max;
	bool journal, kept;
} logger = {.who = "tidegate", .max = LOG_LVL_INFO};

static const struct {
	const char *name;
	int priority; /* RFC 5424, as sd-daemon(3) reads it at the start of a line */
} levels[] = {
	[LOG_LVL_ERROR] = {"error", 3},	  [LOG_LVL_WARNING] = {"warning", 4},
	[LOG_LVL_NOTICE] = {"notice", 5}, [LOG_LVL_INFO] = {"info", 6},
	[LOG_LVL_DEBUG] = {"debug", 7},
};

void log_init(const char *who, enum log_level max)
{
	logger.who = who;
	logger.max = max;
	logger.journal = getenv("JOURNAL_STREAM") != NULL;
	/* The first use of gmtime_r() reads a file, which a sandboxed process may not. */
	tzset();
}

enum log_level log_max(void)
{
	return logger.max;
}

void log_keep_level(void)
{
	logger.kept = true;
}

bool log_level_kept(void)
{
	return logger.kept;
}

void log_configure(const char *name)
{
	enum log_level level;

	if (!logger.kept && log_level_parse(name, &level) == 0)
		logger.max = level;
}

int log_level_parse(const char *name, enum log_level *ret_level)
{
	for (size_t i = 0; i < ARRAY_SIZE(levels); i++) {
		if (strcmp(name, levels[i].name) == 0) {
			*ret_level = (enum log_level)i;
			return 0;
		}
	}
	return -EINVAL;
}

static size_t put_head(char *line, size_t cap, enum log_level level)
{
	struct timespec ts;
	struct tm tm;
	int n;

	if (logger.journal) {
		n = snprintf(line, cap, "<%d>%s: ", levels[level].priority, logger.who);
		return (size_t)n;
	}
	(void)clock_gettime(CLOCK_REALTIME, &ts);
	(void)gmtime_r(&ts.tv_sec, &tm);
	n = snprintf(line, cap, "%04d-%02d-%02dT%02d:%02d:%02d.%03ldZ %-7s %s: ", tm.tm_year + 1900,
		     tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
		     ts.tv_nsec / 1000000, levels[level].name, logger.who);
	return (size_t)n;
}

void log_write(enum log_level level, const char *fmt, ...)
{
	char text[2048], line[4096];
	size_t head, n;
	va_list ap;
	int want;

	if (level > logger.max)
		return;
	va_start(ap, fmt);
	want = vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	if (want < 0)
		return;
	head = put_head(line, sizeof(line), level);
	n = head + text_escape(slice_of(text, min_size(want, sizeof(text) - 1)), line + head,
			       sizeof(line) - head - 1);
	line[n++] = '\n';
	/* One write per line keeps the lines of several processes apart. */
	if (write(STDERR_FILENO, line, n) < 0)
		return; /* nobody to tell */
}

void bug_abort(const char *file, int line, const char *cond)
{
	log_write(LOG_LVL_ERROR, "bug at %s:%d: %s", file, line, cond);
	abort();
}
