/* SPDX-License-Identifier: MIT */
/* Inside policy/: the texts of the catalog queries. */
#ifndef TIDEGATE_POLICY_CATALOG_SQL_H
#define TIDEGATE_POLICY_CATALOG_SQL_H

#include "base/compiler.h"

struct mask_set;

/* CATALOG_QUERIES strings for the column rules of @m. */
MUST_CHECK int catalog_sql_make(const struct mask_set *m, char ***ret);
void catalog_sql_free(char **queries);

#endif
