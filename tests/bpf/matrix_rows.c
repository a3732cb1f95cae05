/* SPDX-License-Identifier: MIT */
#include "matrix_rows.h"

#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "env.h"

void matrix_hand_over(int listener, int fd)
{
	char room[CMSG_SPACE(sizeof(int))] = {0}, data = 'f';
	struct iovec iov = {&data, 1};
	struct msghdr m = {.msg_iov = &iov,
			   .msg_iovlen = 1,
			   .msg_control = room,
			   .msg_controllen = sizeof(room)};
	struct cmsghdr *c = CMSG_FIRSTHDR(&m);
	int to = accept_in(listener, 300);

	if (to < 0)
		return; /* pidfd_getfd needs nobody's help */
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(fd));
	memcpy(CMSG_DATA(c), &fd, sizeof(fd));
	(void)!sendmsg(to, &m, MSG_NOSIGNAL);
	close(to);
}

bool matrix_call_in(uint16_t port, int go)
{
	socklen_t len;
	struct sockaddr_storage from = addr_of(ADDR4, port, &len), to = addr_of(ADDR4, 7002, &len);
	int on = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	struct linger now = {.l_onoff = 1};
	struct pollfd p = {.fd = fd, .events = POLLIN};
	char data[8];
	bool got;

	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
	if (bind(fd, (struct sockaddr *)&from, len) ||
	    (connect(fd, (struct sockaddr *)&to, len) && errno != EINPROGRESS)) {
		close(fd);
		return false;
	}
	got = poll(&p, 1, 200) == 1 && recv(fd, data, sizeof(data), 0) == 4;
	(void)!write(go, "g", 1);
	close(fd);
	return got;
}

#define W(x) .way = KERN_WAY_##x
/* Both times the same. */
#define STEER .plain = STEERED, .launched = STEERED
#define NO    .plain = REFUSED, .launched = REFUSED
/* What the kernel cannot see and the launcher takes away. */
#define BY_LAUNCHER .plain = GAP, .launched = REFUSED, .made = true

#define CONNECT	 "cgroup/connect4"
#define CONNECT6 "cgroup/connect6"
#define SENDMSG	 "cgroup/sendmsg4"
#define CREATE	 "cgroup/sock_create"
#define UNIX	 "cgroup/connect_unix"
#define SECCOMP	 "launcher's seccomp"
#define EGRESS	 "cgroup_skb/egress"
#define SWEEP	 "iter/tcp sweep"

