/* SPDX-License-Identifier: MIT */
#include "inspect/sql/settings.h"

#include <strings.h>

#include "base/compiler.h"

uint32_t sql_setting(const char *name)
{
	static const struct {
		const char *name;
		uint32_t flags;
	} settings[] = {
		{"standard_conforming_strings", SETTING_LEXER},
		{"client_encoding", SETTING_LEXER},
		{"backslash_quote", SETTING_LEXER},
		{"escape_string_warning", SETTING_LEXER},
		{"role", SETTING_PRIVILEGE},
		{"session_authorization", SETTING_PRIVILEGE},
	};

	if (!name)
		return SETTING_LEXER | SETTING_PRIVILEGE;
	for (size_t i = 0; i < ARRAY_SIZE(settings); i++)
		if (strcasecmp(name, settings[i].name) == 0)
			return settings[i].flags;
	return 0;
}
