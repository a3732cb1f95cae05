/* SPDX-License-Identifier: MIT */
/* The ring buffer by which the programs tell of namespaces without a listener. */
#include <errno.h>
#include <stdlib.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "kern/kern_priv.h"

struct kern_events {
	struct ring_buffer *ring;
	void (*fn)(void *ctx, const struct tg_netns_event *ev);
	void *ctx;
};

static int on_sample(void *ctx, void *data, size_t n)
{
	struct kern_events *e = ctx;
	struct tg_netns_event ev;

	if (n >= sizeof(ev)) {
		memcpy(&ev, data, sizeof(ev));
		e->fn(e->ctx, &ev);
	}
	return 0;
}

int kern_events_new(struct kern *k, void (*fn)(void *ctx, const struct tg_netns_event *ev),
		    void *ctx, struct kern_events **ret)
{
	struct kern_events *e = calloc(1, sizeof(*e));
	int r;

	if (!e)
		return -ENOMEM;
	e->fn = fn;
	e->ctx = ctx;
	e->ring = ring_buffer__new(k->map[KM_NETNS_RING], on_sample, e, NULL);
	if (!e->ring) {
		r = -errno;
		free(e);
		return r;
	}
	*ret = e;
	return 0;
}

void kern_events_free(struct kern_events *e)
{
	if (!e)
		return;
	ring_buffer__free(e->ring);
	free(e);
}

int kern_events_fd(const struct kern_events *e)
{
	return ring_buffer__epoll_fd(e->ring);
}

int kern_events_read(struct kern_events *e)
{
	return ring_buffer__consume(e->ring);
}

int kern_events_lost(struct kern *k, uint64_t *ret)
{
	uint64_t n[TG_K_COUNT];
	int r = kern_counters(k, n);

	if (!r)
		*ret = n[TG_K_NETNS_LOST];
	return r;
}

int kern_events_quiet(struct kern *k, uint64_t netns_cookie, uint64_t boot_ns)
{
	int map = k->map[KM_NETNS_QUIET];

	return bpf_map_update_elem(map, &netns_cookie, &boot_ns, BPF_ANY) ? -errno : 0;
}
