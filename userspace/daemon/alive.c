/* SPDX-License-Identifier: MIT */
#include "daemon/alive.h"

#include <errno.h>
#include <poll.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/procfs.h"

/*
 * One that opens a connection for each thing it does is watched on between two of them: who it is need
 * not be found out again. So many at most, for so many ticks.
 */
enum { IDLE_MAX = 64, IDLE_TICKS = 3 };

/* A process with sessions; many of an agent's come from few processes. */
struct alive {
	UT_hash_handle hh;
	struct list idle; /* without sessions, longest first; or alone */
	unsigned ticks;	  /* that it has been so */
	uint32_t pid;
	uint64_t started_boot_ns;
	int fd;
	uv_poll_t poll;
	struct list sessions;
};

/* By pid: of the parent, of which there is one. */
static struct alive *all;
static struct list idle = {&idle, &idle};
static unsigned nidle;

static void on_closed(uv_handle_t *h)
{
	struct alive *a = container_of((uv_poll_t *)h, struct alive, poll);

	close(a->fd);
	free(a);
}

static void busy(struct alive *a)
{
	if (list_empty(&a->idle))
		return;
	list_del(&a->idle);
	nidle--;
}

static void release(struct alive *a)
{
	busy(a);
	HASH_DEL(all, a);
	uv_close((uv_handle_t *)&a->poll, on_closed);
}

void alive_tell(struct psession *s)
{
	if (!s->agent || !s->agent->cfg || s->agent->cfg->outlives || !s->worker->ipc)
		return;
	ipc_begin(s->worker->ipc, IPC_SESSION_ORPHAN, 0);
	ipc_put_uuid(s->worker->ipc, &s->uuid);
	ipc_send(s->worker->ipc);
}

/* All its threads have ended, and with them their descriptors. */
static void on_end(uv_poll_t *h, int status, int events)
{
	struct alive *a = container_of(h, struct alive, poll);

	list_each(it, &a->sessions)
	{
		struct psession *s = container_of(it, struct psession, in_alive);

		list_del(&s->in_alive);
		s->alive = NULL;
		s->gone = true;
		alive_tell(s);
	}
	release(a);
}

static struct alive *watch_new(const struct psession *s, int pidfd)
{
	struct alive *a = calloc(1, sizeof(*a));

	if (!a || uv_poll_init(&s->worker->p->loop, &a->poll, pidfd)) {
		free(a);
		return NULL;
	}
	a->pid = s->pid;
	a->started_boot_ns = s->started_boot_ns;
	a->fd = pidfd;
	list_init(&a->sessions);
	list_init(&a->idle);
	HASH_ADD(hh, all, pid, sizeof(a->pid), a);
	(void)uv_poll_start(&a->poll, UV_READABLE, on_end);
	return a;
}

static struct alive *find(uint32_t pid)
{
	struct alive *a;

	HASH_FIND(hh, all, &pid, sizeof(pid), a);
	return a;
}

bool alive_started(uint32_t pid, uint64_t *ret_boot_ns)
{
	const struct alive *a = find(pid);
	struct pollfd end = {.fd = a ? a->fd : -1, .events = POLLIN};

	/* As long as it has not ended nobody else has its number. */
	if (!a || poll(&end, 1, 0) != 0)
		return false;
	*ret_boot_ns = a->started_boot_ns;
	return true;
}

int alive_watch(struct psession *s, int pidfd)
{
	struct alive *a = find(s->pid);

	if (a && a->started_boot_ns == s->started_boot_ns) {
		if (pidfd >= 0)
			close(pidfd);
	} else {
		BUG_ON(pidfd < 0);
		/* The one before has ended, and says so in this round of the loop. */
		if (a)
			on_end(&a->poll, 0, UV_READABLE);
		a = watch_new(s, pidfd);
	}
	if (!a) {
		close(pidfd);
		return -ENOMEM;
	}
	busy(a);
	s->alive = a;
	list_add_tail(&a->sessions, &s->in_alive);
	return 0;
}

void alive_take(struct psession *s)
{
	uint64_t started;
	int fd;

	if (s->gone || !s->open)
		return;
	fd = (int)syscall(SYS_pidfd_open, s->pid, 0);
	if (fd < 0 && errno != ESRCH) {
		log_error("session %s: its process %u cannot be watched: %s", s->id, s->pid,
			  strerror(errno));
		return;
	}
	s->gone = fd < 0 || !procfs_started(s->pid, &started) || started != s->started_boot_ns;
	if (!s->gone && alive_watch(s, fd) == 0)
		return;
	if (s->gone && fd >= 0)
		close(fd);
	alive_tell(s);
}

void alive_drop(struct psession *s)
{
	struct alive *a = s->alive;

	if (!a)
		return;
	list_del(&s->in_alive);
	s->alive = NULL;
	if (!list_empty(&a->sessions))
		return;
	a->ticks = 0;
	list_add_tail(&idle, &a->idle);
	if (++nidle > IDLE_MAX)
		release(container_of(idle.next, struct alive, idle));
}

void alive_tick(void)
{
	list_each(it, &idle)
	{
		struct alive *a = container_of(it, struct alive, idle);

		if (++a->ticks >= IDLE_TICKS)
			release(a);
	}
}
