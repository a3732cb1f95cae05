/* SPDX-License-Identifier: MIT */
/*
 * The configuration file: parsed, checked and with all defaults filled in.
 * Used by the daemon and by `tidegate policy check`. Everything is owned by
 * the struct and valid until config_free(). See tidegate.yaml(5).
 */
#ifndef TIDEGATE_CONFIG_CONFIG_H
#define TIDEGATE_CONFIG_CONFIG_H

#include <netinet/in.h>
#include <sys/types.h>

#include "base/arena.h"
#include "base/compiler.h"
#include "config/cfgcred.h"
#include "config/cfgidp.h"
#include "config/cfgtls.h"
#include "policy/policy.h"

enum target_mode { TARGET_STEER, TARGET_BLOCK, TARGET_OBSERVE, TARGET_OFF };
enum accelerate { ACCELERATE_AUTO, ACCELERATE_ON, ACCELERATE_OFF };
enum accel_ends { ACCEL_ENDS_AUTO, ACCEL_ENDS_REQUESTS, ACCEL_ENDS_BOTH };
enum durability { DURABLE_PROCESS, DURABLE_DISK };
enum bpf_mode { BPF_AUTO, BPF_ON, BPF_OFF };
/* AF_UNIX for an agent: what leads round the gate is refused; only what is listed passes; all does. */
enum unix_mode { UNIX_GUARD, UNIX_LISTED, UNIX_OPEN };
enum dns_steer { DNS_STEER_AUTO, DNS_STEER_ON, DNS_STEER_OFF };

struct cfg_addr {
	char host[256];		 /* literal address, or name in lower case */
	uint16_t port;		 /* 0: any */
	struct in6_addr *addrs;	 /* v4-mapped for IPv4, resolved by the daemon */
	uint32_t naddrs;
	uint8_t prefix;		 /* of a literal, counted in 128 bits */
	bool literal;
	bool wildcard; /* host is `*.` and a name: all names below that */
};

/* Names: how agents' look-ups are answered, and what targets' names may mean. */
struct cfg_dns {
	enum dns_steer steer;
	const char *const *servers; /* literal addresses, with a port or without */
	uint32_t nservers; /* 0: the host's */
	uint64_t timeout_ms; /* of one try */
	uint64_t keep_ms; /* addresses are guarded that long after they were last answered */
	bool block_doh;
	const char *const *doh; /* names and literal addresses besides the built-in ones */
	uint32_t ndoh;
	const char *const *special; /* networks: loopback and the like that names may mean */
	uint32_t nspecial;
	bool log;
	uint64_t log_bytes;
};

/* Where an agent's own workload token is, and whose it must be. */
struct cfg_token {
	const char *file, *env; /* in the agent's mount namespace; or of its environment */
	const char *issuer, *audience; /* NULL: those of `idp` */
	const char *const *algorithms, *const *extra_origins; /* NULL: the usual; none */
	const char *ca_file;
	bool allow_http;
};

/* An address that an agent reaches though it is no target: always literal. */
struct cfg_allow {
	struct in6_addr addr; /* v4-mapped for IPv4 */
	uint16_t port;	      /* 0: any */
	uint8_t prefix;	      /* of 128 bits */
	bool tcp, udp;
};

struct cfg_agent {
	const char *name;
	const char *const *cgroups; /* paths below the cgroup v2 root, "/agents.slice" */
	uint32_t ncgroups;
	const uid_t *uids;
	uint32_t nuids;
	const char *const *sources; /* CIDRs for gateway listeners */
	uint32_t nsources;
	bool outlives, deny; /* sessions outlive their process; reaches only targets and these: */
	struct cfg_allow *allow;
	uint32_t nallow;
	enum unix_mode unix_mode;
	const char *const *unix_allow, *const *unix_refuse;
	uint32_t nunix_allow, nunix_refuse;
	struct cfg_token *token; /* NULL: it is not read */
	uint32_t line;
};

