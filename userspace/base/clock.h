/* SPDX-License-Identifier: MIT */
/* Clocks by purpose. Inspectors and policy never read one: time comes to them. */
#ifndef TIDEGATE_BASE_CLOCK_H
#define TIDEGATE_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline uint64_t clock_ns(clockid_t id)
{
	struct timespec ts;

	(void)clock_gettime(id, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

/* Runs on while the host sleeps: grants and deadlines. */
static inline uint64_t clock_boot_ns(void)
{
	return clock_ns(CLOCK_BOOTTIME);
}

/* For records and people. */
static inline uint64_t clock_wall_ns(void)
{
	return clock_ns(CLOCK_REALTIME);
}

#endif
