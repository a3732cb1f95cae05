/* SPDX-License-Identifier: MIT */
/*
 * Masks by type: what replaces a value so that a client can still read it, and
 * which types are looked into by detectors.
 *
 * Under a mask: text types are the host's business; types with a fixed set of
 * values become the type's zero (0, false, 2000-01-01, 0.0.0.0, empty bytea,
 * a JSON string of stars); everything else (arrays, composites, ranges, enums,
 * types that are not built in) becomes NULL.
 *
 * Under detectors alone: text types, JSON, XML, text arrays, binary bytea and types that
 * are not built in are scanned as they come, and the hit is replaced in place. What cannot be
 * replaced in part is scanned as text (pg_render.c), and a hit replaces the
 * whole value as a mask would: numbers that can be long enough for a card number; bytea in text form,
 * by the bytes it stands for; arrays and composites in binary. uuid, inet and date are
 * what their detectors look for, so all their values are hits; so is a timestamp at midnight: a
 * date of birth in a column that is no date. A user's pattern may mean any type: all
 * are scanned for it that have a text here, see scan_act().
 */
#include "inspect/pg.h"

#include <string.h>

enum pg_kind {
	KIND_OTHER,
	KIND_TEXT,
	KIND_TEXT_ARRAY, /* text form only */
	KIND_JSON,
	KIND_JSONB,
	KIND_CHAR,
	KIND_FIXED,	   /* for a user's pattern only, in text form */
	KIND_SMALL,	   /* numbers too short for a card: for a user's pattern only */
	KIND_DECIMAL,
	KIND_BYTEA,
	KIND_TIMESTAMP,
	KIND_UUID,
	KIND_DATE,
	KIND_INET,
};

static enum pg_kind kind_of(uint32_t type)
{
	switch ((enum pg_oid)type) {
	case PG_OID_TEXT:
	case PG_OID_VARCHAR:
	case PG_OID_BPCHAR:
	case PG_OID_NAME:
	case PG_OID_UNKNOWN:
	case PG_OID_XML:
		return KIND_TEXT;
	case PG_OID_TEXT_ARRAY:
	case PG_OID_VARCHAR_ARRAY:
	case PG_OID_BPCHAR_ARRAY:
	case PG_OID_NAME_ARRAY:
	case PG_OID_XML_ARRAY:
	case PG_OID_CHAR_ARRAY:
		return KIND_TEXT_ARRAY;
	case PG_OID_JSON:
		return KIND_JSON;
	case PG_OID_JSONB:
		return KIND_JSONB;
	case PG_OID_CHAR:
		return KIND_CHAR;
	case PG_OID_INT8:
	case PG_OID_NUMERIC:
	case PG_OID_FLOAT8:
		return KIND_DECIMAL;
	case PG_OID_INT2:
	case PG_OID_INT4:
	case PG_OID_OID:
	case PG_OID_FLOAT4:
		return KIND_SMALL;
	case PG_OID_BYTEA:
		return KIND_BYTEA;
	case PG_OID_TIMESTAMP:
	case PG_OID_TIMESTAMPTZ:
		return KIND_TIMESTAMP;
	case PG_OID_UUID:
		return KIND_UUID;
	case PG_OID_DATE:
		return KIND_DATE;
	case PG_OID_INET:
	case PG_OID_CIDR:
		return KIND_INET;
	case PG_OID_BOOL:
	case PG_OID_MONEY:
	case PG_OID_MACADDR:
	case PG_OID_MACADDR8:
	case PG_OID_TIME:
	case PG_OID_TIMETZ:
	case PG_OID_INTERVAL:
		return KIND_FIXED;
	case PG_OID_JSON_ARRAY:
	case PG_OID_JSONB_ARRAY:
	case PG_OID_FIRST_USER:
		break;
	}
	return KIND_OTHER;
}

/* All values, if @bit is looked for; for a user's pattern they are looked into where they are text. */
static enum pg_act fix_or_scan(uint32_t detectors, enum detector_bit bit, bool has_text)
{
	if (detectors & 1u << bit)
		return PG_ACT_FIX;
	return detectors & 1u << DETECT_BIT_PATTERN && has_text ? PG_ACT_SCAN : PG_ACT_NONE;
}

