/* SPDX-License-Identifier: MIT */
/*
 * Passwords in a text, found by its words: they are there whether the text
 * parses or not, and inside of strings that are themselves SQL or connection strings.
 */
#ifndef TIDEGATE_INSPECT_SQL_SQLSECRET_H
#define TIDEGATE_INSPECT_SQL_SQLSECRET_H

#include "inspect/sql/gather.h"

/* @z is @text with a zero byte behind it. Marks the info as depending on its literals. */
void sqlsecret_find(struct slice text, const char *z, struct gather *g);

#endif
