/* SPDX-License-Identifier: MIT */
/* The rows of the matrix, and the accomplices that some of them need. */
#ifndef TIDEGATE_TESTS_BPF_MATRIX_ROWS_H
#define TIDEGATE_TESTS_BPF_MATRIX_ROWS_H

#include "attacks.h"
#include "kern/kern_ways.h"

enum { MATRIX_PORT = 7004 }; /* of a target that nobody listens on */

enum outcome {
	STEERED, /* the daemon got it, with a record */
	REFUSED, /* the agent got an error and nobody anything */
	CUT,	 /* a connection that is there, through which nothing comes */
	REACHED, /* the target, or a socket that leads to it */
	GAP,	 /* the same, and it is named */
	ABSENT,	 /* not on this kernel */
	BROKEN,	 /* the attempt failed by itself */
	UNSEEN,	 /* it says that it got somewhere, and nobody has seen it yet */
};

enum how {
	ALONE,
	OLDER,	 /* connected before the target's entry */
	HANDED,	 /* a connected socket, by SCM_RIGHTS or pidfd_getfd */
	HOLDING, /* a connected socket, inherited */
	CALLED,	 /* somebody connects to the agent */
};

struct matrix_row {
	enum kern_way way;
	const char *name, *hook;
	attack_fn *fn;
	enum outcome plain, launched; /* what is expected */
	enum how how;
	const char *path, *cwd;
	int carried;	    /* type of the socket that is made outside; 0: none */
	uint16_t from_port; /* CALLED: of the caller */
	bool made;	    /* that the socket could be made is the whole attempt */
	bool sweep;	    /* user space sweeps in between */
	bool down;	    /* the daemon is */
	bool no_control;    /* as nobody's agent it means nothing */
	bool deny;	    /* the agent's default */
	bool remake;	    /* its cgroup is removed and made again */
};

extern const struct matrix_row matrix_rows[];

/* Waits for a client and passes @fd to it. */
void matrix_hand_over(int listener, int fd);
/* Connects from ADDR4:@port to the agent's server: does anything come back? Then @go is told. */
bool matrix_call_in(uint16_t port, int go);

#endif
