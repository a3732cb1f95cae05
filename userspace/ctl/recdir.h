/* SPDX-License-Identifier: MIT */
/* The folder of recordings: found, opened, summed up. Works without the daemon. */
#ifndef TIDEGATE_CTL_RECDIR_H
#define TIDEGATE_CTL_RECDIR_H

#include <jansson.h>

#include "base/compiler.h"
#include "record/reader.h"

struct ctl;

/* -d, or what the configuration says, or the usual place. */
const char *recdir_path(struct ctl *c, const char *dir);
/*
 * Opens the recording that @word names: a file, or the identifier of a session in
 * @dir or enough of its beginning or end. *ret_name (free()) is its path. 0, or an
 * exit code after the error was said.
 */
MUST_CHECK int recdir_open(struct ctl *c, const char *dir, const char *word, int *ret_fd,
			   char **ret_name);
/* A reader over it. */
MUST_CHECK int recdir_reader(struct ctl *c, const char *dir, const char *word, struct reader **ret,
			     char **ret_name);
/* Names of the files in @dir, by time. 0, or an exit code after the error was said. */
MUST_CHECK int recdir_list(struct ctl *c, const char *dir, char ***ret_names, size_t *ret_n);
void recdir_list_free(char **names, size_t n);
/*
 * What the head and the end of a recording tell: id, agent, target, ..., state. NULL: no
 * memory. What cannot be read is told in "error".
 */
json_t *recdir_summary(struct reader *r, const char *name);
/* Header, login, end and the counts of what is in between, which means reading all of it. */
json_t *recdir_details(struct reader *r, const char *name);

#endif
