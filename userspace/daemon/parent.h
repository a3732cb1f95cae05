/* SPDX-License-Identifier: MIT */
/*
 * The parent: it owns what outlives a worker (targets in the kernel's maps, grants,
 * approvals, the list of sessions, listeners, files) and does what needs privilege. It
 * parses no byte of a peer.
 */
#ifndef TIDEGATE_DAEMON_PARENT_H
#define TIDEGATE_DAEMON_PARENT_H

#include <jansson.h>
#include <uthash.h>
#include <uv.h>

#include "base/ident.h"
#include "base/list.h"
#include "config/config.h"
#include "daemon/ipc.h"
#include "daemon/stats.h"
#include "record/receipt.h"
#include "tidegate_abi.h"

struct audit;
struct down_file;
struct integrity;
struct kern;
struct learned_state;
struct parent;
struct plugin;
struct psession;
struct peeks;
struct roles;
struct exe_digests;

enum {
	WORKERS_MAX = 64,   /* that are configured */
	WORKER_SLOTS = 192, /* with those of binaries before that still have sessions */
	OLD_MAX = 8,	    /* other processes of binaries before */
};
enum { NAME_MAX_LEN = 64 };

/* ------------------------------------------------------------- children */

enum role { ROLE_WORKER, ROLE_KEYD, ROLE_AUTHD, ROLE_NAMED, ROLE_ROLED };
/* Whose question keyd answers: a worker's slot, authd, roled, or one of p->old. */
enum { ROUTE_OLD = 0xf0, ROUTE_ROLED = 0xfe, ROUTE_AUTHD = 0xff };

struct child {
	struct parent *p;
	enum role role;
	uint32_t index; /* of a worker */
	pid_t pid;	/* 0: not running */
	struct ipc *ipc; /* NULL: not running */
	bool ready;
	/*
	 * Of the binary before an upgrade, or there only to complete what a dead worker left: is
	 * not started again after a clean end. @told: it accepts nothing any more.
	 */
	bool retired, told;
	bool next;	  /* a slot that is reserved for the binary that comes */
	uint8_t hand_key; /* in the state of the binary before, for those of p->old */
	uint8_t route;	  /* in the ids of questions for keyd */
	uint32_t restarts;
	uint64_t started_boot_ns;
	uv_timer_t restart;
	/* Kept over restarts of the process. */
	int stats_fd, journal_fd;
	struct worker_stats *stats;
	/* Recordings of the dead process that the next one completes. */
	struct orphan {
		struct uuid session;
		uint16_t reason;
	} *orphans;
	size_t norphans;
	char name[16];
};

/* -------------------------------------------------------------- targets */

struct ptarget {
	struct list link;
	uint32_t id;
	char name[NAME_MAX_LEN];
	const struct cfg_target *cfg; /* NULL: not configured any more */
	enum target_mode mode;	      /* in effect */
	uint32_t sessions;
	/* A toggle in effect. */
	bool toggled;
	char reason[256];
	uint32_t by_uid;
	uint64_t since_wall_ns, until_wall_ns;
};

struct pagent {
	struct list link;
	uint32_t id;
	char name[NAME_MAX_LEN];
	const struct cfg_agent *cfg;
	uint32_t sessions, approvals, refused_recorded; /* the last: within refused_second */
	char token_why[128]; /* told last: why its token is not taken */
	uint64_t token_why_boot_ns, refused_second;
};

/* ----------------------------------------------------------------- parent */

/* The daemon's sockets in one network namespace; -1: none. See listeners.h. */
enum { RESOLVER_SOCKETS = 4 };

struct listener_set {
	int tcp4, tcp6;
	uint16_t port;
	/* named's: UDP on 127.0.0.1 and ::1, then TCP on both; -1: no IPv6 */
	int dns[RESOLVER_SOCKETS];
	uint16_t dns_port;
};

struct parent {
	uv_loop_t loop;
	const char *config_path;
	struct config *cfg;
	int cfg_fd, start_fd; /* memfds with its text, and that of the one at the start */
	int trust_fd; /* with what its ca_file hold; 0: none */
	uint64_t generation, loaded_wall_ns, since_wall_ns, stop_boot_ns;

	struct kern *kern; /* NULL: gateway mode only */
	struct accel *accel; /* NULL: nobody wanted it so far */
	char bpf_why[256];
	struct sweep *sweep; /* the one in a thread; NULL: none yet */
	bool sweep_failed;  /* said once */
	bool refused_known; /* what the kernel has counted so far: */
	uint64_t refused_told[TG_K_COUNT];
	uint32_t ways_open; /* bits of enum kern_way: not closed on this kernel */
	struct listener_set own; /* in the daemon's own network namespace */
	struct netns_state *netns; /* of the others, in netns.c */
	struct list gateways; /* struct gateway, in parent.c */
	struct fdstore *store; /* NULL: nothing is kept */

