/* SPDX-License-Identifier: MIT */
/*
 * What the programs in the kernel cost, without a daemon: connections, datagrams, bulk and
 * processes of agents and of others, each next to the same outside of the cgroup that the
 * programs are attached to. One thread is client and server, so that nothing waits for the
 * scheduler and its CPU time is all that was spent. One JSON object per line.
 * Usage (root): bench_kern [ROUNDS [OPERATIONS [LOADS [TARGETS AGENTS]]]]
 */
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "../bpf/env.h"
#include "kern/kern_ops.h"

enum { ROUNDS = 15, OPS = 1000, LOADS = 3, TARGETS = 100000, AGENTS = 10000 };
enum { ROUNDS_MAX = 101, PROGS_MAX = 48, FILLED = 1000 };

static struct {
	int rounds, ops, loads, targets, agents;
} opt = {ROUNDS, OPS, LOADS, TARGETS, AGENTS};

/* Times in ns, of one operation. */
struct sample {
	double wall, cpu, socket_p50, p50, p99;
	int err;
};

enum who { OUTSIDE, PLAIN, AGENT_OTHER, AGENT_UID_OTHER, WHOS };
static const struct {
	const char *name, *cgroup;
	uid_t uid;
} whos[WHOS] = {
	/* run.sh knows the name of the first, should this be killed. */
	[OUTSIDE] = {"outside", "-x", 0},
	[PLAIN] = {"others", "/plain", 0},
	[AGENT_OTHER] = {"agent", "/agents", 0},
	[AGENT_UID_OTHER] = {"uid agent", "/plain", UID_AGENT},
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static double quantile(double *v, int n, double q)
{
	qsort(v, (size_t)n, sizeof(*v), by_value);
	return v[(int)(q * (n - 1))];
}

/* ------------------------------------------------------------------- workers */

static int times_of(enum op op)
{
	int n = opt.ops / kern_ops[op].part;

	return n > 1 ? n : 1;
}

struct worker {
	pid_t pid;
	int fd;
};
static struct worker workers[WHOS];

static void measure(enum op op, int n, struct sample *ret)
{
	double cpu = kern_op_now(CLOCK_PROCESS_CPUTIME_ID), wall = kern_op_now(CLOCK_MONOTONIC);

	*ret = (struct sample){.err = kern_ops[op].fn(n)};
	ret->wall = (kern_op_now(CLOCK_MONOTONIC) - wall) / n;
	ret->cpu = (kern_op_now(CLOCK_PROCESS_CPUTIME_ID) - cpu) / n;
	if (!kern_ops[op].connects || ret->err)
		return;
	ret->socket_p50 = quantile(kern_op_times.socket, n, 0.5);
	ret->p50 = quantile(kern_op_times.connect, n, 0.5);
	ret->p99 = quantile(kern_op_times.connect, n, 0.99);
}

struct order {
	enum op op;
	int n;
};

static void work(int fd)
{
	struct sample s;
	struct order o;

	while (read(fd, &o, sizeof(o)) == sizeof(o)) {
		measure(o.op, o.n, &s);
		if (write(fd, &s, sizeof(s)) != sizeof(s))
			break;
	}
}

static bool worker_start(enum who w)
{
	int pair[2];

	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) == 0);
	fflush(stdout);
	workers[w].pid = fork();
	CHECK(workers[w].pid >= 0);
	if (workers[w].pid == 0) {
		(void)close(pair[0]);
		kern_close(env.k);
		kern_ops_steered = w != OUTSIDE && w != PLAIN;
		if (!cgroup_join(whos[w].cgroup) ||
		    (whos[w].uid && setresuid(whos[w].uid, whos[w].uid, whos[w].uid)))
			_exit(1);
		work(pair[1]);
		_exit(0);
	}
	(void)close(pair[1]);
	workers[w].fd = pair[0];
	return true;
}

static void workers_stop(void)
{
	for (int w = 0; w < WHOS; w++) {
		if (workers[w].pid <= 0)
			continue;
		(void)close(workers[w].fd);
		(void)kill(workers[w].pid, SIGKILL);
		(void)waitpid(workers[w].pid, NULL, 0);
	}
}

