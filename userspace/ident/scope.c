/* SPDX-License-Identifier: MIT */
#include "ident/scope.h"

enum { SCOPE_WORDS = 32, SCOPE_BYTES = 1024 };

/* Takes the next word off *rest; empty at the end. */
static struct slice next_word(struct slice *rest)
{
	struct slice word;
	size_t n = 0;

	while (rest->n && rest->p[0] == ' ')
		*rest = slice_from(*rest, 1);
	while (n < rest->n && rest->p[n] != ' ')
		n++;
	word = slice_of(rest->p, n);
	*rest = slice_from(*rest, n);
	return word;
}

bool scope_valid(const char *scope)
{
	struct slice rest = slice_str(scope), word;
	unsigned words = 0;

	if (rest.n > SCOPE_BYTES)
		return false;
	for (size_t i = 0; i < rest.n; i++) {
		uint8_t c = rest.p[i];

		if (c < 0x20 || c > 0x7e || c == '"' || c == '\\')
			return false;
	}
	for (word = next_word(&rest); word.n; word = next_word(&rest))
		words++;
	return words > 0 && words <= SCOPE_WORDS;
}

static bool text_has(struct slice text, struct slice word)
{
	struct slice w;

	for (w = next_word(&text); w.n; w = next_word(&text))
		if (slice_eq(w, word))
			return true;
	return false;
}

static bool has(const json_t *granted, struct slice word)
{
	const json_t *e;
	size_t i;

	if (json_is_string(granted))
		return text_has(slice_str(json_string_value(granted)), word);
	if (!json_is_array(granted))
		return false;
	for (i = 0; i < json_array_size(granted); i++) {
		e = json_array_get(granted, i);
		if (json_is_string(e) && slice_eq(slice_str(json_string_value(e)), word))
			return true;
	}
	return false;
}

bool scope_covers(const json_t *granted, const char *asked, struct slice *ret_missing)
{
	struct slice rest = slice_str(asked), word;

	for (word = next_word(&rest); word.n; word = next_word(&rest)) {
		if (!has(granted, word)) {
			*ret_missing = word;
			return false;
		}
	}
	return true;
}
