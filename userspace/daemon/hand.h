/* SPDX-License-Identifier: MIT */
/*
 * The parent's state on its way to the process that it executes in its place: JSON in a memory
 * file, and descriptors, which keep their numbers. Written and read by the modules whose state it
 * is; what is missing or of a wrong type is remembered, and checked once.
 *
 * HANDOVER_VERSION counts changes that an older writer's state does not survive. A new key is
 * no such change if its reader does without it (hand_has()).
 */
#ifndef TIDEGATE_DAEMON_HAND_H
#define TIDEGATE_DAEMON_HAND_H

#include <jansson.h>

#include "base/buf.h"
#include "base/compiler.h"

enum { HANDOVER_VERSION = 1 };

struct hand {
	int *fds; /* that are to survive the execve() */
	size_t nfds;
	char why[80]; /* empty: all is well */
};

void hand_done(struct hand *h);
/* The first failure is the one that is told. */
void hand_fail(struct hand *h, const char *what);

/* --- writing */
void hand_put(struct hand *h, json_t *o, const char *key, json_t *stolen);
void hand_put_u64(struct hand *h, json_t *o, const char *key, uint64_t v);
void hand_put_bool(struct hand *h, json_t *o, const char *key, bool v);
/* Any bytes, also such as are no UTF-8. */
void hand_put_slice(struct hand *h, json_t *o, const char *key, struct slice s);
/* NULL is left out. */
void hand_put_str(struct hand *h, json_t *o, const char *key, const char *s);
/* The descriptor goes along; -1 is left out. */
void hand_put_fd(struct hand *h, json_t *o, const char *key, int fd);
/* All descriptors that were put survive an execve(), or no more. */
void hand_keep_fds(const struct hand *h, bool keep);

/* --- reading */
bool hand_has(const json_t *o, const char *key);
uint64_t hand_u64(struct hand *h, const json_t *o, const char *key);
bool hand_bool(struct hand *h, const json_t *o, const char *key);
/* What was left out is "". A text that does not fit is a failure. */
void hand_str(struct hand *h, const json_t *o, const char *key, char *dst, size_t cap);
/* NULL if it was left out. */
char *hand_dup(struct hand *h, const json_t *o, const char *key);
void hand_buf(struct hand *h, const json_t *o, const char *key, struct buf *ret);
/* Exactly @n bytes. */
void hand_bytes(struct hand *h, const json_t *o, const char *key, void *dst, size_t n);
/* Now the caller's, close-on-exec again; -1 if it was left out. */
int hand_fd(struct hand *h, const json_t *o, const char *key);
/* A list; never NULL. */
const json_t *hand_list(struct hand *h, const json_t *o, const char *key);

#endif
