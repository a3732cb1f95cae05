/* SPDX-License-Identifier: MIT */
#include "daemon/audit.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/audit_limit.h"
#include "daemon/parent.h"
#include "tidegate_ctl.h"

struct audit {
	int fd, dir;
	uint64_t size;
	bool failing; /* the last write did not succeed: that was said */
	struct audit_limit *limit;
};

static int name_of(char *dst, size_t cap, unsigned int n)
{
	int len = n ? snprintf(dst, cap, TG_AUDIT_FILE ".%u", n)
		    : snprintf(dst, cap, TG_AUDIT_FILE);

	return len > 0 && (size_t)len < cap ? 0 : -ENAMETOOLONG;
}

/* A line that a crash cut short is ended, so that the next one can be read. */
static int mend(struct audit *a)
{
	char last;

	if (!a->size || pread(a->fd, &last, 1, (off_t)a->size - 1) != 1 || last == '\n')
		return 0;
	if (write(a->fd, "\n", 1) != 1)
		return -EIO;
	a->size++;
	return 0;
}

static int open_file(struct audit *a)
{
	struct stat st;

	a->fd = openat(a->dir, TG_AUDIT_FILE,
		       O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (a->fd < 0)
		return -errno;
	if (fstat(a->fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_uid != 0 || (st.st_mode & 022))
		return -EPERM;
	a->size = (uint64_t)st.st_size;
	return mend(a);
}

static void close_file(struct audit *a)
{
	if (a->fd >= 0)
		close(a->fd);
	a->fd = -1;
}

/* audit.jsonl becomes .1, .1 becomes .2, and so on; the oldest is written over. */
static int rotate(struct audit *a, uint32_t keep)
{
	char from[64], to[64];
	int rc = 0;

	for (unsigned int n = keep; !rc && n > 0; n--) {
		rc = name_of(from, sizeof(from), n - 1);
		if (!rc)
			rc = name_of(to, sizeof(to), n);
		if (!rc && renameat(a->dir, from, a->dir, to) && errno != ENOENT)
			rc = -errno;
	}
	if (!rc && !keep && unlinkat(a->dir, TG_AUDIT_FILE, 0) && errno != ENOENT)
		rc = -errno;
	if (rc)
		return rc;
	close_file(a);
	return open_file(a);
}

int audit_start(struct parent *p)
{
	struct audit *a = calloc(1, sizeof(*a));
	int rc;

	if (!a)
		return -ENOMEM;
	a->fd = -1;
	a->limit = audit_limit_new();
	a->dir = open(p->cfg->state_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	rc = a->dir < 0 ? -errno : open_file(a);
	p->audit = a;
	if (rc)
		close_file(a);
	return rc;
}

void audit_stop(struct parent *p)
{
	if (!p->audit)
		return;
	audit_tick(p, true);
	audit_limit_free(p->audit->limit);
	close_file(p->audit);
	if (p->audit->dir >= 0)
		close(p->audit->dir);
	free(p->audit);
	p->audit = NULL;
}

/* One write: a line is there or, after a crash or on a full disk, cut short and then mended. */
static int append(struct parent *p, const char *line, size_t n, enum audit_weight weight)
{
	struct audit *a = p->audit;
	ssize_t done;
	int rc = 0;

	if (!a || a->dir < 0)
		return -EBADF;
	if (a->fd < 0)
		rc = open_file(a);
	else if (a->size && a->size + n > p->cfg->audit_bytes)
		rc = rotate(a, p->cfg->audit_keep);
	if (rc) {
		close_file(a);
		return rc;
	}
	done = write(a->fd, line, n);
	if (done != (ssize_t)n) {
		rc = done < 0 ? -errno : -ENOSPC;
		close_file(a); /* the next one opens and mends it */
		return rc;
	}
	a->size += n;
	return weight == AUDIT_SYNC && fdatasync(a->fd) ? -errno : 0;
}

static char *line_of(const char *event, const char *fmt, va_list ap)
{
	json_t *o = json_object(), *more = json_vpack_ex(NULL, 0, fmt, ap);
	char when[32], *text = NULL, *line;
	size_t n;

	text_time(clock_wall_ns(), when, sizeof(when));
	if (o && more && !json_object_set_new(o, "time", json_string(when)) &&
	    !json_object_set_new(o, "event", json_string(event)) && !json_object_update(o, more))
		text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	json_decref(more);
	n = text ? strlen(text) : 0;
	line = text ? realloc(text, n + 2) : NULL;
	if (line) {
		line[n] = '\n';
		line[n + 1] = '\0';
	} else {
		free(text);
	}
	return line;
}

static int write_line(struct parent *p, enum audit_weight weight, const char *event, char *line)
{
	int rc = line ? append(p, line, strlen(line), weight) : -EINVAL;

	if (rc) {
		p->audit_lost++;
		if (!p->audit || !p->audit->failing)
			log_error("the audit log in %s cannot be written (%s): %s is only in this log",
				  p->cfg->state_dir, strerror(-rc), event);
	}
	if (p->audit)
		p->audit->failing = rc != 0;
	free(line);
	return rc;
}

int audit_write(struct parent *p, enum audit_weight weight, const char *event, const char *fmt, ...)
{
	char *line;
	va_list ap;

	va_start(ap, fmt);
	line = line_of(event, fmt, ap);
	va_end(ap);
	return write_line(p, weight, event, line);
}

void audit_write_of(struct parent *p, const char *agent, const char *event, const char *outcome,
		    const char *fmt, ...)
{
	va_list ap;

	if (agent && p->audit && !audit_limit_take(p->audit->limit, agent, event, outcome,
					  p->cfg->audit_agent_lines, clock_boot_ns()))
		return;
	va_start(ap, fmt);
	(void)write_line(p, AUDIT_NOTE, event, line_of(event, fmt, ap));
	va_end(ap);
}

static void tell_left(void *ctx, const struct audit_left *left)
{
	json_t *kinds = json_array(), *kind;
	struct parent *p = ctx;
	char since[32];

	text_time(clock_wall_ns() - (clock_boot_ns() - left->since_boot_ns), since, sizeof(since));
	for (size_t i = 0; kinds && i < left->nkinds; i++) {
		kind = json_pack("{s:s, s:s, s:I}", "event", left->kinds[i].event, "outcome",
				 left->kinds[i].outcome, "n", (json_int_t)left->kinds[i].n);
		(void)json_array_append_new(kinds, kind); /* NULL: the sum has it */
	}
	log_warning("agent %s caused %llu more lines of the audit log than a minute has: counted in it",
		    left->agent, (unsigned long long)left->n);
	if (audit_write(p, AUDIT_NOTE, "audit.left_out", "{s:s, s:s, s:I, s:o?}", "agent", left->agent,
			"since", since, "n", (json_int_t)left->n, "what", kinds))
		p->audit_lost += left->n - 1;
}

void audit_tick(struct parent *p, bool all)
{
	if (p->audit)
		audit_limit_due(p->audit->limit, all ? UINT64_MAX : clock_boot_ns(), tell_left, p);
}
