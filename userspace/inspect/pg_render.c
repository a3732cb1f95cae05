/* SPDX-License-Identifier: MIT */
/*
 * Values as the text that detectors know: binary numbers, dates and UUIDs as a server would
 * print them, floating-point numbers without exponent, bytea as the bytes it stands for.
 */
#include "inspect/pg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"

enum { SECONDS_A_DAY = 86400, DAYS_TO_2000 = 10957 };

static uint64_t be64(const uint8_t *p)
{
	return (uint64_t)load_be32(p) << 32 | load_be32(p + 4);
}

static size_t printed(int n, size_t cap)
{
	return n > 0 && (size_t)n < cap ? (size_t)n : 0;
}

/*
 * numeric in binary: ndigits, weight, sign, dscale, then base-10000 digits
 * (numeric_send). Digits behind the point only as far as they are there.
 */
static size_t numeric_text(struct slice v, char *dst, size_t cap)
{
	size_t ndigits, n = 0;
	uint16_t sign;
	int weight;

	if (v.n < 8)
		return 0;
	ndigits = load_be16(v.p);
	weight = (int16_t)load_be16(v.p + 2);
	sign = load_be16(v.p + 4);
	if (v.n != 8 + ndigits * 2 || sign & 0x8000 || weight < -8 || weight > 30)
		return 0;
	if (sign == 0x4000)
		dst[n++] = '-';
	if (weight < 0)
		dst[n++] = '0';
	for (int i = weight < 0 ? weight + 1 : 0; i < (int)ndigits || i <= weight; i++) {
		unsigned d = i >= 0 && i < (int)ndigits ? load_be16(v.p + 8 + (size_t)i * 2) : 0;
		bool first = i == 0 && weight >= 0;

		if (d > 9999 || n + 6 > cap)
			return d > 9999 ? 0 : n;
		if (i == weight + 1)
			dst[n++] = '.';
		n += (size_t)snprintf(dst + n, cap - n, first ? "%u" : "%04u", d);
	}
	return n;
}

/* A card number in a float8 is printed as 4.111111111111111e+15: here as 4111111111111111. */
static size_t float_text(double d, int digits, char *dst, size_t cap)
{
	size_t n;

	if (fabs(d) >= 1e6 && fabs(d) < 1e19 && d == floor(d))
		return printed(snprintf(dst, cap, "%.0f", d), cap);
	/* The shortest that reads back as the same, as servers print since 12. */
	for (int p = digits;; p++) {
		double back;

		n = printed(snprintf(dst, cap, "%.*g", p, d), cap);
		back = n ? strtod(dst, NULL) : d;
		if (back == d || p == 17 || isnan(d) || (digits == 6 && (float)back == (float)d))
			return n;
	}
}

static size_t date_text(int64_t days_from_2000, char *dst, size_t cap)
{
	char when[40];
	int64_t days = days_from_2000 + DAYS_TO_2000;

	/* What lies outside of these is nobody's date. */
	if (days < 0 || days > (int64_t)(UINT64_MAX / 1000000000 / SECONDS_A_DAY))
		return 0;
	text_time((uint64_t)days * SECONDS_A_DAY * 1000000000, when, sizeof(when));
	return printed(snprintf(dst, cap, "%.10s", when), cap);
}

/* Microseconds from 2000-01-01: "1980-02-03 01:02:03". */
static size_t timestamp_text(int64_t us, char *dst, size_t cap)
{
	int64_t seconds = us / 1000000 - (us % 1000000 < 0);
	int64_t days = seconds / SECONDS_A_DAY - (seconds % SECONDS_A_DAY < 0);
	unsigned s = (unsigned)(seconds - days * SECONDS_A_DAY);
	size_t n = date_text(days, dst, cap);

	if (!n)
		return 0;
	return n + printed(snprintf(dst + n, cap - n, " %02u:%02u:%02u", s / 3600, s / 60 % 60,
				    s % 60), cap - n);
}

static size_t uuid_text(const uint8_t *p, char *dst, size_t cap)
{
	char hex[33];

	text_hex(p, 16, hex);
	return printed(snprintf(dst, cap, "%.8s-%.4s-%.4s-%.4s-%.12s", hex, hex + 8, hex + 12,
				hex + 16, hex + 20), cap);
}