static bool ask(enum who w, enum op op, struct sample *ret)
{
	struct order o = {op, times_of(op)};

	CHECK(write(workers[w].fd, &o, sizeof(o)) == sizeof(o));
	CHECK(read(workers[w].fd, ret, sizeof(*ret)) == sizeof(*ret));
	if (ret->err)
		printf("%s of %s: %s\n", kern_ops[op].name, whos[w].name, strerror(ret->err));
	return !ret->err;
}

/* --------------------------------------------------------------- comparisons */

/* One figure of two kinds of callers, round by round. */
struct figure {
	double base[ROUNDS_MAX], it[ROUNDS_MAX], ratio[ROUNDS_MAX], diff[ROUNDS_MAX];
};

static void figure_add(struct figure *f, int i, double base, double it)
{
	f->base[i] = base;
	f->it[i] = it;
	f->ratio[i] = base > 0 ? it / base : 0;
	f->diff[i] = it - base;
}

static void figure_print(const char *name, struct figure *f, int n)
{
	printf(", \"%s_base_us\": %.3f, \"%s_us\": %.3f, \"%s_ratio\": %.3f, \"%s_added_us\": %.3f",
	       name, quantile(f->base, n, 0.5) / 1e3, name, quantile(f->it, n, 0.5) / 1e3, name,
	       quantile(f->ratio, n, 0.5), name, quantile(f->diff, n, 0.5) / 1e3);
}

enum { F_WALL, F_CPU, F_SOCKET, F_P50, F_P99, FIGURES };
static const char *const figure_names[FIGURES] = {"wall", "cpu", "socket", "p50", "p99"};
static struct figure figures[FIGURES];

static void add(int i, const struct sample *base, const struct sample *it)
{
	figure_add(&figures[F_WALL], i, base->wall, it->wall);
	figure_add(&figures[F_CPU], i, base->cpu, it->cpu);
	figure_add(&figures[F_SOCKET], i, base->socket_p50, it->socket_p50);
	figure_add(&figures[F_P50], i, base->p50, it->p50);
	figure_add(&figures[F_P99], i, base->p99, it->p99);
}

static void print(const char *bench, const char *state, enum who w, enum op op, enum op base, int n)
{
	printf("{\"bench\": \"%s\", \"state\": \"%s\", \"who\": \"%s\", \"op\": \"%s\", \"base\": "
	       "\"%s\", "
	       "\"rounds\": %d",
	       bench, state, whos[w].name, kern_ops[op].name, kern_ops[base].name, n);
	for (int i = 0; i < (kern_ops[op].connects ? FIGURES : F_SOCKET); i++)
		figure_print(figure_names[i], &figures[i], n);
	printf("}\n");
	fflush(stdout);
}

/* @w next to who is outside and does @other, in turns; who goes first changes. */
static bool paired(const char *state, enum who w, enum op op, enum op other)
{
	struct sample base, it;

	CHECK(ask(OUTSIDE, other, &base) && ask(w, op, &it)); /* warm */
	for (int i = 0; i < opt.rounds; i++) {
		if (i & 1)
			CHECK(ask(w, op, &it) && ask(OUTSIDE, other, &base));
		else
			CHECK(ask(OUTSIDE, other, &base) && ask(w, op, &it));
		add(i, &base, &it);
	}
	print("kern_pair", state, w, op, other, opt.rounds);
	return true;
}

/* ------------------------------------------------------------------ programs */

struct prog {
	char name[32];
	int fd;
	uint64_t ns, runs;
	double per_run[ROUNDS_MAX], per_op[ROUNDS_MAX];
	int n;
};
static struct prog progs[PROGS_MAX];
static int nprogs;

static bool progs_open(void)
{
	char path[512];
	struct dirent *e;
	DIR *d;

	snprintf(path, sizeof(path), "%s/%s/progs", env.bpf_dir, TG_ABI_VERSION);
	d = opendir(path);
	CHECK(d);
	while ((e = readdir(d)) && nprogs < PROGS_MAX) {
		struct prog *p = &progs[nprogs];

		if (e->d_name[0] == '.' || strlen(e->d_name) >= sizeof(p->name))
			continue;
		snprintf(path, sizeof(path), "%s/%s/progs/%s", env.bpf_dir, TG_ABI_VERSION,
			 e->d_name);
		memcpy(p->name, e->d_name, strlen(e->d_name) + 1);
		p->fd = bpf_obj_get(path);
		CHECK(p->fd >= 0);
		nprogs++;
	}
	closedir(d);
	return true;
}

