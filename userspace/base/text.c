/* SPDX-License-Identifier: MIT */
#include "base/text.h"

#include <ctype.h>
#include <errno.h>

size_t utf8_length(struct slice s)
{
	uint8_t c, lo = 0x80, hi = 0xbf;
	size_t n;

	if (s.n == 0)
		return 0;
	c = s.p[0];
	if (c < 0x80)
		return 1;
	n = c >= 0xc2 && c <= 0xdf ? 2 : c >= 0xe0 && c <= 0xef ? 3 : c >= 0xf0 && c <= 0xf4 ? 4 : 0;
	if (n == 0 || s.n < n)
		return 0;
	/* The second byte alone tells overlong forms, surrogates and the end of the range. */
	if (c == 0xe0)
		lo = 0xa0;
	else if (c == 0xed)
		hi = 0x9f;
	else if (c == 0xf0)
		lo = 0x90;
	else if (c == 0xf4)
		hi = 0x8f;
	if (s.p[1] < lo || s.p[1] > hi)
		return 0;
	for (size_t i = 2; i < n; i++)
		if ((s.p[i] & 0xc0) != 0x80)
			return 0;
	return n;
}

/* One byte as an escape of at most four characters. */
static size_t escape_byte(uint8_t c, char *out)
{
	static const char hex[] = "0123456789abcdef";
	static const char plain[] = {['\n'] = 'n', ['\r'] = 'r', ['\t'] = 't', ['\\'] = '\\'};

	out[0] = '\\';
	if (c < sizeof(plain) && plain[c]) {
		out[1] = plain[c];
		return 2;
	}
	out[1] = 'x';
	out[2] = hex[c >> 4];
	out[3] = hex[c & 15];
	return 4;
}

/*
 * Characters that nobody sees, or that make a terminal show the text in another order: what is read is
 * not what is there. Marks and embeddings of direction, spaces without width, ends of lines, tags.
 */
size_t text_hides(struct slice s, uint32_t *ret)
{
	static const struct {
		uint32_t first, last;
	} table[] = {
		{0x61c, 0x61c},	  {0x180e, 0x180e}, {0x200b, 0x200f},	{0x2028, 0x202e},
		{0x2060, 0x206f}, {0xfeff, 0xfeff}, {0xe0000, 0xe007f},
	};
	size_t n = s.n && s.p[0] >= 0xc2 ? utf8_length(s) : 0;
	uint32_t c = n == 0 ? 0 : n == 2 ? s.p[0] & 0x1fu : n == 3 ? s.p[0] & 0x0fu : s.p[0] & 0x07u;

	for (size_t i = 1; i < n; i++)
		c = c << 6 | (s.p[i] & 0x3fu);
	for (size_t i = 0; n && i < ARRAY_SIZE(table); i++) {
		if (c < table[i].first || c > table[i].last)
			continue;
		*ret = c;
		return n;
	}
	return 0;
}

size_t text_escape(struct slice s, char *dst, size_t cap)
{
	size_t o = 0;

	if (cap == 0)
		return 0;
	while (s.n) {
		char esc[4];
		const char *from = (const char *)s.p;
		size_t used = utf8_length(s), n = used;
		uint32_t hidden;

		/* C1 controls (U+0080-U+009F) drive terminals as much as C0 does. */
		if (used == 0 || s.p[0] < 0x20 || s.p[0] == 0x7f || s.p[0] == '\\' ||
		    (used == 2 && s.p[0] == 0xc2 && s.p[1] < 0xa0) ||
		    text_hides(s, &hidden)) {
			used = 1;
			n = escape_byte(s.p[0], esc);
			from = esc;
		}
		if (n > cap - 1 - o)
			break;
		memcpy(dst + o, from, n);
		o += n;
		s = slice_from(s, used);
	}
	dst[o] = '\0';
	return o;
}

int text_parse_u64(struct slice s, uint64_t min, uint64_t max, uint64_t *ret)
{
	uint64_t v = 0;

	if (s.n == 0)
		return -EINVAL;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return -EINVAL;
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(s.p[i] - '0'), &v))
			return -EINVAL;
	}
	if (v < min || v > max)
		return -EINVAL;
	*ret = v;
	return 0;
}

struct unit {
	const char *name;
	uint64_t factor;
};

static int parse_with_unit(struct slice s, const struct unit *units, size_t n, uint64_t *ret)
{
	size_t digits = 0;
	uint64_t v;

	while (digits < s.n && s.p[digits] >= '0' && s.p[digits] <= '9')
		digits++;
	if (text_parse_u64(slice_of(s.p, digits), 0, UINT64_MAX, &v))
		return -EINVAL;
	for (size_t i = 0; i < n; i++) {
		if (!slice_eq_str(slice_from(s, digits), units[i].name))
			continue;
		return __builtin_mul_overflow(v, units[i].factor, ret) ? -ERANGE : 0;
	}
	return -EINVAL;
}

