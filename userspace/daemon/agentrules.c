/* SPDX-License-Identifier: MIT */
/*
 * What agents may do besides connecting to targets, from the configuration into the
 * kernel's maps.
 */
#include "daemon/agentrules.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>

#include "base/log.h"
#include "daemon/address.h"
#include "kern/kern.h"

/*
 * What leads round the gate: a server's own socket, and services that run a command, mount or
 * look a name up for the caller, outside of its cgroup. The later and the longer counts.
 */
static const struct kern_unix_rule guarded[] = {
	/* paths that lead elsewhere */
	{"/proc/", false},
	{"/dev/fd/", false},
	/* databases */
	{"/run/postgresql/", false},
	{"/tmp/.s.PGSQL.*", false},
	{"./.s.PGSQL.*", false},
	/* container engines */
	{"/run/docker.sock", false},
	{"/run/docker/", false},
	{"/run/containerd/", false},
	{"./containerd.sock", false},
	{"@/containerd-shim/*", false},
	{"/run/podman/", false},
	{"./podman.sock", false},
	{"/run/crio/", false},
	{"./crio.sock", false},
	{"/run/buildkit/", false},
	{"./buildkitd.sock", false},
	{"/var/lib/lxd/", false},
	{"/var/snap/lxd/", false},
	{"/var/lib/incus/", false},
	{"/run/incus/", false},
	{"/run/libvirt/", false},
	{"./libvirt-sock", false},
	{"/run/snapd*", false},
	{"./snapd*", false},
	/* service managers and buses */
	{"/run/systemd/", false},
	{"./io.systemd.*", false},
	{"/run/systemd/journal/", true},
	{"/run/systemd/notify", true},
	{"/run/systemd/userdb/", true},
	{"/run/systemd/private", false},
	{"/run/dbus/", false},
	{"./system_bus_socket", false},
	{"/run/user/", false},
	{"./bus", false},
	{"/tmp/dbus-*", false},
	{"@/tmp/dbus-*", false},
	{"@/com/ubuntu/upstart*", false},
	/* names */
	{"/run/nscd/", false},
	{"./socket", false},
	/* somebody else's shell, keys, screen */
	{"/tmp/tmux-*", false},
	{"/run/tmux/", false},
	{"/run/screen/", false},
	{"/tmp/ssh-*", false},
	{"./agent.*", false},
	{"/tmp/.X11-unix/", false},
	{"@/tmp/.X11-unix/*", false},
	{"./X0", false},
	/* ours */
	{"/run/tidegate/", false},
};

const struct kern_unix_rule *agentrules_guarded(size_t *ret_n)
{
	*ret_n = ARRAY_SIZE(guarded);
	return guarded;
}

/* --- the lists of one agent */

static size_t put_allow(const struct cfg_agent *c, struct tg_addr_key *keys)
{
	size_t n = 0;

	for (uint32_t i = 0; i < c->nallow; i++) {
		const struct cfg_allow *a = &c->allow[i];
		struct tg_addr_key key = {.prefixlen = 32u + a->prefix, .port_be = htons(a->port)};

		memcpy(key.addr, &a->addr, sizeof(key.addr));
		key.protocol = IPPROTO_TCP;
		if (a->tcp)
			keys[n++] = key;
		key.protocol = IPPROTO_UDP;
		if (a->udp)
			keys[n++] = key;
	}
	return n;
}

static size_t put_paths(struct kern_unix_rule *dst, const char *const *paths, uint32_t n, bool pass)
{
	for (uint32_t i = 0; i < n; i++)
		dst[i] = (struct kern_unix_rule){paths[i], pass};
	return n;
}

static size_t put_unix(const struct parent *p, const struct cfg_agent *c,
		       struct kern_unix_rule *dst)
{
	size_t n = 0;

	if (c->unix_mode == UNIX_GUARD) {
		memcpy(dst, guarded, sizeof(guarded));
		n = ARRAY_SIZE(guarded);
	}
	n += put_paths(dst + n, c->unix_refuse, c->nunix_refuse, false);
	n += put_paths(dst + n, c->unix_allow, c->nunix_allow, true);
	/* A target's own socket is never a matter of lists. */
	for (uint32_t i = 0; i < p->cfg->ntargets; i++)
		if (p->cfg->targets[i].socket)
			n += put_paths(dst + n, &p->cfg->targets[i].socket, 1, false);
	return n;
}

int agentrules_apply(struct parent *p, const struct pagent *a)
{
	const struct cfg_agent *c = a->cfg;
	struct tg_addr_key *keys = calloc(2 * c->nallow + 1, sizeof(*keys));
	struct kern_unix_rule *paths = calloc(ARRAY_SIZE(guarded) + c->nunix_allow +
						      c->nunix_refuse + p->cfg->ntargets,
					      sizeof(*paths));
	struct kern_agent_rules rules = {.deny = c->deny,
					 .allow = keys,
					 .unix_judged = c->unix_mode != UNIX_OPEN,
					 .unix_listed = c->unix_mode == UNIX_LISTED,
					 .unix_rules = paths};
	int rc = -ENOMEM;

	if (keys && paths) {
		rules.nallow = put_allow(c, keys);
		rules.nunix = rules.unix_judged ? put_unix(p, c, paths) : 0;
		rc = kern_agent_rules_set(p->kern, a->id, &rules);
	}
	if (rc)
		log_error("agent %s: its rules cannot be put into effect: %s", a->name,
			  strerror(-rc));
	free(keys);
	free(paths);
	return rc;
}

static bool is_configured(void *ctx, uint32_t agent)
{
	const struct pagent *a = agent_by_id(ctx, agent);

	return a && a->cfg;
}

int agentrules_prune(struct parent *p)
{
	return kern_agent_rules_prune(p->kern, is_configured, p);
}

/* --- what the kernel has refused by them */

/* The kernel refuses by itself and only counts: said here, a line for each kind. */
void agentrules_tell(struct parent *p)
{
	static const struct {
		enum tg_kernel_counter counter;
		const char *label, *what;
	} kinds[] = {
#define X(name, label, what) {TG_K_##name, label, what},
		TG_KERNEL_COUNTERS(X)
#undef X
	};
	uint64_t now[TG_K_COUNT], more;

	if (kern_counters(p->kern, now))
		return;
	for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
		enum tg_kernel_counter c = kinds[i].counter;

		more = now[c] - p->refused_told[c];
		p->refused_told[c] = now[c];
		if (!p->refused_known || !more ||
		    (c != TG_K_DENIED_DEFAULT && c != TG_K_EGRESS_UNLISTED && c != TG_K_DENIED_UNIX))
			continue;
		log_notice("%s: %llu more: %s", kinds[i].label, (unsigned long long)more,
			   kinds[i].what);
	}
	p->refused_known = true;
}
