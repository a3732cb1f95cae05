/* SPDX-License-Identifier: MIT */
/* Restart, upgrade, pins, namespaces, and what is shown. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <jansson.h>

#include "base/clock.h"
#include "env.h"

static struct dial to_target = {.ip = ADDR4, .port = PORT_TARGET};

static bool steered(void)
{
	struct tg_record r;
	int c;

	CHECK_EQ(client("/agents", 0, dial, &to_target), 0);
	c = accept_in(env.listen4, 1000);
	CHECK(c >= 0);
	CHECK_EQ(kern_record_get(kern_record_fd(env.k), c, &r), 0);
	close(c);
	return true;
}

static int pinned(const char *part, const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s/%s/%s", env.bpf_dir, TG_ABI_VERSION, part, name);
	return bpf_obj_get(path);
}

static uint32_t link_info(const char *name, uint32_t *prog)
{
	struct bpf_link_info info = {0};
	uint32_t len = sizeof(info);
	int fd = pinned("links", name);

	if (fd < 0 || bpf_obj_get_info_by_fd(fd, &info, &len))
		return 0;
	close(fd);
	*prog = info.prog_id;
	return info.id;
}

static int load(const struct kern_paths *paths, struct kern **k, char *text, size_t cap)
{
	struct buf error;
	int r;

	buf_init(&error, cap - 1);
	r = kern_load(paths, k, &error);
	snprintf(text, cap, "%.*s", (int)error.n, error.n ? (const char *)buf_data(&error) : "");
	buf_done(&error);
	return r;
}

static bool reload(void)
{
	char text[512];

	kern_close(env.k);
	env.k = NULL;
	CHECK_EQ(load(&env.paths, &env.k, text, sizeof(text)), 0);
	return true;
}

static bool restart(void)
{
	uint32_t link, prog, egress, egress_prog, now, now_prog;
	char name[64];
	struct tg_target_state s;
	uint64_t id;

	CHECK_EQ(kern_agent_uid_set(env.k, UID_AGENT, AGENT_UID), 0);
	CHECK_EQ(kern_cgroup_id(env.k, "/agents", false, &id), 0);
	snprintf(name, sizeof(name), "egress_%016llx", (unsigned long long)id);
	link = link_info("tg_connect4", &prog);
	egress = link_info(name, &egress_prog);
	CHECK(link && egress);
	CHECK(target_mode(TG_MODE_BLOCK, 0));
	kern_close(env.k);
	env.k = NULL;
	CHECK_EQ(client("/agents", 0, dial, &to_target), EPERM); /* guarded with no daemon */
	CHECK(reload());
	now = link_info("tg_connect4", &now_prog);
	CHECK_EQ(now, link);
	CHECK(now_prog != prog);
	now = link_info(name, &now_prog);
	CHECK_EQ(now, egress);
	CHECK(now_prog != egress_prog);
	now = link_info("tg_egress_uid", &now_prog);
	CHECK(now != 0);
	CHECK_EQ(kern_target_get(env.k, TARGET, &s), 0);
	CHECK_EQ(s.mode, TG_MODE_BLOCK);
	CHECK(target_mode(TG_MODE_STEER, 0));
	CHECK(env_listen());
	return steered();
}

/* The port is still marked in the map, the socket is another one: refused till it is set. */
static bool restart_needs_listener(void)
{
	int fd;

	env_unlisten();
	CHECK(reload());
	fd = listener_on("127.0.0.1", env.port);
	CHECK(fd >= 0);
	CHECK_EQ(client("/agents", 0, dial, &to_target), ECONNREFUSED);
	CHECK_EQ(kern_listener_set(env.k, fd, -1, env.port), 0);
	CHECK_EQ(client("/agents", 0, dial, &to_target), 0);
	close(fd);
	return true;
}

