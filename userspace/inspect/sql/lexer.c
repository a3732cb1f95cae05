/* SPDX-License-Identifier: MIT */
/*
 * Follows scan.l of PostgreSQL 15 with standard_conforming_strings = on. What
 * it leaves to the real parser is marked as not exact, so an error in here can
 * only cost a cache hit where it is noticed; where it is not, the fuzz target
 * compares with a fresh parse.
 */
#include "inspect/sql/lexer.h"

enum { MAX_OPERATOR = 63 };

enum cls {
	C_BAD, /* not in the grammar */
	C_SPACE,
	C_IDENT, /* starts an identifier */
	C_DIGIT,
	C_DOLLAR,
	C_QUOTE,
	C_DQUOTE,
	C_OP, /* punctuation and operator characters */
};

static const uint8_t classes[256] = {
	[' '] = C_SPACE,   ['\t'] = C_SPACE,  ['\n'] = C_SPACE,	 ['\r'] = C_SPACE,
	['\f'] = C_SPACE,  ['$'] = C_DOLLAR,  ['\''] = C_QUOTE,	 ['"'] = C_DQUOTE,
	['_'] = C_IDENT,   ['0'] = C_DIGIT,   ['1'] = C_DIGIT,	 ['2'] = C_DIGIT,
	['3'] = C_DIGIT,   ['4'] = C_DIGIT,   ['5'] = C_DIGIT,	 ['6'] = C_DIGIT,
	['7'] = C_DIGIT,   ['8'] = C_DIGIT,   ['9'] = C_DIGIT,	 ['a' ... 'z'] = C_IDENT,
	['A' ... 'Z'] = C_IDENT,
	['~'] = C_OP,	   ['!'] = C_OP,      ['@'] = C_OP,	 ['#'] = C_OP,
	['^'] = C_OP,	   ['&'] = C_OP,      ['|'] = C_OP,	 ['`'] = C_OP,
	['?'] = C_OP,	   ['+'] = C_OP,      ['-'] = C_OP,	 ['*'] = C_OP,
	['/'] = C_OP,	   ['%'] = C_OP,      ['<'] = C_OP,	 ['>'] = C_OP,
	['='] = C_OP,	   [','] = C_OP,      ['('] = C_OP,	 [')'] = C_OP,
	['['] = C_OP,	   [']'] = C_OP,      ['.'] = C_OP,	 [';'] = C_OP,
	[':'] = C_OP,	   [0x80 ... 0xff] = C_IDENT,
};

struct lex {
	const uint8_t *start, *p, *end;
	uint8_t *dst;
	uint8_t *blank; /* a copy of the text in which comments become spaces, or NULL */
	unsigned run;	/* operator characters in a row */
	bool after_string; /* nothing but white space and comments since a constant */
	struct sql_skeleton *out;
	/* The string constant that was read last, without its quotes. */
	const uint8_t *str, *str_end;
};

static bool is_cont(uint8_t c)
{
	return classes[c] >= C_IDENT && classes[c] <= C_DOLLAR;
}

static uint8_t lower(uint8_t c)
{
	return c >= 'A' && c <= 'Z' ? (uint8_t)(c | 0x20) : c;
}

/* Copies the rest of a word in lower case. */
static const uint8_t *rest_of_word(struct lex *l, const uint8_t *p)
{
	uint8_t *d = l->dst;

	if (!d) {
		while (p < l->end && is_cont(*p))
			p++;
		return p;
	}
	while (p < l->end && is_cont(*p))
		*d++ = lower(*p++);
	l->dst = d;
	return p;
}

static void emit(struct lex *l, uint8_t c)
{
	if (l->dst)
		*l->dst++ = c;
}

/* Behind the opening of a line comment; the newline is left. */
static const uint8_t *skip_line(const uint8_t *p, const uint8_t *end)
{
	while (p < end && *p != '\n' && *p != '\r')
		p++;
	return p;
}

/* At a slash-star; NULL if it is not closed. */
static const uint8_t *skip_block(const uint8_t *p, const uint8_t *end)
{
	unsigned depth = 1;

	for (p += 2; end - p >= 2;) {
		if (p[0] == '/' && p[1] == '*') {
			depth++;
			p += 2;
		} else if (p[0] == '*' && p[1] == '/') {
			p += 2;
			if (--depth == 0)
				return p;
		} else {
			p++;
		}
	}
	return NULL;
}

/* The comment from @from to @to. */
static void blank(struct lex *l, const uint8_t *from, const uint8_t *to)
{
	l->out->comments = true;
	if (l->blank)
		memset(l->blank + (from - l->start), ' ', (size_t)(to - from));
}

