/* SPDX-License-Identifier: MIT */
/*
 * What every row needs: a cgroup of its own below the cgroup v2 mount that takes the
 * place of the root, a network namespace with addresses to protect, servers on
 * them, the daemon's listeners, and clients in chosen cgroups and with chosen uids.
 */
#ifndef TIDEGATE_TESTS_BPF_ENV_H
#define TIDEGATE_TESTS_BPF_ENV_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "kern/kern.h"

enum {
	PORT_TARGET = 5432, /* protected, id TARGET */
	PORT_FREE = 5433,   /* not protected */
	TARGET = 7,
	AGENT = 11,
	AGENT_UID = 12,
	UID_AGENT = 4711,
	UID_OTHER = 4712,
};
#define ADDR4	"10.77.0.1"
#define ADDR6	"fd77::1"
#define MAPPED4 "::ffff:10.77.0.1"

struct env {
	char bpf_dir[64];
	char cgroup[192]; /* absolute path of our root */
	struct kern_paths paths;
	struct kern *k;
	int listen4, listen6;
	uint16_t port;		       /* the daemon's */
	int server4, server6;	       /* the real target */
	int free4;		       /* a server on PORT_FREE */
	uint64_t counters[TG_K_COUNT]; /* at the start of the row */
	const char *skip;	       /* why the row says nothing on this kernel */
};

extern struct env env;

/* --- set up; false: printed why. */
bool env_init(void);
void env_done(void);
/* One netns for this process: lo up, ADDR4 and ADDR6 on it. */
bool env_netns(void);
/* The state in which each row starts. */
bool env_reset(void);
bool env_listen(void);
void env_unlisten(void);

/* --- helpers */
struct sockaddr_storage addr_of(const char *ip, uint16_t port, socklen_t *len);
int listener_on(const char *ip, uint16_t port); /* -errno */
int udp_on(const char *ip, uint16_t port);
struct tg_addr_key key_of(const char *ip, uint16_t port, int protocol, unsigned int bits);
bool target_mode(enum tg_target_mode mode, uint8_t flags);
bool protect(const char *ip, uint16_t port, int protocol);
bool cgroup_make(const char *path);
bool cgroup_remove(const char *path);
bool cgroup_join(const char *path);	    /* this process */
uint64_t counted(enum tg_kernel_counter c); /* since the row started */
int accept_in(int fd, int ms);		    /* -EAGAIN: nothing came */

/* Runs @fn in a child of the cgroup (NULL: ours) and uid; its result is 0 or an errno. */
int client(const char *cgroup, uid_t uid, int (*fn)(void *), void *arg);

struct dial {
	const char *ip;
	uint16_t port;
	int family; /* of the socket; 0: of the address */
	bool nonblock;
	const char *peer; /* getpeername() must say so; NULL: @ip */
	int send;	  /* bytes to send after connect */
	int type;	  /* 0: SOCK_STREAM */
	int from_child;	  /* fork once more */
	bool fastopen;
	const char *source; /* bind() to it first */
};
int dial(void *arg);

/* An agent's connection whose socket is handed to this process. */
struct wish {
	const char *ip;
	uint16_t port;
	size_t early; /* bytes 'e' sent with the SYN, at most 256 */
	int pass;     /* set by agent_dial() */
};
int agent_dial(struct wish w); /* -errno */

/* --- rows */
struct row {
	const char *name;
	bool (*fn)(void);
};
extern const struct row steer_rows[], deny_rows[], agent_rows[], life_rows[], rules_rows[],
	netns_rows[], verifier_rows[], accel_rows[], watch_rows[], fidelity_rows[],
	name_rows[], limit_rows[], optional_rows[], index_rows[];
/* --- limit.c: rows that do not end. @seconds 0: the usual limit; a row may begin anew. */
bool limit_init(void);
void limit_begin(const char *row, unsigned int seconds);
bool limit_kept(void); /* ends it */
/* Lines for verifier.baseline. */
bool verifier_lines(void);

/* Ends a row that this kernel cannot pass: it is skipped. */
#define NEEDS(have, what)                   \
	do {                                \
		if (!(have)) {              \
			env.skip = what;    \
			return true;        \
		}                           \
	} while (0)
#define CHECK(cond)                                                                           \
	do {                                                                                  \
		if (!(cond)) {                                                                \
			printf("          %s:%d: %s (errno %s)\n", __FILE__, __LINE__, #cond, \
			       strerror(errno));                                              \
			return false;                                                         \
		}                                                                             \
	} while (0)
#define CHECK_EQ(got, want)                                                                        \
	do {                                                                                       \
		long long got_ = (long long)(got), want_ = (long long)(want);                      \
		if (got_ != want_) {                                                               \
			printf("          %s:%d: %s is %lld, not %s (%lld)\n", __FILE__, __LINE__, \
			       #got, got_, #want, want_);                                          \
			return false;                                                              \
		}                                                                                  \
	} while (0)

#endif
