/* SPDX-License-Identifier: MIT */
/*
 * Whom targets' servers must be. The parent reads the files; who connects has no file, and gets what
 * they hold with the configuration that names them.
 */
#ifndef TIDEGATE_DAEMON_TRUST_H
#define TIDEGATE_DAEMON_TRUST_H

#include "config/config.h"
#include "net/tls.h"

struct parent;
struct child;

/* --- trust.c: in the parent */
/* What p->cfg names; what cannot be used is logged, and its targets are refused. */
void trust_read(struct parent *p);
/* Before a configuration. */
void trust_send(struct child *c);

/* --- trust_of.c: in a child */
struct trust;
/* Takes over @fd; NULL: it cannot be read. */
struct trust *trust_take(int fd);
void trust_free(struct trust *t); /* NULL is allowed */

/* What tls_new() needs for a server of a target; borrowed from the trust and the target. */
struct trust_start {
	struct tls_start tls;
	uint8_t ip[16], ask[TLS_CLEAR_MAX];
};

/*
 * 0; or negative errno and why. @trust: that of the configuration of @target (NULL: none came);
 * @upstream: "address:port", the one that is connected to.
 */
MUST_CHECK int trust_start(struct trust *trust, const struct cfg_target *target, const char *upstream,
			   struct trust_start *ret, const char **ret_why);

#endif