/* The kernel lets go of the old link a little after its pin is gone: then it is bound once. */
static bool mkdir_survives_restart(void)
{
	uint64_t before, times = 0;

	CHECK(reload());
	for (int i = 0; i < 100 && times != 1; i++) {
		before = counted(TG_K_CGROUP_REMADE);
		CHECK(cgroup_remove("/agents") && cgroup_make("/agents"));
		times = counted(TG_K_CGROUP_REMADE) - before;
		CHECK(times >= 1);
		usleep(10000);
	}
	CHECK_EQ(times, 1);
	return steered();
}

static bool opened_by_utility(void)
{
	struct kern *k = NULL;
	struct buf error;
	struct tg_target_state s = {.mode = TG_MODE_BLOCK};

	buf_init(&error, 512);
	CHECK_EQ(kern_open(&env.paths, &k, &error), 0);
	CHECK_EQ(kern_target_set(k, TARGET, &s), 0);
	CHECK_EQ(client("/agents", 0, dial, &to_target), EPERM);
	CHECK_EQ(kern_agent_cgroup_delete(k, "/agents"), 0);
	CHECK_EQ(kern_agent_cgroup_set(k, "/agents", AGENT), 0);
	CHECK_EQ(client("/agents", 0, dial, &to_target), EPERM);
	kern_close(k);
	buf_done(&error);
	return true;
}

static bool nothing_pinned(void)
{
	struct kern_paths none = {.bpf_dir = "/sys/fs/bpf/tgtest-none"};
	struct kern *k = NULL;
	struct buf error;

	buf_init(&error, 512);
	CHECK_EQ(kern_open(&none, &k, &error), -ENOENT);
	CHECK(!k && error.n > 0);
	buf_done(&error);
	return true;
}

static bool pin_directory(void)
{
	struct stat st;
	char path[256];

	CHECK(stat(env.bpf_dir, &st) == 0 && (st.st_mode & 07777) == 0700 && st.st_uid == 0);
	/* What a load that was killed half way left is swept by the next one. */
	snprintf(path, sizeof(path), "%s/new-1", env.bpf_dir);
	CHECK(mkdir(path, 0700) == 0);
	snprintf(path, sizeof(path), "%s/new-1/links", env.bpf_dir);
	CHECK(mkdir(path, 0700) == 0);
	CHECK(reload());
	snprintf(path, sizeof(path), "%s/new-1", env.bpf_dir);
	CHECK(stat(path, &st) && errno == ENOENT);
	return true;
}

/* An exclusive program is in the way: the error names it. */
static bool exclusive_holder(void)
{
	static const struct bpf_insn ret1[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1},
		{.code = BPF_JMP | BPF_EXIT},
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = BPF_CGROUP_INET4_CONNECT);
	char dir[80], root[256], text[512] = "";
	struct kern_paths paths = {.bpf_dir = dir, .cgroup_root = root};
	struct kern *k = NULL;
	int cg, prog = bpf_prog_load(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, "squatter", "GPL", ret1, 2,
				     &opts);

	snprintf(dir, sizeof(dir), "%s-x", env.bpf_dir);
	snprintf(root, sizeof(root), "%s/held", env.cgroup);
	CHECK(prog >= 0 && cgroup_make("/held"));
	cg = open(root, O_RDONLY | O_DIRECTORY);
	/* Ours are on the parent and MULTI lets a cgroup below be of any kind. */
	CHECK(bpf_prog_attach(prog, cg, BPF_CGROUP_INET4_CONNECT, BPF_F_ALLOW_OVERRIDE) == 0);
	CHECK_EQ(load(&paths, &k, text, sizeof(text)), -EPERM);
	CHECK(strstr(text, "squatter") && strstr(text, "tg_connect4"));
	CHECK(rmdir(dir) == 0); /* nothing half-made in it */
	close(prog);
	close(cg);
	CHECK(cgroup_remove("/held"));
	return true;
}

