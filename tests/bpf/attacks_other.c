/* SPDX-License-Identifier: MIT */
/* Datagrams, other families, namespaces, and sockets that come from elsewhere. */
#include <errno.h>
#include <linux/if_packet.h>
#include <linux/vm_sockets.h>
#include <net/ethernet.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "attacks.h"
#include "env.h"

enum { FAMILY_XDP = 44, LO_INDEX = 1, CID_LOCAL = 1, PROTO_DCCP = 33, PROTO_L2TP = 115 };

static int send_to(int fd, const char *ip, uint16_t port)
{
	socklen_t len;
	struct sockaddr_storage ss = addr_of(ip, port, &len);

	if (fd < 0)
		return errno;
	return sendto(fd, "data", 4, 0, (struct sockaddr *)&ss, len) == 4 ? 0 : errno;
}

static int connect_to(int fd, const char *ip, uint16_t port)
{
	socklen_t len;
	struct sockaddr_storage ss = addr_of(ip, port, &len);

	if (fd < 0)
		return errno;
	return connect(fd, (struct sockaddr *)&ss, len) ? errno : 0;
}

static int udp(int family)
{
	return socket(family, SOCK_DGRAM, 0);
}

int try_udp_send(struct attempt *a)
{
	return send_to(udp(AF_INET), ADDR4, PORT_TARGET);
}

int try_udp6(struct attempt *a)
{
	return send_to(udp(AF_INET6), ADDR6, PORT_TARGET);
}

int try_udp_mapped(struct attempt *a)
{
	return send_to(udp(AF_INET6), MAPPED4, PORT_TARGET);
}

/* An IPv4 address as such, on an IPv6 socket: comes by sendmsg4. */
int try_udp_mapped_v4(struct attempt *a)
{
	return send_to(udp(AF_INET6), ADDR4, PORT_TARGET);
}

int try_udp_quic(struct attempt *a)
{
	return send_to(udp(AF_INET), ADDR4, 443);
}

int try_udp_connected(struct attempt *a)
{
	int fd = udp(AF_INET), r = connect_to(fd, ADDR4, PORT_TARGET);

	return r ? r : send(fd, "data", 4, 0) == 4 ? 0 : errno;
}

/* Connected elsewhere, and one datagram with an address of its own. */
int try_udp_readdressed(struct attempt *a)
{
	int fd = udp(AF_INET);

	return connect_to(fd, ADDR4, PORT_FREE) ? TRY_BROKEN : send_to(fd, ADDR4, PORT_TARGET);
}

int try_udp_mmsg(struct attempt *a)
{
	socklen_t len;
	struct sockaddr_storage ss = addr_of(ADDR4, PORT_TARGET, &len);
	struct iovec iov = {(char *)(uintptr_t) "data", 4};
	struct mmsghdr m[2] = {
		{.msg_hdr = {
			 .msg_name = &ss, .msg_namelen = len, .msg_iov = &iov, .msg_iovlen = 1}}};

	m[1] = m[0];
	return sendmmsg(udp(AF_INET), m, 2, 0) < 0 ? errno : 0;
}

int try_udplite(struct attempt *a)
{
	return send_to(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE), ADDR4, PORT_TARGET);
}

/* --- below and beside UDP */

static int made(int fd)
{
	return fd < 0 ? errno : 0;
}

int try_ping(struct attempt *a)
{
	return made(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));
}

int try_ping6(struct attempt *a)
{
	return made(socket(AF_INET6, SOCK_DGRAM, IPPROTO_ICMPV6));
}

int try_raw_tcp(struct attempt *a)
{
	return made(socket(AF_INET, SOCK_RAW, IPPROTO_TCP));
}

int try_raw_hdrincl(struct attempt *a)
{
	return made(socket(AF_INET, SOCK_RAW, IPPROTO_RAW));
}

int try_raw6(struct attempt *a)
{
	return made(socket(AF_INET6, SOCK_RAW, IPPROTO_UDP));
}

int try_sctp(struct attempt *a)
{
	return made(socket(AF_INET, SOCK_SEQPACKET, IPPROTO_SCTP));
}

