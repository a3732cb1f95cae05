/* SPDX-License-Identifier: MIT */
/* The accelerator: who is enrolled, in what order bytes arrive, and when it stops. */
#include <errno.h>
#include <fcntl.h>
#include <linux/tcp.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "env.h"
#include "kern/kern_accel.h"
#include "kern/kern_priv.h"
#include "kern/kern_watch.h"

enum { BOTH = TG_TARGET_ACCEL_REQUESTS | TG_TARGET_ACCEL_REPLIES, BLOCK = 4096 };

/* An agent's connected socket and the daemon's end, both in this process. */
struct ends {
	int agent, daemon;
};

static int pass_fd(int over, int fd)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int))];
	} c = {.h = {.cmsg_len = CMSG_LEN(sizeof(int)),
		     .cmsg_level = SOL_SOCKET,
		     .cmsg_type = SCM_RIGHTS}};
	char what = 'f';
	struct iovec iov = {&what, 1};
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &c,
			    .msg_controllen = sizeof(c.room)};

	memcpy(CMSG_DATA(&c.h), &fd, sizeof(fd));
	return sendmsg(over, &mh, 0) == 1 ? 0 : errno;
}

static int take_fd(int over)
{
	union {
		struct cmsghdr h;
		char room[CMSG_SPACE(sizeof(int))];
	} c;
	char b;
	struct iovec iov = {&b, 1};
	struct msghdr mh = {.msg_iov = &iov,
			    .msg_iovlen = 1,
			    .msg_control = &c,
			    .msg_controllen = sizeof(c.room)};
	int fd = -1;

	if (recvmsg(over, &mh, MSG_CMSG_CLOEXEC) == 1 && CMSG_FIRSTHDR(&mh))
		memcpy(&fd, CMSG_DATA(&c.h), sizeof(fd));
	return fd;
}

static int dial_and_pass(void *arg)
{
	const struct wish *w = arg;
	char data[256];
	socklen_t len;
	struct sockaddr_storage ss = addr_of(w->ip, w->port, &len);
	int fd = socket(ss.ss_family, SOCK_STREAM, 0);

	memset(data, 'e', sizeof(data));
	if (fd < 0)
		return errno;
	if (w->early) {
		if (sendto(fd, data, w->early, MSG_FASTOPEN, (struct sockaddr *)&ss, len) < 0)
			return errno;
	} else if (connect(fd, (struct sockaddr *)&ss, len)) {
		return errno;
	}
	return pass_fd(w->pass, fd);
}

int agent_dial(struct wish w)
{
	int pair[2], r, fd = -1;

	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	w.pass = pair[1];
	r = client("/agents", 0, dial_and_pass, &w);
	if (!r)
		fd = take_fd(pair[0]);
	close(pair[0]);
	close(pair[1]);
	return r ? -r : fd;
}

static bool open_to(struct ends *e, struct wish w, int listener)
{
	e->agent = agent_dial(w);
	e->daemon = accept_in(listener, 1000);
	CHECK(e->agent >= 0 && e->daemon >= 0);
	return true;
}

static bool open_ends(struct ends *e, const char *ip, size_t early)
{
	return open_to(e, (struct wish){.ip = ip, .port = PORT_TARGET, .early = early},
		       strchr(ip, ':') && ip[2] != 'f' ? env.listen6 : env.listen4);
}

static void close_ends(struct ends *e)
{
	close(e->agent);
	close(e->daemon);
}

static bool carries(int from, int to, char c)
{
	char b[1000], got[1000];

	memset(b, c, sizeof(b));
	CHECK_EQ(send(from, b, sizeof(b), MSG_NOSIGNAL), sizeof(b));
	CHECK_EQ(recv(to, got, sizeof(got), MSG_WAITALL | MSG_DONTWAIT), sizeof(b));
	CHECK(memcmp(b, got, sizeof(b)) == 0);
	return true;
}

/* What came to @fd by TCP. */
static uint64_t by_tcp(int fd)
{
	struct tcp_info ti = {0};
	socklen_t len = sizeof(ti);

	return getsockopt(fd, IPPROTO_TCP, TCP_INFO, &ti, &len) ? UINT64_MAX : ti.tcpi_bytes_received;
}

static bool enrolled_now(const char *map)
{
	struct tg_tuple key;
	char path[128];
	int fd, r;

	snprintf(path, sizeof(path), "%s/v1/maps/%s", env.bpf_dir, map);
	fd = bpf_obj_get(path);
	r = fd < 0 ? -1 : bpf_map_get_next_key(fd, NULL, &key);
	close(fd);
	return r == 0;
}

/* ------------------------------------------------------------------- rows */