static enum pg_act scan_act(uint32_t type, bool binary, uint32_t detectors)
{
	switch (kind_of(type)) {
	case KIND_TEXT:
		return PG_ACT_HOST;
	case KIND_TEXT_ARRAY:
		return binary ? PG_ACT_SCAN : PG_ACT_HOST;
	case KIND_JSON:
	case KIND_JSONB:
		return PG_ACT_JSON;
	case KIND_CHAR:
		return PG_ACT_NONE;
	case KIND_FIXED:
		return detectors & 1u << DETECT_BIT_PATTERN && !binary ? PG_ACT_SCAN : PG_ACT_NONE;
	case KIND_SMALL:
		return detectors & 1u << DETECT_BIT_PATTERN ? PG_ACT_SCAN : PG_ACT_NONE;
	case KIND_DECIMAL:
		return PG_ACT_SCAN;
	case KIND_BYTEA:
		return binary ? PG_ACT_HOST : PG_ACT_SCAN;
	case KIND_UUID:
		return fix_or_scan(detectors, DETECT_BIT_UUID, true);
	case KIND_DATE:
	case KIND_TIMESTAMP:
		return fix_or_scan(detectors, DETECT_BIT_DOB, true);
	case KIND_INET:
		return fix_or_scan(detectors, DETECT_BIT_IPV4, !binary);
	case KIND_OTHER:
		break;
	}
	/* Type 0: a column of COPY; the OIDs of extensions and users begin at 16384. */
	if (!binary && (type == 0 || type >= PG_OID_FIRST_USER))
		return PG_ACT_HOST;
	return PG_ACT_SCAN;
}

enum pg_act pg_type_act(uint32_t type, bool binary, const struct insp_plan *p)
{
	if (p->how == MASK_NONE)
		return p->detectors ? scan_act(type, binary, p->detectors) : PG_ACT_NONE;
	if (p->how == MASK_NULL)
		return PG_ACT_FIX;
	if (kind_of(type) == KIND_TEXT || (type == 0 && !binary))
		return PG_ACT_HOST;
	return PG_ACT_FIX;
}

/* ------------------------------------------------------------ replacements */

struct zero {
	uint32_t type;
	struct slice text, binary; /* binary: of zero bytes unless given */
	uint8_t zeros;
};

#define ZERO(oid, t, n) {.type = (oid), .text = SLICE_LIT(t), .zeros = (n)}
#define SAME(oid, t)	{.type = (oid), .text = SLICE_LIT(t), .binary = SLICE_LIT(t)}

static const struct zero zeros[] = {
	ZERO(PG_OID_INT2, "0", 2),
	ZERO(PG_OID_INT4, "0", 4),
	ZERO(PG_OID_INT8, "0", 8),
	ZERO(PG_OID_OID, "0", 4),
	ZERO(PG_OID_FLOAT4, "0", 4),
	ZERO(PG_OID_FLOAT8, "0", 8),
	ZERO(PG_OID_NUMERIC, "0", 8), /* no digits, weight, sign, scale */
	ZERO(PG_OID_MONEY, "$0.00", 8),
	ZERO(PG_OID_BOOL, "f", 1),
	ZERO(PG_OID_DATE, "2000-01-01", 4), /* days and microseconds count from there */
	ZERO(PG_OID_TIME, "00:00:00", 8),
	ZERO(PG_OID_TIMETZ, "00:00:00+00", 12),
	ZERO(PG_OID_TIMESTAMP, "2000-01-01 00:00:00", 8),
	ZERO(PG_OID_TIMESTAMPTZ, "2000-01-01 00:00:00+00", 8),
	ZERO(PG_OID_INTERVAL, "00:00:00", 16),
	ZERO(PG_OID_UUID, "00000000-0000-0000-0000-000000000000", 16),
	ZERO(PG_OID_MACADDR, "00:00:00:00:00:00", 6),
	ZERO(PG_OID_MACADDR8, "00:00:00:00:00:00:00:00", 8),
	/* family, bits, is_cidr, length, address */
	{PG_OID_INET, SLICE_LIT("0.0.0.0"), SLICE_LIT("\2\40\0\4\0\0\0\0"), 0},
	{PG_OID_CIDR, SLICE_LIT("0.0.0.0/32"), SLICE_LIT("\2\40\1\4\0\0\0\0"), 0},
	{PG_OID_BYTEA, SLICE_LIT("\\x"), SLICE_LIT(""), 0},
	SAME(PG_OID_JSON, "\"***\""),
	{PG_OID_JSONB, SLICE_LIT("\"***\""), SLICE_LIT("\1\"***\""), 0},
	SAME(PG_OID_CHAR, "*"),
	SAME(PG_OID_TEXT, "***"),
	SAME(PG_OID_VARCHAR, "***"),
	SAME(PG_OID_BPCHAR, "***"),
	SAME(PG_OID_NAME, "***"),
	SAME(PG_OID_UNKNOWN, "***"),
	SAME(PG_OID_XML, "***"),
	ZERO(0, "***", 0), /* COPY, whose columns have no types */
};