static void progs_close(void)
{
	while (nprogs)
		(void)close(progs[--nprogs].fd);
}

/* What it ran since the last time. */
static bool prog_look(struct prog *p, double *ret_ns, double *ret_runs)
{
	struct bpf_prog_info info = {0};
	uint32_t len = sizeof(info);

	CHECK(bpf_obj_get_info_by_fd(p->fd, &info, &len) == 0);
	*ret_ns = (double)(info.run_time_ns - p->ns);
	*ret_runs = (double)(info.run_cnt - p->runs);
	p->ns = info.run_time_ns;
	p->runs = info.run_cnt;
	return true;
}

static bool programs_round(enum who w, enum op op)
{
	struct sample s;
	double ns, runs;

	for (int i = 0; i < nprogs; i++)
		CHECK(prog_look(&progs[i], &ns, &runs));
	CHECK(ask(w, op, &s));
	for (int i = 0; i < nprogs; i++) {
		struct prog *p = &progs[i];

		CHECK(prog_look(p, &ns, &runs));
		/* Others on the host fork and exec too: those are seen when that is the operation.
		 */
		if (runs < times_of(op) * 0.9)
			continue;
		p->per_run[p->n] = ns / runs;
		p->per_op[p->n++] = runs / times_of(op);
	}
	return true;
}

/* A thread that is preempted inside a program spoils a round, hence medians of short ones. */
static bool programs(const char *state, enum who w, enum op op)
{
	double sum = 0;

	for (int i = 0; i < nprogs; i++)
		progs[i].n = 0;
	for (int i = 0; i < opt.rounds; i++)
		CHECK(programs_round(w, op));
	for (int i = 0; i < nprogs; i++) {
		struct prog *p = &progs[i];
		double run, per_op;

		if (p->n < opt.rounds / 2 + 1)
			continue;
		run = quantile(p->per_run, p->n, 0.5);
		per_op = quantile(p->per_op, p->n, 0.5);
		sum += run * per_op;
		printf("{\"bench\": \"kern_prog\", \"state\": \"%s\", \"who\": \"%s\", \"op\": "
		       "\"%s\", "
		       "\"program\": \"%s\", \"ns\": %.0f, \"best_ns\": %.0f, \"runs\": %.2f}\n",
		       state, whos[w].name, kern_ops[op].name, p->name, run, p->per_run[0], per_op);
	}
	printf("{\"bench\": \"kern_sum\", \"state\": \"%s\", \"who\": \"%s\", \"op\": \"%s\", "
	       "\"ns\": %.0f}\n",
	       state, whos[w].name, kern_ops[op].name, sum);
	fflush(stdout);
	return true;
}

struct row_of {
	enum who who;
	enum op op;
	enum op other; /* of who is outside */
};

static bool all_programs(const char *state, const struct row_of *rows, size_t n)
{
	int stats = bpf_enable_stats(BPF_STATS_RUN_TIME);
	bool ok = true;

	CHECK(stats >= 0 && progs_open());
	for (size_t i = 0; ok && i < n; i++)
		ok = rows[i].other || programs(state, rows[i].who, rows[i].op);
	(void)close(stats);
	progs_close();
	return ok;
}

/* Without the clock that all programs are under while they are timed, then with it. */
static bool rows(const char *state, const struct row_of *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		CHECK(paired(state, rows[i].who, rows[i].op,
			     rows[i].other ? rows[i].other : rows[i].op));
	return all_programs(state, rows, n);
}

/* -------------------------------------------------------------------- states */