static size_t binary_text(uint32_t type, struct slice v, char *dst, size_t cap)
{
	uint32_t u32 = v.n >= 4 ? load_be32(v.p) : 0;
	uint64_t u64 = v.n >= 8 ? be64(v.p) : 0;
	double d;
	float f;

	if (type == PG_OID_NUMERIC)
		return numeric_text(v, dst, cap);
	if (type == PG_OID_INT2 && v.n == 2)
		return printed(snprintf(dst, cap, "%d", (int16_t)load_be16(v.p)), cap);
	if (type == PG_OID_INT4 && v.n == 4)
		return printed(snprintf(dst, cap, "%d", (int32_t)u32), cap);
	if (type == PG_OID_OID && v.n == 4)
		return printed(snprintf(dst, cap, "%u", u32), cap);
	if (type == PG_OID_INT8 && v.n == 8)
		return printed(snprintf(dst, cap, "%lld", (long long)(int64_t)u64), cap);
	if (type == PG_OID_DATE && v.n == 4)
		return date_text((int32_t)u32, dst, cap);
	if ((type == PG_OID_TIMESTAMP || type == PG_OID_TIMESTAMPTZ) && v.n == 8)
		return timestamp_text((int64_t)u64, dst, cap);
	if (type == PG_OID_UUID && v.n == 16)
		return uuid_text(v.p, dst, cap);
	if (type == PG_OID_FLOAT8 && v.n == 8) {
		memcpy(&d, &u64, sizeof(d));
		return float_text(d, 15, dst, cap);
	}
	if (type == PG_OID_FLOAT4 && v.n == 4) {
		memcpy(&f, &u32, sizeof(f));
		return float_text((double)f, 6, dst, cap);
	}
	return 0;
}

bool pg_type_renders(uint32_t type, bool binary)
{
	switch (type) {
	case PG_OID_FLOAT8:
		return true;
	case PG_OID_NUMERIC:
	case PG_OID_INT2:
	case PG_OID_INT4:
	case PG_OID_INT8:
	case PG_OID_OID:
	case PG_OID_FLOAT4:
	case PG_OID_DATE:
	case PG_OID_TIMESTAMP:
	case PG_OID_TIMESTAMPTZ:
	case PG_OID_UUID:
		return binary;
	default:
		return false;
	}
}

size_t pg_type_render(uint32_t type, bool binary, struct slice v, char *dst, size_t cap)
{
	char *end;
	double d;

	if (binary)
		return binary_text(type, v, dst, cap);
	if (v.n >= cap)
		return 0;
	memcpy(dst, v.p, v.n);
	dst[v.n] = '\0';
	d = strtod(dst, &end);
	if (end != dst + v.n || !memchr(dst, 'e', v.n))
		return v.n;
	return float_text(d, 15, dst, cap);
}

/* ------------------------------------------------------------------- bytea */

static int hex_digit(uint8_t b)
{
	if (b >= '0' && b <= '9')
		return b - '0';
	b |= 0x20;
	return b >= 'a' && b <= 'f' ? b - 'a' + 10 : -1;
}

static size_t unescape(struct slice v, uint8_t *dst)
{
	size_t n = 0;

	for (size_t i = 0; i < v.n; i++) {
		const uint8_t *p = v.p + i;

		if (p[0] != '\\' || v.n - i < 2) {
			dst[n++] = p[0];
		} else if (p[1] == '\\') {
			dst[n++] = '\\';
			i++;
		} else if (v.n - i >= 4) {
			dst[n++] = (uint8_t)((p[1] - '0') << 6 | (p[2] - '0') << 3 | (p[3] - '0'));
			i += 3;
		}
	}
	return n;
}

size_t pg_bytea_bytes(struct slice v, uint8_t *dst)
{
	size_t n = 0;

	if (v.n < 2 || v.p[0] != '\\' || v.p[1] != 'x')
		return unescape(v, dst);
	for (size_t i = 2; i + 1 < v.n; i += 2) {
		int high = hex_digit(v.p[i]), low = hex_digit(v.p[i + 1]);

		if (high < 0 || low < 0)
			break;
		dst[n++] = (uint8_t)(high << 4 | low);
	}
	return n;
}
