/* SPDX-License-Identifier: MIT */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include "detect_ref.h"
#include "guard.h"

#define ALL	  ((1u << DETECTOR_COUNT) - 1)
#define BIT(name) (1u << DETECT_BIT_##name)

static struct ref refs[ARRAY_SIZE(ref_patterns)];

static size_t scan(const uint8_t *p, size_t n, uint32_t want, struct detect_hit *h, size_t cap,
		   bool portable)
{
	size_t k;

	detect_force_portable(portable);
	k = detect_scan(p, n, want, h, cap);
	detect_force_portable(false);
	return k;
}

/* What is found in a short text: the part of it, or NULL for nothing. */
static const struct {
	const char *text;
	uint32_t want;
	const char *hit;
} cases[] = {
	{"4111111111111111", BIT(CARD), "4111111111111111"},
	{"4111111111111112", BIT(CARD), NULL},
	{"4111-1111-1111-1111", BIT(CARD), "4111-1111-1111-1111"},
	{"4111  1111 1111 1111", BIT(CARD), NULL},
	{"4111-1111-1111x1111", BIT(CARD), NULL},
	{"4111 1111-1111.1111", BIT(CARD), NULL},
	{"4111 1111-1111 1111", BIT(CARD), "4111 1111-1111 1111"},
	{"5 4111 1111 1111 1111-", BIT(CARD), "4111 1111 1111 1111"},
	{"x4111111111111111", BIT(CARD), NULL},
	{"4111111111111111x", BIT(CARD), NULL},
	{"4111111111111111_", BIT(CARD), NULL},
	{"card 4111 1111 1111 1111 12/27", BIT(CARD), "4111 1111 1111 1111"},
	{"2024-01-15 4111111111111111 ok", BIT(CARD), "4111111111111111"},
	{"4222222222222", BIT(CARD), "4222222222222"},
	{"422222222222", BIT(CARD), NULL},
	{"6304000000000000000", BIT(CARD), "6304000000000000000"},
	{"6304000000000000000000000000", BIT(CARD), NULL},
	{"alice@example.com", BIT(EMAIL), "alice@example.com"},
	{"<a.b+c@x-y.co.uk>.", BIT(EMAIL), "a.b+c@x-y.co.uk"},
	{"a@b", BIT(EMAIL), NULL},
	{"a@b.c", BIT(EMAIL), NULL},
	{"a@b.cc5", BIT(EMAIL), NULL},
	{"a@b.cc-5", BIT(EMAIL), "a@b.cc"},
	{"a@b.cc_", BIT(EMAIL), NULL},
	{"@b.cc", BIT(EMAIL), NULL},
	{"a@b@c.de", BIT(EMAIL), "b@c.de"},
	{"x@y..zz", BIT(EMAIL), NULL},
	{"GB82 WEST 1234 5698 7654 32", BIT(IBAN), "GB82 WEST 1234 5698 7654 32"},
	{"GB82WEST12345698765432", BIT(IBAN), "GB82WEST12345698765432"},
	{"GB82WEST12345698765433", BIT(IBAN), NULL},
	{"DE89370400440532013000 ABC", BIT(IBAN), "DE89370400440532013000"},
	{"xGB82WEST12345698765432", BIT(IBAN), NULL},
	{"123-45-6789", BIT(SSN), "123-45-6789"},
	{"000-00-0000", BIT(SSN), "000-00-0000"},
	{"1123-45-6789", BIT(SSN), NULL},
	{"123-45-67890", BIT(SSN), NULL},
	{"123-45-6789-1", BIT(SSN), "123-45-6789"},
	{"+4915112345678", BIT(PHONE), "+4915112345678"},
	{"+0915112345678", BIT(PHONE), NULL},
	{"+491511", BIT(PHONE), NULL},
	{"+1234567", BIT(PHONE), "+1234567"},
	{"+1234567890123456", BIT(PHONE), NULL},
	{"+1234567a", BIT(PHONE), NULL},
	{"+", BIT(PHONE), NULL},
	{"192.168.0.1", BIT(IPV4), "192.168.0.1"},
	{"256.1.1.1", BIT(IPV4), NULL},
	{"999.1.2.3.4", BIT(IPV4), "1.2.3.4"},
	{"1.2.3.4.5", BIT(IPV4), "1.2.3.4"},
	{"01.02.03.04", BIT(IPV4), "01.02.03.04"},
	{"1.2.3.099", BIT(IPV4), NULL},
	{"v1.2.3.4", BIT(IPV4), NULL},
	{"255.255.255.255", BIT(IPV4), "255.255.255.255"},
	{"123e4567-e89b-12d3-a456-426614174000", BIT(UUID), "123e4567-e89b-12d3-a456-426614174000"},
	{"123e4567-e89b-12d3-a456-42661417400", BIT(UUID), NULL},
	{"123e4567-e89b-12d3-a456-42661417400g", BIT(UUID), NULL},
	{"born 1984-02-29.", BIT(DOB), "1984-02-29"},
	{"1884-02-29", BIT(DOB), NULL},
	{"1984-13-29", BIT(DOB), NULL},
	{"1984-12-32", BIT(DOB), NULL},
	{"1984-12-31T", BIT(DOB), NULL},
	{"key AKIAIOSFODNN7EXAMPLE", BIT(AWS_KEY), "AKIAIOSFODNN7EXAMPLE"},
	{"AKIAIOSFODNN7EXAMPL", BIT(AWS_KEY), NULL},
	{"AKIAIOSFODNN7EXAMPLEE", BIT(AWS_KEY), NULL},
	{"ghp_0123456789abcdefghijABCDEFGHIJ012345", BIT(GITHUB_TOKEN),
	 "ghp_0123456789abcdefghijABCDEFGHIJ012345"},
	{"ghx_0123456789abcdefghijABCDEFGHIJ012345", BIT(GITHUB_TOKEN), NULL},
	{"ghp_0123456789abcdefghijABCDEFGHIJ0123456", BIT(GITHUB_TOKEN), NULL},
	{"t=eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM;", BIT(JWT),
	 "eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM"},
	{"eyJhbGciOiJI.eyJzdWIiOiIx", BIT(JWT), NULL},
	{"aeyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM", BIT(JWT), NULL},
	{"a\n-----BEGIN RSA PRIVATE KEY-----\nMIIE+/=\n-----END RSA PRIVATE KEY-----\nb",
	 BIT(PRIVATE_KEY),
	 "-----BEGIN RSA PRIVATE KEY-----\nMIIE+/=\n-----END RSA PRIVATE KEY-----"},
	{"-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0 \"next\"", BIT(PRIVATE_KEY),
	 "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkq\nhkiG9w0"},
	{"-----BEGIN PUBLIC KEY-----\nMIIE", BIT(PRIVATE_KEY), NULL},
	{"-----BEGIN EC PRIVATE KEY-----", BIT(PRIVATE_KEY), "-----BEGIN EC PRIVATE KEY-----"},
	{"4111111111111111", ALL & ~BIT(CARD), NULL},
	{"", ALL, NULL},
};