/*
 * Unlike a line comment, one of these keeps two constants apart that a newline
 * joins otherwise, so one stays there, empty.
 */
static void blank_block(struct lex *l, const uint8_t *from, const uint8_t *to)
{
	blank(l, from, to);
	if (l->blank && l->after_string)
		memcpy(l->blank + (from - l->start), "/**/", 4);
	l->after_string = false;
}

/*
 * Behind a closing quote: a newline among white space and line comments, then
 * another quote, goes on with the same constant. Returns where that quote is.
 */
static const uint8_t *continuation(struct lex *l, const uint8_t *p)
{
	const uint8_t *comment;
	bool newline = false;

	for (; p < l->end; p++) {
		if (*p == '\n' || *p == '\r') {
			newline = true;
		} else if (*p == '-' && l->end - p >= 2 && p[1] == '-') {
			comment = p;
			p = skip_line(p, l->end);
			blank(l, comment, p);
			if (p == l->end)
				return NULL;
			newline = true;
		} else if (classes[*p] != C_SPACE) {
			break;
		}
	}
	return p < l->end && *p == '\'' && newline ? p : NULL;
}

/* Inside '' without escapes, behind the quote: behind the closing one, or NULL. */
static const uint8_t *plain_end(struct lex *l, const uint8_t *p)
{
	for (;;) {
		const uint8_t *q = memchr(p, '\'', (size_t)(l->end - p));

		if (memchr(p, '\\', (size_t)((q ? q : l->end) - p)))
			l->out->backslash = true;
		if (!q)
			return NULL;
		p = q + 1;
		if (p == l->end || *p != '\'')
			return p;
		p++;
	}
}

/*
 * Inside E'': a backslash takes the next byte with it. Escapes that the server
 * may refuse, depending on their value or on settings, are left to the parser.
 */
static const uint8_t *escaped_end(struct lex *l, const uint8_t *p)
{
	while (p < l->end) {
		if (*p == '\\') {
			if (l->end - p < 2)
				return NULL;
			if (classes[p[1]] == C_DIGIT || p[1] == 'u' || p[1] == 'U' || p[1] == 'x' ||
			    p[1] == '\'' || p[1] >= 0x80)
				l->out->exact = false;
			p += 2;
		} else if (*p == '\'') {
			p++;
			if (p == l->end || *p != '\'')
				return p;
			p++;
		} else {
			p++;
		}
	}
	return NULL;
}

/*
 * Whether a password can be inside depends on the constant's value, so a text with
 * such a constant is no shape. Looks for the rarest letter of the word.
 */
static bool may_hold_secret(const uint8_t *p, size_t n)
{
	const uint8_t *end = p + n, *at;

	if (n < 8)
		return false;
	for (at = p; (at = memchr(at, ':', (size_t)(end - at))); at++)
		if (end - at >= 3 && at[1] == '/' && at[2] == '/')
			return true;
	for (int upper = 0; upper < 2; upper++)
		for (at = p; (at = memchr(at, upper ? 'W' : 'w', (size_t)(end - at))); at++)
			if (at - p >= 4 && end - at >= 4 &&
			    strncasecmp((const char *)at - 4, "password", 8) == 0)
				return true;
	return false;
}

static void constant(struct lex *l, const uint8_t *from, const uint8_t *to)
{
	l->str = from;
	l->str_end = to;
	if (may_hold_secret(from, (size_t)(to - from)))
		l->out->exact = false;
}

/* l->p is at the opening quote of a constant. */
static void quoted(struct lex *l, bool escapes, uint8_t mark)
{
	const uint8_t *p = l->p, *from = p + 1, *next;

	do {
		next = escapes ? escaped_end(l, p + 1) : plain_end(l, p + 1);
		if (!next) {
			l->out->exact = false;
			l->p = l->end;
			constant(l, from, l->end);
			return;
		}
		l->p = next;
		p = continuation(l, next);
	} while (p);
	constant(l, from, l->p - 1);
	emit(l, mark);
}

/* l->p is at a double quote; the name keeps its quotes and its case. */
static void quoted_name(struct lex *l)
{
	const uint8_t *p = l->p + 1;

	for (;;) {
		p = p < l->end ? memchr(p, '"', (size_t)(l->end - p)) : NULL;
		if (!p) {
			l->out->exact = false;
			p = l->end;
			break;
		}
		p++;
		if (p == l->end || *p != '"')
			break;
		p++;
	}
	for (; l->p < p; l->p++) {
		if (*l->p <= SQL_MARK_HEX)
			l->out->exact = false; /* looks like a mark */
		emit(l, *l->p);
	}
}

