/* SPDX-License-Identifier: MIT */
/*
 * Exact tests of what the engines report. Each function is given the byte at
 * which its shape was complete, finds the start, and says what the detector's
 * regular expression would match there, with the check behind it.
 */
#include "policy/detect_run.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

#define BIT(name) (1u << DETECT_BIT_##name)

enum {
	C_WORD = 1, /* [A-Za-z0-9_] */
	C_DIGIT = 2,
	C_UPNUM = 4, /* [A-Z0-9] */
	C_ALPHA = 8,
	C_HEX = 16,
	C_LOCAL = 32, /* before the @ of an address */
	C_LABEL = 64, /* behind it, without dots */
	C_B64URL = 128,
};

#define DIGIT_ (C_WORD | C_DIGIT | C_UPNUM | C_HEX | C_LOCAL | C_LABEL | C_B64URL)
#define LOWER_ (C_WORD | C_ALPHA | C_LOCAL | C_LABEL | C_B64URL)
#define UPPER_ (LOWER_ | C_UPNUM)
#define SIX(from, v)                                                                \
	[(from)] = (v), [(from) + 1] = (v), [(from) + 2] = (v), [(from) + 3] = (v), \
	[(from) + 4] = (v), [(from) + 5] = (v)

static const uint8_t cls[256] = {
	SIX('0', DIGIT_),
	['6'] = DIGIT_,
	['7'] = DIGIT_,
	['8'] = DIGIT_,
	['9'] = DIGIT_,
	SIX('A', UPPER_ | C_HEX),
	SIX('G', UPPER_),
	SIX('M', UPPER_),
	SIX('S', UPPER_),
	['Y'] = UPPER_,
	['Z'] = UPPER_,
	SIX('a', LOWER_ | C_HEX),
	SIX('g', LOWER_),
	SIX('m', LOWER_),
	SIX('s', LOWER_),
	['y'] = LOWER_,
	['z'] = LOWER_,
	['_'] = C_WORD | C_LOCAL | C_B64URL,
	['-'] = C_LOCAL | C_LABEL | C_B64URL,
	['.'] = C_LOCAL,
	['%'] = C_LOCAL,
	['+'] = C_LOCAL,
};

static inline bool is(const struct detect_run *r, size_t i, unsigned class)
{
	return i < r->n && (cls[r->p[i]] & class);
}

static inline bool word_before(const struct detect_run *r, size_t i)
{
	return i > 0 && (cls[r->p[i - 1]] & C_WORD);
}

/* Bytes from @i on that are of @class, at most @max. */
static inline size_t span(const struct detect_run *r, size_t i, unsigned class, size_t max)
{
	size_t n = 0;

	max = min_size(max, r->n - i);
	while (n < max && (cls[r->p[i + n]] & class))
		n++;
	return n;
}

/*
 * Which of 16 bytes are of a class: the lengths of names and numbers are what a branch
 * predictor cannot guess, so those met most are measured without a loop. SSE2 is part of
 * x86-64; elsewhere the loops do.
 */
#if defined(__SSE2__)
static inline __m128i in_range(__m128i v, char lo, char hi)
{
	return _mm_cmpgt_epi8(_mm_set1_epi8((char)(-128 + hi - lo + 1)),
			      _mm_add_epi8(v, _mm_set1_epi8((char)(-128 - lo))));
}

static inline __m128i equals(__m128i v, char ch)
{
	return _mm_cmpeq_epi8(v, _mm_set1_epi8(ch));
}

static inline unsigned mask16(const uint8_t *p, unsigned class)
{
	__m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
	__m128i m = in_range(v, '0', '9');

	if (class != C_DIGIT) {
		m = _mm_or_si128(m, in_range(_mm_or_si128(v, _mm_set1_epi8(0x20)), 'a', 'z'));
		m = _mm_or_si128(m, equals(v, '-'));
	}
	if (class == C_LOCAL) {
		m = _mm_or_si128(m, _mm_or_si128(equals(v, '.'), equals(v, '_')));
		m = _mm_or_si128(m, _mm_or_si128(equals(v, '%'), equals(v, '+')));
	}
	return (unsigned)_mm_movemask_epi8(m);
}