/* Each case at every distance from the start of a block, in front of an unmapped page. */
static void test_cases(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(cases); i++)
		for (unsigned lead = 0; lead < 300; lead += lead < 70 ? 1 : 23)
			for (int portable = 0; portable < 2; portable++) {
				uint8_t text[512];
				struct detect_hit h[8];
				size_t n = strlen(cases[i].text), want, k;
				void *handle;
				uint8_t *p;

				memset(text, ';', lead);
				memcpy(text + lead, cases[i].text, n);
				p = guard_copy(slice_of(text, lead + n), &handle);
				k = scan(p, lead + n, cases[i].want, h, 8, portable);
				if (k != (cases[i].hit ? 1 : 0))
					fail_msg("case %zu `%s` lead %u portable %d: %zu hits", i,
						 cases[i].text, lead, portable, k);
				want = cases[i].hit ? strlen(cases[i].hit) : 0;
				if (k && (h[0].n != want || h[0].off < lead ||
					  memcmp(p + h[0].off, cases[i].hit, want) != 0))
					fail_msg("case %zu `%s` lead %u: hit %u+%u", i,
						 cases[i].text, lead, h[0].off, h[0].n);
				guard_free(handle);
			}
}

/* ------------------------------------------------------------- made text */

static uint64_t seed = 88172645463325252ull;

static uint32_t rnd(uint32_t below)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return (uint32_t)(seed >> 20) % below;
}

