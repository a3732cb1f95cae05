/* SPDX-License-Identifier: MIT */
/* What rows have in common. */
#ifndef TIDEGATE_KERN_KERN_ROWS_PRIV_H
#define TIDEGATE_KERN_KERN_ROWS_PRIV_H

#include <pthread.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/compiler.h"
#include "kern/kern_rows.h"

enum { ROW_WAIT_MS = 1000 }; /* for what must come */

enum row_act { ROW_SEND, ROW_SIGNAL, ROW_SHUT_WR, ROW_RESET, ROW_READ_ALL };

/*
 * Something that another thread does while the row is inside a call: all but ROW_READ_ALL waits
 * until the row's thread sleeps, however slow the machine is.
 */
struct row_later {
	pthread_t thread, main;
	pid_t main_id;
	enum row_act act;
	int fd;
	size_t n;
	int then_fd; /* SIGNAL, SHUT_WR: what gets 10 bytes once the row's thread has slept again */
	bool good;   /* ROW_READ_ALL: the bytes were those of row_pattern */
};

/* Closes with a reset. */
void row_reset(int *fd);
bool row_later(struct row_later *l);
void row_join(struct row_later *l);

/* What a call gave: the number, or the name of errno. */
const char *row_result(ssize_t r, char text[KERN_ROW_TEXT]);
void row_say(char out[KERN_ROW_TEXT], const char *fmt, ...) PRINTF(2, 3);
bool row_open(const struct kern_row_env *env, struct kern_pair *p, char *out);
void row_close(struct kern_pair *p);
/* @n bytes can be read; false: not in time. */
bool row_arrived(int fd, size_t n);
/* Waits for @events; what poll() says. */
int row_poll(int fd, short events, int ms);
bool row_send(int fd, size_t n);
uint8_t row_pattern(size_t offset);
/* Reads to the end or to @max: how much, and whether in order; *ret_last: the last result. */
size_t row_read_all(int fd, size_t max, bool *ret_good, ssize_t *ret_last);

#endif