static inline unsigned hex16(const uint8_t *p)
{
	__m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
	__m128i letter = in_range(_mm_or_si128(v, _mm_set1_epi8(0x20)), 'a', 'f');

	return (unsigned)_mm_movemask_epi8(_mm_or_si128(in_range(v, '0', '9'), letter));
}
#endif

/* As span(), for C_DIGIT and C_LABEL. */
static inline size_t quick_span(const struct detect_run *r, size_t i, unsigned class)
{
	size_t n = 0;

#if defined(__SSE2__)
	for (; r->n - i - n >= 16; n += 16) {
		unsigned not = ~mask16(r->p + i + n, class) & 0xffff;

		if (not )
			return n + (unsigned)__builtin_ctz(not );
	}
#endif
	return n + span(r, i + n, class, SIZE_MAX);
}

/* Where the run of C_LOCAL before @at begins, not before @floor. */
static inline size_t local_start(const struct detect_run *r, size_t at, size_t floor)
{
#if defined(__SSE2__)
	for (; at - floor >= 16; at -= 16) {
		unsigned not = ~mask16(r->p + at - 16, C_LOCAL) & 0xffff;

		if (not )
			return at - ((unsigned)__builtin_clz(not ) - 16);
	}
#endif
	while (at > floor && (cls[r->p[at - 1]] & C_LOCAL))
		at--;
	return at;
}

static inline bool text_at(const struct detect_run *r, size_t i, const char *s, size_t n)
{
	return i <= r->n && n <= r->n - i && memcmp(r->p + i, s, n) == 0;
}

static inline void hit(struct detect_run *r, enum detector_bit bit, size_t start, size_t end)
{
	if (!(r->want & 1u << bit) || start < r->last_end[bit] || r->npending == DETECT_PENDING)
		return;
	r->last_end[bit] = (uint32_t)end;
	r->pending[r->npending++] = (struct detect_hit){
		.off = (uint32_t)start, .n = (uint32_t)(end - start), .bit = (uint8_t)bit};
}

static inline unsigned two(const uint8_t *p)
{
	return (p[0] - '0') * 10u + (p[1] - '0');
}

/* \b(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])\b */
static void verify_date(struct detect_run *r, size_t at)
{
	const uint8_t *p = r->p + at - 9;
	unsigned century = two(p), month = two(p + 5), day = two(p + 8);

	if ((century == 19 || century == 20) && month >= 1 && month <= 12 && day >= 1 &&
	    day <= 31 && !is(r, at + 1, C_WORD))
		hit(r, DETECT_BIT_DOB, at - 9, at + 1);
}

/* \b\d{3}-\d{2}-\d{4}\b */
static void verify_ssn(struct detect_run *r, size_t at)
{
	if (!is(r, at + 1, C_WORD))
		hit(r, DETECT_BIT_SSN, at - 10, at + 1);
}

/* 36 bytes; the dashes have been seen. */
static inline bool uuid_digits(const uint8_t *p)
{
#if defined(__SSE2__)
	return (hex16(p) | 1u << 8 | 1u << 13) == 0xffff &&
	       (hex16(p + 16) | 1u << 2 | 1u << 7) == 0xffff && (hex16(p + 20) | 1u << 3) == 0xffff;
#else
	unsigned all = C_HEX;

	for (unsigned i = 0; i < 36; i++)
		if (i != 8 && i != 13 && i != 18 && i != 23)
			all &= cls[p[i]];
	return all;
#endif
}

/* \b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}\b */
static void verify_uuid(struct detect_run *r, size_t at)
{
	const uint8_t *p = r->p + at - 23;

	if (at < 23 || r->n - at < 13)
		return;
	if (uuid_digits(p) && !is(r, at + 13, C_WORD))
		hit(r, DETECT_BIT_UUID, at - 23, at + 13);
}

static bool luhn_ok(const uint8_t *d, size_t n)
{
	static const uint8_t doubled[10] = {0, 2, 4, 6, 8, 1, 3, 5, 7, 9};
	unsigned sum = 0;
	size_t i = n;

	for (; i >= 2; i -= 2)
		sum += d[i - 1] + doubled[d[i - 2]];
	if (i)
		sum += d[0];
	return sum % 10 == 0;
}

/* A single separator between two digits at @i. */
static inline bool joins_digits(const struct detect_run *r, size_t i)
{
	return i < r->n && (r->p[i] == ' ' || r->p[i] == '-') && is(r, i + 1, C_DIGIT);
}

