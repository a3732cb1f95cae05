/* SPDX-License-Identifier: MIT */
/*
 * keyd's side of logins with what belongs to one grant. Such a secret is asked for by a name
 * that nobody can guess, which the parent gets for a session that holds the grant: a worker
 * cannot ask for what its sessions do not have.
 */
#ifndef TIDEGATE_DAEMON_GRANTED_H
#define TIDEGATE_DAEMON_GRANTED_H

#include "daemon/vault.h"

enum { GRANTED_TEXT_MAX = 16000, GRANTED_MAX = 100000 };

/* Zeroed but for the list; embedded. */
struct granted_set {
	struct list all;
	uint32_t n;
};

struct granted;

void granted_init(struct granted_set *set);
/* Wipes. */
void granted_done(struct granted_set *set);
/* Takes the place of what @owner had. 0, -EINVAL: no password, -EMFILE, -ENOMEM. */
MUST_CHECK int granted_put(struct granted_set *set, uint64_t owner, struct slice user,
			   struct slice text, uint64_t ttl_ms);
void granted_forget(struct granted_set *set, uint64_t owner);
/*
 * Who logs in (@user; NULL: whom granted_put() named), and the name to ask by; @clear: the
 * text itself may be told. -ENOKEY: there is none, or no longer; -ENOMEM. Valid until forgotten.
 */
MUST_CHECK int granted_open(struct granted_set *set, uint64_t owner, const char *user, bool clear,
			    const char **ret_user, const char **ret_key);
/* NULL: not one of these. */
struct secret *granted_find(const struct granted_set *set, struct slice key, bool *ret_clear);

#endif
