/* SPDX-License-Identifier: MIT */
/*
 * The detectors' speed on one core, and their counts against PCRE2's.
 *   bench_detect [MiB [seconds]]
 * One JSON object a line. Exits with 1 if a count differs.
 *
 * dense: every row has an address, a phone number, a card, a UUID and a date.
 * sparse: one row in a hundred has; every row has a date and words and numbers.
 * planted: prose with each kind of value, and near misses, in known numbers.
 */
#include <time.h>

#include "../unit/detect_ref.h"
#include "policy/mask.h"

#define ALL	((1u << DETECT_BIT_PATTERN) - 1)
#define PICK(a) (a)[rnd() % ARRAY_SIZE(a)]

static const char *const first[] = {"Alice", "Bruno", "Chiara", "Dmitri", "Elena", "Farid",
				    "Greta", "Hiro",  "Ines",	"Jakub",  "Mei",   "Yara"};
static const char *const last[] = {"Anderson", "Bianchi", "Carvalho", "Dubois",	 "Eriksen",
				   "Fischer",  "Garcia",  "Horvath",  "Ivanova", "Yilmaz"};
static const char *const domain[] = {"example.com", "mail.example.org", "corp.example.net",
				     "test.example", "inbox.example.co.uk"};
static const char *const city[] = {"Lisbon", "Praha", "Osaka", "Sao Paulo", "Nairobi", "Austin"};
static const char *const word[] = {
	"invoice", "pending",  "customer", "returned", "order",	  "shipped", "late",	"partial",
	"refund",  "approved", "account",  "review",   "manual",  "batch",   "error",	"retry",
	"note",	   "contract", "renewed",  "until",    "quarter", "of",	     "percent", "the",
	"and",	   "for",      "was",	   "not",      "in",	  "stock"};

static uint64_t seed = 88172645463325252ull;

static uint64_t rnd(void)
{
	seed ^= seed << 13;
	seed ^= seed >> 7;
	seed ^= seed << 17;
	return seed;
}

