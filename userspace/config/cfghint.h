/* SPDX-License-Identifier: MIT */
/*
 * Templates of `login_hint`: plain text, or JSON for providers that take it so. What is put into
 * them is an agent's word, so of JSON only whole strings may hold it.
 */
#ifndef TIDEGATE_CONFIG_CFGHINT_H
#define TIDEGATE_CONFIG_CFGHINT_H

#include <jansson.h>

enum cfghint {
	CFGHINT_PLAIN,
	CFGHINT_JSON,
	CFGHINT_BROKEN, /* it begins as JSON, and is none, or a name in it holds a placeholder */
};

/* *ret: what it says, the caller's, or NULL if it is no JSON. */
enum cfghint cfghint_read(const char *template, json_t **ret);

#endif
