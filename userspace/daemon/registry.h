/* SPDX-License-Identifier: MIT */
/* The parent's list of all sessions of all workers, and who is at the other end of each. */
#ifndef TIDEGATE_DAEMON_REGISTRY_H
#define TIDEGATE_DAEMON_REGISTRY_H

#include "daemon/container.h"
#include "daemon/parent.h"

/* Tells one content of a file from another. */
struct exe_stat {
	uint64_t dev, inode, size, mtime_ns, ctime_ns;
};

struct psession {
	UT_hash_handle hh;
	struct uuid uuid;
	char id[UUID_TEXT];
	struct child *worker;
	struct pagent *agent;
	struct ptarget *target;
	char *user, *database, *application;
	char *login_as; /* whom Tidegate logs in as; NULL or "": the agent does it itself */
	char exe[256], cgroup[256], comm[TG_COMM_LEN + 1];
	bool steered, gone;	  /* its process, when it was looked for */
	uint64_t started_boot_ns; /* of that process */
	struct alive *alive;	  /* that process is watched */
	struct list in_alive;
	struct exe_stat exe_stat;
	char exe_sha256[65]; /* "": not known, or not asked for */
	char *token_claims;  /* JSON: those of the verified token that are told; NULL: none */
	char *token_why;     /* why there are none; NULL: no token is looked for */
	char token_sha256[65]; /* of the token that was read, accepted or not; "": none */
	/* tokenlife.c: when a newer token is looked for, and the session is over without; 0: never */
	uint64_t token_try_boot_ns, token_end_boot_ns;
	struct whois *whois;   /* more is being found out */
	bool untold;	       /* that was going on when the daemon was upgraded */
	struct container container;
	bool in_netns; /* the target is reached in the agent's network namespace */
	uint64_t netns_cookie; /* of the agent; 0: not steered */
	char peer[64], upstream[512], state[16];
	uint32_t pid, uid, backend_pid, backend_key;
	bool open; /* facts were given */
	uint64_t since_wall_ns, commands, in, out, masked;
	char grant[HANDLE_TEXT];
};

struct hand;
void registry_save(struct parent *p, struct hand *h, json_t *root);
void registry_take(struct parent *p, struct hand *h, const json_t *root);
struct psession *registry_open(struct parent *p, struct child *c, const struct uuid *u);
struct psession *registry_find(struct parent *p, const struct uuid *u);
void registry_close(struct parent *p, struct psession *s, uint16_t reason);
/* All of a worker that died. */
void registry_worker_died(struct parent *p, struct child *c);
void registry_json(const struct psession *s, json_t *o);
/* Ends one session or (@u NULL) all of @agent / @target (NULL: any); returns how many. */
uint32_t registry_kill(struct parent *p, const struct uuid *u, const char *agent,
		       const char *target, uint16_t reason, const char *words);

/*
 * What /proc says of the process in @rec, which is watched from now on. 0; -ESRCH: it is another;
 * or why it cannot be watched.
 */
MUST_CHECK int facts_read(struct psession *s, const struct tg_record *rec);
enum { FACTS_MAX = 16 << 10 };
/* All that is known of the session's process and token: JSON for the recording and for those asked. */
void facts_json(const struct psession *s, struct buf *ret);
/* Agent of a gateway connection, by the owner of its socket or by source; NULL: none. */
struct pagent *facts_gateway_agent(struct parent *p, const char *peer, const char *local,
				   bool by_owner, uint32_t *ret_uid);

#endif
