/* SPDX-License-Identifier: MIT */
#include "ident/health.h"

#include "base/text.h"

void health_good(struct health *h, uint64_t wall_ns)
{
	if (!h->up)
		h->since_wall_ns = wall_ns;
	h->up = true;
	h->down = false;
	h->failures = 0;
	h->until_ms = 0;
}

bool health_in_backoff(const struct health *h, uint64_t now_ms)
{
	return h->down && now_ms < h->until_ms;
}

void health_bad(struct health *h, uint64_t now_ms, uint64_t wall_ns, uint32_t jitter,
		uint64_t retry_after_ms)
{
	uint64_t wait_ms = HEALTH_BACKOFF_MIN_MS;

	if (health_in_backoff(h, now_ms))
		return;
	if (!h->down)
		h->since_wall_ns = wall_ns;
	h->up = false;
	h->down = true;
	for (unsigned i = 0; i < h->failures && wait_ms < HEALTH_BACKOFF_MAX_MS; i++)
		wait_ms *= 2;
	if (wait_ms > HEALTH_BACKOFF_MAX_MS)
		wait_ms = HEALTH_BACKOFF_MAX_MS;
	/* Up to a quarter more: hosts that failed together do not come back together. */
	wait_ms += jitter % (wait_ms / 4);
	h->until_ms = now_ms + (wait_ms > retry_after_ms ? wait_ms : retry_after_ms);
	h->failures++;
}

void health_note(struct health *h, uint64_t wall_ns, const char *error, const char *todo)
{
	(void)snprintf(h->error, sizeof(h->error), "%s", error);
	h->error_wall_ns = wall_ns;
	h->todo = todo;
}

static void describe_time(struct jsonw *w, const char *name, uint64_t wall_ns)
{
	char text[32];

	if (!wall_ns)
		return;
	text_time(wall_ns, text, sizeof(text));
	jsonw_kv_string(w, name, text);
}

void health_describe(const struct health *h, uint64_t now_ms, struct jsonw *w)
{
	jsonw_kv_string(w, "state", h->up ? "up" : h->down ? "down" : "unknown");
	describe_time(w, "since", h->since_wall_ns);
	if (h->down) {
		jsonw_kv_u64(w, "failures", h->failures);
		jsonw_kv_u64(w, "next_try_ms", h->until_ms > now_ms ? h->until_ms - now_ms : 0);
	}
	if (h->error[0]) {
		jsonw_kv_string(w, "last_error", h->error);
		describe_time(w, "last_error_at", h->error_wall_ns);
		if (h->todo)
			jsonw_kv_string(w, "todo", h->todo);
	}
}
