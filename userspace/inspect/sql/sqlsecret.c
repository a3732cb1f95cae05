/* SPDX-License-Identifier: MIT */
/*
 * PASSWORD 'x', password = 'x' in the text; the same, password=x and
 * scheme://user:x@host inside of its strings.
 */
#include "inspect/sql/sqlsecret.h"

#include <strings.h>

#include "inspect/sql/lexer.h"

static const char word[] = "password";
enum { WORD = sizeof(word) - 1 };

static bool is_space(uint8_t c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Behind "password" inside of a string; @end is that of the string. */
static void behind_word(struct slice text, size_t at, size_t end, struct gather *g)
{
	bool assigned = false, quoted = false;
	size_t from;

	for (; at < end; at++) {
		uint8_t c = text.p[at];

		if (c == '=' || c == ':' || c == '>')
			assigned = true;
		else if (!is_space(c))
			break;
	}
	/* Quotes inside of a string are doubled, once for each level. */
	for (; at < end && (text.p[at] == '\'' || text.p[at] == '\\'); at++)
		quoted = true;
	if (!assigned && !quoted)
		return;
	from = at;
	while (at < end && text.p[at] != '\'' && (quoted || !is_space(text.p[at])))
		at++;
	if (at > from)
		gather_secret(g, from, at - from);
}

/* Behind "://": the password of user:password@host. */
static void behind_scheme(struct slice text, size_t at, size_t end, struct gather *g)
{
	size_t colon = 0, from = at;

	for (; at < end && text.p[at] != '@' && text.p[at] != '/' && !is_space(text.p[at]); at++)
		if (text.p[at] == ':' && !colon)
			colon = at;
	if (at < end && text.p[at] == '@' && colon > from && at > colon + 1)
		gather_secret(g, colon + 1, at - colon - 1);
}

static void in_string(struct slice text, size_t off, size_t n, struct gather *g)
{
	const uint8_t *p = text.p + off, *end = p + n;

	for (; end - p >= 3; p++) {
		size_t at = (size_t)(p - text.p);

		if ((*p == 'p' || *p == 'P') && end - p >= WORD &&
		    strncasecmp((const char *)p, word, WORD) == 0)
			behind_word(text, at + WORD, off + n, g);
		else if (*p == ':' && p[1] == '/' && p[2] == '/')
			behind_scheme(text, at + 3, off + n, g);
	}
}

void sqlsecret_find(struct slice text, const char *z, struct gather *g)
{
	struct sql_strings it = {.text = text, .word = word};

	if (!strcasestr(z, word) && !strstr(z, "://"))
		return;
	while (sql_strings_next(&it)) {
		if (it.follows)
			gather_secret(g, it.off, it.n);
		else
			in_string(text, it.off, it.n, g);
	}
	if (g->nsecrets)
		g->flags |= SQL_F_LITERALS;
}
