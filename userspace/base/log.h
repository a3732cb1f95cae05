/* SPDX-License-Identifier: MIT */
/*
 * One line per message on stderr (with the priority prefix that journald
 * reads when stderr goes to it). Only daemon/ and ctl/ log above debug. The
 * message is escaped: a peer's bytes cannot forge a line or drive a terminal.
 */
#ifndef TIDEGATE_BASE_LOG_H
#define TIDEGATE_BASE_LOG_H

#include <stdbool.h>

#include "base/compiler.h"

enum log_level { LOG_LVL_ERROR, LOG_LVL_WARNING, LOG_LVL_NOTICE, LOG_LVL_INFO, LOG_LVL_DEBUG };

/* @who names the process in each line ("parent", "worker 0"); must outlive the log. */
void log_init(const char *who, enum log_level max);
enum log_level log_max(void);
/* The level is the command line's: log_configure() changes nothing from now on. */
void log_keep_level(void);
bool log_level_kept(void);
/* The level that the configuration says, by its name. */
void log_configure(const char *name);

/* 0 and *ret_level, or -EINVAL. Names: error, warning, notice, info, debug. */
MUST_CHECK int log_level_parse(const char *name, enum log_level *ret_level);

void log_write(enum log_level level, const char *fmt, ...) PRINTF(2, 3);

#define log_error(...)	 log_write(LOG_LVL_ERROR, __VA_ARGS__)
#define log_warning(...) log_write(LOG_LVL_WARNING, __VA_ARGS__)
#define log_notice(...)	 log_write(LOG_LVL_NOTICE, __VA_ARGS__)
#define log_info(...)	 log_write(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...)                                                                             \
	do {                                                                                       \
		if (unlikely(log_max() >= LOG_LVL_DEBUG))                                          \
			log_write(LOG_LVL_DEBUG, __VA_ARGS__);                                     \
	} while (0)

#endif
