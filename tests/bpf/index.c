/* SPDX-License-Identifier: MIT */
/*
 * The index lets sockets by that nobody guards. So each row has one that must not come by: whose
 * slot is shared, whose neighbour has gone, whose index was built anew, lost or spoiled.
 */
#include <errno.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "env.h"
#include "kern/kern_priv.h"

enum { OTHER = TARGET + 1, SLOT = TG_PORT_SLOTS };

static struct dial to_target = {.ip = ADDR4, .port = PORT_TARGET};
static struct dial to_free = {.ip = ADDR4, .port = PORT_FREE};

static bool steered_to(struct dial *d, uint32_t target)
{
	struct tg_record r;
	int c;

	CHECK_EQ(client("/agents", 0, dial, d), 0);
	c = accept_in(env.listen4, 1000);
	CHECK(c >= 0);
	CHECK_EQ(kern_record_get(kern_record_fd(env.k), c, &r), 0);
	close(c);
	CHECK_EQ(r.target, target);
	return true;
}

static bool passes(struct dial *d, int server)
{
	int c;

	CHECK_EQ(client("/agents", 0, dial, d), 0);
	c = accept_in(server, 1000);
	CHECK(c >= 0);
	close(c);
	return true;
}

static struct tg_addr_key key4(const char *ip, uint16_t port, unsigned int bits)
{
	return key_of(ip, port, IPPROTO_TCP, bits);
}

static bool target_other(void)
{
	struct tg_target_state state = {.mode = TG_MODE_STEER};

	CHECK_EQ(kern_target_set(env.k, OTHER, &state), 0);
	return true;
}

/* The other one on that port. */
static bool drop_ipv6(void)
{
	struct tg_addr_key key = key_of(ADDR6, PORT_TARGET, IPPROTO_TCP, 128);

	CHECK_EQ(kern_addr_delete(env.k, &key), 0);
	return true;
}

static uint8_t flags(uint16_t port)
{
	return env.k->index->port[port % SLOT];
}

/* Two targets on a port: it is looked at until both are gone. */
static bool counts(void)
{
	struct tg_addr_key a = key4(ADDR4, PORT_TARGET, 32), b = key4("10.77.0.9", PORT_TARGET, 32);
	uint32_t one = 1u << TG_PORT_TCP_ONE;

	CHECK_EQ(env.k->index->ready, TG_INDEX_PORTS | TG_INDEX_CGROUPS);
	CHECK(flags(PORT_FREE) == 0 && drop_ipv6());
	CHECK_EQ(kern_addr_set(env.k, &b, TARGET), 0);
	CHECK_EQ(kern_addr_set(env.k, &b, TARGET), 0); /* the same once more counts once */
	CHECK_EQ(kern_addr_delete(env.k, &b), 0);
	CHECK_EQ(kern_addr_delete(env.k, &b), -ENOENT);
	CHECK(flags(PORT_TARGET) & one);
	CHECK(steered_to(&to_target, TARGET));
	CHECK_EQ(kern_addr_delete(env.k, &a), 0);
	CHECK(!(flags(PORT_TARGET) & one));
	CHECK(passes(&to_target, env.server4));
	return true;
}

/* A port whose slot it shares has no target, and one that shares a target's is not one. */
static bool shared_slot(void)
{
	struct dial d = {.ip = ADDR4, .port = PORT_TARGET + SLOT};
	struct tg_addr_key key = key4(ADDR4, PORT_TARGET + SLOT, 32);
	int server = listener_on(ADDR4, PORT_TARGET + SLOT);

	CHECK(server >= 0);
	CHECK(passes(&d, server));
	CHECK_EQ(kern_addr_set(env.k, &key, TARGET), 0);
	CHECK(steered_to(&d, TARGET));
	CHECK_EQ(kern_addr_delete(env.k, &key), 0);
	CHECK(passes(&d, server));
	CHECK(steered_to(&to_target, TARGET));
	close(server);
	return true;
}

/* One address before its net, a net before any port, one address before a net there too. */
static bool order(void)
{
	struct tg_addr_key one = key4(ADDR4, PORT_FREE, 32), net = key4("10.77.0.0", PORT_FREE, 24);
	struct tg_addr_key any = key4("10.0.0.0", 0, 8), any_one = key4(ADDR4, 0, 32);

	CHECK(target_other());
	CHECK_EQ(kern_addr_set(env.k, &any, TARGET), 0);
	CHECK(steered_to(&to_free, TARGET));
	CHECK_EQ(kern_addr_set(env.k, &any_one, OTHER), 0);
	CHECK(steered_to(&to_free, OTHER));
	CHECK_EQ(kern_addr_set(env.k, &net, TARGET), 0);
	CHECK(steered_to(&to_free, TARGET));
	CHECK_EQ(kern_addr_set(env.k, &one, OTHER), 0);
	CHECK(steered_to(&to_free, OTHER));
	CHECK_EQ(kern_addr_delete(env.k, &one), 0);
	CHECK(steered_to(&to_free, TARGET));
	CHECK_EQ(kern_addr_delete(env.k, &net), 0);
	CHECK(steered_to(&to_free, OTHER));
	CHECK_EQ(kern_addr_delete(env.k, &any_one), 0);
	CHECK(steered_to(&to_free, TARGET));
	CHECK_EQ(kern_addr_delete(env.k, &any), 0);
	CHECK(passes(&to_free, env.free4));
	CHECK_EQ(env.k->index->any, 0);
	return true;
}