/* l->p is at a dollar: a parameter, a dollar quote, or an error. */
static void dollar(struct lex *l)
{
	const uint8_t *p = l->p + 1, *close;
	size_t n;

	if (p < l->end && classes[*p] == C_DIGIT) {
		emit(l, '$');
		for (; p < l->end && classes[*p] == C_DIGIT; p++)
			emit(l, *p);
		if (p - l->p > 6 || (p < l->end && classes[*p] == C_IDENT))
			l->out->exact = false;
		l->p = p;
		return;
	}
	if (p < l->end && classes[*p] == C_IDENT)
		while (p < l->end && (classes[*p] == C_IDENT || classes[*p] == C_DIGIT))
			p++;
	if (p == l->end || *p != '$') {
		l->out->exact = false;
		emit(l, '$');
		l->p++;
		return;
	}
	n = (size_t)(p + 1 - l->p);
	close = memmem(p + 1, (size_t)(l->end - p - 1), l->p, n);
	constant(l, p + 1, close ? close : l->end);
	l->p = close ? close + n : l->end;
	if (close)
		emit(l, SQL_MARK_STRING);
	else
		l->out->exact = false;
}

static bool fits_int32(const uint8_t *p, size_t n)
{
	while (n > 1 && *p == '0')
		p++, n--;
	return n < 10 || (n == 10 && memcmp(p, "2147483647", 10) <= 0);
}

/* l->p is at a digit, or at a dot before one. */
static void number(struct lex *l)
{
	const uint8_t *p = l->p, *end = l->end;
	bool integer = true;

	while (p < end && classes[*p] == C_DIGIT)
		p++;
	/* "1..10" is 1 and "..", not "1." and ".10" */
	if (p < end && *p == '.' && !(p > l->p && end - p >= 2 && p[1] == '.')) {
		integer = false;
		for (p++; p < end && classes[*p] == C_DIGIT;)
			p++;
	}
	if (p < end && (*p == 'e' || *p == 'E')) {
		const uint8_t *e = p + 1;

		if (e < end && (*e == '+' || *e == '-'))
			e++;
		if (e < end && classes[*e] == C_DIGIT) {
			integer = false;
			for (p = e; p < end && classes[*p] == C_DIGIT;)
				p++;
		}
	}
	if (p < end && classes[*p] == C_IDENT)
		l->out->exact = false; /* trailing junk: an error since 15 */
	emit(l, integer && fits_int32(l->p, (size_t)(p - l->p)) ? SQL_MARK_INT : SQL_MARK_FLOAT);
	l->p = p;
}

/* l->p starts an identifier, or the prefix of a constant. */
static void word(struct lex *l)
{
	uint8_t c = lower(*l->p);
	const uint8_t *p = l->p;
	size_t left = (size_t)(l->end - p);

	if (left >= 2 && p[1] == '\'') {
		switch (c) {
		case 'e':
			l->p++;
			quoted(l, true, SQL_MARK_STRING);
			return;
		case 'b':
		case 'x':
			l->p++;
			quoted(l, false, c == 'b' ? SQL_MARK_BITS : SQL_MARK_HEX);
			return;
		default: /* n'' is the word and then a string: the loop does that */
			break;
		}
	}
	if (c == 'u' && left >= 3 && p[1] == '&' && (p[2] == '\'' || p[2] == '"')) {
		l->out->exact = false;
		l->p += 2;
		if (p[2] == '\'')
			quoted(l, false, SQL_MARK_STRING);
		else
			quoted_name(l);
		return;
	}
	l->p = rest_of_word(l, p);
}

static void space(struct lex *l)
{
	while (l->p < l->end) {
		const uint8_t *p = l->p;

		if (classes[*p] == C_SPACE) {
			l->p++;
		} else if (*p == '-' && l->end - p >= 2 && p[1] == '-') {
			l->p = skip_line(p, l->end);
			blank(l, p, l->p);
		} else if (*p == '/' && l->end - p >= 2 && p[1] == '*') {
			l->p = skip_block(p, l->end);
			if (l->p) {
				blank_block(l, p, l->p);
				continue;
			}
			/* Its opening stays, for the parser to complain about. */
			l->out->exact = false;
			l->p = l->end;
			blank(l, p + 2, l->end);
		} else {
			break;
		}
	}
	emit(l, ' ');
}

enum tok { T_END, T_SPACE, T_WORD, T_NAME, T_STRING, T_NUMBER, T_DOLLAR, T_COMMA, T_OTHER };

/* A word may become a column or a statement, an operator an expression. */
static const uint8_t costs[] = {
	[T_WORD] = 6,	[T_NAME] = 6,	[T_STRING] = 3, [T_NUMBER] = 2,
	[T_DOLLAR] = 3, [T_COMMA] = 1, [T_OTHER] = 4,
};