/* The cgroup that everything was attached to was removed and made again (ENOLINK). */
static bool root_remade(void)
{
	char dir[80], pin[128], root[256], text[512] = "";
	struct kern_paths paths = {.bpf_dir = dir, .cgroup_root = root};
	struct bpf_link_info info = {0};
	uint32_t len = sizeof(info);
	struct kern *k = NULL;
	struct buf error;
	uint64_t id;
	int fd;

	snprintf(dir, sizeof(dir), "%s-x", env.bpf_dir);
	snprintf(root, sizeof(root), "%s/root", env.cgroup);
	CHECK(cgroup_make("/root"));
	CHECK_EQ(load(&paths, &k, text, sizeof(text)), 0);
	kern_close(k);
	CHECK(cgroup_remove("/root") && cgroup_make("/root"));
	CHECK_EQ(load(&paths, &k, text, sizeof(text)), 0);
	CHECK_EQ(kern_cgroup_id(k, "/", false, &id), 0);
	kern_close(k);
	snprintf(pin, sizeof(pin), "%s/%s/links/tg_connect6", dir, TG_ABI_VERSION);
	fd = bpf_obj_get(pin);
	CHECK(fd >= 0 && bpf_obj_get_info_by_fd(fd, &info, &len) == 0);
	CHECK_EQ(info.cgroup.cgroup_id, id);
	close(fd);
	buf_init(&error, 512);
	CHECK_EQ(kern_unload(&paths, &error), 0);
	buf_done(&error);
	CHECK(access(dir, F_OK) && cgroup_remove("/root"));
	return true;
}

/* A host without bpffs: it is mounted. In a mount namespace of its own. */
static int load_unmounted(void *arg)
{
	char dir[] = "/tmp/tgtest-bpffs", bpf_dir[64], root[256], text[512];
	struct kern_paths paths = {.bpf_dir = bpf_dir, .cgroup_root = root};
	struct kern *k = NULL;
	struct buf error;
	int r;

	snprintf(bpf_dir, sizeof(bpf_dir), "%s/gate", dir);
	snprintf(root, sizeof(root), "%s/plain", env.cgroup);
	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL))
		return errno;
	if (mkdir(dir, 0700) && errno != EEXIST)
		return errno;
	r = load(&paths, &k, text, sizeof(text));
	if (r) {
		printf("          %s\n", text);
		fflush(stdout);
		return -r;
	}
	kern_close(k);
	buf_init(&error, 512);
	r = kern_unload(&paths, &error);
	buf_done(&error);
	if (umount(dir) || rmdir(dir)) /* so it was a mount */
		return errno;
	return -r;
}

static bool mounts_bpffs(void)
{
	CHECK_EQ(client(NULL, 0, load_unmounted, NULL), 0);
	return true;
}

static bool another_layout(void)
{
	char path[256], text[512] = "";
	int fd = bpf_map_create(BPF_MAP_TYPE_HASH, "tg_uids", 8, 8, 4, NULL);
	struct kern *k = NULL;

	snprintf(path, sizeof(path), "%s/%s/maps/tg_uids", env.bpf_dir, TG_ABI_VERSION);
	CHECK(fd >= 0 && unlink(path) == 0 && bpf_obj_pin(fd, path) == 0);
	CHECK_EQ(load(&env.paths, &k, text, sizeof(text)), -EINVAL);
	CHECK(strstr(text, "layout") && strstr(text, "tg_uids"));
	CHECK(unlink(path) == 0);
	close(fd);
	return reload(); /* makes the missing map anew */
}

/* What is pinned is taken over as large as it is, with its contents. */
static bool another_size(void)
{
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_NO_PREALLOC);
	int fd = bpf_map_create(BPF_MAP_TYPE_HASH, "tg_uids", 4, 4, 8, &opts);
	uint32_t uid = UID_OTHER, agent = AGENT_UID, got = 0;
	char path[256];

	snprintf(path, sizeof(path), "%s/%s/maps/tg_uids", env.bpf_dir, TG_ABI_VERSION);
	CHECK(fd >= 0 && unlink(path) == 0 && bpf_obj_pin(fd, path) == 0);
	CHECK_EQ(bpf_map_update_elem(fd, &uid, &agent, BPF_ANY), 0);
	CHECK(reload());
	CHECK_EQ(kern_agent_uid_set(env.k, UID_AGENT, AGENT_UID), 0);
	uid = UID_AGENT;
	CHECK_EQ(bpf_map_lookup_elem(fd, &uid, &got), 0);
	CHECK_EQ(got, AGENT_UID);
	CHECK_EQ(client("/plain", UID_AGENT, dial, &(struct dial){.ip = ADDR4, .port = PORT_TARGET}), 0);
	CHECK_EQ(counted(TG_K_STEERED), 1);
	CHECK(unlink(path) == 0);
	close(fd);
	return reload(); /* makes the missing map anew, of its own size */
}

