/* SPDX-License-Identifier: MIT */
/*
 * The detectors: both engines say the same, wherever in a block the text
 * stands; hits are in order, apart, inside, and do not reach over zero bytes;
 * masked output has the rest unchanged.
 */
#include "policy/detect.h"
#include "policy/mask.h"

enum { MAX = 8192, LEAD = 256 };

#define ALL ((1u << DETECTOR_COUNT) - 1)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t scan(const uint8_t *p, size_t n, uint32_t want, bool portable, struct detect_hit *h)
{
	size_t k;

	detect_force_portable(portable);
	k = detect_scan(p, n, want, h, detect_max_hits(MAX + LEAD));
	detect_force_portable(false);
	return k;
}

static void check_mask(const uint8_t *p, size_t n, const struct detect_hit *h, size_t k)
{
	static const uint8_t key[32];
	static struct masker *m;
	struct insp_plan plan = {.detectors = ALL, .found_how = MASK_REDACT};
	struct insp_value v = {.in = slice_of(p, n), .plan = &plan};
	size_t at = 0, out = 0;

	BUG_ON(!m && masker_new(key, &m));
	BUG_ON(masker_apply(m, NULL, &v, 1) != (k > 0));
	if (!k)
		return;
	for (size_t i = 0; i < k; i++) {
		BUG_ON(memcmp(v.out.p + out, p + at, h[i].off - at) != 0);
		out += h[i].off - at;
		BUG_ON(memcmp(v.out.p + out, "***", 3) != 0);
		out += 3;
		at = h[i].off + h[i].n;
	}
	BUG_ON(v.out.n - out != n - at || memcmp(v.out.p + out, p + at, n - at) != 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct detect_hit a[(MAX + LEAD) / 2 + 1], b[(MAX + LEAD) / 2 + 1];
	static uint8_t moved[MAX + LEAD];
	size_t lead, n, k, end = 0;
	uint32_t want;

	if (size < 2 || size > MAX)
		return 0;
	/* The first two bytes choose where the text stands and what is looked for. */
	lead = data[0];
	want = data[1] & 1 ? ALL : 1u << (data[1] / 2 % DETECTOR_COUNT);
	data += 2;
	n = size - 2;
	k = scan(data, n, want, false, a);
	BUG_ON(k > detect_max_hits(n));
	for (size_t i = 0; i < k; i++) {
		BUG_ON(a[i].n == 0 || a[i].off < end || a[i].off + (size_t)a[i].n > n);
		BUG_ON(!(want & 1u << a[i].bit) || memchr(data + a[i].off, 0, a[i].n));
		end = a[i].off + a[i].n;
	}
	memset(moved, ';', lead);
	memcpy(moved + lead, data, n);
	for (int portable = 0; portable < 2; portable++) {
		BUG_ON(scan(moved, lead + n, want, portable, b) != k);
		for (size_t i = 0; i < k; i++)
			BUG_ON(b[i].off != a[i].off + lead || b[i].n != a[i].n ||
			       b[i].bit != a[i].bit);
	}
	if (want == ALL)
		check_mask(data, n, a, k);
	return 0;
}
