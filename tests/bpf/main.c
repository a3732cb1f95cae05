/* SPDX-License-Identifier: MIT */
/* Runs the rows one by one on the running kernel. As root. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include <bpf/libbpf.h>

#include "env.h"
#include "matrix.h"

static int passed, failed, skipped;

static void run(const struct row *rows, const char *only)
{
	bool ok;

	for (const struct row *r = rows; r->name; r++) {
		if (only && !strstr(r->name, only))
			continue;
		env.skip = NULL;
		limit_begin(r->name, 0);
		ok = env_reset() && r->fn();
		ok = limit_kept() && ok;
		if (ok && env.skip)
			printf("  skip    bpf: %s: %s\n", r->name, env.skip);
		else
			printf("  %-7s %s\n", ok ? "ok" : "FAIL", r->name);
		fflush(stdout);
		*(ok && env.skip ? &skipped : ok ? &passed : &failed) += 1;
	}
}

/* For a reader: -m and -j, the matrix as a table and as JSON; -b, lines of verifier.baseline. */
static int show(char what)
{
	bool ok = limit_init() && env_init();

	if (ok && what == 'b')
		ok = verifier_lines();
	else if (ok)
		ok = matrix_run(what == 'j' ? MATRIX_JSON : MATRIX_TABLE, NULL, &passed, &failed);

	env_done();
	return ok && !failed ? 0 : 1;
}

int main(int argc, char **argv)
{
	const char *only = argc > 1 && argv[1][0] ? argv[1] : NULL;

	signal(SIGPIPE, SIG_IGN);
	if (libbpf_probe_bpf_prog_type(BPF_PROG_TYPE_CGROUP_SOCK_ADDR, NULL) != 1) {
		printf("  skip    bpf: loading programs is not permitted here\n");
		printf("bpf: 0 passed, 0 failed, 1 skipped\n");
		return 0;
	}
	if (only && only[0] == '-' && only[1] && strchr("mjb", only[1]))
		return show(only[1]);
	if (!limit_init() || !env_init()) {
		env_done();
		printf("bpf: 0 passed, 1 failed, 0 skipped\n");
		return 1;
	}
	run(limit_rows, only);
	run(steer_rows, only);
	run(deny_rows, only);
	run(agent_rows, only);
	run(rules_rows, only);
	run(index_rows, only);
	run(name_rows, only);
	run(life_rows, only);
	run(optional_rows, only);
	run(verifier_rows, only);
	if (!matrix_run(MATRIX_TEST, only, &passed, &failed))
		failed++; /* the last one: it takes a /run of its own */
	run(netns_rows, only);
	run(accel_rows, only);
	run(watch_rows, only);
	run(fidelity_rows, only);
	env_done();
	printf("bpf: %d passed, %d failed, %d skipped\n", passed, failed, skipped);
	return failed ? 1 : 0;
}
