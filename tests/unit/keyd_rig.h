/* SPDX-License-Identifier: MIT */
/* keyd as a process, for tests that play the parent. */
#ifndef TIDEGATE_KEYD_RIG_H
#define TIDEGATE_KEYD_RIG_H

#include <openssl/evp.h>
#include <sys/types.h>

#include "base/compiler.h"
#include "daemon/ipc.h"

extern char keyd_dir[64];
extern EVP_PKEY *keyd_key; /* P-256, in "key.pem" */

/* The other end of keyd's pair. */
struct keyd_peer {
	uv_loop_t loop;
	struct ipc *ipc;
	pid_t pid;
	uint64_t id;
	/* The last answer. */
	bool ready, answered, gone;
	bool plugin; /* it wants a program to be run */
	uint32_t error;
	uint8_t bytes[2][4096];
	size_t n[2];
};

const char *keyd_path(const char *name);
void keyd_write(const char *name, const char *text, mode_t mode);
/* A configuration with @client, the text of a section, in front. The caller frees. */
char *keyd_config(const char *client);
char *keyd_idp(const char *client);
void keyd_send_config(struct keyd_peer *p, const char *text);
void keyd_start(struct keyd_peer *p, const char *config);
int keyd_stop(struct keyd_peer *p);
/* Begins a question with one text; more may be put. */
void keyd_question(struct keyd_peer *p, enum ipc_type type, const char *first);
/* Sends what has been put, and waits. */
uint32_t keyd_ask(struct keyd_peer *p);

int keyd_set_up(void **state);
int keyd_fresh(void **state);
int keyd_tear_down(void **state);

#endif