int try_dccp(struct attempt *a)
{
	return made(socket(AF_INET, SOCK_DCCP, PROTO_DCCP));
}

int try_l2tp(struct attempt *a)
{
	return made(socket(AF_INET, SOCK_DGRAM, PROTO_L2TP));
}

static uint16_t ip_sum(const void *data, size_t n)
{
	const uint16_t *p = data;
	uint32_t sum = 0;

	for (size_t i = 0; i < n / 2; i++)
		sum += p[i];
	sum = (sum & 0xffff) + (sum >> 16);
	return (uint16_t) ~(sum + (sum >> 16));
}

/* A datagram to the target, written by hand on the wire of loopback. */
static int packet(int type)
{
	struct {
		struct ether_header eth;
		struct iphdr ip;
		struct udphdr udp;
		char data[4];
	} __attribute__((packed))
	f = {.eth = {.ether_type = htons(ETHERTYPE_IP)},
	     .ip = {.version = 4, .ihl = 5, .ttl = 64, .protocol = IPPROTO_UDP},
	     .udp = {.source = htons(999), .dest = htons(PORT_TARGET), .len = htons(12)}};
	struct sockaddr_ll ll = {.sll_family = AF_PACKET,
				 .sll_protocol = htons(ETHERTYPE_IP),
				 .sll_ifindex = LO_INDEX,
				 .sll_halen = 6};
	size_t skip = type == SOCK_DGRAM ? sizeof(f.eth) : 0;
	int fd = socket(AF_PACKET, type, htons(ETHERTYPE_IP));
	struct sockaddr_storage ss;
	socklen_t len;

	ss = addr_of(ADDR4, 0, &len);
	f.ip.saddr = f.ip.daddr = ((struct sockaddr_in *)&ss)->sin_addr.s_addr;
	f.ip.tot_len = htons(sizeof(f) - sizeof(f.eth));
	f.ip.check = ip_sum(&f.ip, sizeof(f.ip));
	if (fd < 0)
		return errno;
	return sendto(fd, (char *)&f + skip, sizeof(f) - skip, 0, (struct sockaddr *)&ll,
		      sizeof(ll)) < 0
		       ? errno
		       : 0;
}

int try_packet(struct attempt *a)
{
	return packet(SOCK_DGRAM);
}

int try_packet_raw(struct attempt *a)
{
	return packet(SOCK_RAW);
}

int try_xdp(struct attempt *a)
{
	return made(socket(FAMILY_XDP, SOCK_RAW, 0));
}

int try_vsock(struct attempt *a)
{
	return made(socket(AF_VSOCK, SOCK_STREAM, 0));
}

int try_tipc(struct attempt *a)
{
	return made(socket(AF_TIPC, SOCK_STREAM, 0));
}

int try_rds(struct attempt *a)
{
	return made(socket(AF_RDS, SOCK_SEQPACKET, 0));
}

int try_alg(struct attempt *a)
{
	return made(socket(AF_ALG, SOCK_SEQPACKET, 0));
}

/* --- AF_UNIX */

static socklen_t unix_addr(const char *path, struct sockaddr_un *un)
{
	*un = (struct sockaddr_un){.sun_family = AF_UNIX};
	(void)snprintf(un->sun_path, sizeof(un->sun_path), "%s", path);
	if (path[0] == '@')
		un->sun_path[0] = '\0';
	return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) +
			   (path[0] != '@'));
}

static int unix_try(const char *path, int type)
{
	struct sockaddr_un un;
	socklen_t len = unix_addr(path, &un);
	int fd = socket(AF_UNIX, type, 0);

	if (fd < 0)
		return errno;
	if (type == SOCK_DGRAM)
		return sendto(fd, "data", 4, 0, (struct sockaddr *)&un, len) == 4 ? 0 : errno;
	return connect(fd, (struct sockaddr *)&un, len) ? errno : 0;
}

int try_unix_path(struct attempt *a)
{
	return unix_try(a->path, SOCK_STREAM);
}

int try_unix_dgram(struct attempt *a)
{
	return unix_try(a->path, SOCK_DGRAM);
}

