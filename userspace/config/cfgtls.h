/* SPDX-License-Identifier: MIT */
/* TLS on the way to a target: see TLS in tidegate.yaml(5). Part of config.h. */
#ifndef TIDEGATE_CONFIG_CFGTLS_H
#define TIDEGATE_CONFIG_CFGTLS_H

#include <stdbool.h>
#include <stdint.h>

enum { CFG_TLS_PIN = 32 };

struct cfg_tls {
	bool verified;	     /* false: off */
	bool only_13;	     /* not TLS 1.2 */
	const char *ca_file; /* PEM */
	const char *server_name; /* NULL: what `address` says */
	const char *const *pin; /* as written; NULL: any key */
	uint32_t npin;
	uint8_t (*pins)[CFG_TLS_PIN]; /* the same */
	/* Whose certificate it has to be: one of these (".x": any below x); NULL: the address's. */
	const char *const *names;
	uint32_t line, column; /* of ca_file */
};

#endif
