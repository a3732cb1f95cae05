/* SPDX-License-Identifier: MIT */
/*
 * Sockets that the service manager keeps while no daemon runs: the file descriptor store of
 * sd_notify(3). What it gives back is passed on by name only: whoever claims it checks that it
 * is what it should be. Without a service manager nothing is kept.
 */
#ifndef TIDEGATE_DAEMON_FDSTORE_H
#define TIDEGATE_DAEMON_FDSTORE_H

#include <jansson.h>

#include "base/compiler.h"

/* As FileDescriptorStoreMax= in tidegated.service. */
enum { FDSTORE_MAX = 1024, FDSTORE_NAME = 48 };

struct fdstore;
struct hand;

/*
 * Once, before anything is started: takes what was passed to this process, so that no child
 * sees it. NULL: no memory, then nothing is kept.
 */
struct fdstore *fdstore_new(void);
/* What was kept stays with the service manager. */
void fdstore_free(struct fdstore *s);

/* The caller's from here on, close-on-exec; -1: there is none of that name. */
MUST_CHECK int fdstore_claim(struct fdstore *s, const char *name);
/*
 * The first name with @prefix behind @after (NULL: from the beginning) that nobody has claimed;
 * *ret_fd stays the store's. NULL: no more.
 */
const char *fdstore_next(const struct fdstore *s, const char *prefix, const char *after,
			 int *ret_fd);
/* Those that nobody has claimed are closed, and no longer kept. */
void fdstore_refuse_rest(struct fdstore *s);

/* A copy is kept under a name of its own, unless it is already. */
void fdstore_keep(struct fdstore *s, const char *name, int fd);
void fdstore_drop(struct fdstore *s, const char *name);
/* Nothing is kept any more: this process knows that it will not serve them. */
void fdstore_drop_all(struct fdstore *s);

/* Over an upgrade: what is kept is kept, and not sent again. */
void fdstore_save(const struct fdstore *s, struct hand *h, json_t *root);
void fdstore_take(struct fdstore *s, struct hand *h, const json_t *root);

#endif