/* Before it is built, and where it cannot be: everything is looked up. */
static bool not_ready(void)
{
	struct tg_addr_key net = key4("10.77.0.0", PORT_FREE, 24);
	struct tg_index *x = env.k->index;

	x->ready = 0;
	memset(x->port, 0, sizeof(x->port));
	memset(x->cgroup, 0, sizeof(x->cgroup));
	CHECK_EQ(kern_addr_set(env.k, &net, TARGET), 0);
	CHECK(steered_to(&to_target, TARGET) && steered_to(&to_free, TARGET));
	CHECK_EQ(client("/plain", 0, dial, &to_target), 0);
	CHECK_EQ(accept_in(env.listen4, 0), -EAGAIN);
	return true;
}

static bool load_again(void)
{
	struct buf error;
	int r;

	kern_close(env.k);
	env.k = NULL;
	buf_init(&error, 512);
	r = kern_load(&env.paths, &env.k, &error);
	buf_done(&error);
	CHECK_EQ(r, 0);
	return true;
}

/* A version that knows no index has added one address, deleted another and bound a cgroup. */
static bool taken_over(void)
{
	struct tg_addr_key old = key4(ADDR4, PORT_TARGET, 32), added = key4(ADDR4, PORT_FREE, 32);
	uint32_t target = TARGET, agent = AGENT + 1;
	uint64_t id;

	CHECK(cgroup_make("/agents/in") && drop_ipv6());
	CHECK_EQ(kern_cgroup_id(env.k, "/agents/in", false, &id), 0);
	CHECK_EQ(bpf_map_update_elem(env.k->map[KM_ADDRS], &added, &target, BPF_ANY), 0);
	CHECK_EQ(bpf_map_delete_elem(env.k->map[KM_ADDRS], &old), 0);
	CHECK_EQ(bpf_map_update_elem(env.k->map[KM_CGROUPS], &id, &agent, BPF_ANY), 0);
	CHECK(!kern_index_has_cgroup(env.k, id));
	CHECK(load_again());
	CHECK(kern_index_has_cgroup(env.k, id));
	CHECK(steered_to(&to_free, TARGET) && passes(&to_target, env.server4));
	CHECK_EQ(flags(PORT_TARGET), 0);
	CHECK_EQ(kern_addr_delete(env.k, &added), 0);
	CHECK_EQ(flags(PORT_FREE), 0);
	CHECK(cgroup_remove("/agents/in"));
	return true;
}

static uint32_t all_cgroups(void)
{
	uint32_t n = 0;

	for (size_t i = 0; i < TG_CGROUP_SLOTS; i++)
		n += env.k->index->cgroup[i];
	return n;
}

/* Made, removed and made again, by path and by program: as many as are in the map. */
static bool cgroups(void)
{
	uint32_t before = all_cgroups();
	uint64_t id;

	CHECK_EQ(kern_agent_cgroup_set(env.k, "/later", AGENT + 2), 0);
	CHECK_EQ(all_cgroups(), before);
	CHECK(cgroup_make("/later"));
	CHECK_EQ(all_cgroups(), before + 1);
	CHECK_EQ(kern_agents_refresh(env.k), 0);
	CHECK_EQ(all_cgroups(), before + 1);
	CHECK(cgroup_remove("/later") && cgroup_make("/later"));
	CHECK_EQ(all_cgroups(), before + 2); /* a socket may have outlived the first */
	CHECK_EQ(kern_cgroup_id(env.k, "/later", false, &id), 0);
	CHECK(kern_index_has_cgroup(env.k, id));
	CHECK_EQ(kern_agent_cgroup_delete(env.k, "/later"), 0);
	CHECK_EQ(all_cgroups(), before);
	CHECK(load_again());
	CHECK_EQ(all_cgroups(), before);
	CHECK(cgroup_remove("/later"));
	return true;
}

/* A cgroup that somebody took out is back within a second, though no map has changed. */
static bool put_back(void)
{
	uint64_t id;

	CHECK_EQ(kern_cgroup_id(env.k, "/agents", false, &id), 0);
	env.k->index->cgroup[tg_index_cgroup_slot(id)] = 0;
	CHECK_EQ(kern_agents_refresh(env.k), 0);
	CHECK(steered_to(&to_target, TARGET));
	return true;
}

const struct row index_rows[] = {
	{"index: two targets on a port", counts},
	{"index: a slot that ports share", shared_slot},
	{"index: addresses, nets, any port", order},
	{"index: not there yet", not_ready},
	{"index: taken over from a version without", taken_over},
	{"index: counts cgroups", cgroups},
	{"index: a cgroup that was taken out", put_back},
	{0},
};
