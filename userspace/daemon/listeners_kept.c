/* SPDX-License-Identifier: MIT */
/*
 * Listening sockets that the service manager keeps from one daemon to the next, so that what
 * agents begin in between waits in their queues. A socket that comes back is used if it is, in
 * every respect, one that this start would make, and is known to the kernel's maps.
 */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/text.h"
#include "daemon/fdstore.h"
#include "daemon/listeners.h"
#include "daemon/netns.h"
#include "kern/kern.h"

enum { SET_SOCKETS = 2 + RESOLVER_SOCKETS };

static const struct {
	const char *name;
	int family, type;
} kinds[SET_SOCKETS] = {
	{"tcp4", AF_INET, SOCK_STREAM}, {"tcp6", AF_INET6, SOCK_STREAM},
	{"udp4", AF_INET, SOCK_DGRAM},	{"udp6", AF_INET6, SOCK_DGRAM},
	{"dns4", AF_INET, SOCK_STREAM}, {"dns6", AF_INET6, SOCK_STREAM},
};

static int *socket_of(struct listener_set *s, size_t kind)
{
	return kind == 0 ? &s->tcp4 : kind == 1 ? &s->tcp6 : &s->dns[kind - 2];
}

static void name_of(char dst[FDSTORE_NAME], size_t kind, uint64_t netns)
{
	(void)snprintf(dst, FDSTORE_NAME, "%s-%llu", kinds[kind].name, (unsigned long long)netns);
}

static bool is_int(int fd, int option, int wanted)
{
	socklen_t n = sizeof(int);
	int got;

	return getsockopt(fd, SOL_SOCKET, option, &got, &n) == 0 && got == wanted;
}

static bool is_u64(int fd, int option, uint64_t wanted)
{
	socklen_t n = sizeof(uint64_t);
	uint64_t got;

	return getsockopt(fd, SOL_SOCKET, option, &got, &n) == 0 && got == wanted;
}

/* NULL, or what is wrong with it; *ret_port if it is bound to loopback. */
static const char *loopback_wrong(int fd, size_t kind, uint64_t netns, uint16_t *ret_port)
{
	int family = kinds[kind].family, type = kinds[kind].type;
	union {
		struct sockaddr sa;
		struct sockaddr_in v4;
		struct sockaddr_in6 v6;
	} a = {0};
	socklen_t n = sizeof(a);

	if (!is_int(fd, SO_DOMAIN, family) || !is_int(fd, SO_TYPE, type) ||
	    !is_int(fd, SO_PROTOCOL, type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP))
		return "another kind of socket";
	if (type == SOCK_STREAM && !is_int(fd, SO_ACCEPTCONN, 1))
		return "not listening";
	if (!is_u64(fd, SO_NETNS_COOKIE, netns))
		return "in another network namespace";
	if (getsockname(fd, &a.sa, &n) || a.sa.sa_family != family)
		return "without an address";
	if (family == AF_INET ? a.v4.sin_addr.s_addr != htonl(INADDR_LOOPBACK)
			      : !IN6_IS_ADDR_LOOPBACK(&a.v6.sin6_addr))
		return "bound to another address";
	*ret_port = ntohs(family == AF_INET ? a.v4.sin_port : a.v6.sin6_port);
	if (!*ret_port)
		return "bound to no port";
	return fcntl(fd, F_SETFL, O_NONBLOCK) ? "not to be used without blocking" : NULL;
}

static const char *set_wrong(struct parent *p, struct listener_set *s, uint64_t netns)
{
	for (size_t kind = 0; kind < SET_SOCKETS; kind++) {
		uint16_t *port = kind < 2 ? &s->port : &s->dns_port, got = 0;
		int fd = *socket_of(s, kind);
		const char *why;

		if (fd < 0 && kinds[kind].family == AF_INET)
			return "not all of them";
		if (fd < 0)
			continue;
		why = loopback_wrong(fd, kind, netns, &got);
		if (why)
			return why;
		if (*port && *port != got)
			return "on different ports";
		*port = got;
	}
	if (!kern_listener_is(p->kern, s->tcp4, s->tcp6, s->port) ||
	    !kern_resolver_is(p->kern, s->dns, RESOLVER_SOCKETS, s->dns_port))
		return "not those that the kernel's maps have";
	return NULL;
}

