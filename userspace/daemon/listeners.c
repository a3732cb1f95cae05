/* SPDX-License-Identifier: MIT */
#include "daemon/listeners.h"

#include <errno.h>
#include <linux/filter.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/address.h"
#include "daemon/hand.h"
#include "daemon/learned.h"
#include "daemon/netns.h"
#include "kern/kern.h"

enum { BACKLOG = 4096, PORT_TRIES = 64 };

struct gateway {
	struct list link;
	char target[NAME_MAX_LEN]; /* as the workers know it; "": not told yet */
	const struct cfg_target *wanted; /* while a configuration is being put into force */
	struct sockaddr_storage ss;
	socklen_t len;
	int fd;
};

static void set_reuseport(int fd, int on)
{
	/* Refused only where the kernel does not know it; bind() says so then. */
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
}

enum {
	LISTEN_BESIDE = 1,    /* others on the port allow it */
	LISTEN_FREE_BIND = 2, /* also where the interface is still down: works once it is up */
};

static int listen_with(const struct sockaddr *sa, socklen_t len, int flags)
{
	int fd = socket(sa->sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), one = 1, e;

	if (fd < 0)
		return -errno;
	(void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (flags & LISTEN_BESIDE)
		set_reuseport(fd, 1);
	if (sa->sa_family == AF_INET6)
		(void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
	if (flags & LISTEN_FREE_BIND)
		(void)setsockopt(fd, sa->sa_family == AF_INET6 ? IPPROTO_IPV6 : IPPROTO_IP,
				 sa->sa_family == AF_INET6 ? IPV6_FREEBIND : IP_FREEBIND, &one,
				 sizeof(one));
	if (bind(fd, sa, len) == 0 && listen(fd, BACKLOG) == 0)
		return fd;
	e = errno;
	close(fd);
	return -e;
}

static int listen_on(const struct sockaddr *sa, socklen_t len)
{
	return listen_with(sa, len, 0);
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

int listener_set_open(struct listener_set *ret)
{
	struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	int rc;

	/* The port is whatever is free on both. A host without IPv6 has only the first. */
	for (int i = 0; i < PORT_TRIES; i++) {
		int fd4 = listen_with((struct sockaddr *)&v4, sizeof(v4), LISTEN_FREE_BIND), fd6;
		uint16_t port = 0;

		if (fd4 < 0)
			return fd4;
		if (port_of(fd4, &port)) {
			close(fd4);
			return -EIO;
		}
		v6.sin6_port = htons(port);
		fd6 = listen_with((struct sockaddr *)&v6, sizeof(v6), LISTEN_FREE_BIND);
		if (fd6 == -EADDRINUSE) {
			close(fd4);
			continue;
		}
		*ret = (struct listener_set){.tcp4 = fd4,
					     .tcp6 = fd6 < 0 ? -1 : fd6,
					     .port = port,
					     .dns = {-1, -1, -1, -1}};
		rc = resolver_sockets(ret->dns, &ret->dns_port);
		if (rc)
			listener_set_close(ret);
		return rc;
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
	resolver_close(s->dns);
}

int listener_set_steer(struct parent *p, const struct listener_set *s)
{
	int rc = kern_resolver_set(p->kern, s->dns, RESOLVER_SOCKETS, s->dns_port);

	return rc ? rc : kern_listener_set(p->kern, s->tcp4, s->tcp6, s->port);
}

static struct gateway *gateway_at(struct parent *p, const struct sockaddr_storage *ss)
{
	list_each(it, &p->gateways) {
		struct gateway *g = container_of(it, struct gateway, link);

		if (memcmp(&g->ss, ss, sizeof(*ss)) == 0)
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
	if (c->role == ROLE_NAMED) {
		for (size_t i = 0; i < RESOLVER_SOCKETS; i++)
			give(c, i < 2 ? IPC_LISTEN_DNS_UDP : IPC_LISTEN_DNS_TCP, "", netns, s->dns[i]);
		return;
	}
	give(c, IPC_LISTEN_STEERED, "", netns, s->tcp4);
	give(c, IPC_LISTEN_STEERED, "", netns, s->tcp6);
}

static void take_back(struct parent *p, const char *target)
{
	each_worker(p, c) {
		ipc_begin(c->ipc, IPC_LISTENER_CLOSE, 0);
		ipc_put_str(c->ipc, target);
		ipc_send(c->ipc);
	}
}

/*
 * A wider or narrower address on the port of a listener that is about to go, 0.0.0.0 for
 * 127.0.0.1: for the moment both are there.
 */
static int listen_beside(struct parent *p, struct gateway *g)
{
	int fd;

	list_each(it, &p->gateways) {
		struct gateway *other = container_of(it, struct gateway, link);

		if (!other->wanted)
			set_reuseport(other->fd, 1);
	}
	fd = listen_with((const struct sockaddr *)&g->ss, g->len, LISTEN_BESIDE);
	list_each(it, &p->gateways) {
		struct gateway *other = container_of(it, struct gateway, link);

		if (!other->wanted)
			set_reuseport(other->fd, 0);
	}
	if (fd >= 0)
		set_reuseport(fd, 0);
	return fd;
}

static void gateway_free(struct parent *p, struct gateway *g)
{
	list_del(&g->link);
	gateway_forsake(p, g->fd);
	close(g->fd);
	free(g);
}

static int gateway_open(struct parent *p, const struct cfg_target *t,
			const struct sockaddr_storage *ss, socklen_t len)
{
	struct gateway *g = calloc(1, sizeof(*g));

	if (!g)
		return -ENOMEM;
	g->ss = *ss;
	g->len = len;
	g->wanted = t;
	g->fd = gateway_kept(p, ss);
	if (g->fd < 0)
		g->fd = listen_on((const struct sockaddr *)ss, len);
	if (g->fd == -EADDRINUSE)
		g->fd = listen_beside(p, g);
	if (g->fd < 0) {
		int rc = g->fd;

		free(g);
		return rc;
	}
	list_add_tail(&p->gateways, &g->link);
	return 0;
}

/* First those that go on at their address, so that what is left of the others is known. */
static void match_gateways(struct parent *p, const struct config *cfg)
{
	list_each(it, &p->gateways)
		container_of(it, struct gateway, link)->wanted = NULL;
	for (uint32_t i = 0; i < cfg->ntargets; i++) {
		struct sockaddr_storage ss;
		struct gateway *g;
		socklen_t len;

		if (!cfg->targets[i].listen || address_parse(cfg->targets[i].listen, &ss, &len))
			continue;
		g = gateway_at(p, &ss);
		if (g)
			g->wanted = &cfg->targets[i];
	}
}

int listeners_prepare(struct parent *p, const struct config *cfg, struct buf *error)
{
	match_gateways(p, cfg);
	for (uint32_t i = 0; i < cfg->ntargets; i++) {
		const struct cfg_target *t = &cfg->targets[i];
		struct sockaddr_storage ss;
		socklen_t len;
		int rc;

		if (!t->listen)
			continue;
		rc = address_parse(t->listen, &ss, &len);
		if (!rc && gateway_at(p, &ss))
			continue;
		if (!rc)
			rc = gateway_open(p, t, &ss, len);
		if (rc) {
			(void)!buf_printf(error, "target %s: cannot listen on %s: %s\n", t->name,
					  t->listen, strerror(-rc));
			listeners_abort(p);
			return rc;
		}
	}
	return 0;
}

void listeners_abort(struct parent *p)
{
	list_each(it, &p->gateways) {
		struct gateway *g = container_of(it, struct gateway, link);

		g->wanted = NULL;
		if (!g->target[0])
			gateway_free(p, g);
	}
}

/*
 * Whoever connects to a listener that is about to be closed would be reset with it. This way he
 * tries again a second later, by himself, and finds who listens then; those in between are in
 * the queue, which each worker empties before it closes.
 */
static void refuse_new(int fd)
{
	static struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_B | BPF_ABS, offsetof(struct tcphdr, th_flags)),
		BPF_STMT(BPF_ALU | BPF_AND | BPF_K, TH_SYN | TH_ACK),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, TH_SYN, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, 0),
		BPF_STMT(BPF_RET | BPF_K, UINT32_MAX),
	};
	static const struct sock_fprog filter = {.len = ARRAY_SIZE(code), .filter = code};

	if (setsockopt(fd, SOL_SOCKET, SO_ATTACH_FILTER, &filter, sizeof(filter)))
		log_debug("a listener closes as it is: %s", strerror(errno));
}

void listeners_close_old(struct parent *p)
{
	list_each(it, &p->gateways) {
		struct gateway *g = container_of(it, struct gateway, link);

		if (!g->wanted)
			refuse_new(g->fd);
		if (g->target[0] && (!g->wanted || strcmp(g->wanted->name, g->target) != 0)) {
			take_back(p, g->target);
			g->target[0] = '\0';
		}
		if (!g->wanted)
			gateway_free(p, g);
	}
}

void listeners_open_new(struct parent *p)
{
	list_each(it, &p->gateways) {
		struct gateway *g = container_of(it, struct gateway, link);

		if (!g->target[0]) {
			(void)snprintf(g->target, sizeof(g->target), "%s", g->wanted->name);
			gateway_keep(p, g->fd);
			each_worker(p, c)
				give(c, IPC_LISTEN_GATEWAY, g->target, 0, g->fd);
		}
		g->wanted = NULL;
	}
}

void gateways_keep(struct parent *p)
{
	list_each(it, &p->gateways)
		gateway_keep(p, container_of(it, struct gateway, link)->fd);
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

/* ---------------------------------------------------------------- upgrades */

static const char *const dns_keys[RESOLVER_SOCKETS] = {"udp4", "udp6", "dns4", "dns6"};

json_t *listener_set_save(struct hand *h, const struct listener_set *s)
{
	json_t *o = json_object();

	hand_put_fd(h, o, "tcp4", s->tcp4);
	hand_put_fd(h, o, "tcp6", s->tcp6);
	hand_put_u64(h, o, "port", s->port);
	for (size_t i = 0; i < RESOLVER_SOCKETS; i++)
		hand_put_fd(h, o, dns_keys[i], s->dns[i]);
	hand_put_u64(h, o, "dns_port", s->dns_port);
	return o;
}

void listener_set_take(struct hand *h, const json_t *o, struct listener_set *ret)
{
	ret->tcp4 = hand_fd(h, o, "tcp4");
	ret->tcp6 = hand_fd(h, o, "tcp6");
	ret->port = (uint16_t)hand_u64(h, o, "port");
	for (size_t i = 0; i < RESOLVER_SOCKETS; i++)
		ret->dns[i] = hand_fd(h, o, dns_keys[i]);
	ret->dns_port = (uint16_t)hand_u64(h, o, "dns_port");
	if (ret->tcp4 < 0 && ret->tcp6 < 0)
		hand_fail(h, "listener");
}

void listeners_save(struct parent *p, struct hand *h, json_t *root)
{
	json_t *list = json_array();

	list_each(it, &p->gateways) {
		const struct gateway *g = container_of(it, struct gateway, link);
		json_t *o = json_object();

		hand_put_str(h, o, "target", g->target);
		hand_put_slice(h, o, "address", slice_of(&g->ss, sizeof(g->ss)));
		hand_put_u64(h, o, "len", g->len);
		hand_put_fd(h, o, "fd", g->fd);
		(void)json_array_append_new(list, o);
	}
	hand_put(h, root, "gateways", list);
}

void listeners_take(struct parent *p, struct hand *h, const json_t *root)
{
	json_t *o;
	size_t i;

	json_array_foreach(hand_list(h, root, "gateways"), i, o)
	{
		struct gateway *g = calloc(1, sizeof(*g));

		if (!g) {
			hand_fail(h, "gateway");
			return;
		}
		hand_str(h, o, "target", g->target, sizeof(g->target));
		hand_bytes(h, o, "address", &g->ss, sizeof(g->ss));
		g->len = (socklen_t)hand_u64(h, o, "len");
		g->fd = hand_fd(h, o, "fd");
		if (g->fd < 0)
			hand_fail(h, "gateway");
		list_add_tail(&p->gateways, &g->link);
	}
}
