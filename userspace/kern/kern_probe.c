/* SPDX-License-Identifier: MIT */
/*
 * What this kernel has and lacks. Asked by trying, not by version: distributions carry
 * patches back. Each missing row names what it leaves open.
 */
#include <errno.h>
#include <grp.h>
#include <linux/magic.h>
#include <sys/socket.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include "kern/kern_accel.h"
#include "kern/kern_priv.h"
#include "kern/kern_ways.h"

enum { NOBODY = 65534 };

static bool load_ret1(enum bpf_prog_type type, unsigned int attach)
{
	static const struct bpf_insn ret1[] = {
		{.code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = BPF_REG_0, .imm = 1},
		{.code = BPF_JMP | BPF_EXIT},
	};
	LIBBPF_OPTS(bpf_prog_load_opts, opts, .expected_attach_type = attach);
	int fd = bpf_prog_load(type, "tg_probe", "GPL", ret1, ARRAY_SIZE(ret1), &opts);

	if (fd >= 0)
		(void)close(fd);
	return fd >= 0;
}

static bool has_kernel(void)
{
	struct utsname u;
	unsigned int major = 0, minor = 0;

	return !uname(&u) && sscanf(u.release, "%u.%u", &major, &minor) == 2 &&
	       (major > 6 || (major == 6 && minor >= 1));
}

static bool has_bpf(void)
{
	return load_ret1(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_CGROUP_INET4_CONNECT);
}

static bool has_btf(void)
{
	return !access("/sys/kernel/btf/vmlinux", R_OK);
}

static bool has_cgroup2(void)
{
	struct kern k = {.cg_fd = -1};
	struct buf ignored;
	int r;

	buf_init(&ignored, 256);
	r = kern_cgroup_find(&k, NULL, &ignored);
	buf_done(&ignored);
	if (k.cg_fd >= 0)
		(void)close(k.cg_fd);
	return r == 0;
}

static bool has_bpffs(void)
{
	struct statfs st;

	return !statfs("/sys/fs/bpf", &st) && (unsigned long)st.f_type == BPF_FS_MAGIC;
}

static bool has_set_retval(void)
{
	return libbpf_probe_bpf_helper(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_set_retval, NULL) ==
	       1;
}

static bool has_sk_lookup(void)
{
	return libbpf_probe_bpf_helper(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, BPF_FUNC_sk_lookup_tcp,
				       NULL) == 1;
}

static bool has_sk_storage(void)
{
	return libbpf_probe_bpf_map_type(BPF_MAP_TYPE_SK_STORAGE, NULL) == 1;
}

static int storage_map(void)
{
	struct btf *btf = btf__new_empty();
	LIBBPF_OPTS(bpf_map_create_opts, opts, .map_flags = BPF_F_NO_PREALLOC);
	int fd = -1, id = btf ? btf__add_int(btf, "int", 4, BTF_INT_SIGNED) : -1;

	if (id > 0 && !btf__load_into_kernel(btf)) {
		opts.btf_fd = (uint32_t)btf__fd(btf);
		opts.btf_key_type_id = opts.btf_value_type_id = (uint32_t)id;
		fd = bpf_map_create(BPF_MAP_TYPE_SK_STORAGE, "tg_probe", 4, 4, 0, &opts);
	}
	btf__free(btf);
	return fd;
}

