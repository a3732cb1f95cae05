/* SPDX-License-Identifier: MIT */
/*
 * The seccomp filter of an agent: a list of what leads around the gate where no BPF hook looks,
 * each with its reason. Everything else is allowed: it is no sandbox.
 */
#include <errno.h>
#include <linux/netlink.h>
#include <sched.h>
#include <seccomp.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "ctl/launch.h"

#ifndef TIOCLINUX
#define TIOCLINUX 0x541C
#endif
#ifndef CLONE_NEWTIME
#define CLONE_NEWTIME 0x80
#endif

struct refused {
	int call;
	int error;
};

/* The kernel works for the caller, outside of its cgroup or unseen by the hooks. */
static const struct refused always[] = {
	{SCMP_SYS(bpf), EPERM},		    /* pinned maps take no capability, only a file mode */
	{SCMP_SYS(pidfd_getfd), EPERM},	    /* other processes' sockets */
	{SCMP_SYS(perf_event_open), EPERM}, /* carries BPF programs, reads other processes */
	{SCMP_SYS(add_key), EPERM},	    /* request_key() starts a helper of root's, */
	{SCMP_SYS(keyctl), EPERM},	    /* outside of every agent's cgroup, that asks the */
	{SCMP_SYS(request_key), EPERM},	    /* network (dns_resolver) */
};

static const struct refused io_uring[] = {
	/* IORING_OP_SOCKET is no socket(2). */
	{SCMP_SYS(io_uring_setup), EPERM},
	{SCMP_SYS(io_uring_enter), EPERM},
	{SCMP_SYS(io_uring_register), EPERM},
};

static const struct refused ptraces[] = {
	/* A process of the same uid outside of the cgroup would connect instead. */
	{SCMP_SYS(ptrace), EPERM},
	{SCMP_SYS(process_vm_readv), EPERM},
	{SCMP_SYS(process_vm_writev), EPERM},
};

static const unsigned int namespaces[] = {
	CLONE_NEWNS,   CLONE_NEWCGROUP, CLONE_NEWUTS, CLONE_NEWIPC,
	CLONE_NEWUSER, CLONE_NEWPID,	CLONE_NEWNET,
};

/* A call that this architecture does not have needs no rule. */
static int harmless(int rc)
{
	return rc == -EDOM || rc == -EINVAL ? 0 : rc;
}

static int refuse_all(scmp_filter_ctx f, const struct refused *list, size_t n)
{
	int rc = 0;

	for (size_t i = 0; !rc && i < n; i++)
		rc = harmless(seccomp_rule_add(f, SCMP_ACT_ERRNO((uint32_t)list[i].error),
					       list[i].call, 0));
	return rc;
}

static int refuse_family(scmp_filter_ctx f, struct scmp_arg_cmp cmp)
{
	return seccomp_rule_add(f, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socket), 1, cmp);
}

/*
 * Families: AF_UNIX, AF_INET, AF_INET6 and, for getaddrinfo(), routing netlink. Arguments are
 * compared in 64 bits and the kernel takes 32 of them: what has more set is refused too.
 */
static int refuse_sockets(scmp_filter_ctx f)
{
	static const unsigned int raw[] = {SOCK_RAW, SOCK_PACKET};
	static const unsigned int inet[] = {AF_INET, AF_INET6};
	int rc = refuse_family(f, SCMP_A0(SCMP_CMP_GT, AF_NETLINK, 0));

	for (unsigned int family = 0; !rc && family < AF_NETLINK; family++)
		if (family != AF_UNIX && family != AF_INET && family != AF_INET6)
			rc = refuse_family(f, SCMP_A0(SCMP_CMP_EQ, family, 0));
	if (!rc)
		rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPROTONOSUPPORT), SCMP_SYS(socket), 2,
				      SCMP_A0(SCMP_CMP_EQ, AF_NETLINK, 0),
				      SCMP_A2(SCMP_CMP_NE, NETLINK_ROUTE, 0));
	/* socket(AF_INET, SOCK_PACKET) is an AF_PACKET socket by its old name. */
	for (size_t i = 0; !rc && i < ARRAY_SIZE(inet) * ARRAY_SIZE(raw); i++)
		rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(socket), 2,
				      SCMP_A0(SCMP_CMP_EQ, inet[i / 2], 0),
				      SCMP_A1(SCMP_CMP_MASKED_EQ, 0xf, raw[i % 2]));
	if (!rc)
		rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EAFNOSUPPORT), SCMP_SYS(socketpair), 1,
				      SCMP_A0(SCMP_CMP_NE, AF_UNIX, 0));
	return rc;
}

/* Keystrokes for the operator's shell, which is no agent. ioctl() takes 32 bits of these. */
static int refuse_keystrokes(scmp_filter_ctx f)
{
	static const unsigned int calls[] = {TIOCSTI, TIOCLINUX};
	int rc = 0;

	for (size_t i = 0; !rc && i < ARRAY_SIZE(calls); i++)
		rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(ioctl), 1,
				      SCMP_A1(SCMP_CMP_MASKED_EQ, 0xffffffffu, calls[i]));
	return rc;
}

/*
 * Root of a namespace of its own fakes the server and has capabilities in there. Flags of
 * clone3() lie in memory, where a filter cannot look: libraries fall back to clone().
 */
static int refuse_namespaces(scmp_filter_ctx f)
{
	int rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0);

	for (size_t i = 0; !rc && i < ARRAY_SIZE(namespaces); i++) {
		rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(clone), 1,
				      SCMP_A0(SCMP_CMP_MASKED_EQ, namespaces[i], namespaces[i]));
		if (!rc)
			rc = seccomp_rule_add(
				f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(unshare), 1,
				SCMP_A0(SCMP_CMP_MASKED_EQ, namespaces[i], namespaces[i]));
	}
	if (!rc)
		rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(unshare), 1,
				      SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_NEWTIME, CLONE_NEWTIME));
	if (!rc)
		rc = seccomp_rule_add(f, SCMP_ACT_ERRNO(EPERM), SCMP_SYS(setns), 0);
	return rc;
}

int launch_filter(const struct launch_allow *allow)
{
	scmp_filter_ctx f = seccomp_init(SCMP_ACT_ALLOW);
	int rc;

	if (!f)
		return -ENOMEM;
	/* Calls by another convention (i386, x32) have other numbers: the rules would miss them. */
	rc = seccomp_attr_set(f, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS);
	if (!rc)
		rc = seccomp_attr_set(f, SCMP_FLTATR_CTL_NNP, 1);
	if (!rc)
		rc = refuse_sockets(f);
	if (!rc)
		rc = refuse_keystrokes(f);
	if (!rc)
		rc = refuse_all(f, always, ARRAY_SIZE(always));
	if (!rc && !allow->io_uring)
		rc = refuse_all(f, io_uring, ARRAY_SIZE(io_uring));
	if (!rc && !allow->ptrace)
		rc = refuse_all(f, ptraces, ARRAY_SIZE(ptraces));
	if (!rc && !allow->namespaces)
		rc = refuse_namespaces(f);
	if (!rc)
		rc = seccomp_load(f);
	seccomp_release(f);
	return rc;
}
