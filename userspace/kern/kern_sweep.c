/* SPDX-License-Identifier: MIT */
/* Runs the iterators that close what no connect hook has judged. */
#include <errno.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "kern/kern_priv.h"

struct sink {
	void (*fn)(void *ctx, const struct tg_swept *s);
	void *ctx;
	int n;
};

/* Reads an iterator to its end; records may be cut by a read's end. */
static int drain(int fd, struct sink *sink)
{
	uint8_t data[128 * sizeof(struct tg_swept)];
	struct tg_swept s;
	size_t have = 0, at;
	ssize_t n;

	for (;;) {
		n = read(fd, data + have, sizeof(data) - have);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0)
			return n < 0 ? -errno : 0;
		have += (size_t)n;
		for (at = 0; have - at >= sizeof(s); at += sizeof(s)) {
			memcpy(&s, data + at, sizeof(s));
			sink->n++;
			if (sink->fn)
				sink->fn(sink->ctx, &s);
		}
		memmove(data, data + at, have - at);
		have -= at;
	}
}

static int iterate(const struct kern *k, const char *prog, struct sink *sink)
{
	char path[KERN_PATH_MAX];
	int fd, link, iter, r = kern_path(path, sizeof(path), "%s/progs/%s", k->dir, prog);

	if (r)
		return r;
	fd = bpf_obj_get(path);
	if (fd < 0)
		return errno == ENOENT ? -EOPNOTSUPP : -errno; /* not loaded on this kernel */
	link = bpf_link_create(fd, 0, BPF_TRACE_ITER, NULL);
	r = link < 0 ? -errno : 0;
	(void)close(fd);
	if (r)
		return r;
	iter = bpf_iter_create(link);
	r = iter < 0 ? -errno : drain(iter, sink);
	if (iter >= 0)
		(void)close(iter);
	(void)close(link);
	return r;
}

int kern_sweep_held(struct kern *k)
{
	struct sink none = {0};

	return iterate(k, "tg_sweep_held", &none);
}

int kern_sweep_tcp(struct kern *k, void (*fn)(void *ctx, const struct tg_swept *s), void *ctx)
{
	struct sink sink = {.fn = fn, .ctx = ctx};
	int r = iterate(k, "tg_sweep_tcp", &sink);

	return r ? r : sink.n;
}

int kern_sweep(struct kern *k, void (*fn)(void *ctx, const struct tg_swept *s), void *ctx)
{
	int r = kern_sweep_held(k);

	return r ? r : kern_sweep_tcp(k, fn, ctx);
}