/*
 * The two usual ways to write a card, with nothing joined behind: then there is but one number to
 * try. 16 digits into @digit and the end, or 0.
 */
static inline size_t usual_card(const struct detect_run *r, size_t start, uint8_t *digit)
{
#if defined(__SSE2__)
	const uint8_t *p = r->p + start;
	unsigned digits;
	size_t end;

	if (r->n - start < 16)
		return 0;
	digits = mask16(p, C_DIGIT);
	if (digits == 0xffff) {
		end = start + 16;
		for (unsigned i = 0; i < 16; i++)
			digit[i] = p[i] - '0';
	} else if (digits == 0xbdef && r->n - start >= 19 && (mask16(p + 3, C_DIGIT) >> 13) == 7) {
		if (!joins_digits(r, start + 4) || !joins_digits(r, start + 9) ||
		    !joins_digits(r, start + 14))
			return 0;
		end = start + 19;
		for (unsigned i = 0; i < 16; i++)
			digit[i] = p[i + i / 4] - '0';
	} else {
		return 0;
	}
	return is(r, end, C_DIGIT) || joins_digits(r, end) ? 0 : end;
#else
	return 0;
#endif
}

/*
 * \b\d(?:[ -]?\d){12,18}\b with every start in the run tried, and for each
 * every end from the longest on: "4111 1111 1111 1111 12" is 16 digits and a month.
 * Starts in later groups are left to them, so that hits stay in order.
 */
void detect_verify_card_run(struct detect_run *r, size_t start)
{
	enum { MIN = 13, MAX = 19 };
	uint8_t digit[MAX];
	size_t end[MAX], usual;

	r->card_next = SIZE_MAX;
	usual = usual_card(r, start, digit);
	if (usual) {
		if (!word_before(r, start) && !is(r, usual, C_WORD) && luhn_ok(digit, 16))
			hit(r, DETECT_BIT_CARD, start, usual);
		return;
	}
	while (start < r->group_end) {
		size_t n = 0, next = 0, i = start;

		for (; n < MAX && is(r, i, C_DIGIT); n++) {
			digit[n] = r->p[i++] - '0';
			end[n] = i;
			if (joins_digits(r, i)) {
				i++;
				next = next ? next : i;
			}
		}
		if (n < MIN)
			return; /* from a later start there are fewer still */
		for (; n >= MIN && !word_before(r, start); n--)
			if (!is(r, end[n - 1], C_WORD) && luhn_ok(digit, n))
				break;
		if (n >= MIN && !word_before(r, start)) {
			hit(r, DETECT_BIT_CARD, start, end[n - 1]);
			next = 0;
			i = end[n - 1];
		}
		if (!next) { /* behind the hit, or behind too many digits in a row */
			for (next = i; next < r->group_end && is(r, next, C_DIGIT); next++)
				;
			if (joins_digits(r, next))
				next++;
			else if (!is(r, next, C_DIGIT))
				return;
		}
		start = next;
	}
	r->card_next = start;
}

static void verify_card(struct detect_run *r, size_t at)
{
	detect_verify_card_run(r, at - 12);
}

/* \b(?:(?:25[0-5]|2[0-4]\d|1?\d?\d)\.){3}(?:25[0-5]|2[0-4]\d|1?\d?\d)\b */
static bool octet_ok(const uint8_t *p, size_t n)
{
	if (n < 3)
		return n > 0;
	return n == 3 && (p[0] == '1' || (p[0] == '2' && (p[1] - '0') * 10 + p[2] - '0' <= 55));
}

static void verify_ipv4(struct detect_run *r, size_t at)
{
	size_t start = at, n;

	for (unsigned i = 0; i < 3; i++) {
		size_t end = --start; /* the dot */

		while (start > 0 && end - start < 4 && (cls[r->p[start - 1]] & C_DIGIT))
			start--;
		if (!octet_ok(r->p + start, end - start) ||
		    (i < 2 && (start == 0 || r->p[start - 1] != '.')))
			return;
	}
	n = span(r, at, C_DIGIT, 4);
	if (octet_ok(r->p + at, n) && !word_before(r, start) && !is(r, at + n, C_WORD))
		hit(r, DETECT_BIT_IPV4, start, at + n);
}

