/* SPDX-License-Identifier: MIT */
/*
 * Secrets in files: read once by keyd, while it still may, and kept in locked
 * memory. A file that others could read is not used, and says so.
 */
#ifndef TIDEGATE_DAEMON_VAULT_H
#define TIDEGATE_DAEMON_VAULT_H

#include <openssl/evp.h>
#include <sys/stat.h>

#include "base/buf.h"
#include "base/compiler.h"
#include "base/list.h"
#include "config/config.h"
#include "ident/scram.h"

enum { SECRET_MAX = 16 << 10, PASSWORD_MAX = 1000 };

/* Tells whether a file is still the one that was read. */
struct secret_stamp {
	dev_t dev;
	ino_t ino;
	off_t size;
	struct timespec modified, changed;
};

struct secret {
	struct list link;
	/* Whose login: a target's name, or "@CREDENTIAL:USER"; NULL: the client at the provider. */
	char *target, *user;
	char *path; /* or the program that told it */
	int error; /* 0, or why it cannot be used, negative errno */
	bool is_key; /* not a text */
	struct secret_stamp stamp;
	struct buf text; /* password or client secret */
	EVP_PKEY *key;	 /* or the client's key, at the provider or, with a target, there */
	/* Of a TLS client: not secret, but to be told by who has the key. */
	char *certificate_path;
	struct secret_stamp certificate_stamp;
	struct buf chain; /* see tls_chain_read() */
	/* SCRAM's salted password for the last salt: thousands of hashes saved. */
	bool has_salted;
	struct scram_salt salt;
	uint8_t salted[SCRAM_KEY];
};

/* Who may own such a file, besides root. */
struct secret_reader {
	uid_t uid;
	gid_t gid;
};

/* Everything that the configuration names; what cannot be read is logged and kept with its error.
 */
MUST_CHECK int vault_load(const struct config *cfg, struct secret_reader who, struct list *ret);
/* Wipes. */
void vault_free(struct list *secrets);

/* True if a load now would give the same; @secrets were loaded for @old. */
bool vault_same(const struct list *secrets, const struct config *old, const struct config *cfg);

struct secret *vault_of_target(const struct list *secrets, struct slice target);
struct secret *vault_of_client(const struct list *secrets);
/* The key of a credential's certificate. */
struct secret *vault_key_of_target(const struct list *secrets, struct slice target);

/* As it is named in questions to keyd; NULL: no memory. The caller frees. */
char *vault_credential_target(const char *credential, const char *user);
/* A secret that came by itself, at the end of @into, with room for the text; NULL: no memory. */
struct secret *vault_add(struct list *into, const char *target, const char *user, const char *path);
void vault_remove(struct secret *s);
/* Takes off the line's end; NULL, or why it is no password. */
const char *vault_trim_password(struct buf *b);

/* 0; or why the file must not be used: -EPERM (owner, mode), -EINVAL, -EFBIG, or of open(). */
MUST_CHECK int vault_read(const char *path, struct secret_reader who, struct buf *ret,
			  struct secret_stamp *ret_stamp, const char **ret_why);

#endif