bool listener_set_kept(struct parent *p, uint64_t netns, struct listener_set *ret)
{
	struct listener_set s = {.tcp4 = -1, .tcp6 = -1, .dns = {-1, -1, -1, -1}};
	char name[FDSTORE_NAME];
	const char *why;
	bool any = false;

	for (size_t kind = 0; kind < SET_SOCKETS; kind++) {
		name_of(name, kind, netns);
		*socket_of(&s, kind) = fdstore_claim(p->store, name);
		any = any || *socket_of(&s, kind) >= 0;
	}
	if (!any)
		return false;
	why = set_wrong(p, &s, netns);
	if (!why) {
		log_info("network namespace %llu: the listeners of the daemon before on port %u",
			 (unsigned long long)netns, s.port);
		*ret = s;
		return true;
	}
	log_warning(
		"network namespace %llu: the listeners that the service manager kept are not used, "
		"and who waits there is cut off: %s",
		(unsigned long long)netns, why);
	listener_set_close(&s);
	listener_set_forsake(p, netns);
	return false;
}

void listener_set_keep(struct parent *p, const struct listener_set *s, uint64_t netns)
{
	struct listener_set copy = *s;
	char name[FDSTORE_NAME];

	for (size_t kind = 0; kind < SET_SOCKETS; kind++) {
		int fd = *socket_of(&copy, kind);

		name_of(name, kind, netns);
		if (fd >= 0)
			fdstore_keep(p->store, name, fd);
	}
}

void listener_set_forsake(struct parent *p, uint64_t netns)
{
	char name[FDSTORE_NAME];

	for (size_t kind = 0; kind < SET_SOCKETS; kind++) {
		name_of(name, kind, netns);
		fdstore_drop(p->store, name);
	}
}

bool listener_set_next_kept(struct parent *p, uint64_t *ret_netns)
{
	int fd;
	const char *name = fdstore_next(p->store, "tcp4-", NULL, &fd);

	return name && text_parse_u64(slice_str(name + 5), 0, UINT64_MAX, ret_netns) == 0;
}

/* ------------------------------------------------------------- those of targets */

static bool gateway_name(char dst[FDSTORE_NAME], int fd)
{
	uint64_t cookie;
	socklen_t n = sizeof(cookie);

	if (getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &n))
		return false;
	(void)snprintf(dst, FDSTORE_NAME, "gateway-%llx", (unsigned long long)cookie);
	return true;
}

void gateway_keep(struct parent *p, int fd)
{
	char name[FDSTORE_NAME];

	if (gateway_name(name, fd))
		fdstore_keep(p->store, name, fd);
}

void gateway_forsake(struct parent *p, int fd)
{
	char name[FDSTORE_NAME];

	if (gateway_name(name, fd))
		fdstore_drop(p->store, name);
}

/* Where it is bound to. */
static bool gateway_at(int fd, const struct sockaddr_storage *ss)
{
	struct sockaddr_storage own = {0};
	socklen_t n = sizeof(own);

	return getsockname(fd, (struct sockaddr *)&own, &n) == 0 &&
	       memcmp(&own, ss, sizeof(own)) == 0;
}

/* The one that was kept under this name, and good for a gateway. */
static bool gateway_right(int fd, const char *name, uint64_t netns)
{
	char own[FDSTORE_NAME];

	return gateway_name(own, fd) && strcmp(own, name) == 0 &&
	       is_int(fd, SO_TYPE, SOCK_STREAM) && is_int(fd, SO_PROTOCOL, IPPROTO_TCP) &&
	       is_int(fd, SO_ACCEPTCONN, 1) && is_u64(fd, SO_NETNS_COOKIE, netns) &&
	       fcntl(fd, F_SETFL, O_NONBLOCK) == 0;
}

int gateway_kept(struct parent *p, const struct sockaddr_storage *ss)
{
	const char *name = NULL;
	uint64_t netns;
	int fd;

	if (listeners_netns(&netns))
		return -1;
	while ((name = fdstore_next(p->store, "gateway-", name, &fd))) {
		if (!gateway_at(fd, ss))
			continue;
		if (gateway_right(fd, name, netns))
			return fdstore_claim(p->store, name);
		log_warning("%s, which the service manager kept, is not what it was: not used",
			    name);
		/* The service manager closes its copy some time later: until then it must not listen. */
		(void)shutdown(fd, SHUT_RDWR);
		fdstore_drop(p->store, name);
		name = NULL;
	}
	return -1;
}

/* ----------------------------------------------------------------------- all */

int listeners_netns(uint64_t *ret)
{
	int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), rc = 0;
	socklen_t n = sizeof(*ret);

	if (fd < 0)
		return -errno;
	if (getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, ret, &n))
		rc = -errno;
	(void)close(fd);
	return rc;
}

void listeners_keep(struct parent *p)
{
	uint64_t netns;

	if (p->kern && listeners_netns(&netns) == 0)
		listener_set_keep(p, &p->own, netns);
	gateways_keep(p);
	netns_keep(p);
}
