/* SPDX-License-Identifier: MIT */
#include "ident/strict_json.h"

/*
 * The parser recurses once per level, up to 2048: the depth is judged before
 * it sees the text. Brackets inside strings do not count.
 */
static bool too_deep(struct slice s)
{
	bool in_string = false;
	unsigned depth = 0;

	for (size_t i = 0; i < s.n; i++) {
		uint8_t c = s.p[i];

		if (in_string) {
			if (c == '\\')
				i++;
			else if (c == '"')
				in_string = false;
		} else if (c == '"') {
			in_string = true;
		} else if (c == '{' || c == '[') {
			if (++depth > STRICT_JSON_DEPTH)
				return true;
		} else if ((c == '}' || c == ']') && depth) {
			depth--;
		}
	}
	return false;
}

json_t *strict_json_object(struct slice s, size_t max_bytes, char *error, size_t error_cap)
{
	json_error_t why;
	json_t *j;

	if (s.n > max_bytes) {
		(void)snprintf(error, error_cap, "%zu bytes of JSON, at most %zu are read", s.n,
			       max_bytes);
		return NULL;
	}
	if (too_deep(s)) {
		(void)snprintf(error, error_cap, "JSON nested more than %d levels",
			       STRICT_JSON_DEPTH);
		return NULL;
	}
	j = json_loadb((const char *)s.p, s.n, JSON_REJECT_DUPLICATES, &why);
	if (!j) {
		/* The parser's text quotes the input: only the place is told. */
		bool twice = json_error_code(&why) == json_error_duplicate_key;

		(void)snprintf(error, error_cap, "%s at byte %d",
			       twice ? "the same name twice in JSON" : "no valid JSON",
			       why.position);
		return NULL;
	}
	if (!json_is_object(j)) {
		json_decref(j);
		(void)snprintf(error, error_cap, "JSON that is no object");
		return NULL;
	}
	return j;
}

const char *strict_json_string(const json_t *object, const char *name)
{
	return json_string_value(json_object_get(object, name));
}

void strict_json_wipe(json_t *string)
{
	if (json_is_string(string))
		explicit_bzero((char *)(uintptr_t)json_string_value(string),
			       json_string_length(string));
}
