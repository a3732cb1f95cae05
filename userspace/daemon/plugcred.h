/* SPDX-License-Identifier: MIT */
/*
 * keyd's side of credentials that a program tells: asked for when somebody logs in, kept
 * as long as the program says, and asked for again when a server refused them. See
 * tidegate.yaml(5), CREDENTIALS.
 */
#ifndef TIDEGATE_DAEMON_PLUGCRED_H
#define TIDEGATE_DAEMON_PLUGCRED_H

#include "daemon/ipc.h"
#include "daemon/vault.h"

enum { PLUGCRED_OUTPUT_MAX = 16 << 10, PLUGCRED_USER_MAX = 63 };

struct plugcred;

/* What a program printed. */
struct plugcred_output {
	char user[PLUGCRED_USER_MAX + 1]; /* "": it did not say */
	struct buf password;		  /* the caller wipes */
	uint64_t expires_s;		  /* 0: it did not say */
};

/* NULL: no memory. Answers and questions go to @ipc. */
struct plugcred *plugcred_new(struct ipc *ipc);
void plugcred_free(struct plugcred *p);
/* Answers question @id (KEY_LOGIN) now or when the program has ended. */
void plugcred_login(struct plugcred *p, const struct cfg_credential *c, uint64_t id);
/* The program has ended: @err, or what it wrote is in @fd, which the caller closes. */
void plugcred_told(struct plugcred *p, const struct cfg_credential *c, int err, int fd);
/* What is kept is not good any more. */
void plugcred_stale(struct plugcred *p, struct slice name);
struct secret *plugcred_find(const struct plugcred *p, struct slice target);

/*
 * One line with the password, or a JSON object with "password" and, if need be, "user" and
 * "expires_in" (seconds). NULL and *ret, or why it is neither.
 */
MUST_CHECK const char *plugcred_parse(struct slice text, struct plugcred_output *ret);

#endif
