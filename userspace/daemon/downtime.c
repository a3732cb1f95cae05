/* SPDX-License-Identifier: MIT */
#include "daemon/downtime.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/text.h"
#include "daemon/audit.h"
#include "daemon/parent.h"
#include "kern/kern.h"

#define DOWN_FILE  "counted"
#define DOWN_MAGIC 0x3144574f44475430ull /* "0TGDOWD1": changes with the layout */

enum { BOOT_ID = 36 };

struct down_file {
	uint64_t magic, wall_ns;
	char boot_id[BOOT_ID + 4];
	uint64_t n[TG_COUNTER_MAX];
};

static const char *const labels[] = {
#define X(name, label, what) label,
	TG_KERNEL_COUNTERS(X)
#undef X
};

static const char *const words[] = {
#define X(name, label, what) what,
	TG_KERNEL_COUNTERS(X)
#undef X
};

static int boot_id(char dst[BOOT_ID + 4])
{
	int fd = open("/proc/sys/kernel/random/boot_id", O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, dst, BOOT_ID);

	if (fd >= 0)
		close(fd);
	return n == BOOT_ID ? 0 : -EIO;
}

static struct down_file *map_file(const struct parent *p)
{
	char path[512];
	void *at = MAP_FAILED;
	int fd;

	if (snprintf(path, sizeof(path), "%s/" DOWN_FILE, p->cfg->state_dir) >= (int)sizeof(path))
		return NULL;
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	/* Reserved, so that a full disk is an error here and no SIGBUS later. */
	if (fd >= 0 && posix_fallocate(fd, 0, sizeof(struct down_file)) == 0)
		at = mmap(NULL, sizeof(struct down_file), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (at == MAP_FAILED)
		log_error("%s: %s: what happens while the daemon is down is not told afterwards", path,
			  strerror(errno));
	if (fd >= 0)
		close(fd);
	return at == MAP_FAILED ? NULL : at;
}

static void start_over(struct down_file *d, const char id[BOOT_ID + 4])
{
	memset(d, 0, sizeof(*d));
	d->magic = DOWN_MAGIC;
	memcpy(d->boot_id, id, sizeof(d->boot_id));
	d->wall_ns = clock_wall_ns();
}

/* True: what the file says was counted in this boot, by the maps that are pinned now. */
static bool open_down(struct parent *p, uint64_t now[TG_K_COUNT])
{
	char id[BOOT_ID + 4] = "";
	bool known;

	if (!p->kern)
		return false;
	p->down = map_file(p);
	if (!p->down || boot_id(id) || kern_counters(p->kern, now)) {
		downtime_stop(p);
		return false;
	}
	known = p->down->magic == DOWN_MAGIC && memcmp(p->down->boot_id, id, sizeof(id)) == 0;
	for (size_t i = 0; known && i < TG_K_COUNT; i++)
		if (p->down->n[i] > now[i])
			known = false; /* unloaded meanwhile, and counted anew */
	if (!known)
		start_over(p->down, id);
	return known;
}

void downtime_pinned(struct parent *p)
{
	uint64_t now[TG_K_COUNT];

	(void)open_down(p, now);
	downtime_stop(p);
}

void downtime_resume(struct parent *p)
{
	uint64_t now[TG_K_COUNT];

	(void)open_down(p, now);
	downtime_tick(p);
}

void downtime_end(struct parent *p)
{
	uint64_t now[TG_K_COUNT], since;
	json_t *counted;
	char when[32];
	bool known = open_down(p, now);

	if (!p->down)
		return;
	/* Without a beginning: since the programs were loaded, which was just now or by hand. */
	since = known ? p->down->wall_ns : 0;
	text_time(since, when, sizeof(when));
	counted = json_object();
	for (size_t i = 0; i < TG_K_COUNT; i++) {
		uint64_t n = now[i] - p->down->n[i];

		if (!n)
			continue;
		(void)json_object_set_new(counted, labels[i], json_integer((json_int_t)n));
		log_warning("while the daemon was down%s%s: %llu %s", since ? ", since " : "",
			    since ? when : "", (unsigned long long)n, words[i]);
	}
	if (json_object_size(counted))
		(void)audit_write(p, AUDIT_SYNC, "daemon.was_down", "{s:s?, s:O}", "since",
				  since ? when : NULL, "counted", counted);
	json_decref(counted);
	downtime_tick(p);
}

void downtime_tick(struct parent *p)
{
	uint64_t now[TG_K_COUNT];

	if (!p->down || !p->kern || kern_counters(p->kern, now))
		return;
	memcpy(p->down->n, now, sizeof(now));
	p->down->wall_ns = clock_wall_ns();
}

void downtime_stop(struct parent *p)
{
	if (p->down)
		(void)munmap(p->down, sizeof(*p->down));
	p->down = NULL;
}
