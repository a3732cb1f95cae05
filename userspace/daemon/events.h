/* SPDX-License-Identifier: MIT */
/*
 * authd's ear: the smallest HTTP server that can take a provider's events. One request a
 * connection, a few at once, each for a few seconds; a new one pushes the oldest out.
 */
#ifndef TIDEGATE_DAEMON_EVENTS_H
#define TIDEGATE_DAEMON_EVENTS_H

#include <uv.h>

#include "base/compiler.h"
#include "ident/oidc.h"

struct events;

struct events_ops {
	/* As oidc_event(). */
	int (*check)(void *ctx, struct slice token, bool *keys_tried, struct secevent *ret,
		     struct oidc_event_error *ret_error);
	/* As oidc_ping(). */
	bool (*ping)(void *ctx, const char *auth_req_id, struct slice bearer);
	/* A verified event that was not told before. */
	void (*event)(void *ctx, const struct secevent *ev);
};

/* Takes over @fd, which listens. NULL: no memory. */
struct events *events_new(uv_loop_t *loop, int fd, const struct events_ops *ops, void *ctx);
/* The memory goes when the loop has closed the handles. */
void events_free(struct events *e);

#endif
