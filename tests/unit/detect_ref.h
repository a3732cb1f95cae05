/* SPDX-License-Identifier: MIT */
/*
 * What the detectors are measured against: the usual regular expressions,
 * matched by PCRE2, with a check called from inside the match (a callout), so that
 * a match that does not verify makes PCRE2 try the next. Shares no code with
 * policy/detect*.c.
 */
#ifndef TIDEGATE_TESTS_DETECT_REF_H
#define TIDEGATE_TESTS_DETECT_REF_H

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "inspect/inspect.h"
#include "policy/detect.h"

static const struct {
	enum detector_bit bit;
	const char *regex;
} ref_patterns[] = {
	{DETECT_BIT_CARD, "\\b\\d(?:[ -]?\\d){12,18}\\b(?C1)"},
	{DETECT_BIT_EMAIL, "\\b[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(?:\\.[A-Za-z0-9-]+)*\\."
			   "[A-Za-z]{2,24}\\b"},
	{DETECT_BIT_IBAN, "\\b[A-Z]{2}\\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\\b(?C2)"},
	{DETECT_BIT_SSN, "\\b\\d{3}-\\d{2}-\\d{4}\\b"},
	{DETECT_BIT_PHONE, "\\+[1-9]\\d{6,14}\\b"},
	{DETECT_BIT_IPV4, "\\b(?:(?:25[0-5]|2[0-4]\\d|1?\\d?\\d)\\.){3}"
			  "(?:25[0-5]|2[0-4]\\d|1?\\d?\\d)\\b"},
	{DETECT_BIT_UUID, "\\b[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-"
			  "[0-9a-fA-F]{12}\\b"},
	{DETECT_BIT_DOB, "\\b(?:19|20)\\d\\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\\d|3[01])\\b"},
	{DETECT_BIT_AWS_KEY, "\\b(?:AKIA|ASIA)[A-Z0-9]{16}\\b"},
	{DETECT_BIT_GITHUB_TOKEN, "\\bgh[pousr]_[A-Za-z0-9]{36}\\b"},
	{DETECT_BIT_JWT, "\\beyJ[A-Za-z0-9_-]{8,}\\.eyJ[A-Za-z0-9_-]{8,}\\.[A-Za-z0-9_-]{8,}"},
	/* Only the head of a key: its hits begin where ours do and are shorter. */
	{DETECT_BIT_PRIVATE_KEY,
	 "-----BEGIN (?:RSA |EC |OPENSSH |DSA |ENCRYPTED )?PRIVATE KEY-----"},
};

struct ref {
	pcre2_code *code;
	pcre2_match_data *md;
	pcre2_match_context *ctx;
};

static int ref_luhn(const uint8_t *p, size_t n)
{
	int sum = 0, twice = 0;

	while (n-- > 0) {
		int d = p[n] - '0';

		if (d < 0 || d > 9)
			continue;
		d *= twice ? 2 : 1;
		sum += d / 10 + d % 10;
		twice = !twice;
	}
	return sum % 10 == 0;
}

/* By the book: the whole number as decimal digits, divided on paper. */
static int ref_mod97(const uint8_t *p, size_t n)
{
	char flat[64], digits[160] = "";
	size_t k = 0, used = 0;
	int rem = 0;

	for (size_t i = 0; i < n && k < sizeof(flat); i++)
		if (p[i] != ' ')
			flat[k++] = (char)p[i];
	for (size_t i = 0; i < k; i++) {
		char ch = flat[(i + 4) % k];

		used += (size_t)snprintf(digits + used, sizeof(digits) - used, "%d",
					 ch >= 'A' ? ch - 'A' + 10 : ch - '0');
	}
	for (const char *d = digits; *d; d++)
		rem = (rem * 10 + (*d - '0')) % 97;
	return rem == 1;
}

static int ref_check(pcre2_callout_block *cb, void *data)
{
	const uint8_t *p = cb->subject + cb->start_match;
	size_t n = cb->current_position - cb->start_match;

	/* 1: this way does not match, try another. */
	return !(cb->callout_number == 1 ? ref_luhn(p, n) : ref_mod97(p, n));
}

static inline void ref_open(struct ref *r, size_t index)
{
	int why;
	PCRE2_SIZE where;

	r->code = pcre2_compile((PCRE2_SPTR)ref_patterns[index].regex, PCRE2_ZERO_TERMINATED, 0,
				&why, &where, NULL);
	BUG_ON(!r->code);
	(void)pcre2_jit_compile(r->code, PCRE2_JIT_COMPLETE);
	r->md = pcre2_match_data_create_from_pattern(r->code, NULL);
	r->ctx = pcre2_match_context_create(NULL);
	pcre2_set_callout(r->ctx, ref_check, NULL);
	pcre2_set_match_limit(r->ctx, 100000000);
}

static inline void ref_close(struct ref *r)
{
	pcre2_match_data_free(r->md);
	pcre2_match_context_free(r->ctx);
	pcre2_code_free(r->code);
}

/* The next match from *@at on, which is moved behind it; false if there is none. */
static inline bool ref_next(struct ref *r, const uint8_t *p, size_t n, size_t *at, size_t *ret_off,
			    size_t *ret_n)
{
	PCRE2_SIZE *v;

	if (*at > n || pcre2_match(r->code, p, n, *at, 0, r->md, r->ctx) < 0)
		return false;
	v = pcre2_get_ovector_pointer(r->md);
	*ret_off = v[0];
	*ret_n = v[1] - v[0];
	*at = v[1];
	return true;
}

#endif