/* --- network namespaces */

struct in_netns {
	int to_child[2], to_parent[2];
	int listen; /* the parent's, in the child's namespace */
};

static int other_netns(void *arg)
{
	struct in_netns *n = arg;
	char c;

	if (unshare(CLONE_NEWNET) || !env_netns())
		return 240;
	if (dial(&to_target) != ECONNREFUSED) /* nobody listens here */
		return 241;
	if (write(n->to_parent[1], "a", 1) != 1 || read(n->to_child[0], &c, 1) != 1)
		return 242;
	return dial(&to_target);
}

static bool namespaces(void)
{
	struct in_netns n;
	struct tg_record r;
	char path[64], c;
	int home, ns, conn;
	pid_t pid;

	CHECK(pipe(n.to_child) == 0 && pipe(n.to_parent) == 0);
	home = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	fflush(stdout);
	pid = fork();
	if (pid == 0) {
		env_unlisten();
		_exit(cgroup_join("/agents") ? other_netns(&n) : 250);
	}
	CHECK(pid > 0 && read(n.to_parent[0], &c, 1) == 1);
	CHECK_EQ(counted(TG_K_DENIED_NO_LISTENER), 1);
	snprintf(path, sizeof(path), "/proc/%d/ns/net", pid);
	ns = open(path, O_RDONLY | O_CLOEXEC);
	CHECK(ns >= 0 && setns(ns, CLONE_NEWNET) == 0);
	n.listen = listener_on("127.0.0.1", (uint16_t)(env.port + 1)); /* a port of its own */
	CHECK(setns(home, CLONE_NEWNET) == 0);
	CHECK(n.listen >= 0);
	CHECK_EQ(kern_listener_set(env.k, n.listen, -1, (uint16_t)(env.port + 1)), 0);
	CHECK(write(n.to_child[1], "b", 1) == 1);
	conn = accept_in(n.listen, 2000);
	CHECK(conn >= 0);
	CHECK_EQ(kern_record_get(kern_record_fd(env.k), conn, &r), 0);
	CHECK(steered()); /* and home is as before */
	close(conn);
	close(n.listen);
	close(ns);
	close(home);
	CHECK_EQ(kern_listener_clear(env.k), 0);
	return true;
}

/* --- tuples */

static bool sweep(void)
{
	struct tg_record old = {.boot_ns = 1}, young = {.boot_ns = clock_boot_ns()};
	struct tg_tuple a = {.client_port = 1}, b = {.client_port = 2};
	int map = pinned("maps", "tg_tuples");

	CHECK(map >= 0 && bpf_map_update_elem(map, &a, &old, BPF_ANY) == 0);
	CHECK(bpf_map_update_elem(map, &b, &young, BPF_ANY) == 0);
	CHECK_EQ(kern_tuples_sweep(env.k, 10000000000u), 1);
	CHECK_EQ(kern_tuples_sweep(env.k, 0), 1);
	close(map);
	return true;
}

static int fill(int map)
{
	struct tg_record r = {.boot_ns = 1};
	struct tg_tuple t = {0};

	for (uint64_t i = 0; i < 70000; i++) {
		t.netns_cookie = UINT64_MAX - i;
		if (bpf_map_update_elem(map, &t, &r, BPF_ANY))
			return errno;
	}
	return 0;
}

