/* SPDX-License-Identifier: MIT */
/* What somebody else does to our links, pins and maps is found within one look and put right. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <linux/filter.h>

#include "base/clock.h"
#include "env.h"
#include "kern/kern_priv.h"
#include "kern/kern_watch.h"

static struct dial to_target = {.ip = ADDR4, .port = PORT_TARGET};

static struct {
	int n[KERN_FAULT_COUNT], repaired, all;
	char text[256];
} seen;

static void note(void *ctx, const struct kern_finding *f)
{
	seen.n[f->fault]++;
	seen.repaired += f->repaired;
	seen.all++;
	snprintf(seen.text, sizeof(seen.text), "%s", f->text);
}

static void look(void)
{
	memset(&seen, 0, sizeof(seen));
	if (kern_watch_tick(env.k, note, NULL))
		seen.all = -1;
}

/* After a look that took long the maps rest for forty times that: seconds in an emulated machine. */
static void look_at_maps(void)
{
	unsigned int before = kern_shadow_looks(env.k);

	look();
	for (int i = 0; i < 1200 && kern_shadow_looks(env.k) == before; i++) {
		usleep(50000);
		look();
	}
}

/* A process that owns the pins, with nothing of an earlier row held. */
static bool begin(void)
{
	struct buf error;
	int r;

	kern_close(env.k);
	env.k = NULL;
	buf_init(&error, 512);
	r = kern_load(&env.paths, &env.k, &error);
	if (!r)
		r = kern_watch_start(env.k, &error);
	if (r)
		printf("          %.*s\n", (int)error.n, (const char *)buf_data(&error));
	buf_done(&error);
	CHECK_EQ(r, 0);
	look();
	if (seen.all)
		printf("          %s\n", seen.text);
	CHECK_EQ(seen.all, 0);
	return true;
}

/* All of it is as before: nothing more is found, and agents are steered. */
static bool as_before(void)
{
	struct tg_record rec;
	struct buf error;
	int c, r;

	look();
	if (seen.all)
		printf("          %s\n", seen.text);
	CHECK_EQ(seen.all, 0);
	buf_init(&error, 512);
	r = kern_guarding(env.k, &error);
	buf_done(&error);
	CHECK_EQ(r, 0);
	CHECK_EQ(client("/agents", 0, dial, &to_target), 0);
	c = accept_in(env.listen4, 1000);
	CHECK(c >= 0);
	CHECK_EQ(kern_record_get(kern_record_fd(env.k), c, &rec), 0);
	close(c);
	return true;
}

static void pin_path(char *dst, size_t cap, const char *name)
{
	snprintf(dst, cap, "%s/%s/%s", env.bpf_dir, TG_ABI_VERSION, name);
}

static int pinned(const char *name)
{
	char path[256];

	pin_path(path, sizeof(path), name);
	return bpf_obj_get(path);
}

static int unpin(const char *name)
{
	char path[256];

	pin_path(path, sizeof(path), name);
	return unlink(path) ? -errno : 0;
}

/* Says yes to everything. */
static int foreign_prog(enum bpf_attach_type type)
{
	static const struct bpf_insn insns[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1},
		{.code = BPF_JMP | BPF_EXIT},
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = type);

	return bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "foreign", "GPL", insns,
			     ARRAY_SIZE(insns), &opts);
}

static bool watch_own_writes(void)
{
	CHECK(begin());
	CHECK(target_mode(TG_MODE_BLOCK, 0));
	CHECK(protect("10.99.0.1", 99, IPPROTO_TCP));
	CHECK_EQ(kern_agent_uid_set(env.k, UID_AGENT, AGENT_UID), 0);
	CHECK_EQ(kern_agent_cgroup_set(env.k, "/plain", AGENT), 0);
	CHECK_EQ(kern_agents_refresh(env.k), 0);
	look();
	CHECK_EQ(seen.all, 0);
	CHECK_EQ(kern_agent_uid_delete(env.k, UID_AGENT), 0);
	CHECK_EQ(kern_agent_cgroup_delete(env.k, "/plain"), 0);
	CHECK_EQ(kern_agents_refresh(env.k), 0);
	CHECK(target_mode(TG_MODE_STEER, 0));
	CHECK(env_listen());
	return as_before();
}