struct cfg_target {
	const char *name;
	const char *protocol; /* an inspector's name */
	struct cfg_addr *addrs;
	uint32_t naddrs;
	const char *socket;   /* AF_UNIX path of the server leg, or NULL */
	bool socket_trust;
	enum target_mode mode;
	bool netns_agent;     /* reached from the agent's network namespace, not the daemon's */
	bool fail_open;	      /* daemon down: agents reach the target directly */
	enum accelerate accelerate;
	enum accel_ends accelerate_directions;
	const char *listen;   /* gateway listener "127.0.0.1:6432", or NULL */
	bool listen_by_owner; /* loopback listener: agent by the socket's owner */
	const char *catalog_user, *catalog_database, *catalog_password_file;
	const char *credential; /* a name; NULL: agents log in with what they have */
	const struct cfg_credential *login; /* that of the name */
	struct cfg_tls *tls; /* NULL: off */
	uint64_t statement_bytes, value_bytes, message_bytes;
	uint64_t session_bytes, session_ms, idle_ms; /* 0: no limit */
	uint64_t connect_timeout_ms; /* default 10 s */
	uint32_t max_sessions; /* default 10000 */
	uint32_t line;
};

struct config {
	struct arena arena;
	const char *file;
	struct cfg_held *held; /* cfgheld.h */
	uint32_t workers; /* default: online CPUs */
	const char *user; /* "tidegate" */
	const char *run_dir, *state_dir, *record_dir, *bpf_dir, *cgroup_root;
	const char *metrics_listen; /* "127.0.0.1:9187" or NULL */
	const char *admin_group, *log_level; /* who may use the control socket, or NULL */
	enum bpf_mode bpf;
	enum durability durability;
	uint32_t netns_max;   /* network namespaces of one agent with listeners; default 256 */
	bool netns_raise_lo;  /* brings lo up where it is down */
	bool record_required; /* false: a session that cannot be recorded goes on */
	uint64_t journal_bytes; /* per worker */
	uint64_t audit_bytes;	/* of audit.jsonl, before it is renamed */
	uint32_t audit_keep;	/* renamed ones */
	uint32_t audit_agent_lines; /* that an agent can cause in a minute */
	struct cfg_dns dns;
	struct cfg_idp *idp;  /* NULL: the built-in approver */
	struct cfg_way *ways;
	uint32_t nways;
	struct cfg_credential *credentials;
	uint32_t ncredentials;
	struct cfg_agent *agents;
	uint32_t nagents;
	struct cfg_target *targets;
	uint32_t ntargets;
	struct policy *policy;
};

/*
 * 0 and *ret, or negative errno and messages for a person in @error
 * ("tidegate.yaml:12:5: unknown key `protcol` in a target; did you mean
 * `protocol`?"), one a line, all that were found.
 */
MUST_CHECK int config_load(const char *path, struct config **ret, struct buf *error);
/* The same from memory, for tests and fuzzing; @name stands for the file in messages. */
MUST_CHECK int config_parse(struct slice text, const char *name, struct config **ret,
			    struct buf *error);
void config_free(struct config *c);

const struct cfg_target *config_target(const struct config *c, struct slice name);
const struct cfg_agent *config_agent(const struct config *c, struct slice name);
const struct cfg_way *config_way(const struct config *c, struct slice name);
const struct cfg_credential *config_credential(const struct config *c, struct slice name);
/* It makes roles: nobody else is logged in with it. */
bool config_is_admin(const struct config *c, struct slice name);
/* Its server is spoken TLS with, and has to prove who it is. */
bool cfg_target_verified(const struct cfg_target *t);
/* @text is an address: its 4 or 16 bytes. */
bool cfg_tls_ip(const char *text, uint8_t ret[16], size_t *ret_n);

/* Some target is given by name. */
bool config_has_names(const struct config *c);
/* Agents' look-ups are steered to the resolver. */
bool config_steers_dns(const struct config *c);

extern const char *const cfg_unix_words[]; /* of enum unix_mode */
const char *target_mode_name(enum target_mode mode);
int target_mode_parse(struct slice name); /* or -1 */

#endif