static const struct unit durations[] = {
	{"d", 86400000}, {"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1},
};

int text_parse_duration(struct slice s, uint64_t *ret_ms)
{
	uint64_t ms;
	int rc = parse_with_unit(s, durations, ARRAY_SIZE(durations), &ms);

	if (rc == 0)
		*ret_ms = ms;
	return rc;
}

int text_parse_size(struct slice s, uint64_t *ret_bytes)
{
	static const struct unit sizes[] = {
		{"", 1},	      {"B", 1},		    {"KiB", 1024},
		{"MiB", 1024 * 1024}, {"GiB", 1024ull * 1024 * 1024},
	};
	uint64_t bytes;
	int rc = parse_with_unit(s, sizes, ARRAY_SIZE(sizes), &bytes);

	if (rc == 0)
		*ret_bytes = bytes;
	return rc;
}

void text_format_duration(uint64_t ms, char *dst, size_t cap)
{
	for (size_t i = 0; i < ARRAY_SIZE(durations); i++) {
		if (ms % durations[i].factor == 0 && ms >= durations[i].factor) {
			(void)snprintf(dst, cap, "%llu%s",
				       (unsigned long long)(ms / durations[i].factor),
				       durations[i].name);
			return;
		}
	}
	(void)snprintf(dst, cap, "0s");
}

bool text_glob(struct slice pat, struct slice s)
{
	size_t p = 0, i = 0, star = SIZE_MAX, mark = 0;

	/* The last `*` alone is ever widened: linear in pattern times text. */
	while (i < s.n) {
		if (p < pat.n && pat.p[p] == '*') {
			star = p++;
			mark = i;
		} else if (p < pat.n && (pat.p[p] == '?' || pat.p[p] == s.p[i])) {
			p++;
			i++;
		} else if (star != SIZE_MAX) {
			p = star + 1;
			i = ++mark;
		} else {
			return false;
		}
	}
	while (p < pat.n && pat.p[p] == '*')
		p++;
	return p == pat.n;
}

uint64_t text_hash(uint64_t hash, const char *s)
{
	do
		hash = (hash ^ (uint8_t)*s) * 0x100000001b3ull;
	while (*s++);
	return hash;
}

void text_hex(const uint8_t *p, size_t n, char *dst)
{
	static const char hex[] = "0123456789abcdef";

	for (size_t i = 0; i < n; i++) {
		*dst++ = hex[p[i] >> 4];
		*dst++ = hex[p[i] & 15];
	}
	*dst = '\0';
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

bool text_unhex(const char *s, uint8_t *dst, size_t n)
{
	if (!s || strlen(s) != 2 * n)
		return false;
	for (size_t i = 0; i < n; i++) {
		int high = hex_digit(s[2 * i]), low = hex_digit(s[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		dst[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

void text_time(uint64_t wall_ns, char *dst, size_t cap)
{
	time_t sec = (time_t)(wall_ns / 1000000000);
	struct tm tm;

	(void)gmtime_r(&sec, &tm);
	(void)snprintf(dst, cap, "%04d-%02d-%02dT%02d:%02d:%02d.%03uZ", tm.tm_year + 1900,
		       tm.tm_mon + 1, tm.tm_mday, tm.tm_hour, tm.tm_min, tm.tm_sec,
		       (unsigned)(wall_ns / 1000000 % 1000));
}

/* Compares with "0000-00-00T00:00:00", where a 0 stands for a digit. */
static bool time_form(struct slice s)
{
	static const char form[] = "0000-00-00T00:00:00";

	if (s.n < sizeof(form))
		return false;
	for (size_t i = 0; i < sizeof(form) - 1; i++)
		if (form[i] == '0' ? s.p[i] < '0' || s.p[i] > '9' : s.p[i] != form[i])
			return false;
	return true;
}

int text_parse_time(struct slice s, uint64_t *ret_wall_ns)
{
	static const struct {
		uint8_t off, n;
		uint16_t min, max;
	} part[] = {{0, 4, 1970, 2500}, {5, 2, 1, 12},	{8, 2, 1, 31},
		    {11, 2, 0, 23},	{14, 2, 0, 59}, {17, 2, 0, 60}};
	uint64_t v[ARRAY_SIZE(part)], ms = 0;
	struct tm tm = {0};
	time_t sec;

	if (!time_form(s))
		return -EINVAL;
	for (size_t i = 0; i < ARRAY_SIZE(part); i++)
		if (text_parse_u64(slice_of(s.p + part[i].off, part[i].n), part[i].min, part[i].max,
				   &v[i]))
			return -EINVAL;
	if (s.n == 24 && s.p[19] == '.') {
		if (text_parse_u64(slice_of(s.p + 20, 3), 0, 999, &ms))
			return -EINVAL;
	} else if (s.n != 20) {
		return -EINVAL;
	}
	if (s.p[s.n - 1] != 'Z')
		return -EINVAL;
	tm.tm_year = (int)v[0] - 1900;
	tm.tm_mon = (int)v[1] - 1;
	tm.tm_mday = (int)v[2];
	tm.tm_hour = (int)v[3];
	tm.tm_min = (int)v[4];
	tm.tm_sec = (int)v[5];
	sec = timegm(&tm);
	/* timegm() takes the 31st of February for a day of March. */
	if (tm.tm_mday != (int)v[2])
		return -EINVAL;
	*ret_wall_ns = (uint64_t)sec * 1000000000u + ms * 1000000u;
	return 0;
}