static bool watch_detached(void)
{
	static const char *const links[] = {"links/tg_connect4", "links/tg_sock_create",
					    "links/tg_sock_ops"};

	CHECK(begin());
	for (size_t i = 0; i < ARRAY_SIZE(links); i++) {
		int fd = pinned(links[i]);

		CHECK(fd >= 0);
		CHECK_EQ(bpf_link_detach(fd), 0);
		close(fd);
	}
	look();
	CHECK_EQ(seen.n[KERN_LINK_DETACHED], 3);
	CHECK_EQ(seen.repaired, 3);
	return as_before();
}

/* The descriptor that is held keeps the program in place until the pin is back. */
static bool watch_unpinned(void)
{
	CHECK(begin());
	CHECK_EQ(unpin("links/tg_connect4"), 0);
	CHECK_EQ(unpin("progs/tg_egress"), 0);
	CHECK_EQ(unpin("maps/tg_targets"), 0);
	CHECK(target_mode(TG_MODE_BLOCK, 0));
	CHECK_EQ(client("/agents", 0, dial, &to_target), EPERM);
	CHECK(target_mode(TG_MODE_STEER, 0));
	look();
	CHECK_EQ(seen.n[KERN_LINK_UNPINNED], 3);
	CHECK_EQ(seen.repaired, 3);
	return as_before();
}

static int remove_all(const char *part)
{
	char dir[256];
	struct dirent *e;
	int n = 0;
	DIR *d;

	pin_path(dir, sizeof(dir), part);
	d = opendir(dir);
	while (d && (e = readdir(d))) {
		char name[300];

		snprintf(name, sizeof(name), "%s/%s", part, e->d_name);
		n += e->d_name[0] != '.' && unpin(name) == 0;
	}
	if (d)
		closedir(d);
	rmdir(dir);
	return n;
}

static bool watch_pins_gone(void)
{
	struct kern *again;
	struct buf error;
	char path[256];
	int r;

	CHECK(begin());
	CHECK(remove_all("links") && remove_all("progs") && remove_all("maps"));
	pin_path(path, sizeof(path), "");
	CHECK_EQ(rmdir(path), 0);
	look();
	CHECK_EQ(seen.n[KERN_PINS_GONE], 1);
	CHECK_EQ(seen.repaired, seen.all);
	CHECK_EQ(kern_agents_refresh(env.k), 0);
	look(); /* the filters of cgroups */
	CHECK_EQ(seen.repaired, seen.all);
	buf_init(&error, 512);
	r = kern_open(&env.paths, &again, &error);
	buf_done(&error);
	CHECK_EQ(r, 0);
	kern_close(again);
	return as_before();
}

static bool watch_program_changed(void)
{
	int fd, prog = foreign_prog(BPF_CGROUP_INET4_CONNECT);

	CHECK(begin());
	CHECK(prog >= 0);
	fd = pinned("links/tg_connect4");
	CHECK_EQ(bpf_link_update(fd, prog, NULL), 0);
	close(fd);
	close(prog);
	look();
	CHECK_EQ(seen.n[KERN_LINK_CHANGED], 1);
	CHECK_EQ(seen.repaired, 1);
	return as_before();
}

static bool watch_filter(void)
{
	char name[64];
	uint64_t id;
	int fd;

	CHECK(begin());
	CHECK_EQ(kern_agent_uid_set(env.k, UID_AGENT, AGENT_UID), 0);
	CHECK_EQ(kern_cgroup_id(env.k, "/agents", false, &id), 0);
	snprintf(name, sizeof(name), "links/egress_%016llx", (unsigned long long)id);
	CHECK_EQ(unpin(name), 0);
	CHECK_EQ(unpin("links/tg_egress_uid"), 0);
	CHECK_EQ(kern_agents_refresh(env.k), 0);
	look();
	CHECK_EQ(seen.n[KERN_LINK_UNPINNED], 2);
	CHECK_EQ(seen.repaired, 2);
	fd = pinned(name);
	CHECK(fd >= 0);
	CHECK_EQ(bpf_link_detach(fd), 0);
	close(fd);
	CHECK_EQ(kern_agents_refresh(env.k), 0);
	look();
	CHECK_EQ(seen.n[KERN_LINK_DETACHED], 1);
	CHECK_EQ(seen.repaired, 1);
	/* A cgroup that is removed is no fault. */
	CHECK(cgroup_remove("/agents") && cgroup_make("/agents"));
	CHECK_EQ(kern_agents_refresh(env.k), 0);
	return as_before();
}

