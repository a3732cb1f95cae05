/* SPDX-License-Identifier: MIT */
/*
 * The journal as a whole: its mapping, its sessions, and the way of full
 * tails into files. A session with something to write is in exactly one list:
 *
 *   wanted -> asked -> ready      needs a file, asked for it, has it
 *   stuck                         could not be written; back to wanted later
 */
#include "record/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "base/clock.h"
#include "record/slot.h"

enum {
	FILES_MAX = 256,  /* open files while busy */
	SATURATED = 16,	  /* pending frames that make speed matter more than size */
	FAST = -5,	  /* zstd's level then */
	ONE_BLOCK = 8192, /* so many bytes of records fit one of the disk even then */
	TABLE_STEP = 256, /* frames looked at in one go for the seek table */
};
#define RETRY_NS 5000000000u

/* A frame that is in its file but perhaps not on the disk. */
struct limbo {
	struct list link;
	struct slot *slot;
	int fd;
};

/* -------------------------------------------------------------- sessions */

static struct rec **bucket(struct journal *j, const struct uuid *session)
{
	uint32_t h;

	/* The last bytes of a version 7 UUID are random. */
	memcpy(&h, session->b + 12, sizeof(h));
	return &j->buckets[h % REC_BUCKETS];
}

struct rec *journal_find(struct journal *j, const struct uuid *session)
{
	struct rec *r = *bucket(j, session);

	while (r && !uuid_eq(&r->session, session))
		r = r->hash_next;
	return r;
}

struct rec *journal_add(struct journal *j, const struct uuid *session)
{
	struct rec *r = calloc(1, sizeof(*r)), **head = bucket(j, session);

	if (!r)
		return NULL;
	r->j = j;
	r->session = *session;
	r->fd = -1;
	r->dir = DIR_NONE;
	list_init(&r->link);
	list_init(&r->file_link);
	list_init(&r->tail_link);
	list_init(&r->pending);
	r->hash_next = *head;
	*head = r;
	return r;
}

uint64_t dir_check(const struct dir_entry *e)
{
	return XXH3_64bits(e->session, sizeof(e->session)) | 1;
}

void dir_enter(struct rec *r)
{
	struct journal *j = r->j;

	for (uint32_t i = j->dir_hint; i < j->ndir; i++) {
		struct dir_entry *e = &j->dir[i];

		if (e->check)
			continue;
		memcpy(e->session, r->session.b, sizeof(e->session));
		__atomic_store_n(&e->check, dir_check(e), __ATOMIC_RELEASE);
		r->dir = i;
		j->dir_hint = i + 1;
		return;
	}
	j->dir_hint = j->ndir;
}

static void dir_leave(struct rec *r)
{
	struct journal *j = r->j;

	if (r->dir == DIR_NONE)
		return;
	__atomic_store_n(&j->dir[r->dir].check, 0, __ATOMIC_RELEASE);
	if (r->dir < j->dir_hint)
		j->dir_hint = r->dir;
	r->dir = DIR_NONE;
}

static void close_file(struct rec *r)
{
	if (r->fd < 0)
		return;
	(void)close(r->fd); /* what was written is checked by writing, or by fdatasync */
	r->fd = -1;
	list_del(&r->file_link);
	r->j->nfiles--;
}

void journal_remove(struct rec *r)
{
	struct rec **at = bucket(r->j, &r->session);

	while (*at != r)
		at = &(*at)->hash_next;
	*at = r->hash_next;
	r->j->ndead -= r->dead;
	close_file(r);
	list_del(&r->link);
	list_del(&r->tail_link);
	frame_table_free(r->table);
	free(r);
}

static bool has_work(const struct rec *r)
{
	return !list_empty(&r->pending) || r->closing;
}

void journal_schedule(struct rec *r)
{
	if (r->stuck || r->asked || !list_empty(&r->link) || !has_work(r))
		return;
	list_add_tail(r->fd >= 0 ? &r->j->ready : &r->j->wanted, &r->link);
}

void journal_ask(struct journal *j)
{
	while (!list_empty(&j->wanted)) {
		struct rec *r = container_of(j->wanted.next, struct rec, link);
		struct uuid session = r->session;

		list_del(&r->link);
		list_add_tail(&j->asked, &r->link);
		r->asked = true;
		j->ops->need_file(j->ctx, &session);
	}
}

static bool is_disk_error(int error)
{
	return error == -ENOSPC || error == -EDQUOT || error == -EROFS;
}

