/* SPDX-License-Identifier: MIT */
/*
 * What an agent tries. Each runs in a child inside the agent's cgroup, as root or under the
 * launcher, and gives 0, an errno, or one of the codes below; whether it got through is
 * not for it to say: the servers know.
 */
#ifndef TIDEGATE_TESTS_BPF_ATTACKS_H
#define TIDEGATE_TESTS_BPF_ATTACKS_H

#include <stdint.h>

enum {
	TRY_BROKEN = 231, /* the attempt itself failed: a fault of the test */
};

struct attempt {
	const char *path, *cwd; /* of AF_UNIX attempts */
	int tell, hear;		/* pipes to and from the parent, -1: none */
	int carried;		/* a socket that was made outside; -1: none */
	char outer[64];		/* AF_UNIX address of an accomplice outside */
	uint16_t daemon_port;
	int other; /* a pid outside */
};

typedef int attack_fn(struct attempt *a);

attack_fn try_tcp4, try_tcp6, try_tcp_mapped, try_tcp_nonblocking, try_tcp_bound,
	try_tcp_bound_device, try_tcp_again, try_tcp_threads, try_tcp_child, try_tcp_double_fork,
	try_tcp_setsid, try_tcp_family, try_cgroup_below, try_tfo_send, try_tfo_connect, try_mptcp, try_smc, try_uring,
	try_uring_sqpoll, try_uring_socket, try_loopback_any, try_udp_send, try_udp_connected,
	try_udp_mapped, try_udp_mapped_v4, try_udp6, try_udp_readdressed, try_udp_mmsg, try_udp_quic,
	try_udp_uring, try_udplite, try_ping, try_ping6, try_raw_tcp, try_raw_hdrincl, try_raw6, try_packet,
	try_packet_raw, try_xdp, try_sctp, try_dccp, try_l2tp, try_vsock, try_tipc, try_rds, try_alg,
	try_unix_path, try_unix_relative, try_unix_dgram, try_unix_seqpacket, try_unix_alias,
	try_daemon_port, try_daemon_port6, try_bind_daemon_port, try_netns, try_userns_fake,
	try_carried_connect, try_carried_send, try_carried_udp, try_received, try_stolen, try_older,
	try_serve;

#endif
