/* SPDX-License-Identifier: MIT */
/*
 * named, the resolver: agents' look-ups are steered to it. It forwards them to the host's
 * name servers and tells the parent what addresses a target's name has before it answers. It
 * holds no key, no file right and no privilege. Shared by the files of named only.
 */
#ifndef TIDEGATE_DAEMON_NAMED_H
#define TIDEGATE_DAEMON_NAMED_H

#include <uv.h>

#include "base/buf.h"
#include "base/list.h"
#include "config/config.h"
#include "daemon/ipc.h"
#include "daemon/stats.h"
#include "net/dns_ask.h"
#include "tidegate_abi.h"

enum {
	NAMED_QUERIES = 1024,	  /* of agents, at the same time */
	NAMED_AGENT_QUERIES = 256, /* of one agent */
	NAMED_CONNS = 512,
	NAMED_AGENT_CONNS = 64,
	NAMED_SEARCH = 6,
	NAMED_NAME = 256,
	FOUND_NAMES = 8,
	FOUND_ADDRS = 256,
};

struct named {
	uv_loop_t loop;
	struct ipc *ipc;
	struct config *cfg;
	struct worker_stats *stats;
	int record_map, asker_map; /* read-only; -1: nothing is steered */
	bool sandboxed;
	char servers[1024]; /* for c-ares */
	char search[NAMED_SEARCH][NAMED_NAME];
	uint32_t nsearch;
	struct list agents;  /* struct named_agent */
	struct list sockets, conns, queries;
	uint32_t nqueries, nconns;
	struct list names; /* struct rname, in named_names.c */
	uint32_t nnames;
	uv_timer_t tick;
	uint64_t next_id;
	bool round_told;
	int log_fd; /* -1: none */
	struct buf json;
};

struct named_agent {
	struct list link;
	uint32_t id;
	char name[64];
};

static inline void named_count(struct named *n, uint16_t reason)
{
	if (n->stats && reason < TG_R_COUNT)
		n->stats->reason[reason]++;
}

static inline struct dns_ask_config named_upstream(const struct named *n)
{
	return (struct dns_ask_config){.servers = n->servers, .timeout_ms = n->cfg->dns.timeout_ms};
}

/* --- named_match.c */
/* What an answer says of the names of targets. */
struct found {
	struct {
		char name[NAMED_NAME];
		const char *host; /* as in the configuration, which covers it */
	} names[FOUND_NAMES];
	uint8_t addrs[FOUND_ADDRS][16];
	uint32_t nnames, naddrs, ttl_s;
	bool too_many;
	bool service; /* SVCB or HTTPS, which carry addresses of their own */
};

/* The host of the configuration that covers @name, or NULL: it is no target's. */
const char *match_host(const struct named *n, const char *name);
/* A DNS-over-HTTPS service, or the name by which browsers ask whether they may use one. */
bool match_doh(const struct named *n, const char *name);
MUST_CHECK int match_answer(const struct named *n, struct slice msg, const struct dns_query *q,
			    struct found *ret, struct dns_answer *ret_answer);
/* Tells the parent; its IPC_DNS_LEARNED has the same id. */
void match_learn(struct named *n, uint64_t id, const struct found *f);

/* --- named_serve.c: agents' questions */
MUST_CHECK int serve_socket(struct named *n, int fd, bool tcp);
/* The sockets of a network namespace whose agents are gone, and what came by them. */
void serve_gone(struct named *n, uint64_t netns_cookie);
/* Another named has the sockets now: what was asked here is answered, and no more. */
void serve_retire(struct named *n);
void serve_learned(struct named *n, uint64_t id, uint16_t reason);

/* --- named_names.c: the daemon's own questions */
/* The targets' names are those of the configuration now. */
void names_config(struct named *n);
void names_tick(struct named *n);
/* The parent's IPC_DNS_RESOLVE. */
void names_resolve(struct named *n, uint64_t id, const char *name, const char *host);

/* --- named_log.c */
struct log_entry {
	const struct tg_record *rec;
	const struct dns_query *q;
	const struct found *found; /* NULL: there was no answer */
	uint8_t rcode;
	uint16_t reason; /* why it was refused; 0 */
	bool tcp;
	uint64_t took_ns;
};
/* False: it could not be written, and recordings are required. */
MUST_CHECK bool named_log(struct named *n, const struct log_entry *e);

#endif
