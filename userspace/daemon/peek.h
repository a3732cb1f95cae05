/* SPDX-License-Identifier: MIT */
/*
 * Reads what belongs to an agent's process: a file in its mount namespace, a variable of its
 * environment, the digest of its program. The parent never opens such a file itself: a throw-away
 * child does, as the agent's own user and without capabilities, and is killed when it takes too long.
 */
#ifndef TIDEGATE_DAEMON_PEEK_H
#define TIDEGATE_DAEMON_PEEK_H

#include "daemon/parent.h"

enum peek_what { PEEK_FILE, PEEK_ENV, PEEK_DIGEST };

enum { PEEK_MAX = 16 << 10, PEEK_NAME = 512 };

struct peek_job {
	enum peek_what what;
	uint32_t agent; /* id: the children of one agent do not keep the others' from running */
	uint32_t pid, uid;
	uint64_t started_boot_ns; /* tells the process from another with its pid */
	char name[PEEK_NAME];	  /* of the file or the variable */
};

/* The answer to PEEK_DIGEST. */
struct peek_digest {
	uint64_t dev, inode, size, mtime_ns, ctime_ns;
	uint8_t sha256[32];
};

/* @error: errno; @bytes are wiped after the call. */
typedef void peek_done(void *ctx, int error, struct slice bytes);

struct peek;
/* @done is called later, once, unless cancelled. NULL: no memory, or no process. */
struct peek *peek_start(struct parent *p, const struct peek_job *job, peek_done *done,
			    void *ctx);
void peek_cancel(struct peek *r);
/* What @error means for a file or variable, in words. */
const char *peek_words(int error);

#endif