static const struct row_of usual[] = {
	{PLAIN, OP_CONNECT, OP_SAME},
	{PLAIN, OP_CONNECT6, OP_SAME},
	{PLAIN, OP_TARGET4, OP_SAME},
	{AGENT_OTHER, OP_CONNECT, OP_SAME},
	{AGENT_OTHER, OP_CONNECT6, OP_SAME},
	{AGENT_OTHER, OP_TARGET4, OP_SAME},
	{AGENT_OTHER, OP_TARGET6, OP_SAME},
	{PLAIN, OP_UDP, OP_SAME},
	{AGENT_OTHER, OP_UDP, OP_SAME},
	{PLAIN, OP_BIND, OP_SAME},
	{PLAIN, OP_UNIX, OP_SAME},
	{AGENT_OTHER, OP_UNIX, OP_SAME},
	{PLAIN, OP_BULK, OP_SAME},
	{AGENT_OTHER, OP_BULK, OP_SAME},
	{PLAIN, OP_SMALL, OP_SAME},
	{AGENT_OTHER, OP_SMALL, OP_SAME},
	{AGENT_OTHER, OP_TARGET4, OP_LOOPBACK},
};
static const struct row_of forks[] = {{PLAIN, OP_FORK, OP_SAME}, {PLAIN, OP_EXEC, OP_SAME}};

static bool set_up(void)
{
	CHECK_EQ(kern_agent_cgroup_set(env.k, "/agents", AGENT), 0);
	CHECK(target_mode(TG_MODE_STEER, 0));
	CHECK(protect(ADDR4, PORT_TARGET, IPPROTO_TCP) && protect(ADDR6, PORT_TARGET, IPPROTO_TCP));
	CHECK_EQ(kern_listener_set(env.k, env.listen4, env.listen6, env.port), 0);
	return true;
}

static bool load(void)
{
	struct buf error;
	int r;

	buf_init(&error, 512);
	r = kern_load(&env.paths, &env.k, &error);
	buf_done(&error);
	CHECK_EQ(r, 0);
	return set_up();
}

static bool unload(void)
{
	struct buf error;
	int r;

	kern_close(env.k);
	env.k = NULL;
	buf_init(&error, 512);
	r = kern_unload(&env.paths, &error);
	buf_done(&error);
	CHECK_EQ(r, 0);
	return true;
}

enum { LOADED_OPS = 5, PER_LOAD = 5 };
static const enum op loaded_ops[LOADED_OPS] = {OP_CONNECT, OP_UDP, OP_FORK, OP_EXEC, OP_BULK};
static struct sample without[LOADED_OPS][ROUNDS_MAX], with[LOADED_OPS][ROUNDS_MAX];

static bool sample_loaded(struct sample into[LOADED_OPS][ROUNDS_MAX], int at)
{
	for (int o = 0; o < LOADED_OPS; o++)
		for (int i = 0; i < PER_LOAD; i++)
			CHECK(ask(PLAIN, loaded_ops[o], &into[o][at + i]));
	return true;
}

/* The same caller, loaded and not: what the programs do to the whole host shows as well. */
static bool all_loads(void)
{
	int n = 0;

	for (int l = 0; l < opt.loads && n + PER_LOAD <= ROUNDS_MAX; l++, n += PER_LOAD)
		CHECK(unload() && sample_loaded(without, n) && load() && sample_loaded(with, n));
	for (int o = 0; n && o < LOADED_OPS; o++) {
		for (int i = 0; i < n; i++)
			add(i, &without[o][i], &with[o][i]);
		print("kern_load", "loaded", PLAIN, loaded_ops[o], loaded_ops[o], n);
	}
	return true;
}

/* Spread over 10/8, and on the ports that are looked up: the whole way down the tree. */
static struct tg_addr_key filled_key(int i)
{
	struct tg_addr_key key = key_of(ADDR4, i & 1 ? PORT_TARGET : PORT_FREE, IPPROTO_TCP, 32);
	uint32_t x = ((uint32_t)i * 2654435761u) >> 8;

	key.addr[13] = (uint8_t)(x >> 16);
	key.addr[14] = (uint8_t)(x >> 8);
	key.addr[15] = (uint8_t)x;
	return key;
}

static int fill_target(int i)
{
	struct tg_target_state state = {.mode = TG_MODE_STEER};
	struct tg_addr_key key = filled_key(i);
	int r = kern_target_set(env.k, (uint32_t)(FILLED + i), &state);

	return r ? r : kern_addr_set(env.k, &key, (uint32_t)(FILLED + i));
}

static int fill_agent(int i)
{
	char path[32];

	snprintf(path, sizeof(path), "/f%d", i);
	if (!cgroup_make(path))
		return -errno;
	return kern_agent_cgroup_set(env.k, path, (uint32_t)(FILLED + i));
}

