/* SPDX-License-Identifier: MIT */
/* Logins that agents do not have: see CREDENTIALS in tidegate.yaml(5). Part of config.h. */
#ifndef TIDEGATE_CONFIG_CFGCRED_H
#define TIDEGATE_CONFIG_CFGCRED_H

#include <stdbool.h>
#include <stdint.h>

/* What belongs to a grant: its name alone does not say who logs in. */
#define cfg_credential_granted(c) ((c)->grant_token || (c)->role.admin)

/* A role that is made for one grant and dropped at its end. */
struct cfg_role {
	const char *admin; /* name of the credential that makes it; NULL: none is made */
	const struct cfg_credential *login; /* that of the name */
	const char *database;		    /* where it gets its rights; NULL: that of the session */
	const char *const *grants; /* roles, or GRANT statements with {role}; NULL-terminated */
	const char *owner;	   /* of what it has made, afterwards; NULL: the administrator */
	bool drop_owned;	   /* or it is dropped */
	uint32_t connections;	   /* at the same time */
	uint64_t max_ms;	   /* where no approval gives it an end */
	uint64_t sweep_ms;	   /* between two looks for what was left behind */
};

/*
 * One element of `credentials:`: a login to servers that agents do not have. Its secret is
 * in a file, told by a program, or the provider's token for the grant; keyd alone keeps it.
 */
struct cfg_credential {
	const char *name;
	const char *user;	   /* NULL: the program or the token tells */
	const char *password_file; /* or: */
	/* Of a client certificate, alone or beside the password. */
	const char *certificate_file, *key_file;
	const char *const *exec;   /* program and arguments, NULL-terminated */
	const char *run_as;	   /* account of the program */
	uint64_t timeout_ms;	   /* of the program; default 10 s */
	uint64_t keep_ms;	   /* how long its answer is used if it does not say; default 5 m */
	/* A way: the token that it brought for the grant is the password. NULL: none is. */
	const char *grant_token;
	struct cfg_role role;
	bool clear_text;	   /* a server may ask for the password itself */
	uint32_t line;
};

#endif