static uint32_t pending_slots(const struct rec *r)
{
	uint32_t n = 0;

	list_each(it, &r->pending)
	{
		n++;
	}
	return n;
}

/* @r may be gone afterwards: the callback may close it. */
static void fail(struct rec *r, int error)
{
	struct journal *j = r->j;
	struct uuid session = r->session;

	close_file(r);
	j->npending -= pending_slots(r);
	frame_table_free(r->table);
	r->table = NULL;
	list_del(&r->link);
	if (list_empty(&j->stuck))
		j->retry_ns = 0;
	list_add_tail(&j->stuck, &r->link);
	r->stuck = true;
	j->nstuck++;
	if (!r->error)
		r->error = error;
	if (is_disk_error(error))
		j->disk_error = error;
	if (r->told)
		return;
	r->told = true;
	j->stats.failed++;
	j->ops->failed(j->ctx, &session, error);
}

/* The least recently used files that have nothing to write make room. */
static void limit_files(struct journal *j)
{
	list_each(it, &j->files)
	{
		struct rec *r = container_of(it, struct rec, file_link);

		if (j->nfiles <= FILES_MAX)
			return;
		if (list_empty(&r->link))
			close_file(r);
	}
}

static int take_file(struct rec *r, int fd)
{
	struct stat st;
	int err = 0;

	r->fd = fd;
	list_add_tail(&r->j->files, &r->file_link);
	r->j->nfiles++;
	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || fcntl(fd, F_GETFL) & O_APPEND)
		return -EINVAL;
	if (r->dead && !r->scanned)
		err = recover_file(r, (uint64_t)st.st_size);
	else if ((uint64_t)st.st_size > r->off && r->told)
		err = ftruncate(fd, (off_t)r->off) ? -errno : 0; /* a write that failed */
	else if ((uint64_t)st.st_size != r->off)
		err = -ESTALE; /* somebody else changed it */
	return err;
}

void journal_file(struct journal *j, const struct uuid *session, int fd, int error)
{
	struct rec *r = journal_find(j, session);
	int err;

	if (!r || r->fd >= 0 || r->stuck || (!r->asked && !list_empty(&r->link))) {
		if (fd >= 0)
			(void)close(fd);
		return;
	}
	r->asked = false;
	list_del(&r->link);
	if (fd < 0) {
		err = error > 0 ? -error : error;
		err = err ? err : -EIO;
	} else {
		err = take_file(r, fd);
	}
	r->bad_file = err;
	list_add_tail(&j->ready, &r->link);
	limit_files(j);
}

/* ------------------------------------------------------------ the slots */

void slot_release(struct journal *j, struct slot *s)
{
	__atomic_store_n(&s->head->used, 0, __ATOMIC_RELEASE);
	s->len = 0;
	/* As a stack: the pages that were used last are used next. */
	list_add_tail(j->free.next, &s->link);
	j->nfree++;
}

/* The slot's records in file form into f->raw. Returns how many. */
static uint32_t slot_export(const struct slot *s, uint8_t *raw, uint64_t *ret_first_wall_ns)
{
	const uint8_t *from = (const uint8_t *)(s->head + 1);
	uint32_t off = 0, n = 0;

	while (off < s->len) {
		struct tg_rec_head head;
		struct slot_rec e;

		memcpy(&e, from + off, sizeof(e));
		head = (struct tg_rec_head){
			.len = e.len, .type = e.type, .flags = e.flags, .wall_ns = e.wall_ns};
		if (!n++)
			*ret_first_wall_ns = e.wall_ns;
		memcpy(raw + off, &head, sizeof(head));
		memcpy(raw + off + sizeof(head), from + off + sizeof(e), e.len);
		off += (uint32_t)sizeof(e) + e.len;
	}
	BUG_ON(off != s->len);
	return n;
}

/* The frame that is about to be written is all of the recording, its end included. */
static bool is_all(const struct rec *r, const struct tg_rec_frame *f)
{
	return r->ended && !r->dead && r->off == 0 && f->seq + 1 == r->seq;
}

/*
 * What is all of a short session takes a block of the disk however well it is compressed, and for
 * so few bytes most of the work is making tables.
 */
static int level_for(const struct rec *r, const struct tg_rec_frame *f, bool all)
{
	bool small = all && f->raw_bytes <= ONE_BLOCK;

	return small || r->j->npending >= SATURATED ? FAST : 1;
}