/* May a worker read a record? Tried in a child that gives up what a worker gives up. */
static bool has_worker_lookup(void)
{
	int status = 1, value = 0, map = storage_map(),
	    sock = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	pid_t pid = -1;

	if (map >= 0 && sock >= 0 && !bpf_map_update_elem(map, &sock, &value, BPF_ANY))
		pid = fork();
	if (pid == 0) {
		if (setgroups(0, NULL) || setresgid(NOBODY, NOBODY, NOBODY) ||
		    setresuid(NOBODY, NOBODY, NOBODY))
			_exit(1);
		_exit(bpf_map_lookup_elem(map, &sock, &value) ? 1 : 0);
	}
	if (pid > 0 && waitpid(pid, &status, 0) != pid)
		status = 1;
	if (map >= 0)
		(void)close(map);
	if (sock >= 0)
		(void)close(sock);
	return pid > 0 && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

bool kern_has_connect_unix(void)
{
	return load_ret1(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, ATTACH_UNIX_CONNECT);
}

bool kern_has_sock_destroy(void)
{
	struct btf *btf = btf__load_vmlinux_btf();
	bool found = btf && btf__find_by_name_kind(btf, "bpf_sock_destroy", BTF_KIND_FUNC) > 0;

	btf__free(btf);
	return found;
}

static bool has_lsm(void)
{
	char text[256] = "";
	FILE *f = fopen("/sys/kernel/security/lsm", "re");
	bool found = false;

	if (f) {
		found = fgets(text, sizeof(text), f) && strstr(text, "bpf");
		(void)fclose(f); /* was only read */
	}
	return found;
}

static bool has_jit(void)
{
	FILE *f = fopen("/proc/sys/net/core/bpf_jit_enable", "re");
	int on = 0;

	if (!f)
		return false;
	if (fscanf(f, "%d", &on) != 1)
		on = 0;
	(void)fclose(f); /* was only read */
	return on > 0;
}

static const struct probe {
	const char *feature, *since, *without;
	bool (*present)(void);
	bool used; /* by a program of ours, so far */
} probes[] = {
	{"kernel", "6.1", "not tested below; best effort from 5.15", has_kernel, true},
	{"bpf", "4.17", "nothing is steered: gateway mode only", has_bpf, true},
	{"btf", "5.2", "the programs cannot be loaded: gateway mode only", has_btf, true},
	{"cgroup2", "4.5", "nothing to attach to: gateway mode only", has_cgroup2, true},
	{"bpffs", "4.4", "links do not outlive the daemon: mount -t bpf bpf /sys/fs/bpf", has_bpffs,
	 true},
	{"sk_storage", "5.2", "records cannot be carried: gateway mode only", has_sk_storage, true},
	{"sk_lookup", "4.20", "the daemon's listener cannot be checked: gateway mode only",
	 has_sk_lookup, true},
	{"worker_lookup", "6.0",
	 "workers need CAP_BPF to read records, or unprivileged BPF allowed", has_worker_lookup,
	 true},
	{"set_retval", "5.18", "refused connections see EPERM in place of ECONNREFUSED",
	 has_set_retval, true},
	{"cgroup_mkdir", "5.8",
	 "a watched cgroup that is made again is unguarded until the daemon notices, up to a "
	 "second; an agent's first connection in a new network namespace is refused",
	 kern_has_raw_tp, true},
	{"connect_unix", "6.7", "agents reach AF_UNIX services of this host", kern_has_connect_unix,
	 true},
	{"sock_destroy", "6.5",
	 "connections older than their agent or target are cut by dropping packets, not closed",
	 kern_has_sock_destroy, true},
	{"lsm", "5.7",
	 "AF_PACKET, AF_VSOCK and connected sockets passed from outside are not guarded: use "
	 "seccomp",
	 has_lsm, false},
	{"jit", "3.0", "every hooked call is slower", has_jit, true},
};

const struct kern_way_words kern_way_words[KERN_WAY_COUNT] = {
#define X(name, label, by, since, gap) [KERN_WAY_##name] = {label, by, since, gap},
	KERN_WAYS(X)
#undef X
};

bool kern_can_sweep(void)
{
	return kern_has_sock_destroy();
}

bool kern_way_closed(enum kern_way way)
{
	const char *since = kern_way_words[way].since;

	for (size_t i = 0; i < ARRAY_SIZE(probes); i++)
		if (strcmp(probes[i].feature, since) == 0)
			return probes[i].present();
	return since[0] == '\0';
}

/* The classes of the bypass matrix: tests/bpf/run.sh -m tries each. */
static void probe_ways(struct jsonw *w)
{
	char name[32];

	for (size_t i = 0; i < KERN_WAY_COUNT; i++) {
		const struct kern_way_words *way = &kern_way_words[i];

		(void)snprintf(name, sizeof(name), "closed_%s", way->label);
		jsonw_object(w);
		jsonw_kv_string(w, "feature", name);
		jsonw_kv_bool(w, "present", kern_way_closed(i));
		jsonw_kv_bool(w, "used", true);
		jsonw_kv_string(w, "by", way->by);
		jsonw_kv_string(w, "without", way->gap);
		jsonw_object_end(w);
	}
}

/* Each program that could be done without, tried on a copy. */
static void programs_row(struct jsonw *w)
{
	unsigned int refused = kern_optional_refused();
	char text[KERN_TEXT] = "the programs that have a hook here are taken";

	if (refused)
		kern_optional_words(refused, text, sizeof(text));
	jsonw_object(w);
	jsonw_kv_string(w, "feature", "programs");
	jsonw_kv_bool(w, "present", !refused);
	jsonw_kv_bool(w, "used", true);
	jsonw_kv_string(w, "since", "by test");
	jsonw_kv_string(w, "without", text);
	jsonw_object_end(w);
}

/* Known only by the self-test: it names what differs. */
static void accelerator_row(struct jsonw *w)
{
	struct kern_selftest *t = calloc(1, sizeof(*t));
	char names[512], text[640];

	if (!t)
		return;
	kern_selftest_run(t);
	if (t->why[0]) {
		(void)snprintf(text, sizeof(text), "all stays on TCP: %s", t->why);
	} else {
		kern_selftest_names(t, KERN_ACCEL_BOTH, false, names, sizeof(names));
		(void)snprintf(text, sizeof(text),
			       "connections stay on TCP unless `accelerate: on`; these calls would "
			       "differ from it: %s",
			       names);
	}
	jsonw_object(w);
	jsonw_kv_string(w, "feature", "accelerator");
	jsonw_kv_bool(w, "present",
		      !t->why[0] && kern_selftest_count(t, KERN_ACCEL_BOTH, false) == 0);
	jsonw_kv_bool(w, "used", true);
	jsonw_kv_string(w, "since", "by test");
	jsonw_kv_string(w, "without", text);
	jsonw_object_end(w);
	free(t);
}

int kern_probe(struct jsonw *w)
{
	libbpf_print_fn_t print = libbpf_set_print(NULL);
	struct utsname u;

	jsonw_array(w);
	for (size_t i = 0; i < ARRAY_SIZE(probes); i++) {
		jsonw_object(w);
		jsonw_kv_string(w, "feature", probes[i].feature);
		jsonw_kv_bool(w, "present", probes[i].present());
		jsonw_kv_bool(w, "used", probes[i].used);
		jsonw_kv_string(w, "since", probes[i].since);
		jsonw_kv_string(w, "without", probes[i].without);
		if (i == 0 && !uname(&u))
			jsonw_kv_string(w, "running", u.release);
		jsonw_object_end(w);
	}
	programs_row(w);
	accelerator_row(w);
	probe_ways(w);
	jsonw_array_end(w);
	(void)libbpf_set_print(print);
	return 0;
}