/* The last word at our cgroup is reported; what runs below runs before ours and may. */
static bool watch_foreign_program(void)
{
	int prog = foreign_prog(BPF_CGROUP_INET4_CONNECT), root, agents, link;
	char path[256];

	CHECK(begin());
	CHECK(prog >= 0);
	snprintf(path, sizeof(path), "%s/agents", env.cgroup);
	root = open(env.cgroup, O_RDONLY | O_DIRECTORY);
	agents = open(path, O_RDONLY | O_DIRECTORY);
	CHECK(root >= 0 && agents >= 0);
	CHECK_EQ(bpf_prog_attach(prog, agents, BPF_CGROUP_INET4_CONNECT, 0), 0);
	CHECK(as_before());
	CHECK_EQ(bpf_prog_detach2(prog, agents, BPF_CGROUP_INET4_CONNECT), 0);
	link = bpf_link_create(prog, root, BPF_CGROUP_INET4_CONNECT, NULL);
	CHECK(link >= 0);
	look();
	CHECK_EQ(seen.n[KERN_PROG_AFTER], 1);
	CHECK_EQ(seen.repaired, 0);
	CHECK(strstr(seen.text, "foreign") && strstr(seen.text, "tg_connect4"));
	look();
	CHECK_EQ(seen.n[KERN_PROG_AFTER], 1); /* as long as it is so */
	close(link);
	close(prog);
	close(root);
	close(agents);
	return as_before();
}

static bool watch_map_weakened(void)
{
	struct tg_addr_key key = key_of(ADDR4, PORT_TARGET, IPPROTO_TCP, 32);
	int addrs = pinned("maps/tg_addrs"), targets = pinned("maps/tg_targets");
	int paths = pinned("maps/tg_paths"), config = pinned("maps/tg_config");
	int listeners = pinned("maps/tg_listeners");
	struct tg_target_state off = {.mode = TG_MODE_OFF};
	struct tg_listener other = {.port_be = 1};
	struct tg_config none = {0};
	uint32_t target = TARGET, zero = 0, stray = 99;
	uint64_t netns;
	struct tg_path path;

	CHECK(begin());
	CHECK_EQ(bpf_map_delete_elem(addrs, &key), 0);
	CHECK_EQ(bpf_map_update_elem(targets, &target, &off, BPF_ANY), 0);
	CHECK_EQ(bpf_map_get_next_key(paths, NULL, &path), 0);
	CHECK_EQ(bpf_map_delete_elem(paths, &path), 0);
	CHECK_EQ(bpf_map_update_elem(config, &zero, &none, BPF_ANY), 0);
	CHECK_EQ(bpf_map_get_next_key(listeners, NULL, &netns), 0);
	CHECK_EQ(bpf_map_update_elem(listeners, &netns, &other, BPF_ANY), 0);
	netns = 4711;
	CHECK_EQ(bpf_map_update_elem(listeners, &netns, &other, BPF_ANY), 0);
	look_at_maps();
	CHECK_EQ(seen.n[KERN_MAP_WEAKENED], 6);
	CHECK_EQ(seen.repaired, 6);
	CHECK(bpf_map_lookup_elem(listeners, &netns, &other) && errno == ENOENT);
	CHECK(as_before());
	/* To another target. */
	CHECK_EQ(bpf_map_update_elem(addrs, &key, &stray, BPF_ANY), 0);
	look_at_maps();
	CHECK_EQ(seen.n[KERN_MAP_WEAKENED], 1);
	CHECK(strstr(seen.text, "5432"));
	close(addrs);
	close(targets);
	close(paths);
	close(config);
	close(listeners);
	return as_before();
}

