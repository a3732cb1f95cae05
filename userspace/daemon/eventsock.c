/* SPDX-License-Identifier: MIT */
#include "daemon/eventsock.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/address.h"
#include "daemon/hand.h"

enum { BACKLOG = 64 };

static int listen_at(const char *address)
{
	struct sockaddr_storage sa;
	socklen_t n;
	int fd, on = 1, err = address_parse(address, &sa, &n);

	if (err)
		return err;
	fd = socket(sa.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(fd, (struct sockaddr *)&sa, n) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	err = -errno;
	(void)close(fd);
	return err;
}

void eventsock_give(struct parent *p)
{
	if (!p->authd.ipc)
		return;
	ipc_begin(p->authd.ipc, IPC_EVENTS, 0);
	if (p->events_at)
		ipc_put_fd(p->authd.ipc, p->events_fd);
	ipc_send(p->authd.ipc);
	/* One of the binary before an upgrade stays for what it was asked, and takes no more of these. */
	for (size_t i = 0; i < OLD_MAX; i++) {
		if (p->old[i].role != ROLE_AUTHD || !p->old[i].ipc)
			continue;
		ipc_begin(p->old[i].ipc, IPC_EVENTS, 0);
		ipc_send(p->old[i].ipc);
	}
}

void eventsock_save(struct parent *p, struct hand *h, json_t *root)
{
	if (!p->events_at)
		return;
	hand_put_str(h, root, "events_at", p->events_at);
	hand_put_fd(h, root, "events", p->events_fd);
}

void eventsock_take(struct parent *p, struct hand *h, const json_t *root)
{
	if (!hand_has(root, "events_at"))
		return;
	p->events_at = hand_dup(h, root, "events_at");
	p->events_fd = hand_fd(h, root, "events");
	if (p->events_fd < 0)
		hand_fail(h, "events");
}

static bool same(const char *a, const char *b)
{
	return a == b || (a && b && strcmp(a, b) == 0);
}

void eventsock_open(struct parent *p)
{
	const char *want = p->cfg->idp ? p->cfg->idp->events : NULL;

	if (same(want, p->events_at))
		return;
	if (p->events_at)
		(void)close(p->events_fd);
	free(p->events_at);
	p->events_at = NULL;
	if (want) {
		p->events_fd = listen_at(want);
		if (p->events_fd < 0)
			log_error("idp: events: %s: %s: what the provider ends stays open until its "
				  "own end", want, strerror(-p->events_fd));
		else
			p->events_at = strdup(want);
	}
	eventsock_give(p);
}