/* The only frame of a file brings its seek table along. */
static int write_frame(struct rec *r, struct tg_rec_frame *f)
{
	bool all = is_all(r, f);
	struct journal *j = r->j;
	uint64_t bytes;
	int err;

	memcpy(f->session, r->session.b, sizeof(f->session));
	framer_level(&j->framer, level_for(r, f, all));
	err = framer_write(&j->framer, r->fd, r->off, f, all, &bytes);
	if (err)
		return err;
	r->off += bytes;
	r->complete |= all;
	memcpy(r->hash, f->hash, sizeof(r->hash));
	j->stats.frames++;
	j->stats.stored_bytes += bytes;
	j->disk_error = 0;
	return 0;
}

/* 0 and the slot will be released by journal_sync(), or negative errno. */
static int into_limbo(struct journal *j, struct slot *s, int fd)
{
	struct limbo *l = malloc(sizeof(*l));

	if (!l)
		return -ENOMEM;
	l->slot = s;
	l->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (l->fd < 0) {
		free(l);
		return -errno;
	}
	(void)pthread_mutex_lock(&j->sync_mutex);
	list_add_tail(&j->limbo, &l->link);
	(void)pthread_mutex_unlock(&j->sync_mutex);
	j->nlimbo++;
	return 0;
}

static int write_slot(struct rec *r)
{
	struct slot *s = container_of(r->pending.next, struct slot, link);
	struct journal *j = r->j;
	struct tg_rec_frame f = {.seq = s->seq, .raw_bytes = s->len};
	int err;

	/* After a power loss the file may lack frames: the chain keeps its gap. */
	if (r->dead && s->head->has_previous)
		memcpy(r->hash, s->head->previous, sizeof(r->hash));
	memcpy(f.previous, r->hash, sizeof(f.previous));
	f.records = slot_export(s, j->framer.raw, &f.first_wall_ns);
	err = write_frame(r, &f);
	if (err)
		return err;
	list_del(&s->link);
	j->npending--;
	if (!j->durable || into_limbo(j, s, r->fd)) {
		if (j->durable && fdatasync(r->fd))
			return -errno; /* the frame is there; the error comes again */
		slot_release(j, s);
	}
	return 0;
}

static int write_end(struct rec *r)
{
	struct journal *j = r->j;
	struct tg_rec_frame f = {.seq = r->seq, .records = 1, .first_wall_ns = r->end_wall_ns};
	int err;

	f.raw_bytes = (uint32_t)rec_end_record(r, j->framer.raw);
	memcpy(f.previous, r->hash, sizeof(f.previous));
	err = write_frame(r, &f);
	if (err)
		return err;
	r->seq++;
	r->ended = true;
	return 0;
}

/* One step; 1 when the file is complete, 0 when there is more, or negative errno. */
static int work_one(struct rec *r)
{
	uint64_t bytes;
	int err;

	/* Of a session that had no tail, nor a file: nothing had been put. */
	if (r->bad_file == -ENOENT && r->dead && !r->scanned && list_empty(&r->pending))
		r->complete = true;
	else if (r->bad_file)
		return r->bad_file;
	if (!list_empty(&r->pending)) {
		err = write_slot(r);
		return err ? err : r->complete;
	}
	if (!r->closing || r->complete)
		return r->closing;
	if (!r->ended)
		return write_end(r);
	if (!r->table)
		r->table = frame_table_new();
	if (!r->table)
		return -ENOMEM;
	err = frame_table_scan(r->table, r->fd, r->off, TABLE_STEP);
	if (err <= 0)
		return err;
	err = frame_table_write(r->table, r->fd, &bytes);
	if (err)
		return err;
	r->j->stats.stored_bytes += bytes;
	return 1;
}

static void work_session(struct journal *j)
{
	struct rec *r = container_of(j->ready.next, struct rec, link);
	int err;

	list_del(&r->link);
	err = work_one(r);
	if (err < 0) {
		r->bad_file = 0;
		fail(r, err);
		return;
	}
	if (err) {
		if (r->dead && !r->complete)
			j->stats.recovered++;
		dir_leave(r);
		journal_remove(r);
		return;
	}
	journal_schedule(r);
	if (list_empty(&r->link) && r->quiet && !r->cur) {
		close_file(r);
	} else if (r->fd >= 0) {
		list_del(&r->file_link);
		list_add_tail(&j->files, &r->file_link);
	}
}