static bool is_operator(uint8_t c)
{
	return classes[c] == C_OP && !memchr(",()[].;:", c, 8);
}

/* Too long for any operator; the server's lexer goes over such a run again for each character. */
static void count_operator(struct lex *l, uint8_t c)
{
	l->run = is_operator(c) ? l->run + 1 : 0;
	if (l->run > MAX_OPERATOR)
		l->out->long_operator = true;
}

static enum tok read_token(struct lex *l)
{
	const uint8_t *p = l->p;

	if (p == l->end)
		return T_END;
	switch (classes[*p]) {
	case C_SPACE:
		space(l);
		return T_SPACE;
	case C_IDENT:
		l->str = NULL;
		word(l);
		return l->str ? T_STRING : T_WORD;
	case C_DIGIT:
		number(l);
		return T_NUMBER;
	case C_DOLLAR:
		l->str = NULL;
		dollar(l);
		return l->str ? T_STRING : T_DOLLAR;
	case C_QUOTE:
		quoted(l, false, SQL_MARK_STRING);
		return T_STRING;
	case C_DQUOTE:
		quoted_name(l);
		return T_NAME;
	case C_OP:
		if (l->end - p >= 2) {
			if ((*p == '-' && p[1] == '-') || (*p == '/' && p[1] == '*')) {
				space(l);
				return T_SPACE;
			}
			if (*p == '.' && classes[p[1]] == C_DIGIT) {
				number(l);
				return T_NUMBER;
			}
		}
		break;
	default:
		l->out->exact = false;
		if (*p == 0)
			l->out->nul = true;
		break;
	}
	emit(l, *p);
	l->p++;
	count_operator(l, *p);
	return *p == ',' || *p == '(' || *p == ')' || *p == '.' ? T_COMMA : T_OTHER;
}

static enum tok next(struct lex *l)
{
	enum tok t = read_token(l);

	if (t != T_SPACE)
		l->after_string = t == T_STRING;
	if (t != T_OTHER && t != T_COMMA)
		l->run = 0;
	return t;
}

/* Bytes >= 0x80 and zero bytes count wherever they are, also in constants. */
static void look_at_bytes(struct slice text, struct sql_skeleton *ret)
{
	size_t i = 0;
	uint64_t v, any = 0;

	for (; text.n - i >= 8; i += 8) {
		memcpy(&v, text.p + i, 8);
		any |= v;
	}
	for (; i < text.n; i++)
		any |= text.p[i];
	ret->high = (any & 0x8080808080808080u) != 0;
	ret->nul = text.n && memchr(text.p, 0, text.n);
}

void sql_skeleton(struct slice text, uint8_t *dst, struct sql_skeleton *ret)
{
	struct lex l = {
		.start = text.p, .p = text.p, .end = text.p + text.n, .dst = dst, .out = ret};
	enum tok t;

	*ret = (struct sql_skeleton){.exact = true};
	look_at_bytes(text, ret);
	if (ret->nul)
		ret->exact = false;
	while ((t = next(&l)) != T_END)
		ret->cost += costs[t];
	ret->n = (size_t)(l.dst - dst);
}

void sql_blank_comments(struct slice text, uint8_t *copy)
{
	struct sql_skeleton ignored = {0};
	struct lex l = {.start = text.p,
			.p = text.p,
			.end = text.p + text.n,
			.out = &ignored,
			.blank = copy};

	while (next(&l) != T_END)
		;
}

/* The word that @n bytes at @p are, quoted or not, ends with @want. */
static bool ends_with(const uint8_t *p, size_t n, const char *want)
{
	size_t w = strlen(want);

	if (n && p[n - 1] == '"')
		n--;
	return n >= w && strncasecmp((const char *)p + n - w, want, w) == 0;
}

bool sql_strings_next(struct sql_strings *it)
{
	struct sql_skeleton ignored = {0};
	struct lex l = {.start = it->text.p,
			.p = it->text.p + it->at,
			.end = it->text.p + it->text.n,
			.out = &ignored};
	enum tok t;

	it->follows = false;
	for (;;) {
		const uint8_t *at = l.p;

		t = next(&l);
		if (t == T_END)
			return false;
		if (t == T_STRING)
			break;
		if (t == T_WORD || t == T_NAME)
			it->follows = it->word && ends_with(at, (size_t)(l.p - at), it->word);
		else if (t != T_SPACE && *at != '=' && *at != ':' && *at != '>')
			it->follows = false;
	}
	it->off = (size_t)(l.str - it->text.p);
	it->n = (size_t)(l.str_end - l.str);
	it->at = (size_t)(l.p - it->text.p);
	return true;
}
