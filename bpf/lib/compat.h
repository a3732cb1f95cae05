/* SPDX-License-Identifier: MIT */
/* Headers, constants of the kernel's ABI, and helpers that older kernels lack. */
#ifndef TIDEGATE_BPF_COMPAT_H
#define TIDEGATE_BPF_COMPAT_H

#include <linux/bpf.h>
#include <stdbool.h>

#include "vmlinux.h"

#include <bpf/bpf_helpers.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>

#include "tidegate_abi.h"

#define memcpy(d, s, n) __builtin_memcpy(d, s, n)
#define memset(d, c, n) __builtin_memset(d, c, n)

/* Keeps clang from joining two loads of a context into one that the verifier refuses. */
#define CTX_U32(field) (*(volatile __u32 *)&(field))

/* <errno.h>, <sys/socket.h> and <netinet/in.h> do not compile for BPF. */
enum {
	E_PERM = 1,
	E_ACCES = 13,
	E_PROTONOSUPPORT = 93,
	E_ADDRINUSE = 98,
	E_NOBUFS = 105,
	E_CONNREFUSED = 111,
};
enum { FAMILY_INET = 2, FAMILY_INET6 = 10 };
enum { TYPE_STREAM = 1, TYPE_DGRAM = 2, TYPE_RAW = 3 };
enum {
	PROTO_HOPOPTS = 0,
	PROTO_ICMP = 1,
	PROTO_TCP = 6,
	PROTO_UDP = 17,
	PROTO_ROUTING = 43,
	PROTO_FRAGMENT = 44,
	PROTO_AH = 51,
	PROTO_ICMP6 = 58,
	PROTO_DSTOPTS = 60,
};

/*
 * Functions that are __noinline and not static are verified by themselves, once for each
 * program, instead of again and again for every way that leads to a call. Such a one knows
 * nothing of its arguments: pointers may be NULL, kernel addresses come as numbers, and until
 * 6.2 what they point to is no key or value for a map's helper: keys are copied. It returns a
 * number.
 */

/*
 * Turns 0 or -errno into a hook's verdict. Before 5.18 there is no way to choose
 * the error and the caller sees EPERM.
 */
static __always_inline int verdict(int err)
{
	if (!err)
		return 1;
	if (bpf_core_enum_value_exists(enum bpf_func_id, BPF_FUNC_set_retval))
		bpf_set_retval(err);
	return 0;
}

#endif
