/* SPDX-License-Identifier: MIT */
/*
 * Grants (approved access with an end) and approvals (requests that wait for a
 * decision), the parent's. Grants do not survive a restart of the daemon.
 */
#ifndef TIDEGATE_DAEMON_GRANTS_H
#define TIDEGATE_DAEMON_GRANTS_H

#include "daemon/parent.h"

struct grant {
	struct list link;
	char id[HANDLE_TEXT];
	char agent[NAME_MAX_LEN], target[NAME_MAX_LEN];
	char user[128], database[128]; /* that were asked for; break-glass: "", any */
	char scope[256]; /* "*": any (break-glass) */
	char token[65]; /* it was given for this one: digest; "": for none */
	uint64_t terms; /* who had to say yes, and how many: a hash */
	char via[256], by[192], reason[256];
	uint64_t since_wall_ns, until_wall_ns, until_boot_ns;
	uint64_t signing;  /* of the receipt that is being signed; until then it serves nobody */
	char *receipt;	   /* JSON text */
	struct list rechecks; /* recheck.h: tokens whose fate ends it, too */
	json_t *evidence;  /* array: what the ways said; NULL: none */
	uint64_t idp_id;   /* of the question that it is the answer to; 0: none */
	uint64_t kept;	   /* keyd has the token that it was given by, under this number; 0: not */
	bool lost;	   /* and has it no longer: lets nobody in any more */
};

struct waiter { /* a session that waits for an approval */
	struct list link;
	struct child *worker;
	uint64_t ask;
	struct uuid session;
};

struct approval {
	struct list link;
	char id[HANDLE_TEXT];
	bool statement;
	char ways[256]; /* asked of authd; "": of people here */
	char asked[512]; /* who is being asked, once authd has told */
	char code[64], uri[512]; /* what that person is shown, or "" */
	char agent[NAME_MAX_LEN], target[NAME_MAX_LEN], scope[256];
	char effect[24], rule[256];
	char *text;
	uint8_t digest[32]; /* of a statement and its parameters */
	char user[128], database[128];
	uint32_t agent_uid;
	bool has_uid;
	char (*approvers)[NAME_MAX_LEN];
	uint32_t napprovers, min;
	uint64_t terms; /* of these */
	uint32_t by[16], nby; /* uids that approved */
	uint64_t since_wall_ns, until_wall_ns, until_boot_ns, max_ms;
	bool in_transaction;
	struct list waiters;
	struct child *authd; /* that was asked; NULL: none yet */
	/* Decided: waits for the receipt with this number. */
	uint64_t signing;
	struct {
		uint32_t v; /* enum insp_verdict */
		uint16_t reason;
		char by[192], request[HANDLE_TEXT], detail[256], grant[HANDLE_TEXT];
	} held;
	uint64_t idp_id; /* 0: not asked yet */
	bool kept; /* keyd has a token of the answer to it */
	/* Where a way asks about the agent's own token: it is read anew, then the way is asked. */
	bool needs_token;
	struct list rechecks; /* recheck.h: of the ways that have said yes so far */
	bool unchecked;	      /* one of these could not be kept: there will be no grant */
	char token[65]; /* digest; "": not known */
	struct parent *p;
	struct peek *peek;
};

void access_ask(struct parent *p, struct child *c, struct ipc_msg *m);
/* The session was let in by a grant that its worker knew. */
void grant_used(struct parent *p, struct psession *s, struct ipc_msg *m);
void statement_ask(struct parent *p, struct child *c, struct ipc_msg *m);
void ask_cancel(struct parent *p, struct child *c, struct ipc_msg *m);
void idp_answer(struct parent *p, struct ipc_msg *m);
/* The provider has ended somebody's session, or something like it. */
void idp_event(struct parent *p, struct ipc_msg *m);
/* A person is being asked elsewhere. */
void idp_pending(struct parent *p, struct ipc_msg *m);
/* That authd died: what it was asked is denied, or asked of the one that replaces it. */
void idp_gone(struct parent *p, struct child *authd);
/* Something that it was asked is not decided yet. */
bool grants_wait_for(struct parent *p, const struct child *authd);
struct hand;
void grants_save(struct parent *p, struct hand *h, json_t *root);
/* When sessions are known. What the authd of before cannot be waited for is asked anew later. */
void grants_take(struct parent *p, struct hand *h, const json_t *root);
void grants_ask_again(struct parent *p);
void grants_tick(struct parent *p);
void grants_worker_died(struct parent *p, struct child *c);
struct grant *grant_find(struct parent *p, const char *id);
struct approval *approval_find(struct parent *p, const char *id);
/* Ends it and its sessions; returns how many. */
uint32_t grant_end(struct parent *p, struct grant *g, uint16_t reason, const char *words);
struct grant *grant_new(struct parent *p, const char *agent, const char *target, const char *scope,
			const char *via, const char *by, uint64_t ms, const char *reason);
/* 0; -EPERM: not an approver, or one's own; -EALREADY: has approved already. */
MUST_CHECK int approval_approve(struct parent *p, struct approval *a, uint32_t uid, uint64_t for_ms,
				const char *reason);
MUST_CHECK int approval_deny(struct parent *p, struct approval *a, uint32_t uid,
			     const char *reason);
void approval_free(struct parent *p, struct approval *a);
/* The ways that were asked, or "builtin". */
const char *approval_via(const struct approval *a);
void who_is(uint32_t uid, char dst[64]);
/* approval_ask.c: the ways that are asked, and that they are. */
void approval_set_ways(struct parent *p, struct approval *a, const struct psession *s,
		       struct slice ways);
void approval_ask(struct parent *p, struct approval *a, const struct psession *s);
json_t *approval_json(const struct approval *a);
json_t *grant_json(struct parent *p, const struct grant *g);

#endif
