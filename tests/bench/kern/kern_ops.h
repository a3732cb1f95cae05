/* SPDX-License-Identifier: MIT */
/* What bench_kern times: one operation after the other, client and server in one thread. */
#ifndef TIDEGATE_TESTS_BENCH_KERN_OPS_H
#define TIDEGATE_TESTS_BENCH_KERN_OPS_H

#include <stdbool.h>
#include <time.h>

enum { KERN_OPS_MAX = 20000 }; /* at a time */

enum op {
	OP_SAME, /* none: the same as of the other caller */
	OP_CONNECT,
	OP_CONNECT6,
	OP_LOOPBACK,
	OP_TARGET4,
	OP_TARGET6,
	OP_UDP,
	OP_BIND,
	OP_UNIX,
	OP_FORK,
	OP_EXEC,
	OP_BULK,
	OP_SMALL,
	KERN_OPS
};

struct kern_op {
	const char *name;
	int (*fn)(int n); /* does it @n times: 0 or errno */
	bool connects;	  /* fills kern_op_times */
	int part;	  /* slow: so many times fewer of it */
};
extern const struct kern_op kern_ops[KERN_OPS];

/* Of each connection, in ns. */
extern struct kern_op_times {
	double socket[KERN_OPS_MAX], connect[KERN_OPS_MAX];
} kern_op_times;

/* Who connects to a target comes to the daemon's listener. */
extern bool kern_ops_steered;

/* Servers that env.h does not have; before workers are forked. */
bool kern_ops_init(void);
double kern_op_now(clockid_t clock);

#endif
