/* SPDX-License-Identifier: MIT */
#include "config/cfghint.h"

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

static const char blanks[] = " \t\r\n";

/* `{agent}` begins with a brace, too, but no JSON begins with one and a letter. */
static bool looks_like_json(const char *s)
{
	s += strspn(s, blanks);
	if (*s == '[' || *s == '"')
		return true;
	if (*s != '{')
		return false;
	s++;
	s += strspn(s, blanks);
	return *s == '"' || *s == '}';
}

static bool names_are_plain(const json_t *v)
{
	const char *name;
	json_t *one;
	size_t i;

	json_object_foreach((json_t *)(uintptr_t)v, name, one)
	{
		if (strchr(name, '{') || !names_are_plain(one))
			return false;
	}
	json_array_foreach((json_t *)(uintptr_t)v, i, one)
	{
		if (!names_are_plain(one))
			return false;
	}
	return true;
}

enum cfghint cfghint_read(const char *template, json_t **ret)
{
	*ret = NULL;
	if (!looks_like_json(template))
		return CFGHINT_PLAIN;
	*ret = json_loads(template, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, NULL);
	if (*ret && names_are_plain(*ret))
		return CFGHINT_JSON;
	json_decref(*ret);
	*ret = NULL;
	return CFGHINT_BROKEN;
}
