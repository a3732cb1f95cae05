/* SPDX-License-Identifier: MIT */
/*
 * BPF programs that the check of a new binary has loaded, on their way to that binary's start in
 * the parent's place: over the check's output to the binary before, which does not look into them,
 * and in its state. So no verifier runs while connections wait.
 */
#ifndef TIDEGATE_DAEMON_READY_H
#define TIDEGATE_DAEMON_READY_H

#include <jansson.h>

#include "base/buf.h"
#include "base/compiler.h"

struct hand;
struct kern_progs;

enum { READY_MAX = 64 };

/* What the binary before holds: a text of the new one's and descriptors. */
struct ready {
	int fds[READY_MAX];
	size_t n;
};

void ready_done(struct ready *r);
/* Writes a text and the descriptors to @fd, a socket; with an older binary it is none: not sent. */
void ready_send(int fd, const struct kern_progs *progs);
/* As read(): descriptors that came along are added, close-on-exec. */
ssize_t ready_receive(int fd, struct ready *r, char *dst, size_t cap);
void ready_save(struct hand *h, json_t *root, const struct ready *r, struct slice text);
/* To be closed; with n 0 if there are none, or they are not understood. */
void ready_take(struct hand *h, const json_t *root, struct kern_progs *ret);

#endif