/* What says where there is something to look up, and the copy that is looked up first. */
static bool watch_index(void)
{
	struct tg_addr_key key = key_of(ADDR4, PORT_TARGET, IPPROTO_TCP, 32);
	uint32_t stray = 99;
	int exact = pinned("maps/tg_exact");

	CHECK(begin());
	env.k->index->port[PORT_TARGET % TG_PORT_SLOTS] = 0;
	look_at_maps();
	CHECK_EQ(seen.n[KERN_MAP_WEAKENED], 1);
	CHECK_EQ(seen.repaired, 1);
	CHECK(strstr(seen.text, "index") && as_before());
	CHECK_EQ(bpf_map_delete_elem(exact, &key), 0);
	look_at_maps();
	CHECK_EQ(seen.n[KERN_MAP_WEAKENED], 1);
	CHECK(as_before());
	CHECK_EQ(bpf_map_update_elem(exact, &key, &stray, BPF_ANY), 0);
	look_at_maps();
	CHECK_EQ(seen.n[KERN_MAP_WEAKENED], 1);
	close(exact);
	return as_before();
}

/* `target add`, and its undoing: told, and left. */
static bool watch_map_added(void)
{
	struct tg_addr_key key = key_of("10.99.0.2", 99, IPPROTO_TCP, 32);
	int addrs = pinned("maps/tg_addrs"), exact = pinned("maps/tg_exact");
	uint32_t target = TARGET;

	CHECK(begin());
	CHECK_EQ(bpf_map_update_elem(addrs, &key, &target, BPF_ANY), 0);
	look_at_maps();
	CHECK_EQ(seen.n[KERN_MAP_CHANGED], 1);
	CHECK(as_before());
	CHECK_EQ(bpf_map_lookup_elem(addrs, &key, &target), 0);
	/* The programs see it. */
	CHECK(kern_index_has(env.k, &key) && !bpf_map_lookup_elem(exact, &key, &target));
	CHECK_EQ(bpf_map_delete_elem(addrs, &key), 0);
	look_at_maps();
	CHECK_EQ(seen.n[KERN_MAP_CHANGED], 1);
	CHECK(!kern_index_has(env.k, &key) && bpf_map_lookup_elem(exact, &key, &target));
	close(addrs);
	close(exact);
	return as_before();
}

/* Much takes longer than little, and is looked at less often: so much for the time that it takes. */
static bool watch_many(void)
{
	unsigned int before, looks = 0;
	uint64_t ns = 0, from;
	char ip[32];

	for (int i = 0; i < 20000; i++) {
		snprintf(ip, sizeof(ip), "10.%d.%d.%d", 100 + i / 65536, i / 256 % 256, i % 256);
		CHECK(protect(ip, 99, IPPROTO_TCP));
	}
	CHECK(begin());
	before = kern_shadow_looks(env.k);
	/* What begin() has looked at earns a rest, which ends. */
	while (kern_shadow_looks(env.k) == before) {
		from = clock_boot_ns();
		look();
		ns = clock_boot_ns() - from;
		looks++;
		usleep(10000);
	}
	printf("          20000 addresses: passed over %u times, then looked at in %llu us\n",
	       looks - 1, (unsigned long long)ns / 1000);
	CHECK_EQ(seen.all, 0);
	if (ns >= 10000000) { /* below that it is looked at every time */
		CHECK(looks > 1);
		look();
		CHECK_EQ(kern_shadow_looks(env.k), before + 1);
	}
	return as_before();
}

const struct row watch_rows[] = {
	{"watch: our own writes are none", watch_own_writes},
	{"watch: a detached link is attached again", watch_detached},
	{"watch: a removed pin is put back and guards meanwhile", watch_unpinned},
	{"watch: the whole pin directory is made again", watch_pins_gone},
	{"watch: another program in our link is taken out", watch_program_changed},
	{"watch: filters of cgroups and uids come back", watch_filter},
	{"watch: a program that runs after ours is told", watch_foreign_program},
	{"watch: what was taken out of a map is put back", watch_map_weakened},
	{"watch: an index that was spoiled is put right", watch_index},
	{"watch: what was added to a map is told", watch_map_added},
	{"watch: many addresses are looked at less often", watch_many},
	{NULL, NULL},
};