struct slice pg_type_zero(uint32_t type, bool binary, uint8_t how)
{
	static const uint8_t nothing[16];

	if (how == MASK_NULL)
		return (struct slice){0};
	for (size_t i = 0; i < ARRAY_SIZE(zeros); i++) {
		const struct zero *z = &zeros[i];

		if (z->type != type)
			continue;
		if (!binary)
			return z->text;
		if (z->binary.p)
			return z->binary;
		return z->zeros ? slice_of(nothing, z->zeros) : (struct slice){0};
	}
	return (struct slice){0};
}

uint8_t pg_type_fill(uint32_t type, bool binary, bool hex, size_t at, size_t left)
{
	enum pg_kind kind = kind_of(type);

	if (kind == KIND_JSON || kind == KIND_JSONB) {
		if (kind == KIND_JSONB && binary) {
			if (at == 0)
				return 1; /* its version */
			at--;
		}
		return at == 0 || left == 1 ? '"' : '*';
	}
	if (type == PG_OID_BYTEA && !binary && hex)
		return at == 0 ? '\\' : at == 1 ? 'x' : '0';
	if (kind == KIND_TEXT || kind == KIND_CHAR || (type == 0 && !binary))
		return '*';
	return binary ? 0 : kind == KIND_OTHER || kind == KIND_TEXT_ARRAY ? '*' : '0';
}

/* -------------------------------------------------------------------- JSON */

/* End of a string that starts at @p, or NULL. */
static const uint8_t *json_string(const uint8_t *p, const uint8_t *end)
{
	for (p++; p < end && *p >= 0x20; p++) {
		if (*p == '"')
			return p + 1;
		if (*p == '\\' && ++p == end)
			break;
	}
	return NULL;
}

/* End of a number or a word, or NULL. */
static const uint8_t *json_word(const uint8_t *p, const uint8_t *end)
{
	static const char *const words[] = {"true", "false", "null"};
	const uint8_t *start = p;
	bool digit = false;

	for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
		size_t n = strlen(words[i]);

		if ((size_t)(end - p) >= n && memcmp(p, words[i], n) == 0)
			return p + n;
	}
	for (; p < end && *p && strchr("+-.eE0123456789", *p); p++)
		digit |= *p >= '0' && *p <= '9';
	return p > start && digit ? p : NULL;
}

/*
 * Good enough to tell whether a replacement fell outside of a string: the
 * input was JSON before. Nesting is a bit per level, up to 512.
 */
bool pg_json_valid(struct slice s)
{
	const uint8_t *p = s.p, *end = s.p + s.n;
	uint8_t object[64] = {0};
	int depth = 0;
	bool value = true; /* one may come now */

	for (; p && p < end;) {
		if (*p == ' ' || *p == '\t' || *p == '\n' || *p == '\r') {
			p++;
		} else if (*p == '{' || *p == '[') {
			if (!value || depth == 512)
				return false;
			if (*p == '{')
				object[depth / 8] |= (uint8_t)(1u << (depth % 8));
			else
				object[depth / 8] &= (uint8_t)~(1u << (depth % 8));
			depth++;
			p++;
		} else if (*p == '}' || *p == ']') {
			if (depth-- == 0 ||
			    !!(object[depth / 8] & 1u << (depth % 8)) != (*p == '}'))
				return false;
			value = false;
			p++;
		} else if (*p == ',' || *p == ':') {
			if (value || depth == 0)
				return false;
			value = true;
			p++;
		} else if (!value) {
			return false;
		} else {
			p = *p == '"' ? json_string(p, end) : json_word(p, end);
			value = false;
		}
	}
	return p && depth == 0 && !value;
}