/* ISO 13616: the first four characters moved to the end, letters as 10..35. */
static bool iban_ok(const uint8_t *p, size_t n)
{
	uint32_t rem = 0;

	for (size_t i = 0; i < n; i++) {
		uint8_t ch = p[i + 4 < n ? i + 4 : i + 4 - n];

		if (ch == ' ')
			continue;
		rem = cls[ch] & C_DIGIT ? rem * 10 + (ch - '0') : rem * 100 + (ch - 'A' + 10u);
		rem %= 97;
	}
	return rem == 1;
}

/* \b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b, longest first */
static void verify_iban(struct detect_run *r, size_t at)
{
	size_t start = at - 3, end[8], groups = 0, pos = at + 1;

	while (groups < 7) {
		size_t from = pos + (pos < r->n && r->p[pos] == ' ');

		if (span(r, from, C_UPNUM, 4) < 4)
			break;
		end[groups++] = pos = from + 4;
	}
	for (; groups >= 3; groups--) {
		size_t from = end[groups - 1];
		size_t tail = from + (from < r->n && r->p[from] == ' ');

		for (size_t n = span(r, tail, C_UPNUM, 3); n > 0; n--) {
			if (is(r, tail + n, C_WORD) || !iban_ok(r->p + start, tail + n - start))
				continue;
			hit(r, DETECT_BIT_IBAN, start, tail + n);
			return;
		}
		if (!is(r, from, C_WORD) && iban_ok(r->p + start, from - start)) {
			hit(r, DETECT_BIT_IBAN, start, from);
			return;
		}
	}
}

/* \b(?:AKIA|ASIA)[A-Z0-9]{16}\b */
static void verify_aws(struct detect_run *r, size_t at)
{
	const uint8_t *p = r->p + at - 3;

	if (p[0] == 'A' && (p[1] == 'K' || p[1] == 'S') && p[2] == 'I' && p[3] == 'A' &&
	    span(r, at + 1, C_UPNUM, 16) == 16 && !is(r, at + 17, C_WORD))
		hit(r, DETECT_BIT_AWS_KEY, at - 3, at + 17);
}

/* Behind "KEY-----" of a block's head or foot that begins at @i, or 0. */
static size_t pem_line_end(const struct detect_run *r, size_t i)
{
	static const char *const kinds[] = {"RSA ", "EC ", "OPENSSH ", "DSA ", "ENCRYPTED "};

	for (unsigned k = 0; k < ARRAY_SIZE(kinds); k++)
		if (text_at(r, i, kinds[k], strlen(kinds[k]))) {
			i += strlen(kinds[k]);
			break;
		}
	return text_at(r, i, "PRIVATE KEY-----", 16) ? i + 16 : 0;
}

/*
 * -----BEGIN (?:RSA |EC |OPENSSH |DSA |ENCRYPTED )?PRIVATE KEY-----, and what belongs
 * to it: up to the END line if it is there; of a key that was cut, all that may be key.
 */
static void verify_pem(struct detect_run *r, size_t at)
{
	enum { BLOCK_MAX = 64 * 1024 };
	size_t head, i, stop;

	if (!text_at(r, at, "BEGIN ", 6) || !(head = pem_line_end(r, at + 6)))
		return;
	stop = r->n - head < BLOCK_MAX ? r->n : head + BLOCK_MAX;
	for (i = head; i < stop; i++) {
		uint8_t ch = r->p[i];

		if (ch == '-' && text_at(r, i, "-----", 5)) {
			size_t foot = text_at(r, i, "-----END ", 9) ? pem_line_end(r, i + 9) : 0;

			if (foot)
				i = foot;
			break;
		}
		/* Base64, its headers, line ends, also written as \n in JSON. */
		if (!(cls[ch] & (C_WORD | C_LOCAL)) && (ch == 0 || !strchr("/=:,\\ \t\r\n", ch)))
			break;
	}
	/* White space behind a block that has no foot is not part of it. */
	while (i > head && strchr(" \t\r\n", r->p[i - 1]))
		i--;
	hit(r, DETECT_BIT_PRIVATE_KEY, at - 5, i);
}