static bool unwanted(void)
{
	struct ends e;

	CHECK(open_ends(&e, ADDR4, 0));
	CHECK(!enrolled_now("tg_acc_send") && !enrolled_now("tg_acc_recv"));
	CHECK(carries(e.agent, e.daemon, 'a') && carries(e.daemon, e.agent, 'b'));
	CHECK_EQ(by_tcp(e.daemon), 1000);
	CHECK_EQ(counted(TG_K_ACCELERATED) + counted(TG_K_ACCEL_REFUSED), 0);
	close_ends(&e);
	return true;
}

static bool both_on(const char *ip)
{
	struct ends e;

	CHECK(target_mode(TG_MODE_STEER, BOTH));
	CHECK(open_ends(&e, ip, 0));
	for (int i = 0; i < 200; i++)
		CHECK(carries(e.agent, e.daemon, 'a') && carries(e.daemon, e.agent, 'b'));
	CHECK_EQ(by_tcp(e.daemon), 0);
	CHECK_EQ(by_tcp(e.agent), 0);
	CHECK_EQ(counted(TG_K_ACCELERATED), 1);
	CHECK_EQ(counted(TG_K_ACCEL_REFUSED) + counted(TG_K_ACCEL_RATCHETED), 0);
	CHECK(enrolled_now("tg_acc_send") && !enrolled_now("tg_acc_recv"));
	close_ends(&e);
	CHECK(!enrolled_now("tg_acc_send"));
	return true;
}

static bool both_v4(void)
{
	return both_on(ADDR4);
}

static bool both_v6(void)
{
	return both_on(ADDR6);
}

static bool both_mapped(void)
{
	struct ends e;

	CHECK(target_mode(TG_MODE_STEER, BOTH));
	CHECK(open_to(&e, (struct wish){.ip = MAPPED4, .port = PORT_TARGET}, env.listen4));
	CHECK(carries(e.agent, e.daemon, 'a') && carries(e.daemon, e.agent, 'b'));
	CHECK_EQ(by_tcp(e.daemon) + by_tcp(e.agent), 0);
	close_ends(&e);
	return true;
}

static bool requests(void)
{
	struct ends e;

	CHECK(target_mode(TG_MODE_STEER, TG_TARGET_ACCEL_REQUESTS));
	CHECK(open_ends(&e, ADDR4, 0));
	CHECK(carries(e.agent, e.daemon, 'a') && carries(e.daemon, e.agent, 'b'));
	CHECK_EQ(by_tcp(e.daemon), 0);
	CHECK_EQ(by_tcp(e.agent), 1000);
	CHECK_EQ(counted(TG_K_ACCELERATED), 1);
	close_ends(&e);
	return true;
}

static bool replies_first(void)
{
	struct ends e;

	CHECK(target_mode(TG_MODE_STEER, BOTH));
	CHECK(open_ends(&e, ADDR4, 0));
	CHECK(carries(e.daemon, e.agent, 'b') && carries(e.agent, e.daemon, 'a'));
	CHECK_EQ(by_tcp(e.daemon) + by_tcp(e.agent), 0);
	close_ends(&e);
	return true;
}

/* The state of the target is asked for when a connection opens, and never again. */
static bool toggled(void)
{
	struct ends old, fresh;

	CHECK(target_mode(TG_MODE_STEER, BOTH));
	CHECK(open_ends(&old, ADDR4, 0));
	CHECK(target_mode(TG_MODE_STEER, 0));
	CHECK(open_ends(&fresh, ADDR4, 0));
	CHECK(carries(old.agent, old.daemon, 'a') && carries(fresh.agent, fresh.daemon, 'a'));
	CHECK_EQ(by_tcp(old.daemon), 0);
	CHECK_EQ(by_tcp(fresh.daemon), 1000);
	close_ends(&old);
	close_ends(&fresh);
	return true;
}

static bool not_steered(void)
{
	struct ends e;

	CHECK(target_mode(TG_MODE_STEER, BOTH));
	CHECK(open_to(&e, (struct wish){.ip = ADDR4, .port = PORT_FREE}, env.free4));
	CHECK(carries(e.agent, e.daemon, 'a'));
	CHECK(!enrolled_now("tg_acc_send"));
	CHECK_EQ(counted(TG_K_ACCELERATED) + counted(TG_K_ACCEL_REFUSED), 0);
	close_ends(&e);
	return true;
}

