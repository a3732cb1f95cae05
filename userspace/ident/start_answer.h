/* SPDX-License-Identifier: MIT */
/*
 * What a provider answers where a person's decision is asked for: CIBA Core 1.0 section 7.3 and
 * RFC 8628 section 3.2. Pure.
 */
#ifndef TIDEGATE_IDENT_START_ANSWER_H
#define TIDEGATE_IDENT_START_ANSWER_H

#include <jansson.h>

#include "base/compiler.h"
#include "base/slice.h"

enum {
	START_HANDLE_MAX = 4096,
	START_CODE_MAX = 64,
	START_INTERVAL_MAX_MS = 60 * 1000,
};

struct start_answer {
	json_t *json; /* owns the rest */
	bool device;
	const char *handle;		     /* auth_req_id or device_code: a secret */
	const char *code, *uri, *uri_complete; /* of a device; uri_complete may be NULL */
	uint64_t expires_ms, interval_ms;
};

/*
 * @poll_ms: the interval if the provider names none. @allow_http: the page may be an http URL on
 * loopback. 0, or -EINVAL with a message.
 */
MUST_CHECK int start_answer_parse(struct slice body, bool device, bool allow_http,
				  uint64_t poll_ms, struct start_answer *ret, char *error,
				  size_t error_cap);
/* Overwrites the handle; safe on a zeroed one. */
void start_answer_done(struct start_answer *a);

#endif