	/* Slots; those without a journal are free. What other slots count stays in their stats. */
	struct child workers[WORKER_SLOTS], keyd, authd, named, roled;
	struct roles *roles; /* roles.h */
	struct learned_state *learned; /* learned.c */
	uint32_t nworkers; /* slots in use, and free ones between */
	char workers_why[256]; /* they are not as configured; "": they are */
	struct orphan *orphans; /* recordings of a daemon before that no worker has to complete yet */
	size_t norphans;
	struct child old[OLD_MAX];
	struct upgrade *upgrade; /* one that is being prepared, or NULL */
	char program[512];	 /* where the binary was when it was started */
	char version_before[32]; /* of the binary before; "": none */
	uint64_t upgraded_wall_ns, taken_boot_ns, upgrades;
	uint8_t mask_key[32];

	struct list targets, agents; /* struct ptarget, struct pagent */
	uint32_t next_target, next_agent;
	struct psession *sessions;
	struct plugin *plugins; /* that run */
	struct peeks *peeks;     /* peek.c */
	struct exe_digests *digests; /* whois.c */
	struct list grants, approvals;
	struct list receipts; /* struct receipt_job, in receipts.c */
	struct list glogins;  /* struct glogin, in glogin.c */
	char receipt_key[RECEIPT_KEY_NAME]; /* that signs them; "": none is known */
	uint32_t napprovals;
	uint64_t next_id;
	uint64_t reason[TG_R_COUNT]; /* counted here */
	char *idp_state, *ways_state, *issuers_state; /* JSON of authd, as of the last second */
	struct audit *audit;	     /* NULL: could not be opened */
	uint64_t audit_lost;	     /* events that are not in it */
	struct integrity *integrity; /* NULL: no BPF */
	struct down_file *down;	     /* NULL: no BPF, or no such file */

	int record_dir;
	struct list clients; /* of the control socket, in control.c */
	int control_fd, metrics_fd, metrics_tcp;
	int events_fd;	   /* where the provider's events arrive; meaningless without: */
	char *events_at;   /* its address; NULL: none is open */
	uint32_t followers;

	uv_timer_t tick;
	uv_signal_t sigs[5];
	bool stopping, stop_told;
};

static inline void parent_count(struct parent *p, uint16_t reason)
{
	if (reason < TG_R_COUNT)
		p->reason[reason]++;
}

/* --- pin.c: `tidegated --pin`: the exit code. */
int parent_pin(const char *config_path);

/* --- parent.c; @handover: the memory file of the process that this one replaces, or -1. */
int parent_main(const char *config_path, int handover);
void parent_stop(struct parent *p);
/* Ends with the magic of its seek table; true also for what cannot be opened. */
bool recording_finished(int dir, const char *name);

/* To every running worker. */
#define each_worker(p, c)                                                                          \
	for (struct child *c = (p)->workers; c < (p)->workers + (p)->nworkers; c++)                \
		if (c->ipc && c->ready)

/* --- route.c: messages of the children */
extern const struct ipc_ops route_ops;

/* --- targets.c */
MUST_CHECK int targets_apply(struct parent *p, struct buf *error);
struct ptarget *target_find(struct parent *p, struct slice name);
struct ptarget *target_by_id(struct parent *p, uint32_t id);
struct pagent *agent_find(struct parent *p, struct slice name);
struct pagent *agent_by_id(struct parent *p, uint32_t id);
/* Switches; @mode -1: reset. @for_ms 0: until reset. */
MUST_CHECK int target_switch(struct parent *p, struct ptarget *t, int mode, const char *reason,
			     uint64_t for_ms, uint32_t uid, struct buf *error);
void targets_tick(struct parent *p);
/* @id 0: the next one. */
struct ptarget *target_new(struct parent *p, const char *name, uint32_t id);
/* The self-test of the accelerator is over: tells the kernel which targets have it. */
void targets_accelerate(struct parent *p);
/* Addresses that are guarded, as of now, into the state file: after a reboot they still are. */
MUST_CHECK int targets_save(struct parent *p);

/* --- control.c, control_ops.c, metrics.c */
struct ctl_client;
struct ctl_error {
	const char *code;
	char message[1024], hint[256];
};
MUST_CHECK int control_start(struct parent *p);
void control_stop(struct parent *p);
void control_event(struct parent *p, struct slice json);
/* The answer to who asked for the upgrade: @o is taken over, or NULL and @e. */
void control_upgraded(struct parent *p, json_t *o, const struct ctl_error *e);
json_t *text_json(const char *s), *time_json(uint64_t wall_ns); /* null for NULL, "", 0 */
void control_session_shown(struct parent *p, uint64_t id, struct slice json);
MUST_CHECK int metrics_start(struct parent *p);
/* Sums of the workers' counters and the parent's own. */
void parent_reasons(const struct parent *p, uint64_t ret[TG_R_COUNT]);

/*
 * Runs one operation. A new reference to the result, or NULL with the error
 * filled in; *ret_later: the answer is sent when a worker has given it.
 */
json_t *control_run(struct parent *p, struct ctl_client *c, const char *op, json_t *args,
		    uint32_t uid, struct ctl_error *e, bool *ret_later);
void ctl_client_follow(struct ctl_client *c, const char *session);
void ctl_client_wait_upgrade(struct ctl_client *c);
void ctl_client_wait(struct ctl_client *c, uint64_t id, struct psession *s);

#endif
