/* SPDX-License-Identifier: MIT */
/*
 * `tidegated --pin`, run early at boot: loads and pins the programs and puts
 * targets and agents into the maps, without a listener. Until the daemon is up
 * every target is refused to agents, or open if it says fail_open.
 */
#include <errno.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "daemon/downtime.h"
#include "daemon/parent.h"
#include "kern/kern.h"

static void log_lines(const struct buf *error)
{
	for (struct slice s = buf_slice(error); s.n;) {
		const uint8_t *nl = memchr(s.p, '\n', s.n);
		size_t n = nl ? (size_t)(nl - s.p) : s.n;

		log_warning("%.*s", (int)n, (const char *)s.p);
		s = slice_from(s, n + 1);
	}
}

static int pin(struct parent *p, struct buf *error)
{
	struct kern_paths paths;
	int rc = config_load(p->config_path, &p->cfg, error);

	if (rc)
		return rc;
	if (p->cfg->bpf == BPF_OFF) {
		log_notice("bpf is off in the configuration: nothing to pin");
		return 0;
	}
	if (mkdir(p->cfg->state_dir, 0750) && errno != EEXIST)
		return -errno;
	paths = (struct kern_paths){.bpf_dir = p->cfg->bpf_dir, .cgroup_root = p->cfg->cgroup_root};
	rc = kern_load(&paths, &p->kern, error);
	if (!rc)
		rc = targets_apply(p, error);
	if (!rc)
		rc = kern_dns_set(p->kern, config_steers_dns(p->cfg) ? TG_DNS_STEER : 0);
	if (!rc)
		downtime_pinned(p);
	if (!rc)
		log_notice("%u targets are refused to %u agents until tidegated is up",
			   p->cfg->ntargets, p->cfg->nagents);
	return rc;
}

int parent_pin(const char *config_path)
{
	static struct parent p;
	struct buf error;
	int rc;

	if (geteuid() != 0) {
		log_error("tidegated --pin must be started as root");
		return 1;
	}
	p.config_path = config_path;
	list_init(&p.targets);
	list_init(&p.agents);
	(void)umask(027);
	buf_init(&error, 1 << 20);
	rc = pin(&p, &error);
	log_lines(&error);
	if (rc)
		log_error("nothing is pinned: %s", strerror(-rc));
	if (p.kern)
		kern_close(p.kern);
	config_free(p.cfg);
	buf_done(&error);
	return rc ? 1 : 0;
}