int try_unix_seqpacket(struct attempt *a)
{
	return unix_try(a->path, SOCK_SEQPACKET);
}

/* Goes into the folder and uses the last part. */
int try_unix_relative(struct attempt *a)
{
	return chdir(a->cwd) ? TRY_BROKEN : unix_try(a->path, SOCK_STREAM);
}

/* Under a name of the agent's own making. */
int try_unix_alias(struct attempt *a)
{
	char name[64];
	int r;

	(void)snprintf(name, sizeof(name), "/tmp/tgtest-alias-%d", getpid());
	if (symlink(a->path, name))
		return TRY_BROKEN;
	r = unix_try(name, SOCK_STREAM);
	(void)unlink(name);
	return r;
}

/* --- namespaces */

int try_netns(struct attempt *a)
{
	if (unshare(CLONE_NEWNET))
		return errno;
	return connect_to(socket(AF_INET, SOCK_STREAM, 0), ADDR4, PORT_TARGET);
}

/*
 * Root in a namespace of its own, where it is the target: whoever is let connect there by
 * the gate would hand it the target's credential.
 */
int try_userns_fake(struct attempt *a)
{
	int server, r;

	if (unshare(CLONE_NEWUSER))
		return errno;
	if (!env_netns())
		return TRY_BROKEN;
	server = listener_on(ADDR4, PORT_TARGET);
	if (server < 0)
		return TRY_BROKEN;
	r = connect_to(socket(AF_INET, SOCK_STREAM, 0), ADDR4, PORT_TARGET);
	return accept_in(server, 50) >= 0 ? 0 : r;
}

/* --- sockets that were made outside */

int try_carried_connect(struct attempt *a)
{
	return connect_to(a->carried, ADDR4, PORT_TARGET);
}

int try_carried_udp(struct attempt *a)
{
	return send_to(a->carried, ADDR4, PORT_TARGET);
}

/* Connected already: waits until it is told, then sends. */
static int say_when(struct attempt *a, int fd)
{
	char c;

	if (write(a->tell, "r", 1) != 1 || read(a->hear, &c, 1) != 1)
		return TRY_BROKEN;
	return send(fd, "data", 4, MSG_NOSIGNAL) == 4 ? 0 : errno;
}

int try_carried_send(struct attempt *a)
{
	return say_when(a, a->carried);
}

int try_older(struct attempt *a)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	return connect_to(fd, ADDR4, PORT_TARGET) ? TRY_BROKEN : say_when(a, fd);
}

/* By SCM_RIGHTS from an accomplice. */
int try_received(struct attempt *a)
{
	char data[8], room[CMSG_SPACE(sizeof(int))];
	struct iovec iov = {data, sizeof(data)};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = room,
			   .msg_controllen = sizeof(room)};
	int s = socket(AF_UNIX, SOCK_STREAM, 0), fd;
	struct sockaddr_un un;
	socklen_t len = unix_addr(a->outer, &un);

	if (s < 0 || connect(s, (struct sockaddr *)&un, len))
		return errno;
	if (recvmsg(s, &m, 0) <= 0 || !CMSG_FIRSTHDR(&m))
		return TRY_BROKEN;
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&m)), sizeof(fd));
	return say_when(a, fd);
}

/* Out of another process of the same uid. */
int try_stolen(struct attempt *a)
{
	int pidfd = (int)syscall(SYS_pidfd_open, a->other, 0), fd;

	if (pidfd < 0)
		return errno;
	fd = (int)syscall(SYS_pidfd_getfd, pidfd, a->carried, 0);
	return fd < 0 ? errno : say_when(a, fd);
}

/* A server of the agent's: what comes in goes out, too. */
int try_serve(struct attempt *a)
{
	int fd = listener_on(ADDR4, 7002), c;
	char data[8];

	if (fd < 0 || write(a->tell, "r", 1) != 1)
		return TRY_BROKEN;
	c = accept_in(fd, 400);
	if (c < 0)
		return ETIMEDOUT;
	return send(c, "data", 4, MSG_NOSIGNAL) == 4 && read(a->hear, data, 1) == 1 ? 0 : errno;
}
