/* SPDX-License-Identifier: MIT */
#include "daemon/listeners.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/address.h"
#include "kern/kern.h"

enum { BACKLOG = 4096, PORT_TRIES = 64 };

struct gateway {
	struct list link;
	char target[NAME_MAX_LEN];
	char address[ADDRESS_TEXT];
	int fd;
};

static int listen_on(const struct sockaddr *sa, socklen_t len)
{
	int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1, e;

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (sa->sa_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (bind(fd, sa, len) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	e = errno;
	close(fd);
	return -e;
}

int listener_open(const char *address)
{
	struct sockaddr_storage ss;
	socklen_t len;

	if (address_parse(address, &ss, &len))
		return -EINVAL;
	return listen_on((const struct sockaddr *)&ss, len);
}

static int port_of(int fd, uint16_t *ret)
{
	struct sockaddr_in sin;
	socklen_t len = sizeof(sin);

	if (getsockname(fd, (struct sockaddr *)&sin, &len))
		return -errno;
	*ret = ntohs(sin.sin_port);
	return 0;
}

int listeners_steered(struct parent *p)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};

	/* The port is whatever is free on both. A host without IPv6 has only the first. */
	for (int i = 0; i < PORT_TRIES; i++) {
		int fd4 = listen_on((struct sockaddr *)&v4, sizeof(v4)), fd6;

		if (fd4 < 0)
			return fd4;
		if (port_of(fd4, &p->port)) {
			close(fd4);
			return -EIO;
		}
		v6.sin6_port = htons(p->port);
		fd6 = listen_on((struct sockaddr *)&v6, sizeof(v6));
		if (fd6 == -EADDRINUSE) {
			close(fd4);
			continue;
		}
		p->listen4 = fd4;
		p->listen6 = fd6 < 0 ? -1 : fd6;
		return 0;
	}
	return -EADDRINUSE;
}

static struct gateway *gateway_find(struct parent *p, const char *target)
{
	list_each(it, &p->gateways) {
		struct gateway *g = container_of(it, struct gateway, link);

		if (strcmp(g->target, target) == 0)
			return g;
	}
	return NULL;
}

static void give(struct child *c, enum ipc_listener_kind kind, const char *target, int fd)
{
	if (fd < 0)
		return;
	ipc_begin(c->ipc, IPC_LISTENER, 0);
	ipc_put_u32(c->ipc, kind);
	ipc_put_str(c->ipc, target);
	ipc_put_fd(c->ipc, fd);
	ipc_send(c->ipc);
}

static int gateway_open(struct parent *p, const struct cfg_target *t)
{
	struct gateway *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	(void)snprintf(g->target, sizeof(g->target), "%s", t->name);
	(void)snprintf(g->address, sizeof(g->address), "%s", t->listen);
	g->fd = listener_open(t->listen);
	if (g->fd < 0) {
		int rc = g->fd;

		log_error("target %s: cannot listen on %s: %s", t->name, t->listen, strerror(-rc));
		free(g);
		return rc;
	}
	list_add_tail(&p->gateways, &g->link);
	each_worker(p, c)
		give(c, IPC_LISTEN_GATEWAY, g->target, g->fd);
	return 0;
}

int listeners_gateways(struct parent *p)
{
	int rc = 0;

	for (uint32_t i = 0; i < p->cfg->ntargets; i++) {
		const struct cfg_target *t = &p->cfg->targets[i];

		if (t->listen && !gateway_find(p, t->name) && gateway_open(p, t))
			rc = -EADDRNOTAVAIL;
	}
	return rc;
}

void listeners_give(struct parent *p, struct child *c)
{
	if (p->kern) {
		give(c, IPC_LISTEN_STEERED, "", p->listen4);
		give(c, IPC_LISTEN_STEERED, "", p->listen6);
	}
	list_each(it, &p->gateways) {
		struct gateway *g = container_of(it, struct gateway, link);

		give(c, IPC_LISTEN_GATEWAY, g->target, g->fd);
	}
}
