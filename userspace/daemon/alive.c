/* SPDX-License-Identifier: MIT */
#include "daemon/alive.h"

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/procfs.h"

/* A process with sessions; many of an agent's come from few processes. */
struct alive {
	UT_hash_handle hh;
	uint32_t pid;
	uint64_t started_boot_ns;
	int fd;
	uv_poll_t poll;
	struct list sessions;
};

/* By pid: of the parent, of which there is one. */
static struct alive *all;

static void on_closed(uv_handle_t *h)
{
	struct alive *a = container_of((uv_poll_t *)h, struct alive, poll);

	close(a->fd);
	free(a);
}

static void release(struct alive *a)
{
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
	HASH_ADD(hh, all, pid, sizeof(a->pid), a);
	(void)uv_poll_start(&a->poll, UV_READABLE, on_end);
	return a;
}

int alive_watch(struct psession *s, int pidfd)
{
	struct alive *a;

	HASH_FIND(hh, all, &s->pid, sizeof(s->pid), a);
	if (a && a->started_boot_ns == s->started_boot_ns) {
		close(pidfd);
	} else {
		/* The one before has ended, and says so in this round of the loop. */
		if (a)
			on_end(&a->poll, 0, UV_READABLE);
		a = watch_new(s, pidfd);
	}
	if (!a) {
		close(pidfd);
		return -ENOMEM;
	}
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
	if (list_empty(&a->sessions))
		release(a);
}
