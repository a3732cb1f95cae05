/* SPDX-License-Identifier: MIT */
/*
 * Files that the configuration names and that are no secrets: whether they are there and hold what
 * they should. The check of the text alone does not look at them.
 */
#ifndef TIDEGATE_CONFIG_CFGFILES_H
#define TIDEGATE_CONFIG_CFGFILES_H

#include "base/buf.h"
#include "config/config.h"

enum { CFG_FILE_MAX = 1 << 20 };

/* The certificates of a file with authorities, in PEM form: 0; or negative errno and why it cannot be used. */
MUST_CHECK int config_read_ca(const char *path, struct buf *ret, const char **ret_why);

/*
 * 0; or -EINVAL and a message for each that cannot be used, a line each, in @error, with the place
 * where it is named.
 */
MUST_CHECK int config_check_files(const struct config *c, struct buf *error);

#endif
