/* SPDX-License-Identifier: MIT */
#include "base/compiler.h"
#include "inspect/sql/sqlinfo.h"

static const char *const names[] = {
#define X(name, text, what) text,
	SQL_EFFECTS(X)
#undef X
};

const char *sql_effect_name(enum sql_effect_bit bit)
{
	return (unsigned)bit < ARRAY_SIZE(names) ? names[bit] : NULL;
}

int sql_effect_parse(struct slice name)
{
	for (size_t i = 0; i < ARRAY_SIZE(names); i++)
		if (slice_eq_str(name, names[i]))
			return (int)i;
	return -1;
}