/* Pieces that are hits, nearly hits, or glue them together. */
static const char *const pieces[] = {
	"4111111111111111",
	"4111-1111-1111-1111",
	"5500 0000 0000 0004",
	"378282246310005",
	"4222222222222",
	"1",
	"12",
	"123",
	"1234",
	"12345678",
	"0000000000000000000",
	"alice@example.com",
	"a.b@c.de",
	"@",
	"x@y.zz",
	"example.co.uk",
	"GB82WEST12345698765432",
	"GB82 WEST 1234 5698 7654 32",
	"DE89 3704 0044 0532 0130 00",
	"GB82",
	"WEST",
	"123-45-6789",
	"078-05-1120",
	"+4915112345678",
	"+1555123",
	"192.168.0.1",
	"10.0.0.255",
	"1.2.3",
	".4",
	"123e4567-e89b-12d3-a456-426614174000",
	"e89b-12d3-a456",
	"1984-02-29",
	"2024-12-31",
	"1999-",
	"AKIAIOSFODNN7EXAMPLE",
	"ASIA",
	"KIA",
	"ghp_0123456789abcdefghijABCDEFGHIJ012345",
	"gho_",
	"eyJhbGciOiJI.eyJzdWIiOiIx.SflKxwRJSM",
	"eyJ",
	"-eyJabcdefgh",
	".eyJabcdefgh.",
	"-----BEGIN RSA PRIVATE KEY-----",
	"-----",
	"-----END RSA PRIVATE KEY-----",
	" ",
	" ",
	"-",
	".",
	"_",
	"+",
	"\t",
	"\n",
	"|",
	",",
	"x",
	"A",
	"\xc3\xa9",
	"%",
	":",
	"lorem ipsum",
};

static size_t make_text(uint8_t *dst, size_t cap)
{
	size_t n = 0, want = 1 + rnd((uint32_t)cap - 64);

	while (n < want) {
		const char *s = pieces[rnd(ARRAY_SIZE(pieces))];
		size_t k = min_size(strlen(s), cap - n);

		if (rnd(8) == 0)
			k = rnd((uint32_t)k + 1);
		memcpy(dst + n, s, k);
		n += k;
		if (rnd(4) == 0 && n < cap)
			dst[n++] = " -.,|;"[rnd(6)];
	}
	return n;
}

static void print_text(const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		print_message(p[i] >= 0x20 && p[i] < 0x7f ? "%c" : "\\x%02x", p[i]);
	print_message("\n");
}

/* One detector at a time: the same matches as PCRE2, byte for byte. */
static void test_against_pcre2(void **state)
{
	uint8_t text[1500];
	struct detect_hit h[1000];
	uint64_t total[DETECTOR_COUNT] = {0};

	for (unsigned round = 0; round < 600; round++) {
		size_t n = make_text(text, round % 3 ? 300 : sizeof(text));

		for (size_t i = 0; i < ARRAY_SIZE(ref_patterns); i++) {
			enum detector_bit bit = ref_patterns[i].bit;
			size_t k = detect_scan(text, n, 1u << bit, h, ARRAY_SIZE(h));
			size_t at = 0, off, len, seen = 0;

			while (ref_next(&refs[i], text, n, &at, &off, &len)) {
				bool same = seen < k && h[seen].off == off && h[seen].n == len;

				if (bit == DETECT_BIT_PRIVATE_KEY) {
					same = seen < k && h[seen].off == off && h[seen].n >= len;
					at = seen < k ? h[seen].off + h[seen].n : n;
				}
				if (!same) {
					print_text(text, n);
					fail_msg("round %u detector %d: PCRE2 %zu+%zu, we %u+%u",
						 round, bit, off, len, seen < k ? h[seen].off : 0,
						 seen < k ? h[seen].n : 0);
				}
				seen++;
			}
			if (seen != k) {
				print_text(text, n);
				fail_msg("round %u detector %d: %zu hits, PCRE2 %zu, extra %u+%u",
					 round, bit, k, seen, h[seen].off, h[seen].n);
			}
			total[bit] += seen;
		}
	}
	for (size_t i = 0; i < ARRAY_SIZE(ref_patterns); i++)
		assert_true(total[ref_patterns[i].bit] > 20); /* the texts do hold such values */
}

