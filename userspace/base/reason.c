/* SPDX-License-Identifier: MIT */
#include "base/reason.h"

struct reason_words {
	const char *label, *what, *todo;
};

static const struct reason_words words[] = {
#define X(name, label, what, todo) [TG_R_##name] = {label, what, todo},
	TG_REASONS(X)
#undef X
};

static const struct reason_words *find(uint16_t reason)
{
	static const struct reason_words none = {"unknown", "unknown reason", ""};

	return reason < TG_R_COUNT ? &words[reason] : &none;
}

const char *reason_label(uint16_t reason)
{
	return find(reason)->label;
}

const char *reason_what(uint16_t reason)
{
	return find(reason)->what;
}

const char *reason_todo(uint16_t reason)
{
	return find(reason)->todo;
}