/* No room for the tuple: no record, so the daemon resets it. Never the wrong record. */
static bool tuples_full(void)
{
	int c, map = pinned("maps", "tg_tuples");
	struct tg_record r;

	CHECK(map >= 0);
	CHECK_EQ(fill(map), E2BIG);
	CHECK_EQ(client("/agents", 0, dial, &to_target), 0);
	c = accept_in(env.listen4, 1000);
	CHECK(c >= 0);
	CHECK_EQ(kern_record_get(kern_record_fd(env.k), c, &r), -ENOENT);
	CHECK_EQ(counted(TG_K_TUPLE_FULL), 1);
	CHECK_EQ(counted(TG_K_HANDOVER_MISS), 1);
	close(c);
	close(map);
	CHECK_EQ(kern_tuples_sweep(env.k, 1000), 65536);
	return steered();
}

/* A handshake that never completed left its tuple; the port's next user is no agent. */
static bool stale_tuple(void)
{
	struct sockaddr_storage ss, from;
	struct tg_record r = {.target = TARGET, .agent = AGENT};
	struct tg_tuple t = {.server_port = env.port};
	socklen_t len, from_len, n = sizeof(t.netns_cookie);
	int c, fd = socket(AF_INET, SOCK_STREAM, 0), map = pinned("maps", "tg_tuples");

	memcpy(t.client, key_of("127.0.0.1", 0, IPPROTO_TCP, 32).addr, 16);
	memcpy(t.server, t.client, 16);
	CHECK(getsockopt(fd, SOL_SOCKET, SO_NETNS_COOKIE, &t.netns_cookie, &n) == 0);
	from = addr_of("127.0.0.1", 0, &from_len);
	ss = addr_of("127.0.0.1", env.port, &len);
	CHECK(bind(fd, (struct sockaddr *)&from, from_len) == 0);
	CHECK(getsockname(fd, (struct sockaddr *)&from, &from_len) == 0);
	t.client_port = ntohs(((struct sockaddr_in *)&from)->sin_port);
	CHECK(map >= 0 && bpf_map_update_elem(map, &t, &r, BPF_ANY) == 0);
	CHECK(connect(fd, (struct sockaddr *)&ss, len) == 0);
	c = accept_in(env.listen4, 1000);
	CHECK(c >= 0);
	CHECK_EQ(kern_record_get(kern_record_fd(env.k), c, &r), -ENOENT);
	CHECK_EQ(kern_tuples_sweep(env.k, 0), 0);
	close(c);
	close(fd);
	close(map);
	return true;
}

/* --- what is shown */

static json_t *parsed(struct buf *out)
{
	json_error_t e;
	json_t *j = json_loadb((const char *)buf_data(out), out->n, 0, &e);

	if (!j)
		printf("          %s: %.*s\n", e.text, (int)out->n, (const char *)buf_data(out));
	buf_done(out);
	return j;
}

static json_t *described(const char *what)
{
	struct jsonw w;
	struct buf out;

	buf_init(&out, 1 << 20);
	jsonw_init(&w, &out, false);
	if (!kern_describe(env.k, &w, what) && !jsonw_end(&w))
		return parsed(&out);
	buf_done(&out);
	return NULL;
}

static json_t *dumped(const char *map)
{
	struct jsonw w;
	struct buf out;

	buf_init(&out, 1 << 20);
	jsonw_init(&w, &out, false);
	if (!kern_map_dump(env.k, map, &w) && !jsonw_end(&w))
		return parsed(&out);
	buf_done(&out);
	return NULL;
}

/* bpftool must say the same of each id. */
static bool same_as_bpftool(const char *what, size_t least)
{
	json_t *ours = described(what), *o, *theirs;
	json_error_t e;
	char command[256];
	size_t i;
	FILE *f;

	CHECK(ours && json_array_size(ours) >= least);
	json_array_foreach(ours, i, o)
	{
		snprintf(command, sizeof(command), "bpftool -j %s show pinned %s", what,
			 json_string_value(json_object_get(o, "pinned")));
		f = popen(command, "r");
		theirs = f ? json_loadf(f, 0, &e) : NULL;
		CHECK(theirs);
		pclose(f);
		CHECK_EQ(json_integer_value(json_object_get(o, "id")),
			 json_integer_value(json_object_get(theirs, "id")));
		CHECK(json_equal(json_object_get(o, "type"), json_object_get(theirs, "type")));
		json_decref(theirs);
	}
	json_decref(ours);
	return true;
}

