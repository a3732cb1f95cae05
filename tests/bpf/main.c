/* SPDX-License-Identifier: MIT */
/* Runs the rows one by one on the running kernel. As root. */
#include <errno.h>
#include <signal.h>
#include <unistd.h>

#include <bpf/libbpf.h>

#include "env.h"

static int passed, failed;

static void run(const struct row *rows, const char *only)
{
	bool ok;

	for (const struct row *r = rows; r->name; r++) {
		if (only && !strstr(r->name, only))
			continue;
		ok = env_reset() && r->fn();
		printf("  %-7s %s\n", ok ? "ok" : "FAIL", r->name);
		fflush(stdout);
		ok ? passed++ : failed++;
	}
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
	if (!env_init()) {
		env_done();
		printf("bpf: 0 passed, 1 failed, 0 skipped\n");
		return 1;
	}
	run(steer_rows, only);
	run(deny_rows, only);
	run(agent_rows, only);
	run(rules_rows, only);
	run(life_rows, only);
	run(netns_rows, only);
	env_done();
	printf("bpf: %d passed, %d failed, 0 skipped\n", passed, failed);
	return failed ? 1 : 0;
}