/* Bytes that left with the SYN went by TCP: what follows must not overtake them. */
static bool early(void)
{
	char b[300];
	struct ends e;

	CHECK(target_mode(TG_MODE_STEER, BOTH));
	for (int i = 0; i < 50; i++) {
		CHECK(open_ends(&e, ADDR4, 100));
		memset(b, 'l', sizeof(b));
		CHECK_EQ(send(e.agent, b, 100, MSG_NOSIGNAL), 100);
		CHECK_EQ(send(e.agent, b, 100, MSG_NOSIGNAL), 100);
		for (size_t n = 0; n < 300;) {
			ssize_t r = recv(e.daemon, b + n, 300 - n, 0);

			CHECK(r > 0);
			n += (size_t)r;
		}
		CHECK(!memchr(b, 'l', 100) && !memchr(b + 100, 'e', 200));
		/* The other direction has carried nothing by TCP. */
		CHECK(carries(e.daemon, e.agent, 'b'));
		CHECK_EQ(by_tcp(e.agent), 0);
		close_ends(&e);
	}
	CHECK_EQ(counted(TG_K_ACCEL_REFUSED), 50);
	CHECK_EQ(counted(TG_K_ACCELERATED), 0);
	return true;
}

/* Byte @at of a stream of 32-bit numbers. */
static uint8_t byte_at(size_t at)
{
	return (uint8_t)(at / 4 >> at % 4 * 8);
}

/*
 * A writer without a reader: how much went past TCP, and is all of it there, in order? TCP takes
 * part of a message where its own segments end, which is at any byte.
 */
static bool flood(int from, int to, size_t limit)
{
	uint8_t block[BLOCK];
	size_t sent = 0, got = 0;
	uint64_t before = by_tcp(to);

	for (;;) {
		ssize_t r;

		for (size_t i = 0; i < BLOCK; i++)
			block[i] = byte_at(sent + i);
		r = send(from, block, BLOCK, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (r < 0)
			break;
		sent += (size_t)r;
		CHECK(sent < 64 << 20);
	}
	CHECK_EQ(errno, EAGAIN);
	while (got < sent) {
		ssize_t r = recv(to, block, sent - got < BLOCK ? sent - got : BLOCK, MSG_WAITALL);

		CHECK(r > 0);
		for (ssize_t i = 0; i < r; i++)
			CHECK_EQ(block[i], byte_at(got + (size_t)i));
		got += (size_t)r;
	}
	printf("          %zu bytes, %llu of them past TCP\n", sent,
	       (unsigned long long)(sent - (by_tcp(to) - before)));
	CHECK(sent - (by_tcp(to) - before) <= limit);
	CHECK(sent - (by_tcp(to) - before) > 0);
	return true;
}

static bool cap(void)
{
	struct ends e;

	CHECK(target_mode(TG_MODE_STEER, TG_TARGET_ACCEL_REQUESTS));
	CHECK(open_ends(&e, ADDR4, 0));
	CHECK(flood(e.agent, e.daemon, TG_ACCEL_CAP));
	CHECK_EQ(counted(TG_K_ACCEL_RATCHETED), 1);
	/* For good. */
	CHECK(carries(e.agent, e.daemon, 'a'));
	CHECK_EQ(counted(TG_K_ACCEL_RATCHETED), 1);
	close_ends(&e);
	return true;
}

static bool stream(void)
{
	struct ends e;

	CHECK(target_mode(TG_MODE_STEER, BOTH));
	CHECK(open_ends(&e, ADDR4, 0));
	CHECK(carries(e.agent, e.daemon, 'a'));
	CHECK(flood(e.daemon, e.agent, TG_ACCEL_RUN + BLOCK));
	CHECK_EQ(counted(TG_K_ACCEL_RATCHETED), 1);
	/* The other direction goes on past TCP. */
	CHECK(carries(e.agent, e.daemon, 'c'));
	CHECK_EQ(by_tcp(e.daemon), 0);
	close_ends(&e);
	return true;
}

/* ------------------------------------------------- another program's sockhash */

#define INSN(op, dst, src, offset, value) \
	{.code = (op), .dst_reg = (dst), .src_reg = (src), .off = (offset), .imm = (value)}

/* Puts every socket that an agent connects into @map, before our program runs. */
static int foreign_prog(int map)
{
	const struct bpf_insn insns[] = {
		INSN(BPF_LDX | BPF_W | BPF_MEM, 2, 1, offsetof(struct bpf_sock_ops, op), 0),
		INSN(BPF_JMP | BPF_JNE | BPF_K, 2, 0, 7, BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB),
		INSN(BPF_ST | BPF_DW | BPF_MEM, 10, 0, -8, 1),
		INSN(BPF_LD | BPF_DW | BPF_IMM, 2, BPF_PSEUDO_MAP_FD, 0, map),
		INSN(0, 0, 0, 0, 0),
		INSN(BPF_ALU64 | BPF_MOV | BPF_X, 3, 10, 0, 0),
		INSN(BPF_ALU64 | BPF_ADD | BPF_K, 3, 0, 0, -8),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 4, 0, 0, BPF_ANY),
		INSN(BPF_JMP | BPF_CALL, 0, 0, 0, BPF_FUNC_sock_hash_update),
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, 1),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};

	return bpf_prog_load(BPF_PROG_TYPE_SOCK_OPS, "foreign", "GPL", insns, ARRAY_SIZE(insns),
			     NULL);
}

