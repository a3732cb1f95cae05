/* SPDX-License-Identifier: MIT */
/*
 * Roles that live as long as a grant, the parent's part: which there are, for whom, and what becomes of
 * them. keyd has their passwords, roled speaks with the servers.
 */
#ifndef TIDEGATE_DAEMON_ROLES_H
#define TIDEGATE_DAEMON_ROLES_H

#include "daemon/glogin.h"
#include "daemon/registry.h"
#include "daemon/role_job.h"
#include "daemon/role_sql.h"

enum prole_state {
	PROLE_KEYING,	/* keyd makes its password */
	PROLE_MAKING,	/* roled makes it */
	PROLE_READY,
	PROLE_REKEYING, /* as the first two, after keyd has lost the password */
	PROLE_ENDING,	/* to be dropped when it is due */
	PROLE_DROPPING,
};

struct prole {
	struct list link;
	char name[ROLE_NAME_TEXT], owner[UUID_TEXT]; /* a grant, a session without one, or "" */
	char agent[NAME_MAX_LEN], target[NAME_MAX_LEN], credential[NAME_MAX_LEN];
	char database[128], upstream[512];
	enum prole_state state;
	uint64_t number; /* of its password at keyd */
	bool keyed;	 /* which is there */
	bool over;	 /* ended before it was made */
	uint64_t order;	 /* what keyd or roled was told last; 0: nothing is open */
	uint64_t made_wall_ns, until_wall_ns, until_boot_ns;
	uint64_t due_boot_ns; /* PROLE_ENDING */
	uint32_t tries;	      /* to drop it */
	char why[256];	      /* it is still there */
};

/* Where roles may have been left: a server that a credential's administrator knows. */
struct role_place {
	struct list link;
	char target[NAME_MAX_LEN], credential[NAME_MAX_LEN], upstream[512];
	bool configured, remembered;
	uint64_t order, due_boot_ns;
	uint32_t tries;
	char why[256]; /* it could not be asked last; "": it could */
};

struct roles {
	struct list all, places;
	char mark[64]; /* what the comments of our roles begin with */
	char instance[33];
	uint64_t made, dropped, failed, left; /* left: found, of a daemon before */
	bool stopping;
	uint64_t stop_boot_ns;
};

MUST_CHECK int roles_start(struct parent *p);
/* The configuration wants them. */
bool roles_wanted(const struct config *c);
/* The role that @s logs in as, made if there is none; NULL: no memory, or too many. */
struct prole *roles_want(struct parent *p, const struct psession *s, const struct grant *g,
			 const struct cfg_credential *c);
static inline bool role_ready(const struct prole *r)
{
	return r->state == PROLE_READY && r->keyed;
}
/* Of a grant or session: dropped. */
void roles_end(struct parent *p, const char *owner);
/* A server does not know it, or its password. */
void roles_stale(struct parent *p, const char *owner);
/* keyd's and roled's answers. */
void roles_keyed(struct parent *p, struct ipc_msg *m);
void roles_job_done(struct parent *p, struct ipc_msg *m);
void roles_keyd_gone(struct parent *p);
void roles_roled_gone(struct parent *p);
void roles_tick(struct parent *p);
/* True: nothing is left to do, or no time for it. */
bool roles_stopped(struct parent *p);
/* Name of the role of @owner, or NULL. */
const struct prole *roles_of(const struct parent *p, const char *owner);
/* "made" and "until" as members of a JSON object, for the recording. */
void role_members(const struct prole *r, char *dst, size_t cap);
json_t *roles_json(const struct parent *p);
void roles_warnings(const struct parent *p, json_t *list);
void roles_save(struct parent *p, struct hand *h, json_t *root);
void roles_take(struct parent *p, struct hand *h, const json_t *root);

/* --- roles_place.c */
MUST_CHECK int role_places_load(struct parent *p);
/* After a change of the configuration, too. */
void role_places_update(struct parent *p);
/* A role was made there. */
void role_place_seen(struct parent *p, const struct prole *r);
void role_places_tick(struct parent *p);
void role_place_done(struct parent *p, struct role_place *place, enum role_job_error error,
		     const char *words, struct ipc_msg *m, uint32_t n);
/* Found on a server, and nobody's here: dropped soon. */
void role_left(struct parent *p, const struct role_place *place, struct slice name);
/* 1, 2, 4 ... 60 seconds from now. */
uint64_t role_retry_at(uint32_t tries);

#endif
