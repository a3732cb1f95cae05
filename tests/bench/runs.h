/* SPDX-License-Identifier: MIT */
/* What a part alone costs: CPU time of this thread, and the median of several runs. */
#ifndef TIDEGATE_TESTS_BENCH_RUNS_H
#define TIDEGATE_TESTS_BENCH_RUNS_H

#include <stdlib.h>
#include <time.h>

static inline double cpu_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec * 1e-3;
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

/* Sorts @t. */
static inline double runs_median(double *t, size_t n)
{
	qsort(t, n, sizeof(t[0]), by_value);
	return t[n / 2];
}

#endif