static bool describe(void)
{
	CHECK(same_as_bpftool("map", 12));
	CHECK(same_as_bpftool("prog", 13));
	CHECK(same_as_bpftool("link", 12));
	CHECK(!described("nonsense"));
	return true;
}

static const char *field(json_t *array, size_t i, const char *name)
{
	return json_string_value(json_object_get(json_array_get(array, i), name));
}

static bool dump(void)
{
	static const char *const maps[] = {"tg_targets", "tg_cgroups", "tg_paths",    "tg_uids",
					   "tg_config",	 "tg_tuples",  "tg_counters", "tg_agents",
					   "tg_allow",	 "tg_unix",    "tg_options"};
	struct tg_addr_key net6 = key_of("fd00::", 0, IPPROTO_UDP, 8);
	json_t *j;

	for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
		j = dumped(maps[i]);
		CHECK(j && json_is_array(j));
		json_decref(j);
	}
	CHECK(!dumped("tg_records") && !dumped("tg_nonsense"));
	CHECK_EQ(kern_addr_set(env.k, &net6, TARGET), 0);
	j = dumped("tg_addrs");
	CHECK_EQ(json_array_size(j), 3);
	for (size_t i = 0; i < 3; i++) {
		const char *addr = field(j, i, "address");

		CHECK(strcmp(addr, "10.77.0.1/32") == 0 || strcmp(addr, "fd77::1/128") == 0 ||
		      (strcmp(addr, "fd00::/8") == 0 &&
		       strcmp(field(j, i, "protocol"), "udp") == 0 &&
		       strcmp(field(j, i, "port"), "any") == 0));
	}
	json_decref(j);
	j = dumped("tg_listeners");
	CHECK_EQ(json_array_size(j), 1);
	CHECK_EQ(json_integer_value(json_object_get(json_array_get(j, 0), "port")), env.port);
	json_decref(j);
	return true;
}

static bool probe(void)
{
	static const char *const here[] = {"kernel",  "bpf",	    "btf",
					   "cgroup2", "sk_storage", "sk_lookup"};
	struct jsonw w;
	struct buf out;
	json_t *j;
	size_t found = 0;

	buf_init(&out, 1 << 16);
	jsonw_init(&w, &out, false);
	CHECK_EQ(kern_probe(&w), 0);
	CHECK_EQ(jsonw_end(&w), 0);
	j = parsed(&out);
	for (size_t i = 0; i < json_array_size(j); i++)
		for (size_t n = 0; n < ARRAY_SIZE(here); n++)
			if (strcmp(field(j, i, "feature"), here[n]) == 0 &&
			    json_is_true(json_object_get(json_array_get(j, i), "present")))
				found++;
	CHECK_EQ(found, ARRAY_SIZE(here)); /* this test runs, so they are here */
	json_decref(j);
	return true;
}