static double cpu_seconds(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

/* A card number of 16 digits with a right check digit. */
static void make_card(char card[17])
{
	unsigned sum = 0;

	card[0] = '4';
	for (int i = 1; i < 15; i++)
		card[i] = (char)('0' + rnd() % 10);
	for (int i = 0; i < 15; i++) {
		unsigned v = (unsigned)(card[i] - '0') << (i % 2 == 0);

		sum += v > 9 ? v - 9 : v;
	}
	card[15] = (char)('0' + (10 - sum % 10) % 10);
	card[16] = 0;
}

static size_t make_row(char *o, size_t cap, bool rich, unsigned id)
{
	const char *f = PICK(first), *l = PICK(last);
	uint64_t a = rnd(), b = rnd();
	char card[17];
	size_t n = 0;

#define ADD(...) n += (size_t)snprintf(o + n, cap - n, __VA_ARGS__)
	make_card(card);
	ADD("%u\t", 100000 + id);
	if (rich)
		ADD("%08x-%04x-4%03x-a%03x-%012lx\t", (unsigned)a, (unsigned)(a >> 32) & 0xffff,
		    (unsigned)(a >> 48) & 0xfff, (unsigned)b & 0xfff, (unsigned long)(b >> 16));
	else
		ADD("SKU%06lu\t", (unsigned long)(a % 1000000));
	ADD("%s %s\t", f, l);
	if (rich)
		ADD("%s.%s%u@%s\t+%u%09u\t", f, l, (unsigned)(rnd() % 1000), PICK(domain),
		    (unsigned)(rnd() % 60 + 1), (unsigned)(rnd() % 1000000000));
	else
		ADD("%s-%s\t%u.%02u\t", PICK(word), PICK(word), (unsigned)(rnd() % 10000),
		    (unsigned)(rnd() % 100));
	if (rich && rnd() % 2)
		ADD("%.4s-%.4s-%.4s-%.4s\t", card, card + 4, card + 8, card + 12);
	else
		ADD("%s\t", rich ? card : PICK(word));
	ADD("%u %s St, %s\t%u.%02u\t2024-%02u-%02u %02u:%02u:%02u\t", (unsigned)(rnd() % 400),
	    PICK(last), PICK(city), (unsigned)(rnd() % 100000), (unsigned)(rnd() % 100),
	    (unsigned)(rnd() % 12 + 1), (unsigned)(rnd() % 28 + 1), (unsigned)(rnd() % 24),
	    (unsigned)(rnd() % 60), (unsigned)(rnd() % 60));
	for (unsigned i = 0, w = 6 + (unsigned)(rnd() % 8); i < w; i++)
		ADD(i ? " %s" : "%s", PICK(word));
	ADD("\n");
	return n;
}

/* Values of each kind, right and nearly right, between words. */
static size_t make_planted(char *o, size_t cap, bool rich, unsigned id)
{
	static const char *const fixed[] = {
		"GB82 WEST 1234 5698 7654 32",
		"GB82WEST12345698765433",
		"DE89370400440532013000",
		"FR1420041010050500013M02606",
		"078-05-1120",
		"000-12-3456",
		"123-45-678",
		"AKIAIOSFODNN7EXAMPLE",
		"ASIAIOSFODNN7EXAMPLE",
		"AKIAIOSFODNN7EXAMPL",
		"ghp_0123456789abcdefghijABCDEFGHIJ012345",
		"ghz_0123456789abcdefghijABCDEFGHIJ012345",
		"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.SflKxwRJSMeKKF2QT4fw",
		"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9",
		"192.168.10.254",
		"300.1.2.3",
		"1.2.3",
		"1984-02-29",
		"1984-13-01",
		"+4915112345678",
		"+0123",
		"378282246310005",
		"4111 1111 1111 1111 12/27",
		"4111111111111112",
		"6011-0009-9013-9424",
		"-----BEGIN RSA PRIVATE KEY-----\nMIIEpAIBAAKCAQEA\n-----END RSA PRIVATE KEY-----",
		"-----BEGIN PUBLIC KEY-----",
		"bob@example",
		"bob.o'hara+x@mail.example.org",
		"123e4567-e89b-12d3-a456-426614174000",
		"123e4567-e89b-12d3-a456-42661417400",
	};
	size_t n = 0;

	for (unsigned i = 0; i < 3; i++)
		ADD("%s%s", PICK(word), rnd() % 3 ? " " : rnd() % 2 ? ", " : ": ");
	ADD("%s%s%s\n", PICK(fixed), rnd() % 4 ? " " : rnd() % 2 ? "." : "_", PICK(word));
#undef ADD
	return n;
}

typedef size_t maker(char *o, size_t cap, bool rich, unsigned id);

static uint8_t *make_file(size_t n, maker *make, bool dense)
{
	char *text = malloc(n), row[1024];
	size_t used = 0;

	BUG_ON(!text);
	for (unsigned id = 0; used < n; id++) {
		size_t k =
			min_size(make(row, sizeof(row), dense || rnd() % 100 == 0, id), n - used);

		memcpy(text + used, row, k);
		used += k;
	}
	return (uint8_t *)text;
}

/* The best of several runs: what disturbs only makes it slower. */
static void bench_bulk(const char *name, const uint8_t *p, size_t n, double seconds)
{
	size_t cap = detect_max_hits(n), hits = 0;
	struct detect_hit *h = malloc(cap * sizeof(*h));
	double best = 1e9, total = 0;

	BUG_ON(!h);
	while (total < seconds) {
		double start = cpu_seconds(), took;

		hits = detect_scan(p, n, ALL, h, cap);
		took = cpu_seconds() - start;
		best = took < best ? took : best;
		total += took;
	}
	printf("{\"bench\":\"detect_bulk\",\"rows\":\"%s\",\"engine\":\"%s\",\"bytes\":%zu,"
	       "\"hits\":%zu,\"gb_per_s\":%.3f}\n",
	       name, detect_engine(), n, hits, (double)n / best / 1e9);
	free(h);
}

/* Each field of 20 to 64 bytes alone, as for a result of one column. */
static void bench_fields(const char *name, const uint8_t *p, size_t n, double seconds)
{
	struct slice *field = calloc(n / 20 + 1, sizeof(*field));
	double best = 1e9, total = 0;
	size_t fields = 0, bytes = 0, from = 0;
	struct detect_hit h[64];

	BUG_ON(!field);
	for (size_t i = 0; i < n; i++) {
		if (p[i] != '\t' && p[i] != '\n')
			continue;
		if (i - from >= 20 && i - from <= 64) {
			bytes += i - from;
			field[fields++] = slice_of(p + from, i - from);
		}
		from = i + 1;
	}
	while (total < seconds) {
		double start = cpu_seconds(), took;

		for (size_t i = 0; i < fields; i++)
			(void)detect_scan(field[i].p, field[i].n, ALL, h, ARRAY_SIZE(h));
		took = cpu_seconds() - start;
		best = took < best ? took : best;
		total += took;
	}
	printf("{\"bench\":\"detect_field\",\"rows\":\"%s\",\"engine\":\"%s\",\"fields\":%zu,"
	       "\"mean_bytes\":%.1f,\"ns_per_field\":%.1f}\n",
	       name, detect_engine(), fields, (double)bytes / (double)fields,
	       best / (double)fields * 1e9);
	free(field);
}

/* Rows as the masker gets them: ten values at a time. */
static void bench_masker(const char *name, const uint8_t *p, size_t n, double seconds)
{
	struct insp_plan plan = {.detectors = ALL, .found_how = MASK_REDACT};
	const uint8_t key[32] = {0};
	struct insp_value *v = calloc(n / 2 + 1, sizeof(*v));
	double best = 1e9, total = 0;
	struct masker *m;
	size_t values = 0, from = 0;

	BUG_ON(!v || masker_new(key, &m));
	for (size_t i = 0; i < n; i++)
		if (p[i] == '\t' || p[i] == '\n') {
			v[values++] = (struct insp_value){.in = slice_of(p + from, i - from),
							  .plan = &plan};
			from = i + 1;
		}
	while (total < seconds) {
		double start = cpu_seconds(), took;

		for (size_t i = 0; i + 100 <= values; i += 100)
			(void)masker_apply(m, NULL, v + i, 100);
		took = cpu_seconds() - start;
		best = took < best ? took : best;
		total += took;
	}
	printf("{\"bench\":\"masker_rows\",\"rows\":\"%s\",\"engine\":\"%s\",\"values\":%zu,"
	       "\"gb_per_s\":%.3f,\"ns_per_value\":%.1f}\n",
	       name, detect_engine(), values, (double)n / best / 1e9, best / (double)values * 1e9);
	masker_free(m);
	free(v);
}

/* True if all counts are PCRE2's. */
static bool compare(const char *name, const uint8_t *p, size_t n)
{
	size_t cap = detect_max_hits(n);
	struct detect_hit *h = malloc(cap * sizeof(*h));
	bool same = true;

	BUG_ON(!h);
	for (size_t i = 0; i < ARRAY_SIZE(ref_patterns); i++) {
		enum detector_bit bit = ref_patterns[i].bit;
		size_t ours = detect_scan(p, n, 1u << bit, h, cap), theirs = 0, at = 0, off, len;
		double start = cpu_seconds(), took;
		struct ref r;

		ref_open(&r, i);
		while (ref_next(&r, p, n, &at, &off, &len))
			theirs++;
		took = cpu_seconds() - start;
		ref_close(&r);
		same &= ours == theirs;
		printf("{\"bench\":\"detect_counts\",\"rows\":\"%s\",\"detector\":%d,\"ours\":%zu,"
		       "\"pcre2\":%zu,\"equal\":%s,\"pcre2_gb_per_s\":%.3f}\n",
		       name, bit, ours, theirs, ours == theirs ? "true" : "false",
		       (double)n / took / 1e9);
	}
	free(h);
	return same;
}

int main(int argc, char **argv)
{
	size_t n = (size_t)(argc > 1 ? strtoul(argv[1], NULL, 10) : 16) << 20;
	double seconds = argc > 2 ? strtod(argv[2], NULL) : 1;
	uint8_t *dense = make_file(n, make_row, true), *sparse = make_file(n, make_row, false);
	uint8_t *planted = make_file(n / 4, make_planted, true);
	bool same;

	for (int portable = 0; portable < 2; portable++) {
		detect_force_portable(portable);
		bench_bulk("dense", dense, n, seconds);
		bench_bulk("sparse", sparse, n, seconds);
		bench_fields("dense", dense, n / 8, seconds);
		bench_fields("sparse", sparse, n / 8, seconds);
		bench_masker("dense", dense, n / 8, seconds);
		bench_masker("sparse", sparse, n / 8, seconds);
	}
	detect_force_portable(false);
	same = compare("planted", planted, n / 4);
	same &= compare("dense", dense, n / 8);
	same &= compare("sparse", sparse, n / 8);
	free(dense);
	free(sparse);
	free(planted);
	return !same;
}