/* Slots whose frames journal_sync() brought to the disk. */
static void collect_released(struct journal *j)
{
	struct list done;

	if (!j->nlimbo)
		return;
	list_init(&done);
	(void)pthread_mutex_lock(&j->sync_mutex);
	list_each(it, &j->released)
	{
		list_del(it);
		list_add_tail(&done, it);
	}
	(void)pthread_mutex_unlock(&j->sync_mutex);
	list_each(it, &done)
	{
		struct limbo *l = container_of(it, struct limbo, link);

		slot_release(j, l->slot);
		j->nlimbo--;
		free(l);
	}
}

/* When slots run out, the oldest tails become frames before they are full. */
static void relieve(struct journal *j, unsigned frames)
{
	uint32_t low = (uint32_t)max_size(j->nslots / 8 + 1, min_size(32, j->nslots / 2));

	list_each(it, &j->tails)
	{
		if (!frames-- || j->nfree + j->npending + j->nlimbo >= low)
			break;
		rec_seal(container_of(it, struct rec, tail_link));
	}
	/* Nobody can go on before the disk has what is in limbo, and nobody saw to it. */
	if (j->nlimbo && j->nfree < min_size(low, 32) && journal_sync(j) == 0)
		collect_released(j);
}

bool journal_work(struct journal *j, unsigned frames)
{
	collect_released(j);
	relieve(j, frames);
	if (!list_empty(&j->wanted))
		journal_ask(j);
	for (; frames && !list_empty(&j->ready); frames--)
		work_session(j);
	if (j->starved && j->nfree) {
		j->starved = false;
		j->ops->writable(j->ctx);
	}
	return !list_empty(&j->ready) || !list_empty(&j->wanted);
}

static void retry_stuck(struct journal *j, uint64_t now_boot_ns)
{
	bool due = j->retry_ns && now_boot_ns >= j->retry_ns;

	if (list_empty(&j->stuck) || (j->retry_ns && !due))
		return;
	j->retry_ns = now_boot_ns + RETRY_NS;
	if (!due)
		return; /* it failed just now */
	list_each(it, &j->stuck)
	{
		struct rec *r = container_of(it, struct rec, link);

		list_del(&r->link);
		r->stuck = false;
		j->nstuck--;
		j->npending += pending_slots(r);
		journal_schedule(r);
	}
}

void journal_idle(struct journal *j, uint64_t now_boot_ns, uint64_t idle_ns)
{
	list_each(it, &j->tails)
	{
		struct rec *r = container_of(it, struct rec, tail_link);

		if (r->touched) {
			r->touched = false;
			r->quiet = false;
			r->stamp = now_boot_ns;
		} else if (now_boot_ns - r->stamp >= idle_ns && !r->reserved) {
			r->quiet = true;
			rec_seal(r);
		}
	}
	list_each(it, &j->files)
	{
		struct rec *r = container_of(it, struct rec, file_link);

		if (!r->cur && list_empty(&r->link))
			close_file(r);
	}
	retry_stuck(j, now_boot_ns);
}

void journal_drain(struct journal *j)
{
	list_each(it, &j->tails)
	{
		rec_seal(container_of(it, struct rec, tail_link));
	}
	while (journal_work(j, UINT32_MAX))
		;
}

/* ------------------------------------------------------------ durability */

int journal_sync(struct journal *j)
{
	struct list batch;
	int err = 0;

	list_init(&batch);
	(void)pthread_mutex_lock(&j->sync_mutex);
	list_each(it, &j->limbo)
	{
		list_del(it);
		list_add_tail(&batch, it);
	}
	j->syncs++;
	(void)pthread_mutex_unlock(&j->sync_mutex);
	if (fdatasync(j->fd))
		err = -errno;
	list_each(it, &batch)
	{
		struct limbo *l = container_of(it, struct limbo, link);

		/*
		 * After a failed fdatasync the page cache may claim what the disk does
		 * not have: the slot is never used again, recovery will write it.
		 */
		if (fdatasync(l->fd)) {
			err = err ? err : -errno;
			list_del(it);
			(void)close(l->fd);
			free(l);
			continue;
		}
		(void)close(l->fd);
	}
	(void)pthread_mutex_lock(&j->sync_mutex);
	list_each(it, &batch)
	{
		list_del(it);
		list_add_tail(&j->released, it);
	}
	(void)pthread_mutex_unlock(&j->sync_mutex);
	return err;
}