static int pass_prog(void)
{
	const struct bpf_insn insns[] = {
		INSN(BPF_ALU64 | BPF_MOV | BPF_K, 0, 0, 0, SK_PASS),
		INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0),
	};

	return bpf_prog_load(BPF_PROG_TYPE_SK_MSG, "pass", "GPL", insns, ARRAY_SIZE(insns), NULL);
}

static bool taken(void)
{
	int map = bpf_map_create(BPF_MAP_TYPE_SOCKHASH, "foreign", 8, 8, 16, NULL);
	int ops, msg = pass_prog(), cg, link;
	char path[256];
	struct ends e;

	CHECK(map >= 0 && msg >= 0);
	ops = foreign_prog(map);
	CHECK(ops >= 0);
	CHECK_EQ(bpf_prog_attach(msg, map, BPF_SK_MSG_VERDICT, 0), 0);
	snprintf(path, sizeof(path), "%s/agents", env.cgroup);
	cg = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(cg >= 0);
	link = bpf_link_create(ops, cg, BPF_CGROUP_SOCK_OPS, NULL);
	CHECK(link >= 0);
	CHECK(target_mode(TG_MODE_STEER, BOTH));
	CHECK(open_ends(&e, ADDR4, 0));
	close(link);
	CHECK(carries(e.agent, e.daemon, 'a'));
	CHECK_EQ(by_tcp(e.daemon), 1000);
	CHECK_EQ(counted(TG_K_ACCEL_REFUSED), 1);
	CHECK_EQ(counted(TG_K_ACCELERATED), 0);
	close_ends(&e);
	close(cg);
	close(ops);
	close(msg);
	close(map);
	return true;
}

/* A kernel that refuses the programs: all else works, and it is said why. */
static bool missing(void)
{
	char dir[80], path[128], text[512];
	struct kern_paths paths = {.bpf_dir = dir, .cgroup_root = env.cgroup};
	struct buf error;
	struct kern *k = NULL;

	snprintf(dir, sizeof(dir), "%s-x", env.bpf_dir);
	buf_init(&error, sizeof(text));
	kern_accel_refused = true;
	CHECK_EQ(kern_load(&paths, &k, &error), 0);
	kern_accel_refused = false;
	CHECK(strstr(kern_accel_missing(k), "refuses"));
	CHECK(!kern_accel_missing(env.k));
	CHECK_EQ(kern_guarding(k, &error), 0);
	CHECK_EQ(kern_watch_start(k, &error), 0);
	snprintf(path, sizeof(path), "%s/v1/progs/tg_msg", dir);
	CHECK(access(path, F_OK) != 0);
	snprintf(path, sizeof(path), "%s/v1/maps/tg_acc_send", dir);
	CHECK(access(path, F_OK) != 0);
	kern_close(k);
	CHECK(fcntl(STDIN_FILENO, F_GETFD) >= 0);
	CHECK_EQ(kern_unload(&paths, &error), 0);
	buf_done(&error);
	return true;
}

/* --------------------------------------------------------------- self-test */

static bool self_test(void)
{
	static struct kern_selftest t;
	char names[400];

	kern_selftest_run(&t);
	if (t.why[0])
		printf("          %s\n", t.why);
	CHECK(!t.why[0]);
	CHECK(t.n > 30);
	kern_selftest_names(&t, KERN_ACCEL_BOTH, false, names, sizeof(names));
	printf("          differ from TCP here: %s\n", names);
	kern_selftest_names(&t, KERN_ACCEL_BOTH, true, names, sizeof(names));
	CHECK(names[0] == '\0');
	for (unsigned i = 0; i < t.n; i++) {
		const char *tcp = t.rows[i].seen[KERN_ACCEL_PLAIN];

		CHECK(tcp[0] && !strstr(tcp, "WRONG") && !strstr(tcp, "no connection"));
	}
	/* Its sockets and programs were its own. */
	CHECK_EQ(counted(TG_K_ACCELERATED) + counted(TG_K_STEERED), 0);
	CHECK(!enrolled_now("tg_acc_send"));
	return true;
}

const struct row accel_rows[] = {
	{"accel: target without it", unwanted},
	{"accel: both directions, IPv4", both_v4},
	{"accel: both directions, IPv6", both_v6},
	{"accel: both directions, v4-mapped", both_mapped},
	{"accel: requests only", requests},
	{"accel: the server speaks first", replies_first},
	{"accel: switched off, open connections keep it", toggled},
	{"accel: not steered, not enrolled", not_steered},
	{"accel: data with the SYN is not overtaken", early},
	{"accel: a reader that sleeps", cap},
	{"accel: a stream goes back to TCP", stream},
	{"accel: socket in another program's map", taken},
	{"accel: a kernel that refuses it", missing},
	{"accel: self-test", self_test},
	{0},
};