static bool file_with(char *path, const char *text)
{
	int fd = mkstemp(path);

	CHECK(fd >= 0);
	CHECK(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
	close(fd);
	return true;
}

/* Hosts that cannot be steered are told so by name, not by a number. */
static bool unfit_hosts(void)
{
	static const char v1[] =
		"30 25 0:26 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
		"31 30 0:27 / /sys/fs/cgroup/net_cls rw - cgroup cgroup rw,net_cls\n";
	char only_v1[] = "/tmp/tgtest-mounts-XXXXXX", none[] = "/tmp/tgtest-mounts-XXXXXX";
	char hybrid[] = "/tmp/tgtest-mounts-XXXXXX", not_btf[] = "/tmp/tgtest-btf-XXXXXX";
	char table[512], text[512];
	struct kern_paths p = {.bpf_dir = env.bpf_dir, .mountinfo = only_v1};
	struct kern *k = NULL;

	CHECK(file_with(only_v1, v1) && file_with(none, "1 1 8:1 / / rw - ext4 /dev/vda rw\n"));
	CHECK_EQ(load(&p, &k, text, sizeof(text)), -ENOENT);
	CHECK(strstr(text, "only cgroup v1 is mounted") &&
	      strstr(text, "unified_cgroup_hierarchy"));
	p.mountinfo = none;
	CHECK_EQ(load(&p, &k, text, sizeof(text)), -ENOENT);
	CHECK(strstr(text, "no cgroup v2 mount"));
	/* Both kinds: the second is found behind the first. */
	snprintf(table, sizeof(table), "%s32 30 0:28 / %.*s rw - cgroup2 cgroup2 rw\n", v1,
		 (int)(strrchr(env.cgroup, '/') - env.cgroup), env.cgroup);
	CHECK(file_with(hybrid, table) && file_with(not_btf, "nothing"));
	p = (struct kern_paths){.bpf_dir = env.bpf_dir,
				.cgroup_root = env.cgroup,
				.mountinfo = hybrid,
				.btf = not_btf};
	CHECK_EQ(load(&p, &k, text, sizeof(text)), -ENOTSUP);
	CHECK(strstr(text, "BTF") && strstr(text, "bpf: off"));
	p.btf = "/nonexistent";
	CHECK_EQ(load(&p, &k, text, sizeof(text)), -ENOTSUP);
	CHECK(unlink(only_v1) == 0 && unlink(none) == 0 && unlink(hybrid) == 0 &&
	      unlink(not_btf) == 0);
	CHECK(reload() && env_listen()); /* what is pinned was not touched */
	return steered();
}

static bool bad_keys(void)
{
	struct tg_addr_key k = key_of("10.0.0.0", 1, IPPROTO_TCP, 8);

	k.addr[13] = 1; /* behind the prefix */
	CHECK_EQ(kern_addr_set(env.k, &k, TARGET), -EINVAL);
	k = key_of("10.0.0.0", 1, IPPROTO_SCTP, 8);
	CHECK_EQ(kern_addr_set(env.k, &k, TARGET), -EPROTONOSUPPORT);
	k = key_of("10.0.0.0", 1, IPPROTO_TCP, 8);
	k.prefixlen = 31;
	CHECK_EQ(kern_addr_set(env.k, &k, TARGET), -EINVAL);
	k.prefixlen = 161;
	CHECK_EQ(kern_addr_set(env.k, &k, TARGET), -EINVAL);
	CHECK_EQ(kern_target_set(env.k, TARGET, &(struct tg_target_state){.mode = 9}), -EINVAL);
	CHECK_EQ(kern_listener_set(env.k, env.server4, -1, 0), -EINVAL);
	return true;
}

const struct row life_rows[] = {
	{"life: restart keeps maps and links, guarded between", restart},
	{"life: restart needs its listener marked again", restart_needs_listener},
	{"life: cgroup program over a restart", mkdir_survives_restart},
	{"life: utility on the pinned maps", opened_by_utility},
	{"life: nothing pinned", nothing_pinned},
	{"life: pin directory, leftovers swept", pin_directory},
	{"life: exclusive program in the way is named", exclusive_holder},
	{"life: root cgroup made again", root_remade},
	{"life: bpffs is mounted where it is missing", mounts_bpffs},
	{"life: pinned map of another layout", another_layout},
	{"life: pinned map of another size", another_size},
	{"life: network namespace with and without listener", namespaces},
	{"life: tuples swept by age", sweep},
	{"life: tuple table full", tuples_full},
	{"life: stale tuple is not inherited", stale_tuple},
	{"life: no BTF, cgroup v1 alone, both kinds", unfit_hosts},
	{"show: ids and types as bpftool's", describe},
	{"show: map dumps", dump},
	{"show: probe", probe},
	{"show: malformed keys refused", bad_keys},
	{0},
};