/* \b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,24}\b, at the @ */
static void verify_email(struct detect_run *r, size_t at)
{
	size_t floor = max_size(at > 64 ? at - 64 : 0, r->last_end[DETECT_BIT_EMAIL]);
	size_t start = at > floor ? local_start(r, at, floor) : at, end = 0, i, n;

	while (start < at && word_before(r, start) == is(r, start, C_WORD))
		start++;
	if (start == at)
		return;
	i = at + 1;
	n = quick_span(r, i, C_LABEL);
	while (n > 0 && i + n < r->n && r->p[i + n] == '.') {
		size_t alpha;

		i += n + 1;
		n = quick_span(r, i, C_LABEL);
		alpha = span(r, i, C_ALPHA, 25);
		if (alpha >= 2 && alpha <= 24 && !is(r, i + alpha, C_WORD))
			end = i + alpha;
	}
	if (end)
		hit(r, DETECT_BIT_EMAIL, start, end);
}

/* \+[1-9]\d{6,14}\b */
static void verify_phone(struct detect_run *r, size_t at)
{
	size_t n = quick_span(r, at + 1, C_DIGIT);

	if (n >= 7 && n <= 15 && r->p[at + 1] != '0' && !is(r, at + 1 + n, C_WORD))
		hit(r, DETECT_BIT_PHONE, at, at + 1 + n);
}

/* \bgh[pousr]_[A-Za-z0-9]{36}\b, at the underscore */
static void verify_github(struct detect_run *r, size_t at)
{
	const uint8_t *p = r->p + at - 3;
	size_t n;

	if (at < 3 || p[0] != 'g' || p[1] != 'h' || !p[2] || !strchr("pousr", p[2]) ||
	    word_before(r, at - 3))
		return;
	n = span(r, at + 1, C_ALPHA | C_DIGIT, 37);
	if (n == 36 && !is(r, at + 37, C_WORD))
		hit(r, DETECT_BIT_GITHUB_TOKEN, at - 3, at + 37);
}

/*
 * \beyJ[A-Za-z0-9_-]{8,}\.eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}, at the J. All starts in
 * one run of such characters have the same end, which is looked for once:
 * otherwise a run full of "-eyJ" would cost its length squared.
 */
static void verify_jwt(struct detect_run *r, size_t at)
{
	size_t end, n;

	if (at < 2 || r->p[at - 2] != 'e' || r->p[at - 1] != 'y' || word_before(r, at - 2))
		return;
	if (at >= r->jwt_run_end) {
		r->jwt_end = 0;
		r->jwt_run_end = at + 1 + span(r, at + 1, C_B64URL, SIZE_MAX);
		end = r->jwt_run_end;
		if (text_at(r, end, ".eyJ", 4)) {
			n = span(r, end + 4, C_B64URL, SIZE_MAX);
			end += 4 + n;
			if (n >= 8 && text_at(r, end, ".", 1)) {
				n = span(r, end + 1, C_B64URL, SIZE_MAX);
				if (n >= 8)
					r->jwt_end = end + 1 + n;
			}
		}
	}
	if (r->jwt_end && r->jwt_run_end - at - 1 >= 8)
		hit(r, DETECT_BIT_JWT, at - 2, r->jwt_end);
}

static void verify_anchor(struct detect_run *r, size_t at)
{
	switch (r->p[at]) {
	case '@':
		if (r->want & BIT(EMAIL))
			verify_email(r, at);
		break;
	case '+':
		if (r->want & BIT(PHONE))
			verify_phone(r, at);
		break;
	case '_':
		if (r->want & BIT(GITHUB_TOKEN))
			verify_github(r, at);
		break;
	case 'J':
		if (r->want & BIT(JWT))
			verify_jwt(r, at);
		break;
	default:
		break;
	}
}

void detect_verify(struct detect_run *r, enum detect_shape s, size_t at)
{
	switch (s) {
	case SHAPE_DATE:
		verify_date(r, at);
		break;
	case SHAPE_SSN:
		verify_ssn(r, at);
		break;
	case SHAPE_UUID:
		verify_uuid(r, at);
		break;
	case SHAPE_CARD:
		verify_card(r, at);
		break;
	case SHAPE_IPV4:
		verify_ipv4(r, at);
		break;
	case SHAPE_IBAN:
		verify_iban(r, at);
		break;
	case SHAPE_AWS:
		verify_aws(r, at);
		break;
	case SHAPE_PEM:
		verify_pem(r, at);
		break;
	case SHAPE_ANCHOR:
		verify_anchor(r, at);
		break;
	case SHAPE_COUNT:
		break;
	}
}
