/* SPDX-License-Identifier: MIT */
/* Logins that agents do not have: see CREDENTIALS in tidegate.yaml(5). Part of config.h. */
#ifndef TIDEGATE_CONFIG_CFGCRED_H
#define TIDEGATE_CONFIG_CFGCRED_H

#include <stdbool.h>
#include <stdint.h>

/*
 * One element of `credentials:`: a login to servers that agents do not have. Its secret is
 * in a file, told by a program, or the provider's token for the grant; keyd alone keeps it.
 */
struct cfg_credential {
	const char *name;
	const char *user;	   /* NULL: the program or the token tells */
	const char *password_file; /* or: */
	const char *const *exec;   /* program and arguments, NULL-terminated */
	const char *run_as;	   /* account of the program */
	uint64_t timeout_ms;	   /* of the program; default 10 s */
	uint64_t keep_ms;	   /* how long its answer is used if it does not say; default 5 m */
	/* A way: the token that it brought for the grant is the password. NULL: none is. */
	const char *grant_token;
	bool clear_text;	   /* a server may ask for the password itself */
	uint32_t line;
};

#endif