/* Both engines, all detectors at once; sorted; every byte of every single hit covered. */
static void test_engines_agree(void **state)
{
	static uint8_t text[4096];
	static struct detect_hit a[2048], b[2048], one[2048];
	static uint8_t cover[4096];

	for (unsigned round = 0; round < 1500; round++) {
		size_t n = make_text(text, round % 4 ? 400 : sizeof(text)), ka, kb, end = 0;

		ka = scan(text, n, ALL, a, ARRAY_SIZE(a), false);
		kb = scan(text, n, ALL, b, ARRAY_SIZE(b), true);
		assert_int_equal(ka, kb);
		for (size_t i = 0; i < ka; i++) {
			assert_int_equal(a[i].off, b[i].off);
			assert_int_equal(a[i].n, b[i].n);
			assert_int_equal(a[i].bit, b[i].bit);
			assert_true(a[i].n > 0 && a[i].off >= end);
			end = a[i].off + a[i].n;
			assert_true(end <= n);
		}
		assert_true(ka <= detect_max_hits(n));
		memset(cover, 0, sizeof(cover));
		for (size_t i = 0; i < ka; i++)
			memset(cover + a[i].off, 1, a[i].n);
		for (unsigned bit = 0; bit < DETECTOR_COUNT; bit++) {
			size_t k = detect_scan(text, n, 1u << bit, one, ARRAY_SIZE(one));

			for (size_t i = 0; i < k; i++)
				assert_null(memchr(cover + one[i].off, 0, one[i].n));
		}
	}
}

/* A zero byte between values is as good as scanning each alone. */
static void test_values_do_not_join(void **state)
{
	static uint8_t text[8192], part[64][128];
	static struct detect_hit all[2048], one[64];
	size_t len[64];

	for (unsigned round = 0; round < 300; round++) {
		size_t n = 0, k, seen = 0, start = 0;

		for (unsigned i = 0; i < 64; i++) {
			len[i] = make_text(part[i], 100);
			memcpy(text + n, part[i], len[i]);
			n += len[i];
			text[n++] = 0;
		}
		k = detect_scan(text, n, ALL, all, ARRAY_SIZE(all));
		for (unsigned i = 0; i < 64; i++) {
			size_t m = detect_scan(part[i], len[i], ALL, one, ARRAY_SIZE(one));

			for (size_t j = 0; j < m; j++, seen++) {
				assert_true(seen < k);
				assert_int_equal(all[seen].off, start + one[j].off);
				assert_int_equal(all[seen].n, one[j].n);
				assert_int_equal(all[seen].bit, one[j].bit);
			}
			start += len[i] + 1;
		}
		assert_int_equal(seen, k);
	}
}

/* A full array is said, and nothing is written behind it. */
static void test_cap(void **state)
{
	struct detect_hit h[4];
	const char *text = "a@b.cc a@b.cc a@b.cc a@b.cc";

	memset(h, 0xff, sizeof(h));
	assert_int_equal(detect_scan((const uint8_t *)text, strlen(text), ALL, h, 3), 3);
	assert_int_equal(h[2].off, 14);
	assert_int_equal(h[3].off, UINT32_MAX);
	assert_int_equal(detect_scan((const uint8_t *)text, strlen(text), ALL, h, 0), 0);
}

/* Inputs made to be slow cost time in proportion to their length. */
static void test_no_quadratic_cost(void **state)
{
	static const char *const unit[] = {"-eyJ",	  "1 ",	  "-----BEGIN PRIVATE KEY-----\n",
					   "@a.",	  "AA11", "1.",
					   "a@",	  "0",	  "1-",
					   "eyJaaaaaaaa."};
	const size_t n = 4 << 20;
	uint8_t *text = malloc(n);
	struct detect_hit *h = malloc(detect_max_hits(n) * sizeof(*h));

	assert_true(text && h);
	for (size_t i = 0; i < ARRAY_SIZE(unit); i++) {
		struct timespec a, b;

		for (size_t k = 0; k < n; k++)
			text[k] = (uint8_t)unit[i][k % strlen(unit[i])];
		(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &a);
		(void)detect_scan(text, n, ALL, h, detect_max_hits(n));
		(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &b);
		/* Squared it would be hours. Generous: sanitizers, a busy machine. */
		assert_true(b.tv_sec - a.tv_sec < 20);
	}
	free(text);
	free(h);
}

static int open_refs(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(refs); i++)
		ref_open(&refs[i], i);
	return 0;
}

static int close_refs(void **state)
{
	for (size_t i = 0; i < ARRAY_SIZE(refs); i++)
		ref_close(&refs[i]);
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),	      cmocka_unit_test(test_against_pcre2),
		cmocka_unit_test(test_engines_agree), cmocka_unit_test(test_values_do_not_join),
		cmocka_unit_test(test_cap),	      cmocka_unit_test(test_no_quadratic_cost),
	};

	return cmocka_run_group_tests(tests, open_refs, close_refs);
}
