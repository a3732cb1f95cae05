/* SPDX-License-Identifier: MIT */
/* Listeners, records of connections, and counters. */
#include <arpa/inet.h>
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include "base/clock.h"
#include "kern/kern_priv.h"

static int sock_u64(int fd, int option, uint64_t *ret)
{
	socklen_t n = sizeof(*ret);

	return getsockopt(fd, SOL_SOCKET, option, ret, &n) ? -errno : 0;
}

/* The mark is what the programs believe: it lives and dies with this very socket. */
static int mark(struct kern *k, int fd)
{
	static const struct tg_sock ours = {.flags = TG_SOCK_LISTENER};

	return bpf_map_update_elem(k->map[KM_SOCKS], &fd, &ours, BPF_ANY) ? -errno : 0;
}

static int listener_mark(struct kern *k, int fd, uint64_t *ret_cookie)
{
	int on = 0, r;
	socklen_t n = sizeof(on);

	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &on, &n))
		return -errno;
	if (!on)
		return -EINVAL;
	r = mark(k, fd);
	return r ? r : sock_u64(fd, SO_COOKIE, ret_cookie);
}

int kern_listener_set(struct kern *k, int fd4, int fd6, uint16_t port)
{
	struct tg_listener l = {.port_be = htons(port)};
	uint64_t netns;
	int r = port && (fd4 >= 0 || fd6 >= 0) ? 0 : -EINVAL;

	if (!r && fd4 >= 0)
		r = listener_mark(k, fd4, &l.cookie4);
	if (!r && fd6 >= 0)
		r = listener_mark(k, fd6, &l.cookie6);
	if (!r)
		r = sock_u64(fd4 >= 0 ? fd4 : fd6, SO_NETNS_COOKIE, &netns);
	if (!r)
		r = kern_put(k, KM_LISTENERS, &netns, &l);
	return r ? r : kern_agent_served(k, true);
}

static bool marked(struct kern *k, int fd)
{
	struct tg_sock s;

	return bpf_map_lookup_elem(k->map[KM_SOCKS], &fd, &s) == 0 && s.flags & TG_SOCK_LISTENER;
}

static bool is_cookie(int fd, uint64_t cookie)
{
	uint64_t own;

	return fd < 0 ? cookie == 0 : sock_u64(fd, SO_COOKIE, &own) == 0 && own == cookie;
}

bool kern_listener_is(struct kern *k, int fd4, int fd6, uint16_t port)
{
	struct tg_listener l;
	uint64_t netns;

	return marked(k, fd4) && (fd6 < 0 || marked(k, fd6)) &&
	       sock_u64(fd4, SO_NETNS_COOKIE, &netns) == 0 &&
	       bpf_map_lookup_elem(k->map[KM_LISTENERS], &netns, &l) == 0 &&
	       l.port_be == htons(port) && is_cookie(fd4, l.cookie4) && is_cookie(fd6, l.cookie6);
}

int kern_listener_delete(struct kern *k, uint64_t netns)
{
	(void)kern_drop(k, KM_RESOLVERS, &netns); /* it may have none */
	return kern_drop(k, KM_LISTENERS, &netns);
}

int kern_listener_each(struct kern *k, int (*fn)(void *ctx, uint64_t netns_cookie), void *ctx)
{
	uint64_t netns, next;
	bool more = !bpf_map_get_next_key(k->map[KM_LISTENERS], NULL, &next);
	int r = 0;

	while (more && !r) {
		netns = next;
		more = !bpf_map_get_next_key(k->map[KM_LISTENERS], &netns, &next);
		r = fn(ctx, netns);
	}
	return r;
}

static int forget(void *ctx, uint64_t netns)
{
	int r = kern_listener_delete(ctx, netns);

	return r == -ENOENT ? 0 : r;
}

int kern_listener_clear(struct kern *k)
{
	int r = kern_listener_each(k, forget, k);

	return r ? r : kern_agent_served(k, false);
}

int kern_dns_set(struct kern *k, uint32_t flags)
{
	struct tg_dns d = {.flags = flags};
	uint32_t zero = 0;

	return kern_put(k, KM_DNS, &zero, &d);
}

bool kern_resolver_is(struct kern *k, const int *fds, size_t n, uint16_t port)
{
	struct tg_resolver d;
	uint64_t netns;

	for (size_t i = 0; i < n; i++)
		if (fds[i] >= 0 && !marked(k, fds[i]))
			return false;
	return n && sock_u64(fds[0], SO_NETNS_COOKIE, &netns) == 0 &&
	       bpf_map_lookup_elem(k->map[KM_RESOLVERS], &netns, &d) == 0 &&
	       d.port_be == htons(port);
}

int kern_resolver_set(struct kern *k, const int *fds, size_t n, uint16_t port)
{
	struct tg_resolver d = {.port_be = htons(port)};
	uint64_t netns;
	int r = port && n && fds[0] >= 0 ? 0 : -EINVAL;

	for (size_t i = 0; !r && i < n; i++)
		if (fds[i] >= 0)
			r = mark(k, fds[i]);
	if (!r)
		r = sock_u64(fds[0], SO_NETNS_COOKIE, &netns);
	return r ? r : kern_put(k, KM_RESOLVERS, &netns, &d);
}

int kern_asker_fd(const struct kern *k)
{
	return k->asker_fd;
}

int kern_asker_get(int map_fd, const struct tg_asker *asker, struct tg_record *ret)
{
	return bpf_map_lookup_elem(map_fd, asker, ret) ? -errno : 0;
}

int kern_record_fd(const struct kern *k)
{
	return k->record_fd;
}

int kern_record_get(int map_fd, int sock_fd, struct tg_record *ret)
{
	return bpf_map_lookup_elem(map_fd, &sock_fd, ret) ? -errno : 0;
}

int kern_tuples_sweep(struct kern *k, uint64_t age_ns)
{
	uint64_t now = clock_boot_ns();
	struct tg_tuple key, next;
	struct tg_record r;
	int n = 0;
	bool more = !bpf_map_get_next_key(k->map[KM_TUPLES], NULL, &next);

	while (more) {
		key = next;
		more = !bpf_map_get_next_key(k->map[KM_TUPLES], &key, &next);
		if (bpf_map_lookup_elem(k->map[KM_TUPLES], &key, &r) || r.boot_ns + age_ns > now)
			continue;
		if (!bpf_map_delete_elem(k->map[KM_TUPLES], &key))
			n++;
	}
	return n;
}

int kern_counters(struct kern *k, uint64_t ret[TG_K_COUNT])
{
	int cpus = libbpf_num_possible_cpus();
	uint64_t *per_cpu, sum;
	int r = 0;

	if (cpus < 0)
		return cpus;
	per_cpu = calloc((size_t)cpus, sizeof(*per_cpu));
	if (!per_cpu)
		return -ENOMEM;
	for (uint32_t i = 0; i < TG_K_COUNT && !r; i++) {
		if (bpf_map_lookup_elem(k->map[KM_COUNTERS], &i, per_cpu))
			r = -errno;
		sum = 0;
		for (int c = 0; c < cpus; c++)
			sum += per_cpu[c];
		if (!r)
			ret[i] = sum;
	}
	free(per_cpu);
	return r;
}