const struct matrix_row matrix_rows[] = {
	{W(TCP), "connect, IPv4", CONNECT, try_tcp4, STEER},
	{W(TCP), "connect, IPv6", CONNECT6, try_tcp6, STEER},
	{W(TCP), "connect, IPv4-mapped", CONNECT6, try_tcp_mapped, STEER},
	{W(TCP), "connect, non-blocking", CONNECT, try_tcp_nonblocking, STEER},
	{W(TCP), "connect, bound source address", CONNECT, try_tcp_bound, STEER},
	{W(TCP), "connect, SO_BINDTODEVICE", CONNECT, try_tcp_bound_device, STEER},
	{W(TCP), "connect to 0.0.0.0, a target on this host", CONNECT, try_loopback_any, STEER},
	{W(TCP), "connect elsewhere, AF_UNSPEC, connect", CONNECT, try_tcp_again, STEER},
	{W(TCP), "thread", CONNECT, try_tcp_threads, STEER},
	{W(TCP), "child", CONNECT, try_tcp_child, STEER},
	{W(TCP), "double fork", CONNECT, try_tcp_double_fork, STEER},
	{W(TCP), "setsid", CONNECT, try_tcp_setsid, STEER},
	{W(TCP), "connect, IPv4 address on an IPv6 socket", "the kernel itself", try_tcp_family, NO,
	 .no_control = true},
	{W(TCP), "sendto MSG_FASTOPEN", CONNECT, try_tfo_send, STEER},
	{W(TCP), "TCP_FASTOPEN_CONNECT", CONNECT, try_tfo_connect, STEER},
	{W(TCP), "MPTCP", CREATE, try_mptcp, NO},
	{W(TCP), "SMC over TCP", CREATE, try_smc, NO},
	{W(TCP), "io_uring connect", CONNECT, try_uring, .plain = STEERED, .launched = REFUSED},
	{W(TCP), "io_uring connect, SQPOLL", CONNECT, try_uring_sqpoll, .plain = STEERED,
	 .launched = REFUSED},

	{W(UDP), "sendto, IPv4", SENDMSG, try_udp_send, NO},
	{W(UDP), "sendto, IPv6", "cgroup/sendmsg6", try_udp6, NO},
	{W(UDP), "sendto, IPv4-mapped", "cgroup/sendmsg6", try_udp_mapped, NO},
	{W(UDP), "sendto, IPv4 address on an IPv6 socket", SENDMSG, try_udp_mapped_v4, NO},
	{W(UDP), "connected", CONNECT, try_udp_connected, NO},
	{W(UDP), "connected elsewhere, sendto the target", SENDMSG, try_udp_readdressed, NO},
	{W(UDP), "sendmmsg", SENDMSG, try_udp_mmsg, NO},
	{W(UDP), "io_uring sendmsg", SENDMSG, try_udp_uring, NO},
	{W(UDP), "QUIC: UDP to port 443 of a TCP target", SENDMSG, try_udp_quic, NO},
	{W(UDP), "UDP-Lite", CREATE, try_udplite, NO},

	{W(RAW), "ping socket", CREATE, try_ping, NO, .made = true},
	{W(RAW), "ping socket, IPv6", CREATE, try_ping6, NO, .made = true},
	{W(RAW), "raw socket, TCP", CREATE, try_raw_tcp, NO, .made = true},
	{W(RAW), "raw socket, IP_HDRINCL", CREATE, try_raw_hdrincl, NO, .made = true},
	{W(RAW), "raw socket, IPv6", CREATE, try_raw6, NO, .made = true},
	{W(RAW), "raw socket by io_uring", CREATE, try_uring_socket, NO, .made = true},
	{W(RAW), "SCTP", CREATE, try_sctp, NO, .made = true},
	{W(RAW), "DCCP", CREATE, try_dccp, NO, .made = true},
	{W(RAW), "L2TP", CREATE, try_l2tp, NO, .made = true},

	{W(FAMILY), "AF_PACKET, datagram", SECCOMP, try_packet, BY_LAUNCHER},
	{W(FAMILY), "AF_PACKET, raw", SECCOMP, try_packet_raw, BY_LAUNCHER},
	{W(FAMILY), "AF_XDP", SECCOMP, try_xdp, BY_LAUNCHER},
	{W(FAMILY), "AF_VSOCK", SECCOMP, try_vsock, BY_LAUNCHER},
	{W(FAMILY), "AF_TIPC", SECCOMP, try_tipc, BY_LAUNCHER},
	{W(FAMILY), "AF_RDS", SECCOMP, try_rds, BY_LAUNCHER},
	{W(FAMILY), "AF_ALG", SECCOMP, try_alg, BY_LAUNCHER},

	{W(UNIX), "PostgreSQL's socket", UNIX, try_unix_path, NO,
	 .path = "/run/postgresql/.s.PGSQL.5432"},
	{W(UNIX), "PostgreSQL's socket, relative", UNIX, try_unix_relative, NO,
	 .path = ".s.PGSQL.5432", .cwd = "/run/postgresql"},
	{W(UNIX), "PostgreSQL's socket below /proc/self/root", UNIX, try_unix_path, NO,
	 .path = "/proc/self/root/run/postgresql/.s.PGSQL.5432"},
	{W(UNIX), "PostgreSQL's socket, // and /./", UNIX, try_unix_path, NO,
	 .path = "//run/./postgresql//.s.PGSQL.5432"},
	{W(UNIX), "PostgreSQL's socket, /../", UNIX, try_unix_path, NO,
	 .path = "/run/docker/../postgresql/.s.PGSQL.5432"},
	{W(UNIX), "docker.sock", UNIX, try_unix_path, NO, .path = "/run/docker.sock"},
	{W(UNIX), "docker.sock, relative", UNIX, try_unix_relative, NO, .path = "./docker.sock",
	 .cwd = "/run"},
	{W(UNIX), "a datagram below /run/docker", "cgroup/sendmsg_unix", try_unix_dgram, NO,
	 .path = "/run/docker/dgram"},
	{W(UNIX), "containerd", UNIX, try_unix_path, NO, .path = "/run/containerd/containerd.sock"},
	{W(UNIX), "containerd-shim, abstract", UNIX, try_unix_path, NO,
	 .path = "@/containerd-shim/tgtest"},
	{W(UNIX), "podman", UNIX, try_unix_path, NO, .path = "/run/podman/podman.sock"},
	{W(UNIX), "systemd", UNIX, try_unix_path, NO, .path = "/run/systemd/private"},
	{W(UNIX), "system bus", UNIX, try_unix_path, NO, .path = "/run/dbus/system_bus_socket"},
	{W(UNIX), "user bus (systemd-run --user)", UNIX, try_unix_path, NO,
	 .path = "/run/user/4712/bus"},
	{W(UNIX), "nscd", UNIX, try_unix_path, NO, .path = "/run/nscd/socket"},
	{W(UNIX), "systemd-resolved", UNIX, try_unix_path, NO,
	 .path = "/run/systemd/resolve/io.systemd.Resolve"},
	{W(UNIX_ALIAS), "docker.sock by a symbolic link", "unix: listed", try_unix_alias,
	 .plain = GAP, .launched = GAP, .path = "/run/docker.sock"},

	{W(PORT), "the daemon's own port", CONNECT, try_daemon_port, NO, .no_control = true},
	{W(PORT), "the daemon's own port, IPv6", CONNECT6, try_daemon_port6, NO,
	 .no_control = true},
	{W(PORT), "taking the daemon's port while it is down", "cgroup/post_bind4",
	 try_bind_daemon_port, NO, .down = true, .made = true},
	{W(PORT), "connect while the daemon is down", CONNECT, try_tcp4, NO, .down = true},

	{W(NETNS), "new network namespace", CONNECT, try_netns, NO, .no_control = true},
	{W(NETNS), "root in a namespace of its own fakes the server", CONNECT, try_userns_fake, NO,
	 .made = true},

	{W(CGROUP), "cgroup removed and made again", "raw_tp/cgroup_mkdir", try_tcp4, STEER,
	 .remake = true},
	{W(CGROUP), "new cgroup below its own", "the socket's ancestors", try_cgroup_below,
	 .plain = STEERED, .launched = REFUSED},
	{W(CGROUP), "socket made before joining, connect", CONNECT, try_carried_connect,
	 .plain = STEERED, .launched = REFUSED, .carried = SOCK_STREAM},
	{W(CGROUP), "socket made before joining, sendto", SENDMSG, try_carried_udp, NO,
	 .carried = SOCK_DGRAM},

	{W(OLDER), "connection older than the target, cut", EGRESS, try_older, .plain = CUT,
	 .launched = CUT, .how = OLDER},
	{W(OLDER), "connection older than the target, closed", SWEEP, try_older, .plain = CUT,
	 .launched = CUT, .how = OLDER, .sweep = true},

	{W(PASSED), "inherited connection, at once", "launcher closes it", try_carried_send,
	 .plain = GAP, .launched = CUT, .how = HOLDING, .carried = SOCK_STREAM},
	{W(PASSED), "inherited connection, after the sweep", SWEEP, try_carried_send, .plain = CUT,
	 .launched = CUT, .how = HOLDING, .carried = SOCK_STREAM, .sweep = true},
	{W(PASSED), "connection by SCM_RIGHTS, at once", "unix: listed", try_received, .plain = GAP,
	 .launched = GAP, .how = HANDED, .carried = SOCK_STREAM},
	{W(PASSED), "connection by SCM_RIGHTS, after the sweep", SWEEP, try_received, .plain = CUT,
	 .launched = CUT, .how = HANDED, .carried = SOCK_STREAM, .sweep = true},
	{W(PASSED), "connection by pidfd_getfd, at once", SECCOMP, try_stolen, .plain = GAP,
	 .launched = CUT, .how = HANDED, .carried = SOCK_STREAM},
	{W(PASSED), "connection by pidfd_getfd, after the sweep", SWEEP, try_stolen, .plain = CUT,
	 .launched = CUT, .how = HANDED, .carried = SOCK_STREAM, .sweep = true},

	{W(INBOUND), "the target connects from its own port", EGRESS, try_serve, .plain = CUT,
	 .launched = CUT, .how = CALLED, .from_port = MATRIX_PORT},
	{W(INBOUND), "the target is asked to connect back", "default: deny", try_serve,
	 .plain = GAP, .launched = GAP, .how = CALLED, .from_port = 7003},
	{W(INBOUND), "the same, where the default is deny", EGRESS, try_serve, .plain = CUT,
	 .launched = CUT, .how = CALLED, .from_port = 7003, .deny = true},
	{0},
};