static void fill(const char *what, int (*one)(int i), int n)
{
	double from = kern_op_now(CLOCK_MONOTONIC);
	int i, r = 0;

	for (i = 0; i < n && !r; i++)
		r = one(i);
	printf("{\"bench\": \"kern_fill\", \"what\": \"%s\", \"n\": %d, \"us_each\": %.1f, "
	       "\"error\": \"%s\"}\n",
	       what, r ? i - 1 : i, (kern_op_now(CLOCK_MONOTONIC) - from) / 1e3 / i,
	       r ? strerror(-r) : "");
	fflush(stdout);
}

static bool filled(void)
{
	fill("targets", fill_target, opt.targets);
	fill("agents", fill_agent, opt.agents);
	return rows("filled", usual, ARRAY_SIZE(usual));
}

/* With the backstop on the root, for agents by uid. */
static bool by_uid(void)
{
	static const struct row_of which[] = {
		{PLAIN, OP_CONNECT, OP_SAME},		{AGENT_UID_OTHER, OP_CONNECT, OP_SAME},
		{AGENT_UID_OTHER, OP_TARGET4, OP_SAME}, {PLAIN, OP_BULK, OP_SAME},
		{AGENT_UID_OTHER, OP_BULK, OP_SAME},	{PLAIN, OP_SMALL, OP_SAME},
		{AGENT_UID_OTHER, OP_SMALL, OP_SAME},
	};

	CHECK_EQ(kern_agent_uid_set(env.k, UID_AGENT, AGENT_UID), 0);
	CHECK(rows("uids", which, ARRAY_SIZE(which)));
	CHECK_EQ(kern_agent_uid_delete(env.k, UID_AGENT), 0);
	return true;
}

/* With an agent somewhere that may reach listed addresses only. */
static bool denying(void)
{
	struct kern_agent_rules rules_of = {.deny = true, .unix_judged = true}, none = {0};
	static const struct row_of which[] = {
		{PLAIN, OP_CONNECT, OP_SAME}, {AGENT_OTHER, OP_CONNECT, OP_SAME},
		{PLAIN, OP_UDP, OP_SAME},     {AGENT_OTHER, OP_UDP, OP_SAME},
		{PLAIN, OP_UNIX, OP_SAME},    {AGENT_OTHER, OP_UNIX, OP_SAME},
	};

	CHECK_EQ(kern_agent_rules_set(env.k, FILLED - 1, &rules_of), 0);
	CHECK(rows("deny", which, ARRAY_SIZE(which)));
	CHECK_EQ(kern_agent_rules_set(env.k, FILLED - 1, &none), 0);
	return true;
}

static bool workers_start(void)
{
	CHECK(kern_ops_init() && cgroup_make("-x"));
	for (int w = 0; w < WHOS; w++)
		CHECK(worker_start((enum who)w));
	return true;
}

static bool run(void)
{
	return env_reset() && workers_start() && rows("few", usual, ARRAY_SIZE(usual)) &&
	       all_programs("few", forks, ARRAY_SIZE(forks)) && denying() && by_uid() &&
	       all_loads() && filled();
}

static void clean_up(void)
{
	char path[32];

	workers_stop();
	env_done();
	(void)cgroup_remove("-x");
	for (int i = 0; i < opt.agents; i++) {
		snprintf(path, sizeof(path), "/f%d", i);
		if (!cgroup_remove(path))
			break;
	}
	(void)cgroup_remove("");
}

static int option(int argc, char **argv, int i, int dflt, int most)
{
	long n = argc > i ? strtol(argv[i], NULL, 10) : dflt;

	return n < 0 ? 0 : n > most ? most : (int)n;
}

int main(int argc, char **argv)
{
	bool ok;

	signal(SIGPIPE, SIG_IGN);
	opt.rounds = option(argc, argv, 1, ROUNDS, ROUNDS_MAX);
	opt.ops = option(argc, argv, 2, OPS, KERN_OPS_MAX);
	opt.loads = option(argc, argv, 3, LOADS, ROUNDS_MAX);
	opt.targets = option(argc, argv, 4, TARGETS, 1 << 24);
	opt.agents = option(argc, argv, 5, AGENTS, 1 << 20);
	ok = env_init() && opt.rounds > 2 && run();
	clean_up();
	return ok ? 0 : 1;
}
