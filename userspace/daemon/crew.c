/* SPDX-License-Identifier: MIT */
#include "daemon/crew.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "tidegate_rec.h"

static void journal_path(const struct parent *p, uint32_t index, char *dst, size_t cap)
{
	(void)snprintf(dst, cap, "%s/journal-%u", p->cfg->state_dir, index);
}

static uint32_t wanted(const struct parent *p)
{
	return p->cfg->workers < WORKERS_MAX ? p->cfg->workers : WORKERS_MAX;
}

void crew_release(struct child *c)
{
	char path[512];

	journal_path(c->p, c->index, path, sizeof(path));
	(void)unlink(path);
	if (c->journal_fd >= 0)
		close(c->journal_fd);
	c->journal_fd = -1;
	c->retired = c->told = c->next = false;
}

static int open_journal(struct child *c)
{
	const struct config *cfg = c->p->cfg;
	char path[512];
	struct stat st;
	int fd, rc;

	journal_path(c->p, c->index, path, sizeof(path));
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 || fstat(fd, &st)) {
		rc = -errno;
		log_error("%s: %s", path, strerror(-rc));
		return rc;
	}
	/* One that is there may hold tails, and keeps its size. */
	if (st.st_size == 0) {
		rc = posix_fallocate(fd, 0, (off_t)cfg->journal_bytes);
		if (rc) {
			log_error("%s: cannot reserve %llu bytes: %s", path,
				  (unsigned long long)cfg->journal_bytes, strerror(rc));
			(void)unlink(path);
			close(fd);
			return -rc;
		}
	}
	c->journal_fd = fd;
	return 0;
}

static bool has_wanted_size(const struct child *c)
{
	struct stat st;

	return fstat(c->journal_fd, &st) == 0 && (uint64_t)st.st_size == c->p->cfg->journal_bytes;
}

/* Journals in free slots, for @n workers that are started next. *ret_left: those without one. */
static int open_free(struct parent *p, uint32_t n, uint32_t *ret_left)
{
	int rc = 0;

	for (uint32_t i = 0; !rc && n && i < WORKER_SLOTS; i++) {
		struct child *c = &p->workers[i];

		if (i == p->nworkers) {
			rc = child_prepare(p, c, ROLE_WORKER, i);
			p->nworkers += rc == 0;
		}
		if (rc || c->pid || c->journal_fd >= 0)
			continue;
		rc = open_journal(c);
		c->next = rc == 0;
		n -= rc == 0;
	}
	*ret_left = n;
	return rc;
}

/*
 * Journals of an earlier run: workers go on with those that are as configured. What they are
 * too many of, or not as large as the others, is there only to be completed.
 */
static int open_found(struct parent *p, uint32_t *want)
{
	int rc = 0;

	for (uint32_t i = 0; !rc && i < WORKER_SLOTS; i++) {
		struct child *c = &p->workers[i];
		char path[512];

		journal_path(p, i, path, sizeof(path));
		if (access(path, F_OK))
			continue;
		while (!rc && p->nworkers <= i) {
			rc = child_prepare(p, &p->workers[p->nworkers], ROLE_WORKER, p->nworkers);
			p->nworkers += rc == 0;
		}
		rc = rc ? rc : open_journal(c);
		if (rc)
			continue;
		c->retired = !*want || !has_wanted_size(c);
		*want -= !c->retired;
	}
	return rc;
}

int crew_open(struct parent *p)
{
	uint32_t want = wanted(p);
	int rc = open_found(p, &want);

	if (!rc)
		rc = open_free(p, want, &want);
	if (!rc && want) {
		log_error("%s has more than %u journals of earlier runs", p->cfg->state_dir, WORKER_SLOTS);
		rc = -EBUSY;
	}
	return rc;
}

/* After a clean stop: journals that were only kept for their tails, and have none. */
void crew_tidy(const struct parent *p)
{
	char path[512];

	for (uint32_t i = 0; i < p->nworkers; i++) {
		const struct child *c = &p->workers[i];

		if (!c->retired || c->journal_fd < 0 || c->stats->journal.slots_used)
			continue;
		journal_path(p, i, path, sizeof(path));
		(void)unlink(path);
	}
}

/* ------------------------------------------------------------------ orphans */

void crew_add_orphan(struct parent *p, const struct orphan *o)
{
	struct orphan *list = reallocarray(p->orphans, p->norphans + 1, sizeof(*list));

	if (!list)
		return; /* the next start finds it again */
	list[p->norphans++] = *o;
	p->orphans = list;
}