bool journal_wants_sync(const struct journal *j)
{
	return j->nlimbo > j->nslots / 4;
}

void journal_set_durable(struct journal *j, bool on)
{
	j->durable = on;
}

void journal_get_stats(const struct journal *j, struct journal_stats *ret)
{
	*ret = j->stats;
	ret->slots = j->nslots;
	ret->slots_used = j->nslots - j->nfree;
	ret->open_files = j->nfiles;
	ret->stuck = j->nstuck;
	ret->dead = j->ndead;
	ret->syncs = __atomic_load_n(&j->syncs, __ATOMIC_RELAXED);
}

bool journal_empty(const struct journal *j)
{
	for (size_t i = 0; i < REC_BUCKETS; i++)
		if (j->buckets[i])
			return false;
	return j->nfree == j->nslots;
}

uint32_t journal_room(const struct journal *j)
{
	return j->nfree;
}

/* ---------------------------------------------------------------- begin */

static int map_journal(struct journal *j, int fd)
{
	struct stat st;
	int err;

	if (fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode) || st.st_size < JOURNAL_SLOT_BYTES)
		return -EINVAL;
	j->nslots = (uint32_t)min_size(st.st_size / JOURNAL_SLOT_BYTES, 1u << 20);
	j->ndir = j->nslots * DIR_PER_SLOT;
	j->map_bytes = (size_t)j->nslots * JOURNAL_SLOT_BYTES;
	err = posix_fallocate(fd, 0, (off_t)j->map_bytes);
	if (err)
		return -err;
	j->map = mmap(NULL, j->map_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (j->map == MAP_FAILED) {
		j->map = NULL;
		return -errno;
	}
	j->dir = (struct dir_entry *)(void *)(j->map + (size_t)j->nslots * SLOT_BYTES);
	j->slots = calloc(j->nslots, sizeof(*j->slots));
	return j->slots ? 0 : -ENOMEM;
}

/* Last slot first: the stack then begins with the first. */
static void sort_slots(struct journal *j)
{
	for (uint32_t i = j->nslots; i--;) {
		struct slot *s = &j->slots[i];

		list_init(&s->link);
		s->head = (struct slot_head *)(void *)(j->map + (size_t)i * SLOT_BYTES);
		if (!__atomic_load_n(&s->head->used, __ATOMIC_ACQUIRE)) {
			slot_release(j, s);
			continue;
		}
		list_add_tail(&j->found, &s->link);
	}
}

int journal_new(int fd, const struct journal_ops *ops, void *ctx, struct journal **ret)
{
	struct journal *j = calloc(1, sizeof(*j));
	struct list *lists[] = {&j->free,   &j->found, &j->tails, &j->files, &j->ready,
				&j->wanted, &j->asked, &j->stuck, &j->limbo, &j->released};
	int err;

	if (!j)
		return -ENOMEM;
	for (size_t i = 0; i < ARRAY_SIZE(lists); i++)
		list_init(lists[i]);
	j->ops = ops;
	j->ctx = ctx;
	j->fd = -1;
	(void)pthread_mutex_init(&j->sync_mutex, NULL); /* cannot fail with default attributes */
	err = framer_init(&j->framer);
	if (!err)
		err = map_journal(j, fd);
	if (err) {
		journal_free(j);
		return err;
	}
	j->fd = fd;
	/* No two uses of a slot share a generation, nor two processes. */
	random_bytes(&j->gen, sizeof(j->gen));
	sort_slots(j);
	*ret = j;
	return 0;
}

void journal_free(struct journal *j)
{
	struct list *limbos[2];

	if (!j)
		return;
	for (size_t i = 0; i < REC_BUCKETS; i++)
		while (j->buckets[i])
			journal_remove(j->buckets[i]);
	limbos[0] = &j->limbo;
	limbos[1] = &j->released;
	for (size_t i = 0; i < ARRAY_SIZE(limbos); i++) {
		list_each(it, limbos[i])
		{
			struct limbo *l = container_of(it, struct limbo, link);

			list_del(it);
			if (i == 0)
				(void)close(l->fd);
			free(l);
		}
	}
	if (j->map)
		(void)munmap(j->map, j->map_bytes);
	if (j->fd >= 0)
		(void)close(j->fd);
	framer_done(&j->framer);
	free(j->slots);
	(void)pthread_mutex_destroy(&j->sync_mutex);
	free(j);
}
