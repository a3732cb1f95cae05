/* SPDX-License-Identifier: MIT */
/* Settings of the server whose change means more than a setting. */
#ifndef TIDEGATE_INSPECT_SQL_SETTINGS_H
#define TIDEGATE_INSPECT_SQL_SETTINGS_H

#include <stdint.h>

enum setting_flag {
	SETTING_LEXER = 1u << 0,     /* changes how later text is read */
	SETTING_PRIVILEGE = 1u << 1, /* takes on the rights of a role */
};

/* NULL: a setting that is not known before it runs, so both. */
uint32_t sql_setting(const char *name);

#endif
