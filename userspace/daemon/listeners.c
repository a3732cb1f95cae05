/* SPDX-License-Identifier: MIT */
#include "daemon/listeners.h"

#include <errno.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/address.h"
#include "daemon/netns.h"
#include "kern/kern.h"

enum { BACKLOG = 4096, PORT_TRIES = 64 };

struct gateway {
	struct list link;
	char target[NAME_MAX_LEN];
	char address[ADDRESS_TEXT];
	int fd;
};

/* @free_bind: also where the interface is still down; it works once it is up. */
static int listen_on(const struct sockaddr *sa, socklen_t len, bool free_bind)
{
	int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1, e;

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (sa->sa_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (free_bind)
		(void)setsockopt(fd, sa->sa_family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP,
				 sa->sa_family == AF_INET6 ? IPV6_FREEBIND : IP_FREEBIND, &one,
				 sizeof(one));
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
	return listen_on((const struct sockaddr *)&ss, len, false);
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

int listener_set_open(struct listener_set *ret)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};

	/* The port is whatever is free on both. A host without IPv6 has only the first. */
	for (int i = 0; i < PORT_TRIES; i++) {
		int fd4 = listen_on((struct sockaddr *)&v4, sizeof(v4), true), fd6;
		uint16_t port = 0;

		if (fd4 < 0)
			return fd4;
		if (port_of(fd4, &port)) {
			close(fd4);
			return -EIO;
		}
		v6.sin6_port = htons(port);
		fd6 = listen_on((struct sockaddr *)&v6, sizeof(v6), true);
		if (fd6 == -EADDRINUSE) {
			close(fd4);
			continue;
		}
		*ret = (struct listener_set){.tcp4 = fd4, .tcp6 = fd6 < 0 ? -1 : fd6, .port = port};
		return 0;
	}
	return -EADDRINUSE;
}

void listener_set_close(struct listener_set *s)
{
	if (s->tcp4 >= 0)
		close(s->tcp4);
	if (s->tcp6 >= 0)
		close(s->tcp6);
	s->tcp4 = s->tcp6 = -1;
}

int listener_set_steer(struct parent *p, const struct listener_set *s)
{
	return kern_listener_set(p->kern, s->tcp4, s->tcp6, s->port);
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

static void give(struct child *c, enum ipc_listener_kind kind, const char *target, uint64_t netns,
		 int fd)
{
	if (fd < 0)
		return;
	ipc_begin(c->ipc, IPC_LISTENER, 0);
	ipc_put_u32(c->ipc, kind);
	ipc_put_str(c->ipc, target);
	ipc_put_u64(c->ipc, netns);
	ipc_put_fd(c->ipc, fd);
	ipc_send(c->ipc);
}

void listener_set_give(const struct listener_set *s, struct child *c, uint64_t netns)
{
	give(c, IPC_LISTEN_STEERED, "", netns, s->tcp4);
	give(c, IPC_LISTEN_STEERED, "", netns, s->tcp6);
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
		give(c, IPC_LISTEN_GATEWAY, g->target, 0, g->fd);
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
		listener_set_give(&p->own, c, 0);
		netns_give(p, c);
	}
	list_each(it, &p->gateways) {
		struct gateway *g = container_of(it, struct gateway, link);

		give(c, IPC_LISTEN_GATEWAY, g->target, 0, g->fd);
	}
}