void crew_find_orphans(struct parent *p)
{
	DIR *d = opendir(p->cfg->record_dir);
	struct dirent *e;
	struct uuid u;

	while (d && (e = readdir(d))) {
		size_t n = strlen(e->d_name);

		if (n != UUID_TEXT - 1 + strlen(TG_REC_SUFFIX) ||
		    strcmp(e->d_name + UUID_TEXT - 1, TG_REC_SUFFIX) != 0 ||
		    uuid_parse(slice_of(e->d_name, UUID_TEXT - 1), &u))
			continue;
		if (!recording_finished(p->record_dir, e->d_name))
			crew_add_orphan(p, &(struct orphan){u, TG_R_WORKER_DIED});
	}
	if (d)
		(void)closedir(d);
}

static void name_of(const struct uuid *session, char dst[UUID_TEXT + sizeof(TG_REC_SUFFIX)])
{
	uuid_format(session, dst);
	(void)snprintf(dst + UUID_TEXT - 1, sizeof(TG_REC_SUFFIX), TG_REC_SUFFIX);
}

bool crew_drop_empty(const struct parent *p, const struct uuid *session)
{
	char name[UUID_TEXT + sizeof(TG_REC_SUFFIX)];
	struct stat st;

	name_of(session, name);
	return fstatat(p->record_dir, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) &&
	       st.st_size == 0 && unlinkat(p->record_dir, name, 0) == 0;
}

static void adopt(struct child *c, const struct orphan *o)
{
	char name[UUID_TEXT + sizeof(TG_REC_SUFFIX)];

	name_of(&o->session, name);
	/* Nobody writes to what is finished. */
	if (recording_finished(c->p->record_dir, name) || crew_drop_empty(c->p, &o->session))
		return;
	ipc_begin(c->ipc, IPC_ADOPT, 0);
	ipc_put_uuid(c->ipc, &o->session);
	ipc_put_u32(c->ipc, o->reason);
	ipc_send(c->ipc);
}

/*
 * Most are in the journal of some worker, with what is missing of them. Only when all of these
 * are complete it is known which are not: two that write to one file spoil it.
 */
void crew_tick(struct parent *p)
{
	struct child *any = NULL;

	if (!p->norphans)
		return;
	for (uint32_t i = 0; i < p->nworkers; i++) {
		struct child *c = &p->workers[i];

		if (c->journal_fd < 0)
			continue;
		if (!c->ready || c->stats->journal.dead)
			return;
		any = c->retired ? any : c;
	}
	if (!any)
		return;
	for (size_t i = 0; i < p->norphans; i++)
		adopt(any, &p->orphans[i]);
	free(p->orphans);
	p->orphans = NULL;
	p->norphans = 0;
}

void children_unreserve(struct parent *p)
{
	for (uint32_t i = 0; i < p->nworkers; i++)
		if (p->workers[i].next)
			crew_release(&p->workers[i]);
}

int children_reserve(struct parent *p, struct buf *error)
{
	uint32_t left;
	int rc = open_free(p, wanted(p), &left);

	if (rc)
		(void)!buf_printf(error, "there is no room for the journals of new workers: %s",
				  strerror(-rc));
	else if (left)
		(void)!buf_printf(error, "too many workers of before still have sessions");
	if (rc || left)
		children_unreserve(p);
	return rc ? rc : left ? -EBUSY : 0;
}

/* ------------------------------------------------------------------ reloads */

static bool as_wanted(const struct parent *p)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < p->nworkers; i++) {
		const struct child *c = &p->workers[i];

		if (c->journal_fd < 0 || c->retired)
			continue;
		if (!has_wanted_size(c))
			return false;
		n++;
	}
	return n == wanted(p);
}

static void start_reserved(struct parent *p)
{
	for (uint32_t i = 0; i < p->nworkers; i++) {
		struct child *c = &p->workers[i];

		c->retired |= c->journal_fd >= 0 && !c->next;
	}
	for (uint32_t i = 0; i < p->nworkers; i++) {
		struct child *c = &p->workers[i];

		if (c->next)
			child_start_late(c);
		c->next = false;
	}
}

void crew_replace(struct parent *p)
{
	struct buf error;

	p->workers_why[0] = '\0';
	if (as_wanted(p))
		return;
	buf_init(&error, sizeof(p->workers_why));
	if (children_reserve(p, &error) == 0) {
		start_reserved(p);
		log_notice("workers are replaced: %u, with journals of %llu bytes; those of before "
			   "end with their last session",
			   wanted(p), (unsigned long long)p->cfg->journal_bytes);
	} else {
		(void)snprintf(p->workers_why, sizeof(p->workers_why), "%.*s", (int)error.n,
			       (const char *)buf_data(&error));
		log_error("the workers of before go on, and with them their number and the size of "
			  "their journals: %s", p->workers_why);
	}
	buf_done(&error);
}
